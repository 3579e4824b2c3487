// Command sessionjs writes session.js and its types, session.d.ts, into a folder, for builds that
// need them on disk:
//
//	go run github.com/seed67bc9b7f/tokensession/sessionhttp/sessionjs -prefix /auth web/src
//
// In a bundle, the module cannot tell from its own address where the endpoints are. So the written
// one has the prefix in it, which is that of sessionhttp.Config, or all of their address if they
// are on another origin: https://api.shop.example/auth. Files of an older version are replaced. The
// folder must be there.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func main() {
	prefix := flag.String("prefix", "/auth", "the `path` below which the endpoints are, or the URL")
	flag.Usage = func() {
		fmt.Fprintln(flag.CommandLine.Output(), "usage: sessionjs [-prefix path] folder")
		flag.PrintDefaults()
	}
	flag.Parse()
	if flag.NArg() != 1 {
		flag.Usage()
		os.Exit(2)
	}
	if err := write(flag.Arg(0), *prefix); err != nil {
		fmt.Fprintln(os.Stderr, "sessionjs:", err)
		os.Exit(1)
	}
}

func write(folder, prefix string) error {
	if !isPlace(prefix) {
		return fmt.Errorf("the prefix %q is neither a path like /auth nor a URL like "+
			"https://api.shop.example/auth", prefix)
	}
	files := sessionhttp.ScriptFiles()
	for _, name := range []string{"session.js", "session.d.ts"} {
		content, err := fs.ReadFile(files, name)
		if err == nil {
			content = bytes.ReplaceAll(content, []byte("import.meta.url"), []byte(`"`+prefix+`/"`))
			err = os.WriteFile(filepath.Join(folder, name), content, 0o644)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// isPlace reports whether a prefix is the path of the endpoints, with or without an origin. In the
// module it is a part of a string.
func isPlace(prefix string) bool {
	u, err := url.Parse(prefix)
	if err != nil || strings.ContainsAny(prefix, "\"\\\n?#") || strings.HasSuffix(prefix, "/") ||
		!strings.HasPrefix(u.Path, "/") || strings.HasPrefix(u.Path, "//") || u.User != nil {
		return false
	}
	if u.Scheme == "" {
		return u.Host == ""
	}
	return (u.Scheme == "https" || u.Scheme == "http") && u.Host != ""
}

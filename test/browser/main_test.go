//go:build browser

package browser

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var (
	screenshots = flag.String("screenshots", "", "keep screenshots in this `folder`")

	scratch string  // a folder for the run
	shared  *chrome // one for all tests, each of which has its own cookies in it
)

// webapp builds the web application, and returns the path of the program.
var webapp = sync.OnceValues(func() (string, error) {
	path := filepath.Join(scratch, "webapp")
	build := exec.Command("go", "build", "-race", "-o", path, "./webapp")
	build.Dir = "../../sqlstore/examples"
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the web application: %w\n%s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "test/browser:", err)
		code = 1
	}
	os.Exit(code)
}

func run(m *testing.M) (code int, err error) {
	if scratch, err = os.MkdirTemp("", "tokensession-browser-"); err != nil {
		return 1, err
	}
	defer os.RemoveAll(scratch)
	if err := makeCertificate(scratch); err != nil {
		return 1, err
	}
	if shared, err = startChrome(filepath.Join(scratch, "profile")); err != nil {
		return 1, err
	}
	defer shared.stop()
	defer func() { stopFirefox() }()
	fmt.Println(shared.version)
	return m.Run(), nil
}

// find returns the path of a program, which the environment variable can name. The script installs
// it.
func find(script, env string, names ...string) (string, error) {
	if path := os.Getenv(env); path != "" {
		names = []string{path}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is not installed: run scripts/%s, or apt-get install %s, or set %s to "+
		"its path", strings.Join(names, ", "), script, names[0], env)
}

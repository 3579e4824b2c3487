//go:build unix

package servers

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
)

// An Nginx is an nginx that stands before servers of a test.
type Nginx struct {
	*Process
	URL string // http://host:port
}

// StartNginx starts an nginx before some servers, host:port each, which take turns. Everything
// about the proxy is nginx's default: it buffers answers, speaks HTTP/1.0 to the servers, and waits
// for them for 60 seconds.
func StartNginx(tb testing.TB, upstreams ...string) *Nginx {
	tb.Helper()
	path, err := Find(Binary{Name: "nginx", Package: "nginx"})
	if err != nil {
		tb.Fatalf("%v", err)
	}
	port := FreePort(tb)
	folder := NewFolder(tb, "nginx")
	var lines strings.Builder
	for _, each := range upstreams {
		fmt.Fprintf(&lines, "\t\tserver %s;\n", each)
	}
	var paths strings.Builder
	for _, name := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		fmt.Fprintf(&paths, "\t%s_temp_path %s;\n", name, folder.Join(name))
	}
	config := fmt.Sprintf(`daemon off;
worker_processes 1;
pid %s;
error_log stderr;
events { worker_connections 4096; }
http {
	access_log off;
%s	upstream issuers {
%s	}
	server {
		listen 127.0.0.1:%d;
		location / { proxy_pass http://issuers; }
	}
}
`, folder.Join("nginx.pid"), paths.String(), lines.String(), port)
	file := folder.Join("nginx.conf")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		tb.Fatalf("servers: %v", err)
	}
	n := &Nginx{URL: "http://" + localAddr(port)}
	n.Process = Start(tb, Spec{
		Name: "nginx", Path: path, Folder: folder,
		Args: []string{"-c", file, "-e", "stderr", "-p", folder.Join(".")},
		Ready: func(ctx context.Context) error {
			conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", localAddr(port))
			if err != nil {
				return err
			}
			return conn.Close()
		},
	})
	return n
}

//go:build browser

package browser

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A file of each user is at one address. Nginx keeps answers for ten minutes, and Chromium keeps
// what has a Last-Modified for as long as it likes. Neither may give one user's file to another, or
// to nobody. Alice's file is the newer one: asked whether it has changed since, bob's has not.
func TestCaches_giveNobodyAnothersFile(t *testing.T) {
	t.Parallel()
	h := newHost(t, sessionhttp.Config{}, tokensession.Config{})
	changed := map[string]time.Time{
		"alice": time.Date(2026, 1, 2, 0, 0, 0, 0, time.UTC), "bob": time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	h.mux.Handle("GET /file", h.handlers.Require()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access, _ := sessionhttp.FromContext(r.Context())
		http.ServeContent(w, r, "file.txt", changed[access.Subject], strings.NewReader("file of "+access.Subject))
	})))
	h.page("/{$}", "")
	for name, url := range map[string]string{"straight": h.url, "behind nginx": startNginx(t, h.url)} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t)
			page := b.open(url + "/")
			const read = `const r = await fetch("/file"); return r.ok ? await r.text() : r.status;`
			for _, user := range []string{"alice", "bob", "alice"} {
				page.eval(logInAs(user))
				for range 2 {
					if got := page.eval(read); got != "file of "+user {
						t.Errorf("%s gets %v", user, got)
					}
				}
			}
			if got := newBrowser(t).open(url + "/").eval(read); got != 401.0 {
				t.Errorf("another browser, where nobody is logged in, gets %v", got)
			}
			page.eval(`await session.logout()`)
			if got := page.eval(read); got != 401.0 {
				t.Errorf("after the logout the browser gets %v", got)
			}
		})
	}
}

// startNginx starts a proxy that keeps what it may, and returns its address.
func startNginx(t *testing.T, upstream string) string {
	t.Helper()
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			t.Fatal("nginx is not installed: run scripts/install-chromium.sh")
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	l.Close()
	dir := t.TempDir()
	conf := filepath.Join(dir, "nginx.conf")
	user := ""
	if os.Getuid() == 0 {
		user = "user root;"
	}
	text := fmt.Sprintf(`%s daemon off; worker_processes 1; pid %[2]s/pid; error_log %[2]s/error.log;
events {}
http {
	access_log off;
	client_body_temp_path %[2]s/body; proxy_temp_path %[2]s/proxy; fastcgi_temp_path %[2]s/f; uwsgi_temp_path %[2]s/u; scgi_temp_path %[2]s/s;
	proxy_cache_path %[2]s/cache keys_zone=all:1m;
	server {
		listen 127.0.0.1:%[3]s;
		location / {
			proxy_pass %[4]s;
			proxy_set_header Host $http_host;
			proxy_cache all;
			proxy_cache_valid 200 10m;
			add_header X-Cache $upstream_cache_status;
		}
	}
}`, user, dir, port, upstream)
	if err := os.WriteFile(conf, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-p", dir, "-c", conf)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = dieWithParent()
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Signal(os.Interrupt); _ = cmd.Wait() })
	url := "http://localhost:" + port
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		if answer, err := http.Get(url + "/auth/jwks.json"); err == nil {
			_, _ = io.Copy(io.Discard, answer.Body)
			answer.Body.Close()
			if answer.StatusCode == http.StatusOK {
				return url
			}
		}
		if time.Now().After(deadline) {
			t.Fatal("nginx does not start")
		}
	}
}

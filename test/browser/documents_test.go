//go:build browser

package browser

import (
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"testing"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// The documented piece of JavaScript, as the script of a page of a host like the documented one.
func TestDocuments_script(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/http.md")
	if err != nil {
		t.Fatal(err)
	}
	snippets := regexp.MustCompile("(?s)```js\n(.*?)```").FindAllSubmatch(page, -1)
	if len(snippets) != 1 {
		t.Fatalf("the page has %d pieces of JavaScript, want 1", len(snippets))
	}
	p := fmt.Sprintf(`<!doctype html><form><input name="password" value="right"></form><p></p>
<script type="module">
const form = document.querySelector("form");
%s
document.querySelector("p").append(me.status, " ", await me.text());
window.logOut = () => session.logout();
</script>`, snippets[0][1])

	b := newBrowser(t)
	tab := b.open(startHost(t, p))
	tab.sees("200 hello alice")
	if c := b.cookies(); len(c) != 2 {
		t.Errorf("the browser has %d cookies, want 2", len(c))
	}
	b.loseAccess()
	if _, err := tab.tryJS(`import("/auth/session.js").then(({session}) => session.fetch("/api/me")).then((r) => r.status)`); err != nil {
		t.Error(err)
	}
	if _, err := tab.tryJS(`logOut()`); err != nil {
		t.Error(err)
	}
	tab.until(`location.pathname === "/login"`)
}

// startHost starts a host whose home is a page, and returns its address.
func startHost(t *testing.T, page string) string {
	t.Helper()
	key, err := tokensession.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{Issuer: "https://auth.example", Audience: []string{"https://api.example"}})
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := sessionhttp.New(sessions, sessionhttp.Config{Cookies: true, InsecureCookies: true})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	h.Mount(mux)
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, page)
	})
	mux.HandleFunc("GET /login", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "Log in.") })
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("password") != "right" {
			http.Error(w, "wrong user or password", http.StatusForbidden)
			return
		}
		if _, err := h.Login(w, r, "alice"); err != nil {
			http.Error(w, "no login", sessionhttp.Status(err))
		}
	})
	mux.Handle("GET /api/me", h.Require()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access, _ := sessionhttp.FromContext(r.Context())
		fmt.Fprintln(w, "hello", access.Subject)
	})))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return "http://localhost:" + port
}

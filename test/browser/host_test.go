//go:build browser

package browser

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A host is a server with a few routes of its own beside the endpoints. Its passwords are the names.
type host struct {
	url      string
	mux      *http.ServeMux
	handlers *sessionhttp.Handlers
	sessions *tokensession.Manager
	signer   *tokensession.AccessSigner
	store    *outage

	mu       sync.Mutex
	requests []string // "GET /path"
}

func newHost(t *testing.T, cfg sessionhttp.Config, mcfg tokensession.Config) *host {
	t.Helper()
	key, err := tokensession.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := &host{mux: http.NewServeMux(), signer: signer}
	h.store = &outage{RefreshStore: tokensession.NewMemoryStore()}
	h.sessions, h.handlers = h.instance(t, cfg, mcfg)
	h.handlers.Mount(h.mux)
	h.mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if _, err := h.handlers.Login(w, r, r.FormValue("name")); err != nil {
			h.handlers.Refuse(w, r, err)
		}
	})
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h.mu.Lock()
		h.requests = append(h.requests, r.Method+" "+r.URL.Path)
		h.mu.Unlock()
		h.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	h.url = "http://localhost:" + port
	return h
}

// instance makes another process of the host's, with the same key and the same store.
func (h *host) instance(
	t *testing.T, cfg sessionhttp.Config, mcfg tokensession.Config,
) (*tokensession.Manager, *sessionhttp.Handlers) {
	t.Helper()
	sessions, err := tokensession.New(h.signer, h.store, mcfg)
	if err != nil {
		t.Fatal(err)
	}
	cfg.Cookies, cfg.InsecureCookies = true, true
	handlers, err := sessionhttp.New(sessions, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return sessions, handlers
}

// count returns how many requests have come of which this is the beginning.
func (h *host) count(prefix string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, r := range h.requests {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// page adds a page with a script that has session and UnavailableError. It is for everybody.
func (h *host) page(path, script string) {
	h.mux.HandleFunc("GET "+path, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte("<!doctype html><title>" + path + "</title><p></p><script type=\"module\">" +
			"import { session, UnavailableError } from \"/auth/session.js\";\n" + script + "</script>"))
	})
}

// logInAs logs in without the session's script, as a form does.
func logInAs(name string) string {
	return `await fetch("/login", {method: "POST", body: new URLSearchParams({name: "` + name + `"})});`
}

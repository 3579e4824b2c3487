//go:build browser

package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/storage"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A boundHost binds browsers to their devices.
type boundHost struct {
	*tlsSite
	handlers *sessionhttp.Handlers
	sessions *tokensession.Manager
	store    *testkit.HookedStore
	events   testkit.Events

	elapsed atomic.Int64          // how much later than now it is on the server
	fault   atomic.Pointer[fault] // of the browser's own refreshes
}

func newBoundHost(
	t *testing.T, policy sessionhttp.DeviceBoundPolicy, edit ...func(*tlsSite, *sessionhttp.Config),
) *boundHost {
	t.Helper()
	h := &boundHost{tlsSite: newTLSSite(t)}
	h.store = testkit.Hook(t, tokensession.NewMemoryStore())
	now := func() time.Time { return time.Now().Add(time.Duration(h.elapsed.Load())) }
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
	h.sessions, err = tokensession.New(signer, h.store.Store(),
		tokensession.Config{Now: now, OnEvent: h.events.Add})
	if err != nil {
		t.Fatal(err)
	}
	cfg := sessionhttp.Config{
		Cookies: true, DeviceBound: policy,
		ProofKeys: [][]byte{[]byte("a secret for proofs, of 32 bytes or more")},
	}
	for _, e := range edit {
		e(h.tlsSite, &cfg)
	}
	h.handlers, err = sessionhttp.New(h.sessions, cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.mux.Handle("/auth/", h.handlers)
	h.mux.HandleFunc("POST /auth/token", h.token)
	h.mux.Handle("/login", h.handlers.CORS(http.HandlerFunc(h.logIn)))
	who := func(w http.ResponseWriter, r *http.Request) {
		access, ok := sessionhttp.FromContext(r.Context())
		if !ok {
			access.Subject = "nobody"
		}
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><p>%s %s</p>
			<form method="post"><button>send</button></form>`, r.Method, access.Subject)
	}
	h.mux.Handle("/api", h.handlers.Require()(http.HandlerFunc(who)))
	h.mux.Handle("/report", h.handlers.Require(sessionhttp.Resume(), sessionhttp.Optional())(
		http.HandlerFunc(who)))
	h.mux.HandleFunc("GET /page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><p>a page</p><script type="module">
			import { session } from "/auth/session.js";
			globalThis.ends = [];
			session.addEventListener("end", (e) => ends.push(e.detail.reason));
			globalThis.session = session;</script>`)
	})
	return h
}

func (h *boundHost) logIn(w http.ResponseWriter, r *http.Request) {
	if _, err := h.handlers.Login(w, r, r.FormValue("name")); err != nil {
		h.handlers.Refuse(w, r, err)
		return
	}
	if to := r.FormValue("to"); to != "" {
		http.Redirect(w, r, to, http.StatusSeeOther)
	}
}

// token lets a fault answer a browser's own refresh.
func (h *boundHost) token(w http.ResponseWriter, r *http.Request) {
	fault := h.fault.Load()
	if fault == nil || r.Header.Get("Sec-Secure-Session-Id") == "" {
		h.handlers.ServeHTTP(w, r)
		return
	}
	(*fault)(w, r, func() *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		h.handlers.ServeHTTP(rec, r)
		return rec
	})
}

// fail has a fault take the browser's refreshes from now on; nil ends that.
func (h *boundHost) fail(f fault) {
	if f == nil {
		h.fault.Store(nil)
		return
	}
	h.fault.Store(&f)
}

// later lets time pass on the server.
func (h *boundHost) later(d time.Duration) { h.elapsed.Add(int64(d)) }

// thumbprint returns that of the key which alice's one session is bound to; "" if to none.
func (h *boundHost) thumbprint() string {
	h.t.Helper()
	sessions, err := h.sessions.Sessions(h.t.Context(), "alice")
	if err != nil || len(sessions) != 1 {
		h.t.Fatalf("alice has %d sessions (%v)", len(sessions), err)
	}
	return sessions[0].KeyThumbprint
}

// untilBound waits until alice's session is bound.
func (h *boundHost) untilBound() {
	h.t.Helper()
	waitUntil(h.t, "the session to be bound", func() bool { return h.thumbprint() != "" })
}

// refreshes returns the statuses of the browser's own refreshes, or of those of scripts.
func (h *boundHost) refreshes(own bool) []int {
	var statuses []int
	for _, r := range h.requests("/auth/token") {
		if (r.header.Get("Sec-Secure-Session-Id") != "") == own {
			statuses = append(statuses, r.status)
		}
	}
	return statuses
}

// granted counts the refreshes that were granted.
func (h *boundHost) granted(own bool) int {
	n := 0
	for _, status := range h.refreshes(own) {
		if status == http.StatusOK {
			n++
		}
	}
	return n
}

// noReuse requires that nobody was taken for a thief, and logged out.
func (h *boundHost) noReuse() {
	h.t.Helper()
	kinds := []tokensession.EventKind{tokensession.EventReused, tokensession.EventRevoked}
	for _, kind := range kinds {
		if n := h.events.Count(kind); n != 0 {
			h.t.Errorf("there were %d events %s", n, kind)
		}
	}
}

// open opens a page where alice has logged in, in a browser of its own.
func (h *boundHost) open(b *browser) *device {
	h.t.Helper()
	d := b.openDevice(h.url + "/page")
	d.untilReady()
	d.logInHere("alice")
	return d
}

// openBound does that, and waits until the session is bound.
func (h *boundHost) openBound(b *browser) *device {
	h.t.Helper()
	d := h.open(b)
	d.waitFor("creation Success", 1)
	d.fetch("GET", "/api")
	h.untilBound()
	d.waitFor("refresh Refreshed", 1)
	return d
}

func (d *device) untilReady() { d.t.Helper(); d.until(`globalThis.session !== undefined`) }

// logInHere logs in with the script.
func (d *device) logInHere(name string) {
	d.t.Helper()
	got := d.eval(`return (await session.login(() => fetch("/login",
		{method: "POST", body: new URLSearchParams({name: "` + name + `"})}))).status`)
	if got != 200.0 {
		d.t.Fatalf("the login: %v", got)
	}
}

// call sends a request to the API with the script.
func (d *device) call() string {
	d.t.Helper()
	return fmt.Sprint(d.eval(`return session.fetch("/api")
		.then((r) => String(r.status), (err) => err.name)`))
}

// idle does what a quarter of an hour without requests does: the access token has run out, and the
// trigger is gone.
func (h *boundHost) idle(b *browser) {
	h.t.Helper()
	h.later(16 * time.Minute)
	b.expireAt(h.url, labCredential)
}

// copyTo copies all cookies to another browser.
func (b *browser) copyTo(other *browser) {
	b.t.Helper()
	list, err := storage.GetCookies().WithBrowserContextID(b.id).Do(b.executor())
	if err != nil {
		b.t.Fatal(err)
	}
	var params []*network.CookieParam
	for _, c := range list {
		expires := cdp.TimeSinceEpoch(time.Unix(int64(c.Expires), 0))
		params = append(params, &network.CookieParam{
			Name: c.Name, Value: c.Value, URL: "https://" + c.Domain + c.Path, Path: c.Path,
			Secure: c.Secure, HTTPOnly: c.HTTPOnly, SameSite: c.SameSite, Expires: &expires,
		})
	}
	err = storage.SetCookies(params).WithBrowserContextID(other.id).Do(other.executor())
	if err != nil {
		b.t.Fatal(err)
	}
}

// all returns the cookies of the browser for a site.
func (b *browser) all() string {
	b.t.Helper()
	list, err := storage.GetCookies().WithBrowserContextID(b.id).Do(b.executor())
	if err != nil {
		b.t.Fatal(err)
	}
	var names []string
	for _, c := range list {
		names = append(names, c.Name)
	}
	return strings.Join(names, " ")
}

//go:build browser

package browser

import (
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A shop is a single-page application on https://app.shop.example, with its API on
// https://api.shop.example. There are pages of other hosts, too. All names are this machine.
type shop struct {
	t        *testing.T
	port     string
	handlers *sessionhttp.Handlers
	sessions *tokensession.Manager

	elapsed atomic.Int64 // how much later than now it is on the server
	block   atomic.Bool  // the browser sends no cookies any more
	refused atomic.Int64 // requests that were cross-origin
	changes atomic.Int64 // what the API has changed
}

const (
	shopApp = "app.shop.example"
	shopAPI = "api.shop.example"
	blog    = "blog.shop.example" // of the same site, but somebody else's
	partner = "app.partner.example"
)

func newShop(t *testing.T) *shop {
	t.Helper()
	s := &shop{t: t}
	server := httptest.NewUnstartedServer(nil)
	_, s.port, _ = net.SplitHostPort(server.Listener.Addr().String())
	key, err := tokensession.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Now().Add(time.Duration(s.elapsed.Load())) }
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"}, Now: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	s.sessions, err = tokensession.New(signer, tokensession.NewMemoryStore(),
		tokensession.Config{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	s.handlers, err = sessionhttp.New(s.sessions, sessionhttp.Config{
		Cookies: true, Devices: true, Origins: []string{s.at(shopApp), s.at(partner)},
		OnError: func(_ *http.Request, err error) {
			if sessionhttp.Status(err) == http.StatusForbidden {
				s.refused.Add(1)
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	api := s.handlers.CORS(s.api())
	server.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, _ := net.SplitHostPort(r.Host)
		switch {
		case host != shopAPI:
			s.page(w, r)
		case s.block.Load():
			r.Header.Del("Cookie")
			rec := httptest.NewRecorder()
			api.ServeHTTP(rec, r)
			rec.Header().Del("Set-Cookie")
			reply(w, rec)
		default:
			api.ServeHTTP(w, r)
		}
	})
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate.Certificate}}
	server.StartTLS()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	return s
}

func (s *shop) at(host string) string { return "https://" + host + ":" + s.port }

// api is the server of the API.
func (s *shop) api() http.Handler {
	mux := http.NewServeMux()
	s.handlers.Mount(mux)
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		var login struct{ Name string }
		if err := json.NewDecoder(r.Body).Decode(&login); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		if _, err := s.handlers.Login(w, r, login.Name); err != nil {
			s.handlers.Refuse(w, r, err)
		}
	})
	mux.HandleFunc("POST /auth/step-up", func(w http.ResponseWriter, r *http.Request) {
		proved := tokensession.WithAuthTime(s.sessions.Now())
		if err := s.handlers.Reauthenticated(w, r, proved); err != nil {
			s.handlers.Refuse(w, r, err)
		}
	})
	change := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.changes.Add(1)
		access, _ := sessionhttp.FromContext(r.Context())
		text, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s", access.Subject, text)
	})
	mux.Handle("PUT /note", s.handlers.Require()(change))
	mux.Handle("POST /note", s.handlers.Require()(change))
	mux.Handle("GET /note", s.handlers.Require()(change))
	mux.Handle("DELETE /account", s.handlers.Require(sessionhttp.MaxAuthAge(10*time.Minute))(change))
	return mux
}

// page is what the other hosts have. The paths are /app with the module, /frame with that page in a
// frame, and /.
func (s *shop) page(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html")
	if r.URL.Path == "/frame" {
		fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,">
			<script>addEventListener("message", (e) => globalThis.heard = e.data);</script>
			<iframe src="%s/app"></iframe>`, s.at(shopApp))
		return
	}
	api := s.at(shopAPI)
	w.Header().Set("Content-Security-Policy",
		"default-src 'none'; img-src data:; script-src 'unsafe-inline' "+api+"; connect-src "+api)
	if r.URL.Path != "/app" {
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,">`)
		return
	}
	fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><p></p><script type="module">
		import { session, CookiesError } from "%[1]s/auth/session.js";
		Object.assign(globalThis, { session, api: "%[1]s", ends: [], proofs: 0 });
		session.addEventListener("end", (e) => ends.push(e.detail.reason));
		session.addEventListener("stepup", (e) => e.detail.waitUntil(
			session.stepUp(api + "/auth/step-up", { method: "POST" }).then(() => proofs++)));
		globalThis.who = () => session.info()
			.then((info) => info?.subject ?? "nobody", (err) => err.name);
		globalThis.login = (name) => session.login(() => fetch(api + "/login", {
			method: "POST", credentials: "include", body: JSON.stringify({ name }),
			headers: { "Content-Type": "application/json" },
		})).then((r) => r.status, (err) => err.name);
		globalThis.call = (method, path, init) => session.fetch(api + path, { method, ...init })
			.then(async (r) => r.status + " " + await r.text(), (err) => err.name);
		const subject = await who();
		document.querySelector("p").textContent = "ready: " + subject;
		parent.postMessage({ who: subject, login: parent !== self && await login("alice"), ends }, "*");
	</script>`, api)
}

// is requires what an expression says on a page.
func is(t *testing.T, w window, expression string, want any) {
	t.Helper()
	if got, err := w.tryJS(expression); err != nil || got != want {
		t.Errorf("%s: %v (%v), want %v", expression, got, err, want)
	}
}

const saves = `call("PUT", "/note", { body: "milk", headers: { "X-Draft": "1" } })`

// The whole story of a page on a sibling origin.
func TestOrigins_aSiblingsPageHasTheSession(t *testing.T) {
	t.Parallel()
	inBothBrowsers(t, func(t *testing.T, open func(string) window) {
		s := newShop(t)
		page := open(s.at(shopApp) + "/app")
		page.sees("ready: nobody")
		is(t, page, saves, `401 {"error":"invalid_token"}`+"\n")
		is(t, page, `login("alice")`, 200.0)
		is(t, page, `who()`, "alice")
		is(t, page, saves, "200 alice milk")
		is(t, page, `document.cookie`, "")

		// It refreshes, before a request and after a 401.
		s.elapsed.Add(int64(20 * time.Minute))
		is(t, page, saves, "200 alice milk")
		second := open(s.at(shopApp) + "/app")
		second.sees("ready: alice")
		s.elapsed.Add(int64(20 * time.Minute))
		is(t, second, `Promise.all([1, 2, 3].map(() => call("GET", "/note"))).then(String)`,
			"200 alice ,200 alice ,200 alice ")

		// What the module has to read of an answer, it can.
		is(t, page, `call("DELETE", "/account")`, "200 alice ")
		is(t, page, `proofs`, 1.0)
		is(t, page, `session.devices().then((list) => list.length)`, 1.0)

		// Both tabs hear of the end, and it is real.
		is(t, second, `session.logout().then(() => "done")`, "done")
		page.until(`ends.join() === "logout"`)
		second.until(`ends.join() === "logout"`)
		if left, err := s.sessions.Sessions(t.Context(), "alice"); err != nil || len(left) != 0 {
			t.Errorf("alice has %d sessions (%v)", len(left), err)
		}
		is(t, page, `who()`, "nobody")

		// So is one of which nothing but the server knows: cookies come, and the session is over.
		is(t, page, `login("alice")`, 200.0)
		if _, err := s.sessions.RevokeSubject(t.Context(), "alice"); err != nil {
			t.Fatal(err)
		}
		is(t, page, saves, `401 {"error":"invalid_token"}`+"\n")
		is(t, page, `ends.join()`, "logout,ended")
	})
}

// Somebody else's page on a host of the same site has the cookies go along, and gets nothing by it.
func TestOrigins_othersGetNothing(t *testing.T) {
	t.Parallel()
	inBothBrowsers(t, func(t *testing.T, open func(string) window) {
		s := newShop(t)
		mine := open(s.at(shopApp) + "/app")
		mine.sees("ready: nobody")
		is(t, mine, `login("alice")`, 200.0)
		changes := s.changes.Load()
		page := open(s.at(blog) + "/")
		api := s.at(shopAPI)
		is(t, page, fmt.Sprintf(`import("%s/auth/session.js")
			.then(() => "works", (err) => err.name)`, api), "TypeError")
		for method, path := range map[string]string{
			"GET": "/auth/session", "PUT": "/note", "POST": "/auth/token",
		} {
			is(t, page, fmt.Sprintf(`fetch("%s%s", { method: "%s", credentials: "include" })
				.then((r) => r.text(), (err) => err.name)`, api, path, method), "TypeError")
		}
		is(t, page, fmt.Sprintf(`fetch("%s/note", {
			method: "POST", mode: "no-cors", credentials: "include",
		}).then((r) => r.type)`, api), "opaque")
		if n := s.refused.Load(); n != 2 {
			t.Errorf("%d requests were refused as cross-origin, want that of the token and of the note", n)
		}
		if s.changes.Load() != changes {
			t.Error("a page of another host has changed something")
		}
		is(t, mine, saves, "200 alice milk")
		is(t, mine, `ends.length`, 0.0)
	})
}

// A page of another site never has the cookies, whatever Config.Origins says. It is told so, and
// nothing looks like a logout.
func TestOrigins_anotherSiteHearsWhatIsWrong(t *testing.T) {
	t.Parallel()
	inBothBrowsers(t, func(t *testing.T, open func(string) window) {
		s := newShop(t)
		page := open(s.at(partner) + "/app")
		page.sees("ready: CookiesError")
		is(t, page, `login("alice")`, "CookiesError")
		is(t, page, saves, "CookiesError")
		is(t, page, `session.refresh().catch((err) => err.message)`,
			"this browser sends no cookies to "+s.at(shopAPI)+" from here: it blocks them, or this "+
				"page is of another site or in a frame of one")
		is(t, page, `session.logout().catch((err) => err.name)`, "CookiesError")
		is(t, page, `ends.length`, 0.0)
	})
}

// In a frame on another site, the browser keeps the cookies to itself, although the page and the
// API are one site.
func TestOrigins_aFrameHearsWhatIsWrong(t *testing.T) {
	t.Parallel()
	inBothBrowsers(t, func(t *testing.T, open func(string) window) {
		s := newShop(t)
		top := open(s.at(shopApp) + "/app")
		top.sees("ready: nobody")
		is(t, top, `login("alice")`, 200.0)
		page := open(s.at(partner) + "/frame")
		page.until(`globalThis.heard !== undefined`)
		is(t, page, `JSON.stringify(heard)`, `{"who":"nobody","login":"CookiesError","ends":[]}`)
		is(t, top, saves, "200 alice milk")
	})
}

// A browser that sends no cookies any more, as after its user has blocked them, ends nothing.
func TestOrigins_blockedCookiesAreNoEnd(t *testing.T) {
	t.Parallel()
	inBothBrowsers(t, func(t *testing.T, open func(string) window) {
		s := newShop(t)
		page := open(s.at(shopApp) + "/app")
		page.sees("ready: nobody")
		is(t, page, `login("alice")`, 200.0)
		s.block.Store(true)
		is(t, page, saves, "CookiesError")
		is(t, page, `who()`, "CookiesError")
		is(t, page, `session.logout().catch((err) => err.name)`, "CookiesError")
		s.block.Store(false)
		is(t, page, saves, "200 alice milk")
		is(t, page, `who()`, "alice")
		is(t, page, `ends.length`, 0.0)
	})
}

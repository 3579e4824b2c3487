//go:build browser

package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func withSameSite(mode http.SameSite) func(*tlsSite, *sessionhttp.Config) {
	return func(_ *tlsSite, c *sessionhttp.Config) { c.SameSite = mode }
}

// A link in a mail that is read in the browser. Another site's page has begun that navigation, so
// the browser does not refresh for it, and keeps Strict cookies to itself.
func TestBound_aLinkOnAnotherSitesPage(t *testing.T) {
	t.Parallel()
	for name, mode := range map[string]http.SameSite{
		"Strict": http.SameSiteStrictMode, "Lax": http.SameSiteLaxMode,
	} {
		for _, bound := range []bool{true, false} {
			t.Run(fmt.Sprint(name, bound), func(t *testing.T) {
				t.Parallel()
				policy := sessionhttp.DeviceBoundOff
				if bound {
					policy = enforced
				}
				h, mail := newBoundHost(t, policy, withSameSite(mode)), newTLSSite(t)
				mail.mux.HandleFunc("/mail", func(w http.ResponseWriter, _ *http.Request) {
					w.Header().Set("Content-Type", "text/html")
					fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><a href="%s">read</a>`,
						h.url+"/report?a=1&b=2")
				})
				b := newBrowser(t)
				var d *device
				if bound {
					d = h.openBound(b)
				} else {
					d = h.open(b)
				}
				h.idle(b)
				for range 2 { // the second time, nothing has run out
					d.run(chromedp.Navigate(mail.url+"/mail"), chromedp.Click("a", chromedp.ByQuery))
					d.sees("GET alice")
					d.until(`location.pathname + location.search === "/report?a=1&b=2"`)
				}
				h.noReuse()
			})
		}
	}
}

// The access token is no good any more, and the browser sees no reason to refresh: the trigger is
// there.
func TestBound_whereTheTriggerOutlivesTheToken(t *testing.T) {
	t.Parallel()
	h := newBoundHost(t, enforced)
	d := h.openBound(newBrowser(t))
	outdated := func() {
		h.later(16 * time.Minute)
		d.b.expireAt(h.url, "__Host-resumed") // it is there for a minute, and the server's clock leaps
	}
	outdated()
	d.run(chromedp.Navigate(h.url + "/report"))
	d.sees("GET alice")
	outdated()
	d.run(chromedp.Submit("form", chromedp.ByQuery))
	d.sees("POST alice")
	outdated()
	if v, err := d.tryJS(`fetch("/report").then((r) => r.text())`); err != nil ||
		!containsText(v, "GET alice") {
		t.Errorf("a download: %v %v", v, err)
	}
	h.noReuse()
}

// A navigation while the browser cannot refresh. It gets 503, and not the page for nobody. To load
// it again is to try again.
func TestBound_aPageInAnOutage(t *testing.T) {
	t.Parallel()
	h := newBoundHost(t, enforced)
	d := h.openBound(newBrowser(t))
	h.fail(func(w http.ResponseWriter, _ *http.Request, _ func() *httptest.ResponseRecorder) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	h.idle(d.b)
	d.run(chromedp.Navigate(h.url + "/report"))
	d.sees("temporarily_unavailable")
	if got := h.last("/auth/resume").status; got != http.StatusServiceUnavailable {
		t.Errorf("the page is answered %d", got)
	}
	h.fail(nil)
	waitUntil(t, "the page", func() bool {
		d.run(chromedp.Reload())
		v, err := d.tryJS(`document.body.innerText`)
		return err == nil && containsText(v, "GET alice")
	})
	h.noReuse()
}

// A browser that has lost its key is nobody on a page, and is not sent around.
func TestBound_aPageWithoutTheKey(t *testing.T) {
	t.Parallel()
	h := newBoundHost(t, enforced)
	d := h.openBound(newBrowser(t))
	d.loseKey(h.url, d.sessionName())
	h.idle(d.b)
	for range 2 {
		d.run(chromedp.Navigate(h.url + "/report"))
		d.sees("GET nobody")
	}
	if n := len(h.requests("/auth/resume")); n > 2 {
		t.Errorf("the session was resumed %d times", n)
	}
}

// containsText reports whether what a script returned is text with this in it.
func containsText(v any, text string) bool {
	s, _ := v.(string)
	return strings.Contains(s, text)
}

// However a user logs in, the session is bound.
func TestBound_afterAnyLogin(t *testing.T) {
	t.Parallel()
	for name, posts := range map[string]bool{"a redirect": false, "a form of another site": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			idp := newTLSSite(t)
			h := newBoundHost(t, enforced, func(_ *tlsSite, c *sessionhttp.Config) {
				c.LoginOrigins = []string{idp.url}
			})
			to := h.url + "/login?name=alice&to=/report"
			idp.mux.HandleFunc("/idp", func(w http.ResponseWriter, r *http.Request) {
				if !posts {
					http.Redirect(w, r, to, http.StatusFound)
					return
				}
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,">
					<form method="post" action="%s"><button>go</button></form>`, to)
			})
			d := newBrowser(t).openDevice(idp.url + "/idp")
			if posts {
				d.run(chromedp.Click("button", chromedp.ByQuery))
			}
			// Strict cookies do not come along on the way back. A page that leads on brings them.
			d.sees("GET alice")
			waitUntil(t, "the session to be bound", func() bool {
				d.fetch("GET", "/api")
				return h.thumbprint() != ""
			})
			h.noReuse()
		})
	}
}

// Two applications are on one host, and each one excludes the other's paths. Then a request has the
// browser refresh the session of its own application only.
func TestBound_besideAnotherApplication(t *testing.T) {
	t.Parallel()
	h := newBoundHost(t, enforced, func(_ *tlsSite, c *sessionhttp.Config) {
		c.DeviceExclude = []string{"/b/"}
	})
	other, err := sessionhttp.New(h.sessions, sessionhttp.Config{
		Prefix: "/b/auth", CookieSuffix: "b", Cookies: true, DeviceBound: enforced,
		DeviceExclude: []string{"/auth/", "/api", "/login", "/page"},
		ProofKeys:     [][]byte{[]byte("a secret of the other one, of 32 bytes or more")},
	})
	if err != nil {
		t.Fatal(err)
	}
	h.mux.Handle("/b/auth/", other)
	h.mux.HandleFunc("POST /b/login", func(w http.ResponseWriter, r *http.Request) {
		if _, err := other.Login(w, r, "bob"); err != nil {
			t.Error(err)
		}
	})
	h.mux.Handle("/b/api", other.Require()(http.HandlerFunc(
		func(http.ResponseWriter, *http.Request) {})))

	d := h.openBound(newBrowser(t))
	d.fetch("POST", "/b/login")
	d.waitFor("creation Success", 2)
	d.fetch("GET", "/b/api")
	d.waitFor("refresh Refreshed", 2)
	h.idle(d.b)
	d.b.expireAt(h.url, labCredential+"-b")
	count := func() [2]int {
		return [2]int{len(h.requests("/auth/token")), len(h.requests("/b/auth/token"))}
	}
	before := count()
	for i, path := range []string{"/api", "/b/api"} {
		if got := d.fetch("GET", path); got != "200" {
			t.Errorf("%s: %s", path, got)
		}
		after := count()
		if after[i] == before[i] || after[1-i] != before[1-i] {
			t.Errorf("%s has the refreshes of the two go from %v to %v", path, before, after)
		}
		before = after
	}
	for _, subject := range []string{"alice", "bob"} {
		sessions, err := h.sessions.Sessions(t.Context(), subject)
		if err != nil || len(sessions) != 1 || sessions[0].KeyThumbprint == "" {
			t.Errorf("%s has the sessions %v (%v)", subject, sessions, err)
		}
	}
	h.noReuse()
}

// A page of another origin has its API here. The browser refreshes for its requests, too.
func TestBound_fromAPageOfASiblingOrigin(t *testing.T) {
	t.Parallel()
	h := newBoundHost(t, enforced, func(s *tlsSite, c *sessionhttp.Config) {
		c.Origins = []string{s.sub("app")}
	})
	h.mux.HandleFunc("GET /app", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><p>an app</p><script type="module">
			import { session } from "%s/auth/session.js";
			globalThis.ends = [];
			session.addEventListener("end", (e) => ends.push(e.detail.reason));
			globalThis.session = session;</script>`, h.url)
	})
	d := newBrowser(t).openDevice(h.sub("app") + "/app")
	d.untilReady()
	js := func(expression string) any {
		t.Helper()
		v, err := d.tryJS(expression)
		if err != nil {
			t.Fatalf("%s: %v", expression, err)
		}
		return v
	}
	logIn := fmt.Sprintf(`session.login(() => fetch("%s/login", {
		method: "POST", credentials: "include",
		body: new URLSearchParams({name: "alice"})})).then((r) => r.status)`, h.url)
	if v := js(logIn); v != 200.0 {
		t.Fatalf("the login: %v", v)
	}
	d.waitFor("creation Success", 1)
	call := fmt.Sprintf(`session.fetch("%s/api").then((r) => r.status, (err) => err.name)`, h.url)
	js(call)
	h.untilBound()
	for range 2 {
		h.idle(d.b)
		if v := js(call); v != 200.0 {
			t.Errorf("a call: %v", v)
		}
	}
	if v := js(`ends.join()`); v != "" || h.granted(false) != 0 {
		t.Errorf("it has ended %v; scripts have refreshed %v", v, h.refreshes(false))
	}
	h.noReuse()
}

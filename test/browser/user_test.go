//go:build browser

package browser

import (
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// Alice's page saves a draft in the background. Meanwhile bob logs in in another tab: with the
// script, so that the page hears of it, or by a form, so that it does not; and before the access
// token has run out, or after.
func TestDraft_isNeverStoredAsAnothers(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	stored := map[string][]string{}
	h := newHost(t, sessionhttp.Config{}, tokensession.Config{})
	h.mux.Handle("POST /draft", h.handlers.Require()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		access, _ := sessionhttp.FromContext(r.Context())
		text, _ := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		stored[access.Subject] = append(stored[access.Subject], string(text))
	})))
	h.page("/{$}", "")
	for name, c := range map[string]struct {
		asks   bool // the page calls info at its beginning, or it has only saved before
		script bool
		old    bool
	}{
		"form":                     {true, false, false},
		"form, never asked":        {false, false, false},
		"form, token has run out":  {true, false, true},
		"script":                   {true, true, false},
		"script, token is run out": {true, true, true},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t)
			page, other := b.open(h.url+"/"), b.open(h.url+"/")
			page.eval(logInAs("alice"))
			if c.asks {
				page.eval(`await session.info()`)
			}
			const save = `return session.fetch("/draft", {method: "POST", body: "alice's"}).then((r) => r.status, (err) => err.name);`
			if got := page.eval(save); got != 200.0 {
				t.Fatalf("the first save: %v", got)
			}
			if c.old {
				b.loseAccess()
			}
			// It is made here, and sent when bob has logged in.
			page.eval(`globalThis.send = fetch; globalThis.goOn = new Promise((resolve) => globalThis.release = resolve);
				globalThis.fetch = async (...args) => { await goOn; return send(...args); };
				globalThis.saved = session.fetch("/draft", {method: "POST", body: "alice's"}).then((r) => r.status, (err) => err.name);`)
			if c.script {
				other.eval(`await session.login(() => fetch("/login", {method: "POST", body: new URLSearchParams({name: "bob"})}))`)
			} else {
				other.eval(logInAs("bob"))
			}
			if got := page.eval(`release(); return await saved;`); got != 401.0 && got != "SessionChangedError" {
				t.Errorf("the save comes to %v", got)
			}
			page.eval(`globalThis.fetch = send`)
			mu.Lock()
			defer mu.Unlock()
			if got := stored["bob"]; len(got) > 0 {
				t.Errorf("stored as bob's: %q", got)
			}
		})
	}
}

// A login page asks whether somebody is logged in, and has the README's listener. It must not load
// itself again and again.
func TestLoginPage_thatOnlyAsksStays(t *testing.T) {
	t.Parallel()
	h := newHost(t, sessionhttp.Config{}, tokensession.Config{})
	h.page("/login", `session.addEventListener("end", () => location.assign("/login"));
		document.querySelector("p").append(String(await session.info()));
		globalThis.asked = true;`)
	b := newBrowser(t)
	page := b.open(h.url + "/login")
	page.until(`globalThis.asked`)
	for range 3 {
		page.eval(`await session.info()`)
	}
	page.eval(`await session.login(() => fetch("/auth/session"))`) // the first step of two
	if n := h.count("GET /login"); n != 1 {
		t.Errorf("the page was loaded %d times", n)
	}
	if n := h.count("POST /auth/token"); n != 0 {
		t.Errorf("there were %d refreshes where there is no cookie", n)
	}
}

func TestUncurableRoute_costsOneRefresh(t *testing.T) {
	t.Parallel()
	h := newHost(t, sessionhttp.Config{}, tokensession.Config{})
	h.mux.HandleFunc("GET /never", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	h.page("/{$}", "")
	b := newBrowser(t)
	page, other := b.open(h.url+"/"), b.open(h.url+"/")
	page.eval(logInAs("alice"))
	for _, tab := range []*tab{page, other} {
		if got := tab.eval(`await session.info();
			for (let i = 0; i < 20; i++) if ((await session.fetch("/never")).status !== 401) return "let in";
			return (await session.info()).subject;`); got != "alice" {
			t.Errorf("it comes to %v", got)
		}
	}
	if n := h.count("POST /auth/token"); n != 1 {
		t.Errorf("there were %d refreshes", n)
	}
}

// A page that was made for alice has never asked who is logged in. She logs out on another page, and
// somebody presses Back.
func TestBack_afterTheLogoutShowsNobodysPage(t *testing.T) {
	t.Parallel()
	h := newHost(t, sessionhttp.Config{}, tokensession.Config{})
	h.mux.Handle("GET /private", h.handlers.Require()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = w.Write([]byte(`<!doctype html><title>private</title><p>secret</p><script type="module">
			import { session } from "/auth/session.js";
			session.addEventListener("end", (e) => { document.querySelector("p").textContent = "gone: " + e.detail.reason; });
			addEventListener("pageshow", (e) => globalThis.persisted = e.persisted);
		</script>`))
	})))
	h.page("/{$}", `globalThis.session = session; globalThis.loaded = true;`)
	// Chromium loads the page anew if its channel has a message for it, as a logout by the script does.
	for name, logout := range map[string]string{
		"by the script":         `await session.logout()`,
		"out of the page cache": `await fetch("/auth/logout", {method: "POST"})`,
	} {
		t.Run(name, func(t *testing.T) {
			b := newBrowser(t)
			page := b.open(h.url + "/")
			page.eval(logInAs("alice"))
			page.run(chromedp.Navigate(h.url + "/private"))
			page.sees("secret")
			page.run(chromedp.Navigate(h.url + "/"))
			page.until(`globalThis.loaded`)
			page.eval(logout)
			if _, err := page.tryJS(`setTimeout(() => history.back(), 0)`); err != nil {
				t.Fatal(err)
			}
			page.until(`location.pathname === "/private" && !document.body.innerText.includes("secret")`)
			persisted, err := page.tryJS(`globalThis.persisted === true`)
			if want := name == "out of the page cache"; err != nil || persisted != want {
				t.Errorf("the page has come out of the cache: %v, want %t (%v)", persisted, want, err)
			}
		})
	}
}

//go:build browser

package browser

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A rendered is a host whose pages have no script of ours.
type rendered struct {
	*host
	elapsed atomic.Int64 // how much later than now it is on the server
	ahead   atomic.Int64 // and how much later still on the instance that has the pages
}

func newRendered(t *testing.T, cfg sessionhttp.Config) *rendered {
	t.Helper()
	r := &rendered{}
	now := func() time.Time { return time.Now().Add(time.Duration(r.elapsed.Load())) }
	r.host = newHost(t, cfg, tokensession.Config{Now: now})
	aheadNow := func() time.Time { return now().Add(time.Duration(r.ahead.Load())) }
	_, pages := r.host.instance(t, cfg, tokensession.Config{Now: aheadNow})
	require := pages.Require(sessionhttp.Resume(), sessionhttp.Optional())
	page := func(kind string, serve func(w http.ResponseWriter, r *http.Request, who string)) http.Handler {
		return require(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			who := "nobody"
			if access, ok := sessionhttp.FromContext(r.Context()); ok {
				who = access.Subject
			}
			w.Header().Set("Content-Type", kind)
			serve(w, r, who)
		}))
	}
	r.mux.Handle("/page", page("text/html", func(w http.ResponseWriter, r *http.Request, who string) {
		fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><p>%s %s %s</p>
			<form method="post"><input name="text" value="a long letter"></form>`, r.Method, who, r.PostFormValue("text"))
	}))
	r.mux.Handle("/image", page("image/svg+xml", func(w http.ResponseWriter, _ *http.Request, who string) {
		fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="1"/>`, len(who))
	}))
	r.mux.Handle("/stream", page("text/event-stream", func(w http.ResponseWriter, _ *http.Request, who string) {
		fmt.Fprintf(w, "data: %s\n\n", who)
	}))
	r.mux.Handle("/report.csv", page("text/csv", func(w http.ResponseWriter, _ *http.Request, who string) {
		w.Header().Set("Content-Disposition", "attachment; filename=report.csv")
		fmt.Fprint(w, "the report of ", who)
	}))
	// For everybody, but what is in it is not.
	r.mux.HandleFunc("GET /gallery", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,">
			<img src="/image?1"><img src="/image?2"><img src="/image?3">`)
	})
	r.mux.HandleFunc("GET /start", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,"><p>start</p>
			<a href="/report.csv?a=b">report</a>`)
	})
	return r
}

const logInAsAlice = `fetch("/login", {method: "POST",
	body: new URLSearchParams({name: "alice"})}).then((r) => r.status)`

// logIn opens a browser where alice has logged in twenty minutes ago.
func (r *rendered) logIn(t *testing.T) (*browser, *tab) {
	t.Helper()
	b := newBrowser(t)
	tab := b.open(r.url + "/start")
	if _, err := tab.tryJS(logInAsAlice); err != nil {
		t.Fatal(err)
	}
	r.elapsed.Add(int64(20 * time.Minute))
	return b, tab
}

// Without a script of ours, twenty minutes after the login.
func TestResume_userNoticesNothing(t *testing.T) {
	t.Parallel()
	for name, use := range map[string]func(*rendered, *browser, *tab){
		"a link": func(r *rendered, _ *browser, tab *tab) {
			tab.run(chromedp.Navigate(r.url + "/page?x=1"))
			tab.sees("GET alice")
			tab.until(`location.pathname + location.search === "/page?x=1"`)
		},
		"back and reload": func(r *rendered, b *browser, tab *tab) {
			tab.run(chromedp.Navigate(r.url+"/page"), chromedp.Navigate(r.url+"/start"))
			b.forget("resumed") // it is there for a minute, and the server's clock leaps
			r.elapsed.Add(int64(20 * time.Minute))
			// chromedp would wait for a load that a page out of the cache does not have.
			if _, err := tab.tryJS(`setTimeout(() => history.back(), 0)`); err != nil {
				tab.t.Fatal(err)
			}
			tab.sees("GET alice")
			tab.run(chromedp.Reload())
			tab.sees("GET alice")
		},
		"a form": func(r *rendered, b *browser, tab *tab) {
			tab.run(chromedp.Navigate(r.url + "/page"))
			tab.sees("GET alice")
			b.forget("resumed") // it is there for a minute, and the server's clock has leapt
			r.elapsed.Add(int64(20 * time.Minute))
			tab.run(chromedp.Submit("form", chromedp.ByQuery))
			tab.sees("POST alice a long letter")
		},
		"images": func(_ *rendered, _ *browser, tab *tab) {
			got, err := tab.tryJS(`Promise.all(Array.from({length: 6}, (_, n) => new Promise((resolve, reject) => {
				const image = new Image(); image.onload = () => resolve(image.naturalWidth); image.onerror = reject; image.src = "/image?" + n;
			}))).then(String)`)
			if err != nil || got != "5,5,5,5,5,5" { // "alice"
				tab.t.Errorf("images: %v %v", got, err)
			}
		},
		"a stream": func(_ *rendered, _ *browser, tab *tab) {
			got, err := tab.tryJS(`new Promise((resolve, reject) => { const source = new EventSource("/stream");
				source.onmessage = (e) => { source.close(); resolve(e.data); }; source.onerror = reject; })`)
			if err != nil || got != "alice" {
				tab.t.Errorf("the stream: %v %v", got, err)
			}
		},
		"images of a page": func(r *rendered, _ *browser, tab *tab) {
			tab.run(chromedp.Navigate(r.url + "/gallery"))
			tab.until(`[...document.images].map((image) => image.naturalWidth).join() === "5,5,5"`)
		},
		"a download": func(r *rendered, b *browser, tab *tab) {
			folder := b.downloadsTo()
			tab.run(chromedp.Click("a", chromedp.ByQuery))
			if got := b.downloaded(folder); got != "the report of alice" {
				tab.t.Errorf("the file says %q", got)
			}
			tab.sees("start") // a download is no page
		},
		"two tabs at once": func(r *rendered, b *browser, first *tab) {
			second := b.open(r.url + "/start")
			for _, tab := range []*tab{first, second} {
				if _, err := tab.tryJS(`location.assign("/page"), null`); err != nil {
					tab.t.Fatal(err)
				}
			}
			first.sees("GET alice")
			second.sees("GET alice")
		},
		"a prefetch before": func(r *rendered, _ *browser, tab *tab) {
			before := r.count("GET /auth/resume")
			if _, err := tab.tryJS(`new Promise((resolve) => { const link = document.createElement("link"); link.rel = "prefetch";
				link.href = "/page"; link.onload = link.onerror = () => resolve(null); document.head.append(link); })`); err != nil {
				tab.t.Fatal(err)
			}
			if r.count("GET /page") == 0 || r.count("GET /auth/resume") != before {
				tab.t.Error("the prefetch has refreshed, or was not sent")
			}
			tab.run(chromedp.Navigate(r.url + "/page"))
			tab.sees("GET alice")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRendered(t, sessionhttp.Config{})
			b, tab := r.logIn(t)
			use(r, b, tab)
			if n := r.count("GET /auth/resume") + r.count("POST /auth/resume"); n == 0 || n > 7 {
				t.Errorf("the session was resumed %d times", n)
			}
		})
	}
}

// A link on a page of another site, as of a mail. The browser keeps Strict cookies to itself, until a
// page of ours leads on, and sends Lax ones, also to the endpoint on the way.
func TestResume_fromAnotherSite(t *testing.T) {
	t.Parallel()
	inBothBrowsers(t, func(t *testing.T, open func(string) window) {
		for _, mode := range []http.SameSite{http.SameSiteStrictMode, http.SameSiteLaxMode} {
			// Cookies of one host have different names.
			r := newRendered(t, sessionhttp.Config{SameSite: mode, CookieSuffix: fmt.Sprint("s", mode)})
			mail := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><a href="%s/page">read</a>`,
					r.url)
			}))
			t.Cleanup(mail.Close)
			w := open(r.url + "/start")
			if _, err := w.tryJS(logInAsAlice); err != nil {
				t.Fatal(err)
			}
			r.elapsed.Add(int64(20 * time.Minute))
			w.visit(mail.URL) // 127.0.0.1 is another site than localhost
			if _, err := w.tryJS(`void document.querySelector("a").click()`); err != nil {
				t.Fatal(err)
			}
			w.sees("GET alice")
			if mode == http.SameSiteStrictMode && r.count("GET /page") < 2 {
				t.Error("the cookies came along at once")
			}
			// The page that leads on is no place to come back to.
			if _, err := w.tryJS(`void setTimeout(() => history.back(), 0)`); err != nil {
				t.Fatal(err)
			}
			w.sees("read")
		}
	})
}

// After a logout elsewhere, or on this page, the visit ends, and the browser is not sent around again.
func TestResume_afterTheEnd(t *testing.T) {
	t.Parallel()
	r := newRendered(t, sessionhttp.Config{})
	_, tab := r.logIn(t)
	if _, err := r.sessions.RevokeSubject(t.Context(), "alice"); err != nil { // which leaves the cookies
		t.Fatal(err)
	}
	for range 3 {
		tab.run(chromedp.Navigate(r.url + "/page"))
		tab.sees("GET nobody")
	}
	if n := r.count("GET /auth/resume"); n > 1 {
		t.Errorf("it was tried %d times", n)
	}
}

// While the store is down, resume itself says so, and nothing is lost. To load the page again is to
// try again.
func TestResume_throughAnOutage(t *testing.T) {
	t.Parallel()
	for name, what := range map[string]struct{ open, sees string }{
		"a page": {`location.assign("/page?x=1")`, "GET alice"},
		"a form": {`document.forms[0].submit()`, "POST alice a long letter"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRendered(t, sessionhttp.Config{
				Refuse: func(w http.ResponseWriter, _ *http.Request, err error) {
					w.WriteHeader(sessionhttp.Status(err))
					fmt.Fprintf(w, "status %d", sessionhttp.Status(err))
				},
			})
			b, tab := r.logIn(t)
			tab.run(chromedp.Navigate(r.url + "/page"))
			tab.sees("GET alice")
			b.forget("resumed") // it is there for a minute, and the server's clock leaps
			r.elapsed.Add(int64(20 * time.Minute))
			before := valuesOf(b.cookies())
			r.store.down.Store(true)
			if _, err := tab.tryJS(what.open + `, null`); err != nil {
				t.Fatal(err)
			}
			tab.sees("status 503")
			tab.until(`location.pathname === "/auth/resume"`)
			tab.run(chromedp.Reload())
			tab.sees("status 503")
			if after := valuesOf(b.cookies()); !maps.Equal(before, after) {
				t.Errorf("the cookies have changed: %d, and now %d", len(before), len(after))
			}
			r.store.down.Store(false)
			tab.run(chromedp.Reload())
			tab.sees(what.sees)
			if sessions, err := r.sessions.Sessions(t.Context(), "alice"); err != nil || len(sessions) != 1 {
				t.Errorf("alice has %d sessions (%v)", len(sessions), err)
			}
		})
	}
}

// The instance that has the pages takes the access token to have run out, and the one that refreshes
// takes it to be good; or it takes it to be of the future. The browser is not sent in circles, and
// when the clocks agree again, all is well.
func TestResume_whereClocksDiffer(t *testing.T) {
	t.Parallel()
	for name, ahead := range map[string]time.Duration{
		"ahead": 20 * time.Minute, "behind": -25 * time.Minute,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRendered(t, sessionhttp.Config{})
			b, tab := r.logIn(t)
			r.ahead.Store(int64(ahead))
			for n := range 3 {
				before := r.count("GET /auth/resume")
				tab.run(chromedp.Navigate(fmt.Sprintf("%s/page?%d", r.url, n)))
				tab.sees("GET ")
				if times := r.count("GET /auth/resume") - before; times > 1 {
					t.Errorf("a page was resumed %d times", times)
				}
			}
			if r.count("GET /auth/resume") == 0 {
				t.Error("nothing was tried")
			}
			if b.tokens(); r.count("GET /page") > 6 {
				t.Errorf("the page was asked for %d times", r.count("GET /page"))
			}
			r.ahead.Store(0)
			b.forget("resumed") // which a minute does
			tab.run(chromedp.Navigate(r.url + "/page"))
			tab.sees("GET alice")
		})
	}
}

func valuesOf(cookies map[string]*network.Cookie) map[string]string {
	values := map[string]string{}
	for name, c := range cookies {
		values[name] = c.Value
	}
	return values
}

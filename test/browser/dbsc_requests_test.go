//go:build browser

package browser

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/chromedp/chromedp"
)

// A gatedRefresh answers the browser's first refresh when it is opened.
type gatedRefresh struct {
	asked, open chan struct{}
	once        sync.Once
}

func newGatedRefresh() *gatedRefresh {
	return &gatedRefresh{asked: make(chan struct{}), open: make(chan struct{})}
}

func (g *gatedRefresh) answer(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Sec-Secure-Session-Id") == "" {
		return // a script's
	}
	g.once.Do(func() { close(g.asked); <-g.open })
	labGrant(w, r)
}

// start runs a script that nothing waits for.
func (tab *tab) start(script string) {
	tab.t.Helper()
	if _, err := tab.tryJS(`void (` + script + `)`); err != nil {
		tab.t.Fatalf("%s: %v", script, err)
	}
}

// What waits for the refresh, and what does not. One refresh serves all.
func TestChromium_whatWaitsForTheRefresh(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	d := l.newDevice()
	other := d.b.open(l.url + "/page") // as typed into the address bar, and it refreshes
	if n := len(l.requests("/auth/token")); n != 2 {
		t.Fatalf("to open the page makes %d refreshes, want one without a proof and one with it", n)
	}
	d.b.expire(l, labCredential)
	g := newGatedRefresh()
	l.answer(g.answer)
	other.start(`location.assign("/waits/navigation")`)
	wait(t, g.asked, "the refresh")
	for _, script := range []string{
		`fetch("/waits/request")`, `new Image().src = "/waits/image"`, `new WebSocket("/waits/socket")`,
		`navigator.sendBeacon("/waits/beacon")`,
	} {
		d.start(script)
	}
	for _, script := range []string{
		`fetch("/omit", {credentials: "omit"})`, `fetch("/static/x")`,
	} {
		d.start(script)
	}
	if got := d.fetch("POST", "/auth/token"); got != "200" {
		t.Errorf("a script's refresh beside the browser's: %s", got)
	}
	l.comes("/omit")
	l.comes("/static/x")
	waiting := []string{"navigation", "request", "image", "socket", "beacon"}
	for _, name := range waiting {
		if l.order("/waits/"+name) >= 0 {
			t.Errorf("the %s did not wait", name)
		}
	}
	close(g.open)
	for _, name := range waiting {
		l.comes("/waits/" + name)
	}
	n := -1 // the one before
	for _, r := range l.requests("/auth/token") {
		if r.header.Get("Secure-Session-Response") != "" {
			n++
		}
	}
	if n != 1 {
		t.Errorf("there were %d refreshes with a proof, want one for all", n)
	}
}

// What a script can set, and what only the browser can.
func TestChromium_whatAScriptCannotSet(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	d := l.newDevice()
	d.fetch("GET", "/thing")
	d.waitFor("refresh Refreshed", 1)
	d.start(`fetch("/forged", {headers: {"Sec-Secure-Session-Id": "s1",
		"Secure-Session-Response": "mine", "Secure-Session-Skipped": "mine"}})`)
	l.comes("/forged")
	h := l.last("/forged").header
	if got := h["Sec-Secure-Session-Id"]; got != nil {
		t.Errorf("a script has set Sec-Secure-Session-Id to %q", got)
	}
	if h.Get("Secure-Session-Response") != "mine" || h.Get("Secure-Session-Skipped") != "mine" {
		t.Error("a script cannot set the other two any more")
	}

	d.b.expire(l, labCredential)
	d.start(`document.cookie = "__Host-bound=1; Path=/; Secure; SameSite=Strict"`)
	before := len(l.requests("/auth/token"))
	d.fetch("GET", "/thing")
	if len(l.requests("/auth/token")) == before {
		t.Error("the cookie of a script counts as the credential")
	}
}

// With less than two minutes left to the cookie, the request goes on and the browser refreshes
// beside it. With more, it does not.
func TestChromium_refreshesInTheBackground(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		seconds int
		want    bool
	}{{60, true}, {300, false}} {
		t.Run(fmt.Sprint(c.seconds), func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			l.register = func(w http.ResponseWriter, _ *http.Request) {
				labSet(w, c.seconds)
				labInstruct(w, labInstructions)
			}
			d := l.newDevice()
			g := newGatedRefresh()
			l.answer(g.answer)
			if got := d.fetch("GET", "/thing"); got != "200" { // it does not wait
				t.Errorf("the request: %s", got)
			}
			if c.want {
				wait(t, g.asked, "the refresh in the background")
				close(g.open)
				d.waitFor("refresh Refreshed", 1)
				return
			}
			d.fetch("GET", "/thing")
			if l.order("/auth/token") >= 0 {
				t.Error("it refreshes")
			}
		})
	}
}

// An answer to the registration that is no 200 is the end of it.
func TestChromium_registersOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	l.register = func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	d := newBrowser(t).openDevice(l.url + "/page")
	d.fetch("POST", "/login")
	d.waitFor("creation TransientHttpError", 1)
	d.fetch("GET", "/thing")
	if n := len(l.requests("/auth/device")); n != 1 || l.order("/auth/token") >= 0 {
		t.Errorf("it registers %d times", n)
	}
}

// A registration that is refused with a new challenge begins again.
func TestChromium_registersWithTheNextChallenge(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	var asked atomic.Bool
	l.register = func(w http.ResponseWriter, _ *http.Request) {
		if asked.CompareAndSwap(false, true) {
			w.Header().Set("Secure-Session-Registration", strings.Replace(labRegistration, "c1", "c2", 1))
			w.WriteHeader(http.StatusForbidden)
			return
		}
		labInstruct(w, labInstructions)
	}
	d := l.newDevice()
	all := l.requests("/auth/device")
	if len(all) != 2 {
		t.Fatalf("it registers %d times, want 2", len(all))
	}
	checkProof(t, all[1].header, []string{"alg", "jwk", "typ"}, "c2", nil)
	d.fetch("GET", "/thing")
	d.waitFor("refresh Refreshed", 1)
}

// However the answer to a login comes to the browser, it registers. After a form that another
// site's page posts, the registration comes without SameSite=Strict cookies.
func TestChromium_registersAfterAnyLogin(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		begin  string // our address is the first parameter, and the other site's is the second
		login  string
		click  bool
		strict bool
	}{
		"a form of ours":                 {"%[1]s/form", "POST /form", true, true},
		"a redirect from another site":   {"%[2]s/leave?to=%[1]s/back", "GET /back", false, true},
		"a form that another site posts": {"%[2]s/post?to=%[1]s/back", "POST /back", true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, idp := newLab(t), newLab(t)
			redirects := func(w http.ResponseWriter, r *http.Request) {
				labLogin(w, r)
				http.Redirect(w, r, "/page", http.StatusSeeOther)
			}
			l.mux.HandleFunc(c.login, redirects)
			form := func(to string) string {
				return `<!doctype html><link rel="icon" href="data:,">` +
					`<form method="post" action="` + to + `"><button>go</button></form>`
			}
			l.mux.HandleFunc("GET /form", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprint(w, form("/form"))
			})
			idp.mux.HandleFunc("GET /post", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprint(w, form(r.FormValue("to")))
			})
			idp.mux.HandleFunc("GET /leave", func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, r.FormValue("to"), http.StatusFound)
			})
			d := newBrowser(t).openDevice("about:blank")
			d.run(chromedp.Navigate(fmt.Sprintf(c.begin, l.url, idp.url)))
			if c.click {
				d.run(chromedp.Click("button", chromedp.ByQuery))
			}
			d.waitFor("creation Success", 1)
			got := slices.Contains(l.last("/auth/device").cookies(), "__Host-access")
			if got != c.strict {
				t.Errorf("the registration comes with Strict cookies: %t, want %t", got, c.strict)
			}
			d.sees("a page")
			d.fetch("GET", "/thing")
			d.waitFor("refresh Refreshed", 1)
		})
	}
}

// Where another site's page has begun a navigation, the browser does not refresh, and keeps Strict
// cookies to itself, also after a redirect of ours. A page of ours that leads on begins a new one.
func TestChromium_refreshesForOurOwnPagesOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		path      string
		refreshes bool
	}{
		"a link":                         {"/page", false},
		"a link to a redirect":           {"/redirect", false},
		"a link to a page that leads on": {"/leads-on", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l, mail := newLab(t), newLab(t)
			l.mux.HandleFunc("GET /leads-on", func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprint(w, `<!doctype html><link rel="icon" href="data:,">
					<meta http-equiv="refresh" content="0;url=/page">`)
			})
			l.mux.HandleFunc("GET /redirect", func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "/page", http.StatusSeeOther)
			})
			mail.mux.HandleFunc("GET /mail", func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/html")
				fmt.Fprintf(w, `<!doctype html><link rel="icon" href="data:,"><a href="%s">read</a>`,
					l.url+c.path)
			})
			d := l.newDevice()
			d.run(chromedp.Navigate(mail.url + "/mail"))
			d.run(chromedp.Click("a", chromedp.ByQuery))
			d.sees("a page")
			if got := l.order("/auth/token") >= 0; got != c.refreshes {
				t.Errorf("it refreshes: %t, want %t", got, c.refreshes)
			}
			if skipped := l.last("/page").header.Get("Secure-Session-Skipped"); skipped != "" {
				t.Errorf("the request says that it has skipped %q", skipped) // not even that it did not try
			}
			strict := slices.Contains(l.last("/page").cookies(), "__Host-access")
			if strict != c.refreshes {
				t.Errorf("the request has Strict cookies: %t, want %t", strict, c.refreshes)
			}
		})
	}
}

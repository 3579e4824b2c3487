//go:build browser

package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const callTheAPI = `const r = await session.fetch("/api/echo", {method: "POST", body: "hello"});
	return r.status + " " + (r.ok ? (await r.json()).text : "");`

func TestCookies_areAsPromisedAndNoTokenReachesAScript(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(map[bool]string{false: "http", true: "https"}[secure], func(t *testing.T) {
			p := startProxy(t, startServer(t, secure))
			b := newBrowser(t)
			page := b.open(p.url)
			page.logIn("alice")
			used := 0
			if secure { // the browser refreshes by itself, which binds the session
				page.until(isBound)
				used++
			}
			before := b.checkCookies(secure)
			page.click("Refresh now")
			page.sees(fmt.Sprintf("token %d is used up", used))
			after := b.checkCookies(secure)
			for name := range before {
				if before[name] == after[name] {
					t.Errorf("the refresh left the cookie %s as it was", name)
				}
			}

			page.eval(`await session.info()`)
			kept := page.eval(`return JSON.stringify([document.cookie, {...localStorage}, {...sessionStorage}, await indexedDB.databases(),
				await globalThis.caches?.keys() ?? [], await session.info(), document.documentElement.outerHTML, location.href, name])`).(string)
			if !strings.HasPrefix(kept, `["",{},{},[],[],{`) {
				t.Errorf("a script finds %.200s", kept)
			}
			answers := p.exchanges("")
			if len(answers) < 8 {
				t.Fatalf("there were only %d answers", len(answers))
			}
			for _, tokens := range []map[string]string{before, after} {
				for name, token := range tokens {
					if strings.Contains(kept, token) {
						t.Errorf("a script finds the token of %s", name)
					}
					for _, e := range answers {
						if strings.Contains(e.body, token) {
							t.Errorf("%s %s answers the token of %s", e.method, e.path, name)
						}
					}
				}
			}

			page.click("Log out")
			page.sees("You have logged out")
			if left := b.cookies(); len(left) != 0 {
				t.Errorf("after the logout there are %d cookies", len(left))
			}
		})
	}
}

// checkCookies compares the cookies with what they should be, and returns their values.
func (b *browser) checkCookies(secure bool) map[string]string {
	b.t.Helper()
	want := map[string]string{"access": "/", "refresh": "/auth"}
	if secure {
		want = map[string]string{"__Host-access": "/", "__Secure-refresh": "/auth"}
	}
	cookies := b.cookies()
	if trigger := cookies["__Host-bound"]; secure {
		if trigger == nil || trigger.Value != "1" || trigger.Path != "/" || !trigger.HTTPOnly ||
			!trigger.Secure || trigger.SameSite != network.CookieSameSiteStrict {
			b.t.Errorf("the cookie that has the browser refresh is %+v", trigger)
		}
		delete(cookies, "__Host-bound")
	}
	if len(cookies) != len(want) {
		b.t.Errorf("there are %d cookies", len(cookies))
	}
	values := map[string]string{}
	for name, path := range want {
		c := cookies[name]
		if c == nil {
			b.t.Fatalf("there is no cookie %s", name)
		}
		days := time.Until(time.Unix(int64(c.Expires), 0)).Hours() / 24
		if c.Domain != "localhost" || c.Path != path || !c.HTTPOnly || c.Secure != secure || c.SameSite != network.CookieSameSiteStrict || c.Session || days < 6.9 || days > 7.1 {
			b.t.Errorf("the cookie %s has domain %s, path %s, HttpOnly %t, Secure %t, SameSite %s, and ends in %.1f days",
				name, c.Domain, c.Path, c.HTTPOnly, c.Secure, c.SameSite, days)
		}
		values[name] = c.Value
	}
	return values
}

func TestTabs_refreshOnceForAll(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t, false))
	b := newBrowser(t)
	tabs := []*tab{b.openPatient(p.url)}
	tabs[0].logIn("alice")
	for range 3 {
		next := b.openPatient(p.url)
		next.sees("Logged in as alice")
		tabs = append(tabs, next)
	}
	for round := range 3 {
		before := p.refreshes()
		b.loseAccess()
		p.fail(func(w http.ResponseWriter, r *http.Request, forward func() *httptest.ResponseRecorder) {
			answer := forward()
			<-time.After(300 * time.Millisecond) // so that all tabs have asked before the cookies come
			reply(w, answer)
		})
		for i, answer := range inAll(tabs, `
			const calls = Array.from({length: 3}, () => session.fetch("/api/echo", {method: "POST", body: "hello"}));
			return (await Promise.all(calls)).map((r) => r.status).join()`) {
			if answer != "200,200,200" {
				t.Errorf("round %d, tab %d: %v", round, i, answer)
			}
		}
		if n := p.refreshes() - before; n != 1 {
			t.Errorf("round %d: 4 tabs with 3 calls each refreshed %d times", round, n)
		}
	}
}

// inAll evaluates the same in all tabs at once.
func inAll(tabs []*tab, body string) []any {
	answers := make([]any, len(tabs))
	var wg sync.WaitGroup
	for i, tab := range tabs {
		wg.Go(func() {
			v, err := tab.try(body)
			if err != nil {
				v = err
			}
			answers[i] = v
		})
	}
	wg.Wait()
	return answers
}

// Without locks and channels, each tab refreshes for itself, with the same token.
func TestTabs_withoutLocksStayLoggedIn(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t, false))
	b := newBrowser(t)
	var tabs []*tab
	for range 3 {
		next := b.open("about:blank")
		next.before(`Object.defineProperty(Navigator.prototype, "locks", {value: undefined}); delete globalThis.BroadcastChannel;`)
		next.run(chromedp.Navigate(p.url))
		tabs = append(tabs, next)
	}
	tabs[0].logIn("alice")
	for round := range 3 {
		b.loseAccess()
		for i, answer := range inAll(tabs, callTheAPI) {
			if answer != "200 hello" {
				t.Errorf("round %d, tab %d: %v", round, i, answer)
			}
		}
	}
}

func TestKilledServer_leavesEverybodyLoggedIn(t *testing.T) {
	t.Parallel()
	s := startServer(t, false)
	b := newBrowser(t)
	page, other := b.open(s.url), b.open(s.url)
	page.logIn("alice")
	other.sees("Logged in as alice")
	id := page.eval(`return (await session.info()).session_id`)

	s.kill()
	before := b.checkCookies(false)
	if got := page.eval(`return session.refresh().then(() => "refreshed", (err) => err.name)`); got != "UnavailableError" {
		t.Errorf("with the server dead, a refresh comes to %v", got)
	}
	page.click("Send")
	page.sees("The server does not answer")
	for name, value := range b.checkCookies(false) {
		if before[name] != value {
			t.Errorf("the cookie %s has changed", name)
		}
	}

	refreshed := make(chan any, 1)
	go func() {
		v, err := page.try(`globalThis.asked = true; return (await session.refresh()).session_id`)
		refreshed <- []any{v, err}
	}()
	page.until(`globalThis.asked`)
	s.restart()
	if got := fmt.Sprint(<-refreshed); got != fmt.Sprint([]any{id, nil}) {
		t.Errorf("a refresh while the server restarts: %s, not session %s", got, id)
	}

	s.kill()
	s.restart()
	for i, tab := range []*tab{page, other} {
		b.loseAccess()
		if got := tab.eval(callTheAPI); got != "200 hello" {
			t.Errorf("after the restart, tab %d: %v", i, got)
		}
		tab.run(chromedp.Reload())
		tab.sees("Logged in as alice")
		if got := tab.eval(`return (await session.info()).session_id`); got != id {
			t.Errorf("after the restart, tab %d is in session %v, not %v", i, got, id)
		}
	}
}

func TestPage_thatCannotTellWhoIsLoggedInAsksNobodyToLogIn(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t, false))
	b := newBrowser(t)
	page := b.open(p.url)
	page.logIn("alice")
	p.takeDown("/auth/session")
	page.run(chromedp.Reload())
	page.sees("The server cannot be reached. Trying again")
	if page.eval(`return document.getElementById("login").checkVisibility()`) != false {
		t.Error("there is a login form")
	}
	p.takeDown("")
	page.sees("Logged in as alice")
	page.until(`document.getElementById("notice").hidden`)

	page.click("Log out")
	page.sees("You have logged out")
	p.takeDown("/auth/session")
	page.run(chromedp.Reload())
	page.sees("The server cannot be reached. Trying again")
	p.takeDown("")
	page.until(`document.getElementById("login").checkVisibility() && document.getElementById("notice").hidden`)
}

func TestRefresh_survivesWhatGoesWrong(t *testing.T) {
	t.Parallel()
	status := func(code int, body string) fault {
		return func(w http.ResponseWriter, _ *http.Request, _ func() *httptest.ResponseRecorder) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(code)
			_, _ = w.Write([]byte(body))
		}
	}
	drop := func(w http.ResponseWriter, _ *http.Request, _ func() *httptest.ResponseRecorder) {
		panic(http.ErrAbortHandler)
	}
	lose := func(w http.ResponseWriter, _ *http.Request, forward func() *httptest.ResponseRecorder) {
		forward()
		panic(http.ErrAbortHandler)
	}
	p := startProxy(t, startServer(t, false))
	b := newBrowser(t)
	page := b.open(p.url)
	page.logIn("alice")
	for name, f := range map[string]fault{
		"the request is lost":           drop,
		"the reply is lost":             lose,
		"503":                           status(503, `{"error":"temporarily_unavailable"}`),
		"502 of a proxy":                status(502, `<h1>Bad Gateway</h1>`),
		"a network that wants money":    status(200, `<h1>Pay here</h1>`),
		"500 that says it is a verdict": status(500, `{"error":"invalid_grant"}`),
	} {
		t.Run(name, func(t *testing.T) {
			var once sync.Once
			p.fail(func(w http.ResponseWriter, r *http.Request, forward func() *httptest.ResponseRecorder) {
				failed := false
				once.Do(func() { failed = true; f(w, r, forward) })
				if !failed {
					reply(w, forward())
				}
			})
			b.loseAccess()
			if got := page.eval(callTheAPI); got != "200 hello" {
				t.Errorf("the call that refreshes: %v", got)
			}
			b.loseAccess()
			if got := page.eval(callTheAPI); got != "200 hello" {
				t.Errorf("the next one: %v", got)
			}
		})
	}
	p.fail(nil)
	page.sees("once more, in time") // after the lost reply
}

func TestRefresh_waitsForASlowReplyAndAsksAgain(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t, false))
	b := newBrowser(t)
	page := b.open(p.url)
	page.logIn("alice")
	asked := make(chan struct{}, 10)
	p.fail(func(w http.ResponseWriter, r *http.Request, forward func() *httptest.ResponseRecorder) {
		asked <- struct{}{}
		answer := forward()
		if len(asked) == 1 {
			<-r.Context().Done() // this one hangs
			return
		}
		reply(w, answer)
	})
	b.loseAccess()
	if got := page.eval(callTheAPI); got != "200 hello" {
		t.Errorf("the call that refreshes: %v", got)
	}
	if len(asked) != 2 {
		t.Errorf("it asked %d times", len(asked))
	}
	p.fail(nil)
	b.loseAccess()
	if got := page.eval(callTheAPI); got != "200 hello" {
		t.Errorf("the next call: %v", got)
	}
}

func TestRefresh_ofAPageThatGoesAwayStillBringsTheCookies(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t, false))
	b := newBrowser(t)
	page := b.openPatient(p.url)
	page.logIn("alice")
	_, before := b.tokens()
	arrived, gone := make(chan struct{}), make(chan struct{})
	var asked atomic.Int32
	p.fail(func(w http.ResponseWriter, r *http.Request, forward func() *httptest.ResponseRecorder) {
		answer := forward()
		if asked.Add(1) == 1 { // the page goes away before this answer
			close(arrived)
			<-r.Context().Done()
			close(gone)
			return
		}
		reply(w, answer)
	})
	page.eval(`session.refresh().catch(() => {})`)
	wait(t, arrived, "the refresh")
	page.close()
	wait(t, gone, "the page to go away")

	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(time.Minute); ; <-tick.C {
		if _, after := b.tokens(); after.Value != before.Value {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("the new refresh token has not arrived")
		}
	}
	if n := asked.Load(); n != 2 {
		t.Errorf("the page sent %d refreshes", n)
	}
	if got := b.open(p.url).eval(callTheAPI); got != "200 hello" {
		t.Errorf("the next page: %v", got)
	}
}

// A login by a form of the host, without the script, in one tab while another refreshes with the
// old session's cookie.
func TestLogin_withoutTheScriptIsNotUndoneByARefresh(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t, false))
	b := newBrowser(t)
	page, other := b.openPatient(p.url), b.openPatient(p.url)
	page.logIn("alice")
	other.sees("Logged in as alice")
	before := len(p.exchanges("/auth/token"))
	arrived, loggedIn := make(chan struct{}), make(chan struct{})
	var once sync.Once
	p.fail(func(w http.ResponseWriter, r *http.Request, forward func() *httptest.ResponseRecorder) {
		once.Do(func() {
			close(arrived)
			wait(t, loggedIn, "the login")
		})
		reply(w, forward())
	})
	refreshed := make(chan any, 1)
	go func() {
		v, err := other.try(`return (await session.refresh())?.subject`)
		refreshed <- []any{v, err}
	}()
	wait(t, arrived, "the refresh")
	if got := page.eval(`return (await fetch("/login", {method: "POST", body: new URLSearchParams({name: "bob", password: "staple my stapler"})})).status`); got != 200.0 {
		t.Fatalf("the login: %v", got)
	}
	close(loggedIn)
	if got := fmt.Sprint(<-refreshed); got != fmt.Sprint([]any{"bob", nil}) {
		t.Errorf("the refresh with the old session's cookie: %s", got)
	}
	for i, tab := range []*tab{page, other} {
		tab.sees("Logged in as bob")
		if got := tab.eval(callTheAPI); got != "200 hello" {
			t.Errorf("tab %d: %v", i, got)
		}
	}
	var statuses []int
	for _, e := range p.exchanges("/auth/token")[before:] {
		statuses = append(statuses, e.status)
	}
	if want := []int{400, 200}; !slices.Equal(statuses, want) {
		t.Errorf("the refreshes were answered %v, not %v", statuses, want)
	}
}

func TestLogout_isOneForAllTabs(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t, false))
	b := newBrowser(t)
	page, other := b.open(p.url), b.open(p.url)
	page.logIn("alice")
	other.sees("Logged in as alice")
	access, refresh := b.tokens()
	page.click("Log out")
	page.sees("You have logged out")
	other.sees("You have logged out")
	if left := b.cookies(); len(left) != 0 {
		t.Errorf("there are %d cookies left", len(left))
	}

	// Somebody who has kept the cookies has nothing.
	b.put(access, access.Value)
	b.put(refresh, refresh.Value)
	if got := page.eval(callTheAPI); got != "401 " {
		t.Errorf("with the old cookies: %v", got)
	}
	if left := b.cookies(); len(left) != 0 {
		t.Errorf("after the verdict there are %d cookies left", len(left))
	}

	page.logIn("bob")
	other.sees("Logged in as bob")
}

func TestDevices_areSignedOut(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t, false))
	laptop, phone := newBrowser(t), newBrowser(t)
	page, elsewhere := laptop.open(p.url), phone.open(p.url)
	page.logIn("alice")
	elsewhere.logIn("alice")
	page.until(`document.getElementById("devices").children.length === 2`)
	page.click("Sign out all others")
	elsewhere.sees("Your session is over")
	page.until(`document.getElementById("devices").children.length === 1`)
	elsewhere.run(chromedp.Reload()) // its cookies stay, for a login may have followed; they are worth nothing
	elsewhere.sees("Log in as alice")
	elsewhere.logIn("alice")
	page.until(`document.getElementById("devices").children.length === 2`)
	if _, err := page.tryJS(`[...document.querySelectorAll("#devices li")].find((li) => !li.innerText.includes("this one")).querySelector("button").click()`); err != nil {
		t.Fatal(err)
	}
	elsewhere.sees("Your session is over")
	if got := page.eval(callTheAPI); got != "200 hello" {
		t.Errorf("this one: %v", got)
	}
}

func TestStolenToken_endsTheSessionInAllTabsAndNoOther(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t, false))
	victim, bystander := newBrowser(t), newBrowser(t)
	page, other := victim.open(p.url), victim.open(p.url)
	page.logIn("alice")
	other.sees("Logged in as alice")
	elsewhere := bystander.open(p.url)
	elsewhere.logIn("alice")

	page.click("Replay a stolen token")
	page.sees("somebody else presented a token")
	page.sees("Theft: somebody presented alice's token 0 when 2 was good")
	other.until(`!document.getElementById("login").hidden`)
	if left := victim.cookies(); len(left) != 0 {
		t.Errorf("there are %d cookies left", len(left))
	}
	elsewhere.sees("Theft:")
	if got := elsewhere.eval(callTheAPI); got != "200 hello" {
		t.Errorf("the other device: %v", got)
	}
}

// A tab that is left alone warns and then ends by itself. The times are the shortest that go with
// the grace period.
func TestIdleSession_warnsAndEnds(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t, false, "-access", "11s", "-refresh", "12s"))
	b := newBrowser(t)
	page := b.open(p.url)
	page.logIn("alice")
	page.sees("You will be logged out in")
	page.sees("Your session is over")
	if n := p.refreshes(); n != 0 {
		t.Errorf("nobody did anything, and there were %d refreshes", n)
	}
	if left := b.cookies(); len(left) != 0 {
		t.Errorf("there are %d cookies left", len(left))
	}
}

func TestShort_isFastMotionAndBack(t *testing.T) {
	t.Parallel()
	s := startServer(t, false)
	b := newBrowser(t)
	page := b.open(s.url)
	page.logIn("alice")
	id := page.eval(`return (await session.info()).session_id`)
	for _, step := range []struct{ link, there, seconds string }{
		{"Watch it in fast motion", "Back to real time", "20"},
		{"Back to real time", "Watch it in fast motion", "900"},
	} {
		if _, err := page.tryJS(fmt.Sprintf(`[...document.links].find((a) => a.textContent === %q).click()`, step.link)); err != nil {
			t.Fatal(err)
		}
		page.sees(step.there)
		page.sees("Logged in as alice")
		page.until(`(async () => {
			const {session} = await import("/auth/session.js");
			const left = ((await session.info()).expires_at - Date.now()) / 1000;
			return ` + step.seconds + ` - 10 < left && left <= ` + step.seconds + `;
		})()`)
		if got := page.eval(`return (await session.info()).session_id`); got != id {
			t.Errorf("%s: the session is %v, not %v", step.link, got, id)
		}
	}
	b.checkCookies(false)
}

func TestExpiredAccessToken_isRefreshedBeforeTheCall(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t, false, "-access", "11s"))
	b := newBrowser(t)
	page := b.open(p.url)
	page.logIn("alice")
	page.until(`document.getElementById("access-left").textContent.startsWith("run out")`)
	page.click("Send")
	page.sees("said alice")
	for _, e := range p.exchanges("/api/echo") {
		if e.status != http.StatusOK {
			t.Errorf("a call was answered %d", e.status)
		}
	}
	if n := p.refreshes(); n != 1 {
		t.Errorf("there were %d refreshes", n)
	}
}

func TestPage_worksWithTheKeyboardAlone(t *testing.T) {
	t.Parallel()
	s := startServer(t, false)
	page := newBrowser(t).open(s.url)
	page.until(`document.activeElement.name === "name"`)
	page.run(chromedp.KeyEvent("alice"), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent("wrong"), chromedp.KeyEvent(kb.Enter))
	page.sees("The name or the password is wrong.")
	page.until(`document.activeElement.name === "password"`)
	page.run(chromedp.KeyEvent(kb.Backspace), chromedp.KeyEvent(kb.Backspace), chromedp.KeyEvent(kb.Backspace), chromedp.KeyEvent(kb.Backspace),
		chromedp.KeyEvent(kb.Backspace), chromedp.KeyEvent("correct horse battery"), chromedp.KeyEvent(kb.Enter))
	page.until(`document.activeElement.id === "time-title"`)
	page.until(`document.getElementById("devices").children.length === 1`)

	// Each button and field can be reached, in the order of the page, and has a name.
	reached := map[string]bool{}
	for range 16 {
		page.run(chromedp.KeyEvent(kb.Tab))
		v := page.eval(`const a = document.activeElement; return a.ariaLabel ?? a.labels?.[0]?.innerText ?? a.innerText ?? ""`)
		reached[strings.TrimSpace(fmt.Sprint(v))] = true
	}
	for _, name := range []string{"Refresh now", "Text", "Send", "Sign out Chrome on Linux", "Add a pretend phone",
		"Open both", "Say", "Replay a stolen token", "Use stolen cookies"} {
		if !reached[name] {
			t.Errorf("Tab does not come to %q, but to %v", name, reached)
		}
	}
	page.eval(`document.getElementById("logout").focus()`)
	page.run(chromedp.KeyEvent(kb.Enter))
	page.sees("You have logged out")
	page.until(`document.activeElement.name === "name"`)
}

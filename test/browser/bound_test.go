//go:build browser

package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

const (
	enforced = sessionhttp.DeviceBoundEnforced
	reported = sessionhttp.DeviceBoundReported
)

// The whole way: a login, the registration, refreshes, a browser that ends and begins again.
func TestBound_theBrowserRefreshesByItself(t *testing.T) {
	t.Parallel()
	h := newBoundHost(t, enforced)
	profile := filepath.Join(t.TempDir(), "profile")
	first := startProcess(t, profile)
	d := h.openBound(ofProcess(t, first))
	key := h.thumbprint()
	if v := d.eval(`return (await session.info()).bound`); v != true {
		t.Errorf("the page is told that the session is bound: %v", v)
	}
	h.idle(d.b)
	if got := d.fetch("GET", "/api"); got != "200" { // without our script
		t.Errorf("a request after a while: %s", got)
	}
	first.stop()

	again := ofProcess(t, startProcess(t, profile))
	h.idle(again)
	again.open(h.url + "/report").sees("GET alice")
	if h.thumbprint() != key {
		t.Error("the session is bound to another key")
	}
	if n := len(h.requests("/auth/device")); n != 1 {
		t.Errorf("the browser has registered %d times", n)
	}
	if n := h.granted(false); n != 0 {
		t.Errorf("scripts have refreshed %d times", n)
	}
	h.noReuse()
}

// The answer to the browser's refresh gets lost after it was applied. The browser waits for 20
// seconds, and comes again with the same cookie.
func TestBound_aLostAnswerIsRepeated(t *testing.T) {
	t.Parallel()
	h := newBoundHost(t, enforced)
	d := h.openBound(newBrowser(t))
	key := h.thumbprint()
	h.later(5 * time.Minute) // the access token is good for long
	d.b.expireAt(h.url, labCredential)
	lost := make(chan struct{})
	h.fail(func(w http.ResponseWriter, r *http.Request, forward func() *httptest.ResponseRecorder) {
		rec := forward()
		if rec.Code != http.StatusOK {
			reply(w, rec)
			return
		}
		h.fail(nil)
		close(lost)
		<-r.Context().Done()
	})
	began := time.Now()
	if got := d.fetch("GET", "/api"); got != "200" {
		t.Errorf("the request that waited: %s", got)
	}
	wait(t, lost, "the refresh")
	if waited := time.Since(began); waited < 19*time.Second {
		t.Errorf("it waited for %v", waited)
	}
	h.later(16 * time.Minute)
	if got := d.fetch("GET", "/api"); got != "200" {
		t.Errorf("the next request: %s", got)
	}
	if n := h.events.Count(tokensession.EventRecovered); n != 1 {
		t.Errorf("the lost token was recovered %d times", n)
	}
	if h.thumbprint() != key {
		t.Error("the session is bound to another key")
	}
	h.noReuse()
}

// Scripts refresh while the browser does, in two tabs, fifty times. A browser signs six times for a
// site, so there are many sites.
func TestBound_scriptsAndTheBrowserAtOnce(t *testing.T) {
	t.Parallel()
	const workers, sites, rounds = 2, 13, 2
	for range workers {
		t.Run("", func(t *testing.T) {
			t.Parallel()
			b := newBrowser(t)
			one, two := b.open("about:blank"), b.open("about:blank")
			for range sites {
				h := newBoundHost(t, enforced)
				one.visit(h.url + "/page")
				one.until(`globalThis.session !== undefined`)
				logIn := `return (await session.login(() => fetch("/login",
					{method: "POST", body: new URLSearchParams({name: "alice"})}))).ok`
				if one.eval(logIn) != true {
					t.Fatal("the login did not work")
				}
				one.eval(`await fetch("/api")`)
				two.visit(h.url + "/page")
				two.until(`globalThis.session !== undefined`)
				h.untilBound()
				for round := range rounds {
					h.idle(b)
					var all sync.WaitGroup
					for i, tab := range []*tab{one, two} {
						all.Go(func() {
							got, err := tab.try(`const calls = Array.from({length: 4}, () => session.fetch("/api"));
								calls.push(fetch("/api"), session.refresh().then(() => ({status: 200})));
								return (await Promise.all(calls)).map((r) => r.status).join() + ends.join()`)
							if got != "200,200,200,200,200,200" {
								t.Errorf("round %d, tab %d: %v %v", round, i, got, err)
							}
						})
					}
					all.Wait()
				}
				h.noReuse()
				h.thumbprint() // there is one session
			}
		})
	}
}

// Somebody has copied all cookies to another device. They get an access token there, until it runs
// out. The honest browser notices nothing.
func TestBound_aThiefWithAllCookiesGetsNothing(t *testing.T) {
	t.Parallel()
	h := newBoundHost(t, enforced)
	d := h.openBound(newBrowser(t))
	thief := ofProcess(t, startProcess(t, filepath.Join(t.TempDir(), "profile")))
	d.b.copyTo(thief)
	stolen := thief.openDevice(h.url + "/page")
	stolen.untilReady()
	if v := stolen.eval(`return (await session.info()).subject`); v != "alice" {
		t.Fatalf("the cookies were not copied: %v", v)
	}
	if got := stolen.call(); got != "200" {
		t.Errorf("before the access token runs out: %s", got)
	}
	h.events.Take()
	h.later(16 * time.Minute)
	for range 2 {
		if got := stolen.call(); got != "401" {
			t.Errorf("the thief's call: %s", got)
		}
	}
	stolen.until(`ends.join() === "ended"`)
	for _, status := range h.refreshes(false) {
		if status != http.StatusBadRequest {
			t.Errorf("a refresh of the thief's is answered %d", status)
		}
	}
	if got := thief.open(h.url + "/report"); got != nil {
		got.sees("GET nobody")
	}
	if len(h.events.TakeRefused()) == 0 {
		t.Error("the host is not told")
	}
	h.noReuse()

	d.b.expireAt(h.url, labCredential)
	if got := d.call(); got != "200" {
		t.Errorf("the honest browser's call: %s", got)
	}
	if v := d.eval(`return (await session.info()).subject + ends.join()`); v != "alice" {
		t.Errorf("the honest browser's page: %v", v)
	}
}

// The store is down when the browser refreshes. Its requests go on as long as the access token is
// good, and then nobody is logged out.
func TestBound_anOutageLogsNobodyOut(t *testing.T) {
	t.Parallel()
	for _, length := range []time.Duration{5 * time.Second, time.Minute} {
		t.Run(length.String(), func(t *testing.T) {
			t.Parallel()
			h := newBoundHost(t, enforced)
			d := h.openBound(newBrowser(t))
			key := h.thumbprint()
			d.b.expireAt(h.url, labCredential)
			before := h.granted(true)
			h.store.Down()
			tick := time.NewTicker(length / 20)
			defer tick.Stop()
			for range 19 {
				if got := d.fetch("GET", "/api"); got != "200" {
					t.Errorf("a request in the outage: %s", got)
				}
				<-tick.C
			}
			if got := h.last("/api").header.Get("Secure-Session-Skipped"); got == "" {
				t.Error("the browser does not say that it could not refresh")
			}
			h.later(16 * time.Minute)
			if got := d.call(); got != "UnavailableError" {
				t.Errorf("a call in the outage, when the access token has run out: %s", got)
			}
			h.store.Clear()
			waitUntil(t, "the next refresh", func() bool {
				d.fetch("GET", "/api")
				return h.granted(true) > before
			})
			t.Log(h.refreshes(true))
			if got := d.call(); got != "200" {
				t.Errorf("a call after the outage: %s", got)
			}
			if v := d.eval(`return ends.join()`); v != "" || h.thumbprint() != key {
				t.Errorf("it has ended %v, or is bound to another key", v)
			}
			h.noReuse()
		})
	}
}

// The browser has lost its key: the user logs in again, and is bound again.
func TestBound_aLostKeyIsANewLogin(t *testing.T) {
	t.Parallel()
	h := newBoundHost(t, enforced)
	d := h.openBound(newBrowser(t))
	key := h.thumbprint()
	d.loseKey(h.url, d.sessionName())
	h.idle(d.b)
	if got := d.call(); got != "401" {
		t.Errorf("a call: %s", got)
	}
	d.until(`ends.join() === "ended"`)
	d.logInHere("alice")
	d.waitFor("creation Success", 2)
	d.fetch("GET", "/api")
	waitUntil(t, "the new session to be bound", func() bool { return h.thumbprint() != "" })
	if h.thumbprint() == key {
		t.Error("the new session has the old key")
	}
	if got := d.call(); got != "200" {
		t.Errorf("a call after the login: %s", got)
	}
}

// A login in a browser that still has an earlier one's registration, three times. A browser signs
// six times for a site, in nine minutes: for a registration, for the refresh that binds, and for
// one of the session before. So the third one is bound later. Until then it is as without all this.
func TestBound_loginsInARow(t *testing.T) {
	t.Parallel()
	h := newBoundHost(t, enforced)
	d := h.openBound(newBrowser(t))
	d.logInHere("alice")
	d.waitFor("creation Success", 2)
	// One request has one of the two sessions refresh.
	waitUntil(t, "the second session to be bound", func() bool {
		d.fetch("GET", "/api")
		return h.thumbprint() != ""
	})
	d.logInHere("alice")
	d.waitFor("creation Success", 3)
	waitUntil(t, "the browser to refuse", func() bool {
		d.fetch("GET", "/api")
		return strings.Contains(strings.Join(d.happened(), " "), "SigningQuotaExceeded")
	})
	for range 2 {
		h.idle(d.b)
		if got := d.call(); got != "200" {
			t.Errorf("a call: %s", got)
		}
	}
	if v := d.eval(`return (await session.info()).subject + ends.join()`); v != "alice" {
		t.Errorf("the page: %v", v)
	}
	signatures := 0
	for _, path := range []string{"/auth/device", "/auth/token"} {
		for _, r := range h.requests(path) {
			if r.header.Get("Secure-Session-Response") != "" {
				signatures++
			}
		}
	}
	if signatures != 6 {
		t.Errorf("the browser has signed %d times", signatures)
	}
	if n := h.events.Count(tokensession.EventReused); n != 0 {
		t.Errorf("%d times somebody was taken for a thief", n)
	}
}

// After a logout the browser asks once, and forgets.
func TestBound_aLogoutIsTheEnd(t *testing.T) {
	t.Parallel()
	h := newBoundHost(t, enforced)
	d := h.openBound(newBrowser(t))
	d.eval(`await session.logout()`)
	if left := d.b.all(); left != "" {
		t.Errorf("the browser has the cookies %s", left)
	}
	before := len(h.requests("/auth/token"))
	for range 3 {
		d.fetch("GET", "/api")
	}
	if statuses := h.refreshes(true); len(statuses) != before+1 || statuses[before] != 400 {
		t.Errorf("the browser's refreshes: %v", statuses)
	}
	if v := d.eval(`return (await session.info()) + ends.join()`); v != "nulllogout" {
		t.Errorf("the page: %v", v)
	}
}

// What a script can do to all this is to make the browser refresh.
func TestBound_aScriptForges(t *testing.T) {
	t.Parallel()
	h := newBoundHost(t, enforced)
	d := h.openBound(newBrowser(t))
	key := h.thumbprint()
	for _, script := range []string{
		`document.cookie = "__Host-bound=1; Path=/; Secure; SameSite=Strict"`,
		`await fetch("/auth/token", {method: "POST", headers: {"Sec-Secure-Session-Id": "` +
			d.sessionName() + `", "Secure-Session-Response": "x.y.z"}})`,
		`await fetch("/auth/device", {method: "POST", headers: {"Secure-Session-Response": "x.y.z"}})`,
		`await fetch("/auth/session", {headers: {"Secure-Session-Skipped":
			'unreachable;session_identifier="` + d.sessionName() + `"'}})`,
	} {
		d.eval(script)
		if got := d.call(); got != "200" {
			t.Errorf("a call after %s: %s", script, got)
		}
	}
	h.idle(d.b)
	d.start(`document.cookie = "__Host-bound=1; Path=/; Secure; SameSite=Strict"`)
	if got := d.call(); got != "200" {
		t.Errorf("a call with a forged trigger: %s", got)
	}
	if v := d.eval(`return ends.join()`); v != "" || h.thumbprint() != key {
		t.Errorf("it has ended %v, or is bound to another key", v)
	}
	h.noReuse()
}

// For a while a host only looks: nothing is bound, and nothing refused.
func TestBound_reported(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var told []error
	h := newBoundHost(t, reported, func(_ *tlsSite, c *sessionhttp.Config) {
		c.OnError = func(_ *http.Request, err error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, err)
		}
	})
	d := h.open(newBrowser(t))
	d.waitFor("creation Success", 1)
	d.fetch("GET", "/api")
	d.waitFor("refresh Refreshed", 1)
	h.idle(d.b)
	if got := d.call(); got != "200" {
		t.Errorf("a call: %s", got)
	}
	d.eval(`await session.refresh()`)
	if h.thumbprint() != "" || h.granted(false) != 1 || h.granted(true) < 2 {
		t.Errorf("bound to %q; scripts have refreshed %v, and the browser %v",
			h.thumbprint(), h.refreshes(false), h.refreshes(true))
	}
	h.fail(func(w http.ResponseWriter, _ *http.Request, _ func() *httptest.ResponseRecorder) {
		w.WriteHeader(http.StatusBadGateway) // of a proxy
	})
	d.b.expireAt(h.url, labCredential)
	if got := d.call(); got != "200" {
		t.Errorf("a call while the browser cannot refresh: %s", got)
	}
	mu.Lock()
	defer mu.Unlock()
	if n := len(told); n == 0 || !strings.Contains(told[n-1].Error(), "server_error") {
		t.Errorf("the host was told %v", told)
	}
	h.noReuse()
}

// A browser without all this: as if there were none.
func TestBound_notInFirefox(t *testing.T) {
	t.Parallel()
	h := newBoundHost(t, enforced)
	b := newFirefox(t)
	one, two := b.open(h.url+"/page"), b.open(h.url+"/page")
	for _, tab := range []window{one, two} {
		tab.until(`globalThis.session !== undefined`)
	}
	ask := func(w window, expression string) string {
		t.Helper()
		v, err := w.tryJS(expression)
		if err != nil {
			t.Errorf("%s: %v", expression, err)
		}
		return fmt.Sprint(v)
	}
	logIn := `session.login(() => fetch("/login", {method: "POST",
		body: new URLSearchParams({name: "alice"})})).then((r) => r.status)`
	if got := ask(one, logIn); got != "200" {
		t.Fatalf("the login: %s", got)
	}
	const call = `session.fetch("/api").then((r) => String(r.status), (err) => err.name)`
	for range 3 {
		h.later(16 * time.Minute)
		for _, tab := range []window{one, two} {
			if got := ask(tab, call); got != "200" {
				t.Errorf("a call: %s", got)
			}
		}
	}
	if got := ask(two, `session.info().then((i) => i.subject + i.bound)`); got != "aliceundefined" {
		t.Errorf("the page is told %s", got)
	}
	if h.thumbprint() != "" || len(h.refreshes(true)) != 0 || h.granted(false) != 3 {
		t.Errorf("bound to %q; scripts have refreshed %v", h.thumbprint(), h.refreshes(false))
	}
	h.later(16 * time.Minute)
	one.visit(h.url + "/report")
	one.sees("GET alice")
	h.noReuse()
	ask(two, `session.logout()`)
	two.until(`ends.join() === "logout"`)
}

//go:build browser

package browser

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	late = 11 * time.Second // a refresh that is delivered so long after another one is theft

	logInAsBob = `return (await session.login(() => fetch("/login", {method: "POST",
		body: new URLSearchParams({name: "bob", password: "staple my stapler"})}))).status`
)

// Refreshes that get stuck, so that the page gives up, are cancelled as soon as one is answered, or
// the next one or a login begins. Those that are not come late.
func TestRefresh_thatWasGivenUpLogsNobodyOut(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		there bool // they have come to the server, and it is the answers that get stuck
		then  func(page, other *tab, goOn func())
		who   string
	}{
		"one is answered after all": {false, func(_, _ *tab, goOn func()) { goOn() }, "alice"},
		"another tab refreshes":     {false, func(_, other *tab, _ func()) { other.eval(`await session.refresh()`) }, "alice"},
		"this tab logs in":          {true, func(page, _ *tab, _ func()) { page.eval(logInAsBob) }, "bob"},
		"another tab logs in":       {true, func(_, other *tab, _ func()) { other.eval(logInAsBob) }, "bob"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := startProxy(t, startServer(t, false))
			b := newBrowser(t)
			page, other := b.open(p.url), b.open(p.url)
			page.logIn("alice")
			other.sees("Logged in as alice")

			var stuck sync.WaitGroup
			var sent, cancelled atomic.Int32
			goOn, gone, known := make(chan struct{}), make(chan struct{}), make(chan struct{})
			p.fail(func(w http.ResponseWriter, r *http.Request, forward func() *httptest.ResponseRecorder) {
				stuck.Add(1)
				defer stuck.Done()
				var first chan struct{}
				if sent.Add(1) == 1 {
					first = goOn
					defer close(gone)
				}
				var answer *httptest.ResponseRecorder
				if test.there {
					answer = forward()
				}
				select {
				case <-first:
				case <-r.Context().Done():
					cancelled.Add(1)
					return
				case <-known:
					select {
					case <-r.Context().Done():
						cancelled.Add(1)
						return
					case <-time.After(late):
					}
				}
				if answer == nil {
					answer = forward()
				}
				reply(w, answer)
			})
			if got := page.eval(`return session.refresh().then(() => "refreshed", (err) => err.name)`); got != "UnavailableError" {
				t.Fatalf("the refresh comes to %v", got)
			}
			if n := cancelled.Load(); n != 0 || sent.Load() < 2 {
				t.Errorf("of %d requests, %d were cancelled", sent.Load(), n)
			}
			p.fail(nil)
			test.then(page, other, func() { close(goOn); wait(t, gone, "the first request") })
			_, before := b.tokens()
			close(known)
			stuck.Wait()

			if _, after := b.tokens(); test.there && after.Value != before.Value {
				t.Error("an old answer has replaced the login's cookies")
			}
			for i, tab := range []*tab{page, other} {
				if got := tab.eval(`return (await session.refresh())?.subject ?? "nobody"`); got != test.who {
					t.Errorf("tab %d: it is %v who is logged in, not %s", i, got, test.who)
				}
			}
		})
	}
}

// The headers of an answer bring the cookies. Its body is late, and a second refresh with the new
// cookie, begun meanwhile, must not be cancelled when it comes.
func TestRefresh_whoseBodyIsLateKeepsTheNewestCookies(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t, false))
	b := newBrowser(t)
	page := b.open(p.url)
	page.logIn("alice")
	var sent atomic.Int32
	second := make(chan struct{})
	p.fail(func(w http.ResponseWriter, r *http.Request, forward func() *httptest.ResponseRecorder) {
		answer := forward()
		switch sent.Add(1) {
		case 1:
			<-time.After(time.Second)
			maps.Copy(w.Header(), answer.Header())
			w.WriteHeader(answer.Code)
			w.(http.Flusher).Flush()
			select {
			case <-second:
			case <-time.After(3700 * time.Millisecond): // the page takes an answer for lost after four seconds
			}
			_, _ = w.Write(answer.Body.Bytes())
		case 2:
			close(second)
			select {
			case <-time.After(2 * time.Second):
			case <-r.Context().Done():
				return
			}
			reply(w, answer)
		}
	})
	if got := page.eval(`return (await session.refresh()).subject`); got != "alice" {
		t.Fatalf("it is %v who is logged in", got)
	}
	if n := sent.Load(); n != 1 {
		t.Errorf("it sent %d requests", n)
	}
	p.fail(nil)
	answers := p.exchanges("/auth/token")
	_, refresh := b.tokens()
	for _, c := range (&http.Response{Header: answers[len(answers)-1].header}).Cookies() {
		if c.Name == refresh.Name && c.Value != refresh.Value {
			t.Error("the browser does not have the newest refresh token")
		}
	}
}

// Six streams take all of the browser's connections, so that refreshes wait in it. When there is
// one connection again, the first of them has it, and then another stream. The second one would go
// out much later.
func TestRefresh_thatWaitsForAConnectionIsSentOnce(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t, false))
	b := newBrowser(t)
	page := b.open(p.url)
	page.logIn("alice")
	before := len(p.exchanges("/auth/token"))
	free, freeAll := make(chan struct{}), make(chan struct{})
	seventh := make(chan struct{})
	p.stream(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		freeThis := free
		if r.URL.Path == "/stream/7" {
			close(seventh)
			freeThis = nil
		}
		select {
		case <-freeThis:
		case <-freeAll:
		case <-r.Context().Done():
		}
	})
	// The seventh stream is the next in the queue behind the first refresh. A call that has given
	// up while the machine was busy still gets the news.
	page.eval(`globalThis.streams = await Promise.all([1, 2, 3, 4, 5, 6].map((n) => fetch("/stream/" + n)));
		globalThis.begun = [];
		const send = fetch;
		globalThis.fetch = (input, init) => {
			if (!String(input).endsWith("/auth/token")) return send(input, init);
			const answer = send(input, init);
			if (begun.push(Date.now()) === 1) send("/stream/7");
			return answer;
		};
		const news = new Promise((resolve) => session.addEventListener("update", resolve, {once: true}));
		session.refresh().catch(() => news).then(() => globalThis.refreshed = true);`)
	// The script cancels the second one if it began more than a second before the first one's
	// answer.
	page.until(`begun.length >= 2 && Date.now() - begun.at(-1) > 1500`)
	free <- struct{}{}
	page.until(`globalThis.refreshed`)
	wait(t, seventh, "the seventh stream")
	close(freeAll)
	if got := page.eval(callTheAPI); got != "200 hello" {
		t.Errorf("a call: %v", got)
	}
	if n := len(p.exchanges("/auth/token")) - before; n != 1 {
		t.Errorf("%d refreshes were sent", n)
	}
}

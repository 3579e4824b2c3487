//go:build browser

package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
)

// A page of another origin sends what a page can: forms, and requests whose answers it cannot read.
// From localhost at another port, which is another origin of the same site, SameSite lets the
// cookies go along; from 127.0.0.1 it does not.
func TestOtherOrigins_areRefused(t *testing.T) {
	t.Parallel()
	p := startProxy(t, startServer(t, false))
	b := newBrowser(t)
	mine := b.open(p.url)
	mine.logIn("alice")
	before := b.checkCookies(false)

	theirs := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		fmt.Fprintf(w, `<form method="post" action="%s"><input name="name" value="bob"><input name="password" value="staple my stapler"></form>`,
			p.url+r.URL.Query().Get("to"))
	}))
	defer theirs.Close()

	page := b.open("about:blank")
	attacks := 0
	for _, from := range []string{theirs.URL, strings.Replace(theirs.URL, "127.0.0.1", "localhost", 1)} {
		sameSite := strings.Contains(from, "localhost")
		for _, to := range []struct {
			path     string
			status   int // where the cookies come along
			noCookie int
		}{
			{"/auth/token", 403, 403}, {"/auth/logout", 403, 403}, {"/auth/revoke", 403, 403}, {"/login", 403, 403},
			{"/api/echo", 403, 401}, {"/demo/replay", 403, 401},
		} {
			want := to.noCookie
			if sameSite {
				want = to.status
			}
			page.run(chromedp.Navigate(from + "/?to=" + to.path))
			body := "null"
			if to.path == "/login" {
				body = `new URLSearchParams({name: "bob", password: "staple my stapler"})`
			}
			send := fmt.Sprintf(`fetch(%q, {method: "POST", mode: "no-cors", credentials: "include", body: `+body+`}).catch(() => {}).then(() => null)`, p.url+to.path)
			if _, err := page.tryJS(send); err != nil {
				t.Fatalf("%s: %v", to.path, err)
			}
			page.run(chromedp.Submit("form", chromedp.ByQuery))
			page.until(fmt.Sprintf(`location.href === %q`, p.url+to.path))

			found := 0
			for _, e := range p.exchanges(to.path) {
				if e.origin != from && !(e.origin == "null") {
					continue
				}
				found++
				if e.status != want {
					t.Errorf("%s from %s: %d, not %d", to.path, e.origin, e.status, want)
				}
				if set := e.header["Set-Cookie"]; len(set) > 0 {
					t.Errorf("%s from %s sets cookies: %d", to.path, e.origin, len(set))
				}
			}
			if found < 2 {
				t.Errorf("%s from %s: only %d requests have come", to.path, from, found)
			}
			attacks += found
		}
	}
	t.Logf("%d requests of other origins", attacks)
	for name, value := range b.checkCookies(false) {
		if before[name] != value {
			t.Errorf("the cookie %s has changed", name)
		}
	}
	if n := p.refreshes(); n != 0 {
		t.Errorf("%d refreshes were granted", n)
	}
	if got := mine.eval(callTheAPI); got != "200 hello" {
		t.Errorf("the session itself: %v", got)
	}
}

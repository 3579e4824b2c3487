//go:build browser

package browser

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

const (
	isBound = `document.getElementById("bound").textContent.startsWith("Yes.")`
	loot    = `document.getElementById("loot").textContent`
)

// Somebody has copied all cookies of alice's browser into another one. There the web application
// shows her page until the access token has run out, and then the login. Hers goes on.
func TestPage_aThiefWithAllCookiesIsOutWithTheAccessToken(t *testing.T) {
	t.Parallel()
	s := startServer(t, true, "-access", "20s")
	honest := newBrowser(t)
	thief := ofProcess(t, startProcess(t, filepath.Join(t.TempDir(), "profile")))
	page := honest.open(s.url)
	page.logIn("alice")
	page.until(isBound)
	for _, width := range []int64{320, 360, 768, 1280} {
		page.run(chromedp.EmulateViewport(width, 800))
		page.keep(fmt.Sprintf("bound-%d", width))
	}
	honest.copyTo(thief)
	elsewhere := thief.open(s.url)
	elsewhere.sees("Logged in as alice")
	elsewhere.click("Send")
	elsewhere.sees("said alice")

	page.click("Use stolen cookies")
	page.until(loot + `.includes("the thief can do what you can until")`)
	page.sees("without the key of the device: refused")

	elsewhere.until(`document.getElementById("access-left").textContent.startsWith("run out")`)
	elsewhere.click("Send")
	elsewhere.sees("Your session is over.")
	elsewhere.run(chromedp.Reload())
	elsewhere.sees("Log in as alice")

	page.click("Send")
	page.sees("said alice")
	page.click("Use stolen cookies")
	page.until(loot + `.includes("the thief can do nothing any more")`)
	page.click("Send")
	if v := page.eval(`return (await session.info()).subject`); v != "alice" {
		t.Errorf("the honest browser is %v", v)
	}
	if v := page.eval(`return document.getElementById("log").textContent`); containsText(v, "Theft") {
		t.Errorf("the page tells of a theft: %v", v)
	}
}

// Over HTTP, and in a browser that cannot bind its session, the page says so. There, who has a copy
// of the cookies gets new tokens.
func TestPage_saysWhereNothingIsBound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		secure bool
		open   func(t *testing.T, url string) window
		why    string
	}{
		"Chromium without TLS": {false, func(t *testing.T, url string) window {
			return newBrowser(t).open(url)
		}, "over HTTPS"},
		"Firefox": {true, func(t *testing.T, url string) window {
			return newFirefox(t).open(url)
		}, "This browser cannot prevent that"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			page := c.open(t, startServer(t, c.secure).url)
			press := func(name string) {
				t.Helper()
				button := fmt.Sprintf(`[...document.querySelectorAll("button")].find((b) =>
					b.checkVisibility() && !b.disabled && b.textContent.includes(%q))`, name)
				page.until(button + ` !== undefined`)
				if _, err := page.tryJS(button + `.click()`); err != nil {
					t.Fatal(err)
				}
			}
			press("Log in as alice")
			page.sees("Logged in as alice")
			page.until(`document.getElementById("bound").textContent.startsWith("No.")`)
			<-time.After(2 * time.Second) // in which a browser that can would bind it
			page.sees(c.why)
			press("Use stolen cookies")
			page.until(loot + `.includes("the thief has got new tokens")`)
		})
	}
}

// The token that the thief replays is of before the session was bound. So it tells that two parties
// had the session at its beginning.
func TestPage_replaysATokenOfBeforeTheSessionWasBound(t *testing.T) {
	t.Parallel()
	page := newBrowser(t).open(startServer(t, true).url)
	page.logIn("alice")
	page.until(isBound)
	page.click("Replay a stolen token")
	page.sees("Theft: somebody presented alice's token 0")
	page.until(`!document.getElementById("login").hidden`)
}

// A session that is bound stays as it is on a page in fast motion, where the browser could not sign
// often enough. It goes on there, also when the access token is refused before its time.
func TestShort_leavesABoundSessionInRealTime(t *testing.T) {
	t.Parallel()
	s := startServer(t, true)
	page := newBrowser(t).open(s.url)
	page.logIn("alice")
	page.until(isBound)
	page.visit(s.url + "/?short")
	page.sees("Logged in as alice")
	page.until(isBound)
	page.click("Change alice’s rights")
	page.sees("You may: notes admin.")
	got := page.eval(`const i = await session.info();
		return i.subject + (i.expires_at - Date.now() > 600000)`)
	if got != "alicetrue" {
		t.Errorf("the session is %v", got)
	}
}

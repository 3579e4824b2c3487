//go:build browser

package browser

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// Widths in CSS pixels: WCAG 2.2's smallest (1.4.10), a phone's, a tablet's and a desktop's.
func TestPage_fitsItsScreen(t *testing.T) {
	t.Parallel()
	s := startServer(t, false)
	b := newBrowser(t)
	page := b.open(s.url)
	page.until(`!document.getElementById("login").hidden`)
	theme := func(name string) chromedp.Action {
		return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"},
		})
	}
	wide := func(name string) {
		t.Helper()
		for _, width := range []int64{320, 360, 768, 1280} {
			page.run(chromedp.EmulateViewport(width, 800))
			page.keep(fmt.Sprintf("%s-%d", name, width))
		}
	}
	page.run(theme("light"))
	wide("login")

	page.logIn("alice")
	page.click("Add a pretend phone")
	page.until(`document.getElementById("devices").children.length === 2`)
	page.click("Send")
	page.click("Refresh now")
	page.sees("token 0 is used up")
	wide("home")
	page.run(theme("dark"))
	page.keep("home-dark")
	page.click("Replay a stolen token")
	page.sees("Your session is over")
	page.sees("Theft:")
	page.keep("theft-dark")
	page.run(theme("light"))
	wide("theft")

	page.logIn("alice")
	page.click("Send")
	page.sees("said alice")
	page.until(`[...document.querySelectorAll("#log li")].length === 8`)
	page.run(chromedp.EmulateViewport(1200, 800))
	page.keep("webapp") // the README's
}

// keep requires that the page is no wider than its screen, and keeps a picture of it if somebody wants
// to look.
func (tab *tab) keep(name string) {
	tab.t.Helper()
	v := tab.eval(`return document.documentElement.scrollWidth - document.documentElement.clientWidth`)
	if v != 0.0 {
		tab.t.Errorf("%s: the page is %v pixels too wide", name, v)
	}
	if *screenshots == "" {
		return
	}
	var png []byte
	tab.run(chromedp.FullScreenshot(&png, 100))
	err := os.MkdirAll(*screenshots, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o644)
	}
	if err != nil {
		tab.t.Fatal(err)
	}
}

//go:build browser

package browser

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// Widths in CSS pixels: WCAG 2.2's smallest (1.4.10), and a desktop's.
func TestPage_fitsItsScreen(t *testing.T) {
	t.Parallel()
	s := startServer(t, false)
	b := newBrowser(t)
	page := b.open(s.url)
	page.until(`!document.getElementById("login").hidden`)
	keep := func(name string) {
		t.Helper()
		if v := page.eval(`return document.documentElement.scrollWidth - document.documentElement.clientWidth`); v != 0.0 {
			t.Errorf("%s: the page is %v pixels too wide", name, v)
		}
		if *screenshots == "" {
			return
		}
		var png []byte
		page.run(chromedp.FullScreenshot(&png, 100))
		err := os.MkdirAll(*screenshots, 0o755)
		if err == nil {
			err = os.WriteFile(filepath.Join(*screenshots, name+".png"), png, 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	theme := func(name string) chromedp.Action {
		return emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{
			{Name: "prefers-color-scheme", Value: name}, {Name: "prefers-reduced-motion", Value: "reduce"},
		})
	}
	page.run(chromedp.EmulateViewport(1200, 800), theme("light"))
	keep("login-wide")
	page.run(chromedp.EmulateViewport(320, 640))
	keep("login-narrow")

	page.logIn("alice")
	page.click("Add a pretend phone")
	page.until(`document.getElementById("devices").children.length === 2`)
	page.click("Send")
	page.click("Refresh now")
	page.sees("token 0 is used up")
	keep("home-narrow")
	page.run(chromedp.EmulateViewport(1200, 800))
	keep("home-wide")
	page.run(theme("dark"))
	keep("home-dark")
	page.click("Replay a stolen token")
	page.sees("Your session is over")
	page.sees("Theft:")
	keep("theft-dark")
	page.run(theme("light"))
	keep("theft")

	page.logIn("alice")
	page.click("Send")
	page.sees("said alice")
	page.until(`[...document.querySelectorAll("#log li")].length === 8`)
	keep("webapp") // the README's
}

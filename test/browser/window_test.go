//go:build browser

package browser

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// A window is a page of Chromium or of Firefox: what a test needs that is for both.
type window interface {
	// visit opens another page in it, and waits until that is loaded.
	visit(url string)

	// tryJS evaluates an expression, and waits for it if it is a promise. The value comes as JSON.
	tryJS(expression string) (any, error)

	// until waits until an expression is true.
	until(expression string)

	// sees waits until the page has the text.
	sees(text string)
}

var (
	_ window = (*tab)(nil)
	_ window = (*firefoxTab)(nil)
)

// inBothBrowsers runs a test in Chromium and in Firefox. open opens a page in a new window; those
// of a test share their cookies.
func inBothBrowsers(t *testing.T, test func(t *testing.T, open func(url string) window)) {
	t.Run("Chromium", func(t *testing.T) {
		t.Parallel()
		b := newBrowser(t)
		test(t, func(url string) window { return b.open(url) })
	})
	t.Run("Firefox", func(t *testing.T) {
		t.Parallel()
		test(t, newFirefox(t).open)
	})
}

// until waits until an expression is true on a page.
func until(t *testing.T, w window, expression string) {
	t.Helper()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(time.Minute)
	for {
		v, err := w.tryJS(expression)
		if err == nil && v == true {
			return
		}
		select {
		case <-tick.C:
		case <-deadline:
			text, _ := w.tryJS(`document.body.innerText`)
			t.Fatalf("waited a minute for %s, which is %v (%v)\non a page that says:\n%v",
				expression, v, err, text)
		}
	}
}

// seeing is an expression that is true if the page has the text.
func seeing(text string) string {
	return fmt.Sprintf(`document.body.innerText.includes(%q)`, text)
}

// isOfTheNetwork reports whether a browser tells of a request that it has refused, or of a cookie.
// The page itself notices, as with any failure of the network.
func isOfTheNetwork(text string) bool {
	for _, part := range []string{
		"blocked by CORS policy", "Cross-Origin Request Blocked", "Cookie \u201c",
	} {
		if strings.Contains(text, part) {
			return true
		}
	}
	return false
}

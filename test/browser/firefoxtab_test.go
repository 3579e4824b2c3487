//go:build browser

package browser

import (
	"encoding/json"
	"errors"
	"testing"
)

// A foxBrowser is a Firefox with its own cookies.
type foxBrowser struct {
	t           *testing.T
	f           *firefox
	userContext string
}

// newFirefox starts Firefox if no test has yet.
func newFirefox(t *testing.T) *foxBrowser {
	t.Helper()
	f, err := startFirefoxOnce()
	if err != nil {
		t.Fatalf("starting Firefox: %v", err)
	}
	b := &foxBrowser{t: t, f: f}
	b.userContext = b.get("browser.createUserContext", map[string]any{}, "userContext")
	t.Cleanup(func() {
		params := map[string]any{"userContext": b.userContext}
		if _, err := f.call("browser.removeUserContext", params); err != nil {
			t.Error(err)
		}
	})
	return b
}

// get calls a command, and returns a member of its result.
func (b *foxBrowser) get(method string, params map[string]any, member string) string {
	b.t.Helper()
	result, err := b.f.call(method, params)
	var members map[string]any
	if err == nil {
		err = json.Unmarshal(result, &members)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	text, _ := members[member].(string)
	return text
}

// A firefoxTab is one of its pages.
type firefoxTab struct {
	t        *testing.T
	f        *firefox
	id       string
	problems []string // under the lock of f
}

// open opens a page in a new tab. Its scripts may not fail.
func (b *foxBrowser) open(url string) window {
	b.t.Helper()
	tab := &firefoxTab{t: b.t, f: b.f}
	params := map[string]any{"type": "window", "userContext": b.userContext}
	tab.id = b.get("browsingContext.create", params, "context")
	b.f.mu.Lock()
	b.f.tabs[tab.id] = tab
	b.f.mu.Unlock()
	b.t.Cleanup(func() {
		b.f.mu.Lock()
		defer b.f.mu.Unlock()
		delete(b.f.tabs, tab.id)
		for _, problem := range tab.problems {
			b.t.Errorf("on %s: %s", url, problem)
		}
	})
	tab.visit(url)
	return tab
}

func (tab *firefoxTab) visit(url string) {
	tab.t.Helper()
	params := map[string]any{"context": tab.id, "url": url, "wait": "complete"}
	if _, err := tab.f.call("browsingContext.navigate", params); err != nil {
		tab.t.Fatalf("opening %s: %v", url, err)
	}
}

func (tab *firefoxTab) tryJS(expression string) (any, error) {
	result, err := tab.f.call("script.evaluate", map[string]any{
		"expression":   "(async () => JSON.stringify(await (" + expression + ")))()",
		"target":       map[string]any{"context": tab.id},
		"awaitPromise": true,
	})
	if err != nil {
		return nil, err
	}
	var answer struct {
		Type   string
		Result struct {
			Type  string
			Value any
		}
		ExceptionDetails struct{ Text string }
	}
	if err := json.Unmarshal(result, &answer); err != nil {
		return nil, err
	}
	if answer.Type == "exception" {
		return nil, errors.New(answer.ExceptionDetails.Text)
	}
	text, ok := answer.Result.Value.(string)
	if !ok { // undefined
		return nil, nil
	}
	var v any
	err = json.Unmarshal([]byte(text), &v)
	return v, err
}

func (tab *firefoxTab) until(expression string) {
	tab.t.Helper()
	until(tab.t, tab, expression)
}

func (tab *firefoxTab) sees(text string) {
	tab.t.Helper()
	until(tab.t, tab, seeing(text))
}

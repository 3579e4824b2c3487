//go:build browser

package browser

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	cdruntime "github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/cdproto/storage"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// A browser is one with its own cookies.
type browser struct {
	t   *testing.T
	in  *chrome
	ctx context.Context
	id  cdp.BrowserContextID // "" for the profile of the process
}

// ofProcess returns the browser of a process that no other test uses.
func ofProcess(t *testing.T, c *chrome) *browser {
	t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, 3*time.Minute)
	t.Cleanup(cancel)
	return &browser{t: t, in: c, ctx: ctx}
}

func newBrowser(t *testing.T) *browser {
	t.Helper()
	b := ofProcess(t, shared)
	var err error
	if b.id, err = target.CreateBrowserContext().Do(b.executor()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := target.DisposeBrowserContext(b.id).Do(b.executor()); err != nil {
			t.Error(err)
		}
	})
	return b
}

// executor is for commands to the browser as a whole.
func (b *browser) executor() context.Context {
	return cdp.WithExecutor(b.ctx, chromedp.FromContext(b.in.ctx).Browser)
}

// A tab is one of a browser's pages.
type tab struct {
	t   *testing.T
	in  *chrome
	ctx context.Context

	mu       sync.Mutex
	problems []string // what the page has thrown, and what the security policy has refused
}

// open opens a page in a new tab. Its scripts may not fail.
func (b *browser) open(url string) *tab {
	b.t.Helper()
	// In a window of its own, for the first one of a browser needs that, and pages behind others
	// are throttled.
	create := target.CreateTarget("about:blank").WithNewWindow(true)
	if b.id != "" {
		create = create.WithBrowserContextID(b.id)
	}
	id, err := create.Do(b.executor())
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := chromedp.NewContext(b.ctx, chromedp.WithTargetID(id))
	b.t.Cleanup(cancel)
	tab := &tab{t: b.t, in: b.in, ctx: ctx}
	chromedp.ListenTarget(ctx, tab.listen)
	if err := chromedp.Run(ctx, log.Enable(), chromedp.Navigate(url)); err != nil {
		b.t.Fatalf("opening %s: %v", url, err)
	}
	b.t.Cleanup(func() {
		tab.mu.Lock()
		defer tab.mu.Unlock()
		for _, problem := range tab.problems {
			b.t.Errorf("on %s: %s", url, problem)
		}
	})
	return tab
}

// openPatient opens a page whose script waits a minute for an answer, not four seconds. So a test
// can hold an answer back and count the requests, and needs no machine that is quick.
func (b *browser) openPatient(url string) *tab {
	b.t.Helper()
	tab := b.open("about:blank")
	tab.before(`{ const set = setTimeout;
		globalThis.setTimeout = (f, ms, ...args) => set(f, ms === 4000 ? 60000 : ms, ...args); }`)
	tab.run(chromedp.Navigate(url))
	return tab
}

func (tab *tab) listen(event any) {
	problem := ""
	switch e := event.(type) {
	case *cdruntime.EventExceptionThrown:
		problem = e.ExceptionDetails.Error()
	case *log.EventEntryAdded:
		if e.Entry.Level == log.LevelError && e.Entry.Source != log.SourceNetwork &&
			!isOfTheNetwork(e.Entry.Text) {
			problem = string(e.Entry.Source) + ": " + e.Entry.Text
		}
	}
	if problem != "" {
		tab.mu.Lock()
		defer tab.mu.Unlock()
		tab.problems = append(tab.problems, problem)
	}
}

func (tab *tab) run(actions ...chromedp.Action) {
	tab.t.Helper()
	if err := chromedp.Run(tab.ctx, actions...); err != nil {
		tab.t.Fatal(err)
	}
}

// close closes the tab, as its user would.
func (tab *tab) close() {
	tab.t.Helper()
	ctx, cancel := context.WithTimeout(tab.in.ctx, time.Minute) // chromedp itself gives a tab a second
	defer cancel()
	id := chromedp.FromContext(tab.ctx).Target.TargetID
	browser := chromedp.FromContext(tab.in.ctx).Browser
	if err := target.CloseTarget(id).Do(cdp.WithExecutor(ctx, browser)); err != nil {
		tab.t.Fatal(err)
	}
}

// before has a script run on each page before its own.
func (tab *tab) before(script string) {
	tab.t.Helper()
	tab.run(chromedp.ActionFunc(func(ctx context.Context) error {
		_, err := page.AddScriptToEvaluateOnNewDocument(script).Do(ctx)
		return err
	}))
}

// eval runs the body of an async function, in which session is the page's and UnavailableError its
// error, and returns what that returns.
func (tab *tab) eval(body string) any {
	tab.t.Helper()
	v, err := tab.try(body)
	if err != nil {
		tab.t.Fatalf("%s: %v", body, err)
	}
	return v
}

func (tab *tab) try(body string) (any, error) {
	return tab.tryJS(`(async () => { const {session, UnavailableError} = await import("/auth/session.js"); ` + body + ` })()`)
}

func (tab *tab) tryJS(expression string) (any, error) {
	var raw []byte
	err := chromedp.Run(tab.ctx, chromedp.Evaluate(expression, &raw, func(p *cdruntime.EvaluateParams) *cdruntime.EvaluateParams {
		return p.WithAwaitPromise(true)
	}))
	if err != nil || len(raw) == 0 || string(raw) == "undefined" {
		return nil, err
	}
	var v any
	err = json.Unmarshal(raw, &v)
	return v, err
}

func (tab *tab) visit(url string) {
	tab.t.Helper()
	tab.run(chromedp.Navigate(url))
}

func (tab *tab) until(expression string) {
	tab.t.Helper()
	until(tab.t, tab, expression)
}

func (tab *tab) sees(text string) {
	tab.t.Helper()
	until(tab.t, tab, seeing(text))
}

// click clicks the visible button of that name, when it can be.
func (tab *tab) click(name string) {
	tab.t.Helper()
	button := fmt.Sprintf(`[...document.querySelectorAll("button")].find((b) => b.checkVisibility() && !b.disabled && (b.ariaLabel ?? b.textContent).includes(%q))`, name)
	tab.until(button + ` !== undefined`)
	if _, err := tab.tryJS(button + `.click()`); err != nil {
		tab.t.Fatalf("clicking %s: %v", name, err)
	}
}

// logIn logs in as one of the users that the page names, and waits until the page is ready.
func (tab *tab) logIn(name string) {
	tab.t.Helper()
	tab.click("Log in as " + name)
	tab.until(`!document.getElementById("home").hidden && document.getElementById("devices").children.length > 0`)
}

// cookies returns the browser's by name.
func (b *browser) cookies() map[string]*network.Cookie {
	b.t.Helper()
	list, err := storage.GetCookies().WithBrowserContextID(b.id).Do(b.executor())
	if err != nil {
		b.t.Fatal(err)
	}
	cookies := map[string]*network.Cookie{}
	for _, c := range list {
		if cookies[c.Name] != nil {
			b.t.Fatalf("two cookies named %s", c.Name)
		}
		cookies[c.Name] = c
	}
	return cookies
}

// put gives the browser a cookie that is like another but for its value.
func (b *browser) put(c *network.Cookie, value string) {
	b.t.Helper()
	expires := cdp.TimeSinceEpoch(time.Unix(int64(c.Expires), 0))
	err := storage.SetCookies([]*network.CookieParam{{
		Name: c.Name, Value: value, Domain: c.Domain, Path: c.Path, Secure: c.Secure, HTTPOnly: c.HTTPOnly, SameSite: c.SameSite, Expires: &expires,
	}}).WithBrowserContextID(b.id).Do(b.executor())
	if err != nil {
		b.t.Fatal(err)
	}
}

// loseAccess makes the access token what it is when it has expired, without waiting for that: no
// good any more, but it still names its session. The script does not know.
func (b *browser) loseAccess() {
	b.t.Helper()
	access, _ := b.tokens()
	b.put(access, access.Value[:strings.LastIndex(access.Value, ".")+1]+"expired")
}

// tokens returns the two cookies.
func (b *browser) tokens() (access, refresh *network.Cookie) {
	b.t.Helper()
	for name, c := range b.cookies() {
		switch {
		case strings.HasSuffix(name, "access"):
			access = c
		case strings.HasSuffix(name, "refresh"):
			refresh = c
		}
	}
	if access == nil || refresh == nil {
		b.t.Fatal("the browser does not have both cookies")
	}
	return access, refresh
}

// forget deletes a cookie of localhost.
func (b *browser) forget(name string) {
	b.t.Helper()
	expires := cdp.TimeSinceEpoch(time.Unix(1, 0))
	err := storage.SetCookies([]*network.CookieParam{{
		Name: name, Value: "", Domain: "localhost", Path: "/", Expires: &expires,
	}}).WithBrowserContextID(b.id).Do(b.executor())
	if err != nil {
		b.t.Fatal(err)
	}
}

// expire deletes a cookie of a lab, as its Max-Age would.
func (b *browser) expire(l *lab, name string) { b.t.Helper(); b.expireAt(l.url, name) }

func (b *browser) expireAt(url, name string) {
	b.t.Helper()
	expires := cdp.TimeSinceEpoch(time.Unix(1, 0))
	err := storage.SetCookies([]*network.CookieParam{{
		Name: name, Value: "", URL: url + "/", Path: "/", Secure: true, Expires: &expires,
	}}).WithBrowserContextID(b.id).Do(b.executor())
	if err != nil {
		b.t.Fatal(err)
	}
}

//go:build browser

package browser

import (
	"testing"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// What every page does, in both browsers: a login, one refresh for two tabs, a logout in one of
// them. No script finds a token.
func TestSession_inBothBrowsers(t *testing.T) {
	t.Parallel()
	inBothBrowsers(t, func(t *testing.T, open func(string) window) {
		h := newHost(t, sessionhttp.Config{}, tokensession.Config{})
		h.page("/page", `
			globalThis.session = session;
			globalThis.ends = [];
			session.addEventListener("end", (e) => ends.push(e.detail.reason));
			await session.info();
			document.querySelector("p").textContent = "ready";`)
		one := open(h.url + "/page")
		one.sees("ready")
		subject := `session.login(() => fetch("/login", { method: "POST",
			body: new URLSearchParams({ name: "alice" }) }))
			.then(() => session.info()).then((info) => info.subject)`
		if v, err := one.tryJS(subject); v != "alice" {
			t.Fatalf("after the login, %v is logged in (%v)", v, err)
		}
		two := open(h.url + "/page")
		two.sees("ready")
		if v, err := one.tryJS(`document.cookie`); v != "" {
			t.Errorf("a script finds %v (%v)", v, err)
		}
		if _, err := two.tryJS(`session.refresh()`); err != nil {
			t.Error(err)
		}
		if n := h.count("POST /auth/token"); n != 1 {
			t.Errorf("%d refreshes, want 1", n)
		}
		if _, err := two.tryJS(`session.logout()`); err != nil {
			t.Error(err)
		}
		one.until(`ends.join() === "logout"`)
		two.until(`ends.join() === "logout"`)
	})
}

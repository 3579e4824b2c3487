//go:build browser

package browser

import (
	"net/http"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// Alice is logged in in two browsers. From one she signs out the other and then herself, and before
// that she changes what needs a fresh proof of who she is.
func TestDevices_areListedAndSignedOut(t *testing.T) {
	t.Parallel()
	h := newHost(t, sessionhttp.Config{Devices: true}, tokensession.Config{})
	h.mux.HandleFunc("POST /auth/step-up", func(w http.ResponseWriter, r *http.Request) {
		if err := h.handlers.Reauthenticated(w, r, tokensession.WithAuthMethods("pwd", "otp")); err != nil {
			h.handlers.Refuse(w, r, err)
		}
	})
	guarded := h.handlers.Require(sessionhttp.AuthMethods("otp"), sessionhttp.MaxAuthAge(5*time.Minute))
	h.mux.Handle("POST /email", guarded(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	h.page("/{$}", "")
	b, phone := newBrowser(t), newBrowser(t).open(h.url+"/")
	page, other := b.open(h.url+"/"), b.open(h.url+"/")
	phone.eval(logInAs("alice"))
	page.eval(logInAs("alice"))
	for _, tab := range []*tab{page, other, phone} {
		tab.eval(`
			globalThis.ended = [];
			session.addEventListener("end", (e) => ended.push(e.detail.reason));
			await session.info();`)
	}

	got := page.eval(`
		globalThis.asked = [];
		session.addEventListener("stepup", (e) => {
			asked.push(e.detail.max_age + " " + e.detail.acr_values);
			e.detail.waitUntil(session.stepUp("/auth/step-up", { method: "POST" }));
		});
		const response = await session.fetch("/email", { method: "POST", body: "alice@example.com" });
		return response.status + " " + asked;`)
	if got != "200 300 otp" {
		t.Errorf("the change that needs a step-up comes to %v", got)
	}
	if n := h.count("POST /auth/token"); n != 0 {
		t.Errorf("there were %d refreshes, and the step-up brought what was needed", n)
	}
	if got := other.eval(`return (await session.fetch("/email", { method: "POST" })).status`); got != 200.0 {
		t.Errorf("in the other tab the change comes to %v", got)
	}

	got = page.eval(`
		const devices = await session.devices();
		const other = devices.find((device) => !device.current);
		const signedOut = await session.revoke(other.id);
		const left = (await session.devices()).length;
		const fresh = Date.now() - other.created_at < 60000;
		return [devices.length, fresh, signedOut, left, await session.revokeOthers()].join()`)
	if got != "2,true,true,1,0" {
		t.Errorf("the list of devices and signing out comes to %v", got)
	}
	if got := phone.eval(`return String(await session.info()) + ended`); got != "nullended" {
		t.Errorf("the phone is told %v", got)
	}
	got = page.eval(`
		const { session_id } = await session.info();
		return (await session.revoke(session_id)) + String(await session.devices()) + ended`)
	if got != "truenulllogout" {
		t.Errorf("signing out the current device comes to %v", got)
	}
	other.until(`ended.join() === "logout"`)
}

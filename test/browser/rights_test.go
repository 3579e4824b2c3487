//go:build browser

package browser

import "testing"

// A visitor steps up, gets other rights without a login, and acts as somebody else.
func TestPage_changesWhatASessionMay(t *testing.T) {
	t.Parallel()
	s := startServer(t, false)
	page := newBrowser(t).open(s.url)
	page.until(`!document.getElementById("login").hidden`)
	page.logIn("alice")
	page.sees("You may: notes.")
	page.click("Change alice’s rights")
	page.sees("You may: notes admin.")
	page.click("Act as bob")
	page.sees("You act as bob, who may: notes.")
	page.click("Come back")
	page.until(`document.getElementById("rights").textContent === "You may: notes admin."`)
	page.click("Change it")
	page.sees("The e-mail address has been changed.")
	if v := page.eval(`
		const response = await fetch("/auth/step-up", { method: "POST", body: new URLSearchParams({ password: "correct horse battery" }) });
		return response.status`); v != 200.0 {
		t.Errorf("the step-up was answered with %v", v)
	}
	page.sees("alice gave the password once more.")
	page.click("Send")
	page.sees("said alice")
}

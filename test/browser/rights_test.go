//go:build browser

package browser

import (
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

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

// A change needs the password once more, and the visitor has no mouse. The dialog has the focus, can be
// given up, says what is wrong, and gives the focus back. What the page says is in view on a phone.
func TestPage_asksForThePasswordOnceMore(t *testing.T) {
	t.Parallel()
	s := startServer(t, false, "-proof", "8s")
	page := newBrowser(t).open(s.url)
	page.until(`!document.getElementById("login").hidden`)
	page.run(chromedp.EmulateViewport(360, 640))
	page.logIn("alice")
	const (
		dialog  = `document.getElementById("step-up").open`
		button  = `document.querySelector("#email-form button")`
		focused = `document.activeElement === ` + button
		says    = `document.getElementById("notice").textContent`
		inView  = `(({ top, bottom }) => top >= 0 && bottom <= innerHeight)(
			document.getElementById("notice").getBoundingClientRect())`
	)
	press := func(keys ...string) {
		t.Helper()
		for _, key := range keys {
			page.run(chromedp.KeyEvent(key))
		}
	}
	// At first the password of the login is recent enough. Afterwards the dialog opens at once.
	change := func() {
		t.Helper()
		for page.eval(`return `+dialog) != true {
			page.eval(button + `.focus()`)
			press(kb.Enter)
			page.until(dialog + ` || !` + button + `.disabled`)
		}
	}
	change()
	page.until(`document.activeElement === document.querySelector("#step-up-form input")`)
	press(kb.Escape)
	page.until(says + ` === "The e-mail address has not been changed."`)
	page.until(focused)
	page.until(inView)

	change()
	press("wrong", kb.Enter)
	page.until(`document.getElementById("step-up-problem").textContent.includes("is wrong")`)
	page.keep("step-up-360")
	press("correct horse battery", kb.Enter) // the wrong one is selected
	page.until(`!` + dialog)
	page.until(says + `.includes("has been changed")`)
	page.until(focused)
	page.until(inView)
	page.sees("alice gave the password once more.")

	// A button does not lose the focus by being pressed.
	page.eval(`document.getElementById("refresh").focus()`)
	press(kb.Enter)
	page.sees("token 1 is used up")
	page.until(`document.activeElement.id === "refresh"`)
}

//go:build browser

package browser

import "testing"

// Alice has the web application open in two browsers. In one of them it has connections that stay
// open. She signs that one out in the other, and the server ends both: the page shows the login, and
// nobody has touched it.
func TestLive_endsWhenTheDeviceIsSignedOutElsewhere(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		s := startServer(t, secure)
		laptop, phone := newBrowser(t).open(s.url), newBrowser(t).open(s.url)
		for _, page := range []*tab{laptop, phone} {
			page.until(`!document.getElementById("login").hidden`)
			page.logIn("alice")
			page.click("Open both")
			page.until(bothOpen)
		}
		laptop.until(`document.getElementById("devices").children.length === 2`)
		laptop.click("Say")
		phone.until(`document.getElementById("said").textContent === "Hello from here"`)

		// The page closes its own connections when it hears of the end by one of them. So these are
		// what shows that the server ends each.
		phone.eval(`
			globalThis.ends = [];
			const stream = new EventSource("/api/stream");
			stream.addEventListener("over", ({ data }) => { stream.close(); ends.push("stream " + data); });
			const socket = new WebSocket(location.origin.replace("http", "ws") + "/api/socket");
			socket.addEventListener("close", ({ code, reason }) => ends.push("socket " + code + " " + reason));
			await Promise.all([stream, socket].map((each) =>
				new Promise((resolve) => each.addEventListener("open", resolve))));`)
		if got := laptop.eval(`
			const other = [...document.querySelectorAll("#devices li")].find((li) => !li.textContent.includes("this one"));
			other.querySelector("button").click();`); got != nil {
			t.Fatal(got)
		}
		phone.until(`ends.sort().join() === "socket 4401 revoked,stream revoked"`)
		phone.until(`!document.getElementById("login").hidden`)
		phone.sees("Your session is over.")
		if got := laptop.eval(`return ` + bothOpen); got != true {
			t.Error("the other device's connections have ended, too")
		}
	}
}

// Connections that end for another reason are opened again: after a change of the user's rights with
// a new access token, and after a crash of the server with the one that there is.
func TestLive_isThereAgainWhileTheSessionLives(t *testing.T) {
	t.Parallel()
	s := startServer(t, false)
	page := newBrowser(t).open(s.url)
	page.until(`!document.getElementById("login").hidden`)
	page.logIn("alice")
	page.click("Open both")
	page.until(bothOpen)
	page.eval(`
		globalThis.states = [];
		const note = () => states.push(document.getElementById("socket-state").textContent);
		new MutationObserver(note).observe(document.getElementById("socket-state"), { childList: true });`)
	page.click("Change alice’s rights")
	page.until(`states.includes("outdated") && states.at(-1) === "open" && ` + bothOpen)
	page.sees("You may: notes admin.")

	page.eval(`states.length = 0`)
	s.kill()
	page.until(`states.includes("broken")`)
	s.restart()
	page.until(`states.at(-1) === "open" && ` + bothOpen)
	page.click("Say")
	page.until(`document.getElementById("said").textContent === "Hello from here"`)
}

const bothOpen = `["stream", "socket"].every((name) => document.getElementById(name + "-state").textContent === "open")`

package sessionhttp

import (
	_ "embed"
	"net/http"
)

//go:embed session.js
var script []byte

// Script serves the browser's side of cookies as an ES module, which must be in the same folder as
// the other endpoints:
//
//	import { session } from "/auth/session.js";
//
//	session.addEventListener("end", (e) => showLogin(e.detail.reason));
//	const who = await session.info();                // null if nobody is logged in
//	const notes = await session.fetch("/api/notes"); // as fetch, but that it refreshes
//
// Its session.fetch refreshes when an answer is 401, or would be, and sends the request again, at
// most twice. All tabs refresh together. Whatever goes wrong with a refresh is tried again for some
// seconds and then reported, with everybody as logged in as before; only invalid_grant, or a
// logout, raises the event end, in every tab. There are the events update, after a login or a
// refresh, and warning, before the session's end, and session.login, refresh and logout. The
// comment at its beginning says the rest.
//
// It needs a Content-Security-Policy of script-src 'self' and connect-src 'self', and no more.
func (h *Handlers) Script(w http.ResponseWriter, r *http.Request) {
	if !h.onlyGET(w, r) {
		return
	}
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(script)
}

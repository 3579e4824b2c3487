package sessionhttp

import (
	"embed"
	"io/fs"
	"net/http"
)

//go:embed session.js session.d.ts
var scriptFiles embed.FS

// ScriptFiles has the files session.js, which [Handlers.Script] serves, and session.d.ts, its types
// for TypeScript. A build that needs them on disk has the command sessionjs write them:
//
//	go run github.com/seed67bc9b7f/tokensession/sessionhttp/sessionjs -prefix /auth web/src
func ScriptFiles() fs.FS { return scriptFiles }

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
// refresh, and warning, before the session's end, and session.login, refresh and logout. A 401 of
// [MaxAuthAge] or [AuthMethods] raises the event stepup, and session.stepUp goes on after the
// page's dialog. With Config.Devices there are session.devices, revoke and revokeOthers. The
// comment at its beginning says the rest.
//
// It needs a Content-Security-Policy of script-src 'self' and connect-src 'self', and no more.
func (h *Handlers) Script(w http.ResponseWriter, r *http.Request) {
	h.serveFile(w, r, "session.js", "text/javascript; charset=utf-8")
}

// types serves the types of the module. Editors show them, and some tools load them from there.
func (h *Handlers) types(w http.ResponseWriter, r *http.Request) {
	h.serveFile(w, r, "session.d.ts", "text/plain; charset=utf-8")
}

func (h *Handlers) serveFile(w http.ResponseWriter, r *http.Request, name, contentType string) {
	if !h.onlyGET(w, r) {
		return
	}
	content, err := scriptFiles.ReadFile(name)
	if err != nil {
		panic(err) // it is embedded
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(content)
}

package sessionhttp

import (
	_ "embed"
	"net/http"
)

//go:embed session.js
var script []byte

// Script serves the browser's side of cookies as an ES module: import {session} from "/auth/session.js". It must be in
// the same folder as the other endpoints.
func (h *Handlers) Script(w http.ResponseWriter, r *http.Request) {
	if !h.onlyGET(w, r) {
		return
	}
	w.Header().Set("Content-Type", "text/javascript; charset=utf-8")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-cache")
	_, _ = w.Write(script)
}

package sessionhttp

import "net/http"

// JWKS publishes the keys that verify access tokens (RFC 7517): GET. Caches may keep it for 5
// minutes, so rotate to a key that begins to sign later than that.
func (h *Handlers) JWKS(w http.ResponseWriter, r *http.Request) {
	if !h.onlyGET(w, r) {
		return
	}
	w.Header().Set("Content-Type", "application/jwk-set+json")
	w.Header().Set("Cache-Control", "public, max-age=300")
	_, _ = w.Write(h.m.JWKS())
}

// onlyGET refuses other methods, and reports whether the request may go on.
func (h *Handlers) onlyGET(w http.ResponseWriter, r *http.Request) bool {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return true
	}
	w.Header().Set("Allow", "GET, HEAD")
	h.refuse(w, r, notAllowed, ErrBadRequest)
	return false
}

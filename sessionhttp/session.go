package sessionhttp

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/seed67bc9b7f/tokensession"
)

// Session tells a client of its session: subject, session_id, scope, and in seconds from now
// expires_in of the access token, refresh_expires_in and, if it has one, session_ends_in. It is a
// GET that the access token lets in as for [Handlers.Require], and reads the store once. A browser
// that has none of our cookies gets 200 and null: nobody is logged in. It is 503 instead of 401
// where a browser that has bound its session to the device says that it could not refresh.
//
// The times are those of the access token that is presented. So the answer does not change when the
// session is refreshed, and somebody who has a copy of the token does not learn when that happens.
func (h *Handlers) Session(w http.ResponseWriter, r *http.Request) {
	neverStored(w)
	if !h.onlyGET(w, r) {
		return
	}
	access, err := h.admit(w, r, requirement{})
	if errors.Is(err, errNoToken) && !h.mayRefresh(r) {
		if err := crossSite(r); err != nil && h.ours(r) {
			h.refuse(w, r, refreshAnswer(err), err)
			return
		}
		writeJSON(w, http.StatusOK, nil)
		return
	}
	if err != nil {
		writeError(w, h.challenge(w, r, h.unlessSkipped(r, err)))
		return
	}
	session, err := h.m.Session(r.Context(), access.SessionID)
	switch {
	case errors.Is(err, tokensession.ErrNotFound),
		err == nil && !(session.RevokedAt.IsZero() && h.m.Now().Before(session.ExpiresAt)):
		err = fmt.Errorf("%w: session %s is over", tokensession.ErrRevoked, access.SessionID)
		writeError(w, h.challenge(w, r, err))
	case err != nil:
		writeError(w, h.challenge(w, r, err))
	default:
		session.ExpiresAt = access.IssuedAt.Add(session.IdleTTL)
		if end := session.MaxExpiresAt; !end.IsZero() && end.Before(session.ExpiresAt) {
			session.ExpiresAt = end
		}
		writeJSON(w, http.StatusOK, h.describe(r, session, access.ExpiresAt, access.Scope))
	}
}

// mayRefresh reports whether a request brings a refresh cookie, or what could be one.
func (h *Handlers) mayRefresh(r *http.Request) bool {
	cookie, err := h.refresh.read(r)
	return err != nil || cookie != ""
}

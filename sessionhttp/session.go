package sessionhttp

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/seed67bc9b7f/tokensession"
)

// Session tells a client of its session: subject, session_id, scope, and in seconds from now
// expires_in of the access token, refresh_expires_in and, if it has one, session_ends_in. It is a
// GET that the access token lets in as for [Handlers.Require], and reads the store once.
// [Handlers.Token] answers the same to a refresh with cookies.
func (h *Handlers) Session(w http.ResponseWriter, r *http.Request) {
	neverStored(w)
	if !h.onlyGET(w, r) {
		return
	}
	access, err := h.admit(r, requirement{})
	if err != nil {
		h.refuseAccess(w, r, requirement{}, err)
		return
	}
	session, err := h.m.Session(r.Context(), access.SessionID)
	switch {
	case errors.Is(err, tokensession.ErrNotFound),
		err == nil && !(session.RevokedAt.IsZero() && h.m.Now().Before(session.ExpiresAt)):
		err = fmt.Errorf("%w: session %s is over", tokensession.ErrRevoked, access.SessionID)
		h.refuseAccess(w, r, requirement{}, err)
	case err != nil:
		h.refuseAccess(w, r, requirement{}, err)
	default:
		writeJSON(w, http.StatusOK, h.describe(session, access.ExpiresAt, access.Scope))
	}
}

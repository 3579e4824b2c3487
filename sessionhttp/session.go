package sessionhttp

import (
	"fmt"
	"net/http"
	"slices"

	"github.com/seed67bc9b7f/tokensession"
)

// Session tells a client of its session: subject, session_id, scope, and in seconds from now expires_in of the access
// token, refresh_expires_in and, if it has one, session_ends_in. It is a GET that the access token lets in as for
// [Handlers.Require], and reads the store once. [Handlers.Token] answers the same to a refresh with cookies.
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
	sessions, err := h.m.Sessions(r.Context(), access.Subject)
	i := slices.IndexFunc(sessions, func(s tokensession.Session) bool { return s.ID == access.SessionID })
	switch {
	case err != nil:
		h.refuseAccess(w, r, requirement{}, err)
	case i < 0:
		h.refuseAccess(w, r, requirement{}, fmt.Errorf("%w: session %s is over", tokensession.ErrRevoked, access.SessionID))
	default:
		writeJSON(w, http.StatusOK, h.describe(sessions[i], access.ExpiresAt, access.Scope))
	}
}

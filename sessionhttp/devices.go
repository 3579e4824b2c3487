package sessionhttp

import (
	"fmt"
	"net/http"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// lastSeenAge is how old the time must be at which a session was last refreshed before its user is
// told. Somebody who holds a copy of a session's tokens can use the one consumed last for a moment
// after each refresh, and must not be told when that moment is.
const lastSeenAge = time.Hour

// A device is one of the user's sessions, as a list of them shows it.
type device struct {
	ID         string            `json:"id"`
	Current    bool              `json:"current"` // it is the one that asks
	CreatedAt  time.Time         `json:"created_at"`
	LastSeen   time.Time         `json:"last_seen,omitzero"` // only of others, and an hour ago or more
	Actor      string            `json:"actor,omitempty"`
	Attributes map[string]string `json:"attributes,omitempty"`
}

// listDevices tells a user of their sessions, newest login first. It is a GET that the access token
// lets in as for [Handlers.Require], and reads the store once.
func (h *Handlers) listDevices(w http.ResponseWriter, r *http.Request) {
	if !h.onlyGET(w, r) {
		return
	}
	access, err := h.admit(w, r, requirement{})
	var sessions []tokensession.Session
	if err == nil {
		sessions, err = h.m.Sessions(r.Context(), access.Subject)
	}
	if err != nil {
		h.refuseAccess(w, r, err)
		return
	}
	devices := make([]device, 0, len(sessions))
	now := h.m.Now()
	for _, s := range sessions {
		d := device{
			ID: s.ID, Current: s.ID == access.SessionID, CreatedAt: s.CreatedAt,
			Actor: s.Actor, Attributes: s.Attributes,
		}
		if !d.Current && now.Sub(s.RefreshedAt) >= lastSeenAge {
			d.LastSeen = s.RefreshedAt
		}
		devices = append(devices, d)
	}
	neverStored(w)
	writeJSON(w, http.StatusOK, struct {
		Sessions []device `json:"sessions"`
	}{devices})
}

// endDevice ends one of the user's sessions: a DELETE. The user's own current one is a logout.
func (h *Handlers) endDevice(w http.ResponseWriter, r *http.Request) {
	access, ok := h.admitMethod(w, r, http.MethodDelete)
	if !ok {
		return
	}
	id := r.PathValue("id")
	current := id == access.SessionID
	var opts []tokensession.RevokeOption
	if current {
		opts = append(opts, tokensession.Because(tokensession.ReasonLogout))
	}
	if err := h.m.RevokeOwn(r.Context(), access.Subject, id, opts...); err != nil {
		h.refuseAccess(w, r, err)
		return
	}
	if current && h.cfg.Cookies && len(r.Header["Authorization"]) == 0 {
		h.clearCookies(w)
	}
	neverStored(w)
	writeJSON(w, http.StatusOK, struct{}{})
}

// endOtherDevices ends all of the user's sessions but the one that asks: a POST.
func (h *Handlers) endOtherDevices(w http.ResponseWriter, r *http.Request) {
	access, ok := h.admitMethod(w, r, http.MethodPost)
	if !ok {
		return
	}
	n, err := h.m.RevokeSubject(r.Context(), access.Subject, tokensession.Keep(access.SessionID))
	if err != nil {
		h.refuseAccess(w, r, err)
		return
	}
	neverStored(w)
	writeJSON(w, http.StatusOK, struct {
		Ended int `json:"ended"`
	}{n})
}

// admitMethod lets a request in by its access token if it is of that method, and else answers it.
func (h *Handlers) admitMethod(
	w http.ResponseWriter, r *http.Request, method string,
) (tokensession.Access, bool) {
	if r.Method != method {
		neverStored(w)
		w.Header().Set("Allow", method)
		h.refuse(w, r, notAllowed, fmt.Errorf("%w: %s where only %s will do",
			ErrBadRequest, r.Method, method))
		return tokensession.Access{}, false
	}
	access, err := h.admit(w, r, requirement{})
	if err != nil {
		h.refuseAccess(w, r, err)
		return tokensession.Access{}, false
	}
	return access, true
}

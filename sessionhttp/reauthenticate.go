package sessionhttp

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/seed67bc9b7f/tokensession"
)

// Reauthenticated is for the host's step-up route, after it has checked the password or the passkey
// of the request's user once more. It makes the session of the request's cookies say so (see
// [tokensession.Manager.Reauthenticate]), and sets the new access token's cookie; the rest of the
// answer is the host's. The proof has to be one of the user that [Handlers.Access] names.
//
// Mount the route below Config.Prefix. The refresh cookie comes along there, and the refresh token
// is rotated too, so that somebody who holds a copy of it does not inherit the step-up unseen.
//
// On an error nothing is set, and [Handlers.Refuse] or [Status] say what to answer: 401 if the
// access token has run out, after which the page refreshes and tries again, and 403 for another
// origin. If the session turns out to be over, its cookies are deleted as by a refresh.
func (h *Handlers) Reauthenticated(
	w http.ResponseWriter, r *http.Request, opts ...tokensession.AuthOption,
) error {
	if !h.cfg.Cookies {
		return errors.New(
			"sessionhttp: Reauthenticated: Config.Cookies is not set; use Manager.Reauthenticate")
	}
	if err := h.checkOrigin(r); err != nil {
		return err
	}
	b, err := h.browser(r)
	if err != nil {
		return err
	}
	if b.access == "" {
		return errNoToken
	}
	access, err := h.m.Verify(b.access)
	if err != nil {
		return err
	}
	for _, id := range r.Header[namedSession] {
		if id != access.SessionID {
			return errOtherSession
		}
	}
	tokens, err := h.reauthenticate(r, b, access.SessionID, opts)
	if errors.Is(err, tokensession.ErrNotFound) && !errors.Is(err, tokensession.ErrUnavailable) {
		err = fmt.Errorf("%w: session %s is gone", tokensession.ErrRevoked, access.SessionID)
	}
	if err != nil {
		if clears(err) {
			h.clearCookies(w)
		}
		return err
	}
	neverStored(w)
	h.setCookies(w, tokens)
	return nil
}

// reauthenticate rotates the refresh token that came along, if it is one of the session. Another
// one is not looked at: a browser can hold a cookie of before, which names another session or none.
// One that is bound to a key stays, too. To whoever holds a copy of that, it is of no use.
func (h *Handlers) reauthenticate(
	r *http.Request, b browser, sessionID string, opts []tokensession.AuthOption,
) (tokensession.Tokens, error) {
	opts = append(opts[:len(opts):len(opts)],
		tokensession.WithClient(""), tokensession.WithMaxAccessSize(h.access.room()))
	if b.refresh != "" {
		rotating := append(opts[:len(opts):len(opts)], tokensession.Rotating(b.refresh))
		tokens, err := h.m.Reauthenticate(r.Context(), sessionID, rotating...)
		isOther := errors.Is(err, tokensession.ErrInvalidToken)
		isBound := errors.Is(err, tokensession.ErrProofRequired)
		if !isOther && !isBound {
			return tokens, err
		}
	}
	return h.m.Reauthenticate(r.Context(), sessionID, opts...)
}

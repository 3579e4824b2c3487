package sessionhttp

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/seed67bc9b7f/tokensession"
)

// Revoke is the endpoint of RFC 7009: a POST of token, which is a refresh token or an access token,
// expired or not. Its session ends. The answer is 200 and {} also for a token that is none of ours.
// If it may be one, an access token of this issuer whose key this process does not have, nothing
// was ended, and the answer is 400 and unsupported_token_type: the refresh token, or a newer access
// token, ends the session. It is 503 with Retry-After if the session may still live. Other errors
// are as for [Handlers.Token].
func (h *Handlers) Revoke(w http.ResponseWriter, r *http.Request) {
	neverStored(w)
	form, err := h.readForm(w, r)
	if err == nil {
		_, _, err = h.client(r, form)
	}
	if err == nil && form.Get("token") == "" {
		err = fmt.Errorf("%w: no token", ErrBadRequest)
	}
	if err != nil {
		h.refuseForm(w, r, err)
		return
	}
	switch err := h.m.RevokeToken(r.Context(), form.Get("token")); {
	case errors.Is(err, tokensession.ErrUnknownKey):
		h.refuse(w, r, answer{http.StatusBadRequest, "unsupported_token_type"}, err)
	case err != nil && !errors.Is(err, tokensession.ErrInvalidToken):
		h.refuseForm(w, r, err)
	default:
		writeJSON(w, http.StatusOK, struct{}{})
	}
}

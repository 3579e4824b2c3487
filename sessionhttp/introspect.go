package sessionhttp

import (
	"fmt"
	"net/http"

	"github.com/seed67bc9b7f/tokensession"
)

// Introspect is the endpoint of RFC 7662 for those that Config.MayIntrospect lets in: a POST of
// token, which may be for any audience. It reads the store, so that the answer for a revoked
// session's access token is {"active":false} at once, as it is for refresh tokens and for anything
// else. Of a token that is bound to a key, it says which one. Who may not gets 401.
//
// With token_type_hint=session, the token is a session's ID, and active says whether it lives. A
// [Remote] asks that of open connections whose access tokens have expired.
func (h *Handlers) Introspect(w http.ResponseWriter, r *http.Request) {
	neverStored(w)
	if h.cfg.MayIntrospect == nil || !h.cfg.MayIntrospect(r) {
		w.Header().Set("WWW-Authenticate", "Bearer")
		h.refuse(w, r, unauthorized, fmt.Errorf("%w: introspection by somebody who may not",
			errClient))
		return
	}
	form, err := h.readForm(w, r)
	if err == nil && form.Get("token") == "" {
		err = fmt.Errorf("%w: no token", ErrBadRequest)
	}
	if err != nil {
		h.refuseForm(w, r, err)
		return
	}
	if form.Get("token_type_hint") == sessionHint {
		h.introspectSession(w, r, form.Get("token"))
		return
	}
	access, err := h.m.Introspect(r.Context(), form.Get("token"))
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, introspected(access))
	case isVerdict(err):
		writeJSON(w, http.StatusOK, introspection{})
	default:
		h.refuseForm(w, r, err)
	}
}

// An introspection has the members of RFC 7662 section 2.2, of RFC 9470 section 6.2 for how the
// user has proved who they are, and of RFC 8693 section 4.1 for who acts for them. Where a token is
// not active, it says nothing else.
type introspection struct {
	Active    bool     `json:"active"`
	TokenType string   `json:"token_type,omitempty"`
	Subject   string   `json:"sub,omitempty"`
	ClientID  string   `json:"client_id,omitempty"`
	Scope     string   `json:"scope,omitempty"`
	Issuer    string   `json:"iss,omitempty"`
	Audience  []string `json:"aud,omitempty"`
	Expires   int64    `json:"exp,omitempty"`
	IssuedAt  int64    `json:"iat,omitempty"`
	ID        string   `json:"jti,omitempty"`
	SessionID string   `json:"sid,omitempty"`
	AuthTime  int64    `json:"auth_time,omitempty"`

	AuthMethods []string `json:"amr,omitempty"`
	AuthContext string   `json:"acr,omitempty"`
	Actor       *actor   `json:"act,omitempty"`

	Confirmation *confirmation `json:"cnf,omitempty"`
}

// An actor is who acts for the token's subject.
type actor struct {
	Subject string `json:"sub"`
}

// A confirmation names the key that a token is bound to (RFC 9449 section 6.2).
type confirmation struct {
	Thumbprint string `json:"jkt"`
}

func introspected(a tokensession.Access) introspection {
	answer := introspection{
		Active: true, TokenType: "Bearer", Subject: a.Subject, ClientID: a.ClientID,
		Scope: a.Scope, Issuer: a.Issuer, Audience: a.Audience, ID: a.ID, SessionID: a.SessionID,
		Expires: a.ExpiresAt.Unix(), IssuedAt: a.IssuedAt.Unix(), AuthTime: a.AuthTime.Unix(),
		AuthMethods: a.AuthMethods, AuthContext: a.AuthContext,
	}
	if a.Actor != "" {
		answer.Actor = &actor{a.Actor}
	}
	if a.KeyThumbprint != "" {
		answer.TokenType, answer.Confirmation = "DPoP", &confirmation{a.KeyThumbprint}
	}
	return answer
}

// sessionHint is what RFC 7662 lets us define for ourselves: a kind of token. A session's ID is not
// secret and lets nobody in, so that it is a token to this endpoint only.
const sessionHint = "session"

// A sessionIntrospection says nothing of when the session was last refreshed, or when it will end,
// which is computed from that: see [tokensession.Session]. It names the session also where that is
// not active. By that a Remote sees that the issuer has understood the question.
type sessionIntrospection struct {
	Active    bool   `json:"active"`
	SessionID string `json:"sid"`
	Epoch     uint64 `json:"epoch,omitempty"`
}

func (h *Handlers) introspectSession(w http.ResponseWriter, r *http.Request, id string) {
	epoch, err := h.m.SessionEpoch(r.Context(), id)
	switch {
	case err == nil:
		writeJSON(w, http.StatusOK, sessionIntrospection{Active: true, SessionID: id, Epoch: epoch})
	case isVerdict(err):
		writeJSON(w, http.StatusOK, sessionIntrospection{SessionID: id})
	default:
		h.refuseForm(w, r, err)
	}
}

package sessionhttp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// Token is the endpoint that refreshes (RFC 6749 section 6): a POST of grant_type=refresh_token and
// refresh_token, and client_id and scope if the client likes. With cookies, a POST without
// refresh_token takes the one in the cookie and sets new cookies; its answer has no token. The
// cookie counts only beside an access cookie of the same session. A request that has no such cookie
// either is invalid_grant if it has no body and no Content-Type: else its token may have got lost
// on the way. One from a page of another origin that brings none of our cookies is cookies_missing,
// until it is known that its browser sends any. Config.OnError is told why the cookie may be
// missing. It must be at Config.Prefix + "/token".
//
// With Config.DPoP, a client that presents its token in the body proves its key in the header DPoP
// (RFC 9449 section 5), and gets an access token that is bound to the key. So is its refresh token,
// unless it has a secret. Such a proof always needs a nonce. Beside a cookie, it is not looked at.
//
// The answer is 200, or 400 with one of the errors of RFC 6749 section 5.2, of which invalid_grant
// alone says that the login is over, or with use_dpop_nonce or invalid_dpop_proof, for which
// nothing was consumed; 401 for an OAuth client's wrong secret, 403 for a page of another origin,
// 405, 413 for more than 16 KiB, and 503 with Retry-After where the same token should be tried
// again.
func (h *Handlers) Token(w http.ResponseWriter, r *http.Request) {
	neverStored(w)
	if h.binder.on() && r.Header[deviceIDHeader] != nil {
		h.deviceRefresh(w, r)
		return
	}
	form, err := h.readForm(w, r)
	if err != nil {
		h.refuseForm(w, r, err)
		return
	}
	grant, err := h.readGrant(w, r, form)
	if err != nil {
		h.refuseForm(w, r, err)
		return
	}
	if grant.kind != "" && grant.kind != "refresh_token" {
		h.refuse(w, r, answer{http.StatusBadRequest, "unsupported_grant_type"},
			fmt.Errorf("%w: a grant type that is not refresh_token", ErrBadRequest))
		return
	}
	if grant.fromCookie && h.leftToBrowser(w, r) {
		return
	}
	tokens, err := grant.refresh(r.Context(), h.m)
	switch {
	case err != nil:
		if grant.fromCookie {
			h.afterRefusal(w, err)
		}
		h.refuseForm(w, r, err)
	case grant.fromCookie:
		h.setCookies(w, tokens)
		if !h.binder.triggered(r) {
			h.binder.offer(w, tokens.Session, h.m.Now())
		}
		writeJSON(w, http.StatusOK,
			h.describe(r, tokens.Session, tokens.AccessExpiresAt, tokens.Scope))
	default:
		h.WriteTokens(w, tokens)
	}
}

// afterRefusal changes the cookies that a refresh has come with, where its error says so.
func (h *Handlers) afterRefusal(w http.ResponseWriter, err error) {
	switch {
	case clears(err):
		h.clearCookies(w)
	case h.binder.on() && needsProof(err): // the browser refreshes if the trigger is missing
		h.binder.trigger.clear(w)
	}
}

// needsProof reports whether an error says no more than that the proof of a key is missing.
func needsProof(err error) bool {
	return errors.Is(err, tokensession.ErrProofRequired) && !isVerdict(err) &&
		!errors.Is(err, tokensession.ErrUnavailable)
}

// clears reports whether a refresh's error deletes the cookies that it came with. A verdict does,
// but not that the session was ended by a login, or with all of the user's, as before the login
// that follows a change of password: that may have been in this browser, and by now the cookies be
// the new session's. Dead ones that stay cost a refresh that comes to nothing, as a browser without
// any sends too.
func clears(err error) bool {
	var revoked *tokensession.RevokedError
	if errors.As(err, &revoked) {
		switch revoked.Reason {
		case tokensession.ReasonReplaced, tokensession.ReasonMaxSessions,
			tokensession.ReasonSubjectRevoked:
			return false
		}
	}
	return isVerdict(err)
}

// A refreshGrant is what a request to Token asks for.
type refreshGrant struct {
	kind       string // grant_type, which only a request with the token in a cookie can do without
	token      string
	fromCookie bool
	proven     string // the thumbprint of the key that a client with a secret proves; "" for others
	attributes map[string]string
	options    []tokensession.RefreshOption // but for the attributes
}

// refresh exchanges the token.
//
// A client with a secret is bound by that, and its key is only its access tokens' (RFC 9449 section
// 5). But the host may have bound its session at the login. Then the key has to be proved, and was.
// That is known only after the session was found, and before that nothing is consumed.
func (g refreshGrant) refresh(
	ctx context.Context, m *tokensession.Manager,
) (tokensession.Tokens, error) {
	tokens, err := g.attempt(ctx, m)
	if g.proven != "" && errors.Is(err, tokensession.ErrProofRequired) {
		g.options = append(g.options, tokensession.WithKeyThumbprint(g.proven))
		return g.attempt(ctx, m)
	}
	return tokens, err
}

// attempt leaves the attributes out if they do not fit. Beside those that the session has got from
// the host, there may be no room for the request's. The client can do nothing about that, and must
// not be locked out.
func (g refreshGrant) attempt(
	ctx context.Context, m *tokensession.Manager,
) (tokensession.Tokens, error) {
	if len(g.attributes) > 0 {
		options := append(g.options, tokensession.WithAttributes(g.attributes))
		tokens, err := m.Refresh(ctx, g.token, options...)
		if !errors.Is(err, tokensession.ErrAttributes) {
			return tokens, err
		}
	}
	return m.Refresh(ctx, g.token, g.options...)
}

// readGrant asks for a client's authentication and its proof only where a client presents a token:
// the browser of a cookie has neither, and what is in its Authorization header may be for a proxy.
func (h *Handlers) readGrant(
	w http.ResponseWriter, r *http.Request, form url.Values,
) (refreshGrant, error) {
	g := refreshGrant{kind: form.Get("grant_type"), token: form.Get("refresh_token")}
	client := ""
	b, err := h.browser(r)
	switch {
	case err != nil:
		return g, err
	case g.token != "" && (b.refresh != "" || len(b.strange) > 0):
		return g, fmt.Errorf("%w: a refresh token in the body and one in a cookie", ErrBadRequest)
	case b.refresh != "":
		g.token, g.fromCookie = b.refresh, true
		g.options = append(g.options, tokensession.WithMaxAccessSize(h.access.room()))
	case h.cfg.Cookies && len(form) == 0 && r.Header.Get("Content-Type") == "":
		if err := h.cookiesCome(w, r, b); err != nil {
			return g, err
		}
		return g, h.noRefreshToken(b)
	case g.kind == "":
		return g, fmt.Errorf("%w: no grant_type", ErrBadRequest)
	case g.token == "" && g.kind == "refresh_token":
		return g, fmt.Errorf("%w: no refresh_token", ErrBadRequest)
	default:
		if client, err = h.readClient(w, r, form, &g); err != nil {
			return g, err
		}
	}
	g.attributes = h.attributes(r)
	g.options = append(g.options,
		tokensession.WithClient(client), tokensession.WithScope(form.Get("scope")))
	return g, nil
}

// readClient reads what a client proves: a key, and its secret. The key comes first, because to
// check it needs no I/O, and a client's first proof nearly always has to be made again with a
// nonce.
func (h *Handlers) readClient(
	w http.ResponseWriter, r *http.Request, form url.Values, g *refreshGrant,
) (id string, err error) {
	thumbprint, err := h.provenKey(w, r)
	if err != nil {
		return "", err
	}
	id, hasSecret, err := h.client(r, form)
	if err != nil || thumbprint == "" {
		return id, err
	}
	g.options = append(g.options, tokensession.WithConfirmation(thumbprint))
	if hasSecret {
		g.proven = thumbprint
	} else {
		g.options = append(g.options, tokensession.WithKeyThumbprint(thumbprint))
	}
	return id, nil
}

// WriteTokens answers a client that is no browser with its tokens (RFC 6749 section 5.1): what a
// host's own login does after [tokensession.Manager.Start]. In refresh_token_timeout it says how
// long the refresh token is good for, and in authorization_expires_in how long the session lasts
// at most, if that is limited
// (https://datatracker.ietf.org/doc/draft-ietf-oauth-refresh-token-expiration/). Some clients know
// the first as refresh_expires_in. Where there is no refresh token, the answer has none of these.
func (h *Handlers) WriteTokens(w http.ResponseWriter, tokens tokensession.Tokens) {
	neverStored(w)
	now := h.m.Now()
	var refreshIn, sessionIn *int64
	if tokens.RefreshToken != "" {
		refreshIn = new(int64)
		*refreshIn = seconds(tokens.RefreshExpiresAt, now)
		if end := tokens.Session.MaxExpiresAt; !end.IsZero() {
			sessionIn = new(int64)
			*sessionIn = seconds(end, now)
		}
	}
	writeJSON(w, http.StatusOK, struct {
		AccessToken      string `json:"access_token"`
		TokenType        string `json:"token_type"`
		ExpiresIn        int64  `json:"expires_in"`
		RefreshToken     string `json:"refresh_token,omitempty"`
		RefreshTimeout   *int64 `json:"refresh_token_timeout,omitempty"`
		RefreshExpiresIn *int64 `json:"refresh_expires_in,omitempty"`
		SessionExpiresIn *int64 `json:"authorization_expires_in,omitempty"`
		Scope            string `json:"scope,omitempty"`
	}{
		tokens.AccessToken, cmp.Or(tokens.TokenType, "Bearer"),
		seconds(tokens.AccessExpiresAt, now),
		tokens.RefreshToken, refreshIn, refreshIn, sessionIn, tokens.Scope,
	})
}

// seconds returns how long it is until t, rounded up, and not less than 0.
func seconds(t, now time.Time) int64 {
	return max(0, int64((t.Sub(now)+time.Second-1)/time.Second))
}

// A sessionInfo tells a browser of its session what is no secret. Times are in seconds from now.
type sessionInfo struct {
	Subject   string `json:"subject"`
	SessionID string `json:"session_id"`
	Scope     string `json:"scope,omitempty"`

	// Until the access token has to be refreshed; until the session ends unless it is refreshed;
	// and until it ends whatever happens.
	ExpiresIn        int64 `json:"expires_in"`
	RefreshExpiresIn int64 `json:"refresh_expires_in"`
	SessionEndsIn    int64 `json:"session_ends_in,omitempty"`

	Bound bool `json:"bound,omitempty"` // the browser refreshes it by itself
}

func (h *Handlers) describe(
	r *http.Request, s tokensession.Session, accessExpiresAt time.Time, scope string,
) sessionInfo {
	now := h.m.Now()
	info := sessionInfo{
		Subject: s.Subject, SessionID: s.ID, Scope: scope,
		ExpiresIn: seconds(accessExpiresAt, now), RefreshExpiresIn: seconds(s.ExpiresAt, now),
		Bound: h.refreshedByBrowser(r, s),
	}
	if !s.MaxExpiresAt.IsZero() {
		info.SessionEndsIn = seconds(s.MaxExpiresAt, now)
	}
	return info
}

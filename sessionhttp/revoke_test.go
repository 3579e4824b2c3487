package sessionhttp_test

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// RFC 7009 section 2.2: exactly 200, with a JSON body, also where there was nothing to revoke.
func TestRevoke_endsTheSessionOfEitherToken(t *testing.T) {
	for name, of := range map[string]func(tokensession.Tokens) string{
		"refresh token": func(t tokensession.Tokens) string { return t.RefreshToken },
		"access token":  func(t tokensession.Tokens) string { return t.AccessToken },
	} {
		for _, hint := range []string{"", "refresh_token", "access_token", "nonsense"} {
			t.Run(name+", hint "+hint, func(t *testing.T) {
				s := newSite(t, sessionhttp.Config{})
				tokens, other := s.start(), s.start()
				s.clock.Advance(time.Hour) // the access token has expired
				form := url.Values{"token": {of(tokens)}, "token_type_hint": {hint}}
				for range 2 {
					answer := s.post("/auth/revoke", form)
					require.Equal(t, http.StatusOK, answer.StatusCode)
					require.Equal(t, "application/json", answer.Header.Get("Content-Type"))
					require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
					require.JSONEq(t, `{}`, bodyOf(t, answer))
				}
				_, err := s.m.Refresh(ctx, tokens.RefreshToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked)
				s.requireLive(other.RefreshToken)
			})
		}
	}
}

func TestRevoke_unknownTokensAreNoError(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	tokens := s.start()
	for _, token := range []string{"x", "tsr_x", tokens.RefreshToken + "A", tokens.AccessToken[1:], "a.b.c", "<script>"} {
		answer := s.post("/auth/revoke", url.Values{"token": {token}})
		require.Equal(t, http.StatusOK, answer.StatusCode)
		require.JSONEq(t, `{}`, bodyOf(t, answer))
	}
	s.requireLive(tokens.RefreshToken)
}

// RFC 7009 section 2.2.1: a program that is told 200 forgets its tokens, and a copy would work on.
func TestRevoke_ofATokenWhoseKeyIsUnknownIsNoSuccess(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	tokens := s.start()
	again := s.newKey(sessionhttp.Config{})
	answer := again.post("/auth/revoke", url.Values{"token": {tokens.AccessToken}})
	requireError(t, answer, http.StatusBadRequest, "unsupported_token_type")
	require.ErrorIs(t, again.lastCause(), tokensession.ErrUnknownKey)
	s.requireLive(tokens.RefreshToken)
	answer = again.post("/auth/revoke", url.Values{"token": {tokens.RefreshToken}})
	require.Equal(t, http.StatusOK, answer.StatusCode)
	requireError(t, s.refresh(tokens.RefreshToken), http.StatusBadRequest, "invalid_grant")

	// The same form with another issuer, and one that is no JSON.
	head, rest, _ := strings.Cut(tokens.AccessToken, ".")
	payload, signature, _ := strings.Cut(rest, ".")
	for _, other := range []string{"eyJzaWQiOiJBQUFBQUFBQUFBQUFBQUFBQUFBQUFBIiwiaXNzIjoiaHR0cHM6Ly9vdGhlci5leGFtcGxlIn0", "e30", payload[1:]} {
		answer := again.post("/auth/revoke", url.Values{"token": {head + "." + other + "." + signature}})
		require.Equal(t, http.StatusOK, answer.StatusCode)
	}
}

func TestRevoke_refusesBadRequests(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	tokens := s.start()
	good := url.Values{"token": {tokens.RefreshToken}}
	requireError(t, s.post("/auth/revoke", nil), http.StatusBadRequest, "invalid_request")
	requireError(t, s.post("/auth/revoke", url.Values{"token": {""}}), http.StatusBadRequest, "invalid_request")
	requireError(t, s.post("/auth/revoke", url.Values{"token": {tokens.RefreshToken, tokens.RefreshToken}}), http.StatusBadRequest, "invalid_request")
	requireError(t, s.post("/auth/revoke?token="+tokens.RefreshToken, nil), http.StatusBadRequest, "invalid_request")
	requireError(t, s.post("/auth/revoke", good, header("Sec-Fetch-Site", "cross-site")), http.StatusForbidden, "access_denied")
	requireError(t, s.post("/auth/revoke", good, func(r *http.Request) { r.Method = http.MethodGet }), http.StatusMethodNotAllowed, "invalid_request")
	requireError(t, s.post("/auth/revoke", good, func(r *http.Request) { r.SetBasicAuth("app", "secret") }), http.StatusUnauthorized, "invalid_client")
	s.requireLive(tokens.RefreshToken)
}

// A store that is down must not look like a logout that worked.
func TestRevoke_anOutageIsNoSuccess(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	tokens := s.start()
	s.store.Down()
	for _, token := range []string{tokens.RefreshToken, tokens.AccessToken} {
		answer := s.post("/auth/revoke", url.Values{"token": {token}})
		require.Equal(t, "1", answer.Header.Get("Retry-After"))
		requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
	}
}

func TestIntrospect_saysWhatATokenIs(t *testing.T) {
	s := newSite(t, sessionhttp.Config{MayIntrospect: func(r *http.Request) bool { return r.Header.Get("X-Service") == "api" }})
	s.grant.Scope = "read"
	tokens := s.start(tokensession.WithClient("app"))
	api := header("X-Service", "api")
	form := url.Values{"token": {tokens.AccessToken}}
	access, err := s.m.Verify(tokens.AccessToken)
	require.NoError(t, err)

	answer := s.post("/auth/introspect", form, api)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	now := s.clock.Now().Unix()
	require.Equal(t, map[string]any{
		"active": true, "token_type": "Bearer", "sub": "alice", "client_id": "app", "scope": "read", "iss": "https://auth.example",
		"aud": []any{"https://api.example"}, "exp": float64(now + 900), "iat": float64(now), "auth_time": float64(now),
		"jti": access.ID, "sid": tokens.Session.ID,
	}, jsonOf(t, answer))

	for _, token := range []string{tokens.RefreshToken, "x", "a.b.c", tokens.AccessToken + "A"} {
		answer := s.post("/auth/introspect", url.Values{"token": {token}}, api)
		require.Equal(t, http.StatusOK, answer.StatusCode)
		require.JSONEq(t, `{"active":false}`, bodyOf(t, answer))
	}
	answer = s.post("/auth/introspect", form)
	require.Equal(t, "Bearer", answer.Header.Get("WWW-Authenticate"), "no credentials were looked at")
	requireError(t, answer, http.StatusUnauthorized, "invalid_token")
	requireError(t, s.post("/auth/introspect", nil, api), http.StatusBadRequest, "invalid_request")
	requireError(t, s.post("/auth/introspect", form, api, func(r *http.Request) { r.Method = http.MethodGet }), http.StatusMethodNotAllowed, "invalid_request")
	s.store.Down()
	requireError(t, s.post("/auth/introspect", form, api), http.StatusServiceUnavailable, "temporarily_unavailable")
	s.store.Clear()

	// Another instance revokes: it shows at once.
	other := s.other()
	require.NoError(t, other.Revoke(context.Background(), tokens.Session.ID))
	require.JSONEq(t, `{"active":false}`, bodyOf(t, s.post("/auth/introspect", form, api)))
}

// A grant may name another service: the one that asks.
// A service that asks the issuer about each token can require a step-up, too, and log who acts.
func TestIntrospect_saysHowTheUserProvedWhoTheyAreAndWhoActs(t *testing.T) {
	s := newSite(t, sessionhttp.Config{MayIntrospect: func(*http.Request) bool { return true }})
	about := func(token string) map[string]any {
		return jsonOf(t, s.post("/auth/introspect", url.Values{"token": {token}}))
	}
	tokens := s.start(tokensession.WithAuthMethods("pwd"), tokensession.WithActor("carol"))
	told := about(tokens.AccessToken)
	require.Equal(t, []any{"pwd"}, told["amr"])
	require.Equal(t, map[string]any{"sub": "carol"}, told["act"])
	require.NotContains(t, told, "acr")

	s.clock.Advance(time.Minute)
	stepped, err := s.m.Reauthenticate(ctx, tokens.Session.ID,
		tokensession.WithAuthMethods("pwd", "otp"), tokensession.WithAuthContext("high"))
	require.NoError(t, err)
	require.Equal(t, map[string]any{"active": false}, about(tokens.AccessToken))
	told = about(stepped.AccessToken)
	require.Equal(t, []any{"pwd", "otp"}, told["amr"])
	require.Equal(t, "high", told["acr"])
	require.Equal(t, float64(s.clock.Now().Unix()), told["auth_time"])
	require.Equal(t, map[string]any{"sub": "carol"}, told["act"])
}

func TestIntrospectAndRevoke_takeATokenForAnotherAudience(t *testing.T) {
	s := newSite(t, sessionhttp.Config{MayIntrospect: func(*http.Request) bool { return true }})
	s.grant.Audience = []string{"https://billing.example"}
	s.protect()
	tokens := s.start()
	form := url.Values{"token": {tokens.AccessToken}}
	answer := jsonOf(t, s.post("/auth/introspect", form))
	require.Equal(t, true, answer["active"])
	require.Equal(t, []any{"https://billing.example"}, answer["aud"])
	require.Equal(t, http.StatusUnauthorized, s.call(bearer(tokens.AccessToken)).StatusCode)

	require.Equal(t, http.StatusOK, s.post("/auth/revoke", form).StatusCode)
	requireError(t, s.refresh(tokens.RefreshToken), http.StatusBadRequest, "invalid_grant")
	require.JSONEq(t, `{"active":false}`, bodyOf(t, s.post("/auth/introspect", form)))
}

func TestIntrospect_isForNobodyUnlessTheHostSaysSo(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	form := url.Values{"token": {s.start().AccessToken}}
	require.Equal(t, http.StatusNotFound, s.post("/auth/introspect", form).StatusCode)
	s.mux.HandleFunc("/introspect", s.h.Introspect)
	requireError(t, s.post("/introspect", form), http.StatusUnauthorized, "invalid_token")
}

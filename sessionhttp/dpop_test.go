package sessionhttp_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func TestNew_saysWhatIsWrongWithDPoP(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	for message, cfg := range map[string]sessionhttp.Config{
		"Config.DPoP 3: must be DPoPOff, DPoPAccepted or DPoPRequired":  {DPoP: 3, ProofKeys: someKeys},
		"Config.DPoP -1: must be DPoPOff, DPoPAccepted or DPoPRequired": {DPoP: -1, ProofKeys: someKeys},
		"Config.ProofKeys is empty, and DPoP needs them: nonces are made with a secret that all " +
			"instances share": {DPoP: sessionhttp.DPoPAccepted},
		"Config.ProofMemory 1: cannot be less than 1024": {ProofMemory: 1},
	} {
		_, err := sessionhttp.New(s.m, cfg)
		require.EqualError(t, err, "sessionhttp: "+message)
	}
}

// A login with a proof, a call and a refresh, each with the nonce that the one before has told.
func TestDPoP_bindsBothTokens(t *testing.T) {
	for _, policy := range []sessionhttp.DPoPPolicy{sessionhttp.DPoPAccepted,
		sessionhttp.DPoPRequired} {
		eachKey(t, func(t *testing.T, key clientKey) {
			s := newDPoPSite(t, policy)
			s.protect()
			s.mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
				opts, err := s.h.ProofOptions(w, r)
				if err != nil {
					s.h.Refuse(w, r, err)
					return
				}
				s.h.WriteTokens(w, s.start(opts...))
			})
			p := s.program(key)
			login := func() *http.Response { return p.note(s.post("/login", nil, p.prove("", nil))) }
			first := s.untouched(login)
			require.NotEmpty(t, first.Header.Get("DPoP-Nonce"))
			require.Empty(t, first.Header["Www-Authenticate"])
			requireError(t, first, http.StatusBadRequest, "use_dpop_nonce")
			access, refresh, kind := tokensOf(t, login())
			require.Equal(t, "DPoP", kind)
			for range 3 {
				answer := p.get(access)
				require.Equal(t, http.StatusOK, answer.StatusCode)
				require.Contains(t, bodyOf(t, answer), "alice")
				answer = p.refreshes(refresh)
				require.Empty(t, answer.Header.Get("DPoP-Nonce"), "it has the newest one")
				access, refresh, kind = tokensOf(t, answer)
				require.Equal(t, "DPoP", kind)
			}
			session, err := s.m.VerifyBound(access, key.thumbprint)
			require.NoError(t, err)
			require.Equal(t, key.thumbprint, session.KeyThumbprint)
		})
	}
}

// Whoever has both tokens and no key gets nothing, and ends nothing.
func TestDPoP_thiefWithoutTheKey(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPAccepted)
	s.protect()
	owner := s.program(newP256Key(t))
	tokens := owner.login()
	thief := s.program(newP256Key(t)).withNonce()

	requireError(t, s.refresh(tokens.RefreshToken), http.StatusBadRequest, "invalid_dpop_proof")
	requireError(t, thief.refreshes(tokens.RefreshToken), http.StatusBadRequest, "invalid_grant")
	requireChallenge(t, thief.get(tokens.AccessToken), http.StatusUnauthorized, "invalid_token",
		`DPoP error="invalid_token", `+algs)
	requireChallenge(t, s.call(bearer(tokens.AccessToken)), http.StatusUnauthorized, "invalid_token",
		`DPoP error="invalid_token", `+algs)

	// He has seen a request of the owner's, and sends it again.
	r := httptest.NewRequest(http.MethodGet, "/api", nil)
	owner.prove(tokens.AccessToken, nil)(r)
	seen := r.Header.Get("DPoP")
	require.Equal(t, http.StatusOK, s.do(r).StatusCode)
	requireChallenge(t, s.do(r), http.StatusUnauthorized, "invalid_dpop_proof",
		`DPoP error="invalid_dpop_proof", `+algs)
	requireError(t, s.refresh(tokens.RefreshToken, header("DPoP", seen)), http.StatusBadRequest,
		"invalid_dpop_proof")

	s.clock.Advance(time.Hour)
	requireError(t, s.refresh(tokens.RefreshToken), http.StatusBadRequest, "invalid_dpop_proof")
	owner.withNonce()
	_, _, kind := tokensOf(t, owner.refreshes(tokens.RefreshToken))
	require.Equal(t, "DPoP", kind)
}

// Nothing has happened where the client is only to send its request again.
func TestDPoP_refreshWithoutANonceConsumesNothing(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPAccepted)
	p := s.program(newP256Key(t))
	tokens := p.login()
	nonce := p.nonce
	for name, edits := range map[string]members{
		"none": {"nonce": ""}, "empty": {"nonce": `""`},
		"unknown": {"nonce": `"AAAAAAAAAAAAAAAAAAAAAAAA"`},
	} {
		answer := s.untouched(func() *http.Response { return p.refreshes(tokens.RefreshToken, edits) })
		require.Equal(t, nonce, answer.Header.Get("DPoP-Nonce"), name)
		require.Empty(t, answer.Header["Www-Authenticate"])
		requireError(t, answer, http.StatusBadRequest, "use_dpop_nonce")
	}
	for name, edits := range map[string]members{
		"another method": {"htm": `"GET"`}, "another URL": {"htu": `"https://example.com/auth"`},
		"no jti":        {"jti": ""},
		"of the future": {"nonce": "1"},
	} {
		answer := s.untouched(func() *http.Response { return p.refreshes(tokens.RefreshToken, edits) })
		require.Equal(t, http.StatusBadRequest, answer.StatusCode, name)
		requireError(t, answer, http.StatusBadRequest, "invalid_dpop_proof")
	}
	s.requireLiveWith(tokens.RefreshToken, p.key)
}

// requireLiveWith is requireLive for a token that is bound to a key.
func (s *site) requireLiveWith(token string, key clientKey) {
	s.t.Helper()
	s.events.TakeKinds()
	_, err := s.m.Refresh(ctx, token, tokensession.WithKeyThumbprint(key.thumbprint))
	require.NoError(s.t, err)
	require.Equal(s.t, []tokensession.EventKind{tokensession.EventRefreshed}, s.events.TakeKinds())
}

// A client whose answer got lost sends the same message again, and gets the same tokens again.
func TestDPoP_sameRefreshTwice(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPAccepted)
	p := s.program(newP256Key(t))
	tokens := p.login()
	edits := members{"jti": `"the same"`}
	_, first, _ := tokensOf(t, p.refreshes(tokens.RefreshToken, edits))
	_, second, _ := tokensOf(t, p.refreshes(tokens.RefreshToken, edits))
	require.Equal(t, first, second)
}

// A session that began without a key gets one with the first refresh that proves it.
func TestDPoP_bindsAtARefresh(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPAccepted)
	s.protect()
	tokens := s.start()
	require.Equal(t, "Bearer", tokens.TokenType)
	p := s.program(newEd25519Key(t)).withNonce()
	access, refresh, kind := tokensOf(t, p.refreshes(tokens.RefreshToken))
	require.Equal(t, "DPoP", kind)
	require.Equal(t, http.StatusOK, p.get(access).StatusCode)
	requireError(t, s.refresh(refresh), http.StatusBadRequest, "invalid_dpop_proof")
	_, _, kind = tokensOf(t, p.refreshes(refresh))
	require.Equal(t, "DPoP", kind)
}

func TestDPoP_off(t *testing.T) {
	s := newSite(t, sessionhttp.Config{ProofKeys: someKeys})
	s.protect()
	p := s.program(newP256Key(t))
	tokens := s.start()
	_, refresh, kind := tokensOf(t, p.refreshes(tokens.RefreshToken))
	require.Equal(t, "Bearer", kind, "proofs are not looked at")
	_, _, kind = tokensOf(t, s.refresh(refresh, header("DPoP", "garbage")))
	require.Equal(t, "Bearer", kind)
	opts, err := s.h.ProofOptions(httptest.NewRecorder(),
		request(http.MethodPost, "/login", header("DPoP", "garbage")))
	require.NoError(t, err)
	require.Empty(t, opts)
	requireChallenge(t, p.get(tokens.AccessToken), http.StatusUnauthorized, "invalid_token", "Bearer")
	bound := s.start(tokensession.WithConfirmation(p.key.thumbprint))
	requireChallenge(t, s.call(bearer(bound.AccessToken)), http.StatusUnauthorized, "invalid_token",
		`Bearer error="invalid_token"`)
}

func TestDPoP_accepted(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPAccepted)
	s.protect()
	tokens := s.start()
	require.Equal(t, http.StatusOK, s.call(bearer(tokens.AccessToken)).StatusCode)
	_, _, kind := tokensOf(t, s.refresh(tokens.RefreshToken))
	require.Equal(t, "Bearer", kind)
	opts, err := s.h.ProofOptions(httptest.NewRecorder(), request(http.MethodPost, "/login"))
	require.NoError(t, err)
	require.Empty(t, opts)
}

func TestDPoP_required(t *testing.T) {
	s := newSite(t, sessionhttp.Config{DPoP: sessionhttp.DPoPRequired, ProofKeys: someKeys,
		Cookies: true})
	s.protect()
	tokens := s.start()
	answer := s.untouched(func() *http.Response { return s.refresh(tokens.RefreshToken) })
	requireError(t, answer, http.StatusBadRequest, "invalid_dpop_proof")
	requireChallenge(t, s.call(bearer(tokens.AccessToken)), http.StatusUnauthorized, "invalid_token",
		`DPoP error="invalid_token", `+algs)
	requireChallenge(t, s.call(), http.StatusUnauthorized, "invalid_token", "DPoP "+algs)

	w, r := httptest.NewRecorder(), request(http.MethodPost, "/login")
	_, err := s.h.ProofOptions(w, r)
	require.ErrorIs(t, err, tokensession.ErrProofRequired)
	s.h.Refuse(w, r, err)
	requireError(t, w.Result(), http.StatusBadRequest, "invalid_dpop_proof")

	// Browsers are not concerned.
	require.Equal(t, http.StatusOK, s.call(inCookie(tokens.AccessToken)).StatusCode)
	require.Equal(t, http.StatusOK, s.post("/auth/token", nil, inCookie(tokens.AccessToken),
		header("Cookie", "__Secure-refresh="+tokens.RefreshToken)).StatusCode)
}

// inCookie returns an edit that adds an access token's cookie.
func inCookie(token string) func(*http.Request) {
	return header("Cookie", "__Host-access="+token)
}

// OAuth clients look for the code of a login's refusal in the body, which is no page of the host's.
func TestProofOptions_refusalHasTheFormOfOAuth(t *testing.T) {
	s := newSite(t, sessionhttp.Config{
		DPoP: sessionhttp.DPoPRequired, ProofKeys: someKeys,
		Refuse: func(w http.ResponseWriter, _ *http.Request, err error) {
			http.Error(w, "a page", sessionhttp.Status(err))
		},
	})
	s.protect()
	p := s.program(newP256Key(t))
	for code, edit := range map[string]func(*http.Request){
		"use_dpop_nonce": p.prove("", nil), "invalid_dpop_proof": header("DPoP", "garbage"),
	} {
		w, r := httptest.NewRecorder(), request(http.MethodPost, "/login", edit)
		_, err := s.h.ProofOptions(w, r)
		s.h.Refuse(w, r, err)
		requireError(t, w.Result(), http.StatusBadRequest, code)
	}
	answer := p.get("garbage")
	require.Equal(t, "a page\n", bodyOf(t, answer))
	require.Equal(t, []string{`DPoP error="invalid_token", ` + algs}, answer.Header["Www-Authenticate"])
}

// Row by row, what a resource answers.
func TestDPoP_answersOfRequire(t *testing.T) {
	s := newSite(t, sessionhttp.Config{DPoP: sessionhttp.DPoPAccepted, ProofKeys: someKeys,
		Cookies: true})
	s.protect()
	p := s.program(newP256Key(t))
	bound, plain := p.login().AccessToken, s.start().AccessToken
	badProof, badToken := `DPoP error="invalid_dpop_proof", `+algs, `DPoP error="invalid_token", `+algs
	newNonce := `DPoP error="use_dpop_nonce", ` + algs
	twice := func(r *http.Request) {
		p.prove(bound, nil)(r)
		r.Header.Add("DPoP", r.Header.Get("DPoP"))
	}
	for name, c := range map[string]struct {
		edit       func(*http.Request)
		status     int
		code       string
		challenges []string
	}{
		"nothing": {func(*http.Request) {}, 401, "invalid_token",
			[]string{"Bearer", "DPoP " + algs}},
		"a proof alone": {header("DPoP", "x"), 401, "invalid_token",
			[]string{"Bearer", "DPoP " + algs}},
		"no proof": {header("Authorization", "DPoP "+bound), 401, "invalid_dpop_proof",
			[]string{badProof}},
		"no token": {header("Authorization", "DPoP "), 401, "invalid_dpop_proof",
			[]string{badProof}},
		"a proof of another URL": {p.prove(bound, members{"htu": `"https://example.com/"`}), 401,
			"invalid_dpop_proof", []string{badProof}},
		"of another token": {p.prove(bound, members{"ath": text(hashOf(plain))}), 401,
			"invalid_dpop_proof", []string{badProof}},
		"of a login": {p.prove(bound, members{"ath": ""}), 401, "invalid_dpop_proof",
			[]string{badProof}},
		"two proofs": {twice, 401, "invalid_dpop_proof", []string{badProof}},
		"an old proof": {p.prove(bound, members{"nonce": "", "iat": "1"}), 401,
			"use_dpop_nonce", []string{newNonce}},
		"an unknown nonce": {p.prove(bound, members{"nonce": `"x"`}), 401, "use_dpop_nonce",
			[]string{newNonce}},
		"a bearer token": {p.prove(plain, nil), 401, "invalid_token", []string{badToken}},
		"another one's": {s.program(newP256Key(t)).withNonce().prove(bound, nil), 401,
			"invalid_token", []string{badToken}},
		"garbage":            {p.prove("garbage", nil), 401, "invalid_token", []string{badToken}},
		"bound, as bearer":   {bearer(bound), 401, "invalid_token", []string{badToken}},
		"bound, in a cookie": {inCookie(bound), 401, "invalid_token", []string{badToken}},
		"bearer garbage": {bearer("garbage"), 401, "invalid_token",
			[]string{`Bearer error="invalid_token"`}},
		"two headers": {both(p.prove(bound, nil), bearer(plain)), 400, "invalid_request",
			[]string{`Bearer error="invalid_request"`}},
		"and a cookie": {both(p.prove(bound, nil), inCookie(plain)), 400, "invalid_request",
			[]string{`DPoP error="invalid_request", ` + algs}},
	} {
		answer := s.call(c.edit)
		require.Equal(t, c.challenges, answer.Header["Www-Authenticate"], name)
		require.Equal(t, c.code == "use_dpop_nonce", answer.Header.Get("DPoP-Nonce") == p.nonce, name)
		requireError(t, answer, c.status, c.code)
	}
	for name, edit := range map[string]func(*http.Request){
		"a proof beside a bearer token": both(bearer(plain), header("DPoP", "garbage")),
		"a proof beside a cookie":       both(inCookie(plain), header("DPoP", "garbage")),
		"the scheme in another case": func(r *http.Request) {
			p.prove(bound, nil)(r)
			r.Header.Set("Authorization", "dpop   "+bound)
		},
	} {
		require.Equal(t, http.StatusOK, s.call(edit).StatusCode, name)
	}
}

func both(edits ...func(*http.Request)) func(*http.Request) {
	return func(r *http.Request) {
		for _, edit := range edits {
			edit(r)
		}
	}
}

// At a resource a proof need not have a nonce. A client that has none is told one, so that it has
// one for the next refresh.
func TestDPoP_noncesAtResources(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPAccepted)
	s.protect()
	p := s.program(newP256Key(t))
	tokens := p.login()
	nonce := p.nonce
	answer := p.get(tokens.AccessToken, members{"nonce": ""})
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, nonce, answer.Header.Get("DPoP-Nonce"))
	answer = p.get(tokens.AccessToken)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Empty(t, answer.Header.Get("DPoP-Nonce"))
	s.clock.Advance(30 * time.Second)
	answer = p.get(tokens.AccessToken)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.NotEqual(t, nonce, answer.Header.Get("DPoP-Nonce"), "before the old one is refused")
	require.NotEmpty(t, answer.Header.Get("DPoP-Nonce"))
}

func TestRequire_bound(t *testing.T) {
	s := newSite(t, sessionhttp.Config{DPoP: sessionhttp.DPoPAccepted, ProofKeys: someKeys,
		Cookies: true})
	s.protect(sessionhttp.Bound())
	p := s.program(newP256Key(t))
	bound, plain := p.login().AccessToken, s.start().AccessToken
	require.Equal(t, http.StatusOK, p.get(bound).StatusCode)
	require.Equal(t, http.StatusOK, p.get(bound, members{"nonce": ""}).StatusCode)
	for name, edit := range map[string]func(*http.Request){
		"bearer": bearer(plain), "a cookie": inCookie(plain), "bound, as bearer": bearer(bound),
	} {
		answer := s.call(edit)
		require.Equal(t, []string{`DPoP error="invalid_token", ` + algs},
			answer.Header["Www-Authenticate"], name)
		requireError(t, answer, http.StatusUnauthorized, "invalid_token")
	}
	requireChallenge(t, s.call(), http.StatusUnauthorized, "invalid_token", "DPoP "+algs)
}

func TestRequire_freshNonce(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPAccepted)
	s.protect(sessionhttp.FreshNonce())
	p := s.program(newP256Key(t))
	bound := p.login().AccessToken
	requireChallenge(t, p.get(bound, members{"nonce": ""}), http.StatusUnauthorized, "use_dpop_nonce",
		`DPoP error="use_dpop_nonce", `+algs)
	require.Equal(t, http.StatusOK, p.get(bound).StatusCode)
	s.clock.Advance(time.Minute)
	require.Equal(t, http.StatusUnauthorized, p.get(bound).StatusCode, "a nonce of a minute ago")
	require.Equal(t, http.StatusOK, p.get(bound).StatusCode)
	requireChallenge(t, s.call(bearer(s.start().AccessToken)), http.StatusUnauthorized,
		"invalid_token",
		`DPoP error="invalid_token", `+algs)
}

// Where proofs are off, nobody can have what is required. It is the program's mistake, and lets
// nobody in.
func TestRequire_boundWhereProofsAreOff(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	s.protect(sessionhttp.Bound())
	requireError(t, s.call(bearer(s.start().AccessToken)), http.StatusInternalServerError,
		"server_error")
	require.ErrorContains(t, s.causes[0], "Config.DPoP is off")
}

func TestRequire_boundIsNotResumed(t *testing.T) {
	s := newSite(t, sessionhttp.Config{DPoP: sessionhttp.DPoPAccepted, ProofKeys: someKeys,
		Cookies: true})
	s.protect(sessionhttp.Bound(), sessionhttp.Resume())
	answer := s.call(inCookie(s.start().AccessToken), header("Sec-Fetch-Mode", "navigate"))
	require.Equal(t, http.StatusUnauthorized, answer.StatusCode)
}

func TestRequire_otherRefusalsOfABoundToken(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPAccepted)
	p := s.program(newP256Key(t))
	bound := p.login().AccessToken
	s.protect(sessionhttp.Scope("admin"))
	requireChallenge(t, p.get(bound), http.StatusForbidden, "insufficient_scope",
		`DPoP error="insufficient_scope", scope="admin", `+algs)
	s.mux.Handle("/stepup", s.h.Require(sessionhttp.AuthMethods("otp"))(whoami))
	requireChallenge(t, s.do(request(http.MethodGet, "/stepup", p.prove(bound, nil))),
		http.StatusUnauthorized,
		"insufficient_user_authentication",
		`DPoP error="insufficient_user_authentication", acr_values="otp", `+algs)
	requireChallenge(t, s.call(p.prove(bound, nil), header("Tokensession-Session", "other")),
		http.StatusUnauthorized,
		"session_changed", `DPoP error="session_changed", `+algs)

	s.mux.Handle("/optional", s.h.Require(sessionhttp.Optional())(http.NotFoundHandler()))
	require.Equal(t, http.StatusNotFound, s.do(request(http.MethodGet, "/optional")).StatusCode)
	require.Equal(t, http.StatusUnauthorized,
		s.do(request(http.MethodGet, "/optional", header("Authorization", "DPoP "+bound))).StatusCode)
	require.Equal(t, http.StatusUnauthorized,
		s.do(request(http.MethodGet, "/optional", bearer(bound))).StatusCode)
	_, err := s.m.RevokeSubject(ctx, "alice")
	require.NoError(t, err)
	requireChallenge(t, p.get(bound), http.StatusUnauthorized, "invalid_token",
		`DPoP error="invalid_token", `+algs)
	require.Equal(t, http.StatusNotFound, s.do(request(http.MethodGet, "/optional",
		p.prove(bound, nil))).StatusCode)
}

// One middleware for all routes, and one for a route that asks for more: the same proof passes both.
func TestRequire_twiceForOneRequest(t *testing.T) {
	s := newSite(t, sessionhttp.Config{DPoP: sessionhttp.DPoPAccepted, ProofKeys: someKeys,
		Devices: true})
	all := s.h.Require()
	s.mux.Handle("/api", all(s.h.Require(sessionhttp.FreshNonce())(whoami)))
	s.mux.Handle("/own/sessions", all(http.StripPrefix("/own", s.h)))
	p := s.program(newP256Key(t))
	bound := p.login().AccessToken
	r := request(http.MethodGet, "/api", p.prove(bound, nil))
	require.Equal(t, http.StatusOK, s.do(r).StatusCode)
	requireError(t, s.do(r), http.StatusUnauthorized, "invalid_dpop_proof")
	r = request(http.MethodGet, "/own/sessions", p.prove(bound, nil))
	require.Equal(t, http.StatusOK, s.do(r).StatusCode)
	requireChallenge(t, s.do(request(http.MethodGet, "/api", p.prove(bound, members{"nonce": ""}))),
		http.StatusUnauthorized, "use_dpop_nonce", `DPoP error="use_dpop_nonce", `+algs)

	// A handler that makes another request of the first one's context needs another proof, and so
	// does one that is let in by another gate, which has a memory of its own.
	var inner *http.Request
	s.mux.Handle("/outer", all(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.h.Require()(whoami).ServeHTTP(w, inner.WithContext(r.Context()))
	})))
	inner = request(http.MethodGet, "/api", p.prove(bound, nil))
	for _, status := range []int{http.StatusOK, http.StatusUnauthorized} {
		r = request(http.MethodGet, "/outer", p.prove(bound, nil))
		require.Equal(t, status, s.do(r).StatusCode)
	}
	other, err := sessionhttp.New(s.m, sessionhttp.Config{DPoP: sessionhttp.DPoPAccepted,
		ProofKeys: someKeys})
	require.NoError(t, err)
	two := all(other.Require()(whoami))
	r = request(http.MethodGet, "/api", p.prove(bound, nil))
	w := httptest.NewRecorder()
	two.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
	w = httptest.NewRecorder()
	other.Require()(whoami).ServeHTTP(w, r)
	require.Equal(t, http.StatusUnauthorized, w.Code, "the other one has remembered it, too")
}

func TestRequire_liveAsksForABoundToken(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPAccepted)
	s.protect(sessionhttp.Live())
	p := s.program(newP256Key(t))
	bound := p.login().AccessToken
	require.Equal(t, http.StatusOK, p.get(bound).StatusCode)
	s.store.Down()
	require.Equal(t, http.StatusServiceUnavailable, p.get(bound).StatusCode)
	s.store.Clear()
	_, err := s.other().RevokeSubject(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, http.StatusUnauthorized, p.get(bound).StatusCode)
}

// Somebody without a good token cannot fill the memory, whatever he signs.
func TestRequire_remembersProofsOfGoodTokensOnly(t *testing.T) {
	s := newSite(t, sessionhttp.Config{DPoP: sessionhttp.DPoPAccepted, ProofKeys: someKeys,
		ProofMemory: 1024})
	s.protect()
	p, thief := s.program(newP256Key(t)), s.program(newP256Key(t))
	bound := p.login().AccessToken
	for i := range 1500 {
		token := bound
		if i%2 == 0 {
			token = "garbage"
		}
		require.Equal(t, http.StatusUnauthorized, thief.get(token).StatusCode)
	}
	require.Equal(t, http.StatusOK, p.get(bound).StatusCode)

	answer := p.get(bound)
	for n := 0; n < 2048 && answer.StatusCode == http.StatusOK; n++ {
		answer = p.get(bound)
	}
	require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	require.Equal(t, "1", answer.Header.Get("Retry-After"))
	s.clock.Advance(3 * time.Minute)
	p.nonce = ""
	require.Equal(t, http.StatusOK, p.get(bound).StatusCode)
}

// backendOnly knows one client with a secret, and one without.
func backendOnly(_ context.Context, id, secret string) (bool, error) {
	return id == "backend" && secret == "secret" || id == "app" && secret == "", nil
}

// RFC 9449 section 5: a client with a secret binds its access tokens only, and may change its key.
func TestDPoP_clientsWithASecret(t *testing.T) {
	s := newSite(t, sessionhttp.Config{DPoP: sessionhttp.DPoPAccepted, ProofKeys: someKeys,
		AuthenticateClient: backendOnly})
	s.protect()
	basic := func(r *http.Request) { r.SetBasicAuth("backend", "secret") }
	first, second := s.program(newP256Key(t)).withNonce(), s.program(newEd25519Key(t)).withNonce()
	tokens := s.start(tokensession.WithClient("backend"),
		tokensession.WithConfirmation(first.key.thumbprint))
	refresh := tokens.RefreshToken
	for _, p := range []*program{first, second, first} {
		answer := s.refresh(refresh, p.prove("", nil), basic)
		var access, kind string
		access, refresh, kind = tokensOf(t, answer)
		require.Equal(t, "DPoP", kind)
		_, err := s.m.VerifyBound(access, p.key.thumbprint)
		require.NoError(t, err)
		require.Equal(t, http.StatusOK, p.get(access).StatusCode)
	}
	_, refresh, kind := tokensOf(t, s.refresh(refresh, basic))
	require.Equal(t, "Bearer", kind, "and without a proof it gets a bearer token")

	// Its secret is checked all the same, and its proof before that.
	requireError(t, s.refresh(refresh, first.prove("", members{"nonce": ""}),
		func(r *http.Request) { r.SetBasicAuth("backend", "wrong") }),
		http.StatusBadRequest, "use_dpop_nonce")
	answer := s.refresh(refresh, first.prove("", nil),
		func(r *http.Request) { r.SetBasicAuth("backend", "wrong") })
	require.Equal(t, `Basic realm="token"`, answer.Header.Get("WWW-Authenticate"))
	requireError(t, answer, http.StatusUnauthorized, "invalid_client")
	requireError(t, s.refresh(refresh, first.prove("", nil)), http.StatusBadRequest, "invalid_grant")

	// A public client of the same host is bound, as ever.
	public := s.start(tokensession.WithClient("app"))
	form := refreshForm(public.RefreshToken)
	form.Set("client_id", "app")
	_, refresh, kind = tokensOf(t, s.post("/auth/token", form, first.prove("", nil)))
	require.Equal(t, "DPoP", kind)
	form.Set("refresh_token", refresh)
	requireError(t, s.post("/auth/token", form), http.StatusBadRequest, "invalid_dpop_proof")
	requireError(t, s.post("/auth/token", form, second.prove("", nil)), http.StatusBadRequest,
		"invalid_grant")
}

// Where a host has bound such a client's session at the login, the client proves the key, and goes
// on.
func TestDPoP_clientWithASecretWhoseSessionIsBound(t *testing.T) {
	s := newSite(t, sessionhttp.Config{
		DPoP: sessionhttp.DPoPAccepted, ProofKeys: someKeys, AuthenticateClient: backendOnly,
		Attributes: func(*http.Request) map[string]string { return map[string]string{"device": "x"} },
	})
	p := s.program(newP256Key(t)).withNonce()
	tokens := s.start(tokensession.WithClient("backend"),
		tokensession.WithKeyThumbprint(p.key.thumbprint), tokensession.WithConfirmation(p.key.thumbprint))
	basic := func(r *http.Request) { r.SetBasicAuth("backend", "secret") }
	requireError(t, s.refresh(tokens.RefreshToken, basic), http.StatusBadRequest, "invalid_dpop_proof")
	requireError(t, s.refresh(tokens.RefreshToken, basic,
		s.program(newP256Key(t)).withNonce().prove("", nil)),
		http.StatusBadRequest, "invalid_grant")
	_, refresh, kind := tokensOf(t, s.refresh(tokens.RefreshToken, basic, p.prove("", nil)))
	require.Equal(t, "DPoP", kind)
	s.requireClientLive(refresh, "backend", p.key)
}

func (s *site) requireClientLive(token, client string, key clientKey) {
	s.t.Helper()
	_, err := s.m.Refresh(ctx, token, tokensession.WithClient(client),
		tokensession.WithKeyThumbprint(key.thumbprint))
	require.NoError(s.t, err)
}

// A browser's refresh is by its cookie. What is in a DPoP header beside it is not looked at.
func TestDPoP_cookieRefreshIsNoProof(t *testing.T) {
	s := newSite(t, sessionhttp.Config{DPoP: sessionhttp.DPoPAccepted, ProofKeys: someKeys,
		Cookies: true})
	p := s.program(newP256Key(t)).withNonce()
	tokens := s.start()
	cookies := both(inCookie(tokens.AccessToken),
		header("Cookie", "__Secure-refresh="+tokens.RefreshToken))
	for _, proof := range []func(*http.Request){p.prove("", nil), header("DPoP", "garbage"),
		both(p.prove("", nil), p.prove("", nil))} {
		answer := s.post("/auth/token", nil, cookies, proof)
		require.Equal(t, http.StatusOK, answer.StatusCode)
		require.Len(t, answer.Cookies(), 2)
	}
	session, err := s.m.Session(ctx, tokens.Session.ID)
	require.NoError(t, err)
	require.Empty(t, session.KeyThumbprint)
}

// A session that is bound to a key, in a browser's cookies: no verdict, so the cookies stay.
func TestDPoP_boundSessionInCookies(t *testing.T) {
	s := newSite(t, sessionhttp.Config{DPoP: sessionhttp.DPoPAccepted, ProofKeys: someKeys,
		Cookies: true})
	p := s.program(newP256Key(t))
	tokens := s.start(tokensession.WithKeyThumbprint(p.key.thumbprint))
	cookies := both(inCookie(tokens.AccessToken),
		header("Cookie", "__Secure-refresh="+tokens.RefreshToken))
	answer := s.post("/auth/token", nil, cookies)
	require.Empty(t, answer.Cookies())
	requireError(t, answer, http.StatusBadRequest, "invalid_dpop_proof")
	s.requireLiveWith(tokens.RefreshToken, p.key)

	// A step-up goes without rotating then: a copy of the refresh token is of no use to anybody.
	w := httptest.NewRecorder()
	r := request(http.MethodPost, "/auth/stepup", cookies)
	require.NoError(t, s.h.Reauthenticated(w, r, tokensession.WithAuthMethods("otp")))
	require.Len(t, w.Result().Cookies(), 1)
	access, err := s.m.Verify(w.Result().Cookies()[0].Value)
	require.NoError(t, err)
	require.Equal(t, []string{"otp"}, access.AuthMethods)
}

func TestDPoP_introspectionTellsTheKey(t *testing.T) {
	s := newSite(t, sessionhttp.Config{
		DPoP: sessionhttp.DPoPAccepted, ProofKeys: someKeys,
		MayIntrospect: func(*http.Request) bool { return true },
	})
	p := s.program(newP256Key(t))
	body := jsonOf(t, s.post("/auth/introspect", url.Values{"token": {p.login().AccessToken}}))
	require.Equal(t, true, body["active"])
	require.Equal(t, "DPoP", body["token_type"])
	require.Equal(t, map[string]any{"jkt": p.key.thumbprint}, body["cnf"])
	body = jsonOf(t, s.post("/auth/introspect", url.Values{"token": {s.start().AccessToken}}))
	require.Equal(t, "Bearer", body["token_type"])
	require.NotContains(t, body, "cnf")
}

// A logout never fails for a key that was lost.
func TestDPoP_revocationNeedsNoProof(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPRequired)
	s.protect()
	p := s.program(newP256Key(t))
	tokens := p.login()
	require.Equal(t, http.StatusOK, s.post("/auth/revoke",
		url.Values{"token": {tokens.RefreshToken}}).StatusCode)
	requireError(t, p.refreshes(tokens.RefreshToken), http.StatusBadRequest, "invalid_grant")
	require.Equal(t, http.StatusUnauthorized, p.get(tokens.AccessToken).StatusCode)

	tokens = p.login()
	require.Equal(t, http.StatusOK, s.post("/auth/revoke",
		url.Values{"token": {tokens.AccessToken}}).StatusCode)
	requireError(t, p.refreshes(tokens.RefreshToken), http.StatusBadRequest, "invalid_grant")
}

// Handlers.Access has no answer at hand. The nonce goes out with the refusal.
func TestAccess_withAProof(t *testing.T) {
	s := newSite(t, sessionhttp.Config{DPoP: sessionhttp.DPoPAccepted, ProofKeys: someKeys,
		Devices: true})
	s.mux.HandleFunc("/api", func(w http.ResponseWriter, r *http.Request) {
		access, err := s.h.Access(r)
		if err != nil {
			s.h.Refuse(w, r, err)
			return
		}
		fmt.Fprint(w, access.KeyThumbprint)
	})
	p := s.program(newP256Key(t))
	tokens := p.login()
	old := p.nonce
	require.Equal(t, p.key.thumbprint, bodyOf(t, p.get(tokens.AccessToken)))
	s.clock.Advance(time.Minute)
	requireChallenge(t, p.get(tokens.AccessToken), http.StatusUnauthorized, "use_dpop_nonce",
		`DPoP error="use_dpop_nonce", `+algs)
	require.NotEqual(t, old, p.nonce)
	require.Equal(t, http.StatusOK, p.get(tokens.AccessToken).StatusCode)

	// The endpoints that take access tokens take bound ones.
	r := request(http.MethodGet, "/auth/sessions", p.prove(tokens.AccessToken, nil))
	require.Equal(t, http.StatusOK, s.do(r).StatusCode)
	r = request(http.MethodDelete, "/auth/sessions/"+tokens.Session.ID,
		p.prove(tokens.AccessToken, nil))
	require.Equal(t, http.StatusOK, s.do(r).StatusCode)
	requireError(t, p.refreshes(tokens.RefreshToken), http.StatusBadRequest, "invalid_grant")
}

// Errors of a host's own calls of a Manager.
func TestRefuse_whereAProofIsMissing(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPAccepted)
	key := newP256Key(t)
	tokens := s.start(tokensession.WithKeyThumbprint(key.thumbprint))
	_, err := s.m.Refresh(ctx, tokens.RefreshToken)
	require.Equal(t, http.StatusUnauthorized, sessionhttp.Status(err))
	w := httptest.NewRecorder()
	s.h.Refuse(w, request(http.MethodPost, "/own"), err)
	requireChallenge(t, w.Result(), http.StatusUnauthorized, "invalid_dpop_proof",
		`DPoP error="invalid_dpop_proof", `+algs)
}

func TestDPoP_urlsBehindProxies(t *testing.T) {
	for name, c := range map[string]struct {
		requestURL func(*http.Request) string
		strip      string
		htu        string
	}{
		"as it came":  {nil, "", "https://example.com/auth/token"},
		"StripPrefix": {nil, "/v1", "https://example.com/v1/auth/token"},
		"RequestURL": {func(r *http.Request) string { return "https://api.example/public" + r.URL.Path },
			"",
			"https://api.example/public/auth/token"},
	} {
		s := newSite(t, sessionhttp.Config{DPoP: sessionhttp.DPoPAccepted, ProofKeys: someKeys,
			RequestURL: c.requestURL})
		p := s.program(newP256Key(t))
		tokens := s.start()
		refresh := func() *http.Response {
			r := httptest.NewRequest(http.MethodPost, c.strip+"/auth/token",
				strings.NewReader(refreshForm(tokens.RefreshToken).Encode()))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			p.prove("", members{"htu": text(c.htu)})(r)
			w := httptest.NewRecorder()
			http.StripPrefix(c.strip, s.h).ServeHTTP(w, r)
			return p.note(w.Result())
		}
		requireError(t, refresh(), http.StatusBadRequest, "use_dpop_nonce")
		_, _, kind := tokensOf(t, refresh())
		require.Equal(t, "DPoP", kind, name)
	}
}

// What a host's log has of a refusal is enough to find out why.
func TestDPoP_onErrorTellsBothURLs(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPAccepted)
	p := s.program(newP256Key(t)).withNonce()
	p.refreshes(s.start().RefreshToken, members{"htu": `"http://internal:8080/token"`})
	cause := s.causes[len(s.causes)-1]
	require.ErrorContains(t, cause, `"http://internal:8080/token"`)
	require.ErrorContains(t, cause, `"https://example.com/auth/token"`)
}

// Two instances, in turns: with the same secret a client makes no trip more than at one.
func TestDPoP_twoInstances(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPAccepted)
	p := s.program(newP256Key(t))
	tokens := p.login()
	other := func(keys [][]byte) *sessionhttp.Handlers {
		h, err := sessionhttp.New(s.manager(s.signer, tokensession.Config{}),
			sessionhttp.Config{DPoP: sessionhttp.DPoPAccepted, ProofKeys: keys})
		require.NoError(t, err)
		return h
	}
	refresh := tokens.RefreshToken
	same := other(someKeys)
	for i := range 20 {
		r := request(http.MethodPost, "/auth/token")
		r.Body = httptest.NewRequest(http.MethodPost, "/",
			strings.NewReader(refreshForm(refresh).Encode())).Body
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		p.prove("", nil)(r)
		w := httptest.NewRecorder()
		if i%2 == 0 {
			same.ServeHTTP(w, r)
		} else {
			s.h.ServeHTTP(w, r)
		}
		_, refresh, _ = tokensOf(t, p.note(w.Result()))
		s.clock.Advance(20 * time.Second)
	}
	r := request(http.MethodPost, "/auth/token", p.prove("", nil))
	w := httptest.NewRecorder()
	other([][]byte{[]byte(strings.Repeat("other", 8))}).ServeHTTP(w, r)
	require.Equal(t, http.StatusBadRequest, w.Code)
}

func TestStatus_ofProofs(t *testing.T) {
	for err, status := range map[error]int{
		sessionhttp.ErrInvalidProof:   401,
		sessionhttp.ErrUseNonce:       401,
		tokensession.ErrProofRequired: 401,
		fmt.Errorf("%w: %w", tokensession.ErrProofRequired, tokensession.ErrUnavailable): 503,
	} {
		require.Equal(t, status, sessionhttp.Status(err), err.Error())
	}
}

package sessionhttp_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func remoteWithDPoP(policy sessionhttp.DPoPPolicy) sessionhttp.RemoteConfig {
	cfg := remoteConfig()
	cfg.DPoP, cfg.ProofKeys = policy, someKeys
	return cfg
}

// A service without a store asks for the same proofs, with nonces of its own.
func TestRemote_takesBoundTokens(t *testing.T) {
	i := newIssuer(t)
	i.up()
	remote := newRemote(t, i.url, remoteWithDPoP(sessionhttp.DPoPAccepted))
	eventually(t, "healthy", isHealthy(remote))
	b := newProofBench(t, newP256Key(t), sessionhttp.ProofConfig{})
	b.clock.Set(time.Now())
	tokens, err := i.m.Start(ctx, "alice", tokensession.WithConfirmation(b.key.thumbprint))
	require.NoError(t, err)

	nonce := ""
	get := func(opts []sessionhttp.RequireOption, key clientKey, token string) *http.Response {
		r := request(http.MethodGet, "https://api.example/notes", header("Authorization", "DPoP "+token))
		claims := members{"ath": text(hashOf(token))}
		if nonce != "" {
			claims["nonce"] = text(nonce)
		}
		r.Header.Set("DPoP", key.seal(key.header(nil), b.claims(claims)))
		w := httptest.NewRecorder()
		remote.Require(opts...)(whoami).ServeHTTP(w, r)
		if n := w.Header().Get("DPoP-Nonce"); n != "" {
			nonce = n
		}
		return w.Result()
	}
	fresh := []sessionhttp.RequireOption{sessionhttp.FreshNonce(), sessionhttp.Live()}
	requireChallenge(t, get(fresh, b.key, tokens.AccessToken), http.StatusUnauthorized,
		"use_dpop_nonce",
		`DPoP error="use_dpop_nonce", `+algs)
	require.Equal(t, http.StatusOK, get(fresh, b.key, tokens.AccessToken).StatusCode)
	require.Equal(t, http.StatusOK, get(nil, b.key, tokens.AccessToken).StatusCode)
	require.EqualValues(t, 1, i.count("introspect"))
	requireChallenge(t, get(nil, newP256Key(t), tokens.AccessToken), http.StatusUnauthorized,
		"invalid_token",
		`DPoP error="invalid_token", `+algs)

	_, err = remote.Verify(tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrProofRequired)
	require.ErrorIs(t, err, tokensession.ErrInvalidToken)
	_, err = remote.VerifyLive(ctx, tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrProofRequired)
	for thumbprint, good := range map[string]bool{b.key.thumbprint: true,
		newP256Key(t).thumbprint: false, "": false} {
		access, err := remote.VerifyBound(tokens.AccessToken, thumbprint)
		require.Equal(t, good, err == nil)
		require.Equal(t, good, access.KeyThumbprint == b.key.thumbprint)
	}

	require.NoError(t, i.m.Revoke(ctx, tokens.Session.ID))
	requireChallenge(t, get(fresh, b.key, tokens.AccessToken), http.StatusUnauthorized,
		"invalid_token",
		`DPoP error="invalid_token", `+algs)
	i.down()
	other, err := i.m.Start(ctx, "alice", tokensession.WithConfirmation(b.key.thumbprint))
	require.NoError(t, err)
	require.Equal(t, http.StatusServiceUnavailable, get(fresh, b.key, other.AccessToken).StatusCode)
}

// Before it knows anything of the issuer, a Remote lets nobody in, whatever the proof.
func TestRemote_boundTokensWaitForTheIssuer(t *testing.T) {
	i := newIssuer(t)
	remote := newRemote(t, i.url, remoteWithDPoP(sessionhttp.DPoPRequired))
	_, err := remote.VerifyBound("garbage", newP256Key(t).thumbprint)
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	i.up()
	eventually(t, "healthy", isHealthy(remote))
	key := newP256Key(t)

	// A key that is new at the issuer is fetched for a bound token, too.
	next, err := tokensession.GenerateKey()
	require.NoError(t, err)
	require.NoError(t, i.signer.Rotate(next, time.Now()))
	tokens, err := i.m.Start(ctx, "alice", tokensession.WithConfirmation(key.thumbprint))
	require.NoError(t, err)
	eventually(t, "the new key", func() bool {
		_, err := remote.VerifyBound(tokens.AccessToken, key.thumbprint)
		return err == nil
	})

	w := httptest.NewRecorder()
	remote.Require()(whoami).ServeHTTP(w, request(http.MethodGet, "/", bearer(i.start().AccessToken)))
	requireChallenge(t, w.Result(), http.StatusUnauthorized, "invalid_token",
		`DPoP error="invalid_token", `+algs)
	w = httptest.NewRecorder()
	r := request(http.MethodGet, "/", header("Authorization", "DPoP "+tokens.AccessToken))
	_, err = remote.Access(r)
	require.ErrorIs(t, err, sessionhttp.ErrInvalidProof)
	remote.Refuse(w, r, err)
	requireChallenge(t, w.Result(), http.StatusUnauthorized, "invalid_dpop_proof",
		`DPoP error="invalid_dpop_proof", `+algs)
}

// A proof is judged by the URL that clients see and by the Remote's clock, before its token is: a
// Remote that knows nothing of the issuer yet is unavailable to good proofs only.
func TestRemote_judgesProofsByItsConfig(t *testing.T) {
	b := newProofBench(t, newP256Key(t), sessionhttp.ProofConfig{})
	cfg := remoteWithDPoP(sessionhttp.DPoPAccepted)
	cfg.Access.Now = b.clock.Now
	cfg.RequestURL = func(r *http.Request) string { return "https://api.example" + r.URL.Path }
	remote, err := sessionhttp.NewRemote("https://auth.example/auth", cfg)
	require.NoError(t, err)
	for name, c := range map[string]struct {
		edits members
		want  error
	}{
		"good":            {nil, tokensession.ErrUnavailable},
		"the server's":    {members{"htu": `"http://10.0.0.1/notes"`}, sessionhttp.ErrInvalidProof},
		"another path":    {members{"htu": `"https://api.example/"`}, sessionhttp.ErrInvalidProof},
		"of another time": {members{"iat": fmt.Sprint(time.Now().Unix())}, sessionhttp.ErrUseNonce},
	} {
		require.Greater(t, time.Since(b.clock.Now()).Abs(), time.Hour)
		_, err := remote.Access(request(http.MethodGet, "http://10.0.0.1/notes",
			header("Authorization", "DPoP "+someToken), header("DPoP", b.proof(c.edits))))
		require.ErrorIs(t, err, c.want, name)
	}
}

func TestNewRemote_saysWhatIsWrongWithDPoP(t *testing.T) {
	type config = sessionhttp.RemoteConfig
	for message, edit := range map[string]func(*config){
		"DPoP 7: must be DPoPOff, DPoPAccepted or DPoPRequired": func(c *config) { c.DPoP = 7 },
		"ProofKeys[0] of 1 bytes: cannot be shorter than 32": func(c *config) {
			c.ProofKeys = [][]byte{{1}}
		},
		"ProofMemory -1: cannot be less than 1024": func(c *config) { c.ProofMemory = -1 },
		"ProofKeys is empty, and DPoP needs them: nonces are made with a secret that all " +
			"instances share": func(c *config) { c.ProofKeys = nil },
	} {
		cfg := remoteWithDPoP(sessionhttp.DPoPAccepted)
		edit(&cfg)
		_, err := sessionhttp.NewRemote("https://auth.example/auth", cfg)
		require.EqualError(t, err, "sessionhttp: RemoteConfig."+message)
	}
	secret := []byte("a secret of more than 32 bytes, which nobody may see")
	cfg := remoteWithDPoP(sessionhttp.DPoPAccepted)
	cfg.ProofKeys = [][]byte{secret}
	requireUnprinted(t, cfg, secret)
	require.Contains(t, fmt.Sprint(cfg), "https://auth.example")
	remote, err := sessionhttp.NewRemote("https://auth.example/auth", cfg)
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprintf("%v %+v %#v", remote, remote, remote), "97 32 115 101")
}

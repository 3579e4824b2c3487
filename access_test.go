package tokensession_test

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

func TestAccessToken_hasTheFormOfRFC9068(t *testing.T) {
	for _, k := range testKeys() {
		b := newAccessBench(t, k, tokensession.AccessConfig{}, tokensession.Config{
			Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
				return tokensession.Grant{Scope: "read write", Claims: map[string]any{"role": "admin"}}, nil
			},
		})
		tokens := b.start(t, tokensession.WithClient("app"), tokensession.WithAuthTime(forgeTime.Add(-time.Hour)),
			tokensession.WithAuthMethods("pwd", "otp"), tokensession.WithAuthContext("urn:example:gold"),
			tokensession.WithActor("carol"))

		require.Equal(t, k.header(), string(tokenPart(t, tokens.AccessToken, 0)), "the header, byte for byte")
		claims := claimsOf(t, tokens.AccessToken)
		jti, ok := claims["jti"].(string)
		require.True(t, ok)
		require.Len(t, jti, 22, "128 random bits")
		delete(claims, "jti")
		require.Equal(t, map[string]any{
			"iss": "https://auth.example", "sub": "alice", "aud": "https://api.example", "client_id": "app",
			"exp": json.Number(fmt.Sprint(forgeTime.Unix() + 900)), "iat": json.Number(fmt.Sprint(forgeTime.Unix())),
			"auth_time": json.Number(fmt.Sprint(forgeTime.Unix() - 3600)), "sid": tokens.Session.ID,
			"amr": []any{"pwd", "otp"}, "acr": "urn:example:gold", "act": map[string]any{"sub": "carol"},
			"scope": "read write", "role": "admin",
		}, claims)

		for name, verify := range b.verifiers() {
			access, err := verify(tokens.AccessToken)
			require.NoError(t, err, "%s by %s", k.alg, name)
			require.Equal(t, jti, access.ID)
			require.Equal(t, tokens.Session.ID, access.SessionID)
			require.Equal(t, "alice", access.Subject)
			require.Equal(t, "app", access.ClientID)
			require.Equal(t, "https://auth.example", access.Issuer)
			require.Equal(t, "read write", access.Scope)
			require.Equal(t, []string{"https://api.example"}, access.Audience)
			require.Equal(t, forgeTime, access.IssuedAt)
			require.Equal(t, forgeTime.Add(15*time.Minute), access.ExpiresAt)
			require.Equal(t, tokens.AccessExpiresAt, access.ExpiresAt)
			require.Equal(t, forgeTime.Add(-time.Hour), access.AuthTime)
			require.Equal(t, []string{"pwd", "otp"}, access.AuthMethods)
			require.Equal(t, "urn:example:gold", access.AuthContext)
			require.Equal(t, "carol", access.Actor)
		}
	}
}

func TestAccessToken_leavesOutWhatIsNotThere(t *testing.T) {
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	claims := claimsOf(t, b.start(t).AccessToken)
	for _, name := range []string{"client_id", "scope", "nbf"} {
		require.NotContains(t, claims, name)
	}
	require.Len(t, claims, 8)
}

func TestAccessToken_neverHasTheSameID(t *testing.T) {
	b := newAccessBench(t, testKeyFor("HS256"), tokensession.AccessConfig{}, tokensession.Config{})
	tokens := b.start(t)
	seen := map[any]bool{claimsOf(t, tokens.AccessToken)["jti"]: true}
	for range 100 {
		next, err := b.manager.Refresh(context.Background(), tokens.RefreshToken) // the first rotates, the others replay
		require.NoError(t, err)
		id := claimsOf(t, next.AccessToken)["jti"]
		require.False(t, seen[id])
		seen[id] = true
	}
}

// The claim is optional (RFC 9068 section 2.2.1): an issuer that is not us may leave it out.
func TestAccess_withoutAuthTimeHasNone(t *testing.T) {
	k := testKeyFor("EdDSA")
	b := newAccessBench(t, k, tokensession.AccessConfig{}, tokensession.Config{})
	for claim, want := range map[string]time.Time{`"auth_time"`: {}, `"auth_time":0`: time.Unix(0, 0).UTC(), `"auth_time":1`: time.Unix(1, 0).UTC()} {
		access, err := b.manager.Verify(k.forge(k.header(), claimsWith(claim)))
		require.NoError(t, err, claim)
		require.Equal(t, want, access.AuthTime, claim)
	}
}

func TestAccess_keepsAuthTimeThroughRefreshes(t *testing.T) {
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	login := forgeTime.Add(-time.Minute)
	tokens := b.start(t, tokensession.WithAuthTime(login))
	for range 5 {
		b.clock.Advance(time.Hour)
		var err error
		tokens, err = b.manager.Refresh(context.Background(), tokens.RefreshToken)
		require.NoError(t, err)
		access, err := b.manager.Verify(tokens.AccessToken)
		require.NoError(t, err)
		require.Equal(t, login, access.AuthTime)
		require.Equal(t, b.clock.Now(), access.IssuedAt)
	}
}

func TestAccessConfig_isRefusedByFieldValueAndBound(t *testing.T) {
	type C = tokensession.AccessConfig
	long := strings.Repeat("x", 256)
	for name, c := range map[string]struct {
		change func(*C)
		want   []string
	}{
		"no issuer":            {func(c *C) { c.Issuer = "" }, []string{"AccessConfig.Issuer", "empty"}},
		"long issuer":          {func(c *C) { c.Issuer = long }, []string{"AccessConfig.Issuer", "256", "255"}},
		"issuer not UTF-8":     {func(c *C) { c.Issuer = "a\xff" }, []string{"AccessConfig.Issuer", `"a\xff"`, "UTF-8"}},
		"issuer with newline":  {func(c *C) { c.Issuer = "a\nb" }, []string{"AccessConfig.Issuer", `"a\nb"`, "U+000A"}},
		"no audience":          {func(c *C) { c.Audience = nil }, []string{"AccessConfig.Audience", "empty"}},
		"an empty audience":    {func(c *C) { c.Audience = []string{"a", ""} }, []string{"AccessConfig.Audience", "empty"}},
		"long audience":        {func(c *C) { c.Audience = []string{long} }, []string{"AccessConfig.Audience", "256", "255"}},
		"audience with NUL":    {func(c *C) { c.Audience = []string{"a\x00"} }, []string{"AccessConfig.Audience", "U+0000"}},
		"negative leeway":      {func(c *C) { c.Leeway = -time.Second }, []string{"AccessConfig.Leeway", "-1s", "5m0s"}},
		"long leeway":          {func(c *C) { c.Leeway = 5*time.Minute + 1 }, []string{"AccessConfig.Leeway", "5m0.000000001s", "5m0s"}},
		"negative KeepKeys":    {func(c *C) { c.KeepKeys = -1 }, []string{"AccessConfig.KeepKeys", "-1ns"}},
		"KeepKeys for ever":    {func(c *C) { c.KeepKeys = 1<<63 - 1 }, []string{"AccessConfig.KeepKeys", "876000h0m0s"}},
		"a cache of any size":  {func(c *C) { c.CacheSize = 1<<63 - 1 }, []string{"AccessConfig.CacheSize", "9223372036854775807", "16777216"}},
		"a cache that is huge": {func(c *C) { c.CacheSize = 1<<24 + 1 }, []string{"AccessConfig.CacheSize", "16777217", "16777216"}},
	} {
		cfg := accessConfig
		c.change(&cfg)
		k := testKeyFor("EdDSA")
		_, signerErr := tokensession.NewAccessSigner(k.key, cfg)
		jwks := newAccessBench(t, k, C{}, tokensession.Config{}).signer.JWKS()
		verifier, verifierErr := tokensession.NewAccessVerifier(jwks, cfg)
		require.Nil(t, verifier, name)
		for _, err := range []error{signerErr, verifierErr} {
			require.Error(t, err, name)
			require.True(t, strings.HasPrefix(err.Error(), "tokensession: "), "%s: %v", name, err)
			for _, w := range c.want {
				require.ErrorContains(t, err, w, name)
			}
		}
	}
	for name, change := range map[string]func(*C){
		"the longest leeway": func(c *C) { c.Leeway = 5 * time.Minute },
		"no cache":           func(c *C) { c.CacheSize = -1 },
		"a cache of one":     func(c *C) { c.CacheSize = 1 },
		"the longest issuer": func(c *C) { c.Issuer = long[:255] },
		"any issuer":         func(c *C) { c.Issuer = "ünïcode <&> issuer" },
	} {
		cfg := accessConfig
		change(&cfg)
		_, err := tokensession.NewAccessSigner(testKeyFor("EdDSA").key, cfg)
		require.NoError(t, err, name)
	}
	_, err := tokensession.NewAccessSigner(tokensession.Key{}, accessConfig)
	require.ErrorContains(t, err, "zero value")
}

func TestSetKeys_replacesTheSet(t *testing.T) {
	a := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	b := newAccessBench(t, testKeyFor("ES256"), tokensession.AccessConfig{}, tokensession.Config{})
	v := a.verifier
	requireGood(t, a, "first", v.Verify)
	requireRefused(t, "a key not yet there", v.Verify, b.good)
	for name, jwks := range map[string]string{"garbage": "garbage", "empty": `{"keys":[]}`, "no usable key": `{"keys":[{"kty":"XYZ"}]}`} {
		require.Error(t, v.SetKeys([]byte(jwks)), name)
		requireGood(t, a, "after an error", v.Verify)
	}
	require.NoError(t, v.SetKeys(b.signer.JWKS()))
	requireGood(t, b, "second", v.Verify)
	requireRefused(t, "a key that is gone", v.Verify, a.good)
	require.NoError(t, v.SetKeys(fmt.Appendf(nil, `{"keys":[%s,%s]}`, jwksKeys(a.signer.JWKS())[0], jwksKeys(b.signer.JWKS())[0])))
	requireGood(t, a, "both", v.Verify)
	requireGood(t, b, "both", v.Verify)
}

func TestNewAccessVerifier_passesForeignKeysOver(t *testing.T) {
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	own := string(jwksKeys(b.signer.JWKS())[0])
	ecPublic := jwkWithout(ecJWK(keyFor(otherKeys(), "ES256").private.(*ecdsa.PrivateKey)), "d")
	foreign := []string{
		`{}`, `[]`, `null`, `1`, `"x"`, `{"kty":"XYZ","kid":"x"}`, `{"kty":"OKP","crv":"X25519","x":"` + strings.Repeat("A", 43) + `"}`,
		jwkWith(ecPublic, "use", "enc"), jwkWith(ecPublic, "alg", "ECDH-ES"), jwkWith(ecPublic, "crv", "secp256k1"), jwkPlus(ecPublic, `"key_ops":["deriveKey"]`),
		jwkWith(ecPublic, "x", "AA"), jwkWithout(ecPublic, "y"), jwkPlus(ecPublic, `"X":"AA"`), jwkPlus(ecPublic, `"use":1`),
		`{"kty":"RSA","n":"` + b64(make([]byte, 256)) + `","e":"AQAB"}`, `{"kty":"RSA","n":"` + strings.Repeat("_", 171) + `","e":"AQAB"}`,
	}
	jwks := fmt.Sprintf(" {\"keys\":[%s,%s],\"x\":1}\n", strings.Join(foreign, ","), own)
	cfg := accessConfig
	cfg.Now = b.clock.Now
	v, err := tokensession.NewAccessVerifier([]byte(jwks), cfg)
	require.NoError(t, err)
	requireGood(t, b, "among foreign keys", v.Verify)
	for _, f := range foreign {
		_, err := tokensession.NewAccessVerifier(fmt.Appendf(nil, `{"keys":[%s]}`, f), cfg)
		require.ErrorContains(t, err, "no usable key", f)
	}
}

// TestNewAccessVerifier_namesKeysItself: what kid a foreign set gives to a key does not matter.
func TestNewAccessVerifier_namesKeysItself(t *testing.T) {
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	cfg := accessConfig
	cfg.Now = b.clock.Now
	for _, jwk := range []string{
		jwkWith(string(jwksKeys(b.signer.JWKS())[0]), "kid", "2026-01"), jwkWithout(string(jwksKeys(b.signer.JWKS())[0]), "kid", "alg", "use"),
		jwkPlus(string(jwksKeys(b.signer.JWKS())[0]), `"key_ops":["verify"]`),
	} {
		v, err := tokensession.NewAccessVerifier([]byte(`{"keys":[`+jwk+`]}`), cfg)
		require.NoError(t, err)
		requireGood(t, b, jwk, v.Verify)
		requireRefused(t, "the foreign kid", v.Verify, b.forge(strings.Replace(b.header(), b.key.ID(), "2026-01", 1), claimsWith()))
	}
}

// TestNewAccessVerifier_countsAKeyOnce: a set that has been put together from several sources can
// have a key twice. The key is no less good for that, and the others in the set have no part in it.
func TestNewAccessVerifier_countsAKeyOnce(t *testing.T) {
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	ec := newAccessBench(t, testKeyFor("ES256"), tokensession.AccessConfig{}, tokensession.Config{})
	own, other := string(jwksKeys(b.signer.JWKS())[0]), string(jwksKeys(ec.signer.JWKS())[0])
	cfg := accessConfig
	cfg.Now = b.clock.Now
	for name, keys := range map[string][]string{
		"the same text":            {own, own},
		"three times":              {own, own, own},
		"with another kid":         {own, jwkWith(own, "kid", "x")},
		"with another kid before":  {jwkWith(own, "kid", "x"), own},
		"without kid, alg and use": {own, jwkWithout(own, "kid", "alg", "use")},
		"for another purpose":      {jwkWith(own, "use", "enc"), own},
		"with another key between": {own, other, own, other},
	} {
		v, err := tokensession.NewAccessVerifier([]byte(`{"keys":[`+strings.Join(keys, ",")+`]}`), cfg)
		require.NoError(t, err, name)
		requireGood(t, b, name, v.Verify)
		if slices.Contains(keys, other) {
			requireGood(t, ec, name, v.Verify)
		}
	}
}

// TestNewAccessVerifier_takesAnRSAKeyForTwoAlgorithms: a key is what its material and its algorithm
// say together, so one RSA key can verify tokens of both kinds. A set with only one of the two
// verifies no tokens of the other.
func TestNewAccessVerifier_takesAnRSAKeyForTwoAlgorithms(t *testing.T) {
	var benches []*accessBench
	var jwks []string
	for _, alg := range []string{"RS256", "PS256"} {
		k := testKey{alg: alg, private: rsaKey("RS256")}
		k.key = mustGet(tokensession.ParseKeyJWK(rsaJWK(rsaKey("RS256"), alg)))
		k.good = k.forge(k.header(), claimsWith())
		b := newAccessBench(t, k, tokensession.AccessConfig{}, tokensession.Config{})
		benches, jwks = append(benches, b), append(jwks, string(jwksKeys(b.signer.JWKS())[0]))
	}
	require.Equal(t, benches[0].key.ID(), benches[1].key.ID())
	cfg := accessConfig
	cfg.Now = benches[0].clock.Now
	for _, set := range []string{
		jwks[0] + "," + jwks[1], jwks[1] + "," + jwks[0],
		jwkWithout(jwks[0], "alg") + "," + jwks[1] + "," + jwks[0] + "," + jwks[1],
	} {
		v, err := tokensession.NewAccessVerifier([]byte(`{"keys":[`+set+`]}`), cfg)
		require.NoError(t, err)
		for i, b := range benches {
			requireGood(t, b, b.alg, v.Verify)
			requireRefused(t, "called the other kind", v.Verify, b.forge(benches[1-i].header(), claimsWith()))
		}
	}
	for i, b := range benches {
		v, err := tokensession.NewAccessVerifier([]byte(`{"keys":[`+jwks[1-i]+`]}`), cfg)
		require.NoError(t, err)
		_, err = v.Verify(b.forge(b.header(), claimsWith()))
		require.ErrorIs(t, err, tokensession.ErrUnknownKey, "%s is not in the set", b.alg)
	}
}

func TestNewAccessVerifier_refuses(t *testing.T) {
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	own := string(jwksKeys(b.signer.JWKS())[0])
	for name, c := range map[string]struct{ jwks, want string }{
		"nothing":              {"", "JWKS"},
		"garbage":              {"garbage", "JWKS"},
		"a key":                {own, "no array of keys"},
		"an array":             {"[" + own + "]", "JWKS"},
		"no keys":              {`{"keys":[]}`, "no key in the set"},
		"null":                 {`{"keys":null}`, "no array of keys"},
		"an object":            {`{"keys":` + own + `}`, "no array of keys"},
		"keys twice":           {`{"keys":[` + own + `],"keys":[]}`, "two names"},
		"Keys beside keys":     {`{"keys":[` + own + `],"Keys":[]}`, "case"},
		"Kelvin sign in keys":  {`{"keys":[` + own + `],"` + "\u212A" + `eys":[]}`, "case"},
		"a member twice":       {`{"keys":[` + own + `,` + jwkPlus(own, `"x":"AA"`) + `]}`, "twice"},
		"two sets":             {`{"keys":[` + own + `]}{"keys":[` + own + `]}`, "JWKS"},
		"a private key":        {`{"keys":[` + own + `,` + okpJWK() + `]}`, "private"},
		"a private EC key":     {`{"keys":[` + own + `,` + ecJWK(ecKey("ES256")) + `]}`, "private"},
		"a private RSA key":    {`{"keys":[` + string(rsaJWK(rsaKey("RS256"), "RS256")) + `,` + own + `]}`, "private"},
		"half of an RSA key":   {`{"keys":[` + own + `,` + jwkWithout(string(rsaJWK(rsaKey("RS256"), "RS256")), "d", "q", "dp", "dq", "qi") + `]}`, "private"},
		"a secret":             {`{"keys":[` + own + `,` + octJWK(testKeyFor("HS256").secret) + `]}`, "symmetric"},
		"a secret alone":       {`{"keys":[` + octJWK(testKeyFor("HS256").secret) + `]}`, "symmetric"},
		"an unusable secret":   {`{"keys":[` + own + `,{"kty":"XYZ","k":"AA"}]}`, "symmetric"},
		"a private key to use": {`{"keys":[` + own + `,` + okpJWK("use", "enc") + `]}`, "private"},
		"the signer's own":     {string(newAccessBench(t, testKeyFor("HS256"), tokensession.AccessConfig{}, tokensession.Config{}).signer.JWKS()), "HMAC keys are never published"},
		"RSA of 1024 bits":     {`{"keys":[{"kty":"RSA","n":"` + strings.Repeat("_", 170) + "8" + `","e":"AQAB"}]}`, "cannot be shorter than 2048"},
		"alg none":             {`{"keys":[` + jwkWith(own, "alg", "none") + `]}`, "alg"},
		"alg HS256":            {`{"keys":[` + jwkWith(own, "alg", "HS256") + `]}`, "alg"},
	} {
		v, err := tokensession.NewAccessVerifier([]byte(c.jwks), accessConfig)
		require.ErrorContains(t, err, c.want, name)
		require.True(t, strings.HasPrefix(err.Error(), "tokensession: JWKS: "), "%s: %v", name, err)
		require.Nil(t, v, name)
		if strings.Contains(c.jwks, `"d":`) || strings.Contains(c.jwks, `"k":`) {
			requireQuotesNothing(t, err, c.jwks, name)
		}
	}
}

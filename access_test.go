package tokensession_test

import (
	"context"
	"encoding/json"
	"fmt"
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
		tokens := b.start(t, tokensession.WithClient("app"), tokensession.WithAuthTime(forgeTime.Add(-time.Hour)))

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
		b.clock.advance(time.Hour)
		var err error
		tokens, err = b.manager.Refresh(context.Background(), tokens.RefreshToken)
		require.NoError(t, err)
		access, err := b.manager.Verify(tokens.AccessToken)
		require.NoError(t, err)
		require.Equal(t, login, access.AuthTime)
		require.Equal(t, b.clock.t, access.IssuedAt)
	}
}

// TestVerify_atEveryBoundaryOfTime moves the clock to either side of exp, iat and nbf, with and without the token in
// the cache.
func TestVerify_atEveryBoundaryOfTime(t *testing.T) {
	const us = time.Microsecond
	exp := forgeTime.Add(900 * time.Second)
	invalid, expired := tokensession.ErrInvalidToken, tokensession.ErrExpired
	nbf := fmt.Sprintf(`"nbf":%d`, forgeTime.Unix()+60)
	late := forgeTime.Add(time.Minute)
	for _, c := range []struct {
		name   string
		leeway time.Duration
		claims string
		now    time.Time
		want   error
	}{
		{"1 µs before exp", 0, claimsWith(), exp.Add(-us), nil},
		{"1 ns before exp", 0, claimsWith(), exp.Add(-1), nil},
		{"at exp", 0, claimsWith(), exp, expired},
		{"after exp", 0, claimsWith(), exp.Add(us), expired},
		{"long after exp", 0, claimsWith(), exp.AddDate(1000, 0, 0), expired},
		{"at exp with leeway", 2 * time.Second, claimsWith(), exp, nil},
		{"1 µs before exp and leeway", 2 * time.Second, claimsWith(), exp.Add(2*time.Second - us), nil},
		{"at exp and leeway", 2 * time.Second, claimsWith(), exp.Add(2 * time.Second), expired},
		{"at exp and a leeway of 1 µs", us, claimsWith(), exp.Add(us), expired},
		{"within a leeway of 1 µs", us, claimsWith(), exp.Add(us - 1), nil},
		{"exp of 1970", 0, claimsWith(`"exp":0`, `"iat":0`), forgeTime, expired},
		{"at iat", 0, claimsWith(), forgeTime, nil},
		{"1 µs before iat", 0, claimsWith(), forgeTime.Add(-us), invalid},
		{"1 ns before iat", 0, claimsWith(), forgeTime.Add(-1), invalid},
		{"before iat within leeway", 2 * time.Second, claimsWith(), forgeTime.Add(-2 * time.Second), nil},
		{"before iat and leeway", 2 * time.Second, claimsWith(), forgeTime.Add(-2*time.Second - us), invalid},
		{"at nbf", 0, claimsWith(nbf), late, nil},
		{"1 µs before nbf", 0, claimsWith(nbf), late.Add(-us), invalid},
		{"before nbf within leeway", 2 * time.Second, claimsWith(nbf), late.Add(-2 * time.Second), nil},
		{"before nbf and leeway", 2 * time.Second, claimsWith(nbf), late.Add(-2*time.Second - us), invalid},
		{"not begun and already over", 0, claimsWith(`"exp":0`, fmt.Sprintf(`"nbf":%d`, forgeTime.Unix()+60)), forgeTime, invalid},
		{"in another zone", 0, claimsWith(), exp.In(time.FixedZone("", 3600)), expired},
	} {
		b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{Leeway: c.leeway}, tokensession.Config{})
		token := b.forge(b.header(), c.claims)
		for name, verify := range b.verifiers() {
			for _, cached := range []bool{false, true} {
				if cached { // at a moment when the token is good, if there is one
					b.clock.t = late
					_, _ = verify(token)
				}
				b.clock.t = c.now
				_, err := verify(token)
				if c.want == nil {
					require.NoError(t, err, "%s by %s, cached: %v", c.name, name, cached)
				} else {
					require.ErrorIs(t, err, c.want, "%s by %s, cached: %v", c.name, name, cached)
				}
			}
		}
	}
}

// TestVerify_saysExpiredOfAuthenticTokensOnly: whoever guesses must not learn from the answer what a good guess is.
func TestVerify_saysExpiredOfAuthenticTokensOnly(t *testing.T) {
	b := newAccessBench(t, testKeyFor("ES256"), tokensession.AccessConfig{}, tokensession.Config{})
	other := keyFor(otherKeys(), "ES256")
	past := func(members ...string) string { return claimsWith(append(members, `"exp":1000`, `"iat":0`)...) }
	for name, token := range map[string]string{
		"signed by another":       other.forge(b.header(), past()),
		"of another key":          other.forge(other.header(), past()),
		"alg none":                b64([]byte(`{"alg":"none"}`)) + "." + b64([]byte(past())) + ".",
		"signature cut off":       b.forge(b.header(), past())[:200],
		"another issuer":          b.forge(b.header(), past(`"iss":"https://evil.example"`)),
		"another audience":        b.forge(b.header(), past(`"aud":"https://other.example"`)),
		"without sid":             b.forge(b.header(), past(`"sid"`)),
		"typ JWT":                 b.forge(strings.Replace(b.header(), "at+jwt", "JWT", 1), past()),
		"duplicate name":          b.forge(b.header(), strings.Replace(past(), `{`, `{"sub":"x",`, 1)),
		"expired, and nbf is not": b.forge(b.header(), past(`"nbf":9999999999`)),
	} {
		for by, verify := range b.verifiers() {
			requireRefused(t, name+" by "+by, verify, token)
		}
	}
	for by, verify := range b.verifiers() {
		_, err := verify(b.forge(b.header(), past()))
		require.ErrorIs(t, err, tokensession.ErrExpired, by)
		require.NotErrorIs(t, err, tokensession.ErrInvalidToken, by)
	}
}

func TestVerify_acceptsTokensForAnyOfItsAudiences(t *testing.T) {
	cfg := accessConfig
	cfg.Audience = []string{"https://a.example", "https://b.example"}
	cfg.Now = (&clock{t: forgeTime}).Now
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	v, err := tokensession.NewAccessVerifier(b.signer.JWKS(), cfg)
	require.NoError(t, err)
	cfg.Audience[0] = "https://api.example" // the verifier has its own copy
	for aud, ok := range map[string]bool{
		`"https://a.example"`: true, `"https://b.example"`: true, `["https://c.example","https://b.example"]`: true,
		`"https://c.example"`: false, `"https://api.example"`: false,
	} {
		_, err := v.Verify(b.forge(b.header(), claimsWith(`"aud":`+aud)))
		if ok {
			require.NoError(t, err, aud)
		} else {
			require.ErrorIs(t, err, tokensession.ErrInvalidToken, aud)
		}
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

func TestVerify_goesByTheRealClockIfNoneIsGiven(t *testing.T) {
	k := testKeyFor("EdDSA")
	signer, err := tokensession.NewAccessSigner(k.key, accessConfig)
	require.NoError(t, err)
	m, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{})
	require.NoError(t, err)
	v, err := tokensession.NewAccessVerifier(signer.JWKS(), accessConfig)
	require.NoError(t, err)
	tokens, err := m.Start(context.Background(), "alice")
	require.NoError(t, err)
	for _, verify := range []verifyFunc{m.Verify, v.Verify} {
		_, err = verify(tokens.AccessToken)
		require.NoError(t, err)
		_, err = verify(k.forge(k.header(), claimsWith(`"exp":1000000000`, `"iat":0`)))
		require.ErrorIs(t, err, tokensession.ErrExpired)
	}
}

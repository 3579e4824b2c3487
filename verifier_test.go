package tokensession_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// TestVerify_atEveryBoundaryOfTime moves the clock to either side of exp, iat and nbf, with and
// without the token in the cache.
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
					b.clock.Set(late)
					_, _ = verify(token)
				}
				b.clock.Set(c.now)
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

// TestVerify_saysExpiredOfAuthenticTokensOnly: whoever guesses must not learn from the answer what
// a good guess is.
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
	cfg.Now = testkit.NewClockAt(forgeTime).Now
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

// TestVerify_tellsAnUnknownKeyFromGarbage: a service that follows the JWKS fetches it again for the
// former. It must do so for nothing else, because anybody can send it garbage.
func TestVerify_tellsAnUnknownKeyFromGarbage(t *testing.T) {
	for _, k := range testKeys() {
		b := newAccessBench(t, k, tokensession.AccessConfig{}, tokensession.Config{})
		unknown := keyFor(otherKeys(), k.alg)
		kid, header := unknown.key.ID(), unknown.header()
		rest := "." + b64([]byte(claimsWith())) + "." + b64(make([]byte, 64))
		good := b64([]byte(header))
		with := func(old, replacement string) string {
			require.Contains(t, header, old)
			return b64([]byte(strings.Replace(header, old, replacement, 1))) + rest
		}
		other := "RS256"
		if k.alg == other {
			other = "PS256"
		}
		require.Equal(t, `{"alg":"`+k.alg+`","kid":"`+kid+`","typ":"at+jwt"}`, header)
		for name, verify := range b.verifiers() {
			for what, token := range map[string]string{
				"a key that came later":    unknown.forge(header, claimsWith()),
				"made up":                  with(kid, strings.Repeat("A", 43)),
				"ours, with another alg":   b64([]byte(strings.Replace(b.header(), k.alg, other, 1))) + rest,
				"with nothing to be found": good + "..",
			} {
				_, err := verify(token)
				require.ErrorIs(t, err, tokensession.ErrUnknownKey, "%s: %s: %s", name, k.alg, what)
				require.ErrorIs(t, err, tokensession.ErrInvalidToken, what)
				require.EqualError(t, err, "tokensession: invalid token: signed with an unknown key", "it quotes nothing")
			}
			for what, token := range map[string]string{
				"nothing":                       "",
				"a header alone":                good,
				"two parts":                     good + "." + b64([]byte(claimsWith())),
				"four parts":                    good + rest + ".x",
				"a payload not of base64url":    good + ".!.AA",
				"a signature with stray bits":   good + ".e30.AB",
				"a line end in the payload":     good + ".e3\n0.AA",
				"a line end in the header":      good[:8] + "\n" + good[8:] + rest,
				"a padded header":               good + "=" + rest,
				"too long":                      good + "." + strings.Repeat("A", 8<<10) + ".AA",
				"alg none":                      with(k.alg, "none"),
				"an alg in another case":        with(k.alg, strings.ToLower(k.alg)+"x"),
				"an alg that we do not have":    with(k.alg, "RS384"),
				"an empty alg":                  with(k.alg, ""),
				"a typ of something else":       with("at+jwt", "JWT"),
				"a typ in another case":         with("at+jwt", "AT+JWT"),
				"no typ":                        with(`,"typ":"at+jwt"`, ""),
				"a kid that is too short":       with(kid, kid[:42]),
				"a kid that is too long":        with(kid, kid+"A"),
				"an empty kid":                  with(kid, ""),
				"a kid of another form":         with(kid, "2026-01-01"),
				"a kid with stray bits":         with(kid, strings.Repeat("A", 42)+"B"),
				"a kid of another alphabet":     with(kid, strings.Repeat("/", 42)+"A"),
				"a kid with a line end":         with(kid, kid[:21]+"\n"+kid[22:]),
				"a kid with a line end more":    with(kid, kid[:21]+"\n"+kid[21:]),
				"a kid with an escape":          with(kid, kid[:42]+`\u0041`),
				"no kid":                        with(`"kid":"`+kid+`",`, ""),
				"a member more":                 with(`"at+jwt"`, `"at+jwt","jku":"https://evil.example"`),
				"a member before":               with(`{`, `{"crit":["x"],`),
				"alg twice":                     with(`{`, `{"alg":"none",`),
				"another order":                 b64([]byte(`{"kid":"`+kid+`","alg":"`+k.alg+`","typ":"at+jwt"}`)) + rest,
				"white space":                   with(`,`, `, `),
				"white space behind":            b64([]byte(header+" ")) + rest,
				"two objects":                   b64([]byte(header+header)) + rest,
				"ours, with a wrong signature":  b64([]byte(b.header())) + rest,
				"ours, signed by somebody else": unknown.forge(b.header(), claimsWith()),
			} {
				_, err := verify(token)
				require.ErrorIs(t, err, tokensession.ErrInvalidToken, "%s: %s: %s", name, k.alg, what)
				require.NotErrorIs(t, err, tokensession.ErrUnknownKey, "%s: %s: %s", name, k.alg, what)
			}
		}
	}
}

// TestVerify_knowsANewKeyAfterSetKeys is the story of a service that follows the JWKS itself.
func TestVerify_knowsANewKeyAfterSetKeys(t *testing.T) {
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	before := b.start(t).AccessToken
	require.NoError(t, b.signer.Rotate(testKeyFor("ES256").key, forgeTime))
	after := b.start(t).AccessToken
	_, err := b.verifier.Verify(after)
	require.ErrorIs(t, err, tokensession.ErrUnknownKey)
	require.NoError(t, b.verifier.SetKeys(b.signer.JWKS()))
	_, err = b.verifier.Verify(after)
	require.NoError(t, err)

	require.NoError(t, b.signer.Retire(testKeyFor("EdDSA").key.ID()))
	require.NoError(t, b.verifier.SetKeys(b.signer.JWKS()))
	for name, verify := range b.verifiers() {
		_, err = verify(before)
		require.ErrorIs(t, err, tokensession.ErrUnknownKey, "%s: a key that was removed is not there", name)
	}
	_, err = b.manager.SessionID(before)
	require.ErrorIs(t, err, tokensession.ErrUnknownKey)
}

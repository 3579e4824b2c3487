package tokensession_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// A testKey is a key with which a test can sign what it likes, with nothing but the standard
// library.
type testKey struct {
	alg     string
	key     tokensession.Key
	private crypto.Signer // nil for HS256
	secret  []byte        // for HS256
	good    string        // a token with the good claims
}

// testKeys has one key for each algorithm, and otherKeys another one for each.
var (
	testKeys  = sync.OnceValue(makeTestKeys)
	otherKeys = sync.OnceValue(makeTestKeys)
)

func makeTestKeys() []testKey {
	_, ed, err := ed25519.GenerateKey(rand.Reader)
	noError(err)
	rs, err := rsa.GenerateKey(rand.Reader, 2048)
	noError(err)
	ps, err := rsa.GenerateKey(rand.Reader, 2048)
	noError(err)
	keys := []testKey{{alg: "EdDSA", private: ed}, {alg: "RS256", private: rs}, {alg: "PS256", private: ps}}
	for alg, curve := range map[string]elliptic.Curve{"ES256": elliptic.P256(), "ES384": elliptic.P384(), "ES512": elliptic.P521()} {
		ec, err := ecdsa.GenerateKey(curve, rand.Reader)
		noError(err)
		keys = append(keys, testKey{alg: alg, private: ec})
	}
	for i := range keys {
		if k := &keys[i]; k.alg == "PS256" {
			k.key, err = tokensession.ParseKeyJWK(rsaJWK(ps, "PS256"))
		} else {
			k.key, err = tokensession.NewKey(k.private)
		}
		noError(err)
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	hmacKey, err := tokensession.NewHMACKey(secret)
	noError(err)
	keys = append(keys, testKey{alg: "HS256", key: hmacKey, secret: secret})
	for i, k := range keys {
		keys[i].good = k.forge(k.header(), claimsWith())
	}
	return keys
}

func noError(err error) {
	if err != nil {
		panic(err)
	}
}

func testKeyFor(alg string) testKey { return keyFor(testKeys(), alg) }

func keyFor(keys []testKey, alg string) testKey {
	for _, k := range keys {
		if k.alg == alg {
			return k
		}
	}
	panic("no key for " + alg)
}

func rsaJWK(k *rsa.PrivateKey, alg string) []byte {
	k.Precompute()
	n := func(i *big.Int) string { return b64(i.Bytes()) }
	return fmt.Appendf(nil, `{"kty":"RSA","alg":%q,"n":%q,"e":"AQAB","d":%q,"p":%q,"q":%q,"dp":%q,"dq":%q,"qi":%q}`, alg,
		n(k.N), n(k.D), n(k.Primes[0]), n(k.Primes[1]), n(k.Precomputed.Dp), n(k.Precomputed.Dq), n(k.Precomputed.Qinv))
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// sign signs with the key's own algorithm.
func (k testKey) sign(data []byte) []byte { return k.signAs(k.alg, data) }

// signAs signs with any algorithm that the key can be used with.
func (k testKey) signAs(alg string, data []byte) []byte {
	if alg == "EdDSA" {
		return ed25519.Sign(k.private.(ed25519.PrivateKey), data)
	}
	hash := map[string]crypto.Hash{"256": crypto.SHA256, "384": crypto.SHA384, "512": crypto.SHA512}[alg[2:]]
	if alg[:2] == "HS" {
		return hmacSum(hash, k.secret, data)
	}
	h := hash.New()
	h.Write(data)
	digest := h.Sum(nil)
	switch alg[:2] {
	case "ES":
		r, s := ecSign(k.private.(*ecdsa.PrivateKey), digest)
		return ecSignature(k.private.(*ecdsa.PrivateKey).Curve, r, s)
	case "PS":
		sig, err := k.private.Sign(rand.Reader, digest, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash, Hash: hash})
		noError(err)
		return sig
	default:
		sig, err := k.private.Sign(rand.Reader, digest, hash)
		noError(err)
		return sig
	}
}

func hmacSum(hash crypto.Hash, secret, data []byte) []byte {
	m := hmac.New(hash.New, secret)
	m.Write(data)
	return m.Sum(nil)
}

func ecSign(k *ecdsa.PrivateKey, digest []byte) (r, s *big.Int) {
	r, s, err := ecdsa.Sign(rand.Reader, k, digest)
	noError(err)
	return r, s
}

// ecSignature is r and s side by side, as wide as the curve's order (RFC 7518 section 3.4).
func ecSignature(curve elliptic.Curve, r, s *big.Int) []byte {
	size := (curve.Params().BitSize + 7) / 8
	sig := make([]byte, 2*size)
	r.FillBytes(sig[:size])
	s.FillBytes(sig[size:])
	return sig
}

// header is the one header that tokens of the key have.
func (k testKey) header() string {
	return fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, k.alg, k.key.ID())
}

// forge makes a token of a header and a payload, both verbatim, with the key's genuine signature.
func (k testKey) forge(header, payload string) string {
	input := b64([]byte(header)) + "." + b64([]byte(payload))
	return input + "." + b64(k.sign([]byte(input)))
}

// forgeRaw signs what may not be base64url at all.
func (k testKey) forgeRaw(header, payload string) string {
	return header + "." + payload + "." + b64(k.sign([]byte(header+"."+payload)))
}

// forgeTime is when forged tokens are issued; they last 15 minutes.
var forgeTime = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// goodClaims are what a token needs, in the order of a token of ours.
func goodClaims() []string {
	return []string{
		`"iss":"https://auth.example"`, `"sub":"alice"`, `"aud":"https://api.example"`,
		fmt.Sprintf(`"exp":%d`, forgeTime.Unix()+900), fmt.Sprintf(`"iat":%d`, forgeTime.Unix()),
		`"jti":"token-1"`, `"sid":"session-1"`, fmt.Sprintf(`"auth_time":%d`, forgeTime.Unix()),
	}
}

// claimsWith returns the good claims with some replaced, or added, by members given as name:value,
// or removed, by a bare name.
func claimsWith(members ...string) string {
	claims := goodClaims()
	for _, m := range members {
		name, _, hasValue := strings.Cut(m, ":")
		i := 0
		for i < len(claims) && !strings.HasPrefix(claims[i], name+":") {
			i++
		}
		switch {
		case !hasValue && i < len(claims):
			claims = append(claims[:i], claims[i+1:]...)
		case !hasValue:
			panic("no claim " + name)
		case i < len(claims):
			claims[i] = m
		default:
			claims = append(claims, m)
		}
	}
	return "{" + strings.Join(claims, ",") + "}"
}

// An accessBench has one key, and both that verify its tokens: a Manager, and, unless the key is a
// secret, an AccessVerifier that knows its JWKS.
type accessBench struct {
	testKey
	clock    *testkit.Clock
	signer   *tokensession.AccessSigner
	manager  *tokensession.Manager
	verifier *tokensession.AccessVerifier
}

// newAccessBench keeps the config's fields but for issuer, audience and clock.
func newAccessBench(t testing.TB, k testKey, access tokensession.AccessConfig, sessions tokensession.Config) *accessBench {
	t.Helper()
	b := &accessBench{testKey: k, clock: testkit.NewClockAt(forgeTime)}
	access.Issuer, access.Audience, access.Now = accessConfig.Issuer, accessConfig.Audience, b.clock.Now
	sessions.Now = b.clock.Now
	var err error
	b.signer, err = tokensession.NewAccessSigner(k.key, access)
	require.NoError(t, err)
	b.manager, err = tokensession.New(b.signer, tokensession.NewMemoryStore(), sessions)
	require.NoError(t, err)
	if k.secret == nil {
		b.verifier, err = tokensession.NewAccessVerifier(b.signer.JWKS(), access)
		require.NoError(t, err)
	}
	return b
}

type verifyFunc func(token string) (tokensession.Access, error)

// verifiers are the ways to verify a token, by name.
func (b *accessBench) verifiers() map[string]verifyFunc {
	all := map[string]verifyFunc{"Manager": b.manager.Verify}
	if b.verifier != nil {
		all["AccessVerifier"] = b.verifier.Verify
	}
	return all
}

// start begins a session and returns its tokens.
func (b *accessBench) start(t testing.TB, opts ...tokensession.StartOption) tokensession.Tokens {
	t.Helper()
	tokens, err := b.manager.Start(context.Background(), "alice", opts...)
	require.NoError(t, err)
	return tokens
}

// tokenPart decodes a part of a token.
func tokenPart(t testing.TB, token string, i int) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.Strict().DecodeString(strings.Split(token, ".")[i])
	require.NoError(t, err)
	return b
}

// claimsOf decodes a token's payload, with numbers as they stand there.
func claimsOf(t testing.TB, token string) map[string]any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(tokenPart(t, token, 1))))
	d.UseNumber()
	claims := map[string]any{}
	require.NoError(t, d.Decode(&claims))
	return claims
}

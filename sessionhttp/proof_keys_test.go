package sessionhttp_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// requireInvalidHeader signs claims that are good below a header, with the right key.
func (b *proofBench) requireInvalidHeader(header, msg string) {
	b.t.Helper()
	b.requireInvalid(b.key.seal(header, b.claims(nil)), msg)
}

func TestCheck_typ(t *testing.T) {
	eachKey(t, func(t *testing.T, key clientKey) {
		b := newProofBench(t, key, sessionhttp.ProofConfig{})
		for _, typ := range []string{"", `"JWT"`, `"dpop+JWT"`, `"DPOP+JWT"`, `"at+jwt"`, `"dbsc+jwt"`,
			`"application/dpop+jwt"`,
			`""`, "1", "null", `["dpop+jwt"]`, `{"dpop+jwt":1}`, `"dpop+jwt "`} {
			b.requireInvalidHeader(key.header(members{"typ": typ}), typ)
		}
		b.requireGood(key.seal(key.header(members{"typ": `"d\u0070op+jwt"`}), b.claims(nil)))
	})
}

func TestCheck_algOfTheKey(t *testing.T) {
	eachKey(t, func(t *testing.T, key clientKey) {
		b := newProofBench(t, key, sessionhttp.ProofConfig{})
		names := []string{"", `"none"`, `"None"`, `""`, `"HS256"`, `"RS256"`, `"PS256"`, `"ES384"`,
			`"ES512"`, `"ES256K"`, `"Ed448"`, `"es256"`,
			`"eddsa"`, `"ED25519"`, `"ES256 "`, "1", "null", `["ES256"]`, `["EdDSA"]`}
		if key.alg == "ES256" {
			names = append(names, `"EdDSA"`, `"Ed25519"`)
		} else {
			names = append(names, `"ES256"`)
		}
		for _, alg := range names {
			header := key.header(members{"alg": alg})
			b.requireInvalidHeader(header, alg)
			b.requireInvalid(b64([]byte(header))+"."+b64([]byte(b.claims(nil)))+".",
				alg+" without a signature")
		}
	})
}

// The classic: the header says HMAC, and the secret is what everybody knows.
func TestCheck_publicKeyAsSecret(t *testing.T) {
	key := newP256Key(t)
	b := newProofBench(t, key, sessionhttp.ProofConfig{})
	x, err := base64.RawURLEncoding.DecodeString(key.jwk["x"][1:44])
	require.NoError(t, err)
	for _, secret := range [][]byte{nil, x, []byte(key.jwk.String()), []byte(key.jwk["x"]),
		someKeys[0]} {
		forged := key
		forged.sign = func(signed []byte) []byte {
			h := hmac.New(sha256.New, secret)
			h.Write(signed)
			return h.Sum(nil)
		}
		for _, jwk := range []members{key.jwk, {"kty": `"oct"`, "k": text(b64(secret))}} {
			b.requireInvalid(forged.seal(key.header(members{"alg": `"HS256"`, "jwk": jwk.String()}),
				b.claims(nil)))
		}
	}
}

func TestCheck_otherKindsOfKeys(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	point, err := p384.PublicKey.Bytes()
	require.NoError(t, err)
	signRSA := func(signed []byte) []byte {
		digest := sha256.Sum256(signed)
		signature, err := rsa.SignPKCS1v15(rand.Reader, rsaKey, crypto.SHA256, digest[:])
		require.NoError(t, err)
		return signature
	}
	for _, key := range []clientKey{
		newClientKey("RS256", members{"kty": `"RSA"`, "e": `"AQAB"`, "n": text(b64(rsaKey.N.Bytes()))},
			signRSA),
		newClientKey("ES384", members{"kty": `"EC"`, "crv": `"P-384"`, "x": text(b64(point[1:49])),
			"y": text(b64(point[49:]))},
			func([]byte) []byte { return make([]byte, 96) }),
	} {
		b := newProofBench(t, key, sessionhttp.ProofConfig{})
		b.requireInvalid(b.proof(nil), key.alg)
		for _, alg := range []string{`"ES256"`, `"EdDSA"`, `"Ed25519"`} {
			b.requireInvalidHeader(key.header(members{"alg": alg}), alg)
		}
	}
}

func TestCheck_jwk(t *testing.T) {
	eachKey(t, func(t *testing.T, key clientKey) {
		b := newProofBench(t, key, sessionhttp.ProofConfig{})
		for name, edits := range map[string]members{
			"private":            {"d": text(b64(make([]byte, 32)))},
			"private, empty":     {"d": `""`},
			"private, null":      {"d": "null"},
			"private, in case":   {"D": `"x"`},
			"symmetric":          {"k": `"x"`},
			"RSA":                {"p": `"x"`},
			"more primes":        {"oth": "[]"},
			"no kty":             {"kty": ""},
			"another kty":        {"kty": `"RSA"`},
			"kty in lower case":  {"kty": strings.ToLower(key.jwk["kty"])},
			"kty in two":         {"kty": `["EC","OKP"]`},
			"no crv":             {"crv": ""},
			"another crv":        {"crv": `"P-384"`},
			"X25519":             {"crv": `"X25519"`},
			"crv is a number":    {"crv": "1"},
			"no x":               {"x": ""},
			"x is a number":      {"x": "1"},
			"x is empty":         {"x": `""`},
			"31 bytes":           {"x": text(b64(make([]byte, 31)))},
			"33 bytes":           {"x": text(b64(make([]byte, 33)))},
			"padded":             {"x": key.jwk["x"][:44] + `="`},
			"stray bits":         {"x": `"` + withStrayBits(key.jwk["x"][1:44]) + `"`},
			"a line feed":        {"x": key.jwk["x"][:10] + `\n` + key.jwk["x"][10:]},
			"x in upper case":    {"X": key.jwk["x"]},
			"a Kelvin sign, kty": {"\u212aty": `"EC"`},
		} {
			b.requireInvalidHeader(key.header(members{"jwk": key.jwk.with(edits).String()}), name)
		}
		for _, name := range []string{"d", "k", "p", "q", "dp", "dq", "qi", "oth"} {
			private := key.jwk.with(members{name: `"x"`})
			b.requireInvalidHeader(key.header(members{"jwk": private.String()}), name)
		}
		jwk := key.jwk.String()
		for name, other := range map[string]string{
			"missing": "", "null": "null", "a string": text(jwk), "an array": "[" + jwk + "]", "empty": "{}",
			"x twice":          strings.Replace(jwk, "{", `{"x":`+key.jwk["x"]+",", 1),
			"x twice, escaped": strings.Replace(jwk, "{", `{"\u0078":`+key.jwk["x"]+",", 1),
		} {
			b.requireInvalidHeader(key.header(members{"jwk": other}), name)
		}
		more := key.jwk.with(members{"use": `"sig"`, "key_ops": `["verify"]`, "kid": `"k"`,
			"ext": "true", "alg": `"x"`})
		b.requireGood(key.seal(key.header(members{"jwk": more.String()}), b.claims(nil)),
			"what WebCrypto adds")
	})
}

func TestCheck_pointsOffTheCurve(t *testing.T) {
	key := newP256Key(t)
	b := newProofBench(t, key, sessionhttp.ProofConfig{})
	zero, p := b64(make([]byte, 32)), b64(bytes32(elliptic.P256().Params().P))
	for name, edits := range map[string]members{
		"x is another":   {"x": key.jwk["y"]},
		"y is another":   {"y": key.jwk["x"]},
		"at infinity":    {"x": text(zero), "y": text(zero)},
		"x is p":         {"x": text(p)},
		"no y":           {"y": ""},
		"y is too short": {"y": text(b64(make([]byte, 31)))},
		"y is too long":  {"y": text(b64(make([]byte, 33)))},
		"y is a bit":     {"y": "true"},
		"compressed":     {"x": text("A" + key.jwk["x"][2:44]), "y": ""},
	} {
		b.requireInvalidHeader(key.header(members{"jwk": key.jwk.with(edits).String()}), name)
	}
}

// A coordinate that begins with zeros is written with them (RFC 7518 section 6.2.1.2).
func TestCheck_leadingZeros(t *testing.T) {
	for {
		key := newP256Key(t)
		x, err := base64.RawURLEncoding.DecodeString(key.jwk["x"][1:44])
		require.NoError(t, err)
		if x[0] != 0 {
			continue
		}
		b := newProofBench(t, key, sessionhttp.ProofConfig{})
		b.requireGood(b.proof(nil))
		short := key.jwk.with(members{"x": text(b64(x[1:]))})
		b.requireInvalidHeader(key.header(members{"jwk": short.String()}), "without them")
		return
	}
}

// Whatever else a header names is neither believed nor fetched.
func TestCheck_otherMembersOfTheHeader(t *testing.T) {
	var asked atomic.Int64
	count := func(http.ResponseWriter, *http.Request) { asked.Add(1) }
	server := httptest.NewServer(http.HandlerFunc(count))
	defer server.Close()
	eachKey(t, func(t *testing.T, key clientKey) {
		b := newProofBench(t, key, sessionhttp.ProofConfig{})
		for _, crit := range []string{`["b64"]`, `["exp"]`, `[]`, "null", `""`} {
			b.requireInvalidHeader(key.header(members{"crit": crit, "b64": "false"}), crit)
		}
		for _, name := range []string{"CRIT", "Typ", "aLg", "JWK", "j\u0057k"} {
			b.requireInvalidHeader(key.header(members{name: `"x"`}), name)
		}
		b.requireGood(key.seal(key.header(members{
			"jku": text(server.URL + "/jku"), "x5u": text(server.URL + "/x5u"), "x5c": `["AAAA"]`,
			"x5t": `"x"`, "kid": `"../../dev/null"`,
			"b64": "false", "zip": `"DEF"`, "enc": "1", "cty": `"JWT"`, "epk": "{}",
		}), b.claims(nil)))
		good := key.header(nil)
		for name, header := range map[string]string{
			"empty": "{}", "an array": "[" + good + "]", "a space in front": " " + good, "two": good + good,
			"null":                      "null",
			"alg twice":                 strings.Replace(good, "{", `{"alg":"none",`, 1),
			"not UTF-8":                 strings.Replace(good, "jwt", "jw\xff", 1),
			"alg twice in another case": strings.Replace(good, "{", `{"Alg":"none",`, 1),
		} {
			b.requireInvalidHeader(header, name)
		}
	})
	require.Zero(t, asked.Load())
}

func TestCheck_signaturesOfES256(t *testing.T) {
	key := newP256Key(t)
	b := newProofBench(t, key, sessionhttp.ProofConfig{})
	with := func(edit func(r, s *big.Int) []byte) string {
		edited := key
		edited.sign = func(signed []byte) []byte {
			raw := key.sign(signed)
			return edit(new(big.Int).SetBytes(raw[:32]), new(big.Int).SetBytes(raw[32:]))
		}
		return edited.seal(key.header(nil), b.claims(nil))
	}
	raw := func(r, s *big.Int) []byte { return append(bytes32(r), bytes32(s)...) }
	zero := new(big.Int)
	for name, edit := range map[string]func(r, s *big.Int) []byte{
		"DER": func(r, s *big.Int) []byte {
			der, err := asn1.Marshal(struct{ R, S *big.Int }{r, s})
			require.NoError(t, err)
			return der
		},
		"63 bytes":      func(r, s *big.Int) []byte { return raw(r, s)[:63] },
		"65 bytes":      func(r, s *big.Int) []byte { return append(raw(r, s), 0) },
		"zero in front": func(r, s *big.Int) []byte { return append([]byte{0}, raw(r, s)...) },
		"zero in between": func(r, s *big.Int) []byte {
			return append(append(bytes32(r), 0), bytes32(s)...)
		},
		"r is 0":        func(_, s *big.Int) []byte { return raw(zero, s) },
		"s is 0":        func(r, _ *big.Int) []byte { return raw(r, zero) },
		"both are 0":    func(_, _ *big.Int) []byte { return raw(zero, zero) },
		"r is n":        func(_, s *big.Int) []byte { return raw(p256Order, s) },
		"s is n":        func(r, _ *big.Int) []byte { return raw(r, p256Order) },
		"both are n":    func(_, _ *big.Int) []byte { return raw(p256Order, p256Order) },
		"the other way": func(r, s *big.Int) []byte { return raw(s, r) },
		"r is one more": func(r, s *big.Int) []byte { return raw(new(big.Int).Add(r, big.NewInt(1)), s) },
		"all ones":      func(_, _ *big.Int) []byte { return slices.Repeat([]byte{0xff}, 64) },
	} {
		b.requireInvalid(with(edit), name)
	}
	b.requireGood(with(func(r, s *big.Int) []byte { return raw(r, new(big.Int).Sub(p256Order, s)) }),
		"JWS does not say which of the two that verify")
}

func TestCheck_signaturesOfEd25519(t *testing.T) {
	key := newEd25519Key(t)
	b := newProofBench(t, key, sessionhttp.ProofConfig{})
	order, ok := new(big.Int).SetString(
		"1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3ed", 16) // L
	require.True(t, ok)
	for name, edit := range map[string]func([]byte) []byte{
		"s+L": func(signature []byte) []byte {
			s := slices.Clone(signature[32:])
			slices.Reverse(s)
			more := bytes32(new(big.Int).Add(new(big.Int).SetBytes(s), order))
			slices.Reverse(more)
			return append(slices.Clone(signature[:32]), more...)
		},
		"63 bytes": func(s []byte) []byte { return s[:63] },
		"65 bytes": func(s []byte) []byte { return append(s, 0) },
		"none":     func([]byte) []byte { return []byte{0} },
		"zeros":    func([]byte) []byte { return make([]byte, 64) },
		"one bit":  func(s []byte) []byte { s[63] ^= 1; return s },
	} {
		edited := key
		edited.sign = func(signed []byte) []byte { return edit(key.sign(signed)) }
		b.requireInvalid(edited.seal(key.header(nil), b.claims(nil)), name)
	}
	b.requireGood(b.proof(nil))
}

// An access token is no proof, and a proof no access token, also if one key signed both.
func TestCheck_tokensAreNoProofs(t *testing.T) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	signingKey, err := tokensession.NewKey(private)
	require.NoError(t, err)
	signer, err := tokensession.NewAccessSigner(signingKey, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	})
	require.NoError(t, err)
	b := newProofBench(t, p256Key(t, private), sessionhttp.ProofConfig{})
	m := newManager(t, signer, tokensession.NewMemoryStore(), tokensession.Config{Now: b.clock.Now})
	tokens, err := m.Start(ctx, "alice")
	require.NoError(t, err)
	b.requireInvalid(tokens.AccessToken)
	b.requireInvalid(tokens.RefreshToken)
	ours := `{"alg":"ES256","kid":"` + signingKey.ID() + `","typ":"at+jwt"}`
	for _, header := range []string{b.key.header(nil), ours} {
		_, err = m.Verify(b.key.seal(header, b.claims(nil)))
		require.ErrorIs(t, err, tokensession.ErrInvalidToken)
	}
	claims := strings.Split(tokens.AccessToken, ".")[1]
	text, err := base64.RawURLEncoding.DecodeString(claims)
	require.NoError(t, err)
	b.requireInvalid(b.key.seal(b.key.header(nil), string(text)), "its claims, with a proof's header")
}

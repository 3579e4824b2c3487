package sessionhttp_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/asn1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// Whatever is sent as a proof, Check does not panic, and what it accepts is a proof for
// encoding/json and for the standard library's signatures, too. The header and the claims are
// signed as they are, with {jwk} and the like standing for what a fuzzer could not make up.
func FuzzProof(f *testing.F) {
	p256, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), bytes.Repeat([]byte("k"), 32))
	require.NoError(f, err)
	seed := ed25519.NewKeyFromSeed(bytes.Repeat([]byte("k"), 32))
	keys := []clientKey{p256Key(f, p256), ed25519Key(seed)}
	now := time.Unix(1767323045, 0)
	p, err := sessionhttp.NewProofs(sessionhttp.ProofConfig{
		Keys: someKeys, Memory: 1 << 26, Now: func() time.Time { return now },
	})
	require.NoError(f, err)
	nonce := newProofBench(f, keys[0], sessionhttp.ProofConfig{}).nonceAt(now)

	const header = `{"typ":"dpop+jwt","alg":"{alg}","jwk":{jwk}}`
	const claims = `{"jti":"{id}","htm":"GET","htu":"https://api.example/notes","iat":{now},` +
		`"ath":"{ath}","nonce":"{nonce}"}`
	for mode := range uint8(8) {
		f.Add(mode, header, claims, []byte(nil), "/notes")
		f.Add(mode, strings.Replace(header, `"{alg}"`, `"none","kid":"x","jku":"https://x/"`, 1), claims,
			[]byte("s"), "/notes?q")
		f.Add(mode, strings.Replace(header, `{jwk}`,
			`{"kty":"EC","crv":"P-256","x":"AA","y":"AA","d":null}`, 1), claims, make([]byte, 64), "/")
		f.Add(mode, header, strings.Replace(claims, `,"nonce":"{nonce}"`, ``, 1), []byte(nil), "/n%6ftes")
		f.Add(mode, header, strings.NewReplacer("https://api.example", "HTTPS://API.example:443",
			"notes", "%6Eotes?#").Replace(claims), []byte(nil), "/notes")
		f.Add(mode, header, strings.Replace(claims, `"GET"`, `"GE\u0054","htm":["GET"]`, 1), []byte(nil),
			"/notes")
		f.Add(mode, header, strings.Replace(claims, `{now}`, `-1e400`, 1), bytes.Repeat([]byte{255}, 64),
			"//")
		f.Add(mode, "a.b.c", "", []byte(nil), "/notes")
	}
	made := 0
	f.Fuzz(func(t *testing.T, mode uint8, header, claims string, signature []byte, target string) {
		key := keys[mode&1]
		made++
		fill := strings.NewReplacer("{alg}", key.alg, "{jwk}", key.jwk.String(), "{id}",
			strconv.Itoa(made), "{now}", strconv.FormatInt(now.Unix(), 10),
			"{ath}", hashOf(someToken), "{nonce}", nonce)
		header, claims = fill.Replace(header), fill.Replace(claims)
		proof := key.seal(header, claims)
		switch {
		case mode&2 != 0:
			proof = proof[:strings.LastIndexByte(proof, '.')+1] + b64(signature)
		case mode&4 != 0:
			proof = header
		}
		u, err := url.ParseRequestURI(target)
		if err != nil || u.Host != "" || u.Path == "" {
			return
		}
		r := &http.Request{Method: http.MethodGet, URL: u, RequestURI: target, Host: "api.example",
			Header: http.Header{"Dpop": {proof}}}
		w := httptest.NewRecorder()
		thumbprint, err := p.Check(w, r, someToken)
		if err != nil {
			require.Empty(t, thumbprint)
			require.NotEqual(t, errors.Is(err, sessionhttp.ErrInvalidProof),
				errors.Is(err, sessionhttp.ErrUseNonce))
			require.Equal(t, http.StatusUnauthorized, sessionhttp.Status(err))
			return
		}
		requireProof(t, proof, thumbprint, u)
	})
}

// requireProof reads a proof that was accepted in another way.
func requireProof(t *testing.T, proof, thumbprint string, u *url.URL) {
	t.Helper()
	parts := strings.Split(proof, ".")
	require.Len(t, parts, 3)
	var raw [3][]byte
	for i, part := range parts {
		var err error
		raw[i], err = base64.RawURLEncoding.DecodeString(part)
		require.NoError(t, err)
		require.Equal(t, part, b64(raw[i]), "one way to write it")
	}
	var header struct {
		Typ, Alg string
		JWK      struct{ Kty, Crv, X, Y, D string }
	}
	require.NoError(t, json.Unmarshal(raw[0], &header))
	require.Equal(t, "dpop+jwt", header.Typ)
	require.Empty(t, header.JWK.D)
	x, err := base64.RawURLEncoding.DecodeString(header.JWK.X)
	require.NoError(t, err)
	signed := []byte(parts[0] + "." + parts[1])
	if header.Alg == "ES256" {
		y, err := base64.RawURLEncoding.DecodeString(header.JWK.Y)
		require.NoError(t, err)
		public := ecdsa.PublicKey{Curve: elliptic.P256(), X: new(big.Int).SetBytes(x),
			Y: new(big.Int).SetBytes(y)}
		der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(raw[2][:32]),
			new(big.Int).SetBytes(raw[2][32:])})
		require.NoError(t, err)
		digest := sha256.Sum256(signed)
		require.True(t, ecdsa.VerifyASN1(&public, digest[:], der))
		key := newClientKey("ES256", members{"kty": `"EC"`, "crv": `"P-256"`, "x": text(header.JWK.X),
			"y": text(header.JWK.Y)}, nil)
		require.Equal(t, key.thumbprint, thumbprint)
	} else {
		require.Contains(t, []string{"EdDSA", "Ed25519"}, header.Alg)
		require.True(t, ed25519.Verify(x, signed, raw[2]))
		key := newClientKey(header.Alg, members{"kty": `"OKP"`, "crv": `"Ed25519"`,
			"x": text(header.JWK.X)}, nil)
		require.Equal(t, key.thumbprint, thumbprint)
	}
	var claims struct {
		JTI, HTM, HTU, ATH string
		IAT                int64
	}
	require.NoError(t, json.Unmarshal(raw[1], &claims))
	require.NotEmpty(t, claims.JTI)
	require.Equal(t, http.MethodGet, claims.HTM)
	require.Equal(t, hashOf(someToken), claims.ATH)
	htu, err := url.Parse(claims.HTU)
	require.NoError(t, err)
	require.Contains(t, []string{"https", "http"}, htu.Scheme)
	require.True(t, strings.EqualFold(htu.Hostname(), "api.example"))
	require.Equal(t, strings.TrimSuffix(u.Path, "/"), strings.TrimSuffix(htu.Path, "/"))
	require.Nil(t, htu.User)
}

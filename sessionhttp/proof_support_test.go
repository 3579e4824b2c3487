package sessionhttp_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// members are those of a JSON object: their names, and their values as JSON. An edit with an empty
// value leaves a member out.
type members map[string]string

func (m members) with(edits members) members {
	all := maps.Clone(m)
	maps.Copy(all, edits)
	maps.DeleteFunc(all, func(_, value string) bool { return value == "" })
	return all
}

func (m members) String() string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(m)) {
		list = append(list, strconv.Quote(name)+":"+m[name])
	}
	return "{" + strings.Join(list, ",") + "}"
}

func text(s string) string {
	quoted, _ := json.Marshal(s)
	return string(quoted)
}

// A clientKey is a key that a client makes proofs with.
type clientKey struct {
	alg        string
	jwk        members
	thumbprint string
	sign       func(signed []byte) []byte
}

func newP256Key(t testing.TB) clientKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return p256Key(t, private)
}

func p256Key(t testing.TB, private *ecdsa.PrivateKey) clientKey {
	t.Helper()
	point, err := private.PublicKey.Bytes()
	require.NoError(t, err)
	return newClientKey("ES256", members{
		"kty": `"EC"`, "crv": `"P-256"`, "x": text(b64(point[1:33])), "y": text(b64(point[33:])),
	}, func(signed []byte) []byte {
		digest := sha256.Sum256(signed)
		r, s, err := ecdsa.Sign(rand.Reader, private, digest[:])
		if err != nil {
			panic(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	})
}

func newEd25519Key(t testing.TB) clientKey {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return ed25519Key(private)
}

func ed25519Key(private ed25519.PrivateKey) clientKey {
	public, _ := private.Public().(ed25519.PublicKey)
	return newClientKey("EdDSA", members{"kty": `"OKP"`, "crv": `"Ed25519"`, "x": text(b64(public))},
		func(signed []byte) []byte { return ed25519.Sign(private, signed) })
}

// RFC 7638: a hash of the required members, in the order of their names.
func newClientKey(alg string, jwk members, sign func([]byte) []byte) clientKey {
	sum := sha256.Sum256([]byte(jwk.String()))
	return clientKey{alg, jwk, b64(sum[:]), sign}
}

func (k clientKey) header(edits members) string {
	return members{"typ": `"dpop+jwt"`, "alg": text(k.alg), "jwk": k.jwk.String()}.with(edits).String()
}

// seal makes a JWT of a header and claims, whatever they are.
func (k clientKey) seal(header, claims string) string {
	signed := b64([]byte(header)) + "." + b64([]byte(claims))
	return signed + "." + b64(k.sign([]byte(signed)))
}

func hashOf(accessToken string) string {
	sum := sha256.Sum256([]byte(accessToken))
	return b64(sum[:])
}

const someToken = "an.access.token" // Check does not read them

// A proofBench checks proofs for GET https://api.example/notes with someToken.
type proofBench struct {
	t     testing.TB
	p     *sessionhttp.Proofs
	clock *testkit.Clock
	key   clientKey
	token string
	made  int // proofs, each with a jti of its own
}

var someKeys = [][]byte{bytes.Repeat([]byte("k"), 32)}

func newProofBench(t testing.TB, key clientKey, cfg sessionhttp.ProofConfig) *proofBench {
	t.Helper()
	b := &proofBench{t: t, clock: testkit.NewClock(), key: key, token: someToken}
	cfg.Now = b.clock.Now
	if cfg.Keys == nil {
		cfg.Keys = someKeys
	}
	var err error
	b.p, err = sessionhttp.NewProofs(cfg)
	require.NoError(t, err)
	return b
}

func (b *proofBench) claims(edits members) string {
	b.made++
	return members{
		"jti": text(fmt.Sprint("id ", b.made)), "htm": `"GET"`, "htu": `"https://api.example/notes"`,
		"iat": fmt.Sprint(b.clock.Now().Unix()), "ath": text(hashOf(someToken)),
	}.with(edits).String()
}

// proof makes a good one but for the edits of its claims.
func (b *proofBench) proof(edits members) string {
	return b.key.seal(b.key.header(nil), b.claims(edits))
}

func request(method, url string, edits ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest(method, url, nil)
	for _, edit := range edits {
		edit(r)
	}
	return r
}

// check sends a proof, and returns what Check does and the nonce of the answer.
func (b *proofBench) check(proof string) (thumbprint, nonce string, err error) {
	b.t.Helper()
	return b.checkRequest(request(http.MethodGet, "https://api.example/notes", header("DPoP", proof)))
}

func (b *proofBench) checkRequest(r *http.Request) (thumbprint, nonce string, err error) {
	w := httptest.NewRecorder()
	thumbprint, err = b.p.Check(w, r, b.token)
	require.Equal(b.t, err != nil, thumbprint == "")
	return thumbprint, w.Header().Get("DPoP-Nonce"), err
}

func (b *proofBench) requireGood(proof string, msg ...any) {
	b.t.Helper()
	thumbprint, _, err := b.check(proof)
	require.NoError(b.t, err, msg...)
	require.Equal(b.t, b.key.thumbprint, thumbprint, msg...)
}

func (b *proofBench) requireInvalid(proof string, msg ...any) {
	b.t.Helper()
	_, _, err := b.check(proof)
	require.ErrorIs(b.t, err, sessionhttp.ErrInvalidProof, msg...)
	require.NotErrorIs(b.t, err, sessionhttp.ErrUseNonce, msg...)
}

// nonce returns the one of now.
func (b *proofBench) nonce() string {
	b.t.Helper()
	_, nonce, _ := b.check(b.proof(members{"iat": "0"}))
	require.Len(b.t, nonce, 24)
	return nonce
}

// nonceAt returns the one of another time.
func (b *proofBench) nonceAt(now time.Time) string {
	b.t.Helper()
	b.clock.Set(now)
	return b.nonce()
}

func eachKey(t *testing.T, test func(t *testing.T, key clientKey)) {
	t.Helper()
	key := newEd25519Key(t)
	renamed := key
	renamed.alg = "Ed25519" // RFC 9864
	for name, key := range map[string]clientKey{
		"ES256": newP256Key(t), "EdDSA": key, "Ed25519": renamed,
	} {
		t.Run(name, func(t *testing.T) { test(t, key) })
	}
}

// p256Order is the number of points of the curve: n.
var p256Order = elliptic.P256().Params().N

func bytes32(n *big.Int) []byte { return n.FillBytes(make([]byte, 32)) }

var halfMinute = 30 * time.Second

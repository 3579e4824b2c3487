package benchmarks

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strconv"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A proofKey is a client's key of a DPoP proof.
type proofKey struct {
	alg, jwk string
	sign     func(signed []byte) []byte
	verify   func(signed, signature []byte) bool // and nothing else: nothing can be faster
}

func newES256Key() proofKey {
	private := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	point := must(private.PublicKey.Bytes())
	return proofKey{
		alg: "ES256", jwk: fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, b64(point[1:33]),
			b64(point[33:])),
		sign: func(signed []byte) []byte {
			digest := sha256.Sum256(signed)
			r, s := must2(ecdsa.Sign(rand.Reader, private, digest[:]))
			return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
		},
		verify: func(signed, signature []byte) bool {
			digest := sha256.Sum256(signed)
			var r, s big.Int
			return ecdsa.Verify(&private.PublicKey, digest[:], r.SetBytes(signature[:32]),
				s.SetBytes(signature[32:]))
		},
	}
}

func newEdDSAKey() proofKey {
	public, private := must2(ed25519.GenerateKey(rand.Reader))
	return proofKey{
		alg: "EdDSA", jwk: fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":%q}`, b64(public)),
		sign:   func(signed []byte) []byte { return ed25519.Sign(private, signed) },
		verify: func(signed, signature []byte) bool { return ed25519.Verify(public, signed, signature) },
	}
}

// check verifies the signature of a call, and does nothing else.
func (k proofKey) check(c proofCall) {
	if !k.verify(c.signed, c.signature) {
		panic("a good signature is refused")
	}
}

// thumbprint is RFC 7638's. The members of the JWK are in the order of their names.
func (k proofKey) thumbprint() string {
	sum := sha256.Sum256([]byte(k.jwk))
	return b64(sum[:])
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// A proofCall is a request with a proof, and what its signature is of.
type proofCall struct {
	r                 *http.Request
	signed, signature []byte
}

// call makes a request with a proof of its own.
func (k proofKey) call(id int, token, nonce string) proofCall {
	hash := sha256.Sum256([]byte(token))
	header := fmt.Sprintf(`{"alg":%q,"typ":"dpop+jwt","jwk":%s}`, k.alg, k.jwk)
	const form = `{"jti":%q,"htm":"GET","htu":%q,"iat":%d,"ath":%q,"nonce":%q}`
	claims := fmt.Sprintf(form, "e1j3V_bKic8-LAEB"+strconv.Itoa(id), "https://api.example/notes",
		time.Now().Unix(), b64(hash[:]), nonce)
	signed := []byte(b64([]byte(header)) + "." + b64([]byte(claims)))
	signature := k.sign(signed)
	r := httptest.NewRequest(http.MethodGet, "https://api.example/notes", nil)
	r.RequestURI = "/notes"
	r.Header.Set("Authorization", "DPoP "+token)
	r.Header.Set("DPoP", string(signed)+"."+b64(signature))
	return proofCall{r, signed, signature}
}

// BenchmarkHTTP_proof checks DPoP proofs, each of which is a new one, in turns with their
// signatures alone. The key is one that was seen before.
func BenchmarkHTTP_proof(b *testing.B) {
	for _, key := range []proofKey{newES256Key(), newEdDSAKey()} {
		b.Run(key.alg, func(b *testing.B) {
			proofs := newProofs(b)
			const token = "an.access.token"
			id := 0
			whole := func(c proofCall) {
				if _, err := proofs.Check(answer{}, c.r, token); err != nil {
					panic(err)
				}
			}
			nonce := ""
			compareProofs(b, key.check, whole, func() proofCall {
				if id++; id%100 == 1 {
					nonce = nonceOf(proofs, key, token)
				}
				return key.call(id, token, nonce)
			})
		})
	}
}

func newProofs(b *testing.B) *sessionhttp.Proofs {
	b.Helper()
	proofs, err := sessionhttp.NewProofs(sessionhttp.ProofConfig{Keys: proofSecrets, Memory: 1 << 26})
	check(b, err)
	return proofs
}

var proofSecrets = [][]byte{bytes.Repeat([]byte("k"), 32)}

// BenchmarkHTTP_requireProof calls a handler that does nothing behind Require, with an access token
// that was verified before and a new proof, in turns with the proof's signature alone.
func BenchmarkHTTP_requireProof(b *testing.B) {
	m := newManager(b, must(tokensession.GenerateKey()), tokensession.AccessConfig{})
	h, err := sessionhttp.New(m, sessionhttp.Config{
		DPoP: sessionhttp.DPoPRequired, ProofKeys: proofSecrets, ProofMemory: 1 << 26,
	})
	check(b, err)
	served := false
	guarded := h.Require()(http.HandlerFunc(func(http.ResponseWriter,
		*http.Request) {
		served = true
	}))
	proofs := newProofs(b) // with the same secret, so that its nonces are good there
	for _, key := range []proofKey{newES256Key(), newEdDSAKey()} {
		b.Run(key.alg, func(b *testing.B) {
			tokens, err := m.Start(context.Background(), "alice",
				tokensession.WithConfirmation(key.thumbprint()))
			check(b, err)
			whole := func(c proofCall) {
				served = false
				guarded.ServeHTTP(answer{}, c.r)
				if !served {
					panic("a good proof is refused")
				}
			}
			id, nonce := 0, ""
			compareProofs(b, key.check, whole, func() proofCall {
				if id++; id%100 == 1 {
					nonce = nonceOf(proofs, key, tokens.AccessToken)
				}
				return key.call(id, tokens.AccessToken, nonce)
			})
		})
	}
}

// nonceOf returns a nonce as a client gets it.
func nonceOf(proofs *sessionhttp.Proofs, key proofKey, token string) string {
	w := httptest.NewRecorder()
	if _, err := proofs.Check(w, key.call(0, token, "").r, token); err == nil {
		panic("a proof with an empty nonce is good")
	}
	return w.Header().Get("DPoP-Nonce")
}

// compareProofs measures what is done with the same requests in two ways, in turns, request by
// request: so whatever else the machine does hits both alike. A request takes long enough for the
// clock.
func compareProofs(b *testing.B, floor, ours func(proofCall), next func() proofCall) {
	b.Helper()
	var floors, all []time.Duration
	for b.Loop() {
		c := next()
		begin := time.Now()
		floor(c)
		middle := time.Now()
		ours(c)
		floors, all = append(floors, middle.Sub(begin)), append(all, time.Since(middle))
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(median(floors), "signature-ns")
	b.ReportMetric(median(all), "whole-ns")
	b.ReportMetric(median(all)/median(floors), "ratio")
}

// answer is a ResponseWriter whose headers nobody reads.
type answer struct{}

func (answer) Header() http.Header         { return http.Header{} }
func (answer) Write(b []byte) (int, error) { return len(b), nil }
func (answer) WriteHeader(int)             {}

// Package peers puts tokensession beside the Go libraries that one would take instead: their cost,
// and what they do when refreshes race, replies are lost and tokens are stolen. Its benchmarks,
// through the program report, make the tables and the figure of docs/benchmarks.md: make
// bench-peers.
package peers

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"sync/atomic"
	"time"
)

// What every access token says.
const (
	Issuer   = "https://auth.example"
	Audience = "https://api.example"
	Subject  = "user-0123456789"
)

// An Algorithm is a key, and the raw operations that nothing can be faster than.
type Algorithm struct {
	Name    string
	Private any // crypto.Signer, or []byte
	Public  any // crypto.PublicKey, or []byte
	Sign    func(message []byte) []byte
	Verify  func(message, signature []byte) bool
}

// Algorithms makes new keys.
func Algorithms() []Algorithm {
	edPublic, ed, err := ed25519.GenerateKey(rand.Reader)
	must(edPublic, err)
	ec := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	rs := must(rsa.GenerateKey(rand.Reader, 2048))
	secret := make([]byte, 32)
	_, _ = rand.Read(secret)
	mac := func(m []byte) []byte {
		h := hmac.New(sha256.New, secret)
		h.Write(m)
		return h.Sum(nil)
	}
	return []Algorithm{
		{"EdDSA", ed, edPublic,
			func(m []byte) []byte { return ed25519.Sign(ed, m) },
			func(m, sig []byte) bool { return ed25519.Verify(edPublic, m, sig) }},
		{"ES256", ec, &ec.PublicKey,
			func(m []byte) []byte { d := sha256.Sum256(m); return must(ecdsa.SignASN1(rand.Reader, ec, d[:])) },
			func(m, sig []byte) bool { d := sha256.Sum256(m); return ecdsa.VerifyASN1(&ec.PublicKey, d[:], sig) }},
		{"RS256", rs, &rs.PublicKey,
			func(m []byte) []byte {
				d := sha256.Sum256(m)
				return must(rsa.SignPKCS1v15(nil, rs, crypto.SHA256, d[:]))
			},
			func(m, sig []byte) bool {
				d := sha256.Sum256(m)
				return rsa.VerifyPKCS1v15(&rs.PublicKey, crypto.SHA256, d[:], sig) == nil
			}},
		{"HS256", secret, secret, mac, func(m, sig []byte) bool { return hmac.Equal(sig, mac(m)) }},
	}
}

func algorithm(name string) Algorithm {
	for _, a := range Algorithms() {
		if a.Name == name {
			return a
		}
	}
	panic("no algorithm " + name)
}

// A Refresher is a library that exchanges refresh tokens, on its store in memory.
type Refresher interface {
	Login() (refreshToken string)
	Refresh(refreshToken string) (next string, err error)

	// Copy returns another one with the same sessions, so that a token can be tried without a
	// consequence.
	Copy() Refresher

	// Pass lets time go by, where the library has something to do with it.
	Pass(time.Duration)
}

// newGate returns what a read of a store waits in until n have come, as if they all arrived at once
// from far away.
func newGate(n int64) func() {
	var arrived atomic.Int64
	open := make(chan struct{})
	return func() {
		if arrived.Add(1) == n {
			close(open)
		}
		<-open
	}
}

var ctx = context.Background()

func must[T any](v T, err error) T {
	if err != nil {
		panic(fmt.Errorf("peers: %w", err))
	}
	return v
}

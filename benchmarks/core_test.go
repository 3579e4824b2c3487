// Package benchmarks measures tokensession beside the raw operations that nothing can be faster
// than.
package benchmarks

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
	"crypto/sha512"
	"encoding/base64"
	"errors"
	"fmt"
	"hash"
	"runtime"
	"runtime/metrics"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

var ctx = context.Background()

func newManager(tb testing.TB, key tokensession.Key, access tokensession.AccessConfig) *tokensession.Manager {
	tb.Helper()
	access.Issuer, access.Audience = "https://auth.example", []string{"https://api.example"}
	signer, err := tokensession.NewAccessSigner(key, access)
	check(tb, err)
	m, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{})
	check(tb, err)
	return m
}

func check(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func start(tb testing.TB, m *tokensession.Manager) tokensession.Tokens {
	tb.Helper()
	tokens, err := m.Start(ctx, "user-0123456789")
	check(tb, err)
	return tokens
}

// BenchmarkVerify_hit verifies a token that was verified before.
func BenchmarkVerify_hit(b *testing.B) {
	m := newManager(b, must(tokensession.GenerateKey()), tokensession.AccessConfig{})
	token := start(b, m).AccessToken
	b.ReportAllocs()
	for b.Loop() {
		if _, err := m.Verify(token); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerify_hitParallel does so on all cores, for 1,000 tokens.
func BenchmarkVerify_hitParallel(b *testing.B) {
	m := newManager(b, must(tokensession.GenerateKey()), tokensession.AccessConfig{})
	tokens := make([]string, 1000)
	for i := range tokens {
		tokens[i] = start(b, m).AccessToken
	}
	b.ReportAllocs()
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for i := 0; pb.Next(); i++ {
			if _, err := m.Verify(tokens[i%len(tokens)]); err != nil {
				b.Error(err)
			}
		}
	})
}

// BenchmarkVerify_hitDenyList looks up a session beside so many revoked ones. The heap that these
// take in the Manager is reported, too.
func BenchmarkVerify_hitDenyList(b *testing.B) {
	for _, denied := range []int{0, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("denied=%d", denied), func(b *testing.B) {
			m := newManager(b, must(tokensession.GenerateKey()), tokensession.AccessConfig{})
			before := heap()
			for range denied {
				// No store has this session, and it is denied all the same.
				if err := m.Revoke(ctx, randomID()); !errors.Is(err, tokensession.ErrNotFound) {
					b.Fatal(err)
				}
			}
			bytes := float64(heap()-before) / float64(max(denied, 1))
			token := start(b, m).AccessToken
			b.ReportAllocs()
			for b.Loop() {
				if _, err := m.Verify(token); err != nil {
					b.Fatal(err)
				}
			}
			if denied > 0 {
				b.ReportMetric(bytes, "B/denied")
			}
		})
	}
}

func randomID() string {
	id := make([]byte, 16)
	must(rand.Read(id))
	return base64.RawURLEncoding.EncodeToString(id)
}

// An algorithm is a key and the raw operations on a message of the size of an access token's.
type algorithm struct {
	name   string
	key    tokensession.Key
	sign   func(message []byte) []byte
	verify func(message, signature []byte) bool
}

func algorithms() []algorithm {
	var list []algorithm

	edPublic, ed := must2(ed25519.GenerateKey(rand.Reader))
	list = append(list, algorithm{"EdDSA", must(tokensession.NewKey(ed)),
		func(m []byte) []byte { return ed25519.Sign(ed, m) },
		func(m, sig []byte) bool { return ed25519.Verify(edPublic, m, sig) }})

	for _, c := range []struct {
		name  string
		curve elliptic.Curve
		hash  func() hash.Hash
	}{{"ES256", elliptic.P256(), sha256.New}, {"ES384", elliptic.P384(), sha512.New384}, {"ES512", elliptic.P521(), sha512.New}} {
		ec := must(ecdsa.GenerateKey(c.curve, rand.Reader))
		digest := func(m []byte) []byte { h := c.hash(); h.Write(m); return h.Sum(nil) }
		list = append(list, algorithm{c.name, must(tokensession.NewKey(ec)),
			func(m []byte) []byte { return must(ecdsa.SignASN1(rand.Reader, ec, digest(m))) },
			func(m, sig []byte) bool { return ecdsa.VerifyASN1(&ec.PublicKey, digest(m), sig) }})
	}

	rs := must(rsa.GenerateKey(rand.Reader, 2048))
	list = append(list, algorithm{"RS256", must(tokensession.NewKey(rs)),
		func(m []byte) []byte {
			d := sha256.Sum256(m)
			return must(rsa.SignPKCS1v15(nil, rs, crypto.SHA256, d[:]))
		},
		func(m, sig []byte) bool {
			d := sha256.Sum256(m)
			return rsa.VerifyPKCS1v15(&rs.PublicKey, crypto.SHA256, d[:], sig) == nil
		}})

	secret := make([]byte, 32)
	mac := func(m []byte) []byte { h := hmac.New(sha256.New, secret); h.Write(m); return h.Sum(nil) }
	return append(list, algorithm{"HS256", must(tokensession.NewHMACKey(secret)), mac,
		func(m, sig []byte) bool { return hmac.Equal(sig, mac(m)) }})
}

func must2[A, B any](a A, b B, err error) (A, B) {
	if err != nil {
		panic(err)
	}
	return a, b
}

// BenchmarkVerify_miss verifies a token that the cache does not hold, beside the signature's
// verification alone.
func BenchmarkVerify_miss(b *testing.B) {
	for _, a := range algorithms() {
		m := newManager(b, a.key, tokensession.AccessConfig{CacheSize: -1})
		token := start(b, m).AccessToken
		signed := []byte(token[:strings.LastIndexByte(token, '.')])
		signature := a.sign(signed)
		b.Run(a.name, func(b *testing.B) {
			beside(b, func() {
				if !a.verify(signed, signature) {
					b.Fatal("does not verify")
				}
			}, func() {
				if _, err := m.Verify(token); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// BenchmarkRefresh refreshes over and over on a MemoryStore, beside one signature of an access
// token's length.
func BenchmarkRefresh(b *testing.B) {
	for _, a := range algorithms()[:2] {
		m := newManager(b, a.key, tokensession.AccessConfig{})
		tokens := start(b, m)
		signed := []byte(tokens.AccessToken[:strings.LastIndexByte(tokens.AccessToken, '.')])
		b.Run(a.name, func(b *testing.B) {
			beside(b, func() { a.sign(signed) }, func() {
				var err error
				if tokens, err = m.Refresh(ctx, tokens.RefreshToken); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

// beside takes turns with the raw operation and ours, and reports the median of each and their
// ratio. What else the machine is doing hits both alike.
func beside(b *testing.B, raw, ours func()) {
	b.ReportAllocs()
	var rawTimes, ourTimes []time.Duration
	for b.Loop() {
		t0 := time.Now()
		raw()
		t1 := time.Now()
		ours()
		t2 := time.Now()
		rawTimes, ourTimes = append(rawTimes, t1.Sub(t0)), append(ourTimes, t2.Sub(t1))
	}
	rawMedian, ourMedian := median(rawTimes), median(ourTimes)
	b.ReportMetric(0, "ns/op") // of both together: no use
	b.ReportMetric(rawMedian, "raw-ns/op")
	b.ReportMetric(ourMedian, "our-ns/op")
	b.ReportMetric(ourMedian/rawMedian, "ratio")
}

func median(times []time.Duration) float64 {
	slices.Sort(times)
	return float64(times[len(times)/2])
}

const million = 1_000_000

// BenchmarkMemoryStore_bytesPerSession fills a MemoryStore with a million sessions of as many
// subjects.
func BenchmarkMemoryStore_bytesPerSession(b *testing.B) {
	for _, attributes := range []map[string]string{nil, {"device": "Firefox on Linux", "ip": "198.51.100.7"}} {
		b.Run(fmt.Sprintf("attributes=%d", len(attributes)), func(b *testing.B) {
			for b.Loop() {
				before := heap()
				m := memoryManager(b)
				for i := range million {
					_, err := m.Start(ctx, subjectOf(i), tokensession.WithAttributes(attributes))
					check(b, err)
				}
				b.ReportMetric(float64(heap()-before)/million, "B/session")
				runtime.KeepAlive(m)
			}
		})
	}
}

// BenchmarkMemoryStore_pauses refreshes all the time beside a million sessions, and tells for how
// long the garbage collector stops the program meanwhile.
func BenchmarkMemoryStore_pauses(b *testing.B) {
	m := memoryManager(b)
	clients := make([]func(), 16)
	for i := range million {
		tokens, err := m.Start(ctx, subjectOf(i))
		check(b, err)
		if i < len(clients) {
			clients[i] = func() {
				next, err := m.Refresh(ctx, tokens.RefreshToken)
				if err != nil {
					panic(err)
				}
				tokens = next
			}
		}
	}
	runtime.GC()
	for b.Loop() {
		before := gcPauses()
		t := run(clients, 10*time.Second)
		pauses := gcPauses()
		n := uint64(0)
		for i := range pauses.Counts {
			pauses.Counts[i] -= before.Counts[i]
			n += pauses.Counts[i]
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(t.rate(), "refresh-ops/s")
		b.ReportMetric(float64(n), "pauses")
		b.ReportMetric(1e6*quantile(pauses, n/2), "pause-p50-µs")
		b.ReportMetric(1e6*quantile(pauses, n-1), "pause-longest-µs")
	}
}

func gcPauses() *metrics.Float64Histogram {
	sample := []metrics.Sample{{Name: "/sched/pauses/total/gc:seconds"}}
	metrics.Read(sample)
	return sample[0].Value.Float64Histogram()
}

// quantile returns the upper bound of what is at the place, of all that was counted.
func quantile(h *metrics.Float64Histogram, place uint64) float64 {
	for i, n := range h.Counts {
		if place < n {
			return h.Buckets[i+1]
		}
		place -= n
	}
	return 0
}

func memoryManager(b *testing.B) *tokensession.Manager {
	signer, err := tokensession.NewAccessSigner(must(tokensession.NewHMACKey(make([]byte, 32))),
		tokensession.AccessConfig{Issuer: "https://auth.example", Audience: []string{"https://api.example"}, CacheSize: -1})
	check(b, err)
	m, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{})
	check(b, err)
	return m
}

func subjectOf(i int) string { return fmt.Sprintf("user-%011d", i) }

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

package benchmarks

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// BenchmarkFeed_million reports how long a revocation takes to be known by another Manager on the
// same MemoryStore, beside a million others: with the store's notifications and by polling. It also
// reports how long a Manager that starts then takes to be healthy. These are real times of one run.
func BenchmarkFeed_million(b *testing.B) {
	const million = 1_000_000
	for _, within := range []time.Duration{time.Second, time.Minute, 15 * time.Minute} {
		for _, way := range []string{"notified", "polled"} {
			b.Run(fmt.Sprintf("within=%v/%s", within, way), func(b *testing.B) {
				key := must(tokensession.GenerateKey())
				store := tokensession.NewMemoryStore()
				one := managerOf(b, key, store)
				revoked := revokedRecord()
				now := time.Now()
				for n := range million {
					revoked.ID = randomID()
					revoked.RevokedAt = now.Add(-within * time.Duration(million-n) / million)
					check(b, store.Create(ctx, revoked))
				}
				shared := tokensession.RefreshStore(store)
				if way == "polled" {
					shared = struct {
						tokensession.RefreshStore
						tokensession.RevocationFeed
					}{store, store}
				}
				two := managerOf(b, key, shared)
				running, stop := context.WithCancel(ctx)
				ended := make(chan error)
				began := time.Now()
				go func() { ended <- two.Run(running) }()
				for two.Healthy(ctx) != nil {
					time.Sleep(time.Millisecond)
				}
				healthy := time.Since(began)
				var known []time.Duration
				for b.Loop() {
					for range 20 {
						tokens := start(b, one)
						check(b, one.Revoke(ctx, tokens.Session.ID))
						since := time.Now()
						for !isRevoked(two, tokens.AccessToken) {
							time.Sleep(100 * time.Microsecond)
						}
						known = append(known, time.Since(since))
					}
				}
				stop()
				check(b, <-ended)
				slices.Sort(known)
				b.ReportMetric(known[len(known)/2].Seconds()*1e3, "known-p50-ms")
				b.ReportMetric(known[len(known)-1].Seconds()*1e3, "known-max-ms")
				b.ReportMetric(healthy.Seconds()*1e3, "healthy-ms")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

func managerOf(
	tb testing.TB, key tokensession.Key, store tokensession.RefreshStore,
) *tokensession.Manager {
	tb.Helper()
	return managerWith(tb, key, store, tokensession.Config{})
}

func managerWith(
	tb testing.TB, key tokensession.Key, store tokensession.RefreshStore, cfg tokensession.Config,
) *tokensession.Manager {
	tb.Helper()
	signer := must(tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	}))
	return must(tokensession.New(signer, store, cfg))
}

func isRevoked(m *tokensession.Manager, token string) bool {
	_, err := m.Verify(token)
	return errors.Is(err, tokensession.ErrRevoked)
}

// revokedRecord is that of a session that was revoked, without ID and RevokedAt.
func revokedRecord() tokensession.Record {
	now := time.Now().Add(-time.Hour)
	return tokensession.Record{
		Version: 2, WriteID: randomID(), Issuer: "https://auth.example", Subject: "user-0123456789",
		Key: make([]byte, 32), AuthTime: now, CreatedAt: now, RotatedAt: now, IdleTTL: 24 * time.Hour,
		ExpiresAt: now.Add(24 * time.Hour), RevokeReason: tokensession.ReasonLogout,
	}
}

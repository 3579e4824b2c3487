package peers

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// BenchmarkGrowth tells what each call costs beside so many sessions on a MemoryStore, four a
// subject. The tokens are signed with HS256, for a signature that takes longer would hide what
// grows.
func BenchmarkGrowth(b *testing.B) {
	const sessionsEach = 4
	for _, sessions := range []int{1_000, 10_000, 100_000, 1_000_000} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) {
			for b.Loop() {
				a := algorithm("HS256")
				store, m := ourVerifier(a, tokensession.AccessConfig{CacheSize: -1})
				sampled := min(sessions, 20_000)
				sample := make([]sampledSession, 0, sampled)
				for i := range sessions {
					tokens := must(m.Start(ctx, subjectOf(i/sessionsEach)))
					if i%(sessions/sampled) == 0 {
						sample = append(sample, sampledSession{tokens.AccessToken, tokens.RefreshToken, strings.Clone(tokens.Session.ID), subjectOf(i / sessionsEach)})
					}
				}
				full := heap()
				m = must(tokensession.New(signerOf(a, tokensession.AccessConfig{}), store, tokensession.Config{}))
				rand.Shuffle(len(sample), func(i, j int) { sample[i], sample[j] = sample[j], sample[i] })
				verifyAny := func(i int) { must(m.Verify(sample[i%sampled].access)) }
				each(sampled, verifyAny) // fills the cache
				b.ReportMetric(each(20_000, verifyAny), "verify-any-ns")
				b.ReportMetric(each(20_000, func(int) { must(m.Verify(sample[0].access)) }), "verify-one-ns")
				b.ReportMetric(each(sampled, func(i int) { must(m.Sessions(ctx, sample[i].subject)) }), "sessions-ns")
				b.ReportMetric(each(sampled, func(i int) { sample[i].refresh = must(m.Refresh(ctx, sample[i].refresh)).RefreshToken }), "refresh-ns")
				b.ReportMetric(each(min(sampled/2, 2_000), func(i int) { must(0, m.Revoke(ctx, sample[i].id)) }), "revoke-ns")
				store, m = nil, nil
				b.ReportMetric(float64(full-heap())/float64(sessions), "B/session")
				runtime.KeepAlive(sample)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// A sampledSession shares no memory with the store.
type sampledSession struct{ access, refresh, id, subject string }

// BenchmarkGrowth_denyList tells what Verify costs beside so many revoked sessions whose access
// tokens would still live.
func BenchmarkGrowth_denyList(b *testing.B) {
	for _, denied := range []int{0, 10, 100, 1_000, 10_000, 100_000} {
		b.Run(fmt.Sprintf("denied=%d", denied), func(b *testing.B) {
			for b.Loop() {
				store, m := ourVerifier(algorithm("HS256"), tokensession.AccessConfig{})
				for i := range denied {
					must(0, m.Revoke(ctx, must(m.Start(ctx, subjectOf(i))).Session.ID))
				}
				sample := make([]string, 1_000)
				for i := range sample {
					sample[i] = must(m.Start(ctx, Subject)).AccessToken
					must(m.Verify(sample[i]))
				}
				b.ReportMetric(each(50_000, func(i int) { must(m.Verify(sample[i%len(sample)])) }), "verify-ns")
				runtime.KeepAlive(store)
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func subjectOf(i int) string { return fmt.Sprintf("user-%010d", i) }

// each does something n times and returns the median nanoseconds of one time in turns of ten times
// or more.
func each(n int, do func(i int)) float64 {
	turns := min(n/10, 1_000)
	var times []time.Duration
	for t := range turns {
		begin := time.Now()
		for i := t * n / turns; i < (t+1)*n/turns; i++ {
			do(i)
		}
		times = append(times, time.Since(begin))
	}
	slices.Sort(times)
	return float64(times[turns/2]) / (float64(n) / float64(turns))
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

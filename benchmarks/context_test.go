package benchmarks

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// BenchmarkSessionContext_open holds 100,000 open connections, each with a session of its own, and
// reports what one costs in bytes and goroutines. It also reports how long a revocation takes to
// end one of them. Each has a parent that can be cancelled, as a request's context has; that is in
// the figure.
func BenchmarkSessionContext_open(b *testing.B) {
	const n = 100_000
	m := managerOf(b, must(tokensession.GenerateKey()), tokensession.NewMemoryStore())
	tokens := start(b, m)
	access := must(m.Verify(tokens.AccessToken))
	mine := access
	for name, opts := range map[string][]tokensession.ContextOption{
		"untilTokenEnds": nil, "untilSessionEnds": {tokensession.UntilSessionEnds()},
	} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				cancels := make([]context.CancelFunc, 0, 2*n)
				before, goroutines := heap(), runtime.NumGoroutine()
				began := time.Now()
				for range n {
					parent, leave := context.WithCancel(ctx)
					access.SessionID = randomID()
					open, cancel := m.SessionContext(parent, access, opts...)
					_ = open.Done() // somebody waits for it
					cancels = append(cancels, cancel, leave)
				}
				took := time.Since(began)
				bytes := float64(heap()-before) / n
				more := runtime.NumGoroutine() - goroutines
				open, cancel := m.SessionContext(ctx, mine, opts...)
				revoking := time.Now()
				check(b, m.Revoke(ctx, mine.SessionID))
				<-open.Done()
				ended := time.Since(revoking)
				cancel()
				for _, cancel := range cancels {
					cancel()
				}
				b.ReportMetric(bytes, "B/connection")
				b.ReportMetric(float64(more), "goroutines")
				b.ReportMetric(float64(took.Nanoseconds())/n, "ns/connection")
				b.ReportMetric(float64(ended.Microseconds()), "µs-to-end")
				b.ReportMetric(0, "ns/op")
				mine = must(m.Verify(start(b, m).AccessToken))
			}
		})
	}
}

//go:build unix

package benchmarks

import (
	"database/sql"
	"fmt"
	"runtime"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// BenchmarkMillions_postgres reports, beside very many revocations that can still matter, how long
// a process that starts takes to be healthy, how soon it knows of one more, and what looks at the
// feed take and hold. These are real times of one run.
func BenchmarkMillions_postgres(b *testing.B) {
	for _, beside := range []struct {
		n      int
		within time.Duration
		making time.Duration // for how long they may be made
	}{
		{1_000_000, time.Minute, 2 * time.Minute},
		{3_000_000, 12 * time.Minute, 5 * time.Minute},
	} {
		b.Run(fmt.Sprintf("n=%d/within=%v", beside.n, beside.within), func(b *testing.B) {
			f := followedPostgres(b, servers.PostgresOptions{Settings: map[string]string{
				"max_wal_size": "8GB", "shared_buffers": "1GB", "work_mem": "256MB", "maintenance_work_mem": "256MB",
			}})
			store, db, err := f.sqlStore()
			check(b, err)
			m, _, err := f.manager()
			check(b, err)
			until := time.Now().Add(beside.making)
			makeRevoked(b, db, beside.n, until.Add(-beside.within), until)
			if time.Now().After(until) {
				b.Fatalf("they were not made within %v", beside.making)
			}
			time.Sleep(time.Until(until))
			for b.Loop() {
				second, now := startFollower(b, f)
				b.ReportMetric(now.Healthy.Seconds(), "healthy-s")
				b.ReportMetric(float64(now.Heap)/float64(beside.n), "heap-B/entry")
				reportKnown(b, "notified", second, m)
				polled := f
				polled.Polled = true
				second, _ = startFollower(b, polled)
				reportKnown(b, "polled", second, m)
				reportLook(b, "full", store, until.Add(-beside.within))
				reportLook(b, "small", store, until.Add(-6*time.Second))
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func reportKnown(b *testing.B, way string, second *follower, m *tokensession.Manager) {
	b.Helper()
	var known timings
	for range 20 {
		known.each = append(known.each, second.knows(m))
	}
	b.ReportMetric(known.percentile(50)/1e6, way+"-p50-ms")
	b.ReportMetric(float64(known.each[len(known.each)-1])/1e6, way+"-max-ms")
}

// reportLook reads the feed, and reports how much memory lives meanwhile that did not before, and
// how much is taken in all, which most of the time is garbage at once.
func reportLook(b *testing.B, name string, feed tokensession.RevocationFeed, since time.Time) {
	b.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	told, pages, most := 0, 0, uint64(0)
	began := time.Now()
	check(b, feed.Revocations(ctx, since, func(page []tokensession.Revocation) error {
		told += len(page)
		if pages++; pages%200 == 1 {
			runtime.GC()
			runtime.ReadMemStats(&after)
			most = max(most, after.HeapAlloc-min(before.HeapAlloc, after.HeapAlloc))
		}
		return nil
	}))
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(told), name+"-told")
	b.ReportMetric(took.Seconds(), name+"-s")
	b.ReportMetric(float64(most)/1e6, name+"-held-MB")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/1e6, name+"-garbage-MB")
	if most > 10_000_000 {
		b.Errorf("a %s look holds %d bytes, want 10 MB at most", name, most)
	}
}

// makeRevoked adds n sessions that were revoked one after the other between two times. It makes the
// indexes afterwards, which is much faster.
func makeRevoked(tb testing.TB, db *sql.DB, n int, from, until time.Time) {
	tb.Helper()
	const indexes = " FROM pg_indexes WHERE tablename = 'token_sessions' AND indexname <> 'token_sessions_pkey'"
	var drop, create string
	check(tb, db.QueryRowContext(ctx, "SELECT string_agg('DROP INDEX ' || indexname, ';'), "+
		"string_agg(indexdef, ';')"+indexes).Scan(&drop, &create))
	must(db.ExecContext(ctx, drop))
	step := until.Sub(from) / time.Duration(n)
	must(db.ExecContext(ctx, `INSERT INTO token_sessions (id, issuer, subject, revoke_reason, mac_key, write_id,
		auth_time, created_at, rotated_at, expires_at, revoked_at, idle_ttl, generation, predecessor, version, sweep_at)
		SELECT id, 'https://auth.example', 'user-' || n, 'logout', decode(repeat('00', 32), 'hex'), 'xxxxxxxxxxxxxxxxxxxxxx',
			t, t, t, t + interval '7 days', $2::timestamptz + n * $3::interval, 604800000000, 1, 0, 2, t + interval '7 days'
		FROM (SELECT n, $2::timestamptz - interval '1 hour' AS t,
			translate(encode(decode(md5(n::text), 'hex'), 'base64'), '+/=', '-_') COLLATE "C" AS id
			FROM generate_series(1, $1::int) AS n ORDER BY id) AS rows`,
		n, from, fmt.Sprintf("%d microseconds", step.Microseconds())))
	must(db.ExecContext(ctx, create+"; ANALYZE token_sessions"))
}

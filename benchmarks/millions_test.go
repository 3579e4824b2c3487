//go:build unix

package benchmarks

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// A millionsServer is a server with a store to which very many revoked sessions can be added, which
// were revoked one after the other between two times.
type millionsServer struct {
	name  string
	start func(testing.TB) followed
	fill  func(tb testing.TB, f followed, n int, from, until time.Time)
}

func millionsPostgres(tb testing.TB) followed {
	return followedPostgres(tb, servers.PostgresOptions{Settings: map[string]string{
		"max_wal_size": "8GB", "shared_buffers": "1GB", "work_mem": "256MB", "maintenance_work_mem": "256MB",
	}})
}

func millionsCluster(tb testing.TB) followed {
	cluster := servers.StartRedisCluster(tb, servers.RedisOptions{AppendFsync: "everysec"})
	return followed{Redis: cluster.Addrs, Secret: []byte(randomID() + randomID())}
}

// BenchmarkMillions_stores reports, beside very many revocations that can still matter, how long a
// process that starts takes to be healthy, how soon it knows of one more, and what looks at the
// feed take and hold. These are real times of one run.
func BenchmarkMillions_stores(b *testing.B) {
	onPostgres := millionsServer{"postgres", millionsPostgres, fillPostgres}
	onRedis := millionsServer{"redis", newsRedis, fillRedis}
	onCluster := millionsServer{"redis-cluster", millionsCluster, fillRedis}
	for _, beside := range []struct {
		server millionsServer
		n      int
		within time.Duration
		making time.Duration // for how long they may be made
	}{
		{onPostgres, 1_000_000, time.Minute, 2 * time.Minute},
		{onPostgres, 3_000_000, 12 * time.Minute, 5 * time.Minute},
		{onRedis, 1_000_000, time.Minute, 3 * time.Minute},
		{onRedis, 3_000_000, 12 * time.Minute, 5 * time.Minute},
		{onCluster, 1_000_000, time.Minute, 3 * time.Minute},
	} {
		name := fmt.Sprintf("%s/n=%d/within=%v", beside.server.name, beside.n, beside.within)
		b.Run(name, func(b *testing.B) {
			f := beside.server.start(b)
			store, err := f.store()
			check(b, err)
			m, _, err := f.manager()
			check(b, err)
			until := time.Now().Add(beside.making)
			beside.server.fill(b, f, beside.n, until.Add(-beside.within), until)
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
				feed := store.(tokensession.RevocationFeed)
				if told := reportLook(b, "full", feed, until.Add(-beside.within)); told < beside.n {
					b.Errorf("a full look tells %d revocations, want all %d", told, beside.n)
				}
				reportLook(b, "small", feed, until.Add(-6*time.Second))
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
func reportLook(
	b *testing.B, name string, feed tokensession.RevocationFeed, since time.Time,
) (told int) {
	b.Helper()
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	pages, most := 0, uint64(0)
	began := time.Now()
	check(b, feed.Revocations(ctx, since, func(page []tokensession.Revocation) error {
		told += len(page)
		if pages++; pages%20 == 1 {
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
	return told
}

// fillPostgres makes the indexes afterwards, which is much faster.
func fillPostgres(tb testing.TB, f followed, n int, from, until time.Time) {
	tb.Helper()
	_, db, err := f.sqlStore()
	check(tb, err)
	defer db.Close()
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

// fillRedis lets the store create the sessions, from very many goroutines whose commands are
// gathered into pipelines.
func fillRedis(tb testing.TB, f followed, n int, from, until time.Time) {
	tb.Helper()
	const writers, pipelines = 1000, 4
	client := f.redisClient()
	defer client.Close()
	g := gatherer{client: f.redisClient(), commands: make(chan gathered, writers)}
	defer g.client.Close()
	client.AddHook(g)
	var sending sync.WaitGroup
	for range pipelines {
		sending.Go(g.send)
	}
	store := must(redisstore.New(client, redisstore.Config{}))
	var next atomic.Int64
	var writing sync.WaitGroup
	for range writers {
		writing.Go(func() {
			for i := next.Add(1); i <= int64(n); i = next.Add(1) {
				revoked := revokedRecord()
				revoked.ID, revoked.Subject = randomID(), fmt.Sprintf("user-%010d", i)
				revoked.RevokedAt = from.Add(until.Sub(from) * time.Duration(i) / time.Duration(n))
				if err := store.Create(ctx, revoked); err != nil {
					panic(err)
				}
			}
		})
	}
	writing.Wait()
	close(g.commands)
	sending.Wait()
}

// A gatherer is a hook of one client that sends its commands by another one, those of many
// goroutines at once.
type gatherer struct {
	client   redis.UniversalClient
	commands chan gathered
}

type gathered struct {
	cmd  redis.Cmder
	done chan struct{}
}

func (g gatherer) DialHook(next redis.DialHook) redis.DialHook { return next }

func (g gatherer) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

func (g gatherer) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error {
		one := gathered{cmd, make(chan struct{})}
		g.commands <- one
		<-one.done
		return cmd.Err()
	}
}

// send sends what is there, in one pipeline, until there is no more to come.
func (g gatherer) send() {
	for one := range g.commands {
		all := g.more([]gathered{one})
		pipeline := g.client.Pipeline()
		for _, each := range all {
			_ = pipeline.Process(ctx, each.cmd)
		}
		_, _ = pipeline.Exec(ctx) // each command has its own error
		for _, each := range all {
			close(each.done)
		}
	}
}

func (g gatherer) more(all []gathered) []gathered {
	const most = 250
	for len(all) < most {
		select {
		case one := <-g.commands:
			all = append(all, one)
		default:
			return all
		}
	}
	return all
}

//go:build unix

package benchmarks

import (
	"context"
	"database/sql"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// The pool of both what is measured and its floor.
const pool = 16

// A rival is a store on a server, and the cheapest write that can be made there through the same
// driver and pool.
type rival struct {
	store  tokensession.RefreshStore
	server *servers.Process
	sent   *atomic.Int64                   // what the client wrote to its connections, counted in writes
	floor  func(client int) (write func()) // prepares the row or key of a client
}

// spent is what has been used until now of the writes to connections and of processors' time.
type spent struct {
	sent           int64
	client, server time.Duration
}

func (r rival) spent() spent {
	var self syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &self)
	return spent{r.sent.Load(), time.Duration(self.Utime.Nano() + self.Stime.Nano()), r.server.CPUTime()}
}

func (s *spent) add(from, to spent) {
	s.sent += to.sent - from.sent
	s.client += to.client - from.client
	s.server += to.server - from.server
}

// BenchmarkStore_refresh runs refreshes through a Manager in turns with the floor: a prepared
// UPDATE of one row by its primary key, or an EVALSHA that sets one key.
func BenchmarkStore_refresh(b *testing.B) {
	rivals := []struct {
		name  string
		start func(testing.TB) rival
	}{
		{"postgres", func(tb testing.TB) rival { return postgresRival(tb, servers.PostgresOptions{Durable: true}) }},
		{"postgres-without-fsync", func(tb testing.TB) rival { return postgresRival(tb, servers.PostgresOptions{}) }},
		{"redis-everysec", func(tb testing.TB) rival { return redisRival(tb, "everysec") }},
		{"redis-without-aof", func(tb testing.TB) rival { return redisRival(tb, "") }},
	}
	for _, r := range rivals {
		b.Run(r.name, func(b *testing.B) {
			rival := r.start(b)
			for _, clients := range []int{1, 16} {
				b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) { compare(b, rival, clients) })
			}
		})
	}
}

// A side is one of those that take turns.
type side struct {
	name       string
	operations []func()
	timings    timings
	spent      spent
}

func (s *side) turn(r rival, d time.Duration) {
	before := r.spent()
	s.timings.add(run(s.operations, d))
	s.spent.add(before, r.spent())
}

// compare has refreshes of three kinds take turns with the floor. Here is the instance that wrote
// the session last. Elsewhere is another one each time, which remembers what it wrote before, and
// this is old news. And off remembers nothing.
func compare(b *testing.B, r rival, clients int) {
	sides := []*side{{name: "floor"}, {name: "here"}, {name: "elsewhere"}, {name: "off"}}
	key := must(tokensession.GenerateKey())
	here, other := managerOf(b, key, r.store), managerOf(b, key, r.store)
	off := managerWith(b, key, r.store, tokensession.Config{Remember: -1})
	for client := range clients {
		for i, operation := range []func(){
			r.floor(client), refresher(b, client, here), refresher(b, client, here, other),
			refresher(b, client, off),
		} {
			sides[i].operations = append(sides[i].operations, operation)
		}
	}
	for _, s := range sides {
		run(s.operations, 300*time.Millisecond) // connects, prepares, warms up
	}
	for b.Loop() {
		for range 6 {
			for _, s := range sides {
				s.turn(r, 500*time.Millisecond)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // of everything together: no use
	floor := &sides[0].timings
	for _, s := range sides {
		n := float64(len(s.timings.each))
		b.ReportMetric(s.timings.percentile(50), s.name+"-p50-ns")
		b.ReportMetric(s.timings.rate(), s.name+"-ops/s")
		b.ReportMetric(float64(s.spent.sent)/n, s.name+"-sent/op")
		// What processors do is what bounds the throughput once all are busy. It is steadier than
		// time on a busy machine.
		b.ReportMetric(float64(s.spent.client)/n, s.name+"-client-cpu-ns")
		b.ReportMetric(float64(s.spent.server)/n, s.name+"-server-cpu-ns")
		if s != sides[0] {
			b.ReportMetric(s.timings.percentile(50)/floor.percentile(50), s.name+"-p50-ratio")
			b.ReportMetric(s.timings.rate()/floor.rate(), s.name+"-throughput-ratio")
		}
	}
}

func managerOn(tb testing.TB, store tokensession.RefreshStore) *tokensession.Manager {
	tb.Helper()
	return managerOf(tb, must(tokensession.GenerateKey()), store)
}

// refresher starts a session and returns what refreshes it, at each of the Managers in turn.
func refresher(tb testing.TB, client int, ms ...*tokensession.Manager) func() {
	tb.Helper()
	tokens, err := ms[0].Start(ctx, fmt.Sprintf("user-%010d", client), tokensession.WithAttributes(map[string]string{
		"device": "Firefox on Linux", "ip": "198.51.100.7",
	}))
	check(tb, err)
	n := 0
	return func() {
		n++
		next, err := ms[n%len(ms)].Refresh(ctx, tokens.RefreshToken)
		if err != nil {
			panic(err)
		}
		tokens = next
	}
}

// countingDialer returns a dialer whose connections count what is written to them: a write is a
// round trip with the drivers used here.
func countingDialer() (*atomic.Int64, func(ctx context.Context, network, addr string) (net.Conn, error)) {
	sent := new(atomic.Int64)
	return sent, func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &countingConn{conn, sent}, nil
	}
}

type countingConn struct {
	net.Conn
	sent *atomic.Int64
}

func (c *countingConn) Write(b []byte) (int, error) {
	c.sent.Add(1)
	return c.Conn.Write(b)
}

func postgresRival(tb testing.TB, opts servers.PostgresOptions) rival {
	tb.Helper()
	server := servers.StartPostgres(tb, opts)
	db, sent := openPostgres(tb, server.DSN)
	_, err := db.ExecContext(ctx, "CREATE TABLE floor (id text PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 80)")
	check(tb, err)
	update, err := db.PrepareContext(ctx, "UPDATE floor SET n = n + $1 WHERE id = $2")
	check(tb, err)
	return rival{store: migrated(tb, db), server: server.Process, sent: sent, floor: func(client int) func() {
		id := fmt.Sprintf("client %d", client)
		_, err := db.ExecContext(ctx, "INSERT INTO floor VALUES ($1, 0) ON CONFLICT DO NOTHING", id)
		check(tb, err)
		return func() {
			if _, err := update.ExecContext(ctx, 1, id); err != nil {
				panic(err)
			}
		}
	}}
}

func openPostgres(tb testing.TB, dsn string) (*sql.DB, *atomic.Int64) {
	tb.Helper()
	cfg, err := pgx.ParseConfig(dsn)
	check(tb, err)
	sent, dial := countingDialer()
	cfg.DialFunc = dial
	db := stdlib.OpenDB(*cfg)
	tb.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(pool)
	db.SetMaxIdleConns(pool)
	return db, sent
}

func migrated(tb testing.TB, db *sql.DB) *sqlstore.Store {
	tb.Helper()
	store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Config{})
	check(tb, err)
	check(tb, store.Migrate(ctx))
	return store
}

func redisRival(tb testing.TB, appendFsync string) rival {
	tb.Helper()
	sent, dial := countingDialer()
	server := servers.StartRedis(tb, servers.RedisOptions{AppendFsync: appendFsync})
	client := server.Client(&redis.Options{PoolSize: pool, Dialer: dial})
	store, err := redisstore.New(client, redisstore.Config{})
	check(tb, err)
	set := redis.NewScript("return redis.call('SET', KEYS[1], ARGV[1])")
	return rival{store: store, server: server.Process, sent: sent, floor: func(n int) func() {
		keys := []string{fmt.Sprintf("floor %d", n)}
		return func() {
			if err := set.Run(ctx, client, keys, "x").Err(); err != nil {
				panic(err)
			}
		}
	}}
}

// BenchmarkStore_space tells what a session takes in the store after one refresh and after a
// hundred.
func BenchmarkStore_space(b *testing.B) {
	const sessions = 500
	b.Run("postgres", func(b *testing.B) {
		db, _ := openPostgres(b, servers.StartPostgres(b, servers.PostgresOptions{}).DSN)
		space(b, migrated(b, db), sessions, func() (rows, bytes float64) {
			_, err := db.ExecContext(ctx, "VACUUM ANALYZE token_sessions")
			check(b, err)
			check(b, db.QueryRowContext(ctx, "SELECT count(*), pg_total_relation_size('token_sessions') FROM token_sessions").Scan(&rows, &bytes))
			return rows, bytes
		})
		var hot float64
		await(b, func() bool {
			err := db.QueryRowContext(ctx, "SELECT 100.0 * n_tup_hot_upd / n_tup_upd FROM pg_stat_user_tables WHERE relname = 'token_sessions' AND n_tup_upd >= $1", 100*sessions).Scan(&hot)
			return err == nil
		})
		b.ReportMetric(hot, "%-HOT-updates")
	})
	b.Run("redis", func(b *testing.B) {
		client := servers.StartRedis(b, servers.RedisOptions{}).Client(nil)
		store, err := redisstore.New(client, redisstore.Config{})
		check(b, err)
		space(b, store, sessions, func() (keys, bytes float64) {
			all := must(client.Keys(ctx, "*").Result())
			for _, key := range all {
				bytes += float64(must(client.MemoryUsage(ctx, key).Result()))
			}
			return float64(len(all)), bytes
		})
	})
}

func space(b *testing.B, store tokensession.RefreshStore, sessions int, measure func() (rows, bytes float64)) {
	m := managerOn(b, store)
	var refreshes []func()
	for client := range sessions {
		refreshes = append(refreshes, refresher(b, client, m))
	}
	done := 0
	refreshUntil := func(n int) {
		for ; done < n; done++ {
			for _, refresh := range refreshes {
				refresh()
			}
		}
	}
	for b.Loop() {
		refreshUntil(1)
		rows1, bytes1 := measure()
		refreshUntil(100)
		rows100, bytes100 := measure()
		n := float64(sessions)
		b.ReportMetric(rows1/n, "rows-after-1")
		b.ReportMetric(rows100/n, "rows-after-100")
		b.ReportMetric(bytes1/n, "bytes-after-1")
		b.ReportMetric(bytes100/n, "bytes-after-100")
	}
	b.ReportMetric(0, "ns/op")
}

func await(tb testing.TB, done func() bool) {
	tb.Helper()
	deadline, tick := time.After(time.Minute), time.NewTicker(50*time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline:
			tb.Fatal("waited a minute")
		case <-tick.C:
		}
	}
}

// BenchmarkStore_sweep drops a million expired rows in the batches of Manager.Run, while clients
// refresh.
func BenchmarkStore_sweep(b *testing.B) {
	const expired, batch, clients = 1_000_000, 1000, 4
	db, _ := openPostgres(b, servers.StartPostgres(b, servers.PostgresOptions{Durable: true}).DSN)
	store := migrated(b, db)
	m := managerOn(b, store)
	var refreshes []func()
	for client := range clients {
		refreshes = append(refreshes, refresher(b, client, m))
	}
	_, err := db.ExecContext(ctx, `INSERT INTO token_sessions (id, subject, client_id, auth_time, created_at, rotated_at, expires_at,
		max_expires_at, revoke_reason, generation, predecessor, mac_key, version, write_id, sweep_at)
		SELECT 'expired' || n, 'user-' || n, '', t, t, t, t + interval '7 days', t + interval '30 days', '', 1, 0,
			decode(repeat('00', 32), 'hex'), 2, 'xxxxxxxxxxxxxxxxxxxxxx', t + interval '7 days'
		FROM (SELECT n, now() - interval '8 days' - n * interval '1 second' AS t FROM generate_series(1, $1::int) AS n) AS rows`, expired)
	check(b, err)
	_, err = db.ExecContext(ctx, "VACUUM ANALYZE token_sessions")
	check(b, err)
	for b.Loop() {
		quiet := run(refreshes, 2*time.Second)
		dropped, elapsed, busy := sweep(b, store, batch, refreshes)
		if dropped != expired {
			b.Fatalf("dropped %d rows, want %d", dropped, expired)
		}
		b.ReportMetric(float64(dropped)/elapsed.Seconds(), "rows/s")
		b.ReportMetric(quiet.percentile(50), "quiet-p50-ns")
		b.ReportMetric(quiet.percentile(99), "quiet-p99-ns")
		b.ReportMetric(busy.percentile(50), "meanwhile-p50-ns")
		b.ReportMetric(busy.percentile(99), "meanwhile-p99-ns")
	}
	b.ReportMetric(0, "ns/op")
}

// sweep drops all that has expired, and returns how refreshes did meanwhile.
func sweep(tb testing.TB, store tokensession.Sweeper, batch int, refreshes []func()) (dropped int, elapsed time.Duration, meanwhile timings) {
	var done atomic.Bool
	refreshing := make(chan struct{})
	go func() {
		defer close(refreshing)
		for !done.Load() {
			meanwhile.add(run(refreshes, 100*time.Millisecond))
		}
	}()
	begin := time.Now()
	for n := batch; n == batch; {
		var err error
		n, err = store.Sweep(ctx, time.Now(), batch)
		check(tb, err)
		dropped += n
	}
	elapsed = time.Since(begin)
	done.Store(true)
	<-refreshing
	return dropped, elapsed, meanwhile
}

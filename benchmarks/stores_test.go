package benchmarks

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/proof/servers"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

// turns is how often the floor and the refresh take turns, for turn each.
const (
	turns = 5
	turn  = time.Second
)

// A bench is a store and the cheapest durable write on the same server, through the same driver and pool.
type bench struct {
	store tokensession.RefreshStore
	floor func(client int) error
}

// BenchmarkStorePostgreSQL: the floor is a prepared UPDATE of one small row by primary key, as in pgbench. The server
// runs with its defaults: it waits for the disk at each commit.
func BenchmarkStorePostgreSQL(b *testing.B) {
	db := postgres(b, servers.PostgresOptions{Durable: true})
	b.Run("refresh", func(b *testing.B) { compare(b, postgresBench(b, db)) })
}

// BenchmarkStorePostgreSQL_noWait is the same with synchronous_commit off, so that it is the statements that count.
func BenchmarkStorePostgreSQL_noWait(b *testing.B) {
	db := postgres(b, servers.PostgresOptions{Durable: true, Settings: map[string]string{"synchronous_commit": "off"}})
	b.Run("refresh", func(b *testing.B) { compare(b, postgresBench(b, db)) })
}

// BenchmarkStoreRedis: the floor is one EVALSHA that sets a field of a hash.
func BenchmarkStoreRedis(b *testing.B) {
	server := servers.StartRedis(b, servers.RedisOptions{AppendFsync: "everysec"})
	client := server.Client(&redis.Options{Addr: server.Addr, PoolSize: 32})
	b.Run("refresh", func(b *testing.B) { compare(b, redisBench(b, client)) })
}

func postgres(b *testing.B, opts servers.PostgresOptions) *sql.DB {
	db := must(sql.Open("pgx", servers.StartPostgres(b, opts).DSN))
	db.SetMaxIdleConns(32)
	b.Cleanup(func() { _ = db.Close() })
	return db
}

func newSQLStore(b *testing.B, db *sql.DB) *sqlstore.Store {
	store := must(sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Config{}))
	check(b, store.Migrate(ctx))
	return store
}

func postgresBench(b *testing.B, db *sql.DB) bench {
	exec(b, db, "CREATE TABLE IF NOT EXISTS floor (id bigint PRIMARY KEY, n bigint NOT NULL) WITH (fillfactor = 80)")
	exec(b, db, "INSERT INTO floor SELECT i, 0 FROM generate_series(0, 99) AS i ON CONFLICT DO NOTHING")
	return bench{newSQLStore(b, db), func(client int) error {
		_, err := db.ExecContext(ctx, "UPDATE floor SET n = n + 1 WHERE id = $1", client)
		return err
	}}
}

func redisBench(b *testing.B, client *redis.Client) bench {
	script := redis.NewScript("return redis.call('HSET', KEYS[1], 'n', ARGV[1])")
	return bench{must(redisstore.New(client, redisstore.Config{})), func(c int) error {
		return script.Run(ctx, client, []string{fmt.Sprintf("floor:%d", c)}, c).Err()
	}}
}

func exec(b *testing.B, db *sql.DB, statement string) {
	b.Helper()
	_, err := db.Exec(statement)
	check(b, err)
}

// compare lets 1 and 16 clients take turns with the floor and with refreshes.
func compare(b *testing.B, s bench) {
	for _, clients := range []int{1, 16} {
		b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) {
			refresh := refresher(b, s.store, clients)
			var floor, ours result
			for b.Loop() {
				for range turns {
					floor.add(work(b, clients, turn, s.floor))
					ours.add(work(b, clients, turn, refresh))
				}
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(floor.quantile(0.5), "floor-p50-µs")
			b.ReportMetric(ours.quantile(0.5), "refresh-p50-µs")
			b.ReportMetric(ours.quantile(0.5)/floor.quantile(0.5), "p50-ratio")
			b.ReportMetric(floor.rate(), "floor-ops/s")
			b.ReportMetric(ours.rate(), "refresh-ops/s")
			b.ReportMetric(ours.rate()/floor.rate(), "ops-ratio")
		})
	}
}

// refresher starts a session for each client and returns what refreshes it.
func refresher(b *testing.B, store tokensession.RefreshStore, clients int) func(client int) error {
	b.Helper()
	m := managerOn(b, store)
	tokens := make([]tokensession.Tokens, clients)
	for i := range tokens {
		tokens[i] = start(b, m)
	}
	return func(client int) (err error) {
		tokens[client], err = m.Refresh(ctx, tokens[client].RefreshToken)
		return err
	}
}

func managerOn(b *testing.B, store tokensession.RefreshStore) *tokensession.Manager {
	b.Helper()
	signer, err := tokensession.NewAccessSigner(must(tokensession.GenerateKey()),
		tokensession.AccessConfig{Issuer: "https://auth.example", Audience: []string{"https://api.example"}})
	check(b, err)
	m, err := tokensession.New(signer, store, tokensession.Config{})
	check(b, err)
	return m
}

// A result is how long each operation took, and all of them together.
type result struct {
	times []time.Duration
	total time.Duration
}

func (r *result) add(more result) {
	r.times, r.total = append(r.times, more.times...), r.total+more.total
}

// quantile is in microseconds.
func (r *result) quantile(q float64) float64 {
	slices.Sort(r.times)
	return float64(r.times[int(q*float64(len(r.times)-1))].Nanoseconds()) / 1000
}

func (r *result) rate() float64 { return float64(len(r.times)) / r.total.Seconds() }

// work lets the clients do an operation over and over for a while.
func work(b *testing.B, clients int, period time.Duration, operation func(client int) error) result {
	b.Helper()
	var all sync.WaitGroup
	results := make([]result, clients)
	begin := time.Now()
	for c := range clients {
		all.Go(func() {
			for before := time.Now(); before.Sub(begin) < period; {
				if err := operation(c); err != nil {
					b.Error(err)
					return
				}
				after := time.Now()
				results[c].times = append(results[c].times, after.Sub(before))
				before = after
			}
		})
	}
	all.Wait()
	sum := result{total: time.Since(begin)}
	for _, r := range results {
		sum.times = append(sum.times, r.times...)
	}
	return sum
}

// BenchmarkStorePostgreSQL_size shows that refreshes leave neither rows nor bytes behind.
func BenchmarkStorePostgreSQL_size(b *testing.B) {
	const sessions = 2000
	for b.Loop() {
		db := postgres(b, servers.PostgresOptions{})
		store := newSQLStore(b, db)
		refresh := refresher(b, store, sessions)
		for n := 1; n <= 100; n++ {
			for client := range sessions {
				check(b, refresh(client))
			}
			if n == 1 || n == 100 {
				exec(b, db, "VACUUM token_sessions")
				report(b, fmt.Sprintf("rows/session-after-%d", n), sessions, queryInt(b, db, "SELECT count(*) FROM token_sessions"))
				report(b, fmt.Sprintf("B/session-after-%d", n), sessions, queryInt(b, db, "SELECT pg_total_relation_size('token_sessions')"))
			}
		}
		hot := queryInt(b, db, "SELECT n_tup_hot_upd * 100 / n_tup_upd FROM pg_stat_user_tables WHERE relname = 'token_sessions'")
		b.ReportMetric(float64(hot), "%HOT-updates")
		b.ReportMetric(0, "ns/op")
	}
}

// BenchmarkStoreRedis_size does so for Redis.
func BenchmarkStoreRedis_size(b *testing.B) {
	const sessions = 2000
	for b.Loop() {
		server := servers.StartRedis(b, servers.RedisOptions{})
		client := server.Client(&redis.Options{Addr: server.Addr})
		var sent commandCounter
		client.AddHook(&sent)
		refresh := refresher(b, must(redisstore.New(client, redisstore.Config{})), sessions)
		for n := 1; n <= 100; n++ {
			before := sent.n.Load()
			for i := range sessions {
				check(b, refresh(i))
			}
			if n == 1 || n == 100 {
				report(b, fmt.Sprintf("commands/refresh-%d", n), sessions, int(sent.n.Load()-before))
				report(b, fmt.Sprintf("keys/session-after-%d", n), sessions, int(client.DBSize(ctx).Val()))
				report(b, fmt.Sprintf("B/session-after-%d", n), sessions, redisBytes(b, client))
			}
		}
		b.ReportMetric(0, "ns/op")
	}
}

// A commandCounter counts the commands that a client sends.
type commandCounter struct{ n atomic.Int64 }

func (c *commandCounter) DialHook(next redis.DialHook) redis.DialHook { return next }

func (c *commandCounter) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		c.n.Add(1)
		return next(ctx, cmd)
	}
}

func (c *commandCounter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		c.n.Add(int64(len(cmds)))
		return next(ctx, cmds)
	}
}

func redisBytes(b *testing.B, client *redis.Client) int {
	b.Helper()
	total := 0
	for keys := client.Scan(ctx, 0, "*", 1000).Iterator(); keys.Next(ctx); {
		total += int(must(client.MemoryUsage(ctx, keys.Val()).Result()))
	}
	return total
}

func report(b *testing.B, unit string, sessions, total int) {
	b.ReportMetric(float64(total)/float64(sessions), unit)
}

func queryInt(b *testing.B, db *sql.DB, query string) (n int) {
	b.Helper()
	check(b, db.QueryRow(query).Scan(&n))
	return n
}

// BenchmarkStorePostgreSQL_sweep drops a million expired rows in the batches of Manager.Run while clients refresh.
func BenchmarkStorePostgreSQL_sweep(b *testing.B) {
	const rows, clients = 1_000_000, 4
	for b.Loop() {
		db := postgres(b, servers.PostgresOptions{Durable: true})
		store := newSQLStore(b, db)
		fillExpired(b, db, rows)
		refresh := refresher(b, store, clients)
		alone := work(b, clients, 5*turn, refresh)

		swept, begin := 0, time.Now()
		done := make(chan error)
		var took time.Duration
		go func() {
			for {
				n, err := store.Sweep(ctx, time.Now(), 1000)
				swept += n
				if err != nil || n < 1000 {
					took = time.Since(begin)
					done <- err
					return
				}
			}
		}()
		var meanwhile result
		for sweeping := true; sweeping; {
			select {
			case err := <-done:
				check(b, err)
				sweeping = false
			default:
				meanwhile.add(work(b, clients, turn, refresh))
			}
		}
		if swept != rows {
			b.Fatalf("%d rows were swept, want %d", swept, rows)
		}
		b.ReportMetric(0, "ns/op")
		b.ReportMetric(rows/took.Seconds(), "rows-swept/s")
		b.ReportMetric(alone.quantile(0.5), "refresh-p50-µs-alone")
		b.ReportMetric(meanwhile.quantile(0.5), "refresh-p50-µs-meanwhile")
		b.ReportMetric(alone.quantile(0.99), "refresh-p99-µs-alone")
		b.ReportMetric(meanwhile.quantile(0.99), "refresh-p99-µs-meanwhile")
	}
}

// fillExpired copies a session's row with other ids and an end in the past.
func fillExpired(b *testing.B, db *sql.DB, rows int) {
	b.Helper()
	start(b, managerOn(b, newSQLStore(b, db)))
	columns := "subject, client_id, attributes, auth_time, created_at, rotated_at, consumed_at, max_expires_at, revoked_at, revoke_reason, generation, predecessor, mac_key, version, write_id"
	past := "now() - interval '1 day'"
	exec(b, db, fmt.Sprintf("INSERT INTO token_sessions (id, expires_at, sweep_at, %[1]s) SELECT md5(i::text), %[2]s, %[2]s, %[3]s FROM token_sessions, generate_series(1, %[4]d) AS i",
		columns, past, strings.ReplaceAll(columns, "subject", "'expired ' || i"), rows))
	exec(b, db, "ANALYZE token_sessions")
}

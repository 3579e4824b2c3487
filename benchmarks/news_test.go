//go:build unix

package benchmarks

import (
	"bufio"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// A newsServer is a server with a store, whose work can be counted.
type newsServer struct {
	name  string
	start func(testing.TB) followed

	// calls returns how many statements or commands the server has had, and for what.
	calls func(testing.TB, followed) map[string]int
}

var newsServers = []newsServer{
	{"postgres", newsPostgres, postgresCalls},
	{"redis", newsRedis, redisCalls},
}

func newsPostgres(tb testing.TB) followed {
	return followedPostgres(tb, servers.PostgresOptions{Durable: true, Settings: map[string]string{
		"shared_preload_libraries": "pg_stat_statements",
	}})
}

func followedPostgres(tb testing.TB, opts servers.PostgresOptions) followed {
	tb.Helper()
	f := followed{
		Postgres: servers.StartPostgres(tb, opts).DSN, Secret: []byte(randomID() + randomID()),
	}
	store, _, err := f.sqlStore()
	check(tb, err)
	check(tb, store.Migrate(ctx))
	return f
}

func newsRedis(tb testing.TB) followed {
	server := servers.StartRedis(tb, servers.RedisOptions{AppendFsync: "everysec"})
	return followed{Redis: []string{server.Addr}, Secret: []byte(randomID() + randomID())}
}

// BenchmarkNews_twoProcesses reports how long it takes from the return of Revoke in one process
// until the other one refuses the session's access token, with notifications and by polling.
//
// A process looks 20 times a second, and a few times at once after a quiet time. So revocations in
// a row, each made as soon as the one before it was known, wait for most of 50 ms.
func BenchmarkNews_twoProcesses(b *testing.B) {
	ways := []struct {
		name          string
		polled        bool
		rounds        int
		least, spread time.Duration // between two revocations
	}{
		{"notified", false, 400, 100 * time.Millisecond, 200 * time.Millisecond},
		{"notified-in-a-row", false, 400, 0, 0},
		{"polled", true, 80, 0, time.Second},
	}
	for _, server := range newsServers {
		for _, way := range ways {
			b.Run(server.name+"/"+way.name, func(b *testing.B) {
				f := server.start(b)
				f.Polled = way.polled
				m, _, err := f.manager()
				check(b, err)
				second, _ := startFollower(b, f)
				for range 10 {
					second.knows(m) // connects, prepares, warms up
				}
				var known timings
				for b.Loop() {
					for range way.rounds {
						time.Sleep(way.least + time.Duration(rand.Float64()*float64(way.spread)))
						known.each = append(known.each, second.knows(m))
					}
				}
				b.ReportMetric(known.percentile(50)/1e6, "known-p50-ms")
				b.ReportMetric(known.percentile(99)/1e6, "known-p99-ms")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkNews_idle reports what one instance asks of the server in a minute in which nothing
// happens, with notifications: one look at the feed each 10 seconds. The sweep of an SQL store, two
// statements, comes each 10 minutes then. The first one is over when the minute begins.
func BenchmarkNews_idle(b *testing.B) {
	for _, server := range newsServers {
		b.Run(server.name, func(b *testing.B) {
			f := server.start(b)
			startFollower(b, f)
			time.Sleep(5 * time.Second) // until the first looks and the first sweep are over
			for b.Loop() {
				before := server.calls(b, f)
				time.Sleep(time.Minute)
				after := server.calls(b, f)
				all, sweep := 0, 0
				for call, n := range after {
					if n -= before[call]; n == 0 {
						continue
					}
					all += n
					if strings.Contains(call, "sweep_at <=") {
						sweep += n
					}
					b.Logf("%d of %.60s", n, call)
				}
				if all > 6 {
					b.Errorf("%d statements or commands in an idle minute, want 6 at most", all)
				}
				b.ReportMetric(float64(all-sweep), "feed/min")
				b.ReportMetric(float64(sweep), "sweep/min")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

func postgresCalls(tb testing.TB, f followed) map[string]int {
	tb.Helper()
	db, _ := openPostgres(tb, f.Postgres)
	defer db.Close()
	must(db.ExecContext(ctx, "CREATE EXTENSION IF NOT EXISTS pg_stat_statements"))
	rows := must(db.QueryContext(ctx, "SELECT query, sum(calls) FROM pg_stat_statements"+
		" WHERE query NOT LIKE '%pg_stat_statements%' GROUP BY query"))
	defer rows.Close()
	calls := make(map[string]int)
	for rows.Next() {
		var query string
		var n int
		check(tb, rows.Scan(&query, &n))
		calls[query] = n
	}
	check(tb, rows.Err())
	return calls
}

func redisCalls(tb testing.TB, f followed) map[string]int {
	tb.Helper()
	client := f.redisClient()
	defer client.Close()
	calls := make(map[string]int)
	in := bufio.NewScanner(strings.NewReader(must(client.Info(ctx, "commandstats").Result())))
	for in.Scan() {
		name, stats, _ := strings.Cut(strings.TrimPrefix(in.Text(), "cmdstat_"), ":")
		switch name {
		case "info", "hello", "client|setinfo", "client|maint_notifications": // of this function
			continue
		case "zrem", "zrange": // of the script that reads the feed
			continue
		}
		var n int
		if _, err := fmt.Sscanf(stats, "calls=%d,", &n); err == nil {
			calls[name] = n
		}
	}
	return calls
}

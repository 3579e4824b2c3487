package manager_test

import (
	"context"
	"fmt"
	"runtime"
	"runtime/pprof"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

// conns are a store's connections.
type conns struct {
	inUse func() int // by calls
	close func()
}

// openCounted opens the store, and the way to see its connections.
func (p place) openCounted(a access) (tokensession.RefreshStore, conns, error) {
	if p.Backend == redisSingle || p.Backend == redisCluster {
		client := p.redisClient(a)
		store, err := redisstore.New(client, redisstore.Config{Prefix: p.Prefix})
		return store, conns{
			inUse: func() int { s := client.PoolStats(); return int(s.TotalConns) - int(s.IdleConns) },
			close: func() { _ = client.Close() },
		}, err
	}
	db, dialect, err := p.openDB(a)
	if err != nil {
		return nil, conns{}, err
	}
	store, err := sqlstore.New(db, dialect, sqlstore.Config{})
	return store, conns{inUse: func() int { return db.Stats().InUse }, close: func() { _ = db.Close() }}, err
}

// leftover is what is there before a soak and must not be more afterwards.
type leftover struct{ goroutines, connections int }

func (w *world) baseline() leftover {
	w.t.Helper()
	return leftover{runtime.NumGoroutine(), w.serverConnections()}
}

// leaks counts the connections that calls have not given back, closes the stores, and counts what
// is left of them here and at the server.
func (w *world) leaks(before leftover) {
	w.t.Helper()
	for _, in := range w.instances {
		w.connections += settle(0, in.inUse)
		in.close()
		if in.proxy != nil {
			in.proxy.close()
		}
	}
	w.connections += settle(before.connections, w.serverConnections)
	if w.goroutines = settle(before.goroutines, runtime.NumGoroutine); w.goroutines > 0 {
		var b strings.Builder
		_ = pprof.Lookup("goroutine").WriteTo(&b, 1)
		w.t.Log(b.String())
	}
}

// settle waits for a number to go down to what it may be, and returns by how much it does not.
func settle(allowed int, number func() int) int {
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		n := number()
		if n <= allowed {
			return 0
		}
		select {
		case <-deadline:
			return n - allowed
		case <-tick.C:
		}
	}
}

// serverConnections asks the server how many clients it has, but for the one that asks.
func (w *world) serverConnections() int {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n, err := w.faults.clients(ctx)
	if err != nil {
		w.t.Fatalf("count connections: %v", err)
	}
	return n
}

func (p place) clients(ctx context.Context) (n int, err error) {
	var query string
	switch p.Backend {
	case postgres:
		query = "SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
	case mariadb:
		query = "SELECT count(*) FROM information_schema.processlist WHERE user = 'root' AND id <> connection_id()"
	case sqlite:
		return 0, nil
	default:
		for _, addr := range p.Addrs {
			client := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1})
			list, err := client.ClientList(ctx).Result()
			_ = client.Close()
			if err != nil {
				return 0, fmt.Errorf("%s: %w", addr, err)
			}
			n--
			for line := range strings.Lines(list) {
				if !strings.Contains(line, " flags=S ") && !strings.Contains(line, " flags=M ") { // of replication
					n++
				}
			}
		}
		return n, nil
	}
	db, _, err := p.openDB(access{pool: 1})
	if err != nil {
		return 0, err
	}
	defer db.Close()
	err = db.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}

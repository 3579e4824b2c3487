package manager_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// A soakStore is what TestSoak runs on.
type soakStore struct {
	name  string
	start func(*world) (place, faultMaker)
}

// The servers' clocks are wrong by more than a session lives.
const (
	farAhead  = 8 * 24 * time.Hour
	farBehind = -8 * 24 * time.Hour
)

var soakStores = []soakStore{
	{postgres, soakPostgres},
	{postgres + " behind PgBouncer", soakPgBouncer},
	{mariadb, soakMariaDB},
	{sqlite, func(w *world) (place, faultMaker) { return newSQLite(w.t), &fileFaults{world: w} }},
	{redisSingle, soakRedis},
	{redisCluster, soakCluster},
}

func soakPostgres(w *world) (place, faultMaker) {
	s := servers.StartPostgres(w.t, servers.PostgresOptions{Durable: true, ClockAhead: farAhead})
	return migrated(w.t, place{Backend: postgres, DSN: s.DSN}), &serverFaults{world: w, server: s}
}

// soakPgBouncer has four connections for all calls of both instances. Each has pgx in another one
// of the modes that the README of sqlstore names.
func soakPgBouncer(w *world) (place, faultMaker) {
	s := servers.StartPostgres(w.t, servers.PostgresOptions{Durable: true, ClockAhead: farBehind})
	migrated(w.t, place{Backend: postgres, DSN: s.DSN})
	pooled := pooledServer{s, servers.StartPgBouncer(w.t, s, 4)}
	return place{Backend: postgres, DSN: pooled.pooler.DSN}, &poolerFaults{
		serverFaults: serverFaults{world: w, server: pooled, modes: []pgx.QueryExecMode{
			pgx.QueryExecModeExec, pgx.QueryExecModeCacheDescribe,
		}},
		pooler: pooled.pooler,
	}
}

func soakMariaDB(w *world) (place, faultMaker) {
	s := servers.StartMariaDB(w.t, servers.MariaDBOptions{Durable: true, ClockAhead: farAhead})
	return migrated(w.t, place{Backend: mariadb, DSN: s.DSN}), &serverFaults{world: w, server: s}
}

// soakRedis has a replica, whose clock is two hours ahead of its master's.
func soakRedis(w *world) (place, faultMaker) {
	master := startSoakRedis(w, farAhead)
	replica := startSoakRedis(w, farAhead+2*time.Hour)
	replica.Follow(master)
	return place{Backend: redisSingle, Addrs: []string{master.Addr}}, &failoverFaults{
		serverFaults: serverFaults{world: w, server: master}, first: master.Addr, master: master, other: replica,
	}
}

func startSoakRedis(w *world, ahead time.Duration) *servers.Redis {
	return servers.StartRedis(w.t, servers.RedisOptions{AppendFsync: "always", ClockAhead: ahead})
}

func soakCluster(w *world) (place, faultMaker) {
	c := servers.StartRedisCluster(w.t, servers.RedisOptions{AppendFsync: "always", ClockAhead: farBehind})
	return place{Backend: redisCluster, Addrs: c.Addrs}, &serverFaults{world: w, server: clusterServer{c}}
}

// A pooledServer kills PostgreSQL, or the pooler before it.
type pooledServer struct {
	*servers.Postgres
	pooler *servers.Pooler
}

func (s pooledServer) Kill() {
	if rand.IntN(2) == 0 {
		s.pooler.Kill()
	} else {
		s.Postgres.Kill()
	}
}

// Start starts the one that does not run.
func (s pooledServer) Start() {
	if s.Postgres.Pid() == 0 {
		s.Postgres.Start()
	}
	if s.pooler.Pid() == 0 {
		s.pooler.Start()
	}
}

// poolerFaults are those of a server behind a pooler.
type poolerFaults struct {
	serverFaults
	pooler *servers.Pooler
}

// clients counts those of the pooler, which keeps its own connections to the server.
func (f *poolerFaults) clients(ctx context.Context) (int, error) { return f.pooler.Clients(ctx) }

// failoverFaults are those of a master of Redis with a replica, which takes its place.
//
// The replica is promoted when it has all that the master has acknowledged, so that nothing has to
// be healed. The old master goes on, and one instance with it, as where Sentinel has promoted the
// replica and a client has not heard of it. That instance can tell nothing that matters, and must
// not. After a while the old master becomes a replica, and the instance hears of the new one.
type failoverFaults struct {
	serverFaults
	first         string         // the address that instances have been given
	master, other *servers.Redis // other is a replica, or the old master
	newcomers     sync.WaitGroup
	turn          int
}

func (f *failoverFaults) end() {
	if f.world.behind.Load() != nil {
		f.reunite()
	}
}

func (f *failoverFaults) clients(ctx context.Context) (int, error) {
	return place{Backend: redisSingle, Addrs: []string{f.master.Addr, f.other.Addr}}.clients(ctx)
}

// kill kills masters, and has a replica promoted now and then.
func (f *failoverFaults) kill() {
	f.turn++
	switch f.turn % 4 {
	case 1:
		f.failOver(f.any())
	case 2:
		if rand.IntN(2) == 0 {
			f.serverFaults.kill() // of a new master, while the old one is still there
		}
		f.reunite()
	default:
		f.serverFaults.kill()
	}
}

func (f *failoverFaults) failOver(behind *instance) {
	f.world.behind.Store(behind)
	f.master.FailOver(f.other)
	f.master, f.other = f.other, f.master
	f.server = f.master
	for _, in := range f.instances {
		if in != behind {
			in.proxy.move(f.first, f.master.Addr)
		}
	}
	// The old master knows nothing of these, and the first call of half of them goes to it. They do
	// not keep the faults waiting: they may have to wait until the old master is gone.
	for i := range 10 {
		f.newcomers.Go(func() {
			c := soakClient{world: f.world, subject: fmt.Sprintf("newcomer %d", i)}
			c.login()
			c.refresh()
		})
	}
}

// reunite lets the instance that was left behind meet a replica, and then the new master.
func (f *failoverFaults) reunite() {
	behind := f.world.behind.Load()
	f.other.Follow(f.master)
	pause(300 * time.Millisecond)
	behind.proxy.move(f.first, f.master.Addr)
	f.world.behind.Store(nil)
	f.newcomers.Wait()
	f.oldMasters.Add(1)
}

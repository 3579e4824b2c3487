package manager_test

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net"
	"net/url"
	"slices"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
	_ "modernc.org/sqlite"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// The backends.
const (
	postgres     = "postgres"
	mariadb      = "mariadb"
	sqlite       = "sqlite"
	redisSingle  = "redis"
	redisCluster = "redis-cluster"
)

// A backend is a kind of store that the proofs run against.
type backend struct {
	name string

	// shared returns an empty place on a server that the test must not end.
	shared func(testing.TB) place

	// own starts a server for the test to end and start again, which keeps what it has
	// acknowledged. It is nil where there is no server.
	own func(testing.TB) (place, server)
}

var backends = []backend{
	{postgres, sharedPostgres, ownPostgres},
	{mariadb, sharedMariaDB, ownMariaDB},
	{sqlite, newSQLite, nil},
	{redisSingle, sharedRedis, ownRedis},
	{redisCluster, sharedCluster, ownCluster},
}

// eachBackend runs a test on an empty place of each backend but those named.
func eachBackend(t *testing.T, test func(*testing.T, place), but ...string) {
	t.Helper()
	for _, b := range backends {
		if !slices.Contains(but, b.name) {
			t.Run(b.name, func(t *testing.T) { test(t, b.shared(t)) })
		}
	}
}

// eachServer runs a test on a server of its own of each backend that has one.
func eachServer(t *testing.T, test func(*testing.T, place, server)) {
	t.Helper()
	for _, b := range backends {
		if b.own != nil {
			t.Run(b.name, func(t *testing.T) {
				p, s := b.own(t)
				test(t, p, s)
			})
		}
	}
}

// A server can be ended and started again on the same data.
type server interface {
	Kill()
	Stop()
	Start()
}

// A place is where a store keeps its sessions: all that a process has to know to open it.
type place struct {
	Backend string
	DSN     string   // of a database
	Addrs   []string // of Redis servers
	Prefix  string   // of Redis keys
}

func sharedPostgres(tb testing.TB) place {
	return migrated(tb, place{Backend: postgres, DSN: servers.PostgresDatabase(tb)})
}

func ownPostgres(tb testing.TB) (place, server) {
	s := servers.StartPostgres(tb, servers.PostgresOptions{Durable: true})
	return migrated(tb, place{Backend: postgres, DSN: s.DSN}), s
}

func sharedMariaDB(tb testing.TB) place {
	return migrated(tb, place{Backend: mariadb, DSN: servers.MySQLDatabase(tb)})
}

func ownMariaDB(tb testing.TB) (place, server) {
	s := servers.StartMariaDB(tb, servers.MariaDBOptions{Durable: true})
	return migrated(tb, place{Backend: mariadb, DSN: s.DSN}), s
}

func newSQLite(tb testing.TB) place {
	return migrated(tb, place{Backend: sqlite, DSN: servers.SQLiteDSN(tb)})
}

func sharedRedis(tb testing.TB) place {
	addr := servers.RedisAddr(tb)
	return place{Backend: redisSingle, Addrs: []string{addr}, Prefix: servers.RedisPrefix(tb, addr)}
}

func ownRedis(tb testing.TB) (place, server) {
	s := servers.StartRedis(tb, servers.RedisOptions{AppendFsync: "always"})
	return place{Backend: redisSingle, Addrs: []string{s.Addr}}, s
}

func sharedCluster(tb testing.TB) place {
	addrs := servers.StartRedisCluster(tb, servers.RedisOptions{}).Addrs
	return place{Backend: redisCluster, Addrs: addrs, Prefix: servers.RedisPrefix(tb, "")}
}

func ownCluster(tb testing.TB) (place, server) {
	c := servers.StartRedisCluster(tb, servers.RedisOptions{AppendFsync: "always"})
	return place{Backend: redisCluster, Addrs: c.Addrs}, clusterServer{c}
}

// A clusterServer kills one of a Cluster's nodes, and stops all of them.
type clusterServer struct{ *servers.RedisCluster }

func (c clusterServer) Kill() { c.Nodes[0].Kill() }

func (c clusterServer) Stop() {
	for _, node := range c.Nodes {
		node.Stop()
	}
}

// Start starts the nodes that do not run.
func (c clusterServer) Start() {
	for _, node := range c.Nodes {
		if node.Pid() == 0 {
			node.Start()
		}
	}
	c.AwaitOK()
}

func migrated(tb testing.TB, p place) place {
	tb.Helper()
	store, closeStore, err := p.openStore(access{})
	if err == nil {
		defer closeStore()
		err = store.(*sqlstore.Store).Migrate(context.Background())
	}
	if err != nil {
		tb.Fatalf("migrate %s: %v", p.Backend, err)
	}
	return p
}

// access says how a store is opened. The zero value is as the drivers have it.
type access struct {
	pool int // connections at most
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	wait time.Duration // for a reply of Redis
	mode pgx.QueryExecMode
}

// open opens the store of the place until the test ends.
func (p place) open(tb testing.TB, a access) tokensession.RefreshStore {
	tb.Helper()
	store, closeStore, err := p.openStore(a)
	if err != nil {
		tb.Fatalf("open %s: %v", p.Backend, err)
	}
	tb.Cleanup(closeStore)
	return store
}

func (p place) openStore(a access) (store tokensession.RefreshStore, closeStore func(), err error) {
	switch p.Backend {
	case redisSingle, redisCluster:
		client := p.redisClient(a)
		store, err := redisstore.New(client, redisstore.Config{Prefix: p.Prefix})
		return store, func() { _ = client.Close() }, err
	default:
		db, dialect, err := p.openDB(a)
		if err != nil {
			return nil, nil, err
		}
		store, err := sqlstore.New(db, dialect, sqlstore.Config{})
		return store, func() { _ = db.Close() }, err
	}
}

func (p place) redisClient(a access) redis.UniversalClient {
	return redis.NewUniversalClient(&redis.UniversalOptions{
		Addrs: p.Addrs, IsClusterMode: p.Backend == redisCluster, Dialer: a.dial, ReadTimeout: a.wait,
		PoolSize: a.pool, MaxActiveConns: a.pool, PoolTimeout: time.Minute,
	})
}

func (p place) openDB(a access) (db *sql.DB, dialect sqlstore.Dialect, err error) {
	switch p.Backend {
	case postgres:
		db, err = openPostgres(p.DSN, a)
		dialect = sqlstore.PostgreSQL
	case mariadb:
		db, err = openMariaDB(p.DSN, a)
		dialect = sqlstore.MySQL
	case sqlite:
		db, err = sql.Open("sqlite", p.DSN)
		dialect = sqlstore.SQLite
	default:
		err = fmt.Errorf("no such backend: %q", p.Backend)
	}
	if err == nil {
		db.SetMaxOpenConns(a.pool)
		db.SetMaxIdleConns(cmp.Or(a.pool, 16))
	}
	return db, dialect, err
}

func openPostgres(dsn string, a access) (*sql.DB, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, err
	}
	if a.dial != nil {
		cfg.DialFunc = a.dial
	}
	if a.mode != 0 {
		cfg.DefaultQueryExecMode = a.mode
	}
	return stdlib.OpenDB(*cfg), nil
}

func openMariaDB(dsn string, a access) (*sql.DB, error) {
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	cfg.DialFunc, cfg.Logger = a.dial, &mysql.NopLogger{} // it would log each connection that a proof cuts
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// server returns the address of the server that the place is on.
func (p place) server(tb testing.TB) string {
	tb.Helper()
	switch p.Backend {
	case postgres:
		u, err := url.Parse(p.DSN)
		if err != nil {
			tb.Fatal(err)
		}
		return u.Host
	case mariadb:
		cfg, err := mysql.ParseDSN(p.DSN)
		if err != nil {
			tb.Fatal(err)
		}
		return cfg.Addr
	}
	return p.Addrs[0]
}

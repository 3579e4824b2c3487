//go:build unix

package servers

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	redisEnv     = "TOKENSESSION_TEST_REDIS_BIN"     // folder of redis-server, or of valkey-server
	redisAddrEnv = "TOKENSESSION_TEST_REDIS_ADDR"    // host:port of a server that runs already
	valkeyEnv    = "TOKENSESSION_TEST_VALKEY_SERVER" // path of valkey-server
)

// RedisOptions say how a Redis server runs.
type RedisOptions struct {
	// Binary is the path of the server. Default: redis-server, as [Find] finds it, or valkey-server
	// where there is none.
	Binary string

	// AppendFsync turns the append-only file on: "always", "everysec" or "no". Default: nothing is
	// kept on disk.
	AppendFsync string

	// Args are further arguments: "--maxmemory", "10mb".
	Args []string

	// ClockAhead is by how much the server's clock is ahead of this machine's, in whole seconds.
	ClockAhead time.Duration
}

// A Redis is a Redis or Valkey server that belongs to one test.
type Redis struct {
	*Process
	Addr string // host:port

	tb   testing.TB
	opts RedisOptions
}

// StartRedis starts a Redis server without data.
func StartRedis(tb testing.TB, opts RedisOptions) *Redis {
	tb.Helper()
	port := FreePort(tb)
	appendOnly := "yes"
	if opts.AppendFsync == "" {
		appendOnly = "no"
	}
	folder := NewFolder(tb, "redis")
	r := &Redis{Addr: localAddr(port), tb: tb, opts: opts}
	r.Process = Start(tb, Spec{
		Env:  clockAhead(tb, opts.ClockAhead),
		Name: "redis-" + strconv.Itoa(port), Path: redisBinary(tb, opts), Folder: folder,
		Args: append([]string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--dir",
			folder.Path, "--save", "",
			"--appendonly", appendOnly, "--appendfsync", cmp.Or(opts.AppendFsync, "no"),
			"--repl-diskless-sync-delay", "0"}, opts.Args...),
		Ready: func(ctx context.Context) error { return pingRedis(ctx, r.Addr) },
	})
	tb.Cleanup(r.Kill) // one that cannot save, or writes its first append-only file, does not stop when asked to
	return r
}

// RedisAddr returns the address of a Redis server which this test may share with others, and must
// not kill or empty: that of TOKENSESSION_TEST_REDIS_ADDR, or of one that is started now.
func RedisAddr(tb testing.TB) string {
	tb.Helper()
	if addr := os.Getenv(redisAddrEnv); addr != "" {
		return addr
	}
	return StartRedis(tb, RedisOptions{}).Addr
}

// RedisPrefix returns the beginning of the keys of one test, which no other has. What the test
// leaves under it on a server that [RedisAddr] was told of is deleted when the test ends. addr is
// that of the test's server, or empty for a Cluster.
func RedisPrefix(tb testing.TB, addr string) string {
	tb.Helper()
	prefix := fmt.Sprintf("test-%016x", rand.Uint64())
	if addr != "" && addr == os.Getenv(redisAddrEnv) {
		tb.Cleanup(func() {
			if err := deleteRedisKeys(addr, prefix+":*"); err != nil {
				tb.Errorf("servers: delete the keys of the test: %v", err)
			}
		})
	}
	return prefix
}

func deleteRedisKeys(addr, pattern string) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c := redis.NewClient(&redis.Options{Addr: addr})
	defer c.Close()
	keys := c.Scan(ctx, 0, pattern, 1000).Iterator()
	for keys.Next(ctx) {
		if err := c.Unlink(ctx, keys.Val()).Err(); err != nil {
			return err
		}
	}
	return keys.Err()
}

// ValkeyServer returns the path of valkey-server, from TOKENSESSION_TEST_VALKEY_SERVER or PATH.
// Some systems have no package of it: there the test is skipped, but never in CI.
func ValkeyServer(tb testing.TB) string {
	tb.Helper()
	if path := os.Getenv(valkeyEnv); path != "" {
		if _, err := exec.LookPath(path); err != nil {
			tb.Fatalf("servers: %s: %v", valkeyEnv, err)
		}
		return path
	}
	path, err := exec.LookPath("valkey-server")
	if err != nil {
		missing := "servers: valkey-server is not installed: run scripts/install-servers.sh, or set " + valkeyEnv + " to its path"
		if os.Getenv("CI") != "" {
			tb.Fatal(missing)
		}
		tb.Skip(missing)
	}
	return path
}

// Client returns a client of the server, with go-redis's defaults where opts leaves them, that is
// closed when the test ends. opts may be nil.
func (r *Redis) Client(opts *redis.Options) *redis.Client {
	var o redis.Options
	if opts != nil {
		o = *opts
	}
	o.Addr = r.Addr
	c := redis.NewClient(&o)
	r.tb.Cleanup(func() { _ = c.Close() })
	return c
}

// StartReplica starts a replica of the server, with the server's options, and returns once it has
// all that the server has.
func (r *Redis) StartReplica() *Redis {
	r.tb.Helper()
	replica := StartRedis(r.tb, r.opts)
	replica.Follow(r)
	r.AwaitReplicas(1)
	return replica
}

// Follow makes the server a replica of another one, and returns once it has what that one has, also
// on its disk.
func (r *Redis) Follow(master *Redis) {
	r.tb.Helper()
	r.do("REPLICAOF", "127.0.0.1", master.port())
	r.AwaitMaster()
}

// AwaitMaster returns once a replica has a link to its master, and what came by it on its disk.
func (r *Redis) AwaitMaster() {
	r.tb.Helper()
	r.await("a replica's link", func() bool {
		return r.info("replication", "master_link_status") == "up" &&
			r.info("persistence", "aof_rewrite_in_progress") == "0" &&
			r.info("persistence", "aof_rewrite_scheduled") == "0"
	})
}

// FailOver promotes a replica that has all that this master has acknowledged, and leaves the master
// running, cut off from it. Until then the master answers no writes. From then on it refuses them,
// as it knows that it has no replica. Nobody has told it more than that.
func (r *Redis) FailOver(replica *Redis) {
	r.tb.Helper()
	replica.AwaitMaster()
	r.do("CONFIG", "SET", "min-replicas-to-write", 1)
	replica.do("CONFIG", "SET", "min-replicas-to-write", 0)
	r.do("CLIENT", "PAUSE", startTimeout.Milliseconds(), "WRITE")
	r.await("the replica to have everything", func() bool {
		return replica.info("replication", "slave_repl_offset") == r.info("replication",
			"master_repl_offset")
	})
	replica.Promote()
	r.await("the old master to miss its replica", func() bool {
		return r.info("replication", "min_slaves_good_slaves") == "0"
	})
	r.do("CLIENT", "UNPAUSE")
}

// info returns a line of INFO.
func (r *Redis) info(section, name string) string {
	r.tb.Helper()
	for line := range strings.Lines(fmt.Sprint(r.do("INFO", section))) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// AwaitReplicas returns once so many replicas have all that was written to the server until now.
func (r *Redis) AwaitReplicas(n int) {
	r.tb.Helper()
	// WAIT counts what this very connection wrote.
	r.await("the replicas", func() bool {
		c := r.Client(nil)
		defer c.Close()
		conn := c.Conn()
		defer conn.Close()
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		if err := conn.Publish(ctx, "nobody", "").Err(); err != nil {
			r.tb.Fatalf("servers: %v", err)
		}
		got, err := conn.Do(ctx, "WAIT", n, 1000).Int()
		if err != nil {
			r.tb.Fatalf("servers: %v", err)
		}
		return got >= n
	})
}

// Partition cuts a replica off from its master. It stays a replica, which refuses writes, with the
// data of now.
func (r *Redis) Partition() {
	r.tb.Helper()
	r.do("REPLICAOF", "127.0.0.1", 1) // a port on which nobody listens
}

// Promote makes a master of a replica.
func (r *Redis) Promote() {
	r.tb.Helper()
	r.do("REPLICAOF", "NO", "ONE")
}

func (r *Redis) port() string {
	_, port, err := net.SplitHostPort(r.Addr)
	if err != nil {
		r.tb.Fatalf("servers: %v", err)
	}
	return port
}

// do runs a command on the server.
func (r *Redis) do(args ...any) any {
	r.tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	c := redis.NewClient(&redis.Options{Addr: r.Addr})
	defer c.Close()
	reply, err := c.Do(ctx, args...).Result()
	if err != nil {
		r.tb.Fatalf("servers: %v on %s: %v", args, r.Addr, err)
	}
	return reply
}

func (r *Redis) await(what string, done func() bool) {
	r.tb.Helper()
	deadline := time.After(startTimeout)
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline:
			r.tb.Fatalf("servers: waited %v for %s", startTimeout, what)
		case <-tick.C:
		}
	}
}

func redisBinary(tb testing.TB, opts RedisOptions) string {
	tb.Helper()
	if opts.Binary != "" {
		return opts.Binary
	}
	path, err := Find(Binary{Name: "redis-server", Env: redisEnv, Package: "redis-server"})
	if err == nil {
		return path
	}
	if valkey, valkeyErr := Find(Binary{Name: "valkey-server", Env: redisEnv, Package: "valkey-server"}); valkeyErr == nil {
		return valkey
	}
	tb.Fatalf("%v", err)
	return ""
}

// pingRedis fails while the server loads its data.
func pingRedis(ctx context.Context, addr string) error {
	c := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, ContextTimeoutEnabled: true})
	defer c.Close()
	err := c.Ping(ctx).Err()
	if redis.HasErrorPrefix(err, "NOAUTH") {
		return nil // it asks for a password, so it is there
	}
	return err
}

//go:build unix

package servers

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"

	"github.com/redis/go-redis/v9"
)

// SentinelMaster is the name by which a [Sentinel] knows its master.
const SentinelMaster = "sessions"

// A Sentinel watches a Redis server, and promotes a replica when the server is gone for a second.
type Sentinel struct {
	*Process
	Addr string // host:port
}

// StartSentinel starts a Sentinel of one, which needs nobody's consent, and returns once it knows
// the server's replicas.
func StartSentinel(tb testing.TB, master *Redis, replicas int) *Sentinel {
	tb.Helper()
	port := FreePort(tb)
	folder := NewFolder(tb, "sentinel")
	config := fmt.Sprintf("port %d\nbind 127.0.0.1\ndir %s\nsentinel monitor %s 127.0.0.1 %s 1\n"+
		"sentinel down-after-milliseconds %[3]s 1000\nsentinel failover-timeout %[3]s 5000\n",
		port, folder.Path, SentinelMaster, master.port())
	file := folder.Join("sentinel.conf") // which it writes to
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		tb.Fatalf("servers: %v", err)
	}
	s := &Sentinel{Addr: localAddr(port)}
	s.Process = Start(tb, Spec{
		Name: "sentinel-" + strconv.Itoa(port), Path: redisBinary(tb, master.opts), Folder: folder,
		Args:  []string{file, "--sentinel"},
		Ready: func(ctx context.Context) error { return pingRedis(ctx, s.Addr) },
	})
	client := redis.NewSentinelClient(&redis.Options{Addr: s.Addr})
	tb.Cleanup(func() { _ = client.Close() })
	master.await("Sentinel to know the replicas", func() bool {
		known, err := client.Replicas(context.Background(), SentinelMaster).Result()
		return err == nil && len(known) == replicas
	})
	return s
}

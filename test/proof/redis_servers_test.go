package proof_test

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

func TestRedis_killAndStartKeepsWhatWasSynced(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{AppendFsync: "always"})
	client := server.Client(nil)
	if err := client.Set(t.Context(), "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	if err := client.Ping(t.Context()).Err(); err == nil {
		t.Fatal("the server answers after Kill")
	}
	server.Start()
	if got, err := client.Get(t.Context(), "k").Result(); err != nil || got != "v" {
		t.Fatalf("after the restart: %q, %v", got, err)
	}
}

// With the default appendfsync a server that is killed, on a machine that is not, has given all it
// acknowledged to the kernel.
func TestRedisStore_killedServerLosesNothingItAcknowledged(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{AppendFsync: "everysec"})
	client := server.Client(&redis.Options{MaxRetries: -1, DialerRetries: 1}) // a write in doubt is not sent again
	store, _ := redisStore(t, client, redisstore.Config{})
	acknowledged := make([]tokensession.Record, 8)
	var swaps atomic.Int64
	var writers sync.WaitGroup
	for i := range acknowledged {
		acknowledged[i] = redisCreate(t, store, newRedisRecord("alice"))
		writers.Go(func() {
			for {
				next := redisRotated(acknowledged[i])
				if store.Swap(t.Context(), next) != nil {
					return
				}
				acknowledged[i] = next
				swaps.Add(1)
			}
		})
	}
	awaitRedis(t, "a thousand refreshes", func() bool { return swaps.Load() > 1000 })
	server.Kill()
	writers.Wait()
	server.Start()
	for _, want := range acknowledged {
		got, err := store.Load(t.Context(), want.ID)
		if err != nil || got.Version < want.Version || got.Version == want.Version && got.WriteID != want.WriteID {
			t.Errorf("version %d was acknowledged, and %v, %v is there", want.Version, got, err)
		}
	}
	if got := redisListed(t, store, "alice"); len(got) != len(acknowledged) {
		t.Errorf("%d sessions are listed, want %d", len(got), len(acknowledged))
	}
	t.Logf("killed after %d refreshes", swaps.Load())
}

func TestRedis_partitionedReplicaStaysBehindAndCanBePromoted(t *testing.T) {
	master := servers.StartRedis(t, servers.RedisOptions{})
	write := func(client *redis.Client, value string) error { return client.Set(t.Context(), "k", value, 0).Err() }
	if err := write(master.Client(nil), "1"); err != nil {
		t.Fatal(err)
	}
	replica := master.StartReplica()
	replica.Partition()
	if err := write(master.Client(nil), "2"); err != nil {
		t.Fatal(err)
	}
	client := replica.Client(nil)
	if err := write(client, "3"); !redis.HasErrorPrefix(err, "READONLY") {
		t.Fatalf("a write to the replica: %v, want READONLY", err)
	}
	replica.Promote()
	if got, err := client.Get(t.Context(), "k").Result(); err != nil || got != "1" {
		t.Fatalf("the promoted replica has %q, %v, want the value from before the partition", got, err)
	}
	if err := write(client, "4"); err != nil {
		t.Fatal(err)
	}
}

func TestRedisCluster_servesKeysOfEveryNode(t *testing.T) {
	cluster := servers.StartRedisCluster(t, servers.RedisOptions{})
	client := cluster.Client(nil)
	for i := range 100 {
		if err := client.Set(t.Context(), strconv.Itoa(i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range cluster.Nodes {
		if n, err := node.Client(nil).DBSize(t.Context()).Result(); err != nil || n == 0 {
			t.Errorf("node %s has %d keys, %v", node.Addr, n, err)
		}
	}
}

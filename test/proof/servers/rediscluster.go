//go:build unix

package servers

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"
)

const (
	clusterNodes = 3
	clusterSlots = 16384
)

// A RedisCluster is a Redis Cluster of three masters without replicas that belongs to one test.
type RedisCluster struct {
	Nodes []*Redis
	Addrs []string

	tb testing.TB
}

// StartRedisCluster starts a Redis Cluster without data and returns once every node serves.
func StartRedisCluster(tb testing.TB, opts RedisOptions) *RedisCluster {
	tb.Helper()
	c := &RedisCluster{tb: tb}
	var busPorts []string
	for range clusterNodes {
		bus := strconv.Itoa(FreePort(tb))
		nodeOpts := opts
		nodeOpts.Args = append([]string{"--cluster-enabled", "yes", "--cluster-port", bus, "--cluster-node-timeout", "15000"}, opts.Args...)
		node := StartRedis(tb, nodeOpts)
		c.Nodes, c.Addrs, busPorts = append(c.Nodes, node), append(c.Addrs,
			node.Addr), append(busPorts, bus)
	}
	for i, node := range c.Nodes {
		node.do("CLUSTER", "ADDSLOTSRANGE", i*clusterSlots/clusterNodes,
			(i+1)*clusterSlots/clusterNodes-1)
		node.do("CLUSTER", "SET-CONFIG-EPOCH", i+1)
	}
	for _, node := range c.Nodes[1:] {
		node.do("CLUSTER", "MEET", "127.0.0.1", c.Nodes[0].port(), busPorts[0])
	}
	c.AwaitOK()
	return c
}

// AwaitOK returns once every node knows all the others and serves, say after one was killed and
// started again.
func (c *RedisCluster) AwaitOK() {
	c.tb.Helper()
	for _, node := range c.Nodes {
		node.await("cluster_state:ok on "+node.Addr, func() bool {
			info := fmt.Sprint(node.do("CLUSTER", "INFO"))
			return strings.Contains(info, "cluster_state:ok") &&
				strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(clusterNodes)) &&
				strings.Contains(info, "cluster_slots_ok:"+strconv.Itoa(clusterSlots))
		})
	}
}

// Client returns a client of the Cluster, with go-redis's defaults where opts leaves them, that is
// closed when the test ends. opts may be nil.
func (c *RedisCluster) Client(opts *redis.ClusterOptions) *redis.ClusterClient {
	var o redis.ClusterOptions
	if opts != nil {
		o = *opts
	}
	o.Addrs = c.Addrs
	client := redis.NewClusterClient(&o)
	c.tb.Cleanup(func() { _ = client.Close() })
	return client
}

// A SlotMove is a slot of a Cluster on its way from one node to another, with the keys that it
// holds still on the old one.
type SlotMove struct {
	From, To *Redis

	cluster *RedisCluster
	slot    int64
	ids     [2]string // of From and To
}

// StartSlotMove begins to move the slot of a key to another node. Until Finish, the old node sends
// who asks for a key that it has not, or no longer has, to the new one with ASK.
func (c *RedisCluster) StartSlotMove(key string) *SlotMove {
	c.tb.Helper()
	m := &SlotMove{cluster: c, slot: c.Nodes[0].do("CLUSTER", "KEYSLOT", key).(int64)}
	i := int(m.slot) * clusterNodes / clusterSlots
	for !(int64(i*clusterSlots/clusterNodes) <= m.slot && m.slot < int64((i+1)*clusterSlots/clusterNodes)) {
		i++
	}
	m.From, m.To = c.Nodes[i], c.Nodes[(i+1)%clusterNodes]
	m.ids = [2]string{fmt.Sprint(m.From.do("CLUSTER", "MYID")),
		fmt.Sprint(m.To.do("CLUSTER", "MYID"))}
	m.To.do("CLUSTER", "SETSLOT", m.slot, "IMPORTING", m.ids[0])
	m.From.do("CLUSTER", "SETSLOT", m.slot, "MIGRATING", m.ids[1])
	return m
}

// Finish moves what is in the slot, and tells all nodes.
func (m *SlotMove) Finish() {
	m.cluster.tb.Helper()
	for {
		keys, _ := m.From.do("CLUSTER", "GETKEYSINSLOT", m.slot, 100).([]any)
		if len(keys) == 0 {
			break
		}
		for _, key := range keys {
			m.From.do("MIGRATE", "127.0.0.1", m.To.port(), key, 0, 5000)
		}
	}
	for _, node := range append([]*Redis{m.To, m.From}, m.cluster.Nodes...) {
		node.do("CLUSTER", "SETSLOT", m.slot, "NODE", m.ids[1])
	}
}

// MoveSlot moves the slot of a key to another node.
func (c *RedisCluster) MoveSlot(key string) {
	c.tb.Helper()
	c.StartSlotMove(key).Finish()
}

package proof_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

func TestRedisStore_keepsEveryBitOfARecord(t *testing.T) {
	redisKinds(t, func(t *testing.T, client redis.UniversalClient) {
		store, _ := redisStore(t, client, redisstore.Config{})
		rec := newRedisRecord("user:{1}\x00\xff é")
		rec.Key[0], rec.Key[1], rec.Key[2] = 0, '\r', '\n'
		rec.ClientID = "\xff"
		rec.Attributes = map[string]string{"": "", "\xfe": "\x00", "long": strings.Repeat("x", 5000)}
		for i := range 5000 { // more than Lua unpacks at once
			rec.Attributes[fmt.Sprint("n", i)] = fmt.Sprint(i)
		}
		rec.Generation, rec.Predecessor = 1<<64-1, 1<<53+1
		redisCreate(t, store, rec)
		got, err := store.Load(t.Context(), rec.ID)
		if err != nil || !reflect.DeepEqual(got, redisStored(rec)) {
			t.Fatalf("created %v, loaded %v, %v", rec, got, err)
		}
		next := redisRotated(rec)
		next.Attributes = map[string]string{"only": "this"}
		redisSwap(t, store, next)
		got, err = store.Load(t.Context(), rec.ID)
		if err != nil || !reflect.DeepEqual(got, redisStored(next)) {
			t.Fatalf("swapped in %v, loaded %v, %v", next, got, err)
		}
		next = redisRotated(next)
		next.Attributes = rec.Attributes
		redisSwap(t, store, next)
		got, err = store.Load(t.Context(), rec.ID)
		if err != nil || !reflect.DeepEqual(got, redisStored(next)) {
			t.Fatalf("swapped in %v, loaded %v, %v", next, got, err)
		}
	})
}

func TestRedisStore_comparesVersionsOf64Bits(t *testing.T) {
	store, _ := redisStore(t, redisClient(t, servers.RedisAddr(t), nil), redisstore.Config{})
	for _, version := range []uint64{3, 9, 10, 1 << 53, 1<<53 + 1, 1<<64 - 3} {
		rec := newRedisRecord("alice")
		rec.Version = version
		redisCreate(t, store, rec)
		for _, other := range []uint64{version - 1, version, version + 2, 2} { // 10 begins as 1 does
			next := redisRotated(rec)
			next.Version = other
			if err := store.Swap(t.Context(), next); !errors.Is(err, tokensession.ErrConflict) {
				t.Errorf("Swap to version %d of version %d: %v, want ErrConflict", other, version, err)
			}
		}
		redisSwap(t, store, redisRotated(rec))
	}
}

func TestRedisStore_namesEachSubjectsOwnSessions(t *testing.T) {
	redisKinds(t, func(t *testing.T, client redis.UniversalClient) {
		store, prefix := redisStore(t, client, redisstore.Config{})
		subjects := []string{"", "a", "A", "a:b", "{a}", "{a}b", "a%3Ab", "\xff", "\n", "*", "?", strings.Repeat("long", 1000)}
		want := make(map[string][]string)
		for _, subject := range subjects {
			for i := range 5 {
				rec := newRedisRecord(subject)
				rec.CreatedAt = rec.CreatedAt.Add(time.Duration(-i) * time.Hour)
				redisCreate(t, store, rec)
				want[subject] = append([]string{rec.ID}, want[subject]...)
			}
		}
		for _, subject := range subjects {
			if got := redisListed(t, store, subject); !slices.Equal(got, want[subject]) {
				t.Errorf("subject %q: %v, want %v", subject, got, want[subject])
			}
		}
		if got := redisListed(t, store, "nobody"); got != nil {
			t.Errorf("an unknown subject has %v", got)
		}
		if cluster, ok := client.(*redis.ClusterClient); ok {
			nodes := make(map[string]bool)
			for _, key := range redisKeys(t, client, prefix) {
				node, err := cluster.MasterForKey(t.Context(), key)
				if err != nil {
					t.Fatal(err)
				}
				nodes[node.Options().Addr] = true
			}
			if len(nodes) != 3 {
				t.Errorf("the keys are on %d nodes, want all 3", len(nodes))
			}
		}
	})
}

func TestRedisStore_showsOperatorsPlainFields(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisstore.Config{})
	rec := newRedisRecord("alice")
	rec.CreatedAt = time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	redisCreate(t, store, rec)
	fields, err := client.HGetAll(t.Context(), prefix+":session:"+rec.ID).Result()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{
		"subject": "alice", "version": "1",
	} {
		if fields[name] != want {
			t.Errorf("%s is %q, want %q", name, fields[name], want)
		}
	}
	if revokedAt, ok := fields["revoked_at"]; ok {
		t.Errorf("revoked_at is %q of a session that lives", revokedAt)
	}
	end := redisRevoked(rec)
	redisSwap(t, store, end)
	fields, err = client.HGetAll(t.Context(), prefix+":session:"+rec.ID).Result()
	if want := end.RevokedAt.Format("2006-01-02T15:04:05.000000Z"); err != nil || fields["revoked_at"] != want || fields["version"] != "2" {
		t.Errorf("revoked_at is %q at version %s, %v; want %q at 2", fields["revoked_at"], fields["version"], err, want)
	}
	ids, err := client.ZRange(t.Context(), prefix+":subject:alice", 0, -1).Result()
	if err != nil || !slices.Equal(ids, []string{rec.ID}) {
		t.Errorf("the subject's index is %v, %v", ids, err)
	}
}

func TestRedisStore_needsOneReadAndOneWriteARefresh(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, _ := redisStore(t, client, redisstore.Config{})
	warm := redisCreate(t, store, newRedisRecord("warm"))
	redisSwap(t, store, redisRevoked(warm))
	redisTold(t, store, time.Now()) // the scripts are on the server now
	spy := new(redisSpy)
	client.AddHook(spy)

	rec := newRedisRecord("alice")
	var recs []tokensession.Record
	look := func() error {
		return store.Revocations(t.Context(), rec.RevokedAt, func([]tokensession.Revocation) error { return nil })
	}
	steps := []struct {
		name  string
		run   func() error
		trips int
		want  map[string]int
	}{
		{"Create", func() error { return store.Create(t.Context(), rec) }, 2,
			map[string]int{"evalsha subject": 1, "evalsha session": 1}},
		{"Load", func() error { _, err := store.Load(t.Context(), rec.ID); return err }, 1,
			map[string]int{"hgetall session": 1, "hdel session": 1}},
		{"Swap", func() error { rec = redisRotated(rec); return store.Swap(t.Context(), rec) }, 1, map[string]int{"evalsha session": 1}},
		{"Swap with other attributes", func() error {
			rec = redisRotated(rec)
			rec.Attributes = map[string]string{"ip": "192.0.2.2"}
			return store.Swap(t.Context(), rec)
		}, 1, map[string]int{"evalsha session": 1}},
		{"List", func() (err error) { recs, err = store.List(t.Context(), "alice"); return err }, 2,
			map[string]int{"zrange subject": 1, "zrem subject": 1, "hgetall session": 1, "hdel session": 1}},
		{"revoking Swap", func() error { rec = redisRevoked(rec); return store.Swap(t.Context(), rec) }, 2,
			map[string]int{"evalsha revoked": 1, "evalsha session": 1}},
		{"Revocations", look, 2, map[string]int{"evalsha revoked": 1, "hmget session": 1}},
		{"Revocations again", look, 1, map[string]int{"evalsha revoked": 1}},
		{"Load of what is unknown", func() error {
			if _, err := store.Load(t.Context(), redisID()); !errors.Is(err, tokensession.ErrNotFound) {
				return fmt.Errorf("%w, want ErrNotFound", err)
			}
			return nil
		}, 1, map[string]int{"hgetall session": 1, "hdel session": 1}},
		{"Swap of what is unknown", func() error {
			if err := store.Swap(t.Context(), redisRotated(newRedisRecord("nobody"))); !errors.Is(err, tokensession.ErrNotFound) {
				return fmt.Errorf("%w, want ErrNotFound", err)
			}
			return nil
		}, 1, map[string]int{"evalsha session": 1}},
		{"List of nobody", func() error { _, err := store.List(t.Context(), "nobody"); return err }, 1,
			map[string]int{"zrange subject": 1, "zrem subject": 1}},
	}
	for _, step := range steps {
		spy.take()
		if err := step.run(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		trips, commands := spy.take()
		got := make(map[string]int)
		for _, c := range commands {
			got[c]++
		}
		if trips != step.trips || !maps.Equal(got, step.want) {
			t.Errorf("%s: %d round trips of %v, want %d of %v", step.name, trips, got, step.trips, step.want)
		}
	}
	if len(recs) != 1 {
		t.Errorf("List: %d records", len(recs))
	}

	write := []string{"evalsha session"}
	for _, kind := range []struct {
		cfg   tokensession.Config
		trips int
		want  []string
	}{
		{tokensession.Config{}, 1, write}, // the instance remembers what it has written
		{tokensession.Config{Remember: -1}, 2, append([]string{"hgetall session", "hdel session"}, write...)},
	} {
		m := redisManager(t, store, kind.cfg)
		tokens, err := m.Start(t.Context(), "bob")
		if err != nil {
			t.Fatal(err)
		}
		spy.take()
		for range 5 {
			if tokens, err = m.Refresh(t.Context(), tokens.RefreshToken); err != nil {
				t.Fatal(err)
			}
			if trips, commands := spy.take(); trips != kind.trips || !slices.Equal(commands, kind.want) {
				t.Errorf("a refresh through the Manager: %d round trips of %v, want %d of %v",
					trips, commands, kind.trips, kind.want)
			}
		}
	}
}

func TestRedisStore_worksAfterTheServerForgotTheScripts(t *testing.T) {
	redisOwnKinds(t, func(t *testing.T, client redis.UniversalClient) {
		store, _ := redisStore(t, client, redisstore.Config{})
		rec := newRedisRecord("alice")
		for _, step := range []func() error{
			func() error { return store.Create(t.Context(), rec) },
			func() error { rec = redisRotated(rec); return store.Swap(t.Context(), rec) },
			func() error { rec = redisRevoked(rec); return store.Swap(t.Context(), rec) },
		} {
			if err := client.ScriptFlush(t.Context()).Err(); err != nil {
				t.Fatal(err)
			}
			if err := step(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// A Swap that gives a session to another subject is nothing a Manager does, but the contract allows
// it.
func TestRedisStore_listsASessionUnderItsNewSubject(t *testing.T) {
	store, _ := redisStore(t, redisClient(t, servers.RedisAddr(t), nil), redisstore.Config{})
	rec := redisCreate(t, store, newRedisRecord("alice"))
	next := redisRotated(rec)
	next.Subject = "bob"
	redisSwap(t, store, next)
	if got := redisListed(t, store, "bob"); !slices.Equal(got, []string{rec.ID}) {
		t.Errorf("bob has %v", got)
	}
	if got := redisListed(t, store, "alice"); got != nil {
		t.Errorf("alice still has %v", got)
	}
}

func TestRedisStore_createOfAnothersIDLeavesNoTrace(t *testing.T) {
	store, _ := redisStore(t, redisClient(t, servers.RedisAddr(t), nil), redisstore.Config{})
	rec := redisCreate(t, store, newRedisRecord("alice"))
	other := newRedisRecord("mallory")
	other.ID = rec.ID
	if err := store.Create(t.Context(), other); !errors.Is(err, tokensession.ErrExists) {
		t.Fatalf("Create: %v, want ErrExists", err)
	}
	if got := redisListed(t, store, "mallory"); got != nil {
		t.Errorf("mallory has alice's session %v", got)
	}
	other.Subject, other.ExpiresAt = "alice", rec.CreatedAt.Add(-time.Hour) // must not shorten the entry of hers
	if err := store.Create(t.Context(), other); !errors.Is(err, tokensession.ErrExists) {
		t.Fatalf("Create: %v, want ErrExists", err)
	}
	if got := redisListed(t, store, "alice"); !slices.Equal(got, []string{rec.ID}) {
		t.Errorf("alice has %v", got)
	}
	if got, err := store.Load(t.Context(), rec.ID); err != nil || !reflect.DeepEqual(got, redisStored(rec)) {
		t.Errorf("alice's session is %v, %v", got, err)
	}
}

func TestRedisStore_check(t *testing.T) {
	good := servers.StartRedis(t, servers.RedisOptions{AppendFsync: "everysec"})
	store, _ := redisStore(t, good.Client(nil), redisstore.Config{})
	if err := store.Check(t.Context()); err != nil {
		t.Errorf("a good server: %v", err)
	}

	bad := good.StartReplica()
	client := bad.Client(nil)
	for _, set := range [][2]string{{"maxmemory", "100mb"}, {"maxmemory-policy", "allkeys-lru"}, {"appendonly", "no"}} {
		if err := client.ConfigSet(t.Context(), set[0], set[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	store, _ = redisStore(t, client, redisstore.Config{})
	err := store.Check(t.Context())
	for _, says := range []string{bad.Addr, "replica", "noeviction", "appendonly"} {
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("a bad server: %v, want %q in it", err, says)
		}
	}

	unlimited := servers.StartRedis(t, servers.RedisOptions{AppendFsync: "always", Args: []string{"--maxmemory-policy", "allkeys-lru"}})
	store, _ = redisStore(t, unlimited.Client(nil), redisstore.Config{})
	if err := store.Check(t.Context()); err != nil {
		t.Errorf("a server that never has to evict: %v", err)
	}

	cluster := servers.StartRedisCluster(t, servers.RedisOptions{AppendFsync: "everysec"})
	store, _ = redisStore(t, cluster.Client(nil), redisstore.Config{})
	if err := store.Check(t.Context()); err != nil {
		t.Errorf("a good Cluster: %v", err)
	}
	for i, node := range cluster.Nodes { // one more each time
		if err := node.Client(nil).ConfigSet(t.Context(), "appendonly", "no").Err(); err != nil {
			t.Fatal(err)
		}
		err := store.Check(t.Context())
		for j, other := range cluster.Nodes {
			if told := err != nil && strings.Contains(err.Error(), other.Addr); told != (j <= i) {
				t.Errorf("a Cluster with %d bad nodes: %v; does it name %s: %v", i+1, err, other.Addr, told)
			}
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := store.Check(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("an ended context: %v", err)
	}
}

package proof_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// redisCouldNotTell fails the test unless err is an error that is no verdict and says what to do.
func redisCouldNotTell(t *testing.T, call string, err error, says string) {
	t.Helper()
	switch {
	case err == nil:
		t.Errorf("%s: no error", call)
	case errors.Is(err, tokensession.ErrNotFound), errors.Is(err, tokensession.ErrExists), errors.Is(err, tokensession.ErrConflict):
		t.Errorf("%s: %v is a verdict", call, err)
	case !strings.Contains(err.Error(), says):
		t.Errorf("%s: %v, want %q in it", call, err, says)
	}
}

// redisCalls makes each call that the server is to refuse.
func redisCalls(t *testing.T, store *redisstore.Store, rec tokensession.Record) map[string]error {
	t.Helper()
	_, loadErr := store.Load(t.Context(), rec.ID)
	_, listErr := store.List(t.Context(), rec.Subject)
	_, feedErr := store.RevokedSince(t.Context(), rec.CreatedAt)
	return map[string]error{
		"Create": store.Create(t.Context(), newRedisRecord(rec.Subject)), "Swap": store.Swap(t.Context(), redisRotated(rec)),
		"revoking Swap": store.Swap(t.Context(), redisRevoked(rec)), "Load": loadErr, "List": listErr, "RevokedSince": feedErr,
	}
}

func TestRedisErrors_replicaRefusesWrites(t *testing.T) {
	master := servers.StartRedis(t, servers.RedisOptions{})
	store, prefix := redisStore(t, master.Client(nil), redisstore.Config{})
	rec := redisCreate(t, store, newRedisRecord("alice"))
	replica := master.StartReplica()
	store, _ = redisStore(t, replica.Client(&redis.Options{MaxRetries: -1}), redisstore.Config{Prefix: prefix})
	for call, err := range redisCalls(t, store, rec) {
		if call == "Create" || strings.Contains(call, "Swap") {
			redisCouldNotTell(t, call, err, "connect to the master")
			if !redis.IsReadOnlyError(err) {
				t.Errorf("%s: the cause is lost in %v", call, err)
			}
		}
	}
}

func TestRedisErrors_closedClientAndDeadServer(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	closed := server.Client(nil)
	store, prefix := redisStore(t, closed, redisstore.Config{})
	rec := redisCreate(t, store, newRedisRecord("alice"))
	_ = closed.Close()
	for call, err := range redisCalls(t, store, rec) {
		redisCouldNotTell(t, call, err, "client was closed")
		if !errors.Is(err, redis.ErrClosed) {
			t.Errorf("%s: the cause is lost in %v", call, err)
		}
	}
	server.Kill()
	store, _ = redisStore(t, server.Client(&redis.Options{MaxRetries: -1, DialerRetries: 1}), redisstore.Config{Prefix: prefix})
	for call, err := range redisCalls(t, store, rec) {
		redisCouldNotTell(t, call, err, "cannot be reached")
	}
}

func TestRedisErrors_passwordAndPermission(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{Args: []string{"--requirepass", "secret"}})
	rec := newRedisRecord("alice")
	for says, opts := range map[string]*redis.Options{
		"the server asks for a password":   {},
		"the right Username and Password":  {Password: "wrong"},
		"the README of redisstore has the": {Username: "reader", Password: "reader"},
	} {
		admin := server.Client(&redis.Options{Password: "secret"})
		if err := admin.Do(t.Context(), "ACL", "SETUSER", "reader", "on", ">reader", "~*", "+@connection").Err(); err != nil {
			t.Fatal(err)
		}
		store, _ := redisStore(t, server.Client(opts), redisstore.Config{})
		for call, err := range redisCalls(t, store, rec) {
			redisCouldNotTell(t, call, err, says)
		}
	}
}

// The permissions that the README names are enough.
func TestRedisErrors_permissionsOfTheREADMESuffice(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{AppendFsync: "everysec"})
	rules, err := os.ReadFile("../../redisstore/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(rules), "ACL SETUSER ")
	line, _, _ := strings.Cut(rest, "\n")
	if !ok {
		t.Fatal("the README names no ACL rule")
	}
	args := []any{"ACL", "SETUSER"}
	for _, arg := range strings.Fields(line) {
		args = append(args, arg)
	}
	if err := server.Client(nil).Do(t.Context(), args...).Err(); err != nil {
		t.Fatal(err)
	}
	user, password := args[2].(string), strings.TrimPrefix(args[4].(string), ">")
	store, _ := redisStore(t, server.Client(&redis.Options{Username: user, Password: password}), redisstore.Config{Prefix: "tokensession"})
	rec := redisCreate(t, store, newRedisRecord("alice"))
	rec = redisSwap(t, store, redisRotated(rec))
	rec = redisSwap(t, store, redisRevoked(rec))
	redisListed(t, store, "alice")
	if _, ok := redisTold(t, store, rec.RevokedAt)[rec.ID]; !ok {
		t.Error("not told")
	}
	if err := store.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRedisErrors_serverThatCannotSave(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{Args: []string{"--enable-protected-configs", "local"}})
	client := server.Client(nil)
	store, _ := redisStore(t, client, redisstore.Config{})
	rec := redisCreate(t, store, newRedisRecord("alice"))
	gone := t.TempDir() + "/gone"
	if err := os.Mkdir(gone, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]any{{"CONFIG", "SET", "dir", gone, "save", "3600 1000000"}, {"BGSAVE"}} {
		if args[0] == "BGSAVE" {
			if err := os.Remove(gone); err != nil {
				t.Fatal(err)
			}
		}
		if err := client.Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	awaitRedis(t, "the server to find that it cannot save", func() bool {
		return strings.Contains(client.Info(t.Context(), "persistence").Val(), "rdb_last_bgsave_status:err")
	})
	for call, err := range redisCalls(t, store, rec) {
		if call == "Create" || strings.Contains(call, "Swap") {
			redisCouldNotTell(t, call, err, "look at its log and its disk")
		}
	}
	if got, err := store.Load(t.Context(), rec.ID); err != nil || got.Version != rec.Version {
		t.Errorf("Load: %v, %v: nothing was to change", got, err)
	}
}

func TestRedisErrors_serverOutOfMemory(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	client := server.Client(nil)
	store, _ := redisStore(t, client, redisstore.Config{})
	rec := redisCreate(t, store, newRedisRecord("alice"))
	if err := client.ConfigSet(t.Context(), "maxmemory", "1mb").Err(); err != nil {
		t.Fatal(err)
	}
	redisCouldNotTell(t, "Create", store.Create(t.Context(), newRedisRecord("alice")), "noeviction")
	redisCouldNotTell(t, "revoking Swap", store.Swap(t.Context(), redisRevoked(rec)), "noeviction")
	redisSwap(t, store, redisRotated(rec)) // takes no more memory than it frees
}

func TestRedisErrors_slotsNotServed(t *testing.T) {
	cluster := servers.StartRedisCluster(t, servers.RedisOptions{})
	store, prefix := redisStore(t, cluster.Client(nil), redisstore.Config{})
	rec := redisCreate(t, store, newRedisRecord("alice"))
	key := prefix + ":session:" + rec.ID
	client := cluster.Client(&redis.ClusterOptions{MaxRedirects: -1})
	slot, err := client.ClusterKeySlot(t.Context(), key).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range cluster.Nodes {
		if err := node.Client(nil).ClusterDelSlots(t.Context(), int(slot)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	store, _ = redisStore(t, client, redisstore.Config{Prefix: prefix})
	_, err = store.Load(t.Context(), rec.ID)
	redisCouldNotTell(t, "Load", err, "CLUSTER INFO")
	redisCouldNotTell(t, "Swap", store.Swap(t.Context(), redisRotated(rec)), "CLUSTER INFO")
}

func TestRedisErrors_damagedSession(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisstore.Config{})
	ctx := t.Context()
	for name, damage := range map[string]struct {
		run         func(key string) error
		says        string
		writesStill bool // the script looks only at what it compares
	}{
		"no key field":  {func(key string) error { return client.HDel(ctx, key, "key").Err() }, "field key is missing", true},
		"no revoked_at": {func(key string) error { return client.HDel(ctx, key, "revoked_at").Err() }, "another program", false},
		"no write":      {func(key string) error { return client.HDel(ctx, key, "write").Err() }, "missing", false},
		"bad time":      {func(key string) error { return client.HSet(ctx, key, "created_at", "soon").Err() }, "soon", true},
		"another hash": {func(key string) error {
			return errors.Join(client.Del(ctx, key).Err(), client.HSet(ctx, key, "a", "b").Err())
		}, "missing", false},
		"a string": {func(key string) error { return client.Set(ctx, key, "v", 0).Err() }, "another program", false},
	} {
		rec := redisCreate(t, store, newRedisRecord(name))
		if err := damage.run(prefix + ":session:" + rec.ID); err != nil {
			t.Fatal(err)
		}
		says := damage.says
		if name == "no revoked_at" {
			says = "revoked_at is missing"
		}
		_, err := store.Load(ctx, rec.ID)
		redisCouldNotTell(t, name+": Load", err, says)
		_, err = store.List(ctx, name)
		redisCouldNotTell(t, name+": List", err, says)
		if damage.writesStill {
			continue
		}
		says = "missing"
		if name == "a string" {
			says = "another program"
		}
		redisCouldNotTell(t, name+": Swap", store.Swap(ctx, redisRotated(rec)), says)
		if name != "no revoked_at" {
			other := rec
			other.WriteID = redisID()
			redisCouldNotTell(t, name+": Create", store.Create(ctx, other), says)
		}
	}
}

func TestRedisErrors_anothersKeys(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisstore.Config{})
	rec := redisCreate(t, store, newRedisRecord("alice"))
	for _, key := range []string{"subject:bob", "revoked:0", "revoked:1", "revoked:2", "revoked:3", "revoked:4", "revoked:5", "revoked:6", "revoked:7"} {
		if err := client.Set(t.Context(), prefix+":"+key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := store.List(t.Context(), "bob")
	redisCouldNotTell(t, "List", err, "Config.Prefix")
	redisCouldNotTell(t, "Create", store.Create(t.Context(), newRedisRecord("bob")), "Config.Prefix")
	_, err = store.RevokedSince(t.Context(), rec.CreatedAt)
	redisCouldNotTell(t, "RevokedSince", err, "Config.Prefix")
	redisCouldNotTell(t, "revoking Swap", store.Swap(t.Context(), redisRevoked(rec)), "Config.Prefix")
	if got, err := store.Load(t.Context(), rec.ID); err != nil || !got.RevokedAt.IsZero() {
		t.Errorf("a revocation that the feed does not know was written: %v, %v", got, err)
	}
}

// A revocation that somebody wrote by hand, wrongly, is reported and not read as one or the other.
func TestRedisErrors_feedOfADamagedSession(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisstore.Config{})
	rec := redisCreate(t, store, newRedisRecord("alice"))
	end := redisRevoked(rec)
	redisSwap(t, store, end)
	if err := client.HSet(t.Context(), prefix+":session:"+rec.ID, "revoked_at", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	_, err := store.RevokedSince(t.Context(), end.RevokedAt)
	redisCouldNotTell(t, "RevokedSince", err, rec.ID)
}

func TestRedisErrors_contextEndsDuringACall(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, _ := redisStore(t, client, redisstore.Config{})
	rec := redisCreate(t, store, newRedisRecord("alice"))
	ctx, cancel := context.WithCancel(t.Context())
	spy := new(redisSpy)
	client.AddHook(spy)
	spy.setAround(func(_ string, run func() error) error { cancel(); return run() })
	err := store.Swap(ctx, redisRevoked(rec))
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Swap: %v, want context.Canceled", err)
	}
	redisCouldNotTell(t, "Swap", err, "")
}

package proof_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

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
	_, feedErr := redisToldOr(t, store, rec.CreatedAt)
	return map[string]error{
		"Create": store.Create(t.Context(), newRedisRecord(rec.Subject)), "Swap": store.Swap(t.Context(), redisRotated(rec)),
		"revoking Swap": store.Swap(t.Context(), redisRevoked(rec)), "Load": loadErr, "List": listErr, "Revocations": feedErr,
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

// redisUserOfTheREADME makes the user with the permissions that the README names, on each server.
func redisUserOfTheREADME(t *testing.T, servers ...*servers.Redis) (user, password string) {
	t.Helper()
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
	for _, server := range servers {
		if err := server.Client(nil).Do(t.Context(), args...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	return args[2].(string), strings.TrimPrefix(args[4].(string), ">")
}

// redisUseEverything makes each call that a Manager makes of a store.
func redisUseEverything(t *testing.T, store *redisstore.Store) {
	t.Helper()
	redisNotified(t, store, "a new connection")
	rec := redisCreate(t, store, newRedisRecord("alice"))
	next := redisRotated(rec)
	next.Epoch, next.OutdatedAt = 1, next.RotatedAt
	rec = redisSwap(t, store, next)
	redisNotified(t, store, "access tokens outdated")
	if got := redisListed(t, store, "alice"); !slices.Contains(got, rec.ID) {
		t.Errorf("List: %v", got)
	}
	next = redisRotated(rec)
	next.Attributes = nil // has fewer fields
	rec = redisSwap(t, store, next)
	rec = redisSwap(t, store, redisRevoked(rec))
	redisNotified(t, store, "a revocation")
	for range 20 { // more than are loaded at once
		old := newRedisRecord("alice")
		old.CreatedAt = old.CreatedAt.Add(-3 * time.Hour)
		old.RotatedAt, old.RevokedAt = old.CreatedAt, old.CreatedAt
		redisCreate(t, store, old)
	}
	redisCreate(t, store, newRedisRecord("alice"))
	redisListed(t, store, "alice") // and takes those of long ago out of the index
	if _, ok := redisTold(t, store, rec.RevokedAt)[rec.ID]; !ok {
		t.Error("not told")
	}
	if _, err := store.Load(t.Context(), rec.ID); err != nil {
		t.Errorf("Load: %v", err)
	}
	unknown := newRedisRecord("nobody")
	if _, err := store.Load(t.Context(), unknown.ID); !errors.Is(err, tokensession.ErrNotFound) {
		t.Errorf("Load: %v, want ErrNotFound", err)
	}
	if err := store.Swap(t.Context(), redisRotated(unknown)); !errors.Is(err, tokensession.ErrNotFound) {
		t.Errorf("Swap: %v, want ErrNotFound", err)
	}
	if got := redisListed(t, store, "nobody"); len(got) != 0 {
		t.Errorf("List: %v", got)
	}
	if err := store.Check(t.Context()); err != nil {
		t.Error(err)
	}
}

// The permissions that the README names are enough.
func TestRedisErrors_permissionsOfTheREADMESuffice(t *testing.T) {
	for kind, binary := range map[string]string{"Redis": "", "Valkey": servers.ValkeyServer(t)} {
		t.Run(kind, func(t *testing.T) {
			server := servers.StartRedis(t, servers.RedisOptions{Binary: binary, AppendFsync: "everysec"})
			user, password := redisUserOfTheREADME(t, server)
			client := server.Client(&redis.Options{Username: user, Password: password, DB: 1, ClientName: "sessions"})
			store, _ := redisStore(t, client, redisstore.Config{Prefix: "tokensession"})
			redisUseEverything(t, store)
			redisRefusedNothing(t, server)
		})
	}
}

// Also in a Cluster, while a slot is on its way from one node to another.
func TestRedisErrors_permissionsOfTheREADMESufficeInACluster(t *testing.T) {
	cluster := servers.StartRedisCluster(t, servers.RedisOptions{AppendFsync: "everysec"})
	user, password := redisUserOfTheREADME(t, cluster.Nodes...)
	client := cluster.Client(&redis.ClusterOptions{Username: user, Password: password, ClientName: "sessions"})
	store, _ := redisStore(t, client, redisstore.Config{Prefix: "tokensession"})
	redisUseEverything(t, store)

	rec := redisCreate(t, store, newRedisRecord("bob"))
	var moves []*servers.SlotMove
	unknown := redisID()
	for _, key := range []string{"session:" + rec.ID, "session:" + unknown, "subject:alice", "subject:nobody", "subject:carol"} {
		moves = append(moves, cluster.StartSlotMove("tokensession:"+key))
	}
	rec = redisSwap(t, store, redisRotated(rec)) // still on the old node
	shorter := redisRotated(rec)
	shorter.Attributes = nil
	rec = redisSwap(t, store, shorter)
	if _, err := store.Load(t.Context(), unknown); !errors.Is(err, tokensession.ErrNotFound) {
		t.Errorf("Load where the new node has to be asked: %v, want ErrNotFound", err)
	}
	if got := redisListed(t, store, "nobody"); len(got) != 0 {
		t.Errorf("List where the new node has to be asked: %v", got)
	}
	redisCreate(t, store, newRedisRecord("carol")) // its index begins on the new node
	redisUseEverything(t, store)
	for _, move := range moves {
		move.Finish()
	}
	if got, err := store.Load(t.Context(), rec.ID); err != nil || got.Version != rec.Version {
		t.Errorf("Load after the slot has moved: %v, %v", got, err)
	}
	redisUseEverything(t, store)
	redisRefusedNothing(t, cluster.Nodes...)
}

// redisRefusedNothing fails the test if a server's log of refused commands has any.
func redisRefusedNothing(t *testing.T, servers ...*servers.Redis) {
	t.Helper()
	for _, server := range servers {
		log, err := server.Client(nil).Do(t.Context(), "ACL", "LOG").Slice()
		if err != nil {
			t.Fatal(err)
		}
		for _, entry := range log {
			// go-redis tells its name and asks for a feature of newer servers, and minds no
			// refusal.
			said := fmt.Sprint(entry)
			if !strings.Contains(said, "client|setinfo") && !strings.Contains(said, "client|maint") {
				t.Errorf("%s refused: %v", server.Addr, said)
			}
		}
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

// What nobody can read is an error that is no verdict, and stays as it is. It hides no other
// session.
func TestRedisErrors_damagedSession(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisstore.Config{})
	ctx := t.Context()
	set := func(args ...any) func(string) error {
		return func(key string) error { return client.HSet(ctx, key, args...).Err() }
	}
	del := func(field string) func(string) error {
		return func(key string) error { return client.HDel(ctx, key, field).Err() }
	}
	first := func(change func([]byte) []byte) func(string) error {
		return func(key string) error {
			data, err := client.HGet(ctx, key, "0").Bytes()
			return errors.Join(err, client.HSet(ctx, key, "0", change(data)).Err())
		}
	}
	for name, damage := range map[string]struct {
		run    func(key string) error
		says   string
		writes string // what a write says; empty: the script looks only at what it compares, and writes
	}{
		"no subject":       {del("subject"), "subject is missing", "missing"},
		"no version":       {del("version"), "version is", "missing"},
		"no data":          {del("0"), "field 0 is missing", "missing"},
		"data cut off":     {del("1"), "damaged", ""},
		"bad version":      {set("version", "1.5"), "1.5", "conflict"},
		"bad revoked_at":   {set("revoked_at", "yes"), "yes", "conflict"},
		"empty revoked_at": {set("revoked_at", ""), "revoked_at", "conflict"},
		"another hash": {func(key string) error {
			return errors.Join(client.Del(ctx, key).Err(), client.HSet(ctx, key, "a", "b").Err())
		}, "missing", "missing"},
		"a string": {func(key string) error { return client.Set(ctx, key, "v", 0).Err() }, "another program", "another program"},
		// What a later version may write.
		"next format":         {first(func(b []byte) []byte { b[2]++; return b }), "format 2", "another format"},
		"next record":         {first(func(b []byte) []byte { b[3]++; return b }), "format", "another format"},
		"next format, longer": {first(func(b []byte) []byte { return append([]byte{0, 0, 2}, b...) }), "format 2", "another format"},
	} {
		sound := redisCreate(t, store, newRedisRecord(name))
		rec := redisCreate(t, store, newRedisRecord(name))
		key := prefix + ":session:" + rec.ID
		if err := damage.run(key); err != nil {
			t.Fatal(err)
		}
		before := client.Dump(ctx, key).Val()
		_, err := store.Load(ctx, rec.ID)
		redisCouldNotTell(t, name+": Load", err, damage.says)
		recs, err := store.List(ctx, name)
		redisCouldNotTell(t, name+": List", err, damage.says)
		if !errors.Is(err, tokensession.ErrUnreadable) || len(recs) != 1 || recs[0].ID != sound.ID {
			t.Errorf("%s: List: %v, %v; want the sound one, and ErrUnreadable", name, recs, err)
		}
		if damage.writes == "" {
			continue
		}
		for write, next := range map[string]tokensession.Record{"refresh": redisRotated(rec), "revocation": redisRevoked(rec)} {
			err := store.Swap(ctx, next)
			if damage.writes == "conflict" { // it is not the record that was read
				if !errors.Is(err, tokensession.ErrConflict) {
					t.Errorf("%s: %s: %v, want ErrConflict", name, write, err)
				}
				continue
			}
			redisCouldNotTell(t, name+": "+write, err, damage.writes)
		}
		if damage.writes != "conflict" {
			other := rec
			other.WriteID = redisID()
			redisCouldNotTell(t, name+": Create", store.Create(ctx, other), damage.writes)
		}
		if after := client.Dump(ctx, key).Val(); after != before {
			t.Errorf("%s: what could not be read was changed", name)
		}
	}
}

func TestRedisErrors_anothersKeys(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisstore.Config{})
	rec := redisCreate(t, store, newRedisRecord("alice"))
	for _, key := range []string{"subject:bob", "revoked"} {
		if err := client.Set(t.Context(), prefix+":"+key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	_, err := store.List(t.Context(), "bob")
	redisCouldNotTell(t, "List", err, "Config.Prefix")
	redisCouldNotTell(t, "Create", store.Create(t.Context(), newRedisRecord("bob")), "Config.Prefix")
	_, err = redisToldOr(t, store, rec.CreatedAt)
	redisCouldNotTell(t, "Revocations", err, "Config.Prefix")
	redisCouldNotTell(t, "revoking Swap", store.Swap(t.Context(), redisRevoked(rec)), "Config.Prefix")
	if got, err := store.Load(t.Context(), rec.ID); err != nil || !got.RevokedAt.IsZero() {
		t.Errorf("a revocation that the feed does not know was written: %v, %v", got, err)
	}
}

// One record that cannot be read hides none of the others in the feed.
func TestRedisErrors_feedOfDamagedSessions(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisstore.Config{})
	ctx := t.Context()
	revoke := func(at time.Time) string {
		end := redisRevoked(redisCreate(t, store, newRedisRecord("alice")))
		end.RevokedAt = at
		return redisSwap(t, store, end).ID
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	yes, empty, later, foreign, cut := revoke(now), revoke(now), revoke(now), revoke(now), revoke(now)
	sound := []string{revoke(now.Add(-time.Second)), revoke(now), revoke(now.Add(time.Second))}
	key := func(id string) string { return prefix + ":session:" + id }
	data, err := client.HGet(ctx, key(later), "0").Bytes()
	if err != nil {
		t.Fatal(err)
	}
	data[2]++
	for _, err := range []error{
		client.HSet(ctx, key(yes), "revoked_at", "yes").Err(),
		client.HSet(ctx, key(empty), "revoked_at", "").Err(),
		client.HSet(ctx, key(later), "0", data).Err(),
		client.Set(ctx, key(foreign), "v", 0).Err(),
		client.HDel(ctx, key(cut), "0").Err(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // what the first call remembers changes nothing
		told, err := redisToldOr(t, store, now.Add(-time.Minute))
		for _, id := range []string{later, foreign, cut} {
			redisCouldNotTell(t, "Revocations", err, id)
			if _, ok := told[id]; ok {
				t.Errorf("%s cannot be read and is told", id)
			}
		}
		if !errors.Is(err, tokensession.ErrUnreadable) || strings.Contains(err.Error(), yes) || strings.Contains(err.Error(), empty) {
			t.Errorf("Revocations: %v, want ErrUnreadable of the three only", err)
		}
		for _, id := range []string{yes, empty} {
			if at, ok := told[id]; !ok || !at.IsZero() {
				t.Errorf("revoked at a time that cannot be read, and told %v at %v", ok, at)
			}
		}
		for _, id := range sound {
			if at, ok := told[id]; !ok || at.IsZero() {
				t.Errorf("a sound revocation is told: %v, at %v", ok, at)
			}
		}
	}
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

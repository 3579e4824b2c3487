package proof_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// redisKinds runs a test on each kind of server that redisstore promises to work with.
func redisKinds(t *testing.T, test func(t *testing.T, client redis.UniversalClient)) {
	redisKindsAt(t, servers.RedisAddr, test)
}

// redisOwnKinds is redisKinds for a test that changes its server.
func redisOwnKinds(t *testing.T, test func(t *testing.T, client redis.UniversalClient)) {
	redisKindsAt(t, func(tb testing.TB) string { return servers.StartRedis(tb, servers.RedisOptions{}).Addr }, test)
}

func redisKindsAt(t *testing.T, addr func(testing.TB) string, test func(t *testing.T, client redis.UniversalClient)) {
	t.Run("Redis", func(t *testing.T) {
		test(t, redisClient(t, addr(t), nil))
	})
	t.Run("Redis, RESP2", func(t *testing.T) {
		test(t, redisClient(t, addr(t), &redis.Options{Protocol: 2}))
	})
	t.Run("Redis Cluster", func(t *testing.T) {
		test(t, servers.StartRedisCluster(t, servers.RedisOptions{}).Client(nil))
	})
	t.Run("Valkey", func(t *testing.T) {
		test(t, servers.StartRedis(t, servers.RedisOptions{Binary: servers.ValkeyServer(t)}).Client(nil))
	})
}

func redisClient(t *testing.T, addr string, opts *redis.Options) *redis.Client {
	t.Helper()
	var o redis.Options
	if opts != nil {
		o = *opts
	}
	o.Addr = addr
	client := redis.NewClient(&o)
	t.Cleanup(func() { _ = client.Close() })
	return client
}

// redisStore returns a store under a prefix of its own, and the prefix.
func redisStore(t *testing.T, client redis.UniversalClient, cfg redisstore.Config) (*redisstore.Store, string) {
	t.Helper()
	if cfg.Prefix == "" {
		addr := ""
		if c, ok := client.(*redis.Client); ok {
			addr = c.Options().Addr
		}
		cfg.Prefix = servers.RedisPrefix(t, addr)
	}
	store, err := redisstore.New(client, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return store, cfg.Prefix
}

func redisManager(t *testing.T, store tokensession.RefreshStore, cfg tokensession.Config) *tokensession.Manager {
	t.Helper()
	key, err := tokensession.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	return redisManagerOf(t, key, store, cfg)
}

// redisManagerOf returns one of several instances that share a key.
func redisManagerOf(
	t *testing.T, key tokensession.Key, store tokensession.RefreshStore, cfg tokensession.Config,
) *tokensession.Manager {
	t.Helper()
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := tokensession.New(signer, store, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func redisID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b)
	return base64.RawURLEncoding.EncodeToString(b)
}

// newRedisRecord returns what a Manager creates at a login with the default lifetimes.
func newRedisRecord(subject string) tokensession.Record {
	now := time.Now().UTC().Truncate(time.Microsecond)
	key := make([]byte, 32)
	_, _ = rand.Read(key)
	return tokensession.Record{
		ID: redisID(), Version: 1, WriteID: redisID(), Issuer: "https://auth.example", Subject: subject, Key: key,
		IdleTTL:    7 * 24 * time.Hour,
		Attributes: map[string]string{"ip": "192.0.2.1", "device": "Firefox on Linux"},
		AuthTime:   now, CreatedAt: now, RotatedAt: now,
		ExpiresAt: now.Add(7 * 24 * time.Hour), MaxExpiresAt: now.Add(30 * 24 * time.Hour),
	}
}

// redisRotated returns what a Manager swaps in at a refresh.
func redisRotated(rec tokensession.Record) tokensession.Record {
	lifetime := rec.ExpiresAt.Sub(rec.RotatedAt)
	now := time.Now().UTC().Truncate(time.Microsecond)
	rec.Version++
	rec.WriteID, rec.Replaces = redisID(), rec.WriteID
	rec.Predecessor, rec.Generation = rec.Generation, rec.Generation+1
	rec.ConsumedAt, rec.RotatedAt = now, now
	rec.ExpiresAt = now.Add(lifetime)
	return rec
}

// redisRevoked returns what a Manager swaps in at a logout.
func redisRevoked(rec tokensession.Record) tokensession.Record {
	rec.Version++
	rec.WriteID, rec.Replaces = redisID(), rec.WriteID
	rec.RevokedAt = time.Now().UTC().Truncate(time.Microsecond)
	rec.RevokeReason = tokensession.ReasonLogout
	return rec
}

func redisCreate(t *testing.T, store tokensession.RefreshStore, rec tokensession.Record) tokensession.Record {
	t.Helper()
	if err := store.Create(t.Context(), rec); err != nil {
		t.Fatalf("Create: %v", err)
	}
	return rec
}

func redisSwap(t *testing.T, store tokensession.RefreshStore, next tokensession.Record) tokensession.Record {
	t.Helper()
	if err := store.Swap(t.Context(), next); err != nil {
		t.Fatalf("Swap: %v", err)
	}
	return next
}

// redisListed returns the ids of the subject's sessions.
func redisListed(t *testing.T, store tokensession.RefreshStore, subject string) []string {
	t.Helper()
	recs, err := store.List(t.Context(), subject)
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	var ids []string
	for _, rec := range recs {
		ids = append(ids, rec.ID)
	}
	return ids
}

// redisTold returns what the feed tells.
func redisTold(t *testing.T, feed tokensession.RevocationFeed, since time.Time) map[string]time.Time {
	t.Helper()
	at, err := redisToldOr(t, feed, since)
	if err != nil {
		t.Fatalf("Revocations: %v", err)
	}
	return at
}

// redisToldOr returns what the feed tells, also beside an error.
func redisToldOr(t *testing.T, feed tokensession.RevocationFeed, since time.Time) (map[string]time.Time, error) {
	t.Helper()
	at := make(map[string]time.Time)
	err := feed.Revocations(t.Context(), since, func(page []tokensession.Revocation) error {
		for _, r := range page {
			at[r.SessionID] = r.At
		}
		return nil
	})
	return at, err
}

// redisStored returns what a store is to return of a record that was written.
func redisStored(rec tokensession.Record) tokensession.Record {
	rec.Replaces = ""
	return rec
}

// redisMasters returns a client of each master.
func redisMasters(t *testing.T, client redis.UniversalClient) []*redis.Client {
	t.Helper()
	cluster, ok := client.(*redis.ClusterClient)
	if !ok {
		return []*redis.Client{client.(*redis.Client)}
	}
	var mu sync.Mutex
	var masters []*redis.Client
	err := cluster.ForEachMaster(t.Context(), func(_ context.Context, master *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		masters = append(masters, redisClient(t, master.Options().Addr, nil))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return masters
}

// redisKeys returns the keys with the prefix on every master.
func redisKeys(t *testing.T, client redis.UniversalClient, prefix string) []string {
	t.Helper()
	var mu sync.Mutex
	var keys []string
	scan := func(ctx context.Context, c *redis.Client) error {
		iter := c.Scan(ctx, 0, prefix+":*", 1000).Iterator()
		for iter.Next(ctx) {
			mu.Lock()
			keys = append(keys, iter.Val())
			mu.Unlock()
		}
		return iter.Err()
	}
	var err error
	switch c := client.(type) {
	case *redis.Client:
		err = scan(t.Context(), c)
	case *redis.ClusterClient:
		err = c.ForEachMaster(t.Context(), scan)
	}
	if err != nil {
		t.Fatal(err)
	}
	return keys
}

// awaitRedis polls until done, at most half a minute.
func awaitRedis(t *testing.T, what string, done func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline:
			t.Fatalf("waited 30 s for %s", what)
		case <-tick.C:
		}
	}
}

// A redisSpy is a hook that notes the commands of a client and can make one fail.
type redisSpy struct {
	mu       sync.Mutex
	commands []string                                     // "HGETALL session", with the kind of the key
	trips    int                                          // round trips: commands outside a pipeline, and pipelines
	around   func(command string, run func() error) error // nil: run it
}

func (s *redisSpy) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (s *redisSpy) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		command := describeRedis(cmd)
		around := s.note(command)
		if around == nil {
			return next(ctx, cmd)
		}
		err := around(command, func() error { return next(ctx, cmd) })
		if err != nil {
			cmd.SetErr(err)
		}
		return err
	}
}

func (s *redisSpy) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		var commands []string
		for _, cmd := range cmds {
			commands = append(commands, describeRedis(cmd))
		}
		s.note(commands...)
		return next(ctx, cmds)
	}
}

func (s *redisSpy) note(commands ...string) func(string, func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trips++
	s.commands = append(s.commands, commands...)
	return s.around
}

// take returns what was noted since the last call.
func (s *redisSpy) take() (trips int, commands []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	trips, commands = s.trips, s.commands
	s.trips, s.commands = 0, nil
	return trips, commands
}

func (s *redisSpy) setAround(around func(string, func() error) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.around = around
}

// describeRedis names a command and the kind of its key.
func describeRedis(cmd redis.Cmder) string {
	args := cmd.Args()
	key := ""
	switch name := strings.ToLower(cmd.Name()); {
	case strings.HasPrefix(name, "eval") && len(args) > 3:
		if fmt.Sprint(args[2]) != "1" {
			return fmt.Sprintf("%s with %v keys", name, args[2])
		}
		key = fmt.Sprint(args[3])
	case len(args) > 1:
		key = fmt.Sprint(args[1])
	}
	if parts := strings.Split(key, ":"); len(parts) > 1 {
		key = parts[1]
	}
	return strings.ToLower(cmd.Name()) + " " + key
}

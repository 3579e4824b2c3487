package proof_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// Redis's clock is wrong, by more than a session lives. Nothing is dropped before its time.
func TestRedisClock_wrongServerDropsNothingThatLives(t *testing.T) {
	const day = 24 * time.Hour
	for name, ahead := range map[string]time.Duration{
		"25 hours ahead": 25 * time.Hour, "8 days ahead": 8 * day, "a year ahead": 365 * day, "8 days behind": -8 * day,
	} {
		for kind, binary := range map[string]string{"Redis": "", "Valkey": servers.ValkeyServer(t)} {
			t.Run(kind+" "+name, func(t *testing.T) {
				server := servers.StartRedis(t, servers.RedisOptions{Binary: binary, ClockAhead: ahead, AppendFsync: "everysec"})
				client := server.Client(nil)
				store, prefix := redisStore(t, client, redisstore.Config{})
				err := store.Check(t.Context())
				if err == nil || !strings.Contains(err.Error(), "clock") || !strings.Contains(err.Error(), ahead.Round(time.Hour).String()) {
					t.Errorf("Check: %v, want it to name the clock and %v", err, ahead)
				}

				rec := redisCreate(t, store, newRedisRecord("alice"))
				rec = redisSwap(t, store, redisRotated(rec))
				other := redisCreate(t, store, newRedisRecord("alice"))
				if got, err := store.Load(t.Context(), rec.ID); err != nil || got.Version != 2 {
					t.Errorf("Load: %v, %v", got, err)
				}
				if got := redisListed(t, store, "alice"); len(got) != 2 {
					t.Errorf("%d sessions are listed, want 2", len(got))
				}
				end := redisSwap(t, store, redisRevoked(other))
				for range 3 {
					redisSwap(t, store, redisRevoked(redisCreate(t, store, newRedisRecord("bob"))))
				}
				if at := redisTold(t, store, end.RevokedAt); len(at) != 4 || !at[other.ID].Equal(end.RevokedAt) {
					t.Errorf("the feed tells %v, want four", at)
				}
				m := redisManager(t, store, tokensession.Config{})
				tokens, err := m.Start(t.Context(), "carol")
				if err != nil {
					t.Fatal(err)
				}
				if _, err := m.Refresh(t.Context(), tokens.RefreshToken); err != nil {
					t.Errorf("Refresh of a session that has just begun: %v", err)
				}
				for _, key := range redisKeys(t, client, prefix) {
					if ttl, err := client.PTTL(t.Context(), key).Result(); err != nil || ttl < day || ttl > 20*day {
						t.Errorf("%s ends in %v, %v", key, ttl, err)
					}
				}
			})
		}
	}
}

// Where both clocks say so, what has expired goes, also on a server whose clock is ahead.
func TestRedisClock_wrongServerDropsWhatHasExpired(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{ClockAhead: 30 * 24 * time.Hour})
	client := server.Client(nil)
	store, prefix := redisStore(t, client, redisAtOnce)
	rec := redisCreate(t, store, redisLasting("alice", 2*time.Second))
	redisCreate(t, store, redisLasting("alice", -time.Hour))
	redisSwap(t, store, redisRotated(rec))
	if got := redisListed(t, store, "alice"); len(got) != 1 {
		t.Errorf("%d sessions are listed, want one", len(got))
	}
	awaitRedis(t, "the last key to go", func() bool { return len(redisKeys(t, client, prefix)) == 0 })
	if _, err := store.Load(t.Context(), rec.ID); !errors.Is(err, tokensession.ErrNotFound) {
		t.Errorf("Load: %v, want ErrNotFound", err)
	}
}

// One instance whose clock is far ahead must not drop what others have noted, if Redis's clock is
// right.
func TestRedisClock_wrongInstanceDropsNothingOfOthers(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, _ := redisStore(t, client, redisstore.Config{})
	lives := redisCreate(t, store, newRedisRecord("alice"))
	end := redisSwap(t, store, redisRevoked(redisCreate(t, store, newRedisRecord("alice"))))
	for _, ahead := range []time.Duration{30 * 24 * time.Hour, -30 * 24 * time.Hour} {
		rec := newRedisRecord("alice")
		for _, at := range []*time.Time{&rec.AuthTime, &rec.CreatedAt, &rec.RotatedAt, &rec.ExpiresAt, &rec.MaxExpiresAt} {
			*at = at.Add(ahead)
		}
		redisCreate(t, store, rec)
		revoked := redisRevoked(rec)
		revoked.RevokedAt = rec.RotatedAt
		redisSwap(t, store, revoked)
	}
	if got := redisListed(t, store, "alice"); len(got) != 1 || got[0] != lives.ID {
		t.Errorf("alice has %v, want %s", got, lives.ID)
	}
	if at, ok := redisTold(t, store, end.RevokedAt)[end.ID]; !ok || !at.Equal(end.RevokedAt) {
		t.Errorf("the feed tells %v of a revocation, %v", ok, at)
	}
}

// Check names what a server lacks to be safe in a failover.
func TestRedisStore_checkOfReplicas(t *testing.T) {
	for kind, binary := range map[string]string{"Redis": "", "Valkey": servers.ValkeyServer(t)} {
		t.Run(kind, func(t *testing.T) {
			master := servers.StartRedis(t, servers.RedisOptions{Binary: binary, AppendFsync: "everysec"})
			store, _ := redisStore(t, master.Client(nil), redisstore.Config{})
			if err := store.Check(t.Context()); err != nil {
				t.Errorf("without replicas: %v", err)
			}
			master.StartReplica()
			set := func(name, value string) {
				if err := master.Client(nil).ConfigSet(t.Context(), name, value).Err(); err != nil {
					t.Fatal(err)
				}
			}
			bad := func(when string) {
				if err := store.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "min-replicas-to-write 1") {
					t.Errorf("%s: %v, want it to name the setting", when, err)
				}
			}
			bad("with a replica")
			set("min-replicas-to-write", "1")
			if err := store.Check(t.Context()); err != nil {
				t.Errorf("with a replica and min-replicas-to-write 1: %v", err)
			}
			set("min-replicas-max-lag", "0")
			bad("with min-replicas-max-lag 0, which turns it off")
		})
	}
}

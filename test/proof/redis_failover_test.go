package proof_test

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// A replica is promoted, and an instance still talks to the old master, which was cut off from it.
// That one knows nothing of the sessions that began since, and must not call them unknown.
func TestRedisFailover_oldMasterSaysNothingOfWhatItDoesNotKnow(t *testing.T) {
	for name, binary := range map[string]string{"Redis": "", "Valkey": servers.ValkeyServer(t)} {
		t.Run(name, func(t *testing.T) {
			master := servers.StartRedis(t, servers.RedisOptions{Binary: binary, AppendFsync: "everysec", Args: []string{"--repl-timeout", "60"}})
			replica := master.StartReplica()
			if err := master.Client(nil).ConfigSet(t.Context(), "min-replicas-to-write", "1").Err(); err != nil {
				t.Fatal(err)
			}
			oldStore, prefix := redisStore(t, master.Client(&redis.Options{MaxRetries: -1}), redisstore.Config{})
			newStore, _ := redisStore(t, replica.Client(nil), redisstore.Config{Prefix: prefix})
			key, err := tokensession.GenerateKey()
			if err != nil {
				t.Fatal(err)
			}
			behind, ahead := redisManagerOf(t, key, oldStore, tokensession.Config{}), redisManagerOf(t, key, newStore, tokensession.Config{})

			before, err := behind.Start(t.Context(), "alice")
			if err != nil {
				t.Fatal(err)
			}
			for _, one := range []struct {
				subject string
				logins  int
			}{{"carol", 1}, {"dave", 20}} { // the old master knows that all of theirs are over
				for range one.logins {
					if _, err := behind.Start(t.Context(), one.subject); err != nil {
						t.Fatal(err)
					}
				}
				if n, err := behind.RevokeSubject(t.Context(), one.subject); n != one.logins || err != nil {
					t.Fatalf("RevokeSubject: %d, %v", n, err)
				}
			}
			_, err = behind.RevokeSubject(t.Context(), "nobody") // empty, and confirmed
			if err != nil {
				t.Fatalf("with a replica: %v", err)
			}
			if _, err := behind.Refresh(t.Context(), redisForged(t)); !errors.Is(err, tokensession.ErrInvalidToken) {
				t.Fatalf("a forged token, with a replica: %v", err)
			}
			master.AwaitReplicas(1)
			replica.Promote() // the old master keeps running, without a replica
			awaitRedis(t, "the old master to miss its replica", func() bool {
				return strings.Contains(master.Client(nil).Info(t.Context(), "replication").Val(), "min_slaves_good_slaves:0")
			})

			after, err := ahead.Start(t.Context(), "bob")
			if err != nil {
				t.Fatal(err)
			}
			for _, subject := range []string{"carol", "dave"} {
				if _, err := ahead.Start(t.Context(), subject); err != nil {
					t.Fatal(err)
				}
				if n, err := behind.RevokeSubject(t.Context(), subject); !errors.Is(err, tokensession.ErrUnavailable) {
					t.Errorf("RevokeSubject, of one who has logged in again: %d, %v, want ErrUnavailable", n, err)
				}
			}
			_, refreshErr := behind.Refresh(t.Context(), after.RefreshToken)
			_, subjectErr := behind.RevokeSubject(t.Context(), "bob")
			_, sessionsErr := behind.Sessions(t.Context(), "bob")
			_, liveErr := behind.VerifyLive(t.Context(), after.AccessToken)
			_, introspectErr := behind.Introspect(t.Context(), after.AccessToken)
			for call, err := range map[string]error{
				"Refresh": refreshErr, "RevokeSubject": subjectErr, "Sessions": sessionsErr,
				"VerifyLive": liveErr, "Introspect": introspectErr,
				"RevokeToken, of a refresh token": behind.RevokeToken(t.Context(), after.RefreshToken),
				"RevokeToken, of an access token": behind.RevokeToken(t.Context(), after.AccessToken),
				"Revoke":                          behind.Revoke(t.Context(), after.Session.ID),
			} {
				if !errors.Is(err, tokensession.ErrUnavailable) || errors.Is(err, tokensession.ErrInvalidToken) {
					t.Errorf("%s: %v, want ErrUnavailable", call, err)
				}
			}
			next := redisRotated(newRedisRecord("bob"))
			next.ID = after.Session.ID
			_, feedErr := redisToldOr(t, oldStore, after.Session.CreatedAt)
			redisCouldNotTell(t, "Revocations", feedErr, "min-replicas-to-write")
			redisCouldNotTell(t, "Swap", oldStore.Swap(t.Context(), next), "min-replicas-to-write")

			// What the old master does know is read, and cannot be changed.
			if _, err := behind.VerifyLive(t.Context(), before.AccessToken); err != nil {
				t.Errorf("VerifyLive of an old session: %v", err)
			}
			if _, err := behind.Refresh(t.Context(), before.RefreshToken); !errors.Is(err, tokensession.ErrUnavailable) {
				t.Errorf("Refresh of an old session: %v, want ErrUnavailable", err)
			}
			if _, err := ahead.Refresh(t.Context(), after.RefreshToken); err != nil {
				t.Errorf("Refresh where the session is: %v", err)
			}
		})
	}
}

// The old master has become a replica, and a client still asks it.
func TestRedisFailover_replicaSaysNothingOfWhatItDoesNotKnow(t *testing.T) {
	master := servers.StartRedis(t, servers.RedisOptions{})
	replica := master.StartReplica()
	store, _ := redisStore(t, replica.Client(&redis.Options{MaxRetries: -1}), redisstore.Config{})
	_, loadErr := store.Load(t.Context(), redisID())
	_, listErr := store.List(t.Context(), "nobody")
	_, feedErr := redisToldOr(t, store, time.Now())
	for call, err := range map[string]error{
		"Load": loadErr, "List": listErr, "Revocations": feedErr, "Swap": store.Swap(t.Context(), redisRotated(newRedisRecord("nobody"))),
	} {
		redisCouldNotTell(t, call, err, "connect to the master")
	}
}

// A list is made of more than one answer: the index may be on a node that is well, and a session on
// one that is no longer the master.
func TestRedisFailover_listIsNoShorterForANodeThatCannotTell(t *testing.T) {
	master := servers.StartRedis(t, servers.RedisOptions{})
	store, prefix := redisStore(t, master.Client(nil), redisstore.Config{})
	for range 40 {
		redisCreate(t, store, newRedisRecord("alice"))
	}
	lost := redisCreate(t, store, newRedisRecord("alice"))
	if err := master.Client(nil).Del(t.Context(), prefix+":session:"+lost.ID).Err(); err != nil {
		t.Fatal(err)
	}
	if got := redisListed(t, store, "alice"); len(got) != 40 {
		t.Errorf("%d sessions are listed, want 40", len(got))
	}
	if err := master.Client(nil).ConfigSet(t.Context(), "min-replicas-to-write", "1").Err(); err != nil {
		t.Fatal(err)
	}
	_, err := store.List(t.Context(), "alice")
	redisCouldNotTell(t, "List", err, "min-replicas-to-write")
}

// Forged tokens must not cost more than other tokens: their absence is confirmed in the same round
// trip, by the command that every read has.
func TestRedisFailover_unknownSessionsCostWhatOthersCost(t *testing.T) {
	redisKinds(t, func(t *testing.T, client redis.UniversalClient) {
		store, _ := redisStore(t, client, redisstore.Config{})
		rec := redisCreate(t, store, newRedisRecord("alice"))
		spy := new(redisSpy)
		client.AddHook(spy)
		cost := func(id func() string, want error) (n int) {
			spy.take()
			var wg sync.WaitGroup
			for range 100 {
				wg.Go(func() {
					if _, err := store.Load(t.Context(), id()); !errors.Is(err, want) {
						t.Errorf("Load: %v, want %v", err, want)
					}
				})
			}
			wg.Wait()
			_, commands := spy.take()
			for _, command := range commands {
				if command, _, _ := strings.Cut(command, " "); command != "hello" && command != "client" { // of a new connection
					n++
				}
			}
			return n
		}
		known := cost(func() string { return rec.ID }, nil)
		unknown := cost(redisID, tokensession.ErrNotFound)
		if known != 200 || unknown != 200 {
			t.Errorf("100 sessions cost %d commands, and 100 unknown ones %d, want 200 each", known, unknown)
		}
	})
}

// Where memory is short, what is unknown is still unknown, and no failure.
func TestRedisFailover_confirmsWithoutMemory(t *testing.T) {
	redisOwnKinds(t, func(t *testing.T, client redis.UniversalClient) {
		store, _ := redisStore(t, client, redisstore.Config{})
		for _, node := range redisMasters(t, client) {
			if err := node.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { node.ConfigSet(t.Context(), "maxmemory", "0") })
		}
		if _, err := store.Load(t.Context(), redisID()); !errors.Is(err, tokensession.ErrNotFound) {
			t.Errorf("Load: %v, want ErrNotFound", err)
		}
		if err := store.Swap(t.Context(), redisRotated(newRedisRecord("nobody"))); !errors.Is(err, tokensession.ErrNotFound) {
			t.Errorf("Swap: %v, want ErrNotFound", err)
		}
		if recs, err := store.List(t.Context(), "nobody"); err != nil || len(recs) != 0 {
			t.Errorf("List: %v, %v", recs, err)
		}
	})
}

// After a failover that lost writes, another write can have made the same version.
func TestRedisStore_swapComparesTheWriteToo(t *testing.T) {
	store, _ := redisStore(t, redisClient(t, servers.RedisAddr(t), nil), redisstore.Config{})
	rec := redisCreate(t, store, newRedisRecord("alice"))
	for _, replaces := range []string{"", redisID(), rec.WriteID[:21], rec.WriteID + "A", strings.Repeat("w", 200)} {
		for _, next := range []tokensession.Record{redisRotated(rec), redisRevoked(rec)} {
			next.Replaces = replaces
			if err := store.Swap(t.Context(), next); !errors.Is(err, tokensession.ErrConflict) {
				t.Errorf("Swap that replaces %q: %v, want ErrConflict", replaces, err)
			}
		}
	}
	redisSwap(t, store, redisRotated(rec))
}

// redisForged returns a refresh token of a session that is nowhere.
func redisForged(t *testing.T) string {
	t.Helper()
	m := redisManager(t, tokensession.NewMemoryStore(), tokensession.Config{})
	tokens, err := m.Start(t.Context(), "mallory")
	if err != nil {
		t.Fatal(err)
	}
	return tokens.RefreshToken
}

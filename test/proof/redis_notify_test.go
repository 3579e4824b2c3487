package proof_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// redisNotified fails the test unless Notified returns nil within some time.
func redisNotified(t *testing.T, store *redisstore.Store, when string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := store.Notified(ctx); err != nil {
		t.Fatalf("%s: Notified: %v", when, err)
	}
}

// redisQuiet fails the test if Notified returns before the time is over.
func redisQuiet(t *testing.T, store *redisstore.Store, when string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := store.Notified(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: Notified: %v, want to wait", when, err)
	}
}

func TestRedisNotified_returnsWhenThereIsNews(t *testing.T) {
	redisKinds(t, func(t *testing.T, client redis.UniversalClient) {
		writer, prefix := redisStore(t, client, redisstore.Config{})
		reader, _ := redisStore(t, client, redisstore.Config{Prefix: prefix})
		redisNotified(t, reader, "a new connection")
		redisQuiet(t, reader, "nothing happened")

		rec := redisCreate(t, writer, newRedisRecord("alice"))
		rec = redisSwap(t, writer, redisRotated(rec))
		redisQuiet(t, reader, "a login and a refresh")

		outdated := redisRotated(rec)
		outdated.Epoch, outdated.OutdatedAt = 1, outdated.RotatedAt
		rec = redisSwap(t, writer, outdated)
		redisNotified(t, reader, "access tokens outdated")
		rec = redisSwap(t, writer, redisRotated(rec))
		redisQuiet(t, reader, "a refresh of a session that was outdated before")

		for range 3 { // between two calls
			redisSwap(t, writer, redisRevoked(redisCreate(t, writer, newRedisRecord("alice"))))
		}
		redisNotified(t, reader, "revoked between two calls")
		redisQuiet(t, reader, "all of it was told at once")

		waiting := make(chan error, 1)
		go func() { waiting <- reader.Notified(t.Context()) }()
		redisWait(300 * time.Millisecond)
		end := redisRevoked(rec)
		redisSwap(t, writer, end)
		began := time.Now()
		if err := <-waiting; err != nil {
			t.Errorf("Notified: %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("a call that waited returned after %v", took)
		}
		if _, ok := redisTold(t, reader, end.RevokedAt)[rec.ID]; !ok {
			t.Error("there is news, and the feed does not tell it")
		}
	})
}

// What the feed tells of a session whose access tokens are outdated, and may be once more.
func TestRedisFeed_tellsEpochs(t *testing.T) {
	redisKinds(t, func(t *testing.T, client redis.UniversalClient) {
		store, _ := redisStore(t, client, redisstore.Config{})
		rec := redisCreate(t, store, newRedisRecord("alice"))
		tell := func() (told []tokensession.Revocation) {
			err := store.Revocations(t.Context(), rec.CreatedAt, func(page []tokensession.Revocation) error {
				told = append(told, page...)
				return nil
			})
			if err != nil {
				t.Fatal(err)
			}
			return told
		}
		for epoch := range uint64(3) {
			next := redisRotated(rec)
			next.Epoch, next.OutdatedAt = 1<<60+epoch, next.RotatedAt.Add(time.Duration(epoch)*time.Second)
			rec = redisSwap(t, store, next)
			want := []tokensession.Revocation{{SessionID: rec.ID, At: rec.OutdatedAt, Epoch: rec.Epoch}}
			for range 2 {
				if got := tell(); !slices.Equal(got, want) {
					t.Errorf("told %v, want %v", got, want)
				}
			}
			rec = redisSwap(t, store, redisRotated(rec))
			if got := tell(); !slices.Equal(got, want) {
				t.Errorf("after a refresh: told %v, want %v", got, want)
			}
		}
		end := redisSwap(t, store, redisRevoked(rec))
		want := []tokensession.Revocation{{SessionID: rec.ID, At: end.RevokedAt}}
		if got := tell(); !slices.Equal(got, want) {
			t.Errorf("revoked: told %v, want %v", got, want)
		}
	})
}

// A connection that ends is an error, because news may be lost meanwhile; the next one counts as
// news.
func TestRedisNotified_survivesItsConnection(t *testing.T) {
	redisOwnKinds(t, func(t *testing.T, client redis.UniversalClient) {
		store, _ := redisStore(t, client, redisstore.Config{})
		redisNotified(t, store, "a new connection")
		redisQuiet(t, store, "nothing happened")
		kill := func() {
			for _, master := range redisMasters(t, client) {
				if err := master.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		kill()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := store.Notified(ctx); err == nil {
			t.Log("it had a new connection at once")
		} else {
			redisCouldNotTell(t, "Notified", err, "wait for news")
			redisNotified(t, store, "after its connection ended")
		}
		redisQuiet(t, store, "nothing happened since")
		redisSwap(t, store, redisRevoked(redisCreate(t, store, newRedisRecord("alice"))))
		redisNotified(t, store, "a revocation on the new connection")
	})
}

func TestRedisNotified_endsWithItsContextAndLeavesNoConnection(t *testing.T) {
	redisOwnKinds(t, func(t *testing.T, client redis.UniversalClient) {
		store, _ := redisStore(t, client, redisstore.Config{})
		subscribed := func() (n int) {
			for _, master := range redisMasters(t, client) {
				n += strings.Count(master.Do(t.Context(), "CLIENT", "LIST", "TYPE", "pubsub").String(), "addr=")
			}
			return n
		}
		ctx, cancel := context.WithCancel(t.Context())
		if err := store.Notified(ctx); err != nil {
			t.Fatal(err)
		}
		var calls sync.WaitGroup
		for range 3 { // several calls share one connection
			calls.Go(func() {
				if err := store.Notified(ctx); !errors.Is(err, context.Canceled) {
					t.Errorf("Notified: %v, want context.Canceled", err)
				}
			})
		}
		redisWait(300 * time.Millisecond)
		if n := subscribed(); n == 0 || n > 2 {
			t.Errorf("%d connections are subscribed, want one", n)
		}
		cancel()
		calls.Wait()
		awaitRedis(t, "the connection to be closed", func() bool { return subscribed() == 0 })
	})
}

func TestRedisNotified_failsWhereItCannotWork(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	admin := server.Client(nil)
	err := admin.Do(t.Context(), "ACL", "SETUSER", "deaf", "on", ">deaf", "~*", "+@all", "resetchannels").Err()
	if err != nil {
		t.Fatal(err)
	}
	store, _ := redisStore(t, server.Client(&redis.Options{Username: "deaf", Password: "deaf"}), redisstore.Config{})
	for range 2 {
		redisCouldNotTell(t, "Notified", store.Notified(t.Context()), "ACL rule")
	}
	end := redisRevoked(redisCreate(t, store, newRedisRecord("alice")))
	redisSwap(t, store, end) // is written all the same
	if _, ok := redisTold(t, store, end.RevokedAt)[end.ID]; !ok {
		t.Error("not told")
	}
	server.Kill()
	redisCouldNotTell(t, "Notified", store.Notified(t.Context()), "")
}

// The slot of the feed moves to another node.
func TestRedisNotified_followsItsSlot(t *testing.T) {
	cluster := servers.StartRedisCluster(t, servers.RedisOptions{})
	client := cluster.Client(nil)
	store, prefix := redisStore(t, client, redisstore.Config{})
	redisNotified(t, store, "a new connection")
	redisQuiet(t, store, "nothing happened")
	cluster.MoveSlot(prefix + ":revoked")
	awaitRedis(t, "a revocation to be heard on the new node", func() bool {
		redisSwap(t, store, redisRevoked(redisCreate(t, store, newRedisRecord("alice"))))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return store.Notified(ctx) == nil
	})
	awaitRedis(t, "quiet", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		return errors.Is(store.Notified(ctx), context.DeadlineExceeded)
	})
	redisSwap(t, store, redisRevoked(redisCreate(t, store, newRedisRecord("alice"))))
	redisNotified(t, store, "a revocation after the slot has moved")
}

// The feed is read in pages, of which each begins at a time. None is left out where very many
// sessions were revoked at one time, or where they move while the feed is read.
func TestRedisFeed_pagesLeaveNothingOut(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisstore.Config{})
	now := time.Now().UTC().Truncate(time.Microsecond)
	want := make(map[string]time.Time)
	_, err := client.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		for i := range 7000 {
			at := now.Add(time.Duration(i) * time.Millisecond)
			if i > 2000 && i < 5500 {
				at = now.Add(3 * time.Second)
			}
			id := redisID()
			want[id] = at
			p.ZAdd(t.Context(), prefix+":revoked", redis.Z{Score: float64(at.UnixMicro()), Member: id})
			p.HSet(t.Context(), prefix+":session:"+id, "revoked_at", at.Format(time.RFC3339Nano), "0", "\x00\x00\x01")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		told := make(map[string]int)
		pages := 0
		err := store.Revocations(t.Context(), now, func(page []tokensession.Revocation) error {
			pages++
			for _, r := range page {
				told[r.SessionID]++
				if !r.At.Equal(want[r.SessionID]) {
					t.Errorf("told at %v, want %v", r.At, want[r.SessionID])
				}
			}
			// What is told later is announced once more, and so moves to the end.
			for id := range want {
				if told[id] == 0 {
					score := float64(now.Add(time.Hour + time.Duration(pages)*time.Second).UnixMicro())
					return client.ZAdd(t.Context(), prefix+":revoked", redis.Z{Score: score, Member: id}).Err()
				}
			}
			return nil
		})
		if err != nil || len(told) != len(want) || pages < 4 {
			t.Errorf("told %d of %d in %d pages, %v", len(told), len(want), pages, err)
		}
		for id, n := range told {
			if n != 1 {
				t.Errorf("%s is told %d times", id, n)
			}
		}
	}
	stop := errors.New("enough")
	if err := store.Revocations(t.Context(), now, func([]tokensession.Revocation) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("Revocations: %v, want the page's error", err)
	}
}

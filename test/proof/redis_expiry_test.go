package proof_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// redisAtOnce drops records as soon as they expire.
var redisAtOnce = redisstore.Config{KeepExpired: time.Millisecond}

// redisLasting returns a record that lives for so long unless it is refreshed, and has no last end.
func redisLasting(subject string, lifetime time.Duration) tokensession.Record {
	rec := newRedisRecord(subject)
	rec.ExpiresAt, rec.MaxExpiresAt = rec.CreatedAt.Add(lifetime), time.Time{}
	return rec
}

// redisWait returns after d.
func redisWait(d time.Duration) { <-time.After(d) }

func TestRedisExpiry_leavesNothingBehind(t *testing.T) {
	redisKinds(t, func(t *testing.T, client redis.UniversalClient) {
		store, prefix := redisStore(t, client, redisAtOnce)
		for i := range 10 {
			rec := redisCreate(t, store, redisLasting("alice", 3*time.Second))
			if i%2 == 0 {
				redisCreate(t, store, redisLasting("user "+strconv.Itoa(i), 2*time.Second))
				redisSwap(t, store, redisRotated(rec))
			}
			redisCreate(t, store, redisLasting("expired before", -time.Hour))
		}
		if n := len(redisKeys(t, client, prefix)); n < 10+5 {
			t.Fatalf("only %d keys: nothing would be shown", n)
		}
		awaitRedis(t, "the last key to go", func() bool { return len(redisKeys(t, client, prefix)) == 0 })
	})
}

// Every key ends by itself, those of revocations a day later.
func TestRedisExpiry_everyKeyHasAnEnd(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisstore.Config{})
	redisSwap(t, store, redisRotated(redisCreate(t, store, newRedisRecord("alice"))))
	redisSwap(t, store, redisRevoked(redisCreate(t, store, newRedisRecord("bob"))))
	noEnd := newRedisRecord("carol")
	noEnd.MaxExpiresAt = time.Time{}
	redisCreate(t, store, noEnd)
	for _, key := range redisKeys(t, client, prefix) {
		ttl, err := client.PTTL(t.Context(), key).Result()
		if err != nil || ttl < 24*time.Hour || ttl > 9*24*time.Hour {
			t.Errorf("%s ends in %v, %v", key, ttl, err)
		}
	}
}

func TestRedisExpiry_keepsARecordUntilItsEnd(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	for _, keep := range []time.Duration{time.Millisecond, 1500 * time.Microsecond, time.Minute} {
		store, prefix := redisStore(t, client, redisstore.Config{KeepExpired: keep})
		for _, fraction := range []time.Duration{0, time.Microsecond, 999 * time.Microsecond} {
			rec := newRedisRecord("alice")
			rec.ExpiresAt = rec.ExpiresAt.Truncate(time.Millisecond).Add(fraction)
			redisCreate(t, store, rec)
			took := time.Since(rec.CreatedAt) // Redis's clock may have been ahead by that, as far as it can tell
			at, err := client.PExpireTime(t.Context(), prefix+":session:"+rec.ID).Result()
			if err != nil {
				t.Fatal(err)
			}
			if ends := time.UnixMilli(at.Milliseconds()); ends.Before(rec.ExpiresAt.Add(keep)) || ends.After(rec.ExpiresAt.Add(keep+took+2*time.Millisecond)) {
				t.Errorf("the end is %v, and Redis drops it at %v with %v to keep", rec.ExpiresAt, ends.UTC(), keep)
			}
		}
	}
}

// What has expired already is accepted and dropped, and does not take the subject's other sessions
// along.
func TestRedisExpiry_acceptsWhatHasExpired(t *testing.T) {
	redisKinds(t, func(t *testing.T, client redis.UniversalClient) {
		store, prefix := redisStore(t, client, redisAtOnce)
		lives := redisCreate(t, store, newRedisRecord("alice"))
		for _, end := range []time.Time{time.Now().Add(-time.Second), time.Unix(0, 0), time.Unix(-1e9, 0), time.Time{}.Add(time.Microsecond)} {
			rec := newRedisRecord("alice")
			rec.ExpiresAt = end.UTC().Truncate(time.Microsecond)
			redisCreate(t, store, rec)
			if _, err := store.Load(t.Context(), rec.ID); !errors.Is(err, tokensession.ErrNotFound) {
				t.Errorf("created with end %v: Load: %v", end, err)
			}
			rec = redisCreate(t, store, newRedisRecord("alice"))
			next := redisRotated(rec)
			next.ExpiresAt = end.UTC().Truncate(time.Microsecond)
			redisSwap(t, store, next)
			if _, err := store.Load(t.Context(), rec.ID); !errors.Is(err, tokensession.ErrNotFound) {
				t.Errorf("swapped to end %v: Load: %v", end, err)
			}
		}
		if got := redisListed(t, store, "alice"); !slices.Equal(got, []string{lives.ID}) {
			t.Errorf("alice has %v, want %s", got, lives.ID)
		}
		if keys := redisKeys(t, client, prefix); len(keys) != 2 {
			t.Errorf("left: %v", keys)
		}
	})
}

// A session that is refreshed for ever must never be lost from its subject's index, though the
// index has an end, and must not cost a look at the index every time.
func TestRedisExpiry_slidingSessionStaysListed(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisAtOnce)
	const lifetime = 3 * time.Second
	rec := redisCreate(t, store, redisLasting("alice", lifetime))
	short := redisCreate(t, store, redisLasting("alice", lifetime/4)) // its end is not that of the index
	redisSwap(t, store, redisRotated(rec))
	rec, err := store.Load(t.Context(), rec.ID)
	if err != nil {
		t.Fatal(err)
	}
	spy := new(redisSpy)
	client.AddHook(spy)
	swaps, renewals := 0, 0
	for started := time.Now(); time.Since(started) < 3*lifetime; swaps++ {
		rec = redisSwap(t, store, redisRotated(rec))
		_, commands := spy.take()
		for _, c := range commands {
			if c == "evalsha subject" {
				renewals++
			}
		}
		if got := redisListed(t, store, "alice"); !slices.Contains(got, rec.ID) {
			t.Fatalf("after %v and %d refreshes: %v", time.Since(started), swaps+1, got)
		}
		spy.take()
		redisWait(20 * time.Millisecond)
	}
	t.Logf("%d refreshes, %d of them renewed the index", swaps, renewals)
	if renewals < 6 || renewals > 18 { // 12: a quarter of a lifetime ahead, during three
		t.Errorf("%d of %d refreshes renewed the index, want about 12", renewals, swaps)
	}
	if n, err := client.ZCard(t.Context(), prefix+":subject:alice").Result(); err != nil || n != 1 {
		t.Errorf("the index has %d entries, %v: that of %s was to go", n, err, short.ID)
	}
	awaitRedis(t, "the last key to go", func() bool { return len(redisKeys(t, client, prefix)) == 0 })
}

// A failover of one of a Cluster's nodes may lose an entry of the index, and not its session. A
// failover loses the index alone. It is back when a quarter of the session's life has passed, also
// of one that no refresh prolongs any more.
func TestRedisExpiry_refreshBringsALostIndexBack(t *testing.T) {
	for name, lifetime := range map[string]time.Duration{"sliding": 2 * time.Second, "absolute": 10 * time.Second} {
		t.Run(name, func(t *testing.T) {
			client := redisClient(t, servers.RedisAddr(t), nil)
			store, prefix := redisStore(t, client, redisAtOnce)
			rec := redisLasting(name, lifetime)
			if name == "absolute" {
				rec.MaxExpiresAt = rec.ExpiresAt
			}
			redisCreate(t, store, rec)
			if err := client.Del(t.Context(), prefix+":subject:"+name).Err(); err != nil {
				t.Fatal(err)
			}
			awaitRedis(t, "the session to be listed again", func() bool {
				next := redisRotated(rec)
				if !rec.MaxExpiresAt.IsZero() {
					next.ExpiresAt = rec.MaxExpiresAt
				}
				rec = redisSwap(t, store, next)
				return slices.Contains(redisListed(t, store, name), rec.ID)
			})
		})
	}
}

// A subject who logs in all day and whose sessions nobody lists must not fill the index.
func TestRedisExpiry_loginsAloneKeepTheIndexShort(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisAtOnce)
	longest := int64(0)
	for started := time.Now(); time.Since(started) < 2*time.Second; redisWait(5 * time.Millisecond) {
		redisCreate(t, store, redisLasting("robot", 100*time.Millisecond))
		n, err := client.ZCard(t.Context(), prefix+":subject:robot").Result()
		if err != nil {
			t.Fatal(err)
		}
		longest = max(longest, n)
	}
	if longest > 30 { // 125 ms at one each 5 ms
		t.Errorf("the index had %d entries", longest)
	}
}

func TestRedisExpiry_sessionsRevokedLongAgoLeaveTheIndex(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisstore.Config{})
	lives := redisCreate(t, store, newRedisRecord("alice"))
	lately := redisCreate(t, store, newRedisRecord("alice"))
	redisSwap(t, store, redisRevoked(lately))
	for i := range 600 { // more than a batch
		rec := newRedisRecord("alice")
		rec.RevokedAt = time.Now().Add(-61 * time.Minute).UTC().Truncate(time.Microsecond)
		rec.RevokeReason = tokensession.Reason(fmt.Sprint(i))
		redisCreate(t, store, rec)
	}
	redisListed(t, store, "alice")
	ids, err := client.ZRange(t.Context(), prefix+":subject:alice", 0, -1).Result()
	slices.Sort(ids)
	want := []string{lives.ID, lately.ID}
	slices.Sort(want)
	if err != nil || !slices.Equal(ids, want) {
		t.Errorf("the index has %d entries, %v, want the two that live or did an hour ago", len(ids), err)
	}
}

func TestRedisFeed_tellsEachRevocationOfTheLastDay(t *testing.T) {
	redisKinds(t, func(t *testing.T, client redis.UniversalClient) {
		store, _ := redisStore(t, client, redisstore.Config{})
		now := time.Now().UTC().Truncate(time.Microsecond)
		at := make(map[string]time.Time)
		for _, age := range []time.Duration{ // in no order: the clocks of instances differ
			-time.Hour, 5 * time.Second, 24*time.Hour - time.Minute, 0, time.Hour, 23 * time.Hour, -time.Minute, 10 * time.Minute,
		} {
			rec := redisCreate(t, store, newRedisRecord("alice"))
			end := redisRevoked(rec)
			end.RevokedAt = now.Add(-age)
			redisSwap(t, store, end)
			at[rec.ID] = end.RevokedAt
		}
		for range 1200 { // more than a batch, on every part
			rec := newRedisRecord("bob")
			rec.RevokedAt = now.Add(-30 * time.Minute)
			at[redisCreate(t, store, rec).ID] = rec.RevokedAt
		}
		for _, since := range []time.Time{{}, now.Add(-24 * time.Hour), now.Add(-time.Hour), now, now.Add(time.Microsecond), now.Add(2 * time.Hour), now.Add(-time.Hour)} {
			got := redisTold(t, store, since)
			for id, revokedAt := range at {
				if toldAt, ok := got[id]; revokedAt.Before(since) == ok || ok && !toldAt.Equal(revokedAt) {
					t.Errorf("since %v: revoked at %v, told %v of %v", since, revokedAt, ok, toldAt)
				}
			}
			for id := range got {
				if _, ok := at[id]; !ok {
					t.Errorf("since %v: %s was not revoked", since, id)
				}
			}
		}
	})
}

func TestRedisFeed_forgetsWhatIsOlderThanADay(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisstore.Config{})
	for age := range 40 {
		for range 8 {
			rec := newRedisRecord("alice")
			rec.RevokedAt = rec.CreatedAt.Add(-time.Duration(39-age) * time.Hour)
			redisCreate(t, store, rec)
		}
	}
	total := int64(0)
	for _, key := range redisKeys(t, client, prefix) {
		if kind, err := client.Type(t.Context(), key).Result(); err != nil || kind != "zset" || key == prefix+":subject:alice" {
			continue
		}
		n, err := client.ZCard(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		total += n
	}
	if total != 8*25 {
		t.Errorf("the feed has %d entries, want those of 25 hours, 8 an hour", total)
	}
}

// A session that has expired needs no telling.
func TestRedisFeed_bearsSessionsThatHaveExpired(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisAtOnce)
	fresh, _ := redisStore(t, client, redisstore.Config{Prefix: prefix})
	rec := redisCreate(t, store, redisLasting("alice", time.Second))
	end := redisRevoked(rec)
	redisSwap(t, store, end)
	if _, ok := redisTold(t, store, end.RevokedAt)[rec.ID]; !ok {
		t.Fatal("not told")
	}
	awaitRedis(t, "the session to expire", func() bool {
		_, err := store.Load(t.Context(), rec.ID)
		return errors.Is(err, tokensession.ErrNotFound)
	})
	redisTold(t, store, end.RevokedAt)
	redisTold(t, fresh, end.RevokedAt)
}

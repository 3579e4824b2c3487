package proof_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// What a session with two attributes takes, with its entry in the index of its user.
func TestRedisStore_aSessionTakesLittleRoom(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisstore.Config{Prefix: "tokensession"})
	m := redisManager(t, store, tokensession.Config{})
	const sessions = 200
	for i := range sessions {
		tokens, err := m.Start(t.Context(), fmt.Sprintf("user-%010d", i), tokensession.WithAttributes(map[string]string{
			"device": "Firefox on Linux", "ip": "198.51.100.7",
		}))
		for range 3 {
			if err == nil {
				tokens, err = m.Refresh(t.Context(), tokens.RefreshToken)
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	bytes := int64(0)
	for _, key := range redisKeys(t, client, prefix) {
		n, err := client.MemoryUsage(t.Context(), key).Result()
		if err != nil {
			t.Fatal(err)
		}
		bytes += n
	}
	t.Logf("%d bytes a session", bytes/sessions)
	if bytes > 450*sessions {
		t.Errorf("%d bytes a session, want at most 450", bytes/sessions)
	}
}

// A user who logs in and out again and again, a program most probably, makes no list slow: what is
// revoked is left out before it is loaded.
func TestRedisStore_listLoadsNothingThatIsRevoked(t *testing.T) {
	const ended = 2000
	redisKinds(t, func(t *testing.T, client redis.UniversalClient) {
		store, _ := redisStore(t, client, redisstore.Config{})
		for range ended {
			redisSwap(t, store, redisRevoked(redisCreate(t, store, newRedisRecord("alice"))))
		}
		lives := redisCreate(t, store, newRedisRecord("alice"))
		spy := new(redisSpy)
		client.AddHook(spy)
		began := time.Now()
		got := redisListed(t, store, "alice")
		t.Logf("listed in %v", time.Since(began))
		if len(got) != 1 || got[0] != lives.ID {
			t.Errorf("List: %v, want %s alone", got, lives.ID)
		}
		trips, commands := spy.take()
		loaded := 0
		for _, c := range commands {
			if c == "hgetall session" {
				loaded++
			}
		}
		if loaded != 1 || trips > 10 {
			t.Errorf("%d sessions were loaded in %d round trips, want one, in 10 at most", loaded, trips)
		}
	})
}

// A session that a later version has written is no verdict: its user stays logged in, and it stays
// as it is.
func TestRedisStore_leavesAloneWhatALaterVersionHasWritten(t *testing.T) {
	client := redisClient(t, servers.RedisAddr(t), nil)
	store, prefix := redisStore(t, client, redisstore.Config{})
	m := redisManager(t, store, tokensession.Config{})
	tokens, err := m.Start(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	key := prefix + ":session:" + tokens.Session.ID
	for name, place := range map[string]int{"of the value": 2, "of the record": 3} {
		data, err := client.HGet(t.Context(), key, "0").Bytes()
		if err != nil {
			t.Fatal(err)
		}
		later := append([]byte(nil), data...)
		later[place]++
		client.HSet(t.Context(), key, "0", later)
		before := client.Dump(t.Context(), key).Val()
		_, refresh := m.Refresh(t.Context(), tokens.RefreshToken)
		_, verify := m.VerifyLive(t.Context(), tokens.AccessToken)
		_, all := m.RevokeSubject(t.Context(), "alice")
		for call, err := range map[string]error{
			"Refresh": refresh, "VerifyLive": verify, "RevokeSubject": all,
			"Revoke":      m.Revoke(t.Context(), tokens.Session.ID),
			"RevokeToken": m.RevokeToken(t.Context(), tokens.RefreshToken),
		} {
			if !errors.Is(err, tokensession.ErrUnavailable) {
				t.Errorf("the next format %s: %s: %v, want ErrUnavailable", name, call, err)
			}
		}
		if client.Dump(t.Context(), key).Val() != before {
			t.Errorf("the next format %s: it was changed", name)
		}
		client.HSet(t.Context(), key, "0", data)
	}
	if _, err := m.Refresh(t.Context(), tokens.RefreshToken); err != nil {
		t.Errorf("Refresh where it can be read again: %v", err)
	}
}

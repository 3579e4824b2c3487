package proof_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
)

// redisEndByHand does what the README tells an operator to do.
func redisEndByHand(t *testing.T, client redis.UniversalClient, prefix, id, revokedAt string) any {
	t.Helper()
	text, err := os.ReadFile("../../redisstore/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), `redis-cli EVAL "`)
	script, rest, ok2 := strings.Cut(rest, `" 1 tokensession:session:$id`)
	if !ok || !ok2 || !strings.Contains(rest, `PUBLISH tokensession:revoked ""`) || !strings.Contains(string(text), "ZADD tokensession:revoked GT") {
		t.Fatal("the README does not say how to end a session by hand")
	}
	now := time.Now().UnixMicro()
	if err := client.Do(t.Context(), "ZADD", prefix+":revoked", "GT", now, id).Err(); err != nil {
		t.Fatal(err)
	}
	answer, err := client.Eval(t.Context(), script, []string{prefix + ":session:" + id}, revokedAt).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	publish := "PUBLISH"
	if _, ok := client.(*redis.ClusterClient); ok {
		publish = "SPUBLISH"
	}
	if err := client.Do(t.Context(), publish, prefix+":revoked", "").Err(); err != nil {
		t.Fatal(err)
	}
	return answer
}

func TestRedisByHand_endsASession(t *testing.T) {
	redisKinds(t, func(t *testing.T, client redis.UniversalClient) {
		store, prefix := redisStore(t, client, redisstore.Config{})
		m := redisManager(t, store, tokensession.Config{})
		tokens, err := m.Start(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		id := tokens.Session.ID
		before, err := store.Load(t.Context(), id)
		if err != nil {
			t.Fatal(err)
		}
		redisNotified(t, store, "a new connection")
		at := time.Now().UTC().Truncate(time.Second)
		if answer := redisEndByHand(t, client, prefix, id, at.Format(time.RFC3339)); answer != int64(2) {
			t.Errorf("the script answers %v, want the version 2", answer)
		}
		redisNotified(t, store, "ended by hand")
		if told := redisTold(t, store, at.Add(-time.Minute)); !told[id].Equal(at) {
			t.Errorf("the feed tells %v, want %v", told, at)
		}
		rec, err := store.Load(t.Context(), id)
		if err != nil || rec.Version != 2 || !rec.RevokedAt.Equal(at) || rec.RevokeReason != tokensession.ReasonRevoked {
			t.Errorf("%v revoked at %v for %q, %v", rec, rec.RevokedAt, rec.RevokeReason, err)
		}
		if err := store.Swap(t.Context(), redisRotated(before)); !errors.Is(err, tokensession.ErrConflict) {
			t.Errorf("a refresh under way: %v, want ErrConflict", err)
		}
		if err := store.Swap(t.Context(), redisRotated(rec)); !errors.Is(err, tokensession.ErrConflict) {
			t.Errorf("a write on the revoked session: %v, want ErrConflict", err)
		}
		if err := store.Create(t.Context(), before); !errors.Is(err, tokensession.ErrExists) {
			t.Errorf("the write before it, repeated: %v, want ErrExists", err)
		}
		if got := redisListed(t, store, "alice"); len(got) != 0 {
			t.Errorf("List: %v", got)
		}
		if _, err := m.Refresh(t.Context(), tokens.RefreshToken); !errors.Is(err, tokensession.ErrRevoked) {
			t.Errorf("Refresh: %v, want ErrRevoked", err)
		}
		if answer := redisEndByHand(t, client, prefix, id, "2000-01-01T00:00:00Z"); answer != nil {
			t.Errorf("ended once more: %v", answer)
		}
		if again, err := store.Load(t.Context(), id); err != nil || !again.RevokedAt.Equal(at) {
			t.Errorf("ended once more: revoked at %v, %v", again.RevokedAt, err)
		}

		unknown := redisID()
		redisEndByHand(t, client, prefix, unknown, at.Format(time.RFC3339))
		if n := client.Exists(t.Context(), prefix+":session:"+unknown).Val(); n != 0 {
			t.Error("a session that is not there has been made")
		}
		redisTold(t, store, at.Add(-time.Minute))

		wrong, err := m.Start(t.Context(), "bob")
		if err != nil {
			t.Fatal(err)
		}
		redisEndByHand(t, client, prefix, wrong.Session.ID, "yesterday")
		if at, ok := redisTold(t, store, at.Add(-time.Minute))[wrong.Session.ID]; !ok || !at.IsZero() {
			t.Errorf("a time that cannot be read is told: %v, at %v", ok, at)
		}
		if _, err := m.Refresh(t.Context(), wrong.RefreshToken); !errors.Is(err, tokensession.ErrUnavailable) {
			t.Errorf("Refresh: %v, want ErrUnavailable", err)
		}
		if _, err := m.RevokeSubject(t.Context(), "bob"); !errors.Is(err, tokensession.ErrUnavailable) {
			t.Errorf("RevokeSubject: %v, want ErrUnavailable", err)
		}
	})
}

// A score that is no time stands in one of the sorted sets, where somebody has put it. Sessions
// still end, and others hear of it; and users log in.
func TestRedisByHand_aScoreThatIsNoTimeSpoilsNothing(t *testing.T) {
	redisKinds(t, func(t *testing.T, client redis.UniversalClient) {
		for _, set := range []string{":revoked", ":subject:alice"} {
			for _, score := range []string{"+inf", "-inf", "1e300", "1e25", "-1e300", "0"} {
				store, prefix := redisStore(t, client, redisstore.Config{})
				m := redisManager(t, store, tokensession.Config{})
				if err := client.Do(t.Context(), "ZADD", prefix+set, score, redisID()).Err(); err != nil {
					t.Fatal(err)
				}
				tokens, err := m.Start(t.Context(), "alice")
				if err != nil {
					t.Errorf("%s in %s: Start: %v", score, set, err)
					continue
				}
				before := time.Now().Add(-time.Minute)
				if n, err := m.RevokeSubject(t.Context(), "alice"); n != 1 || err != nil {
					t.Errorf("%s in %s: RevokeSubject: %d, %v", score, set, n, err)
				}
				if _, ok := redisTold(t, store, before)[tokens.Session.ID]; !ok {
					t.Errorf("%s in %s: the feed does not tell it", score, set)
				}
				if ms, err := client.Do(t.Context(), "PTTL", prefix+set).Int64(); err != nil || ms <= 0 {
					t.Errorf("%s in %s: the set ends in %d ms, %v", score, set, ms, err)
				}
			}
		}
	})
}

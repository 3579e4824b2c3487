package redisstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/seed67bc9b7f/tokensession"
)

func newStore(t *testing.T, cfg Config) *Store {
	t.Helper()
	client := redis.NewClient(&redis.Options{Addr: "localhost:1"}) // nothing is sent
	t.Cleanup(func() { _ = client.Close() })
	s, err := New(client, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestNew_refusesClientsThatMayReadStaleSessions(t *testing.T) {
	addrs := []string{"localhost:1"}
	tests := map[string]struct {
		client redis.UniversalClient
		says   string
	}{
		"nil":                {nil, "nil"},
		"nil Client":         {(*redis.Client)(nil), "nil"},
		"nil ClusterClient":  {(*redis.ClusterClient)(nil), "nil"},
		"ReadOnly":           {redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, ReadOnly: true}), "ReadOnly"},
		"RouteByLatency":     {redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, RouteByLatency: true}), "RouteByLatency"},
		"RouteRandomly":      {redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, RouteRandomly: true}), "RouteRandomly"},
		"Sentinel replicas":  {redis.NewFailoverClusterClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: addrs, RouteRandomly: true}), "RouteRandomly"},
		"Ring":               {redis.NewRing(&redis.RingOptions{Addrs: map[string]string{"a": addrs[0]}}), "Ring"},
		"client-side cache":  {redis.NewClient(&redis.Options{Addr: addrs[0], ClientSideCacheConfig: &redis.ClientSideCacheConfig{}}), "cache"},
		"Cluster, master":    {redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs}), ""},
		"Sentinel, master":   {redis.NewFailoverClient(&redis.FailoverOptions{MasterName: "m", SentinelAddrs: addrs}), ""},
		"single":             {redis.NewClient(&redis.Options{Addr: addrs[0]}), ""},
		"universal, cluster": {redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"a:1", "b:1"}, ReadOnly: true}), "ReadOnly"},
	}
	for name, test := range tests {
		if test.client != nil && test.says != "nil" {
			defer func() { _ = test.client.Close() }()
		}
		_, err := New(test.client, Config{})
		switch {
		case test.says == "" && err != nil:
			t.Errorf("%s: %v", name, err)
		case test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)):
			t.Errorf("%s: %v, want an error that says %q", name, err, test.says)
		}
	}
}

func TestNew_refusesNegativeKeepExpired(t *testing.T) {
	client := redis.NewClient(&redis.Options{Addr: "localhost:1"})
	defer func() { _ = client.Close() }()
	if _, err := New(client, Config{KeepExpired: -1}); err == nil || !strings.Contains(err.Error(), "KeepExpired is -1ns") {
		t.Errorf("New: %v, want an error that names field and value", err)
	}
}

func TestDropAt_isNeverBeforeTheEnd(t *testing.T) {
	s := newStore(t, Config{KeepExpired: time.Millisecond})
	end := time.UnixMilli(1_000_000).UTC()
	for at, want := range map[time.Time]int64{
		end:                            1_000_001,
		end.Add(time.Microsecond):      1_000_002,
		end.Add(999 * time.Nanosecond): 1_000_002,
		end.Add(time.Millisecond):      1_000_002,
		{}:                             1,
	} {
		if got := s.dropAt(at); got != want {
			t.Errorf("dropAt(%v) = %d, want %d", at, got, want)
		}
	}
}

// Whatever record has the same mark as the one for which an entry was written, the entry is listed
// for longer than Redis keeps that record.
func TestMark_coversEveryRecordThatHasIt(t *testing.T) {
	s := newStore(t, Config{})
	random := rand.New(rand.NewPCG(1, 2))
	lifetimes := []time.Duration{0, time.Millisecond, 7 * time.Millisecond, 9 * time.Millisecond, time.Second, 3 * time.Second,
		time.Hour, 24 * time.Hour, 7 * 24 * time.Hour, 365 * 24 * time.Hour, 100 * 365 * 24 * time.Hour}
	same := 0
	for _, lifetime := range lifetimes {
		for range 2000 {
			first := tokensession.Record{RotatedAt: created.Add(time.Duration(random.Int64N(1 << 50)))}
			first.ExpiresAt = first.RotatedAt.Add(lifetime)
			until := s.listedUntil(first)
			next := first
			next.RotatedAt = first.RotatedAt.Add(time.Duration(random.Int64N(int64(lifetime) + 1e6)))
			next.ExpiresAt = next.RotatedAt.Add(lifetime + time.Duration(random.Int64N(int64(lifetime)/2+1)) - lifetime/4)
			for _, rec := range []tokensession.Record{first, next} {
				if markOf(rec) != markOf(first) {
					continue
				}
				same++
				if until < s.dropAt(rec.ExpiresAt) {
					t.Fatalf("an entry until %v, written for %v to %v, does not cover %v to %v", time.UnixMilli(until).UTC(),
						first.RotatedAt, first.ExpiresAt, rec.RotatedAt, rec.ExpiresAt)
				}
			}
			most := first.ExpiresAt.Add(lifetime/2 + 2*time.Millisecond + s.keepExpired)
			if lifetime > 96*time.Hour {
				most = first.ExpiresAt.Add(lifetime/4 + max(24*time.Hour, lifetime/100) + 2*time.Millisecond + s.keepExpired)
			}
			if time.UnixMilli(until).After(most) {
				t.Fatalf("an entry for %v is listed until %v, %v too long", lifetime, time.UnixMilli(until), time.UnixMilli(until).Sub(most))
			}
		}
	}
	if same < 2050*len(lifetimes) {
		t.Errorf("only %d records had the same mark: nothing was shown", same)
	}
}

func TestMark_changesWithTimeAndLifetime(t *testing.T) {
	day := 24 * time.Hour
	rec := tokensession.Record{RotatedAt: created, ExpiresAt: created.Add(7 * day)}
	for name, change := range map[string]func(*tokensession.Record){
		"a day later":      func(r *tokensession.Record) { r.RotatedAt, r.ExpiresAt = created.Add(day), created.Add(8*day) },
		"twice as long":    func(r *tokensession.Record) { r.ExpiresAt = created.Add(14 * day) },
		"half as long":     func(r *tokensession.Record) { r.ExpiresAt = created.Add(7 * day / 2) },
		"an absolute end":  func(r *tokensession.Record) { r.RotatedAt = created.Add(2 * day) },
		"expired long ago": func(r *tokensession.Record) { r.ExpiresAt = created.Add(-day) },
		"before 1970": func(r *tokensession.Record) {
			r.RotatedAt = time.Unix(-1, 0)
			r.ExpiresAt = r.RotatedAt.Add(7 * day)
		},
	} {
		other := rec
		change(&other)
		if markOf(other) == markOf(rec) {
			t.Errorf("%s: the same mark", name)
		}
	}
	never := tokensession.Record{CreatedAt: created, ExpiresAt: rec.ExpiresAt}
	if markOf(never) != markOf(rec) {
		t.Error("a record that was never refreshed counts from its creation")
	}
}

func TestClock_isThatOfTheWrite(t *testing.T) {
	for name, test := range map[string]struct {
		rec  tokensession.Record
		want time.Time
	}{
		"created":                   {tokensession.Record{CreatedAt: created}, created},
		"refreshed":                 {tokensession.Record{CreatedAt: created, RotatedAt: created.Add(time.Hour)}, created.Add(time.Hour)},
		"revoked":                   {tokensession.Record{RotatedAt: created, RevokedAt: created.Add(time.Hour)}, created.Add(time.Hour)},
		"revoked by a clock behind": {tokensession.Record{RotatedAt: created, RevokedAt: created.Add(-time.Hour)}, created},
	} {
		if got := clock(test.rec); got != test.want.UnixMilli() {
			t.Errorf("%s: %v, want %v", name, time.UnixMilli(got).UTC(), test.want)
		}
	}
	if got := time.UnixMilli(clock(tokensession.Record{})); got.Year() < 9999 {
		t.Errorf("a record without times was made at %v: Redis's clock would count as ahead", got)
	}
}

func TestSubjectKey_isAnotherForEachSubject(t *testing.T) {
	s := newStore(t, Config{})
	seen := make(map[string]string)
	for _, subject := range []string{"", " ", "+", "%20", "a", "A", "a:b", "a%3Ab", "{a}", "}{", "é", "e\u0301", "\xff", "\x00", "a\n"} {
		key := s.subjectKey(subject)
		if other, ok := seen[key]; ok {
			t.Errorf("%q and %q share the key %s", subject, other, key)
		}
		seen[key] = subject
		if strings.ContainsAny(strings.TrimPrefix(key, "tokensession:subject:"), ":{}\n\x00") {
			t.Errorf("subject %q is not escaped in the key %q", subject, key)
		}
	}
}

type reply string

func (r reply) Error() string { return string(r) }
func (r reply) RedisError()   {}

func TestFailure_saysWhatToDoAndKeepsTheCause(t *testing.T) {
	for text, says := range map[string]string{
		"READONLY You can't write against a read only replica. script: 4e1243bd22c66e76c2ba9eddc1f91394e57f9f83": "master",
		"ERR Error running script (call to f_x): @user_script:3: -READONLY You can't write":                      "master",
		"NOAUTH Authentication required.":                                                       "password",
		"WRONGPASS invalid username-password pair or user is disabled.":                         "Password",
		"NOPERM this user has no permissions to run the 'evalsha' command":                      "ACL rule",
		"ERR Protocol error: unauthenticated multibulk length":                                  "password",
		"MISCONF Redis is configured to save RDB snapshots, but":                                "disk",
		"OOM command not allowed when used memory > 'maxmemory'. script: 1":                     "maxmemory",
		"CLUSTERDOWN Hash slot not served":                                                      "CLUSTER INFO",
		"WRONGTYPE Operation against a key holding the wrong kind of value":                     "Prefix",
		"LOADING Redis is loading the dataset in memory":                                        "soon",
		"NOREPLICAS Not enough good replicas to write.":                                         "min-replicas-to-write",
		"BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE": "SCRIPT KILL",
		"ERR unknown command 'EVALSHA'":                                                         "6.2",
	} {
		cause := fmt.Errorf("hook: %w", reply(text))
		err := failure("load session", "k", cause)
		if !errors.Is(err, reply(text)) {
			t.Errorf("%s: the cause is lost in %v", text, err)
		}
		if rest := strings.TrimPrefix(err.Error(), failure("load session", "k", errors.New(cause.Error())).Error()); !strings.Contains(rest, says) {
			t.Errorf("%s: no %q in the advice %q", text, says, rest)
		}
	}
	for cause, says := range map[error]string{
		redis.ErrClosed:      "closed",
		redis.ErrPoolTimeout: "PoolSize",
		context.Canceled:     "",
		io.EOF:               "",
	} {
		err := failure("load session", "k", cause)
		if !errors.Is(err, cause) || !strings.Contains(err.Error(), says) {
			t.Errorf("%v: %v", cause, err)
		}
	}
}

func TestStore_returnsTheErrorOfAContextThatHasEnded(t *testing.T) {
	s := newStore(t, Config{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, loadErr := s.Load(ctx, "x")
	_, listErr := s.List(ctx, "x")
	feedErr := s.Revocations(ctx, created, func([]tokensession.Revocation) error { return nil })
	for name, err := range map[string]error{
		"Create": s.Create(ctx, fullRecord()), "Swap": s.Swap(ctx, fullRecord()),
		"Load": loadErr, "List": listErr, "Revocations": feedErr, "Notified": s.Notified(ctx),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

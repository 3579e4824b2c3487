package proof_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

var errRedisCrash = errors.New("the process died")

// crashBefore makes the command fail before the server sees it, and crashAfter makes it fail
// although the server did it.
func crashBefore(command string) func(string, func() error) error {
	return func(c string, run func() error) error {
		if c == command {
			return errRedisCrash
		}
		return run()
	}
}

func crashAfter(command string) func(string, func() error) error {
	return func(c string, run func() error) error {
		err := run()
		if c == command && err == nil {
			return errRedisCrash
		}
		return err
	}
}

// redisCrashStore returns a store whose commands the spy can make fail, and one that nothing
// happens to.
func redisCrashStore(t *testing.T) (store, sound *redisstore.Store, spy *redisSpy) {
	addr := servers.RedisAddr(t)
	client := redisClient(t, addr, nil)
	store, prefix := redisStore(t, client, redisstore.Config{})
	sound, _ = redisStore(t, redisClient(t, addr, nil), redisstore.Config{Prefix: prefix})
	warm := redisCreate(t, store, newRedisRecord("warm"))
	redisSwap(t, store, redisRevoked(warm)) // the scripts are on the server now
	spy = new(redisSpy)
	client.AddHook(spy)
	return store, sound, spy
}

func TestRedisCrash_createBetweenIndexAndSession(t *testing.T) {
	for name, crash := range map[string]func(string, func() error) error{
		"before the index":   crashBefore("evalsha subject"),
		"after the index":    crashAfter("evalsha subject"),
		"before the session": crashBefore("evalsha session"),
	} {
		store, sound, spy := redisCrashStore(t)
		rec := newRedisRecord("alice")
		spy.setAround(crash)
		if err := store.Create(t.Context(), rec); !errors.Is(err, errRedisCrash) {
			t.Fatalf("%s: Create: %v", name, err)
		}
		spy.setAround(nil)
		if _, err := sound.Load(t.Context(), rec.ID); !errors.Is(err, tokensession.ErrNotFound) {
			t.Errorf("%s: Load: %v, want ErrNotFound", name, err)
		}
		if got := redisListed(t, sound, "alice"); got != nil {
			t.Errorf("%s: List: %v", name, got)
		}
		redisCreate(t, sound, rec) // nothing is in the way
		if got := redisListed(t, sound, "alice"); !slices.Equal(got, []string{rec.ID}) {
			t.Errorf("%s: List after another Create: %v", name, got)
		}
	}
}

func TestRedisCrash_createAfterTheSession(t *testing.T) {
	store, sound, spy := redisCrashStore(t)
	rec := newRedisRecord("alice")
	spy.setAround(crashAfter("evalsha session"))
	if err := store.Create(t.Context(), rec); !errors.Is(err, errRedisCrash) {
		t.Fatalf("Create: %v", err)
	}
	if got := redisListed(t, sound, "alice"); !slices.Equal(got, []string{rec.ID}) {
		t.Errorf("List: %v", got)
	}
	redisCreate(t, sound, rec) // the same write again is no second session
	rec.WriteID = redisID()
	if err := sound.Create(t.Context(), rec); !errors.Is(err, tokensession.ErrExists) {
		t.Errorf("Create by another write: %v, want ErrExists", err)
	}
}

// A List, or another login, between the two writes of a Create sees an entry without a session, and
// must leave it.
func TestRedisCrash_listDuringCreateLosesNothing(t *testing.T) {
	store, sound, spy := redisCrashStore(t)
	rec := newRedisRecord("alice")
	var between atomic.Bool
	spy.setAround(func(c string, run func() error) error {
		if c == "evalsha session" {
			between.Store(true)
			if got := redisListed(t, sound, "alice"); got != nil {
				t.Errorf("List during Create: %v", got)
			}
			redisSwap(t, sound, redisRevoked(redisCreate(t, sound, newRedisRecord("alice"))))
			redisListed(t, sound, "alice")
		}
		return run()
	})
	redisCreate(t, store, rec)
	if !between.Load() {
		t.Fatal("the test never came between the two writes")
	}
	if got := redisListed(t, sound, "alice"); !slices.Contains(got, rec.ID) {
		t.Errorf("List after Create: %v, want %s in it", got, rec.ID)
	}
}

// A session that was not revoked must never be told: its honest client would be logged out.
func TestRedisCrash_feedTellsOnlyWhatWasRevoked(t *testing.T) {
	for name, test := range map[string]struct {
		crash func(string, func() error) error
		told  bool
	}{
		"before the feed":    {crashBefore("evalsha revoked"), false},
		"after the feed":     {crashAfter("evalsha revoked"), false},
		"before the session": {crashBefore("evalsha session"), false},
		"after the session":  {crashAfter("evalsha session"), true},
	} {
		store, sound, spy := redisCrashStore(t)
		rec := redisCreate(t, sound, newRedisRecord("alice"))
		end := redisRevoked(rec)
		spy.setAround(test.crash)
		if err := store.Swap(t.Context(), end); !errors.Is(err, errRedisCrash) {
			t.Fatalf("%s: Swap: %v", name, err)
		}
		for range 2 { // what the first call remembers must not change the second
			at, ok := redisTold(t, sound, end.RevokedAt)[rec.ID]
			if ok != test.told || ok && !at.Equal(end.RevokedAt) {
				t.Errorf("%s: the feed tells %v of %v", name, at, ok)
			}
		}
		if test.told {
			redisSwap(t, sound, end) // again: it has been applied
			continue
		}
		rec = redisSwap(t, sound, redisRotated(rec)) // the session lives
		end = redisRevoked(rec)
		redisSwap(t, sound, end)
		if at, ok := redisTold(t, sound, end.RevokedAt)[rec.ID]; !ok || !at.Equal(end.RevokedAt) {
			t.Errorf("%s: revoked at %v, and the feed tells %v, %v", name, end.RevokedAt, at, ok)
		}
	}
}

func TestRedisCrash_revocationThatLosesToARefreshIsNotTold(t *testing.T) {
	store, _, _ := redisCrashStore(t)
	rec := redisCreate(t, store, newRedisRecord("alice"))
	end := redisRevoked(rec)
	next := redisSwap(t, store, redisRotated(rec))
	if err := store.Swap(t.Context(), end); !errors.Is(err, tokensession.ErrConflict) {
		t.Fatalf("Swap: %v, want ErrConflict", err)
	}
	if _, ok := redisTold(t, store, time.Time{})[rec.ID]; ok {
		t.Error("the feed tells a session that lives")
	}
	end = redisRevoked(next)
	redisSwap(t, store, end)
	if at, ok := redisTold(t, store, end.RevokedAt)[rec.ID]; !ok || !at.Equal(end.RevokedAt) {
		t.Errorf("revoked at %v, and the feed tells %v, %v", end.RevokedAt, at, ok)
	}
}

// Two instances revoke one session; the clock of the one that loses is behind, or ahead.
func TestRedisCrash_secondRevocationDoesNotHideTheFirst(t *testing.T) {
	for _, late := range []time.Duration{-time.Hour, time.Hour} {
		store, sound, _ := redisCrashStore(t)
		rec := redisCreate(t, store, newRedisRecord("alice"))
		first, second := redisRevoked(rec), redisRevoked(rec)
		second.RevokedAt = first.RevokedAt.Add(late)
		redisSwap(t, store, first)
		if err := store.Swap(t.Context(), second); !errors.Is(err, tokensession.ErrConflict) {
			t.Fatalf("Swap: %v, want ErrConflict", err)
		}
		if at, ok := redisTold(t, sound, first.RevokedAt)[rec.ID]; !ok || !at.Equal(first.RevokedAt) {
			t.Errorf("second %v later: revoked at %v, and the feed tells %v, %v", late, first.RevokedAt, at, ok)
		}
	}
}

// A redisLossyConn drops the reply to a command: the server has done it, and the client sees the
// connection end.
type redisLossyConn struct {
	net.Conn
	drop *atomic.Int32 // 1: the next reply is to be dropped
	dead atomic.Bool
}

func (c *redisLossyConn) Read(b []byte) (int, error) {
	if c.dead.Load() {
		return 0, io.EOF
	}
	n, err := c.Conn.Read(b)
	if err == nil && c.drop.CompareAndSwap(1, 0) {
		c.dead.Store(true)
		return 0, io.EOF
	}
	return n, err
}

func TestRedisCrash_lostReplyIsRepeatedByTheClientAndChangesNothing(t *testing.T) {
	for name, write := range map[string]func(t *testing.T, store *redisstore.Store, rec tokensession.Record, drop func()) tokensession.Record{
		"Create": func(t *testing.T, store *redisstore.Store, rec tokensession.Record, drop func()) tokensession.Record {
			drop()
			return redisCreate(t, store, rec)
		},
		"Swap": func(t *testing.T, store *redisstore.Store, rec tokensession.Record, drop func()) tokensession.Record {
			rec = redisCreate(t, store, rec)
			drop()
			return redisSwap(t, store, redisRotated(rec))
		},
		"revoking Swap": func(t *testing.T, store *redisstore.Store, rec tokensession.Record, drop func()) tokensession.Record {
			rec = redisCreate(t, store, rec)
			drop()
			return redisSwap(t, store, redisRevoked(rec))
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := servers.StartRedis(t, servers.RedisOptions{})
			var drop atomic.Int32
			dropped := 0
			client := server.Client(&redis.Options{PoolSize: 1, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := (&net.Dialer{}).DialContext(ctx, network, addr)
				return &redisLossyConn{Conn: conn, drop: &drop}, err
			}})
			store, _ := redisStore(t, client, redisstore.Config{})
			warm := redisCreate(t, store, newRedisRecord("warm"))
			redisSwap(t, store, redisRevoked(warm)) // the scripts are on the server now

			spy := new(redisSpy)
			client.AddHook(spy)
			rec := write(t, store, newRedisRecord("alice"), func() {
				spy.setAround(func(c string, run func() error) error {
					if !strings.HasPrefix(c, "evalsha") { // a new connection's greeting
						return run()
					}
					drop.Store(1)
					dropped++
					return run()
				})
			})
			spy.setAround(nil)
			if dropped == 0 || drop.Load() != 0 {
				t.Fatal("no reply was dropped")
			}
			if got, err := store.Load(t.Context(), rec.ID); err != nil || got.Version != rec.Version || got.WriteID != rec.WriteID {
				t.Errorf("stored %v, %v, want version %d", got, err, rec.Version)
			}
			var want []string
			if rec.RevokedAt.IsZero() {
				want = []string{rec.ID}
			}
			if got := redisListed(t, store, "alice"); !slices.Equal(got, want) {
				t.Errorf("List: %v, want %v", got, want)
			}
		})
	}
}

func TestRedisCrash_oneWinnerPerVersion(t *testing.T) {
	redisKinds(t, func(t *testing.T, client redis.UniversalClient) {
		store, _ := redisStore(t, client, redisstore.Config{})
		rec := redisCreate(t, store, newRedisRecord("alice"))
		for range 50 {
			var wg sync.WaitGroup
			var winner atomic.Pointer[tokensession.Record]
			var wins atomic.Int32
			for range 8 {
				wg.Go(func() {
					next := redisRotated(rec)
					switch err := store.Swap(t.Context(), next); {
					case err == nil:
						wins.Add(1)
						winner.Store(&next)
					case !errors.Is(err, tokensession.ErrConflict):
						t.Errorf("Swap: %v", err)
					}
				})
			}
			wg.Wait()
			if wins.Load() != 1 {
				t.Fatalf("%d winners of version %d", wins.Load(), rec.Version+1)
			}
			rec = *winner.Load()
		}
	})
}

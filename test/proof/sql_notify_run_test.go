//go:build unix

package proof_test

import (
	"context"
	"database/sql"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore/pgxnotify"
)

// pgxInstances returns Managers with stores of their own on one database, of which all sign with
// one key, and which run until the test ends. Each tells what it has told its host.
func pgxInstances(t *testing.T, n int) (db *sql.DB, instances []*pgxInstance) {
	t.Helper()
	server := sqlServers[0]
	dsn := server.database(t)
	key, err := tokensession.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	for range n {
		signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{Issuer: sqlIssuer, Audience: []string{"api"}})
		if err != nil {
			t.Fatal(err)
		}
		i := &pgxInstance{store: pgxMigrated(t, server.open(t, dsn), dsn, "")}
		i.Manager, err = tokensession.New(signer, i, tokensession.Config{OnEvent: i.note})
		if err != nil {
			t.Fatal(err)
		}
		instances = append(instances, i)
	}
	for _, i := range instances {
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- i.Run(ctx) }()
		t.Cleanup(func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		})
	}
	for _, i := range instances {
		// The look at the start, and that of the new connection.
		awaitRedis(t, "an instance to be healthy and to listen", func() bool {
			return i.Healthy(t.Context()) == nil && i.looks.Load() >= 2
		})
	}
	return server.open(t, dsn), instances
}

// A pgxInstance counts its looks at the feed.
type pgxInstance struct {
	*tokensession.Manager
	store

	looks  atomic.Int64
	mu     sync.Mutex
	events []tokensession.EventKind
}

// store is embedded by another name than the one that it has, which a method has, too.
type store = *pgxnotify.Store

func (i *pgxInstance) Revocations(
	ctx context.Context, since time.Time, page func([]tokensession.Revocation) error,
) error {
	i.looks.Add(1)
	return i.store.Revocations(ctx, since, page)
}

func (i *pgxInstance) note(_ context.Context, e tokensession.Event) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.events = append(i.events, e.Kind)
}

func (i *pgxInstance) told(kind tokensession.EventKind) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Contains(i.events, kind)
}

// forget reports whether the host was told, and has it told once more.
func (i *pgxInstance) forget(kind tokensession.EventKind) bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	before := len(i.events)
	i.events = slices.DeleteFunc(i.events, func(k tokensession.EventKind) bool { return k == kind })
	return len(i.events) < before
}

// pgxLogins returns sessions, which are all made by one instance.
func pgxLogins(t *testing.T, by *pgxInstance, n int) (logins []tokensession.Tokens) {
	t.Helper()
	for range n {
		tokens, err := by.Start(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		logins = append(logins, tokens)
	}
	return logins
}

// awaitRefused waits until an instance refuses a token, and returns how long that took.
func awaitRefused(t *testing.T, by *pgxInstance, token string) time.Duration {
	t.Helper()
	began := time.Now()
	awaitRedis(t, "a token to be refused", func() bool {
		_, err := by.Verify(token)
		return errors.Is(err, tokensession.ErrRevoked)
	})
	return time.Since(began)
}

// Instances look each 10 seconds where nothing is notified.
const notifiedWithin = 5 * time.Second

// Two Managers in one process, and a third one that revokes.
func TestPgxnotify_revocationsReachEachInstanceAtOnce(t *testing.T) {
	_, instances := pgxInstances(t, 3)
	writer := instances[0]
	for _, login := range pgxLogins(t, writer, 20) {
		for _, other := range instances[1:] {
			if _, err := other.Verify(login.AccessToken); err != nil {
				t.Fatal(err)
			}
		}
		if err := writer.Revoke(t.Context(), login.Session.ID); err != nil {
			t.Fatal(err)
		}
		for _, other := range instances[1:] {
			if took := awaitRefused(t, other, login.AccessToken); took > notifiedWithin {
				t.Errorf("refused after %v", took)
			}
		}
	}
}

// What is not notified is found by the next poll.
func TestPgxnotify_pollingFindsWhatWasNotNotified(t *testing.T) {
	t.Parallel()
	db, instances := pgxInstances(t, 2)
	execSQL(t, db, "ALTER TABLE token_sessions DISABLE TRIGGER tokensession_notify_update")
	login := pgxLogins(t, instances[0], 1)[0]
	if err := instances[0].Revoke(t.Context(), login.Session.ID); err != nil {
		t.Fatal(err)
	}
	took := awaitRefused(t, instances[1], login.AccessToken)
	t.Logf("refused after %v", took)
	if took > 15*time.Second {
		t.Errorf("refused after %v, want at the next poll, after 10 seconds at most", took)
	}
	if instances[1].told(tokensession.EventFeedPolled) {
		t.Error("nothing has failed, and the host is told so")
	}
}

// While there is no connection, instances poll each second. Then they listen again.
func TestPgxnotify_instancesSurviveTheirConnection(t *testing.T) {
	t.Parallel()
	db, instances := pgxInstances(t, 2)
	connected := func() bool {
		return countSQL(t, db, "SELECT count(*) FROM pg_stat_activity "+listens) == 2
	}
	awaitRedis(t, "connections", connected)
	for range 2 {
		ended := "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity " + listens + ") AS ended"
		if n := countSQL(t, db, ended); n != 2 {
			t.Fatalf("%d connections listened, want 2", n)
		}
		awaitRedis(t, "the host to be told", func() bool { return instances[1].forget(tokensession.EventFeedPolled) })
		login := pgxLogins(t, instances[0], 1)[0]
		if err := instances[0].Revoke(t.Context(), login.Session.ID); err != nil {
			t.Fatal(err)
		}
		if took := awaitRefused(t, instances[1], login.AccessToken); took > notifiedWithin {
			t.Errorf("without a connection: refused after %v", took)
		}
		awaitRedis(t, "new connections", connected)
	}
}

// However many notifications come, instances look 20 times a second at most, and stop when it is
// over.
func TestPgxnotify_aStormMakesFewLooks(t *testing.T) {
	const storm, writers = 1000, 8
	_, instances := pgxInstances(t, 2)
	one, two := instances[0], instances[1]
	logins := pgxLogins(t, one, storm)
	before, began := two.looks.Load(), time.Now()
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := w; i < storm; i += writers {
				if err := one.Revoke(t.Context(), logins[i].Session.ID); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	lasted := time.Since(began)
	took := time.Duration(0)
	for _, login := range logins {
		took = max(took, awaitRefused(t, two, login.AccessToken))
	}
	looks, over := two.looks.Load()-before, time.Since(began)
	t.Logf("%d revocations in %v; the last one was refused elsewhere %v later; %d looks", storm, lasted, took, looks)
	if limit := 20*over.Seconds() + 5; float64(looks) > limit { // the first few come at once
		t.Errorf("%d looks in %v, want at most 20 a second, and 4 at once", looks, over)
	}
	if took > notifiedWithin {
		t.Errorf("the last one was refused after %v", took)
	}
	// What the storm has left in the connection is the same news.
	quiet, was, since := 0, two.looks.Load(), time.Now()
	awaitRedis(t, "an instance that looks no more", func() bool {
		if now := two.looks.Load(); now != was {
			quiet, was = 0, now
		}
		quiet++
		return quiet > 100
	})
	if took := time.Since(since); took > 8*time.Second {
		t.Errorf("looks went on for %v after the storm", took)
	}
}

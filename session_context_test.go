package tokensession_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// An openConnection is a context of a session, made with an access token that was just verified.
func openConnection(
	t *testing.T, m *tokensession.Manager, token string, opts ...tokensession.ContextOption,
) context.Context {
	t.Helper()
	access, err := m.Verify(token)
	require.NoError(t, err)
	open, cancel := m.SessionContext(t.Context(), access, opts...)
	t.Cleanup(cancel)
	return open
}

// requireOpen requires that a context has not ended, when all that was to happen has happened.
func requireOpen(t *testing.T, open context.Context, msg string) {
	t.Helper()
	synctest.Wait()
	require.NoError(t, context.Cause(open), msg)
}

func requireEnded(t *testing.T, open context.Context, cause error, msg string) {
	t.Helper()
	synctest.Wait()
	require.ErrorIs(t, context.Cause(open), cause, msg)
	require.ErrorIs(t, open.Err(), context.Canceled)
}

func TestSessionContext_endsWithTheAccessToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, testSigner(t), tokensession.NewMemoryStore(), tokensession.Config{})
		tokens, err := m.Start(t.Context(), "alice")
		require.NoError(t, err)
		open := openConnection(t, m, tokens.AccessToken)
		time.Sleep(time.Until(tokens.AccessExpiresAt) - time.Microsecond)
		requireOpen(t, open, "just before it expires")
		time.Sleep(time.Microsecond)
		requireEnded(t, open, tokensession.ErrExpired, "it has expired")
		_, err = m.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrExpired, "Verify says the same")
	})
}

// The clock of the host can differ from the one that timers go by. Then it is the host's that counts.
func TestSessionContext_goesByTheClockOfTheConfig(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clock := testkit.NewClockAt(time.Now())
		m := newManager(t, testSigner(t), tokensession.NewMemoryStore(),
			tokensession.Config{Now: clock.Now})
		tokens, err := m.Start(t.Context(), "alice")
		require.NoError(t, err)
		open := openConnection(t, m, tokens.AccessToken)
		time.Sleep(time.Hour)
		requireOpen(t, open, "an hour for timers, and no time for the host")
		clock.Advance(15 * time.Minute)
		time.Sleep(15 * time.Minute)
		requireEnded(t, open, tokensession.ErrExpired, "15 minutes for the host")
	})
}

func TestSessionContext_ofAnAccessTokenThatIsOver(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	access, err := w.m.Verify(tokens.AccessToken)
	require.NoError(t, err)

	require.NoError(t, w.m.Revoke(ctx, tokens.Session.ID))
	for _, opts := range [][]tokensession.ContextOption{nil, {tokensession.UntilSessionEnds()}} {
		open, cancel := w.m.SessionContext(ctx, access, opts...)
		require.ErrorIs(t, context.Cause(open), tokensession.ErrRevoked, "revoked before")
		cancel()
		require.ErrorIs(t, context.Cause(open), tokensession.ErrRevoked, "the first cause stays")
	}
	tokens = w.start()
	access, err = w.m.Verify(tokens.AccessToken)
	require.NoError(t, err)
	w.clock.Advance(15 * time.Minute)
	for _, opts := range [][]tokensession.ContextOption{nil, {tokensession.UntilSessionEnds()}} {
		open, cancel := w.m.SessionContext(ctx, access, opts...)
		require.ErrorIs(t, context.Cause(open), tokensession.ErrExpired, "expired before")
		cancel()
	}
	open, cancel := w.m.SessionContext(ctx, tokensession.Access{})
	defer cancel()
	require.ErrorIs(t, context.Cause(open), tokensession.ErrExpired, "an Access that nothing verified")
}

func TestSessionContext_endsWhenTheSessionIsRevoked(t *testing.T) {
	for _, opts := range [][]tokensession.ContextOption{nil, {tokensession.UntilSessionEnds()}} {
		t.Run(fmt.Sprintf("options=%d", len(opts)), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, signer := tokensession.NewMemoryStore(), testSigner(t)
				m := newManager(t, signer, store, tokensession.Config{})
				other := newManager(t, signer, store, tokensession.Config{})
				runs(t, other)
				tokens, err := m.Start(t.Context(), "alice")
				require.NoError(t, err)
				second, err := m.Start(t.Context(), "alice")
				require.NoError(t, err)
				here := []context.Context{
					openConnection(t, m, tokens.AccessToken, opts...),
					openConnection(t, m, tokens.AccessToken, opts...),
					openConnection(t, m, tokens.AccessToken, opts...),
				}
				there := openConnection(t, other, tokens.AccessToken, opts...)
				unharmed := openConnection(t, other, second.AccessToken, opts...)

				require.NoError(t, m.Revoke(t.Context(), tokens.Session.ID))
				for _, open := range here {
					require.ErrorIs(t, context.Cause(open), tokensession.ErrRevoked, "at once")
				}
				time.Sleep(time.Second)
				requireEnded(t, there, tokensession.ErrRevoked, "on another instance, in a second")
				requireOpen(t, unharmed, "another session of the same user")
			})
		})
	}
}

// New rights: the connection was opened with the old ones. The client refreshes and opens another.
func TestSessionContext_endsWhenTheAccessTokenIsOutdated(t *testing.T) {
	for _, opts := range [][]tokensession.ContextOption{nil, {tokensession.UntilSessionEnds()}} {
		t.Run(fmt.Sprintf("options=%d", len(opts)), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, signer := tokensession.NewMemoryStore(), testSigner(t)
				m := newManager(t, signer, store, tokensession.Config{})
				other := newManager(t, signer, store, tokensession.Config{})
				deaf := newManager(t, signer, testkit.Plain(store), tokensession.Config{})
				runs(t, other)
				tokens, err := m.Start(t.Context(), "alice")
				require.NoError(t, err)
				here := openConnection(t, m, tokens.AccessToken, opts...)
				there := openConnection(t, other, tokens.AccessToken, opts...)
				unaware := openConnection(t, deaf, tokens.AccessToken, opts...)
				_, err = m.Reauthorize(t.Context(), "alice")
				require.NoError(t, err)
				time.Sleep(time.Second)
				requireEnded(t, here, tokensession.ErrOutdated, "here")
				requireEnded(t, there, tokensession.ErrOutdated, "there")
				requireOpen(t, unaware, "nobody told this instance")

				next, err := m.Refresh(t.Context(), tokens.RefreshToken)
				require.NoError(t, err)
				requireOpen(t, openConnection(t, other, next.AccessToken, opts...), "the new token")
				time.Sleep(15 * time.Minute)
				requireEnded(t, unaware, tokensession.ErrExpired, "an ErrOutdated is an ErrExpired")
			})
		})
	}
}

// The client refreshes, and its connection goes on. The store is read once each AccessTTL.
func TestSessionContext_untilSessionEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := testkit.Hook(t, testkit.Plain(tokensession.NewMemoryStore()))
		m := newManager(t, testSigner(t), store.Store(), tokensession.Config{
			RefreshTTL: time.Hour, MaxLifetime: 10 * time.Hour,
		})
		tokens, err := m.Start(t.Context(), "alice")
		require.NoError(t, err)
		open := openConnection(t, m, tokens.AccessToken, tokensession.UntilSessionEnds())
		reads := 0
		for range 8 {
			store.Took()
			time.Sleep(30 * time.Minute)
			requireOpen(t, open, "the session goes on")
			reads += len(store.Took())
			tokens, err = m.Refresh(t.Context(), tokens.RefreshToken)
			require.NoError(t, err)
		}
		require.InDelta(t, 4*60/14, reads, 2, "reads in four hours")
		time.Sleep(time.Until(tokens.RefreshExpiresAt) - time.Millisecond)
		requireOpen(t, open, "just before the session's idle end")
		time.Sleep(2 * time.Millisecond)
		requireEnded(t, open, tokensession.ErrExpired, "the session has ended: nobody refreshed")
	})
}

func TestSessionContext_endsNothingInAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := testkit.Hook(t, testkit.Plain(tokensession.NewMemoryStore()))
		m := newManager(t, testSigner(t), store.Store(), tokensession.Config{})
		tokens, err := m.Start(t.Context(), "alice")
		require.NoError(t, err)
		open := openConnection(t, m, tokens.AccessToken, tokensession.UntilSessionEnds())
		store.Down()
		time.Sleep(2 * time.Hour)
		requireOpen(t, open, "the store cannot tell")
		store.Clear()
		// Nobody told this instance of it.
		other := newManager(t, testSigner(t), store.Store(), tokensession.Config{})
		require.NoError(t, other.Revoke(t.Context(), tokens.Session.ID))
		requireOpen(t, open, "it has not read yet")
		time.Sleep(time.Minute)
		requireEnded(t, open, tokensession.ErrRevoked, "the store is back, and tells")
	})
}

func TestSessionContext_ofASessionThatTheStoreHasLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := tokensession.NewMemoryStore()
		m := newManager(t, testSigner(t), testkit.Plain(store), tokensession.Config{})
		tokens, err := m.Start(t.Context(), "alice")
		require.NoError(t, err)
		open := openConnection(t, m, tokens.AccessToken, tokensession.UntilSessionEnds())
		_, err = store.Sweep(t.Context(), time.Now().Add(1e5*time.Hour), 10)
		require.NoError(t, err)
		time.Sleep(15 * time.Minute)
		requireEnded(t, open, tokensession.ErrRevoked, "as VerifyLive says of it")
	})
}

// Many connections that began in the same second do not read the store in the same second.
func TestSessionContext_spreadsItsReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := testkit.Hook(t, testkit.Plain(tokensession.NewMemoryStore()))
		m := newManager(t, testSigner(t), store.Store(), tokensession.Config{})
		for range 200 {
			tokens, err := m.Start(t.Context(), "alice")
			require.NoError(t, err)
			openConnection(t, m, tokens.AccessToken, tokensession.UntilSessionEnds())
		}
		var mu sync.Mutex
		at := map[int]int{}
		began := time.Now()
		store.Always(testkit.Load, func(r *testkit.Request) {
			mu.Lock()
			defer mu.Unlock()
			at[int(time.Since(began).Minutes()*6)]++ // in steps of 10 seconds
			r.Pass()
		})
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		total := 0
		for step, n := range at {
			require.GreaterOrEqual(t, step, 6*13, "a read long before the access token expires")
			require.Less(t, n, 60, "reads within 10 seconds")
			total += n
		}
		require.Equal(t, 200, total)
	})
}

type accessKey struct{}

func TestSessionContext_endsWithItsParent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, testSigner(t), tokensession.NewMemoryStore(), tokensession.Config{})
		tokens, err := m.Start(t.Context(), "alice")
		require.NoError(t, err)
		access, err := m.Verify(tokens.AccessToken)
		require.NoError(t, err)
		why := errors.New("the client has gone")
		parent, leave := context.WithCancelCause(context.WithValue(t.Context(), accessKey{}, "value"))
		open, cancel := m.SessionContext(parent, access)
		require.Equal(t, "value", open.Value(accessKey{}))
		leave(why)
		require.ErrorIs(t, context.Cause(open), why)
		cancel()
		cancel() // twice is once
		require.ErrorIs(t, context.Cause(open), why)
	})
}

// Revocations and connections come at the same time: none of the connections is overlooked.
func TestSessionContext_racesARevocation(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	for range 300 {
		tokens := w.start()
		access, err := w.m.Verify(tokens.AccessToken)
		require.NoError(t, err)
		var both sync.WaitGroup
		both.Go(func() { _ = w.m.Revoke(ctx, tokens.Session.ID) })
		both.Go(func() {
			open, cancel := w.m.SessionContext(ctx, access)
			defer cancel()
			select {
			case <-open.Done():
			case <-time.After(10 * time.Second):
				t.Error("a connection outlives its session")
			}
		})
		both.Wait()
	}
}

func TestSessionContext_costs(t *testing.T) {
	const n = 20_000
	w := newWorld(t, tokensession.Config{})
	access, err := w.m.Verify(w.start().AccessToken)
	require.NoError(t, err)
	cancels := make([]context.CancelFunc, n)
	before, goroutines := heap(), runtime.NumGoroutine()
	for i := range cancels {
		opts := []tokensession.ContextOption{tokensession.UntilSessionEnds()}
		access.SessionID = sessionIDOf(i)
		var open context.Context
		open, cancels[i] = w.m.SessionContext(t.Context(), access, opts[:i%2]...)
		_ = open.Done() // somebody waits for it
	}
	each := (heap() - before) / n
	t.Logf("%d bytes each", each)
	require.Less(t, each, int64(1000), "bytes of a connection")
	require.Equal(t, goroutines, runtime.NumGoroutine(), "a goroutine for a connection")
	for _, cancel := range cancels {
		cancel()
	}
	cancels = nil
	require.Less(t, (heap()-before)/n, int64(100), "bytes that stay of each")
}

// sessionIDOf returns the n-th of many session ids, which are as random as real ones.
func sessionIDOf(n int) string {
	sum := sha256.Sum256(fmt.Append(nil, n))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

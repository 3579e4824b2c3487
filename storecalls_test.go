package tokensession_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// Drivers close a connection whose call is interrupted. So whoever hangs up must not end a call
// that is at the store.
func TestStoreCalls_goOnWhenTheCallerHangsUp(t *testing.T) {
	for name, call := range map[string]func(context.Context, *world, tokensession.Tokens) error{
		"Refresh": func(ctx context.Context, w *world, t tokensession.Tokens) error {
			_, err := w.m.Refresh(ctx, t.RefreshToken)
			return err
		},
		"RevokeToken, refresh token": func(ctx context.Context, w *world, t tokensession.Tokens) error {
			return w.m.RevokeToken(ctx, t.RefreshToken)
		},
		"RevokeToken, access token": func(ctx context.Context, w *world, t tokensession.Tokens) error {
			return w.m.RevokeToken(ctx, t.AccessToken)
		},
		"VerifyLive": func(ctx context.Context, w *world, t tokensession.Tokens) error {
			_, err := w.m.VerifyLive(ctx, t.AccessToken)
			return err
		},
		"Session": func(ctx context.Context, w *world, t tokensession.Tokens) error {
			_, err := w.m.Session(ctx, t.Session.ID)
			return err
		},
	} {
		for _, at := range []testkit.Call{testkit.Load, testkit.Swap} {
			w := newWorld(t, tokensession.Config{})
			tokens := w.start()
			hangUp, cancel := context.WithCancel(context.Background())
			w.store.Times(1, at, testkit.Do(cancel), func(r *testkit.Request) {
				require.NoError(t, r.Context().Err(), "%s: its caller ended the %s", name, at)
				_, limited := r.Context().Deadline()
				require.True(t, limited, "%s: the %s has no end", name, at)
			})
			if err := call(hangUp, w, tokens); err != nil {
				require.ErrorIs(t, err, tokensession.ErrUnavailable, "%s, %s", name, at)
			}
			cancel()
		}
	}
}

// What was not sent is in no doubt: if it were, a thief's use of the token before would be forgiven
// later.
func TestStoreCalls_nothingIsSentForWhoHasHungUp(t *testing.T) {
	w := newWorld(t, tokensession.Config{Remember: -1})
	first := w.start()
	hangUp, cancel := context.WithCancel(context.Background())
	w.store.On(testkit.Load, testkit.Do(cancel))
	w.store.Took()
	_, err := w.m.Refresh(hangUp, first.RefreshToken)
	requireUnavailableFor(t, err, context.Canceled)
	require.Zero(t, w.store.Count(testkit.Swap))

	second := w.refresh(first.RefreshToken)
	other := w.other(tokensession.Config{}) // another instance gives the successor to its client
	w.clock.Advance(time.Minute)
	_, err = other.Refresh(context.Background(), first.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrReused)
	require.ErrorIs(t, w.refreshError(second.RefreshToken), tokensession.ErrRevoked)
}

// Who logs out closes the page. The session ends all the same.
func TestStoreCalls_aLogoutGoesOnWhenThePageIsClosed(t *testing.T) {
	for _, token := range []func(tokensession.Tokens) string{accessOf, refreshOf} {
		w := newWorld(t, tokensession.Config{})
		tokens := w.start()
		hangUp, cancel := context.WithCancel(context.Background())
		if token(tokens) == tokens.RefreshToken {
			w.store.On(testkit.Load) // it is authenticated first
		}
		w.store.On(testkit.Load, testkit.Do(cancel))
		require.NoError(t, w.m.RevokeToken(hangUp, token(tokens)))
		w.requireDead(tokens)
	}
}

// A store that hangs holds a bounded number of calls. Those that wait leave when their callers do,
// and nobody waits for ever.
func TestStoreCalls_areBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, many = 32, 500
		w := newWorld(t, tokensession.Config{})
		w.m = w.manager(w.store.Store(), tokensession.Config{Now: time.Now, Remember: -1}, w.events)
		tokens := w.start()
		w.store.Took()
		w.store.Always(testkit.Load, testkit.Hang)
		hangUp, cancel := context.WithCancel(context.Background())
		began := time.Now()
		waited := make(chan time.Duration, 2*many)
		for i := range 2 * many {
			ctx := hangUp
			if i%2 == 0 {
				ctx = context.Background()
			}
			go func() {
				_, err := w.m.Refresh(ctx, tokens.RefreshToken)
				if !errors.Is(err, tokensession.ErrUnavailable) {
					t.Errorf("%v", err)
				}
				waited <- time.Since(began)
			}()
		}
		synctest.Wait()
		require.Equal(t, most, w.store.Count(testkit.Load))
		cancel()
		synctest.Wait()
		require.GreaterOrEqual(t, len(waited), many-most, "who has gone waits on")
		for range 2 * many {
			require.LessOrEqual(t, <-waited, 5*time.Second)
		}
		w.store.Clear()
		w.requireLive(tokens)
	})
}

// A driver that knows no time limit, as go-redis is by default, holds its calls for as long as the
// server hangs. Those that wait for their turn do not wait with them.
func TestStoreCalls_nobodyWaitsForADriverThatHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const most, others = 32, 8
		w := newWorld(t, tokensession.Config{})
		w.m = w.manager(w.store.Store(), tokensession.Config{Now: time.Now}, w.events)
		tokens := w.start()
		w.store.Always(testkit.Load, testkit.Do(func() { time.Sleep(time.Minute) }))
		began := time.Now()
		waited := make(chan time.Duration, most+others)
		for range most + others {
			go func() {
				if _, err := w.m.Session(context.Background(), tokens.Session.ID); err != nil {
					if !errors.Is(err, tokensession.ErrUnavailable) {
						t.Errorf("%v", err)
					}
				}
				waited <- time.Since(began)
			}()
		}
		for range others {
			require.Equal(t, 5*time.Second, <-waited)
		}
		for range most {
			require.Equal(t, time.Minute, <-waited)
		}
	})
}

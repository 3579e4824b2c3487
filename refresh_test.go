package tokensession_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// A revocation was rolled back with the request that failed.
func TestRevocation_persistsThoughTheCallFailed(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	live := w.refresh(w.refresh(first.RefreshToken).RefreshToken)
	ctx, cancel := context.WithCancel(context.Background())
	w.store.Always(testkit.Swap,
		testkit.Do(cancel), // the caller goes away
		func(r *testkit.Request) {
			require.NoError(t, r.Context().Err(), "the revocation goes with the caller")
			_, limited := r.Context().Deadline()
			require.True(t, limited, "and would wait for ever")
		},
	)
	_, err := w.m.Refresh(ctx, first.RefreshToken)
	requireReused(t, err, 0, 2)
	w.requireDead(first, live)
}

// The caller goes away, and another refresh gets in between: the thief must not gain from it.
func TestRefresh_revokesThoughTheCallerWentAwayAndAnotherWriteCameFirst(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	stolen := w.start()
	live := w.refresh(w.refresh(stolen.RefreshToken).RefreshToken)
	ctx, cancel := context.WithCancel(context.Background())
	w.store.On(testkit.Swap,
		testkit.Do(cancel),
		testkit.Do(func() { live = w.refresh(live.RefreshToken) }),
	)
	_, err := w.m.Refresh(ctx, stolen.RefreshToken)
	requireReused(t, err, 0, 3)
	w.requireDead(stolen, live)
}

// An instance that does not Run learns of a revocation elsewhere from the refresh that it refuses.
func TestRefresh_refusedForARevocationElsewhereEndsAccessHere(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	require.NoError(t, w.other(tokensession.Config{}).Revoke(context.Background(),
		tokens.Session.ID))
	_, err := w.m.Verify(tokens.AccessToken)
	require.NoError(t, err, "nobody told it")
	require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
	_, err = w.m.Verify(tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

// The host's code, or the store's driver, panics after the write, and the server goes on. The
// client got no answer, so that it comes again is no theft.
func TestRefresh_thatPanicsIsDoneAgain(t *testing.T) {
	for name, panics := range map[string]func(w *world) *tokensession.Manager{
		"the host": func(w *world) *tokensession.Manager {
			once := true
			return newManager(t, w.signer, w.store.Store(), tokensession.Config{
				Now: w.clock.Now, RecoveryPeriod: tokensession.Strict,
				OnEvent: func(_ context.Context, e tokensession.Event) {
					if e.Kind == tokensession.EventRefreshed && once {
						once = false
						panic("a host's")
					}
				},
			})
		},
		"the driver": func(w *world) *tokensession.Manager {
			w.store.On(testkit.Swap, testkit.Apply, testkit.Do(func() { panic("a driver's") }))
			return w.m
		},
	} {
		for _, later := range []time.Duration{time.Second, time.Minute} {
			w := newWorld(t, tokensession.Config{})
			first := w.start()
			m := panics(w)
			require.Panics(t, func() { _, _ = m.Refresh(ctx, first.RefreshToken) }, name)
			w.clock.Advance(later)
			next, err := m.Refresh(ctx, first.RefreshToken)
			require.NoError(t, err, "%s, %v later", name, later)
			w.clock.Advance(time.Minute)
			_, err = m.Refresh(ctx, first.RefreshToken)
			require.ErrorIs(t, err, tokensession.ErrReused, "nothing is under way any more")
			_, err = m.Refresh(ctx, next.RefreshToken)
			require.ErrorIs(t, err, tokensession.ErrRevoked)
		}
	}
}

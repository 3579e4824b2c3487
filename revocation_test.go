package tokensession_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// The caller goes away, and another refresh gets in between: the thief must not gain from it.
func TestRefresh_revokesThoughTheCallerWentAwayAndAnotherWriteCameFirst(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	stolen := w.start()
	live := w.refresh(w.refresh(stolen.RefreshToken).RefreshToken)
	ctx, cancel := context.WithCancel(context.Background())
	w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
		if call == callSwap {
			cancel()
			w.store.set(nil)
			live = w.refresh(live.RefreshToken)
		}
		return apply()
	})
	_, err := w.m.Refresh(ctx, stolen.RefreshToken)
	requireReused(t, err, 0, 3)
	w.requireDead(stolen, live)
}

// The store lost a revocation, and a rotation that had seemed to fail lands in the place of the one made instead: both
// are writes of one call, and a store may take one for the other.
func TestRefresh_doesNotTakeItsOwnLateRotationForARevocation(t *testing.T) {
	for name, denies := range map[string]func(w *world, id string){
		"denied here": func(w *world, id string) {
			w.store.set(func(context.Context, storeCall, func() error) error { return tokensession.ErrNotFound })
			require.ErrorIs(t, w.m.Revoke(context.Background(), id), tokensession.ErrNotFound)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			first := w.start()
			w.store.set(func(_ context.Context, call storeCall, rotate func() error) error {
				if call != callSwap {
					return rotate()
				}
				denies(w, first.Session.ID)
				w.store.set(func(_ context.Context, call storeCall, revoke func() error) error {
					if call == callSwap {
						w.store.set(nil)
						require.NoError(t, rotate())
					}
					return revoke()
				})
				return errStoreDown
			})
			require.ErrorIs(t, w.refreshError(first.RefreshToken), tokensession.ErrRevoked)
			require.False(t, w.record(first.Session.ID).RevokedAt.IsZero(), "it was said to be revoked, and is not")
			w.requireDead(first)
		})
	}
}

// A store that contradicts itself is broken: a logout that did not happen must not look like one of a session that is
// over already.
func TestRevoke_isUnavailableWhereTheStoreFindsASessionAndCannotChangeIt(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
		if call == callSwap {
			return tokensession.ErrNotFound
		}
		return apply()
	})
	ctx := context.Background()
	_, subjectErr := w.m.RevokeSubject(ctx, "alice")
	_, startErr := w.m.Start(ctx, "alice", tokensession.Replacing(tokens.Session.ID))
	for what, err := range map[string]error{
		"Revoke":        w.m.Revoke(ctx, tokens.Session.ID),
		"RevokeToken":   w.m.RevokeToken(ctx, tokens.RefreshToken),
		"RevokeSubject": subjectErr,
		"Replacing":     startErr,
	} {
		require.ErrorIs(t, err, tokensession.ErrUnavailable, what)
		require.NotErrorIs(t, err, tokensession.ErrNotFound, what)
	}
}

// A failover lost the record of the session that a login replaces. Its access token is still about.
func TestReplacing_refusesTheAccessTokenOfASessionThatTheStoreLost(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	old := w.start()
	w.store.inner = tokensession.NewMemoryStore()
	w.start(tokensession.Replacing(old.Session.ID))
	_, err := w.m.Verify(old.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

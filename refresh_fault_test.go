package tokensession_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

var modes = map[string]tokensession.Config{
	"grace":    {},
	"strict":   {GracePeriod: tokensession.Strict},
	"recovery": {RecoveryPeriod: time.Hour},
}

// Hydra#1928, mcp-oauth#511: an outage broke the chain, or read as theft. go-redis and pgx send a
// request again whose reply they lost.
func TestRefresh_afterAnyFaultOfTheStoreTheTokenOrItsSuccessorWorks(t *testing.T) {
	for mode, cfg := range modes {
		for _, f := range everyFault() {
			t.Run(mode+", "+f.String(), func(t *testing.T) {
				w := newWorld(t, cfg)
				tokens := w.start()
				for range 3 {
					w.suffers(f)
					got, err := w.m.Refresh(context.Background(), tokens.RefreshToken)
					if err != nil {
						requireUnavailableFor(t, err, testkit.ErrDown)
						require.Zero(t, got)
					} else {
						tokens = got
					}
					w.store.Clear()
					tokens = w.requireLive(tokens)
				}
				require.Zero(t, w.events.Count(tokensession.EventReused))
			})
		}
	}
}

// The database dies in mid-write: the successor is in the store, nobody has it, and the client was
// told to try again.
func TestRefresh_afterAnOutageInMidWriteTheTokenWorksHoweverLongItLasts(t *testing.T) {
	for mode, cfg := range modes {
		for _, applied := range []bool{true, false} {
			t.Run(fmt.Sprint(mode, ", applied ", applied), func(t *testing.T) {
				w := newWorld(t, cfg)
				tokens := w.start()
				goesDown := w.store.GoesDown(testkit.Swap, testkit.Load)
				if applied {
					w.store.On(testkit.Swap, testkit.Apply, goesDown, testkit.LoseReply)
				} else {
					w.store.On(testkit.Swap, goesDown, testkit.LoseRequest)
				}
				requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), testkit.ErrDown)
				w.clock.Advance(30 * time.Second)
				requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), testkit.ErrDown)
				w.store.Clear()
				next := w.refresh(tokens.RefreshToken)
				w.requireLive(next)
				require.Zero(t, w.events.Count(tokensession.EventReused))
			})
		}
	}
}

// A write that seemed to fail lands while the next attempt is between its Load and its Swap.
func TestRefresh_lateWriteIsRecognizedAsItsOwn(t *testing.T) {
	for mode, cfg := range modes {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, cfg)
			tokens := w.start()
			var late testkit.Late
			w.store.On(testkit.Swap, // the first attempt
				late.Keep,
				testkit.LoseRequest,
			)
			w.store.On(testkit.Swap, // the second
				late.Lands,
			)
			next := w.refresh(tokens.RefreshToken)
			w.store.Clear()
			require.EqualValues(t, 1, w.record(tokens.Session.ID).Generation)
			require.Equal(t, []tokensession.EventKind{
				tokensession.EventStarted, tokensession.EventRefreshed,
			}, w.events.Kinds())
			w.requireLive(next)
		})
	}
}

// A write that seemed to fail lands after Refresh has given up.
func TestRefresh_writeThatLandsAfterItGaveUpIsNoTheft(t *testing.T) {
	for mode, cfg := range modes {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, cfg)
			tokens := w.start()
			var late testkit.Late
			w.store.Always(testkit.Swap, late.Keep, testkit.LoseRequest)
			requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), testkit.ErrDown)
			w.store.Clear()
			late.Land()
			w.clock.Advance(time.Minute)
			w.requireLive(w.refresh(tokens.RefreshToken))
		})
	}
}

// The client tries again and again, and the store answers reads and refuses writes: the one write
// that was applied must not be forgotten among those that were not.
func TestRefresh_afterAnOutageThatRefusesWritesForHoursTheTokenWorks(t *testing.T) {
	for mode, cfg := range modes {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, cfg)
			tokens := w.start()
			w.fails(tokens.RefreshToken)
			w.store.Down(testkit.Swap)
			for range 100 {
				w.clock.Advance(50 * time.Second)
				requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), testkit.ErrDown)
			}
			w.store.Clear()
			w.requireLive(w.refresh(tokens.RefreshToken))
			require.Zero(t, w.events.Count(tokensession.EventReused))
		})
	}
}

func TestRefresh_afterAnOutageBothTabsThatTriedAgainGetOneSuccessor(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.fails(tokens.RefreshToken)
	w.clock.Advance(time.Hour)
	tab := w.refresh(tokens.RefreshToken)
	w.clock.Advance(grace - micro)
	require.Equal(t, tab.RefreshToken, w.refresh(tokens.RefreshToken).RefreshToken)
	w.clock.Advance(micro)
	// the first successor, which nobody got, is displaced
	requireReused(t, w.refreshError(tokens.RefreshToken), 0, 2)
}

// Within the grace period it is done again, and the period begins anew: the answer may be lost
// again.
func TestRefresh_afterAShortOutageTheSuccessorIsTheSame(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.fails(tokens.RefreshToken)
	elsewhere, err := w.other(tokensession.Config{}).Refresh(context.Background(),
		tokens.RefreshToken)
	require.NoError(t, err)
	w.clock.Advance(grace - micro)
	require.Equal(t, elsewhere.RefreshToken, w.refresh(tokens.RefreshToken).RefreshToken)
	w.clock.Advance(grace - micro)
	require.Equal(t, elsewhere.RefreshToken, w.refresh(tokens.RefreshToken).RefreshToken)
	w.clock.Advance(micro)
	requireReused(t, w.refreshError(tokens.RefreshToken), 0, 1)
}

// What an outage leaves open is closed by the first answer.
func TestRefresh_afterAnOutageOldTokensAreStillTheft(t *testing.T) {
	t.Run("one that was consumed before", func(t *testing.T) {
		w := newWorld(t, tokensession.Config{})
		first := w.start()
		second := w.refresh(first.RefreshToken)
		w.fails(second.RefreshToken)
		requireReused(t, w.refreshError(first.RefreshToken), 0, 2)
	})
	t.Run("the one that was to be tried again, once its successor was used", func(t *testing.T) {
		w := newWorld(t, tokensession.Config{})
		first := w.start()
		w.fails(first.RefreshToken)
		other := w.other(tokensession.Config{})
		second, err := other.Refresh(context.Background(), first.RefreshToken)
		require.NoError(t, err)
		w.refresh(second.RefreshToken)
		requireReused(t, w.refreshError(first.RefreshToken), 0, 2)
	})
	t.Run("the one that was to be tried again, once another instance has answered", func(t *testing.T) {
		for mode, cfg := range modes {
			w := newWorld(t, cfg)
			first := w.start()
			w.fails(first.RefreshToken)
			elsewhere := cfg
			elsewhere.RecoveryPeriod, elsewhere.GracePeriod = 0, 0
			other := w.other(elsewhere)
			second, err := other.Refresh(context.Background(), first.RefreshToken)
			require.NoError(t, err, mode)
			w.clock.Advance(time.Minute)
			// This instance cannot know that somebody has the successor. So that one must not be
			// given away again, and a write that has to be tried twice makes no race of it, in
			// which the token would have been presented in time.
			w.store.On(testkit.Swap, testkit.LoseRequest)
			thief := w.refresh(first.RefreshToken)
			require.NotEqual(t, second.RefreshToken, thief.RefreshToken, mode)
			_, err = other.Refresh(context.Background(), second.RefreshToken)
			requireReused(t, err, 1, 2)
			require.ErrorIs(t, w.refreshError(thief.RefreshToken), tokensession.ErrRevoked, mode)
		}
	})
	t.Run("strict, the second time", func(t *testing.T) {
		w := newWorld(t, tokensession.Config{GracePeriod: tokensession.Strict})
		first := w.start()
		w.fails(first.RefreshToken)
		second := w.refresh(first.RefreshToken)
		requireReused(t, w.refreshError(first.RefreshToken), 0, 2)
		w.requireDead(first, second)
	})
}

// Only a refresh that a client could not get is done again, not one that displaced a successor.
func TestRefresh_afterAnOutageADisplacedSuccessorStaysDisplaced(t *testing.T) {
	w := newWorld(t, tokensession.Config{RecoveryPeriod: time.Hour})
	first := w.start()
	displaced := w.refresh(first.RefreshToken)
	w.clock.Advance(time.Minute)
	w.fails(first.RefreshToken)
	recovered := w.refresh(first.RefreshToken)
	require.NotEqual(t, displaced.RefreshToken, recovered.RefreshToken)
	requireReused(t, w.refreshError(displaced.RefreshToken), 1, 2)
}

// A store that is down is not helped by being asked many times for each token.
func TestRefresh_givesAnOutageThreeTries(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.store.Took()
	w.store.Down(testkit.Swap)
	requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), testkit.ErrDown)
	require.Equal(t, 3, w.store.Count(testkit.Swap))
}

func TestConflict_forEverIsAnOutage(t *testing.T) {
	w := newWorld(t, tokensession.Config{GracePeriod: tokensession.Strict})
	tokens := w.start()
	w.store.Always(testkit.Swap, testkit.Refuse(tokensession.ErrConflict))
	w.store.Took()
	w.unchanged(tokens.Session.ID, func() {
		requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), tokensession.ErrConflict)
		requireUnavailableFor(t, w.m.Revoke(context.Background(), tokens.Session.ID),
			tokensession.ErrConflict)
	})
	require.LessOrEqual(t, len(w.store.Took()), 40, "it tries for too long")
	w.store.Clear()
	w.requireLive(tokens)
}

// Theft was found, and the reply to the revocation was lost, or the write. The thief's access token
// is dead at once. Where the store does not know of the theft yet, the host is told of it when the
// honest client tries again.
func TestReuse_thatIsInDoubtIsCarriedOut(t *testing.T) {
	for _, applied := range []bool{true, false} {
		w := newWorld(t, tokensession.Config{})
		first := w.start()
		thief := w.refresh(first.RefreshToken)
		w.clock.Advance(time.Minute)
		goesDown := w.store.GoesDown(testkit.Swap, testkit.Load)
		if applied {
			w.store.On(testkit.Swap, testkit.Apply, goesDown, testkit.LoseReply)
		} else {
			w.store.On(testkit.Swap, goesDown, testkit.LoseRequest)
		}
		requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
		w.store.Clear()
		_, err := w.m.Verify(thief.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked, "applied %v", applied)

		err = w.refreshError(first.RefreshToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked)
		var reuse *tokensession.ReuseError
		require.Equal(t, !applied, errors.As(err, &reuse))
		require.Equal(t, tokensession.ReasonReuse, w.record(first.Session.ID).RevokeReason)
		w.requireDead(first, thief)
	}
}

func TestRevocation_thatTheStoreLostIsMadeAgain(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	held := w.record(tokens.Session.ID)
	require.NoError(t, w.m.Revoke(context.Background(), tokens.Session.ID))
	w.restore(held)
	err := w.refreshError(tokens.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
	require.Equal(t, tokensession.ReasonRevoked, w.record(tokens.Session.ID).RevokeReason)
	w.requireDead(tokens)
	require.Equal(t, 2, w.events.Count(tokensession.EventRevoked))
}

// The store lost a revocation, and a rotation that had seemed to fail lands in the place of the one
// made instead: both are writes of one call, and a store may take one for the other.
func TestRefresh_doesNotTakeItsOwnLateRotationForARevocation(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	var rotation testkit.Late
	w.store.On(testkit.Swap,
		rotation.Keep,
		// meanwhile the session is revoked here, though the store does not have it
		testkit.Do(func() {
			w.store.On(testkit.Load, testkit.Refuse(tokensession.ErrNotFound))
			require.ErrorIs(t, w.m.Revoke(context.Background(), first.Session.ID),
				tokensession.ErrNotFound)
		}),
		testkit.LoseRequest,
	)
	w.store.On(testkit.Swap, // the revocation
		rotation.Lands,
	)
	require.ErrorIs(t, w.refreshError(first.RefreshToken), tokensession.ErrRevoked)
	require.False(t, w.record(first.Session.ID).RevokedAt.IsZero(),
		"it was said to be revoked, and is not")
	w.requireDead(first)
}

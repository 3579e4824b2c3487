package tokensession_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// A refresh is held up, here by its authorizer, for far longer than the grace period, while another
// tab refreshes the same token: it was presented in time.
func TestRefresh_thatLosesARaceSlowly(t *testing.T) {
	for name, c := range map[string]struct {
		grace     time.Duration
		refreshes int // by the other tab meanwhile
		want      error
	}{
		"gets the winner's successor":           {0, 1, nil},
		"gets no verdict where it has no more":  {0, 2, tokensession.ErrUnavailable},
		"ends the session where that is strict": {tokensession.Strict, 1, tokensession.ErrReused},
	} {
		t.Run(name, func(t *testing.T) {
			var meanwhile func()
			w := newWorld(t, tokensession.Config{
				GracePeriod: c.grace, Authorize: onceAuthorizing(&meanwhile),
			})
			first := w.start()
			other := first
			meanwhile = func() {
				for range c.refreshes {
					other = w.refresh(other.RefreshToken)
				}
				w.clock.Advance(5 * time.Minute)
			}
			slow, err := w.m.Refresh(ctx, first.RefreshToken)
			require.ErrorIs(t, err, c.want)
			if c.want == nil {
				require.Equal(t, other.RefreshToken, slow.RefreshToken)
			}
			if c.grace != tokensession.Strict {
				_, err = w.m.Refresh(ctx, other.RefreshToken)
				require.NoError(t, err, "the other tab lives")
			}
		})
	}
}

// The same for a token that could be recovered: the reply was lost, and an application that comes back asks twice.
func TestRefresh_thatLosesARaceOfRecoveriesSlowly(t *testing.T) {
	for refreshes, want := range map[int]error{1: nil, 2: tokensession.ErrUnavailable} {
		var meanwhile func()
		w := newWorld(t, tokensession.Config{RecoveryPeriod: time.Hour, Authorize: onceAuthorizing(&meanwhile)})
		first := w.start()
		w.refresh(first.RefreshToken) // the reply is lost
		w.clock.Advance(time.Minute)
		other := first
		meanwhile = func() {
			for range refreshes {
				other = w.refresh(other.RefreshToken)
			}
			w.clock.Advance(5 * time.Minute)
		}
		slow, err := w.m.Refresh(ctx, first.RefreshToken)
		require.ErrorIs(t, err, want)
		if want == nil {
			require.Equal(t, other.RefreshToken, slow.RefreshToken)
		}
		w.requireLive(other)
	}
}

// onceAuthorizing allows everything, and calls f the next time that it is asked.
func onceAuthorizing(f *func()) tokensession.Authorizer {
	return func(context.Context, tokensession.Session) (tokensession.Grant, error) {
		if g := *f; g != nil {
			*f = nil
			g()
		}
		return tokensession.Grant{}, nil
	}
}

// A session is ended just after its time was over, by a refresh's clock or by that of another instance,
// while a refresh is under way that was presented before: nothing may come of that.
func TestRevoke_atTheSessionsEndStopsARefreshThatWasPresentedBefore(t *testing.T) {
	for name, revoke := range map[string]func(m *tokensession.Manager, tokens tokensession.Tokens) error{
		"Revoke": func(m *tokensession.Manager, tokens tokensession.Tokens) error {
			return m.Revoke(ctx, tokens.Session.ID)
		},
		"RevokeToken": func(m *tokensession.Manager, tokens tokensession.Tokens) error {
			return m.RevokeToken(ctx, tokens.RefreshToken)
		},
		"RevokeAccess": func(m *tokensession.Manager, tokens tokensession.Tokens) error {
			return m.RevokeAccess(ctx, tokens.AccessToken)
		},
		"RevokeSubject": func(m *tokensession.Manager, _ tokensession.Tokens) error {
			n, err := m.RevokeSubject(ctx, "alice")
			require.Zero(t, n, "it had expired")
			return err
		},
	} {
		for kind, atOneStroke := range map[string]bool{"one by one": false, "at one stroke": true} {
			t.Run(name+", "+kind, func(t *testing.T) {
				var meanwhile func()
				w := newWorld(t, tokensession.Config{Authorize: onceAuthorizing(&meanwhile)})
				if atOneStroke {
					cfg := tokensession.Config{Authorize: onceAuthorizing(&meanwhile)}
					w.m = w.manager(w.memory, cfg, w.events)
				}
				tokens := w.start()
				w.clock.Advance(week - 10*time.Millisecond)
				meanwhile = func() {
					w.clock.Advance(20 * time.Millisecond)
					require.NoError(t, revoke(w.m, tokens))
				}
				_, err := w.m.Refresh(ctx, tokens.RefreshToken)
				if !errors.Is(err, tokensession.ErrInvalidToken) { // the record has been dropped already
					require.ErrorIs(t, err, tokensession.ErrRevoked)
				}
				require.Zero(t, w.events.Count(tokensession.EventRevoked), "it had expired")
			})
		}
	}
}

// The winner is an instance that has been told of a shorter RefreshTTL already: the access token that
// the loser had signed before it lost is good for longer than the session.
func TestRefresh_thatLosesARaceGetsNoAccessTokenThatOutlivesTheSession(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	updated := w.other(tokensession.Config{RefreshTTL: time.Minute})
	first := w.start()
	w.store.On(testkit.Swap, testkit.Do(func() {
		_, err := updated.Refresh(ctx, first.RefreshToken)
		require.NoError(t, err)
	}))
	tokens := w.refresh(first.RefreshToken)
	require.Equal(t, w.clock.Now().Add(time.Minute).Truncate(micro), tokens.RefreshExpiresAt)
	require.False(t, tokens.AccessExpiresAt.After(tokens.RefreshExpiresAt),
		"the access token outlives its session")
}

// raceWithASlowWrite has two instances refresh the same token. The loser has looked already, and is
// about to write, when the winner's write lands.
func (w *world) raceWithASlowWrite(
	other *tokensession.Manager, presented tokensession.Tokens,
) (winner, loser tokensession.Tokens) {
	w.t.Helper()
	var winners testkit.Late
	w.store.On(testkit.Swap, // by the winner
		w.clock.Passes(15*time.Second),
		winners.Keep,
		testkit.Do(func() {
			var err error
			loser, err = other.Refresh(ctx, presented.RefreshToken)
			require.NoError(w.t, err)
		}),
	)
	w.store.On(testkit.Swap, // by the loser
		winners.Lands,
	)
	winner = w.refresh(presented.RefreshToken)
	return winner, loser
}

// The winner's write hangs in the store for longer than the grace period, and the other tab looks
// before it is done.
func TestRefresh_thatLosesARaceToASlowWrite(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	other := w.manager(w.store.Store(), tokensession.Config{}, w.events) // it knows of no write under way
	first := w.start()
	winner, loser := w.raceWithASlowWrite(other, first)
	require.Equal(t, winner.RefreshToken, loser.RefreshToken)
}

// The same where the store has lost writes, so that both tabs bring a token that is newer than the
// record.
func TestRefresh_thatLosesAHealToASlowWrite(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	stale := w.record(first.Session.ID)
	newest := w.refresh(w.refresh(first.RefreshToken).RefreshToken)
	w.restore(stale)

	w.m = w.manager(w.store.Store(), tokensession.Config{}, w.events)
	other := w.manager(w.store.Store(), tokensession.Config{}, w.events) // it knows of no write under way
	winner, loser := w.raceWithASlowWrite(other, newest)
	require.Equal(t, winner.RefreshToken, loser.RefreshToken)
	w.requireLive(winner)
}

// Two tabs were told to try again. The one that is quicker goes on with the successor before the other
// has written: to the slower one there is nothing left to give, but it is no thief.
func TestRefresh_thatIsDoneAgainAndLosesARaceGetsNoVerdict(t *testing.T) {
	var meanwhile func()
	w := newWorld(t, tokensession.Config{Authorize: onceAuthorizing(&meanwhile)})
	first := w.start()
	w.fails(first.RefreshToken)
	var live tokensession.Tokens
	meanwhile = func() { live = w.refresh(w.refresh(first.RefreshToken).RefreshToken) }
	err := w.refreshError(first.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	requireNoVerdict(t, err)
	w.requireLive(live)
}

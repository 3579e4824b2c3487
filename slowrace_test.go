package tokensession_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// A refresh is held up, here by its authorizer, for far longer than the grace period, while another tab refreshes the
// same token: it was presented in time.
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
			clock := newClock()
			var meanwhile func()
			m := newManager(t, tokensession.NewMemoryStore(), tokensession.Config{
				Now: clock.Now, GracePeriod: c.grace,
				Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
					if f := meanwhile; f != nil {
						meanwhile = nil
						f()
					}
					return tokensession.Grant{}, nil
				},
			})
			first, err := m.Start(ctx, "alice")
			require.NoError(t, err)
			other := first
			meanwhile = func() {
				for range c.refreshes {
					other, err = m.Refresh(ctx, other.RefreshToken)
					require.NoError(t, err)
				}
				clock.advance(5 * time.Minute)
			}
			slow, err := m.Refresh(ctx, first.RefreshToken)
			require.ErrorIs(t, err, c.want)
			if c.want == nil {
				require.Equal(t, other.RefreshToken, slow.RefreshToken)
			}
			if c.grace != tokensession.Strict {
				_, err = m.Refresh(ctx, other.RefreshToken)
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
		w.clock.advance(time.Minute)
		other := first
		meanwhile = func() {
			for range refreshes {
				other = w.refresh(other.RefreshToken)
			}
			w.clock.advance(5 * time.Minute)
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

// A session is ended just after its time was over, by a refresh's clock or for that of another instance, while a
// refresh is under way that was presented before: nothing may come of that.
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
		for kind, store := range map[string]tokensession.RefreshStore{
			"one by one": struct{ tokensession.RefreshStore }{tokensession.NewMemoryStore()}, "at one stroke": tokensession.NewMemoryStore(),
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				var meanwhile func()
				events := &eventLog{}
				clock := newClock()
				m := newManager(t, store, tokensession.Config{Now: clock.Now, OnEvent: events.add, Authorize: onceAuthorizing(&meanwhile)})
				tokens, err := m.Start(ctx, "alice")
				require.NoError(t, err)
				clock.advance(7*24*time.Hour - 10*time.Millisecond)
				meanwhile = func() {
					clock.advance(20 * time.Millisecond)
					require.NoError(t, revoke(m, tokens))
				}
				_, err = m.Refresh(ctx, tokens.RefreshToken)
				if !errors.Is(err, tokensession.ErrInvalidToken) { // the record has been dropped already
					require.ErrorIs(t, err, tokensession.ErrRevoked)
				}
				require.Zero(t, events.count(tokensession.EventRevoked), "it had expired")
			})
		}
	}
}

// The winner is an instance that has been told of a shorter RefreshTTL already: the access token that the loser had
// signed before it lost is good for longer than the session.
func TestRefresh_thatLosesARaceGetsNoAccessTokenThatOutlivesTheSession(t *testing.T) {
	clock := newClock()
	memory := tokensession.NewMemoryStore()
	store := &swapHook{RefreshStore: memory, before: func(tokensession.Record) {}}
	signer := testSigner(t)
	instance := func(store tokensession.RefreshStore, ttl time.Duration) *tokensession.Manager {
		m, err := tokensession.New(signer, store, tokensession.Config{Now: clock.Now, RefreshTTL: ttl})
		require.NoError(t, err)
		return m
	}
	old, updated := instance(store, 0), instance(memory, time.Minute)
	first, err := old.Start(ctx, "alice")
	require.NoError(t, err)
	store.before = func(tokensession.Record) {
		store.before = func(tokensession.Record) {}
		_, err := updated.Refresh(ctx, first.RefreshToken)
		require.NoError(t, err)
	}
	tokens, err := old.Refresh(ctx, first.RefreshToken)
	require.NoError(t, err)
	require.Equal(t, clock.Now().Add(time.Minute).Truncate(micro), tokens.RefreshExpiresAt)
	require.False(t, tokens.AccessExpiresAt.After(tokens.RefreshExpiresAt), "the access token outlives its session")
}

// A swapHook is called before each Swap.
type swapHook struct {
	tokensession.RefreshStore
	before func(next tokensession.Record)
}

func (s *swapHook) Swap(ctx context.Context, next tokensession.Record) error {
	s.before(next)
	return s.RefreshStore.Swap(ctx, next)
}

// The winner's write hangs in the store for longer than the grace period, and the other tab looks before it is done.
func TestRefresh_thatLosesARaceToASlowWrite(t *testing.T) {
	clock := newClock()
	memory := tokensession.NewMemoryStore()
	store := &swapHook{RefreshStore: memory}
	m := newManager(t, store, tokensession.Config{Now: clock.Now})
	other := newManager(t, store, tokensession.Config{Now: clock.Now}) // which knows of no write under way
	first, err := m.Start(ctx, "alice")
	require.NoError(t, err)

	var loser tokensession.Tokens
	store.before = func(winners tokensession.Record) {
		clock.advance(15 * time.Second)
		store.before = func(tokensession.Record) { // the loser has looked, and is about to write
			store.before = func(tokensession.Record) {}
			require.NoError(t, memory.Swap(ctx, winners))
		}
		loser, err = other.Refresh(ctx, first.RefreshToken)
		require.NoError(t, err)
	}
	winner, err := m.Refresh(ctx, first.RefreshToken)
	require.NoError(t, err)
	require.Equal(t, winner.RefreshToken, loser.RefreshToken)
}

// The same where the store has lost writes, so that both tabs bring a token that is newer than the record.
func TestRefresh_thatLosesAHealToASlowWrite(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	stale := w.record(first.Session.ID)
	newest := w.refresh(w.refresh(first.RefreshToken).RefreshToken)
	w.restore(stale)

	store := &swapHook{RefreshStore: w.memory}
	w.m = w.manager(store, tokensession.Config{}, w.events)
	other := w.manager(store, tokensession.Config{}, w.events) // which knows of no write under way
	var loser tokensession.Tokens
	store.before = func(winners tokensession.Record) {
		w.clock.advance(15 * time.Second)
		store.before = func(tokensession.Record) {
			store.before = func(tokensession.Record) {}
			require.NoError(t, w.memory.Swap(ctx, winners))
		}
		var err error
		loser, err = other.Refresh(ctx, newest.RefreshToken)
		require.NoError(t, err)
	}
	winner := w.refresh(newest.RefreshToken)
	require.Equal(t, winner.RefreshToken, loser.RefreshToken)
	w.requireLive(winner)
}

// Two tabs were told to try again. The one that is quicker goes on with the successor before the other has written: to
// the slower one there is nothing left to give, but it is no thief.
func TestRefresh_thatIsDoneAgainAndLosesARaceGetsNoVerdict(t *testing.T) {
	var meanwhile func()
	w := newWorld(t, tokensession.Config{Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
		if f := meanwhile; f != nil {
			meanwhile = nil
			f()
		}
		return tokensession.Grant{}, nil
	}})
	first := w.start()
	w.fails(first.RefreshToken)
	var live tokensession.Tokens
	meanwhile = func() { live = w.refresh(w.refresh(first.RefreshToken).RefreshToken) }
	err := w.refreshError(first.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	requireNoVerdict(t, err)
	w.requireLive(live)
}

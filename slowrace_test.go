package tokensession_test

import (
	"context"
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
	first, err := m.Start(ctx, "alice")
	require.NoError(t, err)

	var loser tokensession.Tokens
	store.before = func(winners tokensession.Record) {
		clock.advance(15 * time.Second)
		store.before = func(tokensession.Record) { // the loser has looked, and is about to write
			store.before = func(tokensession.Record) {}
			require.NoError(t, memory.Swap(ctx, winners))
		}
		loser, err = m.Refresh(ctx, first.RefreshToken)
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
	var loser tokensession.Tokens
	store.before = func(winners tokensession.Record) {
		w.clock.advance(15 * time.Second)
		store.before = func(tokensession.Record) {
			store.before = func(tokensession.Record) {}
			require.NoError(t, w.memory.Swap(ctx, winners))
		}
		loser = w.refresh(newest.RefreshToken)
	}
	winner := w.refresh(newest.RefreshToken)
	require.Equal(t, winner.RefreshToken, loser.RefreshToken)
	w.requireLive(winner)
}

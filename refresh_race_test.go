package tokensession_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// R3. Keycloak CVE-2026-1035, better-auth GHSA-392p-2q2v-4372: check and update were not one.
func TestRefresh_tabsInEveryOrderGetOneSuccessor(t *testing.T) {
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	testkit.InEveryOrder(t, func(play *testkit.Play) func() {
		s := newScene(t, play, key, tokensession.Config{})
		first := s.start()
		for range 3 {
			s.refreshes(first.RefreshToken)
		}
		return func() {
			for _, got := range s.given {
				require.NoError(t, got.err)
				require.Equal(t, s.given[0].tokens.RefreshToken, got.tokens.RefreshToken)
			}
			require.EqualValues(t, 1, s.record(first.Session.ID).Generation)
			require.Equal(t, 1, s.events.Count(tokensession.EventRefreshed))
			require.Equal(t, 2, s.events.Count(tokensession.EventReplayed))
			s.requireLive(s.given[2].tokens)
		}
	})
}

func TestRefresh_strictHasOneWinnerInEveryOrder(t *testing.T) {
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	testkit.InEveryOrder(t, func(play *testkit.Play) func() {
		s := newScene(t, play, key, tokensession.Config{GracePeriod: tokensession.Strict})
		first := s.start()
		a, b := s.refreshes(first.RefreshToken), s.refreshes(first.RefreshToken)
		return func() {
			if a.err == nil {
				a, b = b, a
			}
			require.NoError(t, b.err, "nobody won")
			requireReused(t, a.err, 0, 1)
			s.requireDead(first, b.tokens)
		}
	})
}

// The thief comes with an old token while the honest client refreshes.
func TestRefresh_theftIsCaughtInEveryOrder(t *testing.T) {
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	testkit.InEveryOrder(t, func(play *testkit.Play) func() {
		s := newScene(t, play, key, tokensession.Config{})
		stolen := s.start()
		second := s.refresh(stolen.RefreshToken)
		live := s.refresh(second.RefreshToken)
		thief := s.refreshes(stolen.RefreshToken)
		s.refreshes(live.RefreshToken)
		return func() {
			require.ErrorIs(t, thief.err, tokensession.ErrReused)
			s.requireDead(append(s.handedOut(), stolen, second, live)...)
			require.Equal(t, 1, s.events.Count(tokensession.EventReused))
		}
	})
}

// R3, for the race detector.
func TestRefresh_hundredInParallelGetOneSuccessor(t *testing.T) {
	const parallel = 100
	w := newWorld(t, tokensession.Config{})
	managers := []*tokensession.Manager{w.m, w.other(tokensession.Config{})}
	tokens := w.start()
	for range 20 {
		var wg sync.WaitGroup
		got := make([]tokensession.Tokens, parallel)
		for i := range parallel {
			wg.Go(func() {
				var err error
				if got[i], err = managers[i%2].Refresh(context.Background(), tokens.RefreshToken); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, other := range got {
			require.Equal(t, got[0].RefreshToken, other.RefreshToken)
		}
		require.NotEqual(t, tokens.RefreshToken, got[0].RefreshToken)
		tokens = got[0]
	}
	require.EqualValues(t, 20, w.record(tokens.Session.ID).Generation)
}

func TestRefresh_strictHasOneWinnerOfAHundred(t *testing.T) {
	w := newWorld(t, tokensession.Config{GracePeriod: tokensession.Strict})
	tokens := w.start()
	var wg sync.WaitGroup
	var winners atomic.Int32
	for range 100 {
		wg.Go(func() {
			switch _, err := w.m.Refresh(context.Background(), tokens.RefreshToken); {
			case err == nil:
				winners.Add(1)
			case !errors.Is(err, tokensession.ErrRevoked):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, winners.Load())
	require.Equal(t, 1, w.events.Count(tokensession.EventReused))
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

// Two tabs refresh at once, and the authorizer takes longer than the grace. Which of them wins does
// not matter.
func TestRefresh_slowAuthorizerDoesNotMakeARaceLookLikeTheft(t *testing.T) {
	var w *world
	var first, second tokensession.Tokens
	asked := 0
	w = newWorld(t, tokensession.Config{
		Authorize: func(ctx context.Context, _ tokensession.Session) (tokensession.Grant, error) {
			asked++
			if asked == 2 { // for the first tab: meanwhile the second comes
				w.clock.Advance(time.Second)
				second = w.refresh(first.RefreshToken)
			}
			if asked > 1 {
				w.clock.Advance(grace + time.Second)
			}
			return tokensession.Grant{}, nil
		},
	})
	first = w.start()
	third := w.refresh(first.RefreshToken)
	require.Equal(t, second.RefreshToken, third.RefreshToken)
	w.requireLive(third)
}

// The client gives up waiting and tries again: the grace begins when the successor is written, not
// when it was asked for.
func TestRefresh_slowAuthorizerDoesNotUseUpTheGrace(t *testing.T) {
	var w *world
	w = newWorld(t, tokensession.Config{
		Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
			w.clock.Advance(grace + time.Second)
			return tokensession.Grant{}, nil
		},
	})
	first := w.start()
	second := w.refresh(first.RefreshToken)
	require.Equal(t, second.RefreshToken, w.refresh(first.RefreshToken).RefreshToken)
}

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

// The same for a token that could be recovered: the reply was lost, and an application that comes
// back asks twice.
func TestRefresh_thatLosesARaceOfRecoveriesSlowly(t *testing.T) {
	for refreshes, want := range map[int]error{1: nil, 2: tokensession.ErrUnavailable} {
		var meanwhile func()
		w := newWorld(t, tokensession.Config{RecoveryPeriod: time.Hour,
			Authorize: onceAuthorizing(&meanwhile)})
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

// Two tabs were told to try again. The one that is quicker goes on with the successor before the
// other has written: to the slower one there is nothing left to give, but it is no thief.
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

// The winner is an instance that has been told of a shorter RefreshTTL already: the access token
// that the loser had signed before it lost is good for longer than the session.
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

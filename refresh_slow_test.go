package tokensession_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// The store stalls. A refresh's write is on its way when that begins. Another tab comes when the
// grace period is over by the time of that write, and then the store goes on and serves both.
// Neither can have known of the successor.
func TestRefresh_whileAWriteTakesLong(t *testing.T) {
	for mode, c := range map[string]struct {
		cfg  tokensession.Config
		want error
	}{
		"grace":    {tokensession.Config{}, nil},
		"recovery": {tokensession.Config{RecoveryPeriod: time.Hour}, nil},
		"strict":   {tokensession.Config{GracePeriod: tokensession.Strict}, tokensession.ErrReused},
	} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, c.cfg)
			first := w.start()
			var second tokensession.Tokens
			var err error
			w.store.On(testkit.Swap,
				w.clock.Passes(12*time.Second),
				testkit.Apply,
				testkit.Do(func() { second, err = w.m.Refresh(ctx, first.RefreshToken) }),
				w.clock.Passes(3*time.Second),
			)
			got := w.refresh(first.RefreshToken)
			require.ErrorIs(t, err, c.want)
			if c.want != nil {
				return
			}
			require.Equal(t, got.RefreshToken, second.RefreshToken)
			w.requireLive(got)

			w.clock.Advance(time.Minute)
			var reuse *tokensession.ReuseError
			require.ErrorAs(t, w.refreshError(first.RefreshToken), &reuse, "the write is done")
		})
	}
}

// A write took most of the grace period, or more than all of it. The period is there for clients,
// who learn of the successor when the write is over; on all instances.
func TestRefresh_afterASlowWriteTheGracePeriodIsWhole(t *testing.T) {
	for name, lost := range map[string]bool{"answered": false, "with a lost reply": true} {
		for _, took := range []time.Duration{time.Second, 6 * time.Second, 15 * time.Second, time.Hour} {
			t.Run(name+" after "+took.String(), func(t *testing.T) {
				w := newWorld(t, tokensession.Config{})
				first := w.start()
				steps := []testkit.Step{testkit.Apply, w.clock.Passes(took)}
				if lost {
					steps = append(steps, testkit.LoseReply)
				}
				w.store.On(testkit.Swap, steps...)
				w.store.Took()
				got, err := w.m.Refresh(ctx, first.RefreshToken)
				require.NoError(t, err)
				require.Equal(t, took > 5*time.Second, w.store.Count(testkit.Swap) == 2,
					"one more write where it is worth it")
				require.Equal(t, w.record(got.Session.ID).ExpiresAt, got.RefreshExpiresAt)

				left := 10 * time.Second
				if took < 5*time.Second {
					left -= took
				}
				w.clock.Advance(left - micro)
				for _, m := range []*tokensession.Manager{w.m, w.other(tokensession.Config{})} {
					tab, err := m.Refresh(ctx, first.RefreshToken)
					require.NoError(t, err)
					require.Equal(t, got.RefreshToken, tab.RefreshToken)
				}
				w.clock.Advance(micro)
				require.ErrorIs(t, w.refreshError(first.RefreshToken), tokensession.ErrReused)
			})
		}
	}
}

// What a slow write needs afterwards may fail: the client gets its answer.
func TestRefresh_afterASlowWriteTheNextMayFail(t *testing.T) {
	for name, fails := range map[string]testkit.Step{
		"outage":   testkit.LoseRequest,
		"conflict": testkit.Refuse(tokensession.ErrConflict),
		"stall":    testkit.Hang,
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			first := w.start()
			w.store.On(testkit.Swap,
				w.clock.Passes(time.Minute),
				testkit.Apply,
			)
			w.store.Always(testkit.Swap, fails)
			w.store.Took()
			began := time.Now()
			got := w.refresh(first.RefreshToken)
			require.LessOrEqual(t, time.Since(began), 2*time.Second,
				"the client waits for its answer")
			require.Equal(t, 2, w.store.Count(testkit.Swap), name)
			w.store.Clear()
			w.requireLive(got)
		})
	}
}

// Another tab has got the successor of a write whose own caller was told to try again. Then nothing
// is in doubt any more, and somebody who comes much later with the consumed token has stolen it.
func TestRefresh_aSuccessorThatAnotherTabGotIsInNoDoubt(t *testing.T) {
	type story func(w *world, first tokensession.Tokens) (client tokensession.Tokens)
	for name, play := range map[string]story{
		"before its caller is told": func(w *world, first tokensession.Tokens) (client tokensession.Tokens) {
			w.store.On(testkit.Swap,
				testkit.Apply,
				testkit.Do(func() { client = w.refresh(first.RefreshToken) }),
				w.store.GoesDown(testkit.Swap, testkit.Load),
				testkit.LoseReply,
			)
			requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
			w.store.Clear()
			return client
		},
		"after that": func(w *world, first tokensession.Tokens) tokensession.Tokens {
			w.fails(first.RefreshToken)
			w.clock.Advance(time.Hour)
			w.fails(first.RefreshToken) // a recovery now
			w.clock.Advance(5 * time.Second)
			return w.refresh(first.RefreshToken)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			first := w.start()
			client := play(w, first)
			w.clock.Advance(10 * time.Minute)
			require.ErrorIs(t, w.refreshError(first.RefreshToken), tokensession.ErrReused)
			require.ErrorIs(t, w.refreshError(client.RefreshToken), tokensession.ErrRevoked)
		})
	}
}

// The second tab has read the session before the first one's slow write was made up for. It finds
// theft when that is over, and decides again.
func TestRefresh_thatFindsTheftBeforeTheGracePeriodBeginsAnew(t *testing.T) {
	for name, failure := range map[string]error{
		"": nil, "and then cannot be authorized": testkit.ErrDown,
	} {
		t.Run(name, func(t *testing.T) { findTheftTooEarly(t, failure) })
	}
}

func findTheftTooEarly(t *testing.T, failure error) {
	w := newAnsweringWorld(t, tokensession.Config{})
	first := w.start()
	var got tokensession.Tokens
	var err error
	looked, answered, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w.store.On(testkit.Swap, // by the first tab
		w.clock.Passes(12*time.Second),
		testkit.Apply,
		testkit.Do(func() {
			w.store.On(testkit.Load, // by the second tab
				testkit.Apply,
				testkit.Do(func() {
					close(looked)
					<-answered
				}),
			)
			go func() {
				defer close(done)
				got, err = w.m.Refresh(ctx, first.RefreshToken)
			}()
			<-looked
		}),
	)
	want := w.refresh(first.RefreshToken)
	w.answer(failure)
	close(answered)
	<-done
	w.answer(nil)
	if failure != nil {
		requireUnavailableFor(t, err, failure)
	} else {
		require.NoError(t, err)
		require.Equal(t, want.RefreshToken, got.RefreshToken)
	}
	w.requireLive(want)
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
	// it knows of no write under way
	other := w.manager(w.store.Store(), tokensession.Config{}, w.events)
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
	// it knows of no write under way
	other := w.manager(w.store.Store(), tokensession.Config{}, w.events)
	winner, loser := w.raceWithASlowWrite(other, newest)
	require.Equal(t, winner.RefreshToken, loser.RefreshToken)
	w.requireLive(winner)
}

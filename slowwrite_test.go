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

// The store stalls. A refresh's write is on its way when that begins. Another tab comes when the grace
// period is over by the time of that write, and then the store goes on and serves both. Neither can
// have known of the successor.
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

// A write took most of the grace period, or more than all of it. The period is there for clients, who
// learn of the successor when the write is over; on all instances.
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
			require.LessOrEqual(t, time.Since(began), 2*time.Second, "the client waits for its answer")
			require.Equal(t, 2, w.store.Count(testkit.Swap), name)
			w.store.Clear()
			w.requireLive(got)
		})
	}
}

// Another tab has got the successor of a write whose own caller was told to try again. Then nothing is
// in doubt any more, and somebody who comes much later with the consumed token has stolen it.
func TestRefresh_aSuccessorThatAnotherTabGotIsInNoDoubt(t *testing.T) {
	for name, play := range map[string]func(w *world, first tokensession.Tokens) (client tokensession.Tokens){
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

// The reply to a revocation is lost, and nobody asks again, because the page is closed. The access
// token is dead all the same; and if the write never arrived, the session ends at its next refresh.
func TestRevoke_thatIsInDoubtIsCarriedOut(t *testing.T) {
	for name, revoke := range map[string]func(m *tokensession.Manager, ctx context.Context, tokens tokensession.Tokens) error{
		"Revoke": func(m *tokensession.Manager, ctx context.Context, tokens tokensession.Tokens) error {
			return m.Revoke(ctx, tokens.Session.ID)
		},
		"RevokeToken": func(m *tokensession.Manager, ctx context.Context, tokens tokensession.Tokens) error {
			return m.RevokeToken(ctx, tokens.RefreshToken)
		},
		"RevokeAccess": func(m *tokensession.Manager, ctx context.Context, tokens tokensession.Tokens) error {
			return m.RevokeAccess(ctx, tokens.AccessToken)
		},
	} {
		for _, applied := range []bool{true, false} {
			w := newWorld(t, tokensession.Config{})
			tokens := w.start()
			caller, leave := context.WithCancel(ctx)
			var steps []testkit.Step
			if applied {
				steps = append(steps, testkit.Apply)
			}
			steps = append(steps, testkit.Do(leave), testkit.Refuse(context.Canceled))
			w.store.Always(testkit.Swap, steps...)
			requireUnavailableFor(t, revoke(w.m, caller, tokens), context.Canceled)
			w.store.Clear()
			require.Equal(t, applied, !w.record(tokens.Session.ID).RevokedAt.IsZero())
			for range 15 {
				_, err := w.m.Verify(tokens.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked, "%s, applied %v", name, applied)
				w.clock.Advance(time.Minute)
			}
			require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
			require.False(t, w.record(tokens.Session.ID).RevokedAt.IsZero())
		}
	}
}

// A login that fails may have ended the session that it was to replace, or not: then that one lives.
func TestReplacing_thatIsInDoubtEndsNothingByItself(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	old := w.start()
	w.store.Down(testkit.Swap)
	_, err := w.m.Start(ctx, "alice", tokensession.Replacing(old.Session.ID))
	requireUnavailableFor(t, err, testkit.ErrDown)
	w.store.Clear()
	w.requireLive(old)
}

// Theft was found, and the reply to the revocation was lost, or the write. The thief's access token is
// dead at once. Where the store does not know of the theft yet, the host is told of it when the honest
// client tries again.
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

// A revocation takes long to write, and meanwhile another tab is answered again, with an access token
// that is younger than the revocation. Instances that read of the revocation deny that token for as
// long as it lives.
func TestRun_deniesWhatAReplayMadeDuringTheRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tokensession.Config{GracePeriod: 10 * time.Minute}
		w := newWorld(t, cfg)
		first := w.start()
		w.refresh(first.RefreshToken)
		var replayed tokensession.Tokens
		w.store.On(testkit.Swap,
			w.clock.Passes(10*time.Minute-time.Second),
			testkit.Do(func() { replayed = w.refresh(first.RefreshToken) }),
			testkit.Apply,
		)
		elsewhere := w.manager(w.store.Store(), cfg, &testkit.Events{})
		require.NoError(t, elsewhere.Revoke(ctx, first.Session.ID))

		reader := w.other(cfg)
		running, stop := context.WithCancel(ctx)
		ran := make(chan error, 1)
		go func() { ran <- reader.Run(running) }()
		synctest.Wait() // until the feed has been read
		stop()
		require.ErrorIs(t, <-ran, context.Canceled)
		for w.clock.Now().Before(replayed.AccessExpiresAt) {
			_, err := reader.Verify(replayed.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrRevoked,
				"%v before its end", replayed.AccessExpiresAt.Sub(w.clock.Now()))
			w.clock.Advance(time.Second)
		}
	})
}

// The second tab has read the session before the first one's slow write was made up for. It finds theft
// when that is over, and decides again.
func TestRefresh_thatFindsTheftBeforeTheGracePeriodBeginsAnew(t *testing.T) {
	for name, failure := range map[string]error{"": nil, "and then cannot be authorized": testkit.ErrDown} {
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

// A revocation waits in a store that stalls. It is written after a tab has got the successor of a write
// that waited there, too. The access token that this tab got dies with the others.
func TestRevoke_thatTakesLongDeniesWhatWasReplayedMeanwhile(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	var late tokensession.Tokens
	w.store.On(testkit.Swap, // by the refresh
		testkit.Apply,
		testkit.Do(func() { require.NoError(t, w.m.Revoke(ctx, first.Session.ID)) }),
	)
	w.store.On(testkit.Swap, // by the revocation
		w.clock.Passes(10*time.Minute),
		testkit.Do(func() { late = w.refresh(first.RefreshToken) }),
	)
	w.refresh(first.RefreshToken)
	for ; w.clock.Now().Before(late.AccessExpiresAt); w.clock.Advance(time.Second) {
		_, err := w.m.Verify(late.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked,
			"%v before it expires", late.AccessExpiresAt.Sub(w.clock.Now()))
	}
}

// The host's code panics after the write, and its server goes on. Nothing is under way any more.
func TestRefresh_thatPanicsLeavesNothingUnderWay(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	m := newManager(t, w.signer, w.store.Store(), tokensession.Config{
		Now: w.clock.Now,
		OnEvent: func(_ context.Context, e tokensession.Event) {
			if e.Kind == tokensession.EventRefreshed {
				panic("a host's")
			}
		},
	})
	require.Panics(t, func() { _, _ = m.Refresh(ctx, first.RefreshToken) })
	w.clock.Advance(time.Minute)
	_, err := m.Refresh(ctx, first.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrReused)
}

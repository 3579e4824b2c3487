package tokensession_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// The store stalls. A refresh's write is on its way when that begins, another tab comes when the grace period is over by
// the time of that write, and the store goes on and serves both. Neither can have known of the successor.
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
			w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
				if call == callSwap {
					w.store.set(nil)
					w.clock.advance(12 * time.Second)
					require.NoError(t, apply())
					second, err = w.m.Refresh(ctx, first.RefreshToken)
					w.clock.advance(3 * time.Second)
					return nil
				}
				return apply()
			})
			got := w.refresh(first.RefreshToken)
			require.ErrorIs(t, err, c.want)
			if c.want != nil {
				return
			}
			require.Equal(t, got.RefreshToken, second.RefreshToken)
			w.requireLive(got)

			w.clock.advance(time.Minute)
			var reuse *tokensession.ReuseError
			require.ErrorAs(t, w.refreshError(first.RefreshToken), &reuse, "the write is done")
		})
	}
}

// A write took most of the grace period, or more than all of it. The period is there for clients, who learn of the
// successor when it is over; on all instances.
func TestRefresh_afterASlowWriteTheGracePeriodIsWhole(t *testing.T) {
	for name, fails := range map[string]bool{"answered": false, "with a lost reply": true} {
		for _, took := range []time.Duration{time.Second, 6 * time.Second, 15 * time.Second, time.Hour} {
			t.Run(name+" after "+took.String(), func(t *testing.T) {
				w := newWorld(t, tokensession.Config{})
				first := w.start()
				w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
					if call == callSwap {
						w.store.set(nil)
						require.NoError(t, apply())
						w.clock.advance(took)
						if fails {
							return errStoreDown
						}
					}
					return apply()
				})
				w.store.took()
				got, err := w.m.Refresh(ctx, first.RefreshToken)
				require.NoError(t, err)
				require.Equal(t, took > 5*time.Second, w.store.count(callSwap) == 2, "one more write where it is worth it")
				require.Equal(t, w.record(got.Session.ID).ExpiresAt, got.RefreshExpiresAt)

				left := 10 * time.Second
				if took < 5*time.Second {
					left -= took
				}
				w.clock.advance(left - time.Microsecond)
				for _, m := range []*tokensession.Manager{w.m, w.other(tokensession.Config{})} {
					tab, err := m.Refresh(ctx, first.RefreshToken)
					require.NoError(t, err)
					require.Equal(t, got.RefreshToken, tab.RefreshToken)
				}
				w.clock.advance(time.Microsecond)
				require.ErrorIs(t, w.refreshError(first.RefreshToken), tokensession.ErrReused)
			})
		}
	}
}

// What a slow write needs afterwards may fail: the client gets its answer.
func TestRefresh_afterASlowWriteTheNextMayFail(t *testing.T) {
	for name, fail := range map[string]func(context.Context) error{
		"outage":   func(context.Context) error { return errStoreDown },
		"conflict": func(context.Context) error { return tokensession.ErrConflict },
		"stall":    func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			first := w.start()
			writes := 0
			w.store.set(func(ctx context.Context, call storeCall, apply func() error) error {
				if call != callSwap {
					return apply()
				}
				if writes++; writes > 1 {
					return fail(ctx)
				}
				w.clock.advance(time.Minute)
				return apply()
			})
			began := time.Now()
			got := w.refresh(first.RefreshToken)
			require.LessOrEqual(t, time.Since(began), 2*time.Second, "the client waits for its answer")
			require.Equal(t, 2, writes, name)
			w.store.set(nil)
			w.requireLive(got)
		})
	}
}

// Another tab has got the successor of a write whose own caller was told to try again: nothing is in doubt any more, and
// who comes much later with the consumed token has stolen it.
func TestRefresh_aSuccessorThatAnotherTabGotIsInNoDoubt(t *testing.T) {
	for name, play := range map[string]func(w *world, first tokensession.Tokens) (client tokensession.Tokens){
		"before its caller is told": func(w *world, first tokensession.Tokens) (client tokensession.Tokens) {
			w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
				if call != callSwap {
					return apply()
				}
				require.NoError(t, apply())
				w.store.set(nil)
				client = w.refresh(first.RefreshToken)
				w.store.breaks(fault{call: callSwap}, fault{call: callLoad})
				return errStoreDown
			})
			requireUnavailableFor(t, w.refreshError(first.RefreshToken), errStoreDown)
			w.store.set(nil)
			return client
		},
		"after that": func(w *world, first tokensession.Tokens) tokensession.Tokens {
			w.fails(first.RefreshToken)
			w.clock.advance(time.Hour)
			w.fails(first.RefreshToken) // a recovery now
			w.clock.advance(5 * time.Second)
			return w.refresh(first.RefreshToken)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			first := w.start()
			client := play(w, first)
			w.clock.advance(10 * time.Minute)
			require.ErrorIs(t, w.refreshError(first.RefreshToken), tokensession.ErrReused)
			require.ErrorIs(t, w.refreshError(client.RefreshToken), tokensession.ErrRevoked)
		})
	}
}

// The reply to a revocation is lost, and nobody asks again: whoever was logged out has closed the page. The access token
// is dead all the same; and if the write never arrived, the session ends at its next refresh.
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
			w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
				if call != callSwap {
					return apply()
				}
				if applied {
					require.NoError(t, apply())
				}
				leave()
				return context.Canceled
			})
			requireUnavailableFor(t, revoke(w.m, caller, tokens), context.Canceled)
			w.store.set(nil)
			require.Equal(t, applied, !w.record(tokens.Session.ID).RevokedAt.IsZero())
			for range 15 {
				_, err := w.m.Verify(tokens.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked, "%s, applied %v", name, applied)
				w.clock.advance(time.Minute)
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
	w.store.breaks(fault{call: callSwap})
	_, err := w.m.Start(ctx, "alice", tokensession.Replacing(old.Session.ID))
	requireUnavailableFor(t, err, errStoreDown)
	w.store.set(nil)
	w.requireLive(old)
}

// Theft was found, and the reply to the revocation was lost, or the write. The thief's access token is dead at once, and
// the host is told of the theft when the honest client tries again, where the store does not know of it yet.
func TestReuse_thatIsInDoubtIsCarriedOut(t *testing.T) {
	for _, applied := range []bool{true, false} {
		w := newWorld(t, tokensession.Config{})
		first := w.start()
		thief := w.refresh(first.RefreshToken)
		w.clock.advance(time.Minute)
		w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
			if call != callSwap {
				return apply()
			}
			w.store.breaks(fault{call: callSwap}, fault{call: callLoad})
			if applied {
				return errors.Join(apply(), errStoreDown)
			}
			return errStoreDown
		})
		requireUnavailableFor(t, w.refreshError(first.RefreshToken), errStoreDown)
		w.store.set(nil)
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

// A revocation takes long to write, and meanwhile another tab is answered again, with an access token that is younger
// than the revocation. Instances that read of that deny it for as long as it lives.
func TestRun_deniesWhatAReplayMadeDuringTheRevocation(t *testing.T) {
	cfg := tokensession.Config{GracePeriod: 10 * time.Minute}
	w := newWorld(t, cfg)
	first := w.start()
	w.refresh(first.RefreshToken)
	var replayed tokensession.Tokens
	slow := &swapHook{RefreshStore: w.memory, before: func(tokensession.Record) {
		w.clock.advance(10*time.Minute - time.Second)
		replayed = w.refresh(first.RefreshToken)
	}}
	require.NoError(t, w.manager(slow, cfg, &eventLog{}).Revoke(ctx, first.Session.ID))

	reader := w.other(cfg)
	running, stop := context.WithCancel(ctx)
	ran := make(chan error, 1)
	go func() { ran <- reader.Run(running) }()
	require.Eventually(t, func() bool {
		_, err := reader.Verify(replayed.AccessToken)
		return errors.Is(err, tokensession.ErrRevoked)
	}, 10*time.Second, 10*time.Millisecond)
	stop()
	require.ErrorIs(t, <-ran, context.Canceled)
	for w.clock.Now().Before(replayed.AccessExpiresAt) {
		_, err := reader.Verify(replayed.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked, "%v before its end", replayed.AccessExpiresAt.Sub(w.clock.Now()))
		w.clock.advance(time.Second)
	}
}

// The second tab has read the session before the first one's slow write was made up for, and finds theft when that is
// over: it decides again.
func TestRefresh_thatFindsTheftBeforeTheGracePeriodBeginsAnew(t *testing.T) {
	for name, failure := range map[string]error{"": nil, "and then cannot be authorized": errStoreDown} {
		t.Run(name, func(t *testing.T) { findTheftTooEarly(t, failure) })
	}
}

func findTheftTooEarly(t *testing.T, failure error) {
	w := newAnsweringWorld(t, tokensession.Config{})
	first := w.start()
	var got tokensession.Tokens
	var err error
	answered, looked := make(chan struct{}), make(chan struct{})
	done := make(chan struct{})
	w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
		if call != callSwap {
			return apply()
		}
		w.clock.advance(12 * time.Second)
		applied := apply()
		w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
			if call != callLoad {
				return apply()
			}
			w.store.set(nil)
			loaded := apply()
			close(looked)
			<-answered
			return loaded
		})
		go func() {
			defer close(done)
			got, err = w.m.Refresh(ctx, first.RefreshToken)
		}()
		<-looked
		return applied
	})
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

// A revocation waits in a store that stalls, and is written after a tab has got the successor of a write that waited
// there, too. The access token that it got dies with the others.
func TestRevoke_thatTakesLongDeniesWhatWasReplayedMeanwhile(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	var late tokensession.Tokens
	w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
		if call != callSwap {
			return apply()
		}
		require.NoError(t, apply())
		w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
			if call != callSwap {
				return apply()
			}
			w.store.set(nil)
			w.clock.advance(10 * time.Minute)
			late = w.refresh(first.RefreshToken)
			return apply()
		})
		require.NoError(t, w.m.Revoke(ctx, first.Session.ID))
		return nil
	})
	w.refresh(first.RefreshToken)
	for ; w.clock.Now().Before(late.AccessExpiresAt); w.clock.advance(time.Second) {
		_, err := w.m.Verify(late.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked, "%v before it expires", late.AccessExpiresAt.Sub(w.clock.Now()))
	}
}

// The host's code panics after the write, and its server goes on. Nothing is under way any more.
func TestRefresh_thatPanicsLeavesNothingUnderWay(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	w.m = nil
	m, err := tokensession.New(w.signer, w.store, tokensession.Config{Now: w.clock.Now, OnEvent: func(_ context.Context, e tokensession.Event) {
		if e.Kind == tokensession.EventRefreshed {
			panic("a host's")
		}
	}})
	require.NoError(t, err)
	require.Panics(t, func() { _, _ = m.Refresh(ctx, first.RefreshToken) })
	w.clock.advance(time.Minute)
	_, err = m.Refresh(ctx, first.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrReused)
}

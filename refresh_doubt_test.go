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

// Stories about what a call does not know: whether a write of its own was applied, and what others
// did meanwhile.

// A second tab, at another instance, finds theft before the first tab's slow write is made up for.
// Its revocation is lost on the way, and by the next look the record is another one, so that the
// revocation can never be applied. Then the store has said that there was no theft, and nothing is
// left of it.
func TestReuse_whoseWriteCanNeverBeAppliedDeniesNothing(t *testing.T) {
	w := newAnsweringWorld(t, tokensession.Config{})
	other := w.manager(w.store.Store(), tokensession.Config{}, w.events)
	first := w.start()
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
				_, err = w.m.Refresh(ctx, first.RefreshToken)
			}()
			<-looked
		}),
	)
	want, firstErr := other.Refresh(ctx, first.RefreshToken)
	require.NoError(t, firstErr)
	w.answer(testkit.ErrDown)
	w.store.On(testkit.Swap, testkit.LoseRequest) // the second tab's revocation
	close(answered)
	<-done
	w.answer(nil)
	w.store.Clear()
	requireUnavailableFor(t, err, testkit.ErrDown)
	require.Zero(t, w.record(first.Session.ID).RevokedAt)
	w.requireLive(want)
}

// The first attempt's write is held up for twelve seconds and seems lost. The second attempt writes
// again, and just before that the first write lands. What the store has is the older of the two,
// and the grace period of that is over: it begins anew, and the client is told the end that is in
// the store.
func TestRefresh_whoseFirstWriteLandsBeforeItsSecondHasAWholeGracePeriod(t *testing.T) {
	for mode, cfg := range map[string]tokensession.Config{
		"no recovery": {}, "recovery": {RecoveryPeriod: time.Hour},
	} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, cfg)
			first := w.start()
			var late testkit.Late
			w.store.On(testkit.Swap, late.Keep, w.clock.Passes(12*time.Second), testkit.LoseRequest)
			w.store.On(testkit.Swap, late.Lands)
			got := w.refresh(first.RefreshToken)
			w.store.Clear()
			require.Equal(t, w.record(got.Session.ID).ExpiresAt, got.RefreshExpiresAt)
			w.clock.Advance(grace - micro)
			require.Equal(t, got.RefreshToken, w.refresh(first.RefreshToken).RefreshToken)
		})
	}
}

// A write takes twelve seconds. Just after it, another instance takes the second tab for a client
// that recovers, and displaces the successor. The first tab must not be given what is displaced
// already.
func TestRefresh_thatWasDisplacedDuringASlowWriteGetsTheNewSuccessor(t *testing.T) {
	cfg := tokensession.Config{RecoveryPeriod: time.Hour}
	w := newWorld(t, cfg)
	other, first := w.other(cfg), w.start()
	var tab tokensession.Tokens
	w.store.On(testkit.Swap,
		w.clock.Passes(12*time.Second),
		testkit.Apply,
		testkit.Do(func() {
			var err error
			tab, err = other.Refresh(ctx, first.RefreshToken)
			require.NoError(t, err)
		}),
	)
	got := w.refresh(first.RefreshToken)
	require.Equal(t, tab.RefreshToken, got.RefreshToken)
	w.clock.Advance(time.Minute)
	w.requireLive(got)
}

// The same, and the other instance ends the session: the first tab is told that.
func TestRefresh_ofASessionThatIsEndedDuringASlowWriteIsRevoked(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	w.store.On(testkit.Swap,
		w.clock.Passes(12*time.Second),
		testkit.Apply,
		testkit.Do(func() {
			require.NoError(t, w.other(tokensession.Config{}).Revoke(ctx, first.Session.ID))
		}),
	)
	require.ErrorIs(t, w.refreshError(first.RefreshToken), tokensession.ErrRevoked)
}

// A write takes long, and the client stops waiting. The write succeeds, but nobody receives the
// successor. When the client comes again, that is no theft, however late it is.
func TestRefresh_whoseCallerHasGoneIsDoneAgain(t *testing.T) {
	for _, took := range []time.Duration{0, 6 * time.Second, 12 * time.Second} {
		for _, later := range []time.Duration{5 * time.Second, time.Hour} {
			w := newWorld(t, tokensession.Config{})
			first := w.start()
			caller, leave := context.WithCancel(ctx)
			w.store.On(testkit.Swap, w.clock.Passes(took), testkit.Apply, testkit.Do(leave))
			_, _ = w.m.Refresh(caller, first.RefreshToken)
			w.store.Clear()
			w.clock.Advance(later)
			next := w.refresh(first.RefreshToken)
			w.requireLive(next)
		}
	}
}

// A write takes long. Another tab is answered alike meanwhile, and then the call that wrote has to
// give up. Its client was told to come again, and does so while the other tab's answer is one
// second old.
func TestRefresh_afterAnotherTabWasAnsweredDuringASlowWriteHasAWholeGracePeriod(t *testing.T) {
	for mode, cfg := range map[string]tokensession.Config{
		"no recovery": {}, "recovery": {RecoveryPeriod: time.Hour},
	} {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, cfg)
			first := w.start()
			var tab tokensession.Tokens
			w.store.On(testkit.Swap,
				w.clock.Passes(12*time.Second),
				testkit.Apply,
				testkit.Do(func() { tab = w.refresh(first.RefreshToken) }),
				w.store.GoesDown(testkit.Swap, testkit.Load),
				testkit.LoseReply,
			)
			requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
			w.store.Clear()
			w.clock.Advance(grace - micro)
			require.Equal(t, tab.RefreshToken, w.refresh(first.RefreshToken).RefreshToken)
		})
	}
}

// A write takes long. Another tab came within the grace period, and is answered when most of that
// is over, because its authorizer was slow. Then the call that wrote gives up, and its client comes
// again as late as it may.
func TestRefresh_afterATabWasAnsweredLateHasAWholeGracePeriod(t *testing.T) {
	for name, took := range map[string]struct {
		write, authorizer time.Duration
		proves            bool // the other tab's user proves again who they are
	}{
		"comes late":                     {6 * time.Second, 6 * time.Second, false},
		"comes at once":                  {0, grace, false},
		"comes at once, and proves":      {0, grace, true},
		"is answered within the period":  {0, 6 * time.Second, false},
		"comes at the end of the period": {grace - micro, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			var meanwhile func()
			w := newWorld(t, tokensession.Config{Authorize: onceAuthorizing(&meanwhile)})
			first := w.start()
			var tab tokensession.Tokens
			w.store.On(testkit.Swap,
				testkit.Apply,
				w.clock.Passes(took.write),
				testkit.Do(func() {
					meanwhile = func() { w.clock.Advance(took.authorizer) }
					if !took.proves {
						tab = w.refresh(first.RefreshToken)
						return
					}
					var err error
					tab, err = w.m.Reauthenticate(ctx, first.Session.ID,
						tokensession.Rotating(first.RefreshToken))
					require.NoError(t, err)
				}),
				w.store.GoesDown(testkit.Swap, testkit.Load),
				testkit.LoseReply,
			)
			requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
			w.store.Clear()
			w.clock.Advance(grace - micro)
			require.Equal(t, tab.RefreshToken, w.refresh(first.RefreshToken).RefreshToken)
		})
	}
}

// The same, but the other tab looked before the write was sent, and its Load takes long.
func TestRefresh_afterATabWhoseLoadTookLongHasAWholeGracePeriod(t *testing.T) {
	w := newWorld(t, tokensession.Config{Remember: -1})
	first := w.start()
	var tab tokensession.Tokens
	looked, goOn, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w.store.On(testkit.Load,
		testkit.Do(func() {
			close(looked)
			<-goOn
		}),
	)
	go func() {
		defer close(done)
		tab, _ = w.m.Refresh(ctx, first.RefreshToken)
	}()
	<-looked
	w.store.On(testkit.Swap,
		testkit.Apply,
		w.clock.Passes(6*time.Second),
		testkit.Do(func() {
			close(goOn)
			<-done
		}),
		w.store.GoesDown(testkit.Swap, testkit.Load),
		testkit.LoseReply,
	)
	requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
	w.store.Clear()
	w.clock.Advance(grace - micro)
	require.NotEmpty(t, tab.RefreshToken)
	require.Equal(t, tab.RefreshToken, w.refresh(first.RefreshToken).RefreshToken)
}

// A call gives up while another tab's authorizer is slow. Its client comes again after the grace
// period, and recovers. So the other tab must not be given the successor that was displaced.
func TestRefresh_thatIsAnsweredLateGivesNothingDisplaced(t *testing.T) {
	var slow func()
	w := newWorld(t, tokensession.Config{Authorize: onceAuthorizing(&slow)})
	first := w.start()
	var tab tokensession.Tokens
	asked, goOn, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w.store.On(testkit.Swap,
		testkit.Apply,
		testkit.Do(func() {
			slow = func() {
				close(asked)
				<-goOn
			}
			go func() {
				defer close(done)
				tab, _ = w.m.Refresh(ctx, first.RefreshToken)
			}()
			<-asked
		}),
		w.store.GoesDown(testkit.Swap, testkit.Load),
		testkit.LoseReply,
	)
	requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
	w.store.Clear()
	w.clock.Advance(grace)
	got := w.refresh(first.RefreshToken)
	close(goOn)
	<-done
	require.Equal(t, got.RefreshToken, tab.RefreshToken)
	w.requireLive(tab)
}

// A successor is in doubt, and a client recovers. Between two attempts to write that, another tab
// gets the successor, which settles the doubt. That is no theft: the client came in time.
func TestRefresh_isNoTheftBecauseADoubtWasSettledMeanwhile(t *testing.T) {
	var meanwhile func()
	w := newWorld(t, tokensession.Config{Authorize: onceAuthorizing(&meanwhile)})
	first := w.start()
	var tab tokensession.Tokens
	started, goOn, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	w.store.On(testkit.Swap,
		testkit.Apply,
		testkit.Do(func() {
			meanwhile = func() {
				close(started)
				<-goOn
			}
			go func() {
				defer close(done)
				tab, _ = w.m.Refresh(ctx, first.RefreshToken)
			}()
			<-started
		}),
		w.store.GoesDown(testkit.Swap, testkit.Load),
		testkit.LoseReply,
	)
	requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
	w.store.Clear()
	w.clock.Advance(11 * time.Second)
	w.store.On(testkit.Swap,
		testkit.Do(func() {
			close(goOn)
			<-done
		}),
		testkit.LoseRequest,
	)
	_, err := w.m.Refresh(ctx, first.RefreshToken)
	require.NotEmpty(t, tab.RefreshToken)
	require.NotErrorIs(t, err, tokensession.ErrReused)
	w.requireLive(tab)
}

// The authorizer refuses a replay, and before that is written another tab refreshes. The authorizer
// allows it now. There was no theft.
func TestDenied_replayWhoseWriteMeetsAConflictIsNoTheft(t *testing.T) {
	w := newAnsweringWorld(t, tokensession.Config{})
	first := w.start()
	second := w.refresh(first.RefreshToken)
	w.answer(tokensession.ErrDenied)
	var third tokensession.Tokens
	w.store.On(testkit.Swap, testkit.Do(func() {
		w.answer(nil)
		third = w.refresh(second.RefreshToken)
	}))
	_, err := w.m.Refresh(ctx, first.RefreshToken)
	require.NotErrorIs(t, err, tokensession.ErrRevoked)
	require.Zero(t, w.events.Count(tokensession.EventReused))
	w.requireLive(third)
}

// A logout whose write was lost is carried out, however late its session comes back.
func TestRevoke_thatIsInDoubtIsCarriedOutHoweverLate(t *testing.T) {
	for name, revoke := range map[string]func(w *world, tokens tokensession.Tokens) error{
		"RevokeToken": func(w *world, tokens tokensession.Tokens) error {
			return w.m.RevokeToken(ctx, tokens.RefreshToken)
		},
		"Revoke": func(w *world, tokens tokensession.Tokens) error {
			return w.m.Revoke(ctx, tokens.Session.ID, tokensession.Because("stolen_phone"))
		},
		"RevokeSubject": func(w *world, _ tokensession.Tokens) error {
			_, err := w.m.RevokeSubject(ctx, "alice", tokensession.Because("stolen_phone"))
			return err
		},
	} {
		for _, applied := range []bool{false, true} {
			w := newWorld(t, tokensession.Config{})
			tokens := w.start()
			w.events.Take()
			if applied {
				w.store.On(testkit.Swap,
					testkit.Apply, w.store.GoesDown(testkit.Swap, testkit.Load), testkit.LoseReply)
			} else {
				w.store.Down(testkit.Swap)
			}
			requireUnavailableFor(t, revoke(w, tokens), testkit.ErrDown)
			w.store.Clear()
			w.clock.Advance(6 * 24 * time.Hour)
			require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
			require.Equal(t, []tokensession.EventKind{tokensession.EventRevoked}, w.events.Kinds(),
				"%s, applied %v: it is told once", name, applied)
			if name != "RevokeToken" {
				require.EqualValues(t, "stolen_phone", w.record(tokens.Session.ID).RevokeReason)
			}
		}
	}
}

// A theft is found, and the store is down. Then it is the thief who comes first. The host is told
// of a theft, not of a revocation.
func TestReuse_thatIsInDoubtIsToldAsATheftThoughTheThiefComesFirst(t *testing.T) {
	for _, applied := range []bool{false, true} {
		w := newWorld(t, tokensession.Config{})
		first := w.start()
		thief := w.refresh(first.RefreshToken)
		w.clock.Advance(time.Minute)
		w.events.Take()
		lost := testkit.LoseRequest
		if applied {
			lost = testkit.LoseReply
			w.store.On(testkit.Swap, testkit.Apply, w.store.GoesDown(testkit.Swap, testkit.Load),
				lost)
		} else {
			w.store.On(testkit.Swap, w.store.GoesDown(testkit.Swap, testkit.Load), lost)
		}
		requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
		w.store.Clear()
		require.ErrorIs(t, w.refreshError(thief.RefreshToken), tokensession.ErrRevoked)
		require.ErrorIs(t, w.refreshError(first.RefreshToken), tokensession.ErrRevoked)
		require.Equal(t, []tokensession.EventKind{tokensession.EventReused}, w.events.Kinds(),
			"applied %v", applied)
		e := w.events.All()[0]
		require.Equal(t, [2]uint64{0, 1}, [2]uint64{e.Presented, e.Live})
		require.Equal(t, tokensession.ReasonReuse, e.Session.RevokeReason)
		require.Equal(t, tokensession.ReasonReuse, w.record(first.Session.ID).RevokeReason)
	}
}

// A theft is found, and the store is down. Before it is up again for this instance, an
// administrator changes the user's rights elsewhere. Then the thief comes, and the owner never
// does.
func TestReuse_thatIsInDoubtIsCarriedOutAfterANewEpochElsewhere(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	thief := w.refresh(first.RefreshToken)
	w.clock.Advance(time.Minute)
	w.events.Take()
	w.store.On(testkit.Swap, w.store.GoesDown(testkit.Swap, testkit.Load), testkit.LoseRequest)
	requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
	w.store.Clear()
	w.reauthorize(w.other(tokensession.Config{}), 1)
	require.ErrorIs(t, w.refreshError(thief.RefreshToken), tokensession.ErrRevoked)
	require.Equal(t, []tokensession.EventKind{tokensession.EventReused}, w.events.Kinds())
}

// A revocation of a theft takes ten minutes to be written, and meanwhile a tab is answered. The
// access token that it got is younger than the revocation, and dies with it.
func TestReuse_thatTakesLongDeniesWhatWasAnsweredMeanwhile(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	zero := w.start()
	first := w.refresh(zero.RefreshToken)
	w.clock.Advance(time.Minute)
	var late tokensession.Tokens
	w.store.On(testkit.Swap, // by the refresh
		testkit.Apply,
		testkit.Do(func() { requireReused(t, w.refreshError(zero.RefreshToken), 0, 2) }),
	)
	w.store.On(testkit.Swap, // by the revocation
		w.clock.Passes(10*time.Minute),
		testkit.Do(func() { late = w.refresh(first.RefreshToken) }),
	)
	require.ErrorIs(t, w.refreshError(first.RefreshToken), tokensession.ErrRevoked)
	for ; w.clock.Now().Before(late.AccessExpiresAt); w.clock.Advance(time.Second) {
		_, err := w.m.Verify(late.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked,
			"%v before it expires", late.AccessExpiresAt.Sub(w.clock.Now()))
	}
}

// The theft was found and written, its reply is lost, and at the second look the record is gone.
// The thief's access token dies all the same.
func TestReuse_whoseRecordIsGoneDeniesTheThief(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	thief := w.refresh(first.RefreshToken)
	w.clock.Advance(time.Minute)
	w.store.On(testkit.Swap, testkit.Apply, testkit.Do(w.forget), testkit.LoseReply)
	require.Error(t, w.refreshError(first.RefreshToken))
	_, err := w.m.Verify(thief.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

// Whoever presents a stolen token cannot keep the host from hearing of it, by hanging up.
func TestReuse_isToldWithAContextThatThePresenterCannotEnd(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	var told error
	m := newManager(t, w.signer, w.store.Store(), tokensession.Config{
		Now: w.clock.Now, RecoveryPeriod: tokensession.Strict,
		OnEvent: func(ctx context.Context, e tokensession.Event) {
			if e.Kind == tokensession.EventReused {
				told = ctx.Err()
			}
		},
	})
	first := w.start()
	w.refresh(first.RefreshToken)
	w.clock.Advance(time.Minute)
	caller, leave := context.WithCancel(ctx)
	w.store.On(testkit.Load, testkit.Apply, testkit.Do(leave))
	_, err := m.Refresh(caller, first.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrReused)
	require.NoError(t, told)
}

// An authorizer that refreshes a session elsewhere, and passes the error on, is asked once.
func TestAuthorize_isAskedOnceThoughItsErrorIsOneOfRefresh(t *testing.T) {
	elsewhere := newWorld(t, tokensession.Config{})
	token := elsewhere.start().RefreshToken
	asked := 0
	var ask bool
	w := newWorld(t, tokensession.Config{
		Authorize: func(ctx context.Context, _ tokensession.Session) (tokensession.Grant, error) {
			if !ask {
				return tokensession.Grant{}, nil
			}
			asked++
			_, err := elsewhere.m.Refresh(ctx, token)
			return tokensession.Grant{}, err
		},
	})
	tokens := w.start()
	ask = true
	elsewhere.store.Down(testkit.Swap)
	require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrUnavailable)
	require.Equal(t, 1, asked)
}

// Two writes of one call, of which the first is held up and lands just before the second. This
// store answers that with a conflict, and then it is down. The successor is in the store and nobody
// has it.
func TestRefresh_whoseSecondWriteMeetsItsFirstIsNoTheft(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	w.meetsItself()
	requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
	w.store.Clear()
	w.clock.Advance(time.Minute)
	w.requireLive(w.refresh(first.RefreshToken))
}

// The same for the revocation of a theft: the thief's access token is refused from then on.
func TestReuse_whoseSecondWriteMeetsItsFirstDeniesTheThief(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	thief := w.refresh(first.RefreshToken)
	w.clock.Advance(time.Minute)
	w.meetsItself()
	requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
	w.store.Clear()
	_, err := w.m.Verify(thief.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

// meetsItself has a call send its write twice, because the first one seems lost. The first is held
// up and lands just before the second, which is refused for that. Then no record can be loaded.
func (w *world) meetsItself() {
	w.store.On(testkit.Swap, testkit.LoseRequest)
	w.store.On(testkit.Swap,
		testkit.Apply, // the first one, which is the same
		w.store.GoesDown(testkit.Load),
		testkit.Refuse(tokensession.ErrConflict),
	)
}

// A slow write is applied, and what makes up for it is refused. At the next look the authorizer
// refuses, and that is not written either. Nobody has the successor, so the client may come again,
// however late.
func TestRefresh_whoseSlowWriteIsThenDeniedInVainIsDoneAgain(t *testing.T) {
	w := newAnsweringWorld(t, tokensession.Config{})
	first := w.start()
	w.store.On(testkit.Swap, w.clock.Passes(12*time.Second), testkit.Apply)
	w.store.On(testkit.Swap,
		testkit.Do(func() { w.answer(tokensession.ErrDenied) }),
		testkit.Refuse(tokensession.ErrConflict),
	)
	w.store.On(testkit.Swap, // the revocation
		w.store.GoesDown(testkit.Load),
		testkit.Refuse(tokensession.ErrConflict),
	)
	requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
	w.store.Clear()
	w.answer(nil)
	w.clock.Advance(time.Minute)
	w.requireLive(w.refresh(first.RefreshToken))
}

// A clock that is ahead made the successor, so that a tab looks like a thief. The revocation is
// lost, and at the second attempt this clock has come near enough: the tab is answered, and nothing
// is ended.
func TestReuse_whoseSecondLookFindsNoneEndsNothing(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	other := w.other(tokensession.Config{
		Now: func() time.Time { return w.clock.Now().Add(90 * time.Second) },
	})
	want, err := other.Refresh(ctx, first.RefreshToken)
	require.NoError(t, err)
	w.store.On(testkit.Swap, w.clock.Passes(time.Minute), testkit.LoseRequest)
	got := w.refresh(first.RefreshToken)
	require.Equal(t, want.RefreshToken, got.RefreshToken)
	w.requireLive(got)
}

// A store that finds a session and cannot change it is broken. But it has not ended the session.
func TestReuse_thatTheStoreCannotWriteDeniesNothing(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	thief := w.refresh(first.RefreshToken)
	w.clock.Advance(time.Minute)
	w.store.Always(testkit.Swap, testkit.Refuse(tokensession.ErrNotFound))
	requireUnavailableFor(t, w.refreshError(first.RefreshToken), tokensession.ErrNotFound)
	require.ErrorIs(t, w.m.Revoke(ctx, first.Session.ID), tokensession.ErrUnavailable)
	w.store.Clear()
	w.requireLive(thief)
}

// losesATheft finds a theft of the generation 0. The reply to the revocation is lost, or the write,
// and the store is down.
func (w *world) losesATheft(applied bool) (first, thief tokensession.Tokens) {
	w.t.Helper()
	first = w.start()
	thief = w.refresh(first.RefreshToken)
	w.clock.Advance(time.Minute)
	w.events.Take()
	goesDown := w.store.GoesDown(testkit.Swap, testkit.Load)
	if applied {
		w.store.On(testkit.Swap, testkit.Apply, goesDown, testkit.LoseReply)
	} else {
		w.store.On(testkit.Swap, goesDown, testkit.LoseRequest)
	}
	requireUnavailableFor(w.t, w.refreshError(first.RefreshToken), testkit.ErrDown)
	w.store.Clear()
	return first, thief
}

// A theft was written and told to nobody. Then the user logs out, and the host is told of the
// theft.
func TestReuse_thatIsInDoubtIsToldThoughALogoutComesFirst(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first, thief := w.losesATheft(true)
	require.NoError(t, w.m.RevokeToken(ctx, thief.RefreshToken))
	require.Equal(t, []tokensession.EventKind{tokensession.EventReused}, w.events.Kinds())
	w.requireDead(first, thief)
	require.Len(t, w.events.All(), 1)
}

// A theft was not written, and meanwhile another instance has ended the session for another reason.
// That is what the host has been told, and what the record says.
func TestReuse_thatIsInDoubtIsNotToldIfAnotherReasonEndedTheSession(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first, thief := w.losesATheft(false)
	require.NoError(t, w.other(tokensession.Config{}).Revoke(ctx, first.Session.ID))
	require.ErrorIs(t, w.refreshError(thief.RefreshToken), tokensession.ErrRevoked)
	require.Empty(t, w.events.All())
}

// A theft was not written, and meanwhile the session has gone on at another instance. What was
// found is void, for it was found in another record. It is found again.
func TestReuse_thatIsInDoubtIsVoidOnceTheSessionHasGoneOnElsewhere(t *testing.T) {
	w := newWorld(t, tokensession.Config{RecoveryPeriod: tokensession.Strict})
	first, thief := w.losesATheft(false)
	elsewhere, err := w.other(tokensession.Config{}).Refresh(ctx, thief.RefreshToken)
	require.NoError(t, err)
	next := w.refresh(elsewhere.RefreshToken)
	require.Zero(t, w.events.Count(tokensession.EventReused))
	w.clock.Advance(time.Minute)
	requireReused(t, w.refreshError(first.RefreshToken), 0, 3)
	w.requireDead(next)
}

// A thief who comes back and hangs up cannot keep the host from hearing of the theft.
func TestReuse_thatIsInDoubtIsToldWithAContextThatThePresenterCannotEnd(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	var told []error
	w.m = newManager(t, w.signer, w.store.Store(), tokensession.Config{
		Now: w.clock.Now, RecoveryPeriod: tokensession.Strict,
		OnEvent: func(ctx context.Context, e tokensession.Event) {
			if e.Kind == tokensession.EventReused {
				told = append(told, ctx.Err())
			}
		},
	})
	_, thief := w.losesATheft(true)
	caller, leave := context.WithCancel(ctx)
	w.store.On(testkit.Load, testkit.Apply, testkit.Do(leave))
	_, err := w.m.Refresh(caller, thief.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
	require.Equal(t, []error{nil}, told)
}

// The authorizer refuses, and that is lost. It is carried out at the next refresh, whatever the
// authorizer says then, and told as what it was.
func TestDenied_thatIsInDoubtIsCarriedOut(t *testing.T) {
	w := newAnsweringWorld(t, tokensession.Config{})
	tokens := w.start()
	w.events.Take()
	w.answer(tokensession.ErrDenied)
	w.store.On(testkit.Swap, w.store.GoesDown(testkit.Swap, testkit.Load), testkit.LoseRequest)
	requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), testkit.ErrDown)
	w.store.Clear()
	w.answer(nil)
	require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrDenied)
	require.Equal(t, []tokensession.EventKind{tokensession.EventDenied}, w.events.Kinds())
	require.Equal(t, tokensession.ReasonDenied, w.record(tokens.Session.ID).RevokeReason)
	w.requireDead(tokens)
}

// The authorizer refuses, and that was not written. Then the user is let in again, and has
// refreshed at another instance. This one lets the user in, too, from the next refresh here on.
func TestDenied_thatIsInDoubtIsVoidOnceTheUserIsLetInAgain(t *testing.T) {
	for _, epochs := range []int{0, 2} { // also where rights have changed before
		w := newAnsweringWorld(t, tokensession.Config{})
		tokens := w.start()
		for range epochs {
			w.clock.Advance(time.Millisecond)
			_, err := w.m.Reauthorize(ctx, "alice")
			require.NoError(t, err)
			tokens = w.refresh(tokens.RefreshToken)
		}
		w.answer(tokensession.ErrDenied)
		w.store.On(testkit.Swap, w.store.GoesDown(testkit.Swap, testkit.Load), testkit.LoseRequest)
		requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), testkit.ErrDown)
		_, err := w.m.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrOutdated)
		w.store.Clear()
		w.answer(nil)
		elsewhere, err := w.other(tokensession.Config{}).Refresh(ctx, tokens.RefreshToken)
		require.NoError(t, err)
		next := w.refresh(elsewhere.RefreshToken)
		_, err = w.m.Verify(next.AccessToken)
		require.NoError(t, err)
		w.requireLive(next)
	}
}

// A logout that was lost is tried again, and succeeds. It is told once.
func TestRevoke_thatIsInDoubtAndTriedAgainIsToldOnce(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.events.Take()
	w.store.Down(testkit.Swap)
	requireUnavailableFor(t, w.m.RevokeToken(ctx, tokens.RefreshToken), testkit.ErrDown)
	w.store.Clear()
	require.NoError(t, w.m.RevokeToken(ctx, tokens.RefreshToken))
	w.requireDead(tokens)
	require.Equal(t, []tokensession.EventKind{tokensession.EventRevoked}, w.events.Kinds())
}

// Two users log out in an outage, and neither is forgotten for the other.
func TestRevoke_ofTwoSessionsInDoubtIsCarriedOutForBoth(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	one, two := w.start(), w.start()
	w.store.Down(testkit.Swap)
	for _, tokens := range []tokensession.Tokens{one, two} {
		w.clock.Advance(2 * time.Minute)
		requireUnavailableFor(t, w.m.RevokeToken(ctx, tokens.RefreshToken), testkit.ErrDown)
	}
	w.store.Clear()
	w.clock.Advance(time.Hour)
	for _, tokens := range []tokensession.Tokens{one, two} {
		require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
		require.Equal(t, tokensession.ReasonLogout, w.record(tokens.Session.ID).RevokeReason)
	}
}

// A write takes long, and the client stops waiting. Another tab waits on another instance, and has
// the whole grace period from now on.
func TestRefresh_whoseCallerHasGoneLeavesTheOtherTabAWholeGracePeriod(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	caller, leave := context.WithCancel(ctx)
	w.store.On(testkit.Swap, w.clock.Passes(12*time.Second), testkit.Apply, testkit.Do(leave))
	_, _ = w.m.Refresh(caller, first.RefreshToken)
	w.clock.Advance(grace - micro)
	tab, err := w.other(tokensession.Config{}).Refresh(ctx, first.RefreshToken)
	require.NoError(t, err)
	w.requireLive(tab)
}

// A revocation is held up for a second and seems lost, and lands just before the same one is sent
// again. What is told is what the store has. The authorizer is asked once.
func TestRevocation_thatIsSentAgainIsTheSame(t *testing.T) {
	asked := 0
	var answer error
	w := newWorld(t, tokensession.Config{
		Remember: -1,
		Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
			asked++
			return tokensession.Grant{}, answer
		},
	})
	tokens := w.start()
	w.events.Take()
	asked, answer = 0, tokensession.ErrDenied
	var late tokensession.Record
	w.store.On(testkit.Swap,
		func(r *testkit.Request) { late = r.Record },
		w.clock.Passes(time.Second),
		testkit.LoseRequest,
	)
	w.store.On(testkit.Swap, testkit.Do(func() { require.NoError(t, w.memory.Swap(ctx, late)) }))
	require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrDenied)
	require.Equal(t, 1, asked)
	require.Len(t, w.events.All(), 1)
	require.Equal(t, w.record(tokens.Session.ID).Session(), w.events.All()[0].Session)
}

// An instance whose clock is five minutes ahead made an access token. It is refused for as long as
// it lives, by the instance that ends the session.
func TestRevocation_deniesWhatAClockThatIsAheadHasMade(t *testing.T) {
	const ahead = 5 * time.Minute
	for name, end := range map[string]func(w *world, first tokensession.Tokens) error{
		"a theft": func(w *world, first tokensession.Tokens) error {
			return w.refreshError(first.RefreshToken)
		},
		"a logout": func(w *world, first tokensession.Tokens) error {
			return errors.Join(w.m.Revoke(ctx, first.Session.ID), tokensession.ErrRevoked)
		},
	} {
		w := newWorld(t, tokensession.Config{Remember: -1})
		first := w.start()
		other := w.other(tokensession.Config{
			Now: func() time.Time { return w.clock.Now().Add(ahead) },
		})
		tokens, err := other.Refresh(ctx, first.RefreshToken)
		require.NoError(t, err)
		require.ErrorIs(t, end(w, first), tokensession.ErrRevoked)
		w.clock.Advance(ahead)
		for ; w.clock.Now().Before(tokens.AccessExpiresAt); w.clock.Advance(time.Second) {
			_, err := w.m.Verify(tokens.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrRevoked,
				"%s, %v before it expires", name, tokens.AccessExpiresAt.Sub(w.clock.Now()))
		}
	}
}

// A record that no Manager wrote has no WriteID. It is no work of a call that has not written yet.
func TestRefresh_ofARecordWithoutAWriteIDIsDecided(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	rec := w.record(tokens.Session.ID)
	rec.WriteID = ""
	w.restore(rec)
	next := w.requireLive(tokens)
	require.NotEqual(t, tokens.RefreshToken, next.RefreshToken)
	require.EqualValues(t, 1, w.record(tokens.Session.ID).Generation)
}

// Two tabs refresh at once. The second one is quicker and gets the successor. After that the first
// one's write is sent, and fails without a word on whether it was applied. The successor is in no
// doubt, because the second tab has it. Whoever comes much later with the token that both had has
// stolen it.
func TestRefresh_thatGivesUpAfterItsSuccessorWasReceivedLeavesNoDoubt(t *testing.T) {
	var meanwhile func()
	w := newWorld(t, tokensession.Config{Authorize: onceAuthorizing(&meanwhile)})
	first := w.start()
	var client tokensession.Tokens
	meanwhile = func() {
		client = w.refresh(first.RefreshToken)
		w.store.On(testkit.Swap, w.store.GoesDown(testkit.Swap, testkit.Load), testkit.LoseRequest)
	}
	requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
	w.store.Clear()
	w.clock.Advance(time.Minute)
	requireReused(t, w.refreshError(first.RefreshToken), 0, 1)
	w.requireDead(client)
}

// Without a grace period, refreshes that race displace each other's successors. A call sends a
// write that is not applied, another tab gets a successor, and the call sends another write, which
// displaces that one. Its reply is lost, and the call gives up. What the other tab has got says
// nothing about the second write.
func TestRefresh_thatDisplacesWhatAnotherTabGotAndGivesUpIsNoTheft(t *testing.T) {
	w := newWorld(t, tokensession.Config{
		GracePeriod: tokensession.Strict, RecoveryPeriod: time.Hour,
	})
	first := w.start()
	w.store.On(testkit.Swap, testkit.Do(func() {
		w.refresh(first.RefreshToken) // its answer is lost
		w.store.On(testkit.Swap,
			testkit.Apply, w.store.GoesDown(testkit.Swap, testkit.Load), testkit.LoseReply)
	}), testkit.LoseRequest)
	requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
	w.store.Clear()
	w.clock.Advance(2 * time.Hour)
	w.requireLive(w.refresh(first.RefreshToken))
}

// The second tab has read the session while the first one's slow write was being made up for. Its
// call goes on when that is done, and the store goes down. The first tab's call was running when
// the second one looked, so that there is no theft.
func TestRefresh_thatHasReadAnOldRecordFindsNoTheftInIt(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
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
				_, err = w.m.Refresh(ctx, first.RefreshToken)
			}()
			<-looked
		}),
	)
	want := w.refresh(first.RefreshToken)
	w.store.Down(testkit.Swap, testkit.Load)
	close(answered)
	<-done
	requireUnavailableFor(t, err, testkit.ErrDown)
	w.store.Clear()
	w.requireLive(want)
}

// A revocation needs two attempts, because the first one's request or reply was lost. The theft is
// told once, also when the same tokens come again and again.
func TestReuse_thatNeedsTwoAttemptsIsToldOnce(t *testing.T) {
	for name, lost := range map[string][]testkit.Step{
		"request lost": {testkit.LoseRequest},
		"reply lost":   {testkit.Apply, testkit.LoseReply},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			first := w.start()
			thief := w.refresh(first.RefreshToken)
			w.clock.Advance(time.Minute)
			w.events.Take()
			w.store.On(testkit.Swap, lost...)
			requireReused(t, w.refreshError(first.RefreshToken), 0, 1)
			for range 2 {
				require.ErrorIs(t, w.refreshError(first.RefreshToken), tokensession.ErrRevoked)
				require.ErrorIs(t, w.refreshError(thief.RefreshToken), tokensession.ErrRevoked)
			}
			require.Equal(t, []tokensession.EventKind{tokensession.EventReused}, w.events.Kinds())
		})
	}
}

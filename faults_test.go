package tokensession_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// A fault is what a broken connection does to calls of a store.
type fault struct {
	call    testkit.Call
	applied bool // the request arrived, and the reply was lost
	times   int  // how often; 0: until it is repaired
}

func (f fault) String() string {
	how, often := "not applied", fmt.Sprint(f.times, " times")
	if f.applied {
		how = "reply lost"
	}
	if f.times == 0 {
		often = "always"
	}
	return fmt.Sprintf("%s %s %s", f.call, how, often)
}

// suffers makes the world's store fail so.
func (w *world) suffers(f fault) {
	steps := []testkit.Step{testkit.LoseRequest}
	if f.applied {
		steps = []testkit.Step{testkit.Pass, testkit.LoseReply}
	}
	if f.times > 0 {
		w.store.Times(f.times, f.call, steps...)
	} else {
		w.store.Always(f.call, steps...)
	}
}

func everyFault() []fault {
	var all []fault
	for _, call := range []testkit.Call{testkit.Load, testkit.Create, testkit.Swap, testkit.List} {
		for _, applied := range []bool{true, false} {
			for _, times := range []int{1, 2, 3, 0} {
				all = append(all, fault{call, applied, times})
			}
		}
	}
	return all
}

var modes = map[string]tokensession.Config{
	"grace":    {},
	"strict":   {GracePeriod: tokensession.Strict},
	"recovery": {RecoveryPeriod: time.Hour},
}

// Hydra#1928, mcp-oauth#511: an outage broke the chain, or read as theft. go-redis and pgx send a request again whose
// reply they lost.
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

// The database dies in mid-write: the successor is in the store, nobody has it, and the client was told
// to try again.
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

// The client tries again and again, and the store answers reads and refuses writes: the one write that was applied must
// not be forgotten among those that were not.
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
	requireReused(t, w.refreshError(tokens.RefreshToken), 0, 2) // the first successor, which nobody got, is displaced
}

// Within the grace period it is done again, and the period begins anew: the answer may be lost again.
func TestRefresh_afterAShortOutageTheSuccessorIsTheSame(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.fails(tokens.RefreshToken)
	elsewhere, err := w.other(tokensession.Config{}).Refresh(context.Background(), tokens.RefreshToken)
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
			// This instance cannot know that somebody has the successor. So that one must not be given away again, and a
			// write that has to be tried twice makes no race of it, in which the token would have been presented in time.
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

func TestStart_leavesNoSessionThatCountsAfterAFault(t *testing.T) {
	for _, f := range everyFault() {
		t.Run(f.String(), func(t *testing.T) {
			w := newWorld(t, tokensession.Config{MaxSessions: 1})
			old := w.start()
			w.suffers(f)
			got, err := w.m.Start(context.Background(), "alice", tokensession.Replacing(old.Session.ID))
			w.store.Clear()
			if err != nil {
				requireUnavailableFor(t, err, testkit.ErrDown)
				require.Zero(t, got)
				got = w.start()
			}
			w.requireDead(old)
			sessions, err := w.m.Sessions(context.Background(), "alice")
			require.NoError(t, err)
			require.Len(t, sessions, 1)
			require.Equal(t, got.Session.ID, sessions[0].ID)
			w.requireLive(got)
		})
	}
}

// The new session is there, and the ones beyond MaxSessions cannot be found or ended: then there is no login.
func TestStart_thatCannotMakeRoomLeavesNoSession(t *testing.T) {
	for name, breaks := range map[string]func(store *testkit.HookedStore){
		"found": func(store *testkit.HookedStore) {
			store.On(testkit.List) // before the new session is created
			store.On(testkit.List, testkit.LoseRequest)
		},
		"ended": func(store *testkit.HookedStore) { store.Down(testkit.Swap) },
	} {
		w := newWorld(t, tokensession.Config{MaxSessions: 1})
		old := w.start()
		w.events.Take()
		breaks(w.store)
		_, err := w.m.Start(context.Background(), "alice")
		requireUnavailableFor(t, err, testkit.ErrDown)
		w.store.Clear()
		require.Empty(t, w.events.Take(), name)
		w.requireLive(old)
		sessions, err := w.m.Sessions(context.Background(), "alice")
		require.NoError(t, err)
		if name == "found" {
			require.Len(t, sessions, 1)
		}
	}
}

// A user goes away during the login on a second device, and logs in there again: neither the first device nor the
// lost login may count.
func TestStart_whoseCallerGoesAwayLeavesNoSessionThatCounts(t *testing.T) {
	w := newWorld(t, tokensession.Config{MaxSessions: 2})
	phone := w.start()
	w.clock.Advance(time.Minute)
	w.events.Take()
	ctx, cancel := context.WithCancel(context.Background())
	w.store.Always(testkit.Create,
		testkit.Pass,
		testkit.Do(cancel),
		testkit.Refuse(context.Canceled),
	)
	_, err := w.m.Start(ctx, "alice")
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	w.store.Clear()
	require.Empty(t, w.events.Take(), "of a session that nobody has heard of")
	sessions, err := w.m.Sessions(context.Background(), "alice")
	require.NoError(t, err)
	require.Len(t, sessions, 1)
	w.clock.Advance(time.Minute)
	w.requireLive(w.start())
	w.requireLive(phone)
}

// fosite CVE-2020-15223: an error of the store on revocation was not told.
func TestRevoke_saysSoWhenItCouldNotAndCanBeTriedAgain(t *testing.T) {
	ctx := context.Background()
	breaks := map[string]func(w *world){
		"the reply is lost, and then all is down": func(w *world) {
			w.store.Times(1, testkit.Swap,
				testkit.Apply,
				w.store.GoesDown(testkit.Swap, testkit.Load, testkit.List),
				testkit.LoseReply,
			)
		},
	}
	for _, f := range everyFault() {
		breaks[f.String()] = func(w *world) { w.suffers(f) }
	}
	for how, revoke := range map[string]func(w *world, tokens tokensession.Tokens) error{
		"Revoke":      func(w *world, tokens tokensession.Tokens) error { return w.m.Revoke(ctx, tokens.Session.ID) },
		"RevokeToken": func(w *world, tokens tokensession.Tokens) error { return w.m.RevokeToken(ctx, tokens.RefreshToken) },
		"RevokeSubject": func(w *world, _ tokensession.Tokens) error {
			_, err := w.m.RevokeSubject(ctx, "alice")
			return err
		},
	} {
		for what, breaks := range breaks {
			t.Run(how+", "+what, func(t *testing.T) {
				w := newWorld(t, tokensession.Config{})
				tokens := w.start()
				breaks(w)
				err := revoke(w, tokens)
				w.store.Clear()
				if err != nil {
					requireUnavailableFor(t, err, testkit.ErrDown)
					require.NoError(t, revoke(w, tokens), "the second attempt")
				}
				w.requireDead(tokens)
			})
		}
	}
}

// Whose reply was lost is counted and told all the same.
func TestRevoke_countsAndTellsWhatItDidThoughTheReplyWasLost(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	w.start()
	w.start()
	w.store.On(testkit.Swap, testkit.Apply, testkit.LoseReply)
	n, err := w.m.RevokeSubject(context.Background(), "alice")
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, 2, w.events.Count(tokensession.EventRevoked))
}

func TestRevokeSubject_atOneStrokeEndsAccessThoughTheReplyWasLost(t *testing.T) {
	for _, lost := range []int{0, 1, 2, 1000} {
		t.Run(fmt.Sprint(lost, " lost"), func(t *testing.T) {
			ctx := context.Background()
			w := newWorld(t, tokensession.Config{})
			store := testkit.Hook(t, w.memory)
			w.m = w.manager(store.Store(), tokensession.Config{}, w.events)
			ended, kept := w.start(), w.start()
			store.Times(lost, testkit.RevokeSubject, testkit.Apply, testkit.LoseReply)
			n, err := w.m.RevokeSubject(ctx, "alice", kept.Session.ID)
			if lost < 3 {
				require.NoError(t, err)
				require.Equal(t, 1, n)
				require.Equal(t, 1, w.events.Count(tokensession.EventRevoked))
			} else {
				requireUnavailableFor(t, err, testkit.ErrDown)
				store.Clear()
				_, err = w.m.RevokeSubject(ctx, "alice", kept.Session.ID)
				require.NoError(t, err, "the second attempt")
			}
			w.requireDead(ended)
			w.requireLive(kept)
		})
	}
}

// The store has a record of somebody else under whatever ID a login comes up with.
func TestStart_doesNotTakeAnothersRecordForItsOwn(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	w.store.Always(testkit.Create,
		func(r *testkit.Request) { r.Record.Subject, r.Record.WriteID = "bob", "AAAAAAAAAAAAAAAAAAAAAA" },
		testkit.Pass,
		testkit.Refuse(tokensession.ErrExists),
	)
	tokens, err := w.m.Start(context.Background(), "alice")
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	require.Zero(t, tokens)
	require.Empty(t, w.events.All())
}

// A store need not recognize a write that it has applied already: the Manager looks.
func TestStart_findsTheSessionWhoseReplyWasLost(t *testing.T) {
	for name, second := range map[string]error{"lost again": testkit.ErrDown, "exists": tokensession.ErrExists} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			w.store.On(testkit.Create, testkit.Apply, testkit.LoseReply)
			w.store.Always(testkit.Create, testkit.Refuse(second))
			w.requireLive(w.start())
		})
	}
}

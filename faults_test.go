package tokensession_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// A fault is what a broken connection does to calls of a store.
type fault struct {
	call    storeCall
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

// breaks makes the store fail so.
func (s *spyStore) breaks(faults ...fault) {
	left := make([]int, len(faults))
	for i, f := range faults {
		left[i] = f.times
	}
	s.set(func(_ context.Context, call storeCall, apply func() error) error {
		for i, f := range faults {
			if f.call != call || f.times > 0 && left[i] == 0 {
				continue
			}
			left[i]--
			if f.applied {
				if err := apply(); err != nil {
					return err
				}
			}
			return errStoreDown
		}
		return apply()
	})
}

func everyFault() []fault {
	var all []fault
	for _, call := range []storeCall{callLoad, callCreate, callSwap, callList} {
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
					w.store.breaks(f)
					got, err := w.m.Refresh(context.Background(), tokens.RefreshToken)
					if err != nil {
						requireUnavailableFor(t, err, errStoreDown)
						require.Zero(t, got)
					} else {
						tokens = got
					}
					w.store.set(nil)
					tokens = w.requireLive(tokens)
				}
				require.Zero(t, w.events.count(tokensession.EventReused))
			})
		}
	}
}

// The database dies in mid-write: the successor is in the store, nobody has it, and the client was told to try again.
func TestRefresh_afterAnOutageInMidWriteTheTokenWorksHoweverLongItLasts(t *testing.T) {
	for mode, cfg := range modes {
		for _, applied := range []bool{true, false} {
			t.Run(fmt.Sprint(mode, ", applied ", applied), func(t *testing.T) {
				w := newWorld(t, cfg)
				tokens := w.start()
				w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
					if call == callSwap {
						if applied {
							require.NoError(t, apply())
						}
						w.store.breaks(fault{call: callSwap}, fault{call: callLoad})
						return errStoreDown
					}
					return apply()
				})
				requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), errStoreDown)
				w.clock.advance(30 * time.Second)
				requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), errStoreDown)
				w.store.set(nil)
				next := w.refresh(tokens.RefreshToken)
				w.requireLive(next)
				require.Zero(t, w.events.count(tokensession.EventReused))
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
			var late func() error
			w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
				switch {
				case call != callSwap:
					return apply()
				case late == nil:
					late = apply
					return errStoreDown
				}
				if late != nil {
					require.NoError(t, late())
				}
				return apply()
			})
			next := w.refresh(tokens.RefreshToken)
			w.store.set(nil)
			require.EqualValues(t, 1, w.record(tokens.Session.ID).Generation)
			require.Equal(t, []tokensession.EventKind{tokensession.EventStarted, tokensession.EventRefreshed}, w.events.kinds())
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
			var late func() error
			w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
				if call != callSwap {
					return apply()
				}
				late = apply
				return errStoreDown
			})
			requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), errStoreDown)
			w.store.set(nil)
			require.NoError(t, late())
			w.clock.advance(time.Minute)
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
			w.store.breaks(fault{call: callSwap})
			for range 100 {
				w.clock.advance(50 * time.Second)
				requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), errStoreDown)
			}
			w.store.set(nil)
			w.requireLive(w.refresh(tokens.RefreshToken))
			require.Zero(t, w.events.count(tokensession.EventReused))
		})
	}
}

// fails makes a refresh fail after its write was applied.
func (w *world) fails(token string) {
	w.t.Helper()
	w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
		if call != callSwap {
			return apply()
		}
		w.store.breaks(fault{call: callSwap}, fault{call: callLoad})
		return errors.Join(apply(), errStoreDown)
	})
	requireUnavailableFor(w.t, w.refreshError(token), errStoreDown)
	w.store.set(nil)
}

func TestRefresh_afterAnOutageBothTabsThatTriedAgainGetOneSuccessor(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.fails(tokens.RefreshToken)
	w.clock.advance(time.Hour)
	tab := w.refresh(tokens.RefreshToken)
	w.clock.advance(grace - micro)
	require.Equal(t, tab.RefreshToken, w.refresh(tokens.RefreshToken).RefreshToken)
	w.clock.advance(micro)
	requireReused(t, w.refreshError(tokens.RefreshToken), 0, 2) // the first successor, which nobody got, is displaced
}

// Within the grace period it is done again, and the period begins anew: the answer may be lost again.
func TestRefresh_afterAShortOutageTheSuccessorIsTheSame(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.fails(tokens.RefreshToken)
	elsewhere, err := w.other(tokensession.Config{}).Refresh(context.Background(), tokens.RefreshToken)
	require.NoError(t, err)
	w.clock.advance(grace - micro)
	require.Equal(t, elsewhere.RefreshToken, w.refresh(tokens.RefreshToken).RefreshToken)
	w.clock.advance(grace - micro)
	require.Equal(t, elsewhere.RefreshToken, w.refresh(tokens.RefreshToken).RefreshToken)
	w.clock.advance(micro)
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
			w.clock.advance(time.Minute)
			// This instance cannot know that somebody has the successor. So that one must not be given away again, and a
			// write that has to be tried twice makes no race of it, in which the token would have been presented in time.
			w.store.breaks(fault{call: callSwap, times: 1})
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
	w.clock.advance(time.Minute)
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
			w.store.breaks(f)
			got, err := w.m.Start(context.Background(), "alice", tokensession.Replacing(old.Session.ID))
			w.store.set(nil)
			if err != nil {
				requireUnavailableFor(t, err, errStoreDown)
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
	for name, breaks := range map[string]func(call storeCall, n int) bool{
		"found": func(call storeCall, n int) bool { return call == callList && n == 2 },
		"ended": func(call storeCall, _ int) bool { return call == callSwap },
	} {
		w := newWorld(t, tokensession.Config{MaxSessions: 1})
		old := w.start()
		w.events.take()
		calls := map[storeCall]int{}
		w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
			if calls[call]++; breaks(call, calls[call]) {
				return errStoreDown
			}
			return apply()
		})
		_, err := w.m.Start(context.Background(), "alice")
		requireUnavailableFor(t, err, errStoreDown)
		w.store.set(nil)
		require.Empty(t, w.events.take(), name)
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
	w.clock.advance(time.Minute)
	w.events.take()
	ctx, cancel := context.WithCancel(context.Background())
	w.store.set(func(ctx context.Context, call storeCall, apply func() error) error {
		if call == callCreate {
			defer cancel()
			return errors.Join(apply(), context.Canceled)
		}
		return errors.Join(ctx.Err(), apply())
	})
	_, err := w.m.Start(ctx, "alice")
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	w.store.set(nil)
	require.Empty(t, w.events.take(), "of a session that nobody has heard of")
	sessions, err := w.m.Sessions(context.Background(), "alice")
	require.NoError(t, err)
	require.Len(t, sessions, 1)
	w.clock.advance(time.Minute)
	w.requireLive(w.start())
	w.requireLive(phone)
}

// fosite CVE-2020-15223: an error of the store on revocation was not told.
func TestRevoke_saysSoWhenItCouldNotAndCanBeTriedAgain(t *testing.T) {
	ctx := context.Background()
	for how, revoke := range map[string]func(w *world, tokens tokensession.Tokens) error{
		"Revoke":      func(w *world, tokens tokensession.Tokens) error { return w.m.Revoke(ctx, tokens.Session.ID) },
		"RevokeToken": func(w *world, tokens tokensession.Tokens) error { return w.m.RevokeToken(ctx, tokens.RefreshToken) },
		"RevokeSubject": func(w *world, _ tokensession.Tokens) error {
			_, err := w.m.RevokeSubject(ctx, "alice")
			return err
		},
	} {
		for _, f := range append(everyFault(), fault{}) {
			t.Run(how+", "+f.String(), func(t *testing.T) {
				w := newWorld(t, tokensession.Config{})
				tokens := w.start()
				if f.call != "" {
					w.store.breaks(f)
				} else { // the reply is lost, and then everything is down
					w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
						if call != callSwap {
							return apply()
						}
						w.store.breaks(fault{call: callSwap}, fault{call: callLoad}, fault{call: callList})
						return errors.Join(apply(), errStoreDown)
					})
				}
				err := revoke(w, tokens)
				w.store.set(nil)
				if err != nil {
					requireUnavailableFor(t, err, errStoreDown)
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
	w.store.breaks(fault{callSwap, true, 1})
	n, err := w.m.RevokeSubject(context.Background(), "alice")
	require.NoError(t, err)
	require.Equal(t, 2, n)
	require.Equal(t, 2, w.events.count(tokensession.EventRevoked))
}

// A strokeStore can revoke at one stroke, and loses the replies.
type strokeStore struct {
	*spyStore
	memory *tokensession.MemoryStore
	lost   int // how many replies
}

func (s *strokeStore) RevokeSubject(ctx context.Context, subject string, keep []string, at time.Time, reason tokensession.Reason, writeID string) ([]tokensession.Record, error) {
	records, err := s.memory.RevokeSubject(ctx, subject, keep, at, reason, writeID)
	if s.lost > 0 {
		s.lost--
		return nil, errStoreDown
	}
	return records, err
}

func TestRevokeSubject_atOneStrokeEndsAccessThoughTheReplyWasLost(t *testing.T) {
	for _, lost := range []int{0, 1, 2, 1000} {
		t.Run(fmt.Sprint(lost, " lost"), func(t *testing.T) {
			ctx := context.Background()
			w := newWorld(t, tokensession.Config{})
			store := &strokeStore{spyStore: w.store, memory: w.memory, lost: lost}
			w.m = w.manager(store, tokensession.Config{}, w.events)
			ended, kept := w.start(), w.start()
			n, err := w.m.RevokeSubject(ctx, "alice", kept.Session.ID)
			if lost < 3 {
				require.NoError(t, err)
				require.Equal(t, 1, n)
				require.Equal(t, 1, w.events.count(tokensession.EventRevoked))
			} else {
				requireUnavailableFor(t, err, errStoreDown)
				store.lost = 0
				_, err = w.m.RevokeSubject(ctx, "alice", kept.Session.ID)
				require.NoError(t, err, "the second attempt")
			}
			w.requireDead(ended)
			w.requireLive(kept)
		})
	}
}

// A takenStore has a record of somebody else under whatever ID a login comes up with.
type takenStore struct{ tokensession.RefreshStore }

func (s takenStore) Create(ctx context.Context, rec tokensession.Record) error {
	rec.Subject, rec.WriteID = "bob", "AAAAAAAAAAAAAAAAAAAAAA"
	return errors.Join(s.RefreshStore.Create(ctx, rec), tokensession.ErrExists)
}

func TestStart_doesNotTakeAnothersRecordForItsOwn(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	m := w.manager(takenStore{w.memory}, tokensession.Config{}, w.events)
	tokens, err := m.Start(context.Background(), "alice")
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	require.Zero(t, tokens)
	require.Empty(t, w.events.all())
}

// A store need not recognize a write that it has applied already: the Manager looks.
func TestStart_findsTheSessionWhoseReplyWasLost(t *testing.T) {
	for name, second := range map[string]error{"lost again": errStoreDown, "exists": tokensession.ErrExists} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			created := false
			w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
				if call != callCreate {
					return apply()
				}
				if created {
					return second
				}
				created = true
				return errors.Join(apply(), errStoreDown)
			})
			w.requireLive(w.start())
		})
	}
}

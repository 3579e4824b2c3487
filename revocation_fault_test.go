package tokensession_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

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
		"Revoke": func(w *world, tokens tokensession.Tokens) error {
			return w.m.Revoke(ctx, tokens.Session.ID)
		},
		"RevokeToken": func(w *world, tokens tokensession.Tokens) error {
			return w.m.RevokeToken(ctx, tokens.RefreshToken)
		},
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

// The reply to a revocation is lost, and nobody asks again, because the page is closed. The access
// token is dead all the same; and if the write never arrived, the session ends at its next refresh.
func TestRevoke_thatIsInDoubtIsCarriedOut(t *testing.T) {
	type revocation func(m *tokensession.Manager, ctx context.Context, tokens tokensession.Tokens) error
	for name, revoke := range map[string]revocation{
		"Revoke": func(m *tokensession.Manager, ctx context.Context, tokens tokensession.Tokens) error {
			return m.Revoke(ctx, tokens.Session.ID)
		},
		"RevokeToken": func(m *tokensession.Manager, ctx context.Context, tokens tokensession.Tokens) error {
			return m.RevokeToken(ctx, tokens.RefreshToken)
		},
		"RevokeToken, access": func(m *tokensession.Manager, ctx context.Context, tokens tokensession.Tokens) error {
			return m.RevokeToken(ctx, tokens.AccessToken)
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

// A session that had expired is ended, so that no late refresh brings it back. But it was over
// before, and a lost reply does not change that.
func TestRevoke_ofWhatHadExpiredIsNotCountedThoughTheReplyWasLost(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.clock.Advance(week)
	w.events.Take()
	w.store.On(testkit.Swap, testkit.Apply, testkit.LoseReply)
	n, err := w.m.RevokeSubject(ctx, "alice")
	require.NoError(t, err)
	require.Zero(t, n)
	require.Empty(t, w.events.All())
	// It has expired, so that the store may have dropped it at that write.
	rec, err := w.memory.Load(ctx, tokens.Session.ID)
	if !errors.Is(err, tokensession.ErrNotFound) {
		require.NoError(t, err)
		require.False(t, rec.RevokedAt.IsZero())
	}
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
			n, err := w.m.RevokeSubject(ctx, "alice", tokensession.Keep(kept.Session.ID))
			if lost < 3 {
				require.NoError(t, err)
				require.Equal(t, 1, n)
				require.Equal(t, 1, w.events.Count(tokensession.EventRevoked))
			} else {
				requireUnavailableFor(t, err, testkit.ErrDown)
				store.Clear()
				_, err = w.m.RevokeSubject(ctx, "alice", tokensession.Keep(kept.Session.ID))
				require.NoError(t, err, "the second attempt")
			}
			w.requireDead(ended)
			w.requireLive(kept)
		})
	}
}

// A damagedRow is a store with a record of the subject that nobody can read, beside those that it
// ends.
type damagedRow struct{ *tokensession.MemoryStore }

func (s damagedRow) List(ctx context.Context, subject string) ([]tokensession.Record, error) {
	records, err := s.MemoryStore.List(ctx, subject)
	return records, errors.Join(err, fmt.Errorf("row 7: %w", tokensession.ErrUnreadable))
}

func (s damagedRow) RevokeSubject(
	ctx context.Context, r tokensession.SubjectRevocation,
) ([]tokensession.Record, error) {
	records, err := s.MemoryStore.RevokeSubject(ctx, r)
	return records, errors.Join(err, fmt.Errorf("row 7: %w", tokensession.ErrUnreadable))
}

func TestUnreadable_doesWhatCanBeDoneBesideIt(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	store := damagedRow{w.memory}
	for _, s := range []tokensession.RefreshStore{store, struct{ tokensession.RefreshStore }{store}} {
		w.m = w.manager(s, tokensession.Config{}, w.events)
		one, two := w.start(), w.start()
		n, err := w.m.Reauthorize(ctx, "alice")
		requireUnavailableFor(t, err, tokensession.ErrUnreadable)
		require.Equal(t, 2, n)
		w.events.Take()
		n, err = w.m.RevokeSubject(ctx, "alice")
		requireUnavailableFor(t, err, tokensession.ErrUnreadable)
		require.Equal(t, 2, n)
		require.Equal(t, 2, w.events.Count(tokensession.EventRevoked))
		w.requireDead(one, two)
	}
}

// A store that contradicts itself is broken: a logout that did not happen must not look like one of
// a session that is over already.
func TestRevoke_isUnavailableWhereTheStoreFindsASessionAndCannotChangeIt(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.store.Always(testkit.Swap, testkit.Refuse(tokensession.ErrNotFound))
	ctx := context.Background()
	_, subjectErr := w.m.RevokeSubject(ctx, "alice")
	_, startErr := w.m.Start(ctx, "alice", tokensession.Replacing(tokens.Session.ID))
	for what, err := range map[string]error{
		"Revoke":        w.m.Revoke(ctx, tokens.Session.ID),
		"RevokeToken":   w.m.RevokeToken(ctx, tokens.RefreshToken),
		"RevokeSubject": subjectErr,
		"Replacing":     startErr,
	} {
		require.ErrorIs(t, err, tokensession.ErrUnavailable, what)
		require.NotErrorIs(t, err, tokensession.ErrNotFound, what)
	}
}

// The record is dropped between the two looks that a logout takes at it: there is nothing left to
// end.
func TestRevokeToken_ofASessionThatIsDroppedMeanwhileIsNoError(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.store.Took()
	w.store.On(testkit.Load)
	w.store.Always(testkit.Any, testkit.Refuse(tokensession.ErrNotFound))
	require.NoError(t, w.m.RevokeToken(context.Background(), tokens.RefreshToken))
	require.Greater(t, w.store.Count(testkit.Any), 1)
}

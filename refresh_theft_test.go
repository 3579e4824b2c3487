package tokensession_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// A theft is found, and the store ends the session, but its reply is lost. The call looks, recognizes
// its own revocation, and tells of the theft: once, and as a theft.
func TestReuse_whoseReplyIsLostIsToldOnceAndAsATheft(t *testing.T) {
	for _, losses := range []int{1, 2} {
		w := newWorld(t, tokensession.Config{})
		first := w.start()
		thief := w.refresh(first.RefreshToken)
		w.clock.advance(time.Minute)
		w.events.take()
		w.store.breaks(fault{callSwap, true, losses})
		requireReused(t, w.refreshError(first.RefreshToken), 0, 1)
		w.store.set(nil)
		require.Equal(t, []tokensession.EventKind{tokensession.EventReused}, w.events.kinds())
		require.EqualValues(t, 3, w.record(first.Session.ID).Version, "one revocation was written")
		w.requireDead(first, thief)
	}
}

// The same for a session that the authorizer refuses: the host is told once, with what it said itself.
func TestDenied_whoseReplyIsLostIsToldOnceAndWithTheAuthorizersWords(t *testing.T) {
	w := newAnsweringWorld(t, tokensession.Config{})
	tokens := w.start()
	w.events.take()
	w.answer(tokensession.ErrDenied)
	w.store.breaks(fault{callSwap, true, 1})
	require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrDenied)
	w.store.set(nil)
	require.Equal(t, []tokensession.EventKind{tokensession.EventDenied}, w.events.kinds())
	w.requireDead(tokens)
}

// A theft is decided, its write meets a conflict, and the next look at the store fails. Nothing was
// ended, so nothing is refused: the session lives on (and the theft is found at the next refresh).
func TestReuse_whoseWriteMetAConflictDeniesNothing(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	thief := w.refresh(first.RefreshToken)
	w.clock.advance(time.Minute)
	w.store.set(func(_ context.Context, call storeCall, apply func() error) error {
		if call != callSwap {
			return apply()
		}
		w.store.breaks(fault{call: callLoad})
		return tokensession.ErrConflict
	})
	requireUnavailableFor(t, w.refreshError(first.RefreshToken), errStoreDown)
	w.store.set(nil)
	_, err := w.m.Verify(thief.AccessToken)
	require.NoError(t, err)
	requireReused(t, w.refreshError(first.RefreshToken), 0, 1)
}

// The authorizer's answer is for the record that it was asked with. A refresh whose write met a conflict
// asks again, because the session is no longer the one that was allowed.
func TestRefresh_asksTheAuthorizerAgainOnceTheRecordHasChanged(t *testing.T) {
	asked := 0
	var meanwhile func()
	w := newWorld(t, tokensession.Config{})
	authorize := func(context.Context, tokensession.Session) (tokensession.Grant, error) {
		if asked++; meanwhile != nil && asked == 1 {
			meanwhile()
		}
		return tokensession.Grant{}, nil
	}
	m := w.manager(w.store, tokensession.Config{Authorize: authorize}, w.events)
	first := w.start()
	second := first
	meanwhile = func() { second = w.refresh(first.RefreshToken) }
	_, err := m.Refresh(ctx, first.RefreshToken)
	require.NoError(t, err)
	require.Equal(t, 2, asked, "the record that was allowed is not there any more")

	asked, meanwhile = 0, nil
	w.store.breaks(fault{callSwap, false, 2})
	_, err = m.Refresh(ctx, second.RefreshToken)
	require.NoError(t, err)
	require.Equal(t, 1, asked, "the record has not changed")
}

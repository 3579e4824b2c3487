package tokensession_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// A theft is found, and the store ends the session, but its reply is lost. The call looks,
// recognizes its own revocation, and tells of the theft: once, and as a theft.
func TestReuse_whoseReplyIsLostIsToldOnceAndAsATheft(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	thief := w.refresh(first.RefreshToken)
	w.clock.Advance(time.Minute)
	w.events.Take()
	w.store.On(testkit.Swap, testkit.Apply, testkit.LoseReply)
	requireReused(t, w.refreshError(first.RefreshToken), 0, 1)
	w.store.Clear()
	require.Equal(t, []tokensession.EventKind{tokensession.EventReused}, w.events.Kinds())
	require.EqualValues(t, 3, w.record(first.Session.ID).Version, "one revocation was written")
	w.requireDead(first, thief)
}

// The same for a session that the authorizer refuses: the host is told once, with what it said
// itself.
func TestDenied_whoseReplyIsLostIsToldOnceAndWithTheAuthorizersWords(t *testing.T) {
	w := newAnsweringWorld(t, tokensession.Config{})
	tokens := w.start()
	w.events.Take()
	w.answer(tokensession.ErrDenied)
	w.store.On(testkit.Swap, testkit.Apply, testkit.LoseReply)
	require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrDenied)
	w.store.Clear()
	require.Equal(t, []tokensession.EventKind{tokensession.EventDenied}, w.events.Kinds())
	w.requireDead(tokens)
}

// A theft is decided, its write meets a conflict, and the next look at the store fails. Nothing was
// ended, so nothing is refused: the session lives on (and the theft is found at the next refresh).
func TestReuse_whoseWriteMetAConflictDeniesNothing(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	thief := w.refresh(first.RefreshToken)
	w.clock.Advance(time.Minute)
	w.store.On(testkit.Swap,
		w.store.GoesDown(testkit.Load),
		testkit.Refuse(tokensession.ErrConflict),
	)
	requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
	w.store.Clear()
	_, err := w.m.Verify(thief.AccessToken)
	require.NoError(t, err)
	requireReused(t, w.refreshError(first.RefreshToken), 0, 1)
}

// The authorizer's answer is for the record that it was asked with. A refresh whose write met a
// conflict asks again, because the session is no longer the one that was allowed.
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
	m := w.manager(w.store.Store(), tokensession.Config{Authorize: authorize}, w.events)
	first := w.start()
	second := first
	meanwhile = func() { second = w.refresh(first.RefreshToken) }
	_, err := m.Refresh(ctx, first.RefreshToken)
	require.NoError(t, err)
	require.Equal(t, 2, asked, "the record that was allowed is not there any more")

	asked, meanwhile = 0, nil
	w.store.On(testkit.Swap, testkit.LoseRequest)
	w.store.On(testkit.Swap, testkit.LoseRequest)
	_, err = m.Refresh(ctx, second.RefreshToken)
	require.NoError(t, err)
	require.Equal(t, 1, asked, "the record has not changed")
}

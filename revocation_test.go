package tokensession_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// The caller goes away, and another refresh gets in between: the thief must not gain from it.
func TestRefresh_revokesThoughTheCallerWentAwayAndAnotherWriteCameFirst(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	stolen := w.start()
	live := w.refresh(w.refresh(stolen.RefreshToken).RefreshToken)
	ctx, cancel := context.WithCancel(context.Background())
	w.store.On(testkit.Swap,
		testkit.Do(cancel),
		testkit.Do(func() { live = w.refresh(live.RefreshToken) }),
	)
	_, err := w.m.Refresh(ctx, stolen.RefreshToken)
	requireReused(t, err, 0, 3)
	w.requireDead(stolen, live)
}

// The store lost a revocation, and a rotation that had seemed to fail lands in the place of the one made
// instead: both are writes of one call, and a store may take one for the other.
func TestRefresh_doesNotTakeItsOwnLateRotationForARevocation(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	var rotation testkit.Late
	w.store.On(testkit.Swap,
		rotation.Keep,
		testkit.Do(func() { // meanwhile the session is revoked here, though the store does not have it
			w.store.On(testkit.Load, testkit.Refuse(tokensession.ErrNotFound))
			require.ErrorIs(t, w.m.Revoke(context.Background(), first.Session.ID), tokensession.ErrNotFound)
		}),
		testkit.LoseRequest,
	)
	w.store.On(testkit.Swap, // the revocation
		rotation.Lands,
	)
	require.ErrorIs(t, w.refreshError(first.RefreshToken), tokensession.ErrRevoked)
	require.False(t, w.record(first.Session.ID).RevokedAt.IsZero(), "it was said to be revoked, and is not")
	w.requireDead(first)
}

// An instance that does not Run learns of a revocation elsewhere from the refresh that it refuses.
func TestRefresh_refusedForARevocationElsewhereEndsAccessHere(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	require.NoError(t, w.other(tokensession.Config{}).Revoke(context.Background(), tokens.Session.ID))
	_, err := w.m.Verify(tokens.AccessToken)
	require.NoError(t, err, "nobody told it")
	require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
	_, err = w.m.Verify(tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

// How long a token is accepted depends on the leeway, and on the clock of the instance that made it: a revocation has
// to be remembered for as long.
func TestRevoke_isRememberedUntilTheLastTokenIsRefusedAnyway(t *testing.T) {
	for name, c := range map[string]struct{ leeway, behind time.Duration }{
		"leeway": {leeway: 5 * time.Minute},
		"revoked by an instance whose clock is behind":  {behind: 59 * time.Second},
		"with leeway, by one whose clock is far behind": {leeway: 5 * time.Minute, behind: 5*time.Minute + 59*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			access := accessConfig
			access.Leeway = c.leeway
			signer, err := tokensession.NewAccessSigner(testKeyFor("EdDSA").key, access)
			require.NoError(t, err)
			clock, store := testkit.NewClock(), tokensession.NewMemoryStore()
			// Strict, for a denial lasts for the grace period longer.
			m, err := tokensession.New(signer, store, tokensession.Config{Now: clock.Now, GracePeriod: tokensession.Strict})
			require.NoError(t, err)
			other, err := tokensession.New(signer, store, tokensession.Config{
				Now: func() time.Time { return clock.Now().Add(-c.behind) }, GracePeriod: tokensession.Strict,
			})
			require.NoError(t, err)
			tokens, err := m.Start(ctx, "alice")
			require.NoError(t, err)
			require.NoError(t, other.Revoke(ctx, tokens.Session.ID))
			_, err = m.VerifyLive(ctx, tokens.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrRevoked)

			steps := 0
			for end := tokens.AccessExpiresAt.Add(c.leeway); clock.Now().Before(end); clock.Advance(time.Second) {
				_, err = m.Verify(tokens.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked, "%v before it expires", end.Sub(clock.Now()))
				steps++
			}
			require.Greater(t, steps, 890)
			_, err = m.Verify(tokens.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrExpired)
		})
	}
}

// The record is lost, and nobody knows when the session was refreshed last: by an instance whose clock was ahead by the
// leeway, and its tokens are accepted for the leeway longer.
func TestRevoke_ofALostRecordByAClockThatIsBehind(t *testing.T) {
	access := accessConfig
	access.Leeway = 5 * time.Minute
	signer, err := tokensession.NewAccessSigner(testKeyFor("EdDSA").key, access)
	require.NoError(t, err)
	clock := testkit.NewClock()
	ahead, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{
		Now: func() time.Time { return clock.Now().Add(access.Leeway) },
	})
	require.NoError(t, err)
	m, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{Now: clock.Now})
	require.NoError(t, err)
	tokens, err := ahead.Start(ctx, "alice")
	require.NoError(t, err)
	require.ErrorIs(t, m.Revoke(ctx, tokens.Session.ID), tokensession.ErrNotFound)
	for end := tokens.AccessExpiresAt.Add(access.Leeway); clock.Now().Before(end); clock.Advance(time.Second) {
		_, err = m.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked, "%v before it expires", end.Sub(clock.Now()))
	}
}

// An access token lives for the leeway beyond its session's end: the logout is to end it.
func TestLogout_afterTheSessionsEndEndsTheAccessToken(t *testing.T) {
	access := accessConfig
	access.Leeway = time.Minute
	signer, err := tokensession.NewAccessSigner(testKeyFor("EdDSA").key, access)
	require.NoError(t, err)
	clock := testkit.NewClock()
	m, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{Now: clock.Now, MaxLifetime: time.Hour})
	require.NoError(t, err)
	for name, logout := range map[string]func(tokens tokensession.Tokens) error{
		"by the refresh token": func(tokens tokensession.Tokens) error { return m.RevokeToken(ctx, tokens.RefreshToken) },
		"by the access token":  func(tokens tokensession.Tokens) error { return m.RevokeAccess(ctx, tokens.AccessToken) },
	} {
		tokens, err := m.Start(ctx, "alice")
		require.NoError(t, err)
		clock.Advance(50 * time.Minute)
		tokens, err = m.Refresh(ctx, tokens.RefreshToken)
		require.NoError(t, err)
		clock.Advance(10*time.Minute + time.Second)
		_, err = m.Verify(tokens.AccessToken)
		require.NoError(t, err, name)
		require.NoError(t, logout(tokens), name)
		_, err = m.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked, name)
	}
}

// The store hangs for two minutes before it revokes, or fails: what was refreshed meanwhile is denied for as long as it
// lives, here and by who reads the feed.
func TestRevokeSubject_thatTakesLongDeniesWhatWasRefreshedMeanwhile(t *testing.T) {
	for name, fails := range map[string]bool{"revokes": false, "fails": true} {
		w := newWorld(t, tokensession.Config{})
		store := testkit.Hook(t, w.memory)
		w.m = w.manager(store.Store(), tokensession.Config{}, w.events)
		first := w.start()
		var last tokensession.Tokens
		steps := []testkit.Step{
			w.clock.Passes(119 * time.Second),
			testkit.Do(func() { last = w.refresh(first.RefreshToken) }),
			w.clock.Passes(time.Second),
		}
		if fails {
			steps = append(steps, testkit.LoseRequest)
		}
		store.On(testkit.RevokeSubject, steps...)
		_, err := w.m.RevokeSubject(ctx, "alice")
		require.NoError(t, err)
		if fails {
			require.WithinDuration(t, w.clock.Now(), w.record(first.Session.ID).RevokedAt, micro, "what the feed tells")
		}
		for ; w.clock.Now().Before(last.AccessExpiresAt); w.clock.Advance(time.Second) {
			_, err := w.m.Verify(last.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrRevoked, name)
		}
	}
}

// A host that logs errors, and gives a token to the wrong one of two functions.
func TestRevoke_ofATokenDoesNotPrintIt(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	for _, token := range []string{tokens.RefreshToken, tokens.AccessToken} {
		err := w.m.Revoke(ctx, token)
		require.ErrorIs(t, err, tokensession.ErrNotFound)
		for i := range len(token) - 8 {
			require.NotContains(t, err.Error(), token[i:i+8])
		}
	}
}

func TestRevokedError_saysWhy(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	old := w.start()
	w.start(tokensession.Replacing(old.Session.ID))
	var revoked *tokensession.RevokedError
	err := w.refreshError(old.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
	require.ErrorAs(t, err, &revoked)
	require.Equal(t, tokensession.RevokedError{SessionID: old.Session.ID, Reason: tokensession.ReasonReplaced}, *revoked)
	_, err = w.other(tokensession.Config{}).VerifyLive(ctx, old.AccessToken)
	require.ErrorAs(t, err, &revoked)
	require.Equal(t, tokensession.ReasonReplaced, revoked.Reason)
}

// The record is dropped between the two looks that a logout takes at it: there is nothing left to end.
func TestRevokeToken_ofASessionThatIsDroppedMeanwhileIsNoError(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.store.Took()
	w.store.On(testkit.Load)
	w.store.Always(testkit.Any, testkit.Refuse(tokensession.ErrNotFound))
	require.NoError(t, w.m.RevokeToken(context.Background(), tokens.RefreshToken))
	require.Greater(t, w.store.Count(testkit.Any), 1)
}

// What others ended, or what was dropped, between the list and the end of its sessions was not ended by this call.
func TestRevokeSubject_countsOnlyWhatItEnded(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	ended, elsewhere, dropped := w.start(), w.start(), w.start()
	other := w.other(tokensession.Config{})
	w.store.On(testkit.List,
		testkit.Apply,
		testkit.Do(func() {
			require.NoError(t, other.Revoke(context.Background(), elsewhere.Session.ID))
			held := w.record(ended.Session.ID)
			revoked := w.record(elsewhere.Session.ID)
			w.restore(held)
			require.NoError(t, w.memory.Create(context.Background(), revoked))
		}),
	)
	n, err := w.m.RevokeSubject(context.Background(), "alice")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, 1, w.events.Count(tokensession.EventRevoked))
	w.requireDead(ended, elsewhere)
	require.ErrorIs(t, w.refreshError(dropped.RefreshToken), tokensession.ErrInvalidToken)
}

// A store that contradicts itself is broken: a logout that did not happen must not look like one of a session that is
// over already.
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

// A failover lost the record of the session that a login replaces. Its access token is still about.
func TestReplacing_refusesTheAccessTokenOfASessionThatTheStoreLost(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	old := w.start()
	w.forget()
	w.start(tokensession.Replacing(old.Session.ID))
	_, err := w.m.Verify(old.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

// A clock that was put back revokes at a time before the one at which live access tokens were made. They are denied for
// as long as they live all the same.
func TestRevoke_afterTheClockWasPutBack(t *testing.T) {
	for name, revoke := range map[string]func(w *world, tokens tokensession.Tokens) error{
		"Revoke": func(w *world, tokens tokensession.Tokens) error {
			return w.m.Revoke(context.Background(), tokens.Session.ID)
		},
		"RevokeSubject": func(w *world, tokens tokensession.Tokens) error {
			_, err := w.m.RevokeSubject(context.Background(), tokens.Session.Subject)
			return err
		},
		"RevokeSubject at once": func(w *world, tokens tokensession.Tokens) error {
			w.m = w.manager(w.memory, tokensession.Config{}, w.events)
			_, err := w.m.RevokeSubject(context.Background(), tokens.Session.Subject)
			return err
		},
	} {
		w := newWorld(t, tokensession.Config{})
		tokens := w.start()
		w.clock.Advance(-time.Hour)
		require.NoError(t, revoke(w, tokens), name)
		rec := w.record(tokens.Session.ID)
		require.False(t, rec.RevokedAt.Before(rec.RotatedAt), "%s: the other instances go by this time", name)
		w.clock.Advance(time.Hour)
		for range 15 {
			_, err := w.m.Verify(tokens.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrRevoked, name)
			w.clock.Advance(time.Minute)
		}
	}
}

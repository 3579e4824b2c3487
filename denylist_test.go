package tokensession_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// How long a token is accepted depends on the leeway, and on the clock of the instance that made
// it: a revocation has to be remembered for as long.
func TestRevoke_isRememberedUntilTheLastTokenIsRefusedAnyway(t *testing.T) {
	for name, c := range map[string]struct{ leeway, behind time.Duration }{
		"leeway": {leeway: 5 * time.Minute},
		"revoked by an instance whose clock is behind": {behind: 59 * time.Second},
		"with leeway, by one whose clock is far behind": {leeway: 5 * time.Minute,
			behind: 5*time.Minute + 59*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			access := accessConfig
			access.Leeway = c.leeway
			signer, err := tokensession.NewAccessSigner(testKeyFor("EdDSA").key, access)
			require.NoError(t, err)
			clock, store := testkit.NewClock(), tokensession.NewMemoryStore()
			// Strict, for a denial lasts for the grace period longer.
			m, err := tokensession.New(signer, store,
				tokensession.Config{Now: clock.Now, GracePeriod: tokensession.Strict})
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
				require.ErrorIs(t, err, tokensession.ErrRevoked, "%v before it expires",
					end.Sub(clock.Now()))
				steps++
			}
			require.Greater(t, steps, 890)
			_, err = m.Verify(tokens.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrExpired)
		})
	}
}

// The record is lost, and nobody knows when the session was refreshed last: by an instance whose
// clock was ahead by the leeway, and its tokens are accepted for the leeway longer.
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
	m, err := tokensession.New(signer, tokensession.NewMemoryStore(),
		tokensession.Config{Now: clock.Now})
	require.NoError(t, err)
	tokens, err := ahead.Start(ctx, "alice")
	require.NoError(t, err)
	require.ErrorIs(t, m.Revoke(ctx, tokens.Session.ID), tokensession.ErrNotFound)
	for end := tokens.AccessExpiresAt.Add(access.Leeway); clock.Now().Before(end); clock.Advance(time.Second) {
		_, err = m.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked, "%v before it expires",
			end.Sub(clock.Now()))
	}
}

// A clock that was put back revokes at a time before the one at which live access tokens were made.
// They are denied for as long as they live all the same.
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
		require.False(t, rec.RevokedAt.Before(rec.RotatedAt),
			"%s: the other instances go by this time", name)
		w.clock.Advance(time.Hour)
		for range 15 {
			_, err := w.m.Verify(tokens.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrRevoked, name)
			w.clock.Advance(time.Minute)
		}
	}
}

// An access token lives for the leeway beyond its session's end: the logout is to end it.
func TestLogout_afterTheSessionsEndEndsTheAccessToken(t *testing.T) {
	access := accessConfig
	access.Leeway = time.Minute
	signer, err := tokensession.NewAccessSigner(testKeyFor("EdDSA").key, access)
	require.NoError(t, err)
	clock := testkit.NewClock()
	m, err := tokensession.New(signer, tokensession.NewMemoryStore(),
		tokensession.Config{Now: clock.Now, MaxLifetime: time.Hour})
	require.NoError(t, err)
	for name, logout := range map[string]func(tokens tokensession.Tokens) error{
		"by the refresh token": func(tokens tokensession.Tokens) error {
			return m.RevokeToken(ctx, tokens.RefreshToken)
		},
		"by the access token": func(tokens tokensession.Tokens) error {
			return m.RevokeToken(ctx, tokens.AccessToken)
		},
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

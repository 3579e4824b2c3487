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

// Two Managers issue tokens of different lives for the same sessions: AccessTTL was changed, and
// not every instance has the new one yet, or two applications share a signer and a store. Wherever
// the session is revoked, and whoever forgets it first, no token of it comes back to life.
func TestAccessTTL_ofAnotherManagerBringsNoTokenOfARevokedSessionBack(t *testing.T) {
	long := tokensession.Config{AccessTTL: time.Hour}
	short := tokensession.Config{AccessTTL: 5 * time.Minute}
	for name, c := range map[string]struct {
		issues, revokes, verifies tokensession.Config
		leeway                    time.Duration
		behind                    time.Duration // the clock that revokes
	}{
		"shortened":                         {issues: long, revokes: short, verifies: short},
		"shortened, revoked by an old one":  {issues: long, revokes: long, verifies: short},
		"shortened, verified by an old one": {issues: long, revokes: short, verifies: long},
		"lengthened, not yet here":          {issues: long, revokes: long, verifies: short},
		"lengthened, and revoked by an old": {issues: long, revokes: short, verifies: long},
		"of one length":                     {issues: long, revokes: long, verifies: long},
		"with leeway": {issues: long, revokes: short, verifies: short,
			leeway: 5 * time.Minute},
		"with leeway, by a clock that is behind": {issues: long, revokes: short, verifies: short,
			leeway: 5 * time.Minute, behind: 5*time.Minute + 59*time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			access := accessConfig
			access.Leeway = c.leeway
			signer, err := tokensession.NewAccessSigner(testKeyFor("EdDSA").key, access)
			require.NoError(t, err)
			clock, store := testkit.NewClock(), tokensession.NewMemoryStore()
			manager := func(cfg tokensession.Config, behind time.Duration) *tokensession.Manager {
				cfg.Now = func() time.Time { return clock.Now().Add(-behind) }
				cfg.GracePeriod = tokensession.Strict // for which a denial lasts longer
				return newManager(t, signer, store, cfg)
			}
			issuer, verifier := manager(c.issues, 0), manager(c.verifies, 0)
			tokens, err := issuer.Start(ctx, "alice")
			require.NoError(t, err)
			_, err = verifier.Verify(tokens.AccessToken)
			require.NoError(t, err, "and it is in the cache from now on")
			require.NoError(t, manager(c.revokes, c.behind).Revoke(ctx, tokens.Session.ID))
			_, err = verifier.VerifyLive(ctx, tokens.AccessToken) // hears of it, as from the feed
			require.ErrorIs(t, err, tokensession.ErrRevoked)
			for range 3700 + int(c.leeway/time.Second) {
				clock.Advance(time.Second)
				_, err = verifier.Verify(tokens.AccessToken)
				require.Error(t, err, "accepted again after %v", clock.Now().Sub(testkit.Began))
				_, err = verifier.Introspect(ctx, tokens.AccessToken)
				require.Error(t, err, "accepted again after %v", clock.Now().Sub(testkit.Began))
			}
		})
	}
}

// A token of a longer life than this Manager's is accepted for as long as one of this Manager's. A
// service that has no AccessTTL accepts it until its exp.
func TestVerify_acceptsATokenNoLongerThanAccessTTL(t *testing.T) {
	access := accessConfig
	access.Leeway = 3 * time.Second
	clock := testkit.NewClock()
	access.Now = clock.Now
	signer, err := tokensession.NewAccessSigner(testKeyFor("EdDSA").key, access)
	require.NoError(t, err)
	store := tokensession.NewMemoryStore()
	manager := func(ttl time.Duration) *tokensession.Manager {
		return newManager(t, signer, store, tokensession.Config{Now: clock.Now, AccessTTL: ttl})
	}
	long, short := manager(time.Hour), manager(5*time.Minute)
	service, err := tokensession.NewAccessVerifier(signer.JWKS(), access)
	require.NoError(t, err)
	tokens, err := long.Start(ctx, "alice")
	require.NoError(t, err)
	issued := clock.Now().Truncate(time.Second)

	clock.Advance(issued.Add(5*time.Minute + 3*time.Second - micro).Sub(clock.Now()))
	_, err = short.Verify(tokens.AccessToken)
	require.NoError(t, err)
	clock.Advance(micro)
	for range 2 {
		_, err = short.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrExpired)
		_, err = short.Introspect(ctx, tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrExpired)
		_, err = short.VerifyLive(ctx, tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrExpired)
	}
	id, err := short.SessionID(tokens.AccessToken)
	require.NoError(t, err, "a logout")
	require.Equal(t, tokens.Session.ID, id)
	clock.Advance(tokens.AccessExpiresAt.Add(3*time.Second - micro).Sub(clock.Now()))
	_, err = long.Verify(tokens.AccessToken)
	require.NoError(t, err, "where it was made")
	_, err = service.Verify(tokens.AccessToken)
	require.NoError(t, err, "where no AccessTTL is known")
}

// Dates in tokens are whole seconds. A token lives until its exp all the same.
func TestVerify_acceptsItsOwnTokensUntilTheirExp(t *testing.T) {
	for _, ttl := range []time.Duration{time.Second, 1100 * time.Millisecond, 1999 * time.Millisecond, time.Minute} {
		for _, within := range []time.Duration{0, micro, 500 * time.Millisecond, time.Second - micro} {
			clock := testkit.NewClock()
			clock.Advance(clock.Now().Truncate(time.Second).Add(time.Second + within).Sub(clock.Now()))
			m := newManager(t, testSigner(t), tokensession.NewMemoryStore(), tokensession.Config{
				Now: clock.Now, AccessTTL: ttl, GracePeriod: tokensession.Strict,
			})
			tokens, err := m.Start(ctx, "alice")
			require.NoError(t, err)
			clock.Advance(tokens.AccessExpiresAt.Add(-micro).Sub(clock.Now()))
			_, err = m.Verify(tokens.AccessToken)
			require.NoError(t, err, "%v, made %v after the second", ttl, within)
		}
	}
}

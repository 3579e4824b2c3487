package tokensession_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// A service verifies access tokens without a store, and can ask the issuer about sessions.
type service struct {
	*tokensession.AccessVerifier
	m     *tokensession.Manager // the issuer's
	asked atomic.Int64
	fails atomic.Bool // nobody can be asked
}

func newService(t *testing.T, cfg tokensession.Config) *service {
	t.Helper()
	signer := testSigner(t)
	verifier, err := tokensession.NewAccessVerifier(signer.JWKS(), accessConfig)
	require.NoError(t, err)
	m := newManager(t, signer, tokensession.NewMemoryStore(), cfg)
	s := &service{AccessVerifier: verifier, m: m}
	s.AskSessionEpoch(func(ctx context.Context, sessionID string) (uint64, error) {
		s.asked.Add(1)
		if s.fails.Load() {
			return 0, testkit.ErrDown
		}
		return s.m.SessionEpoch(ctx, sessionID)
	})
	return s
}

func (s *service) start(t *testing.T) tokensession.Tokens {
	t.Helper()
	tokens, err := s.m.Start(t.Context(), "alice")
	require.NoError(t, err)
	return tokens
}

func (s *service) opens(t *testing.T, token string) context.Context {
	t.Helper()
	access, err := s.Verify(token)
	require.NoError(t, err)
	open, cancel := s.SessionContext(t.Context(), access, tokensession.UntilSessionEnds())
	t.Cleanup(cancel)
	return open
}

// The client refreshes, but shows its new access tokens to the issuer only.
func TestAccessVerifier_askedConnectionsGoOnWhileTheSessionLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, tokensession.Config{RefreshTTL: time.Hour})
		tokens := s.start(t)
		open := s.opens(t, tokens.AccessToken)
		time.Sleep(time.Until(tokens.AccessExpiresAt) - time.Microsecond)
		synctest.Wait()
		require.Zero(t, s.asked.Load(), "while the access token can be used")
		var err error
		for range 8 {
			time.Sleep(30 * time.Minute)
			requireOpen(t, open, "the session goes on")
			tokens, err = s.m.Refresh(t.Context(), tokens.RefreshToken)
			require.NoError(t, err)
		}
		require.InDelta(t, 4*60/14, s.asked.Load(), 2, "questions in four hours")
		time.Sleep(time.Hour + 15*time.Minute)
		requireEnded(t, open, tokensession.ErrExpired, "nobody has refreshed")
	})
}

func TestAccessVerifier_asksNothingOfAClientThatShowsItsNewToken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, tokensession.Config{})
		tokens := s.start(t)
		open := s.opens(t, tokens.AccessToken)
		for range 10 {
			time.Sleep(14 * time.Minute)
			next, err := s.m.Refresh(t.Context(), tokens.RefreshToken)
			require.NoError(t, err)
			tokens = next
			_, err = s.Verify(tokens.AccessToken)
			require.NoError(t, err)
		}
		requireOpen(t, open, "the session goes on")
		require.Zero(t, s.asked.Load())
	})
}

func TestAccessVerifier_askedOfAConnection(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(t *testing.T, s *service, tokens tokensession.Tokens)
		cause   error // nil: it goes on
	}{
		"nothing": {func(*testing.T, *service, tokensession.Tokens) {}, nil},
		"revoked, and nobody told": {func(t *testing.T, s *service, tokens tokensession.Tokens) {
			require.NoError(t, s.m.Revoke(t.Context(), tokens.Session.ID))
		}, tokensession.ErrRevoked},
		"outdated, and nobody told": {func(t *testing.T, s *service, _ tokensession.Tokens) {
			_, err := s.m.Reauthorize(t.Context(), "alice")
			require.NoError(t, err)
		}, tokensession.ErrOutdated},
		"an outage": {func(_ *testing.T, s *service, _ tokensession.Tokens) {
			s.fails.Store(true)
		}, nil},
		"nobody can be asked": {func(_ *testing.T, s *service, _ tokensession.Tokens) {
			s.AskSessionEpoch(func(context.Context, string) (uint64, error) {
				return 0, tokensession.ErrExpired
			})
		}, tokensession.ErrExpired},
		"another error": {func(_ *testing.T, s *service, _ tokensession.Tokens) {
			s.AskSessionEpoch(func(context.Context, string) (uint64, error) {
				return 0, errors.New("a bug")
			})
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newService(t, tokensession.Config{})
				tokens := s.start(t)
				open := s.opens(t, tokens.AccessToken)
				c.happens(t, s, tokens)
				time.Sleep(time.Until(tokens.AccessExpiresAt) - time.Microsecond)
				requireOpen(t, open, "nobody has been asked yet")
				time.Sleep(time.Minute)
				if c.cause == nil {
					requireOpen(t, open, "nothing says that the session is over")
					return
				}
				requireEnded(t, open, c.cause, "the issuer says so")
			})
		})
	}
}

// When the issuer is there again after hours, a connection of a session that has ended meanwhile ends
// within a minute.
func TestAccessVerifier_asksAgainAfterAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, tokensession.Config{})
		lives, ends := s.start(t), s.start(t)
		stays, goes := s.opens(t, lives.AccessToken), s.opens(t, ends.AccessToken)
		s.fails.Store(true)
		time.Sleep(3 * time.Hour)
		requireOpen(t, goes, "the issuer cannot tell")
		require.InDelta(t, 2*(180-15)*60/56, s.asked.Load(), 30, "one question a minute")
		require.NoError(t, s.m.Revoke(t.Context(), ends.Session.ID))
		s.fails.Store(false)
		time.Sleep(time.Minute)
		requireEnded(t, goes, tokensession.ErrRevoked, "the issuer can tell")
		requireOpen(t, stays, "the other session goes on")
	})
}

func TestSessionEpoch(t *testing.T) {
	w := newWorld(t, tokensession.Config{RefreshTTL: time.Hour})
	tokens := w.start()
	epoch, err := w.m.SessionEpoch(ctx, tokens.Session.ID)
	require.NoError(t, err)
	require.Zero(t, epoch)
	_, err = w.m.Reauthorize(ctx, tokens.Session.Subject)
	require.NoError(t, err)
	epoch, err = w.m.SessionEpoch(ctx, tokens.Session.ID)
	require.NoError(t, err)
	require.EqualValues(t, w.clock.Now().UnixMilli(), epoch)

	_, err = w.m.SessionEpoch(ctx, "AAAAAAAAAAAAAAAAAAAAAA")
	require.ErrorIs(t, err, tokensession.ErrRevoked, "nobody's")
	_, err = w.m.SessionEpoch(ctx, tokens.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
	require.NotContains(t, err.Error(), tokens.RefreshToken)
	w.clock.Advance(time.Hour)
	_, err = w.m.SessionEpoch(ctx, tokens.Session.ID)
	require.ErrorIs(t, err, tokensession.ErrExpired)
	tokens = w.start()
	require.NoError(t, w.m.Revoke(ctx, tokens.Session.ID))
	_, err = w.m.SessionEpoch(ctx, tokens.Session.ID)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

package tokensession_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

func TestStory(t *testing.T) {
	c := testkit.NewClock()
	ctx := context.Background()
	m := newManager(t, testSigner(t), tokensession.NewMemoryStore(),
		tokensession.Config{Now: c.Now, RecoveryPeriod: tokensession.Strict})
	a, err := m.Start(ctx, "alice")
	require.NoError(t, err)
	access, err := m.Verify(a.AccessToken)
	require.NoError(t, err)
	require.Equal(t, "alice", access.Subject)
	b, err := m.Refresh(ctx, a.RefreshToken)
	require.NoError(t, err)
	require.NotEqual(t, a.RefreshToken, b.RefreshToken)
	b2, err := m.Refresh(ctx, a.RefreshToken)
	require.NoError(t, err)
	require.Equal(t, b.RefreshToken, b2.RefreshToken)
	c.Advance(10 * time.Second)
	_, err = m.Refresh(ctx, a.RefreshToken)
	var reuse *tokensession.ReuseError
	require.True(t, errors.As(err, &reuse), "%v", err)
	_, err = m.Verify(b.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

func TestCancelledContext_isItsErrorAndConsumesNothing(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	late, stop := context.WithDeadline(context.Background(), time.Unix(0, 0))
	defer stop()
	w.store.Took()
	for _, c := range []struct {
		ctx   context.Context
		cause error
	}{{ctx, context.Canceled}, {late, context.DeadlineExceeded}} {
		w.unchanged(tokens.Session.ID, func() {
			requireCause := func(err error) { t.Helper(); requireUnavailableFor(t, err, c.cause) }
			_, err := w.m.Start(c.ctx, "alice")
			requireCause(err)
			_, err = w.m.Refresh(c.ctx, tokens.RefreshToken)
			requireCause(err)
			_, err = w.m.VerifyLive(c.ctx, tokens.AccessToken)
			requireCause(err)
			requireCause(w.m.Revoke(c.ctx, tokens.Session.ID))
			requireCause(w.m.RevokeToken(c.ctx, tokens.RefreshToken))
			_, err = w.m.RevokeSubject(c.ctx, "alice")
			requireCause(err)
			_, err = w.m.Sessions(c.ctx, "alice")
			requireCause(err)
		})
	}
	require.Empty(t, w.store.Took(), "the store was asked")
	w.requireLive(tokens)
}

func TestCancelledContext_inMidRefreshConsumesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	asked := 0
	w := newWorld(t, tokensession.Config{
		Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
			if asked++; asked == 2 {
				cancel()
			}
			return tokensession.Grant{}, nil
		},
	})
	tokens := w.start()
	w.unchanged(tokens.Session.ID, func() {
		_, err := w.m.Refresh(ctx, tokens.RefreshToken)
		requireUnavailableFor(t, err, context.Canceled)
	})
	w.requireLive(tokens)
}

func TestManagerJWKS_isTheSignersAtTheManagersTime(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	require.Equal(t, string(w.signer.JWKS()), string(w.m.JWKS()))
	next, err := tokensession.GenerateKey()
	require.NoError(t, err)
	require.NoError(t, w.signer.Rotate(next, w.clock.Now().Add(time.Hour)))
	require.Contains(t, string(w.m.JWKS()), next.ID(), "published before it signs")
	w.clock.Advance(2 * time.Hour)
	require.Equal(t, 1, strings.Count(string(w.m.JWKS()), `"kid"`),
		"the old one has retired by the Manager's clock")
}

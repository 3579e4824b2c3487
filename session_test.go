package tokensession_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

func TestStory(t *testing.T) {
	c := testkit.NewClock()
	ctx := context.Background()
	m := newManager(t, testSigner(t), tokensession.NewMemoryStore(), tokensession.Config{Now: c.Now})
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

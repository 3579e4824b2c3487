package tokensession_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// A clock stands still until it is moved.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func newClock() *clock { return &clock{t: time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

var accessConfig = tokensession.AccessConfig{Issuer: "https://auth.example", Audience: []string{"https://api.example"}}

func newManager(t testing.TB, store tokensession.RefreshStore, cfg tokensession.Config) *tokensession.Manager {
	t.Helper()
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	signer, err := tokensession.NewAccessSigner(key, accessConfig)
	require.NoError(t, err)
	m, err := tokensession.New(signer, store, cfg)
	require.NoError(t, err)
	return m
}

func TestStory(t *testing.T) {
	c := newClock()
	ctx := context.Background()
	m := newManager(t, tokensession.NewMemoryStore(), tokensession.Config{Now: c.Now})
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
	c.advance(10 * time.Second)
	_, err = m.Refresh(ctx, a.RefreshToken)
	var reuse *tokensession.ReuseError
	require.True(t, errors.As(err, &reuse), "%v", err)
	_, err = m.Verify(b.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

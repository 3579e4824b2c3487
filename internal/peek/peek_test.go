package peek_test

import (
	"context"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/peek"
)

func tokens(t *testing.T, generations int) tokensession.Tokens {
	t.Helper()
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	})
	require.NoError(t, err)
	m, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{})
	require.NoError(t, err)
	got, err := m.Start(context.Background(), "alice")
	require.NoError(t, err)
	for range generations {
		got, err = m.Refresh(context.Background(), got.RefreshToken)
		require.NoError(t, err)
	}
	return got
}

func TestRefresh_readsWhatTheTokenNames(t *testing.T) {
	made := tokens(t, 3)
	id, generation, ok := peek.Refresh(made.RefreshToken)
	require.True(t, ok)
	require.Equal(t, made.Session.ID, id)
	require.Equal(t, uint64(3), generation)
	for _, other := range []string{
		"", "tsr_", made.AccessToken, made.RefreshToken + "A", made.RefreshToken[1:],
		made.RefreshToken[:len(made.RefreshToken)-1], strings.ToUpper(made.RefreshToken),
		made.RefreshToken[:10] + "\n" + made.RefreshToken[11:],
	} {
		_, _, ok := peek.Refresh(other)
		require.False(t, ok, other)
	}
}

func TestAccess_readsWhatTheTokenNames(t *testing.T) {
	made := tokens(t, 0)
	claims, ok := peek.Access(made.AccessToken)
	require.True(t, ok)
	want := peek.Claims{SessionID: made.Session.ID, Subject: "alice", Issuer: "https://auth.example"}
	require.Equal(t, want, claims)
	for _, other := range []string{
		"", "x", "a.b", "a.b.c", made.RefreshToken, "a.e30.c", "a.eyJzaWQiOiJ4In0.c", "a.W10.c",
		strings.Replace(made.AccessToken, ".", ".!", 1),
	} {
		_, ok := peek.Access(other)
		require.False(t, ok, other)
	}
}

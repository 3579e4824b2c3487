package tokensession_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// grants is a config whose authorizer always says the same.
func grants(grant tokensession.Grant) tokensession.Config {
	return tokensession.Config{Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) { return grant, nil }}
}

// RFC 6749 section 6.
func TestRefresh_cannotWidenTheScope(t *testing.T) {
	w := newWorld(t, grants(tokensession.Grant{Scope: "read write"}))
	tokens := w.start()
	for _, wider := range []string{"admin", "read admin", "read write admin", "rea", "reading", "READ", "read  write", " read", "read ", "re\"ad", "read\n"} {
		w.unchanged(tokens.Session.ID, func() {
			require.ErrorIs(t, w.refreshError(tokens.RefreshToken, tokensession.WithScope(wider)), tokensession.ErrInvalidScope, "%q", wider)
		})
	}
	w.requireLive(tokens)
}

func TestRefresh_canNarrowTheScopeOfOneAccessToken(t *testing.T) {
	w := newWorld(t, grants(tokensession.Grant{Scope: "read write delete"}))
	tokens := w.start()
	for _, asked := range []struct{ scope, got string }{
		{"read", "read"}, {"delete read", "delete read"}, {"", "read write delete"}, {"write", "write"}, {"read write delete", "read write delete"},
	} {
		tokens = w.refresh(tokens.RefreshToken, tokensession.WithScope(asked.scope))
		access, err := w.m.Verify(tokens.AccessToken)
		require.NoError(t, err)
		require.Equal(t, asked.got, access.Scope)
		w.clock.Advance(time.Minute)
	}
}

func TestRefresh_withScopeWhereNoneIsGranted(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.unchanged(tokens.Session.ID, func() {
		require.ErrorIs(t, w.refreshError(tokens.RefreshToken, tokensession.WithScope("read")), tokensession.ErrInvalidScope)
	})
}

func TestMaxAccessSize_isCheckedBeforeAnythingIsConsumed(t *testing.T) {
	grant := tokensession.Grant{Claims: map[string]any{"note": ""}}
	w := newWorld(t, tokensession.Config{Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) { return grant, nil }})
	tokens := w.start()
	size := len(tokens.AccessToken)

	_, err := w.m.Start(context.Background(), "alice", tokensession.WithMaxAccessSize(size-1))
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	require.ErrorContains(t, err, "WithMaxAccessSize")
	sessions, err := w.m.Sessions(context.Background(), "alice")
	require.NoError(t, err)
	require.Len(t, sessions, 1)

	w.unchanged(tokens.Session.ID, func() {
		require.ErrorIs(t, w.refreshError(tokens.RefreshToken, tokensession.WithMaxAccessSize(size-1)), tokensession.ErrUnavailable)
	})
	tokens = w.refresh(tokens.RefreshToken, tokensession.WithMaxAccessSize(size))
	require.Len(t, tokens.AccessToken, size)
	grant.Claims["note"] = strings.Repeat("x", 4096)
	w.unchanged(tokens.Session.ID, func() {
		require.ErrorIs(t, w.refreshError(tokens.RefreshToken, tokensession.WithMaxAccessSize(4096)), tokensession.ErrUnavailable)
	})
	w.requireLive(tokens)
}

func TestRevokeAccess_logsOutWithAnAccessTokenHoweverOld(t *testing.T) {
	for name, later := range map[string]time.Duration{"fresh": 0, "expired": time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			tokens, other := w.start(), w.start()
			w.clock.Advance(later)
			id, err := w.m.SessionID(tokens.AccessToken)
			require.NoError(t, err)
			require.Equal(t, tokens.Session.ID, id)
			require.NoError(t, w.m.RevokeAccess(context.Background(), tokens.AccessToken))
			require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
			require.Equal(t, tokensession.ReasonLogout, w.record(id).RevokeReason)
			w.refresh(other.RefreshToken)

			require.NoError(t, w.m.RevokeAccess(context.Background(), tokens.AccessToken), "twice")
			id, err = w.m.SessionID(tokens.AccessToken)
			require.NoError(t, err, "of a revoked session")
			require.Equal(t, tokens.Session.ID, id)
		})
	}
}

func TestRevokeAccess_ofALostRecordStillDeniesTheToken(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	elsewhere := newWorld(t, tokensession.Config{})
	m, err := tokensession.New(w.signer, elsewhere.memory, tokensession.Config{Now: w.clock.Now})
	require.NoError(t, err)
	tokens := w.start()
	require.NoError(t, m.RevokeAccess(context.Background(), tokens.AccessToken))
	_, err = m.Verify(tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

func TestRevokeAccess_refusesWhatIsNoAccessTokenOfOurs(t *testing.T) {
	w, foreign := newWorld(t, tokensession.Config{}), newWorld(t, tokensession.Config{})
	tokens := w.start()
	for name, token := range map[string]string{
		"empty": "", "refresh token": tokens.RefreshToken, "foreign": foreign.start().AccessToken,
		"another signature": tokens.AccessToken[:len(tokens.AccessToken)-4] + "AAAA", "longer": tokens.AccessToken + "A", "huge": strings.Repeat("a", 1<<20),
	} {
		w.unchanged(tokens.Session.ID, func() {
			require.ErrorIs(t, w.m.RevokeAccess(context.Background(), token), tokensession.ErrInvalidToken, name)
		})
	}
	w.store.Down(testkit.Load)
	require.ErrorIs(t, w.m.RevokeAccess(context.Background(), tokens.AccessToken), tokensession.ErrUnavailable)
}

// A browser comes back long after the key was rotated, and logs out. But who holds a key that leaked, and was retired
// for that, cannot log everybody out.
func TestRevokeAccess_takesATokenOfARotatedKeyAndNoneOfARetiredOne(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	next, err := tokensession.GenerateKey()
	require.NoError(t, err)
	require.NoError(t, w.signer.Rotate(next, w.clock.Now()))
	w.clock.Advance(time.Second)
	late := w.start() // with the new key
	w.clock.Advance(24 * time.Hour)
	_, err = w.m.Verify(tokens.AccessToken)
	require.Error(t, err)
	require.NotContains(t, string(w.m.JWKS()), testKeyFor("EdDSA").key.ID(), "its key has retired by itself")
	require.NoError(t, w.m.RevokeAccess(context.Background(), tokens.AccessToken))
	require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)

	third, err := tokensession.GenerateKey()
	require.NoError(t, err)
	require.NoError(t, w.signer.Rotate(third, w.clock.Now()))
	require.NoError(t, w.signer.Retire(next.ID()))
	w.unchanged(late.Session.ID, func() {
		require.ErrorIs(t, w.m.RevokeAccess(context.Background(), late.AccessToken), tokensession.ErrInvalidToken)
	})
}

func TestManagerJWKS_isTheSignersAtTheManagersTime(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	require.Equal(t, string(w.signer.JWKS()), string(w.m.JWKS()))
	next, err := tokensession.GenerateKey()
	require.NoError(t, err)
	require.NoError(t, w.signer.Rotate(next, w.clock.Now().Add(time.Hour)))
	require.Contains(t, string(w.m.JWKS()), next.ID(), "published before it signs")
	w.clock.Advance(2 * time.Hour)
	require.Equal(t, 1, strings.Count(string(w.m.JWKS()), `"kid"`), "the old one has retired by the Manager's clock")
}

func TestWithScope_isNotQuoted(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	for _, mistaken := range []string{tokens.RefreshToken + "\n", tokens.RefreshToken + " "} {
		err := w.refreshError(tokens.RefreshToken, tokensession.WithScope(mistaken))
		require.ErrorIs(t, err, tokensession.ErrInvalidScope)
		require.NotContains(t, err.Error(), tokens.RefreshToken)
	}
}

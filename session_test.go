package tokensession_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// A list of devices must tell nobody when a session was last refreshed.
func TestSession_itsJSONTellsNotWhenItWasRefreshed(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	b, err := json.Marshal(tokensession.Session{
		ID: "SID", Subject: "alice", AuthTime: at, CreatedAt: at, RefreshedAt: at.Add(time.Hour), ExpiresAt: at.Add(2 * time.Hour),
	})
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"SID","subject":"alice","auth_time":"2026-01-02T03:04:05Z","created_at":"2026-01-02T03:04:05Z"}`,
		string(b))
	b, err = json.Marshal(tokensession.Session{
		ID: "SID", Subject: "alice", ClientID: "app", Actor: "carol", Attributes: map[string]string{"device": "phone"},
		AuthTime: at, AuthMethods: []string{"pwd"}, AuthContext: "gold", Transient: true,
		CreatedAt: at, MaxExpiresAt: at, RevokedAt: at, RevokeReason: tokensession.ReasonLogout,
	})
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"SID","subject":"alice","client_id":"app","actor":"carol","attributes":{"device":"phone"},
		"auth_time":"2026-01-02T03:04:05Z","auth_methods":["pwd"],"auth_context":"gold","transient":true,
		"created_at":"2026-01-02T03:04:05Z","max_expires_at":"2026-01-02T03:04:05Z",
		"revoked_at":"2026-01-02T03:04:05Z","revoke_reason":"logout"}`, string(b))
}

func TestTokens_theirJSONHasNoZeroTimes(t *testing.T) {
	b, err := json.Marshal(tokensession.Tokens{AccessToken: "A"})
	require.NoError(t, err)
	require.JSONEq(t, `{"access_token":"A"}`, string(b))
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := tokensession.Tokens{
		AccessToken: "A", AccessExpiresAt: at, RefreshToken: "R", RefreshExpiresAt: at, Scope: "read",
		Session: tokensession.Session{ID: "SID", Subject: "alice", AuthTime: at, CreatedAt: at},
	}
	b, err = json.Marshal(want)
	require.NoError(t, err)
	var got tokensession.Tokens
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, want, got)
}

func TestAccess_itsJSONHasNoZeroTimes(t *testing.T) {
	b, err := json.Marshal(tokensession.Access{Subject: "alice"}) // as a unit test of a handler has it
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"","session_id":"","subject":"alice","issuer":"","audience":null}`, string(b))
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	want := tokensession.Access{
		ID: "JTI", SessionID: "SID", Subject: "alice", ClientID: "app", Issuer: "https://auth.example",
		Scope: "read", Audience: []string{"https://api.example"}, IssuedAt: at, ExpiresAt: at,
		AuthTime: at, AuthMethods: []string{"pwd"}, AuthContext: "gold", Actor: "carol",
		KeyThumbprint: "JKT",
	}
	b, err = json.Marshal(want)
	require.NoError(t, err)
	require.JSONEq(t, `{"id":"JTI","session_id":"SID","subject":"alice","client_id":"app",
		"issuer":"https://auth.example","scope":"read","audience":["https://api.example"],
		"issued_at":"2026-01-02T03:04:05Z","expires_at":"2026-01-02T03:04:05Z",
		"auth_time":"2026-01-02T03:04:05Z","auth_methods":["pwd"],"auth_context":"gold",
		"actor":"carol","key_thumbprint":"JKT"}`, string(b))
	var got tokensession.Access
	require.NoError(t, json.Unmarshal(b, &got))
	require.Equal(t, want, got)
}

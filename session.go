package tokensession

import (
	"fmt"
	"log/slog"
	"time"
)

// A Session is one login on one device.
type Session struct {
	ID         string // public: the access token's sid
	Subject    string
	ClientID   string            // empty: bound to no client
	Attributes map[string]string // the host's: device name, IP address, user agent…

	AuthTime     time.Time // when the user proved who they are
	CreatedAt    time.Time
	RefreshedAt  time.Time // of the last refresh that made a new refresh token; CreatedAt before the first
	ExpiresAt    time.Time // when it ends unless refreshed
	MaxExpiresAt time.Time // when it ends whatever happens; zero if never
	RevokedAt    time.Time // zero: not revoked
	RevokeReason Reason
}

// Tokens are what a client gets. The access token is sent with each request and verified without
// I/O; the refresh token is sent to the refresh endpoint only. Tokens print and log without the
// two; read the fields to send them. [encoding/json] writes them, as does a slog.JSONHandler where
// Tokens are part of another value.
type Tokens struct {
	AccessToken      string
	AccessExpiresAt  time.Time
	RefreshToken     string
	RefreshExpiresAt time.Time // when the session ends unless refreshed
	Scope            string    // of the access token, as granted
	Session          Session
}

// String describes the tokens without them.
func (t Tokens) String() string {
	return fmt.Sprintf("tokensession.Tokens{Session:%s AccessExpiresAt:%s RefreshExpiresAt:%s "+
		"AccessToken:REDACTED RefreshToken:REDACTED}",
		t.Session.ID, t.AccessExpiresAt.Format(time.RFC3339), t.RefreshExpiresAt.Format(time.RFC3339))
}

// Format prints [Tokens.String], whatever the verb.
func (t Tokens) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// LogValue describes the tokens without them.
func (t Tokens) LogValue() slog.Value {
	return slog.GroupValue(slog.String("session", t.Session.ID),
		slog.Time("access_expires_at", t.AccessExpiresAt), slog.Time("refresh_expires_at", t.RefreshExpiresAt))
}

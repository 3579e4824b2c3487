package tokensession

import (
	"fmt"
	"log/slog"
	"time"
)

// A Session is one login on one device.
//
// Its JSON form leaves out RefreshedAt and ExpiresAt, which tell when the session was last
// refreshed. Somebody who holds a copy of its tokens could choose the moment to use them by that.
type Session struct {
	ID         string            `json:"id"` // public: the access token's sid
	Subject    string            `json:"subject"`
	ClientID   string            `json:"client_id,omitempty"`  // empty: bound to no client
	Actor      string            `json:"actor,omitempty"`      // who acts for the subject, if anybody
	Attributes map[string]string `json:"attributes,omitempty"` // the host's: device, IP address…

	AuthTime    time.Time `json:"auth_time,omitzero"`     // when the user proved who they are
	AuthMethods []string  `json:"auth_methods,omitempty"` // how (RFC 8176); nil if that is not said
	AuthContext string    `json:"auth_context,omitempty"` // how well; empty if that is not said

	// KeyThumbprint is that of the client's key (RFC 7638): without a proof of it, the session
	// cannot be refreshed. Empty: the session is bound to no key.
	KeyThumbprint string `json:"key_thumbprint,omitempty"`

	// Transient: the client keeps its tokens no longer than it runs.
	Transient bool `json:"transient,omitempty"`

	CreatedAt time.Time `json:"created_at,omitzero"`

	// RefreshedAt is when the last refresh made a new refresh token: CreatedAt before the first
	// one.
	RefreshedAt time.Time `json:"-"`

	// The session ends at ExpiresAt unless it is refreshed, and at MaxExpiresAt whatever happens,
	// or never by itself if that is zero. IdleTTL is how long it lasts without a refresh.
	ExpiresAt    time.Time     `json:"-"`
	MaxExpiresAt time.Time     `json:"max_expires_at,omitzero"`
	IdleTTL      time.Duration `json:"-"`

	RevokedAt    time.Time `json:"revoked_at,omitzero"` // zero: not revoked
	RevokeReason Reason    `json:"revoke_reason,omitempty"`
}

// Tokens are what a client gets. The access token is sent with each request and verified without
// I/O; the refresh token is sent to the refresh endpoint only. Tokens print and log without the
// two; read the fields to send them. [encoding/json] writes them, as does a slog.JSONHandler where
// Tokens are part of another value.
type Tokens struct {
	AccessToken     string    `json:"access_token"`
	TokenType       string    `json:"token_type,omitempty"` // Bearer; DPoP with [WithConfirmation]
	AccessExpiresAt time.Time `json:"access_expires_at,omitzero"`

	// The session ends at RefreshExpiresAt unless it is refreshed.
	RefreshToken     string    `json:"refresh_token,omitempty"`
	RefreshExpiresAt time.Time `json:"refresh_expires_at,omitzero"`

	Scope   string  `json:"scope,omitempty"` // of the access token, as granted
	Session Session `json:"session,omitzero"`
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

// Package tokensession issues, rotates and revokes token sessions.
package tokensession

import "time"

// A Session is one login on one device.
type Session struct {
	ID         string
	Subject    string
	ClientID   string            // empty: bound to no client
	Attributes map[string]string // the host's: device name, IP address, user agent…

	AuthTime     time.Time // when the user proved who they are
	CreatedAt    time.Time
	RefreshedAt  time.Time // of the last refresh that rotated; CreatedAt before the first
	ExpiresAt    time.Time // when it ends unless refreshed
	MaxExpiresAt time.Time // when it ends whatever happens; zero if never
	RevokedAt    time.Time // zero: not revoked
	RevokeReason Reason
}

package tokensession

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// An accessToken is a signed token and when it expires.
type accessToken struct {
	token      string
	expiresAt  time.Time
	scope      string
	thumbprint string // of the key without which it is of no use; empty: a bearer token
}

// tokenType is the token_type of RFC 6749 section 5.1 and RFC 9449 section 5.
func (a accessToken) tokenType() string {
	if a.thumbprint == "" {
		return "Bearer"
	}
	return "DPoP"
}

// issue asks the authorizer and signs an access token that says what the record does, its epoch
// too, and that does not outlive the session. Its error is an [ErrDenied], an [ErrInvalidScope] or
// an [ErrUnavailable].
func (m *Manager) issue(
	ctx context.Context, rec Record, sessionEnd, now time.Time, o accessOptions,
) (*accessToken, error) {
	grant, err := m.cfg.Authorize(ctx, m.session(rec))
	switch {
	case errors.Is(err, ErrDenied):
		return nil, fmt.Errorf("session %s: %w", rec.ID, err)
	case err != nil:
		return nil, unavailable("authorizing session "+rec.ID, err)
	}
	if err := grant.check(); err != nil {
		return nil, unavailable("the authorizer's grant", err)
	}
	if o.scope != "" {
		if !withinScope(o.scope, grant.Scope) {
			return nil, fmt.Errorf("%w: session %s: more is asked for than granted",
				ErrInvalidScope, rec.ID)
		}
		grant.Scope = o.scope
	}
	if len(grant.Audience) == 0 {
		grant.Audience = m.signer.cfg.Audience
	}
	expires := earlier(now.Add(m.cfg.AccessTTL), sessionEnd).Unix()
	token, err := m.signer.sign(standardClaims{
		Issuer: m.signer.cfg.Issuer, Subject: rec.Subject, Audience: grant.Audience,
		Expires: expires, IssuedAt: now.Unix(), ID: randomID(),
		ClientID: rec.ClientID, Session: rec.ID, AuthTime: rec.AuthTime.Unix(),
		AuthMethods: rec.AuthMethods, AuthContext: rec.AuthContext, Actor: rec.Actor,
		Scope: grant.Scope, Epoch: rec.Epoch, Confirmation: textOf(o.confirmation),
	}, grant.Claims, now)
	if err == nil && o.maxSize > 0 && len(token) > o.maxSize {
		err = fmt.Errorf("%d bytes: cannot be longer than WithMaxAccessSize (%d): "+
			"the grant's claims are too large", len(token), o.maxSize)
	}
	if err != nil {
		return nil, unavailable("making an access token", err)
	}
	return &accessToken{token, time.Unix(expires, 0).UTC(), grant.Scope,
		textOf(o.confirmation)}, nil
}

// tokens returns what the client gets. The refresh token is that of the record's live generation,
// and making it again makes the same token: so a replay needs nothing that was kept.
func (m *Manager) tokens(rec Record, h handle, issued *accessToken) Tokens {
	return Tokens{
		AccessToken: issued.token, TokenType: issued.tokenType(), AccessExpiresAt: issued.expiresAt,
		RefreshToken:     newRefreshToken(m.tokenKey(rec), h, rec.Generation, rec.KeyThumbprint),
		RefreshExpiresAt: m.rules.end(rec),
		Scope:            issued.scope, Session: m.session(rec),
	}
}

// accessOnly returns what a client gets that keeps the refresh token that it has.
func (m *Manager) accessOnly(rec Record, issued *accessToken) Tokens {
	return Tokens{
		AccessToken: issued.token, TokenType: issued.tokenType(), AccessExpiresAt: issued.expiresAt,
		RefreshExpiresAt: m.rules.end(rec),
		Scope:            issued.scope, Session: m.session(rec),
	}
}

// session returns what a record says of its session, with the periods that hold here: they may be
// shorter than those of the Manager that wrote the record.
func (m *Manager) session(rec Record) Session {
	s := rec.Session()
	s.ExpiresAt, s.MaxExpiresAt = m.rules.end(rec), m.rules.absoluteEnd(rec)
	if s.IdleTTL == 0 || s.IdleTTL > m.cfg.RefreshTTL {
		s.IdleTTL = m.cfg.RefreshTTL
	}
	return s
}

// mergeAttributes returns a new map, or nil if it would be empty.
func mergeAttributes(stored, given map[string]string) map[string]string {
	if len(stored)+len(given) == 0 {
		return nil
	}
	merged := make(map[string]string, len(stored)+len(given))
	maps.Copy(merged, stored)
	maps.Copy(merged, given)
	return merged
}

// tokenKey returns the key that makes the session's refresh tokens.
func (m *Manager) tokenKey(rec Record) []byte {
	if hostKeys := m.refreshKeys(); len(hostKeys) > 0 {
		return deriveKey(hostKeys[0], rec)
	}
	return rec.Key
}

// tokenKeys returns the keys that may have made the session's refresh tokens.
func (m *Manager) tokenKeys(rec Record) [][]byte {
	hostKeys := m.refreshKeys()
	if len(hostKeys) == 0 {
		return [][]byte{rec.Key}
	}
	keys := make([][]byte, len(hostKeys))
	for i, hostKey := range hostKeys {
		keys[i] = deriveKey(hostKey, rec)
	}
	return keys
}

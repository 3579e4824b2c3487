package tokensession

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/seed67bc9b7f/tokensession/internal/strictjson"
)

const (
	maxAccessSize    = 8 << 10 // of an access token, in bytes
	maxLeeway        = 5 * time.Minute
	defaultCacheSize = 8192
	maxCacheSize     = 1 << 24
)

// An AccessConfig says whose access tokens are made and accepted. Issuer and Audience are required.
type AccessConfig struct {
	// Issuer is the iss claim: an https URL by RFC 9068, any string here. It is compared byte for
	// byte.
	Issuer string

	// FormerIssuers are names that Issuer had before, as after its URL was corrected. Their
	// sessions go on here, and their access tokens are accepted until they expire. Where there are
	// several instances, or other services that verify, give all of them the new name here first,
	// and then change Issuer: one that does not know the new name would log its users out.
	FormerIssuers []string

	// Audience is the aud claim of tokens whose grant names no other. A token is accepted if its
	// aud has one of these.
	Audience []string

	// Leeway is how far other instances' clocks may differ from this one's: a token is accepted so
	// long after its exp and before its iat and nbf. 0 by default, at most 5 minutes. With several
	// instances, some seconds are in order.
	Leeway time.Duration

	// KeepKeys is for how long, at least, an [AccessSigner] publishes and accepts a key after its
	// successor has begun to sign. If it is 0, that is the longest AccessTTL of the Managers that
	// use this signer, and with any value it is never less. Set it where other processes with a
	// longer AccessTTL sign with the same keys. The leeway is added to it.
	KeepKeys time.Duration

	// CacheSize is how many verified tokens are remembered, about 2 kB each: 8192 if 0, at most
	// 16777216. A negative number means none.
	CacheSize int

	// Now is the clock of [AccessSigner.JWKS], [AccessSigner.Retire] and [AccessVerifier.Verify];
	// time.Now by default. A [Manager] goes by its own.
	Now func() time.Time
}

// validate returns a copy with the defaults filled in, or an error that names the field, its value
// and the bound.
func (c AccessConfig) validate() (AccessConfig, error) {
	if err := checkText("AccessConfig.Issuer", c.Issuer, maxNameSize); err != nil {
		return c, err
	}
	if len(c.Audience) == 0 {
		return c, errors.New("tokensession: AccessConfig.Audience is empty: " +
			"a token must be for someone (RFC 9068 section 2.2)")
	}
	for _, former := range c.FormerIssuers {
		if err := checkText("AccessConfig.FormerIssuers", former, maxNameSize); err != nil {
			return c, err
		}
	}
	for _, a := range c.Audience {
		if err := checkText("AccessConfig.Audience", a, maxNameSize); err != nil {
			return c, err
		}
	}
	if c.Leeway < 0 || c.Leeway > maxLeeway {
		return c, fmt.Errorf("tokensession: AccessConfig.Leeway %v: must be from 0 to %v",
			c.Leeway, maxLeeway)
	}
	if c.KeepKeys < 0 || c.KeepKeys > maxPeriod {
		return c, fmt.Errorf("tokensession: AccessConfig.KeepKeys %v: must be from 0 to %v",
			c.KeepKeys, maxPeriod)
	}
	if c.CacheSize > maxCacheSize {
		return c, fmt.Errorf("tokensession: AccessConfig.CacheSize %d: cannot be more than %d",
			c.CacheSize, maxCacheSize)
	}
	c.Audience = slices.Clone(c.Audience)
	c.FormerIssuers = slices.Clone(c.FormerIssuers)
	if c.CacheSize == 0 {
		c.CacheSize = defaultCacheSize
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

// issuers are those whose sessions and tokens are ours.
func (c AccessConfig) issuers() []string { return append([]string{c.Issuer}, c.FormerIssuers...) }

// isOurs reports whether an issuer is one of them.
func (c AccessConfig) isOurs(issuer string) bool {
	return issuer == c.Issuer || slices.Contains(c.FormerIssuers, issuer)
}

// An Access is what a verified access token says. It may share memory with other results for the
// same token: treat Audience and AuthMethods as read-only.
type Access struct {
	ID        string   `json:"id"` // jti
	SessionID string   `json:"session_id"`
	Subject   string   `json:"subject"`
	ClientID  string   `json:"client_id,omitempty"` // empty: the session is bound to no client
	Issuer    string   `json:"issuer"`
	Scope     string   `json:"scope,omitempty"` // names separated by spaces
	Audience  []string `json:"audience"`

	IssuedAt  time.Time `json:"issued_at,omitzero"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	AuthTime  time.Time `json:"auth_time,omitzero"`

	// How the user proved who they are (RFC 8176), and how well: amr and acr. Nil or empty if that
	// is not said.
	AuthMethods []string `json:"auth_methods,omitempty"`
	AuthContext string   `json:"auth_context,omitempty"`

	Actor string `json:"actor,omitempty"` // act.sub: who acts for the subject (RFC 8693), or nobody

	// KeyThumbprint is that of the key without which the token is of no use: cnf.jkt (RFC 9449
	// section 6.1). Empty: a bearer token.
	KeyThumbprint string `json:"key_thumbprint,omitempty"`

	epoch  uint64 // of the session when the token was made
	claims strictjson.Object
}

// Claim decodes the claim of that name into dst as [json.Unmarshal] does. It returns [ErrNoClaim]
// if the token has no such claim. What a grant's Claims held is found under the same names.
func (a Access) Claim(name string, dst any) error {
	raw, ok := a.claims.Find(name)
	if !ok {
		return fmt.Errorf("%w: %q", ErrNoClaim, name)
	}
	if err := json.Unmarshal([]byte(raw), dst); err != nil {
		return fmt.Errorf("tokensession: claim %q: %w", name, err)
	}
	return nil
}

// An AccessVerifier verifies access tokens with public keys only. It is for services that accept
// tokens and have no store. By itself it learns of no revocation, and has to be given new keys: a
// service that can reach the issuer over HTTP takes sessionhttp.NewRemote instead, which has one
// and does both. It is safe for concurrent use.
type AccessVerifier struct {
	verifier
	denied denyList     // what Deny was told
	ttl    atomic.Int64 // how long after its iat a token is accepted; 0: Deny was told nothing yet

	// sessionEpoch asks the issuer about a session. It is nil where nobody can be asked.
	sessionEpoch atomic.Pointer[func(context.Context, string) (uint64, error)]
}

// NewAccessVerifier returns a verifier for tokens signed with a key of the JWKS, which is what
// [AccessSigner.JWKS] returns. Keys in it for other purposes are passed over, and a key that is in
// it twice counts once. The host fetches the set, again every few minutes, and gives it to
// [AccessVerifier.SetKeys].
func NewAccessVerifier(jwks []byte, cfg AccessConfig) (*AccessVerifier, error) {
	cfg, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	v := &AccessVerifier{verifier: verifier{cfg: cfg}}
	if err := v.SetKeys(jwks); err != nil {
		return nil, err
	}
	return v, nil
}

// SetKeys replaces the keys by those of a newer JWKS. Tokens of a key that is gone fail from then
// on. On an error the keys stay as they are.
func (v *AccessVerifier) SetKeys(jwks []byte) error {
	list, err := parseJWKS(jwks)
	if err != nil {
		return fmt.Errorf("tokensession: JWKS: %w", err)
	}
	ring := make([]ringKey, len(list))
	for i, key := range list {
		ring[i] = ringKey{verifyKey: key}
	}
	v.keys.Store(newKeyring(ring, v.cfg.CacheSize))
	return nil
}

// Verify returns what the token says if it is authentic, for this issuer and audience, not expired,
// and not denied. The error is [ErrInvalidToken], [ErrExpired], [ErrOutdated] or [ErrRevoked]; the
// last three only of authentic tokens. It is an [ErrUnknownKey] where a newer JWKS may have the
// token's key. A token that is bound to a key is refused: see [AccessVerifier.VerifyBound].
func (v *AccessVerifier) Verify(accessToken string) (Access, error) {
	return v.accept(accessToken, "")
}

// VerifyBound is Verify for a token that is bound to a key, from a client that has proved to have
// the key with that thumbprint. See [Manager.VerifyBound].
func (v *AccessVerifier) VerifyBound(accessToken, thumbprint string) (Access, error) {
	if thumbprint == "" {
		return Access{}, errBearer
	}
	return v.accept(accessToken, thumbprint)
}

func (v *AccessVerifier) accept(accessToken, thumbprint string) (Access, error) {
	now := v.now()
	checked, err := v.verify(accessToken, now)
	if err != nil {
		return Access{}, err
	}
	if err := checked.confirm(thumbprint); err != nil {
		return Access{}, err
	}
	end := v.end(checked.access.IssuedAt, checked.access.ExpiresAt)
	if !now.Before(end) {
		return Access{}, fmt.Errorf("%w: access token: made more than AccessTTL ago", ErrExpired)
	}
	if d := v.denied.find(checked.session, now); d > denial(checked.epoch) {
		return Access{}, d.refusal(checked.access.SessionID)
	}
	v.denied.watchers.renewed(checked.session, end)
	return checked.access, nil
}

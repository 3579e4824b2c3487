package tokensession

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxAccessSize    = 8 << 10 // of an access token, in bytes
	maxLeeway        = 5 * time.Minute
	defaultCacheSize = 8192
	maxCacheSize     = 1 << 24
)

// An AccessConfig says whose access tokens are made and accepted. Issuer and Audience are required.
type AccessConfig struct {
	// Issuer is the iss claim: an https URL by RFC 9068, any string here. It is compared byte for byte.
	Issuer string

	// Audience is the aud claim of tokens whose grant names no other. A token is accepted if its aud has one of these.
	Audience []string

	// Leeway is how far other instances' clocks may differ from this one's: a token is accepted so long after its exp
	// and before its iat and nbf. 0 by default, at most 5 minutes. With several instances, some seconds are in order.
	Leeway time.Duration

	// CacheSize is how many verified tokens are remembered, about 2 kB each: 8192 if 0, at most 16777216. A negative
	// number means none.
	CacheSize int

	// Now is the clock of [AccessSigner.JWKS], [AccessSigner.Retire] and [AccessVerifier.Verify]; time.Now by default. A
	// [Manager] goes by its own.
	Now func() time.Time
}

func (c AccessConfig) validate() (AccessConfig, error) {
	if err := checkText("AccessConfig.Issuer", c.Issuer, maxNameSize); err != nil {
		return c, err
	}
	if len(c.Audience) == 0 {
		return c, errors.New("tokensession: AccessConfig.Audience is empty: a token must be for someone (RFC 9068 section 2.2)")
	}
	for _, a := range c.Audience {
		if err := checkText("AccessConfig.Audience", a, maxNameSize); err != nil {
			return c, err
		}
	}
	if c.Leeway < 0 || c.Leeway > maxLeeway {
		return c, fmt.Errorf("tokensession: AccessConfig.Leeway %v: must be from 0 to %v", c.Leeway, maxLeeway)
	}
	if c.CacheSize > maxCacheSize {
		return c, fmt.Errorf("tokensession: AccessConfig.CacheSize %d: cannot be more than %d", c.CacheSize, maxCacheSize)
	}
	c.Audience = slices.Clone(c.Audience)
	if c.CacheSize == 0 {
		c.CacheSize = defaultCacheSize
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

// An Access is what a verified access token says. It may share memory with other results for the same token: treat
// Audience as read-only.
type Access struct {
	ID        string // jti
	SessionID string // sid
	Subject   string // sub
	ClientID  string // client_id; empty if the session is bound to no client
	Issuer    string // iss
	Scope     string // scope: names separated by spaces
	Audience  []string

	IssuedAt, ExpiresAt, AuthTime time.Time

	claims claims
}

// Claim decodes the claim of that name into dst as [json.Unmarshal] does. It returns [ErrNotFound] if the token has no
// such claim. What a grant's Claims held is found under the same names.
func (a Access) Claim(name string, dst any) error {
	raw, ok := a.claims.find(name)
	if !ok {
		return fmt.Errorf("%w: claim %q", ErrNotFound, name)
	}
	if err := json.Unmarshal([]byte(raw), dst); err != nil {
		return fmt.Errorf("tokensession: claim %q: %w", name, err)
	}
	return nil
}

// An AccessVerifier verifies access tokens with public keys only. It is for services that accept tokens and have no
// store; they learn of revocations no sooner than the token expires, so keep AccessTTL short, or ask the introspection
// endpoint of sessionhttp where that is too long. It is safe for concurrent use.
type AccessVerifier struct {
	cfg  AccessConfig
	keys atomic.Pointer[keyring]
}

// NewAccessVerifier returns a verifier for tokens signed with a key of the JWKS, which is what [AccessSigner.JWKS]
// returns. Keys in it for other purposes are passed over. The host fetches the set, again every few minutes, and gives
// it to [AccessVerifier.SetKeys].
func NewAccessVerifier(jwks []byte, cfg AccessConfig) (*AccessVerifier, error) {
	cfg, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	v := &AccessVerifier{cfg: cfg}
	if err := v.SetKeys(jwks); err != nil {
		return nil, err
	}
	return v, nil
}

// SetKeys replaces the keys by those of a newer JWKS. Tokens of a key that is gone fail from then on. On an error the
// keys stay as they are.
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

// Verify returns what the token says if it is authentic, for this issuer and audience, and not expired. The error is
// [ErrInvalidToken] or [ErrExpired]; the latter only of authentic tokens.
func (v *AccessVerifier) Verify(accessToken string) (Access, error) {
	checked, err := v.cfg.verify(v.keys.Load(), accessToken, v.cfg.Now())
	if err != nil {
		return Access{}, err
	}
	return checked.access, nil
}

// An AccessSigner makes access tokens and publishes the keys to verify them. It is safe for concurrent use.
type AccessSigner struct {
	cfg     AccessConfig
	mu      sync.Mutex // held while keys are replaced
	keys    atomic.Pointer[keyring]
	removed []string     // ids of the keys that Retire removed
	maxTTL  atomic.Int64 // of the tokens it signs; a Manager raises it
}

// NewAccessSigner returns a signer whose tokens are signed with key, in the form of RFC 9068.
func NewAccessSigner(key Key, cfg AccessConfig) (*AccessSigner, error) {
	cfg, err := cfg.validate()
	if err != nil {
		return nil, err
	}
	if key.private == nil {
		return nil, errors.New("tokensession: no signing key: the Key is the zero value")
	}
	s := &AccessSigner{cfg: cfg}
	s.keys.Store(newKeyring([]ringKey{{verifyKey: key.verifyKey, signer: key}}, cfg.CacheSize))
	return s, nil
}

// Rotate publishes next in the JWKS now and signs with it from signFrom on. The key before it stays published until
// the last token it can have signed has expired, and is then accepted no more. Choose signFrom later than every
// verifier will have fetched the JWKS again, and call Rotate with the same values on every instance before then. If
// signFrom is past, what the key before it has signed since is accepted no longer than what it signed until then.
func (s *AccessSigner) Rotate(next Key, signFrom time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next.private == nil {
		return errors.New("tokensession: no signing key: the Key is the zero value")
	}
	if signFrom.IsZero() {
		return errors.New("tokensession: signFrom is the zero time: say when the key begins to sign")
	}
	ring := slices.Clone(s.keys.Load().keys)
	last := &ring[len(ring)-1]
	if signFrom.Before(last.signFrom) {
		return fmt.Errorf("tokensession: signFrom %v: cannot be before %v, when key %s begins to sign", signFrom, last.signFrom, last.id)
	}
	if slices.Contains(s.removed, next.id) || slices.ContainsFunc(ring, func(k ringKey) bool { return k.id == next.id }) {
		return fmt.Errorf("tokensession: key %s is or was in use: rotate to a new one", next.id)
	}
	last.signUntil = signFrom
	ring = append(ring, ringKey{verifyKey: next.verifyKey, signer: next, signFrom: signFrom})
	s.keys.Store(newKeyring(ring, s.cfg.CacheSize))
	return nil
}

// Retire removes a key at once, whatever tokens it has signed: they are invalid from then on. It is for a key that
// leaked; after [AccessSigner.Rotate], others retire by themselves. The key that signs last cannot be removed.
func (s *AccessSigner) Retire(kid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ring := slices.Clone(s.keys.Load().keys)
	i := slices.IndexFunc(ring, func(k ringKey) bool { return k.id == kid })
	switch {
	case i < 0:
		return fmt.Errorf("%w: key %q", ErrNotFound, kid)
	case i == len(ring)-1:
		return fmt.Errorf("tokensession: key %s is the last one: rotate to another first", kid)
	}
	if s.cfg.Now().Before(ring[i].signFrom) { // it has signed nothing: the one before it goes on in its place
		ring[i-1].signUntil = ring[i+1].signFrom
	} else { // its successor takes over at once
		ring[i+1].signFrom = ring[i].signFrom
	}
	s.removed = append(s.removed, kid)
	s.keys.Store(newKeyring(slices.Delete(ring, i, i+1), s.cfg.CacheSize))
	return nil
}

// JWKS returns the JSON Web Key Set (RFC 7517) of the keys that sign, will sign, or signed tokens that are not yet
// expired: public members only, and never an HMAC key.
func (s *AccessSigner) JWKS() []byte { return s.jwks(s.cfg.Now()) }

func (s *AccessSigner) jwks(now time.Time) []byte {
	public := [][]byte{}
	for _, key := range s.keys.Load().keys {
		if key.jwk != nil && !key.retired(now, s.retention()) {
			public = append(public, key.jwk)
		}
	}
	return fmt.Appendf(nil, `{"keys":[%s]}`, bytes.Join(public, []byte{','}))
}

// raiseTTL makes old keys stay until tokens of this lifetime have expired.
func (s *AccessSigner) raiseTTL(ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxTTL.Store(max(s.maxTTL.Load(), int64(ttl)))
}

// retention is how long after a key's last signature its tokens may be accepted.
func (s *AccessSigner) retention() time.Duration {
	ttl := time.Duration(s.maxTTL.Load())
	if ttl == 0 {
		ttl = defaultAccessTTL
	}
	return ttl + s.cfg.Leeway
}

func (s *AccessSigner) verify(token string, now time.Time) (*verifiedToken, error) {
	checked, err := s.cfg.verify(s.keys.Load(), token, now)
	if err != nil {
		return nil, err
	}
	return s.unlessRetired(checked, now)
}

// introspect is verify for a token that may be for another audience.
func (s *AccessSigner) introspect(token string, now time.Time) (*verifiedToken, error) {
	checked, err := s.authenticate(token)
	if err != nil {
		return nil, err
	}
	if err := s.cfg.checkTime(checked, now); err != nil {
		return nil, err
	}
	return s.unlessRetired(checked, now)
}

// authenticate is verify for a token that may be for another audience, and whose time may be over, and its key's.
func (s *AccessSigner) authenticate(token string) (*verifiedToken, error) {
	return s.cfg.authenticate(s.keys.Load(), token)
}

func (s *AccessSigner) unlessRetired(checked *verifiedToken, now time.Time) (*verifiedToken, error) {
	if checked.key.retired(now, s.retention()) {
		return nil, invalid("signed with a retired key")
	}
	return checked, nil
}

// sign returns the claims as a token signed with the key whose time it is.
func (s *AccessSigner) sign(c standardClaims, extra map[string]any, now time.Time) (string, error) {
	var scratch [512]byte
	payload, err := c.marshal(scratch[:0], extra)
	if err != nil {
		return "", err
	}
	key := s.keys.Load().signing(now)
	size := len(key.header) + 1 + base64.RawURLEncoding.EncodedLen(len(payload)) + 1 + base64.RawURLEncoding.EncodedLen(key.size)
	if size > maxAccessSize {
		return "", fmt.Errorf("access token of %d bytes: cannot be longer than %d: the grant's claims are too large", size, maxAccessSize)
	}
	token := make([]byte, 0, size)
	token = append(append(token, key.header...), '.')
	token = base64.RawURLEncoding.AppendEncode(token, payload)
	signature, err := key.signer.sign(token)
	if err != nil {
		return "", fmt.Errorf("signing with key %s: %w", key.id, err)
	}
	token = base64.RawURLEncoding.AppendEncode(append(token, '.'), signature)
	return string(token), nil
}

// A keyring is a state of the keys. It is replaced as a whole and the cache with it, so that nothing that was verified
// with a key that is gone is ever found again.
type keyring struct {
	keys     []ringKey           // by signFrom
	byHeader map[string]*ringKey // the one token header each key has, as it stands in the token
	cache    *tokenCache
}

type ringKey struct {
	verifyKey
	signer              Key
	header              string
	signFrom, signUntil time.Time // zero: always has, and always will
}

func newKeyring(keys []ringKey, cacheSize int) *keyring {
	ring := &keyring{keys, make(map[string]*ringKey, len(keys)), newTokenCache(cacheSize)}
	for i := range keys {
		k := &keys[i]
		k.header = base64.RawURLEncoding.EncodeToString(fmt.Appendf(nil, `{"alg":%q,"kid":%q,"typ":"at+jwt"}`, k.alg, k.id))
		ring.byHeader[k.header] = k
	}
	return ring
}

// signing returns the key to sign with: the last one whose time has come.
func (r *keyring) signing(now time.Time) *ringKey {
	for i := len(r.keys) - 1; i > 0; i-- {
		if !now.Before(r.keys[i].signFrom) {
			return &r.keys[i]
		}
	}
	return &r.keys[0]
}

// retired reports whether the last token the key can have signed has been expired for long enough.
func (k *ringKey) retired(now time.Time, retention time.Duration) bool {
	return !k.signUntil.IsZero() && !now.Before(k.signUntil.Add(retention))
}

// sign returns the signature in the form of RFC 7518. A panic is an error like any other: a host's signer can have one,
// and jwx has one if an ECDSA signature's numbers are wider than the curve, as when a KMS has changed its key.
func (k Key) sign(data []byte) (signature []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	signature, err = k.signer.Sign(data, k.private())
	if err == nil && len(signature) != k.size {
		err = fmt.Errorf("signature of %d bytes, want %d", len(signature), k.size)
	}
	return signature, err
}

func (k verifyKey) verify(data, signature []byte) bool {
	return len(signature) == k.size && k.verifier.Verify(data, signature, k.public()) == nil
}

// A verifiedToken is an authentic token of this issuer. Whether it may be used depends on its audience and the time, too.
type verifiedToken struct {
	token  string
	cached bool
	access Access
	sid    any // SessionID, boxed once, so that looking it up allocates nothing
	key    *ringKey

	expires, notBefore int64 // in microseconds, before leeway
}

// verify checks in this order: size and alphabet; the header, by looking it up; the signature; the claims; the audience;
// the time.
func (c AccessConfig) verify(ring *keyring, token string, now time.Time) (*verifiedToken, error) {
	checked := ring.cache.get(token)
	if checked == nil {
		var err error
		if checked, err = c.authenticate(ring, token); err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(checked.access.Audience, func(aud string) bool { return slices.Contains(c.Audience, aud) }) {
			return nil, invalid("another audience")
		}
	}
	if err := c.checkTime(checked, now); err != nil {
		return nil, err
	}
	ring.cache.put(checked)
	return checked, nil
}

func (c AccessConfig) checkTime(t *verifiedToken, now time.Time) error {
	us, leeway := now.UnixMicro(), c.Leeway.Microseconds()
	switch {
	case t.notBefore-leeway > us:
		return invalid("iat or nbf is in the future")
	case us >= t.expires+leeway:
		return fmt.Errorf("%w: access token", ErrExpired)
	}
	return nil
}

func (c AccessConfig) authenticate(ring *keyring, token string) (*verifiedToken, error) {
	if len(token) > maxAccessSize {
		return nil, invalid("longer than 8192 bytes")
	}
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.IndexByte(rest, '\n') >= 0 || strings.IndexByte(rest, '\r') >= 0 { // Go's decoder skips them
		return nil, invalid("not three parts of base64url")
	}
	key := ring.byHeader[header]
	if key == nil {
		return nil, invalid("the header is not that of a key of ours")
	}
	claimsJSON, err1 := strictBase64.DecodeString(payload)
	signatureBytes, err2 := strictBase64.DecodeString(signature)
	if err1 != nil || err2 != nil {
		return nil, invalid("not strict base64url")
	}
	if !key.verify([]byte(token[:len(header)+1+len(payload)]), signatureBytes) {
		return nil, invalid("the signature does not verify")
	}
	checked, err := c.readClaims(claimsJSON)
	if err != nil {
		return nil, invalid(err.Error())
	}
	checked.token, checked.key = strings.Clone(token), key
	return checked, nil
}

// readClaims reads the claims that make an access token, and refuses those of another issuer.
func (c AccessConfig) readClaims(payload []byte) (*verifiedToken, error) {
	claims, err := parseObject(payload)
	if err != nil {
		return nil, err
	}
	r := claimReader{claims: claims}
	a := Access{
		ID: r.text("jti", true), SessionID: r.text("sid", true), Subject: r.text("sub", true), Issuer: r.text("iss", true),
		ClientID: r.text("client_id", false), Scope: r.text("scope", false), Audience: r.audience(),
		claims: claims,
	}
	issued, expires, notBefore, auth := r.date("iat", true), r.date("exp", true), r.date("nbf", false), r.date("auth_time", false)
	switch {
	case r.err != nil:
		return nil, r.err
	case a.Issuer != c.Issuer:
		return nil, errors.New("another issuer")
	}
	a.IssuedAt, a.ExpiresAt = time.Unix(issued, 0).UTC(), time.Unix(expires, 0).UTC()
	if auth >= 0 {
		a.AuthTime = time.Unix(auth, 0).UTC()
	}
	return &verifiedToken{access: a, sid: a.SessionID, expires: expires * 1e6, notBefore: max(issued, notBefore) * 1e6}, nil
}

// invalid is an ErrInvalidToken. The reason is about the token's form and quotes nothing of it.
func invalid(reason string) error { return fmt.Errorf("%w: %s", ErrInvalidToken, reason) }

var strictBase64 = base64.RawURLEncoding.Strict()

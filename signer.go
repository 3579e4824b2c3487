package tokensession

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// An AccessSigner makes access tokens and publishes the keys to verify them. It is safe for
// concurrent use.
//
// Its keys form a ring, in the order in which they begin to sign. A key's life has four parts:
// published and not yet signing, so that verifiers can fetch it in time; signing; no longer
// signing, because its successor's time has come, but still accepted, because tokens of it are out;
// and retired, when the last of these tokens has expired. [AccessSigner.Rotate] starts the first
// part, and the rest follows from the clock. No goroutine and no timer takes part.
type AccessSigner struct {
	verifier
	mu      sync.Mutex   // held while keys are replaced
	removed []string     // ids of the keys that Retire removed: they must never come back
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
	s := &AccessSigner{verifier: verifier{cfg: cfg}}
	s.keys.Store(newKeyring([]ringKey{{verifyKey: key.verifyKey, signer: key}}, cfg.CacheSize))
	return s, nil
}

// Rotate publishes next in the JWKS now and signs with it from signFrom on. The key before it stays
// published until the last token it can have signed has expired, and is then accepted no more.
// Choose signFrom later than every verifier will have fetched the JWKS again, and call Rotate with
// the same values on every instance before then. If signFrom is past, what the key before it has
// signed since is accepted no longer than what it signed until then.
func (s *AccessSigner) Rotate(next Key, signFrom time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if next.private == nil {
		return errors.New("tokensession: no signing key: the Key is the zero value")
	}
	if signFrom.IsZero() {
		return errors.New("tokensession: signFrom is the zero time: " +
			"say when the key begins to sign")
	}
	ring := slices.Clone(s.keys.Load().keys)
	last := &ring[len(ring)-1]
	if signFrom.Before(last.signFrom) {
		return fmt.Errorf("tokensession: signFrom %v: cannot be before %v, "+
			"when key %s begins to sign", signFrom, last.signFrom, last.id)
	}
	if slices.Contains(s.removed, next.id) || indexOfKey(ring, next.id) >= 0 {
		return fmt.Errorf("tokensession: key %s is or was in use: rotate to a new one", next.id)
	}
	last.signUntil = signFrom
	ring = append(ring, ringKey{verifyKey: next.verifyKey, signer: next, signFrom: signFrom})
	s.keys.Store(newKeyring(ring, s.cfg.CacheSize))
	return nil
}

// Retire removes a key at once, whatever tokens it has signed: they are invalid from then on. It is
// for a key that leaked; after [AccessSigner.Rotate], others retire by themselves. It is an error
// if this signer has no key of that id, or if the key is the one that Rotate was last called with:
// rotate to another first.
func (s *AccessSigner) Retire(kid string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ring := slices.Clone(s.keys.Load().keys)
	i := indexOfKey(ring, kid)
	switch {
	case i < 0:
		return fmt.Errorf("tokensession: no key %q: it was never in use here, or is gone", kid)
	case i == len(ring)-1:
		return fmt.Errorf("tokensession: key %s is the last one: rotate to another first", kid)
	}
	if s.cfg.Now().Before(ring[i].signFrom) {
		// It has signed nothing yet. The key before it goes on in its place.
		ring[i-1].signUntil = ring[i+1].signFrom
	} else {
		// Its successor takes over at once, although not every verifier may have fetched it. To
		// sign with an older key again would be worse: its time to retire may have come.
		ring[i+1].signFrom = ring[i].signFrom
	}
	s.removed = append(s.removed, kid)
	s.keys.Store(newKeyring(slices.Delete(ring, i, i+1), s.cfg.CacheSize))
	return nil
}

// indexOfKey returns the place in the ring of the key of that id, or -1.
func indexOfKey(ring []ringKey, kid string) int {
	return slices.IndexFunc(ring, func(k ringKey) bool { return k.id == kid })
}

// JWKS returns the JSON Web Key Set (RFC 7517) of the keys that sign, will sign, or signed tokens
// that are not yet expired: public members only, and never an HMAC key.
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

// raiseTTL makes old keys stay until tokens of this lifetime have expired. Several Managers can
// have the same signer. The longest lifetime counts, because a key must outlive all of its tokens.
func (s *AccessSigner) raiseTTL(ttl time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxTTL.Store(max(s.maxTTL.Load(), int64(ttl)))
}

// retention is how long after a key's last signature a token of it can be accepted: the token's
// lifetime, and the leeway that verification allows after exp.
func (s *AccessSigner) retention() time.Duration {
	ttl := time.Duration(s.maxTTL.Load())
	if ttl == 0 {
		ttl = defaultAccessTTL
	}
	return max(ttl, s.cfg.KeepKeys) + s.cfg.Leeway
}

// verify is [verifier.verify], and refuses tokens of a key that has retired. The key stays in the
// ring then, so that authenticate still knows it.
func (s *AccessSigner) verify(token string, now time.Time) (*verifiedToken, error) {
	checked, err := s.verifier.verify(token, now)
	if err != nil {
		return nil, err
	}
	return s.unlessRetired(checked, now)
}

// introspect is verify for a token that may be for another audience. It does not use the cache:
// what stands in the cache has passed the check of the audience.
func (s *AccessSigner) introspect(token string, now time.Time) (*verifiedToken, error) {
	checked, err := s.authenticate(token)
	if err != nil {
		return nil, err
	}
	if err := s.checkTime(checked, now); err != nil {
		return nil, err
	}
	return s.unlessRetired(checked, now)
}

// authenticate is verify for a token that may be for another audience, that may have expired, and
// whose key may have retired by itself.
func (s *AccessSigner) authenticate(token string) (*verifiedToken, error) {
	return s.verifier.authenticate(s.keys.Load(), token)
}

func (s *AccessSigner) unlessRetired(t *verifiedToken, now time.Time) (*verifiedToken, error) {
	if t.key.retired(now, s.retention()) {
		return nil, invalid("signed with a retired key")
	}
	return t, nil
}

// sign returns the claims as a token, signed with the key that signs at the time of now.
func (s *AccessSigner) sign(c standardClaims, extra map[string]any, now time.Time) (string, error) {
	var scratch [512]byte
	payload, err := c.marshal(scratch[:0], extra)
	if err != nil {
		return "", err
	}
	key := s.keys.Load().signing(now)
	encodedLen := base64.RawURLEncoding.EncodedLen
	size := len(key.header) + 1 + encodedLen(len(payload)) + 1 + encodedLen(key.size)
	if size > maxAccessSize {
		return "", fmt.Errorf("access token of %d bytes: cannot be longer than %d: "+
			"the grant's claims are too large", size, maxAccessSize)
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

// signing returns the key to sign with: the last one in the ring whose signFrom has come. If that
// of none has, it is the first one.
func (r *keyring) signing(now time.Time) *ringKey {
	for i := len(r.keys) - 1; i > 0; i-- {
		if !now.Before(r.keys[i].signFrom) {
			return &r.keys[i]
		}
	}
	return &r.keys[0]
}

// retired reports whether the last token that the key can have signed is no longer accepted. A key
// signs until its successor's signFrom. Its last token was made just before then, and is accepted
// for as long as retention says.
func (k *ringKey) retired(now time.Time, retention time.Duration) bool {
	return !k.signUntil.IsZero() && !now.Before(k.signUntil.Add(retention))
}

package tokensession

import (
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed67bc9b7f/tokensession/internal/strictjson"
)

// A verifier is what [AccessSigner] and [AccessVerifier] have in common: the rules by which an
// access token is accepted, and the keys of the moment.
type verifier struct {
	cfg  AccessConfig
	keys atomic.Pointer[keyring]
}

// A keyring is the set of keys at one moment, with the cache of the tokens that they have verified.
// It is never changed. When a key comes or goes, a new keyring with an empty cache takes its place,
// so that no token is remembered that was verified with a key that is gone.
type keyring struct {
	keys     []ringKey           // by signFrom
	byHeader map[string]*ringKey // the only header that each key's tokens have, in base64url
	cache    *tokenCache
}

// A ringKey is a key in its ring. signer, signFrom and signUntil are set in the ring of an
// [AccessSigner] only.
type ringKey struct {
	verifyKey
	header              string
	signer              Key
	signFrom, signUntil time.Time // zero: always has, and always will
}

func newKeyring(keys []ringKey, cacheSize int) *keyring {
	ring := &keyring{keys, make(map[string]*ringKey, len(keys)), newTokenCache(cacheSize)}
	for i := range keys {
		k := &keys[i]
		k.header = tokenHeader(k.alg.String(), k.id)
		ring.byHeader[k.header] = k
	}
	return ring
}

// tokenHeader returns the header of the tokens that a key signs, in base64url as it stands in them.
func tokenHeader(alg, kid string) string {
	header := fmt.Appendf(nil, `{"alg":%q,"kid":%q,"typ":"at+jwt"}`, alg, kid)
	return base64.RawURLEncoding.EncodeToString(header)
}

// A verifiedToken is an authentic token of this issuer. Authentic is all that it is: whether it may
// be used also depends on its audience, the time, its key's retirement and the deny list.
//
// It is what the cache remembers, so many goroutines read one at the same time. Nobody writes to it
// once it has been made.
type verifiedToken struct {
	token  string
	access Access
	key    *ringKey

	session sessionKey // of access.SessionID, for the deny list
	epoch   uint64     // of access, beside the session's key: both are read on every hit
	bound   bool       // to a key: access.KeyThumbprint is not empty

	issued, expires, notBefore int64 // in microseconds, before leeway
}

// verify returns what the token says if it may be used now. The checks come in this order:
//
//  1. The token's size, and that it has three parts.
//  2. The header, which names the key (see authenticate), and the alphabet of the other two parts.
//  3. The signature. Nothing in the payload is looked at before the signature has been verified, so
//     that a forged token learns nothing: it is never called expired, for example.
//  4. The claims: each there, of its type, and of this issuer.
//  5. The audience.
//  6. The time.
//
// The first five depend on the token and the keys alone. Their result is remembered in the cache,
// and a token that is found there is only checked for what changes: the time here, and its key's
// retirement and the deny list by the callers. So the cache can forget a token at any moment. That
// costs a new check of the signature, some ten microseconds or more, and changes no answer.
//
// Only a token that passes all six is put into the cache, and only when it was not found there.
// Else anybody with a pile of expired tokens could push out those in use.
func (v *verifier) verify(token string, now time.Time) (*verifiedToken, error) {
	ring := v.keys.Load()
	if known := ring.cache.get(token); known != nil {
		if err := v.checkTime(known, now); err != nil {
			return nil, err
		}
		return known, nil
	}
	checked, err := v.authenticate(ring, token)
	if err != nil {
		return nil, err
	}
	if !slices.ContainsFunc(checked.access.Audience, v.isAudience) {
		return nil, invalid("another audience")
	}
	if err := v.checkTime(checked, now); err != nil {
		return nil, err
	}
	ring.cache.put(checked)
	return checked, nil
}

func (v *verifier) isAudience(aud string) bool { return slices.Contains(v.cfg.Audience, aud) }

// checkTime refuses a token before its iat and nbf, and from its exp on (RFC 7519 section 4.1.4).
func (v *verifier) checkTime(t *verifiedToken, now time.Time) error {
	us, leeway := now.UnixMicro(), v.cfg.Leeway.Microseconds()
	switch {
	case t.notBefore-leeway > us:
		return invalid("iat or nbf is in the future")
	case us >= t.expires+leeway:
		return fmt.Errorf("%w: access token", ErrExpired)
	}
	return nil
}

// authenticate makes the first four of verify's checks.
//
// The header is not parsed. A JWT header is the sender's to choose, and it says how to check the
// token: most known attacks on JWT begin there ("alg":"none", HMAC with a public key as the secret,
// a key that the token brings itself, a URL to fetch it from). Each of our keys signs with one
// algorithm, and all of its tokens have the same header. So the header is looked up, byte for byte,
// among those of our keys. Whatever else a header can say, no code here reads it.
func (v *verifier) authenticate(ring *keyring, token string) (*verifiedToken, error) {
	if len(token) > maxAccessSize {
		return nil, invalid("longer than 8192 bytes")
	}
	header, rest, _ := strings.Cut(token, ".")
	payload, signature, ok := strings.Cut(rest, ".")
	if !ok || strings.IndexByte(rest, '\n') >= 0 || strings.IndexByte(rest, '\r') >= 0 {
		return nil, invalid("not three parts of base64url")
	}
	key := ring.byHeader[header]
	if key == nil && !hasOurForm(header) {
		return nil, invalid("the header is not that of a key of ours")
	}
	claimsJSON, err1 := strictBase64.DecodeString(payload)
	signatureBytes, err2 := strictBase64.DecodeString(signature)
	if err1 != nil || err2 != nil {
		return nil, invalid("not strict base64url")
	}
	if key == nil {
		return nil, ErrUnknownKey
	}
	if !key.verify([]byte(token[:len(header)+1+len(payload)]), signatureBytes) {
		return nil, invalid("the signature does not verify")
	}
	checked, err := v.readClaims(claimsJSON)
	if err != nil {
		return nil, invalid(err.Error())
	}
	checked.token, checked.key = strings.Clone(token), key
	return checked, nil
}

// hasOurForm reports whether a header is one that a key of this package could have, be it a key of
// another issuer or one that somebody made up. It takes the header apart at fixed places, and then
// makes it anew to compare: so it accepts no other way of writing the same.
func hasOurForm(header string) bool {
	text, err := strictBase64.DecodeString(header)
	if err != nil {
		return false
	}
	_, rest, _ := strings.Cut(string(text), `"alg":"`)
	alg, rest, _ := strings.Cut(rest, `","kid":"`)
	kid, _, _ := strings.Cut(rest, `"`)
	return isAlgorithm(alg) && isThumbprint(kid) && header == tokenHeader(alg, kid)
}

// readClaims reads the claims that make an access token, and refuses those of another issuer.
func (v *verifier) readClaims(payload []byte) (*verifiedToken, error) {
	claims, err := strictjson.ParseObject(payload, reservedClaims...)
	if err != nil {
		return nil, err
	}
	r := strictjson.NewReader(claims)
	a := Access{
		ID: r.Text("jti", true), SessionID: r.Text("sid", true),
		Subject: r.Text("sub", true), Issuer: r.Text("iss", true), Audience: r.Texts("aud"),
		ClientID: r.Text("client_id", false), Scope: r.Text("scope", false),
		AuthMethods: r.List("amr"), AuthContext: r.Text("acr", false),
		Actor: r.TextIn("act", "sub"), epoch: r.Number("epoch"),
		KeyThumbprint: r.TextIn("cnf", "jkt"),
		claims:        claims,
	}
	issued, expires := r.Date("iat", true), r.Date("exp", true)
	notBefore, auth := r.Date("nbf", false), r.Date("auth_time", false) // -1 if not there
	switch {
	case r.Err() != nil:
		return nil, r.Err()
	case !v.cfg.isOurs(a.Issuer):
		return nil, errors.New("another issuer")
	case a.KeyThumbprint != "" && !isThumbprint(a.KeyThumbprint):
		return nil, errors.New("cnf.jkt is no thumbprint of a key")
	}
	a.IssuedAt, a.ExpiresAt = time.Unix(issued, 0).UTC(), time.Unix(expires, 0).UTC()
	if auth >= 0 {
		a.AuthTime = time.Unix(auth, 0).UTC()
	}
	return &verifiedToken{
		access: a, session: keyOf(a.SessionID), epoch: a.epoch, bound: a.KeyThumbprint != "",
		issued: issued * 1e6, expires: expires * 1e6, notBefore: max(issued, notBefore) * 1e6,
	}, nil
}

// invalid is an [ErrInvalidToken]. The reason is about the token's form and quotes nothing of it.
func invalid(reason string) error { return fmt.Errorf("%w: %s", ErrInvalidToken, reason) }

// strictBase64 refuses stray bits behind the last byte, which would make several strings of one
// token. It still skips CR and LF, which authenticate looks for itself.
var strictBase64 = base64.RawURLEncoding.Strict()

package tokensession

import (
	"errors"
	"fmt"
)

// What a caller learns about a token. Test with [errors.Is]: the errors returned are usually
// wrapped with the cause.
//
// Only the first six are verdicts about a token or its session. ErrUnavailable never is: the caller
// should try again later with the same token, and a browser's cookies must stay.
var (
	// ErrInvalidToken means that the string is not a token of ours that may be used here:
	// malformed, forged, of an unknown session, for another issuer or audience, or presented by
	// another client than the one it was issued to. Nothing was revoked or consumed.
	ErrInvalidToken = errors.New("tokensession: invalid token")

	// ErrUnknownKey is an ErrInvalidToken: a JWT whose header has the form of ours, and names a key
	// that the verifier or signer does not have. It says nothing about the token, for anybody can
	// write such a header. It is for a service that follows the JWKS itself: the key may be a new
	// one, so it fetches the set again, at most every minute or so, and tries once more. Most
	// programs need not tell it from ErrInvalidToken.
	ErrUnknownKey = fmt.Errorf("%w: signed with an unknown key", ErrInvalidToken)

	// ErrExpired means that the token is genuine and its time is over: the access token's exp, the
	// session's idle end or its absolute end. Once the store has dropped the session it is
	// ErrInvalidToken: treat the two alike.
	ErrExpired = errors.New("tokensession: expired")

	// ErrOutdated is an ErrExpired that an access token has before its exp: its session lives, and
	// what it may do, or who is said to use it, has changed since the token was made. The client
	// refreshes, as for any token that has expired. See [Manager.Reauthorize].
	ErrOutdated = fmt.Errorf("%w: outdated", ErrExpired)

	// ErrRevoked means that the token is genuine and its session was ended before its time. Where
	// it is known why, the error is a [*RevokedError] or a [*ReuseError].
	ErrRevoked = errors.New("tokensession: session revoked")

	// ErrReused means that a refresh token consumed earlier was presented again, so that two
	// parties hold the session, and that the session has been revoked. The error is a
	// [*ReuseError], which is an ErrRevoked too.
	ErrReused = errors.New("tokensession: refresh token reused")

	// ErrDenied is returned by an [Authorizer] to refuse a session, and by Start and Refresh when
	// it did. A refused Refresh ends the session.
	ErrDenied = errors.New("tokensession: denied")

	// ErrProofRequired means that the token is bound to a key of the client, and came without a
	// proof of it ([WithKeyThumbprint], [Manager.VerifyBound]). Of a refresh token it is no
	// verdict: nothing was consumed or revoked, and the token works with the proof. Where a bound
	// access token is taken for a bearer token, the error is an ErrInvalidToken, too, so that code
	// that knows nothing of keys refuses it.
	ErrProofRequired = errors.New("tokensession: proof of a key required")

	// ErrInvalidScope means that a refresh asked, by WithScope, for a scope that is not granted. It
	// is no verdict: nothing was consumed, and the token works without it.
	ErrInvalidScope = errors.New("tokensession: invalid scope")

	// ErrAttributes means that the attributes given, or those and the session's together, are more
	// than a session can have, or are no text. It is no verdict: nothing was consumed, and the
	// token works without them.
	ErrAttributes = errors.New("tokensession: invalid attributes")

	// ErrUnavailable means that no verdict was reached: the store, the signer or the authorizer
	// failed, or the context ended. It wraps the cause. Nothing was consumed, or it may have been
	// and this Manager does it again: the same token should be tried again, unless the client has
	// got a newer one meanwhile.
	ErrUnavailable = errors.New("tokensession: unavailable")
)

// ErrNoClaim means that a token has no claim of that name. [Access.Claim] returns it, so that a
// program can tell an optional claim that is not there from one that cannot be read.
var ErrNoClaim = errors.New("tokensession: the access token has no such claim")

// What a [RefreshStore] returns. A store may wrap them; any other error of a store means that it
// could not tell.
var (
	// ErrNotFound means that the store holds no record of that session.
	ErrNotFound = errors.New("tokensession: not found")

	// ErrExists means that Create found a record with the same ID.
	ErrExists = errors.New("tokensession: already exists")

	// ErrUnreadable means that a store holds a record that it cannot read: it was changed by hand,
	// or a later version has written it. It is no verdict about a session.
	ErrUnreadable = errors.New("tokensession: unreadable record")

	// ErrConflict means that Swap found another version than the one it was to replace, or a
	// revoked record.
	ErrConflict = errors.New("tokensession: version conflict")
)

// A RevokedError is an [ErrRevoked] that says why the session was ended.
type RevokedError struct {
	SessionID string
	Reason    Reason
}

func (e *RevokedError) Error() string {
	return fmt.Sprintf("%v: session %s: %s", ErrRevoked, e.SessionID, e.Reason)
}

// Is makes a RevokedError an [ErrRevoked].
func (e *RevokedError) Is(target error) bool { return target == ErrRevoked }

// A ReuseError reports that a consumed refresh token was presented again outside what the grace and
// recovery periods allow. The session is revoked by the time the error is returned. errors.Is finds
// both [ErrReused] and [ErrRevoked].
type ReuseError struct {
	Session   Session // as revoked
	Presented uint64  // the generation of the token presented
	Live      uint64  // the generation that was live
}

func (e *ReuseError) Error() string {
	return fmt.Sprintf("%v: session %s, generation %d presented while %d was live: session revoked",
		ErrReused, e.Session.ID, e.Presented, e.Live)
}

// Is makes a ReuseError both an [ErrReused] and an [ErrRevoked].
func (e *ReuseError) Is(target error) bool { return target == ErrReused || target == ErrRevoked }

package tokensession

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Verify returns what an access token says if it is authentic, not expired, and its session not
// known to be revoked. It does no I/O. The error is [ErrInvalidToken], [ErrExpired] or
// [ErrRevoked]; the last two are said of authentic tokens only. It is an [ErrUnknownKey] if the
// token names a key that this Manager's signer does not have, and an [ErrOutdated] if the session
// has changed since the token was made. A revocation or a change by this Manager is known at once,
// and one by another instance as soon as [Manager.Run] has read of it.
//
// A token that is bound to a key is refused, with an error that is both an ErrInvalidToken and an
// [ErrProofRequired]. So a handler that knows nothing of keys lets nobody in without one.
func (m *Manager) Verify(accessToken string) (Access, error) {
	return m.accept(accessToken, "")
}

// VerifyBound is Verify for a token that is bound to a key, from a client that has proved to have
// the key with that thumbprint (RFC 7638), as by DPoP (RFC 9449). Whoever calls it has checked the
// proof. A token that is bound to no key or to another one is an [ErrInvalidToken]. To ask the
// store as well, see [Manager.Live].
func (m *Manager) VerifyBound(accessToken, thumbprint string) (Access, error) {
	if thumbprint == "" {
		return Access{}, errBearer
	}
	return m.accept(accessToken, thumbprint)
}

func (m *Manager) accept(accessToken, thumbprint string) (Access, error) {
	now := m.cfg.Now()
	checked, err := m.signer.verify(accessToken, now)
	if err != nil {
		return Access{}, err
	}
	if checked.bound || thumbprint != "" {
		if err := checked.confirm(thumbprint); err != nil {
			return Access{}, err
		}
	}
	if err := m.check(checked, now); err != nil {
		return Access{}, err
	}
	return checked.access, nil
}

// check makes the checks that are this Manager's own: the signer may be shared with others,
// and its cache knows no Manager. See acceptancePeriod for why a token can expire before its exp.
//
// A denial is the first epoch whose tokens are good. Those that refuse every token are greater than
// any epoch that a token can have. So one comparison tells whether a token is refused.
func (m *Manager) check(checked *verifiedToken, now time.Time) error {
	denied := m.denied.find(checked.session, now)
	if now.UnixMicro() >= checked.issued+m.acceptancePeriod().Microseconds() {
		return fmt.Errorf("%w: access token: made more than AccessTTL ago", ErrExpired)
	}
	if denied > denial(checked.epoch) {
		return denied.refusal(checked.access.SessionID)
	}
	return nil
}

// refusal is the error of an access token that is refused.
func (d denial) refusal(sessionID string) error {
	switch d {
	case forGood:
		return fmt.Errorf("%w: session %s", ErrRevoked, sessionID)
	case refused:
		return fmt.Errorf("%w: session %s: perhaps, and the store could not tell", ErrRevoked,
			sessionID)
	default:
		return fmt.Errorf("%w: session %s", ErrOutdated, sessionID)
	}
}

// VerifyLive is Verify and a look at the store: it fails closed. The error is [ErrRevoked] also if
// the store does not know the session, and [ErrUnavailable] if it cannot tell. What another
// instance has revoked or changed is known at once.
func (m *Manager) VerifyLive(ctx context.Context, accessToken string) (Access, error) {
	access, err := m.Verify(accessToken)
	if err != nil {
		return Access{}, err
	}
	return m.unlessOver(ctx, access)
}

// Live asks the store whether the session of a verified access token lives, as [Manager.VerifyLive]
// does, and returns the same errors. It is for a handler that has the Access already, and wants to
// be sure before it does something that cannot be taken back.
func (m *Manager) Live(ctx context.Context, a Access) error {
	_, err := m.unlessOver(ctx, a)
	return err
}

// SessionEpoch says that a session lives, and returns its epoch: access tokens of earlier epochs
// are outdated. The errors are those of [Manager.VerifyLive]. It is for an endpoint at which
// services without a store ask about open connections, whose access tokens have expired: see
// [AccessVerifier.AskSessionEpoch].
func (m *Manager) SessionEpoch(ctx context.Context, sessionID string) (uint64, error) {
	rec, err := m.liveRecord(ctx, sessionID)
	return rec.Epoch, err
}

// Introspect is VerifyLive for a token that may be for another audience, or be bound to a key. It
// is for an endpoint that tells services whether the tokens they were given are good (RFC 7662),
// and which key they have to ask for. It lets nobody in here.
func (m *Manager) Introspect(ctx context.Context, accessToken string) (Access, error) {
	now := m.cfg.Now()
	checked, err := m.signer.introspect(accessToken, now)
	if err != nil {
		return Access{}, err
	}
	if err := m.check(checked, now); err != nil {
		return Access{}, err
	}
	return m.unlessOver(ctx, checked.access)
}

// unlessOver asks the store whether an access token's session lives.
func (m *Manager) unlessOver(ctx context.Context, access Access) (Access, error) {
	rec, err := m.liveRecord(ctx, access.SessionID)
	if err != nil {
		return Access{}, err
	}
	if access.epoch < rec.Epoch {
		m.outdate(rec, rec.OutdatedAt)
		return Access{}, denial(rec.Epoch).refusal(rec.ID)
	}
	return access, nil
}

// liveRecord returns the record of a session that lives, or says why there is none.
func (m *Manager) liveRecord(ctx context.Context, sessionID string) (Record, error) {
	rec, err := m.load(ctx, sessionID)
	switch {
	case errors.Is(err, ErrNotFound):
		return Record{}, fmt.Errorf("%w: %v", ErrRevoked, err) // an id that is none is not quoted
	case err != nil:
		return Record{}, err
	case !rec.RevokedAt.IsZero():
		m.foundEnded(ctx, rec)
		return Record{}, &RevokedError{rec.ID, rec.RevokeReason}
	case !m.rules.live(rec, m.now()):
		return Record{}, fmt.Errorf("%w: session %s", ErrExpired, rec.ID)
	}
	return rec, nil
}

// SessionID returns the session of an access token. It does not matter whether the token is for
// another audience or has expired, whether its session was revoked, or whether the key that signed
// it has been rotated away. But a key that was retired ([AccessSigner.Retire]), or that this
// process never had, is an error. SessionID lets nobody in: it is for a logout, and for
// [Replacing]. The error is [ErrInvalidToken].
func (m *Manager) SessionID(accessToken string) (string, error) {
	checked, err := m.signer.authenticate(accessToken)
	if err != nil {
		return "", err
	}
	return checked.access.SessionID, nil
}

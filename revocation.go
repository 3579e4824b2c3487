package tokensession

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession/internal/peek"
)

// lateRefresh is how long after its session's end a refresh may still be under way that was
// presented before.
const lateRefresh = time.Hour

// Revoke ends a session: its refresh token is dead when Revoke returns, and its access tokens are
// refused by this Manager at once and by others as soon as they read the feed. Ending one that is
// over already is no error. A session that the store does not know is [ErrNotFound]. It asks not
// whose session it is: where the ID comes from a user, call [Manager.RevokeOwn].
//
// If it returns [ErrUnavailable], call it again. Where the session may have been ended, this
// Manager refuses its access tokens until then, and ends it at its next refresh. RevokeToken does
// the same.
func (m *Manager) Revoke(ctx context.Context, sessionID string, opts ...RevokeOption) error {
	o, err := revokeOptionsOf(opts, ReasonRevoked)
	if err != nil {
		return err
	}
	if len(o.keep) > 0 {
		return errors.New("tokensession: Revoke: Keep is for RevokeSubject")
	}
	return m.mustEnd(ctx, sessionID, o.reason)
}

// RevokeOwn is Revoke for a user who ends one of their own sessions, as in a list of devices. A
// session of another subject is [ErrNotFound], as is one that the store does not know, and nothing
// happens to it.
func (m *Manager) RevokeOwn(
	ctx context.Context, subject, sessionID string, opts ...RevokeOption,
) error {
	if err := checkText("subject", subject, maxNameSize); err != nil {
		return err
	}
	rec, err := m.load(ctx, sessionID)
	if err != nil {
		return err
	}
	if rec.Subject != subject {
		return fmt.Errorf("%w: session %s of another subject", ErrNotFound, sessionID)
	}
	return m.Revoke(ctx, sessionID, opts...)
}

// mustEnd is revoke for a caller who may never ask again. If the reply to the revocation is lost,
// so that nobody knows whether it was written, it is carried out later.
func (m *Manager) mustEnd(ctx context.Context, sessionID string, reason Reason) error {
	_, sent, err := m.revoke(ctx, sessionID, reason)
	if err != nil && sent.ID != "" {
		m.endLater(sent, ending{event: Event{Kind: EventRevoked}, reason: reason})
	}
	return err
}

// RevokeToken ends the session of a token: a logout. Any genuine token of the session will do: a
// refresh token, even one consumed long ago, or an access token, even one that has expired. For
// another string it returns [ErrInvalidToken], which a client that wants to be logged out can
// ignore (RFC 7009 section 2.2).
//
// That is not so if the error is an [ErrUnknownKey]: the string may be an access token of ours,
// signed with a key that this process does not have, as after a restart with another key. Nothing
// was ended then. The session's refresh token ends it, and so does an access token of a later
// refresh.
func (m *Manager) RevokeToken(ctx context.Context, token string) error {
	if strings.HasPrefix(token, refreshPrefix) {
		return m.revokeRefreshToken(ctx, token)
	}
	id, err := m.SessionID(token)
	if errors.Is(err, ErrUnknownKey) && !m.mayBeOurs(token) {
		return invalid("an access token of another issuer")
	}
	if err != nil {
		return err
	}
	return m.logOut(ctx, id)
}

// mayBeOurs reports whether an access token that cannot be verified says that it is ours.
func (m *Manager) mayBeOurs(accessToken string) bool {
	claims, ok := peek.Access(accessToken)
	return ok && m.signer.cfg.isOurs(claims.Issuer)
}

func (m *Manager) revokeRefreshToken(ctx context.Context, refreshToken string) error {
	rec, err := m.recordOf(ctx, refreshToken)
	if err != nil {
		return err
	}
	return m.logOut(ctx, rec.ID)
}

// recordOf returns the record of a genuine refresh token's session.
func (m *Manager) recordOf(ctx context.Context, refreshToken string) (Record, error) {
	token, ok := parseRefreshToken(refreshToken)
	if !ok {
		return Record{}, invalid("malformed refresh token")
	}
	rec, err := m.load(ctx, token.handle.sessionID())
	switch {
	case errors.Is(err, ErrNotFound):
		return Record{}, invalid("unknown session")
	case err != nil:
		return Record{}, err
	}
	// It needs no proof of a key: a logout must not fail because the key is lost.
	if _, ok := token.madeFor(m.tokenKeys(rec), rec.KeyThumbprint, ""); !ok {
		return Record{}, invalid("forged refresh token")
	}
	return rec, nil
}

// logOut ends a session of which somebody presented a genuine token. If the store does not know the
// session any more, it is over, and its access tokens are denied.
func (m *Manager) logOut(ctx context.Context, sessionID string) error {
	err := m.mustEnd(ctx, sessionID, ReasonLogout)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	return err
}

// RevokeSubject ends all sessions of a subject but those that [Keep] names, and returns how many it
// ended. It is for a change of password, or for "log out everywhere". A session that begins while
// it runs may live. If some could not be ended, it returns [ErrUnavailable] with the number of
// those that were; call it again. Until then this Manager refuses the access tokens of those that
// it cannot tell of, and ends them at their next refresh.
func (m *Manager) RevokeSubject(
	ctx context.Context, subject string, opts ...RevokeOption,
) (int, error) {
	o, err := revokeOptionsOf(opts, ReasonSubjectRevoked)
	if err != nil {
		return 0, err
	}
	if err := checkText("subject", subject, maxNameSize); err != nil {
		return 0, err
	}
	records, unreadable, err := m.listed(ctx, subject)
	if err != nil {
		return 0, err
	}
	since := m.now().Add(-lateRefresh)
	records = slices.DeleteFunc(records, func(r Record) bool {
		return !r.mayLive(since) || slices.Contains(o.keep, r.ID)
	})
	n := 0
	if shortcut, ok := ability[SubjectRevoker](m.store); ok {
		n, err = m.revokeAtOnce(ctx, shortcut, subject, o, records)
	} else {
		n, err = m.revokeAll(ctx, records, o.reason)
	}
	if unreadable != nil && err == nil {
		err = unavailable("ending all sessions of the subject", unreadable)
	}
	return n, err
}

// revokeAll ends one session after the other. One of which it cannot tell is ended later: if it has
// been ended, the next call does not list it any more.
func (m *Manager) revokeAll(ctx context.Context, records []Record, reason Reason) (int, error) {
	n := 0
	var failed error
	for _, rec := range records {
		switch ended, _, err := m.revoke(ctx, rec.ID, reason); {
		case errors.Is(err, ErrNotFound): // it expired meanwhile
		case err != nil:
			failed = errors.Join(failed, err)
			m.endLater(rec, ending{event: Event{Kind: EventRevoked}, reason: reason})
		case ended:
			n++
		}
	}
	return n, failed
}

// revokeAtOnce has the store end the sessions in one call. If the store cannot tell whether it did,
// the sessions listed before the call are those that it may have ended, so they are all ended
// later.
func (m *Manager) revokeAtOnce(
	ctx context.Context, store SubjectRevoker, subject string, o revokeOptions, listed []Record,
) (int, error) {
	r := SubjectRevocation{
		Subject: subject, Issuers: m.signer.cfg.issuers(), Keep: o.keep,
		Reason: o.reason, WriteID: randomID(),
	}
	var records []Record
	var unreadable error
	err := m.retry(ctx, func() error {
		var err error
		r.At = m.now()
		r.KeepUntil = r.At.Add(m.rules.keepEnded)
		records, err = store.RevokeSubject(ctx, r)
		if errors.Is(err, ErrUnreadable) {
			unreadable, err = err, nil
		}
		return err
	})
	if err != nil {
		for _, rec := range listed {
			m.endLater(rec, ending{event: Event{Kind: EventRevoked}, reason: o.reason})
		}
		return 0, err
	}
	for _, rec := range records {
		m.ended(ctx, rec)
	}
	now := m.now()
	// The store leaves alone what has expired.
	expired := slices.DeleteFunc(listed, func(r Record) bool { return r.mayLive(now) })
	n, err := m.revokeAll(ctx, expired, o.reason)
	if unreadable != nil && err == nil {
		err = unavailable("ending all sessions of the subject", unreadable)
	}
	return len(records) + n, err
}

// Session returns a session by its ID, also one that has ended, while the store has a record of it.
// It is [ErrNotFound] otherwise.
func (m *Manager) Session(ctx context.Context, sessionID string) (Session, error) {
	rec, err := m.load(ctx, sessionID)
	if err != nil {
		return Session{}, err
	}
	return m.session(rec), nil
}

// Sessions returns the subject's live sessions, newest login first.
func (m *Manager) Sessions(ctx context.Context, subject string) ([]Session, error) {
	records, err := m.list(ctx, subject)
	if err != nil {
		return nil, err
	}
	sessions := make([]Session, 0, len(records))
	for _, rec := range slices.Backward(records) {
		sessions = append(sessions, m.session(rec))
	}
	return sessions, nil
}

// list returns the subject's live records, oldest login first. A record that cannot be read is told
// and left out.
func (m *Manager) list(ctx context.Context, subject string) ([]Record, error) {
	records, unreadable, err := m.listed(ctx, subject)
	if err != nil {
		return nil, err
	}
	if unreadable != nil {
		m.emit(ctx, Event{Kind: EventUnreadable, Err: unreadable})
	}
	now := m.now()
	records = slices.DeleteFunc(records, func(r Record) bool { return !m.rules.live(r, now) })
	slices.SortStableFunc(records, func(a, b Record) int {
		return a.CreatedAt.Compare(b.CreatedAt)
	})
	return records, nil
}

// listed returns the subject's records, and which could not be read.
func (m *Manager) listed(
	ctx context.Context, subject string,
) (records []Record, unreadable, err error) {
	const doing = "listing the subject's sessions"
	if err := ctx.Err(); err != nil {
		return nil, nil, unavailable(doing, err)
	}
	records, err = m.store.List(ctx, subject)
	if errors.Is(err, ErrUnreadable) {
		unreadable, err = err, nil
	}
	if err != nil {
		return nil, nil, unavailable(doing, err)
	}
	records = slices.DeleteFunc(records, func(r Record) bool {
		return !m.signer.cfg.isOurs(r.Issuer)
	})
	return records, unreadable, nil
}

// revoke ends a session, tells the host, and reports whether it was this call that ended it. If it
// fails after a revocation was sent that may have been applied, it returns what was sent.
func (m *Manager) revoke(
	ctx context.Context, sessionID string, reason Reason,
) (ended bool, sent Record, err error) {
	rec, ended, err := m.end(ctx, sessionID, reason)
	if ended {
		m.ended(ctx, rec)
	}
	return ended, rec, err
}

// end ends a session and returns it, and whether it was this call that ended it. With an error, it
// returns the record of a revocation that may have been applied.
//
// A session that has expired is revoked like any other. Otherwise a refresh that was presented just
// before the session's end, and is still under way, could go through after the logout.
//
// Like a refresh, it looks again after a write whose reply was lost, and recognizes its own
// WriteID.
func (m *Manager) end(
	ctx context.Context, sessionID string, reason Reason,
) (_ Record, ended bool, _ error) {
	writeID := randomID()
	var sent Record
	var lastErr error
	for range maxAttempts {
		rec, err := m.load(ctx, sessionID)
		switch {
		case errors.Is(err, ErrNotFound) && isSessionID(sessionID):
			m.deny(sessionID, m.now()) // its record may be lost while its access tokens live
			return Record{}, false, err
		case err != nil:
			return sent, false, err
		case !rec.RevokedAt.IsZero() && rec.WriteID == writeID:
			m.deny(rec.ID, rec.RevokedAt)
			return rec, rec.RevokedAt.Before(rec.ExpiresAt), nil
		case !rec.RevokedAt.IsZero():
			m.foundEnded(ctx, rec)
			return rec, false, nil
		}
		rec = m.rules.revoke(rec, m.now(), reason)
		rec.WriteID = writeID
		if lastErr = m.swap(context.WithoutCancel(ctx), callTimeout, rec); lastErr == nil {
			m.deny(rec.ID, rec.RevokedAt)
			return rec, rec.RevokedAt.Before(rec.ExpiresAt), nil
		}
		if mayBeApplied(lastErr) {
			sent = rec
		}
	}
	if errors.Is(lastErr, ErrNotFound) { // which Load denies: no verdict either
		lastErr = fmt.Errorf("the store finds the session and cannot change it: %v", lastErr)
	}
	return sent, false, unavailable("revoking session "+sessionID, lastErr)
}

// ended denies a session that was just revoked, and tells the host. It denies from now on, not only
// from RevokedAt: while the store took long to write the revocation, a replay may have made an
// access token that is younger than RevokedAt.
func (m *Manager) ended(ctx context.Context, rec Record) {
	m.deny(rec.ID, later(m.now(), rec.RevokedAt))
	m.endings.take(rec.ID)
	m.emit(ctx, Event{Kind: EventRevoked, Session: m.session(rec)})
}

// isSessionID reports whether s has the form of a session id.
func isSessionID(s string) bool { return len(s) == 22 && isBase64URL(s) }

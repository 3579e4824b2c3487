package tokensession

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession/internal/peek"
)

// Start begins a session for a subject that the host has authenticated: a login. If the authorizer
// refuses, the error is [ErrDenied] and there is no session.
func (m *Manager) Start(ctx context.Context, subject string, opts ...StartOption) (Tokens, error) {
	var o startOptions
	for _, opt := range opts {
		opt.applyStart(&o)
	}
	now := m.now()
	if err := m.checkStart(subject, o, now); err != nil {
		return Tokens{}, err
	}
	if err := ctx.Err(); err != nil {
		return Tokens{}, unavailable("starting a session", err)
	}
	replaced, err := m.replaced(ctx, subject, o)
	if err != nil {
		return Tokens{}, err
	}
	h := newHandle()
	rec := m.newRecord(h, subject, o, now)
	if err := m.queueUp(ctx, &rec); err != nil {
		return Tokens{}, err
	}
	issued, err := m.issue(ctx, rec, rec.ExpiresAt, now, o.accessOptions)
	if err != nil {
		return Tokens{}, err
	}
	if err = m.create(ctx, rec); err == nil {
		err = m.makeRoom(ctx, rec, replaced)
	}
	if err != nil {
		detached, cancel := detach(ctx)
		defer cancel()
		// The session may be there, and nobody gets its tokens. So it is ended, as far as that can
		// be done.
		_, _, _ = m.end(detached, rec.ID, ReasonRevoked)
		return Tokens{}, err
	}
	m.recent.put(rec)
	m.emit(ctx, Event{Kind: EventStarted, Session: rec.Session()})
	return m.tokens(rec, h, issued), nil
}

func (m *Manager) checkStart(subject string, o startOptions, now time.Time) error {
	if err := checkText("subject", subject, maxNameSize); err != nil {
		return err
	}
	if o.clientID != "" {
		if err := checkText("WithClient", o.clientID, maxNameSize); err != nil {
			return err
		}
	}
	if o.actor != nil {
		if err := checkText("WithActor", *o.actor, maxNameSize); err != nil {
			return err
		}
	}
	return cmp.Or(o.proof.check(now), o.lifetimes.check(m.cfg), o.checkKeys(),
		checkAttributes(o.attributes))
}

func (m *Manager) newRecord(h handle, subject string, o startOptions, now time.Time) Record {
	rec := Record{
		ID: h.sessionID(), Version: 1, WriteID: m.newWriteID(),
		Issuer: m.signer.cfg.Issuer, Subject: subject, ClientID: o.clientID, Key: randomBytes(32),
		CreatedAt: now, RotatedAt: now, Transient: o.transient, KeyThumbprint: textOf(o.proven),
	}
	rec = o.proof.apply(rec, now)
	if o.actor != nil {
		rec.Actor = *o.actor
	}
	if len(o.attributes) > 0 {
		rec.Attributes = maps.Clone(o.attributes)
	}
	rec.IdleTTL = cmp.Or(o.lifetimes.idle, m.cfg.RefreshTTL)
	if absolute := cmp.Or(o.lifetimes.absolute, m.cfg.MaxLifetime); absolute != Unlimited {
		rec.MaxExpiresAt = now.Add(absolute)
	}
	rec.ExpiresAt = earlier(now.Add(rec.IdleTTL), rec.MaxExpiresAt)
	return rec
}

// create writes a new record. An error of the store may hide a success, so the store is asked what
// it has. By then [Manager.Reauthorize] may have written the session once more.
func (m *Manager) create(ctx context.Context, rec Record) error {
	return m.retry(ctx, func() error {
		err := m.store.Create(ctx, rec)
		if err == nil {
			return nil
		}
		stored, loadErr := m.store.Load(ctx, rec.ID)
		if loadErr == nil && sameCall(stored.WriteID, rec.WriteID) {
			return nil
		}
		return err
	})
}

// queueUp makes a record the newest of its subject, if there is a limit on the number of sessions.
//
// MaxSessions ends the oldest session by CreatedAt. If the clock stands still, or another
// instance's clock runs ahead, the new login could count as the oldest and end itself. So its
// CreatedAt is moved just past the newest one.
func (m *Manager) queueUp(ctx context.Context, rec *Record) error {
	if m.cfg.MaxSessions == 0 || rec.Actor != "" {
		return nil
	}
	records, err := m.list(ctx, rec.Subject)
	if err != nil || len(records) == 0 {
		return err
	}
	if newest := records[len(records)-1].CreatedAt; !rec.CreatedAt.After(newest) {
		rec.CreatedAt = newest.Add(time.Microsecond)
	}
	return nil
}

// replaced returns the sessions that a new one of the subject replaces.
func (m *Manager) replaced(
	ctx context.Context, subject string, o startOptions,
) ([]string, error) {
	ids := slices.Clone(o.replacing)
	for _, token := range o.replacingTokens {
		id, err := m.sessionOf(ctx, subject, token)
		switch {
		case errors.Is(err, ErrInvalidToken), errors.Is(err, ErrNotFound), slices.Contains(ids, id):
		case errors.Is(err, ErrUnreadable): // its tokens cannot be told from forged ones
			m.emit(ctx, Event{Kind: EventUnreadable, Err: err})
		case err != nil:
			return nil, err
		default:
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// sessionOf returns the session of a genuine token of either kind, or an [ErrInvalidToken].
//
// The key of an access token may be unknown here, because it was retired, or because the process
// has begun anew with another one. Then the token proves nothing. But somebody who has just proved
// to be its subject may end the session.
func (m *Manager) sessionOf(ctx context.Context, subject, token string) (string, error) {
	if strings.HasPrefix(token, refreshPrefix) {
		rec, err := m.recordOf(ctx, token)
		return rec.ID, err
	}
	id, err := m.SessionID(token)
	if !errors.Is(err, ErrUnknownKey) || !m.mayBeOurs(token) {
		return id, err
	}
	claims, _ := peek.Access(token)
	rec, err := m.load(ctx, claims.SessionID)
	if err == nil && rec.Subject != subject {
		err = invalid("perhaps of a session of another subject")
	}
	return rec.ID, err
}

// makeRoom ends the oldest sessions beyond MaxSessions, of those in which nobody else acts for the
// subject, and then those that the new one replaces. The replaced ones come last, because a user
// whose login fails should still have them.
func (m *Manager) makeRoom(ctx context.Context, created Record, replaced []string) error {
	if m.cfg.MaxSessions > 0 && created.Actor == "" {
		records, err := m.list(ctx, created.Subject)
		if err != nil {
			return err
		}
		records = slices.DeleteFunc(records, func(r Record) bool {
			return slices.Contains(replaced, r.ID) || r.Actor != ""
		})
		for _, rec := range records[:max(0, len(records)-m.cfg.MaxSessions)] {
			_, _, err := m.revoke(ctx, rec.ID, ReasonMaxSessions)
			if err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	for _, id := range replaced {
		if err := m.endReplaced(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// endReplaced ends a session that a new one replaces. If its record cannot be read, the user must
// not be kept from logging in for that. Then it is told, and its access tokens are refused here.
// Nobody can refresh it, either, while that lasts.
func (m *Manager) endReplaced(ctx context.Context, id string) error {
	_, _, err := m.revoke(ctx, id, ReasonReplaced)
	switch {
	case errors.Is(err, ErrNotFound):
		return nil
	case errors.Is(err, ErrUnreadable):
		m.heard(Revocation{SessionID: id}, m.now())
		m.emit(ctx, Event{Kind: EventUnreadable, Err: err})
		return nil
	}
	return err
}

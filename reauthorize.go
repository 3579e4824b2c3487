package tokensession

import (
	"context"
	"errors"
	"slices"
)

// Reauthorize has the subject's access tokens refused that were made before, as [ErrOutdated]: by
// this Manager at once, and by others as soon as they read the feed. It returns the number of
// sessions. Nobody is logged out, because a client refreshes a token that has expired, and the
// refresh asks [Config.Authorize]. It is for a user who has got other rights: change them first,
// and call it then.
//
// It is exact. A token is refused if its session was loaded before the call, be it by a refresh
// that is still under way when Reauthorize returns. It is good if its session was loaded after
// that. A session that begins while it runs may escape, as with [Manager.RevokeSubject].
//
// If it cannot tell of a session, it returns [ErrUnavailable] with the number of those that are
// done. Call it again: that does no harm to any.
func (m *Manager) Reauthorize(ctx context.Context, subject string) (int, error) {
	if err := checkText("subject", subject, maxNameSize); err != nil {
		return 0, err
	}
	records, unreadable, err := m.listed(ctx, subject)
	if err != nil {
		return 0, err
	}
	since := m.now().Add(-lateRefresh)
	records = slices.DeleteFunc(records, func(r Record) bool { return !r.mayLive(since) })
	n := 0
	var failed error
	for _, rec := range records {
		switch ok, err := m.reauthorize(ctx, rec); {
		case err != nil:
			failed = errors.Join(failed, err)
		case ok:
			n++
		}
	}
	if unreadable != nil && failed == nil {
		failed = unavailable("outdating the access tokens of the subject", unreadable)
	}
	return n, failed
}

// reauthorize raises the epoch of a session, and reports false if the session is over. It does so
// also for one that has expired a moment ago: a refresh that came before can still be under way.
//
// Another call may write the record in between. Then the next attempt loads it again and chooses an
// epoch beyond the one that is there now, even if that is a new one. For it can be that of a
// refresh which heals the session, or of a Reauthenticate: both raise the epoch themselves, and
// their tokens can have been authorized before. Only a record that has this call's own WriteID
// needs no more: the reply to that write was lost.
//
// The generation is left alone, and so is who made it ([renameWrite]). A refresh that is under way
// conflicts and asks the authorizer again, about the new record.
func (m *Manager) reauthorize(ctx context.Context, rec Record) (bool, error) {
	var next Record
	var lastErr error
	for range maxAttempts {
		if !rec.RevokedAt.IsZero() {
			return false, nil
		}
		if next.WriteID == "" || next.WriteID != rec.WriteID {
			now := m.now()
			epoch := nextEpoch(max(rec.Epoch, m.knownEpoch(rec.ID, now)), now)
			next = rec.outdated(epoch, now).replacing()
			next.WriteID = renameWrite(rec.WriteID)
			if lastErr = m.swapSoon(ctx, next); lastErr == nil {
				rec = next
			}
		}
		if next.WriteID == rec.WriteID {
			now := m.now()
			m.outdate(rec, later(now, rec.OutdatedAt))
			live := m.rules.live(rec, now)
			if live {
				m.emit(ctx, Event{Kind: EventOutdated, Session: m.session(rec)})
			}
			return live, nil
		}
		var err error
		if rec, err = m.load(ctx, rec.ID); errors.Is(err, ErrNotFound) {
			return false, nil // it expired meanwhile
		} else if err != nil {
			return false, err
		}
	}
	return false, unavailable("outdating session "+rec.ID, lastErr)
}

// swapSoon writes within the time that the deny lists allow for: they forget an outdated session so
// long after OutdatedAt as a token can live that was made before it.
func (m *Manager) swapSoon(ctx context.Context, next Record) error {
	detached, cancel := detach(ctx)
	defer cancel()
	return m.store.Swap(detached, next)
}

package tokensession

import (
	"context"
	"sync"
	"sync/atomic"
	"time"
)

// endings are the revocations that this process still has to carry out: it wrote them, the reply
// was lost, and the caller may never ask again. Whoever logs out closes the page, and a thief who
// was found does not come back to be revoked.
//
// Until it is known that such a session has ended, its access tokens are refused here, and the next
// refresh that comes for it writes the revocation again, with the reason that it had. A theft is
// then told as a theft, even if it is the thief who comes.
//
// There are none most of the time, and then nothing here takes a lock.
type endings struct {
	some      atomic.Bool // whether there may be any
	mu        sync.Mutex
	sessions  map[string]ending
	nextPurge time.Time
}

// An ending is one of them.
type ending struct {
	event  Event // to be told when it is done
	reason Reason
	until  time.Time // when the session ends by itself

	// version is that of the record which was to be written, if it was a refresh that decided so.
	// It is void once another write has made that version, because it was decided for the record
	// before: if it was a theft, it is found again. Zero: the host has decided, and it is carried
	// out in any case.
	version uint64

	// A theft is not void if the other write has left the generation and its grace period alone, as
	// Reauthorize does. The token that was presented is a stolen one still, and perhaps nobody
	// presents it again.
	generation uint64
	rotatedAt  time.Time
}

// void reports whether a refresh has decided so for another record than this one.
func (e ending) void(rec Record) bool {
	if e.version == 0 || rec.Version < e.version || !rec.RevokedAt.IsZero() {
		return false
	}
	same := rec.Generation == e.generation && rec.RotatedAt.Equal(e.rotatedAt)
	return e.reason != ReasonReuse || !same
}

// add keeps the one that is void last. That is the host's, and of two refreshes' the one that was
// decided for the newer record.
func (e *endings) add(sessionID string, what ending, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.sessions == nil {
		e.sessions = make(map[string]ending)
	}
	// A last purge in the future means that the clock was put back.
	if !now.Before(e.nextPurge) || now.Before(e.nextPurge.Add(-endingsPurgeInterval)) {
		e.nextPurge = now.Add(endingsPurgeInterval)
		for id, old := range e.sessions {
			if !now.Before(old.until) {
				delete(e.sessions, id)
			}
		}
	}
	old, known := e.sessions[sessionID]
	if known && what.version != 0 && (old.version == 0 || old.version > what.version) {
		return
	}
	e.sessions[sessionID] = what
	e.some.Store(true)
}

const endingsPurgeInterval = time.Minute

// of returns what has to be carried out for a session whose record is not revoked.
func (e *endings) of(rec Record) (ending, bool) {
	if !e.some.Load() {
		return ending{}, false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	what, ok := e.sessions[rec.ID]
	if ok && what.void(rec) {
		e.drop(rec.ID)
		return ending{}, false
	}
	return what, ok
}

func (e *endings) drop(sessionID string) {
	delete(e.sessions, sessionID)
	e.some.Store(len(e.sessions) > 0)
}

// take returns it, and forgets it.
func (e *endings) take(sessionID string) (ending, bool) {
	if !e.some.Load() {
		return ending{}, false
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	what, ok := e.sessions[sessionID]
	e.drop(sessionID)
	return what, ok
}

// endLater remembers that a session has to be ended, and refuses its access tokens from now on.
func (m *Manager) endLater(rec Record, e ending) {
	now := m.now()
	if e.until = m.rules.absoluteEnd(rec); e.until.IsZero() {
		e.until = rec.RotatedAt.Add(rec.IdleTTL)
	}
	m.endings.add(rec.ID, e, now)
	switch {
	case e.version == 0:
		m.deny(rec.ID, now)
	case e.reason == ReasonReuse:
		m.denied.add(keyOf(rec.ID), refused, now.Add(m.denyPeriod()), now)
	default:
		// It may turn out to be void, and the user is let in again. Then the next refresh here
		// gives the session this epoch, and its access tokens are good.
		rec.Epoch = nextEpoch(max(rec.Epoch, m.knownEpoch(rec.ID, now)), now)
		m.outdate(rec, now)
	}
}

// foundEnded denies a session that the store has as ended. If that was the work of a call whose
// reply was lost, the host is told of it now.
func (m *Manager) foundEnded(ctx context.Context, rec Record) {
	m.deny(rec.ID, rec.RevokedAt)
	if e, ok := m.endings.take(rec.ID); ok && e.reason == rec.RevokeReason {
		e.event.Session = m.session(rec)
		m.emit(context.WithoutCancel(ctx), e.event)
	}
}

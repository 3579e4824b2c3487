package tokensession

import (
	"slices"
	"sync"
	"time"
)

// doubts are the writes of refreshes that may have been applied although the call returned [ErrUnavailable]: their
// successors were given to nobody.
type doubts struct {
	mu        sync.Mutex
	sessions  map[string]doubt
	nextPurge time.Time
}

// A doubt is about one session.
type doubt struct {
	writes []doubtfulWrite
	until  time.Time // when the session ends
}

type doubtfulWrite struct {
	id   string
	seen time.Time // when it was sent, or last found in the store
}

// inFlight is how long after its call a write may still reach the store.
const inFlight = time.Minute

// maxDoubtful bounds the writes of one session, whatever its client sends in a minute. They all replace one version of the
// record: the first one to reach the store is what the others find.
const maxDoubtful = 100

// add remembers a write of a call that was presented at presented. It forgets those of the session that this call would
// have found in the store if they had been applied, and that were sent too long ago to be still on their way: however
// long an outage lasts in which a client tries again and again, a session takes no more than a minute's attempts.
func (d *doubts) add(sessionID, writeID string, until, presented, now time.Time) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sessions == nil {
		d.sessions = make(map[string]doubt)
	}
	if !now.Before(d.nextPurge) || now.Before(d.nextPurge.Add(-inFlight)) { // the clock was put back
		d.nextPurge = now.Add(inFlight)
		for id, s := range d.sessions {
			if !now.Before(s.until) {
				delete(d.sessions, id)
			}
		}
	}
	writes := slices.DeleteFunc(d.sessions[sessionID].writes, func(w doubtfulWrite) bool {
		return !w.seen.After(presented.Add(-inFlight))
	})
	writes = append(writes[:min(len(writes), maxDoubtful-1)], doubtfulWrite{writeID, now})
	d.sessions[sessionID] = doubt{writes, until}
}

// found reports whether a write that is in the store at now is one of them, which is then the last to be forgotten.
func (d *doubts) found(sessionID, writeID string, now time.Time) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	writes := d.sessions[sessionID].writes
	for i := range writes {
		if writes[i].id == writeID {
			writes[i].seen = now
			writes[0], writes[i] = writes[i], writes[0]
			return true
		}
	}
	return false
}

// settle forgets a session of which somebody got a new successor.
func (d *doubts) settle(sessionID string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.sessions, sessionID)
}

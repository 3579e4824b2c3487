package tokensession

import (
	"strings"
	"sync"
	"time"
)

// deliveries answer one question: which successors that were made in this process may nobody have
// got yet?
//
// It matters because of the grace period. The period is for clients that did not hear of a
// successor, and it is counted from the write. Two things make that unfair. A write can take longer
// than the whole period, in a store that stalls. Then the clients that wait for it, and those that
// come meanwhile with the same token, would look like thieves once it is done. And a reply can be
// lost together with the connection. Then the call returns ErrUnavailable, its client is told to
// come again, and the outage can last for hours.
//
// So there are two kinds of entries. A running call has not returned, and may have sent a write. A
// doubt remains of a call whose write may have been applied, and of which nobody received the
// successor: the call gave up, or its caller had gone away, or the host's code panicked. As soon as
// anybody receives a successor, everything up to its generation is settled.
//
// Nothing of this is needed on other instances, or after a restart. What they do not know makes
// them stricter, never laxer.
//
// The entries are spread over shards by session, so that refreshes of different sessions do not
// wait for each other.
type deliveries [64]deliveryShard

type deliveryShard struct {
	mu        sync.Mutex
	running   []runningCall
	doubts    map[string]doubt // by session
	nextPurge time.Time
}

// A runningCall is a call that has not returned.
type runningCall struct {
	writeID   string // of the call
	sessionID string
	made      generations // that it has sent
	until     time.Time   // the latest end of the session that it wrote
	received  uint64      // the highest generation that anybody has received since it began
}

// A doubt says which generations of a session were perhaps made by calls of which nobody received
// them.
type doubt struct {
	made  generations
	until time.Time // the latest end of the session that these calls wrote
}

// generations are a range of them, both ends included. The zero value is none: a successor's
// generation is 1 or more.
type generations struct{ first, last uint64 }

func (g generations) has(n uint64) bool { return n > 0 && g.first <= n && n <= g.last }

func (g generations) with(other generations) generations {
	switch {
	case g.first == 0:
		return other
	case other.first == 0:
		return g
	}
	return generations{min(g.first, other.first), max(g.last, other.last)}
}

// above returns those that are newer than n.
func (g generations) above(n uint64) generations {
	if g.last <= n {
		return generations{}
	}
	return generations{max(g.first, n+1), g.last}
}

// A snapshot is what the deliveries knew of a session at a moment.
type snapshot struct {
	running generations // sent by calls that had not returned
	doubted generations
}

// author says what a snapshot knows about who made a generation.
func (s snapshot) author(generation uint64) author {
	switch {
	case s.running.has(generation):
		return running
	case s.doubted.has(generation):
		return undelivered
	}
	return settled
}

// begin notes that a call begins. From now on, it knows what others receive.
func (d *deliveries) begin(sessionID, call string) {
	s := d.lock(sessionID)
	defer s.mu.Unlock()
	s.running = append(s.running, runningCall{writeID: call, sessionID: sessionID})
}

// look returns what is known of a session. It has to be asked before the record is loaded: a call
// that has returned by then has written all that it had to write, and the record shows it. A call
// that looks does not count itself, because it recognizes what it sent by the WriteID.
func (d *deliveries) look(sessionID, call string) snapshot {
	s := d.lock(sessionID)
	defer s.mu.Unlock()
	known := snapshot{doubted: s.doubts[sessionID].made}
	for i := range s.running {
		if c := &s.running[i]; c.sessionID == sessionID && c.writeID != call {
			known.running = known.running.with(c.made)
		}
	}
	return known
}

// send notes that a call is about to write a record. A call can send several writes.
func (d *deliveries) send(call string, next Record) {
	s := d.lock(next.ID)
	defer s.mu.Unlock()
	if i := s.find(call); i >= 0 {
		c := &s.running[i]
		c.made = c.made.with(generations{next.Generation, next.Generation})
		c.until = later(c.until, next.ExpiresAt)
	}
}

// withdraw notes that no write of a call can be in the store: each was refused.
func (d *deliveries) withdraw(sessionID, call string) {
	s := d.lock(sessionID)
	defer s.mu.Unlock()
	if i := s.find(call); i >= 0 {
		s.running[i].made = generations{}
	}
}

// leave ends a call. What it has sent and nobody has received remains as a doubt, until the session
// ends.
func (d *deliveries) leave(sessionID, call string, now time.Time) {
	s := d.lock(sessionID)
	defer s.mu.Unlock()
	c, ok := s.take(call)
	left := c.made.above(c.received)
	if !ok || left.first == 0 {
		return
	}
	s.purge(now)
	if s.doubts == nil {
		s.doubts = make(map[string]doubt)
	}
	before := s.doubts[sessionID]
	s.doubts[sessionID] = doubt{left.with(before.made), later(c.until, before.until)}
}

// deliver notes that somebody receives a generation's token. That settles everything up to it.
func (d *deliveries) deliver(sessionID string, generation uint64) {
	s := d.lock(sessionID)
	defer s.mu.Unlock()
	for i := range s.running {
		if c := &s.running[i]; c.sessionID == sessionID {
			c.received = max(c.received, generation)
		}
	}
	before, ok := s.doubts[sessionID]
	if !ok {
		return
	}
	if before.made = before.made.above(generation); before.made.first == 0 {
		delete(s.doubts, sessionID)
	} else {
		s.doubts[sessionID] = before
	}
}

// lock returns the shard of a session, locked. A session id is base64url of a hash, so its first
// character spreads well.
func (d *deliveries) lock(sessionID string) *deliveryShard {
	s := &d[sessionID[0]%64]
	s.mu.Lock()
	return s
}

func (s *deliveryShard) find(writeID string) int {
	for i := range s.running {
		if s.running[i].writeID == writeID {
			return i
		}
	}
	return -1
}

// take removes a call, if it is there.
func (s *deliveryShard) take(call string) (runningCall, bool) {
	i := s.find(call)
	if i < 0 {
		return runningCall{}, false
	}
	c, last := s.running[i], len(s.running)-1
	s.running[i], s.running[last] = s.running[last], runningCall{}
	s.running = s.running[:last]
	return c, true
}

const doubtsPurgeInterval = time.Minute

// purge drops the doubts about sessions that are over, once a minute. A time for the next purge
// that is further away than that was set by a clock that has been put back since.
func (s *deliveryShard) purge(now time.Time) {
	if now.Before(s.nextPurge) && !now.Before(s.nextPurge.Add(-doubtsPurgeInterval)) {
		return
	}
	s.nextPurge = now.Add(doubtsPurgeInterval)
	for id, left := range s.doubts {
		if !now.Before(left.until) {
			delete(s.doubts, id)
		}
	}
}

// A WriteID has three parts. The first managerNameSize characters name the Manager that made the
// record's live generation, and those up to callNameSize name the call that made it. So a Manager
// can tell that a generation is its own work, and a call that it is its own, without remembering
// the WriteIDs of their writes. The rest tells the writes of a generation apart. All parts are
// random: 48, 42 and 38 bits, which is plenty for an id that is unique within its session and no
// secret.
//
// A write that leaves the generation alone keeps the first two parts ([renameWrite]). Otherwise it
// would erase who made the generation. Then a client that retries after an outage would look like a
// thief, and a call whose reply was lost would take its own work for that of another one.
const (
	managerNameSize = 8
	callNameSize    = 15
	writeIDSize     = 22
)

// newManagerName returns a name for a Manager: 48 random bits.
func newManagerName() string { return encodeID(randomBytes(6)) }

// newWriteID returns an id for a write that makes a generation.
func (m *Manager) newWriteID() string {
	var b [writeIDSize]byte
	return string(m.appendWriteID(b[:0]))
}

// newWriteIDs returns two of them, at the cost of one.
func (m *Manager) newWriteIDs() (string, string) {
	var b [2 * writeIDSize]byte
	ids := string(m.appendWriteID(m.appendWriteID(b[:0])))
	return ids[:writeIDSize], ids[writeIDSize:]
}

func (m *Manager) appendWriteID(b []byte) []byte {
	return appendRandomID(append(b, m.name...))
}

// renameWrite returns an id for a write that leaves the generation alone.
func renameWrite(previous string) string {
	if len(previous) != writeIDSize {
		return randomID() // of a record that no Manager wrote
	}
	var random [writeIDSize - managerNameSize]byte
	appendRandomID(random[:0])
	return previous[:callNameSize] + string(random[callNameSize-managerNameSize:])
}

// sameCall reports whether one call has made the generations of two records.
func sameCall(writeID, other string) bool {
	return len(writeID) == writeIDSize && len(other) == writeIDSize &&
		writeID[:callNameSize] == other[:callNameSize]
}

// made reports whether this Manager made the record's live generation.
func (m *Manager) made(rec Record) bool { return strings.HasPrefix(rec.WriteID, m.name) }

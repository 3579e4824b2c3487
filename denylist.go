package tokensession

import (
	"encoding/binary"
	"math"
	"math/bits"
	"sync"
	"sync/atomic"
	"time"
)

const (
	denyShards    = 256
	purgeInterval = 30 * time.Second // each shard's
	purgeStep     = purgeInterval / denyShards
)

// A sessionKey is a session's id, 22 characters of base64url, as the 16 bytes that they stand for.
// The zero key stands for an id that has not this form, and nothing is ever denied under it.
type sessionKey struct{ hi, lo uint64 }

func keyOf(sessionID string) sessionKey {
	if !isSessionID(sessionID) {
		return sessionKey{}
	}
	var b [16]byte
	if _, err := strictBase64.Decode(b[:], []byte(sessionID)); err != nil {
		return sessionKey{} // it has stray bits, and would be a second spelling of another id
	}
	return sessionKey{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

// A denial says which access tokens of a session are refused. Of two denials the greater one holds,
// because it refuses all that the other one does. Below refused it is the first epoch whose tokens
// are good.
type denial uint64

const (
	notDenied denial = 0
	refused   denial = math.MaxUint64 - 1 // its record cannot be read, and may be revoked
	forGood   denial = math.MaxUint64     // it is known to be revoked
)

// A denyList holds which sessions' access tokens are refused, and until when. Reading it takes no
// lock and allocates nothing, because each Verify does.
//
// It is a hash table in shards. A session's key is part of a SHA-256, so that its bits are the
// hash. Writers of a shard take turns by a lock. Readers do not see the lock, and that is safe for
// three reasons. A slot's key is written once, before its time, and a reader looks at the time
// first. Its time and its denial only ever grow. And nothing is taken out of a table: a table that
// is too full, or holds too much that is over, is copied to a new one, which then takes its place
// in one step.
type denyList struct {
	shards [denyShards]denyShard
	turn   atomic.Int64 // which step of the purge was the last one, counted by the clock

	// These are told what is denied more than before.
	watchers  watchers
	changes   changeLog
	snapshots snapshotCache
}

type denyShard struct {
	table atomic.Pointer[denyTable] // nil: empty

	mu     sync.Mutex // of the writers
	count  int
	purged int64 // when it was last purged, in microseconds
	over   int64 // what ended by then may be dropped: when it was purged the time before
}

// A denyTable is a table of a power of two of slots. A key is in the first free slot from its
// place.
type denyTable struct{ slots []denySlot }

type denySlot struct {
	until  atomic.Int64 // in microseconds; 0: the slot is free
	denial atomic.Uint64
	key    sessionKey
}

// add denies a session until a time. What was denied before is denied no less and no shorter.
func (l *denyList) add(k sessionKey, d denial, until, now time.Time) {
	if k == (sessionKey{}) || !until.After(now) {
		return
	}
	l.purge(now)
	if l.shard(k).raise(k, d, until.UnixMicro(), now.UnixMicro()) {
		l.changes.add(k, d, until.UnixMicro(), now.UnixMicro())
		l.watchers.denied(k, now)
	}
}

// each calls f with each session that is denied something now, until when in microseconds.
func (l *denyList) each(now time.Time, f func(k sessionKey, d denial, until int64)) {
	for i := range l.shards {
		table := l.shards[i].table.Load()
		if table == nil {
			continue
		}
		for j := range table.slots {
			// As in find, the time first: then the key is there.
			if slot := &table.slots[j]; slot.lives(now.UnixMicro()) {
				f(slot.key, denial(slot.denial.Load()), slot.until.Load())
			}
		}
	}
}

// find returns what a session is denied now.
func (l *denyList) find(k sessionKey, now time.Time) denial {
	table := l.shard(k).table.Load()
	if table == nil {
		return notDenied
	}
	slot, there := table.slot(k)
	if !there || slot.until.Load() <= now.UnixMicro() {
		return notDenied
	}
	return denial(slot.denial.Load())
}

func (l *denyList) shard(k sessionKey) *denyShard { return &l.shards[k.hi%denyShards] }

// purge purges the shards whose turn has come, each one once in purgeInterval. The one who calls it
// waits for that, and nobody else does.
func (l *denyList) purge(now time.Time) {
	turn := now.UnixMicro() / purgeStep.Microseconds()
	last := l.turn.Load()
	if turn == last || !l.turn.CompareAndSwap(last, turn) {
		return
	}
	l.snapshots.forget(now)
	// The clock may have been put back, and then nobody's turn has come.
	for n := max(last, turn-denyShards) + 1; n <= turn; n++ {
		l.shards[uint64(n)%denyShards].purge(now.UnixMicro())
	}
}

// slot returns the slot that a key has, or else the free one where it would go. There always is
// one. A reader must not look into the free one: somebody may just be writing another key there.
func (t *denyTable) slot(k sessionKey) (slot *denySlot, there bool) {
	mask := uint64(len(t.slots) - 1)
	for i := k.lo & mask; ; i = (i + 1) & mask {
		switch s := &t.slots[i]; {
		case s.until.Load() == 0:
			return s, false
		case s.key == k:
			return s, true
		}
	}
}

// live counts the slots in use whose time is not over.
func (t *denyTable) live(over int64) int {
	n := 0
	for i := range t.slots {
		if t.slots[i].lives(over) {
			n++
		}
	}
	return n
}

func (s *denySlot) lives(over int64) bool {
	until := s.until.Load()
	return until != 0 && until > over
}

// raise is denyList's add, and reports whether more is denied than before, or a second longer. Here
// and in the following, times are in microseconds.
func (s *denyShard) raise(k sessionKey, d denial, until, now int64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	table := s.table.Load()
	if table == nil || 4*(s.count+1) > 3*len(table.slots) {
		table = s.copy(min(s.over, now), 1)
	}
	slot, there := table.slot(k)
	if !there {
		slot.key = k
		s.count++
	}
	raised := d > denial(slot.denial.Load()) || seconds(until) > seconds(slot.until.Load())
	// In this order, else a reader could find the new time beside the old denial.
	slot.denial.Store(max(slot.denial.Load(), uint64(d)))
	slot.until.Store(max(slot.until.Load(), until))
	return raised
}

// seconds rounds microseconds up.
func seconds(us int64) int64 { return (us + 1e6 - 1) / 1e6 }

// purge drops what was over at the purge before. That was a while ago, so that a clock which is a
// year ahead for some moments has nothing dropped that is still needed afterwards.
func (s *denyShard) purge(now int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch since := now - s.purged; {
	case since < 0: // the clock was put back
		s.purged, s.over = now, min(s.over, now)
		return
	case since < purgeInterval.Microseconds()/2: // the one before came late
		return
	}
	s.purged, s.over = now, s.purged
	table := s.table.Load()
	if table == nil {
		return
	}
	if dead := s.count - table.live(s.over); dead > 0 && 8*dead >= s.count {
		s.copy(s.over, 0)
	}
}

// copy makes a new table of what is not over, with room for so many more, and puts it in the place
// of the old one. It is 5/16 to 5/8 full then, so that an entry of 32 bytes takes 102 at most.
func (s *denyShard) copy(over int64, more int) *denyTable {
	old := s.table.Load()
	if old == nil {
		old = &denyTable{}
	}
	s.count = old.live(over)
	if s.count+more == 0 {
		s.table.Store(nil)
		return nil
	}
	table := &denyTable{make([]denySlot, 1<<bits.Len(uint(8*(s.count+more)/5)))}
	for i := range old.slots {
		from := &old.slots[i]
		if !from.lives(over) {
			continue
		}
		to, _ := table.slot(from.key)
		to.key = from.key
		to.denial.Store(from.denial.Load())
		to.until.Store(from.until.Load())
	}
	s.table.Store(table)
	return table
}

// deny puts a revoked session on the deny list, for as long as an access token of it may live.
func (m *Manager) deny(sessionID string, revokedAt time.Time) {
	m.denied.add(keyOf(sessionID), forGood, revokedAt.Add(m.denyPeriod()), m.now())
}

// outdate puts on the deny list which access tokens a session's record says are outdated, for as
// long as one of them may live.
func (m *Manager) outdate(rec Record, since time.Time) {
	if rec.Epoch != 0 {
		m.denied.add(keyOf(rec.ID), denialOf(rec.Epoch), since.Add(m.denyPeriod()), m.now())
	}
}

// denialOf returns the denial of access tokens that are of an earlier epoch. However wrong the
// epoch of a record may be, it never becomes a revocation.
func denialOf(epoch uint64) denial { return min(denial(epoch), refused-1) }

// knownEpoch returns the first epoch of a session whose access tokens are not refused here, or 0.
func (m *Manager) knownEpoch(sessionID string, now time.Time) uint64 {
	return m.denied.find(keyOf(sessionID), now).epoch()
}

// epoch returns the first epoch that a denial lets in, or 0 if it lets in all or none.
func (d denial) epoch() uint64 {
	if d >= refused {
		return 0
	}
	return uint64(d)
}

// denyPeriod is for how long after a revocation an access token of the session can be accepted
// here. A replay makes access tokens, too, and may do so while the revocation is being written.
// This instance accepts a token for acceptancePeriod from its iat. And the clock that revoked may
// be behind that of the instance that made the token by as much as the leeway, or a little more.
func (m *Manager) denyPeriod() time.Duration {
	return m.acceptancePeriod() + m.rules.grace + m.signer.cfg.Leeway + clockSkew
}

// acceptancePeriod is for how long after its iat a token is accepted, whatever its exp. Tokens of
// this Manager never live longer. A Manager with another AccessTTL may make some that do, and the
// deny list forgets a revoked session by this Manager's AccessTTL.
//
// Both iat and exp are cut to seconds, so that AccessTTL counts as whole ones.
func (m *Manager) acceptancePeriod() time.Duration {
	ttl := (m.cfg.AccessTTL + time.Second - 1).Truncate(time.Second)
	return ttl + m.signer.cfg.Leeway
}

// heard puts on the deny list what the feed tells. A session of which nobody can read when it was
// revoked is refused anew each time that the feed tells it.
func (m *Manager) heard(r Revocation, now time.Time) {
	d, at := forGood, r.At
	if at.IsZero() {
		// In whole minutes, else this would be news for followers each time.
		d, at = refused, now.Truncate(time.Minute).Add(time.Minute)
	}
	if r.Epoch != 0 {
		d = denialOf(r.Epoch)
	}
	m.denied.add(keyOf(r.SessionID), d, at.Add(m.denyPeriod()), now)
}

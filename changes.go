package tokensession

import (
	"cmp"
	"crypto/rand"
	"encoding/binary"
	"slices"
	"sort"
	"sync"
	"time"
)

// A changeLog remembers in which order the deny list has learned of what it denies, so that a
// follower is told what is new to it and no more.
//
// It takes nothing down before it is begun. Before the first full look at the feed has come
// through, a follower could not be told all that it must know, and is told nothing.
type changeLog struct {
	mu     sync.Mutex
	id     uint64 // random: it tells this log from those of other instances, and of earlier runs
	taking bool   // changes are taken down
	begun  bool   // and those before are there, too

	// The numbers of changes go up by one. changes[0] has the number first.
	first   uint64
	changes []change
	since   int64 // what was heard since then is in changes; in microseconds

	// What was written for one follower is kept for the others that ask for the same. The keys are
	// numbers: news[n] begins with change n, and all of it ends before newsTo.
	news   map[uint64][]byte
	newsTo uint64

	// Followers wait for woken to be closed. It is nil while nobody waits.
	woken   chan struct{}
	oldest  uint64 // the number that the one of them waits for that is furthest behind
	waiting int
	resting bool   // they were woken a moment ago
	shown   uint64 // for the changes before this number
}

// A change is that a session is denied more than before, or longer. Times are in microseconds.
type change struct {
	key    sessionKey
	denial denial
	until  int64
	heard  int64 // never goes back in a log, though the clock may
}

const (
	keepChanges = 10 * time.Minute // a follower that was away for longer gets a snapshot
	maxChanges  = 1 << 18          // of 40 bytes, and a snapshot after that

	// Followers are woken at once, and then not again for a moment. To answer one costs some 25
	// microseconds of a processor. So up to 10,000 followers take half of one processor at most,
	// however much is revoked.
	restEach = 50 * time.Microsecond
	minRest  = 5 * time.Millisecond
	maxRest  = time.Second / 2
)

// begin takes over what is on the deny list. late is how long after its At a revocation may have
// been written: each counts as heard at that time after its At, or now if that is earlier.
func (c *changeLog) begin(list *denyList, period, late time.Duration, now time.Time) {
	c.mu.Lock()
	if c.taking {
		c.mu.Unlock()
		return
	}
	c.taking = true // from now on, so that nothing is lost meanwhile
	c.mu.Unlock()

	us := now.UnixMicro()
	var known []change
	list.each(now, func(k sessionKey, d denial, until int64) {
		heard := until - period.Microseconds() + late.Microseconds()
		if heard = min(heard, us); heard >= us-keepChanges.Microseconds() {
			known = append(known, change{k, d, until, heard})
		}
	})
	slices.SortFunc(known, func(a, b change) int { return cmp.Compare(a.heard, b.heard) })

	c.mu.Lock()
	defer c.mu.Unlock()
	var id [8]byte
	_, _ = rand.Read(id[:]) // never fails
	c.id = binary.BigEndian.Uint64(id[:])
	c.since = us - keepChanges.Microseconds()
	c.changes = append(known, c.changes...)
	c.begun = true
	c.trim(us)
}

// add takes a change down, and wakes followers.
func (c *changeLog) add(k sessionKey, d denial, until, now int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.taking {
		return
	}
	if n := len(c.changes); n > 0 {
		now = max(now, c.changes[n-1].heard)
	}
	if c.begun && len(c.changes) == cap(c.changes) {
		c.trim(now)
	}
	c.changes = append(c.changes, change{k, d, until, now})
	if c.woken != nil && !c.resting {
		c.wake()
	}
}

// trim drops what is old, and then the oldest of what is too much. It is called when the memory is
// full, so that it copies each change only a few times.
func (c *changeLog) trim(now int64) {
	over := now - keepChanges.Microseconds()
	n := c.heardSince(over)
	if n > 0 {
		c.since = max(c.since, over)
	}
	if more := len(c.changes) - maxChanges/2; len(c.changes) >= maxChanges && more > n {
		n, c.since = more, c.changes[more-1].heard+1
	}
	if n == 0 {
		return
	}
	c.first += uint64(n)
	c.changes = append(make([]change, 0, 2*(len(c.changes)-n)+16), c.changes[n:]...)
}

// heardSince returns the index of the first change that was heard at a time or later.
func (c *changeLog) heardSince(us int64) int {
	return sort.Search(len(c.changes), func(i int) bool { return c.changes[i].heard >= us })
}

// next is the number that the next change will have.
func (c *changeLog) next() uint64 { return c.first + uint64(len(c.changes)) }

// The ways in which a follower can be answered.
type reply int

const (
	replyNews     reply = iota // with what is new to it
	replySnapshot              // with everything, because what it lacks is not known
	replyLater                 // not yet: nothing is new to it, or it was just answered
)

// read returns what a follower lacks, as lines, and the number that it has to ask for next. Of
// replyLater it returns a channel, which is closed when it should be read again. A follower that
// cannot wait any longer gets what there is.
func (c *changeLog) read(
	from cursor, period time.Duration, waits bool,
) (how reply, lines []byte, next uint64, woken <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, here := from.positions.of(c.id)
	switch {
	case here && n >= c.first && n <= c.next():
		if !waits || n < c.shown || n < c.next() && !c.resting {
			return replyNews, c.written(n, period), c.next(), nil
		}
		return replyLater, nil, n, c.wait(n)
	case from.complete.IsZero():
		return replySnapshot, nil, 0, nil
	}
	since := from.complete.Add(-elsewhere).UnixMicro()
	if since < c.since {
		return replySnapshot, nil, 0, nil
	}
	n = c.first + uint64(c.heardSince(since))
	return replyNews, c.written(n, period), c.next(), nil
}

// elsewhere is how far before a cursor's time another instance goes back. Their clocks may differ
// by as much.
const elsewhere = time.Minute

// written returns the changes from a number on.
func (c *changeLog) written(n uint64, period time.Duration) []byte {
	const most = 16
	if c.newsTo != c.next() || c.news == nil || len(c.news) >= most {
		c.news, c.newsTo = make(map[uint64][]byte), c.next()
	}
	lines, there := c.news[n]
	if !there {
		for _, ch := range c.changes[n-c.first:] {
			lines = appendDenial(lines, ch.key, ch.denial, ch.until-period.Microseconds())
		}
		c.news[n] = lines
	}
	return lines
}

func (c *changeLog) wait(n uint64) <-chan struct{} {
	if c.woken == nil {
		c.woken, c.oldest, c.waiting = make(chan struct{}), n, 0
	}
	c.oldest = min(c.oldest, n)
	c.waiting++
	return c.woken
}

// wake lets the followers that wait read again, and keeps the next ones waiting for a moment.
func (c *changeLog) wake() {
	rest := min(max(time.Duration(c.waiting)*restEach, minRest), maxRest)
	close(c.woken)
	c.woken = nil
	c.resting, c.shown = true, c.next()
	time.AfterFunc(rest, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.resting = false
		if c.woken != nil && c.oldest < c.next() {
			c.wake()
		}
	})
}

// number returns the number that the next change will have.
func (c *changeLog) number() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.next()
}

// has reports whether the changes from a number on are still there.
func (c *changeLog) has(n uint64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return n >= c.first && n <= c.next()
}

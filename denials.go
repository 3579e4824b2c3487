package tokensession

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"
)

// Denials say which sessions' access tokens are refused, to a process that verifies them and has no
// store. [Manager.Denials] makes them, and [AccessVerifier.Deny] takes them. Package sessionhttp
// carries them from one to the other over HTTP. Only a program that has another way to carry them
// needs to know this type.
type Denials struct {
	// Snapshot says that these are all. Otherwise they are what is new since the cursor that was
	// asked for.
	Snapshot bool

	// Cursor is what to ask for next: at most 1024 characters of base64url. Any instance of the
	// same store understands it. It is no secret.
	Cursor string

	// Age is how old the knowledge of the Manager was when it answered, and Waited for how long it
	// had kept the follower waiting by then.
	Age, Waited time.Duration

	// AccessTTL is how long an access token is accepted after its iat, whatever its exp. Keep is
	// how long after its time an entry matters. Both are in whole seconds.
	AccessTTL, Keep time.Duration

	// Entries has a line for each entry: the session's id, a space, and the time from which it
	// counts, in Unix seconds. If it ends there, the session is revoked. Otherwise a space and a
	// number follow, which may be negative: that many milliseconds after the time is the epoch
	// before which access tokens are outdated. A session may be there more than once, and then all
	// of it holds. The slice must not be written to.
	Entries []byte
}

// Denials returns what a follower has to know, from memory. With an empty cursor, that is all. If
// it is much, it may be what was known up to 10 seconds ago, and the next call tells the rest. With
// the cursor of an earlier answer, of this Manager or of another one on the same store, it is what
// the follower may not know yet. It waits until there is some of that, or the deadline of ctx has
// passed: then it returns a new cursor and no entries.
//
// The error is an [ErrUnavailable] until [Manager.Run] has read the feed, or if the store has none.
// Another error means that the cursor is malformed.
func (m *Manager) Denials(ctx context.Context, since string) (Denials, error) {
	from, err := parseCursor(since)
	if err != nil {
		return Denials{}, err
	}
	began := m.now()
	if from.complete.After(began.Add(elsewhere)) {
		from = cursor{} // of a clock that was ahead: nobody knows what it stands for
	}
	for waits := true; ; {
		now := m.now()
		read, full, err := m.known()
		if err != nil {
			return Denials{}, err
		}
		d := Denials{
			Age: max(now.Sub(read), 0), Waited: max(now.Sub(began), 0),
			AccessTTL: m.acceptancePeriod() - m.signer.cfg.Leeway,
			Keep:      time.Duration(seconds(m.denyPeriod().Microseconds())) * time.Second,
		}
		how, lines, next, woken := m.denied.changes.read(from, m.denyPeriod(), waits)
		switch how {
		case replyNews:
			d.Entries = lines
		case replySnapshot:
			d.Snapshot = true
			last := m.denied.snapshots.of(&m.denied, m.denyPeriod(), now, read, full)
			d.Entries, next, full = last.lines, last.next, last.full
			d.Age = max(now.Sub(last.read), 0)
		case replyLater:
			select {
			case <-woken:
			case <-ctx.Done():
				waits = false
				if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
					return Denials{}, unavailable("waiting for denials", ctx.Err())
				}
			}
			continue
		}
		d.Cursor = from.moved(m.denied.changes.id, next, full).String()
		return d, nil
	}
}

// known returns when the last good look at the feed began, and the last good full one.
func (m *Manager) known() (read, full time.Time, err error) {
	const doing = "telling followers"
	if _, ok := ability[RevocationFeed](m.store); !ok {
		err := fmt.Errorf("the store (%T) has no RevocationFeed", m.store)
		return read, full, unavailable(doing, err)
	}
	m.feed.mu.Lock()
	defer m.feed.mu.Unlock()
	if m.feed.full.IsZero() {
		return read, full, unavailable(doing,
			errors.New("Run has not read the revocation feed yet"))
	}
	return m.feed.read, m.feed.full, nil
}

// A writtenDenials is all that is denied at one time.
type writtenDenials struct {
	lines      []byte
	next       uint64    // the number of the first change that may not be in it
	read, full time.Time // when the last looks began that are in it, as feedState has them
	at         time.Time // zero: there is none
}

// A snapshotCache keeps the last snapshot for a moment. When an instance has started, all followers
// want one. A short one is kept only until there is something new, because it costs little, and is
// written at most once for each revocation: so whoever asks for everything gets what is known now.
type snapshotCache struct {
	mu   sync.Mutex // of the one that writes it, while the others wait
	last writtenDenials
}

const (
	keepSnapshot  = 10 * time.Second
	shortSnapshot = 32 << 10 // bytes: some 900 entries, which take less than a millisecond to write
)

// of returns a snapshot of a deny list as it is, or a long one as it was a moment ago. The follower
// is told the rest when it asks with the cursor that comes with it.
func (s *snapshotCache) of(
	list *denyList, period time.Duration, now, read, full time.Time,
) writtenDenials {
	s.mu.Lock()
	defer s.mu.Unlock()
	isNew := list.changes.number() != s.last.next
	if s.last.isOver(now) || s.last.isShort() && isNew || !list.changes.has(s.last.next) {
		// First the number: what is denied while this runs is in the snapshot, or comes after it.
		s.last = writtenDenials{next: list.changes.number(), read: read, full: full, at: now}
		list.each(now, func(k sessionKey, d denial, until int64) {
			s.last.lines = appendDenial(s.last.lines, k, d, until-period.Microseconds())
		})
	}
	return s.last
}

// forget drops a snapshot that is not given to anybody any more.
func (s *snapshotCache) forget(now time.Time) {
	if !s.mu.TryLock() { // it is in use
		return
	}
	defer s.mu.Unlock()
	if s.last.isOver(now) {
		s.last = writtenDenials{}
	}
}

func (w *writtenDenials) isOver(now time.Time) bool {
	age := now.Sub(w.at)
	return age < 0 || age > keepSnapshot
}

func (w *writtenDenials) isShort() bool { return len(w.lines) < shortSnapshot }

// appendDenial writes an entry of [Denials].
func appendDenial(b []byte, k sessionKey, d denial, at int64) []byte {
	var id [16]byte
	binary.BigEndian.PutUint64(id[:], k.hi)
	binary.BigEndian.PutUint64(id[8:], k.lo)
	b = base64.RawURLEncoding.AppendEncode(b, id[:])
	second := seconds(at)
	b = strconv.AppendInt(append(b, ' '), second, 10)
	if d < refused {
		b = strconv.AppendInt(append(b, ' '), int64(d)-second*1000, 10)
	}
	return append(b, '\n')
}

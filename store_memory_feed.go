package tokensession

import (
	"context"
	"slices"
	"sort"
	"sync"
	"time"
)

const (
	// feedPeriod is how long the contract wants a revocation to be told.
	feedPeriod = 24*time.Hour + 30*time.Minute

	feedPage = 1000 // how many are told at once
)

// A memoryFeed lists the revocations and outdatings, those of one second together and the seconds
// in order. Within a second they stay as they came: so a new one never moves the others, also if
// the clock of who revoked is behind. A second is dropped as a whole, and a place in one stays
// good.
type memoryFeed struct {
	mu      sync.Mutex
	seconds []*memorySecond // in ascending order
	held    int             // how many revocations
	tidied  int             // how many were left when it was last tidied

	added uint64        // how many revocations there were, ever
	told  uint64        // the same, when a caller of Notified that is no listener was last told
	news  chan struct{} // closed with the next one; nil: nobody waits
}

type memorySecond struct {
	second      int64
	expires     int64 // of the last one
	revocations []memoryRevocation
}

type memoryRevocation struct {
	id    string
	at    int64
	epoch uint64 // 0: revoked
}

// A memoryPlace is where in the feed somebody has got to.
type memoryPlace struct {
	second int64
	n      int // of this second's revocations have been told
}

// add lists rec, which e holds now, if it is revoked, or outdated since the epoch before. A revoked
// record is written no more, so that it is added once and its expiry is final. An outdated one
// lives on, and is listed for as long as the contract asks for.
func (f *memoryFeed) add(e *memoryEntry, rec Record, epochBefore uint64) {
	r, expires := memoryRevocation{id: e.id}, e.expires
	switch {
	case e.revoked:
		r.at = clampedMicros(rec.RevokedAt)
	case rec.Epoch > epochBefore:
		r.at, r.epoch, expires = clampedMicros(rec.OutdatedAt), rec.Epoch, maxMicros
	default:
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if now := writeTime(rec); !now.IsZero() {
		f.tidy(clampedMicros(now))
	}
	s := f.second(r.at / 1e6)
	s.revocations = append(s.revocations, r)
	s.expires = max(s.expires, expires)
	f.held++
	f.added++
	if f.news != nil {
		close(f.news)
		f.news = nil
	}
}

// second returns the list of a second, and makes it if there is none.
func (f *memoryFeed) second(second int64) *memorySecond {
	i := f.from(second)
	if i == len(f.seconds) || f.seconds[i].second != second {
		f.seconds = slices.Insert(f.seconds, i, &memorySecond{second: second})
	}
	return f.seconds[i]
}

// from returns the index of the first second that is not before the given one.
func (f *memoryFeed) from(second int64) int {
	return sort.Search(len(f.seconds), func(i int) bool { return f.seconds[i].second >= second })
}

// page appends some of the revocations at or after a time to page, from a place on, and returns the
// next place. There are none left if it appends none.
func (f *memoryFeed) page(
	page []Revocation, since int64, p memoryPlace,
) ([]Revocation, memoryPlace) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.seconds[f.from(p.second):] {
		if s.second != p.second {
			p = memoryPlace{second: s.second}
		}
		for _, r := range s.revocations[p.n:] {
			if len(page) == feedPage {
				return page, p
			}
			if p.n++; r.at >= since {
				page = append(page,
					Revocation{SessionID: r.id, At: fromMicros(r.at), Epoch: r.epoch})
			}
		}
	}
	return page, p
}

// tidy drops, each time that what is held has doubled, the seconds that need not be told any
// longer.
func (f *memoryFeed) tidy(now int64) {
	if f.held < 2*f.tidied+64 {
		return
	}
	f.seconds = slices.DeleteFunc(f.seconds, func(s *memorySecond) bool {
		over := s.expires <= now || (s.second+1)*1e6 <= now-feedPeriod.Microseconds()
		if over {
			f.held -= len(s.revocations)
		}
		return over
	})
	f.seconds = slices.Clip(f.seconds)
	f.tidied = f.held
}

// Revocations implements [RevocationFeed].
func (s *MemoryStore) Revocations(
	ctx context.Context, since time.Time, page func([]Revocation) error,
) error {
	from := clampedMicros(since)
	var some []Revocation // one piece of memory for all pages
	for place := (memoryPlace{second: from / 1e6}); ; {
		if err := ctx.Err(); err != nil {
			return err
		}
		if some, place = s.feed.page(some[:0], from, place); len(some) == 0 {
			return nil
		}
		if err := page(some); err != nil {
			return err
		}
	}
}

// A listener is how much of the news one Manager has been told. [Manager.Run] puts one into the
// context with which it calls Notified, because several Managers can have one MemoryStore, and each
// of them has to hear all. Callers without a listener share one, and each news is told to one of
// them.
type listener struct{ told uint64 }

type listenerKey struct{}

// listening returns a context for the calls of Notified by one Manager.
func listening(ctx context.Context) context.Context {
	return context.WithValue(ctx, listenerKey{}, &listener{})
}

// Notified implements [RevocationNotifier].
func (s *MemoryStore) Notified(ctx context.Context) error {
	told := &s.feed.told
	if l, ok := ctx.Value(listenerKey{}).(*listener); ok {
		told = &l.told
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		news := s.feed.since(told)
		if news == nil {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
		}
	}
}

// since returns nil if there is news that has not been told, which is told now, or else what is
// closed when there is.
func (f *memoryFeed) since(told *uint64) <-chan struct{} {
	f.mu.Lock()
	defer f.mu.Unlock()
	if *told != f.added {
		*told = f.added
		return nil
	}
	if f.news == nil {
		f.news = make(chan struct{})
	}
	return f.news
}

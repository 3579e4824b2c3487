package tokensession

import (
	"context"
	"errors"
	"sync"
)

// recent are the records that this Manager wrote last. A refresh of such a session needs no look at
// the store: it decides on the record here, and its write succeeds only if the store still has the
// same version, by the same write. So one call of the store is enough.
//
// A record here may be outdated at any moment. Therefore only the usual outcome is decided on it:
// the live token makes the next one live. If it is not that, or if the write finds another record,
// the refresh begins with a look at the store, as if nothing had been remembered.
//
// A record can be taken once. The call that takes it puts back what it has written. So of two tabs
// that come together one has the record, and the other one looks at the store.
//
// The records are spread over shards by session, so that refreshes of different sessions do not
// wait for each other. Each shard drops the record that was written first if it has too many.
type recent struct {
	perShard int
	shards   [64]recentShard
}

type recentShard struct {
	mu     sync.Mutex
	byID   map[string]*recentRecord
	oldest recentRecord // the head of a ring: next is the oldest, previous the newest
}

type recentRecord struct {
	record         Record
	next, previous *recentRecord
}

// newRecent returns room for about so many records, or for none.
func newRecent(size int) *recent {
	r := &recent{}
	if size > 0 {
		r.perShard = max(1, size/len(r.shards))
	}
	for i := range r.shards {
		s := &r.shards[i]
		s.byID = make(map[string]*recentRecord)
		s.oldest.next, s.oldest.previous = &s.oldest, &s.oldest
	}
	return r
}

// put remembers a record that is in the store now.
func (r *recent) put(rec Record) {
	if r.perShard == 0 {
		return
	}
	s := r.lock(rec.ID)
	defer s.mu.Unlock()
	if old := s.byID[rec.ID]; old != nil {
		if old.record.Version > rec.Version {
			return
		}
		s.remove(old)
	} else if len(s.byID) >= r.perShard {
		s.remove(s.oldest.next)
	}
	e := &recentRecord{rec, &s.oldest, s.oldest.previous}
	e.next.previous, e.previous.next = e, e
	s.byID[rec.ID] = e
}

// take returns the record of a session, and forgets it.
func (r *recent) take(sessionID string) (Record, bool) {
	if r.perShard == 0 {
		return Record{}, false
	}
	s := r.lock(sessionID)
	defer s.mu.Unlock()
	e := s.byID[sessionID]
	if e == nil {
		return Record{}, false
	}
	s.remove(e)
	return e.record, true
}

// lock returns the shard of a session, locked. A session id is base64url of a hash, so its first
// character spreads well.
func (r *recent) lock(sessionID string) *recentShard {
	s := &r.shards[sessionID[0]%64]
	s.mu.Lock()
	return s
}

func (s *recentShard) remove(e *recentRecord) {
	e.next.previous, e.previous.next = e.previous, e.next
	delete(s.byID, e.record.ID)
}

// byHeart returns the step of a call's first attempt, if it can be decided "by heart": on a record
// that this Manager remembers. It reports false if the attempt has to look at the store.
//
// That is so for everything but a rotation: a replay, an old token, a forged one, another client's,
// a session that has ended or has to end, and a session whose epoch has to go up. It is also so if
// the authorizer says no, because that ends the session. If the authorizer cannot tell, nothing has
// happened, and there is nothing to look for.
func (r *refresh) byHeart(ctx context.Context, so *attempts) (step, bool, error) {
	if so.n > 0 || r.proof != nil {
		return step{}, false, nil
	}
	rec, ok := r.recent.take(r.id)
	if !ok {
		return step{}, false, nil
	}
	boundTo, ok := r.madeFor(rec)
	if !ok || rec.ClientID != "" && rec.ClientID != r.options.clientID {
		return step{}, false, nil
	}
	p := r.presentation(rec, boundTo, snapshot{}, so)
	what := r.rules.decide(rec, p)
	if what != rotated || r.rules.epochAfter(what, rec, p) > rec.Epoch {
		return step{}, false, nil
	}
	s, err := r.grant(ctx, rec, what, p, so)
	switch {
	case errors.Is(err, ErrUnavailable):
		return step{}, false, err
	case err != nil, s.ends():
		return step{}, false, nil
	}
	so.guessed = true
	return s, true, nil
}

package tokensession

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"
)

const (
	pollInterval   = time.Second      // where nothing notifies
	notifiedPoll   = 10 * time.Second // in case a notification was lost
	notifierPause  = 5 * time.Second  // before a notifier that failed is asked again
	fullInterval   = time.Minute
	maxFullPause   = 10 * time.Minute
	feedTimeout    = 5 * time.Second // without a page
	maxUnreadables = 1000            // that are remembered as told

	// lateCommit is how long after its At a revocation may come to be seen, between two clocks that
	// agree. A write that was detached from its caller has so long. One that is later still is
	// found by the next full look.
	lateCommit = 5 * time.Second

	// costly is when a look takes so long that there should be less of it.
	costly   = time.Second / 4
	minReach = time.Second
)

// A feedState is what Run knows about the feed. Several goroutines of Run write it, and Healthy
// reads it.
type feedState struct {
	mu     sync.Mutex
	read   time.Time // when the last good look began; zero: none since Run began
	full   time.Time // the same of the last good full look
	failed [2]error  // of the last look, small and full
	stale  bool      // and the host was told so

	unreadable map[string]bool // what has been told; false: not seen since the last full look began
}

// The two kinds of looks.
const (
	small = iota
	full
)

// A follower keeps the deny list in step with the feed.
//
// It takes two kinds of looks. A small one goes back to the last good look and a little further,
// its reach. It is taken each interval, or when the store notifies of news. A full look goes back
// as far as anything can matter. It is taken at the start and every minute, because a commit can be
// later and a clock more wrong than the reach. It can take long, with a million revocations some
// seconds. So it runs beside the small ones, which go on meanwhile, and the more it costs the rarer
// it is.
//
// Where very much was revoked just now, small looks cost much, too. Then their reach shrinks.
type follower struct {
	*Manager
	store    RevocationFeed
	notified atomic.Bool // the store has a notifier, and it works

	reach time.Duration // of small looks

	// Of full looks. None is started while another one runs.
	running atomic.Bool
	began   time.Time    // when the last one was started; zero: none
	cost    atomic.Int64 // how long the last good one took
	beside  sync.WaitGroup
}

// follow looks at the feed until ctx ends.
func (m *Manager) follow(ctx context.Context, store RevocationFeed) {
	f := &follower{Manager: m, store: store, reach: m.feedOverlap()}
	defer f.beside.Wait()
	m.feed.begin()
	news := make(chan struct{})
	if notifier, ok := ability[RevocationNotifier](m.store); ok {
		f.notified.Store(true)
		f.beside.Go(func() { f.listen(listening(ctx), notifier, news) })
	}
	var looks pace
	for ctx.Err() == nil {
		select {
		case <-time.After(looks.take(f.now())):
		case <-ctx.Done():
			return
		}
		select {
		case <-news: // that came during the pause, so that this look finds it
		default:
		}
		next := time.After(m.feedInterval(f.notified.Load()))
		f.look(ctx)
		select {
		case <-next:
		case <-news:
		case <-ctx.Done():
		}
	}
}

func (m *Manager) feedInterval(notified bool) time.Duration {
	switch {
	case m.cfg.FeedInterval != 0:
		return m.cfg.FeedInterval
	case notified:
		return notifiedPoll
	default:
		return pollInterval
	}
}

// feedOverlap is how far before the last look a small one goes back: what it may have missed is by
// a clock that is behind, as much as the leeway allows for, or was committed late.
func (m *Manager) feedOverlap() time.Duration { return m.signer.cfg.Leeway + lateCommit }

// listen hands on what the store notifies of. It waits until that is taken, so that a storm of
// notifications, or a notifier that never blocks, makes no more looks than follow allows. A failure
// is handed on, too: what came meanwhile may be lost, and from now on follow has to poll.
func (f *follower) listen(ctx context.Context, notifier RevocationNotifier, news chan<- struct{}) {
	for ctx.Err() == nil {
		err := notifier.Notified(ctx)
		if ctx.Err() != nil {
			return
		}
		worked := f.notified.Swap(err == nil)
		if err != nil && worked {
			f.emit(ctx, Event{Kind: EventFeedPolled, Err: err})
		}
		if err == nil || worked {
			select {
			case news <- struct{}{}:
			case <-ctx.Done():
			}
		}
		if err != nil {
			select {
			case <-time.After(notifierPause):
			case <-ctx.Done():
			}
		}
	}
}

// look takes a small look, and begins a full one if that is due. A full look that costs little is
// taken instead of the small one.
func (f *follower) look(ctx context.Context) {
	now := f.now()
	f.denied.purge(now)
	read, failed := f.feed.last()
	if !f.running.Load() && f.fullIsDue(now, read, failed) {
		f.began = now
		f.running.Store(true)
		f.beside.Go(func() { f.fullLook(ctx, now) })
		if !failed && time.Duration(f.cost.Load()) < costly {
			return
		}
	}
	f.smallLook(ctx, read, now)
}

// fullIsDue also if the clock was put back: what is revoked while it goes over the same time again
// may have an earlier time than what was read last.
func (f *follower) fullIsDue(now, read time.Time, failed bool) bool {
	pause := max(fullInterval, min(10*time.Duration(f.cost.Load()), maxFullPause))
	return failed || f.began.IsZero() || now.Sub(f.began) >= pause ||
		now.Before(f.began) || now.Before(read)
}

func (f *follower) fullLook(ctx context.Context, now time.Time) {
	defer f.running.Store(false)
	f.feed.markUnreadable()
	err := f.pull(ctx, now.Add(-f.denyPeriod()))
	if err == nil {
		f.denied.changes.begin(&f.denied, f.denyPeriod(), f.feedOverlap(), f.now())
	}
	if f.done(ctx, full, now, err) {
		f.feed.forgetUnreadable()
		f.cost.Store(int64(max(f.now().Sub(now), 0)))
	}
}

func (f *follower) smallLook(ctx context.Context, read, now time.Time) {
	since := read
	if since.IsZero() || now.Before(since) { // no look was good yet, or the clock was put back
		since = now
	}
	if !f.done(ctx, small, now, f.pull(ctx, since.Add(-f.reach))) {
		return
	}
	switch took := f.now().Sub(now); {
	case took >= costly:
		f.reach = max(f.reach/2, minReach)
	case took < costly/4:
		f.reach = min(2*f.reach, f.feedOverlap())
	}
}

// done takes down what became of a look that began at a time, and reports whether it was good. The
// host is told when the first look fails, and when looks of both kinds are good again.
func (f *follower) done(ctx context.Context, kind int, began time.Time, err error) bool {
	if err != nil && ctx.Err() != nil { // the end of Run is no fault of the feed
		return false
	}
	if kind, since, tell := f.feed.note(kind, began, f.now(), err); tell {
		f.emit(ctx, Event{Kind: kind, Since: since, Err: err})
	}
	return err == nil
}

// note returns the event that there is to tell.
func (s *feedState) note(
	kind int, began, now time.Time, err error,
) (event EventKind, since time.Time, tell bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.full.IsZero()
	if !first { // before the first full look, nobody can rely on the others
		since = s.read
	}
	s.failed[kind] = err
	if err != nil {
		tell, s.stale = !s.stale, true
		return EventFeedStale, since, tell
	}
	if began.After(s.read) || now.Before(s.read) {
		s.read = began
	}
	if kind == full {
		s.full = began
	}
	if s.full.IsZero() || s.failed != [2]error{} {
		return "", since, false
	}
	tell, s.stale = s.stale || first, false
	return EventFeedFresh, since, tell
}

func (s *feedState) begin() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.read, s.full, s.failed, s.stale = time.Time{}, time.Time{}, [2]error{}, false
	s.unreadable = map[string]bool{}
}

// last returns when the last good look began, and whether the last full look failed.
func (s *feedState) last() (read time.Time, failed bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read, s.failed[full] != nil
}

var errFeedHangs = fmt.Errorf("nothing came for %v", feedTimeout)

// pull reads the feed and denies what it tells. Each page counts as soon as it is there, and a look
// goes on for as long as pages come.
func (f *follower) pull(ctx context.Context, since time.Time) error {
	reading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	hangs := time.AfterFunc(feedTimeout, func() { cancel(errFeedHangs) })
	defer hangs.Stop()
	err := f.store.Revocations(reading, since, func(page []Revocation) error {
		hangs.Reset(feedTimeout)
		now := f.now()
		for _, r := range page {
			f.heard(r, now)
			if r.At.IsZero() {
				f.tellUnreadable(ctx,
					fmt.Errorf("%w: session %s: when it was revoked; it is refused",
						ErrUnreadable, r.SessionID))
			}
		}
		return nil
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrUnreadable):
		for _, each := range unreadableParts(err) {
			f.tellUnreadable(ctx, each)
		}
		return nil
	case errors.Is(context.Cause(reading), errFeedHangs):
		err = errFeedHangs
	}
	return fmt.Errorf("reading the revocation feed: %w", err)
}

// unreadableParts takes apart what [errors.Join] has joined of several records.
func unreadableParts(err error) []error {
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	for _, each := range joined.Unwrap() {
		if each == ErrUnreadable || !errors.Is(each, ErrUnreadable) {
			return []error{err} // it is about one record, and tells more of it
		}
	}
	return joined.Unwrap()
}

// tellUnreadable tells the host of a record that cannot be read, once while that lasts.
func (f *follower) tellUnreadable(ctx context.Context, err error) {
	if f.feed.isNews(err.Error()) {
		f.emit(ctx, Event{Kind: EventUnreadable, Err: err})
	}
}

// isNews reports whether a fault has not been told. After very many it reports no more of them.
func (s *feedState) isNews(fault string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, told := s.unreadable[fault]
	if !told && len(s.unreadable) >= maxUnreadables {
		return false
	}
	s.unreadable[fault] = true
	return !told
}

// markUnreadable is for the beginning of a full look, and forgetUnreadable for its end: what no
// look has seen in between is in order again.
func (s *feedState) markUnreadable() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for fault := range s.unreadable {
		s.unreadable[fault] = false
	}
}

func (s *feedState) forgetUnreadable() {
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.DeleteFunc(s.unreadable, func(_ string, seen bool) bool { return !seen })
}

// nobodysID has the form of a session id, and no session ever has it.
const nobodysID = "AAAAAAAAAAAAAAAAAAAAAA"

// Healthy returns nil if Run keeps this Manager's deny list complete and the store answers now,
// else an [ErrUnavailable]. It is an error until the first look at the feed has come through:
// before, Verify accepts what was revoked while this process was not there. It is also an error if
// the feed could not be read lately. Of a store without a feed there is nothing to know, and it
// only has to answer.
//
// It is for a probe that keeps requests away from a process that is starting, and for an alarm. It
// is not for a readiness probe: Verify needs no store, so that a short outage of the store must not
// take all instances out of service at the same time.
//
// Each call loads a session that cannot exist. That costs one read and the store's confirmation,
// and shows that refreshes will work: a look at the feed would be answered by a replica, too.
func (m *Manager) Healthy(ctx context.Context) error {
	const doing = "checking health"
	if _, ok := ability[RevocationFeed](m.store); ok {
		// Three looks were missed, of which the last one may still be under way.
		maxAge := 3*m.feedInterval(true) + feedTimeout
		if err := m.feed.check(m.now(), maxAge); err != nil {
			return unavailable(doing, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, feedTimeout)
	defer cancel()
	if _, err := m.store.Load(ctx, nobodysID); err != nil && !errors.Is(err, ErrNotFound) {
		return unavailable(doing, err)
	}
	return nil
}

func (s *feedState) check(now time.Time, maxAge time.Duration) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.full.IsZero() && s.failed[full] == nil:
		return errors.New("Run has not read the revocation feed yet")
	case s.failed[full] != nil:
		return s.failed[full]
	case now.Sub(s.read) > maxAge:
		return fmt.Errorf("the revocation feed was last read at %v", s.read)
	}
	return nil
}

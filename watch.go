package tokensession

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// watchers are the contexts of open connections that end with their session's access.
//
// A connection that is open asks nothing, so that somebody has to tell it. The deny list does, each
// time when it denies a session more than before. And a timer does, when the access token's time is
// over. No connection has a goroutine here: a timer is an entry in the runtime's heap, and it has a
// goroutine only while it is being handled.
type watchers struct {
	some   atomic.Int64 // how many there are; while it is 0, nothing here takes a lock
	shards [watchShards]watchShard
}

const watchShards = 64

type watchShard struct {
	mu sync.Mutex
	of map[sessionKey]*watch // the first one of each session
}

// A watch is one of these contexts. Its shard's lock guards the fields from until on.
type watch struct {
	ctx     context.Context
	cancel  context.CancelCauseFunc
	watched watched
	session string // its id
	key     sessionKey
	epoch   uint64 // of the access token that the connection was opened with
	goesOn  bool   // it was made with UntilSessionEnds

	until time.Time // when it is reviewed, by the clock of what is watched
	timer *time.Timer
	next  *watch // of the same session
	gone  bool   // it has ended, or the host has cancelled it
}

// A watched is what verifies the access tokens of watches: a [Manager] or an [AccessVerifier].
type watched interface {
	now() time.Time
	denials() *denyList

	// review is asked when the access token's time is over, of a watch that goes on until its
	// session ends. It returns when to ask again, or why the session has ended. An
	// ErrUnavailable ends nothing.
	review(w *watch, now time.Time) (next time.Time, err error)
}

var errAccessOver = fmt.Errorf("%w: access token", ErrExpired)

// watchSession makes a context that is reviewed at a time, and registers it.
//
// It looks at the deny list only after that. So a revocation finds the context here, or the context
// finds the revocation there.
func watchSession(
	parent context.Context, of watched, a Access, until time.Time, goesOn bool,
) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(parent)
	w := &watch{
		ctx: ctx, cancel: cancel, watched: of, session: a.SessionID, key: keyOf(a.SessionID),
		epoch: a.epoch, goesOn: goesOn, until: until,
	}
	now := of.now()
	w.among().add(w, until.Sub(now))
	if err := w.refusal(now); err != nil {
		w.end(err)
	} else if !goesOn && !now.Before(until) {
		w.end(errAccessOver)
	}
	return ctx, w.release
}

func (s *watchers) shard(k sessionKey) *watchShard { return &s.shards[k.hi%watchShards] }

func (s *watchers) add(w *watch, after time.Duration) {
	shard := s.shard(w.key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if shard.of == nil {
		shard.of = make(map[sessionKey]*watch)
	}
	s.some.Add(1)
	w.next = shard.of[w.key]
	shard.of[w.key] = w
	w.timer = time.AfterFunc(after, w.due)
}

// remove takes a watch out, and stops its timer.
func (s *watchers) remove(w *watch) {
	shard := s.shard(w.key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if w.gone {
		return
	}
	w.gone = true
	w.timer.Stop()
	s.some.Add(-1)
	first := shard.of[w.key]
	if first == w {
		if w.next == nil {
			delete(shard.of, w.key)
		} else {
			shard.of[w.key] = w.next
		}
		return
	}
	for first.next != w {
		first = first.next
	}
	first.next = w.next
}

// denied ends the contexts of a session whose denial has just grown, where it refuses their access
// tokens.
func (s *watchers) denied(k sessionKey, now time.Time) {
	for _, w := range s.of(k) {
		if err := w.refusal(now); err != nil {
			w.end(err)
		}
	}
}

// renewed lets the contexts that go on until their session ends go on until a later time: a newer
// access token of the session was verified.
func (s *watchers) renewed(k sessionKey, until time.Time) {
	if s.some.Load() == 0 {
		return
	}
	shard := s.shard(k)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	for w := shard.of[k]; w != nil; w = w.next {
		if w.goesOn && until.After(w.until) {
			w.until = until // the timer looks at it when it fires
		}
	}
}

func (s *watchers) of(k sessionKey) []*watch {
	if s.some.Load() == 0 {
		return nil
	}
	shard := s.shard(k)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	var all []*watch
	for w := shard.of[k]; w != nil; w = w.next {
		all = append(all, w)
	}
	return all
}

func (w *watch) among() *watchers { return &w.watched.denials().watchers }

// refusal returns why the deny list refuses the connection's access token, or nil.
func (w *watch) refusal(now time.Time) error {
	if d := w.watched.denials().find(w.key, now); d > denial(w.epoch) {
		return d.refusal(w.session)
	}
	return nil
}

// release is what the host calls when it does not need the context any more.
func (w *watch) release() {
	w.cancel(context.Canceled)
	w.among().remove(w)
}

// end cancels the context with a cause.
func (w *watch) end(cause error) {
	w.cancel(cause)
	w.among().remove(w)
}

// due is called when the time of a watch may be over. The timer goes by the machine's clock and
// until by the host's, so that it may also be too early.
func (w *watch) due() {
	now := w.watched.now()
	switch until, gone := w.state(); {
	case gone:
	case w.ctx.Err() != nil: // the parent has ended, and the host has not called release yet
		w.among().remove(w)
	case now.Before(until):
		w.wait(until, now)
	case !w.goesOn:
		w.end(errAccessOver)
	default:
		next, err := w.watched.review(w, now)
		if err != nil {
			w.end(err)
			return
		}
		w.wait(next, now)
	}
}

func (w *watch) state() (until time.Time, gone bool) {
	shard := w.among().shard(w.key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	return w.until, w.gone
}

// wait sets the timer anew.
func (w *watch) wait(until, now time.Time) {
	shard := w.among().shard(w.key)
	shard.mu.Lock()
	defer shard.mu.Unlock()
	if w.gone {
		return
	}
	w.until = later(w.until, until)
	w.timer.Reset(max(w.until.Sub(now), time.Millisecond))
}

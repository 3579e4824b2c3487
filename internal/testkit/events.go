package testkit

import (
	"context"
	"slices"
	"sync"

	"github.com/seed67bc9b7f/tokensession"
)

// Events keeps what a Manager told its host. It is safe for concurrent use, and its zero value is
// ready.
//
// Refusals are kept apart, because they tell of no change: a session that has ended refuses its
// tokens as often as they come.
type Events struct {
	mu      sync.Mutex
	all     []tokensession.Event
	refused []tokensession.Event
}

// Add is for the field OnEvent of a Manager's config.
func (l *Events) Add(_ context.Context, e tokensession.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Kind == tokensession.EventRefused {
		l.refused = append(l.refused, e)
		return
	}
	l.all = append(l.all, e)
}

// TakeRefused returns the refusals that were told since the last TakeRefused.
func (l *Events) TakeRefused() []tokensession.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.refused
	l.refused = nil
	return taken
}

// All returns what was told but the refusals, oldest first.
func (l *Events) All() []tokensession.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.all)
}

// Take returns what was told since the last Take.
func (l *Events) Take() []tokensession.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	taken := l.all
	l.all = nil
	return taken
}

// Kinds returns the kinds of All.
func (l *Events) Kinds() []tokensession.EventKind { return kindsOf(l.All()) }

// TakeKinds returns the kinds of Take.
func (l *Events) TakeKinds() []tokensession.EventKind { return kindsOf(l.Take()) }

// Count returns how often a kind was told.
func (l *Events) Count(kind tokensession.EventKind) int {
	n := 0
	for _, k := range l.Kinds() {
		if k == kind {
			n++
		}
	}
	return n
}

func kindsOf(events []tokensession.Event) []tokensession.EventKind {
	var kinds []tokensession.EventKind
	for _, e := range events {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

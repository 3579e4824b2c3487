package sessiontest

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// A Clock is what a [World] takes for the time. It stands still until it is moved. It is safe for
// concurrent use.
type Clock struct {
	t      testing.TB
	bubble bool // then the time is that of package time

	mu  sync.Mutex
	now time.Time
}

func newClock(t testing.TB) *Clock {
	return &Clock{t: t, bubble: inBubble(), now: time.Now().UTC().Truncate(time.Second)}
}

// inBubble reports whether the caller runs in a bubble of testing/synctest. Wait panics if not, and
// there is no other way to ask.
func inBubble() (in bool) {
	defer func() { in = recover() == nil }()
	synctest.Wait()
	return true
}

// Now returns the time.
func (c *Clock) Now() time.Time {
	if c.bubble {
		return time.Now()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Advance moves the clock on. In a bubble it returns when all that the time has woken has been
// done.
func (c *Clock) Advance(d time.Duration) {
	c.t.Helper()
	switch {
	case d < 0:
		c.t.Fatalf("sessiontest: Advance(%v): time does not go back", d)
	case c.bubble:
		time.Sleep(d)
		synctest.Wait()
	default:
		c.mu.Lock()
		defer c.mu.Unlock()
		c.now = c.now.Add(d)
	}
}

package testkit

import (
	"sync"
	"time"
)

// Began is the time at which a new clock stands. It has nanoseconds, but a store keeps
// microseconds: a test notices a time that was not cut before it was compared.
var Began = time.Date(2026, 1, 2, 3, 4, 5, 678901234, time.UTC)

// A Clock stands still until it is moved. It is safe for concurrent use.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock that stands at [Began].
func NewClock() *Clock { return NewClockAt(Began) }

// NewClockAt returns a clock that stands at a time.
func NewClockAt(now time.Time) *Clock { return &Clock{now: now} }

// Now returns the time. It is for the field Now of the configs.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Set moves the clock to a time.
func (c *Clock) Set(now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = now
}

// Advance moves the clock on, or back if d is negative.
func (c *Clock) Advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// Passes returns the step that time passes while a call of the store is under way.
func (c *Clock) Passes(d time.Duration) Step { return Do(func() { c.Advance(d) }) }

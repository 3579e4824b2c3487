package manager_test

import (
	"math/rand/v2"
	"sync/atomic"
	"time"
)

// A stepClock is an instance's clock, which somebody sets wrong.
type stepClock struct {
	now func() time.Time
	off atomic.Int64
}

func (c *stepClock) Now() time.Time { return c.now().Add(time.Duration(c.off.Load())) }

// set sets the clock to be wrong by up to clockStep.
func (c *stepClock) set() { c.off.Store(rand.Int64N(2*int64(clockStep)+1) - int64(clockStep)) }

// now is the right time.
func (w *world) now() time.Time { return time.Now().Add(time.Duration(w.ahead.Load())) }

// leap lets the grace period pass for everybody, whatever the clocks, at a moment when nobody waits
// for an answer: so outages are over, and clients have what they have asked for.
func (w *world) leap() {
	w.gate.Lock()
	defer w.gate.Unlock()
	w.ahead.Add(int64(soakGrace + 2*clockStep + time.Second))
	w.leapMu.Lock()
	defer w.leapMu.Unlock()
	close(w.leapt)
	w.leapt = make(chan struct{})
	w.leaps.Add(1)
}

func (w *world) leapEvery(interval time.Duration, done <-chan struct{}) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			w.leap()
		}
	}
}

// awaitLeap returns when the grace period has passed. Not to be called while waiting for an answer.
func (w *world) awaitLeap() {
	w.leapMu.Lock()
	leapt := w.leapt
	w.leapMu.Unlock()
	<-leapt
}

// pause waits, up to a limit.
func pause(limit time.Duration) { <-time.After(rand.N(limit)) }

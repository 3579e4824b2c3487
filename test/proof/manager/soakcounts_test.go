package manager_test

import (
	"fmt"
	"strings"
	"sync/atomic"
	"time"
)

// soakCounts are what TestSoak has counted on one store.
type soakCounts struct {
	refreshes, replayed, unanswered, thefts, revocations, toldElsewhere, leaps atomic.Int64

	kills, oldMasters, lost, late, cuts, failed, locks, cancelled, steps, feedStale atomic.Int64 // faults

	falseLogouts, undetected, revived, refused, healed, stuck, others atomic.Int64 // what must not be

	goroutines, connections int // left over

	longest     longest // that a client waited for an answer
	slowestNews longest // of a revocation to the other instance
	told        atomic.Int64
}

// A longest is the longest of some times.
type longest struct{ nanos atomic.Int64 }

func (l *longest) raise(d time.Duration) {
	for {
		was := l.nanos.Load()
		if int64(d) <= was || l.nanos.CompareAndSwap(was, int64(d)) {
			return
		}
	}
}

func (l *longest) String() string {
	return fmt.Sprintf("%.1f s", time.Duration(l.nanos.Load()).Seconds())
}

// wrong counts what must not be, and tells of the first ones.
func (w *world) wrong(count *atomic.Int64, format string, args ...any) {
	count.Add(1)
	if w.told.Add(1) <= 20 {
		w.t.Errorf("after %v: "+format, append([]any{time.Since(w.began).Round(time.Millisecond)}, args...)...)
	}
}

const soakHeader = `| store | time | refreshes | answered again | calls without a verdict | kills | old masters | replies lost | replies late | connections cut | calls failed | locks held | calls cancelled | clock steps | longest wait | revocations | thefts | undetected thefts | false logouts | goroutines left | connections left |
|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|`

func (w *world) row() string {
	cells := []any{
		w.name, w.lasted.Round(time.Second), w.refreshes.Load(), w.replayed.Load(), w.unanswered.Load(),
		w.kills.Load(), w.oldMasters.Load(), w.lost.Load(), w.late.Load(), w.cuts.Load(), w.failed.Load(), w.locks.Load(), w.cancelled.Load(), w.steps.Load(),
		&w.longest, w.revocations.Load(), w.thefts.Load(),
		w.undetected.Load(), w.falseLogouts.Load(), w.goroutines, w.connections,
	}
	var b strings.Builder
	for _, cell := range cells {
		fmt.Fprintf(&b, "| %v ", cell)
	}
	return b.String() + "|"
}

// judge fails the test if something was that must not be, or if nothing was that a soak is for.
func (w *world) judge() {
	w.t.Helper()
	for what, n := range map[string]int64{
		"false logouts": w.falseLogouts.Load(), "undetected thefts": w.undetected.Load(), "revoked sessions that lived on": w.revived.Load(),
		"access tokens refused": w.refused.Load(), "sessions healed, by stores that lose nothing": w.healed.Load(),
		"calls without a verdict for as long as the grace period": w.stuck.Load(), "other errors": w.others.Load(),
		"goroutines left": int64(w.goroutines), "connections left": int64(w.connections),
	} {
		if n != 0 {
			w.t.Errorf("%d %s, want none", n, what)
		}
	}
	// In a short soak, time leaps so often that access tokens expire before anybody can be told.
	if told, all := w.toldElsewhere.Load(), w.revocations.Load(); w.lasted > 2*soakPatience && told < all/2 {
		w.t.Errorf("%d of %d revocations told to the other instance, want most", told, all)
	}
	for _, what := range w.missing() {
		w.t.Errorf("no %s: nothing was shown", what)
	}
}

// missing names what has to have happened and has not.
func (w *world) missing() (all []string) {
	for what, n := range map[string]int64{
		"refreshes": w.refreshes.Load(), "calls without a verdict": w.unanswered.Load(), "thefts": w.thefts.Load(), "revocations told to the other instance": w.toldElsewhere.Load(),
		"kills": w.kills.Load(), "connections cut": w.cuts.Load(), "replies lost": w.lost.Load(), "clock steps": w.steps.Load(), "leaps": w.leaps.Load(),
	} {
		if n == 0 {
			all = append(all, what)
		}
	}
	if _, ok := w.faults.(*failoverFaults); ok && w.oldMasters.Load() == 0 {
		all = append(all, "old masters")
	}
	return all
}

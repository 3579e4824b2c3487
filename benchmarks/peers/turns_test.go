package peers

import (
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A rival is one of those that take turns. What it does is done by workers, each with a number of
// its own, over and over.
type rival struct {
	name string
	do   func(worker, i int)
}

// A turn is short enough to be seldom interrupted on a machine that does other things, too. The
// garbage collector seldom runs in one, which is in favour of who allocates more.
const (
	turn  = 500 * time.Microsecond
	turns = 150
)

// takeTurns measures the rivals by turns, so that what else the machine is doing hits all alike,
// and reports the median of each one's turns: nanoseconds and allocations an operation, of one
// worker and of one for each core.
func takeTurns(b *testing.B, rivals []rival) {
	for _, workers := range slices.Compact([]int{1, runtime.GOMAXPROCS(0)}) {
		b.Run("workers="+strconv.Itoa(workers), func(b *testing.B) {
			meters := make([]*meter, len(rivals))
			for i, r := range rivals {
				meters[i] = &meter{rival: r, workers: workers}
				meters[i].calibrate()
			}
			for b.Loop() {
				for range turns {
					for _, m := range meters {
						m.times = append(m.times, m.run())
					}
				}
			}
			b.ReportMetric(0, "ns/op") // of all together: no use
			for _, m := range meters {
				m.report(b)
			}
		})
	}
}

type meter struct {
	rival
	workers int
	each    int // operations of a worker in a turn
	done    int
	times   []float64
}

func (m *meter) calibrate() {
	for m.each = 1; ; m.each *= 2 {
		begin := time.Now()
		m.run()
		if time.Since(begin) > turn*3/4 {
			return
		}
	}
}

// run returns the nanoseconds that an operation takes, all workers together.
func (m *meter) run() float64 {
	defer func() { m.done += m.each }()
	if m.workers == 1 {
		return float64(m.work(0)) / float64(m.each)
	}
	var arrived, elapsed atomic.Int64
	var all sync.WaitGroup
	for w := range m.workers {
		all.Go(func() {
			arrived.Add(1)
			for arrived.Load() < int64(m.workers) { // so that all have a core when they begin
				runtime.Gosched()
			}
			elapsed.Add(int64(m.work(w)))
		})
	}
	all.Wait()
	return float64(elapsed.Load()) / float64(m.each*m.workers*m.workers)
}

func (m *meter) work(worker int) time.Duration {
	begin := time.Now()
	for i := range m.each {
		m.do(worker, m.done+i)
	}
	return time.Since(begin)
}

func (m *meter) report(b *testing.B) {
	slices.Sort(m.times)
	b.ReportMetric(m.times[len(m.times)/2], m.name+"-ns/op")
	if m.workers > 1 {
		return
	}
	const n = 200
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for i := range n {
		m.do(0, m.done+i)
	}
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64((after.Mallocs-before.Mallocs)/n), m.name+"-allocs/op")
	b.ReportMetric(float64((after.TotalAlloc-before.TotalAlloc)/n), m.name+"-B/op")
}

package benchmarks

import (
	"slices"
	"sync"
	"time"
)

// timings are those of many operations.
type timings struct {
	each    []time.Duration
	elapsed time.Duration
}

func (t *timings) add(other timings) {
	t.each = append(t.each, other.each...)
	t.elapsed += other.elapsed
}

func (t *timings) percentile(p int) float64 {
	slices.Sort(t.each)
	return float64(t.each[len(t.each)*p/100])
}

func (t *timings) rate() float64 { return float64(len(t.each)) / t.elapsed.Seconds() }

// run repeats each operation in a goroutine of its own for a time.
func run(operations []func(), d time.Duration) (all timings) {
	var mu sync.Mutex
	var clients sync.WaitGroup
	begin := time.Now()
	for _, operation := range operations {
		clients.Go(func() {
			var each []time.Duration
			for t := time.Now(); t.Sub(begin) < d; {
				operation()
				next := time.Now()
				each = append(each, next.Sub(t))
				t = next
			}
			mu.Lock()
			defer mu.Unlock()
			all.each = append(all.each, each...)
		})
	}
	clients.Wait()
	all.elapsed = time.Since(begin)
	return all
}

package tokensession

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPace(t *testing.T) {
	const ms = time.Millisecond
	type look struct {
		after, waits time.Duration // since the look before; until this one may be taken
	}
	for name, looks := range map[string][]look{
		"the first ones after a quiet time are immediate": {{0, 0}, {0, 0}, {0, 0}, {0, 0}},
		"then one each 50 ms": {
			{0, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 50 * ms}, {0, 50 * ms}, {0, 50 * ms},
		},
		"time that a look has taken counts": {
			{0, 0}, {0, 0}, {0, 0}, {0, 0}, {20 * ms, 30 * ms}, {50 * ms, 0}, {10 * ms, 40 * ms},
		},
		"fewer than 20 a second never wait": {
			{0, 0}, {50 * ms, 0}, {51 * ms, 0}, {60 * ms, 0}, {50 * ms, 0}, {70 * ms, 0}, {50 * ms, 0},
		},
		"a short rest gives some of it back": {
			{0, 0}, {0, 0}, {0, 0}, {0, 0}, {120 * ms, 0}, {0, 0}, {0, 30 * ms},
		},
		"a long one all of it, and no more": {
			{0, 0}, {0, 0}, {0, 0}, {0, 0}, {time.Hour, 0}, {0, 0}, {0, 0}, {0, 0}, {0, 50 * ms},
		},
		"a clock that was put back delays no look": {
			{0, 0}, {-time.Hour, 0}, {0, 0}, {-time.Hour, 0}, {0, 50 * ms}, {time.Second, 0}, {0, 0},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var p pace
			now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
			for i, l := range looks {
				now = now.Add(l.after)
				require.Equal(t, l.waits, p.take(now), "look %d", i)
				now = now.Add(l.waits)
			}
		})
	}
}

// The clock of a host's test stands still while its Manager runs.
func TestPace_aClockThatStandsStill(t *testing.T) {
	var p pace
	now := time.Now()
	for i := range 100 {
		wait := p.take(now)
		require.LessOrEqual(t, wait, lookEach, "look %d", i)
		require.Equal(t, i < lookBurst, wait == 0, "look %d", i)
	}
}

// However news comes, the looks of a time are the burst and 20 a second.
func TestPace_isTheLimitOfAnyStorm(t *testing.T) {
	for each := time.Millisecond; each < 80*time.Millisecond; each += 3 * time.Millisecond {
		var p pace
		begin := time.Now()
		now, looks := begin, 0
		for ; now.Sub(begin) < 10*time.Second; looks++ {
			now = now.Add(p.take(now)).Add(each)
		}
		require.LessOrEqual(t, looks, 10*20+lookBurst, "a look that takes %v", each)
		require.GreaterOrEqual(t, looks, int(10*time.Second/max(each, lookEach))-1, "%v", each)
	}
}

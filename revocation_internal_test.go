package tokensession

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func (s *timedSet) size() int {
	n := 0
	s.ids.Range(func(any, any) bool {
		n++
		return true
	})
	return n
}

func TestTimedSet_holdsEachUntilItsTime(t *testing.T) {
	var s timedSet
	begin := decisionTime
	s.add("short", begin.Add(time.Second), begin)
	s.add("long", begin.Add(time.Hour), begin)
	require.False(t, s.has("another", begin))
	require.True(t, s.has("short", begin.Add(time.Second-time.Microsecond)))
	require.False(t, s.has("short", begin.Add(time.Second)))
	require.True(t, s.has("long", begin.Add(time.Hour-time.Microsecond)))
	s.add("long", begin.Add(2*time.Hour), begin.Add(30*time.Minute))
	require.True(t, s.has("long", begin.Add(time.Hour)))
}

// A clock that was a year ahead for a moment does not keep either from dropping what is over.
func TestPurge_goesOnAfterTheClockWasPutBack(t *testing.T) {
	now := decisionTime
	ahead := now.AddDate(1, 0, 0)
	var s timedSet
	var d deliveries
	doubt := func(id string, now time.Time) {
		d.send(id, sent(id, 1, now.Add(time.Minute)))
		d.leave(id, id, now)
	}
	s.add("ahead", ahead.Add(time.Minute), ahead)
	doubt("ahead", ahead)
	for i := range 1000 {
		now = now.Add(time.Second)
		s.add(fmt.Sprint(i), now.Add(time.Minute), now)
		doubt(fmt.Sprint("one shard ", i), now)
	}
	require.Less(t, s.size(), 125)
	require.Less(t, len(d['o'%64].doubts), 125)
}

// It holds no more than what matters and what a minute adds, however long the process runs.
func TestTimedSet_dropsWhatIsOver(t *testing.T) {
	var s timedSet
	now := decisionTime
	s.add("over", now, now)
	s.add("long over", now.Add(-time.Hour), now)
	require.Zero(t, s.size(), "what is over was added")
	largest := 0
	for i := range 3600 { // one a second, for five minutes each
		now = now.Add(time.Second)
		s.add(fmt.Sprint(i), now.Add(5*time.Minute), now)
		largest = max(largest, s.size())
		if i >= 299 {
			require.True(t, s.has(fmt.Sprint(i-299), now), "dropped too soon")
		}
	}
	require.InDelta(t, 330, largest, 35)
}

package sessionhttp

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

func (m *replays) size() (n int) {
	for i := range m.shards {
		n += len(m.shards[i].recent) + len(m.shards[i].before)
	}
	return n
}

var anytime = time.Unix(1767323045, 0)

// As long as a proof can be accepted it is remembered, and not much longer.
func TestReplays_rememberForTheirTime(t *testing.T) {
	require.Equal(t, 90*time.Second, replayPeriod)
	for _, began := range []time.Duration{0, time.Second, 89 * time.Second, 90 * time.Second,
		91 * time.Second, 179 * time.Second, time.Hour} {
		m := newReplays(minMemory)
		for i := range 100 { // in each shard, a generation begins now
			require.NoError(t, m.enter("key", fmt.Sprint("other ", i), anytime))
		}
		entered := anytime.Add(began)
		require.NoError(t, m.enter("key", "id", entered))
		for after := time.Duration(0); after < replayPeriod; after += 500 * time.Millisecond {
			require.ErrorIs(t, m.enter("key", "id", entered.Add(after)), errReplayed, "%v, %v", began, after)
		}
		require.NoError(t, m.enter("key", "id", entered.Add(2*replayPeriod)), "%v", began)
	}
}

func TestReplays_knowProofsByKeyAndID(t *testing.T) {
	m := newReplays(minMemory)
	require.NoError(t, m.enter("key", "id", anytime))
	require.ErrorIs(t, m.enter("key", "id", anytime), ErrInvalidProof)
	for _, other := range [][2]string{{"key", "ID"}, {"yek", "id"}, {"key", "id "}, {"key", ""}} {
		require.NoError(t, m.enter(other[0], other[1], anytime), other)
	}
}

// While there is no room, proofs are refused, and none is forgotten.
func TestReplays_failClosed(t *testing.T) {
	m := newReplays(minMemory)
	entered := 0
	for ; entered < 2*minMemory; entered++ {
		if err := m.enter("key", fmt.Sprint(entered), anytime); err != nil {
			require.ErrorIs(t, err, tokensession.ErrUnavailable)
			require.NotErrorIs(t, err, ErrInvalidProof, "the proof may be good")
			break
		}
	}
	require.Greater(t, entered, minMemory/3)
	require.Less(t, entered, minMemory)
	for i := range 10 * minMemory {
		_ = m.enter("key", fmt.Sprint("more ", i), anytime)
	}
	require.LessOrEqual(t, m.size(), minMemory)
	for _, moment := range []time.Duration{0, replayPeriod - 1} {
		for i := range entered {
			require.ErrorIs(t, m.enter("key", fmt.Sprint(i), anytime.Add(moment)), errReplayed)
		}
	}
	require.NoError(t, m.enter("key", fmt.Sprint(entered), anytime.Add(2*replayPeriod)),
		"there is room again")
}

// The two generations share the room.
func TestReplays_areNeverMoreThanThereIsRoomFor(t *testing.T) {
	m := newReplays(minMemory)
	for _, moment := range []time.Duration{0, replayPeriod, 2 * replayPeriod, 3 * replayPeriod} {
		for i := range 2 * minMemory {
			_ = m.enter("key", fmt.Sprint(moment, i), anytime.Add(moment))
		}
		require.LessOrEqual(t, m.size(), minMemory, moment)
	}
}

func TestReplays_areEvenlySpread(t *testing.T) {
	const memory = defaultMemory / 16
	m := newReplays(memory)
	for i := range memory * 8 / 10 { // with 9/10, one of 64 shards is full once in 40 times
		if err := m.enter("key", fmt.Sprint(i), anytime); err != nil {
			t.Fatal(i, err)
		}
	}
}

func TestReplays_forgetWhatIsOld(t *testing.T) {
	m := newReplays(defaultMemory)
	now := anytime
	for i := range 10_000 { // a hundred in each second
		require.NoError(t, m.enter("key", fmt.Sprint(i), now))
		now = now.Add(10 * time.Millisecond)
	}
	for i := range 20_000 {
		require.NoError(t, m.enter("key", fmt.Sprint("more ", i), now))
		now = now.Add(10 * time.Millisecond)
	}
	require.LessOrEqual(t, m.size(), 18_100)
}

// A clock that is put back does not fill the memory, and nothing of the last period is forgotten.
func TestReplays_whereTheClockIsPutBack(t *testing.T) {
	m := newReplays(minMemory)
	require.NoError(t, m.enter("key", "id", anytime))
	back := anytime.Add(-time.Hour)
	require.ErrorIs(t, m.enter("key", "id", back), errReplayed)
	for i := range 10 * minMemory {
		back = back.Add(time.Second)
		require.NoError(t, m.enter("key", fmt.Sprint(i), back))
	}
	require.Less(t, m.size(), minMemory/2)
}

func TestReplays_acceptOneOfMany(t *testing.T) {
	m := newReplays(defaultMemory)
	for i := range 200 {
		var good atomic.Int64
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				if m.enter("key", fmt.Sprint(i), anytime) == nil {
					good.Add(1)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 1, good.Load())
	}
}

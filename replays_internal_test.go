package tokensession

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestReplayLog_countsGenerationsInARow(t *testing.T) {
	var l replayLog
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	alice, bob := sessionKey{1, 1}, sessionKey{2, 2}
	for _, step := range []struct {
		k          sessionKey
		generation uint64
		after      time.Duration
		want       int
	}{
		{alice, 4, 0, 1},
		{alice, 4, time.Second, 1}, // a third tab
		{alice, 5, time.Minute, 2},
		{bob, 6, 0, 1},
		{alice, 5, time.Second, 2}, // a third tab makes a row neither longer nor shorter
		{alice, 6, time.Minute, 3},
		{alice, 8, time.Minute, 1}, // 7 was not replayed
		{alice, 9, 24 * time.Hour, 1},
		{alice, 10, 24*time.Hour - 1, 2},
		{alice, 3, 0, 1}, // after a failover
	} {
		now = now.Add(step.after)
		require.Equal(t, step.want, l.add(step.k, step.generation, now), "%+v", step)
	}
}

func TestReplayLog_isBounded(t *testing.T) {
	var l replayLog
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	shard := &l.shards[1]
	row := sessionKey{hi: 1} // all are in one shard
	for i := range uint64(3 * maxReplayRows) {
		l.add(sessionKey{hi: 1 + replayShards, lo: i}, 0, now)
		if i < 10 {
			require.Equal(t, int(i)+1, l.add(row, i, now))
		}
		require.LessOrEqual(t, len(shard.sessions), maxReplayRows)
	}
	require.Equal(t, 11, l.add(row, 10, now), "a long row outlives the short ones")
	for i := range uint64(3 * maxReplayRows) { // rows of two, which are not made room of first
		l.add(sessionKey{hi: 1 + 2*replayShards, lo: i}, 0, now)
		l.add(sessionKey{hi: 1 + 2*replayShards, lo: i}, 1, now)
		require.LessOrEqual(t, len(shard.sessions), maxReplayRows)
	}
}

package tokensession

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDoubts_takeNoMoreHoweverLongAnOutageLasts(t *testing.T) {
	var d doubts
	now := time.Unix(1_700_000_000, 0)
	end := now.Add(7 * 24 * time.Hour)
	d.add("s", "applied", end, now, now)
	for n := range 10_000 {
		now = now.Add(5 * time.Second)
		require.True(t, d.found("s", "applied", now), "the write that is in the store was forgotten")
		d.add("s", fmt.Sprint(n), end, now, now)
		require.LessOrEqual(t, len(d.sessions["s"].writes), 13, "writes of one session, of which one is sent each 5 seconds")
	}
	require.True(t, d.found("s", "9990", now), "a write that may still be on its way")
	require.False(t, d.found("s", "9980", now))
	require.False(t, d.found("other", "9990", now))
}

// A client that tries again at once, over and over, makes a refresh no slower. What was sent first stays known: that is
// what the store has, if anything.
func TestDoubts_takeNoMoreHoweverOftenAClientTries(t *testing.T) {
	var d doubts
	now := time.Unix(1_700_000_000, 0)
	for n := range 10_000 {
		d.add("s", fmt.Sprint(n), now.Add(time.Hour), now, now)
	}
	require.Len(t, d.sessions["s"].writes, maxDoubtful)
	for _, id := range []string{"0", "50", "9999"} {
		require.True(t, d.found("s", id, now), id)
	}
	require.False(t, d.found("s", "5000", now))
}

// What the store has stays known however many others follow, also where it was one of the last.
func TestDoubts_keepWhatTheStoreHas(t *testing.T) {
	var d doubts
	now := time.Unix(1_700_000_000, 0)
	add := func(id string) { d.add("s", id, now.Add(time.Hour), now, now) }
	for n := range maxDoubtful - 1 {
		add(fmt.Sprint(n))
	}
	add("applied")
	for n := range 500 {
		require.True(t, d.found("s", "applied", now), n)
		add(fmt.Sprint("later ", n))
	}
}

func TestUnderWay(t *testing.T) {
	var u underWay
	for n := range 200 {
		u.add(fmt.Sprint("write ", n))
	}
	u.give("write 7")
	u.give("another")
	u.give("")
	require.True(t, u.has("write 7"))
	require.False(t, u.has("another"))
	require.False(t, u.has(""))
	for n := range 200 {
		require.Equal(t, n == 7, u.remove(fmt.Sprint("write ", n)))
	}
	for i := range u {
		require.Empty(t, u[i].writes)
	}
}

func TestDoubts_endWithTheSession(t *testing.T) {
	var d doubts
	now := time.Unix(1_700_000_000, 0)
	d.add("short", "w", now.Add(time.Hour), now, now)
	d.add("long", "w", now.Add(3*time.Hour), now, now)
	now = now.Add(2 * time.Hour)
	d.add("other", "w", now.Add(time.Hour), now, now)
	require.Len(t, d.sessions, 2)
	require.True(t, d.found("long", "w", now))
	d.settle("long")
	require.False(t, d.found("long", "w", now))
}

// Instances tell of one revocation with different times: the later one counts.
func TestTimedSet_isNeverShortened(t *testing.T) {
	var s timedSet
	now := time.Unix(1_700_000_000, 0)
	s.add("id", now.Add(10*time.Second), now)
	s.add("id", now.Add(5*time.Second), now)
	require.True(t, s.has("id", now.Add(9*time.Second)))
	s.add("id", now.Add(20*time.Second), now)
	require.True(t, s.has("id", now.Add(19*time.Second)))
	require.False(t, s.has("id", now.Add(20*time.Second)))
}

package tokensession

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDeliveries(t *testing.T) {
	now := decisionTime
	end := now.Add(7 * 24 * time.Hour)
	sends := func(call string, generation uint64) func(*deliveries) {
		return func(d *deliveries) {
			begun(d, call, "s")
			d.send(call, sent("s", generation, end))
		}
	}
	begins := func(call string) func(*deliveries) {
		return func(d *deliveries) { d.begin("s", call) }
	}
	withdraws := func(call string) func(*deliveries) {
		return func(d *deliveries) { d.withdraw("s", call) }
	}
	leaves := func(call string) func(*deliveries) {
		return func(d *deliveries) { d.leave("s", call, now) }
	}
	delivers := func(generation uint64) func(*deliveries) {
		return func(d *deliveries) { d.deliver("s", generation) }
	}
	deliversElsewhere := func(generation uint64) func(*deliveries) {
		return func(d *deliveries) { d.deliver("s2 in the same shard", generation) }
	}
	type story []func(*deliveries)
	for _, c := range []struct {
		name  string
		story story
		want  [4]author // of the generations 0 to 3
	}{
		{"nothing is known", nil, [4]author{}},
		{"a call runs", story{sends("a", 1)}, [4]author{1: running}},
		{"the call that asks does not count", story{sends("asking", 1)}, [4]author{}},
		{"a call has sent two generations", story{sends("a", 1), sends("a", 3)}, [4]author{1: running, 2: running, 3: running}},
		{"a call has returned, and its client has the answer", story{sends("a", 1), delivers(1), leaves("a")}, [4]author{}},
		{"a call was refused", story{sends("a", 1), withdraws("a")}, [4]author{}},
		{"a call was refused, and has returned", story{sends("a", 1), withdraws("a"), leaves("a")}, [4]author{}},
		{"a call was refused, and sends again", story{sends("a", 1), withdraws("a"), sends("a", 2)}, [4]author{2: running}},
		{"what a call made was got, and it has made another since", story{sends("a", 1), delivers(1), sends("a", 2), leaves("a")}, [4]author{2: undelivered}},
		{"somebody got it before the call sent it", story{begins("a"), delivers(1), sends("a", 1), leaves("a")}, [4]author{}},
		{"somebody got it, and then the call displaced it", story{begins("a"), delivers(1), sends("a", 1), sends("a", 2), leaves("a")}, [4]author{2: undelivered}},
		{"somebody got it, and an older one after that", story{sends("a", 2), delivers(2), delivers(1), leaves("a")}, [4]author{}},
		{"it made the same one again", story{sends("a", 1), delivers(1), sends("a", 1), leaves("a")}, [4]author{}},
		{"a call gave up", story{sends("a", 1), leaves("a")}, [4]author{1: undelivered}},
		{"a call that sent nothing gave up", story{leaves("a")}, [4]author{}},
		{"one gave up, another runs", story{sends("a", 1), sends("b", 1), leaves("a")}, [4]author{1: running}},
		{"one gave up, the other returned", story{sends("a", 1), sends("b", 1), leaves("a"), leaves("b")}, [4]author{1: undelivered}},
		{"two gave up", story{sends("a", 1), leaves("a"), sends("b", 3), leaves("b")}, [4]author{1: undelivered, 2: undelivered, 3: undelivered}},
		{"two gave up, in the other order", story{sends("b", 3), leaves("b"), sends("a", 1), leaves("a")}, [4]author{1: undelivered, 2: undelivered, 3: undelivered}},
		{"another tab got it, and then its call gave up", story{sends("a", 1), delivers(1), leaves("a")}, [4]author{}},
		{"another tab got it, and its call runs on", story{sends("a", 1), delivers(1)}, [4]author{1: running}},
		{"another tab got the one before, and then its call gave up", story{sends("a", 2), delivers(1), leaves("a")}, [4]author{2: undelivered}},
		{"its call gave up, and then another tab got it", story{sends("a", 1), leaves("a"), delivers(1)}, [4]author{}},
		{"a later one was got", story{sends("a", 1), leaves("a"), delivers(3)}, [4]author{}},
		{"an earlier one was got", story{sends("a", 2), leaves("a"), delivers(1)}, [4]author{2: undelivered}},
		{
			"somebody got a token of another session",
			story{sends("a", 1), deliversElsewhere(1), leaves("a")}, [4]author{1: undelivered},
		},
		{"one of several was got", story{sends("a", 1), leaves("a"), sends("b", 3), leaves("b"), delivers(1)}, [4]author{2: undelivered, 3: undelivered}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var d deliveries
			for _, step := range c.story {
				step(&d)
			}
			for n, want := range c.want {
				require.Equal(t, want, d.look("s", "asking").author(uint64(n)), "generation %d", n)
				require.Equal(t, settled, d.look("s2 in the same shard", "asking").author(uint64(n)))
			}
		})
	}
}

// begun begins a call, unless that was done before.
func begun(d *deliveries, call, session string) {
	if d[session[0]%64].find(call) < 0 {
		d.begin(session, call)
	}
}

// sent is a record that a call writes.
func sent(session string, generation uint64, end time.Time) Record {
	return Record{ID: session, Generation: generation, ExpiresAt: end}
}

// However long an outage lasts, and however often a client tries, a session takes one entry.
func TestDeliveries_takeOneEntryASession(t *testing.T) {
	var d deliveries
	now := decisionTime
	for n := range 10_000 {
		call := fmt.Sprint(n)
		begun(&d, call, "s")
		d.send(call, sent("s", 1, now.Add(time.Hour)))
		d.leave("s", call, now)
	}
	require.Equal(t, undelivered, d.look("s", "").author(1))
	require.Len(t, d['s'%64].doubts, 1)
	require.Empty(t, d['s'%64].running)
}

func TestDeliveries_keepNoCallThatHasReturned(t *testing.T) {
	var d deliveries
	for n := range 200 {
		d.begin(fmt.Sprint(n), fmt.Sprint("call ", n))
		d.send(fmt.Sprint("call ", n), sent(fmt.Sprint(n), 1, at(time.Hour)))
	}
	for n := range 200 {
		require.Equal(t, running, d.look(fmt.Sprint(n), "").author(1))
		d.deliver(fmt.Sprint(n), 1)
		d.leave(fmt.Sprint(n), fmt.Sprint("call ", n), decisionTime)
		require.Equal(t, settled, d.look(fmt.Sprint(n), "").author(1))
	}
	for i := range d {
		require.Empty(t, d[i].running)
	}
}

func TestDeliveries_endWithTheSession(t *testing.T) {
	var d deliveries
	now := decisionTime
	doubt := func(session string, until ...time.Time) { // of one call, which sends so often
		for _, end := range until {
			begun(&d, session, session)
			d.send(session, sent(session, 1, end))
		}
		d.leave(session, session, now)
	}
	doubt("same shard, short", now.Add(time.Hour))
	doubt("same shard, long", now.Add(3*time.Hour))
	doubt("same shard, long", now.Add(time.Minute)) // the later end counts
	doubt("same shard, sent twice", now.Add(time.Minute), now.Add(3*time.Hour))
	doubt("same shard, sent twice by a clock put back", now.Add(3*time.Hour), now.Add(time.Minute))
	now = now.Add(2 * time.Hour)
	doubt("same shard, other", now.Add(time.Hour))
	require.Len(t, d['s'%64].doubts, 4)
	require.NotContains(t, d['s'%64].doubts, "same shard, short")
}

// A call whose first write was perhaps lost makes a later generation, too. If somebody gets the
// first one, that says nothing of the last.
func TestDeliveries_ofACallThatHasWrittenTwice(t *testing.T) {
	var d deliveries
	now := decisionTime
	begun(&d, "a", "s")
	d.send("a", sent("s", 1, now.Add(time.Hour)))
	begun(&d, "a", "s")
	d.send("a", sent("s", 3, now.Add(time.Hour)))
	d.deliver("s", 1)
	d.leave("s", "a", now)
	require.Equal(t, undelivered, d.look("s", "").author(3))
}

// All doubts of a shard are looked through once a minute. In an outage each refresh leaves one.
func TestDeliveries_arePurgedOnceAMinute(t *testing.T) {
	for name, before := range map[string]time.Duration{
		"": 0, "after a clock was put back": 365 * 24 * time.Hour,
	} {
		t.Run(name, func(t *testing.T) {
			var d deliveries
			doubt := func(session string, since, lasts time.Duration) int {
				now := at(since)
				begun(&d, session, session)
				d.send(session, sent(session, 1, now.Add(lasts)))
				d.leave(session, session, now)
				return len(d['s'%64].doubts)
			}
			if before > 0 {
				doubt("s: by the wrong clock", before, -before) // it is over when the clock is right
			}
			require.Equal(t, 1, doubt("s1", 0, time.Second))
			require.Equal(t, 2, doubt("s2", time.Minute-us, time.Hour), "it is not time to look")
			require.Equal(t, 2, doubt("s3", time.Minute, time.Hour))
			require.Equal(t, settled, d.look("s1", "").author(1))
		})
	}
}

func TestWriteID_namesTheManagerThatMadeTheGeneration(t *testing.T) {
	ours, theirs := &Manager{name: newManagerName()}, &Manager{name: newManagerName()}
	require.NotEqual(t, ours.name, theirs.name)
	seen := map[string]bool{}
	for range 1000 {
		one, two := ours.newWriteIDs()
		for _, id := range []string{one, two, ours.newWriteID(), renameWrite(one)} {
			require.True(t, isSessionID(id), "22 characters of base64url: %q", id)
			require.False(t, seen[id], "twice")
			seen[id] = true
			require.True(t, ours.made(Record{WriteID: id}))
			require.False(t, theirs.made(Record{WriteID: id}))
		}
	}
	one, two := ours.newWriteIDs()
	require.True(t, sameCall(one, renameWrite(renameWrite(one))))
	require.False(t, sameCall(one, two))
	require.False(t, sameCall(one, ours.newWriteID()))
	for _, short := range []string{"", one[:callNameSize], one + "x"} {
		require.False(t, sameCall(short, short), "of no call")
	}
	require.False(t, ours.made(Record{}), "a record that no Manager wrote")
	for _, foreign := range []string{"", "short", strings.Repeat("x", 23)} {
		require.True(t, isSessionID(renameWrite(foreign)))
		require.False(t, ours.made(Record{WriteID: renameWrite(foreign)}))
	}
}

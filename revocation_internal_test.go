package tokensession

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func (l *denyList) size() int {
	n := 0
	for i := range l.shards {
		n += l.shards[i].count
	}
	return n
}

// deniedID returns the n-th of many session ids, spread as session ids are.
func deniedID(n int) string {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	return encodeID(sum[:16])
}

func TestDenyList_holdsEachUntilItsTime(t *testing.T) {
	var l denyList
	begin := decisionTime
	short, long := keyOf(deniedID(1)), keyOf(deniedID(2))
	l.add(short, forGood, begin.Add(time.Second), begin)
	l.add(long, forGood, begin.Add(time.Hour), begin)
	has := func(k sessionKey, at time.Time) bool { return l.find(k, at) == forGood }
	require.False(t, has(keyOf(deniedID(3)), begin))
	require.True(t, has(short, begin.Add(time.Second-time.Microsecond)))
	require.False(t, has(short, begin.Add(time.Second)))
	require.True(t, has(long, begin.Add(time.Hour-time.Microsecond)))
	l.add(long, forGood, begin.Add(2*time.Hour), begin.Add(30*time.Minute))
	require.True(t, has(long, begin.Add(time.Hour)))
	l.add(long, forGood, begin.Add(time.Hour), begin.Add(30*time.Minute))
	require.True(t, has(long, begin.Add(time.Hour)), "an earlier time shortened it")
}

// Whatever else is heard of a session, one that is known to be revoked stays that.
func TestDenyList_theGreaterDenialHolds(t *testing.T) {
	now := decisionTime
	all := []denial{1, 2, 1 << 40, refused, forGood}
	for _, first := range all {
		for _, second := range all {
			var l denyList
			k := keyOf(deniedID(1))
			l.add(k, first, now.Add(2*time.Minute), now)
			l.add(k, second, now.Add(time.Minute), now)
			require.Equal(t, max(first, second), l.find(k, now.Add(2*time.Minute-1)), "%d, %d", first, second)
		}
	}
}

// What is no session id of this package's is passed over, and so is a second spelling of one.
func TestDenyList_passesOverWhatIsNoSessionID(t *testing.T) {
	id := deniedID(1)
	for _, foreign := range []string{
		"", "foreign", id[1:], id + "A", id[:21] + "=", id[:21] + "\n", id[:20] + "\r\n",
		id[:21] + string(id[21]+1), // the same bytes, with a stray bit
		"AAAAAAAAAAAAAAAAAAAAAA",
	} {
		var l denyList
		require.Zero(t, keyOf(foreign), "%q", foreign)
		l.add(keyOf(foreign), forGood, decisionTime.Add(time.Hour), decisionTime)
		require.Zero(t, l.size(), "%q", foreign)
		require.Zero(t, l.find(keyOf(foreign), decisionTime))
	}
	require.NotZero(t, keyOf(id))
	require.NotEqual(t, keyOf(id), keyOf(deniedID(2)))
}

// A clock that was a year ahead for a moment does not keep either from dropping what is over.
func TestPurge_goesOnAfterTheClockWasPutBack(t *testing.T) {
	now := decisionTime
	ahead := now.AddDate(1, 0, 0)
	var l denyList
	var d deliveries
	doubt := func(id string, now time.Time) {
		d.begin(id, id)
		d.send(id, sent(id, 1, now.Add(time.Minute)))
		d.leave(id, id, now)
	}
	l.add(keyOf(deniedID(-1)), forGood, ahead.Add(time.Minute), ahead)
	doubt("ahead", ahead)
	for i := range 1000 {
		now = now.Add(time.Second)
		l.add(keyOf(deniedID(i)), forGood, now.Add(time.Minute), now)
		doubt(fmt.Sprint("one shard ", i), now)
	}
	require.Less(t, l.size(), 125)
	require.Less(t, len(d['o'%64].doubts), 125)
}

// A clock that is a year ahead for a moment has nothing dropped that is needed when it is right
// again.
func TestPurge_keepsWhatIsNeededWhenTheClockWasAheadForAMoment(t *testing.T) {
	now := decisionTime
	var l denyList
	for i := range 5000 {
		l.add(keyOf(deniedID(i)), forGood, now.Add(time.Hour), now)
	}
	for i := range 10_000 { // so many, that tables grow meanwhile
		ahead := now.AddDate(1, 0, 0).Add(time.Duration(i) * time.Millisecond)
		l.add(keyOf(deniedID(-i)), forGood, ahead.Add(time.Hour), ahead)
	}
	for i := range 10_000 { // and after it was put right
		l.add(keyOf(deniedID(-20_000-i)), forGood, now.Add(time.Hour), now)
	}
	for i := range 5000 {
		require.Equal(t, forGood, l.find(keyOf(deniedID(i)), now.Add(time.Minute)))
	}
}

// It holds no more than what matters and what a minute adds, however long the process runs.
func TestDenyList_dropsWhatIsOver(t *testing.T) {
	var l denyList
	now := decisionTime
	l.add(keyOf(deniedID(-1)), forGood, now, now)
	l.add(keyOf(deniedID(-2)), forGood, now.Add(-time.Hour), now)
	require.Zero(t, l.size(), "what is over was added")
	largest := 0
	for i := range 3600 { // one a second, for five minutes each
		now = now.Add(time.Second)
		l.add(keyOf(deniedID(i)), forGood, now.Add(5*time.Minute), now)
		largest = max(largest, l.size())
		if i >= 299 {
			require.Equal(t, forGood, l.find(keyOf(deniedID(i-299)), now), "dropped too soon")
		}
	}
	require.InDelta(t, 330, largest, 35)
	l.purge(now.Add(time.Hour))
	l.purge(now.Add(time.Hour + purgeInterval))
	require.Zero(t, l.size())
}

// An entry takes no more than 120 bytes, whatever the number of them makes the tables' sizes.
func TestDenyList_takesLittleMemory(t *testing.T) {
	var l denyList
	now := decisionTime
	for n := 1; n <= 300_000; n++ {
		l.add(keyOf(deniedID(n)), forGood, now.Add(time.Hour), now)
		if n < 20_000 || n%5000 != 0 {
			continue
		}
		slots := 0
		for i := range l.shards {
			slots += len(l.shards[i].table.Load().slots)
		}
		require.LessOrEqual(t, slots*32, 120*n, "%d entries", n)
	}
}

// Each byte string is a story of what is added when, and what is found is compared with a map.
func FuzzDenyList(f *testing.F) {
	f.Add([]byte("a deny list and a map tell the same"))
	r := rand.New(rand.NewPCG(1, 2))
	for range 20 {
		story := make([]byte, 600)
		for i := range story {
			story[i] = byte(r.Uint32())
		}
		f.Add(story)
	}
	f.Fuzz(func(t *testing.T, story []byte) { tellDenyList(t, story) })
}

func tellDenyList(t *testing.T, story []byte) {
	type entry struct {
		until time.Time
		d     denial
	}
	var l denyList
	model := map[sessionKey]entry{}
	now := decisionTime
	denials := []denial{1, 2, 3, refused, forGood}
	for ; len(story) >= 3; story = story[3:] {
		// All keys are in two shards, so that their tables are copied often.
		k := sessionKey{hi: uint64(story[0]%2) + 1, lo: uint64(story[0]) % 61}
		d := denials[int(story[1])%len(denials)]
		until := now.Add(time.Duration(story[2]) * time.Second)
		if old := model[k]; old.until.After(now) {
			d = max(d, old.d) // what the list will hold
		}
		if until.After(now) {
			l.add(k, denials[int(story[1])%len(denials)], until, now)
			// An entry that was over may or may not have been dropped by then.
			if found := l.find(k, now); found != d {
				require.Equal(t, max(d, model[k].d), found)
				d = found
			}
			if old := model[k]; old.until.After(until) {
				until = old.until
			}
			model[k] = entry{until, d}
		}
		now = now.Add(time.Duration(story[1]) * time.Duration(story[2]) * time.Millisecond)
		for hi := range uint64(3) {
			for lo := range uint64(61) {
				k := sessionKey{hi, lo}
				want := notDenied
				if e, ok := model[k]; ok && e.until.After(now) {
					want = e.d
				}
				if found := l.find(k, now); found != want {
					t.Fatalf("%v: found %d, want %d", k, found, want)
				}
			}
		}
	}
}

// Readers see each entry from when its add has returned until its time, and no other, while writers
// make tables grow and have them purged.
func TestDenyList_readersBesideWriters(t *testing.T) {
	const writers, each, life = 4, 20_000, 10 * time.Second
	var l denyList
	var clock atomic.Int64 // in milliseconds
	at := func() time.Time { return decisionTime.Add(time.Duration(clock.Load()) * time.Millisecond) }
	var added [writers]atomic.Int64
	var running atomic.Int64
	running.Store(writers)
	id := func(w, i int) sessionKey { return keyOf(deniedID(w*each + i)) }
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			defer running.Add(-1)
			for i := range each {
				now := at()
				until := decisionTime.Add(time.Duration(i)*time.Millisecond + life)
				l.add(id(w, i), denial(i+1), until, now)
				added[w].Store(int64(i + 1))
				clock.Store(max(clock.Load(), int64(i))) // the clock goes back now and then
			}
		})
	}
	for range 2 {
		all.Go(func() {
			r := rand.New(rand.NewPCG(1, 2))
			for running.Load() > 0 {
				w := r.IntN(writers)
				n := int(added[w].Load())
				if n == 0 {
					continue
				}
				i := n - 1 - r.IntN(min(n, 2000)) // it lives for 8 seconds more by any clock here
				if found := l.find(id(w, i), at()); found != denial(i+1) && at().Before(
					decisionTime.Add(time.Duration(i)*time.Millisecond+life)) {
					t.Errorf("writer %d, entry %d of %d: found %d", w, i, n, found)
					return
				}
				if found := l.find(keyOf(deniedID(-1-i)), at()); found != notDenied {
					t.Errorf("found %d of what nobody added", found)
					return
				}
			}
		})
	}
	all.Wait()
}

package manager_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// soakEnv is the environment variable that says for how long TestSoak runs on each store.
const soakEnv = "TOKENSESSION_SOAK"

func soakTime(tb testing.TB) time.Duration {
	tb.Helper()
	text := os.Getenv(soakEnv)
	if text == "" {
		return 4 * time.Second
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < time.Second {
		tb.Fatalf("%s=%q: must be a duration, 1s or more", soakEnv, text)
	}
	return d
}

const (
	soakClients   = 64
	soakInstances = 2

	// soakGrace covers the longest outage, which is what the README asks of who wants no logout by
	// it: a server that is killed and started again, on a machine that does other things too. A
	// client that gets no answer for as long as that, less the difference of the clocks, is not
	// promised to stay in. None has to wait for it: see world.leap.
	soakGrace = 10 * time.Minute

	// soakPatience is how much longer a short soak goes on, on a slow machine, until each fault has
	// happened.
	soakPatience = time.Minute

	// clockStep is how far a step takes an instance's clock from the right time, so that two can
	// differ by twice that.
	clockStep = 2 * time.Second
)

// TestSoak: two Managers on each durable store, 64 clients with up to four tabs each, thieves, and
// faults all the time: the server is killed and started again, replies are lost or late,
// connections cut and refused, calls cancelled, and clocks stepped. The servers' own clocks are days
// wrong. Redis has a replica, which is promoted while one instance goes on with the old master, and
// back. PostgreSQL is also used through PgBouncer, which is killed as it is. SQLite has no server:
// there the database is closed and opened again under the calls, calls fail before and after they
// have done their work, another connection holds the lock, and processes that refresh are killed.
//
// A false logout is any verdict against a client whose session nobody has revoked and no thief has
// used. A client is honest if it presents a token until it has an answer, uses the successor only
// when all its tabs have theirs, and always has its answer within the grace period, clocks
// considered. All servers keep what they acknowledge, so that nothing has to be healed and no
// session is lost by its first write.
//
// A theft is undetected if the thief has used a token, the client refreshes outside the grace
// period, the thief outside it again, and then the client or after it the thief still can.
func TestSoak(t *testing.T) {
	var rows []string
	for _, s := range soakStores {
		t.Run(s.name, func(t *testing.T) {
			w := newWorld(t, s)
			w.soak(soakTime(t))
			rows = append(rows, w.row())
			w.judge()
		})
	}
	if len(rows) > 0 {
		t.Logf("\n%s\n%s", soakHeader, strings.Join(rows, "\n"))
	}
}

// soak lets the clients and the faults loose on each other for so long, and then looks what is left
// over.
func (w *world) soak(d time.Duration) {
	w.t.Helper()
	before := w.baseline()
	w.open()
	w.began = time.Now()
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	var running, clients, leaping sync.WaitGroup
	for _, in := range w.instances {
		running.Go(func() { _ = in.m.Run(ctx) })
	}
	for i := range soakClients {
		c := &soakClient{world: w, subject: fmt.Sprintf("user %d", i)}
		c.login()
		clients.Go(func() { c.live(w.over) })
	}
	done := make(chan struct{})
	leaping.Go(func() { w.leapEvery(min(3*time.Second, d/16), done) })

	w.disturb(d)
	close(w.over)
	clients.Wait()
	w.lasted = time.Since(w.began)
	close(done)
	leaping.Wait()
	stop()
	running.Wait()
	w.leaks(before)
	w.t.Logf("time leapt %d times; Run told %d revocations to the other instance, the slowest after %v, outages included",
		w.leaps.Load(), w.toldElsewhere.Load(), &w.slowestNews)
}

// A world is a place with its instances, and what happens there.
type world struct {
	t    *testing.T
	name string
	place
	faults    faultMaker
	instances [soakInstances]*instance
	behind    atomic.Pointer[instance] // still uses an old master; nil: none
	soakCounts

	over   chan struct{} // closed when the time is up
	began  time.Time
	lasted time.Duration

	// gate is held for reading by who has presented a token and has no answer yet.
	gate   sync.RWMutex
	ahead  atomic.Int64 // of all clocks; moved while nobody holds gate
	leapMu sync.Mutex
	leapt  chan struct{} // closed by the next leap; guarded by leapMu
}

// An instance is a Manager with a clock and connections of its own.
type instance struct {
	m     *tokensession.Manager
	step  stepClock
	proxy *faultProxy // but for SQLite
	flaky *flakyStore // for SQLite
	conns
}

func newWorld(t *testing.T, s soakStore) *world {
	t.Helper()
	w := &world{t: t, name: s.name, over: make(chan struct{}), leapt: make(chan struct{})}
	w.place, w.faults = s.start(w)
	return w
}

func (w *world) open() {
	w.t.Helper()
	for i := range w.instances {
		in := &instance{}
		in.step.now = w.now
		store := w.faults.open(in)
		m, err := makeManagerWith(tokensession.AccessConfig{Leeway: 2*clockStep + time.Second}, store, tokensession.Config{
			GracePeriod: soakGrace, Now: in.step.Now, OnEvent: w.event,
		})
		if err != nil {
			w.t.Fatal(err)
		}
		in.m = m
		w.instances[i] = in
	}
}

func (w *world) event(_ context.Context, e tokensession.Event) {
	switch e.Kind {
	case tokensession.EventReplayed:
		w.replayed.Add(1)
	case tokensession.EventHealed:
		w.healed.Add(1)
	case tokensession.EventFeedStale:
		w.feedStale.Add(1)
	}
}

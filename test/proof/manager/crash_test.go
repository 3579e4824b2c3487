package manager_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

const (
	crashClients = 16
	crashes      = 3 // of the process
)

// A client holds the tokens of a session and refreshes as fast as it can. It tries again when it is
// told that the service is unavailable, and gives up on any verdict.
type client struct {
	m      *tokensession.Manager
	token  string
	done   atomic.Int64 // refreshes that succeeded
	failed atomic.Int64 // that got no verdict
	out    atomic.Value // the verdict, an error
}

// A crowd is some clients at work.
type crowd struct {
	tb      testing.TB
	clients []*client
	stop    context.CancelFunc
	all     sync.WaitGroup
}

// newCrowd starts a session for each client.
func newCrowd(tb testing.TB, m *tokensession.Manager, size int) *crowd {
	tb.Helper()
	c := &crowd{tb: tb}
	for i := range size {
		c.clients = append(c.clients, &client{m: m, token: start(tb, m, fmt.Sprintf("client %d", i)).RefreshToken})
	}
	return c
}

// work lets the clients refresh until rest is called.
func (c *crowd) work() {
	ctx, stop := context.WithCancel(context.Background())
	c.stop = stop
	for _, one := range c.clients {
		c.all.Go(func() { one.work(ctx) })
	}
}

// rest lets the clients finish their calls.
func (c *crowd) rest() {
	c.stop()
	c.all.Wait()
}

func (c *client) work(stop context.Context) {
	again := time.NewTicker(20 * time.Millisecond)
	defer again.Stop()
	for stop.Err() == nil {
		// Its own context: a client that goes away in mid-call is another matter.
		tokens, err := c.m.Refresh(context.Background(), c.token)
		switch {
		case err == nil:
			c.token = tokens.RefreshToken
			c.done.Add(1)
		case errors.Is(err, tokensession.ErrUnavailable):
			c.failed.Add(1)
			select {
			case <-again.C:
			case <-stop.Done():
			}
		default:
			c.out.Store(err)
			return
		}
	}
}

// awaitProgress returns once each client has refreshed n times more.
func (c *crowd) awaitProgress(n int64) {
	c.tb.Helper()
	goals := make([]int64, len(c.clients))
	for i, one := range c.clients {
		goals[i] = one.done.Load() + n
	}
	await(c.tb, fmt.Sprintf("%d more refreshes of each client", n), func() bool {
		for i, one := range c.clients {
			if out := one.out.Load(); out != nil {
				c.tb.Fatalf("client %d is out: %v", i, out)
			}
			if one.done.Load() < goals[i] {
				return false
			}
		}
		return true
	})
}

// awaitOutage returns once some client got no verdict.
func (c *crowd) awaitOutage() {
	c.tb.Helper()
	_, before := c.totals()
	await(c.tb, "a client to notice the outage", func() bool {
		_, failed := c.totals()
		return failed > before
	})
}

// allLive fails the test unless each client's token works.
func (c *crowd) allLive() {
	c.tb.Helper()
	for i, one := range c.clients {
		if out := one.out.Load(); out != nil {
			c.tb.Errorf("client %d is out: %v", i, out)
			continue
		}
		tokens, err := refreshUntilVerdict(c.tb, one.m, one.token)
		if err != nil {
			c.tb.Errorf("client %d, at generation %d: %v", i, generation(one.token), err)
			continue
		}
		one.token = tokens.RefreshToken
	}
}

// totals returns how many refreshes succeeded, and how many got no verdict.
func (c *crowd) totals() (done, failed int64) {
	for _, one := range c.clients {
		done += one.done.Load()
		failed += one.failed.Load()
	}
	return done, failed
}

// TestKillUnderLoad: the server is killed while clients refresh, and started again, three times;
// once more quickly than the grace period, and else later. No client is logged out, and since these
// servers keep what they acknowledge, nothing has to be healed.
func TestKillUnderLoad(t *testing.T) {
	eachServer(t, func(t *testing.T, p place, s server) {
		happened, clock := new(events), newClock()
		m := newManager(t, p.open(t, access{}), tokensession.Config{Now: clock.Now, OnEvent: happened.Add})
		clients := newCrowd(t, m, crashClients)
		clients.work()
		for _, outage := range []time.Duration{0, pastGrace, time.Hour} {
			clients.awaitProgress(10)
			s.Kill()
			clients.awaitOutage()
			clock.Advance(outage)
			s.Start()
		}
		clients.awaitProgress(10)
		clients.rest()
		clients.allLive()
		happened.none(t, tokensession.EventReused, tokensession.EventRevoked, tokensession.EventDenied, tokensession.EventHealed)

		done, failed := clients.totals()
		t.Logf("%d refreshes, %d calls without a verdict", done, failed)
	})
}

// TestKillUnderLoad_process kills the process that refreshes, which with SQLite is the database's
// too. For every client, the token it received last works in another process, or is replayed.
func TestKillUnderLoad_process(t *testing.T) {
	eachBackend(t, func(t *testing.T, p place) {
		now := newClock().Now()
		happened := new(events)
		m := newManager(t, p.open(t, access{}), tokensession.Config{
			Now: func() time.Time { return now }, GracePeriod: grace, OnEvent: happened.Add,
		})
		for range crashes {
			w := startWorker(t, job{Do: "refresh", Place: p, Grace: grace, Now: now})
			for _, token := range killWhileItRefreshes(t, w) {
				refresh(t, m, refresh(t, m, token).RefreshToken)
			}
		}
		happened.none(t, tokensession.EventReused, tokensession.EventRevoked, tokensession.EventHealed)
		t.Logf("of %d clients, %d had been rotated without an answer", crashes*refreshSessions, happened.Count(tokensession.EventReplayed))
	})
}

// killWhileItRefreshes kills a process of refreshJob when each of its clients has received some
// tokens, and returns the last one of each.
func killWhileItRefreshes(t *testing.T, w *worker) map[int]string {
	t.Helper()
	last, killed := map[int]string{}, false
	for lines, got := 0, (received{}); w.receive(t, &got); lines++ { // also what it wrote before it died
		if got.Err != "" {
			t.Fatalf("client %d: %s", got.Client, got.Err)
		}
		last[got.Client] = got.Token
		if !killed && len(last) == refreshSessions && lines >= 25*refreshSessions {
			killed = true
			if err := w.cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if !killed {
		t.Fatalf("the process ended by itself, when %d clients had received tokens", len(last))
	}
	return last
}

// TestKillUnderLoad_redisLosesWrites shows what Redis loses that writes nothing but a snapshot:
// every write since, as on a machine that loses its power with appendfsync everysec or no. The
// sessions of the snapshot heal. Sessions begun later are gone, and their clients have to log in
// again: that no store can heal.
func TestKillUnderLoad_redisLosesWrites(t *testing.T) {
	r := servers.StartRedis(t, servers.RedisOptions{})
	p := place{Backend: redisSingle, Addrs: []string{r.Addr}}
	happened := new(events)
	m := newManager(t, p.open(t, access{}), tokensession.Config{Now: newClock().Now, GracePeriod: grace, OnEvent: happened.Add})

	clients := newCrowd(t, m, crashClients)
	if err := r.Client(nil).Save(context.Background()).Err(); err != nil {
		t.Fatal(err)
	}
	unsaved := start(t, m, "too late")
	clients.work()
	clients.awaitProgress(10)
	r.Kill()
	r.Start()
	clients.awaitProgress(10)
	clients.rest()
	clients.allLive()

	if n := happened.Count(tokensession.EventHealed); n != crashClients {
		t.Errorf("%d sessions were healed, want %d: each had been refreshed since the snapshot", n, crashClients)
	}
	happened.none(t, tokensession.EventReused, tokensession.EventRevoked)
	wantDead(t, m, unsaved.RefreshToken, tokensession.ErrInvalidToken)
}

package manager_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// manyReplies is more than any call waits for, with all the retries of its driver.
const manyReplies = 1 << 20

// A lossyStore loses replies of the server in the next call of one kind.
type lossyStore struct {
	direct tokensession.RefreshStore // not through the proxy
	arm    func() (disarm func() int)
	call   testkit.Call // that the replies are lost in; empty when that has been

	lost    int  // replies
	applied bool // the write, by the server
	told    error
}

// newLossyStore opens the place through a proxy, with a single connection, so that it is known what
// is sent on which.
func newLossyStore(t *testing.T, p place, proxy *faultProxy) (*lossyStore, tokensession.RefreshStore) {
	s := &lossyStore{direct: p.open(t, access{})}
	store := p.open(t, access{pool: 1, dial: proxy.dial, wait: 200 * time.Millisecond})
	hooked := testkit.Hook(t, store)
	hooked.Always(testkit.Any, s.around)
	return s, hooked.Store()
}

// loseIn makes the next call of this kind lose replies as arm says.
func (s *lossyStore) loseIn(call testkit.Call, arm func() func() int) {
	s.call, s.arm, s.lost, s.applied, s.told = call, arm, 0, false, nil
}

func (s *lossyStore) around(r *testkit.Request) {
	if r.Call != s.call {
		return
	}
	s.call = ""
	written := r.Record // if it is a write
	disarm := s.arm()
	r.Pass()
	s.told = r.Err()
	s.lost = disarm()
	if written.WriteID != "" {
		stored, err := s.direct.Load(context.Background(), written.ID)
		s.applied = err == nil && stored.WriteID == written.WriteID
	}
}

// TestLostReply: the server has done what a store's call asked, and its reply is lost: one reply of
// the call, whichever of them, or all from there to the end of the call, so that no retry of the
// driver gets through. There is never a reuse, and the session goes on.
func TestLostReply(t *testing.T) {
	losses := []struct {
		name string
		n    int
	}{{"one", 1}, {"all that follow", manyReplies}}
	eachBackend(t, func(t *testing.T, p place) {
		for _, mode := range linModes {
			for _, call := range []testkit.Call{testkit.Create, testkit.Load, testkit.Swap} {
				for _, loss := range losses {
					t.Run(mode.name+"/"+string(call)+"/"+loss.name, func(t *testing.T) { testLostReply(t, p, mode.grace, call, loss.n) })
				}
			}
		}
	}, sqlite)
}

// makes has each refresh make a call of the store: one that remembers its record loads nothing.
func makes(call testkit.Call, cfg tokensession.Config) tokensession.Config {
	if call == testkit.Load {
		cfg.Remember = -1
	}
	return cfg
}

func testLostReply(t *testing.T, p place, grace time.Duration, call testkit.Call, n int) {
	proxy := newFaultProxy(t)
	lossy, store := newLossyStore(t, p, proxy)
	happened := new(events)
	cfg := tokensession.Config{Now: newClock().Now, GracePeriod: grace, OnEvent: happened.Add}
	m := newManager(t, store, makes(call, cfg))

	applied := 0 // writes that were applied, at the latest by a retry
	for skip := 0; ; skip++ {
		lose := func() func() int { return proxy.lose(skip, n) }
		tokens := loginAndRefresh(t, m, lossy, call, lose)
		if lossy.lost == 0 {
			if skip == 0 {
				t.Fatalf("no reply was lost in %s", call)
			}
			break // there are no more replies in this call
		}
		t.Logf("lost %d replies after %d: the store said %v", lossy.lost, skip, lossy.told)
		if lossy.applied {
			applied++
		}
		next := refresh(t, m, tokens.RefreshToken)
		if _, err := m.VerifyLive(context.Background(), next.AccessToken); err != nil {
			t.Errorf("VerifyLive after the fault: %v", err)
		}
	}
	if call != testkit.Load && n == manyReplies && applied == 0 {
		t.Errorf("%s was never applied with all its replies lost", call)
	}
	happened.none(t, tokensession.EventReused, tokensession.EventRevoked, tokensession.EventDenied)
}

// loginAndRefresh starts a session and refreshes it, as a client does that tries again when it is
// told to. Replies are lost in one call of the store.
func loginAndRefresh(t *testing.T, m *tokensession.Manager, lossy *lossyStore, call testkit.Call, lose func() func() int) tokensession.Tokens {
	t.Helper()
	for range 20 { // so that each node of a Cluster has a connection, and the statements are prepared
		refresh(t, m, start(t, m, "bob").RefreshToken)
	}
	if call == testkit.Create {
		lossy.loseIn(call, lose)
		return refresh(t, m, start(t, m, "alice").RefreshToken)
	}
	tokens := refresh(t, m, start(t, m, "alice").RefreshToken)
	lossy.loseIn(call, lose)
	next, err := m.Refresh(context.Background(), tokens.RefreshToken)
	switch {
	case errors.Is(err, tokensession.ErrUnavailable) && call == testkit.Load:
		next = refresh(t, m, tokens.RefreshToken)
	case err != nil: // after Swap, the manager has to find out by itself what became of its write
		t.Fatalf("Refresh with replies of %s lost: %v; the store had said %v", call, err, lossy.told)
	}
	if got, want := generation(next.RefreshToken), generation(tokens.RefreshToken)+1; got != want {
		t.Errorf("generation %d, want %d", got, want)
	}
	return next
}

// TestLostReply_andNoWayToFindOut: the reply to a rotation is lost, and so is every other one until
// the call is over. The client is told to try again, and its token works whenever it does, even in
// Strict. Another manager knows nothing of the call that was not answered: with it the token works
// within the grace period or the recovery period.
func TestLostReply_andNoWayToFindOut(t *testing.T) {
	tests := []struct {
		name            string
		grace, recovery time.Duration
		later           time.Duration
		elsewhere       bool // the client tries again with another manager
	}{
		{"strict", tokensession.Strict, 0, 0, false},
		{"strict, later", tokensession.Strict, 0, time.Hour, false},
		{"within grace", grace, 0, 0, false},
		{"later", grace, 0, time.Hour, false},
		{"elsewhere, within grace", grace, 0, 0, true},
		{"elsewhere, within recovery", grace, 2 * time.Hour, time.Hour, true},
		{"elsewhere, strict, within recovery", tokensession.Strict, 2 * time.Hour, time.Hour, true},
	}
	eachBackend(t, func(t *testing.T, p place) {
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				proxy := newFaultProxy(t)
				lossy, store := newLossyStore(t, p, proxy)
				happened, clock := new(events), newClock()
				cfg := tokensession.Config{
					Now: clock.Now, GracePeriod: test.grace, RecoveryPeriod: test.recovery, OnEvent: happened.Add,
				}
				m := newManager(t, store, cfg)
				tokens := refresh(t, m, start(t, m, "alice").RefreshToken)

				var over func() int
				lossy.loseIn(testkit.Swap, func() func() int {
					over = proxy.lose(0, manyReplies)
					return func() int { return 1 } // goes on after the call
				})
				_, err := m.Refresh(context.Background(), tokens.RefreshToken)
				if !errors.Is(err, tokensession.ErrUnavailable) || !lossy.applied {
					t.Fatalf("Refresh: %v, want ErrUnavailable; the write was applied: %v, want true", err, lossy.applied)
				}
				over()
				clock.Advance(test.later)
				if test.elsewhere {
					m = newManager(t, p.open(t, access{}), cfg)
				}
				next := refresh(t, m, tokens.RefreshToken)
				refresh(t, m, next.RefreshToken)
				happened.none(t, tokensession.EventReused, tokensession.EventRevoked, tokensession.EventDenied)
			})
		}
	}, sqlite)
}

// TestLateReply: the reply to a rotation comes after the caller's deadline. The token works again.
func TestLateReply(t *testing.T) {
	eachBackend(t, func(t *testing.T, p place) {
		for _, call := range []testkit.Call{testkit.Load, testkit.Swap} {
			t.Run(string(call), func(t *testing.T) {
				proxy := newFaultProxy(t)
				lossy, store := newLossyStore(t, p, proxy)
				happened := new(events)
				cfg := tokensession.Config{Now: newClock().Now, GracePeriod: grace, OnEvent: happened.Add}
				m := newManager(t, store, makes(call, cfg))
				tokens := refresh(t, m, start(t, m, "alice").RefreshToken)

				// On a busy machine the deadline can come before the call has been sent.
				for tries := 0; lossy.lost == 0 && tries < 20; tries++ {
					lossy.loseIn(call, func() func() int { return proxy.hold(0) })
					ctx, cancel := context.WithTimeout(context.Background(), 150*time.Millisecond)
					defer cancel()
					_, err := m.Refresh(ctx, tokens.RefreshToken)
					if !errors.Is(err, tokensession.ErrUnavailable) || ctx.Err() == nil {
						t.Fatalf("Refresh: %v, want ErrUnavailable after the deadline", err)
					}
				}
				if lossy.lost == 0 {
					t.Fatal("no reply was late")
				}
				refresh(t, m, refresh(t, m, tokens.RefreshToken).RefreshToken)
				happened.none(t, tokensession.EventReused, tokensession.EventRevoked, tokensession.EventDenied)
			})
		}
	}, sqlite)
}

// TestConnectionRefused: while the server cannot be reached, no call has a verdict. Afterwards
// everything works as if nothing had been.
func TestConnectionRefused(t *testing.T) {
	eachBackend(t, func(t *testing.T, p place) {
		proxy := newFaultProxy(t)
		happened := new(events)
		m := newManager(t, p.open(t, access{dial: proxy.dial}), tokensession.Config{
			Now: newClock().Now, GracePeriod: tokensession.Strict, MaxSessions: 3, OnEvent: happened.Add,
		})
		tokens := refresh(t, m, start(t, m, "alice").RefreshToken)
		ctx := context.Background()
		calls := map[string]func() error{
			"Start":         func() error { _, err := m.Start(ctx, "alice"); return err },
			"Refresh":       func() error { _, err := m.Refresh(ctx, tokens.RefreshToken); return err },
			"VerifyLive":    func() error { _, err := m.VerifyLive(ctx, tokens.AccessToken); return err },
			"Revoke":        func() error { return m.Revoke(ctx, tokens.Session.ID) },
			"RevokeToken":   func() error { return m.RevokeToken(ctx, tokens.RefreshToken) },
			"RevokeSubject": func() error { _, err := m.RevokeSubject(ctx, "alice"); return err },
			"Sessions":      func() error { _, err := m.Sessions(ctx, "alice"); return err },
		}
		proxy.refuse(true)
		for name, call := range calls {
			if err := call(); !errors.Is(err, tokensession.ErrUnavailable) {
				t.Errorf("%s: %v, want ErrUnavailable", name, err)
			}
			if _, err := m.Verify(tokens.AccessToken); err != nil {
				t.Errorf("Verify, which needs no server, after %s: %v", name, err)
			}
		}
		happened.none(t, tokensession.EventReused, tokensession.EventRevoked, tokensession.EventDenied)
		proxy.refuse(false)
		tokens = refresh(t, m, tokens.RefreshToken)
		for _, name := range []string{"VerifyLive", "Sessions", "Start", "Refresh", "Revoke"} {
			if err := calls[name](); err != nil {
				t.Errorf("%s after the outage: %v", name, err)
			}
		}
	}, sqlite)
}

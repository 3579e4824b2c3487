package manager_test

import (
	"context"
	"errors"
	"testing"

	"github.com/seed67bc9b7f/tokensession"
)

// TestRestartStillCatchesReuse: everything is stopped and started again, the server and the
// process, between a rotation and the return of the consumed token. The store remembers it: the
// session ends, and only that one.
func TestRestartStillCatchesReuse(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			p, restart := restartable(t, b)
			clock := newClock()
			cfg := tokensession.Config{Now: clock.Now}

			store, closeStore, err := p.openStore(access{})
			if err != nil {
				t.Fatal(err)
			}
			before := newManager(t, store, cfg)
			first, bystander := start(t, before, "alice"), start(t, before, "alice")
			live := refresh(t, before, first.RefreshToken)
			loggedOut := start(t, before, "alice")
			if err := before.RevokeToken(context.Background(), loggedOut.RefreshToken); err != nil {
				t.Fatal(err)
			}
			closeStore()
			restart()
			clock.Advance(pastGrace)

			after := newManager(t, p.open(t, access{}), cfg)
			_, err = refreshUntilVerdict(t, after, first.RefreshToken)
			var reuse *tokensession.ReuseError
			if !errors.As(err, &reuse) || reuse.Presented != 0 || reuse.Live != 1 {
				t.Fatalf("the consumed token: %v, want a ReuseError that says 0 was presented and 1 live", err)
			}
			wantDead(t, after, live.RefreshToken, tokensession.ErrRevoked)
			wantDead(t, after, loggedOut.RefreshToken, tokensession.ErrRevoked)
			refresh(t, after, bystander.RefreshToken)
		})
	}
}

// restartable returns a place of the backend, and what stops and starts its server, if it has one.
func restartable(t *testing.T, b backend) (place, func()) {
	if b.own == nil {
		return b.shared(t), func() {}
	}
	p, s := b.own(t)
	return p, func() {
		s.Stop()
		s.Start()
	}
}

package manager_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// A gate stops a call before its n-th call of the store, or, if it makes fewer, never.
type gate struct {
	n       int
	reached chan struct{} // closed when the call is stopped
	open    chan struct{} // closed to let it go on
}

func newGate(n int) *gate {
	return &gate{n: n, reached: make(chan struct{}), open: make(chan struct{})}
}

func (g *gate) hook(*testkit.Request) {
	if g.n == 0 {
		close(g.reached)
		<-g.open
	}
	g.n--
}

// Calls that end a session.
var endings = map[string]func(context.Context, *tokensession.Manager, tokensession.Tokens) error{
	"Revoke": func(ctx context.Context, m *tokensession.Manager, tokens tokensession.Tokens) error {
		return m.Revoke(ctx, tokens.Session.ID)
	},
	"RevokeToken": func(ctx context.Context, m *tokensession.Manager, tokens tokensession.Tokens) error {
		return m.RevokeToken(ctx, tokens.RefreshToken)
	},
	"RevokeSubject": func(ctx context.Context, m *tokensession.Manager, tokens tokensession.Tokens) error {
		_, err := m.RevokeSubject(ctx, tokens.Session.Subject)
		return err
	},
}

// TestRevokeRacesRefresh: a session ends while a refresh of it stands between two calls of the
// store, and it is refreshed while the call that ends it does: wherever, for each kind of ending,
// on one manager or two. Once the session has ended, nothing of it lives: not the tokens it had,
// nor those that the refresh returns.
func TestRevokeRacesRefresh(t *testing.T) {
	eachBackend(t, func(t *testing.T, p place) {
		for name, end := range endings {
			t.Run(name+" during refresh", func(t *testing.T) {
				stopEverywhere(t, p, func(ctx context.Context, m *tokensession.Manager, tokens tokensession.Tokens) (tokensession.Tokens, error) {
					return m.Refresh(ctx, tokens.RefreshToken)
				}, func(ctx context.Context, m *tokensession.Manager, tokens tokensession.Tokens) (tokensession.Tokens, error) {
					return tokens, end(ctx, m, tokens)
				})
			})
			t.Run("refresh during "+name, func(t *testing.T) {
				stopEverywhere(t, p, func(ctx context.Context, m *tokensession.Manager, tokens tokensession.Tokens) (tokensession.Tokens, error) {
					return tokens, end(ctx, m, tokens)
				}, func(ctx context.Context, m *tokensession.Manager, tokens tokensession.Tokens) (tokensession.Tokens, error) {
					return m.Refresh(ctx, tokens.RefreshToken)
				})
			})
		}
	})
}

// An action uses or ends a session, and returns the tokens that the client has then.
type action func(context.Context, *tokensession.Manager, tokensession.Tokens) (tokensession.Tokens, error)

// stopEverywhere lets second run while first is stopped, before each of its calls of the store in
// turn. One of them ends the session.
func stopEverywhere(t *testing.T, p place, first, second action) {
	ctx := context.Background()
	cfg := tokensession.Config{Now: newClock().Now}
	store := p.open(t, access{})
	m := newManager(t, store, cfg)
	stops := 0
	for n := 0; n == stops; n++ {
		g := newGate(n)
		hooked := testkit.Hook(t, store)
		hooked.Always(testkit.Any, g.hook)
		stopped := newManager(t, hooked.Store(), cfg)
		had := start(t, m, fmt.Sprintf("%s %d", t.Name(), n))

		type result struct {
			tokens tokensession.Tokens
			err    error
		}
		firstDone := make(chan result, 1)
		go func() {
			tokens, err := first(ctx, stopped, had)
			firstDone <- result{tokens, err}
		}()
		var a, b result
		select {
		case a = <-firstDone: // it made fewer calls
			b.tokens, b.err = second(ctx, m, had)
		case <-g.reached:
			stops++
			b.tokens, b.err = second(ctx, m, had)
			close(g.open)
			a = <-firstDone
		}
		for _, r := range []result{a, b} {
			if r.err != nil && !errors.Is(r.err, tokensession.ErrRevoked) {
				t.Errorf("stopped before call %d: %v", n, r.err)
			}
		}
		g.n = -1
		// The stranger is first: it knows nothing but what the store says.
		for _, asked := range []*tokensession.Manager{newManager(t, store, cfg), m, stopped} {
			for _, tokens := range []tokensession.Tokens{had, a.tokens, b.tokens} {
				if tokens.RefreshToken != "" {
					wantEnded(t, asked, tokens, n)
				}
			}
		}
	}
	if stops == 0 {
		t.Error("made no call of the store")
	}
	t.Logf("stopped before each of %d calls", stops)
}

// wantEnded fails the test unless nothing accepts the tokens.
func wantEnded(t *testing.T, m *tokensession.Manager, tokens tokensession.Tokens, n int) {
	t.Helper()
	ctx := context.Background()
	if _, err := m.Refresh(ctx, tokens.RefreshToken); !errors.Is(err, tokensession.ErrRevoked) {
		t.Errorf("stopped before call %d: Refresh with generation %d after the end: %v", n, generation(tokens.RefreshToken), err)
	}
	if _, err := m.VerifyLive(ctx, tokens.AccessToken); !errors.Is(err, tokensession.ErrRevoked) {
		t.Errorf("stopped before call %d: VerifyLive after the end: %v", n, err)
	}
	if _, err := m.Verify(tokens.AccessToken); !errors.Is(err, tokensession.ErrRevoked) {
		t.Errorf("stopped before call %d: Verify after the end: %v", n, err)
	}
	if list, err := m.Sessions(ctx, tokens.Session.Subject); err != nil || len(list) > 0 {
		t.Errorf("stopped before call %d: Sessions after the end: %d, %v", n, len(list), err)
	}
}

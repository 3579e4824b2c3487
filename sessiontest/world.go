package sessiontest

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	"github.com/seed67bc9b7f/tokensession"
)

// Issuer and Audience are those of a world's access tokens.
const (
	Issuer   = "https://auth.example"
	Audience = "https://api.example"
)

// A World is a Manager on a [tokensession.MemoryStore], and all that a test has seen of it. It is
// safe for concurrent use.
//
// A second Manager on the same store stands for another instance of the program:
// tokensession.New(world.Signer, world.Store, world.Config).
type World struct {
	Manager *tokensession.Manager
	Signer  *tokensession.AccessSigner
	Store   *tokensession.MemoryStore
	Config  tokensession.Config // that of the Manager: the one given to New, with the world's clock
	Clock   *Clock

	t        testing.TB
	mu       sync.Mutex
	tokens   []tokensession.Tokens // all that were given to somebody
	browsers []*Browser
	events   []tokensession.Event
}

// New returns a world in which nobody is logged in. The Config is the program's own, but for Now:
// the time is that of [World.Clock]. A Config that the Manager refuses ends the test.
func New(t testing.TB, cfg tokensession.Config) *World {
	t.Helper()
	if cfg.Now != nil {
		t.Fatal("sessiontest: Config.Now must be nil: the time is that of World.Clock")
	}
	w := &World{t: t, Clock: newClock(t), Store: tokensession.NewMemoryStore()}
	key, err := tokensession.GenerateKey()
	w.check(err)
	w.Signer, err = tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: Issuer, Audience: []string{Audience}, Now: w.Clock.Now,
	})
	w.check(err)
	host := cfg.OnEvent
	cfg.Now = w.Clock.Now
	cfg.OnEvent = func(ctx context.Context, e tokensession.Event) {
		w.mu.Lock()
		w.events = append(w.events, e)
		w.mu.Unlock()
		if host != nil {
			host(ctx, e)
		}
	}
	w.Config = cfg
	w.Manager, err = tokensession.New(w.Signer, w.Store, cfg)
	w.check(err)
	return w
}

// Login begins a session of the subject.
func (w *World) Login(subject string, opts ...tokensession.StartOption) tokensession.Tokens {
	w.t.Helper()
	tokens, err := w.Manager.Start(context.Background(), subject, opts...)
	w.check(err)
	w.keep(tokens)
	return tokens
}

// Refresh returns the tokens that follow these. If there are none, the test ends.
func (w *World) Refresh(tokens tokensession.Tokens) tokensession.Tokens {
	w.t.Helper()
	next, err := w.Manager.Refresh(context.Background(), tokens.RefreshToken)
	w.check(err)
	w.keep(next)
	return next
}

// Request returns a request with the access token, as a program sends it, for a handler's
// ServeHTTP. A body may be nil.
func (w *World) Request(tokens tokensession.Tokens, method, target string, body io.Reader) *http.Request {
	r := httptest.NewRequest(method, target, body)
	r.Header.Set("Authorization", "Bearer "+tokens.AccessToken)
	return r
}

// Events returns what the Manager has told so far, oldest first: all events, or those of some
// kinds.
func (w *World) Events(kinds ...tokensession.EventKind) []tokensession.Event {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.events), func(e tokensession.Event) bool {
		return len(kinds) > 0 && !slices.Contains(kinds, e.Kind)
	})
}

func (w *World) keep(tokens tokensession.Tokens) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tokens = append(w.tokens, tokens)
}

func (w *World) check(err error) {
	w.t.Helper()
	if err != nil {
		w.t.Fatal("sessiontest: ", err)
	}
}

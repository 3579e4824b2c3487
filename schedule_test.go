package tokensession_test

import (
	"context"
	"strings"
	"testing"

	"github.com/seed67bc9b7f/tokensession"
)

// A schedule runs actors one step at a time, where a step ends at each call of the store or the authorizer. Run with
// each possible order of steps, it finds every race there is.
type schedule struct {
	choices []int // which of the actors that can go on does, at each step
	options []int // how many there were
	trace   []string
}

type actorKey struct{}

// An actor is a call of the Manager in its own goroutine, that waits before each step.
type actor struct {
	name   string
	run    func(context.Context)
	asks   chan string // what it is about to do; closed when run has returned
	goOn   chan struct{}
	wants  string
	active bool
}

// pause waits for the actor's turn. Calls of others, say of the test itself, go through.
func pause(ctx context.Context, step string) {
	if a, ok := ctx.Value(actorKey{}).(*actor); ok {
		a.asks <- step
		<-a.goOn
	}
}

// pausing makes a store and an authorizer that pause.
func pausingStore(ctx context.Context, call storeCall, apply func() error) error {
	pause(ctx, string(call))
	return apply()
}

func pausingAuthorizer(ctx context.Context, _ tokensession.Session) (tokensession.Grant, error) {
	pause(ctx, "authorize")
	return tokensession.Grant{}, nil
}

// play runs the actors in the order of s.choices, and with the first one that can go on where these end.
func (s *schedule) play(actors ...*actor) {
	for _, a := range actors {
		a.asks, a.goOn, a.active = make(chan string), make(chan struct{}), true
		go func() {
			defer close(a.asks)
			a.run(context.WithValue(context.Background(), actorKey{}, a))
		}()
		a.wants, a.active = <-a.asks, true
	}
	for step := 0; ; step++ {
		var ready []*actor
		for _, a := range actors {
			if a.active {
				ready = append(ready, a)
			}
		}
		if len(ready) == 0 {
			return
		}
		if step == len(s.choices) {
			s.choices, s.options = append(s.choices, 0), append(s.options, 0)
		}
		s.options[step] = len(ready)
		a := ready[s.choices[step]]
		s.trace = append(s.trace, a.name+"."+a.wants)
		a.goOn <- struct{}{}
		a.wants, a.active = <-a.asks, true
		if a.wants == "" {
			a.active = false
		}
	}
}

// next moves on to the next order of steps, and reports whether there is one.
func (s *schedule) next() bool {
	s.trace = nil
	for i := len(s.choices) - 1; i >= 0; i-- {
		if s.choices[i]+1 < s.options[i] {
			s.choices, s.options = s.choices[:i+1], s.options[:i+1]
			s.choices[i]++
			return true
		}
	}
	return false
}

// inEveryOrder plays a scene in every order of steps. The scene makes a world and its actors anew each time; what it
// returns checks how it came out.
func inEveryOrder(t *testing.T, scene func(t *testing.T) ([]*actor, func(t *testing.T))) {
	t.Helper()
	s := &schedule{}
	orders := 0
	for more := true; more; more = s.next() {
		orders++
		func() {
			defer func() {
				if t.Failed() {
					t.Logf("the order of steps was %s", strings.Join(s.trace, ", "))
				}
			}()
			actors, check := scene(t)
			s.play(actors...)
			check(t)
		}()
	}
	t.Logf("%d orders of steps", orders)
	if orders < 2 {
		t.Fatal("the actors did not interleave")
	}
}

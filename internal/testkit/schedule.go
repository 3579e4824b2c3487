package testkit

import (
	"context"
	"strings"
	"testing"
)

// A Play has actors. Each makes calls of a Manager in a goroutine of its own, and waits for its
// turn before each step that it takes. Only one of them goes on at a time.
type Play struct{ actors []*actor }

type actor struct {
	name  string
	run   func(context.Context)
	asks  chan string // the step that it is about to take; closed when run has returned
	goOn  chan struct{}
	wants string
	ready bool
}

type actorKey struct{}

// Actor adds an actor. It has to pass its context to the calls whose steps are to be ordered.
func (p *Play) Actor(name string, run func(ctx context.Context)) {
	p.actors = append(p.actors, &actor{name: name, run: run})
}

// Await waits until it is the turn of the actor whose context this is. It returns at once for the
// context of somebody else, for example of the test itself.
func Await(ctx context.Context, step string) {
	if a, ok := ctx.Value(actorKey{}).(*actor); ok {
		a.asks <- step
		<-a.goOn
	}
}

// AwaitTurn is the step that a call of the store waits for its actor's turn.
func AwaitTurn(r *Request) { Await(r.ctx, string(r.Call)) }

// InEveryOrder plays a scene in each possible order of its actors' steps, and so in every race that
// there is between them. The scene begins anew for each order, and makes its world and its actors.
// The function that it returns checks how they came out.
func InEveryOrder(t *testing.T, scene func(play *Play) (check func())) {
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
			play := &Play{}
			check := scene(play)
			s.perform(play.actors)
			check()
		}()
	}
	t.Logf("%d orders of steps", orders)
	if orders < 2 {
		t.Fatal("the actors did not interleave")
	}
}

// A schedule is one order of steps.
type schedule struct {
	choices []int // which of the actors that can go on does so, for each step
	options []int // how many actors could
	trace   []string
}

// perform runs the actors in the order of s.choices. Where these end, it goes on with the first
// actor that can, and writes that down.
func (s *schedule) perform(actors []*actor) {
	for _, a := range actors {
		a.asks, a.goOn = make(chan string), make(chan struct{})
		go func() {
			defer close(a.asks)
			a.run(context.WithValue(context.Background(), actorKey{}, a))
		}()
		a.wants, a.ready = <-a.asks
	}
	for step := 0; ; step++ {
		var ready []*actor
		for _, a := range actors {
			if a.ready {
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
		a.wants, a.ready = <-a.asks
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

package testkit

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// A Call is a method of a store, by its name.
type Call string

// The calls of a store. Any stands for each of them.
const (
	Create        Call = "Create"
	Load          Call = "Load"
	Swap          Call = "Swap"
	List          Call = "List"
	Sweep         Call = "Sweep"
	Revocations   Call = "Revocations"
	RevokeSubject Call = "RevokeSubject"
	Any           Call = "any"
)

// ErrDown is the error of a call whose request or reply was lost.
var ErrDown = errors.New("connection reset by peer")

// A Request is one call of a store that is under way. A step may change what is asked before the
// store gets it, and what is answered after that.
type Request struct {
	Call Call

	// Record is what Create and Swap write. Of Load it is the answer; before, it has the ID only.
	// Of List and RevokeSubject it has the Subject only.
	Record tokensession.Record

	Time        time.Time                 // of Sweep, Revocations and RevokeSubject
	Records     []tokensession.Record     // the answer of List and RevokeSubject
	Revocations []tokensession.Revocation // the answer of Revocations
	Swept       int                       // the answer of Sweep

	ctx      context.Context
	tb       testing.TB
	send     func(*Request) error // passes the call on to the store, once more each time
	sent     bool
	answered bool
	err      error
}

// Context returns the context of the call.
func (r *Request) Context() context.Context { return r.ctx }

// Pass passes the call on to the store, as it is now. The store's answer becomes the call's answer.
func (r *Request) Pass() {
	r.err = r.send(r)
	r.sent, r.answered = true, true
}

// Err returns the error of the answer as it is now.
func (r *Request) Err() error { return r.err }

// Answer makes err the answer of the call, or success if it is nil.
func (r *Request) Answer(err error) { r.err, r.answered = err, true }

// A Step is one thing that happens while a call of a store is under way.
type Step func(*Request)

// Pass is the step that the call reaches the store, which may take it or refuse it.
func Pass(r *Request) { r.Pass() }

// Apply is the step that the store does what it is asked. The test fails if the store refuses,
// because then its story is another one than it tells.
func Apply(r *Request) {
	r.tb.Helper()
	if r.Pass(); r.err != nil {
		r.tb.Errorf("testkit: the %s of this step was to be applied: %v", r.Call, r.err)
	}
}

// LoseRequest is the step that the connection breaks before the store gets the call.
func LoseRequest(r *Request) {
	if r.sent {
		panic("testkit: LoseRequest comes after the step that sent the request")
	}
	r.Answer(ErrDown)
}

// LoseReply is the step that the connection breaks when the store has done its part.
func LoseReply(r *Request) {
	if !r.sent {
		panic("testkit: LoseReply needs a step before it that sends the request: Apply or Pass")
	}
	r.Answer(ErrDown)
}

// Refuse returns the step that the caller gets an error. Without a step that sends the request
// before it, the store never hears of the call.
func Refuse(err error) Step { return func(r *Request) { r.Answer(err) } }

// Hang is the step that nothing comes back until the caller's context ends.
func Hang(r *Request) {
	<-r.ctx.Done()
	r.Answer(r.ctx.Err())
}

// Do returns the step that a function is called.
func Do(f func()) Step { return func(*Request) { f() } }

// If returns the steps that are taken only by calls for which a condition holds.
func If(holds func(*Request) bool, steps ...Step) Step {
	return func(r *Request) {
		if holds(r) {
			take(r, steps)
		}
	}
}

// InTurn returns a step that is another one each time, and begins anew after the last.
func InTurn(steps ...Step) Step {
	turn := make(chan int, 1)
	turn <- 0
	return func(r *Request) {
		n := <-turn
		turn <- (n + 1) % len(steps)
		steps[n](r)
	}
}

// A Late is a call that is on its way for so long that its caller gives up before the store gets
// it. Its zero value is ready.
type Late struct{ r *Request }

// Keep is the step that the request is held up somewhere. Its caller is answered by a later step.
func (l *Late) Keep(r *Request) {
	kept := *r
	kept.ctx = context.WithoutCancel(r.ctx) // the end of the call does not stop it on its way
	kept.Records = slices.Clone(r.Records)
	l.r = &kept
}

// Lands is the step of a later call, that the request that was held up reaches the store now.
func (l *Late) Lands(r *Request) { l.Land() }

// Land lets the request that was held up reach the store now. The test fails if the store refuses.
func (l *Late) Land() {
	if l.r == nil {
		panic("testkit: no call was kept")
	}
	l.r.tb.Helper()
	Apply(l.r)
}

func take(r *Request, steps []Step) {
	for _, step := range steps {
		step(r)
	}
}

package testkit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// A HookedStore stands between a Manager and a store. Each call takes the steps that a test has
// planned for it, and reaches the store unchanged if there are none. It is safe for concurrent use.
type HookedStore struct {
	tb    testing.TB
	inner tokensession.RefreshStore

	mu     sync.Mutex
	calls  []Call
	once   []*plan // each is taken by the first call that it fits, and only by that
	always []*plan // the last one that fits a call is taken
	checks bool    // whether the end of the test looks for plans that no call took
}

// A plan is what becomes of a call.
type plan struct {
	call  Call
	steps []Step
	left  int  // how many calls may still take it; negative: as many as come
	must  bool // the test fails if no call takes it
}

// Hook puts hooks around the calls of a store.
func Hook(tb testing.TB, inner tokensession.RefreshStore) *HookedStore {
	return &HookedStore{tb: tb, inner: inner}
}

// Plain returns a store without its optional abilities, so that a Manager has to do everything with
// the four calls that each store has.
func Plain(store tokensession.RefreshStore) tokensession.RefreshStore {
	return struct{ tokensession.RefreshStore }{store}
}

// On plans the steps of the next call. The test fails if no such call comes.
//
// Plans for the same call wait in a row, and each call takes the first of them. A plan leaves the
// row before its first step is taken, so that a call which a step makes takes the plan after it. A
// call that its steps neither send nor answer reaches the store after them. So On without steps
// lets one call through.
func (s *HookedStore) On(call Call, steps ...Step) {
	s.add(&s.once, &plan{call: call, steps: steps, left: 1, must: true})
}

// Times plans the steps of up to n calls, which need not come. The plans of On and Times are in one
// row.
func (s *HookedStore) Times(n int, call Call, steps ...Step) {
	if n <= 0 {
		return
	}
	s.add(&s.once, &plan{call: call, steps: steps, left: n})
}

// Always plans the steps of each call for which On and Times have no plan. The newest plan for a
// call holds.
func (s *HookedStore) Always(call Call, steps ...Step) {
	s.add(&s.always, &plan{call: call, steps: steps, left: -1})
}

// Down has the requests of these calls lost until Clear, or of all calls if none is named.
func (s *HookedStore) Down(calls ...Call) {
	if len(calls) == 0 {
		calls = []Call{Any}
	}
	for _, call := range calls {
		s.Always(call, LoseRequest)
	}
}

// GoesDown returns the step that Down begins while another call is under way.
func (s *HookedStore) GoesDown(calls ...Call) Step { return Do(func() { s.Down(calls...) }) }

// Clear drops all plans: the connection works again.
func (s *HookedStore) Clear() {
	s.tb.Helper()
	s.requireTaken()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.once, s.always = nil, nil
}

func (s *HookedStore) add(plans *[]*plan, p *plan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	*plans = append(*plans, p)
	if p.must && !s.checks {
		s.checks = true
		s.tb.Cleanup(s.requireTaken)
	}
}

// requireTaken fails the test if a plan of On is left.
func (s *HookedStore) requireTaken() {
	s.tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, p := range s.once {
		if p.must {
			s.tb.Errorf("testkit: no %s came for the steps that were planned for it", p.call)
		}
	}
}

// Took returns the calls since the last Took.
func (s *HookedStore) Took() []Call {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

// Count returns how many times a method was called since the last Took.
func (s *HookedStore) Count(call Call) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if fits(call, c) {
			n++
		}
	}
	return n
}

func fits(planned, call Call) bool { return planned == call || planned == Any }

// next takes the plan of a call out of the row.
func (s *HookedStore) next(call Call) []Step {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, call)
	isIts := func(p *plan) bool { return fits(p.call, call) }
	if i := slices.IndexFunc(s.once, isIts); i >= 0 {
		p := s.once[i]
		if p.left--; p.left <= 0 {
			s.once = slices.Delete(s.once, i, i+1)
		}
		return p.steps
	}
	for _, p := range slices.Backward(s.always) {
		if isIts(p) {
			return p.steps
		}
	}
	return nil
}

// do takes the steps of a call.
func (s *HookedStore) do(ctx context.Context, r *Request, send func(*Request) error) error {
	r.ctx, r.tb, r.send = ctx, s.tb, send
	take(r, s.next(r.Call))
	if !r.answered {
		r.Pass()
	}
	return r.err
}

// Store returns the store for a Manager. It has the optional abilities that the store inside has,
// and no others.
func (s *HookedStore) Store() tokensession.RefreshStore {
	sweeper, sweeps := s.inner.(tokensession.Sweeper)
	feed, feeds := s.inner.(tokensession.RevocationFeed)
	revoker, revokes := s.inner.(tokensession.SubjectRevoker)
	four := hookedCalls{s}
	a, b, c := hookedSweeper{s, sweeper}, hookedFeed{s, feed}, hookedRevoker{s, revoker}
	switch [3]bool{sweeps, feeds, revokes} {
	case [3]bool{true, true, true}:
		return struct {
			hookedCalls
			hookedSweeper
			hookedFeed
			hookedRevoker
		}{four, a, b, c}
	case [3]bool{true, true, false}:
		return struct {
			hookedCalls
			hookedSweeper
			hookedFeed
		}{four, a, b}
	case [3]bool{true, false, true}:
		return struct {
			hookedCalls
			hookedSweeper
			hookedRevoker
		}{four, a, c}
	case [3]bool{true, false, false}:
		return struct {
			hookedCalls
			hookedSweeper
		}{four, a}
	case [3]bool{false, true, true}:
		return struct {
			hookedCalls
			hookedFeed
			hookedRevoker
		}{four, b, c}
	case [3]bool{false, true, false}:
		return struct {
			hookedCalls
			hookedFeed
		}{four, b}
	case [3]bool{false, false, true}:
		return struct {
			hookedCalls
			hookedRevoker
		}{four, c}
	default:
		return four
	}
}

// The four calls of each store.
type hookedCalls struct{ s *HookedStore }

func (h hookedCalls) Create(ctx context.Context, rec tokensession.Record) error {
	return h.s.do(ctx, &Request{Call: Create, Record: rec}, func(r *Request) error {
		return h.s.inner.Create(r.ctx, r.Record)
	})
}

func (h hookedCalls) Swap(ctx context.Context, next tokensession.Record) error {
	return h.s.do(ctx, &Request{Call: Swap, Record: next}, func(r *Request) error {
		return h.s.inner.Swap(r.ctx, r.Record)
	})
}

func (h hookedCalls) Load(ctx context.Context, id string) (tokensession.Record, error) {
	r := &Request{Call: Load, Record: tokensession.Record{ID: id}}
	err := h.s.do(ctx, r, func(r *Request) (err error) {
		r.Record, err = h.s.inner.Load(r.ctx, r.Record.ID)
		return err
	})
	if err != nil {
		return tokensession.Record{}, err
	}
	return r.Record, nil
}

func (h hookedCalls) List(ctx context.Context, subject string) ([]tokensession.Record, error) {
	r := &Request{Call: List, Record: tokensession.Record{Subject: subject}}
	err := h.s.do(ctx, r, func(r *Request) (err error) {
		r.Records, err = h.s.inner.List(r.ctx, r.Record.Subject)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r.Records, nil
}

type hookedSweeper struct {
	s     *HookedStore
	inner tokensession.Sweeper
}

func (h hookedSweeper) Sweep(ctx context.Context, now time.Time, limit int) (int, error) {
	r := &Request{Call: Sweep, Time: now}
	err := h.s.do(ctx, r, func(r *Request) (err error) {
		r.Swept, err = h.inner.Sweep(r.ctx, r.Time, limit)
		return err
	})
	return r.Swept, err
}

type hookedFeed struct {
	s     *HookedStore
	inner tokensession.RevocationFeed
}

func (h hookedFeed) Revocations(
	ctx context.Context, since time.Time, page func([]tokensession.Revocation) error,
) error {
	r := &Request{Call: Revocations, Time: since}
	err := h.s.do(ctx, r, func(r *Request) error {
		return h.inner.Revocations(r.ctx, r.Time, func(some []tokensession.Revocation) error {
			r.Revocations = append(r.Revocations, some...)
			return nil
		})
	})
	if len(r.Revocations) > 0 && (err == nil || errors.Is(err, tokensession.ErrUnreadable)) {
		if err := page(r.Revocations); err != nil {
			return err
		}
	}
	return err
}

type hookedRevoker struct {
	s     *HookedStore
	inner tokensession.SubjectRevoker
}

func (h hookedRevoker) RevokeSubject(
	ctx context.Context, order tokensession.SubjectRevocation,
) ([]tokensession.Record, error) {
	r := &Request{
		Call: RevokeSubject, Time: order.At, Record: tokensession.Record{Subject: order.Subject},
	}
	err := h.s.do(ctx, r, func(r *Request) (err error) {
		order.Subject, order.At = r.Record.Subject, r.Time
		r.Records, err = h.inner.RevokeSubject(r.ctx, order)
		return err
	})
	if err != nil {
		return nil, err
	}
	return r.Records, nil
}

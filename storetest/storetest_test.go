package storetest

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/seed67bc9b7f/tokensession"
)

func TestRun_passesMemoryStore(t *testing.T) {
	Run(t, func(*testing.T) tokensession.RefreshStore { return tokensession.NewMemoryStore() })
}

func TestRun_passesPlainStoreAndGivesEachCaseOneOfItsOwn(t *testing.T) {
	stores := 0
	Run(t, func(*testing.T) tokensession.RefreshStore {
		stores++
		return newFaultyStore("")
	})
	if want := len(allCases()); stores != want || want == 0 {
		t.Errorf("%d stores were made for %d cases", stores, want)
	}
}

// outcome says how a case went.
type outcome string

const (
	passed  outcome = "passed"
	failed  outcome = "failed"
	skipped outcome = "skipped"
)

// A recorder stands in for *testing.T.
type recorder struct {
	t *testing.T

	mu       sync.Mutex
	outcome  outcome
	messages []string
}

func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return r.t.Context() }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.outcome = failed
	r.messages = append(r.messages, fmt.Sprintf(format, args...))
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Skipf(string, ...any) {
	r.outcome = skipped
	runtime.Goexit()
}

// record runs a case on a goroutine of its own, which Fatalf and Skipf end.
func record(t *testing.T, tc testCase, store tokensession.RefreshStore) *recorder {
	return recordElsewhere(t, tc, store, nil)
}

// recordElsewhere is record for a case of RunElsewhere.
func recordElsewhere(t *testing.T, tc testCase, master, elsewhere tokensession.RefreshStore) *recorder {
	r := &recorder{t: t, outcome: passed}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c := newCheck(r, master, tc.reason)
		c.elsewhere = elsewhere
		tc.run(c)
	}()
	<-done
	return r
}

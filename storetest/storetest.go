// Package storetest is the contract of [tokensession.RefreshStore] in executable form. Who writes a store runs it in a
// test of the store's own:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) tokensession.RefreshStore {
//			return mystore.New(emptyDatabase(t))
//		})
//	}
//
// Each rule of the contract that can be tried from outside is a subtest with a name, and each failure says what goes
// wrong for a user's sessions where the rule is broken. A few subtests start many goroutines: run them with -race. Not
// tried is what a store does while its server fails: that it calls no failure [tokensession.ErrNotFound] is for tests of
// its own.
package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// Run runs every case over a store of its own, which newStore makes. For a store whose records are in a database that
// several processes use, run [RunShared] too, and for one that drops expired records by itself, [RunExpiry]. The store has to be empty and the server behind
// it undisturbed: what the contract allows a store that could not tell is a failure here. The subtests are not parallel,
// so that newStore may empty the same database again and again; what has to be closed is for t.Cleanup.
//
// Cases for [tokensession.Sweeper], [tokensession.RevocationFeed] and [tokensession.SubjectRevoker] are skipped, and
// say so, where the store is none. Times are real ones, for a server may expire records by its own clock: it must agree
// with this machine's. All cases together wait for about two seconds.
func Run(t *testing.T, newStore func(t *testing.T) tokensession.RefreshStore) {
	t.Helper()
	run(t, allCases(), newStore)
}

// RunShared is Run over stores on the same records, as different processes have them: newStores makes at least two on
// one empty database. Each call of a case goes to the next one, so that what a store knows by itself, of a cache or
// behind a mutex, shows.
func RunShared(t *testing.T, newStores func(t *testing.T) []tokensession.RefreshStore) {
	t.Helper()
	run(t, allCases(), func(t *testing.T) tokensession.RefreshStore {
		stores := newStores(t)
		if len(stores) < 2 {
			t.Fatalf("storetest: RunShared: %d stores: must be two or more", len(stores))
		}
		return &shared{stores: stores}
	})
}

// RunExpiry runs the cases for stores that drop expired records by themselves and are no [tokensession.Sweeper]: a record
// has to be gone when it has been expired for as long as within. It waits for about as long.
func RunExpiry(t *testing.T, within time.Duration, newStore func(t *testing.T) tokensession.RefreshStore) {
	t.Helper()
	run(t, []testCase{expiresByItself(within)}, newStore)
}

func run(t *testing.T, cases []testCase, newStore func(t *testing.T) tokensession.RefreshStore) {
	t.Helper()
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			tc.run(newCheck(t, newStore(t), tc.reason))
		})
	}
}

// A testCase is one rule of the contract. It is run over a store of its own.
type testCase struct {
	name   string
	reason string // why the rule matters, for who broke it
	run    func(*check)
}

func allCases() []testCase {
	return slices.Concat(createCases, loadCases, swapCases, fieldCases, listCases, expiryCases, sweepCases,
		feedCases, subjectRevokerCases, contextCases)
}

// tb is the part of *testing.T that cases use, so that this package's tests can see a case fail without failing.
type tb interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// A check is one run of a case.
type check struct {
	t      tb
	ctx    context.Context
	store  tokensession.RefreshStore
	reason string
	now    time.Time // when it began, with a fraction that shows cut to milliseconds
}

func newCheck(t tb, store tokensession.RefreshStore, reason string) *check {
	now := time.Now().UTC().Truncate(time.Millisecond).Add(-time.Millisecond + 789*time.Microsecond)
	return &check{t: t, ctx: t.Context(), store: store, reason: reason, now: now}
}

func (c *check) errorf(format string, args ...any) {
	c.t.Helper()
	c.t.Errorf("%s\nwhy it matters: %s", fmt.Sprintf(format, args...), c.reason)
}

func (c *check) fatalf(format string, args ...any) {
	c.t.Helper()
	c.t.Fatalf("%s\nwhy it matters: %s", fmt.Sprintf(format, args...), c.reason)
}

// sweeper returns the store's optional side, or skips the case.
func (c *check) sweeper() tokensession.Sweeper { return optional[tokensession.Sweeper](c, "Sweeper") }

func (c *check) feed() tokensession.RevocationFeed {
	return optional[tokensession.RevocationFeed](c, "RevocationFeed")
}

func (c *check) subjectRevoker() tokensession.SubjectRevoker {
	return optional[tokensession.SubjectRevoker](c, "SubjectRevoker")
}

func optional[T any](c *check, name string) T {
	c.t.Helper()
	store := c.store
	if several, ok := store.(*shared); ok {
		store = several.next()
	}
	able, ok := store.(T)
	if !ok {
		c.t.Skipf("%T is no tokensession.%s", store, name)
	}
	return able
}

// Package storetest is the contract of [tokensession.RefreshStore] in executable form. Run it in a
// test of your store:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) tokensession.RefreshStore {
//			return mystore.New(emptyDatabase(t))
//		})
//	}
//
// Each rule of the contract that can be tried from outside is a subtest. Its name says the rule,
// and its failures say how breaking the rule harms a user's sessions. Run the subtests with -race
// too, because some start many goroutines.
//
// [Run] is for every store. Run [RunShared] too if several processes use the records,
// [RunElsewhere] if the database is in several places, and [RunExpiry] if the store drops expired
// records by itself. [RunKeys] is for a store that keeps signing keys, too.
//
// One rule needs tests of your own: when the server fails, the store must not take that for
// [tokensession.ErrNotFound], or for another verdict.
package storetest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// Run runs every case over a store of its own, which newStore makes. The store has to be empty, and
// nothing may disturb the server behind it: an error that the contract allows when the store could
// not tell is a failure here. The subtests are not parallel, so that newStore may empty the same
// database again and again. Close the store in t.Cleanup.
//
// Cases for [tokensession.Sweeper], [tokensession.RevocationFeed],
// [tokensession.RevocationNotifier] and [tokensession.SubjectRevoker] are skipped, and say so, if
// the store does not implement it.
//
// Times are real ones, because a server may expire records by its own clock. That clock has to
// agree with this machine's. All cases together wait for about two seconds, and for three more if
// the store is a RevocationNotifier. One case makes three thousand sessions if the store is a
// RevocationFeed.
func Run(t *testing.T, newStore func(t *testing.T) tokensession.RefreshStore) {
	t.Helper()
	run(t, allCases(), newStore)
}

// RunShared is Run over stores on the same records, as different processes have them. NewStores
// makes at least two stores on one empty database. Each call of a case goes to the next store. That
// shows if a store relies on something that the others do not see, such as a cache or a mutex.
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

// RunExpiry runs the cases for stores that drop expired records by themselves and are no
// [tokensession.Sweeper]. A record has to be gone when it has been expired for as long as within.
// The cases wait for about as long.
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
	reason string // why the rule matters; each failure says so
	run    func(*check)
}

func allCases() []testCase {
	return slices.Concat(createCases, loadCases, swapCases, fieldCases, loginCases, listCases,
		expiryCases, sweepCases, feedCases, notifiedCases, subjectRevokerCases, contextCases)
}

// tb is the part of *testing.T that cases use, so that this package's tests can see a case fail
// without failing.
type tb interface {
	Helper()
	Context() context.Context
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
	Skipf(format string, args ...any)
}

// A check is one run of a case.
type check struct {
	t         tb
	ctx       context.Context
	store     tokensession.RefreshStore
	elsewhere tokensession.RefreshStore // of RunElsewhere
	reason    string
	now       time.Time // when it began, with a fraction that shows cut to milliseconds
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
func (c *check) sweeper() tokensession.Sweeper {
	return optional[tokensession.Sweeper](c,
		"Sweeper")
}

func (c *check) feed() tokensession.RevocationFeed {
	return optional[tokensession.RevocationFeed](c, "RevocationFeed")
}

func (c *check) subjectRevoker() tokensession.SubjectRevoker {
	return optional[tokensession.SubjectRevoker](c, "SubjectRevoker")
}

func optional[T any](c *check, name string) T {
	c.t.Helper()
	able, ok := ability[T](c.store)
	if !ok {
		c.t.Skipf("the store is no tokensession.%s", name)
	}
	return able
}

// ability finds an optional ability of a store, or of the next one of several.
func ability[T any](store tokensession.RefreshStore) (T, bool) {
	if several, ok := store.(*shared); ok {
		store = several.next()
	}
	able, ok := store.(T)
	return able, ok
}

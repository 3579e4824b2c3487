package testkit_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

var ctx = context.Background()

func record(id string) tokensession.Record {
	return tokensession.Record{
		ID: id, Version: 1, WriteID: "write", Subject: "alice", Key: make([]byte, 32),
		AuthTime: testkit.Began, CreatedAt: testkit.Began, RotatedAt: testkit.Began,
		ExpiresAt: testkit.Began.Add(time.Hour),
	}
}

func swap(store tokensession.RefreshStore, version uint64) error {
	rec := record("a")
	rec.Version, rec.WriteID, rec.Replaces = version, fmt.Sprint("write ", version), "write"
	if version > 2 {
		rec.Replaces = fmt.Sprint("write ", version-1)
	}
	return store.Swap(ctx, rec)
}

func newStore(
	t testing.TB,
) (*testkit.HookedStore, tokensession.RefreshStore, *tokensession.MemoryStore) {
	t.Helper()
	memory := tokensession.NewMemoryStore()
	require.NoError(t, memory.Create(ctx, record("a")))
	hooked := testkit.Hook(t, memory)
	return hooked, hooked.Store(), memory
}

func versionIn(t testing.TB, memory *tokensession.MemoryStore) uint64 {
	t.Helper()
	rec, err := memory.Load(ctx, "a")
	require.NoError(t, err)
	return rec.Version
}

// A story is told in the order of its plans: what comes before a step, what the store has after it.
func TestOn_takesItsStepsInOrder(t *testing.T) {
	hooked, store, memory := newStore(t)
	clock := testkit.NewClock()
	var before, after uint64
	hooked.On(testkit.Swap,
		testkit.Do(func() { before = versionIn(t, memory) }),
		clock.Passes(12*time.Second),
		testkit.Apply,
		testkit.Do(func() { after = versionIn(t, memory) }),
		testkit.LoseReply,
	)
	hooked.On(testkit.Swap, testkit.LoseRequest)
	require.ErrorIs(t, swap(store, 2), testkit.ErrDown)
	require.Equal(t, testkit.Began.Add(12*time.Second), clock.Now())
	require.Equal(t, [2]uint64{1, 2}, [2]uint64{before, after})
	require.ErrorIs(t, swap(store, 3), testkit.ErrDown)
	require.EqualValues(t, 2, versionIn(t, memory), "the request was lost")
	require.NoError(t, swap(store, 3), "no plan is left")
	require.Equal(t, []testkit.Call{testkit.Swap, testkit.Swap, testkit.Swap}, hooked.Took())
	require.Empty(t, hooked.Took())
}

// A step's own calls do not take the plan that they are part of.
func TestOn_isGoneBeforeItsFirstStep(t *testing.T) {
	hooked, store, memory := newStore(t)
	hooked.On(testkit.Swap, testkit.Do(func() { require.NoError(t, swap(store, 2)) }))
	hooked.On(testkit.Swap, testkit.Do(func() { require.EqualValues(t, 1, versionIn(t, memory)) }))
	require.NoError(t, swap(store, 3))
	require.EqualValues(t, 3, versionIn(t, memory))
}

func TestOn_precedesAlways(t *testing.T) {
	hooked, store, _ := newStore(t)
	hooked.Always(testkit.Any, testkit.Refuse(tokensession.ErrNotFound))
	hooked.On(testkit.Load)
	hooked.Times(2, testkit.Load, testkit.LoseRequest)
	for _, want := range []error{
		nil, testkit.ErrDown, testkit.ErrDown, tokensession.ErrNotFound, tokensession.ErrNotFound,
	} {
		_, err := store.Load(ctx, "a")
		require.ErrorIs(t, err, want)
	}
	hooked.Clear()
	_, err := store.Load(ctx, "a")
	require.NoError(t, err)
	require.Equal(t, 6, hooked.Count(testkit.Load))
	require.Equal(t, 6, hooked.Count(testkit.Any))
}

func TestDown_losesTheRequestsOfTheCallsThatItNames(t *testing.T) {
	hooked, store, memory := newStore(t)
	hooked.On(testkit.Swap, testkit.Apply, hooked.GoesDown(testkit.Load), testkit.LoseReply)
	require.ErrorIs(t, swap(store, 2), testkit.ErrDown)
	_, err := store.Load(ctx, "a")
	require.ErrorIs(t, err, testkit.ErrDown)
	require.NoError(t, swap(store, 3))
	hooked.Down()
	require.ErrorIs(t, swap(store, 4), testkit.ErrDown)
	require.EqualValues(t, 3, versionIn(t, memory))
}

func TestLate_landsAfterItsCallerGaveUp(t *testing.T) {
	hooked, store, memory := newStore(t)
	var late testkit.Late
	hooked.On(testkit.Swap, late.Keep, testkit.LoseRequest)
	hooked.On(testkit.Swap, late.Lands)
	require.ErrorIs(t, swap(store, 2), testkit.ErrDown)
	require.EqualValues(t, 1, versionIn(t, memory))
	require.ErrorIs(t, swap(store, 5), tokensession.ErrConflict)
	require.EqualValues(t, 2, versionIn(t, memory))
}

func TestHang_lastsAsLongAsTheContext(t *testing.T) {
	hooked, store, _ := newStore(t)
	hooked.On(testkit.Load, testkit.Hang)
	ended, end := context.WithCancel(ctx)
	end()
	_, err := store.Load(ended, "a")
	require.ErrorIs(t, err, context.Canceled)
}

func TestSteps_mayChangeWhatIsAskedAndAnswered(t *testing.T) {
	hooked, store, memory := newStore(t)
	hooked.On(testkit.Create, func(r *testkit.Request) { r.Record.Subject = "bob" })
	require.NoError(t, store.Create(ctx, record("b")))
	rec, err := memory.Load(ctx, "b")
	require.NoError(t, err)
	require.Equal(t, "bob", rec.Subject)

	require.NoError(t, store.Create(ctx, record("c")))
	hooked.On(testkit.List, testkit.Pass, func(r *testkit.Request) {
		require.NoError(t, r.Err())
		slices.Reverse(r.Records)
	})
	recs, err := store.List(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, []string{"c", "a"}, []string{recs[0].ID, recs[1].ID})

	hooked.Always(testkit.Load,
		testkit.If(func(r *testkit.Request) bool { return r.Record.ID == "b" },
			testkit.LoseRequest))
	_, err = store.Load(ctx, "b")
	require.ErrorIs(t, err, testkit.ErrDown)
	_, err = store.Load(ctx, "a")
	require.NoError(t, err)
}

func TestInTurn_beginsAnew(t *testing.T) {
	hooked, store, _ := newStore(t)
	hooked.Always(testkit.Load, testkit.InTurn(testkit.LoseRequest, testkit.Pass))
	for i := range 6 {
		_, err := store.Load(ctx, "a")
		require.Equal(t, i%2 == 0, err != nil)
	}
}

// A failed lets a test fail that is none.
type failed struct {
	testing.TB
	errors   []string
	cleanups []func()
}

func (f *failed) Helper() {}
func (f *failed) Errorf(format string, a ...any) {
	f.errors = append(f.errors, fmt.Sprintf(format, a...))
}
func (f *failed) Cleanup(g func()) { f.cleanups = append(f.cleanups, g) }

func TestTest_failsWhereTheStoryIsAnotherOne(t *testing.T) {
	for name, c := range map[string]struct {
		play func(hooked *testkit.HookedStore, store tokensession.RefreshStore)
		want string
	}{
		"no call came": {func(hooked *testkit.HookedStore, _ tokensession.RefreshStore) {
			hooked.On(testkit.Swap)
		}, "no Swap came"},
		"no call came before Clear": {func(hooked *testkit.HookedStore, _ tokensession.RefreshStore) {
			hooked.On(testkit.List)
			hooked.Clear()
		}, "no List came"},
		"the store refused": {func(hooked *testkit.HookedStore, store tokensession.RefreshStore) {
			hooked.On(testkit.Swap, testkit.Apply, testkit.LoseReply)
			_ = swap(store, 9)
		}, "was to be applied"},
		"a late write was refused": {func(hooked *testkit.HookedStore, store tokensession.RefreshStore) {
			var late testkit.Late
			hooked.On(testkit.Swap, late.Keep, testkit.LoseRequest)
			_ = swap(store, 9)
			late.Land()
		}, "was to be applied"},
		"none": {func(hooked *testkit.HookedStore, store tokensession.RefreshStore) {
			hooked.Times(3, testkit.Swap, testkit.Pass, testkit.LoseReply)
			hooked.Always(testkit.Load)
			_ = swap(store, 9)
		}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			f := &failed{TB: t}
			hooked := testkit.Hook(f, tokensession.NewMemoryStore())
			c.play(hooked, hooked.Store())
			for _, g := range f.cleanups {
				g()
			}
			if c.want == "" {
				require.Empty(t, f.errors)
			} else {
				require.Len(t, f.errors, 1)
				require.Contains(t, f.errors[0], c.want)
			}
		})
	}
}

func TestSteps_panicWhereTheyMakeNoSense(t *testing.T) {
	hooked, store, _ := newStore(t)
	hooked.On(testkit.Swap, testkit.LoseReply)
	require.Panics(t, func() { _ = swap(store, 2) }, "no request, no reply")
	hooked.On(testkit.Swap, testkit.Pass, testkit.LoseRequest)
	require.Panics(t, func() { _ = swap(store, 2) }, "it has arrived")
	require.Panics(t, func() { new(testkit.Late).Land() })
}

func TestStore_hasTheAbilitiesOfTheStoreInsideAndNoOthers(t *testing.T) {
	memory := tokensession.NewMemoryStore()
	four := testkit.Plain(memory)
	type (
		sweeps  = tokensession.Sweeper
		feeds   = tokensession.RevocationFeed
		revokes = tokensession.SubjectRevoker
		base    = tokensession.RefreshStore
	)
	for i, inner := range []tokensession.RefreshStore{
		four,
		struct {
			base
			sweeps
		}{four, memory},
		struct {
			base
			feeds
		}{four, memory},
		struct {
			base
			sweeps
			feeds
		}{four, memory, memory},
		struct {
			base
			revokes
		}{four, memory},
		struct {
			base
			sweeps
			revokes
		}{four, memory, memory},
		struct {
			base
			feeds
			revokes
		}{four, memory, memory},
		memory,
	} {
		hooked := testkit.Hook(t, inner)
		store := hooked.Store()
		var calls []testkit.Call
		hooked.Always(testkit.Any, func(r *testkit.Request) { calls = append(calls, r.Call) })
		var want []testkit.Call

		s, ok := store.(tokensession.Sweeper)
		require.Equal(t, i&1 != 0, ok, i)
		if ok {
			n, err := s.Sweep(ctx, testkit.Began, 1)
			require.NoError(t, err)
			require.Zero(t, n)
			want = append(want, testkit.Sweep)
		}
		f, ok := store.(tokensession.RevocationFeed)
		require.Equal(t, i&2 != 0, ok, i)
		if ok {
			err := f.Revocations(ctx, testkit.Began, func([]tokensession.Revocation) error { return nil })
			require.NoError(t, err)
			want = append(want, testkit.Revocations)
		}
		v, ok := store.(tokensession.SubjectRevoker)
		require.Equal(t, i&4 != 0, ok, i)
		if ok {
			_, err := v.RevokeSubject(ctx, tokensession.SubjectRevocation{
				Subject: "alice", Issuers: []string{"us"}, At: testkit.Began,
				Reason: tokensession.ReasonRevoked, WriteID: "w",
			})
			require.NoError(t, err)
			want = append(want, testkit.RevokeSubject)
		}
		require.Equal(t, want, calls)
	}
}

func TestEvents_keepWhatWasTold(t *testing.T) {
	var events testkit.Events
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() { events.Add(ctx, tokensession.Event{Kind: tokensession.EventStarted}) })
	}
	wg.Wait()
	require.Equal(t, 10, events.Count(tokensession.EventStarted))
	require.Zero(t, events.Count(tokensession.EventRevoked))
	require.Len(t, events.All(), 10)
	require.Len(t, events.TakeKinds(), 10)
	require.Empty(t, events.Kinds())
	require.Empty(t, events.Take())
}

func TestInEveryOrder_playsEachOrderOnce(t *testing.T) {
	seen := map[string]bool{}
	testkit.InEveryOrder(t, func(play *testkit.Play) func() {
		var order []string
		for _, name := range []string{"a", "b"} {
			play.Actor(name, func(ctx context.Context) {
				for range 2 {
					testkit.Await(ctx, "step")
					order = append(order, name)
				}
			})
		}
		return func() {
			played := strings.Join(order, "")
			require.False(t, seen[played], "%s twice", played)
			seen[played] = true
		}
	})
	require.Len(t, seen, 6, "two of four steps are a's")
}

// Calls of a store are steps, and so is whatever else waits.
func TestInEveryOrder_findsALostUpdate(t *testing.T) {
	outcomes := map[uint64]bool{}
	testkit.InEveryOrder(t, func(play *testkit.Play) func() {
		hooked, store, memory := newStore(t)
		hooked.Always(testkit.Any, testkit.AwaitTurn)
		for name := range 2 {
			play.Actor(fmt.Sprint(name), func(ctx context.Context) {
				rec, err := store.Load(ctx, "a")
				require.NoError(t, err)
				rec.Version, rec.WriteID, rec.Replaces = rec.Version+1, fmt.Sprint(name), rec.WriteID
				if err := store.Swap(ctx, rec); !errors.Is(err, tokensession.ErrConflict) {
					require.NoError(t, err)
				}
			})
		}
		play.Actor("idle", func(context.Context) {})
		return func() { outcomes[versionIn(t, memory)] = true }
	})
	require.Equal(t, map[uint64]bool{2: true, 3: true}, outcomes)
}

package tokensession_test

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// A scriptedFeed is a store whose feed, and whose notifications, a test makes up.
type scriptedFeed struct {
	tokensession.RefreshStore
	revocations func(ctx context.Context, since time.Time, page func(...tokensession.Revocation)) error
}

func (s scriptedFeed) Revocations(
	ctx context.Context, since time.Time, page func([]tokensession.Revocation) error,
) error {
	return s.revocations(ctx, since, func(some ...tokensession.Revocation) { _ = page(some) })
}

type scriptedNotifier struct {
	scriptedFeed
	notified func(ctx context.Context) error
}

func (s scriptedNotifier) Notified(ctx context.Context) error { return s.notified(ctx) }

// A fedManager is a Manager that runs on a feed which a test makes up.
type fedManager struct {
	*tokensession.Manager
	events *testkit.Events
	stop   func()
}

func feeds(t *testing.T, store tokensession.RefreshStore, cfg tokensession.Config) *fedManager {
	t.Helper()
	events := &testkit.Events{}
	cfg.OnEvent = events.Add
	m := &fedManager{Manager: newManager(t, testSigner(t), store, cfg), events: events}
	m.stop = runs(t, m.Manager)
	synctest.Wait()
	return m
}

func (m *fedManager) login(t *testing.T) tokensession.Tokens {
	t.Helper()
	tokens, err := m.Start(t.Context(), "alice")
	require.NoError(t, err)
	return tokens
}

func (m *fedManager) refuses(t *testing.T, tokens tokensession.Tokens, msg string) {
	t.Helper()
	_, err := m.Verify(tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked, msg)
}

func revocationOf(tokens tokensession.Tokens) tokensession.Revocation {
	return tokensession.Revocation{SessionID: tokens.Session.ID, At: time.Now()}
}

// isFull tells a full look from a small one.
func isFull(since time.Time) bool { return time.Since(since) > 10*time.Minute }

// A full look at a large feed takes long. What is revoked meanwhile is found by small looks.
func TestRun_smallLooksGoOnBesideAFullOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fresh, deep atomic.Pointer[tokensession.Revocation]
		finish := make(chan struct{})
		m := feeds(t, scriptedFeed{tokensession.NewMemoryStore(), func(
			ctx context.Context, since time.Time, page func(...tokensession.Revocation),
		) error {
			if r := fresh.Load(); r != nil && !isFull(since) {
				page(*r)
			}
			if r := deep.Load(); r != nil && isFull(since) {
				page(*r)
			}
			for isFull(since) {
				select {
				case <-time.After(4 * time.Second):
					page()
				case <-finish:
					return nil
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return nil
		}}, tokensession.Config{})
		passes(20 * time.Second)
		require.ErrorContains(t, m.Healthy(t.Context()), "not read the revocation feed yet",
			"only small looks came through")
		one := m.login(t)
		r := revocationOf(one)
		fresh.Store(&r)
		passes(time.Second)
		m.refuses(t, one, "while the first full look runs")
		require.Empty(t, m.events.Take()[1:], "a look that brings pages is not given up")

		close(finish)
		synctest.Wait()
		events := m.events.Take()
		require.Equal(t, tokensession.EventFeedFresh, events[0].Kind)
		require.Zero(t, events[0].Since)
		require.NoError(t, m.Healthy(t.Context()))
		m.stop()
	})
}

// What a look has told before it broke off counts.
func TestRun_deniesEachPageAsItComes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var known atomic.Pointer[tokensession.Revocation]
		m := feeds(t, scriptedFeed{tokensession.NewMemoryStore(), func(
			ctx context.Context, _ time.Time, page func(...tokensession.Revocation),
		) error {
			if r := known.Load(); r != nil {
				page(*r)
				<-ctx.Done()
				return ctx.Err()
			}
			return nil
		}}, tokensession.Config{})
		tokens := m.login(t)
		r := revocationOf(tokens)
		known.Store(&r)
		passes(time.Second)
		m.refuses(t, tokens, "in the first page")
		passes(10 * time.Second)
		require.Equal(t, 1, m.events.Count(tokensession.EventFeedStale))
		m.stop()
	})
}

// The more a full look costs, the rarer it is.
func TestRun_aCostlyFullLookIsRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fulls, smalls atomic.Int64
		m := feeds(t, scriptedFeed{tokensession.NewMemoryStore(), func(
			ctx context.Context, since time.Time, page func(...tokensession.Revocation),
		) error {
			if !isFull(since) {
				smalls.Add(1)
				return nil
			}
			fulls.Add(1)
			for range 10 {
				<-time.After(2 * time.Second)
				page()
			}
			return nil
		}}, tokensession.Config{})
		passes(20 * time.Minute)
		require.InDelta(t, 1200/200, fulls.Load(), 2)
		require.InDelta(t, 1200, smalls.Load(), 10, "one each second")
		m.stop()
	})
}

// Where very much was revoked just now, small looks cost much, and go back less far.
func TestRun_costlySmallLooksGoBackLess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var cost atomic.Int64
		var reach atomic.Int64 // of the last small look
		began := time.Now()
		m := feeds(t, scriptedFeed{tokensession.NewMemoryStore(), func(
			_ context.Context, since time.Time, _ func(...tokensession.Revocation),
		) error {
			if !isFull(since) {
				reach.Store(int64(time.Since(since)))
				<-time.After(time.Duration(cost.Load()))
			}
			return nil
		}}, tokensession.Config{})
		reaches := func() time.Duration { return time.Duration(reach.Load()).Round(time.Second) }
		passes(10*time.Second + 500*time.Millisecond)
		require.Equal(t, 6*time.Second, reaches(), "the overlap, and the second since the last look")
		cost.Store(int64(500 * time.Millisecond))
		passes(10 * time.Second)
		require.Equal(t, 2*time.Second, reaches())
		cost.Store(0)
		passes(10 * time.Second)
		require.Equal(t, 6*time.Second, reaches(), "%v after the start", time.Since(began))
		m.stop()
	})
}

// A MemoryStore notifies each Manager on it, so that a revocation is known at once.
func TestRun_aNotificationWakesEachManager(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, signer := tokensession.NewMemoryStore(), testSigner(t)
		one := newManager(t, signer, store, tokensession.Config{})
		var others []*tokensession.Manager
		for range 3 {
			other := newManager(t, signer, wrapper{store}, tokensession.Config{})
			others = append(others, other)
			defer runs(t, other)()
		}
		for n := range 50 {
			passes(time.Duration(n%13) * 7 * time.Millisecond)
			tokens, err := one.Start(t.Context(), "alice")
			require.NoError(t, err)
			require.NoError(t, one.Revoke(t.Context(), tokens.Session.ID))
			passes(50 * time.Millisecond)
			for _, other := range others {
				_, err := other.Verify(tokens.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked, "revocation %d", n)
			}
		}
	})
}

// A user who ends some devices one after the other is no storm: each end is known elsewhere at
// once.
func TestRun_aFewNotificationsWaitForNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, signer := tokensession.NewMemoryStore(), testSigner(t)
		one := newManager(t, signer, store, tokensession.Config{})
		other := newManager(t, signer, store, tokensession.Config{})
		defer runs(t, other)()
		for range 5 {
			passes(300 * time.Millisecond)
			for n := range 3 {
				tokens, err := one.Start(t.Context(), "alice")
				require.NoError(t, err)
				require.NoError(t, one.Revoke(t.Context(), tokens.Session.ID))
				passes(time.Millisecond)
				_, err = other.Verify(tokens.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked, "revocation %d", n)
			}
		}
	})
}

// What is notified while a look has to wait is found by that look, which needs no other one for it.
func TestRun_aStormIsAFewLooksAtOnceAndThenTwentyASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var looks atomic.Int64
		news := make(chan struct{})
		m := feeds(t, scriptedNotifier{scriptedFeed{tokensession.NewMemoryStore(), func(
			context.Context, time.Time, func(...tokensession.Revocation),
		) error {
			looks.Add(1)
			return nil
		}}, func(ctx context.Context) error {
			select {
			case <-news:
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		}}, tokensession.Config{})
		passes(time.Second)
		looks.Store(0)
		for range 6 {
			news <- struct{}{}
			synctest.Wait()
		}
		require.EqualValues(t, 4, looks.Load(), "after a quiet second")
		passes(time.Second)
		require.EqualValues(t, 5, looks.Load(), "one look for what came during a pause")
		passes(8 * time.Second)
		looks.Store(0)
		for end := time.Now().Add(10 * time.Second); time.Now().Before(end); passes(time.Millisecond) {
			select {
			case news <- struct{}{}:
			default:
			}
		}
		require.InDelta(t, 10*20+4, looks.Load(), 4)
		m.stop()
	})
}

// looksIn counts the looks at a feed, once the first ones are over.
func looksIn(
	t *testing.T, cfg tokensession.Config, notified func(ctx context.Context) error, d time.Duration,
) int64 {
	t.Helper()
	var looks atomic.Int64
	synctest.Test(t, func(t *testing.T) {
		m := feeds(t, scriptedNotifier{scriptedFeed{tokensession.NewMemoryStore(), func(
			context.Context, time.Time, func(...tokensession.Revocation),
		) error {
			looks.Add(1)
			return nil
		}}, notified}, cfg)
		passes(time.Minute)
		looks.Store(0)
		passes(d)
		m.stop()
	})
	return looks.Load()
}

func TestRun_looksSeldomWhileNotificationsWork(t *testing.T) {
	waits := func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }
	fails := func(context.Context) error { return testkit.ErrDown }
	storm := func(context.Context) error { return nil }
	turn := 0
	alternates := func(context.Context) error {
		if turn++; turn%2 == 0 {
			return testkit.ErrDown
		}
		return nil
	}
	for name, c := range map[string]struct {
		notified func(ctx context.Context) error
		interval time.Duration
		min, max int64 // looks in 10 minutes
	}{
		"nothing happens":          {waits, 0, 58, 60}, // at most one each ten seconds
		"it does not work":         {fails, 0, 595, 605},
		"a storm":                  {storm, 0, 11_000, 12_000},
		"it fails again and again": {alternates, 0, 100, 1500},
		"nothing, by FeedInterval": {waits, 30 * time.Second, 19, 30},
		"failing, by FeedInterval": {fails, 5 * time.Second, 119, 122},
	} {
		looks := looksIn(t, tokensession.Config{FeedInterval: c.interval}, c.notified, 10*time.Minute)
		require.GreaterOrEqual(t, looks, c.min, name)
		require.LessOrEqual(t, looks, c.max, name)
	}
}

// A notification can be lost, with its connection or in a failover, and nobody is told so. The next
// look finds what it was about.
func TestRun_findsWhatWasNotNotifiedWithinTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, signer := tokensession.NewMemoryStore(), testSigner(t)
		one := newManager(t, signer, store, tokensession.Config{})
		m := feeds(t, scriptedNotifier{
			scriptedFeed{store, func(
				ctx context.Context, since time.Time, page func(...tokensession.Revocation),
			) error {
				return store.Revocations(ctx, since, func(some []tokensession.Revocation) error {
					page(some...)
					return nil
				})
			}},
			func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		}, tokensession.Config{})
		for range 20 {
			passes(700 * time.Millisecond)
			tokens := m.login(t)
			require.NoError(t, one.Revoke(t.Context(), tokens.Session.ID))
			passes(10 * time.Second)
			m.refuses(t, tokens, "ten seconds after it was revoked elsewhere")
		}
		m.stop()
	})
}

// A quietStore counts what Run asks of it.
type quietStore struct {
	*tokensession.MemoryStore
	looks, sweeps atomic.Int64
}

func (s *quietStore) Revocations(
	ctx context.Context, since time.Time, page func([]tokensession.Revocation) error,
) error {
	s.looks.Add(1)
	return s.MemoryStore.Revocations(ctx, since, page)
}

func (s *quietStore) Sweep(ctx context.Context, now time.Time, limit int) (int, error) {
	s.sweeps.Add(1)
	return s.MemoryStore.Sweep(ctx, now, limit)
}

// Servers are billed by what they are asked, or sleep while they are asked nothing.
func TestRun_asksLittleInAnHourInWhichNothingHappens(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := &quietStore{MemoryStore: tokensession.NewMemoryStore()}
		m := feeds(t, store, tokensession.Config{})
		passes(5 * time.Second) // until the first looks and the first sweep are over
		looks, sweeps := store.looks.Load(), store.sweeps.Load()
		passes(time.Hour)
		require.LessOrEqual(t, store.looks.Load()-looks, int64(360), "one each ten seconds")
		require.LessOrEqual(t, store.sweeps.Load()-sweeps, int64(6), "one each ten minutes")
		m.stop()
	})
}

// What came while notifications did not work is found at once when they fail, by polling then, and
// at once again when they work.
func TestRun_pollsWhileNotificationsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var works atomic.Bool
		works.Store(true)
		var calls, looks atomic.Int64
		failing := make(chan struct{}, 1)
		m := feeds(t, scriptedNotifier{scriptedFeed{tokensession.NewMemoryStore(), func(
			context.Context, time.Time, func(...tokensession.Revocation),
		) error {
			looks.Add(1)
			return nil
		}}, func(ctx context.Context) error {
			if calls.Add(1); !works.Load() {
				return testkit.ErrDown
			}
			select {
			case <-failing:
				return testkit.ErrDown
			case <-ctx.Done():
				return ctx.Err()
			}
		}}, tokensession.Config{})
		passes(5 * time.Second)
		m.events.Take()
		looks.Store(0)
		calls.Store(0)
		works.Store(false)
		failing <- struct{}{}
		passes(time.Millisecond)
		require.EqualValues(t, 1, looks.Load(), "at once")
		passes(time.Minute)
		require.InDelta(t, 61, looks.Load(), 2)
		require.InDelta(t, 12, calls.Load(), 1, "asked again with a pause")
		events := m.events.Take()
		require.Len(t, events, 1)
		require.Equal(t, tokensession.EventFeedPolled, events[0].Kind)
		require.ErrorIs(t, events[0].Err, testkit.ErrDown)
		m.stop()
	})
}

// A record whose revoked_at is there and cannot be read is refused, but no refresh may end it for
// that: by its record, when that can be read again, it lives.
func TestRun_refusesWhatCannotBeReadAndEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var bad atomic.Pointer[tokensession.Revocation]
		m := feeds(t, scriptedFeed{tokensession.NewMemoryStore(), func(
			_ context.Context, _ time.Time, page func(...tokensession.Revocation),
		) error {
			if r := bad.Load(); r != nil {
				page(*r)
			}
			return nil
		}}, tokensession.Config{})
		tokens := m.login(t)
		bad.Store(&tokensession.Revocation{SessionID: tokens.Session.ID})
		m.events.Take()
		passes(time.Second)
		m.refuses(t, tokens, "which cannot be read")
		passes(5 * time.Minute)
		m.refuses(t, tokens, "still")
		require.Equal(t, []tokensession.EventKind{tokensession.EventUnreadable}, m.events.TakeKinds(),
			"told once while it lasts")
		next, err := m.Refresh(t.Context(), tokens.RefreshToken)
		require.NoError(t, err)
		require.Equal(t, []tokensession.EventKind{tokensession.EventRefreshed}, m.events.TakeKinds())

		bad.Store(nil) // it was mended
		passes(20 * time.Minute)
		next, err = m.Refresh(t.Context(), next.RefreshToken)
		require.NoError(t, err)
		_, err = m.Verify(next.AccessToken)
		require.NoError(t, err, "refused after it was mended")

		bad.Store(&tokensession.Revocation{SessionID: tokens.Session.ID})
		m.events.Take()
		passes(time.Second)
		require.Equal(t, 1, m.events.Count(tokensession.EventUnreadable), "told anew")
		m.stop()
	})
}

// An epoch outdates older access tokens. It says nothing against the session, which goes on.
func TestRun_anEpochEndsNoSession(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var outdated atomic.Pointer[tokensession.Revocation]
		m := feeds(t, scriptedFeed{tokensession.NewMemoryStore(), func(
			_ context.Context, _ time.Time, page func(...tokensession.Revocation),
		) error {
			if r := outdated.Load(); r != nil {
				page(*r)
			}
			return nil
		}}, tokensession.Config{})
		tokens := m.login(t)
		outdated.Store(&tokensession.Revocation{
			SessionID: tokens.Session.ID, At: time.Now(), Epoch: 1,
		})
		m.events.Take()
		passes(time.Second)
		_, err := m.Refresh(t.Context(), tokens.RefreshToken)
		require.NoError(t, err)
		require.Equal(t, []tokensession.EventKind{tokensession.EventRefreshed}, m.events.TakeKinds())
		m.stop()
	})
}

// Records that cannot be read neither hide the others nor are they told each second.
func TestRun_tellsOfEachUnreadableRecordOnceWhileItLasts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		unreadable := func(id string) error { return fmt.Errorf("%w: %s", tokensession.ErrUnreadable, id) }
		var fault atomic.Pointer[error]
		var known atomic.Pointer[tokensession.Revocation]
		m := feeds(t, scriptedFeed{tokensession.NewMemoryStore(), func(
			_ context.Context, _ time.Time, page func(...tokensession.Revocation),
		) error {
			if r := known.Load(); r != nil {
				page(*r)
			}
			if err := fault.Load(); err != nil {
				return *err
			}
			return nil
		}}, tokensession.Config{})
		tokens := m.login(t)
		r := revocationOf(tokens)
		known.Store(&r)
		m.events.Take()
		show := func(err error) []string {
			fault.Store(&err)
			passes(3 * time.Minute)
			var texts []string
			for _, e := range m.events.Take() {
				require.Equal(t, tokensession.EventUnreadable, e.Kind)
				require.ErrorIs(t, e.Err, tokensession.ErrUnreadable)
				texts = append(texts, e.Err.Error())
			}
			return texts
		}
		one, two := unreadable("one"), unreadable("two")
		require.Equal(t, []string{one.Error()}, show(one))
		m.refuses(t, tokens, "beside one that cannot be read")
		require.Equal(t, []string{two.Error()}, show(errors.Join(one, two)))
		require.Empty(t, show(two))
		require.Equal(t, []string{one.Error()}, show(errors.Join(two, one)), "it had been mended")
		caused := fmt.Errorf("%w: %w", tokensession.ErrUnreadable, errors.New("row 7"))
		require.Equal(t, []string{caused.Error()}, show(caused))
		m.stop()
	})
}

func TestHealthy_isAnErrorUntilTheFirstFullLook(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory, signer := tokensession.NewMemoryStore(), testSigner(t)
		store := testkit.Hook(t, memory)
		one := newManager(t, signer, memory, tokensession.Config{})
		tokens, err := one.Start(t.Context(), "alice")
		require.NoError(t, err)
		require.NoError(t, one.Revoke(t.Context(), tokens.Session.ID))
		passes(5 * time.Minute)

		var m *tokensession.Manager
		var health []error // when the host is told something
		m = newManager(t, signer, store.Store(), tokensession.Config{
			OnEvent: func(ctx context.Context, e tokensession.Event) {
				health = append(health, m.Healthy(ctx))
			},
		})
		err = m.Healthy(t.Context())
		require.ErrorContains(t, err, "not read the revocation feed yet")
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
		store.Always(testkit.Revocations, testkit.LoseRequest)
		defer runs(t, m)()
		passes(10 * time.Second)
		require.ErrorIs(t, m.Healthy(t.Context()), testkit.ErrDown)
		_, err = m.Verify(tokens.AccessToken)
		require.NoError(t, err, "as was to be expected of an instance that is not healthy")
		store.Clear()
		passes(2 * time.Second)
		require.NoError(t, m.Healthy(t.Context()))
		_, err = m.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked)
		require.Len(t, health, 2, "stale and fresh")
		require.Error(t, health[0])
		require.NoError(t, health[1], "an event of it is told when it is so")
	})
}

func TestHealthy_isAnErrorWhileTheFeedOrTheStoreDoesNotAnswer(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pair) {
		require.NoError(t, p.two.Healthy(t.Context()))
		p.store.Took()
		require.NoError(t, p.two.Healthy(t.Context()))
		require.Equal(t, []testkit.Call{testkit.Load}, p.store.Took(), "what it costs")

		p.store.Always(testkit.Load, testkit.LoseRequest)
		require.ErrorIs(t, p.two.Healthy(t.Context()), testkit.ErrDown)
		p.store.Always(testkit.Load, testkit.Hang)
		begin := time.Now()
		require.ErrorIs(t, p.two.Healthy(t.Context()), tokensession.ErrUnavailable)
		require.LessOrEqual(t, time.Since(begin), 5*time.Second)
		p.store.Clear()
		require.NoError(t, p.two.Healthy(t.Context()))

		p.store.Always(testkit.Revocations, testkit.LoseRequest)
		passes(20 * time.Second)
		require.NoError(t, p.two.Healthy(t.Context()), "for a short time, which an event tells")
		passes(20 * time.Second)
		require.ErrorContains(t, p.two.Healthy(t.Context()), "last read")
		p.store.Clear()
		passes(time.Second)
		require.NoError(t, p.two.Healthy(t.Context()))
	})
}

func TestHealthy_ofAStoreWithoutAFeedAsksTheStoreOnly(t *testing.T) {
	store := hookedSweeper(t)
	m := newManager(t, testSigner(t), store.Store(), tokensession.Config{})
	require.NoError(t, m.Healthy(t.Context()))
	store.Down()
	require.ErrorIs(t, m.Healthy(t.Context()), testkit.ErrDown)
}

package tokensession_test

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// A pair is two instances on one store, of which the second one runs.
type pair struct {
	one, two *tokensession.Manager
	memory   *tokensession.MemoryStore // of one
	store    *testkit.HookedStore      // of two, around memory
	told     *testkit.Events           // by two

	sweeps []int // what each sweep of two dropped
}

// inBubble gives a test a pair.
func inBubble(t *testing.T, f func(t *testing.T, p *pair)) {
	t.Helper()
	inBubbleWith(t, accessConfig, f)
}

func inBubbleWith(
	t *testing.T, access tokensession.AccessConfig, f func(t *testing.T, p *pair),
) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := &pair{memory: tokensession.NewMemoryStore(), told: &testkit.Events{}}
		p.store = testkit.Hook(t, p.memory)
		p.store.Always(testkit.Sweep, testkit.Apply, func(r *testkit.Request) {
			p.sweeps = append(p.sweeps, r.Swept)
		})
		signer, err := tokensession.NewAccessSigner(testKeyFor("EdDSA").key, access)
		require.NoError(t, err)
		p.one = newManager(t, signer, p.memory, tokensession.Config{})
		p.two = newManager(t, signer, p.store.Store(), tokensession.Config{OnEvent: p.told.Add})
		stop := runs(t, p.two)
		synctest.Wait()
		require.Equal(t, []tokensession.EventKind{tokensession.EventFeedFresh}, p.told.TakeKinds(),
			"told when the first look came through")
		f(t, p)
		stop()
	})
}

// runs has a Manager run until stop, which fails the test if Run does not end with its context. In
// a bubble, a goroutine that is left behind hangs the test.
func runs(t *testing.T, m *tokensession.Manager) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancelCause(t.Context())
	ran := make(chan error, 1)
	go func() { ran <- m.Run(ctx) }()
	return func() {
		t.Helper()
		cancel(errors.New("shut down"))
		require.NoError(t, <-ran)
	}
}

// passes lets time pass in a bubble, and what is due happen.
func passes(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// R11: ASVS 7.4.1.
func TestRun_revocationElsewhereReachesVerifyWithinASecondWithoutReads(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pair) {
		tokens, err := p.one.Start(t.Context(), "alice")
		require.NoError(t, err)
		bystander, err := p.one.Start(t.Context(), "alice")
		require.NoError(t, err)
		for range 5 {
			passes(700 * time.Millisecond)
			require.NoError(t, p.one.Revoke(t.Context(), tokens.Session.ID))
			_, err = p.one.Verify(tokens.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrRevoked, "at once where it was revoked")
			passes(time.Second)
			for range 100 {
				_, err = p.two.Verify(tokens.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked)
				_, err = p.two.Verify(bystander.AccessToken)
				require.NoError(t, err)
			}
			tokens, err = p.one.Start(t.Context(), "alice")
			require.NoError(t, err)
			_, err = p.two.Verify(tokens.AccessToken)
			require.NoError(t, err)
		}
		require.InDelta(t, 9, p.store.Count(testkit.Revocations), 2,
			"times the feed was read in 8.5 seconds")
		require.Subset(t, []testkit.Call{testkit.Revocations, testkit.Sweep}, p.store.Took(),
			"Verify read the store")
	})
}

func TestRun_refusesARevokedSessionUntilItsLastTokenHasExpired(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pair) {
		tokens, err := p.one.Start(t.Context(), "alice")
		require.NoError(t, err)
		require.NoError(t, p.one.Revoke(t.Context(), tokens.Session.ID))
		passes(time.Second)
		for time.Now().Before(tokens.AccessExpiresAt) {
			for _, m := range []*tokensession.Manager{p.one, p.two} {
				_, err = m.Verify(tokens.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked)
			}
			passes(10 * time.Second)
		}
		_, err = p.two.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrExpired)
	})
}

func TestRun_knowsWhatWasRevokedBeforeItBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signer, store := testSigner(t), tokensession.NewMemoryStore()
		one := newManager(t, signer, store, tokensession.Config{})
		tokens, err := one.Start(t.Context(), "alice")
		require.NoError(t, err)
		require.NoError(t, one.Revoke(t.Context(), tokens.Session.ID))
		passes(14 * time.Minute)
		two := newManager(t, signer, store, tokensession.Config{})
		stop := runs(t, two)
		synctest.Wait()
		_, err = two.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked)
		stop()
	})
}

// A transaction that set At long before it was committed, or an instance whose clock is behind by
// as much as the leeway allows for.
func TestRun_findsACommitThatCameLate(t *testing.T) {
	for name, c := range map[string]struct{ leeway, late, within time.Duration }{
		"within the overlap":                  {0, 5 * time.Second, time.Second},
		"by a clock that is behind":           {time.Minute, 65 * time.Second, time.Second},
		"by a clock that is very much behind": {5 * time.Minute, 305 * time.Second, time.Second},
		"far later":                           {0, 10 * time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			access := accessConfig
			access.Leeway = c.leeway
			inBubbleWith(t, access, func(t *testing.T, p *pair) {
				tokens, err := p.one.Start(t.Context(), "alice")
				require.NoError(t, err)
				passes(11 * time.Minute)
				_, err = p.two.Verify(tokens.AccessToken)
				require.NoError(t, err)
				late := tokensession.Revocation{SessionID: tokens.Session.ID,
					At: time.Now().Add(-c.late)}
				p.store.Always(testkit.Revocations, testkit.Apply, func(r *testkit.Request) {
					if !late.At.Before(r.Time) {
						r.Revocations = append(r.Revocations, late)
					}
				})
				passes(c.within)
				_, err = p.two.Verify(tokens.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked)
			})
		})
	}
}

// Nothing that is revoked while a clock goes back over the same time again is missed.
func TestRun_readsAllWhenTheClockWasPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last time.Time // since when the feed was asked
		store := testkit.Hook(t, tokensession.NewMemoryStore())
		store.Always(testkit.Revocations, func(r *testkit.Request) { last = r.Time })
		var back atomic.Int64
		m := newManager(t, testSigner(t), store.Store(), tokensession.Config{
			Now: func() time.Time { return time.Now().Add(-time.Duration(back.Load())) },
		})
		stop := runs(t, m)
		passes(10 * time.Second)
		back.Store(int64(time.Hour))
		passes(time.Second)
		require.WithinDuration(t, time.Now().Add(-time.Hour-16*time.Minute-10*time.Second), last, 0)
		stop()
	})
}

func TestRun_tellsOnceSinceWhenTheFeedIsStaleAndThatItIsFreshAgain(t *testing.T) {
	for name, breaks := range map[string]func(*testkit.HookedStore){
		"down": func(store *testkit.HookedStore) { store.Down() },
		"hangs": func(store *testkit.HookedStore) {
			store.Always(testkit.Revocations, testkit.Hang)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, p *pair) {
				tokens, err := p.one.Start(t.Context(), "alice")
				require.NoError(t, err)
				revoked, err := p.one.Start(t.Context(), "alice")
				require.NoError(t, err)
				passes(5500 * time.Millisecond)
				read := time.Now().Add(-500 * time.Millisecond)
				breaks(p.store)
				passes(20 * time.Second)
				require.NoError(t, p.one.Revoke(t.Context(), revoked.Session.ID))
				passes(20 * time.Second)

				events := p.told.Take()
				require.Len(t, events, 1)
				require.Equal(t, tokensession.EventFeedStale, events[0].Kind)
				require.Equal(t, read.UTC(), events[0].Since)
				require.Error(t, events[0].Err)
				if name == "down" {
					require.ErrorIs(t, events[0].Err, testkit.ErrDown)
				}
				require.Zero(t, events[0].Session)
				_, err = p.two.Verify(tokens.AccessToken)
				require.NoError(t, err, "Verify goes on")

				p.store.Clear()
				passes(6 * time.Second)
				events = p.told.Take()
				require.Len(t, events, 1)
				require.Equal(t, tokensession.EventFeedFresh, events[0].Kind)
				require.Equal(t, read.UTC(), events[0].Since)
				_, err = p.two.Verify(revoked.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked, "what was revoked in between")

				breaks(p.store)
				passes(20 * time.Second)
				require.Equal(t, 1, p.told.Count(tokensession.EventFeedStale), "the next outage")
			})
		})
	}
}

func TestRun_tellsThatTheFeedWasNeverRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, told := testkit.Hook(t, tokensession.NewMemoryStore()), &testkit.Events{}
		store.Down()
		m := newManager(t, testSigner(t), store.Store(), tokensession.Config{OnEvent: told.Add})
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		require.NoError(t, m.Run(ctx))
		require.Equal(t, 1, told.Count(tokensession.EventFeedStale))
		require.Equal(t, 1, told.Count(tokensession.EventSweepFailed))
		for _, e := range told.All() {
			require.Zero(t, e.Since)
			require.ErrorIs(t, e.Err, testkit.ErrDown)
		}
	})
}

// While nothing has expired, it asks each ten minutes only.
func TestRun_sweepsInBatchesEachMinuteWhileThereIsSomething(t *testing.T) {
	inBubble(t, func(t *testing.T, p *pair) {
		for n := range 2500 {
			rec := memoryRecord(time.Duration(n).String(), "alice", time.Now(), time.Hour)
			require.NoError(t, p.memory.Create(t.Context(), rec))
		}
		live, err := p.one.Start(t.Context(), "bob")
		require.NoError(t, err)
		require.Equal(t, []int{0}, p.sweeps)
		passes(time.Hour + time.Minute - time.Second)
		require.Zero(t, slices.Max(p.sweeps),
			"dropped while they may live by another instance's clock")
		require.Len(t, p.sweeps, 1+6)
		passes(9*time.Minute + 30*time.Second)
		require.Equal(t, []int{1000, 1000, 500}, p.sweeps[7:])
		late := memoryRecord("late", "alice", time.Now().Add(-2*time.Hour), time.Hour)
		require.NoError(t, p.memory.Create(t.Context(), late))
		passes(time.Minute)
		require.Equal(t, []int{1}, p.sweeps[10:], "the next sweep is a minute after one that found something")
		_, err = p.one.Refresh(t.Context(), live.RefreshToken)
		require.NoError(t, err)
		require.Empty(t, p.told.All())
	})
}

// A store that does not answer a sweep, say over a connection that is dead, is told of and asked
// again.
func TestRun_sweepsOnAfterOneThatHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told, store := &testkit.Events{}, hookedSweeper(t)
		store.Always(testkit.Sweep, testkit.Hang)
		m := newManager(t, testSigner(t), store.Store(), tokensession.Config{OnEvent: told.Add})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute+time.Second)
		defer cancel()
		require.NoError(t, m.Run(ctx))
		require.Equal(t, 11, store.Count(testkit.Sweep))
		require.Equal(t, 10, told.Count(tokensession.EventSweepFailed),
			"not of the one that the end of Run broke off")
	})
}

// hookedSweeper makes a store that can sweep, and has no feed.
func hookedSweeper(t *testing.T) *testkit.HookedStore {
	memory := tokensession.NewMemoryStore()
	return testkit.Hook(t, struct {
		tokensession.RefreshStore
		tokensession.Sweeper
	}{memory, memory})
}

// A wrapper that hides what its store can do would switch propagation off without a word.
func TestRun_isAnErrorAtOnceWhereTheStoreHasNeitherAbility(t *testing.T) {
	store := testkit.Plain(tokensession.NewMemoryStore())
	m := newManager(t, testSigner(t), store, tokensession.Config{})
	err := m.Run(t.Context())
	require.ErrorContains(t, err, "RevocationFeed")
	require.ErrorContains(t, err, "Unwrap() RefreshStore")
}

// A store that sweeps and has no feed: Run runs, and says what is missing.
func TestRun_saysSoWhereThereIsNoFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &testkit.Events{}
		m := newManager(t, testSigner(t), hookedSweeper(t).Store(), tokensession.Config{OnEvent: told.Add})
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		require.NoError(t, m.Run(ctx))
		require.Equal(t, time.Hour, time.Since(began))
		require.Equal(t, []tokensession.EventKind{tokensession.EventFeedStale}, told.Kinds())
		require.ErrorContains(t, told.All()[0].Err, "no RevocationFeed")
	})
}

// A wrapper that has Unwrap keeps the abilities of the store inside, however deep.
func TestRun_findsTheAbilitiesOfAWrappedStore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		memory := tokensession.NewMemoryStore()
		one := newManager(t, testSigner(t), memory, tokensession.Config{})
		two := newManager(t, testSigner(t), wrapper{wrapper{memory}}, tokensession.Config{})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- two.Run(ctx) }()
		tokens, err := two.Start(ctx, "alice")
		require.NoError(t, err)
		require.NoError(t, one.Revoke(ctx, tokens.Session.ID))
		passes(2 * time.Second)
		_, err = two.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked)
		cancel()
		require.NoError(t, <-ran)
	})
}

// A wrapper shows what the store inside can do by Unwrap alone.
type wrapper struct{ tokensession.RefreshStore }

func (w wrapper) Unwrap() tokensession.RefreshStore { return w.RefreshStore }

// The host may close its database when Run has returned.
func TestRun_returnsWhenNothingUsesTheStoreAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told, store, finish := &testkit.Events{}, hookedSweeper(t), make(chan struct{})
		store.Always(testkit.Sweep,
			testkit.Hang,
			testkit.Do(func() { <-finish }), // for a while after it was told to stop, as a driver may
		)
		m := newManager(t, testSigner(t), store.Store(), tokensession.Config{OnEvent: told.Add})
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- m.Run(ctx) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.Empty(t, ran, "Run returned before the sweep did")
		close(finish)
		require.NoError(t, <-ran)
		require.Zero(t, told.Count(tokensession.EventSweepFailed), "a shutdown was told as a failure")
	})
}

func TestRun_aShutdownIsNoOutageOfTheFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, told := testkit.Hook(t, tokensession.NewMemoryStore()), &testkit.Events{}
		store.Always(testkit.Revocations, testkit.Hang)
		m := newManager(t, testSigner(t), store.Store(), tokensession.Config{OnEvent: told.Add})
		stop := runs(t, m)
		synctest.Wait()
		require.Equal(t, 1, store.Count(testkit.Revocations))
		stop()
		require.Empty(t, told.All())
	})
}

// A revocation takes long to write, and meanwhile another tab is answered again, with an access
// token that is younger than the revocation. Instances that read of the revocation deny that token
// for as long as it lives.
func TestRun_deniesWhatAReplayMadeDuringTheRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := tokensession.Config{GracePeriod: 10 * time.Minute}
		w := newWorld(t, cfg)
		first := w.start()
		w.refresh(first.RefreshToken)
		var replayed tokensession.Tokens
		w.store.On(testkit.Swap,
			w.clock.Passes(10*time.Minute-time.Second),
			testkit.Do(func() { replayed = w.refresh(first.RefreshToken) }),
			testkit.Apply,
		)
		elsewhere := w.manager(w.store.Store(), cfg, &testkit.Events{})
		require.NoError(t, elsewhere.Revoke(ctx, first.Session.ID))

		reader := w.other(cfg)
		running, stop := context.WithCancel(ctx)
		ran := make(chan error, 1)
		go func() { ran <- reader.Run(running) }()
		synctest.Wait() // until the feed has been read
		stop()
		require.NoError(t, <-ran)
		for w.clock.Now().Before(replayed.AccessExpiresAt) {
			_, err := reader.Verify(replayed.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrRevoked,
				"%v before its end", replayed.AccessExpiresAt.Sub(w.clock.Now()))
			w.clock.Advance(time.Second)
		}
	})
}

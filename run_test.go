package tokensession_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// A feedStore is a store with a feed and a sweeper that a test can break and look at.
type feedStore struct {
	*spyStore
	memory *tokensession.MemoryStore

	mu     sync.Mutex
	down   error
	hangs  bool
	extra  []tokensession.Revocation
	asked  []time.Time // since when
	sweeps []int       // what each dropped
}

func newFeedStore() *feedStore {
	memory := tokensession.NewMemoryStore()
	return &feedStore{spyStore: &spyStore{inner: memory}, memory: memory}
}

func (s *feedStore) RevokedSince(ctx context.Context, since time.Time) ([]tokensession.Revocation, error) {
	s.mu.Lock()
	s.asked = append(s.asked, since)
	down, hangs, extra := s.down, s.hangs, slices.Clone(s.extra)
	s.mu.Unlock()
	if hangs {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	if down != nil {
		return nil, down
	}
	revocations, err := s.memory.RevokedSince(ctx, since)
	for _, r := range extra {
		if !r.At.Before(since) {
			revocations = append(revocations, r)
		}
	}
	return revocations, err
}

func (s *feedStore) Sweep(ctx context.Context, now time.Time, limit int) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down != nil {
		return 0, s.down
	}
	n, err := s.memory.Sweep(ctx, now, limit)
	s.sweeps = append(s.sweeps, n)
	return n, err
}

func (s *feedStore) set(f func(*feedStore)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s)
}

// swept returns what each sweep dropped.
func (s *feedStore) swept() []int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sweeps)
}

func (s *feedStore) readings() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// inBubble gives a test two instances on one store, of which the second one runs.
func inBubble(t *testing.T, f func(t *testing.T, store *feedStore, one, two *tokensession.Manager, told *eventLog)) {
	synctest.Test(t, func(t *testing.T) {
		store, told := newFeedStore(), &eventLog{}
		signer := testSigner(t)
		one, err := tokensession.New(signer, store.memory, tokensession.Config{})
		require.NoError(t, err)
		two, err := tokensession.New(signer, store, tokensession.Config{OnEvent: told.add})
		require.NoError(t, err)
		ctx, cancel := context.WithCancelCause(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- two.Run(ctx) }()
		synctest.Wait()
		f(t, store, one, two, told)
		cancel(errors.New("shut down"))
		require.ErrorIs(t, <-ran, context.Canceled) // a goroutine left behind hangs the bubble
	})
}

// passes lets time pass in a bubble, and what is due happen.
func passes(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}

// R11: ASVS 7.4.1.
func TestRun_revocationElsewhereReachesVerifyWithinASecondWithoutReads(t *testing.T) {
	inBubble(t, func(t *testing.T, store *feedStore, one, two *tokensession.Manager, _ *eventLog) {
		tokens, err := one.Start(t.Context(), "alice")
		require.NoError(t, err)
		bystander, err := one.Start(t.Context(), "alice")
		require.NoError(t, err)
		for range 5 {
			passes(700 * time.Millisecond)
			require.NoError(t, one.Revoke(t.Context(), tokens.Session.ID))
			_, err = one.Verify(tokens.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrRevoked, "at once where it was revoked")
			passes(time.Second)
			for range 100 {
				_, err = two.Verify(tokens.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked)
				_, err = two.Verify(bystander.AccessToken)
				require.NoError(t, err)
			}
			tokens, err = one.Start(t.Context(), "alice")
			require.NoError(t, err)
			_, err = two.Verify(tokens.AccessToken)
			require.NoError(t, err)
		}
		require.Empty(t, store.took(), "Verify read the store")
		require.InDelta(t, 9, store.readings(), 2, "times the feed was read in 8.5 seconds")
	})
}

func TestRun_refusesARevokedSessionUntilItsLastTokenHasExpired(t *testing.T) {
	inBubble(t, func(t *testing.T, _ *feedStore, one, two *tokensession.Manager, _ *eventLog) {
		tokens, err := one.Start(t.Context(), "alice")
		require.NoError(t, err)
		require.NoError(t, one.Revoke(t.Context(), tokens.Session.ID))
		passes(time.Second)
		for time.Now().Before(tokens.AccessExpiresAt) {
			for _, m := range []*tokensession.Manager{one, two} {
				_, err = m.Verify(tokens.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked)
			}
			passes(10 * time.Second)
		}
		_, err = two.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrExpired)
	})
}

func TestRun_knowsWhatWasRevokedBeforeItBegan(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signer, store := testSigner(t), tokensession.NewMemoryStore()
		one, err := tokensession.New(signer, store, tokensession.Config{})
		require.NoError(t, err)
		tokens, err := one.Start(t.Context(), "alice")
		require.NoError(t, err)
		require.NoError(t, one.Revoke(t.Context(), tokens.Session.ID))
		passes(14 * time.Minute)
		two, err := tokensession.New(signer, store, tokensession.Config{})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- two.Run(ctx) }()
		synctest.Wait()
		_, err = two.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked)
		cancel()
		require.ErrorIs(t, <-ran, context.Canceled)
	})
}

// A transaction that set At long before it was committed, or an instance whose clock is behind.
func TestRun_findsACommitThatCameLate(t *testing.T) {
	for name, c := range map[string]struct{ late, within time.Duration }{
		"within the overlap": {59 * time.Second, time.Second},
		"far later":          {10 * time.Minute, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store *feedStore, one, two *tokensession.Manager, _ *eventLog) {
				tokens, err := one.Start(t.Context(), "alice")
				require.NoError(t, err)
				passes(11 * time.Minute)
				_, err = two.Verify(tokens.AccessToken)
				require.NoError(t, err)
				store.set(func(s *feedStore) {
					s.extra = append(s.extra, tokensession.Revocation{SessionID: tokens.Session.ID, At: time.Now().Add(-c.late)})
				})
				passes(c.within)
				_, err = two.Verify(tokens.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked)
			})
		})
	}
}

// Nothing that is revoked while a clock goes back over the same time again is missed.
func TestRun_readsAllWhenTheClockWasPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := newFeedStore()
		var back atomic.Int64
		m, err := tokensession.New(testSigner(t), store, tokensession.Config{
			Now: func() time.Time { return time.Now().Add(-time.Duration(back.Load())) },
		})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- m.Run(ctx) }()
		passes(10 * time.Second)
		back.Store(int64(time.Hour))
		passes(time.Second)
		store.set(func(s *feedStore) {
			last := s.asked[len(s.asked)-1]
			require.WithinDuration(t, time.Now().Add(-time.Hour-16*time.Minute-10*time.Second), last, 0)
		})
		cancel()
		require.ErrorIs(t, <-ran, context.Canceled)
	})
}

func TestRun_tellsOnceSinceWhenTheFeedIsStaleAndThatItIsFreshAgain(t *testing.T) {
	for name, breaks := range map[string]func(*feedStore){
		"down":  func(s *feedStore) { s.down = errStoreDown },
		"hangs": func(s *feedStore) { s.hangs = true },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, store *feedStore, one, two *tokensession.Manager, told *eventLog) {
				tokens, err := one.Start(t.Context(), "alice")
				require.NoError(t, err)
				revoked, err := one.Start(t.Context(), "alice")
				require.NoError(t, err)
				passes(5500 * time.Millisecond)
				read := time.Now().Add(-500 * time.Millisecond)
				store.set(breaks)
				passes(20 * time.Second)
				require.NoError(t, one.Revoke(t.Context(), revoked.Session.ID))
				passes(20 * time.Second)

				events := told.take()
				require.Len(t, events, 1)
				require.Equal(t, tokensession.EventFeedStale, events[0].Kind)
				require.Equal(t, read.UTC(), events[0].Since)
				require.Error(t, events[0].Err)
				if name == "down" {
					require.ErrorIs(t, events[0].Err, errStoreDown)
				}
				require.Zero(t, events[0].Session)
				_, err = two.Verify(tokens.AccessToken)
				require.NoError(t, err, "Verify goes on")

				store.set(func(s *feedStore) { s.down, s.hangs = nil, false })
				passes(6 * time.Second)
				events = told.take()
				require.Len(t, events, 1)
				require.Equal(t, tokensession.EventFeedFresh, events[0].Kind)
				require.Equal(t, read.UTC(), events[0].Since)
				_, err = two.Verify(revoked.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked, "what was revoked in between")

				store.set(breaks)
				passes(20 * time.Second)
				require.Equal(t, 1, told.count(tokensession.EventFeedStale), "the next outage")
			})
		})
	}
}

func TestRun_tellsThatTheFeedWasNeverRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, told := newFeedStore(), &eventLog{}
		store.down = errStoreDown
		m, err := tokensession.New(testSigner(t), store, tokensession.Config{OnEvent: told.add})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 3500*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, m.Run(ctx), context.DeadlineExceeded)
		require.Equal(t, 1, told.count(tokensession.EventFeedStale))
		require.Equal(t, 1, told.count(tokensession.EventSweepFailed))
		for _, e := range told.all() {
			require.Zero(t, e.Since)
			require.ErrorIs(t, e.Err, errStoreDown)
		}
	})
}

func TestRun_sweepsInBatchesEachMinute(t *testing.T) {
	inBubble(t, func(t *testing.T, store *feedStore, one, _ *tokensession.Manager, told *eventLog) {
		for n := range 2500 {
			rec := memoryRecord(time.Duration(n).String(), "alice", time.Now(), time.Hour)
			require.NoError(t, store.memory.Create(t.Context(), rec))
		}
		live, err := one.Start(t.Context(), "bob")
		require.NoError(t, err)
		require.Equal(t, []int{0}, store.swept())
		passes(time.Hour + time.Minute - time.Second)
		require.Zero(t, slices.Max(store.swept()), "dropped while they may live by another instance's clock")
		passes(30 * time.Second)
		require.Equal(t, []int{1000, 1000, 500}, store.swept()[61:])
		_, err = one.Refresh(t.Context(), live.RefreshToken)
		require.NoError(t, err)
		require.Empty(t, told.all())
	})
}

// A store that does not answer a sweep, say over a connection that is dead, is told of and asked again.
func TestRun_sweepsOnAfterOneThatHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &eventLog{}
		store := &hangingSweeper{RefreshStore: tokensession.NewMemoryStore()}
		m, err := tokensession.New(testSigner(t), store, tokensession.Config{OnEvent: told.add})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute+time.Second)
		defer cancel()
		require.ErrorIs(t, m.Run(ctx), context.DeadlineExceeded)
		require.Equal(t, 11, store.sweeps)
		require.Equal(t, 10, told.count(tokensession.EventSweepFailed), "not of the one that the end of Run broke off")
	})
}

type hangingSweeper struct {
	tokensession.RefreshStore
	sweeps int
}

func (s *hangingSweeper) Sweep(ctx context.Context, _ time.Time, _ int) (int, error) {
	s.sweeps++
	<-ctx.Done()
	return 0, ctx.Err()
}

func TestRun_waitsWhereTheStoreHasNeitherAbility(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := tokensession.New(testSigner(t), &spyStore{inner: tokensession.NewMemoryStore()}, tokensession.Config{})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		began := time.Now()
		require.ErrorIs(t, m.Run(ctx), context.DeadlineExceeded)
		require.Equal(t, time.Hour, time.Since(began))
	})
}

// It is all that a host needs on one machine.
func TestMemoryStore_servesAManagerInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := tokensession.New(testSigner(t), tokensession.NewMemoryStore(), tokensession.Config{})
		require.NoError(t, err)
		first, err := m.Start(t.Context(), "alice")
		require.NoError(t, err)
		passes(15 * time.Minute)
		_, err = m.Verify(first.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrExpired)
		second, err := m.Refresh(t.Context(), first.RefreshToken)
		require.NoError(t, err)
		passes(grace)
		_, err = m.Refresh(t.Context(), first.RefreshToken)
		requireReused(t, err, 0, 1)
		_, err = m.Verify(second.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked)
	})
}

// A slowSweeper goes on for a while after it has been told to stop, as a driver may.
type slowSweeper struct {
	tokensession.RefreshStore
	finish chan struct{}
}

func (s slowSweeper) Sweep(ctx context.Context, _ time.Time, _ int) (int, error) {
	<-ctx.Done()
	<-s.finish
	return 0, ctx.Err()
}

// The host may close its database when Run has returned.
func TestRun_returnsWhenNothingUsesTheStoreAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		told := &eventLog{}
		store := slowSweeper{tokensession.NewMemoryStore(), make(chan struct{})}
		m, err := tokensession.New(testSigner(t), store, tokensession.Config{OnEvent: told.add})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- m.Run(ctx) }()
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.Empty(t, ran, "Run returned before the sweep did")
		close(store.finish)
		require.ErrorIs(t, <-ran, context.Canceled)
		require.Empty(t, told.all(), "a shutdown was told as a failure")
	})
}

func TestRun_aShutdownIsNoOutageOfTheFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store, told := newFeedStore(), &eventLog{}
		store.hangs = true
		m, err := tokensession.New(testSigner(t), store, tokensession.Config{OnEvent: told.add})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		ran := make(chan error, 1)
		go func() { ran <- m.Run(ctx) }()
		synctest.Wait()
		require.Equal(t, 1, store.readings())
		cancel()
		require.ErrorIs(t, <-ran, context.Canceled)
		require.Empty(t, told.all())
	})
}

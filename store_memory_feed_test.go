package tokensession_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// revokedAt puts a record that was revoked at a time into a store.
func revokedAt(t testing.TB, store *tokensession.MemoryStore, id string, at time.Time) {
	t.Helper()
	rec := memoryRecord(id, "alice", at.Add(-time.Minute), 2*time.Hour)
	rec.RevokedAt, rec.RevokeReason = at, tokensession.ReasonLogout
	require.NoError(t, store.Create(context.Background(), rec))
}

// toldOf returns how often the feed told of each session, and the sizes of the pages.
func toldOf(
	t testing.TB, feed tokensession.RevocationFeed, since time.Time,
) (times map[string]int, pages []int) {
	t.Helper()
	times = map[string]int{}
	err := feed.Revocations(context.Background(), since, func(page []tokensession.Revocation) error {
		pages = append(pages, len(page))
		for _, r := range page {
			times[r.SessionID]++
		}
		return nil
	})
	require.NoError(t, err)
	return times, pages
}

// However many there are, and also if all of them are of one instant, nobody has to hold them all.
func TestMemoryStore_tellsRevocationsInPages(t *testing.T) {
	for name, apart := range map[string]time.Duration{
		"of one instant": 0, "of one second": 100 * time.Microsecond, "of hours": time.Second,
	} {
		store := tokensession.NewMemoryStore()
		for n := range 3500 {
			revokedAt(t, store, fmt.Sprint(n), epoch.Add(time.Duration(n)*apart))
		}
		times, pages := toldOf(t, store, epoch)
		require.Equal(t, []int{1000, 1000, 1000, 500}, pages, name)
		require.Len(t, times, 3500, name)
		since := 1234
		if apart == 0 {
			since = 0
		}
		times, _ = toldOf(t, store, epoch.Add(time.Duration(since)*apart))
		require.Len(t, times, 3500-since, name)
	}
}

func TestMemoryStore_anErrorOfPageEndsTheCall(t *testing.T) {
	store := tokensession.NewMemoryStore()
	for n := range 2500 {
		revokedAt(t, store, fmt.Sprint(n), epoch)
	}
	full, pages := errors.New("full"), 0
	err := store.Revocations(t.Context(), epoch, func([]tokensession.Revocation) error {
		pages++
		return full
	})
	require.ErrorIs(t, err, full)
	require.Equal(t, 1, pages)
}

// What is there when the feed is asked is told, whatever is added and dropped between two pages.
func TestMemoryStore_tellsAllWhileOthersRevoke(t *testing.T) {
	store := tokensession.NewMemoryStore()
	for n := range 5000 {
		revokedAt(t, store, fmt.Sprint(n), epoch.Add(time.Duration(n)*time.Millisecond))
	}
	times, n := map[string]int{}, 0
	err := store.Revocations(t.Context(), epoch, func(page []tokensession.Revocation) error {
		for _, r := range page {
			times[r.SessionID]++
		}
		// By clocks that are right, behind and far behind, and so many that old ones are dropped.
		for range 2000 {
			if n++; n > 8000 {
				break
			}
			at := epoch.Add([]time.Duration{5 * time.Second, time.Second, -30 * time.Hour}[n%3])
			revokedAt(t, store, fmt.Sprint("later ", n), at)
		}
		return nil
	})
	require.NoError(t, err)
	for n := range 5000 {
		require.Equal(t, 1, times[fmt.Sprint(n)], "revocation %d", n)
	}
}

func TestMemoryStore_notifiesOfEachRevocation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := tokensession.NewMemoryStore()
		var heard atomic.Int64
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() {
			for {
				if err := store.Notified(ctx); err != nil {
					done <- err
					return
				}
				heard.Add(1)
			}
		}()
		mustCreate(t, store, memoryRecord("live", "alice", epoch, time.Hour))
		synctest.Wait()
		require.Zero(t, heard.Load(), "of a login")
		for n := range int64(3) {
			revokedAt(t, store, fmt.Sprint(n), epoch)
			synctest.Wait()
			require.Equal(t, n+1, heard.Load())
		}
		cancel()
		require.ErrorIs(t, <-done, context.Canceled)

		revokedAt(t, store, "between two calls", epoch)
		require.NoError(t, store.Notified(t.Context()), "at once")
		short, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		require.ErrorIs(t, store.Notified(short), context.DeadlineExceeded, "twice of one revocation")
		require.ErrorIs(t, store.Notified(short), context.DeadlineExceeded, "its context has ended")
	})
}

// Revocations by clocks that are behind take their place without moving a million others.
func TestMemoryStore_takesRevocationsOfAClockThatIsBehind(t *testing.T) {
	store := tokensession.NewMemoryStore()
	var all sync.WaitGroup
	for w := range 4 {
		all.Go(func() {
			for n := range 2000 {
				at := epoch.Add(time.Duration(n) * time.Millisecond).Add(-time.Duration(w) * 20 * time.Second)
				revokedAt(t, store, fmt.Sprint(w, " ", n), at)
			}
		})
	}
	all.Wait()
	times, _ := toldOf(t, store, epoch.Add(-time.Minute))
	require.Len(t, times, 8000)
	times, _ = toldOf(t, store, epoch.Add(-20*time.Second))
	require.Len(t, times, 4000)
}

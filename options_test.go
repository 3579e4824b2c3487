package tokensession_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

func TestMaxSessions_endsTheOldestWhateverTheClockDoes(t *testing.T) {
	for name, step := range map[string]time.Duration{"forwards": time.Minute, "frozen": 0, "backwards": -30 * time.Second} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{MaxSessions: 3})
			var all []tokensession.Tokens
			for range 8 {
				all = append(all, w.start())
				w.clock.advance(step)
			}
			sessions, err := w.m.Sessions(context.Background(), "alice")
			require.NoError(t, err)
			require.Len(t, sessions, 3)
			for i, tokens := range all[5:] {
				require.Equal(t, tokens.Session.ID, sessions[2-i].ID, "newest first")
				w.refresh(tokens.RefreshToken)
			}
			for _, tokens := range all[:5] {
				require.Equal(t, tokensession.ReasonMaxSessions, w.record(tokens.Session.ID).RevokeReason)
				require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
			}
		})
	}
}

func TestMaxSessions_countsOnlyTheSubjectsLiveSessions(t *testing.T) {
	w := newWorld(t, tokensession.Config{MaxSessions: 2})
	_, err := w.m.Start(context.Background(), "bob")
	require.NoError(t, err)
	expired, revoked := w.start(), w.start()
	require.NoError(t, w.m.Revoke(context.Background(), revoked.Session.ID))
	live := w.start()
	w.refresh(expired.RefreshToken) // it made room for nobody
	w.clock.advance(time.Hour)
	live = w.refresh(live.RefreshToken)
	w.clock.advance(week - time.Minute)
	w.start()
	w.refresh(live.RefreshToken)
}

func TestMaxSessions_isNeverExceededByParallelLogins(t *testing.T) {
	for _, limit := range []int{1, 3} {
		w := newWorld(t, tokensession.Config{MaxSessions: limit})
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				_, err := w.m.Start(context.Background(), "alice")
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		sessions, err := w.m.Sessions(context.Background(), "alice")
		require.NoError(t, err)
		require.Len(t, sessions, limit)
	}
}

package tokensession_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessiontest"
)

func TestStats_tellsOfTheFeedAndTheDenyList(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sessiontest.New(t, tokensession.Config{})
		require.Equal(t, tokensession.Stats{}, w.Manager.Stats())

		ctx, stop := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- w.Manager.Run(ctx) }()
		synctest.Wait()
		began := w.Clock.Now().UTC()
		require.Equal(t, began, w.Manager.Stats().FeedReadAt)
		w.Clock.Advance(time.Hour)
		require.LessOrEqual(t, w.Clock.Now().Sub(w.Manager.Stats().FeedReadAt), 10*time.Second)
		stop()
		require.NoError(t, <-done)

		for range 3 {
			require.NoError(t, w.Manager.Revoke(t.Context(), w.Login("alice").Session.ID))
		}
		require.Equal(t, 3, w.Manager.Stats().Denied)
		read := w.Manager.Stats().FeedReadAt
		w.Clock.Advance(time.Hour)
		require.Equal(t, read, w.Manager.Stats().FeedReadAt, "nobody reads it")
	})
}

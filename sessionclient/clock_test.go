package sessionclient_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

// The program gives the Transport a clock. No other clock decides what has expired.
func TestTransport_asksItsClock(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		var ahead time.Duration
		cfg := w.config(clientNetwork{w, w})
		cfg.Now = func() time.Time { return time.Now().Add(ahead) }
		transport, err := sessionclient.New(clientAuthURL, w.memory, cfg)
		require.NoError(t, err)
		requireGet(t, transport)
		require.Zero(t, w.refreshes())
		ahead = time.Hour
		for range 3 {
			requireGet(t, transport)
			require.Equal(t, 1, w.refreshes())
		}
		require.WithinDuration(t, time.Now().Add(time.Hour+15*time.Minute), loaded(t, w.memory).AccessExpiresAt, time.Second)
	})
}

// Only the clock says that a token without a refresh token is over. When it was wrong, the token is
// still good.
func TestTransport_aClockThatWasAheadEndsNothing(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		var ahead time.Duration
		cfg := w.config(clientNetwork{w, w})
		cfg.Now = func() time.Time { return time.Now().Add(ahead) }
		tokens := w.start
		tokens.RefreshToken = ""
		require.NoError(t, w.memory.Save(t.Context(), tokens))
		transport, err := sessionclient.New(clientAuthURL, w.memory, cfg)
		require.NoError(t, err)
		for range 3 {
			ahead = 24 * time.Hour
			_, _, err = clientGet(t.Context(), transport, clientAPIURL)
			require.ErrorIs(t, err, sessionclient.ErrSessionEnded)
			ahead = 0
			requireGet(t, transport)
		}
		require.Len(t, w.toldOfEnd(), 1)
	})
}

// The clock was a day ahead and is set back. No request waits until the time that it had shown.
func TestTransport_noPauseOutlastsAClockThatIsSetBack(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		ahead := 24 * time.Hour
		store := &clientStore{TokenStore: w.memory}
		cfg := w.config(clientNetwork{w, w})
		cfg.Now = func() time.Time { return time.Now().Add(ahead) }
		transport, err := sessionclient.New(clientAuthURL, store, cfg)
		require.NoError(t, err)
		w.setBusy("300")
		_, _, err = clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
		ahead = 0
		w.setStatus(0)
		w.setAPI(refuse(w.start.AccessToken))
		requireGet(t, transport)

		ahead = 24 * time.Hour
		store.set(nil, errClientDisk)
		requireGet(t, transport)
		ahead = 0
		w.setAPI(refuse(w.calls...))
		store.set(nil, nil)
		saves := store.saves
		requireGet(t, transport)
		require.Greater(t, store.saves, saves)
		w.requireAlive(w.memory)
	})
}

package sessionclient_test

import (
	"context"
	"errors"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

func TestTransport_tellsOnceThatTheSessionHasEnded(t *testing.T) {
	for name, begin := range map[string]func(w *clientWorld){
		"token refused": func(w *clientWorld) {},
		"token expired": func(w *clientWorld) { pass(time.Hour) },
		"token due":     func(w *clientWorld) { pass(14*time.Minute + time.Second) },
	} {
		t.Run(name, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				transport := w.transport(w.memory)
				requireGet(t, transport)
				begin(w)
				require.NoError(t, w.m.Revoke(t.Context(), w.start.Session.ID))
				for round := range 2 {
					before := w.apiCalls()
					var wg sync.WaitGroup
					for range 64 {
						wg.Go(func() {
							_, _, err := clientGet(t.Context(), transport, clientAPIURL)
							var wrapped *url.Error
							if !errors.Is(err, sessionclient.ErrSessionEnded) || errors.Is(err, tokensession.ErrUnavailable) || !errors.As(err, &wrapped) {
								t.Errorf("%v, want ErrSessionEnded in a *url.Error", err)
							}
						})
					}
					wg.Wait()
					require.True(t, round == 0 || w.apiCalls() == before, "nothing is sent with dead tokens")
					pass(time.Second)
				}
				require.Equal(t, 1, w.refreshes(), "the verdict is asked for once")
				require.Len(t, w.toldOfEnd(), 1)
				require.ErrorIs(t, w.toldOfEnd()[0], sessionclient.ErrSessionEnded)
				require.Empty(t, w.toldErrors())

				again := w.login()
				require.NoError(t, w.memory.Save(t.Context(), again))
				requireGet(t, transport)
				require.Equal(t, 1, w.refreshes())
				require.Equal(t, again.AccessToken, w.calls[len(w.calls)-1])

				require.NoError(t, w.m.Revoke(t.Context(), again.Session.ID))
				_, _, err := clientGet(t.Context(), transport, clientAPIURL)
				require.ErrorIs(t, err, sessionclient.ErrSessionEnded)
				require.Len(t, w.toldOfEnd(), 2, "of the second session, too")
			})
		})
	}
}

// One request was under way when the session ended, and learns of it late.
func TestTransport_aLateRefusalAsksForNoSecondVerdict(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
			if r.URL.RawQuery == "slow" {
				pass(time.Minute)
			}
			serve(rw)
		})
		require.NoError(t, w.m.Revoke(t.Context(), w.start.Session.ID))
		late := make(chan error)
		go func() {
			_, _, err := clientGet(context.Background(), transport, clientAPIURL+"?slow")
			late <- err
		}()
		synctest.Wait()
		_, _, err := clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, sessionclient.ErrSessionEnded)
		require.ErrorIs(t, <-late, sessionclient.ErrSessionEnded)
		require.Equal(t, 1, w.refreshes())
		require.Len(t, w.toldOfEnd(), 1)
	})
}

func TestTransport_callbacksMayUseIt(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		var transport *sessionclient.Transport
		cfg := w.config(clientNetwork{w, w})
		cfg.OnSessionEnd = func(error) {
			tokens := w.login()
			tokens.AccessExpiresAt = time.Now() // one more refresh
			require.NoError(t, w.memory.Save(t.Context(), tokens))
			requireGet(t, transport)
			require.NoError(t, transport.Wait(t.Context()))
		}
		transport, err := sessionclient.New(clientAuthURL, w.memory, cfg)
		require.NoError(t, err)
		require.NoError(t, w.m.Revoke(t.Context(), w.start.Session.ID))
		_, _, err = clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, sessionclient.ErrSessionEnded)
		requireGet(t, transport)
	})
}

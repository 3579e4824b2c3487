package sessionclient_test

import (
	"context"
	"net/http"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

func TestTransport_severalProcessesShareAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		require.NoError(t, sessionclient.NewTokenFile(path).Save(t.Context(), w.start))
		var processes []*sessionclient.Transport
		for range 4 {
			processes = append(processes, w.transport(sessionclient.NewTokenFile(path)))
		}
		w.setFault(func(n int, rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
			pass(time.Duration(n%7) * time.Second) // so that they finish in any order
			if n%5 == 0 {
				lostAnswers["connection lost"](rw, r, serve)
			}
			serve(rw)
		})
		for range 25 {
			pass(15 * time.Minute)
			var wg sync.WaitGroup
			for _, transport := range processes {
				for range 3 {
					wg.Go(func() {
						if status, body, err := clientGet(context.Background(), transport, clientAPIURL); err != nil || status != 200 {
							t.Errorf("%d %s %v", status, body, err)
						}
					})
				}
			}
			wg.Wait()
		}
		w.requireAlive(sessionclient.NewTokenFile(path))
	})
}

func TestTransport_usesWhatAnotherProcessRefreshed(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		file := filepath.Join(t.TempDir(), "tokens")
		require.NoError(t, sessionclient.NewTokenFile(file).Save(t.Context(), w.start))
		one, two := w.transport(sessionclient.NewTokenFile(file)), w.transport(sessionclient.NewTokenFile(file))
		for range 20 {
			pass(14*time.Minute + 30*time.Second) // beyond the grace period
			requireGet(t, one)
			pass(30 * time.Second)
			requireGet(t, two)
		}
		require.Equal(t, 20, w.refreshes())

		// The other process was faster: it refreshed between the loading of the tokens and the
		// verdict.
		w.setFault(func(n int, rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
			if n == 21 {
				requireGet(t, two)
				clientJSON(rw, 400, map[string]any{"error": "invalid_grant"})
				return
			}
			serve(rw)
		})
		pass(15 * time.Minute)
		requireGet(t, one)
		require.Equal(t, 22, w.refreshes())
		require.Empty(t, w.toldOfEnd())
		w.requireAlive(sessionclient.NewTokenFile(file))
	})
}

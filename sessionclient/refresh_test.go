package sessionclient_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

func TestTransport_refreshesShortlyBeforeExpiry(t *testing.T) {
	reader := func(context.Context, tokensession.Session) (tokensession.Grant, error) {
		return tokensession.Grant{Scope: "read"}, nil
	}
	clientBubble(t, tokensession.Config{Authorize: reader}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		for _, step := range []struct {
			after     time.Duration
			refreshes int
		}{
			{0, 0},
			{14*time.Minute - 2*time.Second, 0},
			{2 * time.Second, 1}, // a minute before
			{13 * time.Minute, 1},
			{20 * time.Minute, 2}, // long after
			{0, 2},
			{6 * 24 * time.Hour, 3},
		} {
			pass(step.after)
			requireGet(t, transport)
			require.Equal(t, step.refreshes, w.refreshes(), "after %v more", step.after)
		}
		for range 50 {
			pass(15 * time.Minute)
			before := loaded(t, w.memory)
			requireGet(t, transport)
			require.Equal(t, before.RefreshToken, w.presented[len(w.presented)-1])
			require.Equal(t, loaded(t, w.memory).AccessToken, w.calls[len(w.calls)-1])
			require.Equal(t, "read", loaded(t, w.memory).Scope)
			require.Equal(t, w.start.Session, loaded(t, w.memory).Session, "stays what the program saved")
			require.Equal(t, time.Now().Add(15*time.Minute).UTC(), loaded(t, w.memory).AccessExpiresAt)
			require.Equal(t, time.Now().Add(7*24*time.Hour).UTC(), loaded(t, w.memory).RefreshExpiresAt)
		}
		require.Equal(t, 53, w.refreshes())
		require.Equal(t, len(w.calls), 7+50, "no request was refused and sent again")
		w.requireAlive(w.memory)
	})
}

func TestTransport_doesNotRefreshShortLivedTokensAtEachRequest(t *testing.T) {
	clientBubble(t, tokensession.Config{AccessTTL: 12 * time.Second}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		for range 60 {
			requireGet(t, transport)
			pass(time.Second)
		}
		require.LessOrEqual(t, w.refreshes(), 8, "in a minute, with tokens of 12 seconds")
		require.GreaterOrEqual(t, w.refreshes(), 5)
	})
}

func TestTransport_oneRefreshForAllRequests(t *testing.T) {
	for name, prepare := range map[string]func(w *clientWorld){
		"expired": func(w *clientWorld) {
			tokens := w.start
			tokens.AccessExpiresAt = time.Now().Add(-time.Second)
			_ = w.memory.Save(context.Background(), tokens)
		},
		"due soon": func(w *clientWorld) {
			tokens := w.start
			tokens.AccessExpiresAt = time.Now().Add(30 * time.Second)
			_ = w.memory.Save(context.Background(), tokens)
		},
		"refused": func(w *clientWorld) { w.setAPI(refuse(w.start.AccessToken)) },
	} {
		t.Run(name, func(t *testing.T) {
			w := newClientWorld(t)
			server := httptest.NewServer(w)
			defer server.Close()
			prepare(w)
			transport, err := sessionclient.New(server.URL+"/token", w.memory, w.config(server.Client().Transport))
			require.NoError(t, err)
			begin := make(chan struct{})
			var wg sync.WaitGroup
			for range 64 {
				wg.Go(func() {
					<-begin
					status, body, err := clientGet(context.Background(), transport, server.URL+"/api")
					if err != nil || status != 200 {
						t.Errorf("%d %q, %v", status, body, err)
					}
				})
			}
			close(begin)
			wg.Wait()
			require.Equal(t, 1, w.refreshes())
			w.requireAlive(w.memory)
		})
	}
}

// A request could go with the token it has, and the token endpoint hangs. The request does not wait
// long, and does not fail.
func TestTransport_doesNotWaitLongForARefreshThatIsEarly(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		w.setFault(func(_ int, _ http.ResponseWriter, r *http.Request, _ func(http.ResponseWriter)) { <-r.Context().Done() })
		pass(14*time.Minute + 10*time.Second)
		for i := range 20 {
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			began := time.Now()
			status, _, err := clientGet(ctx, transport, clientAPIURL)
			cancel()
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, status)
			require.LessOrEqual(t, time.Since(began), time.Second)
			if i > 0 && i < 4 {
				require.Zero(t, time.Since(began), "the refresh has had its second")
			}
			pass(time.Second)
		}
		w.setFault(nil)
		require.NoError(t, transport.Wait(t.Context()))
		w.requireAlive(w.memory)
	})
}

// The token expires while a request waits for an early refresh. From then on the request cannot go
// without a new token, and waits on.
func TestTransport_waitsForARefreshThatIsEarlyNoMore(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		w.setFault(func(_ int, rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
			pass(2 * time.Second)
			serve(rw)
		})
		pass(15*time.Minute - 500*time.Millisecond)
		requireGet(t, transport)
		require.Equal(t, 1, w.refreshes())
	})
}

func TestTransport_aCancelledRequestLosesNothing(t *testing.T) {
	for _, refused := range []bool{false, true} {
		clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
			transport := w.transport(w.memory)
			if refused {
				w.setAPI(refuse(w.start.AccessToken))
			} else {
				pass(time.Hour)
			}
			w.setFault(func(_ int, rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
				pass(2 * time.Second)
				serve(rw)
			})
			began := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			others := make(chan error, 8)
			for range cap(others) {
				go func() {
					_, _, err := clientGet(context.Background(), transport, clientAPIURL)
					others <- err
				}()
			}
			synctest.Wait()
			_, _, err := clientGet(ctx, transport, clientAPIURL)
			require.ErrorIs(t, err, context.DeadlineExceeded)
			var wrapped *url.Error
			require.ErrorAs(t, err, &wrapped)
			require.True(t, wrapped.Timeout())
			require.Equal(t, time.Second, time.Since(began), "the request's own time is up")
			for range cap(others) {
				require.NoError(t, <-others, "the others' is not")
			}
			require.Equal(t, 2*time.Second, time.Since(began))
			require.Equal(t, 1, w.refreshes())
			w.requireAlive(w.memory)
		})
	}
}

func TestTransport_theTokenIsSavedThoughNobodyWaits(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		pass(time.Hour)
		w.setFault(func(n int, rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
			if n == 1 {
				serve(httptest.NewRecorder())
				pass(time.Second)
				panic(http.ErrAbortHandler) // and the answer is lost besides
			}
			serve(rw)
		})
		ctx, cancel := context.WithCancel(t.Context())
		failed := make(chan error)
		go func() {
			_, _, err := clientGet(ctx, transport, clientAPIURL)
			failed <- err
		}()
		synctest.Wait()
		cancel()
		require.ErrorIs(t, <-failed, context.Canceled)

		short, stop := context.WithTimeout(t.Context(), time.Millisecond)
		defer stop()
		require.ErrorIs(t, transport.Wait(short), context.DeadlineExceeded)
		require.Equal(t, w.start.RefreshToken, loaded(t, w.memory).RefreshToken)
		require.NoError(t, transport.Wait(t.Context()))
		require.NotEqual(t, w.start.RefreshToken, loaded(t, w.memory).RefreshToken)
		require.Equal(t, 2, w.refreshes())
		requireGet(t, transport)
		require.Equal(t, 2, w.refreshes())
		w.requireAlive(w.memory)
		require.NoError(t, transport.Wait(t.Context()))
	})
}

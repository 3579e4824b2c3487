package sessionclient_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

func TestTransport_aLostAnswerIsAskedForAgainWithinTheGracePeriod(t *testing.T) {
	for name, lose := range lostAnswers {
		for _, times := range []int{1, 2, 4} {
			if name == "no answer" && times > 1 {
				continue // each takes 4 seconds, see below
			}
			t.Run(fmt.Sprint(name, " ", times), func(t *testing.T) {
				clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
					transport := w.transport(w.memory)
					w.setFault(func(n int, rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
						if n <= times {
							lose(rw, r, serve)
							return
						}
						serve(rw)
					})
					for range 3 {
						pass(time.Hour)
						requireGet(t, transport)
					}
					require.Equal(t, times+3, w.refreshes())
					for i := range times {
						require.Equal(t, w.presented[i], w.presented[i+1], "the same token again")
					}
					require.Less(t, w.at[times].Sub(w.at[0]), 9*time.Second)
					require.Empty(t, w.toldErrors())
					w.requireAlive(w.memory)
				})
			})
		}
	}
}

func TestTransport_aSecondAttemptFitsInWhateverTheTimeout(t *testing.T) {
	for _, timeout := range []time.Duration{time.Second, 4 * time.Second, 7 * time.Second} {
		clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
			cfg := w.config(clientNetwork{w, w})
			cfg.RefreshTimeout = timeout
			transport, err := sessionclient.New(clientAuthURL, w.memory, cfg)
			require.NoError(t, err)
			w.setFault(func(n int, rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
				if n == 1 {
					lostAnswers["no answer"](rw, r, serve)
				}
				serve(rw)
			})
			pass(time.Hour)
			requireGet(t, transport)
			w.requireAlive(w.memory)
		})
	}
}

// The same with a real server and real connections that are cut.
func TestTransport_lostAnswersOfARealServerLogNobodyOut(t *testing.T) {
	for name, lose := range lostAnswers {
		if name == "no answer" {
			continue // takes 4 real seconds
		}
		t.Run(name, func(t *testing.T) {
			w := newClientWorld(t)
			server := httptest.NewServer(w)
			defer server.Close()
			w.setFault(func(n int, rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
				if n%2 == 1 {
					lose(rw, r, serve)
					return
				}
				serve(rw)
			})
			transport, err := sessionclient.New(server.URL+"/token", w.memory, w.config(server.Client().Transport))
			require.NoError(t, err)
			for range 2 {
				tokens := loaded(t, w.memory)
				tokens.AccessExpiresAt = time.Now().Add(-time.Second)
				require.NoError(t, w.memory.Save(t.Context(), tokens))
				status, _, err := clientGet(t.Context(), transport, server.URL+"/api")
				require.NoError(t, err)
				require.Equal(t, 200, status)
			}
			require.Equal(t, 4, w.refreshes())
			w.requireAlive(w.memory)
		})
	}
}

// The Transport does not wait for as long as a busy server asks for. After the grace period the
// server would take the token for a stolen one.
func TestTransport_aLostAnswerIsAskedForInTimeEvenIfTheServerIsBusy(t *testing.T) {
	for name, lose := range lostAnswers {
		t.Run(name, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				transport := w.transport(w.memory)
				pass(time.Hour)
				w.setFault(func(n int, rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
					switch n {
					case 1:
						lose(rw, r, serve)
					case 2:
						busy(rw, "60")
					default:
						serve(rw)
					}
				})
				requireGet(t, transport)
				require.Len(t, w.at, 3)
				require.Equal(t, 8*time.Second, w.at[2].Sub(w.at[0]), "as late as possible")
				w.requireAlive(w.memory)
			})
		})
	}
}

// It does not wait for as long as a proxy asks for, either. A proxy answers 503, or a page of its
// own, for a server that it has lost. Only the token endpoint itself can say that it has not
// refreshed.
func TestTransport_aProxysAnswerIsNoPromiseThatNothingWasDone(t *testing.T) {
	for name, c := range map[string]struct {
		status int
		body   string
	}{
		"503":                   {503, ""},
		"503 with a page":       {503, "<h1>temporarily_unavailable</h1>"},
		"503 with other JSON":   {503, `{"error":"upstream reset"}`},
		"503 with its own code": {503, `{"error":"server_error"}`},
		"502":                   {502, `{"error":"temporarily_unavailable"}`},
	} {
		t.Run(name, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				transport := w.transport(w.memory)
				pass(time.Hour)
				w.setFault(func(n int, rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
					if n > 1 {
						serve(rw)
						return
					}
					serve(httptest.NewRecorder())
					rw.Header().Set("Retry-After", "30")
					answer(c.status, c.body)(n, rw, r, serve)
				})
				requireGet(t, transport)
				require.Len(t, w.at, 2)
				require.Equal(t, 8*time.Second, w.at[1].Sub(w.at[0]), "as late as possible")
				w.requireAlive(w.memory)
			})
		})
	}
}

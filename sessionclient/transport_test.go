package sessionclient_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
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

func TestTransport_refreshesWhenTheTokenIsRefused(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		w.setAPI(refuse(w.start.AccessToken))
		requireGet(t, transport)
		require.Equal(t, 1, w.refreshes())
		require.Equal(t, 2, w.apiCalls())
		require.Equal(t, w.start.AccessToken, w.calls[0])
		require.Equal(t, loaded(t, w.memory).AccessToken, w.calls[1])
		requireGet(t, transport)
		require.Equal(t, 1, w.refreshes())
	})
}

// refuse is an API that does not like some tokens.
func refuse(tokens ...string) func(http.ResponseWriter, *http.Request, func(http.ResponseWriter)) {
	return func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
		for _, token := range tokens {
			if r.Header.Get("Authorization") == "Bearer "+token {
				rw.WriteHeader(http.StatusUnauthorized)
				return
			}
		}
		serve(rw)
	}
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

// What becomes of a refresh whose answer does not arrive.
var lostAnswers = map[string]func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)){
	"connection lost": func(_ http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
		serve(httptest.NewRecorder())
		panic(http.ErrAbortHandler)
	},
	"no answer": func(_ http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
		serve(httptest.NewRecorder())
		<-r.Context().Done()
		panic(http.ErrAbortHandler)
	},
	"bad gateway": func(rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
		serve(httptest.NewRecorder())
		rw.WriteHeader(http.StatusBadGateway)
	},
	"a proxy's 503": func(rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
		serve(httptest.NewRecorder())
		rw.WriteHeader(http.StatusServiceUnavailable)
	},
	"a page instead": func(rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
		serve(httptest.NewRecorder())
		_, _ = io.WriteString(rw, "<html>please log in to the hotel")
	},
	"half an answer": func(rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
		rec := httptest.NewRecorder()
		serve(rec)
		_, _ = rw.Write(rec.Body.Bytes()[:rec.Body.Len()/2])
	},
	"an answer without tokens": func(rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
		serve(httptest.NewRecorder())
		_, _ = io.WriteString(rw, "{}")
	},
	"connection refused": func(_ http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) {
		panic(http.ErrAbortHandler)
	},
}

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

// A real server and real connections, which are cut.
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

func TestTransport_outagesKeepTheTokens(t *testing.T) {
	status := func(status int, header ...string) func(w *clientWorld) {
		return func(w *clientWorld) { w.setStatus(status, header...) }
	}
	busyFor := func(retryAfter string) func(w *clientWorld) {
		return func(w *clientWorld) { w.setBusy(retryAfter) }
	}
	for name, c := range map[string]struct {
		begin func(w *clientWorld)
		most  int // refreshes in ten minutes of a request each second
	}{
		"503":                                  {busyFor(""), 5 * 600},
		"503 for half a minute":                {busyFor("30"), 22},
		"503 for a day, which is too long":     {busyFor("86400"), 4},
		"a proxy's 503":                        {status(503), 5 * 600},
		"a proxy's 503 for half a minute":      {status(503, "Retry-After", "30"), 2 * 18},
		"429":                                  {status(429, "Retry-After", "60"), 12},
		"500":                                  {status(500), 5 * 600},
		"404":                                  {status(404), 600},
		"a redirect":                           {status(307, "Location", "https://elsewhere.example/token"), 600},
		"400 without a word":                   {status(400), 600},
		"offline":                              {func(w *clientWorld) { w.setFault(abort) }, 5 * 600},
		"a hotel's page":                       {func(w *clientWorld) { w.setFault(answer(200, "<html>log in")) }, 5 * 600},
		"a hotel's refusal":                    {func(w *clientWorld) { w.setFault(answer(400, "<html>invalid_grant")) }, 600},
		"invalid_client":                       {func(w *clientWorld) { w.setFault(answer(401, `{"error":"invalid_client"}`)) }, 600},
		"invalid_grant with another status":    {func(w *clientWorld) { w.setFault(answer(401, `{"error":"invalid_grant"}`)) }, 600},
		"invalid_grant with a gateway's":       {func(w *clientWorld) { w.setFault(answer(502, `{"error":"invalid_grant"}`)) }, 5 * 600},
		"invalid_grant with 200":               {func(w *clientWorld) { w.setFault(answer(200, `{"error":"invalid_grant"}`)) }, 5 * 600},
		"something that only sounds like it":   {func(w *clientWorld) { w.setFault(answer(400, `{"error":"invalid_grants"}`)) }, 600},
		"a token that is none":                 {func(w *clientWorld) { w.setFault(answer(200, `{"access_token":"a b","token_type":"Bearer"}`)) }, 5 * 600},
		"a token of another type":              {func(w *clientWorld) { w.setFault(answer(200, `{"access_token":"ab","token_type":"DPoP"}`)) }, 5 * 600},
		"hanging":                              {func(w *clientWorld) { w.setFault(hang) }, 600},
		"hanging in the middle of its answers": {func(w *clientWorld) { w.setFault(hang) }, 600},
	} {
		t.Run(name, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				transport := w.transport(w.memory)
				requireGet(t, transport)
				c.begin(w)
				pass(14 * time.Minute) // due, and still good for a minute

				began := time.Now()
				for time.Since(began) < 10*time.Minute {
					good := time.Now().Before(w.start.AccessExpiresAt.Add(-13 * time.Second)) // as long as a refresh may take
					_, _, err := clientGet(t.Context(), transport, clientAPIURL)
					if good {
						require.NoError(t, err, "the token is still good")
					} else if time.Now().After(w.start.AccessExpiresAt.Add(13 * time.Second)) {
						require.ErrorIs(t, err, tokensession.ErrUnavailable)
						require.NotErrorIs(t, err, sessionclient.ErrSessionEnded)
					}
					pass(time.Second)
				}
				require.LessOrEqual(t, w.refreshes(), c.most)
				require.NotZero(t, w.refreshes())
				require.NotEmpty(t, w.toldErrors())
				require.Equal(t, w.start.RefreshToken, loaded(t, w.memory).RefreshToken)

				w.setFault(nil)
				pass(5*time.Minute + time.Second) // what a server may ask for at most
				requireGet(t, transport)
				w.requireAlive(w.memory)
			})
		})
	}
}

func abort(int, http.ResponseWriter, *http.Request, func(http.ResponseWriter)) {
	panic(http.ErrAbortHandler)
}

func hang(_ int, _ http.ResponseWriter, r *http.Request, _ func(http.ResponseWriter)) {
	<-r.Context().Done()
}

func answer(status int, body string) func(int, http.ResponseWriter, *http.Request, func(http.ResponseWriter)) {
	return func(_ int, rw http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) {
		rw.WriteHeader(status)
		_, _ = io.WriteString(rw, body)
	}
}

func TestTransport_honoursRetryAfter(t *testing.T) {
	for name, c := range map[string]struct {
		header func(now time.Time) string
		least  time.Duration
		most   time.Duration
		fails  bool // the request that waits for it
	}{
		"soon":        {func(time.Time) string { return "3" }, 3 * time.Second, 3200 * time.Millisecond, false},
		"a date":      {func(now time.Time) string { return now.Add(3 * time.Second).UTC().Format(http.TimeFormat) }, 3 * time.Second, 3200 * time.Millisecond, false},
		"later":       {func(time.Time) string { return "30" }, 30 * time.Second, 31 * time.Second, true},
		"none":        {func(time.Time) string { return "" }, 100 * time.Millisecond, 200 * time.Millisecond, false},
		"garbage":     {func(time.Time) string { return "-3" }, 100 * time.Millisecond, 200 * time.Millisecond, false},
		"past":        {func(now time.Time) string { return now.Add(-time.Hour).UTC().Format(http.TimeFormat) }, 100 * time.Millisecond, 200 * time.Millisecond, false},
		"for ever":    {func(time.Time) string { return "2147483647" }, 5 * time.Minute, 5*time.Minute + time.Second, true},
		"even longer": {func(time.Time) string { return "99999999999999999999" }, 100 * time.Millisecond, 200 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				transport := w.transport(w.memory)
				pass(time.Hour)
				w.setFault(func(n int, rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
					if n == 1 {
						busy(rw, c.header(time.Now()))
						return
					}
					serve(rw)
				})
				began := time.Now()
				_, _, err := clientGet(t.Context(), transport, clientAPIURL)
				if c.fails {
					require.ErrorIs(t, err, tokensession.ErrUnavailable)
					require.Zero(t, time.Since(began), "who has to wait for long is told so at once")
				} else {
					require.NoError(t, err)
				}
				for c.fails && err != nil {
					pass(100 * time.Millisecond)
					_, _, err = clientGet(t.Context(), transport, clientAPIURL)
				}
				require.GreaterOrEqual(t, w.at[1].Sub(w.at[0]), c.least)
				require.LessOrEqual(t, w.at[1].Sub(w.at[0]), c.most)
				w.requireAlive(w.memory)
			})
		})
	}
}

// Later, the token would be taken for a stolen one.
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

// Nor does it wait for as long as a proxy asks for, that answers 503 for a server it has lost, or a page of its own. Only
// the token endpoint itself can say that it has not refreshed.
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

// While the token is good, there is no hurry.
func TestTransport_pausesAfterAnEarlyRefreshThatFailed(t *testing.T) {
	for _, c := range []struct {
		header   string
		pause    time.Duration
		attempts int
	}{
		{"", 14 * time.Second, 5},
		{"40", 40 * time.Second, 1},
	} {
		clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
			transport := w.transport(w.memory)
			w.setBusy(c.header)
			pass(14 * time.Minute)
			requireGet(t, transport)
			require.NoError(t, transport.Wait(t.Context()))
			for end := time.Now().Add(c.pause); time.Now().Before(end); pass(time.Second) {
				requireGet(t, transport)
				require.Equal(t, c.attempts, w.refreshes())
			}
			w.setStatus(0)
			pass(2 * time.Second)
			requireGet(t, transport)
			require.Equal(t, c.attempts+1, w.refreshes())
			w.requireAlive(w.memory)
		})
	}
}

// A request that could go as it is does not wait long for a token endpoint that hangs, and does not fail for it.
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

// The token expires while a request gives the refresh its second: from then on it cannot do without.
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

// The program logs in as somebody else, or out, in the moment in which the Transport saves a refresh.
func TestTransport_neverSavesOverALoginOrALogout(t *testing.T) {
	for name, log := range map[string]func(w *clientWorld) tokensession.Tokens{
		"login":  func(w *clientWorld) tokensession.Tokens { return w.login() },
		"logout": func(*clientWorld) tokensession.Tokens { return tokensession.Tokens{} },
	} {
		for kind, inner := range map[string]func(t *testing.T) sessionclient.TokenSwapper{
			"memory": func(*testing.T) sessionclient.TokenSwapper { return &sessionclient.TokenMemory{} },
			"file": func(t *testing.T) sessionclient.TokenSwapper {
				return sessionclient.NewTokenFile(t.TempDir() + "/tokens")
			},
		} {
			t.Run(name+", "+kind, func(t *testing.T) {
				w := newClientWorld(t)
				store := inner(t)
				require.NoError(t, store.Save(t.Context(), w.start))
				saved := log(w)
				transport := w.transport(&interruptedStore{TokenSwapper: store, before: func() { require.NoError(t, store.Save(t.Context(), saved)) }})
				w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
					if r.Header.Get("Authorization") == "Bearer "+w.start.AccessToken {
						rw.WriteHeader(http.StatusUnauthorized)
						return
					}
					serve(rw)
				})
				_, _, err := clientGet(t.Context(), transport, clientAPIURL)
				if name == "login" {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, sessionclient.ErrNoTokens)
				}
				require.NoError(t, transport.Wait(t.Context()))
				now, err := store.Load(t.Context())
				if name == "login" {
					require.NoError(t, err)
				} else {
					require.ErrorIs(t, err, sessionclient.ErrNoTokens)
				}
				require.Equal(t, saved.RefreshToken, now.RefreshToken)
			})
		}
	}
}

// The same when what could not be saved before is saved at last.
func TestTransport_savesNothingLateOverALogin(t *testing.T) {
	w := newClientWorld(t)
	saved := w.login()
	store := &interruptedStore{TokenSwapper: w.memory, fails: errClientDisk}
	transport := w.transport(store)
	w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
		if r.Header.Get("Authorization") == "Bearer "+w.start.AccessToken {
			rw.WriteHeader(http.StatusUnauthorized)
			return
		}
		serve(rw)
	})
	requireGet(t, transport) // with tokens that the store would not take
	store.fails = nil
	store.before = func() { require.NoError(t, w.memory.Save(t.Context(), saved)) }
	require.NoError(t, transport.Wait(t.Context()))
	now, err := w.memory.Load(t.Context())
	require.NoError(t, err)
	require.Equal(t, saved.RefreshToken, now.RefreshToken)
	requireGet(t, transport)
	require.Equal(t, saved.AccessToken, w.calls[len(w.calls)-1])
}

// An interruptedStore does something just before a swap, once, or fails.
type interruptedStore struct {
	sessionclient.TokenSwapper
	before func()
	fails  error
}

func (s *interruptedStore) Swap(ctx context.Context, held string, tokens tokensession.Tokens) (bool, error) {
	if f := s.before; f != nil {
		s.before = nil
		f()
	}
	if s.fails != nil {
		return false, s.fails
	}
	return s.TokenSwapper.Swap(ctx, held, tokens)
}

func TestTransport_readsNoEndlessAnswer(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		pass(time.Hour)
		w.setFault(answer(200, strings.Repeat(" ", 200<<10)+`{"access_token":"a","token_type":"Bearer"}`))
		_, _, err := clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
		require.Equal(t, w.start, loaded(t, w.memory))
	})
}

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

// A request that was under way when the session ended.
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

func TestTransport_withoutTokens(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		var none sessionclient.TokenMemory
		transport := w.transport(&none)
		_, _, err := clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, sessionclient.ErrNoTokens)
		require.Zero(t, w.apiCalls())

		// An access token alone is good until it expires; that it was refused somewhere does not change it.
		alone := tokensession.Tokens{AccessToken: w.start.AccessToken, AccessExpiresAt: w.start.AccessExpiresAt}
		require.NoError(t, none.Save(t.Context(), alone))
		requireGet(t, transport)
		w.setAPI(refuse(alone.AccessToken))
		for range 2 {
			status, _, err := clientGet(t.Context(), transport, clientAPIURL)
			require.NoError(t, err)
			require.Equal(t, 401, status)
		}
		w.setAPI(nil)
		requireGet(t, transport)
		pass(15 * time.Minute)
		for range 3 {
			_, _, err = clientGet(t.Context(), transport, clientAPIURL)
			require.ErrorIs(t, err, sessionclient.ErrSessionEnded)
		}
		require.Len(t, w.toldOfEnd(), 1)
		require.Zero(t, w.refreshes())

		// A refresh token alone is enough, and so is a server that does not rotate.
		require.NoError(t, none.Save(t.Context(), tokensession.Tokens{RefreshToken: w.start.RefreshToken, Scope: "read"}))
		w.setFault(func(_ int, rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
			rec := httptest.NewRecorder()
			serve(rec)
			tokens, err := sessionclient.ParseTokens(rec.Body.Bytes(), time.Now())
			if err != nil {
				t.Error(err)
			}
			clientJSON(rw, 200, map[string]any{"access_token": tokens.AccessToken, "token_type": "bEaReR"})
		})
		requireGet(t, transport)
		got := loaded(t, &none)
		require.Equal(t, w.start.RefreshToken, got.RefreshToken)
		require.Zero(t, got.AccessExpiresAt)
		require.Equal(t, "read", got.Scope, "what is not said has not changed")
		pass(24 * time.Hour)
		w.setFault(nil)
		_, _, err = clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, sessionclient.ErrSessionEnded, "not known to have expired, refused, and by then consumed long ago")
	})
}

func TestTransport_anOriginThatRefusesEverythingCostsFewRefreshes(t *testing.T) {
	for _, replayable := range []bool{true, false} {
		clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
			transport := w.transport(w.memory)
			w.setAPI(func(rw http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) { rw.WriteHeader(401) })
			for range 600 {
				req := mustRequest(t, "POST", clientAPIURL, "hello")
				if !replayable {
					req.GetBody = nil
				}
				resp, err := transport.RoundTrip(req)
				require.NoError(t, err)
				require.Equal(t, 401, resp.StatusCode)
				resp.Body.Close()
				pass(time.Second)
			}
			require.LessOrEqual(t, w.refreshes(), 21, "in ten minutes")
			require.LessOrEqual(t, w.apiCalls(), 600+21)
			w.setAPI(nil)
			requireGet(t, transport)
			w.requireAlive(w.memory)
		})
	}
}

func mustRequest(t testing.TB, method, url, body string) *http.Request {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	require.NoError(t, err)
	return req
}

// A trackedBody tells whether it was closed.
type trackedBody struct {
	io.Reader
	closed chan struct{}
	once   sync.Once
}

func newTrackedBody(text string) *trackedBody {
	return &trackedBody{Reader: strings.NewReader(text), closed: make(chan struct{})}
}

func (b *trackedBody) Close() error { b.once.Do(func() { close(b.closed) }); return nil }

func TestTransport_sendsTheBodyAgainIfItCan(t *testing.T) {
	for name, c := range map[string]struct {
		getBody func() (io.ReadCloser, error)
		noBody  bool
		status  int
		calls   int
		body    string
	}{
		"no body":        {noBody: true, status: 200, calls: 2, body: "alice: "},
		"GetBody":        {getBody: func() (io.ReadCloser, error) { return newTrackedBody("hello"), nil }, status: 200, calls: 2, body: "alice: hello"},
		"no GetBody":     {status: 401, calls: 1},
		"GetBody fails":  {getBody: func() (io.ReadCloser, error) { return nil, errClientDisk }, status: 401, calls: 1},
		"http.NoBody":    {noBody: true, getBody: func() (io.ReadCloser, error) { return http.NoBody, nil }, status: 200, calls: 2, body: "alice: "},
		"read by itself": {getBody: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader("hello")), nil }, status: 200, calls: 2, body: "alice: hello"},
	} {
		t.Run(name, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				transport := w.transport(w.memory)
				w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
					if r.Header.Get("Authorization") == "Bearer "+w.start.AccessToken {
						_, _ = io.Copy(io.Discard, r.Body)
						rw.WriteHeader(401)
						return
					}
					serve(rw)
				})
				body := newTrackedBody("hello")
				req := mustRequest(t, "POST", clientAPIURL, "")
				req.Body, req.GetBody, req.ContentLength = body, c.getBody, 5
				if c.noBody {
					req.Body, req.ContentLength = nil, 0
				}
				resp, err := transport.RoundTrip(req)
				require.NoError(t, err)
				got, err := io.ReadAll(resp.Body)
				require.NoError(t, err)
				resp.Body.Close()
				require.Equal(t, c.status, resp.StatusCode)
				require.Equal(t, c.calls, w.apiCalls())
				if c.status == 200 {
					require.Equal(t, c.body, string(got))
				}
				if !c.noBody {
					<-body.closed
				}
				require.Equal(t, 1, w.refreshes(), "the next request has the new token in any case")
				requireGet(t, transport)
				require.Equal(t, c.calls+1, w.apiCalls())
			})
		})
	}
}

// A base that has one connection has none for the refresh while the refusal's body is not read.
func TestTransport_refreshesOverTheConnectionOfTheRefusal(t *testing.T) {
	w := newClientWorld(t)
	server := httptest.NewServer(w)
	defer server.Close()
	base := &http.Transport{MaxConnsPerHost: 1}
	defer base.CloseIdleConnections()
	transport, err := sessionclient.New(server.URL+"/token", w.memory, w.config(base))
	require.NoError(t, err)
	page := strings.Repeat("no entry ", 5000)
	w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
		if r.Header.Get("Authorization") == "Bearer "+w.start.AccessToken {
			rw.WriteHeader(401)
			_, _ = io.WriteString(rw, page)
			return
		}
		serve(rw)
	})
	status, body, err := clientGet(t.Context(), transport, server.URL+"/api")
	require.NoError(t, err)
	require.Equal(t, 200, status, body)
	require.Empty(t, w.toldErrors())
	w.requireAlive(w.memory)
}

// Where the refusal is the answer after all, it is a whole one.
func TestTransport_givesBackTheWholeRefusal(t *testing.T) {
	for name, text := range map[string]string{
		"nothing": "", "short": "no entry", "as long as what is read": strings.Repeat("x", 64<<10),
		"longer": strings.Repeat("x", 64<<10) + strings.Repeat("y", 64<<10),
	} {
		for _, broken := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " ", broken), func(t *testing.T) {
				clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
					body := newTrackedBody(text)
					if broken {
						body.Reader = io.MultiReader(body.Reader, iotest.ErrReader(errClientDisk))
					}
					network := clientNetwork{w, w}
					transport, err := sessionclient.New(clientAuthURL, w.memory, w.config(clientBase(func(req *http.Request) (*http.Response, error) {
						if req.URL.Path == "/token" {
							return network.RoundTrip(req)
						}
						return &http.Response{StatusCode: 401, Header: http.Header{}, Body: body}, nil
					})))
					require.NoError(t, err)
					req := mustRequest(t, "POST", clientAPIURL, "hello")
					req.GetBody = nil
					resp, err := transport.RoundTrip(req)
					require.NoError(t, err)
					require.Equal(t, 1, w.refreshes())
					select {
					case <-body.closed:
						t.Fatal("closed before the caller has read it")
					default:
					}
					got, err := io.ReadAll(resp.Body)
					require.Equal(t, text, string(got))
					if broken {
						require.ErrorIs(t, err, errClientDisk)
					} else {
						require.NoError(t, err)
					}
					require.NoError(t, resp.Body.Close())
					<-body.closed
				})
			})
		}
	}
}

// A refusal whose body does not end holds up neither the refresh nor the request, which has no deadline of its own.
func TestTransport_waitsForNoRefusalThatStalls(t *testing.T) {
	for _, replayable := range []bool{true, false} {
		clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
			here, there := io.Pipe()
			go func() { _, _ = io.WriteString(there, "no entry") }()
			network := clientNetwork{w, w}
			transport, err := sessionclient.New(clientAuthURL, w.memory, w.config(clientBase(func(req *http.Request) (*http.Response, error) {
				if req.Header.Get("Authorization") == "Bearer "+w.start.AccessToken {
					return &http.Response{StatusCode: 401, Header: http.Header{}, Body: here}, nil
				}
				return network.RoundTrip(req)
			})))
			require.NoError(t, err)
			req := mustRequest(t, "POST", clientAPIURL, "hello")
			if !replayable {
				req.GetBody = nil
			}
			began := time.Now()
			resp, err := transport.RoundTrip(req)
			require.NoError(t, err)
			require.Equal(t, time.Second, time.Since(began))
			require.Equal(t, 1, w.refreshes())
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if replayable {
				require.NoError(t, err)
				require.Equal(t, "alice: hello", string(body))
			} else {
				require.Equal(t, 401, resp.StatusCode)
				require.Equal(t, "no entry", string(body), "what there is of it")
				require.ErrorContains(t, err, "took longer than 1s", "it does not look like a whole one")
			}
			_, err = there.Write(nil)
			require.ErrorIs(t, err, io.ErrClosedPipe, "the connection is free")
		})
	}
}

// The same of a real server, and the only connection that the base has.
func TestTransport_refreshesThoughTheRefusalHoldsTheConnection(t *testing.T) {
	w := newClientWorld(t)
	server := httptest.NewServer(w)
	defer server.Close()
	base := &http.Transport{MaxConnsPerHost: 1}
	defer base.CloseIdleConnections()
	transport, err := sessionclient.New(server.URL+"/token", w.memory, w.config(base))
	require.NoError(t, err)
	w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
		if r.Header.Get("Authorization") == "Bearer "+w.start.AccessToken {
			rw.WriteHeader(401)
			_, _ = io.WriteString(rw, "no entry")
			_ = http.NewResponseController(rw).Flush()
			<-r.Context().Done() // until the connection is closed
			return
		}
		serve(rw)
	})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	status, body, err := clientGet(ctx, transport, server.URL+"/api")
	require.NoError(t, err)
	require.Equal(t, 200, status, body)
	require.Empty(t, w.toldErrors())
	w.requireAlive(w.memory)
}

func TestTransport_closesTheBodyWhenItCannotSend(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(&sessionclient.TokenMemory{})
		body := newTrackedBody("hello")
		req := mustRequest(t, "POST", clientAPIURL, "")
		req.Body = body
		_, err := transport.RoundTrip(req)
		require.ErrorIs(t, err, sessionclient.ErrNoTokens)
		<-body.closed
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

func TestTransport_savesBeforeItUses(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		store := &clientStore{TokenStore: w.memory, beforeSv: func() { pass(time.Second) }}
		transport := w.transport(store)
		w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
			if "Bearer "+loaded(t, w.memory).AccessToken != r.Header.Get("Authorization") {
				t.Error("a token is used that is not in the store")
			}
			serve(rw)
		})
		for range 5 {
			pass(time.Hour)
			requireGet(t, transport)
		}
		require.Equal(t, 5, store.saves)
	})
}

func TestTransport_whatCannotBeSavedIsKeptAndSavedLater(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		store := &clientStore{TokenStore: w.memory}
		transport := w.transport(store)
		store.set(nil, errClientDisk)
		for range 3 { // rotates three times, while the store has the first
			pass(14*time.Minute + 30*time.Second)
			requireGet(t, transport)
			requireGet(t, transport)
		}
		require.Equal(t, 3, w.refreshes())
		require.Equal(t, w.start.RefreshToken, loaded(t, w.memory).RefreshToken)
		require.NotEmpty(t, w.toldErrors())
		for _, err := range w.toldErrors() {
			require.ErrorIs(t, err, errClientDisk)
		}
		require.ErrorIs(t, transport.Wait(t.Context()), errClientDisk)

		store.set(errClientDisk, errClientDisk) // nor can it be read
		requireGet(t, transport)
		require.ErrorIs(t, transport.Wait(t.Context()), errClientDisk)

		store.set(nil, nil)
		pass(6 * time.Second)
		requireGet(t, transport)
		require.Equal(t, 3, w.refreshes())
		require.NotEqual(t, w.start.RefreshToken, loaded(t, w.memory).RefreshToken, "saved by the next request")
		w.requireAlive(w.memory)
		saves := store.saves
		requireGet(t, transport)
		require.NoError(t, transport.Wait(t.Context()))
		require.Equal(t, saves, store.saves)
	})
}

// A request that needs new tokens just when old ones are being saved gets new ones.
func TestTransport_refreshesAfterALateSave(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		store := &clientStore{TokenStore: w.memory}
		transport := w.transport(store)
		store.set(nil, errClientDisk)
		pass(time.Hour)
		requireGet(t, transport)
		store.set(nil, nil)
		store.beforeSv = func() { pass(time.Second) }
		pass(time.Hour)
		waited := make(chan error)
		go func() { waited <- transport.Wait(context.Background()) }()
		synctest.Wait()
		requireGet(t, transport)
		require.NoError(t, <-waited)
		require.Equal(t, 2, w.refreshes())
		require.Len(t, w.calls, 2, "nothing was sent with another token")
		w.requireAlive(w.memory)
	})
}

func TestTransport_waitSavesWhatCouldNotBeSaved(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		store := &clientStore{TokenStore: w.memory}
		transport := w.transport(store)
		store.set(nil, errClientDisk)
		pass(time.Hour)
		requireGet(t, transport)
		store.set(nil, nil)
		require.NoError(t, transport.Wait(t.Context()))
		w.requireAlive(w.memory)
	})
}

func TestTransport_aStoreThatCannotBeReadEndsNothing(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		store := &clientStore{TokenStore: w.memory}
		transport := w.transport(store)
		for _, cause := range []error{errClientDisk, sessionclient.ErrSessionEnded, context.DeadlineExceeded} {
			store.set(cause, nil)
			_, _, err := clientGet(t.Context(), transport, clientAPIURL)
			require.ErrorIs(t, err, tokensession.ErrUnavailable)
			require.NotErrorIs(t, err, sessionclient.ErrSessionEnded)
		}
		store.set(nil, nil)
		requireGet(t, transport)

		// It fails just when the new tokens have come: they are saved nevertheless.
		pass(time.Hour)
		w.setFault(func(_ int, rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
			store.set(errClientDisk, nil)
			serve(rw)
		})
		requireGet(t, transport)
		w.requireAlive(w.memory)

		// It fails when an answer was lost, which cannot wait.
		store.set(nil, nil)
		pass(time.Hour)
		w.setFault(func(_ int, rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
			store.set(errClientDisk, nil)
			w.setFault(nil)
			lostAnswers["connection lost"](rw, r, serve)
		})
		requireGet(t, transport)
		w.requireAlive(w.memory)

		// It fails when the token is refused: whether there is a newer one cannot be told.
		store.set(nil, nil)
		pass(time.Hour)
		w.setFault(func(_ int, rw http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) {
			store.set(errClientDisk, nil)
			clientJSON(rw, 400, map[string]any{"error": "invalid_grant"})
		})
		_, _, err := clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
		require.Empty(t, w.toldOfEnd())
	})
}

func TestTransport_whatTheProgramSavesDuringARefreshStays(t *testing.T) {
	for name, during := range map[string]func(w *clientWorld) tokensession.Tokens{
		"login":  func(w *clientWorld) tokensession.Tokens { return w.login() },
		"logout": func(w *clientWorld) tokensession.Tokens { return tokensession.Tokens{} },
		"a login that is old": func(w *clientWorld) tokensession.Tokens {
			tokens := w.login()
			tokens.AccessExpiresAt = time.Now()
			return tokens
		},
	} {
		t.Run(name, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				transport := w.transport(w.memory)
				var want tokensession.Tokens
				w.setFault(func(n int, rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
					serve(rw)
					if n == 1 {
						want = during(w)
						_ = w.memory.Save(context.Background(), want)
					}
				})
				pass(time.Hour)
				_, _, err := clientGet(t.Context(), transport, clientAPIURL)
				switch name {
				case "login":
					require.NoError(t, err)
					require.Equal(t, want, loaded(t, w.memory))
					require.Equal(t, []string{want.AccessToken}, w.calls)
				case "logout":
					require.ErrorIs(t, err, sessionclient.ErrNoTokens)
					_, err := w.memory.Load(t.Context())
					require.ErrorIs(t, err, sessionclient.ErrNoTokens)
					require.Zero(t, w.apiCalls())
				default:
					require.NoError(t, err)
					require.Equal(t, want.RefreshToken, w.presented[1])
					w.requireAlive(w.memory)
				}
			})
		})
	}
}

// What could not be saved gives way to what somebody else could.
func TestTransport_whatCannotBeSavedGivesWayToALoginOrLogout(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		store := &clientStore{TokenStore: w.memory}
		transport := w.transport(store)
		for _, logout := range []bool{false, true} {
			pass(15 * time.Minute)
			next := w.login()
			if logout {
				next = tokensession.Tokens{}
			}
			store.set(nil, errClientDisk)
			requireGet(t, transport)
			require.NoError(t, w.memory.Save(t.Context(), next))
			_, _, err := clientGet(t.Context(), transport, clientAPIURL)
			if next.AccessToken != "" {
				require.NoError(t, err)
				require.Equal(t, next.AccessToken, w.calls[len(w.calls)-1])
			} else {
				require.ErrorIs(t, err, sessionclient.ErrNoTokens)
			}
			store.set(nil, nil)
			require.NoError(t, transport.Wait(t.Context()))
			got, _ := w.memory.Load(t.Context())
			require.Equal(t, next, got)
		}
		_, _, err := clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, sessionclient.ErrNoTokens)
	})
}

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

		// The other one was faster, between the reading of the file and the verdict.
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

func TestTransport_sendsTheTokenToItsOriginsOnly(t *testing.T) {
	for _, c := range []struct {
		origins []string
		url     string
		want    bool
	}{
		{nil, "https://auth.example/x", true},
		{nil, "https://auth.example:443/x?y#z", true},
		{nil, "https://AUTH.example/", true},
		{nil, "HTTPS://auth.example/", true},
		{nil, "http://auth.example/", false},
		{nil, "http://auth.example:443/", false},
		{nil, "https://auth.example:8443/", false},
		{nil, "https://api.example/", false},
		{nil, "https://auth.example.evil.example/", false},
		{nil, "https://auth.example./", false},
		{nil, "https://sub.auth.example/", false},
		{nil, "https://evilauth.example/", false},
		{nil, "https://auth.example@evil.example/", false},
		{nil, "https://evil.example/https://auth.example/", false},
		{nil, "https://ａuth.example/", false},
		{[]string{"https://api.example"}, "https://auth.example/", false},
		{[]string{"https://api.example/"}, "https://api.example/", true},
		{[]string{"https://api.example:443"}, "https://api.example/", true},
		{[]string{"https://api.Example", "http://localhost:8080"}, "http://localhost:8080/", true},
		{[]string{"http://localhost:8080"}, "http://localhost/", false},
		{[]string{"http://127.0.0.1"}, "http://127.0.0.1:80/", true},
		{[]string{"http://127.0.0.1"}, "http://127.0.0.2/", false},
		{[]string{"http://[::1]:8080"}, "http://[::1]:8080/", true},
		{[]string{"https://kelvin.example"}, "https://\u212aelvin.example/", false},
	} {
		var got []string
		var store sessionclient.TokenMemory
		require.NoError(t, store.Save(t.Context(), tokensession.Tokens{AccessToken: "secret", RefreshToken: "secret too"}))
		transport, err := sessionclient.New(clientAuthURL, &store, sessionclient.Config{
			Origins: c.origins,
			Base: clientBase(func(req *http.Request) (*http.Response, error) {
				got = append(got, req.Header.Get("Authorization"))
				return &http.Response{StatusCode: 401, Body: http.NoBody, Request: req}, nil
			}),
		})
		require.NoError(t, err)
		req, err := http.NewRequest("GET", c.url, nil)
		require.NoError(t, err)
		req.URL.User = nil
		resp, err := transport.RoundTrip(req)
		if c.want {
			require.ErrorIs(t, err, tokensession.ErrUnavailable, c.url) // a 401 is no refresh
			require.Equal(t, []string{"Bearer secret", ""}, got[:2], c.url)
		} else {
			require.NoError(t, err)
			require.Equal(t, 401, resp.StatusCode, c.url)
			require.Equal(t, []string{""}, got, "%s with %s", c.url, c.origins)
		}
	}
}

func TestTransport_dropsTheTokenAtARedirectToAnotherOrigin(t *testing.T) {
	w := newClientWorld(t)
	var elsewhere []http.Header
	other := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { elsewhere = append(elsewhere, r.Header) }))
	defer other.Close()
	server := httptest.NewServer(w)
	defer server.Close()
	w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(rw, r, other.URL, http.StatusTemporaryRedirect)
		case "/back":
			http.Redirect(rw, r, server.URL+"/api", http.StatusTemporaryRedirect)
		default:
			serve(rw)
		}
	})
	transport, err := sessionclient.New(server.URL+"/token", w.memory, w.config(nil))
	require.NoError(t, err)
	status, _, err := clientGet(t.Context(), transport, server.URL+"/away")
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Len(t, elsewhere, 1)
	require.Empty(t, elsewhere[0]["Authorization"])
	for name := range elsewhere[0] {
		require.NotContains(t, elsewhere[0].Get(name), w.start.AccessToken)
	}
	status, _, err = clientGet(t.Context(), transport, server.URL+"/back")
	require.NoError(t, err)
	require.Equal(t, 200, status, "the same origin gets it again")
	transport.CloseIdleConnections()
}

func TestTransport_leavesTheRequestAlone(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		w.setAPI(refuse(w.start.AccessToken))
		req := mustRequest(t, "POST", clientAPIURL, "hello")
		req.Header.Set("X-Mine", "1")
		header, body := req.Header.Clone(), req.Body
		resp, err := transport.RoundTrip(req)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, 2, w.apiCalls())
		require.Equal(t, header, req.Header)
		require.True(t, body == req.Body)
		require.Same(t, req, resp.Request, "and no response leads to the token")

		bare := &http.Request{Method: "GET", URL: req.URL} // without a header map
		resp, err = transport.RoundTrip(bare)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, 200, resp.StatusCode)
		require.Nil(t, bare.Header)

		mine := mustRequest(t, "GET", clientAPIURL, "")
		mine.Header.Set("Authorization", "Basic abc")
		resp, err = transport.RoundTrip(mine)
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, 401, resp.StatusCode)
		require.Equal(t, "Basic abc", w.calls[len(w.calls)-1], "a request with credentials of its own")
		require.Equal(t, 1, w.refreshes())
	})
}

// A trailer's values are set on the request while its body is read.
func TestTransport_sendsTrailers(t *testing.T) {
	w := newClientWorld(t)
	server := httptest.NewServer(w)
	defer server.Close()
	base := &http.Transport{}
	defer base.CloseIdleConnections()
	transport, err := sessionclient.New(server.URL+"/token", w.memory, w.config(base))
	require.NoError(t, err)
	w.setAPI(func(rw http.ResponseWriter, r *http.Request, _ func(http.ResponseWriter)) {
		_, _ = io.Copy(io.Discard, r.Body)
		if r.Header.Get("Authorization") == "Bearer "+w.start.AccessToken {
			rw.WriteHeader(401)
			return
		}
		_, _ = io.WriteString(rw, r.Trailer.Get("X-Sum"))
	})
	req := mustRequest(t, "POST", server.URL+"/api", "")
	req.ContentLength = -1
	req.Trailer = http.Header{"X-Sum": nil}
	sums := 0
	req.GetBody = func() (io.ReadCloser, error) {
		return io.NopCloser(io.MultiReader(strings.NewReader("hello"), readFunc(func([]byte) (int, error) {
			sums++
			req.Trailer.Set("X-Sum", fmt.Sprint(sums))
			return 0, io.EOF
		}))), nil
	}
	req.Body, _ = req.GetBody()
	resp, err := transport.RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	sum, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, "2", string(sum))
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

func TestNewTransport_refuses(t *testing.T) {
	const good = clientAuthURL
	for _, c := range []struct {
		url  string
		cfg  sessionclient.Config
		want string
	}{
		{"", sessionclient.Config{}, "must begin with https://"},
		{"/token", sessionclient.Config{}, "must begin with https://"},
		{"https://", sessionclient.Config{}, "must begin with https://"},
		{"ftp://auth.example", sessionclient.Config{}, "must begin with https://"},
		{"https://auth.example/%zz", sessionclient.Config{}, "is not a URL"},
		{"https://u:secret@auth.example/token", sessionclient.Config{}, "user information"},
		{"https://auth.example/token#x", sessionclient.Config{}, "fragment"},
		{"http://auth.example/token", sessionclient.Config{}, "InsecureAllowPlainHTTP"},
		{"http://127.0.0.1.evil.example/token", sessionclient.Config{}, "InsecureAllowPlainHTTP"},
		{"http://localhost.evil.example/token", sessionclient.Config{}, "InsecureAllowPlainHTTP"},
		{"http://192.168.0.1/token", sessionclient.Config{}, "InsecureAllowPlainHTTP"},
		{"http://0.0.0.0/token", sessionclient.Config{}, "InsecureAllowPlainHTTP"},
		{good, sessionclient.Config{Origins: []string{"http://api.example"}}, "InsecureAllowPlainHTTP"},
		{good, sessionclient.Config{Origins: []string{"api.example"}}, "must begin with https://"},
		{good, sessionclient.Config{Origins: []string{"*"}}, "must begin with https://"},
		{good, sessionclient.Config{Origins: []string{"https://api.example/v1"}}, "must end after"},
		{good, sessionclient.Config{Origins: []string{"https://api.example?"}}, "must end after"},
		{good, sessionclient.Config{RefreshBefore: -1}, "RefreshBefore -1ns: cannot be negative"},
		{good, sessionclient.Config{RefreshTimeout: -1}, "RefreshTimeout -1ns: must be from 0 to 7s"},
		{good, sessionclient.Config{RefreshTimeout: 8 * time.Second}, "RefreshTimeout 8s: must be from 0 to 7s"},
	} {
		transport, err := sessionclient.New(c.url, &sessionclient.TokenMemory{}, c.cfg)
		require.ErrorContains(t, err, c.want, "%s %v", c.url, c.cfg.Origins)
		require.NotContains(t, err.Error(), "secret")
		require.Nil(t, transport)
	}
	_, err := sessionclient.New(good, nil, sessionclient.Config{})
	require.ErrorContains(t, err, "store is nil")

	for _, c := range []struct {
		url string
		cfg sessionclient.Config
	}{
		{"http://localhost/token", sessionclient.Config{}},
		{"http://LOCALHOST:8080/token", sessionclient.Config{}},
		{"http://127.8.9.1:8080/token", sessionclient.Config{}},
		{"http://[::1]/token", sessionclient.Config{}},
		{"https://auth.example/token?tenant=1", sessionclient.Config{}},
		{"http://auth.example/token", sessionclient.Config{InsecureAllowPlainHTTP: true}},
		{good, sessionclient.Config{Origins: []string{"http://api.example"}, InsecureAllowPlainHTTP: true}},
	} {
		_, err := sessionclient.New(c.url, &sessionclient.TokenMemory{}, c.cfg)
		require.NoError(t, err, c.url)
	}
}

func TestTransport_copiesItsConfig(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		cfg := w.config(clientNetwork{w, w})
		cfg.Origins = []string{"https://auth.example"}
		cfg.ClientID = "cli"
		transport, err := sessionclient.New(clientAuthURL, w.memory, cfg)
		require.NoError(t, err)
		cfg.Origins[0] = "https://evil.example"
		w.setFault(func(_ int, rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
			if r.PostFormValue("client_id") != "cli" || r.Header.Get("Accept") != "application/json" {
				t.Error("the refresh has no client_id or Accept")
			}
			serve(rw)
		})
		pass(time.Hour)
		requireGet(t, transport)
	})
}

// Whatever the server or the network says, and whatever a program prints.
func TestTransport_printsAndTellsNoTokens(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		store := &clientStore{TokenStore: w.memory}
		transport := w.transport(store)
		var said []string
		print := func(v ...any) {
			for _, v := range v {
				for _, format := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
					said = append(said, fmt.Sprintf(format, v))
				}
				var b bytes.Buffer
				slog.New(slog.NewJSONHandler(&b, nil)).Info("x", "v", v)
				slog.New(slog.NewTextHandler(&b, nil)).Info("x", "v", v)
				said = append(said, b.String())
			}
		}
		print(transport, *transport, http.Client{Transport: transport}, struct{ t http.RoundTripper }{transport}, struct{ t sessionclient.Transport }{*transport})
		secrets := []string{w.start.AccessToken, w.start.RefreshToken}
		echo := func(status int) {
			w.setFault(func(_ int, rw http.ResponseWriter, r *http.Request, _ func(http.ResponseWriter)) {
				token := r.PostFormValue("refresh_token")
				rw.Header().Set("Location", "https://x.example/?"+token)
				clientJSON(rw, status, map[string]any{
					"error": token, "error_description": token, token: token, "access_token": token + " ", "token_type": token, "expires_in": token,
				})
			})
			pass(time.Hour)
			_, _, err := clientGet(t.Context(), transport, clientAPIURL)
			require.Error(t, err)
			print(err, transport)
		}
		for _, status := range []int{200, 302, 400, 401, 500, 503} {
			echo(status)
		}
		store.set(nil, errClientDisk)
		w.setFault(nil)
		pass(time.Minute)
		requireGet(t, transport)
		secrets = append(secrets, w.calls[len(w.calls)-1])
		print(transport, *transport, w.memory, sessionclient.NewTokenFile("x"))
		for _, err := range w.toldErrors() {
			print(err)
		}
		w.setStatus(503)
		pass(time.Hour)
		_, _, err := clientGet(t.Context(), transport, clientAPIURL)
		require.Error(t, err)
		require.NoError(t, w.m.Revoke(t.Context(), w.start.Session.ID))
		w.setFault(nil)
		pass(time.Minute)
		_, _, err = clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, sessionclient.ErrSessionEnded)
		print(err, transport, *transport)
		secrets = append(secrets, w.presented[len(w.presented)-1])
		for _, text := range said {
			for _, secret := range secrets {
				for _, form := range []string{secret[len(secret)-20:], fmt.Sprintf("%x", secret[len(secret)-20:])} {
					require.NotContains(t, text, form)
				}
			}
		}
		require.Contains(t, fmt.Sprint(transport), clientAuthURL)
		require.NotPanics(t, func() { _ = fmt.Sprint((*sessionclient.Transport)(nil), &sessionclient.Transport{}) })
	})
}

func TestTransport_survivesABaseThatAnswersNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var store sessionclient.TokenMemory
		require.NoError(t, store.Save(t.Context(), tokensession.Tokens{RefreshToken: "r"}))
		transport, err := sessionclient.New(clientAuthURL, &store, sessionclient.Config{
			Base: clientBase(func(*http.Request) (*http.Response, error) { return nil, nil }),
		})
		require.NoError(t, err)
		_, _, err = clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
		require.NoError(t, store.Save(t.Context(), tokensession.Tokens{AccessToken: "a"}))
		_, _, err = clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorContains(t, err, "neither a response nor an error")
	})
}

func TestTransport_leavesNoGoroutines(t *testing.T) {
	w := newClientWorld(t)
	server := httptest.NewServer(w)
	base := &http.Transport{}
	before := runtime.NumGoroutine()
	transport, err := sessionclient.New(server.URL+"/token", w.memory, w.config(base))
	require.NoError(t, err)
	for n := range 20 {
		tokens := loaded(t, w.memory)
		tokens.AccessExpiresAt = time.Now().Add(-time.Second)
		require.NoError(t, w.memory.Save(t.Context(), tokens))
		ctx, cancel := context.WithCancel(t.Context())
		if n%2 == 0 {
			cancel()
		}
		_, _, _ = clientGet(ctx, transport, server.URL+"/api")
		cancel()
		require.NoError(t, transport.Wait(t.Context()))
	}
	(&http.Client{Transport: transport}).CloseIdleConnections()
	server.Close()
	base.CloseIdleConnections()
	require.Eventually(t, func() bool { return runtime.NumGoroutine() <= before }, 10*time.Second, time.Millisecond)
}

// A clock of the program's, which is the only one for what expires.
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

// A clock that was a day ahead makes nobody wait for a day.
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

package sessionclient_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

// crossings are the logins that a request of alice must not be sent with.
var crossings = map[string]func(w *clientWorld) tokensession.Tokens{
	"bob":              func(w *clientWorld) tokensession.Tokens { return w.loginAs("bob") },
	"another of alice": func(w *clientWorld) tokensession.Tokens { return w.login() },
	"bob, expired": func(w *clientWorld) tokensession.Tokens {
		tokens := w.loginAs("bob")
		tokens.AccessExpiresAt = time.Now()
		return tokens
	},
	"bob, without an access token": func(w *clientWorld) tokensession.Tokens {
		return tokensession.Tokens{RefreshToken: w.loginAs("bob").RefreshToken}
	},
}

// alice's background save waits for a refresh, and bob logs in. It is not sent. In each way in
// which the refresh can end, and also if the save finds the refresh already under way.
func TestTransport_sendsNothingForAnotherSession(t *testing.T) {
	for name, login := range crossings {
		for how, fault := range map[string]func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)){
			"granted": func(rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) { serve(rw) },
			"refused": func(rw http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) {
				clientJSON(rw, 400, map[string]any{"error": "invalid_grant"})
			},
			"lost": lostAnswers["connection lost"],
		} {
			for _, onlyRefresh := range []bool{false, true} {
				t.Run(name+", "+how, func(t *testing.T) {
					clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
						if onlyRefresh {
							require.NoError(t, w.memory.Save(t.Context(), tokensession.Tokens{RefreshToken: w.start.RefreshToken}))
						}
						transport := w.transport(w.memory)
						w.setFault(func(n int, rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
							if n > 1 {
								serve(rw)
								return
							}
							pass(time.Second)
							_ = w.memory.Save(context.Background(), login(w))
							fault(rw, r, serve)
						})
						pass(time.Hour)
						errs := make(chan error, 2)
						for range 2 {
							body := newTrackedBody("alice's work")
							req := mustRequest(t, "POST", clientAPIURL, "")
							req.Body = body
							go func() {
								_, err := transport.RoundTrip(req)
								<-body.closed
								errs <- err
							}()
							synctest.Wait() // the second one finds the refresh under way
						}
						for range 2 {
							require.ErrorIs(t, <-errs, sessionclient.ErrSessionChanged)
						}
						require.Zero(t, w.apiCalls())
						require.Empty(t, w.toldOfEnd())
						requireGet(t, transport) // the new session's own
						w.requireAlive(w.memory)
					})
				})
			}
		}
	}
}

// A token is refused, and bob logs in before the request is sent again. It gets the 401.
func TestTransport_sendsNothingAgainForAnotherSession(t *testing.T) {
	for name, login := range crossings {
		for _, when := range []string{"before the 401", "while it refreshes"} {
			t.Run(name+", "+when, func(t *testing.T) {
				clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
					transport := w.transport(w.memory)
					relogin := func() { _ = w.memory.Save(context.Background(), login(w)) }
					w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
						if r.Header.Get("Authorization") != "Bearer "+w.start.AccessToken {
							serve(rw)
							return
						}
						if when == "before the 401" {
							relogin()
						}
						rw.WriteHeader(401)
						_, _ = rw.Write([]byte("no entry"))
					})
					w.setFault(func(n int, rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
						if n == 1 && when != "before the 401" {
							relogin()
						}
						serve(rw)
					})
					req := mustRequest(t, "POST", clientAPIURL, "alice's work")
					resp, err := transport.RoundTrip(req)
					require.NoError(t, err)
					require.Equal(t, 401, resp.StatusCode)
					body := make([]byte, 100)
					n, _ := resp.Body.Read(body)
					require.Equal(t, "no entry", string(body[:n]))
					require.NoError(t, resp.Body.Close())
					require.Equal(t, 1, w.apiCalls())
					w.setFault(nil)
					requireGet(t, transport)
					require.Len(t, w.calls, 2)
					w.requireAlive(w.memory)
				})
			})
		}
	}
}

// The token is due, but still good. Whoever logs in meanwhile, the request goes as alice's.
func TestTransport_anEarlyRefreshSendsNothingForAnotherSession(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		w.setFault(func(_ int, rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
			_ = w.memory.Save(context.Background(), w.loginAs("bob"))
			serve(rw)
		})
		pass(14*time.Minute + 30*time.Second)
		status, body, err := clientGet(t.Context(), transport, clientAPIURL)
		require.NoError(t, err)
		require.Equal(t, 200, status)
		require.Equal(t, "alice: ", body)
		require.Equal(t, []string{w.start.AccessToken}, w.calls)
	})
}

// A redirect of alice's request is not followed as bob.
func TestTransport_followsNoRedirectAsAnotherSession(t *testing.T) {
	for name, login := range crossings {
		t.Run(name, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				transport := w.transport(w.memory)
				for _, changed := range []bool{false, true} {
					w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
						if r.URL.Path == "/api" {
							if changed {
								_ = w.memory.Save(context.Background(), login(w))
							}
							http.Redirect(rw, r, "/moved", http.StatusTemporaryRedirect)
							return
						}
						serve(rw)
					})
					resp, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Post(clientAPIURL, "text/plain", strings.NewReader("work"))
					if changed {
						require.ErrorIs(t, err, sessionclient.ErrSessionChanged)
						require.Equal(t, 3, w.apiCalls())
						return
					}
					require.NoError(t, err)
					require.NoError(t, resp.Body.Close())
					require.Equal(t, 200, resp.StatusCode)
					require.Equal(t, 2, w.apiCalls())
				}
			})
		})
	}
}

// A redirect may lead to another origin, and from there back. It is still alice's request.
func TestTransport_followsNoRedirectByWayOfAnotherOriginAsAnotherSession(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		inner := clientNetwork{w, w}
		transport, err := sessionclient.New(clientAuthURL, w.memory, w.config(clientBase(func(r *http.Request) (*http.Response, error) {
			if r.URL.Host != "elsewhere.example" {
				return inner.RoundTrip(r)
			}
			require.Empty(t, r.Header.Get("Authorization"))
			_ = w.memory.Save(context.Background(), w.loginAs("bob"))
			return clientNetwork{w, http.RedirectHandler(clientAPIURL+"/back", http.StatusTemporaryRedirect)}.RoundTrip(r)
		})))
		require.NoError(t, err)
		w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
			http.Redirect(rw, r, "https://elsewhere.example/", http.StatusTemporaryRedirect)
		})
		client := &http.Client{Transport: transport, Timeout: time.Minute}
		_, err = client.Post(clientAPIURL, "text/plain", strings.NewReader("alice's work"))
		require.ErrorIs(t, err, sessionclient.ErrSessionChanged)
		require.Equal(t, 1, w.apiCalls())
	})
}

// Another process has refreshed: it is the same session.
func TestTransport_anotherProcesssRefreshIsOfTheSameSession(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		w.setFault(func(n int, rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
			next, err := w.m.Refresh(context.Background(), w.start.RefreshToken)
			if err != nil {
				panic(err)
			}
			_ = w.memory.Save(context.Background(), next)
			serve(rw)
		})
		pass(time.Hour)
		requireGet(t, transport)
		require.Equal(t, 1, w.refreshes())
	})
}

// Tokens that are no JWTs do not tell whose they are. They work as before.
func TestTransport_tokensThatDoNotTellTheirSession(t *testing.T) {
	for _, opaque := range []string{"opaque", "a.b.c", "a.e30.c", "a." + "eyJzdWIiOjF9" + ".c", strings.Repeat(".", 2)} {
		clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
			require.NoError(t, w.memory.Save(t.Context(), tokensession.Tokens{AccessToken: opaque, RefreshToken: "other"}))
			transport := w.transport(w.memory)
			w.setAPI(refuse(opaque))
			w.setFault(func(_ int, rw http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) {
				w.h.WriteTokens(rw, w.login())
			})
			requireGet(t, transport)
			require.Equal(t, 1, w.refreshes())
		})
	}
}

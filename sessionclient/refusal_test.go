package sessionclient_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

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

// The base has one connection. While the body of the refusal is not read, there is no connection
// for the refresh.
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

// If the request cannot be sent again, its answer is the refusal, and all of it.
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

// The body of the refusal does not end, and the request has no deadline. Neither the refresh nor
// the request waits for the body.
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

// The same with a real server, and with the only connection that the base has.
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

// Two origins refuse all tokens. Neither makes a refresh because of the token that the other one has
// caused.
func TestTransport_originsThatRefuseEverythingDoNotTakeTurns(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		network := clientNetwork{w, w}
		cfg := w.config(network)
		cfg.Origins = []string{"https://one.example", "https://two.example", "https://auth.example"}
		transport, err := sessionclient.New(clientAuthURL, w.memory, cfg)
		require.NoError(t, err)
		w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
			if r.URL.Host == "auth.example" {
				serve(rw)
				return
			}
			rw.WriteHeader(401)
		})
		for n := range 20 {
			status, _, err := clientGet(t.Context(), transport, []string{"https://one.example/", "https://two.example/"}[n%2])
			require.NoError(t, err)
			require.Equal(t, 401, status)
		}
		require.Equal(t, 2, w.refreshes(), "one for each")
		requireGet(t, transport)
		w.requireAlive(w.memory)
	})
}

// One of the servers behind an origin refuses all tokens. A refresh helps each time, by chance.
func TestTransport_aServerAmongOthersThatRefusesEverythingCostsFewRefreshes(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		n := 0
		w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
			if n++; n%2 == 1 {
				rw.WriteHeader(401)
				return
			}
			serve(rw)
		})
		for range 20 {
			_, _, err := clientGet(t.Context(), transport, clientAPIURL)
			require.NoError(t, err)
		}
		require.LessOrEqual(t, w.refreshes(), 1, "in a moment")
	})
}

// The user's roles change twice within seconds. Each time the token is refused, and a new one is
// accepted.
func TestTransport_refreshesAgainIfItHasHelpedBefore(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		for n := range 3 {
			w.setAPI(refuse(loaded(t, w.memory).AccessToken))
			requireGet(t, transport)
			require.Equal(t, n+1, w.refreshes())
			pass(3 * time.Second)
		}
	})
}

// The refusal says that the token is not the reason.
func TestTransport_looksAtTheChallenge(t *testing.T) {
	for challenge, refreshes := range map[string]int{
		``:                                  1,
		`Bearer`:                            1,
		`Bearer realm="api"`:                1,
		`Bearer error="invalid_token"`:      1,
		`Bearer error=invalid_token`:        1,
		`Basic realm="api"`:                 1,
		`Bearer error="insufficient_user`:   1,
		`Bearer error="insufficient_scope"`: 0,
		`Bearer error="insufficient_user_authentication", max_age="60"`:                      0,
		`bearer realm="api",error = insufficient_user_authentication`:                        0,
		`Basic realm="x", Bearer realm="api", error="insufficient_user_authentication"`:      0,
		`Bearer error_description="no error", error="insufficient_user_authentication"`:      0,
		`Bearer error="invalid_token", error_description="insufficient_user_authentication"`: 1,
	} {
		t.Run(challenge, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				transport := w.transport(w.memory)
				w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
					if challenge != "" {
						rw.Header().Set("WWW-Authenticate", challenge)
					}
					rw.WriteHeader(401)
					_, _ = io.WriteString(rw, "no entry")
				})
				for range 20 {
					status, body, err := clientGet(t.Context(), transport, clientAPIURL)
					require.NoError(t, err)
					require.Equal(t, 401, status)
					require.Equal(t, "no entry", body)
				}
				require.Equal(t, refreshes, w.refreshes())
				w.requireAlive(w.memory)
			})
		})
	}
}

// In the pause after a refresh that did not help, bob logs in while a request of alice is under way.
func TestTransport_thePauseSendsNothingForAnotherSession(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		bob := w.loginAs("bob")
		relogin := false
		w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
			if r.Header.Get("Authorization") == "Bearer "+bob.AccessToken {
				serve(rw)
				return
			}
			if relogin {
				_ = w.memory.Save(context.Background(), bob)
			}
			rw.WriteHeader(401)
		})
		for _, relogin = range []bool{false, true} {
			status, _, err := clientGet(t.Context(), transport, clientAPIURL)
			require.NoError(t, err)
			require.Equal(t, 401, status)
		}
		require.NotContains(t, w.calls, bob.AccessToken)
		requireGet(t, transport)

		// The pause was alice's. bob's token is refused for the first time.
		w.setAPI(refuse(bob.AccessToken))
		requireGet(t, transport)
	})
}

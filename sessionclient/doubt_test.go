package sessionclient_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

// A clientAttempts lists when a Transport began each attempt to refresh, whether or not the attempt
// reached the server.
type clientAttempts struct {
	began time.Time
	mu    sync.Mutex
	at    []time.Duration
}

func (a *clientAttempts) all() []time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.Clone(a.at)
}

// add returns the number of the attempt, from 1, and when it begins.
func (a *clientAttempts) add() (n int, after time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	after = time.Since(a.began)
	a.at = append(a.at, after)
	return len(a.at), after
}

// attempts makes a Transport on the world's network. For each of its attempts to refresh, a test
// chooses another network.
func (w *clientWorld) attempts(choose func(n int, after time.Duration) http.RoundTripper) (*sessionclient.Transport, *clientAttempts) {
	w.t.Helper()
	attempts := &clientAttempts{began: time.Now()}
	base := clientBase(func(req *http.Request) (*http.Response, error) {
		if req.URL.Path != "/token" {
			return w.served().RoundTrip(req)
		}
		return choose(attempts.add()).RoundTrip(req)
	})
	transport, err := sessionclient.New(clientAuthURL, w.memory, w.config(base))
	require.NoError(w.t, err)
	return transport, attempts
}

func (w *clientWorld) served() http.RoundTripper { return clientNetwork{w, w} }

func (w *clientWorld) lost() http.RoundTripper { return w.network(lostAnswers["connection lost"]) }

func (w *clientWorld) network(f func(http.ResponseWriter, *http.Request, func(http.ResponseWriter))) http.RoundTripper {
	return clientNetwork{w, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		f(rw, r, func(rw http.ResponseWriter) { w.ServeHTTP(rw, r) })
	})}
}

// dialing is a base whose connections the test makes.
func dialing(dial func() (net.Conn, error)) http.RoundTripper {
	return &http.Transport{
		DialContext:         func(context.Context, string, string) (net.Conn, error) { return dial() },
		TLSHandshakeTimeout: 10 * time.Second,
	}
}

func dialRefused() (net.Conn, error) {
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// The ways in which a token endpoint can be away. In none of them has it done anything with a
// token, but the Transport can see that only in some.
var outages = map[string]func(w *clientWorld) http.RoundTripper{
	"connection lost": func(w *clientWorld) http.RoundTripper { return w.network(lostAnswers["connection refused"]) },
	"nobody listens":  func(*clientWorld) http.RoundTripper { return dialing(dialRefused) },
	"a proxy's 404":   func(w *clientWorld) http.RoundTripper { return clientNetwork{w, http.NotFoundHandler()} },
	"busy":            func(w *clientWorld) http.RoundTripper { return w.busyNetwork("") },
	askForPatience:    func(w *clientWorld) http.RoundTripper { return w.busyNetwork("60") },
}

const askForPatience = "busy for a minute"

func (w *clientWorld) busyNetwork(retryAfter string) http.RoundTripper {
	return w.network(func(rw http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) { busy(rw, retryAfter) })
}

// The answer to a refresh is lost, and then the token endpoint is away for nearly as long as the
// grace period lasts. The session survives in whatever way the endpoint is away, whether or not the
// access token is still good, and however often the program sends requests.
func TestTransport_anOutageAfterALostAnswerLogsNobodyOut(t *testing.T) {
	for name, outage := range outages {
		for _, left := range []time.Duration{30 * time.Second, -time.Second} { // of the access token
			for _, every := range []time.Duration{200 * time.Millisecond, 30 * time.Second} {
				t.Run(fmt.Sprintf("%s, %v left, a request each %v", name, left, every), func(t *testing.T) {
					for _, lasts := range []time.Duration{time.Second, 2 * time.Second, 3 * time.Second, 5 * time.Second, 8 * time.Second} {
						for range 3 { // the pauses are random
							clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
								pass(15*time.Minute - left)
								transport, attempts := w.attempts(func(n int, after time.Duration) http.RoundTripper {
									switch {
									case n == 1:
										return w.lost()
									case after < lasts:
										return outage(w)
									}
									return w.served()
								})
								for time.Since(attempts.began) < 40*time.Second {
									_, _, _ = clientGet(context.Background(), transport, clientAPIURL)
									pass(every)
								}
								require.Empty(t, w.toldOfEnd(), "after %v, with attempts at %v", lasts, attempts.all())
								w.requireAlive(w.memory)
							})
						}
					}
				})
			}
		}
	}
}

// The grace period begins with the first attempt that the server may have applied, and not with an
// earlier one. Attempts go on until the period is nearly over, even if no request waits for them,
// and they are not a flood.
func TestTransport_aDoubtLastsForEightSeconds(t *testing.T) {
	for name, outage := range outages {
		for certain := range 5 { // attempts before, which have certainly not been applied
			t.Run(fmt.Sprint(name, " ", certain), func(t *testing.T) {
				clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
					pass(14*time.Minute + 30*time.Second)
					transport, attempts := w.attempts(func(n int, _ time.Duration) http.RoundTripper {
						switch {
						case n <= certain:
							return outages["busy"](w)
						case n == certain+1:
							return w.lost()
						}
						return outage(w)
					})
					requireGet(t, transport)
					require.NoError(t, transport.Wait(t.Context()))
					at := attempts.all()[certain:]
					require.Equal(t, 8*time.Second, at[len(at)-1]-at[0], "the last one of %v", at)
					require.Len(t, w.toldErrors(), 1)
					if name == askForPatience {
						require.Len(t, at, 3, "the last one cannot wait, but there are no others")
						return
					}
					require.LessOrEqual(t, len(at), 16, "attempts in 8 seconds")
					for i := range at[1:] {
						require.Less(t, at[i+1]-at[i], 2*time.Second, "a pause of %v", at)
					}
				})
			})
		}
	}
}

// The server may have applied the last attempt, and then the grace period has only just begun.
func TestTransport_aDoubtOutlivesTheRefresh(t *testing.T) {
	for name, outage := range outages {
		if name == askForPatience {
			continue // which it gets at last
		}
		t.Run(name, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				pass(14 * time.Minute)
				transport, attempts := w.attempts(func(n int, after time.Duration) http.RoundTripper {
					switch {
					case after == 8*time.Second:
						return w.lost()
					case n == 1:
						return outages["connection lost"](w)
					case after < 15*time.Second:
						return outage(w)
					}
					return w.served()
				})
				for time.Since(attempts.began) < 40*time.Second {
					requireGet(t, transport) // any could go with the token there is
					pass(100 * time.Millisecond)
				}
				require.Contains(t, attempts.all(), 8*time.Second)
				require.Empty(t, w.toldOfEnd(), "with attempts at %v", attempts.all())
				w.requireAlive(w.memory)
			})
		})
	}
}

// A refresh that found no connection was not applied. There is no hurry while the access token is
// good.
func TestTransport_onlyWhatMayHaveBeenSentLeavesADoubt(t *testing.T) {
	for name, c := range map[string]struct {
		scheme string
		dial   func() (net.Conn, error)
		doubt  bool
	}{
		"nobody listens":     {"https", dialRefused, false},
		"nobody says so":     {"https", func() (net.Conn, error) { pass(time.Minute); return dialRefused() }, false},
		"no TLS":             {"https", func() (net.Conn, error) { return conn(io.EOF), nil }, false},
		"no TLS in time":     {"https", func() (net.Conn, error) { return conn(nil), nil }, false},
		"connection lost":    {"http", func() (net.Conn, error) { return conn(io.EOF), nil }, true},
		"no answer":          {"http", func() (net.Conn, error) { return conn(nil), nil }, true},
		"lost, then refused": {"http", connThen(dialRefused), true},
	} {
		t.Run(name, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				pass(14 * time.Minute)
				base := dialing(c.dial)
				transport, attempts := w.attempts(func(int, time.Duration) http.RoundTripper {
					return clientBase(func(req *http.Request) (*http.Response, error) {
						sent := req.Clone(req.Context())
						sent.URL.Scheme = c.scheme
						return base.RoundTrip(sent)
					})
				})
				requireGet(t, transport)
				require.NoError(t, transport.Wait(t.Context()))
				failed, before := time.Since(attempts.began), len(attempts.all())
				for len(attempts.all()) == before {
					requireGet(t, transport)
					pass(100 * time.Millisecond)
				}
				pause := attempts.all()[before] - failed
				if c.doubt {
					require.Less(t, pause, 1500*time.Millisecond)
					require.GreaterOrEqual(t, failed, 8*time.Second)
				} else {
					require.Greater(t, pause, 14*time.Second)
					require.LessOrEqual(t, before, 5)
				}
				require.NoError(t, transport.Wait(t.Context()))
			})
		})
	}
}

// conn is a connection that takes everything that is written. A read returns the error gives, or
// blocks if gives is nil.
func conn(gives error) net.Conn {
	here, there := net.Pipe()
	go func() {
		if gives != nil {
			_, _ = there.Read(make([]byte, 1))
			there.Close()
			return
		}
		_, _ = io.Copy(io.Discard, there) // until the other end is closed
	}()
	return here
}

// connThen dials one connection that is lost, and dials every further one with dial.
func connThen(dial func() (net.Conn, error)) func() (net.Conn, error) {
	var lost atomic.Bool
	return func() (net.Conn, error) {
		if lost.CompareAndSwap(false, true) {
			return conn(io.EOF), nil
		}
		return dial()
	}
}

// A doubt belongs to one refresh token, and it ends with its time.
func TestTransport_aDoubtIsNoOtherRefreshs(t *testing.T) {
	for _, login := range []bool{false, true} {
		clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
			pass(time.Hour)
			busy := 0
			transport, attempts := w.attempts(func(_ int, after time.Duration) http.RoundTripper {
				switch {
				case after < 5*time.Second || !login && after < time.Minute:
					return outages["connection lost"](w)
				case login && loaded(t, w.memory).RefreshToken == w.start.RefreshToken:
					tokens := w.login()
					tokens.AccessExpiresAt = time.Now()
					_ = w.memory.Save(context.Background(), tokens)
					return outages["connection lost"](w)
				case busy < 4:
					busy++
					return outages["busy"](w)
				}
				return w.served()
			})
			if !login {
				_, _, err := clientGet(t.Context(), transport, clientAPIURL)
				require.ErrorIs(t, err, tokensession.ErrUnavailable)
				require.Equal(t, 8*time.Second, time.Since(attempts.began))
				pass(time.Minute)
			}
			if login { // the request was made for the session before, and the refresh goes on
				_, _, err := clientGet(t.Context(), transport, clientAPIURL)
				require.ErrorIs(t, err, sessionclient.ErrSessionChanged)
				require.Equal(t, 4, busy)
			}
			requireGet(t, transport) // at its fifth attempt
			require.Equal(t, 4, busy)
			w.requireAlive(w.memory)
		})
	}
}

func TestTransport_givesUpWhereTokensAreReplacedAgainAndAgain(t *testing.T) {
	for _, refused := range []bool{false, true} {
		clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
			pass(time.Hour)
			transport := w.transport(w.memory)
			w.setFault(func(_ int, rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
				tokens := w.login()
				tokens.AccessExpiresAt = time.Now()
				_ = w.memory.Save(context.Background(), tokens)
				if refused {
					clientJSON(rw, 400, map[string]any{"error": "invalid_grant"})
					return
				}
				serve(rw)
			})
			_, _, err := clientGet(t.Context(), transport, clientAPIURL)
			require.ErrorIs(t, err, tokensession.ErrUnavailable)
			require.ErrorContains(t, err, "replaced again and again")
			require.Equal(t, 5, w.refreshes())
			require.Empty(t, w.toldOfEnd())
		})
	}
}

// If the program's clock stands still, the attempts end nevertheless.
func TestTransport_aDoubtEndsByItself(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		w.setFault(abort)
		defer w.setFault(nil)
		now := time.Now().Add(time.Hour)
		cfg := w.config(w.served())
		cfg.Now = func() time.Time { return now }
		transport, err := sessionclient.New(clientAuthURL, w.memory, cfg)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		_, _, err = clientGet(ctx, transport, clientAPIURL)
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
	})
}

// The store refuses each save although it still has the tokens that are to be replaced. The
// Transport must not refresh without end because of that.
func TestTransport_givesUpWhereNothingCanBeKept(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		pass(time.Hour)
		_, _, err := clientGet(t.Context(), w.transport(&refusingStore{w.memory}), clientAPIURL)
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
		require.Equal(t, 5, w.refreshes())
	})
}

type refusingStore struct{ sessionclient.TokenStore }

func (*refusingStore) Swap(context.Context, string, tokensession.Tokens) (bool, error) {
	return false, nil
}

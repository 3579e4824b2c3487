package sessionclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

func TestTransport_tokenForOtherProtocols(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		token, err := transport.Token(t.Context())
		require.NoError(t, err)
		require.Equal(t, tokensession.Tokens{
			AccessToken: w.start.AccessToken, TokenType: "Bearer",
			AccessExpiresAt: w.start.AccessExpiresAt, Scope: w.start.Scope,
		}, token, "and no refresh token")
		pass(time.Hour)
		next, err := transport.Token(t.Context())
		require.NoError(t, err)
		require.NotEqual(t, token.AccessToken, next.AccessToken)
		require.Empty(t, next.RefreshToken)
		access, err := w.m.Verify(next.AccessToken)
		require.NoError(t, err)
		require.Equal(t, "alice", access.Subject)
		require.Equal(t, 1, w.refreshes())

		w.setFault(func(_ int, rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
			_ = w.memory.Save(context.Background(), w.loginAs("bob"))
			serve(rw)
		})
		pass(time.Hour)
		_, err = transport.Token(t.Context())
		require.ErrorIs(t, err, sessionclient.ErrSessionChanged)
		require.NoError(t, w.memory.Save(t.Context(), tokensession.Tokens{}))
		_, err = transport.Token(t.Context())
		require.ErrorIs(t, err, sessionclient.ErrNoTokens)
	})
}

// A gRPC server refuses a token. There is one refresh for it, and then a pause.
func TestTransport_tokenInsteadOfARefusedOne(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		refused, err := transport.Token(t.Context())
		require.NoError(t, err)
		var next tokensession.Tokens
		for range 20 { // twenty calls were refused, and all ask for another token
			next, err = transport.TokenInstead(t.Context(), refused)
			require.NoError(t, err)
			require.NotEqual(t, refused.AccessToken, next.AccessToken)
			require.Empty(t, next.RefreshToken)
		}
		for range 20 { // the new one is refused, too
			again, err := transport.TokenInstead(t.Context(), next)
			require.NoError(t, err)
			require.Equal(t, next.AccessToken, again.AccessToken, "nothing would help")
		}
		require.Equal(t, 1, w.refreshes())
		pass(time.Minute)
		again, err := transport.TokenInstead(t.Context(), next)
		require.NoError(t, err)
		require.NotEqual(t, next.AccessToken, again.AccessToken)
		require.Equal(t, 2, w.refreshes())

		require.NoError(t, w.memory.Save(t.Context(), w.loginAs("bob")))
		pass(time.Minute)
		same, err := transport.TokenInstead(t.Context(), again)
		require.NoError(t, err)
		require.Equal(t, again.AccessToken, same.AccessToken, "not bob's")
	})
}

func loginRequest(t *testing.T, url, user, password string) (*http.Request, *trackedBody) {
	t.Helper()
	body := newTrackedBody("")
	req := mustRequest(t, "POST", url, "")
	req.Body = body
	req.SetBasicAuth(user, password)
	return req, body
}

func TestTransport_login(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		store := &sessionclient.TokenMemory{}
		transport := w.transport(store)
		_, _, err := clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, sessionclient.ErrNoTokens)

		for range 2 { // the second one takes the place of the first
			before := time.Now()
			req, _ := loginRequest(t, "https://auth.example/login", "bob", "bob")
			require.NoError(t, transport.Login(req))
			tokens := loaded(t, store)
			require.Equal(t, before.UTC().Add(15*time.Minute), tokens.AccessExpiresAt)
			require.Equal(t, before.UTC().Add(7*24*time.Hour), tokens.RefreshExpiresAt)
			_, body, err := clientGet(t.Context(), transport, clientAPIURL)
			require.NoError(t, err)
			require.Equal(t, "bob: ", body)
		}
		before := loaded(t, store)
		req, _ := loginRequest(t, "https://auth.example/login", "alice", "wrong")
		err = transport.Login(req)
		var failed *sessionclient.LoginError
		require.ErrorAs(t, err, &failed)
		require.Equal(t, 403, failed.StatusCode)
		require.Contains(t, string(failed.Body), "hint")
		require.Equal(t, "application/json", failed.Header.Get("Content-Type"))
		require.Equal(t, "sessionclient: the login was answered 403 invalid_grant", err.Error())
		require.Equal(t, before, loaded(t, store), "bob is still logged in")
		require.Empty(t, w.toldErrors())
	})
}

func TestTransport_loginThatGivesNoTokens(t *testing.T) {
	for name, c := range map[string]struct {
		url      string
		fault    func(int, http.ResponseWriter, *http.Request, func(http.ResponseWriter))
		prepare  error
		want     string
		is       error
		answered bool
	}{
		"lost":            {url: clientAuthURL, fault: abort, is: tokensession.ErrUnavailable, want: "logging in"},
		"a second factor": {url: clientAuthURL, fault: answer(200, `{"next":"secret"}`), want: "answered 200, but:", answered: true},
		"nonsense":        {url: clientAuthURL, fault: answer(200, `<html>secret`), want: "answered 200, but:", answered: true},
		"a redirect":      {url: clientAuthURL, fault: answer(303, ``), want: "answered 303", answered: true},
		"overloaded":      {url: clientAuthURL, fault: answer(503, ``), want: "answered 503", answered: true},
		"plain http":      {url: "http://auth.example/token", want: "InsecureAllowPlainHTTP"},
		"another scheme":  {url: "ftp://auth.example/token", want: "does not begin with https://"},
		"cannot be saved": {url: clientAuthURL, fault: answer(500, ``), prepare: errClientDisk, is: errClientDisk, want: "preparing"},
	} {
		t.Run(name, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				w.setFault(c.fault)
				store := &preparingStore{TokenMemory: w.memory, prepareErr: c.prepare}
				req, body := loginRequest(t, c.url, "alice", "alice")
				err := w.transport(store).Login(req)
				require.ErrorContains(t, err, c.want)
				require.NotContains(t, err.Error(), "secret")
				if c.is != nil {
					require.ErrorIs(t, err, c.is)
				}
				var failed *sessionclient.LoginError
				require.Equal(t, c.answered, errors.As(err, &failed))
				<-body.closed
				require.Equal(t, w.start, loaded(t, w.memory))
				if c.prepare != nil || !strings.HasPrefix(c.url, "https") {
					require.Zero(t, w.refreshes(), "nothing was sent")
				}
				require.Equal(t, store.prepared, store.discarded)
				w.setFault(nil)
				w.requireAlive(w.memory)
			})
		})
	}
}

// The user gives up just when the answer has come. The session has begun, and is saved.
func TestTransport_aLoginThatIsCancelledLateIsSaved(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		ctx, cancel := context.WithCancel(t.Context())
		store := &clientStore{TokenStore: w.memory, beforeSv: cancel}
		network := clientNetwork{w, w}
		transport, err := sessionclient.New(clientAuthURL, &contextStore{store}, w.config(network))
		require.NoError(t, err)
		req, _ := loginRequest(t, "https://auth.example/login", "bob", "bob")
		require.NoError(t, transport.Login(req.WithContext(ctx)))
		require.Error(t, ctx.Err())
		require.NotEqual(t, w.start.RefreshToken, loaded(t, w.memory).RefreshToken)
	})
}

// A contextStore saves nothing if the context has ended by then.
type contextStore struct{ *clientStore }

func (s *contextStore) Save(ctx context.Context, tokens tokensession.Tokens) error {
	before := s.beforeSv
	s.beforeSv = nil
	before()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return s.clientStore.Save(ctx, tokens)
}

func TestTransport_logout(t *testing.T) {
	for name, tokens := range map[string]func(w *clientWorld) tokensession.Tokens{
		"both": func(w *clientWorld) tokensession.Tokens { return w.start },
		"refresh only": func(w *clientWorld) tokensession.Tokens {
			return tokensession.Tokens{RefreshToken: w.start.RefreshToken}
		},
		"access only": func(w *clientWorld) tokensession.Tokens { return tokensession.Tokens{AccessToken: w.start.AccessToken} },
		"expired":     func(w *clientWorld) tokensession.Tokens { return w.expired() },
		"already over": func(w *clientWorld) tokensession.Tokens {
			_ = w.m.RevokeToken(context.Background(), w.start.RefreshToken)
			return w.start
		},
		"nobody's token": func(w *clientWorld) tokensession.Tokens {
			_ = w.m.RevokeToken(context.Background(), w.start.RefreshToken)
			return tokensession.Tokens{RefreshToken: "x"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				file := sessionclient.NewTokenFile(t.TempDir() + "/tokens")
				require.NoError(t, file.Save(t.Context(), tokens(w)))
				transport := w.transport(file)
				require.NoError(t, transport.Logout(t.Context()))
				_, err := file.Load(t.Context())
				require.ErrorIs(t, err, sessionclient.ErrNoTokens)
				_, err = w.m.Refresh(t.Context(), w.start.RefreshToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked)
				_, err = w.m.Verify(w.start.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked)
				_, _, err = clientGet(t.Context(), transport, clientAPIURL)
				require.ErrorIs(t, err, sessionclient.ErrNoTokens)
				require.NoError(t, transport.Logout(t.Context()), "a second one")
				require.Empty(t, w.toldOfEnd())
			})
		})
	}
}

// A logout that the server does not confirm is none, and can be made again.
func TestTransport_logoutThatIsNotConfirmedKeepsTheTokens(t *testing.T) {
	for name, broken := range map[string]clientBase{
		"lost":      func(*http.Request) (*http.Response, error) { return nil, errClientDisk },
		"no answer": func(*http.Request) (*http.Response, error) { return nil, nil },
		"503":       answering(503, `{"error":"temporarily_unavailable"}`),
		"404":       answering(404, "secret"),
		"400":       answering(400, `{"error":"unsupported_token_type"}`),
		"204":       answering(204, ""),
		"a page":    answering(200, "<html>please log in to the hotel, secret"),
		"garbage":   answering(200, "secret"),
		"half":      answering(200, "{"),
		"cut off": func(*http.Request) (*http.Response, error) {
			body := io.NopCloser(iotest.ErrReader(io.ErrUnexpectedEOF))
			return &http.Response{StatusCode: 200, Header: http.Header{}, Body: body}, nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				down := true
				network := clientNetwork{w, w}
				cfg := w.config(clientBase(func(req *http.Request) (*http.Response, error) {
					if down {
						return broken(req)
					}
					return network.RoundTrip(req)
				}))
				transport, err := sessionclient.New(clientAuthURL, w.memory, cfg)
				require.NoError(t, err)
				err = transport.Logout(t.Context())
				require.ErrorIs(t, err, tokensession.ErrUnavailable)
				require.NotContains(t, err.Error(), "secret")
				require.Equal(t, w.start, loaded(t, w.memory))
				down = false
				requireGet(t, transport)
				require.NoError(t, transport.Logout(t.Context()))
				_, err = w.memory.Load(t.Context())
				require.ErrorIs(t, err, sessionclient.ErrNoTokens)
			})
		})
	}
}

func answering(status int, body string) clientBase {
	return func(*http.Request) (*http.Response, error) {
		return &http.Response{
			StatusCode: status, Header: http.Header{}, Body: newTrackedBody(body),
		}, nil
	}
}

func TestTransport_logoutNeedsAnEndpoint(t *testing.T) {
	for url, c := range map[string]struct{ revokeURL, want string }{
		"https://auth.example/oauth":            {"", ""},
		"https://auth.example/token?tenant=1":   {"", ""},
		"https://auth.example/token":            {"", "https://auth.example/revoke"},
		"https://auth.example/auth/token":       {"", "https://auth.example/auth/revoke"},
		"https://auth.example/t":                {"https://other.example/x?y=z", "https://other.example/x?y=z"},
		"https://auth.example:8443/v1/my/token": {"", "https://auth.example:8443/v1/my/revoke"},
	} {
		var asked string
		w := newClientWorld(t)
		transport, err := sessionclient.New(url, w.memory, sessionclient.Config{
			ClientID: "cli", RevokeURL: c.revokeURL,
			Base: clientBase(func(req *http.Request) (*http.Response, error) {
				asked = req.URL.String()
				require.Equal(t, "cli", req.PostFormValue("client_id"))
				require.Equal(t, w.start.RefreshToken, req.PostFormValue("token"))
				require.Equal(t, "refresh_token", req.PostFormValue("token_type_hint"))
				require.Empty(t, req.Header.Get("Authorization"))
				return answering(200, "{}")(req)
			}),
		})
		require.NoError(t, err)
		err = transport.Logout(t.Context())
		require.Equal(t, c.want, asked)
		if c.want == "" {
			require.ErrorContains(t, err, "Config.RevokeURL")
			require.Equal(t, w.start, loaded(t, w.memory))
		} else {
			require.NoError(t, err)
		}
	}
}

// While the logout runs, the session is refreshed, here or in another process, or bob logs in.
func TestTransport_logoutBesideOthers(t *testing.T) {
	for _, what := range []string{"a refresh here", "a refresh elsewhere", "a login", "a refresh that is unsaved"} {
		t.Run(what, func(t *testing.T) {
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				store := &clientStore{TokenStore: w.memory}
				bob := w.loginAs("bob")
				network := clientNetwork{w, w}
				var transport *sessionclient.Transport
				transport, err := sessionclient.New(clientAuthURL, store, w.config(clientBase(func(req *http.Request) (*http.Response, error) {
					if req.URL.Path == "/revoke" {
						switch what {
						case "a refresh here":
							_, _, err := clientGet(context.Background(), transport, clientAPIURL)
							if err != nil {
								return nil, fmt.Errorf("beside the logout: %w", err)
							}
						case "a refresh elsewhere":
							next, err := w.m.Refresh(context.Background(), w.start.RefreshToken)
							if err != nil {
								return nil, err
							}
							_ = w.memory.Save(context.Background(), next)
						case "a login":
							_ = w.memory.Save(context.Background(), bob)
						}
					}
					return network.RoundTrip(req)
				})))
				require.NoError(t, err)
				pass(time.Hour)
				if what == "a refresh that is unsaved" {
					store.set(nil, errClientDisk)
					requireGet(t, transport)
					store.set(nil, nil)
				}
				require.NoError(t, transport.Logout(t.Context()))
				_, err = w.m.Refresh(t.Context(), w.start.RefreshToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked)
				require.NoError(t, transport.Wait(t.Context()))
				if what == "a login" {
					require.Equal(t, bob, loaded(t, w.memory))
					return
				}
				_, err = w.memory.Load(t.Context())
				require.ErrorIs(t, err, sessionclient.ErrNoTokens)
			})
		})
	}
}

func TestTransport_loginAndLogoutPrintNoTokens(t *testing.T) {
	w := newClientWorld(t)
	err := error(&sessionclient.LoginError{StatusCode: 200, Body: []byte(w.start.RefreshToken)})
	require.NotContains(t, fmt.Sprintf("%v %+v %s", err, err, err), w.start.RefreshToken)
}

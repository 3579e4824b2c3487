package sessionclient_test

import (
	"crypto"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

// boundBubble runs a test with a server that binds sessions, and two keys.
func boundBubble(
	t *testing.T, f func(t *testing.T, s *boundServer, key, other crypto.Signer),
) {
	t.Helper()
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		keys := newKeys(t)
		f(t, newBoundServer(w), keys["P-256"], keys["Ed25519"])
	})
}

func requireSubject(t testing.TB, rt http.RoundTripper, subject string) {
	t.Helper()
	body := requireStatus(t, rt, 200, mustRequest(t, "POST", clientAPIURL+"?a=b", "hello"))
	require.Equal(t, subject, body)
}

func TestTransport_withAKey(t *testing.T) {
	for kind := range newKeys(t) {
		t.Run(kind, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "tokens")
			clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
				s, key := newBoundServer(w), newKeys(t)[kind]
				file := sessionclient.NewTokenFile(path)
				transport := s.transport(file, key)
				require.NoError(t, s.login(transport, "bob"))
				require.Equal(t, []string{"POST /login Basic proof", "POST /login Basic proof"},
					s.took(), "the second one has the nonce")
				thumbprint := newProver(t, key, nil).Thumbprint()
				for range 3 {
					tokens := loaded(t, file)
					require.Equal(t, "DPoP", tokens.TokenType)
					require.Equal(t, thumbprint, tokens.Session.KeyThumbprint)
					requireSubject(t, transport, "bob")
					require.Equal(t, []string{"POST /api DPoP proof"}, s.took())
					token, err := transport.Token(t.Context())
					require.NoError(t, err)
					require.Equal(t, "DPoP", token.TokenType)
					require.Equal(t, tokens.AccessToken, token.AccessToken)

					pass(time.Hour)
					requireSubject(t, transport, "bob")
					require.Equal(t, []string{"POST /token proof", "POST /api DPoP proof"}, s.took())
				}
				transport = s.transport(file, key) // another run of the program
				pass(time.Hour)
				requireSubject(t, transport, "bob")
				require.Equal(t, []string{
					"POST /token proof", "POST /token proof", "POST /api DPoP proof",
				}, s.took())
				held := loaded(t, file)
				_, err := w.m.Refresh(t.Context(), held.RefreshToken)
				require.ErrorIs(t, err, tokensession.ErrProofRequired, "the server has bound it")
				_, err = w.m.Verify(held.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrProofRequired)

				require.NoError(t, transport.Logout(t.Context()))
				require.Equal(t, []string{"POST /revoke"}, s.took())
				_, err = file.Load(t.Context())
				require.ErrorIs(t, err, sessionclient.ErrNoTokens)
				_, err = w.m.Refresh(t.Context(), held.RefreshToken,
					tokensession.WithKeyThumbprint(thumbprint))
				require.ErrorIs(t, err, tokensession.ErrRevoked)
				s.requireSound()
			})
		})
	}
}

// A program gets a key, and users are logged in without one.
func TestTransport_bindsTheSessionThatThereIs(t *testing.T) {
	boundBubble(t, func(t *testing.T, s *boundServer, key, _ crypto.Signer) {
		transport := s.transport(s.w.memory, key)
		requireSubject(t, transport, "alice")
		require.Equal(t, []string{"POST /api Bearer"}, s.took(), "a bearer token needs no proof")
		pass(time.Hour)
		requireSubject(t, transport, "alice")
		require.Equal(t, "DPoP", loaded(t, s.w.memory).TokenType)
		thumbprint := newProver(t, key, nil).Thumbprint()
		require.Equal(t, thumbprint, loaded(t, s.w.memory).Session.KeyThumbprint)
		_, err := s.w.m.Refresh(t.Context(), loaded(t, s.w.memory).RefreshToken)
		require.ErrorIs(t, err, tokensession.ErrProofRequired)
		s.requireSound()
	})
}

// A server may bind the refresh token only, or nothing.
func TestTransport_withAKeyAndBearerTokens(t *testing.T) {
	for _, binds := range []int{bindsRefresh, bindsNothing} {
		boundBubble(t, func(t *testing.T, s *boundServer, key, other crypto.Signer) {
			s.binds = binds
			transport := s.transport(s.w.memory, key)
			require.NoError(t, s.login(transport, "bob"))
			for range 3 {
				s.took()
				requireSubject(t, transport, "bob")
				require.Equal(t, []string{"POST /api Bearer"}, s.took())
				pass(time.Hour)
				requireSubject(t, transport, "bob")
			}
			err := s.login(s.transport(s.w.memory, nil), "carol")
			require.NoError(t, err)
			requireSubject(t, transport, "carol")
			s.requireSound()
		})
	}
}

// The server changes its nonce before each refresh, as it does every few minutes. No refresh takes
// longer for that, and none looks as if it had failed.
func TestTransport_nonceCountsAsNoAttempt(t *testing.T) {
	boundBubble(t, func(t *testing.T, s *boundServer, key, _ crypto.Signer) {
		transport := s.transport(s.w.memory, key)
		for n := range 10 {
			s.set(func() { s.nonce = func(string) string { return fmt.Sprint("nonce-", n) } })
			pass(time.Hour)
			began := time.Now()
			requireSubject(t, transport, "alice")
			require.Zero(t, time.Since(began))
		}
		require.Equal(t, 10, s.exchanges)
		require.Len(t, s.presented, 20)
		require.Empty(t, s.w.toldErrors())
		s.requireSound()
	})
}

// A server always wants another nonce. Nothing was applied, so there is nothing to hurry for.
func TestTransport_aServerThatIsNeverContentWithTheNonce(t *testing.T) {
	boundBubble(t, func(t *testing.T, s *boundServer, key, _ crypto.Signer) {
		transport := s.transport(s.w.memory, key)
		n := 0
		s.nonce = func(string) string { n++; return fmt.Sprint("nonce-", n) }
		pass(time.Hour)
		began := time.Now()
		_, _, err := clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
		require.NotErrorIs(t, err, sessionclient.ErrProofRefused)
		require.ErrorContains(t, err, "use_dpop_nonce")
		require.Len(t, s.presented, 2, "once more, and never again")
		require.Zero(t, time.Since(began))
		for range 60 { // the next ones wait as after any failure
			pass(time.Second)
			_, _, err := clientGet(t.Context(), transport, clientAPIURL)
			require.ErrorIs(t, err, tokensession.ErrUnavailable)
		}
		require.LessOrEqual(t, len(s.presented), 2*61)
		s.set(func() { s.nonce = func(string) string { return "nonce" } })
		pass(time.Second)
		requireSubject(t, transport, "alice")
		s.requireSound()
	})
}

// Another server asks for the nonce that it got. It is not asked again.
func TestTransport_aServerThatDoesNotKnowItsNonce(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		cfg := w.config(clientNetwork{w, w})
		cfg.Key = newKeys(t)["P-256"]
		transport, err := sessionclient.New(clientAuthURL, w.memory, cfg)
		require.NoError(t, err)
		w.setFault(func(_ int, rw http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) {
			rw.Header().Set("DPoP-Nonce", "nonce")
			clientJSON(rw, 400, map[string]string{"error": "use_dpop_nonce"})
		})
		pass(time.Hour)
		for _, requests := range []int{2, 3, 4} {
			_, _, err := clientGet(t.Context(), transport, clientAPIURL)
			require.ErrorIs(t, err, tokensession.ErrUnavailable)
			require.Equal(t, requests, w.refreshes())
			pass(time.Second)
		}
		w.setFault(nil)
		requireGet(t, transport)
		w.requireAlive(w.memory)
	})
}

// The first request is answered, with a nonce. The second one cannot be sent. So the server has
// applied neither, and there is no doubt, in which the attempts would go on for longer.
func TestTransport_nonceLeavesNoDoubt(t *testing.T) {
	boundBubble(t, func(t *testing.T, s *boundServer, key, _ crypto.Signer) {
		network := clientNetwork{s.w, s}
		requests := 0
		cfg := s.w.config(clientBase(func(req *http.Request) (*http.Response, error) {
			requests++
			trace := httptrace.ContextClientTrace(req.Context())
			trace.GetConn("auth.example:443")
			if requests > 1 {
				return nil, errClientDisk
			}
			trace.GotConn(httptrace.GotConnInfo{})
			return network.RoundTrip(req)
		}))
		cfg.Key = key
		transport, err := sessionclient.New(clientAuthURL, s.w.memory, cfg)
		require.NoError(t, err)
		pass(time.Hour)
		_, _, err = clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
		require.Equal(t, 1+5, requests, "the first one's nonce, and five attempts")
		require.NoError(t, transport.Wait(t.Context()))
	})
}

// A proof that is refused is no verdict about the session, whoever is to blame.
func TestTransport_aRefusedProofIsNoVerdict(t *testing.T) {
	boundBubble(t, func(t *testing.T, s *boundServer, key, _ crypto.Signer) {
		transport := s.transport(s.w.memory, key)
		s.checker.now = func() time.Time { return time.Now().Add(-time.Hour) } // a wrong clock
		pass(time.Hour)
		before := loaded(t, s.w.memory)
		_, _, err := clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, sessionclient.ErrProofRefused)
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
		require.NotErrorIs(t, err, sessionclient.ErrSessionEnded)
		require.Len(t, s.presented, 1, "it is final")
		require.ErrorIs(t, s.w.toldErrors()[0], sessionclient.ErrProofRefused)
		require.Equal(t, before, loaded(t, s.w.memory))

		err = s.login(transport, "bob")
		require.ErrorIs(t, err, sessionclient.ErrProofRefused, "a login says so, too")
		var refused *sessionclient.LoginError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, before, loaded(t, s.w.memory))

		s.checker.now = time.Now
		s.wrong = nil
		pass(time.Minute)
		requireSubject(t, transport, "alice")
		s.requireSound()
	})
}

// The answer is lost, and the refresh is repeated with the same token, and with another proof each
// time. In doubt, no refusal of a proof ends the attempts.
func TestTransport_provesEachAttemptAnew(t *testing.T) {
	for name, lose := range lostAnswers {
		t.Run(name, func(t *testing.T) {
			boundBubble(t, func(t *testing.T, s *boundServer, key, _ crypto.Signer) {
				transport := s.transport(s.w.memory, key)
				require.NoError(t, s.login(transport, "bob"))
				for range 3 {
					first := s.exchanges
					fault := func(n int, rw http.ResponseWriter, r *http.Request, serve serveFunc) {
						switch n - first {
						case 1:
							lose(rw, r, serve)
						case 2:
							clientJSON(rw, 400, map[string]string{"error": "invalid_dpop_proof"})
						case 3:
							serve(rw)
						}
					}
					s.set(func() {
						s.fault = fault
						s.nonce = func(string) string { return fmt.Sprint("nonce-", s.exchanges) }
					})
					pass(time.Hour)
					_, _, err := clientGet(t.Context(), transport, clientAPIURL)
					require.NoError(t, err)
					require.Equal(t, first+3, s.exchanges)
					require.Equal(t, s.presented[len(s.presented)-1], s.presented[len(s.presented)-2])
				}
				requireSubject(t, transport, "bob")
				s.requireSound()
			})
		})
	}
}

// Tokens that are bound to another key are nobody's: they are not sent, they stay, and their
// session goes on.
func TestTransport_leavesTheTokensOfAnotherKey(t *testing.T) {
	for name, c := range map[string]struct {
		with func(key, other crypto.Signer) crypto.Signer
		want string
		hide func(*tokensession.Tokens) // what the store does not keep
	}{
		"with another key": {
			with: func(_, other crypto.Signer) crypto.Signer { return other },
			want: "bound to the key",
		},
		"without a key": {
			with: func(_, _ crypto.Signer) crypto.Signer { return nil },
			want: "Config.Key is nil",
		},
		"with another key, in a store that keeps less": {
			with: func(_, other crypto.Signer) crypto.Signer { return other },
			want: "bound to the key",
			hide: func(t *tokensession.Tokens) { t.Session.KeyThumbprint, t.TokenType = "", "" },
		},
		"without a key, in a store that keeps less": {
			with: func(_, _ crypto.Signer) crypto.Signer { return nil },
			want: "Config.Key is nil",
			hide: func(t *tokensession.Tokens) { t.Session.KeyThumbprint, t.TokenType = "", "" },
		},
		"without a key, and the token does not tell": {
			with: func(_, _ crypto.Signer) crypto.Signer { return nil },
			want: "Config.Key is nil",
			hide: func(t *tokensession.Tokens) { t.Session.KeyThumbprint, t.AccessToken = "", "opaque" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			boundBubble(t, func(t *testing.T, s *boundServer, key, other crypto.Signer) {
				owner, stranger := s.transport(s.w.memory, key), s.transport(s.w.memory, c.with(key, other))
				requireSubject(t, stranger, "alice")
				require.NoError(t, s.login(owner, "bob"))
				saved := loaded(t, s.w.memory)
				if c.hide != nil {
					hidden := saved
					c.hide(&hidden)
					require.NoError(t, s.w.memory.Save(t.Context(), hidden))
				}
				before := loaded(t, s.w.memory)
				if before.AccessToken == saved.AccessToken {
					requireSubject(t, owner, "bob") // who can use them
				}
				s.took()
				for range 3 {
					_, _, err := clientGet(t.Context(), stranger, clientAPIURL)
					require.ErrorIs(t, err, sessionclient.ErrNoTokens)
					require.ErrorContains(t, err, c.want)
					_, err = stranger.Token(t.Context())
					require.ErrorIs(t, err, sessionclient.ErrNoTokens)
					pass(time.Hour) // they have expired
				}
				require.Empty(t, s.took(), "nothing was sent")
				require.Equal(t, before, loaded(t, s.w.memory))
				require.NoError(t, s.w.memory.Save(t.Context(), saved))
				requireSubject(t, owner, "bob")
				require.Empty(t, s.w.toldErrors())
				s.requireSound()
			})
		})
	}
}

// While a process refreshes, the user logs in with another key, in another process.
func TestTransport_aLoginWithAnotherKeyDuringARefresh(t *testing.T) {
	for _, verdict := range []string{"granted", "invalid_grant", "invalid_dpop_proof", "lost"} {
		for name, store := range map[string]sessionclient.TokenStore{
			"a file":   sessionclient.NewTokenFile(filepath.Join(t.TempDir(), "tokens")),
			"a simple": nil,
		} {
			t.Run(verdict+" "+name, func(t *testing.T) {
				boundBubble(t, func(t *testing.T, s *boundServer, key, other crypto.Signer) {
					if store == nil {
						store = &clientStore{TokenStore: &sessionclient.TokenMemory{}}
					}
					owner, stranger := s.transport(store, key), s.transport(store, other)
					require.NoError(t, s.login(stranger, "alice"))
					fault := func(n int, rw http.ResponseWriter, _ *http.Request, serve serveFunc) {
						if n != 2 {
							serve(rw)
							return
						}
						if err := s.login(owner, "bob"); err != nil {
							t.Error(err)
						}
						switch verdict {
						case "granted":
							serve(rw)
						case "lost":
							serve(httptest.NewRecorder())
							panic(http.ErrAbortHandler)
						default:
							clientJSON(rw, 400, map[string]string{"error": verdict})
						}
					}
					s.set(func() { s.fault = fault })
					pass(time.Hour)
					_, _, err := clientGet(t.Context(), stranger, clientAPIURL)
					if verdict == "invalid_dpop_proof" {
						require.ErrorIs(t, err, sessionclient.ErrProofRefused)
						_, _, err = clientGet(t.Context(), stranger, clientAPIURL)
					}
					require.ErrorIs(t, err, sessionclient.ErrNoTokens)
					require.NoError(t, stranger.Wait(t.Context()))
					requireSubject(t, owner, "bob")
					pass(time.Hour)
					requireSubject(t, owner, "bob")
					s.requireSound()
				})
			})
		}
	}
}

// The key is lost: the program has a new one, or none any more. The user can still log out.
func TestTransport_logoutNeedsNoKey(t *testing.T) {
	for _, withKey := range []bool{true, false} {
		boundBubble(t, func(t *testing.T, s *boundServer, key, other crypto.Signer) {
			require.NoError(t, s.login(s.transport(s.w.memory, key), "bob"))
			held := loaded(t, s.w.memory)
			if !withKey {
				other = nil
			}
			require.NoError(t, s.transport(s.w.memory, other).Logout(t.Context()))
			_, err := s.w.memory.Load(t.Context())
			require.ErrorIs(t, err, sessionclient.ErrNoTokens)
			_, err = s.w.m.Refresh(t.Context(), held.RefreshToken,
				tokensession.WithKeyThumbprint(held.Session.KeyThumbprint))
			require.ErrorIs(t, err, tokensession.ErrRevoked)
			s.requireSound()
		})
	}
}

// The key does not sign for a while: somebody has pulled it out. No request goes without a proof,
// and the user stays logged in.
func TestTransport_whenTheKeyDoesNotSign(t *testing.T) {
	boundBubble(t, func(t *testing.T, s *boundServer, key, _ crypto.Signer) {
		out, tries := false, 0
		sometimes := driver{key.Public(), func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
			if out {
				tries++
				return nil, errClientDisk
			}
			return key.Sign(nil, digest, opts)
		}}
		transport := s.transport(s.w.memory, sometimes)
		require.NoError(t, s.login(transport, "bob"))
		s.took()
		out = true
		for range 2 {
			_, _, err := clientGet(t.Context(), transport, clientAPIURL)
			require.ErrorIs(t, err, tokensession.ErrUnavailable)
			require.ErrorIs(t, err, errClientDisk)
			pass(time.Hour) // now a refresh is needed
		}
		require.Equal(t, 2, tries, "there is no use in trying five times")
		require.Len(t, s.w.toldErrors(), 1)
		require.ErrorIs(t, s.login(transport, "carol"), tokensession.ErrUnavailable)
		require.Empty(t, s.took())
		out = false
		pass(time.Minute)
		requireSubject(t, transport, "bob")
		s.requireSound()
	})
}

// An API refuses proofs, or asks for another nonce. No refresh cures that. A token that is refused
// is another matter.
func TestTransport_refreshesForNoProof(t *testing.T) {
	boundBubble(t, func(t *testing.T, s *boundServer, key, _ crypto.Signer) {
		transport := s.transport(s.w.memory, key)
		require.NoError(t, s.login(transport, "bob"))
		n := 0
		s.set(func() {
			s.nonce = func(path string) string {
				if path == "/api" {
					n++
					return fmt.Sprint("nonce-", n)
				}
				return "nonce"
			}
		})
		for range 3 {
			s.took()
			requireStatus(t, transport, 401, mustRequest(t, "GET", clientAPIURL, ""))
			require.Equal(t, []string{"GET /api DPoP proof", "GET /api DPoP proof"}, s.took())
		}
		s.set(func() { s.nonce = func(string) string { return "nonce" } })
		requireSubject(t, transport, "bob")

		// The nonce changes in the middle of an upload, whose body cannot be had again.
		s.set(func() { s.nonce = func(string) string { return "next" } })
		s.took()
		for _, status := range []int{401, 200} {
			upload := mustRequest(t, "PUT", clientAPIURL, "hello")
			upload.GetBody = nil
			requireStatus(t, transport, status, upload)
			require.Equal(t, []string{"PUT /api DPoP proof"}, s.took())
		}

		s.checker.now = func() time.Time { return time.Now().Add(time.Hour) }
		s.took()
		requireStatus(t, transport, 401, mustRequest(t, "GET", clientAPIURL, ""))
		require.Equal(t, []string{"GET /api DPoP proof", "GET /api DPoP proof"}, s.took())
		s.checker.now = time.Now
		s.wrong = nil

		_, err := s.w.m.Reauthorize(t.Context(), "bob")
		require.NoError(t, err)
		s.took()
		requireSubject(t, transport, "bob")
		require.Equal(t, []string{
			"POST /api DPoP proof", "POST /token proof", "POST /api DPoP proof",
		}, s.took())
		s.requireSound()
	})
}

// Only what brings our token brings a proof. The key would tell other servers who the user is.
func TestTransport_provesToNobodyElse(t *testing.T) {
	boundBubble(t, func(t *testing.T, s *boundServer, key, _ crypto.Signer) {
		transport := s.transport(s.w.memory, key)
		require.NoError(t, s.login(transport, "bob"))
		s.took()
		requireStatus(t, transport, 401, mustRequest(t, "GET", "https://other.example/api", ""))
		own := mustRequest(t, "GET", clientAPIURL, "")
		own.Header.Set("Authorization", "Basic eDp5")
		requireStatus(t, transport, 401, own)
		require.Equal(t, []string{"GET /api", "GET /api Basic"}, s.took())
		s.requireSound()
	})
}

// Tokens that are worth nothing without a key are no tokens to a Transport that has none.
func TestTransport_takesNoBoundTokensWithoutAKey(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		pass(time.Hour)
		w.setFault(answer(200, `{"access_token":"a","token_type":"DPoP","refresh_token":"b"}`))
		before := loaded(t, w.memory)
		_, _, err := clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
		require.ErrorContains(t, err, "Config.Key is nil")
		require.Equal(t, before, loaded(t, w.memory))
	})
}

// What a store says of tokens decides whether they are sent, and how. The server may have bound the
// refresh token alone, and the type of a token is in any case.
func TestTransport_readsWhatTheStoreSays(t *testing.T) {
	key := newKeys(t)["P-256"]
	mine, another := newProver(t, key, nil).Thumbprint(), b64(sha256Of("another key"))
	ofAnother := "e30." + b64([]byte(`{"cnf":{"jkt":"`+another+`"}}`)) + ".x"
	for name, c := range map[string]struct {
		token, kind, thumbprint string
		want                    string // the request's scheme; "" if it is not sent
	}{
		"its own key":                     {"opaque", "DPoP", mine, "DPoP"},
		"its own key, and a bearer token": {"opaque", "Bearer", mine, "Bearer"},
		"a type in another case":          {"opaque", "dpop", mine, "DPoP"},
		"no key, and a bearer token":      {"opaque", "bearer", "", "Bearer"},
		"another key":                     {"opaque", "DPoP", another, ""},
		"another key, a bearer token":     {"opaque", "Bearer", another, ""},
		"another key in the token":        {ofAnother, "DPoP", "", ""},
		"another key in an untyped token": {ofAnother, "", "", ""},
		"a bearer token by its type":      {ofAnother, "bearer", "", "Bearer"},
	} {
		got := ""
		store := &sessionclient.TokenMemory{}
		require.NoError(t, store.Save(t.Context(), tokensession.Tokens{
			AccessToken: c.token, TokenType: c.kind, RefreshToken: "refresh",
			Session: tokensession.Session{KeyThumbprint: c.thumbprint},
		}))
		transport, err := sessionclient.New(clientAuthURL, store, sessionclient.Config{
			Key: key, Base: clientBase(func(r *http.Request) (*http.Response, error) {
				got, _, _ = strings.Cut(r.Header.Get("Authorization"), " ")
				require.Equal(t, got == "DPoP", r.Header.Get("DPoP") != "", name)
				return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody}, nil
			}),
		})
		require.NoError(t, err)
		_, _, err = clientGet(t.Context(), transport, clientAPIURL)
		require.Equal(t, c.want, got, name)
		require.Equal(t, c.want == "", errors.Is(err, sessionclient.ErrNoTokens), name)
	}
}

func TestNew_refusesKeysThatProveNothing(t *testing.T) {
	_, err := sessionclient.New(clientAuthURL, &sessionclient.TokenMemory{},
		sessionclient.Config{Key: driver{}})
	require.ErrorContains(t, err, "sessionclient: Config.Key: a key must be of P-256 or Ed25519")
	cfg := sessionclient.Config{Key: newKeys(t)["P-256"]}
	_, err = sessionclient.New("https://bücher.example/token", &sessionclient.TokenMemory{}, cfg)
	require.ErrorContains(t, err, "must be in ASCII")
	const ascii = "https://xn--bcher-kva.example/token"
	_, err = sessionclient.New(ascii, &sessionclient.TokenMemory{}, cfg)
	require.NoError(t, err)
}

// Several processes share the tokens and the key. They refresh at once, answers are lost, and the
// nonce changes all the time.
func TestTransport_severalProcessesShareAFileAndAKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	boundBubble(t, func(t *testing.T, s *boundServer, key, _ crypto.Signer) {
		var processes []*sessionclient.Transport
		for range 4 {
			processes = append(processes, s.transport(sessionclient.NewTokenFile(path), key))
		}
		require.NoError(t, s.login(processes[0], "bob"))
		s.set(func() {
			s.nonce = func(string) string { return fmt.Sprint("nonce-", time.Now().Unix()/30) }
			s.fault = func(n int, rw http.ResponseWriter, _ *http.Request, serve serveFunc) {
				pass(time.Duration(n%4) * time.Second) // so that they finish in any order
				if n%5 == 0 {
					serve(httptest.NewRecorder())
					panic(http.ErrAbortHandler)
				}
				serve(rw)
			}
		})
		for range 25 {
			pass(15 * time.Minute)
			var all sync.WaitGroup
			for _, transport := range processes {
				for range 2 {
					all.Go(func() {
						status, body, err := clientGet(t.Context(), transport, clientAPIURL)
						if err != nil || status != 200 {
							t.Errorf("%d %s %v", status, body, err)
						}
					})
				}
			}
			all.Wait()
		}
		s.requireSound()
	})
}

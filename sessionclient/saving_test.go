package sessionclient_test

import (
	"context"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

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

// The program logs in as somebody else, or logs out, at the moment at which the Transport saves a
// refresh.
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

// The same when the Transport saves tokens that it could not save before.
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

// An interruptedStore calls a function just before its next swap, or fails.
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
					require.ErrorIs(t, err, sessionclient.ErrSessionChanged)
					require.Zero(t, w.apiCalls(), "the request was made for another session")
					require.Equal(t, want, loaded(t, w.memory))
					requireGet(t, transport)
					require.Equal(t, []string{want.AccessToken}, w.calls)
				case "logout":
					require.ErrorIs(t, err, sessionclient.ErrNoTokens)
					_, err := w.memory.Load(t.Context())
					require.ErrorIs(t, err, sessionclient.ErrNoTokens)
					require.Zero(t, w.apiCalls())
				default:
					require.ErrorIs(t, err, sessionclient.ErrSessionChanged)
					require.Zero(t, w.apiCalls(), "the request was made for another session")
					require.Equal(t, want.RefreshToken, w.presented[1])
					requireGet(t, transport)
					w.requireAlive(w.memory)
				}
			})
		})
	}
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

// The tokens of an earlier refresh are being saved when a request needs new ones. It gets new ones.
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

// Tokens that could not be saved give way to those that somebody else has saved.
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

		// The store fails just when the new tokens have come. They are saved nevertheless.
		pass(time.Hour)
		w.setFault(func(_ int, rw http.ResponseWriter, _ *http.Request, serve func(http.ResponseWriter)) {
			store.set(errClientDisk, nil)
			serve(rw)
		})
		requireGet(t, transport)
		w.requireAlive(w.memory)

		// The store fails when an answer was lost. The next attempt cannot wait for it.
		store.set(nil, nil)
		pass(time.Hour)
		w.setFault(func(_ int, rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
			store.set(errClientDisk, nil)
			w.setFault(nil)
			lostAnswers["connection lost"](rw, r, serve)
		})
		requireGet(t, transport)
		w.requireAlive(w.memory)

		// The store fails when the token is refused. Nobody can tell whether there is a newer one.
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

// A store that can tell in advance whether it will save.
type preparingStore struct {
	*sessionclient.TokenMemory
	prepareErr, swapErr error
	prepared, discarded int
}

func (s *preparingStore) Prepare(context.Context) (sessionclient.PreparedSwap, error) {
	if s.prepareErr != nil {
		return nil, s.prepareErr
	}
	s.prepared++
	return s, nil
}

func (s *preparingStore) Swap(ctx context.Context, held string, tokens tokensession.Tokens) (bool, error) {
	if s.swapErr != nil {
		return false, s.swapErr
	}
	return s.TokenMemory.Swap(ctx, held, tokens)
}

func (s *preparingStore) Discard() { s.discarded++ }

func TestTransport_spendsNoTokenIfTheResultWouldBeLost(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		store := &preparingStore{TokenMemory: w.memory}
		transport := w.transport(store)
		requireGet(t, transport)
		require.Zero(t, store.prepared, "nothing is to be saved")

		// The access token is due. It is still good, so the request goes with it.
		store.prepareErr = errClientDisk
		pass(14*time.Minute + 30*time.Second)
		requireGet(t, transport)
		require.Len(t, w.toldErrors(), 1)
		require.ErrorIs(t, w.toldErrors()[0], errClientDisk)
		pass(time.Minute)
		for range 20 {
			_, _, err := clientGet(t.Context(), transport, clientAPIURL)
			require.ErrorIs(t, err, tokensession.ErrUnavailable)
			require.ErrorIs(t, err, errClientDisk)
		}
		require.Len(t, w.toldErrors(), 2, "it does not try at each request")
		require.Zero(t, w.refreshes())
		store.prepareErr = nil
		pass(time.Second)
		requireGet(t, transport)
		require.Equal(t, 1, w.refreshes())

		// The saving fails although it was prepared. No other token is spent until it is made up for.
		store.swapErr = errClientDisk
		pass(time.Hour)
		requireGet(t, transport)
		require.Equal(t, 2, w.refreshes())
		pass(time.Hour)
		_, _, err := clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
		require.ErrorIs(t, err, errClientDisk)
		require.Equal(t, 2, w.refreshes())
		store.swapErr = nil
		pass(10 * time.Second)
		requireGet(t, transport)
		require.Equal(t, 3, w.refreshes())
		w.requireAlive(w.memory)
		require.Equal(t, 3, store.prepared)
		require.Equal(t, store.prepared, store.discarded)
	})
}

// A lost answer is asked for again, and a login comes between. One preparation is enough for all.
func TestTransport_preparesOnceForARefresh(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		store := &preparingStore{TokenMemory: w.memory}
		transport := w.transport(store)
		w.setFault(func(n int, rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
			switch n {
			case 1, 2:
				lostAnswers["connection lost"](rw, r, serve)
			case 3:
				tokens := w.login()
				tokens.AccessExpiresAt = time.Now()
				_ = w.memory.Save(context.Background(), tokens)
			}
			serve(rw)
		})
		pass(time.Hour)
		_, _, err := clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, sessionclient.ErrSessionChanged)
		require.Equal(t, 4, w.refreshes())
		require.Equal(t, 1, store.prepared)
		require.Equal(t, 1, store.discarded)
		w.requireAlive(w.memory)
	})
}

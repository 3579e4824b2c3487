package sessiontest_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
	"github.com/seed67bc9b7f/tokensession/sessiontest"
)

// inAndOutside runs a test in a bubble and outside.
func inAndOutside(t *testing.T, f func(*testing.T)) {
	t.Run("outside a bubble", f)
	t.Run("in a bubble", func(t *testing.T) { synctest.Test(t, f) })
}

// A failing is a test that takes down whether it has failed.
type failing struct {
	testing.TB
	mu     sync.Mutex
	errors []string
}

func (f *failing) Helper() {}

func (f *failing) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.errors = append(f.errors, fmt.Sprintf(format, args...))
}

func TestWorld_timeMovesOnlyByTheClock(t *testing.T) {
	inAndOutside(t, func(t *testing.T) {
		w := sessiontest.New(t, tokensession.Config{})
		tokens := w.Login("alice")
		w.Clock.Advance(15*time.Minute - time.Second)
		_, err := w.Manager.Verify(tokens.AccessToken)
		require.NoError(t, err)
		w.Clock.Advance(time.Second)
		_, err = w.Manager.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrExpired)

		tokens = w.Refresh(tokens)
		_, err = w.Manager.Verify(tokens.AccessToken)
		require.NoError(t, err)
		w.Clock.Advance(7 * 24 * time.Hour)
		_, err = w.Manager.Refresh(t.Context(), tokens.RefreshToken)
		require.ErrorIs(t, err, tokensession.ErrExpired)
		w.LoggedOut("alice")
	})
}

func TestWorld_catchesAThief(t *testing.T) {
	inAndOutside(t, func(t *testing.T) {
		w := sessiontest.New(t, tokensession.Config{})
		tokens := w.Login("alice")
		thief := w.Thief(tokens)
		require.NoError(t, thief.Refresh())
		require.NoError(t, thief.Refresh())
		w.Clock.Advance(time.Minute)
		_, err := w.Manager.Refresh(t.Context(), tokens.RefreshToken)
		require.ErrorIs(t, err, tokensession.ErrReused)
		thief.Out()
		w.LoggedOut("alice")
		require.Len(t, w.Events(tokensession.EventReused), 1)
	})
}

// What LoggedIn, LoggedOut and Out say has to be true, in both ways.
func TestWorld_assertionsFail(t *testing.T) {
	f := &failing{TB: t}
	w := sessiontest.New(f, tokensession.Config{})
	w.LoggedIn("alice")
	require.Equal(t, []string{"alice is not logged in"}, f.errors)
	f.errors = nil

	tokens := w.Login("alice")
	w.LoggedIn("alice")
	w.LoggedOut("bob")
	require.Empty(t, f.errors)
	w.LoggedOut("alice")
	require.Equal(t, []string{
		"alice has 1 sessions", "an access token of alice still works", "a refresh token of alice still works",
	}, f.errors)
	f.errors = nil

	w.Thief(tokens).Out()
	require.Len(t, f.errors, 2)
	f.errors = nil

	require.NoError(t, w.Manager.RevokeToken(t.Context(), tokens.RefreshToken))
	w.LoggedOut("alice")
	w.Thief(tokens).Out()
	require.Empty(t, f.errors)
}

// A test may look at the end, when its own context is over.
func TestWorld_isThereInCleanup(t *testing.T) {
	inAndOutside(t, func(t *testing.T) {
		w := sessiontest.New(t, tokensession.Config{})
		b := w.Browser(site(t, w.Manager))
		b.Post("/login", url.Values{"user": {"alice"}})
		t.Cleanup(func() {
			require.Error(t, t.Context().Err())
			w.LoggedIn("alice")
			w.LoggedOut("bob")
			require.Equal(t, http.StatusOK, b.Get("/me").StatusCode)
			tokens := w.Refresh(w.Login("carol"))
			require.NoError(t, w.Thief(tokens).Refresh())
		})
	})
}

// Eight days of a program that runs, and of its sessions, pass in an instant.
func TestWorld_daysOfRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sessiontest.New(t, tokensession.Config{})
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		running.Go(func() { _ = w.Manager.Run(ctx) })
		tokens := w.Login("alice")
		w.Login("bob")
		for range 8 {
			w.Clock.Advance(24 * time.Hour)
			tokens = w.Refresh(tokens)
		}
		w.LoggedIn("alice")
		w.LoggedOut("bob") // idle for seven days

		other, err := tokensession.New(w.Signer, w.Store, w.Config)
		require.NoError(t, err)
		running.Go(func() { _ = other.Run(ctx) })
		w.Clock.Advance(time.Minute)
		require.NoError(t, w.Manager.Revoke(t.Context(), tokens.Session.ID))
		w.Clock.Advance(time.Second)
		_, err = other.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked, "told by the feed")
		stop()
		running.Wait()
	})
}

func TestNew_keepsTheProgramsConfig(t *testing.T) {
	var told []tokensession.EventKind
	w := sessiontest.New(t, tokensession.Config{
		MaxSessions: 1,
		OnEvent:     func(_ context.Context, e tokensession.Event) { told = append(told, e.Kind) },
	})
	first := w.Login("alice")
	w.Clock.Advance(time.Second)
	w.Login("alice")
	_, err := w.Manager.Verify(first.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
	require.Len(t, told, len(w.Events()))
	require.NotEmpty(t, w.Events(tokensession.EventRevoked))
	require.Empty(t, w.Events(tokensession.EventReused))
}

// site is a program with a login, as a user of the library writes it.
func site(t testing.TB, m *tokensession.Manager) http.Handler {
	t.Helper()
	h, err := sessionhttp.New(m, sessionhttp.Config{Cookies: true})
	require.NoError(t, err)
	mux := http.NewServeMux()
	h.Mount(mux)
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if _, err := h.Login(w, r, r.FormValue("user")); err != nil {
			http.Error(w, err.Error(), sessionhttp.Status(err))
			return
		}
		http.Redirect(w, r, "/me", http.StatusSeeOther)
	})
	mux.Handle("GET /me", h.Require()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access, _ := sessionhttp.FromContext(r.Context())
		fmt.Fprint(w, access.Subject)
	})))
	return mux
}

func TestBrowser_livesAsUsersDo(t *testing.T) {
	inAndOutside(t, func(t *testing.T) {
		w := sessiontest.New(t, tokensession.Config{})
		b := w.Browser(site(t, w.Manager))
		require.Equal(t, http.StatusUnauthorized, b.Get("/me").StatusCode)
		answer := b.Post("/login", url.Values{"user": {"alice"}})
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		require.Equal(t, "alice", string(body), "the redirect was followed, with the cookies")
		w.LoggedIn("alice")

		w.Clock.Advance(16 * time.Minute)
		require.Equal(t, http.StatusUnauthorized, b.Get("/me").StatusCode)
		require.Equal(t, http.StatusOK, b.Post("/auth/token", nil).StatusCode)
		require.Equal(t, http.StatusOK, b.Get("/me").StatusCode)

		thief := w.Stolen(b)
		require.Equal(t, http.StatusOK, thief.Get("/me").StatusCode)
		require.Equal(t, http.StatusOK, thief.Post("/auth/token", nil).StatusCode)
		require.Equal(t, http.StatusOK, thief.Post("/auth/token", nil).StatusCode)
		w.Clock.Advance(time.Minute)
		require.Equal(t, http.StatusBadRequest, b.Post("/auth/token", nil).StatusCode)
		require.Equal(t, http.StatusUnauthorized, thief.Get("/me").StatusCode)
		w.LoggedOut("alice")
	})
}

func TestBrowser_cookiesEndByTheClock(t *testing.T) {
	inAndOutside(t, func(t *testing.T) {
		w := sessiontest.New(t, tokensession.Config{})
		var got []string
		b := w.Browser(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			got = nil
			for _, c := range r.Cookies() {
				got = append(got, c.Name)
			}
			if r.Method == http.MethodPost {
				http.SetCookie(rw, &http.Cookie{Name: "hour", Value: "1", MaxAge: 3600, Secure: true, Path: "/"})
				http.SetCookie(rw, &http.Cookie{Name: "window", Value: "1", Path: "/"})
			}
		}))
		b.Post("/", nil)
		require.Empty(t, got)
		w.Clock.Advance(time.Hour - time.Second)
		b.Get("/")
		require.Equal(t, []string{"hour", "window"}, got)
		other := w.Stolen(b)
		w.Clock.Advance(time.Second)
		b.Get("/")
		require.Equal(t, []string{"window"}, got)
		other.Get("/")
		require.Equal(t, []string{"window"}, got)
		b.Post("/", nil)
		b.Get("/")
		require.ElementsMatch(t, []string{"hour", "window"}, got, "it was set again")
		other.Get("/")
		require.Equal(t, []string{"window"}, got)
	})
}

// A browser with a cookie that works is somebody who is logged in.
func TestLoggedOut_looksIntoBrowsers(t *testing.T) {
	f := &failing{TB: t}
	w := sessiontest.New(f, tokensession.Config{})
	b := w.Browser(site(t, w.Manager))
	b.Post("/login", url.Values{"user": {"alice"}})
	sessions, err := w.Manager.Sessions(t.Context(), "alice")
	require.NoError(t, err)
	other, err := tokensession.New(w.Signer, w.Store, w.Config)
	require.NoError(t, err)
	require.NoError(t, other.Revoke(t.Context(), sessions[0].ID))
	w.LoggedOut("alice")
	require.Equal(t, []string{"a browser has an access token of alice that still works"}, f.errors)
}

func TestWorld_requestCarriesTheToken(t *testing.T) {
	w := sessiontest.New(t, tokensession.Config{})
	tokens := w.Login("alice")
	answer := httptest.NewRecorder()
	site(t, w.Manager).ServeHTTP(answer, w.Request(tokens, http.MethodGet, "/me", nil))
	require.Equal(t, "alice", answer.Body.String())
}

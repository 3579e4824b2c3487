package sessionclient_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

func TestTransport_withoutTokens(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		var none sessionclient.TokenMemory
		transport := w.transport(&none)
		_, _, err := clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, sessionclient.ErrNoTokens)
		require.Zero(t, w.apiCalls())

		// An access token alone is good until it expires. It stays in use even if an origin refused
		// it.
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

// An http.Client takes a response without a body, too, as bases that were written for tests have it.
func TestTransport_survivesABaseWhoseAnswersHaveNoBody(t *testing.T) {
	for _, status := range []int{200, 401, 503} {
		synctest.Test(t, func(t *testing.T) {
			var store sessionclient.TokenMemory
			tokens := tokensession.Tokens{AccessToken: "a"}
			require.NoError(t, store.Save(t.Context(), tokens))
			transport, err := sessionclient.New(clientAuthURL, &store, sessionclient.Config{
				Base: clientBase(func(*http.Request) (*http.Response, error) {
					return &http.Response{StatusCode: status, Header: http.Header{}}, nil
				}),
			})
			require.NoError(t, err)
			is, _, err := clientGet(t.Context(), transport, clientAPIURL)
			require.NoError(t, err)
			require.Equal(t, status, is)
			require.Error(t, transport.Login(mustRequest(t, "POST", clientAuthURL, "")))
			require.NoError(t, store.Save(t.Context(), tokensession.Tokens{RefreshToken: "r"}))
			_, _, err = clientGet(t.Context(), transport, clientAPIURL)
			require.ErrorIs(t, err, tokensession.ErrUnavailable)
			require.Equal(t, status == 200, transport.Logout(t.Context()) == nil)
		})
	}
}

// This holds whatever the server answers, whatever the network does, and whatever a program prints.
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

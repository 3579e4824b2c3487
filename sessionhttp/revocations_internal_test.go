package sessionhttp

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// A snapshot may be a hundred megabytes, and is not wanted again for days.
func TestPacking_doesNotKeepASnapshotForEver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p packing
		snapshot := bytes.Repeat([]byte("q83vEjRWeJCrze8SNFZ4kA 1767322805\n"), 1000)
		packed := p.of(snapshot)
		require.Same(t, &packed[0], &p.of(snapshot)[0], "it is packed once")
		time.Sleep(keepPacked / 2)
		require.Same(t, &packed[0], &p.of(snapshot)[0])
		time.Sleep(keepPacked)
		synctest.Wait()
		require.Nil(t, p.entries)
		require.Nil(t, p.packed)
		require.Equal(t, packed, p.of(snapshot), "it is packed anew")
		time.Sleep(2 * keepPacked)
	})
}

// followed returns the Handlers of a Manager that runs, and has ended some sessions.
func followed(t *testing.T, ended int) *Handlers {
	t.Helper()
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	})
	require.NoError(t, err)
	m, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{})
	require.NoError(t, err)
	for range ended {
		tokens, err := m.Start(t.Context(), "alice")
		require.NoError(t, err)
		require.NoError(t, m.Revoke(t.Context(), tokens.Session.ID))
	}
	running, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- m.Run(running) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-done)
	})
	h, err := New(m, Config{MayFollow: func(*http.Request) bool { return true }})
	require.NoError(t, err)
	return h
}

// A pipeListener gives a server one connection, which is not of a network, so that a bubble can have
// it.
type pipeListener struct {
	accepts chan net.Conn
	once    sync.Once
}

func (l *pipeListener) Accept() (net.Conn, error) {
	if conn, open := <-l.accepts; open {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (l *pipeListener) Close() error   { l.once.Do(func() { close(l.accepts) }); return nil }
func (l *pipeListener) Addr() net.Addr { return &net.TCPAddr{} }

// A follower that asks for everything and does not read it loses its connection. Otherwise it would
// hold a snapshot in the memory, as many as it likes.
func TestRevocations_toAFollowerThatDoesNotRead(t *testing.T) {
	for _, timeout := range []time.Duration{0, time.Hour} { // the server's own
		synctest.Test(t, func(t *testing.T) {
			h := followed(t, 1000)
			synctest.Wait()
			states := make(chan http.ConnState, 10)
			server := http.Server{Handler: h, WriteTimeout: timeout, ConnState: func(_ net.Conn, s http.ConnState) {
				states <- s
			}}
			here, there := net.Pipe()
			listener := &pipeListener{accepts: make(chan net.Conn, 1)}
			listener.accepts <- there
			go func() { _ = server.Serve(listener) }()
			began := time.Now()
			fmt.Fprint(here, "GET /auth/revocations HTTP/1.1\r\nHost: auth.example\r\n\r\n")
			for state := http.StateNew; state != http.StateClosed; {
				select {
				case state = <-states:
				case <-time.After(2 * denialsTimeout):
					t.Fatal("the connection is still there")
				}
			}
			require.GreaterOrEqual(t, time.Since(began), denialsTimeout, "a slow one has time")
			require.Zero(t, h.followers.Load())
			_ = server.Close()
			_ = here.Close()
		})
	}
}

func TestRevocations_toTooManyFollowers(t *testing.T) {
	h := followed(t, 1)
	ask := func() *httptest.ResponseRecorder {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/auth/revocations", nil))
		return w
	}
	require.Eventually(t, func() bool { return ask().Code == http.StatusOK }, 10*time.Second,
		time.Millisecond)
	require.Zero(t, h.followers.Load())
	h.followers.Store(maxFollowers)
	for range 3 {
		w := ask()
		require.Equal(t, http.StatusServiceUnavailable, w.Code)
		require.Equal(t, "1", w.Header().Get("Retry-After"))
	}
	h.followers.Add(-1)
	require.Equal(t, http.StatusOK, ask().Code)
	require.Equal(t, int64(maxFollowers-1), h.followers.Load())
}

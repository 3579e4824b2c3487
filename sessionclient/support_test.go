package sessionclient_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

const (
	clientAuthURL = "https://auth.example/token"
	clientAPIURL  = "https://auth.example/api"
)

// A clientWorld is a Manager behind a token endpoint and an API. A test can disturb both. The world
// also notes the calls that a Transport makes to its program.
type clientWorld struct {
	t      testing.TB
	m      *tokensession.Manager
	h      *sessionhttp.Handlers
	start  tokensession.Tokens
	memory *sessionclient.TokenMemory

	mu        sync.Mutex
	fault     func(n int, w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) // of the n-th refresh, from 1
	api       func(w http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter))
	presented []string // refresh tokens
	at        []time.Time
	calls     []string // access tokens that the API got
	ended     []error
	errs      []error

	open atomic.Int64 // response bodies of the in-memory base
}

func newClientWorld(t testing.TB) *clientWorld {
	t.Helper()
	return newClientWorldOf(t, tokensession.Config{})
}

func newClientWorldOf(t testing.TB, cfg tokensession.Config) *clientWorld {
	t.Helper()
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{Issuer: "https://auth.example", Audience: []string{"api"}})
	require.NoError(t, err)
	m, err := tokensession.New(signer, tokensession.NewMemoryStore(), cfg)
	require.NoError(t, err)
	h, err := sessionhttp.New(m, sessionhttp.Config{})
	require.NoError(t, err)
	w := &clientWorld{t: t, m: m, h: h, memory: &sessionclient.TokenMemory{}}
	w.start = w.login()
	require.NoError(t, w.memory.Save(t.Context(), w.start))
	return w
}

func (w *clientWorld) login() tokensession.Tokens { return w.loginAs("alice") }

func (w *clientWorld) loginAs(subject string) tokensession.Tokens {
	w.t.Helper()
	tokens, err := w.m.Start(context.Background(), subject)
	require.NoError(w.t, err)
	return tokens
}

// expired returns the first tokens with an access token that has expired.
func (w *clientWorld) expired() tokensession.Tokens {
	tokens := w.start
	tokens.AccessExpiresAt = time.Now().Add(-time.Second)
	return tokens
}

// config has callbacks that tell the world.
func (w *clientWorld) config(base http.RoundTripper) sessionclient.Config {
	return sessionclient.Config{
		Base:         base,
		OnSessionEnd: func(err error) { w.mu.Lock(); defer w.mu.Unlock(); w.ended = append(w.ended, err) },
		OnError:      func(err error) { w.mu.Lock(); defer w.mu.Unlock(); w.errs = append(w.errs, err) },
	}
}

// transport makes a Transport on the world's in-memory network.
func (w *clientWorld) transport(store sessionclient.TokenStore) *sessionclient.Transport {
	w.t.Helper()
	transport, err := sessionclient.New(clientAuthURL, store, w.config(clientNetwork{w, w}))
	require.NoError(w.t, err)
	return transport
}

func (w *clientWorld) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/token" {
		body, _ := io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(body))
		form, _ := url.ParseQuery(string(body))
		r.Form, r.PostForm = form, form // for faults; the endpoint reads the body itself
		w.mu.Lock()
		w.presented, w.at = append(w.presented, form.Get("refresh_token")), append(w.at, time.Now())
		n, fault := len(w.presented), w.fault
		w.mu.Unlock()
		serve := func(rw http.ResponseWriter) {
			w.h.Token(rw, r.WithContext(context.WithoutCancel(r.Context()))) // the server may learn late that nobody waits
		}
		if fault != nil {
			fault(n, rw, r, serve)
			return
		}
		serve(rw)
		return
	}
	switch r.URL.Path {
	case "/revoke", "/elsewhere/revoke":
		w.h.Revoke(rw, r)
		return
	case "/login": // the password is the user's name
		user, password, _ := r.BasicAuth()
		if user != password {
			clientJSON(rw, http.StatusForbidden, map[string]any{"error": "invalid_grant", "hint": "secret"})
			return
		}
		tokens, err := w.m.Start(context.WithoutCancel(r.Context()), user)
		if err != nil {
			panic(err)
		}
		w.h.WriteTokens(rw, tokens)
		return
	}
	w.mu.Lock()
	w.calls = append(w.calls, strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "))
	api := w.api
	w.mu.Unlock()
	serve := func(rw http.ResponseWriter) {
		w.h.Require()(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			access, _ := sessionhttp.FromContext(r.Context())
			body, _ := io.ReadAll(r.Body)
			fmt.Fprintf(rw, "%s: %s", access.Subject, body)
		})).ServeHTTP(rw, r)
	}
	if api != nil {
		api(rw, r, serve)
		return
	}
	serve(rw)
}

func clientJSON(rw http.ResponseWriter, status int, v any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(v)
}

func (w *clientWorld) setFault(fault func(n int, rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter))) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fault = fault
}

// setStatus makes the token endpoint answer with a status, until it is called with 0.
func (w *clientWorld) setStatus(status int, header ...string) {
	if status == 0 {
		w.setFault(nil)
		return
	}
	w.setFault(func(_ int, rw http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) {
		if len(header) == 2 {
			rw.Header().Set(header[0], header[1])
		}
		rw.WriteHeader(status)
	})
}

// setBusy makes the token endpoint answer that it has done nothing and is busy.
func (w *clientWorld) setBusy(retryAfter string) {
	w.setFault(func(_ int, rw http.ResponseWriter, _ *http.Request, _ func(http.ResponseWriter)) {
		busy(rw, retryAfter)
	})
}

// busy writes the answer of a Handlers that has done nothing. Only the header is the test's.
func busy(rw http.ResponseWriter, retryAfter string) {
	rw.Header().Set("Retry-After", retryAfter)
	clientJSON(rw, http.StatusServiceUnavailable, map[string]any{"error": "temporarily_unavailable"})
}

func (w *clientWorld) setAPI(api func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter))) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.api = api
}

func (w *clientWorld) refreshes() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.presented) }
func (w *clientWorld) apiCalls() int  { w.mu.Lock(); defer w.mu.Unlock(); return len(w.calls) }
func (w *clientWorld) toldOfEnd() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]error(nil), w.ended...)
}
func (w *clientWorld) toldErrors() []error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]error(nil), w.errs...)
}

// requireAlive shows that the session lives and that the store has its newest tokens. It refreshes
// once, and the world goes on from there.
func (w *clientWorld) requireAlive(store sessionclient.TokenStore) {
	w.t.Helper()
	require.Empty(w.t, w.toldOfEnd())
	tokens, err := store.Load(context.Background())
	require.NoError(w.t, err)
	tokens, err = w.m.Refresh(context.Background(), tokens.RefreshToken)
	require.NoError(w.t, err, "the refresh token in the store")
	require.NoError(w.t, store.Save(context.Background(), tokens))
}

// A clientNetwork is an in-memory network. If its handler panics, the connection is lost.
type clientNetwork struct {
	w *clientWorld
	h http.Handler
}

func (n clientNetwork) RoundTrip(req *http.Request) (*http.Response, error) {
	if err := req.Context().Err(); err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	type outcome struct {
		resp *http.Response
		err  error
	}
	done := make(chan outcome, 1)
	go func() {
		if req.Body != nil {
			defer req.Body.Close()
		}
		defer func() {
			if recover() != nil {
				done <- outcome{err: io.ErrUnexpectedEOF}
			}
		}()
		rec := httptest.NewRecorder()
		served := req.Clone(req.Context())
		if served.Body == nil {
			served.Body = http.NoBody
		}
		n.h.ServeHTTP(rec, served)
		done <- outcome{resp: rec.Result()}
	}()
	select {
	case o := <-done:
		if o.resp != nil {
			n.w.open.Add(1)
			o.resp.Body = &clientBody{ReadCloser: o.resp.Body, open: &n.w.open}
		}
		return o.resp, o.err
	case <-req.Context().Done():
		return nil, req.Context().Err()
	}
}

// A clientBody counts the bodies that are open.
type clientBody struct {
	io.ReadCloser
	open *atomic.Int64
	once sync.Once
}

func (b *clientBody) Close() error {
	b.once.Do(func() { b.open.Add(-1) })
	return b.ReadCloser.Close()
}

// A clientBase is a Base made of a function.
type clientBase func(*http.Request) (*http.Response, error)

func (f clientBase) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// clientGet sends a GET and returns the status and the body of its answer.
func clientGet(ctx context.Context, rt http.RoundTripper, url string) (int, string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return 0, "", err
	}
	resp, err := (&http.Client{Transport: rt}).Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

func requireGet(t testing.TB, rt http.RoundTripper) {
	t.Helper()
	status, body, err := clientGet(context.Background(), rt, clientAPIURL)
	require.NoError(t, err)
	require.Equal(t, 200, status, body)
}

// clientBubble runs a test in which time passes by itself. It ends when all goroutines have ended,
// and no response body may be open then.
func clientBubble(t *testing.T, cfg tokensession.Config, f func(t *testing.T, w *clientWorld)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newClientWorldOf(t, cfg)
		f(t, w)
		pass(time.Minute) // what the server still does for requests that nobody waits for
		synctest.Wait()
		require.Zero(t, w.open.Load(), "response bodies left open")
	})
}

// pass lets time pass.
func pass(d time.Duration) { <-time.After(d) }

// A clientStore counts the saves. A test can break it.
type clientStore struct {
	sessionclient.TokenStore
	mu       sync.Mutex
	loadErr  error
	saveErr  error
	beforeSv func()
	saves    int
}

func (s *clientStore) set(loadErr, saveErr error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.loadErr, s.saveErr = loadErr, saveErr
}

func (s *clientStore) Load(ctx context.Context) (tokensession.Tokens, error) {
	s.mu.Lock()
	err := s.loadErr
	s.mu.Unlock()
	if err != nil {
		return tokensession.Tokens{}, err
	}
	return s.TokenStore.Load(ctx)
}

func (s *clientStore) Save(ctx context.Context, tokens tokensession.Tokens) error {
	s.mu.Lock()
	err, before := s.saveErr, s.beforeSv
	s.saves++
	s.mu.Unlock()
	if before != nil {
		before()
	}
	if err != nil {
		return err
	}
	return s.TokenStore.Save(ctx, tokens)
}

func loaded(t testing.TB, store sessionclient.TokenStore) tokensession.Tokens {
	t.Helper()
	tokens, err := store.Load(context.Background())
	require.NoError(t, err)
	return tokens
}

var errClientDisk = fmt.Errorf("no space left on device")

// refuse is an API that refuses some tokens.
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

// The ways in which the answer to a refresh can be lost. Only in the last one has the server done
// nothing.
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

func (b *trackedBody) isClosed() bool {
	select {
	case <-b.closed:
		return true
	default:
		return false
	}
}

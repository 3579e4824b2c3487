package sessionhttp_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

var ctx = context.Background()

// A site is a server with sessions, its clock, and a store that can be down.
type site struct {
	t      testing.TB
	h      *sessionhttp.Handlers
	m      *tokensession.Manager
	clock  *testkit.Clock
	store  *testkit.HookedStore
	events *testkit.Events
	mux    *http.ServeMux
	signer *tokensession.AccessSigner

	grant tokensession.Grant // that each session gets

	mu     sync.Mutex
	causes []error // what the host was told
}

func newSite(t testing.TB, cfg sessionhttp.Config) *site {
	t.Helper()
	return newSiteOf(t, cfg, tokensession.Config{})
}

func newSiteOf(t testing.TB, cfg sessionhttp.Config, mcfg tokensession.Config) *site {
	t.Helper()
	s := &site{
		t: t, mux: http.NewServeMux(), signer: newSigner(t), events: &testkit.Events{},
		// Answers and cookies count in whole seconds. Here they are those that a test expects.
		clock: testkit.NewClockAt(testkit.Began.Truncate(time.Second)),
		store: testkit.Hook(t, tokensession.NewMemoryStore()),
	}
	mcfg.Authorize = func(context.Context, tokensession.Session) (tokensession.Grant, error) {
		return s.grant, nil
	}
	mcfg.OnEvent = s.events.Add
	s.m = s.manager(s.signer, mcfg)
	cfg.OnError = s.noteCause
	var err error
	s.h, err = sessionhttp.New(s.m, cfg)
	require.NoError(t, err)
	s.h.Mount(s.mux)
	return s
}

func (s *site) noteCause(_ *http.Request, cause error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.causes = append(s.causes, cause)
}

// manager makes one more Manager on the site's store, with the site's clock.
func (s *site) manager(
	signer *tokensession.AccessSigner, cfg tokensession.Config,
) *tokensession.Manager {
	s.t.Helper()
	cfg.Now = s.clock.Now
	if cfg.RecoveryPeriod == 0 {
		cfg.RecoveryPeriod = tokensession.Strict // a consumed token is reuse when the grace is over
	}
	return newManager(s.t, signer, s.store.Store(), cfg)
}

// other makes another instance, with a key of its own, which knows nothing but what is in the
// store.
func (s *site) other() *tokensession.Manager {
	s.t.Helper()
	return s.manager(newSigner(s.t), tokensession.Config{})
}

func newManager(
	t testing.TB, signer *tokensession.AccessSigner, store tokensession.RefreshStore,
	cfg tokensession.Config,
) *tokensession.Manager {
	t.Helper()
	m, err := tokensession.New(signer, store, cfg)
	require.NoError(t, err)
	return m
}

func newSigner(t testing.TB) *tokensession.AccessSigner {
	t.Helper()
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	})
	require.NoError(t, err)
	return signer
}

func (s *site) start(opts ...tokensession.StartOption) tokensession.Tokens {
	s.t.Helper()
	tokens, err := s.m.Start(ctx, "alice", opts...)
	require.NoError(s.t, err)
	return tokens
}

// do sends a request to the site.
func (s *site) do(r *http.Request) *http.Response {
	s.t.Helper()
	w := httptest.NewRecorder()
	s.mux.ServeHTTP(w, r)
	return w.Result()
}

// post sends a form, with what edit makes of the request.
func (s *site) post(path string, form url.Values, edit ...func(*http.Request)) *http.Response {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(form.Encode()))
	if len(form) > 0 {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	for _, e := range edit {
		e(r)
	}
	return s.do(r)
}

func (s *site) refresh(token string, edit ...func(*http.Request)) *http.Response {
	s.t.Helper()
	return s.post("/auth/token", refreshForm(token), edit...)
}

func refreshForm(token string) url.Values {
	return url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
}

// requireLive requires that a refresh token has not been consumed and its session lives.
func (s *site) requireLive(token string) {
	s.t.Helper()
	s.events.TakeKinds()
	_, err := s.m.Refresh(ctx, token)
	require.NoError(s.t, err)
	require.Equal(s.t, []tokensession.EventKind{tokensession.EventRefreshed}, s.events.TakeKinds(), "the token was consumed before")
}

// header returns an edit that adds a header.
func header(name, value string) func(*http.Request) {
	return func(r *http.Request) { r.Header.Add(name, value) }
}

func bearer(token string) func(*http.Request) { return header("Authorization", "Bearer "+token) }

func bodyOf(t testing.TB, r *http.Response) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return string(body)
}

func jsonOf(t testing.TB, r *http.Response) map[string]any {
	t.Helper()
	body := bodyOf(t, r)
	var v map[string]any
	require.NoError(t, json.Unmarshal([]byte(body), &v), body)
	return v
}

// requireError requires an answer of RFC 6749 section 5.2.
func requireError(t testing.TB, r *http.Response, status int, code string) {
	t.Helper()
	require.Equal(t, status, r.StatusCode)
	require.Equal(t, "application/json", r.Header.Get("Content-Type"))
	require.Equal(t, "no-store", r.Header.Get("Cache-Control"))
	require.JSONEq(t, `{"error":"`+code+`"}`, bodyOf(t, r))
}

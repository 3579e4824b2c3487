package sessionhttp_test

import (
	"context"
	"encoding/json"
	"errors"
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
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

var ctx = context.Background()

// A site is a server with sessions, its clock, and a store that can be down.
type site struct {
	t      testing.TB
	h      *sessionhttp.Handlers
	m      *tokensession.Manager
	store  *fragileStore
	mux    *http.ServeMux
	signer *tokensession.AccessSigner

	mu     sync.Mutex
	now    time.Time
	grant  tokensession.Grant
	events []tokensession.EventKind
	causes []error // what the host was told
}

func newSite(t testing.TB, cfg sessionhttp.Config) *site {
	return newSiteOf(t, cfg, tokensession.Config{})
}

func newSiteOf(t testing.TB, cfg sessionhttp.Config, mcfg tokensession.Config) *site {
	t.Helper()
	s := &site{t: t, now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), mux: http.NewServeMux()}
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{Issuer: "https://auth.example", Audience: []string{"https://api.example"}})
	require.NoError(t, err)
	s.store = &fragileStore{RefreshStore: tokensession.NewMemoryStore()}
	mcfg.Now = s.clock
	mcfg.Authorize = func(context.Context, tokensession.Session) (tokensession.Grant, error) { return s.grant, nil }
	mcfg.OnEvent = func(_ context.Context, e tokensession.Event) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.events = append(s.events, e.Kind)
	}
	s.signer = signer
	s.m, err = tokensession.New(signer, s.store, mcfg)
	require.NoError(t, err)
	cfg.OnError = func(_ *http.Request, cause error) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.causes = append(s.causes, cause)
	}
	s.h, err = sessionhttp.New(s.m, cfg)
	require.NoError(t, err)
	s.h.Mount(s.mux)
	return s
}

func (s *site) clock() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.now
}

func (s *site) advance(d time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.now = s.now.Add(d)
}

func (s *site) start(opts ...tokensession.StartOption) tokensession.Tokens {
	s.t.Helper()
	tokens, err := s.m.Start(ctx, "alice", opts...)
	require.NoError(s.t, err)
	return tokens
}

// told returns what happened to sessions since the last told.
func (s *site) told() []tokensession.EventKind {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := s.events
	s.events = nil
	return events
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
	s.told()
	_, err := s.m.Refresh(ctx, token)
	require.NoError(s.t, err)
	require.Equal(s.t, []tokensession.EventKind{tokensession.EventRefreshed}, s.told(), "the token was consumed before")
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

var errStoreDown = errors.New("the store is down")

// A fragileStore fails while it is down.
type fragileStore struct {
	tokensession.RefreshStore
	mu   sync.Mutex
	down bool
}

func (s *fragileStore) breaks(down bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = down
}

func (s *fragileStore) err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return errStoreDown
	}
	return nil
}

func (s *fragileStore) Create(ctx context.Context, rec tokensession.Record) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.RefreshStore.Create(ctx, rec)
}

func (s *fragileStore) Load(ctx context.Context, id string) (tokensession.Record, error) {
	if err := s.err(); err != nil {
		return tokensession.Record{}, err
	}
	return s.RefreshStore.Load(ctx, id)
}

func (s *fragileStore) Swap(ctx context.Context, next tokensession.Record) error {
	if err := s.err(); err != nil {
		return err
	}
	return s.RefreshStore.Swap(ctx, next)
}

func (s *fragileStore) List(ctx context.Context, subject string) ([]tokensession.Record, error) {
	if err := s.err(); err != nil {
		return nil, err
	}
	return s.RefreshStore.List(ctx, subject)
}

package sessionhttp_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// What FuzzEndpoints sends requests to. Those that change sessions come first.
var (
	fuzzedPaths = []string{"/auth/token", "/auth/revoke", "/auth/logout", "/auth/introspect", "/auth/session",
		"/auth/session.js", "/auth/jwks.json", "/api", "/api/live"}
	changingPaths = fuzzedPaths[:3]
	uncachedPaths = fuzzedPaths[:5]
	accessPaths   = []string{"/auth/session", "/api", "/api/live"} // which take access tokens

	mountedMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"}
)

// Whatever is sent, the answer is a documented one, and the session is as it was unless the request
// was a good one that presented a live token. {refresh} and {access} in a request stand for the
// session's live tokens, which a fuzzer could not make up.
func FuzzEndpoints(f *testing.F) {
	for _, seed := range fuzzedRequests() {
		for mode := range uint8(8) {
			f.Add(mode, seed.path, seed.method, seed.query, seed.header, []byte(seed.body))
		}
	}
	f.Fuzz(func(t *testing.T, mode, path uint8, method, query, header string, body []byte) {
		s := newFuzzedSite(t, mode)
		live, err := s.m.Start(ctx, "alice")
		require.NoError(t, err)
		s.events.Take()

		fill := strings.NewReplacer("{refresh}", live.RefreshToken, "{access}", live.AccessToken)
		r := &http.Request{
			Method: fill.Replace(method), URL: &url.URL{Path: fuzzedPaths[int(path)%len(fuzzedPaths)], RawQuery: fill.Replace(query)},
			Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "auth.example", RemoteAddr: "192.0.2.1:1234",
			Header: headerOf(fill.Replace(header)),
		}
		sent := fill.Replace(string(body))
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(sent)), int64(len(sent))
		w := httptest.NewRecorder()
		s.mux.ServeHTTP(w, r)

		s.requireDocumented(t, r, w)
		if changed := len(s.events.All()) > 0; changed {
			require.Equal(t, http.StatusOK, w.Code)
			require.True(t, mayChange(r, sent, live), "what was not asked for: %v", s.events.Kinds())
			s.requireChange(t, r.URL.Path, live, w)
			return
		}
		_, err = s.m.VerifyLive(ctx, live.AccessToken)
		require.NoError(t, err)
		_, err = s.m.Refresh(ctx, live.RefreshToken)
		require.NoError(t, err)
		require.Equal(t, []tokensession.EventKind{tokensession.EventRefreshed}, s.events.Kinds(), "the live token was consumed")
	})
}

// mayChange reports whether a request is one that may change the session whose live tokens these
// are.
func mayChange(r *http.Request, body string, live tokensession.Tokens) bool {
	if !slices.Contains(changingPaths, r.URL.Path) || r.Method != http.MethodPost {
		return false
	}
	if r.URL.Path != "/auth/logout" {
		form, err := url.ParseQuery(body)
		if r.URL.RawQuery != "" || err != nil {
			return false
		}
		for _, values := range form {
			if len(values) > 1 {
				return false
			}
		}
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "same-origin", "none":
	case "":
		if origin, err := url.Parse(r.Header.Get("Origin")); err != nil || origin.Host != "" && origin.Host != r.Host {
			return false
		}
	default:
		return false
	}
	presented := body + strings.Join(r.Header["Cookie"], ";")
	return strings.Contains(presented, live.RefreshToken) || strings.Contains(presented, live.AccessToken)
}

type fuzzedRequest struct {
	path                        uint8
	method, query, header, body string
}

// fuzzedRequests are good ones, and one for each way to be a bad one.
func fuzzedRequests() []fuzzedRequest {
	const (
		form      = "Content-Type: application/x-www-form-urlencoded\n"
		refresh   = "grant_type=refresh_token&refresh_token={refresh}"
		cookie    = "Cookie: __Secure-refresh={refresh}\n"
		access    = "Cookie: __Host-access={access}\n"
		crossSite = "Origin: https://evil.example\nSec-Fetch-Site: cross-site\n"
	)
	return []fuzzedRequest{
		{0, "POST", "", form, refresh},
		{0, "POST", "", form + "Authorization: Basic YXBwOnNlY3JldA==\nUser-Agent: \xff\x00" + strings.Repeat("é", 200) + "\n", refresh + "&scope=read"},
		{0, "POST", "", form, refresh + "&client_id=app&client_secret=wrong"},
		{0, "POST", "", form, refresh + "&scope=admin%20\x00"},
		{0, "POST", "", form, refresh + "&refresh_token={refresh}"},
		{0, "POST", "", form, "grant_type=password&refresh_token={refresh}"},
		{0, "POST", "refresh_token={refresh}", form, "grant_type=refresh_token"},
		{0, "POST", "a=b", form, refresh},
		{0, "POST", "", form + crossSite, refresh},
		{0, "POST", "", form + "Origin: https://evil.example\n", refresh},
		{0, "POST", "", form, "a=" + strings.Repeat("a", 17<<10)},
		{0, "POST", "", form, "%zz;=&"},
		{0, "POST", "", "Content-Type: application/json\n", `{"grant_type":"refresh_token","refresh_token":"{refresh}"}`},
		{0, "POST", "", form + "Authorization: Basic \nAuthorization: Bearer {access}\n", refresh},
		{0, "GET", "", "", ""},
		{0, "PUT", "", form, refresh},
		{0, "get", "grant_type=refresh_token", cookie, refresh},
		{0, "POST", "", cookie, ""},
		{0, "POST", "", cookie + "Cookie: a; __Secure-refresh={refresh}\n", ""},
		{0, "POST", "", cookie + crossSite, ""},
		{0, "POST", "", form + cookie, refresh},
		{1, "POST", "", form, "token={refresh}&token_type_hint=refresh_token"},
		{1, "POST", "", form, "token={access}"},
		{1, "POST", "", form, "token=tsr_x"},
		{1, "DELETE", "", form, "token={refresh}"},
		{2, "POST", "", access, ""},
		{2, "POST", "from=menu", access, ""},
		{2, "POST", "", access + access, ""},
		{2, "POST", "", access + crossSite, ""},
		{2, "GET", "", access, ""},
		{3, "POST", "", form + "X-Api: yes\n", "token={access}"},
		{3, "POST", "", form, "token={refresh}"},
		{4, "GET", "", access, ""},
		{4, "POST", "", "Authorization: bEaReR {access}\n", ""},
		{5, "GET", "v=1", "", ""},
		{6, "HEAD", "", "", ""},
		{6, "PUT", "", "", "{}"},
		{7, "GET", "access_token={access}", "Authorization: Bearer {access}\n", ""},
		{7, "POST", "", access + crossSite, ""},
		{7, "GET", "", "Authorization: Bearer \x00{access}\n" + access, ""},
		{8, "GET", "", "Authorization: Bearer {access}\n", ""},
	}
}

// headerOf reads lines as a server would, but takes any bytes in them.
func headerOf(lines string) http.Header {
	h := http.Header{}
	for line := range strings.SplitSeq(lines, "\n") {
		if name, value, ok := strings.Cut(line, ":"); ok {
			h.Add(textproto.CanonicalMIMEHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(value))
		}
	}
	return h
}

// A fuzzedSite is made anew for each request, and so does little.
type fuzzedSite struct {
	m       *tokensession.Manager
	mux     *http.ServeMux
	cookies bool
	events  testkit.Events
}

// newFuzzedSite makes one in one of 8 modes: with cookies or not, with OAuth clients that have
// secrets or not, for anybody to introspect or for some.
func newFuzzedSite(t testing.TB, mode uint8) *fuzzedSite {
	t.Helper()
	s := &fuzzedSite{mux: http.NewServeMux(), cookies: mode&1 != 0}
	key, err := tokensession.NewHMACKey(bytes.Repeat([]byte("k"), 32))
	require.NoError(t, err)
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{Issuer: "https://auth.example", Audience: []string{"https://api.example"}, CacheSize: -1})
	require.NoError(t, err)
	s.m = newManager(t, signer, tokensession.NewMemoryStore(), tokensession.Config{
		Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
			return tokensession.Grant{Scope: "read write"}, nil
		},
		OnEvent: s.events.Add,
	})
	cfg := sessionhttp.Config{
		Cookies:       s.cookies,
		Attributes:    func(r *http.Request) map[string]string { return map[string]string{"agent": r.UserAgent()} },
		MayIntrospect: func(r *http.Request) bool { return mode&4 != 0 || r.Header.Get("X-Api") == "yes" },
	}
	if mode&2 != 0 {
		cfg.AuthenticateClient = func(_ context.Context, id, secret string) (bool, error) {
			return id == "app" && secret == "secret", nil
		}
	}
	h, err := sessionhttp.New(s.m, cfg)
	require.NoError(t, err)
	h.Mount(s.mux)
	s.mux.Handle("/api", h.Require(sessionhttp.Scope("read"))(whoami))
	s.mux.Handle("/api/live", h.Require(sessionhttp.Live())(whoami))
	return s
}

// requireDocumented requires one of the statuses that the endpoints are documented to have, and
// that an error is one word, which says nothing of the request.
func (s *fuzzedSite) requireDocumented(t *testing.T, r *http.Request, w *httptest.ResponseRecorder) {
	t.Helper()
	statuses := []int{200, 400, 401, 403, 405, 413}
	if missing := !s.cookies && slices.Contains([]string{"/auth/logout", "/auth/session", "/auth/session.js"}, r.URL.Path); missing {
		require.Equal(t, http.StatusNotFound, w.Code)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/auth/") && !slices.Contains(mountedMethods, r.Method) {
		require.Equal(t, http.StatusMethodNotAllowed, w.Code) // by the mux itself
		return
	}
	require.Contains(t, statuses, w.Code)
	if slices.Contains(uncachedPaths, r.URL.Path) {
		require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	}
	for name, values := range w.Header() {
		for _, value := range values {
			require.False(t, strings.ContainsFunc(value, func(c rune) bool { return c < ' ' || c >= 0x7f }), "%s: %q", name, value)
		}
	}
	if w.Code == http.StatusOK {
		return
	}
	var answer struct {
		Error string `json:"error"`
	}
	d := json.NewDecoder(w.Body)
	d.DisallowUnknownFields()
	require.NoError(t, d.Decode(&answer))
	require.Contains(t, []string{"invalid_request", "invalid_grant", "invalid_client", "invalid_scope", "invalid_token",
		"unsupported_grant_type", "access_denied", "insufficient_scope"}, answer.Error)
	challenged := w.Code == http.StatusUnauthorized || answer.Error == "insufficient_scope" || w.Code == http.StatusBadRequest && slices.Contains(accessPaths, r.URL.Path)
	require.Equal(t, challenged, w.Header().Get("WWW-Authenticate") != "")
}

// requireChange requires that a good request did what it is for, and nothing else.
func (s *fuzzedSite) requireChange(t *testing.T, path string, live tokensession.Tokens, w *httptest.ResponseRecorder) {
	t.Helper()
	require.True(t, utf8.Valid(w.Body.Bytes()))
	if path != "/auth/token" {
		require.Equal(t, []tokensession.EventKind{tokensession.EventRevoked}, s.events.Kinds())
		_, err := s.m.Refresh(ctx, live.RefreshToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked)
		return
	}
	require.Equal(t, []tokensession.EventKind{tokensession.EventRefreshed}, s.events.Kinds())
	var body struct {
		RefreshToken string `json:"refresh_token"`
	}
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &body))
	next := body.RefreshToken
	if set := w.Result().Cookies(); len(set) > 0 {
		require.Empty(t, next, "a token in a body beside cookies")
		require.Len(t, set, 2)
		next = set[1].Value
	}
	_, err := s.m.Refresh(ctx, next)
	require.NoError(t, err)
	kinds := s.events.Kinds()
	require.Equal(t, tokensession.EventRefreshed, kinds[len(kinds)-1], "the successor was consumed")
}

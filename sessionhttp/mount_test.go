package sessionhttp_test

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// Routers hand on the whole path, or take the prefix off.
func TestServeHTTP_servesTheEndpointsUnderAnyPrefix(t *testing.T) {
	for _, prefix := range []string{"/auth", "/api/v1/auth"} {
		s := newSite(t, sessionhttp.Config{Cookies: true, Prefix: prefix})
		stripped := http.StripPrefix(prefix, s.h)
		for _, h := range []http.Handler{s.h, stripped} {
			tokens := s.start()
			form := refreshForm(tokens.RefreshToken).Encode()
			r := httptest.NewRequest(http.MethodPost, prefix+"/token", strings.NewReader(form))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Equal(t, http.StatusOK, w.Code)

			get := func(path string) *httptest.ResponseRecorder {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
				return w
			}
			require.Equal(t, http.StatusOK, get(prefix+"/session.js").Code)
			require.Equal(t, "null\n", get(prefix+"/session").Body.String())
			require.Equal(t, http.StatusMethodNotAllowed, get(prefix+"/token").Code)
			for _, path := range []string{prefix, prefix + "/", prefix + "/else", prefix + "/token/x", prefix + "/introspect"} {
				require.Equal(t, http.StatusNotFound, get(path).Code, path)
			}
		}
		w := httptest.NewRecorder()
		s.h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/else/session.js", nil))
		require.Equal(t, http.StatusNotFound, w.Code)
	}
}

// A proxy in front may take off a part of the prefix, as that of all the services behind it.
func TestServeHTTP_behindAProxyThatTakesAPartOfThePrefixOff(t *testing.T) {
	for prefix, off := range map[string][]string{
		"/auth":             {"", "/auth"},
		"/api/v1/auth":      {"", "/api", "/api/v1", "/api/v1/auth"},
		"/api/sessions":     {"", "/api", "/api/sessions"}, // as an endpoint of its own
		"/sessions/x":       {"", "/sessions", "/sessions/x"},
		"/token/token/auth": {"", "/token", "/token/token", "/token/token/auth"},
	} {
		s := newSite(t, sessionhttp.Config{Cookies: true, Devices: true, Prefix: prefix})
		for _, part := range off {
			h := http.StripPrefix(part, s.h)
			status := func(method, path string) int {
				w := httptest.NewRecorder()
				h.ServeHTTP(w, httptest.NewRequest(method, prefix+path, nil))
				return w.Code
			}
			what := prefix + " without " + part
			require.Equal(t, http.StatusOK, status(http.MethodGet, "/session.js"), what)
			require.Equal(t, http.StatusBadRequest, status(http.MethodPost, "/token"), what)
			require.Equal(t, http.StatusMethodNotAllowed, status(http.MethodGet, "/token"), what)
			require.Equal(t, http.StatusUnauthorized, status(http.MethodGet, "/sessions"), what)
			require.Equal(t, http.StatusUnauthorized,
				status(http.MethodDelete, "/sessions/q83vEjRWeJCrze8SNFZ4kA"), what)
			require.Equal(t, http.StatusUnauthorized,
				status(http.MethodPost, "/sessions/revoke-others"), what)
			for _, path := range []string{"/", "/token/x"} {
				require.Equal(t, http.StatusNotFound, status(http.MethodGet, path), what+path)
			}
		}
	}
}

func TestMount_putsOnlyWhatIsConfigured(t *testing.T) {
	exists := func(s *site, path string) bool {
		return s.do(httptest.NewRequest(http.MethodGet, path, nil)).StatusCode != http.StatusNotFound
	}
	plain := newSite(t, sessionhttp.Config{Prefix: "/x"})
	full := newSite(t, sessionhttp.Config{Prefix: "/x", Cookies: true, MayIntrospect: func(*http.Request) bool { return true }})
	for path, always := range map[string]bool{
		"/x/token": true, "/x/revoke": true, "/x/jwks.json": true, "/x/introspect": false, "/x/logout": false, "/x/session": false, "/x/session.js": false,
		"/x/session.d.ts": false,
	} {
		require.Equal(t, always, exists(plain, path), path)
		require.True(t, exists(full, path), path)
	}
	require.False(t, exists(full, "/auth/token"))
}

// What a single-page application has beside the endpoints: a pattern for whatever else is asked
// for.
func TestMount_goesWithTheHostsOtherPatterns(t *testing.T) {
	cfg := sessionhttp.Config{Cookies: true, MayIntrospect: func(*http.Request) bool { return true }}
	allowed := map[string]string{"token": "POST", "revoke": "POST", "introspect": "POST", "logout": "POST", "jwks.json": "GET, HEAD", "session": "GET, HEAD", "session.js": "GET, HEAD"}
	for _, pattern := range []string{"", "/", "GET /", "POST /", "OPTIONS /", "GET /{path...}", "GET /{folder}/{file}", "/auth/", "GET /auth/"} {
		t.Run(pattern, func(t *testing.T) {
			s := newSite(t, cfg)
			s.mux = http.NewServeMux()
			if pattern != "" {
				s.mux.HandleFunc(pattern, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusTeapot) })
			}
			s.h.Mount(s.mux)
			require.Equal(t, http.StatusOK, s.refresh(s.start().RefreshToken).StatusCode)
			for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"} {
				for path, allow := range allowed {
					answer := s.do(httptest.NewRequest(method, "/auth/"+path, nil))
					if slices.Contains(strings.Split(allow, ", "), method) {
						require.NotContains(t, []int{404, 405, http.StatusTeapot}, answer.StatusCode, "%s %s", method, path)
						continue
					}
					require.Equal(t, allow, answer.Header.Get("Allow"), "%s %s", method, path)
					require.Equal(t, http.StatusMethodNotAllowed, answer.StatusCode)
					require.JSONEq(t, `{"error":"invalid_request"}`, bodyOf(t, answer))
				}
			}
		})
	}
}

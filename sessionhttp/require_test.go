package sessionhttp_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// whoami is a resource that says who it let in.
var whoami = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	access, ok := sessionhttp.FromContext(r.Context())
	if !ok {
		panic("no access in the context")
	}
	_, _ = w.Write([]byte(access.Subject + " " + access.SessionID))
})

func (s *site) protect(opts ...sessionhttp.RequireOption) {
	s.mux.Handle("/api", s.h.Require(opts...)(whoami))
}

func (s *site) call(edit ...func(*http.Request)) *http.Response {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/api", nil)
	for _, e := range edit {
		e(r)
	}
	return s.do(r)
}

func TestRequire_letsInWithOneToken(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	s.protect()
	tokens := s.start()
	for name, edit := range map[string]func(*http.Request){
		"header":             bearer(tokens.AccessToken),
		"scheme in any case": header("Authorization", "bEaReR "+tokens.AccessToken),
		"spaces":             header("Authorization", "Bearer   "+tokens.AccessToken),
		"cookie":             header("Cookie", "a=b; __Host-access="+tokens.AccessToken+"; c=d"),
		"cookie beside a password": func(r *http.Request) {
			r.SetBasicAuth("staging", "x")
			header("Cookie", "__Host-access="+tokens.AccessToken)(r)
		},
		"cookie from another site's GET": func(r *http.Request) {
			header("Cookie", "__Host-access="+tokens.AccessToken)(r)
			header("Sec-Fetch-Site", "cross-site")(r)
		},
		"header from another site": func(r *http.Request) {
			bearer(tokens.AccessToken)(r)
			header("Sec-Fetch-Site", "cross-site")(r)
			r.Method = http.MethodPost
		},
		"cookie and a WebSocket of one's own": func(r *http.Request) {
			webSocket(tokens.AccessToken, "http://example.com")(r)
			header("Sec-Fetch-Site", "same-origin")(r)
		},
		"cookie and a WebSocket of one's own in an old browser": webSocket(tokens.AccessToken, "http://example.com"),
		"cookie and a WebSocket of a program":                   webSocket(tokens.AccessToken, ""),
		"header and a WebSocket of another site": func(r *http.Request) {
			bearer(tokens.AccessToken)(r)
			webSocket("", "https://evil.example")(r)
		},
		"header, and another token in the URL": func(r *http.Request) { bearer(tokens.AccessToken)(r); r.URL.RawQuery = "access_token=x" },
		"cookie beside one that looks like it": header("Cookie", "\u00a0__Host-access=x; __Host-access="+tokens.AccessToken),
		"cookie and a POST of one's own": func(r *http.Request) {
			header("Cookie", "__Host-access="+tokens.AccessToken)(r)
			header("Sec-Fetch-Site", "same-origin")(r)
			r.Method = http.MethodPost
		},
	} {
		t.Run(name, func(t *testing.T) {
			answer := s.call(edit)
			require.Equal(t, http.StatusOK, answer.StatusCode)
			require.Equal(t, "alice "+tokens.Session.ID, bodyOf(t, answer))
		})
	}
}

// webSocket returns an edit that makes a request open a WebSocket, with a cookie and an origin if
// they are given.
func webSocket(cookie, origin string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
		if cookie != "" {
			r.Header.Set("Cookie", "__Host-access="+cookie)
		}
		if origin != "" {
			r.Header.Set("Origin", origin)
		}
	}
}

func TestRequire_refuses(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	s.protect()
	gone, expired := s.start(), s.start()
	s.clock.Advance(time.Hour)
	tokens := s.start()
	require.NoError(t, s.m.Revoke(ctx, gone.Session.ID))
	cookie := func(token string) func(*http.Request) { return header("Cookie", "__Host-access="+token) }
	const bare, bad, wrong = "Bearer", `Bearer error="invalid_token"`, `Bearer error="invalid_request"`
	for name, c := range map[string]struct {
		edits     []func(*http.Request)
		status    int
		challenge string
	}{
		"nothing":            {nil, 401, bare},
		"token in the URL":   {[]func(*http.Request){func(r *http.Request) { r.URL.RawQuery = "access_token=" + tokens.AccessToken }}, 401, bare},
		"a password":         {[]func(*http.Request){func(r *http.Request) { r.SetBasicAuth("a", "b") }}, 401, bare},
		"scheme alone":       {[]func(*http.Request){header("Authorization", "Bearer")}, 401, bare},
		"scheme and a space": {[]func(*http.Request){header("Authorization", "Bearer ")}, 401, bad},
		"refresh token":      {[]func(*http.Request){bearer(tokens.RefreshToken)}, 401, bad},
		"garbage":            {[]func(*http.Request){bearer("\xff\"><script>")}, 401, bad},
		"expired":            {[]func(*http.Request){bearer(expired.AccessToken)}, 401, bad},
		"revoked":            {[]func(*http.Request){bearer(gone.AccessToken)}, 401, bad},
		"trailing space":     {[]func(*http.Request){bearer(tokens.AccessToken + " ")}, 401, bad},
		"token in a form": {[]func(*http.Request){func(r *http.Request) {
			form := httptest.NewRequest(http.MethodPost, "/api", strings.NewReader("access_token="+tokens.AccessToken))
			form.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			*r = *form
		}}, 401, bare},
		"a password, and a token":           {[]func(*http.Request){func(r *http.Request) { r.SetBasicAuth("a", "b") }, bearer(tokens.AccessToken)}, 400, wrong},
		"a token, and a password":           {[]func(*http.Request){bearer(tokens.AccessToken), header("Authorization", "Basic YTpi")}, 400, wrong},
		"two headers":                       {[]func(*http.Request){bearer(tokens.AccessToken), bearer(tokens.AccessToken)}, 400, wrong},
		"header and cookie":                 {[]func(*http.Request){bearer(tokens.AccessToken), cookie(tokens.AccessToken)}, 400, wrong},
		"two cookies":                       {[]func(*http.Request){cookie(tokens.AccessToken + "; __Host-access=x")}, 400, wrong},
		"two cookies in two lines":          {[]func(*http.Request){cookie(tokens.AccessToken), cookie(tokens.AccessToken)}, 400, wrong},
		"a name a browser lets anybody set": {[]func(*http.Request){cookie(""), header("Cookie", "\u2000__Host-access="+tokens.AccessToken)}, 401, bare},
		"bad cookie":                        {[]func(*http.Request){cookie("x")}, 401, bad},
		"cookie, another site POST":         {[]func(*http.Request){cookie(tokens.AccessToken), header("Sec-Fetch-Site", "cross-site"), func(r *http.Request) { r.Method = http.MethodPost }}, 403, ""},
		"cookie, sibling's WebSocket":       {[]func(*http.Request){webSocket(tokens.AccessToken, "https://evil.example.com"), header("Sec-Fetch-Site", "same-site")}, 403, ""},
		"cookie, WebSocket of another port": {[]func(*http.Request){webSocket(tokens.AccessToken, "http://example.com:8080")}, 403, ""},
		"cookie, sibling's DELETE":          {[]func(*http.Request){cookie(tokens.AccessToken), header("Sec-Fetch-Site", "same-site"), func(r *http.Request) { r.Method = http.MethodDelete }}, 403, ""},
	} {
		t.Run(name, func(t *testing.T) {
			answer := s.call(c.edits...)
			require.Equal(t, c.status, answer.StatusCode)
			require.Equal(t, c.challenge, answer.Header.Get("WWW-Authenticate"))
			require.Equal(t, "application/json", answer.Header.Get("Content-Type"))
			require.Empty(t, answer.Header["Set-Cookie"])
			require.NotContains(t, bodyOf(t, answer), "alice")
		})
	}
}

func TestRequire_withoutCookiesLooksAtNone(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	s.protect()
	tokens := s.start()
	answer := s.call(header("Cookie", "__Host-access="+tokens.AccessToken+"; access="+tokens.AccessToken+"; ="+tokens.AccessToken))
	require.Equal(t, http.StatusUnauthorized, answer.StatusCode)
	require.Equal(t, http.StatusOK, s.call(bearer(tokens.AccessToken), header("Cookie", "__Host-access=x")).StatusCode)
}

func TestRequire_scope(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	s.protect(sessionhttp.Scope("read", "write"))
	for scope, status := range map[string]int{"": 403, "read": 403, "write read": 200, "read write delete": 200, "readwrite": 403, "reads writes": 403} {
		s.grant.Scope = scope
		answer := s.call(bearer(s.start().AccessToken))
		require.Equal(t, status, answer.StatusCode, scope)
		if status == 403 {
			require.Equal(t, `Bearer error="insufficient_scope", scope="read write"`, answer.Header.Get("WWW-Authenticate"))
			requireError(t, answer, 403, "insufficient_scope")
			require.Equal(t, 403, sessionhttp.Status(s.causes[len(s.causes)-1]))
		}
	}
}

func TestRequire_statusOfWhatTheHostIsToldIsTheAnswers(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	s.protect()
	for name, edit := range map[string]func(*http.Request){
		"no token": func(*http.Request) {}, "garbage": bearer("garbage"), "another scheme": header("Authorization", "Digest x"),
		"two headers": func(r *http.Request) { r.Header["Authorization"] = []string{"Bearer a", "Bearer b"} },
	} {
		told := len(s.causes)
		answer := s.call(edit)
		require.Len(t, s.causes, told+1, name)
		require.Equal(t, answer.StatusCode, sessionhttp.Status(s.causes[told]), name)
	}
}

// The access token of a session that another instance has revoked a moment ago.
func TestRequire_liveReadsTheStore(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	s.mux.Handle("/api", s.h.Require()(whoami))
	s.mux.Handle("/password", s.h.Require(sessionhttp.Live())(whoami))
	tokens := s.start()
	other := s.other()
	live := func() *http.Response {
		r := httptest.NewRequest(http.MethodPost, "/password", nil)
		bearer(tokens.AccessToken)(r)
		return s.do(r)
	}
	require.Equal(t, http.StatusOK, live().StatusCode)
	s.store.Down()
	require.Equal(t, http.StatusOK, s.call(bearer(tokens.AccessToken)).StatusCode, "no I/O")
	answer := live()
	require.Equal(t, "1", answer.Header.Get("Retry-After"))
	requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
	s.store.Clear()
	require.NoError(t, other.Revoke(context.Background(), tokens.Session.ID))
	require.Equal(t, http.StatusOK, s.call(bearer(tokens.AccessToken)).StatusCode, "it has not heard of it")
	require.Equal(t, http.StatusUnauthorized, live().StatusCode)
}

func TestFromContext_withoutRequire(t *testing.T) {
	access, ok := sessionhttp.FromContext(context.Background())
	require.False(t, ok)
	require.Zero(t, access)
}

func TestRequire_keepsWhatElseIsInTheContext(t *testing.T) {
	type key struct{}
	s := newSite(t, sessionhttp.Config{})
	s.mux.Handle("/api", s.h.Require()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		require.Equal(t, "value", r.Context().Value(key{}))
	})))
	answer := s.call(bearer(s.start().AccessToken), func(r *http.Request) {
		*r = *r.WithContext(context.WithValue(r.Context(), key{}, "value"))
	})
	require.Equal(t, http.StatusOK, answer.StatusCode)
}

func TestSession_refusesWhoHasNone(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	tokens := s.start()
	get := func(edit ...func(*http.Request)) *http.Response {
		r := httptest.NewRequest(http.MethodGet, "/auth/session", nil)
		for _, e := range edit {
			e(r)
		}
		return s.do(r)
	}
	answer := get()
	require.Equal(t, "Bearer", answer.Header.Get("WWW-Authenticate"))
	requireError(t, answer, http.StatusUnauthorized, "invalid_token")
	requireError(t, get(bearer(tokens.AccessToken), func(r *http.Request) { r.Method = http.MethodPost }), http.StatusMethodNotAllowed, "invalid_request")
	require.Equal(t, http.StatusOK, get(bearer(tokens.AccessToken)).StatusCode)
	s.store.Down()
	requireError(t, get(bearer(tokens.AccessToken)), http.StatusServiceUnavailable, "temporarily_unavailable")
	s.store.Clear()
	other := s.other()
	require.NoError(t, other.Revoke(ctx, tokens.Session.ID))
	requireError(t, get(bearer(tokens.AccessToken)), http.StatusUnauthorized, "invalid_token")
}

func TestSession_thatNeverEndsSaysNoEnd(t *testing.T) {
	s := newSiteOf(t, sessionhttp.Config{Cookies: true}, tokensession.Config{MaxLifetime: tokensession.Unlimited})
	cookies := s.login()
	require.NotContains(t, jsonOf(t, s.post("/auth/token", nil, withCookies(cookies, refreshCookie))), "session_ends_in")
}

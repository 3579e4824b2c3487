package sessionhttp_test

import (
	"context"
	"errors"
	"fmt"
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

func TestRequire_keepsAnswersFromOtherUsersCaches(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	tokens := s.start()
	public := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Cache-Control", "public, max-age=60")
		w.Header().Del("Vary")
	})
	set := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Cache-Control", "no-store")
			w.Header().Set("Vary", "Accept-Encoding")
			next.ServeHTTP(w, r)
		})
	}
	guarded, optional := s.h.Require(), s.h.Require(sessionhttp.Optional())
	const both = "Cookie, Authorization"
	for name, c := range map[string]struct {
		handler http.Handler
		token   string
		control string
		vary    []string
	}{
		"by default":          {guarded(whoami), tokens.AccessToken, "private, no-cache", []string{both}},
		"two Requires":        {guarded(guarded(whoami)), tokens.AccessToken, "private, no-cache", []string{both}},
		"nobody":              {optional(http.NotFoundHandler()), "", "private, no-cache", []string{both}},
		"the handler's":       {guarded(public), tokens.AccessToken, "public, max-age=60", nil},
		"a middleware before": {set(guarded(whoami)), tokens.AccessToken, "no-store", []string{"Accept-Encoding", both}},
		"a refusal":           {guarded(whoami), "garbage", "no-store", nil},
	} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, "/", nil)
			if c.token != "" {
				bearer(c.token)(r)
			}
			w := httptest.NewRecorder()
			c.handler.ServeHTTP(w, r)
			require.Equal(t, c.control, w.Header().Get("Cache-Control"))
			require.Equal(t, c.vary, w.Header()["Vary"])
		})
	}
}

// Alice's page makes a request. When it is sent, bob has logged in.
func TestRequire_refusesWhatWasMadeInAnotherSession(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	s.protect()
	s.mux.Handle("/optional", s.h.Require(sessionhttp.Optional())(anyone))
	alice, err := s.m.Start(ctx, "alice")
	require.NoError(t, err)
	bob, err := s.m.Start(ctx, "bob")
	require.NoError(t, err)
	named := func(tokens tokensession.Tokens) func(*http.Request) {
		return header("Tokensession-Session", tokens.Session.ID)
	}
	cookie := func(tokens tokensession.Tokens) func(*http.Request) {
		return header("Cookie", "__Host-access="+tokens.AccessToken)
	}
	requireChanged := func(answer *http.Response) {
		t.Helper()
		require.Equal(t, `Bearer error="session_changed"`, answer.Header.Get("WWW-Authenticate"))
		requireError(t, answer, http.StatusUnauthorized, "session_changed")
		require.Equal(t, http.StatusUnauthorized, sessionhttp.Status(s.causes[len(s.causes)-1]))
	}
	require.Equal(t, http.StatusOK, s.call(cookie(alice), named(alice)).StatusCode)
	requireChanged(s.call(cookie(bob), named(alice)))
	requireChanged(s.call(bearer(bob.AccessToken), named(alice)))
	requireChanged(s.call(cookie(bob), named(bob), named(alice)))
	requireChanged(s.call(cookie(bob), header("Tokensession-Session", "")))
	onOptional := func(r *http.Request) { r.URL.Path = "/optional" }
	requireChanged(s.call(cookie(bob), named(alice), onOptional))
	require.Equal(t, http.StatusUnauthorized, s.call(named(alice), onOptional).StatusCode, "logged out meanwhile")
	s.clock.Advance(time.Hour)
	answer := s.call(cookie(alice), named(alice))
	require.Equal(t, `Bearer error="invalid_token"`, answer.Header.Get("WWW-Authenticate"), "a refresh helps")
}

// anyone is a resource that says who is logged in, or that nobody is.
var anyone = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	access, ok := sessionhttp.FromContext(r.Context())
	if !ok {
		access.Subject = "nobody"
	}
	_, _ = w.Write([]byte(access.Subject))
})

func TestRequire_optional(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	s.mux.Handle("/api", s.h.Require(sessionhttp.Optional(), sessionhttp.Scope("read"))(anyone))
	s.grant.Scope = "read"
	good, over, old := s.start(), s.start(), s.start()
	require.NoError(t, s.m.Revoke(ctx, over.Session.ID))
	s.grant.Scope = ""
	weak := s.start()
	cookie := func(token string) func(*http.Request) { return header("Cookie", "__Host-access="+token) }
	for name, c := range map[string]struct {
		edit   func(*http.Request)
		status int
		who    string
	}{
		"nothing":                 {func(*http.Request) {}, 200, "nobody"},
		"somebody":                {bearer(good.AccessToken), 200, "alice"},
		"somebody, in a cookie":   {cookie(good.AccessToken), 200, "alice"},
		"a session that is over":  {cookie(over.AccessToken), 200, "nobody"},
		"a token that is no good": {cookie("garbage"), 401, ""},
		"a scope that is missing": {cookie(weak.AccessToken), 403, ""},
		"two tokens": {func(r *http.Request) {
			cookie(good.AccessToken)(r)
			bearer(good.AccessToken)(r)
		}, 400, ""},
		"another site's POST": {func(r *http.Request) {
			cookie(good.AccessToken)(r)
			header("Sec-Fetch-Site", "cross-site")(r)
			r.Method = http.MethodPost
		}, 403, ""},
	} {
		answer := s.call(c.edit)
		require.Equal(t, c.status, answer.StatusCode, name)
		if c.status == http.StatusOK {
			require.Equal(t, c.who, bodyOf(t, answer), name)
		}
	}
	told := len(s.causes)
	s.call()
	require.Len(t, s.causes, told, "an anonymous visitor is no error")
	s.clock.Advance(time.Hour)
	require.Equal(t, http.StatusUnauthorized, s.call(cookie(old.AccessToken)).StatusCode, "the client has to refresh")
}

func TestAccess_isForHandlersWithoutRequire(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	s.mux.HandleFunc("/api", func(w http.ResponseWriter, r *http.Request) {
		access, err := s.h.Access(r)
		if err != nil {
			s.h.Refuse(w, r, err)
			return
		}
		_, _ = w.Write([]byte(access.Subject))
	})
	require.Equal(t, "alice", bodyOf(t, s.call(bearer(s.start().AccessToken))))
	answer := s.call()
	require.Equal(t, "Bearer", answer.Header.Get("WWW-Authenticate"))
	requireError(t, answer, http.StatusUnauthorized, "invalid_token")
	answer = s.call(header("Cookie", "__Host-access="+s.start().AccessToken), header("Tokensession-Session", "x"))
	requireError(t, answer, http.StatusUnauthorized, "session_changed")

	inTest := sessionhttp.NewContext(ctx, tokensession.Access{Subject: "bob"})
	access, err := s.h.Access(httptest.NewRequestWithContext(inTest, http.MethodGet, "/", nil))
	require.NoError(t, err)
	require.Equal(t, "bob", access.Subject)
}

func TestRefuse_saysWhatKindOfErrorItIs(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	for _, c := range []struct {
		err     error
		status  int
		code    string
		headers map[string]string
	}{
		{tokensession.ErrUnavailable, 503, "temporarily_unavailable", map[string]string{"Retry-After": "1"}},
		{tokensession.ErrRevoked, 401, "invalid_token", map[string]string{"WWW-Authenticate": `Bearer error="invalid_token"`}},
		{tokensession.ErrDenied, 403, "access_denied", nil},
		{tokensession.ErrNotFound, 404, "not_found", nil},
		{sessionhttp.ErrCrossOrigin, 403, "access_denied", nil},
		{sessionhttp.ErrBadRequest, 400, "invalid_request", nil},
		{errors.New("secret"), 500, "server_error", nil},
	} {
		w := httptest.NewRecorder()
		s.h.Refuse(w, httptest.NewRequest(http.MethodGet, "/", nil), fmt.Errorf("secret: %w", c.err))
		for name, value := range c.headers {
			require.Equal(t, value, w.Header().Get(name), c.err)
		}
		requireError(t, w.Result(), c.status, c.code)
		require.Equal(t, c.status, sessionhttp.Status(c.err))
		require.ErrorIs(t, s.causes[len(s.causes)-1], c.err, "the host is told")
	}
}

// The host redirects pages to its login, and the headers of the refusal are there.
func TestConfigRefuse_isTheHostsForm(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true, Refuse: func(w http.ResponseWriter, r *http.Request, err error) {
		if sessionhttp.Status(err) != http.StatusUnauthorized {
			http.Error(w, "later", sessionhttp.Status(err))
			return
		}
		http.Redirect(w, r, "/login", http.StatusSeeOther)
	}})
	s.protect(sessionhttp.Live())
	answer := s.call()
	require.Equal(t, http.StatusSeeOther, answer.StatusCode)
	require.Equal(t, "/login", answer.Header.Get("Location"))
	require.Equal(t, "Bearer", answer.Header.Get("WWW-Authenticate"))
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	require.ErrorContains(t, s.causes[0], "no access token")

	tokens := s.start()
	s.store.Down()
	answer = s.call(bearer(tokens.AccessToken))
	require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	require.Equal(t, "1", answer.Header.Get("Retry-After"))
	require.Equal(t, "later\n", bodyOf(t, answer))
	s.store.Clear()

	// What clients of the endpoints get is not the host's.
	r := httptest.NewRequest(http.MethodGet, "/auth/session", nil)
	header("Cookie", "__Host-access=garbage")(r)
	requireError(t, s.do(r), http.StatusUnauthorized, "invalid_token")
}

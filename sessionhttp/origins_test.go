package sessionhttp_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// The single-page application of these tests, and the headers of its scripts' requests.
const app = "https://app.shop.example"

func fromApp(r *http.Request) {
	r.Host = "api.shop.example"
	r.Header.Set("Origin", app)
	r.Header.Set("Sec-Fetch-Site", "same-site")
}

func fromEvil(r *http.Request) {
	fromApp(r)
	r.Header.Set("Origin", "https://blog.shop.example")
}

// requireReadable requires that a script of the application may read an answer, and the headers
// that the module needs.
func requireReadable(t *testing.T, answer *http.Response) {
	t.Helper()
	require.Equal(t, []string{app}, answer.Header["Access-Control-Allow-Origin"])
	require.Equal(t, []string{"true"}, answer.Header["Access-Control-Allow-Credentials"])
	require.Equal(t, []string{"Tokensession-Session, WWW-Authenticate, Retry-After"},
		answer.Header["Access-Control-Expose-Headers"])
	requireVaries(t, answer)
}

// requireUnreadable requires that no script of another origin may read an answer.
func requireUnreadable(t *testing.T, answer *http.Response) {
	t.Helper()
	for name := range answer.Header {
		require.NotContains(t, name, "Access-Control")
	}
	requireVaries(t, answer)
}

func requireVaries(t *testing.T, answer *http.Response) {
	t.Helper()
	n := 0
	for _, line := range answer.Header["Vary"] {
		if line == "Origin" {
			n++
		}
	}
	require.Equal(t, 1, n, "%v", answer.Header["Vary"])
}

func newCrossSite(t *testing.T, origins ...string) *site {
	t.Helper()
	return newSite(t, sessionhttp.Config{Cookies: true, Devices: true, Origins: origins})
}

func TestNew_refusesOriginsThatNoBrowserSends(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	check := func(origins ...string) error {
		_, err := sessionhttp.New(s.m, sessionhttp.Config{Cookies: true, Origins: origins})
		return err
	}
	for _, origin := range []string{
		app, "https://app.shop.example:8443", "http://localhost:5173", "http://127.0.0.1:5173",
		"http://[::1]:5173", "http://app.localhost", "https://xn--bcher-kva.example",
	} {
		require.NoError(t, check("https://other.example", origin), origin)
	}
	for origin, why := range map[string]string{
		"https://app.example/":           "path",
		"https://app.example/app":        "path",
		"https://app.example?a":          "path",
		"https://app.example#a":          "path",
		`https://app.example\`:           "path",
		"https://*.example":              "wildcard",
		"*":                              "wildcard",
		"https://App.example":            "lower case",
		"HTTPS://app.example":            "lower case",
		"http://app.example":             "https",
		"http://localhost.example":       "https",
		"http://10.0.0.1":                "https",
		"ftp://app.example":              "https",
		"capacitor://localhost":          "https",
		"https://app.example:443":        "port",
		"http://localhost:80":            "port",
		"https://app.example:":           "port",
		"https://app.example:08443":      "port",
		"":                               "no origin",
		"app.example":                    "no origin",
		"//app.example":                  "no origin",
		"https://":                       "no origin",
		"https:app.example":              "no origin",
		"https://:8443":                  "host",
		"https://alice@app.example":      "host",
		"https://b\u00fccher.example":    "host",
		"https://app.example ":           "no origin",
		"https://a.example,https://b.ex": "path",
		"null":                           "any page",
	} {
		err := check("https://other.example", origin)
		require.ErrorContains(t, err, "Config.Origins", origin)
		require.ErrorContains(t, err, why, origin)
	}
	require.ErrorContains(t, check(app, "https://other.example", app), "twice")

	_, err := sessionhttp.New(s.m, sessionhttp.Config{Origins: []string{app}})
	require.ErrorContains(t, err, "Config.Origins is set, and Cookies is not")
	_, err = sessionhttp.NewRemote("https://auth.example/auth", sessionhttp.RemoteConfig{
		Access:  tokensession.AccessConfig{Issuer: "https://auth.example", Audience: []string{"a"}},
		Cookies: true, Origins: []string{app + "/"},
	})
	require.ErrorContains(t, err, "Config.Origins")
}

// The list is the host's, and can change after New.
func TestNew_copiesTheOrigins(t *testing.T) {
	origins := []string{app}
	s := newCrossSite(t, origins...)
	origins[0] = "https://evil.example"
	r := httptest.NewRequest(http.MethodGet, "/auth/session", nil)
	requireReadable(t, s.do(edited(r, fromApp)))
}

func edited(r *http.Request, edit ...func(*http.Request)) *http.Request {
	for _, e := range edit {
		e(r)
	}
	return r
}

var endpoints = []string{
	"/token", "/revoke", "/jwks.json", "/sessions", "/sessions/a", "/sessions/revoke-others",
	"/logout", "/session", "/session.js", "/session.d.ts", "/resume",
}

func TestOrigins_endpointsAnswerPreflights(t *testing.T) {
	s := newCrossSite(t, "https://other.example", app)
	for _, endpoint := range endpoints {
		preflight := func(edit ...func(*http.Request)) *http.Response {
			r := httptest.NewRequest(http.MethodOptions, "/auth"+endpoint, nil)
			r.Header.Set("Access-Control-Request-Method", "DELETE")
			r.Header.Set("Access-Control-Request-Headers", "content-type,tokensession-session")
			return s.do(edited(r, edit...))
		}
		answer := preflight(fromApp)
		require.Equal(t, http.StatusNoContent, answer.StatusCode, endpoint)
		require.Empty(t, bodyOf(t, answer))
		require.Equal(t, []string{app}, answer.Header["Access-Control-Allow-Origin"])
		require.Equal(t, []string{"true"}, answer.Header["Access-Control-Allow-Credentials"])
		require.Equal(t, []string{"DELETE"}, answer.Header["Access-Control-Allow-Methods"])
		require.Equal(t, []string{"content-type,tokensession-session"},
			answer.Header["Access-Control-Allow-Headers"])
		require.Equal(t, []string{"7200"}, answer.Header["Access-Control-Max-Age"])
		require.Empty(t, answer.Header["Set-Cookie"])
		requireVaries(t, answer)

		for name, edit := range map[string]func(*http.Request){
			"another origin":  fromEvil,
			"none":            func(r *http.Request) { r.Header.Del("Origin") },
			"two":             func(r *http.Request) { fromApp(r); r.Header.Add("Origin", app) },
			"one that begins": func(r *http.Request) { r.Header.Set("Origin", app+".evil.example") },
			"in upper case":   func(r *http.Request) { r.Header.Set("Origin", strings.ToUpper(app)) },
			"null":            func(r *http.Request) { r.Header.Set("Origin", "null") },
		} {
			answer := preflight(edit)
			require.NotEqual(t, http.StatusNoContent, answer.StatusCode, "%s: %s", endpoint, name)
			requireUnreadable(t, answer)
		}
	}
}

// What no browser sends is not repeated.
func TestOrigins_preflightsRepeatOnlyNames(t *testing.T) {
	s := newCrossSite(t, app)
	r := httptest.NewRequest(http.MethodOptions, "/auth/token", nil)
	r.Header.Set("Access-Control-Request-Method", "GET\"<script>")
	r.Header.Set("Access-Control-Request-Headers", "*")
	answer := s.do(edited(r, fromApp))
	require.Equal(t, http.StatusNoContent, answer.StatusCode)
	require.Empty(t, answer.Header["Access-Control-Allow-Methods"])
	require.Empty(t, answer.Header["Access-Control-Allow-Headers"])
}

// Without Config.Origins, nothing tells of it.
func TestOrigins_noneIsAsBefore(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true, Devices: true})
	for _, endpoint := range endpoints {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodOptions} {
			r := httptest.NewRequest(method, "/auth"+endpoint, nil)
			r.Header.Set("Access-Control-Request-Method", "GET")
			answer := s.do(edited(r, fromApp))
			require.NotContains(t, answer.Header["Vary"], "Origin")
			require.NotContains(t, answer.Header, "Access-Control-Allow-Origin")
		}
	}
}

func TestOrigins_answersAreReadable(t *testing.T) {
	s := newCrossSite(t, app)
	for _, endpoint := range endpoints {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodDelete} {
			path := "/auth" + endpoint
			requireReadable(t, s.do(edited(httptest.NewRequest(method, path, nil), fromApp)))
			requireUnreadable(t, s.do(edited(httptest.NewRequest(method, path, nil), fromEvil)))
			requireUnreadable(t, s.do(httptest.NewRequest(method, path, nil)))
		}
	}
}

// What could change something is let in from these origins, and from no other one.
func TestOrigins_mayChangeWhatTheUserMay(t *testing.T) {
	s := newCrossSite(t, app)
	s.protect()
	s.mux.HandleFunc("/host/login", func(w http.ResponseWriter, r *http.Request) {
		if _, err := s.h.Login(w, r, "alice"); err != nil {
			s.h.Refuse(w, r, err)
		}
	})
	s.mux.HandleFunc("/auth/step-up", func(w http.ResponseWriter, r *http.Request) {
		if err := s.h.Reauthenticated(w, r); err != nil {
			s.h.Refuse(w, r, err)
		}
	})
	for _, what := range []struct{ method, path string }{
		{http.MethodPost, "/auth/token"},
		{http.MethodPost, "/api"},
		{http.MethodDelete, "/api"},
		{http.MethodPost, "/auth/step-up"},
		{http.MethodPost, "/auth/sessions/revoke-others"},
		{http.MethodPost, "/host/login"},
		{http.MethodPost, "/auth/logout"},
	} {
		cookies := hasTokens(s.start())
		request := func(edit func(*http.Request)) *http.Response {
			return s.do(edited(httptest.NewRequest(what.method, what.path, nil), cookies, edit))
		}
		require.Equal(t, http.StatusForbidden, request(fromEvil).StatusCode, what)
		require.ErrorContains(t, s.lastCause(), `"https://blog.shop.example" is none of Config.Origins`)
		require.Equal(t, http.StatusOK, request(fromApp).StatusCode, what)
	}
	require.Equal(t, http.StatusOK, s.call(webSocket(s.start().AccessToken, app)).StatusCode)
	require.Equal(t, http.StatusForbidden,
		s.call(webSocket(s.start().AccessToken, "https://blog.shop.example")).StatusCode)
}

func hasTokens(tokens tokensession.Tokens) func(*http.Request) {
	return header("Cookie",
		"__Host-access="+tokens.AccessToken+"; __Secure-refresh="+tokens.RefreshToken)
}

// Behind Require, preflights need no token, and what it refuses can be read, too.
func TestOrigins_requireAnswers(t *testing.T) {
	for name, opts := range map[string][]sessionhttp.RequireOption{
		"plain": nil, "pages": {sessionhttp.Resume(), sessionhttp.Optional()},
	} {
		s := newCrossSite(t, app)
		reached := 0
		s.mux.Handle("/api", s.h.Require(opts...)(http.HandlerFunc(
			func(w http.ResponseWriter, r *http.Request) { reached++ })))
		r := httptest.NewRequest(http.MethodOptions, "/api", nil)
		r.Header.Set("Access-Control-Request-Method", "PUT")
		require.Equal(t, http.StatusNoContent, s.do(edited(r, fromApp)).StatusCode, name)
		require.Zero(t, reached)

		tokens := s.start()
		requireReadable(t, s.call(hasTokens(tokens), fromApp))
		require.Equal(t, 1, reached)
		answer := s.call(hasTokens(tokens), fromEvil) // a GET comes through, but cannot be read
		requireUnreadable(t, answer)
		require.Contains(t, answer.Header["Vary"], "Cookie, Authorization")

		s.clock.Advance(15 * time.Minute)
		requireReadable(t, s.call(hasTokens(tokens), fromApp)) // 401, or on the way to resume
	}
}

// The wrapper is for what is neither an endpoint nor behind Require, and goes around those, too.
func TestCORS_isForTheHostsOtherRoutes(t *testing.T) {
	s := newCrossSite(t, app)
	s.mux.Handle("GET /api", s.h.Require()(whoami))
	s.mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") != "application/json" {
			panic("the preflight has come through")
		}
		if _, err := s.h.Login(w, r, "alice"); err != nil {
			s.h.Refuse(w, r, err)
		}
	})
	server := s.h.CORS(s.mux)
	do := func(method, path string, edit ...func(*http.Request)) *http.Response {
		w := httptest.NewRecorder()
		server.ServeHTTP(w, edited(httptest.NewRequest(method, path, nil), edit...))
		return w.Result()
	}
	preflight := header("Access-Control-Request-Method", "POST")
	isJSON := header("Content-Type", "application/json")
	for _, path := range []string{"/login", "/api", "/auth/token", "/nowhere"} {
		require.Equal(t, http.StatusNoContent,
			do(http.MethodOptions, path, fromApp, preflight).StatusCode, path)
		require.NotEqual(t, http.StatusNoContent,
			do(http.MethodOptions, path, fromEvil, preflight).StatusCode, path)
		// OPTIONS without the header is no preflight.
		requireReadable(t, do(http.MethodOptions, path, fromApp))
	}
	answer := do(http.MethodPost, "/login", fromApp, isJSON)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Len(t, answer.Cookies(), 2)
	requireReadable(t, answer)
	answer = do(http.MethodPost, "/login", fromEvil, isJSON)
	require.Equal(t, http.StatusForbidden, answer.StatusCode)
	requireUnreadable(t, answer)
	requireReadable(t, do(http.MethodGet, "/api", fromApp)) // 401
	requireReadable(t, do(http.MethodGet, "/auth/session.js", fromApp))
}

// A page of another origin without a cookie may be one whose browser keeps the cookies to itself.
// That is no verdict, before a cookie has shown that they come.
func TestOrigins_noCookieIsNoVerdict(t *testing.T) {
	for _, endpoint := range []string{"/auth/token", "/auth/logout"} {
		s := newCrossSite(t, app)
		first := s.post(endpoint, nil, fromApp)
		cookies := first.Cookies()
		requireError(t, first, http.StatusBadRequest, "cookies_missing")
		require.ErrorContains(t, s.lastCause(), "from pages of https://app.shop.example")
		require.Len(t, cookies, 1)
		require.Equal(t, "__Secure-probe", cookies[0].Name)
		require.Equal(t, "/auth", cookies[0].Path)
		require.Equal(t, 60, cookies[0].MaxAge)
		require.Equal(t, http.SameSiteStrictMode, cookies[0].SameSite)
		require.True(t, cookies[0].Secure && cookies[0].HttpOnly)

		requireError(t, s.post(endpoint, nil, fromApp), http.StatusBadRequest, "cookies_missing")
		second := s.post(endpoint, nil, fromApp, header("Cookie", "__Secure-probe=1"))
		if endpoint == "/auth/token" {
			requireError(t, second, http.StatusBadRequest, "invalid_grant")
		} else {
			require.Equal(t, http.StatusOK, second.StatusCode)
		}
	}
}

// The same goes for origins that the host trusts by other means, with CORS of its own.
func TestCrossOrigin_noCookieIsNoVerdict(t *testing.T) {
	trust := http.NewCrossOriginProtection()
	require.NoError(t, trust.AddTrustedOrigin(app))
	s := newSite(t, sessionhttp.Config{Cookies: true, CrossOrigin: trust})
	old := func(r *http.Request) { fromApp(r); r.Header.Del("Sec-Fetch-Site") }
	for _, edit := range []func(*http.Request){fromApp, old} {
		for _, endpoint := range []string{"/auth/token", "/auth/logout"} {
			requireError(t, s.post(endpoint, nil, edit), http.StatusBadRequest, "cookies_missing")
		}
		probe := header("Cookie", "__Secure-probe=1")
		requireError(t, s.post("/auth/token", nil, edit, probe), http.StatusBadRequest, "invalid_grant")
	}
}

// A browser that brings one of our cookies brings them all.
func TestOrigins_oneCookieShowsThatTheyCome(t *testing.T) {
	s := newCrossSite(t, app)
	tokens := s.start()
	for _, cookie := range []string{
		"__Host-access=" + tokens.AccessToken, "__Secure-refresh=" + tokens.RefreshToken,
		"__Host-access=garbage",
	} {
		answer := s.post("/auth/token", nil, fromApp, header("Cookie", cookie))
		requireError(t, answer, http.StatusBadRequest, "invalid_grant")
		require.Empty(t, answer.Cookies())
	}
	// Nor is there anything to show for pages of this origin.
	for name, edit := range map[string]func(*http.Request){
		"own": func(r *http.Request) { fromApp(r); r.Header.Set("Sec-Fetch-Site", "same-origin") },
		"old": func(r *http.Request) {
			fromApp(r)
			r.Header.Del("Sec-Fetch-Site")
			r.Host = "app.shop.example"
		},
		"plain": func(*http.Request) {},
	} {
		answer := s.post("/auth/token", nil, edit)
		require.Empty(t, answer.Cookies(), name)
		requireError(t, answer, http.StatusBadRequest, "invalid_grant")
	}
}

// Between two sites, no cookie will ever come. The page hears of it at once, and the host why.
func TestOrigins_tellOfAnotherSite(t *testing.T) {
	s := newCrossSite(t, "https://app.example")
	other := func(r *http.Request) {
		fromApp(r)
		r.Header.Set("Origin", "https://app.example")
		r.Header.Set("Sec-Fetch-Site", "cross-site")
	}
	answers := []*http.Response{
		s.post("/auth/token", nil, other), s.post("/auth/logout", nil, other),
		s.do(edited(httptest.NewRequest(http.MethodGet, "/auth/session", nil), other)),
	}
	for _, answer := range answers {
		require.Empty(t, answer.Cookies())
		requireError(t, answer, http.StatusBadRequest, "cookies_missing")
	}
	require.Len(t, s.causes, 3)
	for _, cause := range s.causes {
		require.ErrorContains(t, cause, "https://app.example is of another site than api.shop.example")
	}
	// A stranger learns nothing of it.
	answer := s.do(edited(httptest.NewRequest(http.MethodGet, "/auth/session", nil), fromEvil,
		func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "cross-site") }))
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.JSONEq(t, "null", bodyOf(t, answer))
}

// An anonymous visitor of a sibling origin asks once, and there is no error.
func TestOrigins_anonymousVisitorIsNoError(t *testing.T) {
	s := newCrossSite(t, app)
	answer := s.do(edited(httptest.NewRequest(http.MethodGet, "/auth/session", nil), fromApp))
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.JSONEq(t, "null", bodyOf(t, answer))
	require.Empty(t, s.causes)
}

// What Resume sends around stays readable on its way, and no other origin's form is resumed.
func TestOrigins_andResume(t *testing.T) {
	s := newCrossSite(t, app)
	s.protect(sessionhttp.Resume())
	tokens := s.start()
	s.clock.Advance(15 * time.Minute)
	answer := s.call(hasTokens(tokens), fromApp)
	require.Equal(t, http.StatusSeeOther, answer.StatusCode)
	requireReadable(t, answer)
	answer = s.do(edited(httptest.NewRequest(http.MethodGet, answer.Header.Get("Location"), nil),
		hasTokens(tokens), fromApp))
	require.Equal(t, http.StatusSeeOther, answer.StatusCode)
	requireReadable(t, answer)
	answer = s.call(hasTokens(tokens), fromApp, func(r *http.Request) { r.Method = http.MethodPost })
	require.Equal(t, http.StatusUnauthorized, answer.StatusCode) // the script refreshes
	requireReadable(t, answer)
}

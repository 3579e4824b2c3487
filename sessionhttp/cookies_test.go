package sessionhttp_test

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// login logs a browser in and returns its cookies by name.
func (s *site) login(opts ...tokensession.StartOption) map[string]*http.Cookie {
	s.t.Helper()
	w := httptest.NewRecorder()
	_, err := s.h.Login(w, httptest.NewRequest(http.MethodPost, "/login", nil), "alice", opts...)
	require.NoError(s.t, err)
	return cookiesOf(s.t, w.Result())
}

func cookiesOf(t testing.TB, r *http.Response) map[string]*http.Cookie {
	t.Helper()
	cookies := map[string]*http.Cookie{}
	for _, line := range r.Header["Set-Cookie"] {
		c, err := http.ParseSetCookie(line)
		require.NoError(t, err)
		require.NotContains(t, cookies, c.Name, "set twice")
		cookies[c.Name] = c
	}
	return cookies
}

func withCookies(cookies map[string]*http.Cookie, names ...string) func(*http.Request) {
	return func(r *http.Request) {
		for _, name := range names {
			r.AddCookie(&http.Cookie{Name: name, Value: cookies[name].Value})
		}
	}
}

// inCookies puts tokens where a browser has them.
func inCookies(tokens tokensession.Tokens) func(*http.Request) {
	return header("Cookie", accessCookie+"="+tokens.AccessToken+"; "+refreshCookie+"="+tokens.RefreshToken)
}

const accessCookie, refreshCookie = "__Host-access", "__Secure-refresh"

func TestCookies_haveTheirAttributesWhenSetAndWhenDeleted(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true, Prefix: "/api/auth"})
	cookies := s.login()
	require.Len(t, cookies, 2)
	refreshed := s.post("/api/auth/token", nil, withCookies(cookies, accessCookie, refreshCookie))
	require.Equal(t, http.StatusOK, refreshed.StatusCode)
	loggedOut := s.post("/api/auth/logout", nil, withCookies(cookies, accessCookie))
	require.Equal(t, http.StatusOK, loggedOut.StatusCode)
	ended := s.post("/api/auth/token", nil, withCookies(cookies, accessCookie, refreshCookie))
	requireError(t, ended, http.StatusBadRequest, "invalid_grant")
	for name, c := range map[string]struct {
		cookies map[string]*http.Cookie
		maxAge  int
	}{"login": {cookies, 7 * 24 * 3600}, "refresh": {cookiesOf(t, refreshed), 7 * 24 * 3600}, "logout": {cookiesOf(t, loggedOut), -1}, "verdict": {cookiesOf(t, ended), -1}} {
		require.Len(t, c.cookies, 2, name)
		for cookie, path := range map[string]string{accessCookie: "/", refreshCookie: "/api/auth"} {
			got := c.cookies[cookie]
			require.NotNil(t, got, name)
			require.Equal(t, c.maxAge < 0, got.Value == "", name)
			require.Equal(t, &http.Cookie{Name: cookie, Value: got.Value, Path: path, MaxAge: c.maxAge, Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode, Raw: got.Raw}, got, name)
		}
	}
}

func TestCookies_insecureOnesHaveNoPrefixAndNoSecure(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true, InsecureCookies: true})
	cookies := s.login()
	require.Len(t, cookies, 2)
	for _, name := range []string{"access", "refresh"} {
		require.False(t, cookies[name].Secure)
		require.True(t, cookies[name].HttpOnly)
		require.Equal(t, http.SameSiteStrictMode, cookies[name].SameSite)
	}
	require.Equal(t, http.StatusOK, s.post("/auth/token", nil, withCookies(cookies, "access", "refresh")).StatusCode)
}

// Two applications on one host, under two paths or on two ports, share the browser's jar.
func TestCookies_ofTwoApplicationsOnOneHost(t *testing.T) {
	for _, insecure := range []bool{false, true} {
		wiki := newSite(t, sessionhttp.Config{Cookies: true, InsecureCookies: insecure, CookieSuffix: "wiki"})
		shop := newSite(t, sessionhttp.Config{Cookies: true, InsecureCookies: insecure, CookieSuffix: strings.Repeat("shop", 8)})
		jar := wiki.login()
		all := []string{}
		for name, cookie := range shop.login() {
			require.NotContains(t, jar, name)
			jar[name] = cookie
		}
		for name := range jar {
			all = append(all, name)
		}
		require.Len(t, all, 4)
		for _, s := range []*site{wiki, shop} {
			s.protect()
			require.Equal(t, http.StatusOK, s.call(withCookies(jar, all...)).StatusCode)
			require.Len(t, cookiesOf(t, s.post("/auth/token", nil, withCookies(jar, all...))), 2)
		}
		gone := cookiesOf(t, wiki.post("/auth/logout", nil, withCookies(jar, all...)))
		require.Len(t, gone, 2)
		for name := range gone {
			require.True(t, strings.HasSuffix(name, "-wiki"), name)
		}
		require.Equal(t, http.StatusUnauthorized, wiki.call(withCookies(jar, all...)).StatusCode)
		require.Equal(t, http.StatusOK, shop.call(withCookies(jar, all...)).StatusCode)
	}
}

// ASVS 3.3.4.
func TestCookies_noTokenIsInABody(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	s.grant.Scope = "read"
	cookies := s.login()
	answer := s.post("/auth/token", nil, withCookies(cookies, accessCookie, refreshCookie))
	next := cookiesOf(t, answer)
	require.NotEqual(t, cookies[refreshCookie].Value, next[refreshCookie].Value)
	access, err := s.m.Verify(next[accessCookie].Value)
	require.NoError(t, err)
	info := map[string]any{
		"subject": "alice", "session_id": access.SessionID, "scope": "read",
		"expires_in": float64(900), "refresh_expires_in": float64(7 * 24 * 3600), "session_ends_in": float64(30 * 24 * 3600),
	}
	require.Equal(t, info, jsonOf(t, answer), "and nothing else")

	s.clock.Advance(time.Minute)
	request := httptest.NewRequest(http.MethodGet, "/auth/session", nil)
	withCookies(next, accessCookie)(request)
	answer = s.do(request)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	info["expires_in"], info["refresh_expires_in"], info["session_ends_in"] = float64(840), float64(7*24*3600-60), float64(30*24*3600-60)
	require.Equal(t, info, jsonOf(t, answer))
}

func TestCookies_stayInARaceAndInAnOutage(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	cookies := s.login()
	first := cookiesOf(t, s.post("/auth/token", nil, withCookies(cookies, accessCookie, refreshCookie)))
	second := cookiesOf(t, s.post("/auth/token", nil, withCookies(cookies, accessCookie, refreshCookie)))
	require.Equal(t, first[refreshCookie].Value, second[refreshCookie].Value)

	s.store.Down()
	for _, path := range []string{"/auth/token", "/auth/logout"} {
		answer := s.post(path, nil, withCookies(first, accessCookie, refreshCookie))
		require.Empty(t, answer.Header["Set-Cookie"])
		requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
	}
	s.store.Clear()
	s.requireLive(first[refreshCookie].Value)
}

// What is wrong with a request says nothing of the session.
func TestCookies_stayWhenTheRequestIsWrong(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	s.grant.Scope = "read"
	cookies := s.login()
	for code, form := range map[string]url.Values{
		"invalid_scope": {"scope": {"admin"}}, "unsupported_grant_type": {"grant_type": {"password"}}, "invalid_request": {"scope": {"read", "read"}},
	} {
		answer := s.post("/auth/token", form, withCookies(cookies, accessCookie, refreshCookie))
		require.Empty(t, answer.Header["Set-Cookie"])
		requireError(t, answer, http.StatusBadRequest, code)
	}
	s.requireLive(cookies[refreshCookie].Value)
}

// The browser has logged in again while a tab's refresh was under way: what comes of that must not
// undo the login.
func TestCookies_stayWhenALoginHasEndedTheSession(t *testing.T) {
	for name, end := range map[string]func(*site, map[string]*http.Cookie) error{
		"by a login that replaced it": func(s *site, old map[string]*http.Cookie) error {
			r := httptest.NewRequest(http.MethodPost, "/login", nil)
			withCookies(old, accessCookie)(r)
			_, err := s.h.Login(httptest.NewRecorder(), r, "alice")
			return err
		},
		"by a login that there was no room for": func(s *site, _ map[string]*http.Cookie) error {
			s.login() // as after an identity provider: the request has no cookies
			return nil
		},
		"with all of the user's, before a login": func(s *site, _ map[string]*http.Cookie) error {
			_, err := s.m.RevokeSubject(ctx, "alice")
			s.login()
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSiteOf(t, sessionhttp.Config{Cookies: true}, tokensession.Config{MaxSessions: 1})
			old := s.login()
			require.NoError(t, end(s, old))
			for range 2 {
				answer := s.post("/auth/token", nil, withCookies(old, accessCookie, refreshCookie))
				require.Empty(t, answer.Header["Set-Cookie"])
				requireError(t, answer, http.StatusBadRequest, "invalid_grant")
			}

			// They are in nobody's way.
			r := httptest.NewRequest(http.MethodPost, "/login", nil)
			withCookies(old, accessCookie)(r)
			_, err := s.h.Login(httptest.NewRecorder(), r, "alice")
			require.NoError(t, err)
			require.Len(t, cookiesOf(t, s.post("/auth/logout", nil, withCookies(old, accessCookie))), 2)
		})
	}
}

func TestCookies_areClearedWithEveryOtherVerdict(t *testing.T) {
	for name, end := range map[string]func(*site, map[string]*http.Cookie){
		"logout": func(s *site, old map[string]*http.Cookie) {
			require.Equal(t, http.StatusOK, s.post("/auth/logout", nil, withCookies(old, accessCookie)).StatusCode)
		},
		"reuse": func(s *site, old map[string]*http.Cookie) {
			s.post("/auth/token", nil, withCookies(old, accessCookie, refreshCookie))
			s.clock.Advance(time.Minute)
			require.Equal(t, http.StatusBadRequest, s.refresh(old[refreshCookie].Value).StatusCode)
		},
		"denial": func(s *site, old map[string]*http.Cookie) {
			_, err := denyingManager(t, s).Refresh(ctx, old[refreshCookie].Value)
			require.ErrorIs(t, err, tokensession.ErrDenied)
		},
		"by its id": func(s *site, old map[string]*http.Cookie) {
			access, err := s.m.Verify(old[accessCookie].Value)
			require.NoError(t, err)
			require.NoError(t, s.m.Revoke(ctx, access.SessionID))
		},
		"expiry": func(s *site, _ map[string]*http.Cookie) { s.clock.Advance(7 * 24 * time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, sessionhttp.Config{Cookies: true})
			old := s.login()
			end(s, old)
			answer := s.post("/auth/token", nil, withCookies(old, accessCookie, refreshCookie))
			for _, c := range cookiesOf(t, answer) {
				require.Negative(t, c.MaxAge)
			}
			require.Len(t, cookiesOf(t, answer), 2)
			requireError(t, answer, http.StatusBadRequest, "invalid_grant")
		})
	}
}

// A program's verdict is no browser's.
func TestCookies_areClearedForACookiesTokenOnly(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	for _, answer := range []*http.Response{s.refresh("tsr_" + strings.Repeat("A", 64)), s.post("/auth/token", nil)} {
		require.Empty(t, answer.Header["Set-Cookie"])
		requireError(t, answer, http.StatusBadRequest, "invalid_grant")
	}
}

// A cookie that no browser would keep must not replace one that works.
func TestToken_aCookieThatIsTooLongConsumesNothing(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	cookies := s.login()
	s.grant.Claims = map[string]any{"note": strings.Repeat("x", 4096)}
	answer := s.post("/auth/token", nil, withCookies(cookies, accessCookie, refreshCookie))
	require.Empty(t, answer.Header["Set-Cookie"])
	requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
	s.grant.Claims = map[string]any{"note": strings.Repeat("x", 2500)}
	answer = s.post("/auth/token", nil, withCookies(cookies, accessCookie, refreshCookie))
	require.Equal(t, http.StatusOK, answer.StatusCode)
	for name, c := range cookiesOf(t, answer) {
		require.LessOrEqual(t, len(name)+len(c.Value), 4096)
	}
}

func TestStatus_tellsErrorsApart(t *testing.T) {
	for err, status := range map[error]int{
		tokensession.ErrUnavailable: 503, tokensession.ErrInvalidToken: 401, tokensession.ErrExpired: 401, tokensession.ErrRevoked: 401,
		tokensession.ErrDenied: 403, tokensession.ErrInvalidScope: 400, sessionhttp.ErrBadRequest: 400, sessionhttp.ErrCrossOrigin: 403,
		&tokensession.ReuseError{}: 401, errors.New("x"): 500, errors.Join(tokensession.ErrUnavailable, tokensession.ErrDenied): 503,
		fmt.Errorf("revoking: %w", tokensession.ErrNotFound): 404, errors.Join(tokensession.ErrUnavailable, tokensession.ErrNotFound): 503,
		errors.Join(tokensession.ErrInvalidToken, tokensession.ErrNotFound): 401,
	} {
		require.Equal(t, status, sessionhttp.Status(err), "%v", err)
	}
}

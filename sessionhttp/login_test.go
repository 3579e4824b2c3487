package sessionhttp_test

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func TestLogin_replacesTheBrowsersSession(t *testing.T) {
	for name, later := range map[string]time.Duration{"fresh": 0, "expired access token": time.Hour} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, sessionhttp.Config{Cookies: true})
			old, elsewhere := s.login(), s.login()
			s.clock.Advance(later)
			r := httptest.NewRequest(http.MethodPost, "/login", nil)
			withCookies(old, accessCookie)(r)
			w := httptest.NewRecorder()
			session, err := s.h.Login(w, r, "alice")
			require.NoError(t, err)
			require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
			_, err = s.m.Refresh(ctx, old[refreshCookie].Value)
			require.ErrorIs(t, err, tokensession.ErrRevoked)
			s.requireLive(elsewhere[refreshCookie].Value)
			access, err := s.m.Verify(cookiesOf(t, w.Result())[accessCookie].Value)
			require.NoError(t, err)
			require.Equal(t, session.ID, access.SessionID)
		})
	}
}

// A restart with another key, a key that was retired, one that only the other instance has: the
// access cookie proves nothing here. The refresh cookie does, where the browser sends it along.
func TestLogin_replacesTheBrowsersSessionWithoutItsKey(t *testing.T) {
	cfg := sessionhttp.Config{Cookies: true}
	for name, c := range map[string]struct {
		cookies []string
		subject string
		ends    bool
	}{
		"both cookies":                              {[]string{accessCookie, refreshCookie}, "bob", true},
		"access cookie, the same subject":           {[]string{accessCookie}, "alice", true},
		"access cookie, another subject":            {[]string{accessCookie}, "bob", false},
		"refresh cookie, the access cookie is gone": {[]string{refreshCookie}, "bob", true},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, cfg)
			old := s.login()
			again := s.newKey(cfg)
			_, err := again.h.Login(httptest.NewRecorder(), loginRequest(withCookies(old, c.cookies...)), c.subject)
			require.NoError(t, err)
			_, err = s.m.Refresh(ctx, old[refreshCookie].Value)
			var revoked *tokensession.RevokedError
			require.Equal(t, c.ends, errors.As(err, &revoked), "%v", err)
			if c.ends {
				require.Equal(t, tokensession.ReasonReplaced, revoked.Reason)
			}
		})
	}
}

// A login takes the place of both refresh cookies, so both sessions end.
func TestLogin_replacesTheSessionOfEachRefreshCookie(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	for _, cookies := range [][]string{{refreshCookie}, {accessCookie, refreshCookie}} {
		first, second, elsewhere := s.login(), s.login(), s.login()
		_, err := s.h.Login(httptest.NewRecorder(), loginRequest(
			withCookies(second, refreshCookie), withCookies(first, cookies...)), "alice")
		require.NoError(t, err)
		for _, c := range []map[string]*http.Cookie{first, second} {
			_, err := s.m.Refresh(ctx, c[refreshCookie].Value)
			require.ErrorIs(t, err, tokensession.ErrRevoked)
		}
		s.requireLive(elsewhere[refreshCookie].Value)
	}
}

func TestLogin_anOutageLeavesNoSessionBehind(t *testing.T) {
	cfg := sessionhttp.Config{Cookies: true}
	s := newSite(t, cfg)
	old := s.login()
	s.store.Down(testkit.Load)
	w := httptest.NewRecorder()
	_, err := s.newKey(cfg).h.Login(w, loginRequest(withCookies(old, accessCookie, refreshCookie)), "alice")
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	require.Empty(t, w.Header()["Set-Cookie"])
}

// response_mode=form_post: the identity provider's page posts the answer.
func TestLogin_takesAPostOfTheOriginsThatTheHostNames(t *testing.T) {
	const idp = "https://idp.example"
	from := func(origin string) func(*http.Request) {
		return func(r *http.Request) {
			r.Header.Set("Origin", origin)
			r.Header.Set("Sec-Fetch-Site", "cross-site")
		}
	}
	login := func(s *site, origin string) error {
		w := httptest.NewRecorder()
		_, err := s.h.Login(w, loginRequest(from(origin)), "alice")
		require.Equal(t, err == nil, len(w.Header()["Set-Cookie"]) == 2)
		return err
	}
	named := newSite(t, sessionhttp.Config{Cookies: true, LoginOrigins: []string{idp}})
	require.NoError(t, login(named, idp))
	for _, origin := range []string{"https://evil.example", "http://idp.example", idp + ":8443", "https://idp.example.evil.example", "null", ""} {
		require.ErrorIs(t, login(named, origin), sessionhttp.ErrCrossOrigin, origin)
	}
	require.ErrorIs(t, login(newSite(t, sessionhttp.Config{Cookies: true}), idp), sessionhttp.ErrCrossOrigin)
	require.NoError(t, login(newSite(t, sessionhttp.Config{Cookies: true, LoginOrigins: []string{"null"}}), "null"))

	// It is for a login, and for nothing else.
	cookies := named.login()
	for _, path := range []string{"/auth/logout", "/auth/token"} {
		answer := named.post(path, nil, withCookies(cookies, accessCookie, refreshCookie), from(idp))
		requireError(t, answer, http.StatusForbidden, "access_denied")
	}
	named.requireLive(cookies[refreshCookie].Value)
}

func TestLogin_garbageInTheCookieIsNoObstacle(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	for _, cookie := range []string{"__Host-access=x", "__Host-access=a; __Host-access=b", "=;;=;__Host-access"} {
		r := httptest.NewRequest(http.MethodPost, "/login", nil)
		r.Header.Set("Cookie", cookie)
		_, err := s.h.Login(httptest.NewRecorder(), r, "alice")
		require.NoError(t, err)
	}
}

func TestLogin_setsNothingOnAnError(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	failing := func(edit func(*http.Request), subject string) error {
		r := httptest.NewRequest(http.MethodPost, "/login", nil)
		edit(r)
		w := httptest.NewRecorder()
		_, err := s.h.Login(w, r, subject)
		require.Error(t, err)
		require.Empty(t, w.Header()["Set-Cookie"])
		return err
	}
	none := func(*http.Request) {}
	require.ErrorIs(t, failing(header("Sec-Fetch-Site", "cross-site"), "alice"), sessionhttp.ErrCrossOrigin)
	require.Error(t, failing(none, ""))
	s.grant.Claims = map[string]any{"note": strings.Repeat("x", 4096)}
	err := failing(none, "alice")
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	require.ErrorContains(t, err, "WithMaxAccessSize (4083)", "ASVS 3.3.5")
	s.grant.Claims = nil
	s.store.Down()
	require.ErrorIs(t, failing(none, "alice"), tokensession.ErrUnavailable)
	s.store.Clear()
	sessions, err := s.m.Sessions(ctx, "alice")
	require.NoError(t, err)
	require.Empty(t, sessions)

	_, err = newSite(t, sessionhttp.Config{}).h.Login(httptest.NewRecorder(), httptest.NewRequest(http.MethodPost, "/", nil), "alice")
	require.ErrorContains(t, err, "Config.Cookies")
}

// A callback of an identity provider is a GET that comes from another site.
func TestLogin_takesARedirect(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	r := httptest.NewRequest(http.MethodGet, "/callback?code=x", nil)
	r.Header.Set("Sec-Fetch-Site", "cross-site")
	_, err := s.h.Login(httptest.NewRecorder(), r, "alice")
	require.NoError(t, err)
}

func TestLogin_bindsNoClientThatTheBrowserCouldNotName(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	cookies := s.login(tokensession.WithClient("app"))
	require.Equal(t, http.StatusOK, s.post("/auth/token", nil, withCookies(cookies, accessCookie, refreshCookie)).StatusCode)
}

func TestLogout_endsTheSessionHoweverOldTheAccessToken(t *testing.T) {
	for name, later := range map[string]time.Duration{"fresh": 0, "expired": time.Hour} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, sessionhttp.Config{Cookies: true})
			cookies := s.login()
			s.clock.Advance(later)
			answer := s.post("/auth/logout", nil, withCookies(cookies, accessCookie))
			require.Equal(t, http.StatusOK, answer.StatusCode)
			require.JSONEq(t, `{}`, bodyOf(t, answer))
			_, err := s.m.Refresh(ctx, cookies[refreshCookie].Value)
			require.ErrorIs(t, err, tokensession.ErrRevoked)
			again := s.post("/auth/logout", nil, withCookies(cookies, accessCookie))
			require.Equal(t, http.StatusOK, again.StatusCode, "twice")
		})
	}
}

func TestLogout_endsTheSessionHoweverOldTheKey(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	for path, edit := range map[string]func(*http.Request, string){
		"/auth/logout": func(r *http.Request, access string) { r.Header.Set("Cookie", "__Host-access="+access) },
		"/auth/revoke": func(r *http.Request, access string) {
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			r.Body = io.NopCloser(strings.NewReader("token=" + access))
		},
	} {
		cookies := s.login()
		next, err := tokensession.GenerateKey()
		require.NoError(t, err)
		require.NoError(t, s.signer.Rotate(next, s.clock.Now()))
		s.clock.Advance(24 * time.Hour)
		answer := s.post(path, nil, func(r *http.Request) { edit(r, cookies[accessCookie].Value) })
		require.Equal(t, http.StatusOK, answer.StatusCode, path)
		_, err = s.m.Refresh(ctx, cookies[refreshCookie].Value)
		require.ErrorIs(t, err, tokensession.ErrRevoked, path)
	}
}

// Where the access cookie's key is unknown, the refresh cookie ends the session. So it does where
// the access cookie is gone. A copy of the refresh token must not work on.
func TestLogout_endsTheSessionByTheRefreshCookie(t *testing.T) {
	cfg := sessionhttp.Config{Cookies: true}
	for name, cookies := range map[string][]string{
		"unknown key":      {accessCookie, refreshCookie},
		"no access cookie": {refreshCookie},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, cfg)
			old := s.login()
			again := s.newKey(cfg)
			for range 2 { // a double click
				answer := again.post("/auth/logout", nil, withCookies(old, cookies...))
				require.Equal(t, http.StatusOK, answer.StatusCode)
				require.Len(t, cookiesOf(t, answer), 2)
			}
			_, err := s.m.Refresh(ctx, old[refreshCookie].Value)
			require.ErrorIs(t, err, tokensession.ErrRevoked)
		})
	}
}

// There can be two refresh cookies, as after the path has changed. The access cookie says which one
// counts, or there is none. A logout takes both away, so each of them ends its session.
func TestLogout_endsTheSessionOfEachRefreshCookie(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	for name, over := range map[string]bool{"both live": false, "the first one is over": true} {
		for access, edit := range map[string]func(*http.Request){
			"none": func(*http.Request) {}, "garbage": header("Cookie", accessCookie+"=x"),
			"of the first one": nil, "of a third one": withCookies(s.login(), accessCookie),
		} {
			t.Run(name+", access cookie: "+access, func(t *testing.T) {
				first, second := s.login(), s.login()
				if edit == nil {
					edit = withCookies(first, accessCookie)
				}
				if over {
					require.NoError(t, s.m.RevokeToken(ctx, first[refreshCookie].Value))
				}
				answer := s.post("/auth/logout", nil, edit, header("Cookie", refreshCookie+"=x"),
					withCookies(first, refreshCookie), withCookies(second, refreshCookie))
				require.Equal(t, http.StatusOK, answer.StatusCode)
				require.Len(t, cookiesOf(t, answer), 2)
				for _, c := range []map[string]*http.Cookie{first, second} {
					_, err := s.m.Refresh(ctx, c[refreshCookie].Value)
					require.ErrorIs(t, err, tokensession.ErrRevoked)
				}
			})
		}
	}
	// One that cannot be ended keeps the cookies, and the logout is tried again.
	first, second := s.login(), s.login()
	s.store.Down(testkit.Swap)
	answer := s.post("/auth/logout", nil, withCookies(first, refreshCookie), withCookies(second, refreshCookie))
	require.Equal(t, http.StatusServiceUnavailable, answer.StatusCode)
	require.Empty(t, answer.Header["Set-Cookie"])
}

// A logout of the host's own, outside of the prefix, sees no refresh cookie.
func TestLogout_thatCannotTellKeepsTheCookies(t *testing.T) {
	cfg := sessionhttp.Config{Cookies: true}
	s := newSite(t, cfg)
	old := s.login()
	again := s.newKey(cfg)
	for range 2 {
		answer := again.post("/auth/logout", nil, withCookies(old, accessCookie))
		require.Empty(t, answer.Header["Set-Cookie"])
		require.Equal(t, `Bearer error="invalid_token"`, answer.Header.Get("WWW-Authenticate"))
		requireError(t, answer, http.StatusUnauthorized, "invalid_token")
	}
	err := again.h.Logout(httptest.NewRecorder(), loginRequest(withCookies(old, accessCookie)))
	require.ErrorIs(t, err, tokensession.ErrUnknownKey)
	require.Equal(t, http.StatusUnauthorized, sessionhttp.Status(err))

	// The browser refreshes, and tries again.
	fresh := cookiesOf(t, again.post("/auth/token", nil, withCookies(old, accessCookie, refreshCookie)))
	answer := again.post("/auth/logout", nil, withCookies(fresh, accessCookie))
	require.Equal(t, http.StatusOK, answer.StatusCode)
	_, err = s.m.Refresh(ctx, fresh[refreshCookie].Value)
	require.ErrorIs(t, err, tokensession.ErrRevoked)

	// From now on, the session is known to be over.
	answer = again.post("/auth/logout", nil, withCookies(old, accessCookie))
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Len(t, cookiesOf(t, answer), 2)
}

func TestLogout_ofASessionThatIsOverOnlyClears(t *testing.T) {
	cfg := sessionhttp.Config{Cookies: true}
	for name, end := range map[string]func(*site, map[string]*http.Cookie){
		"expired": func(s *site, _ map[string]*http.Cookie) { s.clock.Advance(8 * 24 * time.Hour) },
		"gone": func(s *site, _ map[string]*http.Cookie) {
			s.clock.Advance(8 * 24 * time.Hour)
			s.start() // the store drops what has expired
		},
		"ended": func(s *site, _ map[string]*http.Cookie) {
			_, err := s.m.RevokeSubject(ctx, "alice")
			require.NoError(t, err)
		},
	} {
		s := newSite(t, cfg)
		old := s.login()
		end(s, old)
		for _, cookies := range [][]string{{accessCookie}, {accessCookie, refreshCookie}, {refreshCookie}} {
			answer := s.newKey(cfg).post("/auth/logout", nil, withCookies(old, cookies...))
			require.Equal(t, http.StatusOK, answer.StatusCode, "%s, %v", name, cookies)
			require.Len(t, cookiesOf(t, answer), 2, name)
		}
	}
}

// What the store does not say is no end of a session.
func TestLogout_anOutageOfAnUnknownKeyKeepsTheCookies(t *testing.T) {
	cfg := sessionhttp.Config{Cookies: true}
	s := newSite(t, cfg)
	old := s.login()
	s.store.Down()
	for _, cookies := range [][]string{{accessCookie}, {accessCookie, refreshCookie}, {refreshCookie}} {
		answer := s.newKey(cfg).post("/auth/logout", nil, withCookies(old, cookies...))
		require.Empty(t, answer.Header["Set-Cookie"])
		requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
	}
	s.store.Clear()
	s.requireLive(old[refreshCookie].Value)
}

// Alice's page logs out late, when bob has logged in in another tab.
func TestLogout_ofAPageOfAnotherSessionEndsNothing(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	alice, bob := s.login(), s.login()
	named := func(id string) func(*http.Request) { return header("Tokensession-Session", id) }
	idOf := func(cookies map[string]*http.Cookie) string {
		access, err := s.m.Verify(cookies[accessCookie].Value)
		require.NoError(t, err)
		return access.SessionID
	}
	answer := s.post("/auth/logout", nil, withCookies(bob, accessCookie, refreshCookie), named(idOf(alice)))
	require.Empty(t, answer.Header["Set-Cookie"])
	requireError(t, answer, http.StatusUnauthorized, "session_changed")
	_, err := s.m.Verify(bob[accessCookie].Value)
	require.NoError(t, err)
	answer = s.post("/auth/logout", nil, named(idOf(alice)))
	require.Equal(t, http.StatusOK, answer.StatusCode, "it has been logged out meanwhile")
	answer = s.post("/auth/logout", nil, withCookies(bob, accessCookie, refreshCookie), named(idOf(bob)))
	require.Equal(t, http.StatusOK, answer.StatusCode)
	_, err = s.m.Verify(bob[accessCookie].Value)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

func TestLogout_withoutASessionOnlyClears(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	for _, edit := range []func(*http.Request){func(*http.Request) {}, header("Cookie", "__Host-access=garbage")} {
		answer := s.post("/auth/logout", url.Values{}, edit)
		require.Equal(t, http.StatusOK, answer.StatusCode)
		require.Len(t, cookiesOf(t, answer), 2)
	}
}

func TestLogout_refusesWhatIsNoLogout(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	cookies := s.login()
	for name, c := range map[string]struct {
		edit   func(*http.Request)
		err    error
		status int
	}{
		"GET":         {func(r *http.Request) { r.Method = http.MethodGet }, sessionhttp.ErrBadRequest, 405},
		"cross-site":  {header("Sec-Fetch-Site", "cross-site"), sessionhttp.ErrCrossOrigin, 403},
		"two cookies": {header("Cookie", "__Host-access=x"), sessionhttp.ErrBadRequest, 400},
	} {
		t.Run(name, func(t *testing.T) {
			answer := s.post("/auth/logout", nil, withCookies(cookies, accessCookie), c.edit)
			require.Equal(t, c.status, answer.StatusCode)
			require.Empty(t, answer.Header["Set-Cookie"])
			require.ErrorIs(t, s.causes[len(s.causes)-1], c.err)
		})
	}
	s.requireLive(cookies[refreshCookie].Value)
}

package sessionhttp_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// stepUp sends a request to a step-up route that believes everybody.
func (s *site) stepUp(edit ...func(*http.Request)) (*http.Response, error) {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodPost, "/auth/step-up", nil)
	for _, e := range edit {
		e(r)
	}
	w := httptest.NewRecorder()
	err := s.h.Reauthenticated(w, r, tokensession.WithAuthMethods("pwd", "otp"))
	return w.Result(), err
}

func TestReauthenticated_rotatesWhereTheRefreshCookieComesAlong(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	before := s.login()
	s.clock.Advance(time.Minute)
	answer, err := s.stepUp(withCookies(before, accessCookie, refreshCookie))
	require.NoError(t, err)
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	after := cookiesOf(t, answer)
	require.Len(t, after, 2)
	require.Equal(t, 7*24*3600, after[accessCookie].MaxAge)
	access, err := s.m.Verify(after[accessCookie].Value)
	require.NoError(t, err)
	require.Equal(t, []string{"pwd", "otp"}, access.AuthMethods)
	require.Equal(t, s.clock.Now(), access.AuthTime)
	_, err = s.m.Verify(before[accessCookie].Value)
	require.ErrorIs(t, err, tokensession.ErrOutdated)

	s.clock.Advance(10 * time.Second) // the copy's use shows
	_, err = s.m.Refresh(ctx, before[refreshCookie].Value)
	require.ErrorIs(t, err, tokensession.ErrReused)
}

func TestReauthenticated_elsewhereSetsTheAccessCookieOnly(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	before, other := s.login(), s.login()
	for name, edit := range map[string]func(*http.Request){
		"without":            withCookies(before, accessCookie),
		"of another session": func(r *http.Request) { withCookies(before, accessCookie)(r); withCookies(other, refreshCookie)(r) },
		"that is none": func(r *http.Request) {
			withCookies(before, accessCookie)(r)
			r.AddCookie(&http.Cookie{Name: refreshCookie, Value: "x"})
		},
	} {
		answer, err := s.stepUp(edit)
		require.NoError(t, err, name)
		after := cookiesOf(t, answer)
		require.Len(t, after, 1, name)
		access, err := s.m.Verify(after[accessCookie].Value)
		require.NoError(t, err)
		require.Equal(t, []string{"pwd", "otp"}, access.AuthMethods)
		before[accessCookie] = after[accessCookie]
	}
	s.requireLive(before[refreshCookie].Value)
	s.requireLive(other[refreshCookie].Value)
}

func TestReauthenticated_setsNothingOnAnError(t *testing.T) {
	for name, c := range map[string]struct {
		before func(s *site)
		edit   func(r *http.Request)
		status int
		clears bool
	}{
		"no cookie":      {edit: func(r *http.Request) { r.Header.Del("Cookie") }, status: http.StatusUnauthorized},
		"another origin": {edit: func(r *http.Request) { r.Header.Set("Sec-Fetch-Site", "same-site") }, status: http.StatusForbidden},
		"another session": {
			edit:   func(r *http.Request) { r.Header.Set("Tokensession-Session", "x") },
			status: http.StatusUnauthorized,
		},
		"two cookies": {
			edit:   func(r *http.Request) { r.AddCookie(&http.Cookie{Name: accessCookie, Value: "x"}) },
			status: http.StatusBadRequest,
		},
		"an access token that has run out": {
			before: func(s *site) { s.clock.Advance(time.Hour) }, status: http.StatusUnauthorized,
		},
		"an outage": {
			before: func(s *site) { s.store.Down(testkit.Load) }, status: http.StatusServiceUnavailable,
		},
		"too much for a cookie": {
			before: func(s *site) { s.grant.Claims = map[string]any{"x": make([]int, 2000)} },
			status: http.StatusServiceUnavailable,
		},
		"a session that another instance has ended": {
			before: func(s *site) {
				_, err := s.other().RevokeSubject(ctx, "alice", tokensession.Because("stolen"))
				require.NoError(s.t, err)
			}, status: http.StatusUnauthorized, clears: true,
		},
	} {
		for _, cookies := range [][]string{{accessCookie}, {accessCookie, refreshCookie}} {
			t.Run(name, func(t *testing.T) {
				s := newSite(t, sessionhttp.Config{Cookies: true})
				before := s.login()
				if c.before != nil {
					c.before(s)
				}
				answer, err := s.stepUp(withCookies(before, cookies...), func(r *http.Request) {
					if c.edit != nil {
						c.edit(r)
					}
				})
				require.Error(t, err)
				require.Equal(t, c.status, sessionhttp.Status(err))
				got := cookiesOf(t, answer)
				if !c.clears {
					require.Empty(t, got)
					return
				}
				require.Len(t, got, 2)
				require.Equal(t, -1, got[accessCookie].MaxAge)
				require.Equal(t, -1, got[refreshCookie].MaxAge)
			})
		}
	}
	s := newSite(t, sessionhttp.Config{})
	_, err := s.stepUp()
	require.ErrorContains(t, err, "Config.Cookies is not set")
}

// A session that the store has lost is over.
func TestReauthenticated_ofALostSession(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	before := s.login()
	s.store.On(testkit.Load, testkit.Refuse(tokensession.ErrNotFound))
	_, err := s.stepUp(withCookies(before, accessCookie))
	require.ErrorIs(t, err, tokensession.ErrRevoked)
	require.Equal(t, http.StatusUnauthorized, sessionhttp.Status(err))
}

func TestCookies_ofATransientSessionHaveNoMaxAge(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	cookies := s.login(tokensession.Transient())
	refreshed := cookiesOf(t, s.post("/auth/token", nil, withCookies(cookies, accessCookie, refreshCookie)))
	answer, err := s.stepUp(withCookies(refreshed, accessCookie, refreshCookie))
	require.NoError(t, err)
	for name, got := range map[string]map[string]*http.Cookie{
		"login": cookies, "refresh": refreshed, "step-up": cookiesOf(t, answer),
	} {
		require.Len(t, got, 2, name)
		for _, c := range got {
			require.NotContains(t, c.Raw, "Max-Age", name)
			require.NotContains(t, c.Raw, "Expires", name)
		}
	}
}

// There can be two refresh cookies: since the path of ours has changed, or because a sibling domain
// has set one. Ours is rotated all the same, else a copy of it would inherit the step-up.
func TestReauthenticated_rotatesBesideAnotherRefreshCookie(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	for name, other := range map[string]string{
		"none":               "x",
		"of another session": s.login()[refreshCookie].Value,
		"of before":          "",
	} {
		for _, first := range []bool{true, false} {
			t.Run(name, func(t *testing.T) {
				before := s.login()
				value := other
				if value == "" {
					value = before[refreshCookie].Value
					before = cookiesOf(t, s.post("/auth/token", nil, withCookies(before, accessCookie, refreshCookie)))
				}
				add := func(r *http.Request) { r.AddCookie(&http.Cookie{Name: refreshCookie, Value: value}) }
				edits := []func(*http.Request){withCookies(before, accessCookie, refreshCookie), add}
				if first {
					edits = []func(*http.Request){add, withCookies(before, accessCookie, refreshCookie)}
				}
				answer, err := s.stepUp(edits...)
				require.NoError(t, err)
				after := cookiesOf(t, answer)
				require.Len(t, after, 2)
				s.clock.Advance(10 * time.Second) // the copy's use shows
				_, err = s.m.Refresh(ctx, before[refreshCookie].Value)
				require.ErrorIs(t, err, tokensession.ErrReused)
			})
		}
	}
}

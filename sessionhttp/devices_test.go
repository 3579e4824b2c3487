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

func (s *site) send(method, path string, edit ...func(*http.Request)) *http.Response {
	s.t.Helper()
	r := httptest.NewRequest(method, path, nil)
	for _, e := range edit {
		e(r)
	}
	return s.do(r)
}

func TestDevices_areListedWithoutTheMomentOfTheirLastUse(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Devices: true})
	phone := s.start(tokensession.WithAttributes(map[string]string{"device": "phone"}))
	s.clock.Advance(time.Second)
	support := s.start(tokensession.WithActor("carol"))
	s.clock.Advance(time.Hour)
	laptop := s.start()
	_, err := s.m.Start(ctx, "bob")
	require.NoError(t, err)
	s.store.Took()

	answer := s.send(http.MethodGet, "/auth/sessions", bearer(laptop.AccessToken))
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	require.Equal(t, []testkit.Call{testkit.List}, s.store.Took())
	require.Equal(t, map[string]any{"sessions": []any{
		map[string]any{"id": laptop.Session.ID, "current": true, "created_at": "2026-01-02T04:04:06Z"},
		map[string]any{
			"id": support.Session.ID, "current": false, "created_at": "2026-01-02T03:04:06Z",
			"last_seen": "2026-01-02T03:04:06Z", "actor": "carol",
		},
		map[string]any{
			"id": phone.Session.ID, "current": false, "created_at": "2026-01-02T03:04:05Z",
			"last_seen": "2026-01-02T03:04:05Z", "attributes": map[string]any{"device": "phone"},
		},
	}}, jsonOf(t, answer))

	_, err = s.m.Refresh(ctx, phone.RefreshToken)
	require.NoError(t, err)
	s.clock.Advance(time.Hour - time.Microsecond)
	laptop, err = s.m.Refresh(ctx, laptop.RefreshToken)
	require.NoError(t, err)
	list := jsonOf(t, s.send(http.MethodGet, "/auth/sessions", bearer(laptop.AccessToken)))["sessions"].([]any)
	require.NotContains(t, list[0], "last_seen", "of the current one")
	require.Contains(t, list[1], "last_seen")
	require.NotContains(t, list[2], "last_seen", "less than an hour ago")
}

func TestDevices_areEndedByTheirUserOnly(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Devices: true})
	mine, other := s.start(), s.start()
	bobs, err := s.m.Start(ctx, "bob")
	require.NoError(t, err)
	for _, id := range []string{bobs.Session.ID, "AAAAAAAAAAAAAAAAAAAAAQ", "x"} {
		requireError(t, s.send(http.MethodDelete, "/auth/sessions/"+id, bearer(mine.AccessToken)),
			http.StatusNotFound, "not_found")
	}
	s.requireLive(bobs.RefreshToken)

	answer := s.send(http.MethodDelete, "/auth/sessions/"+other.Session.ID, bearer(mine.AccessToken))
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.JSONEq(t, `{}`, bodyOf(t, answer))
	_, err = s.m.Refresh(ctx, other.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
	requireError(t, s.send(http.MethodDelete, "/auth/sessions/"+mine.Session.ID, bearer(other.AccessToken)),
		http.StatusUnauthorized, "invalid_token")

	third := s.start()
	answer = s.send(http.MethodPost, "/auth/sessions/revoke-others", bearer(mine.AccessToken))
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.JSONEq(t, `{"ended":1}`, bodyOf(t, answer))
	_, err = s.m.Refresh(ctx, third.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
	s.requireLive(mine.RefreshToken)

	s.store.Down(testkit.Swap)
	s.store.Down(testkit.List)
	for _, r := range [][2]string{{http.MethodPost, "revoke-others"}, {http.MethodDelete, mine.Session.ID}} {
		answer = s.send(r[0], "/auth/sessions/"+r[1], bearer(mine.AccessToken))
		requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
		require.Equal(t, "1", answer.Header.Get("Retry-After"))
	}
}

func TestDevices_ofABrowser(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Devices: true, Cookies: true})
	cookies, other := s.login(), s.login()
	access, err := s.m.Verify(cookies[accessCookie].Value)
	require.NoError(t, err)
	otherAccess, err := s.m.Verify(other[accessCookie].Value)
	require.NoError(t, err)
	in := withCookies(cookies, accessCookie)
	for _, r := range [][2]string{
		{http.MethodDelete, access.SessionID}, {http.MethodDelete, otherAccess.SessionID}, {http.MethodPost, "revoke-others"},
	} {
		for _, site := range []string{"cross-site", "same-site"} {
			requireError(t, s.send(r[0], "/auth/sessions/"+r[1], in, header("Sec-Fetch-Site", site)),
				http.StatusForbidden, "access_denied")
		}
	}
	s.requireLive(other[refreshCookie].Value)

	answer := s.send(http.MethodDelete, "/auth/sessions/"+otherAccess.SessionID, in, header("Sec-Fetch-Site", "same-origin"))
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Empty(t, cookiesOf(t, answer))
	answer = s.send(http.MethodDelete, "/auth/sessions/"+access.SessionID, in)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	for name, c := range cookiesOf(t, answer) {
		require.Equal(t, -1, c.MaxAge, name)
	}
	require.Len(t, cookiesOf(t, answer), 2, "it is a logout")
	ended, err := s.m.Session(ctx, access.SessionID)
	require.NoError(t, err)
	require.Equal(t, tokensession.ReasonLogout, ended.RevokeReason)
}

func TestDevices_refusesWhatIsNoSuchRequest(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Devices: true})
	tokens := s.start()
	for _, c := range []struct{ path, allow string }{
		{"/auth/sessions", "GET, HEAD"}, {"/auth/sessions/" + tokens.Session.ID, "DELETE"}, {"/auth/sessions/revoke-others", "POST"},
	} {
		for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
			answer := s.send(method, c.path)
			if c.allow == method || c.allow == "GET, HEAD" && method == http.MethodGet {
				requireError(t, answer, http.StatusUnauthorized, "invalid_token")
				require.Equal(t, "Bearer", answer.Header.Get("WWW-Authenticate"))
				continue
			}
			require.Equal(t, http.StatusMethodNotAllowed, answer.StatusCode, "%s %s", method, c.path)
			require.Equal(t, c.allow, answer.Header.Get("Allow"))
		}
	}
	s.requireLive(tokens.RefreshToken)
	s = newSite(t, sessionhttp.Config{})
	require.Equal(t, http.StatusNotFound, s.send(http.MethodGet, "/auth/sessions", bearer(s.start().AccessToken)).StatusCode,
		"only where the host wants them")
}

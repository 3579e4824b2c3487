package sessionhttp_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// session asks who is logged in.
func (s *site) session(edit ...func(*http.Request)) *http.Response {
	s.t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/auth/session", nil)
	for _, e := range edit {
		e(r)
	}
	return s.do(r)
}

func TestSession_refusesTokensThatAreNoGood(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	tokens := s.start()
	answer := s.session(bearer("garbage"))
	require.Equal(t, `Bearer error="invalid_token"`, answer.Header.Get("WWW-Authenticate"))
	requireError(t, answer, http.StatusUnauthorized, "invalid_token")
	requireError(t, s.session(bearer(tokens.AccessToken), func(r *http.Request) { r.Method = http.MethodPost }), http.StatusMethodNotAllowed, "invalid_request")
	require.Equal(t, http.StatusOK, s.session(bearer(tokens.AccessToken)).StatusCode)
	s.store.Down()
	requireError(t, s.session(bearer(tokens.AccessToken)), http.StatusServiceUnavailable, "temporarily_unavailable")
	s.store.Clear()
	other := s.other()
	require.NoError(t, other.Revoke(ctx, tokens.Session.ID))
	requireError(t, s.session(bearer(tokens.AccessToken)), http.StatusUnauthorized, "invalid_token")
}

// An anonymous visitor costs one request, and is no error. Only a browser that has a refresh cookie
// is told to refresh.
func TestSession_ofNobodyIsNull(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	for name, edit := range map[string]func(*http.Request){
		"nothing":         func(*http.Request) {},
		"other cookies":   header("Cookie", "theme=dark"),
		"another scheme":  func(r *http.Request) { r.SetBasicAuth("staging", "x") },
		"cleared cookies": header("Cookie", "__Host-access=; __Secure-refresh="),
	} {
		answer := s.session(edit)
		require.Equal(t, http.StatusOK, answer.StatusCode, name)
		require.Equal(t, "no-store", answer.Header.Get("Cache-Control"), name)
		require.Equal(t, "null\n", bodyOf(t, answer), name)
	}
	require.Empty(t, s.causes)
	requireError(t, s.session(header("Cookie", "__Secure-refresh=x")), http.StatusUnauthorized, "invalid_token")
	requireError(t, s.session(header("Cookie", "__Host-access=x")), http.StatusUnauthorized, "invalid_token")
}

// A thief has a copy of the cookies, and asks every second. If the answer said when the honest
// client refreshed, the thief could present the consumed token just after each refresh, within the
// grace period, for weeks.
func TestSession_doesNotTellWhenItWasRefreshed(t *testing.T) {
	for name, cfg := range map[string]tokensession.Config{
		"idle end":     {},
		"absolute end": {RefreshTTL: 2 * time.Hour, MaxLifetime: 2*time.Hour + 8*time.Minute},
		"no end":       {MaxLifetime: tokensession.Unlimited},
	} {
		t.Run(name, func(t *testing.T) {
			ask := func(refreshed bool) []string {
				s := newSiteOf(t, sessionhttp.Config{Cookies: true}, cfg)
				tokens := s.start()
				var answers []string
				for minute := range 14 {
					if refreshed && minute%5 == 4 {
						next, err := s.m.Refresh(ctx, tokens.RefreshToken)
						require.NoError(t, err)
						tokens.RefreshToken = next.RefreshToken
					}
					answer := jsonOf(t, s.session(bearer(tokens.AccessToken)))
					delete(answer, "session_id")
					answers = append(answers, fmt.Sprint(answer))
					s.clock.Advance(time.Minute)
				}
				return answers
			}
			require.Equal(t, ask(false), ask(true))
		})
	}
}

// However many sessions the user has.
func TestSession_loadsOneSession(t *testing.T) {
	s := newSiteOf(t, sessionhttp.Config{Cookies: true}, tokensession.Config{})
	var tokens tokensession.Tokens
	for range 20 {
		tokens = s.start()
	}
	s.store.Took()
	jsonOf(t, s.session(bearer(tokens.AccessToken)))
	require.Equal(t, []testkit.Call{testkit.Load}, s.store.Took())
}

func TestSession_timesAreThoseOfItsToken(t *testing.T) {
	s := newSiteOf(t, sessionhttp.Config{Cookies: true}, tokensession.Config{RefreshTTL: 24 * time.Hour, MaxLifetime: 30 * time.Hour})
	tokens := s.start()
	s.clock.Advance(10 * time.Minute)
	answer := jsonOf(t, s.session(bearer(tokens.AccessToken)))
	require.EqualValues(t, 5*60, answer["expires_in"])
	require.EqualValues(t, 24*3600-600, answer["refresh_expires_in"])
	require.EqualValues(t, 30*3600-600, answer["session_ends_in"])
	s.clock.Advance(20 * time.Hour)
	tokens, err := s.m.Refresh(ctx, tokens.RefreshToken)
	require.NoError(t, err)
	answer = jsonOf(t, s.session(bearer(tokens.AccessToken)))
	require.Equal(t, answer["session_ends_in"], answer["refresh_expires_in"], "no later than the end of all")
}

func TestSession_thatNeverEndsSaysNoEnd(t *testing.T) {
	s := newSiteOf(t, sessionhttp.Config{Cookies: true}, tokensession.Config{MaxLifetime: tokensession.Unlimited})
	cookies := s.login()
	require.NotContains(t, jsonOf(t, s.post("/auth/token", nil, withCookies(cookies, accessCookie, refreshCookie))), "session_ends_in")
}

package sessionhttp_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// jar returns an edit that sends cookies as they stand, in that order.
func jar(namesAndValues ...string) func(*http.Request) {
	return func(r *http.Request) {
		for i := 0; i < len(namesAndValues); i += 2 {
			r.AddCookie(&http.Cookie{Name: namesAndValues[i], Value: namesAndValues[i+1]})
		}
	}
}

// lastCause returns what the host was told last.
func (s *site) lastCause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.causes[len(s.causes)-1]
}

// newKey gives the site a process that has begun anew with another key: same store, same clock.
func (s *site) newKey(cfg sessionhttp.Config) *site {
	s.t.Helper()
	again := &site{
		t: s.t, clock: s.clock, store: s.store, events: s.events,
		signer: newSigner(s.t), mux: http.NewServeMux(),
	}
	again.m = s.manager(again.signer, tokensession.Config{OnEvent: s.events.Add})
	cfg.OnError = func(_ *http.Request, cause error) { again.causes = append(again.causes, cause) }
	var err error
	again.h, err = sessionhttp.New(again.m, cfg)
	require.NoError(s.t, err)
	again.h.Mount(again.mux)
	return again
}

// As after the path of the cookie has changed, or where a sibling domain has set one.
func TestToken_tellsRefreshCookiesApart(t *testing.T) {
	type tokens struct{ ours, consumed, sibling tokensession.Tokens }
	for name, values := range map[string]func(tokens) []string{
		"a sibling's first":    func(a tokens) []string { return []string{a.sibling.RefreshToken, a.ours.RefreshToken} },
		"a sibling's last":     func(a tokens) []string { return []string{a.ours.RefreshToken, a.sibling.RefreshToken} },
		"garbage":              func(a tokens) []string { return []string{"x", a.ours.RefreshToken, "", a.ours.AccessToken} },
		"a consumed one first": func(a tokens) []string { return []string{a.consumed.RefreshToken, a.ours.RefreshToken} },
		"a consumed one last":  func(a tokens) []string { return []string{a.ours.RefreshToken, a.consumed.RefreshToken} },
		"twice":                func(a tokens) []string { return []string{a.ours.RefreshToken, a.ours.RefreshToken} },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, sessionhttp.Config{Cookies: true})
			a := tokens{consumed: s.start(), sibling: s.start()}
			var err error
			a.ours, err = s.m.Refresh(ctx, a.consumed.RefreshToken)
			require.NoError(t, err)
			s.events.TakeKinds()
			cookies := []string{accessCookie, a.ours.AccessToken}
			for _, value := range values(a) {
				cookies = append(cookies, refreshCookie, value)
			}
			answer := s.post("/auth/token", nil, jar(cookies...))
			require.Equal(t, http.StatusOK, answer.StatusCode)
			require.Equal(t, []tokensession.EventKind{tokensession.EventRefreshed}, s.events.TakeKinds())
			access, err := s.m.Verify(cookiesOf(t, answer)[accessCookie].Value)
			require.NoError(t, err)
			require.Equal(t, a.ours.Session.ID, access.SessionID)
			s.requireLive(a.sibling.RefreshToken)
		})
	}
}

// A sibling domain that sets as many cookies as a browser keeps pushes ours out. Its own refresh
// cookie must not put the browser into its own session. Nothing is cleared: it is no verdict.
func TestToken_aRefreshCookieCountsOnlyBesideItsAccessCookie(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	ours, sibling := s.start(), s.start()
	for name, c := range map[string]struct {
		cookies []string
		hint    string
	}{
		"alone":                    {[]string{refreshCookie, sibling.RefreshToken}, "another host"},
		"beside another session's": {[]string{accessCookie, ours.AccessToken, refreshCookie, sibling.RefreshToken}, "another host"},
		"beside garbage":           {[]string{accessCookie, "x", refreshCookie, ours.RefreshToken}, "another host"},
		"beside a refresh token":   {[]string{accessCookie, ours.RefreshToken, refreshCookie, ours.RefreshToken}, "another host"},
		// A wrong Prefix behind a proxy.
		"only an access cookie": {[]string{accessCookie, ours.AccessToken}, "has the path /auth, "},
		"none":                  {nil, "no refresh token in a cookie"},
	} {
		s.events.TakeKinds()
		answer := s.post("/auth/token", nil, jar(c.cookies...))
		require.Empty(t, answer.Header["Set-Cookie"], name)
		requireError(t, answer, http.StatusBadRequest, "invalid_grant")
		require.ErrorContains(t, s.lastCause(), c.hint, name)
		require.NotContains(t, s.lastCause().Error(), ours.RefreshToken[4:])
		require.Empty(t, s.events.TakeKinds(), name)
	}
	s.requireLive(ours.RefreshToken)
	s.requireLive(sibling.RefreshToken)
}

// A process that has begun anew with another key knows the session by its store, and the cookie of
// the old key says which one it is.
func TestToken_aKeyThatIsGoneLogsNobodyOut(t *testing.T) {
	cfg := sessionhttp.Config{Cookies: true}
	s := newSite(t, cfg)
	cookies := s.login()
	again := s.newKey(cfg)
	answer := again.post("/auth/token", nil, withCookies(cookies, accessCookie, refreshCookie))
	require.Equal(t, http.StatusOK, answer.StatusCode)
	_, err := again.m.Verify(cookiesOf(t, answer)[accessCookie].Value)
	require.NoError(t, err)
}

// 178 cookies beside ours are read like none.
func TestToken_findsItsCookiesAmongMany(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	cookies := s.login()
	many := func(r *http.Request) {
		for range 178 {
			r.AddCookie(&http.Cookie{Name: "x", Value: "y"})
		}
	}
	answer := s.post("/auth/token", nil, many, withCookies(cookies, accessCookie, refreshCookie), many)
	require.Equal(t, http.StatusOK, answer.StatusCode)
}

func loginRequest(edits ...func(*http.Request)) *http.Request {
	r := httptest.NewRequest(http.MethodPost, "/login", nil)
	for _, edit := range edits {
		edit(r)
	}
	return r
}

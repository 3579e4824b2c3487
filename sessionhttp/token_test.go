package sessionhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// RFC 6749 section 5.1, and what clients insist on.
func TestToken_answersWithTokens(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	s.grant.Scope = "read write"
	tokens := s.start()
	answer := s.refresh(tokens.RefreshToken)
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, "application/json", answer.Header.Get("Content-Type"))
	require.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	require.Empty(t, answer.Header["Set-Cookie"])
	body := jsonOf(t, answer)
	require.Equal(t, "Bearer", body["token_type"])
	require.Equal(t, float64(900), body["expires_in"])
	require.Equal(t, float64(7*24*3600), body["refresh_token_timeout"])
	require.Equal(t, float64(7*24*3600), body["refresh_expires_in"], "the name before the draft")
	require.Equal(t, float64(30*24*3600), body["authorization_expires_in"])
	require.Equal(t, "read write", body["scope"])
	require.NotEqual(t, tokens.RefreshToken, body["refresh_token"])
	access, err := s.m.Verify(body["access_token"].(string))
	require.NoError(t, err)
	require.Equal(t, tokens.Session.ID, access.SessionID)
	s.requireLive(body["refresh_token"].(string))
}

// A lifetime of 900 seconds is not told as 899 because the clock is between two seconds.
func TestToken_tellsLifetimesInWholeSeconds(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	s.clock.Advance(500 * time.Millisecond)
	body := jsonOf(t, s.refresh(s.start().RefreshToken))
	require.Equal(t, float64(900), body["expires_in"])
	require.Equal(t, float64(7*24*3600), body["refresh_token_timeout"])
	require.Equal(t, float64(30*24*3600), body["authorization_expires_in"])
}

// The session's own periods count. A session that never ends has no end to tell.
func TestToken_tellsHowLongTheSessionLasts(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	tokens := s.start(tokensession.WithLifetimes(time.Hour, 90*time.Minute))
	s.clock.Advance(time.Hour - time.Second)
	body := jsonOf(t, s.refresh(tokens.RefreshToken))
	require.Equal(t, float64(30*60+1), body["refresh_token_timeout"])
	require.Equal(t, float64(30*60+1), body["authorization_expires_in"])

	s = newSiteOf(t, sessionhttp.Config{}, tokensession.Config{MaxLifetime: tokensession.Unlimited})
	body = jsonOf(t, s.refresh(s.start().RefreshToken))
	require.Equal(t, float64(7*24*3600), body["refresh_token_timeout"])
	require.NotContains(t, body, "authorization_expires_in")
}

func TestToken_leavesOutAScopeThatIsNone(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	require.NotContains(t, jsonOf(t, s.refresh(s.start().RefreshToken)), "scope")
}

func TestToken_narrowsTheScope(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	s.grant.Scope = "read write"
	tokens := s.start()
	form := refreshForm(tokens.RefreshToken)
	form.Set("scope", "read admin")
	requireError(t, s.post("/auth/token", form), http.StatusBadRequest, "invalid_scope")
	form.Set("scope", "read")
	require.Equal(t, "read", jsonOf(t, s.post("/auth/token", form))["scope"])
}

// One answer for all, so that nobody learns what a token was.
func TestToken_saysTheSameOfEveryTokenThatIsOver(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	expired := s.start()
	s.clock.Advance(7 * 24 * time.Hour)
	revoked, reused, bound := s.start(), s.start(), s.start(tokensession.WithClient("app"))
	require.NoError(t, s.m.RevokeToken(ctx, revoked.RefreshToken))
	_, err := s.m.Refresh(ctx, reused.RefreshToken)
	require.NoError(t, err)
	s.clock.Advance(time.Minute)
	said := func(answer *http.Response) (http.Header, string) { return answer.Header, bodyOf(t, answer) }
	header, body := said(s.refresh("x"))
	for name, token := range map[string]string{
		"unknown": "tsr_" + strings.Repeat("A", 64), "no token": "x", "an access token": revoked.AccessToken, "expired": expired.RefreshToken,
		"revoked": revoked.RefreshToken, "reused": reused.RefreshToken, "another client's": bound.RefreshToken,
		"markup": "<script>", "longer": bound.RefreshToken + "A",
	} {
		t.Run(name, func(t *testing.T) {
			answer := s.refresh(token)
			require.Empty(t, answer.Header.Values("WWW-Authenticate"))
			gotHeader, gotBody := said(answer)
			require.Equal(t, header, gotHeader)
			require.Equal(t, body, gotBody)
			answer.Body = io.NopCloser(strings.NewReader(gotBody))
			requireError(t, answer, http.StatusBadRequest, "invalid_grant")
		})
	}
}

func TestToken_deniedIsInvalidGrant(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	m := denyingManager(t, s)
	h, err := sessionhttp.New(m, sessionhttp.Config{})
	require.NoError(t, err)
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/auth/token", strings.NewReader(refreshForm(s.start().RefreshToken).Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	h.Token(w, r)
	requireError(t, w.Result(), http.StatusBadRequest, "invalid_grant")
}

// denyingManager is one on the site's store whose authorizer refuses everybody.
func denyingManager(t *testing.T, s *site) *tokensession.Manager {
	t.Helper()
	return s.manager(newSigner(t), tokensession.Config{
		Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
			return tokensession.Grant{}, tokensession.ErrDenied
		},
	})
}

func TestToken_anOutageIsNoVerdict(t *testing.T) {
	for _, cfg := range []sessionhttp.Config{{}, {Cookies: true}} {
		s := newSite(t, cfg)
		tokens := s.start()
		s.store.Down()
		var answer *http.Response
		if cfg.Cookies {
			answer = s.post("/auth/token", nil, inCookies(tokens))
		} else {
			answer = s.refresh(tokens.RefreshToken)
		}
		require.Equal(t, "1", answer.Header.Get("Retry-After"))
		require.Empty(t, answer.Header["Set-Cookie"])
		requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
		require.ErrorIs(t, s.causes[0], testkit.ErrDown, "the host learns the cause")
		s.store.Clear()
		s.requireLive(tokens.RefreshToken)
	}
}

// Each is refused with the documented status, and consumes nothing.
func TestToken_refusesBadRequests(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	tokens := s.start()
	token := tokens.RefreshToken
	with := func(add url.Values) url.Values {
		form := refreshForm(token)
		maps.Copy(form, add)
		return form
	}
	good := with(nil)
	path := func(p string) func(*http.Request) {
		return func(r *http.Request) { r.URL, _ = url.Parse(p) }
	}
	method := func(m string) func(*http.Request) {
		return func(r *http.Request) { r.Method = m }
	}
	contentType := func(v string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("Content-Type", v) }
	}
	none := func(*http.Request) {}
	for name, c := range map[string]struct {
		form   url.Values
		edit   func(*http.Request)
		status int
		code   string
	}{
		"GET":                                {good, method("GET"), 405, "invalid_request"},
		"HEAD":                               {good, method("HEAD"), 405, "invalid_request"},
		"PUT":                                {good, method("PUT"), 405, "invalid_request"},
		"DELETE":                             {good, method("DELETE"), 405, "invalid_request"},
		"token in the URL":                   {url.Values{"grant_type": {"refresh_token"}}, path("/auth/token?refresh_token=" + token), 400, "invalid_request"},
		"any parameter in the URL":           {good, path("/auth/token?x=1"), 400, "invalid_request"},
		"JSON":                               {good, contentType("application/json"), 400, "invalid_request"},
		"multipart":                          {good, contentType("multipart/form-data; boundary=x"), 400, "invalid_request"},
		"no content type":                    {good, contentType(""), 400, "invalid_request"},
		"garbage content type":               {good, contentType("///;;"), 400, "invalid_request"},
		"repeated token":                     {with(url.Values{"refresh_token": {token, token}}), none, 400, "invalid_request"},
		"repeated grant_type":                {with(url.Values{"grant_type": {"refresh_token", "refresh_token"}}), none, 400, "invalid_request"},
		"repeated unknown":                   {with(url.Values{"x": {"1", "2"}}), none, 400, "invalid_request"},
		"no grant_type":                      {url.Values{"refresh_token": {token}}, none, 400, "invalid_request"},
		"no token":                           {url.Values{"grant_type": {"refresh_token"}}, none, 400, "invalid_request"},
		"empty token":                        {with(url.Values{"refresh_token": {""}}), none, 400, "invalid_request"},
		"password grant":                     {with(url.Values{"grant_type": {"password"}}), none, 400, "unsupported_grant_type"},
		"grant type in other case":           {with(url.Values{"grant_type": {"Refresh_Token"}}), none, 400, "unsupported_grant_type"},
		"huge body":                          {with(url.Values{"x": {strings.Repeat("x", 1<<20)}}), none, 413, "invalid_request"},
		"token in body and cookie":           {good, header("Cookie", "__Secure-refresh="+token), 400, "invalid_request"},
		"two access cookies":                 {nil, header("Cookie", "__Host-access=a; __Host-access=b; __Secure-refresh="+token), 400, "invalid_request"},
		"no access cookie beside it":         {nil, header("Cookie", "__Secure-refresh="+token), 400, "invalid_grant"},
		"a cookie's name behind white space": {nil, header("Cookie", "\u3000__Secure-refresh="+token), 400, "invalid_grant"},
		"no cookie":                          {nil, none, 400, "invalid_grant"},
		"cookie by its other name":           {nil, header("Cookie", "refresh="+token), 400, "invalid_grant"},
		"another site's page":                {good, header("Sec-Fetch-Site", "cross-site"), 403, "access_denied"},
		"another origin's page":              {good, header("Origin", "https://evil.example"), 403, "access_denied"},
		"sibling's page and cookie": {nil, func(r *http.Request) {
			r.Header.Set("Sec-Fetch-Site", "same-site")
			r.Header.Set("Cookie", "__Secure-refresh="+token)
		}, 403, "access_denied"},
		"secret of a public client": {with(url.Values{"client_id": {"app"}, "client_secret": {"x"}}), none, 401, "invalid_client"},
		"two Authorization headers": {good, func(r *http.Request) { r.SetBasicAuth("a", ""); r.Header.Add("Authorization", "Basic Og==") }, 400, "invalid_request"},
		"two client ids":            {with(url.Values{"client_id": {"app"}}), func(r *http.Request) { r.SetBasicAuth("other", "") }, 400, "invalid_request"},
		"secrets in two places":     {with(url.Values{"client_secret": {"x"}}), func(r *http.Request) { r.SetBasicAuth("app", "x") }, 400, "invalid_request"},
		"garbage credentials":       {good, header("Authorization", "Basic ???"), 401, "invalid_client"},
		"badly escaped credentials": {good, func(r *http.Request) { r.SetBasicAuth("%zz", "") }, 401, "invalid_client"},
	} {
		t.Run(name, func(t *testing.T) {
			s.events.TakeKinds()
			answer := s.post("/auth/token", c.form, c.edit)
			require.Empty(t, answer.Header["Set-Cookie"])
			require.Equal(t, c.status == 405, answer.Header.Get("Allow") == "POST")
			require.Equal(t, c.code == "invalid_client", answer.Header.Get("WWW-Authenticate") == `Basic realm="token"`)
			requireError(t, answer, c.status, c.code)
			require.Empty(t, s.events.TakeKinds(), "a session was changed")
			for _, cause := range s.causes {
				require.NotContains(t, cause.Error(), token[4:])
			}
		})
	}
	for name, body := range map[string]string{"semicolon": "grant_type=refresh_token;refresh_token=" + token, "bad escape": "refresh_token=%zz" + token} {
		t.Run(name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodPost, "/auth/token", strings.NewReader(body))
			r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
			requireError(t, s.do(r), 400, "invalid_request")
			require.NotContains(t, s.causes[len(s.causes)-1].Error(), token[4:])
		})
	}
	s.requireLive(token)
}

// A mux that Mount has been used on does that by itself.
func TestToken_refusesMethodsThatNobodyKnows(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	token := s.start().RefreshToken
	for _, method := range []string{"post", "Post", "PROPFIND", ""} {
		edit := func(r *http.Request) {
			r.Method = method
			header("Cookie", "__Secure-refresh="+token)(r)
		}
		answer := s.post("/auth/token", nil, edit)
		require.Equal(t, http.StatusMethodNotAllowed, answer.StatusCode, method)
		require.Empty(t, answer.Header["Set-Cookie"])

		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/auth/token", nil)
		edit(r)
		s.h.Token(w, r)
		require.Equal(t, "POST", w.Header().Get("Allow"))
		requireError(t, w.Result(), http.StatusMethodNotAllowed, "invalid_request")
	}
	s.requireLive(token)
}

func TestToken_takesAFormWithACharset(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	answer := s.refresh(s.start().RefreshToken, func(r *http.Request) {
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
	})
	require.Equal(t, http.StatusOK, answer.StatusCode)
}

func TestToken_namesThePublicClient(t *testing.T) {
	for name, edit := range map[string]func(url.Values, *http.Request){
		"in the form":            func(form url.Values, _ *http.Request) { form.Set("client_id", "my app") },
		"in the header, escaped": func(_ url.Values, r *http.Request) { r.SetBasicAuth("my+app", "") },
		"in both": func(form url.Values, r *http.Request) {
			form.Set("client_id", "my app")
			r.SetBasicAuth("my%20app", "")
		},
		"beside an empty form secret": func(form url.Values, _ *http.Request) { form.Set("client_id", "my app"); form.Set("client_secret", "") },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, sessionhttp.Config{})
			tokens := s.start(tokensession.WithClient("my app"))
			requireError(t, s.refresh(tokens.RefreshToken), http.StatusBadRequest, "invalid_grant")
			form := refreshForm(tokens.RefreshToken)
			r := httptest.NewRequest(http.MethodPost, "/auth/token", nil)
			edit(form, r)
			answer := s.post("/auth/token", form, func(sent *http.Request) { maps.Copy(sent.Header, r.Header) })
			require.Equal(t, http.StatusOK, answer.StatusCode)
		})
	}
}

func TestToken_asksTheHostForAClientsSecret(t *testing.T) {
	failing := errors.New("no database")
	s := newSite(t, sessionhttp.Config{AuthenticateClient: func(_ context.Context, id, secret string) (bool, error) {
		if id == "broken" {
			return false, failing
		}
		return id == "app" && secret == "s3cret", nil
	}})
	tokens := s.start(tokensession.WithClient("app"))
	form := refreshForm(tokens.RefreshToken)
	basic := func(id, secret string) func(*http.Request) {
		return func(r *http.Request) { r.SetBasicAuth(id, secret) }
	}
	requireError(t, s.post("/auth/token", form, basic("app", "wrong")), http.StatusUnauthorized, "invalid_client")
	requireError(t, s.post("/auth/token", form, basic("app", "")), http.StatusUnauthorized, "invalid_client")
	requireError(t, s.post("/auth/token", form, basic("other", "s3cret")), http.StatusUnauthorized, "invalid_client")
	requireError(t, s.post("/auth/token", form, basic("broken", "s3cret")), http.StatusServiceUnavailable, "temporarily_unavailable")
	requireError(t, s.post("/auth/token", form), http.StatusBadRequest, "invalid_grant")
	require.Equal(t, http.StatusOK, s.post("/auth/token", form, basic("app", "s3cret")).StatusCode)
	form = refreshForm(tokens.RefreshToken)
	form.Set("client_id", "app")
	form.Set("client_secret", "s3cret")
	require.Equal(t, http.StatusOK, s.post("/auth/token", form).StatusCode)
}

// A proxy that asks for a password passes it on: it is none of a client's, and a browser has no
// client.
func TestToken_aBrowserBehindAProxysPasswordRefreshes(t *testing.T) {
	for name, cfg := range map[string]sessionhttp.Config{
		"public clients": {Cookies: true},
		"clients with secrets": {Cookies: true, AuthenticateClient: func(context.Context, string, string) (bool, error) {
			return false, errors.New("nobody is to be asked")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, cfg)
			password := func(r *http.Request) { r.SetBasicAuth("staging", "x") }
			cookies := cookiesOf(t, s.post("/auth/token", nil, withCookies(s.login(), accessCookie, refreshCookie), password))
			require.Len(t, cookies, 2)
			r := httptest.NewRequest(http.MethodGet, "/auth/session", nil)
			withCookies(cookies, accessCookie)(r)
			password(r)
			require.Equal(t, http.StatusOK, s.do(r).StatusCode)
			require.Equal(t, http.StatusOK, s.post("/auth/logout", nil, withCookies(cookies, accessCookie), password).StatusCode)
			requireError(t, s.post("/auth/token", nil, withCookies(cookies, accessCookie, refreshCookie), password), http.StatusBadRequest, "invalid_grant")
			requireError(t, s.post("/auth/token", nil, password), http.StatusBadRequest, "invalid_grant")
		})
	}
}

// Who puts a client's token into a cookie does not get around the client's secret.
func TestToken_aClientsTokenInACookieIsRefused(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	tokens := s.start(tokensession.WithClient("app"))
	for _, form := range []url.Values{nil, {"client_id": {"app"}}} {
		answer := s.post("/auth/token", form, inCookies(tokens), func(r *http.Request) { r.SetBasicAuth("app", "") })
		requireError(t, answer, http.StatusBadRequest, "invalid_grant")
	}
	s.events.TakeKinds()
	require.Equal(t, http.StatusOK, s.refresh(tokens.RefreshToken, func(r *http.Request) { r.SetBasicAuth("app", "") }).StatusCode)
	require.Equal(t, []tokensession.EventKind{tokensession.EventRefreshed}, s.events.TakeKinds(), "the token was consumed before")
}

// A middleware that looks for _method or a CSRF token in the form has read the body, and the form
// is in the request.
func TestToken_takesAFormThatHasBeenRead(t *testing.T) {
	for name, read := range map[string]func(*http.Request){
		"FormValue": func(r *http.Request) { r.FormValue("_method") },
		"ParseForm": func(r *http.Request) { _ = r.ParseForm() },
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, sessionhttp.Config{Cookies: true})
			require.NotEmpty(t, jsonOf(t, s.refresh(s.start().RefreshToken, read))["refresh_token"])
			require.Equal(t, http.StatusOK, s.post("/auth/token", nil, withCookies(s.login(), accessCookie, refreshCookie), read).StatusCode)
			require.Equal(t, http.StatusOK, s.post("/auth/token", url.Values{"scope": {""}}, withCookies(s.login(), accessCookie, refreshCookie), read).StatusCode)
			requireError(t, s.post("/auth/token", nil, read), http.StatusBadRequest, "invalid_grant")

			tokens := s.start()
			form := func(add url.Values) url.Values {
				form := refreshForm(tokens.RefreshToken)
				maps.Copy(form, add)
				return form
			}
			unknownLength := func(r *http.Request) { r.ContentLength = -1 }
			as := func(v string) func(*http.Request) { return func(r *http.Request) { r.Header.Set("Content-Type", v) } }
			repeated, huge := form(url.Values{"x": {"1", "2"}}), form(url.Values{"x": {strings.Repeat("x", 16<<10)}})
			requireError(t, s.post("/auth/token", repeated, read), http.StatusBadRequest, "invalid_request")
			requireError(t, s.post("/auth/token", huge, read), http.StatusRequestEntityTooLarge, "invalid_request")
			requireError(t, s.post("/auth/token", huge, read, unknownLength), http.StatusRequestEntityTooLarge, "invalid_request")
			requireError(t, s.post("/auth/token", form(nil), as("application/json"), read), http.StatusBadRequest, "invalid_request")
			requireError(t, s.post("/auth/token?x=1", form(nil), read), http.StatusBadRequest, "invalid_request")
			s.requireLive(tokens.RefreshToken)

			require.Equal(t, http.StatusOK, s.post("/auth/revoke", url.Values{"token": {tokens.AccessToken}}, read).StatusCode)
			_, err := s.m.Refresh(ctx, tokens.RefreshToken)
			require.ErrorIs(t, err, tokensession.ErrRevoked)
		})
	}
}

// Only a request that never had a token says that the browser has none. Where there may have been
// one that got lost on the way, a verdict would end a login that is good.
func TestToken_aBodyThatIsLostIsNoVerdict(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	tokens, cookies := s.start(), s.login()
	lost := func(r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) }
	untyped := func(r *http.Request) { r.Header.Del("Content-Type") }
	of := func(read func(*http.Request)) func(*http.Request) {
		return func(r *http.Request) {
			r.Body = io.NopCloser(io.MultiReader(strings.NewReader("refresh"), iotest.ErrReader(io.ErrUnexpectedEOF)))
			read(r)
		}
	}
	unknownLength := func(r *http.Request) { r.ContentLength = -1 }
	parse := func(r *http.Request) { _ = r.ParseForm() }
	for name, edits := range map[string][]func(*http.Request){
		"read by somebody":                    {lost},
		"read, without a content type":        {untyped, lost},
		"read, of a length nobody knows":      {unknownLength, lost},
		"cut off":                             {of(func(*http.Request) {})},
		"cut off while somebody read":         {of(parse)},
		"… of a length nobody knows":          {unknownLength, of(parse)},
		"HTTP/1.0 without a Content-Length":   {func(r *http.Request) { r.Body, r.ContentLength, r.ProtoMinor = http.NoBody, 0, 0 }},
		"… parsed by somebody":                {func(r *http.Request) { r.Body, r.ContentLength, r.ProtoMinor = http.NoBody, 0, 0 }, parse},
		"no form when somebody parsed it":     {func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader("refresh_token=%zz")) }, parse},
		"a multipart form that somebody read": {func(r *http.Request) { r.Header.Set("Content-Type", "multipart/form-data; boundary=x") }, lost},
	} {
		t.Run(name, func(t *testing.T) {
			answer := s.post("/auth/token", refreshForm(tokens.RefreshToken), edits...)
			require.Empty(t, answer.Header["Set-Cookie"])
			requireError(t, answer, http.StatusBadRequest, "invalid_request")
		})
	}
	answer := s.post("/auth/token", url.Values{"scope": {"read"}}, withCookies(cookies, accessCookie, refreshCookie), lost)
	require.Empty(t, answer.Header["Set-Cookie"])
	requireError(t, answer, http.StatusBadRequest, "invalid_request")
	requireError(t, s.post("/auth/token", nil, unknownLength), http.StatusBadRequest, "invalid_grant")
	s.requireLive(tokens.RefreshToken)
	s.requireLive(cookies[refreshCookie].Value)
}

// RFC 6749 section 3.2: parameters without a value are as if they were not sent.
func TestToken_takesEmptyParametersForNone(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	form := refreshForm(s.start().RefreshToken)
	for _, name := range []string{"client_id", "client_secret", "scope", "x"} {
		form.Set(name, "")
	}
	require.Equal(t, http.StatusOK, s.post("/auth/token", form, func(r *http.Request) { r.SetBasicAuth("app", "") }).StatusCode)
	cookies := s.login()
	form = url.Values{"grant_type": {""}, "refresh_token": {""}}
	require.Equal(t, http.StatusOK, s.post("/auth/token", form, withCookies(cookies, accessCookie, refreshCookie)).StatusCode)
}

// Whatever a client sends, what the host makes of it never keeps a session from being refreshed.
func TestToken_remembersNoMoreThanThereIsRoomFor(t *testing.T) {
	var given map[string]string
	s := newSite(t, sessionhttp.Config{Cookies: true, Attributes: func(*http.Request) map[string]string { return given }})
	for _, names := range []int{1, 15, 16, 17, 32, 33, 100} {
		given = nil
		s.clock.Advance(time.Second)
		cookies := s.login()
		for _, size := range []int{5000, 0, 1, 100, 255, 256} {
			given = map[string]string{}
			for i := range names {
				given[fmt.Sprintf("header %03d", i)] = strings.Repeat("é", size)
			}
			answer := s.post("/auth/token", nil, withCookies(cookies, accessCookie, refreshCookie))
			require.Equal(t, http.StatusOK, answer.StatusCode, "%d names, %d characters", names, size)
			cookies = cookiesOf(t, answer)
			sessions, err := s.m.Sessions(ctx, "alice")
			require.NoError(t, err)
			require.Len(t, sessions[0].Attributes, min(names, 32))
			if names <= 15 && size == 100 {
				require.Equal(t, given["header 000"], sessions[0].Attributes["header 000"])
			}
		}
	}
}

// What the session was given at its login counts first, and that the request's has no room beside
// it is nobody's fault.
func TestToken_refreshesWhereThereIsNoRoomForAttributes(t *testing.T) {
	long := strings.Repeat("x", 4000)
	full := map[string]string{}
	for i := range 32 {
		full[fmt.Sprint("login ", i)] = "x"
	}
	for name, c := range map[string]struct{ login, refresh map[string]string }{
		"too many bytes":      {map[string]string{"note": long}, map[string]string{"agent": strings.Repeat("y", 200)}},
		"too many names":      {full, map[string]string{"agent": "y"}},
		"names too long":      {map[string]string{"note": "x"}, map[string]string{long: "y", long + "y": ""}},
		"a control character": {map[string]string{"note": "x"}, map[string]string{"agent\x00": "y"}},
		"no name":             {map[string]string{"note": "x"}, map[string]string{"": "y"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, sessionhttp.Config{Cookies: true, Attributes: func(*http.Request) map[string]string { return c.refresh }})
			cookies := s.login(tokensession.WithAttributes(c.login))
			tokens := s.start(tokensession.WithAttributes(c.login), tokensession.WithClient("app"))
			for range 2 {
				answer := s.post("/auth/token", nil, withCookies(cookies, accessCookie, refreshCookie))
				require.Equal(t, http.StatusOK, answer.StatusCode)
				cookies = cookiesOf(t, answer)
			}
			s.store.Down()
			requireError(t, s.post("/auth/token", nil, withCookies(cookies, accessCookie, refreshCookie)), http.StatusServiceUnavailable, "temporarily_unavailable")
			s.store.Clear()
			form := refreshForm(tokens.RefreshToken)
			requireError(t, s.post("/auth/token", form), http.StatusBadRequest, "invalid_grant")
			form.Set("client_id", "app")
			require.Equal(t, http.StatusOK, s.post("/auth/token", form).StatusCode)
			sessions, err := s.m.Sessions(ctx, "alice")
			require.NoError(t, err)
			require.Equal(t, c.login, sessions[0].Attributes)
			require.Equal(t, c.login, sessions[1].Attributes)
		})
	}
}

func TestToken_remembersTheDevice(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Attributes: func(r *http.Request) map[string]string {
		return map[string]string{"agent": r.UserAgent(), "ip": r.RemoteAddr}
	}})
	tokens := s.start()
	answer := s.refresh(tokens.RefreshToken, header("User-Agent", "\xffBrowser\x00"+strings.Repeat("é", 500)))
	require.Equal(t, http.StatusOK, answer.StatusCode)
	sessions, err := s.m.Sessions(ctx, "alice")
	require.NoError(t, err)
	require.Regexp(t, "^Browseré+$", sessions[0].Attributes["agent"])
	require.LessOrEqual(t, len(sessions[0].Attributes["agent"]), 255)
	require.NotEmpty(t, sessions[0].Attributes["ip"])
}

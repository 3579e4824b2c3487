package sessionhttp_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func TestNew_saysWhatIsWrong(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	for prefix, ok := range map[string]bool{
		"": true, "/auth": true, "/a/b-c.d_e~f": true,
		"auth": false, "/": false, "/auth/": false, "/a//b": false, "/a/../b": false, "/a b": false, "/{x}": false, "/a;b": false, "/ä": false, "/a?b": false, "/%61": false,
	} {
		_, err := sessionhttp.New(s.m, sessionhttp.Config{Prefix: prefix})
		if ok {
			require.NoError(t, err, prefix)
		} else {
			require.ErrorContains(t, err, "Config.Prefix", prefix)
		}
	}
	_, err := sessionhttp.New(nil, sessionhttp.Config{})
	require.ErrorContains(t, err, "Manager is nil")
	_, err = sessionhttp.New(s.m, sessionhttp.Config{InsecureCookies: true})
	require.ErrorContains(t, err, "Config.InsecureCookies")
	for _, cfg := range []sessionhttp.Config{
		{CookieSuffix: "wiki"}, {Cookies: true, CookieSuffix: "a=b"}, {Cookies: true, CookieSuffix: "a.b"}, {Cookies: true, CookieSuffix: "\u00e4"},
		{Cookies: true, CookieSuffix: strings.Repeat("a", 33)},
	} {
		_, err = sessionhttp.New(s.m, cfg)
		require.ErrorContains(t, err, "Config.CookieSuffix")
	}
	for _, origin := range []string{
		"", "idp.example", "https://idp.example/", "https://idp.example/login", "https://IDP.example",
		"https://idp.example:443", "http://localhost:80", "*", "https://*.example?",
	} {
		_, err = sessionhttp.New(s.m, sessionhttp.Config{LoginOrigins: []string{"https://idp.example:8443", origin}})
		require.ErrorContains(t, err, "Config.LoginOrigins", origin)
	}
}

func TestCrossOrigin_trustsWhomTheHostTrusts(t *testing.T) {
	trust := http.NewCrossOriginProtection()
	require.NoError(t, trust.AddTrustedOrigin("https://app.example"))
	s := newSite(t, sessionhttp.Config{CrossOrigin: trust})
	requireError(t, s.refresh(s.start().RefreshToken, header("Sec-Fetch-Site", "cross-site"), header("Origin", "https://evil.example")), http.StatusForbidden, "access_denied")
	require.Equal(t, http.StatusOK, s.refresh(s.start().RefreshToken, header("Sec-Fetch-Site", "cross-site"), header("Origin", "https://app.example")).StatusCode)

	s = newSite(t, sessionhttp.Config{Cookies: true, CrossOrigin: trust})
	s.protect()
	require.Equal(t, http.StatusForbidden, s.call(webSocket(s.start().AccessToken, "https://evil.example")).StatusCode)
	require.Equal(t, http.StatusOK, s.call(webSocket(s.start().AccessToken, "https://app.example")).StatusCode)
}

// RFC 7517: public members only, each kid once, and the next key before it signs.
func TestJWKS_publishesTheKeysThatVerify(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	tokens := s.start()
	answer := s.do(httptest.NewRequest(http.MethodGet, "/auth/jwks.json", nil))
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, "application/jwk-set+json", answer.Header.Get("Content-Type"))
	require.Equal(t, "public, max-age=300", answer.Header.Get("Cache-Control"))
	body := bodyOf(t, answer)
	require.NotContains(t, body, `"d"`)
	verifier, err := tokensession.NewAccessVerifier([]byte(body), tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"}, Now: s.clock.Now,
	})
	require.NoError(t, err)
	_, err = verifier.Verify(tokens.AccessToken)
	require.NoError(t, err)

	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete} {
		answer := s.do(httptest.NewRequest(method, "/auth/jwks.json", nil))
		require.Equal(t, http.StatusMethodNotAllowed, answer.StatusCode)
		require.Equal(t, "GET, HEAD", answer.Header.Get("Allow"))
	}
}

func TestJWKS_showsARotationBeforeItSigns(t *testing.T) {
	signer := newSigner(t)
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	m := newManager(t, signer, tokensession.NewMemoryStore(), tokensession.Config{Now: func() time.Time { return now }})
	h, err := sessionhttp.New(m, sessionhttp.Config{})
	require.NoError(t, err)
	keys := func() int {
		w := httptest.NewRecorder()
		h.JWKS(w, httptest.NewRequest(http.MethodGet, "/", nil))
		var set struct{ Keys []map[string]any }
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &set))
		kids := map[any]bool{}
		for _, key := range set.Keys {
			kids[key["kid"]] = true
		}
		require.Len(t, kids, len(set.Keys))
		return len(kids)
	}
	require.Equal(t, 1, keys())
	next, err := tokensession.GenerateKey()
	require.NoError(t, err)
	require.NoError(t, signer.Rotate(next, now.Add(10*time.Minute)))
	require.Equal(t, 2, keys())
	now = now.Add(time.Hour)
	require.Equal(t, 1, keys())
}

func TestScript_isAModule(t *testing.T) {
	s := newSite(t, sessionhttp.Config{Cookies: true})
	for name, contentType := range map[string]string{"session.js": "text/javascript", "session.d.ts": "text/plain"} {
		answer := s.do(httptest.NewRequest(http.MethodGet, "/auth/"+name, nil))
		require.Equal(t, http.StatusOK, answer.StatusCode)
		require.Equal(t, contentType+"; charset=utf-8", answer.Header.Get("Content-Type"))
		require.Equal(t, "nosniff", answer.Header.Get("X-Content-Type-Options"))
		file, err := fs.ReadFile(sessionhttp.ScriptFiles(), name)
		require.NoError(t, err)
		require.NotEmpty(t, file)
		require.Equal(t, string(file), bodyOf(t, answer))
		require.Equal(t, http.StatusMethodNotAllowed, s.post("/auth/"+name, nil).StatusCode)
	}
}

func TestWriteTokens_answersALogin(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	tokens := s.start()
	w := httptest.NewRecorder()
	s.h.WriteTokens(w, tokens)
	require.Equal(t, "no-store", w.Header().Get("Cache-Control"))
	body := jsonOf(t, w.Result())
	require.Equal(t, tokens.AccessToken, body["access_token"])
	require.Equal(t, tokens.RefreshToken, body["refresh_token"])

	// Where there is no refresh token, an empty one would replace the one that the client has.
	w = httptest.NewRecorder()
	tokens.RefreshToken = ""
	s.h.WriteTokens(w, tokens)
	body = jsonOf(t, w.Result())
	require.Equal(t, tokens.AccessToken, body["access_token"])
	require.NotContains(t, body, "refresh_token")
	require.NotContains(t, body, "refresh_expires_in")
	require.NotContains(t, body, "refresh_token_timeout")
	require.NotContains(t, body, "authorization_expires_in")
}

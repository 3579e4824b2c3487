package app_test

import (
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/examples/webapp/app"
)

// visitSecure visits an application that is served over HTTPS.
func visitSecure(t *testing.T) *visitor {
	t.Helper()
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	options := app.Options{HashRounds: 1, CertFile: "the test server has its own"}
	a, err := app.New(options, app.WithKey(key), tokensession.NewMemoryStore())
	require.NoError(t, err)
	server := httptest.NewTLSServer(a)
	t.Cleanup(server.Close)
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	return &visitor{t, server, http.Client{Jar: jar, Transport: server.Client().Transport}}
}

// post sends a request without a body, and returns its answer's header.
func (v *visitor) post(path string, body url.Values) http.Header {
	v.t.Helper()
	resp, err := v.client.PostForm(v.server.URL+path, body)
	require.NoError(v.t, err)
	resp.Body.Close()
	return resp.Header
}

// Browsers are asked for a key over HTTPS only, and not in fast motion.
func TestBound_asksBrowsersForAKey(t *testing.T) {
	const offer = "Secure-Session-Registration"
	form, err := url.ParseQuery(alice)
	require.NoError(t, err)

	plain := visit(t, newApp(t))
	require.Empty(t, plain.post("/login", form).Get(offer))
	require.Contains(t, plain.open("/"), "over HTTPS")

	secure := visitSecure(t)
	require.NotEmpty(t, secure.post("/login", form).Get(offer))
	require.Contains(t, secure.open("/"), "or has not begun to")
	require.Contains(t, secure.open("/?short"), "In fast motion")
	require.Empty(t, secure.post("/login", form).Get(offer))

	var is struct{ Bound bool }
	require.Equal(t, 200, secure.do("GET", "/demo/bound", "", &is))
	require.False(t, is.Bound)
	require.Equal(t, 401, visitSecure(t).do("GET", "/demo/bound", "", nil))
}

// A session that the browser refreshes by itself stays in real time, also on a page in fast motion.
// A script's refresh is left to the browser.
func TestBound_isNotInFastMotion(t *testing.T) {
	v := visitSecure(t).logIn()
	v.open("/?short")
	v.lives(inFastMotion, "POST", "/auth/token")
	server, err := url.Parse(v.server.URL)
	require.NoError(t, err)
	trigger := &http.Cookie{Name: "__Host-bound", Value: "1", Path: "/", Secure: true}
	v.client.Jar.SetCookies(server, []*http.Cookie{trigger})
	var left struct{ Error string }
	require.Equal(t, 400, v.do("POST", "/auth/token", "", &left))
	require.Equal(t, "invalid_dpop_proof", left.Error)
}

// Where a session is bound to no device, who has a copy of the cookies has the session.
func TestSteal_ofASessionThatIsNotBound(t *testing.T) {
	v := visit(t, newApp(t)).logIn()
	for range 2 { // the thief goes on with the new tokens
		var story struct {
			Until   *string
			Refresh string
		}
		require.Equal(t, 200, v.do("POST", "/auth/steal", "", &story))
		require.NotNil(t, story.Until)
		require.Equal(t, "done", story.Refresh)
	}
	// The browser comes with what the thief has used up.
	require.Equal(t, 400, v.do("POST", "/auth/token", "", nil))
	require.Equal(t, 401, v.calls())
	require.Equal(t, 401, v.do("POST", "/auth/steal", "", nil))
}

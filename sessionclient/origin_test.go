package sessionclient_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

func TestTransport_sendsTheTokenToItsOriginsOnly(t *testing.T) {
	for _, c := range []struct {
		origins []string
		url     string
		want    bool
	}{
		{nil, "https://auth.example/x", true},
		{nil, "https://auth.example:443/x?y#z", true},
		{nil, "https://AUTH.example/", true},
		{nil, "HTTPS://auth.example/", true},
		{nil, "http://auth.example/", false},
		{nil, "http://auth.example:443/", false},
		{nil, "https://auth.example:8443/", false},
		{nil, "https://api.example/", false},
		{nil, "https://auth.example.evil.example/", false},
		{nil, "https://auth.example./", false},
		{nil, "https://sub.auth.example/", false},
		{nil, "https://evilauth.example/", false},
		{nil, "https://auth.example@evil.example/", false},
		{nil, "https://evil.example/https://auth.example/", false},
		{nil, "https://ａuth.example/", false},
		{[]string{"https://api.example"}, "https://auth.example/", false},
		{[]string{"https://api.example/"}, "https://api.example/", true},
		{[]string{"https://api.example:443"}, "https://api.example/", true},
		{[]string{"https://api.Example", "http://localhost:8080"}, "http://localhost:8080/", true},
		{[]string{"http://localhost:8080"}, "http://localhost/", false},
		{[]string{"http://127.0.0.1"}, "http://127.0.0.1:80/", true},
		{[]string{"http://127.0.0.1"}, "http://127.0.0.2/", false},
		{[]string{"http://[::1]:8080"}, "http://[::1]:8080/", true},
		{[]string{"https://kelvin.example"}, "https://\u212aelvin.example/", false},
	} {
		var got []string
		var store sessionclient.TokenMemory
		require.NoError(t, store.Save(t.Context(), tokensession.Tokens{AccessToken: "secret", RefreshToken: "secret too"}))
		transport, err := sessionclient.New(clientAuthURL, &store, sessionclient.Config{
			Origins: c.origins,
			Base: clientBase(func(req *http.Request) (*http.Response, error) {
				got = append(got, req.Header.Get("Authorization"))
				return &http.Response{StatusCode: 401, Body: http.NoBody, Request: req}, nil
			}),
		})
		require.NoError(t, err)
		req, err := http.NewRequest("GET", c.url, nil)
		require.NoError(t, err)
		req.URL.User = nil
		resp, err := transport.RoundTrip(req)
		if c.want {
			require.ErrorIs(t, err, tokensession.ErrUnavailable, c.url) // a 401 is no refresh
			require.Equal(t, []string{"Bearer secret", ""}, got[:2], c.url)
		} else {
			require.NoError(t, err)
			require.Equal(t, 401, resp.StatusCode, c.url)
			require.Equal(t, []string{""}, got, "%s with %s", c.url, c.origins)
		}
	}
}

func TestTransport_dropsTheTokenAtARedirectToAnotherOrigin(t *testing.T) {
	w := newClientWorld(t)
	var elsewhere []http.Header
	other := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { elsewhere = append(elsewhere, r.Header) }))
	defer other.Close()
	server := httptest.NewServer(w)
	defer server.Close()
	w.setAPI(func(rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
		switch r.URL.Path {
		case "/away":
			http.Redirect(rw, r, other.URL, http.StatusTemporaryRedirect)
		case "/back":
			http.Redirect(rw, r, server.URL+"/api", http.StatusTemporaryRedirect)
		default:
			serve(rw)
		}
	})
	transport, err := sessionclient.New(server.URL+"/token", w.memory, w.config(nil))
	require.NoError(t, err)
	status, _, err := clientGet(t.Context(), transport, server.URL+"/away")
	require.NoError(t, err)
	require.Equal(t, 200, status)
	require.Len(t, elsewhere, 1)
	require.Empty(t, elsewhere[0]["Authorization"])
	for name := range elsewhere[0] {
		require.NotContains(t, elsewhere[0].Get(name), w.start.AccessToken)
	}
	status, _, err = clientGet(t.Context(), transport, server.URL+"/back")
	require.NoError(t, err)
	require.Equal(t, 200, status, "the same origin gets it again")
	transport.CloseIdleConnections()
}

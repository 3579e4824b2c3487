package sessionclient_test

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

func TestNewTransport_refuses(t *testing.T) {
	const good = clientAuthURL
	for _, c := range []struct {
		url  string
		cfg  sessionclient.Config
		want string
	}{
		{"", sessionclient.Config{}, "must begin with https://"},
		{"/token", sessionclient.Config{}, "must begin with https://"},
		{"https://", sessionclient.Config{}, "must begin with https://"},
		{"ftp://auth.example", sessionclient.Config{}, "must begin with https://"},
		{"https://auth.example/%zz", sessionclient.Config{}, "is not a URL"},
		{"https://u:secret@auth.example/token", sessionclient.Config{}, "user information"},
		{"https://auth.example/token#x", sessionclient.Config{}, "fragment"},
		{"http://auth.example/token", sessionclient.Config{}, "InsecureAllowPlainHTTP"},
		{"http://127.0.0.1.evil.example/token", sessionclient.Config{}, "InsecureAllowPlainHTTP"},
		{"http://localhost.evil.example/token", sessionclient.Config{}, "InsecureAllowPlainHTTP"},
		{"http://192.168.0.1/token", sessionclient.Config{}, "InsecureAllowPlainHTTP"},
		{"http://0.0.0.0/token", sessionclient.Config{}, "InsecureAllowPlainHTTP"},
		{good, sessionclient.Config{Origins: []string{"http://api.example"}}, "InsecureAllowPlainHTTP"},
		{good, sessionclient.Config{Origins: []string{"api.example"}}, "must begin with https://"},
		{good, sessionclient.Config{Origins: []string{"*"}}, "must begin with https://"},
		{good, sessionclient.Config{Origins: []string{"https://api.example/v1"}}, "must end after"},
		{good, sessionclient.Config{Origins: []string{"https://api.example?"}}, "must end after"},
		{good, sessionclient.Config{RevokeURL: "/revoke"}, "must begin with https://"},
		{good, sessionclient.Config{RevokeURL: "http://auth.example/revoke"}, "InsecureAllowPlainHTTP"},
		{good, sessionclient.Config{RevokeURL: "https://u:secret@auth.example/revoke"}, "user information"},
		{good, sessionclient.Config{RefreshBefore: -1}, "RefreshBefore -1ns: cannot be negative"},
		{good, sessionclient.Config{RefreshTimeout: -1}, "RefreshTimeout -1ns: must be from 0 to 7s"},
		{good, sessionclient.Config{RefreshTimeout: 8 * time.Second}, "RefreshTimeout 8s: must be from 0 to 7s"},
	} {
		transport, err := sessionclient.New(c.url, &sessionclient.TokenMemory{}, c.cfg)
		require.ErrorContains(t, err, c.want, "%s %v", c.url, c.cfg.Origins)
		require.NotContains(t, err.Error(), "secret")
		require.Nil(t, transport)
	}
	_, err := sessionclient.New(good, nil, sessionclient.Config{})
	require.ErrorContains(t, err, "store is nil")

	for _, c := range []struct {
		url string
		cfg sessionclient.Config
	}{
		{"http://localhost/token", sessionclient.Config{}},
		{"http://LOCALHOST:8080/token", sessionclient.Config{}},
		{"http://127.8.9.1:8080/token", sessionclient.Config{}},
		{"http://[::1]/token", sessionclient.Config{}},
		{"https://auth.example/token?tenant=1", sessionclient.Config{}},
		{"http://auth.example/token", sessionclient.Config{InsecureAllowPlainHTTP: true}},
		{good, sessionclient.Config{Origins: []string{"http://api.example"}, InsecureAllowPlainHTTP: true}},
	} {
		_, err := sessionclient.New(c.url, &sessionclient.TokenMemory{}, c.cfg)
		require.NoError(t, err, c.url)
	}
}

func TestTransport_copiesItsConfig(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		cfg := w.config(clientNetwork{w, w})
		cfg.Origins = []string{"https://auth.example"}
		cfg.ClientID = "cli"
		transport, err := sessionclient.New(clientAuthURL, w.memory, cfg)
		require.NoError(t, err)
		cfg.Origins[0] = "https://evil.example"
		w.setFault(func(_ int, rw http.ResponseWriter, r *http.Request, serve func(http.ResponseWriter)) {
			if r.PostFormValue("client_id") != "cli" || r.Header.Get("Accept") != "application/json" {
				t.Error("the refresh has no client_id or Accept")
			}
			serve(rw)
		})
		pass(time.Hour)
		requireGet(t, transport)
	})
}

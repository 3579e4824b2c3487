package app_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// A page without a script says who it is, also when the access token is of no use any more.
func TestProfile_isResumed(t *testing.T) {
	v := visit(t, newApp(t))
	require.Contains(t, v.open("/profile"), "Nobody is logged in")
	v.logIn()
	require.Contains(t, v.open("/profile"), "<dd>alice</dd>")
	require.NotContains(t, v.open("/profile"), "<script")

	server, err := url.Parse(v.server.URL)
	require.NoError(t, err)
	cookie := func() string {
		for _, c := range v.client.Jar.Cookies(server) {
			if c.Name == "access" {
				return c.Value
			}
		}
		return ""
	}
	before := cookie()
	bad := before[:strings.LastIndex(before, ".")+1] + "expired"
	v.client.Jar.SetCookies(server, []*http.Cookie{{Name: "access", Value: bad, Path: "/"}})
	require.Contains(t, v.open("/profile"), "<dd>alice</dd>")
	require.NotEqual(t, bad, cookie())
	require.NotEqual(t, before, cookie())

	v.do("POST", "/auth/logout", "", nil)
	require.Contains(t, v.open("/profile"), "Nobody is logged in")
}

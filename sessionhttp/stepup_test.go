package sessionhttp_test

import (
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func TestRequire_sendsWhoHasNotProvedEnoughToStepUp(t *testing.T) {
	const insufficient = `Bearer error="insufficient_user_authentication"`
	five := sessionhttp.MaxAuthAge(5 * time.Minute)
	for name, c := range map[string]struct {
		start []tokensession.StartOption
		opts  []sessionhttp.RequireOption
		wait  time.Duration
		want  string // the challenge; empty: let through
	}{
		"a moment ago":      {opts: []sessionhttp.RequireOption{five}},
		"just in time":      {opts: []sessionhttp.RequireOption{five}, wait: 5 * time.Minute},
		"a second too late": {opts: []sessionhttp.RequireOption{five}, wait: 5*time.Minute + time.Second, want: insufficient + `, max_age="300"`},
		"long ago, and logged in a moment ago": {
			start: []tokensession.StartOption{tokensession.WithAuthTime(time.Unix(0, 0))},
			opts:  []sessionhttp.RequireOption{five}, want: insufficient + `, max_age="300"`,
		},
		"the shorter of two": {
			opts: []sessionhttp.RequireOption{sessionhttp.MaxAuthAge(time.Minute), five}, wait: 2 * time.Minute,
			want: insufficient + `, max_age="60"`,
		},
		"never again": {opts: []sessionhttp.RequireOption{sessionhttp.MaxAuthAge(0)}, wait: time.Second, want: insufficient + `, max_age="0"`},
		"by the method": {
			start: []tokensession.StartOption{tokensession.WithAuthMethods("pwd", "otp")},
			opts:  []sessionhttp.RequireOption{sessionhttp.AuthMethods("otp")},
		},
		"by no method": {opts: []sessionhttp.RequireOption{sessionhttp.AuthMethods("otp")}, want: insufficient + `, acr_values="otp"`},
		"by another method": {
			start: []tokensession.StartOption{tokensession.WithAuthMethods("pwd", "OTP")},
			opts:  []sessionhttp.RequireOption{sessionhttp.AuthMethods("otp")}, want: insufficient + `, acr_values="otp"`,
		},
		"by one method of two": {
			start: []tokensession.StartOption{tokensession.WithAuthMethods("otp")},
			opts:  []sessionhttp.RequireOption{sessionhttp.AuthMethods("otp", "hwk"), five},
			want:  insufficient + `, acr_values="otp hwk", max_age="300"`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, sessionhttp.Config{Cookies: true})
			tokens := s.start(c.start...)
			s.clock.Advance(c.wait)
			behind := s.h.Require(c.opts...)(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(http.StatusNoContent)
			}))
			for _, edit := range []func(*http.Request){
				bearer(tokens.AccessToken),
				func(r *http.Request) { r.AddCookie(&http.Cookie{Name: accessCookie, Value: tokens.AccessToken}) },
			} {
				r := httptest.NewRequest(http.MethodPost, "/email", nil)
				edit(r)
				w := httptest.NewRecorder()
				behind.ServeHTTP(w, r)
				if c.want == "" {
					require.Equal(t, http.StatusNoContent, w.Code)
					continue
				}
				requireError(t, w.Result(), http.StatusUnauthorized, "insufficient_user_authentication")
				require.Equal(t, []string{c.want}, w.Header()["Www-Authenticate"])
			}
		})
	}
}

// What comes first is what the user can do least about.
func TestRequire_asksForMoreProofLast(t *testing.T) {
	s := newSite(t, sessionhttp.Config{})
	s.grant.Scope = "read"
	tokens := s.start()
	get := func(token string, opts ...sessionhttp.RequireOption) *http.Response {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		bearer(token)(r)
		w := httptest.NewRecorder()
		s.h.Require(opts...)(http.NotFoundHandler()).ServeHTTP(w, r)
		return w.Result()
	}
	otp := sessionhttp.AuthMethods("otp")
	requireError(t, get(tokens.AccessToken, otp, sessionhttp.Scope("write")), http.StatusForbidden, "insufficient_scope")
	requireError(t, get("x", otp), http.StatusUnauthorized, "invalid_token")
	requireError(t, get(tokens.AccessToken, otp, sessionhttp.Optional()), http.StatusUnauthorized, "insufficient_user_authentication")

	stepped, err := s.m.Reauthenticate(ctx, tokens.Session.ID, tokensession.WithAuthMethods("otp"))
	require.NoError(t, err)
	require.Equal(t, http.StatusNotFound, get(stepped.AccessToken, otp, sessionhttp.MaxAuthAge(time.Minute)).StatusCode)
}

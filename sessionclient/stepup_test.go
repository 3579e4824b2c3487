package sessionclient_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func refusal(status int, challenges ...string) *http.Response {
	return &http.Response{StatusCode: status, Header: http.Header{"Www-Authenticate": challenges}}
}

func TestStepUpOf(t *testing.T) {
	const code = `error="insufficient_user_authentication"`
	seconds := func(n int) *time.Duration {
		d := time.Duration(n) * time.Second
		return &d
	}
	for challenges, expected := range map[string]*sessionclient.StepUp{
		`Bearer ` + code:                                          {},
		`Bearer ` + code + `, max_age="300"`:                      {MaxAge: seconds(300)},
		`Bearer ` + code + `, max_age=5`:                          {MaxAge: seconds(5)},
		`Bearer ` + code + `, max_age="0"`:                        {MaxAge: seconds(0)},
		`Bearer ` + code + `, max_age="-1"`:                       {},
		`Bearer ` + code + `, max_age="1.5"`:                      {},
		`Bearer ` + code + `, max_age="9223372036854775807"`:      {MaxAge: seconds(315360000)},
		`Bearer ` + code + `, max_age="99999999999999999999"`:     {},
		`Bearer ` + code + `, acr_values="b  a"`:                  {ACRValues: []string{"b", "a"}},
		`Bearer ` + code + `, scope="r w"`:                        {Scope: "r w"},
		`Bearer realm="x", ` + code + `, max_age="1", max_age=2`:  {MaxAge: seconds(1)},
		`DPoP algs="ES256 EdDSA", ` + code + `, max_age="60"`:     {MaxAge: seconds(60)},
		`BEARER ERROR="insufficient_user_authentication"`:         {},
		`Bearer error="insufficient\_user_authentication"`:        {},
		"Basic realm=\"a, Bearer " + `\"` + "\"\nBearer " + code:  {},
		`Negotiate YWJj/+==, Bearer ` + code + ` , max_age = "7"`: {MaxAge: seconds(7)},
		`Negotiate, Bearer ` + code:                               {},
		`Bearer error="invalid_token", DPoP ` + code:              {},
		`Bearer`:                       nil,
		``:                             nil,
		code:                           nil,
		`Bearer error="invalid_token"`: nil,
		`Bearer error="insufficient_user_authentication`:                     nil,
		`Bearer error="INSUFFICIENT_USER_AUTHENTICATION"`:                    nil,
		`Bearer error="x", error="insufficient_user_authentication"`:         nil,
		`Bearer d="x\", error=insufficient_user_authentication"`:             nil,
		`Bearer x=y@, error="insufficient_user_authentication", max_age="1"`: nil,
	} {
		got, ok := sessionclient.StepUpOf(refusal(401, strings.Split(challenges, "\n")...))
		require.Equal(t, expected != nil, ok, challenges)
		if expected == nil {
			expected = &sessionclient.StepUp{}
		}
		if expected.ACRValues == nil {
			expected.ACRValues = got.ACRValues
			require.Empty(t, got.ACRValues, challenges)
		}
		require.Equal(t, *expected, got, challenges)
	}
	for _, status := range []int{200, 400, 403} {
		_, ok := sessionclient.StepUpOf(refusal(status, "Bearer "+code))
		require.False(t, ok, status)
	}
}

// What a server requires comes back as it was required, and once the user has proved it, the
// Transport goes on by itself.
func TestTransport_stepsUp(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		paid := 0
		pay := w.h.Require(sessionhttp.MaxAuthAge(5*time.Minute), sessionhttp.AuthMethods("otp", "pwd"))(
			http.HandlerFunc(func(http.ResponseWriter, *http.Request) { paid++ }))
		prove := w.h.Require()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			access, _ := sessionhttp.FromContext(r.Context())
			_, err := w.m.Reauthenticate(r.Context(), access.SessionID,
				tokensession.WithAuthMethods("pwd", "otp"))
			if err != nil {
				panic(err)
			}
		}))
		w.setAPI(func(rw http.ResponseWriter, r *http.Request, _ func(http.ResponseWriter)) {
			if r.URL.Query().Has("prove") {
				prove.ServeHTTP(rw, r)
				return
			}
			pay.ServeHTTP(rw, r)
		})
		client := &http.Client{Transport: w.transport(w.memory)}
		post := func(query string) *http.Response {
			resp, err := client.Post(clientAPIURL+query, "text/plain", strings.NewReader("ten"))
			require.NoError(t, err)
			resp.Body.Close()
			return resp
		}
		resp := post("")
		require.Equal(t, 401, resp.StatusCode)
		require.Zero(t, w.refreshes(), "no refresh cures it")
		require.Equal(t, 1, w.apiCalls(), "and the request is not sent again")
		asked, ok := sessionclient.StepUpOf(resp)
		require.True(t, ok)
		require.Equal(t, 5*time.Minute, *asked.MaxAge)
		require.Equal(t, []string{"otp", "pwd"}, asked.ACRValues)

		require.Equal(t, 200, post("?prove").StatusCode)
		require.Equal(t, 200, post("").StatusCode)
		require.Equal(t, 1, paid)
		require.Equal(t, 1, w.refreshes(), "the token of before is outdated")
		_, ok = sessionclient.StepUpOf(post(""))
		require.False(t, ok)
	})
}

// No answer breaks the reader, and what it reads was said.
func FuzzStepUpOf(f *testing.F) {
	for _, seed := range []string{
		``, `Bearer`, `Bearer error="insufficient_user_authentication", max_age="60"`,
		`Negotiate YWJj==, DPoP error=insufficient_user_authentication,acr_values="a b"`,
		`Basic realm="\"", Bearer error="insufficient_user_authentication`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, field string) {
		asked, ok := sessionclient.StepUpOf(refusal(401, field))
		plain := strings.ReplaceAll(field, `\`, "")
		if ok && !strings.Contains(plain, "insufficient_user_authentication") {
			t.Fatalf("%q is not a step-up", field)
		}
		if asked.MaxAge != nil && *asked.MaxAge < 0 {
			t.Fatalf("%q: %v", field, *asked.MaxAge)
		}
		for _, value := range asked.ACRValues {
			if value == "" || !strings.Contains(plain, strings.ReplaceAll(value, `\`, "")) {
				t.Fatalf("%q does not have %q", field, value)
			}
		}
	})
}

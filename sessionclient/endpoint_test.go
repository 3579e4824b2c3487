package sessionclient_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

var askedAt = time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)

func TestParseTokens(t *testing.T) {
	in := func(d time.Duration) time.Time { return askedAt.Add(d) }
	for body, want := range map[string]tokensession.Tokens{
		`{"access_token":"a","token_type":"Bearer","expires_in":900,"refresh_token":"r","scope":"x","refresh_expires_in":604800}`: {
			AccessToken: "a", TokenType: "Bearer", AccessExpiresAt: in(15 * time.Minute), RefreshToken: "r", RefreshExpiresAt: in(7 * 24 * time.Hour), Scope: "x"},
		`{"access_token":"a","token_type":"bearer"}`:                                                               {AccessToken: "a", TokenType: "Bearer"},
		`{"access_token":"a","token_type":"BEARER","expires_in":"900","refresh_token":null}`:                       {AccessToken: "a", TokenType: "Bearer", AccessExpiresAt: in(15 * time.Minute)},
		`{"access_token":"a","token_type":"Bearer","expires_in":0.5}`:                                              {AccessToken: "a", TokenType: "Bearer", AccessExpiresAt: in(time.Second / 2)},
		`{"access_token":"a","token_type":"Bearer","expires_in":0}`:                                                {AccessToken: "a", TokenType: "Bearer"},
		`{"access_token":"a","token_type":"Bearer","expires_in":-1}`:                                               {AccessToken: "a", TokenType: "Bearer"},
		`{"access_token":"a","token_type":"Bearer","expires_in":null,"refresh_expires_in":["soon"],"scope":["x"]}`: {AccessToken: "a", TokenType: "Bearer"},
		`{"access_token":"a","token_type":"Bearer","expires_in":"NaN"}`:                                            {AccessToken: "a", TokenType: "Bearer"},
		`{"access_token":"a","token_type":"Bearer","expires_in":1e300}`:                                            {AccessToken: "a", TokenType: "Bearer", AccessExpiresAt: in(10 * 365 * 24 * time.Hour)},
		`{"access_token":"a","token_type":"DPoP","refresh_token":"r"}`: {
			AccessToken: "a", TokenType: "DPoP", RefreshToken: "r"},
		`{"access_token":"a","token_type":"dpop"}`: {AccessToken: "a", TokenType: "DPoP"},
	} {
		got, err := sessionclient.ParseTokens([]byte(body), askedAt)
		require.NoError(t, err, body)
		require.Equal(t, want, got, body)
	}
	for _, body := range []string{
		"", "null", "[]", "{}", "<html>", `"secret"`, `{"access_token":"secret"}`, `{"access_token":"secret","token_type":"Bearer"`,
		`{"access_token":"","token_type":"Bearer"}`, `{"access_token":12345,"token_type":"Bearer"}`,
		`{"access_token":"secret","token_type":"MAC"}`, `{"access_token":"secret","token_type":"Bearer","refresh_token":12345}`,
		`{"access_token":"secret\r\nX: y","token_type":"Bearer"}`, `{"access_token":"secret token","token_type":"Bearer"}`,
		`{"access_token":"sécret","token_type":"Bearer"}`, `{"access_token":"a","token_type":"Bearer","refresh_token":"secret\u0000"}`,
		`{"access_token":"secret","token_type":"Bearer"} secret`, `{"error":"invalid_grant","error_description":"secret"}`,
	} {
		got, err := sessionclient.ParseTokens([]byte(body), askedAt)
		require.Error(t, err, body)
		require.Zero(t, got)
		require.NotContains(t, err.Error(), "secret")
		require.NotContains(t, err.Error(), "12345")
	}
}

// FuzzParseTokens shows that tokens which are accepted can be sent in a header. They expire after
// the time at which they were asked for, and not absurdly late.
func FuzzParseTokens(f *testing.F) {
	f.Add([]byte(`{"access_token":"a","token_type":"Bearer","expires_in":900,"refresh_token":"r","refresh_expires_in":604800}`))
	f.Add([]byte(`{"ACCESS_TOKEN":"a","token_type":"bearer","expires_in":"1e9"}`))
	f.Add([]byte(`{"access_token":"\u007f","token_type":"Bearer","expires_in":-0.0}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		tokens, err := sessionclient.ParseTokens(body, askedAt)
		if err != nil {
			require.Zero(t, tokens)
			return
		}
		require.NotEmpty(t, tokens.AccessToken)
		require.Contains(t, []string{"Bearer", "DPoP"}, tokens.TokenType)
		for _, c := range tokens.AccessToken + tokens.RefreshToken {
			require.True(t, '!' <= c && c <= '~', "%q", c)
		}
		for _, at := range []time.Time{tokens.AccessExpiresAt, tokens.RefreshExpiresAt} {
			require.True(t, at.IsZero() || !at.Before(askedAt) && at.Before(askedAt.AddDate(10, 0, 1)), "%v", at)
		}
	})
}

func TestTransport_readsNoEndlessAnswer(t *testing.T) {
	clientBubble(t, tokensession.Config{}, func(t *testing.T, w *clientWorld) {
		transport := w.transport(w.memory)
		pass(time.Hour)
		w.setFault(answer(200, strings.Repeat(" ", 200<<10)+`{"access_token":"a","token_type":"Bearer"}`))
		_, _, err := clientGet(t.Context(), transport, clientAPIURL)
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
		require.Equal(t, w.start, loaded(t, w.memory))
	})
}

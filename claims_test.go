package tokensession_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

type accessGrant = tokensession.Grant

// A accessGranter is an authorizer whose next answer a test sets.
type accessGranter struct {
	grant accessGrant
	calls int
}

func (g *accessGranter) authorize(context.Context, tokensession.Session) (tokensession.Grant, error) {
	g.calls++
	return g.grant, nil
}

func newAccessGranter(t testing.TB, onEvent func(context.Context, tokensession.Event)) (*accessBench, *accessGranter) {
	g := &accessGranter{}
	return newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{Authorize: g.authorize, OnEvent: onEvent}), g
}

// badGrants are what no access token can carry, and what the error has to name.
func badGrants() map[string]struct {
	grant accessGrant
	names string
} {
	type bad = struct {
		grant accessGrant
		names string
	}
	claims := func(name string, value any) accessGrant { return accessGrant{Claims: map[string]any{name: value}} }
	cases := map[string]bad{
		"two claims that differ in case": {accessGrant{Claims: map[string]any{"role": 1, "Role": 2}}, "case"},
		"Kelvin sign and k":              {accessGrant{Claims: map[string]any{"k": 1, "\u212A": 2}}, "case"},
		"a name that is not UTF-8":       {claims("a\xff", 1), "UTF-8"},
		"two names that are not UTF-8":   {accessGrant{Claims: map[string]any{"\xff": 1, "\xfe": 2}}, "UTF-8"},
		"a nested name twice":            {claims("x", json.RawMessage(`{"a":1,"a":2}`)), "twice"},
		"raw JSON with a lone surrogate": {claims("x", json.RawMessage(`"\ud800"`)), "surrogate"},
		"raw JSON that is not JSON":      {claims("x", json.RawMessage(`{`)), "claims"},
		"raw JSON that is not UTF-8":     {claims("x", json.RawMessage("\"\xff\"")), "UTF-8"},
		"raw JSON that breaks out":       {claims("x", json.RawMessage(`1,"sub":"root"`)), "claims"},
		"a function":                     {claims("x", func() {}), "func()"},
		"a channel":                      {claims("x", make(chan int)), "chan int"},
		"not a number":                   {claims("x", math.NaN()), "NaN"},
		"infinity":                       {claims("x", math.Inf(1)), "Inf"},
		"a failing marshaler":            {claims("x", failingMarshaler{}), "no such luck"},
		"too large":                      {claims("x", strings.Repeat("x", 8192)), "8192"},
		"too large by a list":            {claims("x", make([]bool, 1500)), "8192"},
		"too large an audience":          {accessGrant{Audience: strings.Fields(strings.Repeat("https://service.example ", 300))}, "8192"},
		"too large a scope":              {accessGrant{Scope: strings.TrimSpace(strings.Repeat("read ", 1600))}, "8192"},
		"an empty audience":              {accessGrant{Audience: []string{"a", ""}}, "Grant.Audience"},
		"a long audience":                {accessGrant{Audience: []string{strings.Repeat("a", 256)}}, "255"},
		"an audience that is not UTF-8":  {accessGrant{Audience: []string{"\xff"}}, "UTF-8"},
		"an audience with a newline":     {accessGrant{Audience: []string{"a\n"}}, "U+000A"},
	}
	for _, name := range []string{"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "sid", "auth_time", "amr", "acr", "act", "scope", "epoch"} {
		for _, n := range []string{name, strings.ToUpper(name), strings.ToUpper(name[:1]) + name[1:], strings.ReplaceAll(name, "s", "\u017F")} {
			cases["reserved "+n] = bad{claims(n, "x"), "reserved"}
		}
	}
	for _, scope := range []string{" ", " a", "a ", "a  b", "a\tb", "a\nb", `a"b`, `a\b`, "ä", "a\x00", "a\x7f", "a\u00a0b", "\xff"} {
		cases["scope "+scope] = bad{accessGrant{Scope: scope}, "Grant.Scope"}
	}
	return cases
}

type failingMarshaler struct{}

func (failingMarshaler) MarshalJSON() ([]byte, error) { return nil, errors.New("no such luck") }

func TestGrant_thatNoTokenCanCarryIsRefusedAndConsumesNothing(t *testing.T) {
	for name, c := range badGrants() {
		var events []tokensession.EventKind
		b, g := newAccessGranter(t, func(_ context.Context, e tokensession.Event) { events = append(events, e.Kind) })
		g.grant = c.grant
		_, err := b.manager.Start(context.Background(), "alice")
		requireUnavailable(t, err, name, c.names)
		sessions, err := b.manager.Sessions(context.Background(), "alice")
		require.NoError(t, err)
		require.Empty(t, sessions, name)
		require.Empty(t, events, name)

		g.grant = accessGrant{}
		tokens := b.start(t)
		g.grant = c.grant
		for range 2 {
			_, err = b.manager.Refresh(context.Background(), tokens.RefreshToken)
			requireUnavailable(t, err, name, c.names)
		}
		g.grant = accessGrant{}
		next, err := b.manager.Refresh(context.Background(), tokens.RefreshToken)
		require.NoError(t, err, name)
		require.NotEqual(t, tokens.RefreshToken, next.RefreshToken)
		require.Equal(t, []tokensession.EventKind{tokensession.EventStarted, tokensession.EventRefreshed}, events,
			"%s: the refused attempts consumed nothing, so this was not a replay", name)
	}
}

func requireUnavailable(t *testing.T, err error, name, names string) {
	t.Helper()
	require.ErrorIs(t, err, tokensession.ErrUnavailable, name)
	require.NotErrorIs(t, err, tokensession.ErrInvalidToken, name)
	require.NotErrorIs(t, err, tokensession.ErrDenied, name)
	require.ErrorContains(t, err, names, name)
}

// TestGrant_isCarriedAsItIs checks each claim on the way out: what went in comes back, equal and of
// the same type.
func TestGrant_isCarriedAsItIs(t *testing.T) {
	type address struct {
		City string `json:"city"`
		Zip  *int   `json:"zip"`
	}
	zip := 1010
	in := map[string]any{
		"text": "ünïcode \u2028 <script>&amp; 😀 \ufffd \" \\ \\ufffd \n", "empty": "", "true": true, "null": nil,
		"int": math.MaxInt64, "float": 0.1, "list": []string{"a", "b"}, "none": []string{},
		"object": address{"Wien", &zip}, "raw": json.RawMessage(`{"a":[1,{"b":null}]}`), "escaped": json.RawMessage(`"\ud83d\ude00\ufffd"`),
		"": "no name", "a.b/c": 1, "https://example.com/roles": []string{"admin"}, "issuer": "x", "Kind": "K", "straße": 1,
	}
	b, g := newAccessGranter(t, nil)
	g.grant = accessGrant{Claims: in, Scope: "read:all !#[]~", Audience: []string{"https://api.example", "https://b.example"}}
	tokens := b.start(t)
	for by, verify := range b.verifiers() {
		access, err := verify(tokens.AccessToken)
		require.NoError(t, err, by)
		require.Equal(t, g.grant.Scope, access.Scope)
		require.Equal(t, g.grant.Audience, access.Audience)

		for name, value := range in {
			want, err := json.Marshal(value)
			require.NoError(t, err)
			var got json.RawMessage
			require.NoError(t, access.Claim(name, &got), name)
			require.JSONEq(t, string(want), string(got), name)
		}
		text := claimAs[string](t, access, "text")
		require.Equal(t, in["text"], text)
		require.Equal(t, "😀\ufffd", claimAs[string](t, access, "escaped"))
		require.Equal(t, int64(math.MaxInt64), claimAs[int64](t, access, "int"))
		require.Equal(t, 0.1, claimAs[float64](t, access, "float"))
		require.True(t, claimAs[bool](t, access, "true"))
		require.Nil(t, claimAs[*string](t, access, "null"))
		require.Equal(t, []string{"a", "b"}, claimAs[[]string](t, access, "list"))
		require.Equal(t, address{"Wien", &zip}, claimAs[address](t, access, "object"))
		require.Equal(t, map[string]any{"city": "Wien", "zip": 1010.0}, claimAs[any](t, access, "object"))
		require.Equal(t, "alice", claimAs[string](t, access, "sub"), "a standard claim is found, too")
	}
}

func claimAs[T any](t *testing.T, access tokensession.Access, name string) T {
	t.Helper()
	var dst T
	require.NoError(t, access.Claim(name, &dst), name)
	return dst
}

func TestAccessClaim_tellsAbsentFromBroken(t *testing.T) {
	b, g := newAccessGranter(t, nil)
	g.grant = accessGrant{Claims: map[string]any{"role": "admin", "n": 300}}
	access, err := b.manager.Verify(b.start(t).AccessToken)
	require.NoError(t, err)

	for _, absent := range []string{"nope", "", "Role", "ROLE", "role ", "nbf", "scope"} {
		dst := "untouched"
		require.ErrorIs(t, access.Claim(absent, &dst), tokensession.ErrNoClaim, absent)
		require.NotErrorIs(t, access.Claim(absent, &dst), tokensession.ErrNotFound, "which is said of sessions")
		require.Equal(t, "untouched", dst)
	}
	var number int
	var small int8
	for name, err := range map[string]error{
		"wrong type":    access.Claim("role", &number),
		"out of range":  access.Claim("n", &small),
		"no pointer":    access.Claim("role", ""),
		"nil":           access.Claim("role", nil),
		"a nil pointer": access.Claim("role", (*string)(nil)),
	} {
		require.Error(t, err, name)
		require.NotErrorIs(t, err, tokensession.ErrNoClaim, name)
	}
	var typeError *json.UnmarshalTypeError
	require.ErrorAs(t, access.Claim("role", &number), &typeError)
	require.ErrorIs(t, tokensession.Access{}.Claim("role", &number), tokensession.ErrNoClaim, "of the zero value")
}

func TestAccessToken_writesOneAudienceAsTextAndSeveralAsArray(t *testing.T) {
	b, g := newAccessGranter(t, nil)
	for _, c := range []struct {
		audience []string
		want     any
	}{
		{nil, "https://api.example"},
		{[]string{}, "https://api.example"},
		{[]string{"https://b.example"}, "https://b.example"},
		{[]string{"https://b.example", "https://a.example"}, []any{"https://b.example", "https://a.example"}},
	} {
		g.grant.Audience = c.audience
		require.Equal(t, c.want, claimsOf(t, b.start(t).AccessToken)["aud"])
	}
	g.grant.Audience = []string{"https://b.example"}
	_, err := b.manager.Verify(b.start(t).AccessToken)
	require.ErrorIs(t, err, tokensession.ErrInvalidToken, "a token for another service is not for this one")
}

func TestAccessToken_carriesAnySubjectAndClient(t *testing.T) {
	b, _ := newAccessGranter(t, nil)
	for _, name := range []string{
		`<script>alert("x")</script>`, "a&b", `back\slash`, `quo"te`, "\u2028\u2029", "ünïcode", "😀", "\ufffd", strings.Repeat("x", 255), `{"iss":1}`, "null", "0", " ",
	} {
		tokens, err := b.manager.Start(context.Background(), name, tokensession.WithClient(name))
		require.NoError(t, err, name)
		for by, verify := range b.verifiers() {
			access, err := verify(tokens.AccessToken)
			require.NoError(t, err, "%s by %s", name, by)
			require.Equal(t, name, access.Subject)
			require.Equal(t, name, access.ClientID)
		}
	}
}

// TestGrant_isAskedForEachTime: a permission that was taken away is gone from the next token.
func TestGrant_isAskedForEachTime(t *testing.T) {
	b, g := newAccessGranter(t, nil)
	g.grant = accessGrant{Scope: "admin", Claims: map[string]any{"role": "admin"}}
	tokens := b.start(t)
	g.grant = accessGrant{Scope: "read"}
	next, err := b.manager.Refresh(context.Background(), tokens.RefreshToken)
	require.NoError(t, err)
	claims := claimsOf(t, next.AccessToken)
	require.Equal(t, "read", claims["scope"])
	require.NotContains(t, claims, "role")
	require.Equal(t, 2, g.calls)
}

package tokensession_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// FuzzVerify has no key: whatever it makes of good tokens, only these are accepted. Ed25519
// signatures have one form.
func FuzzVerify(f *testing.F) {
	b := newAccessBench(f, testKeyFor("EdDSA"), tokensession.AccessConfig{CacheSize: 64}, tokensession.Config{})
	accepted := map[string]bool{b.good: true}
	f.Add(b.good, 0, "")
	for _, seed := range []string{
		b.start(f).RefreshToken, "", ".", "..", "eyJhbGciOiJub25lIn0.e30.", b.good + ".", b.good + "=", b.good[:len(b.good)-1] + "\n", strings.ToUpper(b.good),
		strings.ReplaceAll(b.good, ".", ".."), `{"payload":"","signatures":[]}`, "\xff.\xfe.\xfd",
	} {
		f.Add(seed, 0, "")
	}
	for _, at := range []int{0, 1, 40, len(b.good) / 2, len(b.good) - 1} {
		for _, text := range []string{"", "A", "\r\n", "=", ".", "\x00"} {
			f.Add("", at, text)
		}
	}
	f.Fuzz(func(t *testing.T, token string, at int, text string) {
		if token == "" { // change a good one instead, whose text is another in each run
			at = min(max(at, 0), len(b.good))
			token = b.good[:at] + text + b.good[min(at+len(text), len(b.good)):]
			insert := b.good[:at] + text + b.good[at:]
			requireKnown(t, b, accepted, insert)
		}
		requireKnown(t, b, accepted, token)
	})
}

func requireKnown(t *testing.T, b *accessBench, accepted map[string]bool, token string) {
	for name, verify := range b.verifiers() {
		switch access, err := verify(token); {
		case err == nil && !accepted[token]:
			t.Fatalf("%s accepts %q: %+v", name, token, access)
		case err != nil && accepted[token]:
			t.Fatalf("%s refuses a good token: %v", name, err)
		case err != nil:
			require.ErrorIs(t, err, tokensession.ErrInvalidToken)
		}
	}
}

// FuzzVerifySigned has the key: whatever payload it signs, what is accepted says what encoding/json
// reads there.
func FuzzVerifySigned(f *testing.F) {
	b := newAccessBench(f, testKeyFor("HS256"), tokensession.AccessConfig{CacheSize: -1}, tokensession.Config{})
	f.Add(claimsWith())
	for _, payload := range malformedPayloads() {
		f.Add(payload)
	}
	for _, member := range []string{`"aud":["https://api.example"]`, `"exp":0`, `"exp":1e10`, `"nbf":-1`, `"x":{"y":[1,{"z":null}]}`, `"client_id":"c"`, `"scope":"a b"`, `"iat":1`} {
		f.Add(claimsWith(member))
	}
	f.Fuzz(func(t *testing.T, payload string) {
		access, err := b.manager.Verify(b.forge(b.header(), payload))
		if err != nil {
			return
		}
		var claims struct {
			Iss, Sub, Jti, Sid, Scope string
			ClientID                  string `json:"client_id"`
			Aud                       any
			Exp, Iat, Nbf             int64
		}
		require.NoError(t, json.Unmarshal([]byte(payload), &claims))
		require.Equal(t, "https://auth.example", claims.Iss)
		require.Equal(t, claims.Sub, access.Subject)
		require.Equal(t, claims.Jti, access.ID)
		require.Equal(t, claims.Sid, access.SessionID)
		require.Equal(t, claims.ClientID, access.ClientID)
		require.Equal(t, claims.Scope, access.Scope)
		require.Equal(t, claims.Exp, access.ExpiresAt.Unix())
		require.Equal(t, claims.Iat, access.IssuedAt.Unix())
		for _, s := range []string{claims.Sub, claims.Jti, claims.Sid} {
			require.NotEmpty(t, s)
		}
		now := forgeTime.Unix()
		require.True(t, claims.Exp > now && claims.Iat <= now && claims.Nbf <= now, payload)
		if list, ok := claims.Aud.([]any); ok {
			require.Contains(t, list, "https://api.example")
		} else {
			require.Equal(t, "https://api.example", claims.Aud)
		}
	})
}

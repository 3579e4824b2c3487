package tokensession

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/internal/strictjson"
)

func TestStandardClaims_areJSONWhateverTheyHold(t *testing.T) {
	for c := range rune(0x3000) {
		for _, text := range []string{string(c), "a" + string(c) + `b"\</script>`} {
			b, err := standardClaims{
				Issuer: text, Subject: text, Audience: []string{text, text}, ID: text, ClientID: text, Session: text, Scope: text,
				AuthMethods: []string{text, text}, AuthContext: text, Actor: text,
				Expires: 2, IssuedAt: 1, AuthTime: 3, Epoch: 4,
			}.marshal(nil, nil)
			require.NoError(t, err)
			var got map[string]any
			require.NoError(t, json.Unmarshal(b, &got), "%s", b)
			require.Equal(t, map[string]any{
				"iss": text, "sub": text, "aud": []any{text, text}, "jti": text, "client_id": text, "sid": text, "scope": text,
				"amr": []any{text, text}, "acr": text, "act": map[string]any{"sub": text},
				"exp": 2.0, "iat": 1.0, "auth_time": 3.0, "epoch": 4.0,
			}, got)
			_, err = strictjson.ParseObject(b, reservedClaims...)
			require.NoError(t, err, "%s", b)
		}
	}
}

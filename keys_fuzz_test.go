package tokensession_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// maxFuzzedKey is the size of what the key parsers are fuzzed with: an RSA key of 4096 bits fits,
// and a larger one only takes longer.
const maxFuzzedKey = 6 << 10

// FuzzParseKeyPEM: a key that is accepted signs, and what it publishes verifies that. The text is a
// block of this type and with this content, or, without a type, the content itself.
func FuzzParseKeyPEM(f *testing.F) {
	for _, seed := range []string{
		pkcs8(edKey()), pkcs8(ecKey("ES256")), pkcs8(ecKey("ES512")), pkcs8(rsaKey("RS256")), pkcs1(rsaKey("RS256")), sec1(ecKey("ES384")), sec1(ecKey("ES512")),
		pemOf("EC PARAMETERS", []byte{6, 8}) + sec1(ecKey("ES256")), string(publicPEM(edKey().Public())), pemOf("ENCRYPTED PRIVATE KEY", []byte("x")),
		"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n", "",
	} {
		f.Add("", []byte(seed))
		if block, _ := pem.Decode([]byte(seed)); block != nil {
			f.Add(block.Type, block.Bytes)
		}
	}
	f.Fuzz(func(t *testing.T, blockType string, data []byte) {
		if len(data) > maxFuzzedKey {
			return
		}
		if blockType != "" {
			data = pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: data})
		}
		key, err := tokensession.ParseKeyPEM(data)
		requireKeyOrError(t, key, err, string(data))
	})
}

// FuzzParseKeyJWK: as FuzzParseKeyPEM, and what is accepted is one key for one purpose.
func FuzzParseKeyJWK(f *testing.F) {
	for _, seed := range []string{
		okpJWK(), okpJWK("use", "sig", "alg", "EdDSA"), okpJWK("use", "enc"), jwkPlus(okpJWK(), `"key_ops":["sign"]`), jwkPlus(okpJWK(), `"D":"AA"`),
		ecJWK(ecKey("ES256")), ecJWK(ecKey("ES384")), ecJWK(ecKey("ES512"), "alg", "ES512"), jwkWith(ecJWK(ecKey("ES256")), "crv", "P-384"),
		string(rsaJWK(rsaKey("RS256"), "RS256")), string(rsaJWK(rsaKey("PS256"), "PS256")), jwkWith(string(rsaJWK(rsaKey("RS256"), "")), "e", "AQ"),
		octJWK(testKeyFor("HS256").secret), octJWK(make([]byte, 31)), `{"kty":"oct"}`, `{"keys":[]}`, "{}", "",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFuzzedKey {
			return
		}
		key, err := tokensession.ParseKeyJWK(data)
		requireKeyOrError(t, key, err, string(data))
		if err != nil {
			return
		}
		var members map[string]any // encoding/json would find the fields of a struct in any case
		require.NoError(t, json.Unmarshal(data, &members))
		require.NotContains(t, members, "keys")
		require.Contains(t, []any{"OKP", "EC", "RSA", "oct"}, members["kty"])
		require.Contains(t, []any{nil, "", "sig"}, members["use"])
		if operations, ok := members["key_ops"]; ok && operations != nil {
			require.Contains(t, operations, "sign")
		}
		if alg, ok := members["alg"]; ok && alg != "" {
			require.Equal(t, fmt.Sprintf("tokensession.Key{%v %s}", alg, key.ID()), key.String())
		}
	})
}

// requireKeyOrError has a key sign a token, and looks that it publishes what verifies that and
// nothing else.
func requireKeyOrError(t *testing.T, key tokensession.Key, err error, input string) {
	if err != nil {
		require.Zero(t, key.ID())
		require.True(t, strings.HasPrefix(err.Error(), "tokensession: "), "%v", err)
		requireQuotesNoSecret(t, err.Error(), input)
		return
	}
	require.Len(t, key.ID(), 43)
	signer, err := tokensession.NewAccessSigner(key, accessConfig)
	require.NoError(t, err)
	m, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{})
	require.NoError(t, err)
	tokens, err := m.Start(context.Background(), "alice")
	require.NoError(t, err)
	_, err = m.Verify(tokens.AccessToken)
	require.NoError(t, err)

	set := signer.JWKS()
	if strings.HasPrefix(key.String(), "tokensession.Key{HS256 ") {
		require.Equal(t, `{"keys":[]}`, string(set))
		return
	}
	var published struct{ Keys []map[string]any }
	require.NoError(t, json.Unmarshal(set, &published))
	require.Len(t, published.Keys, 1)
	for name := range published.Keys[0] {
		require.Contains(t, []string{"kty", "kid", "alg", "use", "crv", "x", "y", "n", "e"}, name)
	}
	v, err := tokensession.NewAccessVerifier(set, accessConfig)
	require.NoError(t, err)
	_, err = v.Verify(tokens.AccessToken)
	require.NoError(t, err)
}

// requireQuotesNoSecret looks for a JWK's secret members in what an error says. A PEM is one secret
// as a whole.
func requireQuotesNoSecret(t *testing.T, said, input string) {
	var members map[string]json.RawMessage
	if json.Unmarshal([]byte(input), &members) != nil {
		return
	}
	for _, name := range []string{"d", "k", "p", "q", "dp", "dq", "qi"} {
		var secret string
		if json.Unmarshal(members[name], &secret) == nil && len(secret) >= 24 {
			for _, public := range []string{"use", "alg", "key_ops"} { // which errors may quote
				if strings.Contains(string(members[public]), secret) {
					return
				}
			}
			require.NotContains(t, said, secret)
		}
	}
}

// FuzzNewAccessVerifier: a set with a secret in it is refused, and a set verifies only tokens of
// keys that are in it.
func FuzzNewAccessVerifier(f *testing.F) {
	set := func(keys ...string) []byte { return []byte(`{"keys":[` + strings.Join(keys, ",") + `]}`) }
	ed, ec, rs := jwkWithout(okpJWK(), "d"), jwkWithout(ecJWK(ecKey("ES256")), "d"), jwkWithout(string(rsaJWK(rsaKey("PS256"), "PS256")), "d", "p", "q", "dp", "dq", "qi")
	for _, seed := range [][]byte{
		set(ed), set(ec), set(rs), set(ed, ec, rs), set(ed, ed), set(okpJWK()), set(octJWK(make([]byte, 32))), set(ec, ecJWK(ecKey("ES256"))),
		set(jwkWith(ed, "use", "enc"), ec), set(jwkPlus(ed, `"key_ops":["verify"]`)), set(jwkPlus(ed, `"key_ops":["sign"]`)), set(jwkWith(ec, "alg", "ES384")),
		set(`{"kty":"XYZ"}`, ed), set(), set("1", "null", ed), []byte(ed), []byte("{}"), nil,
	} {
		f.Add(seed)
	}
	for _, k := range testKeys() {
		if k.secret == nil {
			signer, err := tokensession.NewAccessSigner(k.key, accessConfig)
			require.NoError(f, err)
			f.Add(signer.JWKS())
		}
	}
	cfg := accessConfig
	cfg.Now = testkit.NewClockAt(forgeTime).Now
	cfg.CacheSize = -1
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxFuzzedKey {
			return
		}
		v, err := tokensession.NewAccessVerifier(data, cfg)
		if err != nil {
			require.Nil(t, v)
			return
		}
		var read struct{ Keys []any }
		require.NoError(t, json.Unmarshal(data, &read))
		for _, element := range read.Keys {
			for _, secret := range []string{"d", "k", "p", "q", "dp", "dq", "qi", "oth"} {
				require.False(t, hasMember(element, secret), "%s in a set", secret)
			}
		}
		for _, k := range testKeys() {
			if _, err := v.Verify(k.good); err == nil {
				require.True(t, slices.ContainsFunc(read.Keys, k.isPublishedAs), "%s verifies with a set that has not its key", k.alg)
			} else {
				require.ErrorIs(t, err, tokensession.ErrInvalidToken)
			}
		}
	})
}

func hasMember(jwk any, name string) bool {
	members, _ := jwk.(map[string]any)
	_, ok := members[name]
	return ok
}

// isPublishedAs reports whether jwk is the key's public one.
func (k testKey) isPublishedAs(jwk any) bool {
	members, _ := jwk.(map[string]any)
	is := func(name string, want []byte) bool {
		text, _ := members[name].(string)
		got, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(strings.NewReplacer("+", "-", "/", "_").Replace(text), "="))
		return err == nil && string(trimZeros(got)) == string(trimZeros(want))
	}
	switch private := k.private.(type) {
	case ed25519.PrivateKey:
		return is("x", private[32:])
	case *rsa.PrivateKey:
		return is("n", private.N.Bytes())
	case *ecdsa.PrivateKey:
		point := mustGet(private.PublicKey.Bytes())[1:]
		return is("x", point[:len(point)/2]) && is("y", point[len(point)/2:])
	default:
		return false
	}
}

func trimZeros(b []byte) []byte {
	for len(b) > 0 && b[0] == 0 {
		b = b[1:]
	}
	return b
}

package tokensession

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/internal/strictjson"
)

// vectorsEnv is the environment variable with the folder of Wycheproof's test vectors. They are in
// no requirement of this module: the module in test/vectors has them, and runs this test.
const vectorsEnv = "TOKENSESSION_VECTORS"

// A vectorFile is a file of test vectors for JWS or JWK, of which both have the same form.
type vectorFile struct {
	TestGroups []vectorGroup
}

type vectorGroup struct {
	Comment         string
	Public, Private json.RawMessage // a JWK or a set
	Tests           []vector
}

type vector struct {
	TcID            int
	Comment, Result string
	JWS             json.RawMessage // a string, or what is not a compact JWS
}

// vectorExceptions are the vectors that we do not judge as Wycheproof does, by file and number.
var vectorExceptions = map[string]map[int]string{
	"json_web_signature_test.json": {
		346: "the key is for PS256, and the token's alg is PS384",
		347: "the key's alg is ES521, which does not exist",
		350: "the key is for PS256, and the token's alg is PS384",
		351: "the key's alg is ES521, which does not exist",
		367: "called invalid, and equal to 357, which is valid",
		370: "called invalid, and equal to 357, which is valid",
		372: "called valid, with a character in the header that is not of the alphabet",
		373: "called valid, with a character in the payload that is not of the alphabet",
	},
	"json_web_key_test.json": {
		2: "a set of secrets: we take a secret one at a time, and none in a set",
		7: "a key with the ROCA weakness: we do not look for it in a key that the host has chosen",
	},
	"json_web_crypto_test.json": {
		46: "a key with the ROCA weakness: we do not look for it in a key that the host has chosen",
		48: "a set of secrets: we take a secret one at a time, and none in a set",
	},
}

// otherAlgorithms are those of keys that we refuse, so that nothing of theirs verifies.
var otherAlgorithms = []string{"RS384", "RS512", "PS384", "PS512", "HS384", "HS512"}

// TestVectors_ofWycheproof runs the vectors for JWS and JWK as far as we verify anything like them.
// Their payloads are no claims and their headers not ours, so that none is an access token: each is
// refused as it stands. To see what becomes of its signature, its header is let in if it is one in
// strict base64url with the key's alg, in the place of the one that we would match; and it counts
// as accepted if nothing but its payload is then found wanting. So this shows how keys are read,
// and the alphabet, the encoding, the signature's form and the signature verified; not how headers
// are refused.
func TestVectors_ofWycheproof(t *testing.T) {
	folder := os.Getenv(vectorsEnv)
	if folder == "" {
		t.Skip("make vectors runs this test with the vectors")
	}
	for name, least := range map[string]int{"json_web_signature_test.json": 300, "json_web_key_test.json": 15, "json_web_crypto_test.json": 40} {
		t.Run(name, func(t *testing.T) {
			text, err := os.ReadFile(filepath.Join(folder, name))
			require.NoError(t, err)
			var file vectorFile
			require.NoError(t, json.Unmarshal(text, &file))
			ran := runVectors(t, file, vectorExceptions[name])
			t.Logf("%d vectors are accepted and %d refused as they should be, %d otherwise for a reason; %d are of other algorithms, whose keys are refused",
				ran.accepted, ran.refused, ran.otherwise, ran.notOurs)
			require.Equal(t, len(vectorExceptions[name]), ran.otherwise, "exceptions that are none")
			require.GreaterOrEqual(t, ran.accepted+ran.refused, least)
		})
	}
}

type vectorTally struct{ accepted, refused, otherwise, notOurs int }

func runVectors(t *testing.T, file vectorFile, exceptions map[int]string) (ran vectorTally) {
	for _, group := range file.TestGroups {
		if group.isEncryption() {
			continue
		}
		keys, keyErr := group.keys()
		for _, v := range group.Tests {
			name := fmt.Sprintf("%d: %s, %s", v.TcID, group.Comment, v.Comment)
			accepted, why := false, keyErr
			if keyErr == nil {
				accepted, why = v.judge(t, keys)
			}
			_, isException := exceptions[v.TcID]
			switch want := v.Result == "valid"; {
			case slices.Contains(otherAlgorithms, group.alg()):
				require.Error(t, keyErr, name)
				ran.notOurs++
			case isException:
				require.NotEqual(t, want, accepted, "%s: no exception: %v", name, why)
				ran.otherwise++
			default:
				require.Equal(t, want, accepted, "%s: %v", name, why)
				if accepted {
					ran.accepted++
				} else {
					ran.refused++
				}
			}
		}
	}
	return ran
}

func (g vectorGroup) isEncryption() bool { return strings.HasPrefix(g.Comment, "jwe") }

// alg returns the alg of the group's key, or of its set's only one.
func (g vectorGroup) alg() string {
	var jwk struct {
		Alg  string
		Keys []struct{ Alg string }
	}
	_ = json.Unmarshal(g.Private, &jwk)
	if len(jwk.Keys) == 1 {
		return jwk.Keys[0].Alg
	}
	return jwk.Alg
}

// keys returns the group's keys as a verifier reads them: the public ones if it has them, else a
// secret.
func (g vectorGroup) keys() ([]verifyKey, error) {
	source := g.Public
	if source == nil {
		source = g.Private
	}
	var set struct{ Keys []json.RawMessage }
	if err := json.Unmarshal(source, &set); err != nil {
		return nil, err
	}
	switch {
	case g.Public != nil && set.Keys != nil, len(set.Keys) > 1:
		return parseJWKS(source)
	case g.Public != nil:
		key, err := parsePublicJWK(source)
		return []verifyKey{key}, err
	case set.Keys != nil:
		source = set.Keys[0]
	}
	key, err := ParseKeyJWK(source)
	return []verifyKey{key.verifyKey}, err
}

// judge reports whether nothing is wrong with the token but its payload, and what is.
func (v vector) judge(t *testing.T, keys []verifyKey) (accepted bool, why error) {
	var token string
	if err := json.Unmarshal(v.JWS, &token); err != nil {
		token = string(v.JWS)
	}
	cfg, err := AccessConfig{Issuer: "i", Audience: []string{"a"}}.validate()
	require.NoError(t, err)
	ring := make([]ringKey, len(keys))
	for i, key := range keys {
		ring[i] = ringKey{verifyKey: key}
	}
	matched, verify := newKeyring(ring, -1), verifier{cfg: cfg}
	_, err = verify.authenticate(matched, token)
	require.ErrorIs(t, err, ErrInvalidToken, "as it stands")

	header, _, _ := strings.Cut(token, ".")
	if decoded, err := strictBase64.DecodeString(header); err == nil && isBase64URL(header) {
		if members, err := strictjson.ParseObject(decoded); err == nil {
			alg, _ := members.Text("alg")
			for i := range matched.keys {
				if string(matched.keys[i].alg) == alg {
					matched.byHeader[header] = &matched.keys[i]
				}
			}
		}
	}
	_, err = verify.authenticate(matched, token)
	require.ErrorIs(t, err, ErrInvalidToken)
	for _, refusal := range []string{
		"longer than 8192 bytes", "not three parts of base64url", "the header is not that of a key of ours", "not strict base64url", "the signature does not verify",
	} {
		if err.Error() == invalid(refusal).Error() {
			return false, err
		}
	}
	return true, errors.New("accepted")
}

package tokensession_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// Every token here is signed with the right key unless the attack is about the signature, so that
// the check that is to refuse it is reached.

// An attack makes a token that must be refused. One for some algorithms only names them.
type attack struct {
	name  string
	token func(b *accessBench) string
	algs  []string
}

// fast are algorithms to try what does not depend on the algorithm.
var fast = []string{"EdDSA", "ES256", "HS256"}

// runAttacks tries each attack with each key, on verifiers that have not seen the good token and on
// such that have it in their cache. Whatever was refused, the good token verifies afterwards.
func runAttacks(t *testing.T, attacks []attack) {
	for _, k := range testKeys() {
		t.Run(k.alg, func(t *testing.T) {
			for _, a := range attacks {
				if len(a.algs) > 0 && !slices.Contains(a.algs, k.alg) {
					continue
				}
				t.Run(a.name, func(t *testing.T) {
					b := newAccessBench(t, k, tokensession.AccessConfig{CacheSize: 8}, tokensession.Config{})
					token := a.token(b)
					for name, verify := range b.verifiers() {
						requireRefused(t, name, verify, token)
						requireGood(t, b, name, verify)
						requireRefused(t, name+" that knows the good token", verify, token)
						requireGood(t, b, name, verify)
					}
				})
			}
		})
	}
}

func requireRefused(t *testing.T, name string, verify verifyFunc, token string) {
	t.Helper()
	access, err := verify(token)
	require.ErrorIs(t, err, tokensession.ErrInvalidToken, name)
	for _, other := range []error{tokensession.ErrExpired, tokensession.ErrRevoked, tokensession.ErrUnavailable} {
		require.NotErrorIs(t, err, other, name)
	}
	require.Zero(t, access, name)
	require.Less(t, len(err.Error()), 120, "%s: the error quotes nothing of the token", name)
}

func requireGood(t *testing.T, b *accessBench, name string, verify verifyFunc) {
	t.Helper()
	access, err := verify(b.good)
	require.NoError(t, err, "%s: the good token", name)
	require.Equal(t, "alice", access.Subject, name)
}

// withHeader is the attack with these headers, where ALG and KID stand for the key's.
func withHeader(name, header string, algs ...string) attack {
	return attack{name, func(b *accessBench) string {
		header := strings.NewReplacer("ALG", b.alg, "KID", b.key.ID()).Replace(header)
		return b.forge(header, claimsWith())
	}, algs}
}

// TestVerify_acceptsWhatIsUnusualButRight is the control of all the attacks: forging itself works.
func TestVerify_acceptsWhatIsUnusualButRight(t *testing.T) {
	wide := base64.RawURLEncoding.EncodedLen
	for _, k := range testKeys() {
		b := newAccessBench(t, k, tokensession.AccessConfig{}, tokensession.Config{})
		full := 8192 - len(b.good)
		for wide(len(claimsWith(`"x":"`+strings.Repeat("x", full)+`"`)))-wide(len(claimsWith())) > 8192-len(b.good) {
			full--
		}
		for name, payload := range map[string]string{
			"nothing unusual":               claimsWith(),
			"as long as a token can be":     claimsWith(`"x":"` + strings.Repeat("x", full) + `"`),
			"no auth_time":                  claimsWith(`"auth_time"`),
			"aud is an array":               claimsWith(`"aud":["https://api.example"]`),
			"aud has others before and us":  claimsWith(`"aud":["https://other.example","https://api.example",""]`),
			"nbf is now":                    claimsWith(fmt.Sprintf(`"nbf":%d`, forgeTime.Unix())),
			"nbf is past":                   claimsWith(`"nbf":0`),
			"how the user proved it":        claimsWith(`"amr":["pwd"]`, `"acr":"gold"`),
			"an actor with an actor":        claimsWith(`"act":{"act":{"sub":"dave"},"sub":"carol"}`),
			"the last epoch of all":         claimsWith(`"epoch":9007199254740991`),
			"exp in the last second of all": claimsWith(`"exp":253402300799`),
			"a name with an escape":         claimsWith(`"iss"`, `"\u0069ss":"https://auth.example"`),
			"a value with escapes":          claimsWith(`"iss":"https:\/\/auth\u002eexample"`),
			"a surrogate pair":              claimsWith(`"x":"\ud83d\uDE00"`),
			"an escaped backslash, then u":  claimsWith(`"x":"\\ud800"`),
			"white space":                   strings.NewReplacer(",", " ,\n\t", ":", " :\r\n ").Replace(claimsWith(`"iss"`, `"aud"`, `"iss":"I"`, `"aud":"A"`)),
			"nested deeply":                 claimsWith(`"x":` + strings.Repeat(`[{"a":`, 500) + "1" + strings.Repeat("}]", 500)),
			"names that differ in an array": claimsWith(`"x":[{"a":1},{"a":1},{"A":1,"a":1}]`),
			"brackets and quotes in text":   claimsWith(`"x":"}],\"iss\":\"evil\",{["`),
		} {
			payload = strings.NewReplacer(`"I"`, `"https://auth.example"`, `"A"`, `"https://api.example"`).Replace(payload)
			token := k.forge(k.header(), payload)
			if name == "as long as a token can be" {
				require.InDelta(t, 8192, len(token), 1)
			}
			for by, verify := range b.verifiers() {
				for range 2 { // the second from the cache
					access, err := verify(token)
					require.NoError(t, err, "%s %s: %s", k.alg, by, name)
					require.Equal(t, "alice", access.Subject)
				}
			}
		}
	}
}

func TestVerify_refusesOtherAlgorithms(t *testing.T) {
	var attacks []attack
	for _, none := range []string{"none", "None", "NONE", "nOnE", "none "} {
		attacks = append(attacks,
			withHeader("alg "+none+", signed", `{"alg":"`+none+`","kid":"KID","typ":"at+jwt"}`),
			attack{"alg " + none + ", unsigned", func(b *accessBench) string {
				return b64([]byte(`{"alg":"`+none+`","kid":"`+b.key.ID()+`","typ":"at+jwt"}`)) + "." + b64([]byte(claimsWith())) + "."
			}, nil},
			attack{"alg " + none + ", without a kid", func(*accessBench) string {
				return b64([]byte(`{"alg":"`+none+`"}`)) + "." + b64([]byte(claimsWith())) + "."
			}, nil},
		)
	}
	attacks = append(attacks,
		withHeader("alg missing", `{"kid":"KID","typ":"at+jwt"}`),
		withHeader("alg is a number", `{"alg":256,"kid":"KID","typ":"at+jwt"}`),
		withHeader("alg is an array", `{"alg":["ALG"],"kid":"KID","typ":"at+jwt"}`),
		withHeader("alg is empty", `{"alg":"","kid":"KID","typ":"at+jwt"}`),
		withHeader("alg is null", `{"alg":null,"kid":"KID","typ":"at+jwt"}`),
		withHeader("alg after none", `{"alg":"none","alg":"ALG","kid":"KID","typ":"at+jwt"}`),
		withHeader("alg before none", `{"alg":"ALG","alg":"none","kid":"KID","typ":"at+jwt"}`),
		withHeader("alg by its newer name", `{"alg":"Ed25519","kid":"KID","typ":"at+jwt"}`, "EdDSA"),
	)
	siblings := map[string][]string{
		"RS256": {"RS384", "RS512", "PS256", "PS384", "PS512"}, "PS256": {"PS384", "PS512", "RS256", "RS384", "RS512"},
		"ES256": {"ES384", "ES512"}, "ES384": {"ES256", "ES512"}, "ES512": {"ES256", "ES384"},
		"HS256": {"HS384", "HS512"},
	}
	for alg, others := range siblings {
		for _, sibling := range others {
			signed := func(b *accessBench, header string) string {
				input := b64([]byte(header)) + "." + b64([]byte(claimsWith()))
				return input + "." + b64(b.signAs(sibling, []byte(input)))
			}
			attacks = append(attacks,
				attack{"alg " + sibling, func(b *accessBench) string {
					return signed(b, `{"alg":"`+sibling+`","kid":"`+b.key.ID()+`","typ":"at+jwt"}`)
				}, []string{alg}},
				attack{"signature of " + sibling, func(b *accessBench) string { return signed(b, b.header()) }, []string{alg}},
			)
		}
	}
	runAttacks(t, attacks)
}

func TestVerify_refusesHMACKeyedWithThePublicKey(t *testing.T) {
	secrets := map[string]func(b *accessBench) []byte{
		"PEM":                 func(b *accessBench) []byte { return publicPEM(b.private.Public()) },
		"PEM without newline": func(b *accessBench) []byte { return bytes.TrimSpace(publicPEM(b.private.Public())) },
		"DER":                 func(b *accessBench) []byte { return publicDER(b.private.Public()) },
		"JWK":                 func(b *accessBench) []byte { return jwksKeys(b.signer.JWKS())[0] },
		"JWKS":                func(b *accessBench) []byte { return b.signer.JWKS() },
		"raw":                 func(b *accessBench) []byte { return publicRaw(b.private.Public()) },
		"kid":                 func(b *accessBench) []byte { return []byte(b.key.ID()) },
		"nothing":             func(*accessBench) []byte { return nil },
	}
	var attacks []attack
	for name, secret := range secrets {
		for _, alg := range []string{"HS256", "own"} {
			attacks = append(attacks, attack{name + " and the header of " + alg, func(b *accessBench) string {
				header := strings.Replace(b.header(), b.alg, strings.Replace(alg, "own", b.alg, 1), 1)
				input := b64([]byte(header)) + "." + b64([]byte(claimsWith()))
				return input + "." + b64(hmacSum(crypto.SHA256, secret(b), []byte(input)))
			}, []string{"EdDSA", "ES256", "ES384", "ES512", "RS256", "PS256"}})
		}
	}
	runAttacks(t, attacks)
}

func publicDER(public any) []byte {
	der, err := x509.MarshalPKIXPublicKey(public)
	noError(err)
	return der
}

func publicPEM(public any) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: publicDER(public)})
}

func publicRaw(public any) []byte {
	switch public := public.(type) {
	case ed25519.PublicKey:
		return public
	case *ecdsa.PublicKey:
		raw, err := public.Bytes()
		noError(err)
		return raw
	default:
		return public.(*rsa.PublicKey).N.Bytes()
	}
}

// jwksKeys returns the keys of a set.
func jwksKeys(jwks []byte) []json.RawMessage {
	var set struct{ Keys []json.RawMessage }
	noError(json.Unmarshal(jwks, &set))
	return set.Keys
}

func TestVerify_refusesOtherKeyIDs(t *testing.T) {
	runAttacks(t, []attack{
		withHeader("missing", `{"alg":"ALG","typ":"at+jwt"}`),
		withHeader("empty", `{"alg":"ALG","kid":"","typ":"at+jwt"}`),
		withHeader("null", `{"alg":"ALG","kid":null,"typ":"at+jwt"}`),
		withHeader("number", `{"alg":"ALG","kid":0,"typ":"at+jwt"}`),
		withHeader("array", `{"alg":"ALG","kid":["KID"],"typ":"at+jwt"}`),
		withHeader("unknown", `{"alg":"ALG","kid":"NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs","typ":"at+jwt"}`),
		withHeader("path", `{"alg":"ALG","kid":"../../../../../../dev/null","typ":"at+jwt"}`),
		withHeader("path to ours", `{"alg":"ALG","kid":"./KID","typ":"at+jwt"}`),
		withHeader("SQL", `{"alg":"ALG","kid":"x' UNION SELECT 'KID","typ":"at+jwt"}`),
		withHeader("NUL behind it", `{"alg":"ALG","kid":"KID\u0000","typ":"at+jwt"}`),
		withHeader("space behind it", `{"alg":"ALG","kid":"KID ","typ":"at+jwt"}`),
		withHeader("prefix", `{"alg":"ALG","kid":"KIDx","typ":"at+jwt"}`),
		withHeader("1 MB", `{"alg":"ALG","kid":"`+strings.Repeat("x", 1<<20)+`","typ":"at+jwt"}`),
		{"other case", func(b *accessBench) string {
			return b.forge(strings.Replace(b.header(), b.key.ID(), strings.ToUpper(b.key.ID()), 1), claimsWith())
		}, nil},
		{"of another key", func(b *accessBench) string {
			return b.forge(keyFor(otherKeys(), b.alg).header(), claimsWith())
		}, nil},
		{"ours, with the signature of another key", func(b *accessBench) string {
			return keyFor(otherKeys(), b.alg).forge(b.header(), claimsWith())
		}, nil},
		{"another key's token", func(b *accessBench) string {
			other := keyFor(otherKeys(), b.alg)
			return other.forge(other.header(), claimsWith())
		}, nil},
	})
}

// TestVerify_fetchesNoKey offers the attacker's key, inside the header and at an address.
func TestVerify_fetchesNoKey(t *testing.T) {
	var hits atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		hits.Add(1)
		_, _ = w.Write(newAccessBench(t, keyFor(otherKeys(), "EdDSA"), tokensession.AccessConfig{}, tokensession.Config{}).signer.JWKS())
	}))
	defer server.Close()
	var attacks []attack
	for name, member := range map[string]func(b, other *accessBench) string{
		"jwk": func(_, o *accessBench) string { return `"jwk":` + string(jwksKeys(o.signer.JWKS())[0]) },
		"jku": func(*accessBench, *accessBench) string { return `"jku":"` + server.URL + `/jwks"` },
		"x5u": func(*accessBench, *accessBench) string { return `"x5u":"` + server.URL + `/cert.pem"` },
		"x5c": func(_, o *accessBench) string {
			return `"x5c":["` + base64.StdEncoding.EncodeToString(certificate(o.private)) + `"]`
		},
		"x5t": func(*accessBench, *accessBench) string { return `"x5t#S256":"` + strings.Repeat("A", 43) + `"` },
	} {
		for _, form := range []string{
			`{"alg":"ALG","kid":"KID","typ":"at+jwt",MEMBER}`, `{"alg":"ALG",MEMBER,"kid":"OTHER","typ":"at+jwt"}`, `{"alg":"ALG",MEMBER}`,
		} {
			header := func(b *accessBench) (string, testKey) {
				k := keyFor(otherKeys(), b.alg)
				other := newAccessBench(t, k, tokensession.AccessConfig{}, tokensession.Config{})
				return strings.NewReplacer("ALG", b.alg, "KID", b.key.ID(), "OTHER", k.key.ID(), "MEMBER", member(b, other)).Replace(form), k
			}
			algs := []string{"EdDSA", "ES256", "ES384", "ES512", "RS256", "PS256"}
			attacks = append(attacks,
				attack{name + " signed by the attacker: " + form, func(b *accessBench) string {
					h, attacker := header(b)
					return attacker.forge(h, claimsWith())
				}, algs},
				attack{name + " signed by us: " + form, func(b *accessBench) string {
					h, _ := header(b)
					return b.forge(h, claimsWith())
				}, algs})
		}
	}
	runAttacks(t, attacks)
	require.Zero(t, hits.Load(), "requests sent")
}

func certificate(private crypto.Signer) []byte {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: forgeTime.Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	noError(err)
	return der
}

func TestVerify_refusesOtherHeaders(t *testing.T) {
	kelvin, longS := "\u212A", "\u017F"
	headers := map[string]string{
		"crit with exp":          `{"alg":"ALG","kid":"KID","typ":"at+jwt","crit":["exp"],"exp":1}`,
		"crit with an unknown":   `{"alg":"ALG","kid":"KID","typ":"at+jwt","crit":["x"],"x":1}`,
		"crit with an absent":    `{"alg":"ALG","kid":"KID","typ":"at+jwt","crit":["x"]}`,
		"crit with alg":          `{"alg":"ALG","crit":["alg"],"kid":"KID","typ":"at+jwt"}`,
		"crit empty":             `{"alg":"ALG","kid":"KID","typ":"at+jwt","crit":[]}`,
		"crit is text":           `{"alg":"ALG","kid":"KID","typ":"at+jwt","crit":"exp"}`,
		"crit null":              `{"alg":"ALG","kid":"KID","typ":"at+jwt","crit":null}`,
		"b64 true":               `{"alg":"ALG","kid":"KID","typ":"at+jwt","b64":true}`,
		"b64 false, not applied": `{"alg":"ALG","kid":"KID","typ":"at+jwt","b64":false,"crit":["b64"]}`,
		"zip":                    `{"alg":"ALG","kid":"KID","typ":"at+jwt","zip":"DEF"}`,
		"cty":                    `{"alg":"ALG","cty":"JWT","kid":"KID","typ":"at+jwt"}`,
		"enc":                    `{"alg":"ALG","enc":"A256GCM","kid":"KID","typ":"at+jwt"}`,
		"typ absent":             `{"alg":"ALG","kid":"KID"}`,
		"typ JWT":                `{"alg":"ALG","kid":"KID","typ":"JWT"}`,
		"typ dpop+jwt":           `{"alg":"ALG","kid":"KID","typ":"dpop+jwt"}`,
		"typ logout+jwt":         `{"alg":"ALG","kid":"KID","typ":"logout+jwt"}`,
		"typ in full":            `{"alg":"ALG","kid":"KID","typ":"application/at+jwt"}`,
		"typ in upper case":      `{"alg":"ALG","kid":"KID","typ":"AT+JWT"}`,
		"typ null":               `{"alg":"ALG","kid":"KID","typ":null}`,
		"typ array":              `{"alg":"ALG","kid":"KID","typ":["at+jwt"]}`,
		"iss in the header":      `{"alg":"ALG","iss":"https://auth.example","kid":"KID","typ":"at+jwt"}`,
		"alg twice":              `{"alg":"ALG","alg":"ALG","kid":"KID","typ":"at+jwt"}`,
		"kid twice":              `{"alg":"ALG","kid":"x","kid":"KID","typ":"at+jwt"}`,
		"ALG for alg":            `{"ALG":"` + "ALG" + `","kid":"KID","typ":"at+jwt"}`,
		"ALG beside alg":         `{"alg":"ALG","Alg":"none","kid":"KID","typ":"at+jwt"}`,
		"Kelvin sign in kid":     `{"alg":"ALG","` + kelvin + `id":"KID","typ":"at+jwt"}`,
		"Kelvin sign beside kid": `{"alg":"ALG","kid":"KID","` + kelvin + `id":"x","typ":"at+jwt"}`,
		"long s beside":          `{"alg":"ALG","kid":"KID","typ":"at+jwt","x5t#` + longS + `256":""}`,
		"escaped name":           `{"\u0061lg":"ALG","kid":"KID","typ":"at+jwt"}`,
		"escaped value":          `{"alg":"ALG","kid":"KID","typ":"at\u002bjwt"}`,
		"another order":          `{"typ":"at+jwt","alg":"ALG","kid":"KID"}`,
		"space inside":           `{"alg": "ALG","kid":"KID","typ":"at+jwt"}`,
		"space behind":           `{"alg":"ALG","kid":"KID","typ":"at+jwt"} `,
		"BOM before":             "\uFEFF" + `{"alg":"ALG","kid":"KID","typ":"at+jwt"}`,
		"twice":                  `{"alg":"ALG","kid":"KID","typ":"at+jwt"}{"alg":"ALG","kid":"KID","typ":"at+jwt"}`,
		"in an array":            `[{"alg":"ALG","kid":"KID","typ":"at+jwt"}]`,
		"empty object":           `{}`,
		"null":                   `null`,
		"nothing":                ``,
		"invalid UTF-8":          `{"alg":"ALG","kid":"KID","typ":"at+jwt","x":"` + "\xff" + `"}`,
		"nested":                 `{"alg":"ALG","kid":"KID","typ":"at+jwt","x":` + strings.Repeat("[", 2000) + strings.Repeat("]", 2000) + `}`,
	}
	attacks := []attack{
		{"b64 false, applied", func(b *accessBench) string {
			header := b64([]byte(strings.Replace(b.header(), `}`, `,"b64":false,"crit":["b64"]}`, 1)))
			return b.forgeRaw(header, claimsWith())
		}, nil},
		{"the payload not encoded", func(b *accessBench) string { return b.forgeRaw(b64([]byte(b.header())), claimsWith()) }, nil},
		{"the header not encoded", func(b *accessBench) string { return b.forgeRaw(b.header(), b64([]byte(claimsWith()))) }, nil},
		{"UTF-16", func(b *accessBench) string { return b.forge(inUTF16(b.header(), binary.BigEndian), claimsWith()) }, nil},
	}
	for name, header := range headers {
		attacks = append(attacks, withHeader(name, header))
	}
	runAttacks(t, attacks)
}

func inUTF16(s string, order binary.AppendByteOrder) string {
	var b []byte
	for _, unit := range utf16.Encode([]rune(s)) {
		b = order.AppendUint16(b, unit)
	}
	return string(b)
}

func TestVerify_refusesOtherForms(t *testing.T) {
	exact := func(token string) attack {
		return attack{fmt.Sprintf("%.40q", token), func(*accessBench) string { return token }, fast}
	}
	edit := func(name string, f func(header, payload, signature string) string) attack {
		return attack{name, func(b *accessBench) string {
			parts := strings.Split(b.good, ".")
			return f(parts[0], parts[1], parts[2])
		}, fast}
	}
	attacks := []attack{
		exact(""), exact("."), exact(".."), exact("..."), exact("...."), exact("null"), exact("{}"), exact("\x00"), exact("Bearer"),
		exact(strings.Repeat(".", 1e6)), exact(strings.Repeat("A", 1e6)), exact("\xff.\xfe.\xfd"),
		exact("eyJhbGciOiJub25lIn0.e30."), exact("tsr_" + strings.Repeat("A", 64)),
		{"a refresh token", func(b *accessBench) string { return b.start(t).RefreshToken }, fast},
		edit("without a signature", func(h, p, _ string) string { return h + "." + p }),
		edit("with an empty signature", func(h, p, _ string) string { return h + "." + p + "." }),
		edit("without a payload", func(h, _, s string) string { return h + ".." + s }),
		edit("without a header", func(_, p, s string) string { return "." + p + "." + s }),
		edit("detached", func(h, _, s string) string { return h + "." + s }),
		edit("a dot behind", func(h, p, s string) string { return h + "." + p + "." + s + "." }),
		edit("a dot before", func(h, p, s string) string { return "." + h + "." + p + "." + s }),
		edit("four parts", func(h, p, s string) string { return h + "." + p + "." + s + "." + s }),
		edit("five parts", func(h, p, s string) string { return h + "." + p + "." + s + "." + s + "." + s }),
		edit("a million dots behind", func(h, p, s string) string { return h + "." + p + "." + s + strings.Repeat(".", 1e6) }),
		edit("parts swapped", func(h, p, s string) string { return p + "." + h + "." + s }),
		edit("two tokens", func(h, p, s string) string { return strings.Repeat(h+"."+p+"."+s, 2) }),
		edit("two tokens and a comma", func(h, p, s string) string { return h + "." + p + "." + s + "," + h + "." + p + "." + s }),
		edit("flattened JSON serialization", func(h, p, s string) string {
			return fmt.Sprintf(`{"protected":%q,"payload":%q,"signature":%q}`, h, p, s)
		}),
		edit("general JSON serialization", func(h, p, s string) string {
			return fmt.Sprintf(`{"payload":%q,"signatures":[{"protected":%q,"signature":%q}]}`, p, h, s)
		}),
		edit("quoted", func(h, p, s string) string { return `"` + h + "." + p + "." + s + `"` }),
		edit("with its scheme", func(h, p, s string) string { return "Bearer " + h + "." + p + "." + s }),
		{"JWE", func(*accessBench) string {
			return b64([]byte(`{"alg":"dir","enc":"A256GCM"}`)) + ".." + b64(make([]byte, 12)) + "." + b64([]byte(claimsWith())) + "." + b64(make([]byte, 16))
		}, fast},
		{"JWE under our header", func(b *accessBench) string {
			return b64([]byte(b.header())) + ".." + b64(make([]byte, 12)) + "." + b64([]byte(claimsWith())) + "." + b64(make([]byte, 16))
		}, fast},
		{"nested", func(b *accessBench) string { return b.forge(b.header(), b.good) }, fast},
		{"one character too long", func(b *accessBench) string {
			pad := 0
			for {
				token := b.forge(b.header(), claimsWith(`"x":"`+strings.Repeat("x", pad)+`"`))
				if len(token) > 8192 {
					return token
				}
				pad += max(1, (8192-len(token))*3/4)
			}
		}, fast},
		{"nesting of 100000", func(b *accessBench) string {
			return b.forge(b.header(), claimsWith(`"x":`+strings.Repeat("[", 1e5)+strings.Repeat("]", 1e5)))
		}, fast},
	}
	for _, around := range []string{" ", "\t", "\n", "\r\n", "\x00", "\v", "\u00a0", "\uFEFF", "=", "%20", ";", "'"} {
		attacks = append(attacks,
			edit(fmt.Sprintf("%q behind", around), func(h, p, s string) string { return h + "." + p + "." + s + around }),
			edit(fmt.Sprintf("%q before", around), func(h, p, s string) string { return around + h + "." + p + "." + s }))
	}
	runAttacks(t, attacks)
}

// malformedPayloads are signed, and are not one strict JSON object.
func malformedPayloads() map[string]string {
	good := claimsWith()
	return map[string]string{
		"nothing":                      "",
		"null":                         "null",
		"a string":                     `"iss"`,
		"an array":                     "[" + good + "]",
		"an empty object":              "{}",
		"space before":                 " " + good,
		"space behind":                 good + " ",
		"newline behind":               good + "\n",
		"NUL behind":                   good + "\x00",
		"another object behind":        good + good,
		"a bracket behind":             good + "}",
		"a comma behind the last":      good[:len(good)-1] + ",}",
		"cut off":                      good[:len(good)-1],
		"a comment":                    good[:len(good)-1] + "/**/}",
		"single quotes":                strings.ReplaceAll(good, `"`, `'`),
		"BOM":                          "\uFEFF" + good,
		"UTF-16, little end first":     inUTF16(good, binary.LittleEndian),
		"UTF-16, big end first":        inUTF16(good, binary.BigEndian),
		"invalid UTF-8 in a value":     claimsWith(`"x":"` + "\xff" + `"`),
		"invalid UTF-8 in sub":         claimsWith(`"sub":"alice` + "\xff" + `"`),
		"invalid UTF-8 in a name":      claimsWith(`"` + "\xc3" + `":1`),
		"overlong UTF-8":               claimsWith(`"x":"` + "\xc0\xaf" + `"`),
		"surrogate in UTF-8":           claimsWith(`"x":"` + "\xed\xa0\x80" + `"`),
		"high surrogate alone":         claimsWith(`"x":"\ud800"`),
		"high surrogate in sub":        claimsWith(`"sub":"alice\ud800"`),
		"high surrogate in a name":     claimsWith(`"\ud800":1`),
		"low surrogate alone":          claimsWith(`"x":"\uDC00"`),
		"high surrogate, then text":    claimsWith(`"x":"\ud800A"`),
		"high surrogate, then escape":  claimsWith(`"x":"\ud800\u0041"`),
		"high surrogate, newline":      claimsWith(`"x":"\ud83d\n\ude00"`),
		"surrogates the wrong way":     claimsWith(`"x":"\ude00\ud83d"`),
		"surrogate behind a backslash": claimsWith(`"x":"\\\ud800"`),
		"surrogate deep inside":        claimsWith(`"x":[{"y":["\udfff"]}]`),
		"raw control character":        claimsWith(`"x":"` + "\n" + `"`),

		"iss twice, evil last":            good[:len(good)-1] + `,"iss":"https://evil.example"}`,
		"iss twice, evil first":           `{"iss":"https://evil.example",` + good[1:],
		"iss twice, the same":             good[:len(good)-1] + `,"iss":"https://auth.example"}`,
		"exp twice":                       good[:len(good)-1] + `,"exp":9999999999}`,
		"sub twice":                       good[:len(good)-1] + `,"sub":"root"}`,
		"iss twice, escaped":              good[:len(good)-1] + `,"\u0069ss":"https://evil.example"}`,
		"sub twice, all escaped":          good[:len(good)-1] + `,"\u0073\u0075\u0062":"root"}`,
		"a custom claim twice":            claimsWith(`"role":"user"`, `"Role":"admin"`),
		"a custom claim twice, as it is":  good[:len(good)-1] + `,"role":"user","role":"admin"}`,
		"a nested name twice":             claimsWith(`"x":{"a":1,"a":2}`),
		"a nested name twice, escaped":    claimsWith(`"x":{"a":1,"\u0061":2}`),
		"a name twice in an array":        claimsWith(`"x":[1,[{"a":1,"a":2}]]`),
		"a name twice, deep":              claimsWith(`"x":{"y":{"z":[{"a":[],"b":{},"a":{}}]}}`),
		"ISS beside iss":                  claimsWith(`"ISS":"https://evil.example"`),
		"long s in iss, beside it":        claimsWith(`"iſs":"https://evil.example"`),
		"long s in iss, escaped, beside":  claimsWith(`"i\u017fs":"https://evil.example"`),
		"long s in sub, beside it":        claimsWith(`"ſub":"root"`),
		"Exp beside exp":                  claimsWith(`"Exp":9999999999`),
		"ISS instead of iss":              claimsWith(`"iss"`, `"ISS":"https://auth.example"`),
		"long s instead of sub":           claimsWith(`"sub"`, `"ſub":"alice"`),
		"AUTH_TIME instead of auth_time":  claimsWith(`"auth_time"`, `"AUTH_TIME":1`),
		"long s in scope":                 claimsWith(`"ſcope":"admin"`),
		"Kelvin sign and k":               claimsWith(`"k":1`, `"`+"\u212A"+`":2`),
		"Kelvin sign and K":               claimsWith(`"K":1`, `"\u212A":2`),
		"sigma and final sigma":           claimsWith(`"σ":1`, `"ς":2`),
		"forty names, the last one twice": claimsWith(manyMembers(40)),
	}
}

func manyMembers(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `"name%d":%d,`, i, i)
	}
	return b.String() + fmt.Sprintf(`"name%d":0`, n-1)
}

func TestVerify_refusesMalformedClaims(t *testing.T) {
	runAttacks(t, payloadAttacks(malformedPayloads()))
}

func payloadAttacks(payloads map[string]string) []attack {
	var attacks []attack
	for name, payload := range payloads {
		attacks = append(attacks, attack{name, func(b *accessBench) string { return b.forge(b.header(), payload) }, fast})
	}
	return attacks
}

func TestVerify_refusesWrongClaims(t *testing.T) {
	future := fmt.Sprint(forgeTime.Unix() + 1)
	values := map[string][]string{
		`"exp"`: {
			`null`, `"1767324245"`, `true`, `false`, `-1`, `-0`, `1e400`, `1e10`, `1767324245.0`, `1767324245.5`, `9223372036854775807`, `9223372036854775808`,
			`18446744073709551616`, `253402300800`, `[1767324245]`, `{}`, `""`, `1e-400`,
		},
		`"iat"`:       {`null`, `"1767323045"`, `true`, `-1`, `1767323045.0`, `1e9`, future, `253402300799`, `9223372036854775808`, `[]`},
		`"nbf"`:       {`null`, `"1767323045"`, `true`, `-1`, `1767323045.0`, `1e9`, future, `253402300799`, `9223372036854775808`, `[]`},
		`"auth_time"`: {`null`, `"1767323045"`, `-1`, `1.5`, `[]`, `9223372036854775808`},
		`"aud"`: {
			`null`, `""`, `[]`, `[""]`, `0`, `true`, `{}`, `{"https://api.example":1}`, `"https://api.example/"`, `"https://api.exampl"`, `"HTTPS://API.EXAMPLE"`,
			`"https://API.example"`, `" https://api.example"`, `"https://api.example "`, `"https://api.example https://other.example"`,
			`"https://api.example,https://other.example"`, `["https://other.example"]`, `["https://api.example",1]`, `[null,"https://api.example"]`,
			`[["https://api.example"]]`, `[{"a":"https://api.example"}]`, `["https://api.exampl","e"]`, `"https://api.example\u0000"`, `"https://auth.example"`,
		},
		`"iss"`: {
			`null`, `""`, `0`, `["https://auth.example"]`, `{}`, `"https://auth.example/"`, `"https://AUTH.example"`, `"https://auth.exampl"`,
			`"https://auth.example "`, `"https://auth.example\u0000"`, `"http://auth.example"`, `"https://api.example"`, `"https://auth.example.evil.example"`,
		},
		`"sub"`: {`null`, `""`, `0`, `true`, `["alice"]`, `{}`}, `"sid"`: {`null`, `""`, `0`, `true`, `["s"]`, `{}`},
		`"jti"`:       {`null`, `""`, `0`, `true`, `["j"]`, `{}`},
		`"client_id"`: {`null`, `0`, `true`, `["c"]`, `{}`}, `"scope"`: {`null`, `0`, `true`, `["read"]`, `{}`},
		`"amr"`: {`null`, `0`, `"pwd"`, `[]`, `[1]`, `["pwd",null]`, `[["pwd"]]`, `{}`},
		`"acr"`: {`null`, `0`, `true`, `["gold"]`, `{}`},
		`"act"`: {`null`, `0`, `"carol"`, `["carol"]`, `{}`, `{"sub":""}`, `{"sub":1}`, `{"SUB":"carol"}`, `{"sub":"carol","sub":"dave"}`},
		`"cnf"`: {
			`null`, `"` + clientKey + `"`, `[]`, `{}`, `{"x5t#S256":"` + clientKey + `"}`, `{"jkt":1}`, `{"jkt":""}`, `{"JKT":"` + clientKey + `"}`,
			`{"jkt":"` + clientKey + `","jkt":"` + clientKey + `"}`, `{"jkt":"` + clientKey[:42] + `"}`, `{"jkt":"` + clientKey + `"}`,
		},
		`"epoch"`: {`null`, `0`, `-1`, `"1"`, `1.0`, `1e3`, `[1]`, `true`, `9007199254740992`, `18446744073709551615`, `18446744073709551616`},
	}
	payloads := map[string]string{}
	for name, list := range values {
		for _, value := range list {
			payloads[name+" is "+value] = claimsWith(name + ":" + value)
		}
		optional := []string{
			`"nbf"`, `"auth_time"`, `"client_id"`, `"scope"`, `"amr"`, `"acr"`, `"act"`, `"epoch"`,
			`"cnf"`,
		}
		if !slices.Contains(optional, name) {
			payloads[name+" is missing"] = claimsWith(name)
		}
	}
	runAttacks(t, payloadAttacks(payloads))
}

func TestVerify_refusesOtherSignatures(t *testing.T) {
	ec, rsas := []string{"ES256", "ES384", "ES512"}, []string{"RS256", "PS256"}
	sized := []string{"EdDSA", "ES256", "ES384", "ES512", "RS256", "PS256", "HS256"}
	// resigned replaces the good token's signature.
	resigned := func(name string, algs []string, f func(b *accessBench, input string, good []byte) []byte) attack {
		return attack{name, func(b *accessBench) string {
			i := strings.LastIndexByte(b.good, '.')
			sig, err := base64.RawURLEncoding.DecodeString(b.good[i+1:])
			noError(err)
			return b.good[:i+1] + b64(f(b, b.good[:i], sig))
		}, algs}
	}
	// rs makes a signature of numbers derived from a good one's.
	rs := func(name string, algs []string, f func(r, s, n *big.Int) (*big.Int, *big.Int)) attack {
		return resigned(name, algs, func(b *accessBench, _ string, good []byte) []byte {
			curve := b.private.(*ecdsa.PrivateKey).Curve
			r, s := new(big.Int).SetBytes(good[:len(good)/2]), new(big.Int).SetBytes(good[len(good)/2:])
			r, s = f(r, s, curve.Params().N)
			return ecSignature(curve, r, s)
		})
	}
	// RFC 7518 section 3.5: the salt is as long as the hash.
	salted := func(name string, length int) attack {
		return resigned(name, []string{"PS256"}, func(b *accessBench, in string, _ []byte) []byte {
			digest := sha256.Sum256([]byte(in))
			sig, err := b.private.Sign(rand.Reader, digest[:], &rsa.PSSOptions{SaltLength: length, Hash: crypto.SHA256})
			noError(err)
			return sig
		})
	}
	zero, one := new(big.Int), big.NewInt(1)
	add := func(a, b *big.Int) *big.Int { return new(big.Int).Add(a, b) }
	runAttacks(t, []attack{
		resigned("nothing", sized, func(*accessBench, string, []byte) []byte { return nil }),
		resigned("all zero", sized, func(_ *accessBench, _ string, g []byte) []byte { return make([]byte, len(g)) }),
		resigned("all ones", sized, func(_ *accessBench, _ string, g []byte) []byte { return bytes.Repeat([]byte{0xff}, len(g)) }),
		resigned("first bit flipped", sized, func(_ *accessBench, _ string, g []byte) []byte { g[0] ^= 0x80; return g }),
		resigned("last bit flipped", sized, func(_ *accessBench, _ string, g []byte) []byte { g[len(g)-1] ^= 1; return g }),
		resigned("one byte short", sized, func(_ *accessBench, _ string, g []byte) []byte { return g[:len(g)-1] }),
		resigned("without the first byte", sized, func(_ *accessBench, _ string, g []byte) []byte { return g[1:] }),
		resigned("a zero behind", sized, func(_ *accessBench, _ string, g []byte) []byte { return append(g, 0) }),
		resigned("a zero before", sized, func(_ *accessBench, _ string, g []byte) []byte { return append([]byte{0}, g...) }),
		resigned("twice", sized, func(_ *accessBench, _ string, g []byte) []byte { return append(g, g...) }),
		resigned("of another token", sized, func(b *accessBench, _ string, _ []byte) []byte {
			return tokenPart(t, b.forge(b.header(), claimsWith(`"sub":"bob"`)), 2)
		}),
		resigned("of the payload only", sized, func(b *accessBench, in string, _ []byte) []byte {
			return b.sign([]byte(in[strings.IndexByte(in, '.')+1:]))
		}),
		resigned("of another key", sized, func(b *accessBench, in string, _ []byte) []byte {
			return keyFor(otherKeys(), b.alg).sign([]byte(in))
		}),
		resigned("in DER", ec, func(_ *accessBench, _ string, g []byte) []byte {
			der, err := asn1.Marshal(struct{ R, S *big.Int }{new(big.Int).SetBytes(g[:len(g)/2]), new(big.Int).SetBytes(g[len(g)/2:])})
			noError(err)
			return der
		}),
		rs("r is 0", ec, func(_, s, _ *big.Int) (*big.Int, *big.Int) { return zero, s }),
		rs("s is 0", ec, func(r, _, _ *big.Int) (*big.Int, *big.Int) { return r, zero }),
		rs("r and s are 0", ec, func(_, _, _ *big.Int) (*big.Int, *big.Int) { return zero, zero }),
		rs("r and s are 1", ec, func(_, _, _ *big.Int) (*big.Int, *big.Int) { return one, one }),
		rs("r is n", ec, func(_, s, n *big.Int) (*big.Int, *big.Int) { return n, s }),
		rs("s is n", ec, func(r, _, n *big.Int) (*big.Int, *big.Int) { return r, n }),
		rs("r and s are n", ec, func(_, _, n *big.Int) (*big.Int, *big.Int) { return n, n }),
		rs("r is n-r", ec, func(r, s, n *big.Int) (*big.Int, *big.Int) { return new(big.Int).Sub(n, r), s }),
		rs("r and s swapped", ec, func(r, s, _ *big.Int) (*big.Int, *big.Int) { return s, r }),
		rs("r+n", []string{"ES512"}, func(r, s, n *big.Int) (*big.Int, *big.Int) { return add(r, n), s }),
		rs("s+n", []string{"ES512"}, func(r, s, n *big.Int) (*big.Int, *big.Int) { return r, add(s, n) }),
		salted("a salt of 0 bytes", 0), salted("a salt of 31 bytes", 31), salted("a salt of 33 bytes", 33), salted("the longest salt", rsa.PSSSaltLengthAuto),
		resigned("s+L", []string{"EdDSA"}, func(_ *accessBench, _ string, g []byte) []byte {
			// RFC 8032 section 5.1.7: s is less than the group's order, in little-endian form.
			order, _ := new(big.Int).SetString("7237005577332262213973186563042994240857116359379907606001950938285454250989", 10)
			s := slices.Clone(g[32:])
			slices.Reverse(s)
			s = add(new(big.Int).SetBytes(s), order).FillBytes(s)
			slices.Reverse(s)
			return append(g[:32], s...)
		}),
		resigned("halves swapped", []string{"EdDSA"}, func(_ *accessBench, _ string, g []byte) []byte { return append(g[32:], g[:32]...) }),
		resigned("s+N", rsas, func(b *accessBench, in string, g []byte) []byte {
			n := b.private.Public().(*rsa.PublicKey).N
			sum := add(new(big.Int).SetBytes(g), n).Bytes()
			return sum[max(0, len(sum)-len(g)):]
		}),
		resigned("0 and 1 for RSA", rsas, func(_ *accessBench, _ string, g []byte) []byte { return one.FillBytes(g) }),
		resigned("N-1 for RSA", rsas, func(b *accessBench, _ string, g []byte) []byte {
			return new(big.Int).Sub(b.private.Public().(*rsa.PublicKey).N, one).FillBytes(g)
		}),
	})
}

// TestVerify_acceptsTheOtherHalfOfECDSA shows why nothing is ever denied by the token's text:
// whoever has a token can make another one of it, for what ECDSA signs is (r, s) and (r, n-s)
// alike.
func TestVerify_acceptsTheOtherHalfOfECDSA(t *testing.T) {
	for _, alg := range []string{"ES256", "ES384", "ES512"} {
		b := newAccessBench(t, testKeyFor(alg), tokensession.AccessConfig{}, tokensession.Config{})
		tokens := b.start(t)
		curve := b.private.(*ecdsa.PrivateKey).Curve
		sig := tokenPart(t, tokens.AccessToken, 2)
		r, s := new(big.Int).SetBytes(sig[:len(sig)/2]), new(big.Int).SetBytes(sig[len(sig)/2:])
		twin := tokens.AccessToken[:strings.LastIndexByte(tokens.AccessToken, '.')+1] +
			b64(ecSignature(curve, r, s.Sub(curve.Params().N, s)))
		require.NotEqual(t, tokens.AccessToken, twin)
		for name, verify := range b.verifiers() {
			access, err := verify(twin)
			require.NoError(t, err, "%s by %s", alg, name)
			require.Equal(t, tokens.Session.ID, access.SessionID)
		}
		require.NoError(t, b.manager.Revoke(t.Context(), tokens.Session.ID))
		_, err := b.manager.Verify(twin)
		require.ErrorIs(t, err, tokensession.ErrRevoked, "the twin dies with its session")
	}
}

// stray characters that base64 decoders are known to skip, or to take for another.
var strayText = []string{"=", "==", "\r", "\n", "\r\n", " ", "\t", "+", "/", "-", ".", "%", "~", "\x00", "\xff", "A=", "\u00ad", "*", "?"}

func TestVerify_refusesMalleableBase64(t *testing.T) {
	var attacks []attack
	for i, name := range []string{"header", "payload", "signature"} {
		for _, s := range strayText {
			for at, where := range []string{"at the front", "inside", "at the end"} {
				attacks = append(attacks, attack{fmt.Sprintf("%q %s of the %s", s, where, name), func(b *accessBench) string {
					parts := strings.Split(b.good, ".")
					cut := at * len(parts[i]) / 2
					parts[i] = parts[i][:cut] + s + parts[i][cut:]
					if i == 2 {
						return strings.Join(parts, ".")
					}
					return b.forgeRaw(parts[0], parts[1]) // signed as it is: the text itself is what is wrong
				}, fast})
			}
		}
		attacks = append(attacks,
			attack{"+ and / in the " + name, func(b *accessBench) string { return standardAlphabet(b, i) }, nil},
			attack{"stray bits in the " + name, func(b *accessBench) string { return strayBits(b, i) }, strayBitAlgs[i]})
	}
	runAttacks(t, attacks)
}

// standardAlphabet spells one part of a token with + and /, and signs that.
func standardAlphabet(b *accessBench, i int) string {
	if i == 0 { // our headers have none of the two, so one is put in
		return b.forgeRaw(b64([]byte(b.header()))+"+", b64([]byte(claimsWith())))
	}
	for n := 0; ; n++ {
		parts := strings.Split(b.forge(b.header(), claimsWith(fmt.Sprintf(`"x":"%d?>~"`, n))), ".")
		was := parts[i]
		parts[i] = strings.NewReplacer("-", "+", "_", "/").Replace(was)
		switch {
		case parts[i] == was:
			continue
		case i == 1:
			return b.forgeRaw(parts[0], parts[1])
		default:
			return strings.Join(parts, ".")
		}
	}
}

// strayBitAlgs are the algorithms whose signatures leave bits unused in the last character, for the
// last part.
var strayBitAlgs = [][]string{nil, nil, {"EdDSA", "ES256", "RS256", "PS256", "HS256"}}

// strayBits sets a bit that is not part of the data in the last character of one part, and signs
// that.
func strayBits(b *accessBench, i int) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	claims := claimsWith()
	for len(claims)%3 == 0 {
		claims = claims[:len(claims)-1] + `,"x":1}`
	}
	header := b.header()
	parts := strings.Split(b.forge(header, claims), ".")
	last := len(parts[i]) - 1
	if len(parts[i])%4 == 0 { // a header that fills its last character: lengthen it by one that is no data
		parts[i] += "A"
		last++
	}
	parts[i] = parts[i][:last] + string(alphabet[strings.IndexByte(alphabet, parts[i][last])|1])
	if i == 2 {
		return strings.Join(parts, ".")
	}
	return b.forgeRaw(parts[0], parts[1])
}

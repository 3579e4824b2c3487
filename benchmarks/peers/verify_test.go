package peers

import (
	"encoding/base64"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejwt "github.com/go-jose/go-jose/v4/jwt"
	"github.com/golang-jwt/jwt/v5"
	jwa2 "github.com/lestrrat-go/jwx/v2/jwa"
	jwt2 "github.com/lestrrat-go/jwx/v2/jwt"
	jwa3 "github.com/lestrrat-go/jwx/v3/jwa"
	jwt3 "github.com/lestrrat-go/jwx/v3/jwt"

	"github.com/seed67bc9b7f/tokensession"
)

// A verifier verifies an access token's signature, issuer, audience and times, and returns its
// subject.
type verifier struct {
	name   string
	verify func(token string) (subject string, err error)
}

// claims are what tokensession puts into a token, too.
type claims struct {
	ClientID string `json:"client_id"`
	Session  string `json:"sid"`
	AuthTime int64  `json:"auth_time"`
	Scope    string `json:"scope"`
}

func verifiers(a Algorithm) []verifier {
	parser := jwt.NewParser(jwt.WithValidMethods([]string{a.Name}), jwt.WithIssuer(Issuer), jwt.WithAudience(Audience),
		jwt.WithExpirationRequired(), jwt.WithIssuedAt())
	golangKey := func(*jwt.Token) (any, error) { return a.Public, nil }
	joseAlgorithms := []jose.SignatureAlgorithm{jose.SignatureAlgorithm(a.Name)}
	joseExpected := josejwt.Expected{Issuer: Issuer, AnyAudience: josejwt.Audience{Audience}}
	jwx2 := []jwt2.ParseOption{jwt2.WithKey(jwa2.SignatureAlgorithm(a.Name), a.Public), jwt2.WithIssuer(Issuer),
		jwt2.WithAudience(Audience), jwt2.WithRequiredClaim("exp")}
	alg3, _ := jwa3.LookupSignatureAlgorithm(a.Name)
	jwx3 := []jwt3.ParseOption{jwt3.WithKey(alg3, a.Public), jwt3.WithIssuer(Issuer), jwt3.WithAudience(Audience),
		jwt3.WithRequiredClaim("exp")}
	return []verifier{
		{"golang-jwt", func(token string) (string, error) {
			var c struct {
				jwt.RegisteredClaims
				claims
			}
			_, err := parser.ParseWithClaims(token, &c, golangKey)
			return c.Subject, err
		}},
		{"go-jose", func(token string) (string, error) {
			parsed, err := josejwt.ParseSigned(token, joseAlgorithms)
			if err != nil {
				return "", err
			}
			var c struct {
				josejwt.Claims
				claims
			}
			if err := parsed.Claims(a.Public, &c); err != nil {
				return "", err
			}
			if c.Expiry == nil {
				return "", errors.New("no exp")
			}
			return c.Subject, c.ValidateWithLeeway(joseExpected, 0)
		}},
		{"jwx-v3", func(token string) (string, error) {
			parsed, err := jwt3.ParseString(token, jwx3...)
			if err != nil {
				return "", err
			}
			subject, _ := parsed.Subject()
			return subject, nil
		}},
		{"jwx-v2", func(token string) (string, error) {
			parsed, err := jwt2.ParseString(token, jwx2...)
			if err != nil {
				return "", err
			}
			return parsed.Subject(), nil
		}},
	}
}

func ourVerifier(a Algorithm, access tokensession.AccessConfig) (tokensession.RefreshStore, *tokensession.Manager) {
	store := tokensession.NewMemoryStore()
	return store, must(tokensession.New(signerOf(a, access), store, tokensession.Config{}))
}

// TestVerifiers_checkTheSame shows that those that are compared all look at the signature, iss,
// aud, exp and iat.
func TestVerifiers_checkTheSame(t *testing.T) {
	now := time.Now().Unix()
	good := jwt.MapClaims{"iss": Issuer, "aud": Audience, "sub": Subject, "exp": now + 900, "iat": now, "auth_time": now, "jti": "x", "sid": "y"}
	with := func(name string, value any) jwt.MapClaims {
		c := jwt.MapClaims{}
		for k, v := range good {
			c[k] = v
		}
		if c[name] = value; value == nil {
			delete(c, name)
		}
		return c
	}
	bad := map[string]jwt.MapClaims{
		"another issuer": with("iss", "https://other.example"), "another audience": with("aud", "https://other.example"),
		"no audience": with("aud", nil), "expired": with("exp", now-60), "no expiry": with("exp", nil), "from the future": with("iat", now+600),
	}
	for _, a := range Algorithms() {
		_, m := ourVerifier(a, tokensession.AccessConfig{})
		header := strings.Split(must(m.Start(ctx, Subject)).AccessToken, ".")[0]
		all := append(verifiers(a), verifier{"tokensession", func(token string) (string, error) {
			access, err := m.Verify(token)
			return access.Subject, err
		}})
		for _, v := range all {
			if subject, err := v.verify(signed(a, header, good)); err != nil || subject != Subject {
				t.Errorf("%s, %s: %q, %v", a.Name, v.name, subject, err)
			}
			for what, c := range bad {
				if _, err := v.verify(signed(a, header, c)); err == nil {
					t.Errorf("%s, %s: %s is accepted", a.Name, v.name, what)
				}
			}
			token := signed(a, header, good)
			if _, err := v.verify(token[:len(token)-8] + "AAAAAAAA"); err == nil {
				t.Errorf("%s, %s: a forged signature is accepted", a.Name, v.name)
			}
		}
	}
}

func signed(a Algorithm, header string, c jwt.MapClaims) string {
	token := jwt.NewWithClaims(jwt.GetSigningMethod(a.Name), c)
	message := header + "." + strings.Split(must(token.SigningString()), ".")[1]
	return message + "." + base64.RawURLEncoding.EncodeToString(must(token.Method.Sign(message, a.Private)))
}

// BenchmarkVerify verifies a thousand tokens in turn. A miss is a token that the cache does not
// hold, because it is too small: it is looked for there and put there all the same.
func BenchmarkVerify(b *testing.B) {
	const tokens = 1000
	for _, a := range Algorithms() {
		store, hit := ourVerifier(a, tokensession.AccessConfig{})
		miss := must(tokensession.New(signerOf(a, tokensession.AccessConfig{CacheSize: 1}), store, tokensession.Config{}))
		list := make([]string, tokens)
		messages, signatures := make([][]byte, tokens), make([][]byte, tokens)
		for i := range list {
			list[i] = must(hit.Start(ctx, Subject)).AccessToken
			end := strings.LastIndexByte(list[i], '.')
			messages[i] = []byte(list[i][:end])
			signatures[i] = a.Sign(messages[i])
		}
		for _, token := range list {
			must(hit.Verify(token))
		}
		rivals := []rival{
			{"hit", func(w, i int) { must(hit.Verify(list[(i+w*tokens/2)%tokens])) }},
			{"miss", func(w, i int) { must(miss.Verify(list[(i+w*tokens/2)%tokens])) }},
		}
		for _, v := range verifiers(a) {
			rivals = append(rivals, rival{v.name, func(w, i int) { must(v.verify(list[(i+w*tokens/2)%tokens])) }})
		}
		rivals = append(rivals, rival{"raw", func(w, i int) {
			if n := (i + w*tokens/2) % tokens; !a.Verify(messages[n], signatures[n]) {
				panic("does not verify")
			}
		}})
		b.Run("alg="+a.Name, func(b *testing.B) { takeTurns(b, rivals) })
	}
}

package sessionhttp_test

import (
	"crypto/ecdsa"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func TestDevice_bindsTheSessionWithTheFirstProvenRefresh(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newDeviceBrowser()
	challenge := b.login()
	before := b.stored()
	b.register(challenge)
	require.Equal(t, before, b.stored(), "to register stores nothing")
	require.Len(t, b.id, 88)

	answer := b.refresh()
	require.Equal(t, http.StatusOK, answer.StatusCode)
	require.Equal(t, thumbprintOf(&b.key.PublicKey), b.stored().KeyThumbprint)
	cookies := cookiesOf(t, answer)
	require.Len(t, cookies, 3)
	require.Equal(t, 15*60, cookies[triggerCookie].MaxAge)
	trigger := cookies[triggerCookie]
	require.True(t, trigger.Secure && trigger.HttpOnly && trigger.Path == "/" && trigger.Value == "1")
	require.Equal(t, http.SameSiteStrictMode, trigger.SameSite)
	require.Empty(t, answer.Header["Secure-Session-Registration"])

	for range 3 { // the challenge came with the answer: one round trip each
		s.clock.Advance(15 * time.Minute)
		b.forgetTrigger()
		answer := b.send(http.MethodPost, "/auth/token", b.proof(b.challenge))
		require.Equal(t, http.StatusOK, answer.StatusCode)
		b.hear(answer)
	}
}

// A host that knows the browser's key can bind the session with the login.
func TestDevice_asksNoBoundSessionForAKey(t *testing.T) {
	b := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced)).newDeviceBrowser()
	w := httptest.NewRecorder()
	_, err := b.s.h.Login(w, b.request(http.MethodPost, "/login"), "alice",
		tokensession.WithKeyThumbprint(thumbprintOf(&b.key.PublicKey)))
	require.NoError(t, err)
	require.Empty(t, w.Result().Header["Secure-Session-Registration"])
}

// The browser forgets a session whose refresh is answered with the instructions of another one.
func TestDevice_instructsTheSameEachTime(t *testing.T) {
	cfg := deviceConfig(sessionhttp.DeviceBoundEnforced)
	cfg.DeviceExclude = []string{"/static/", "/other"}
	cfg.Origins = []string{"https://app.example:8443", "https://app.example", "https://[::1]",
		"https://127.0.0.1", "http://localhost:5173"}
	cfg.SameSite, cfg.CookieSuffix = http.SameSiteLaxMode, "app"
	s := newSite(t, cfg)
	w := &deviceBrowser{t: t, s: s, key: newDeviceKey(t), jar: map[string]string{}}
	registered := w.send(http.MethodPost, "/auth/device", w.registration(w.login()))
	require.Equal(t, "application/json", registered.Header.Get("Content-Type"))
	first := bodyOf(t, registered)
	var instructions struct {
		ID string `json:"session_identifier"`
	}
	require.NoError(t, json.Unmarshal([]byte(first), &instructions))
	require.JSONEq(t, `{"session_identifier":"`+instructions.ID+`","refresh_url":"/auth/token",
		"scope":{"include_site":false,"scope_specification":[
			{"type":"exclude","domain":"*","path":"/static/"},
			{"type":"exclude","domain":"*","path":"/other"}]},
		"credentials":[{"type":"cookie","name":"__Host-bound-app",
			"attributes":"Path=/; HttpOnly; Secure; SameSite=Lax"}],
		"allowed_refresh_initiators":["app.example"]}`, first)
	require.Equal(t, "__Host-bound-app=1; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Lax",
		registered.Header.Get("Set-Cookie"))
}

// A mutation of a registration, or of a browser's refresh.
type deviceAttack struct {
	name string
	edit deviceEdit
}

type deviceEdit func(b *deviceBrowser, r *http.Request)

// jwt returns the parts of the request's proof.
func jwtOf(t testing.TB, r *http.Request) (header, claims, signature string) {
	t.Helper()
	parts := strings.Split(r.Header.Get("Secure-Session-Response"), ".")
	require.Len(t, parts, 3)
	decode := func(part string) string {
		b, err := base64.RawURLEncoding.DecodeString(part)
		require.NoError(t, err)
		return string(b)
	}
	return decode(parts[0]), decode(parts[1]), parts[2]
}

// resigned returns an edit that makes the request's proof another one, signed with the right key.
func resigned(edit func(b *deviceBrowser, header, claims string) (string, string)) deviceEdit {
	return func(b *deviceBrowser, r *http.Request) {
		header, claims, _ := jwtOf(b.t, r)
		header, claims = edit(b, header, claims)
		r.Header.Set("Secure-Session-Response", signProof(b.t, b.key, header, claims))
	}
}

// replaced is resigned, with one text in place of another.
func replaced(old, new string) deviceEdit {
	return resigned(func(b *deviceBrowser, header, claims string) (string, string) {
		if !strings.Contains(header+claims, old) {
			b.t.Fatalf("there is no %q in %s or %s", old, header, claims)
		}
		return strings.Replace(header, old, new, 1), strings.Replace(claims, old, new, 1)
	})
}

// badProofs are bad whatever they are for.
func badProofs() []deviceAttack {
	raw := func(edit func(proof string) []string) deviceEdit {
		return func(_ *deviceBrowser, r *http.Request) {
			r.Header["Secure-Session-Response"] = edit(r.Header.Get("Secure-Session-Response"))
		}
	}
	signature := func(edit func(b []byte) []byte) deviceEdit {
		return raw(func(proof string) []string {
			i := strings.LastIndexByte(proof, '.') + 1
			b, err := base64.RawURLEncoding.DecodeString(proof[i:])
			if err != nil {
				panic(err)
			}
			return []string{proof[:i] + base64.RawURLEncoding.EncodeToString(edit(b))}
		})
	}
	return []deviceAttack{
		{"two proofs", raw(func(proof string) []string { return []string{proof, proof} })},
		{"an empty one", raw(func(string) []string { return []string{""} })},
		{"quoted", raw(func(proof string) []string { return []string{`"` + proof + `"`} })},
		{"four parts", raw(func(proof string) []string { return []string{proof + ".e30"} })},
		{"two parts", raw(func(proof string) []string {
			return []string{proof[:strings.LastIndexByte(proof, '.')]}
		})},
		{"padding", raw(func(proof string) []string { return []string{proof + "="} })},
		{"a line break", raw(func(proof string) []string {
			return []string{proof[:9] + "\n" + proof[9:]}
		})},
		{"too long", replaced(`"jti"`, `"x":"`+strings.Repeat("x", 3<<10)+`","jti"`)},
		{"alg none", replaced(`"ES256"`, `"none"`)},
		{"alg HS256", replaced(`"ES256"`, `"HS256"`)},
		{"alg of another case", replaced(`"ES256"`, `"es256"`)},
		{"alg a number", replaced(`"ES256"`, `256`)},
		{"no alg", replaced(`"alg"`, `"gla"`)},
		{"typ of DPoP", replaced(`dbsc+jwt`, `dpop+jwt`)},
		{"typ of an access token", replaced(`dbsc+jwt`, `at+jwt`)},
		{"typ an array", replaced(`"dbsc+jwt"`, `["dbsc+jwt"]`)},
		{"no typ", replaced(`"typ"`, `"pyt"`)},
		{"crit", replaced(`"typ"`, `"crit":["x"],"typ"`)},
		{"alg twice", replaced(`"typ"`, `"alg":"ES256","typ"`)},
		{"a header that is no object", replaced(`{"alg"`, `[{"alg"`)},
		{"claims that are no object", replaced(`{"jti"`, `[{"jti"`)},
		{"jti twice", replaced(`{"jti"`, `{"jti":"x","jti"`)},
		{"jti of another case", replaced(`"jti"`, `"JTI"`)},
		{"another key's signature", func(b *deviceBrowser, r *http.Request) {
			header, claims, _ := jwtOf(b.t, r)
			r.Header.Set("Secure-Session-Response", signProof(b.t, newDeviceKey(b.t), header, claims))
		}},
		{"a bit of the signature", signature(func(b []byte) []byte { b[5] ^= 1; return b })},
		{"63 bytes of signature", signature(func(b []byte) []byte { return b[1:] })},
		{"65 bytes of signature", signature(func(b []byte) []byte { return append(b, 0) })},
		{"r is 0", signature(func(b []byte) []byte { clear(b[:32]); return b })},
		{"s is 0", signature(func(b []byte) []byte { clear(b[32:]); return b })},
	}
}

// flipped changes one character of base64url.
func flipped(s string, i int) string {
	c := "A"
	if s[i] == 'A' {
		c = "B"
	}
	return s[:i] + c + s[i+1:]
}

func TestDevice_refusesRegistrations(t *testing.T) {
	other := func(edit func(jwk string, key *ecdsa.PublicKey) string) deviceEdit {
		return resigned(func(b *deviceBrowser, header, claims string) (string, string) {
			jwk := jwkOf(b.t, &b.key.PublicKey)
			return strings.Replace(header, jwk, edit(jwk, &b.key.PublicKey), 1), claims
		})
	}
	jwk := func(old, new string) deviceEdit {
		return other(func(jwk string, _ *ecdsa.PublicKey) string {
			require.Contains(t, jwk, old)
			return strings.Replace(jwk, old, new, 1)
		})
	}
	challenge := func(edit func(b *deviceBrowser, challenge string) string) deviceEdit {
		return resigned(func(b *deviceBrowser, header, claims string) (string, string) {
			old := strings.TrimSuffix(strings.TrimPrefix(claims, `{"jti":"`), `"}`)
			return header, `{"jti":"` + edit(b, old) + `"}`
		})
	}
	for _, attack := range append(badProofs(), []deviceAttack{
		{"no proof", func(_ *deviceBrowser, r *http.Request) { r.Header.Del("Secure-Session-Response") }},
		{"no jwk", jwk(`{"crv"`, `{"vrc"`)},
		{"no jwk at all", resigned(func(_ *deviceBrowser, _, claims string) (string, string) {
			return `{"alg":"ES256","typ":"dbsc+jwt"}`, claims
		})},
		{"two jwk", resigned(func(b *deviceBrowser, header, claims string) (string, string) {
			twice := `"jwk":` + jwkOf(b.t, &b.key.PublicKey) + `,"jwk"`
			return strings.Replace(header, `"jwk"`, twice, 1), claims
		})},
		{"jwk null", other(func(string, *ecdsa.PublicKey) string { return "null" })},
		{"a private key", jwk(`"kty"`, `"d":"AA","kty"`)},
		{"another curve", jwk(`P-256`, `P-384`)},
		{"another kind", jwk(`"EC"`, `"OKP"`)},
		{"x twice", other(func(jwk string, key *ecdsa.PublicKey) string {
			x, _ := coordinatesOf(key)
			return strings.Replace(jwk, `"x"`, `"x":"`+x+`","x"`, 1)
		})},
		{"a point off the curve", other(func(jwk string, key *ecdsa.PublicKey) string {
			x, y := coordinatesOf(key)
			return strings.Replace(jwk, y, x, 1)
		})},
		{"the point at infinity", other(func(jwk string, key *ecdsa.PublicKey) string {
			x, y := coordinatesOf(key)
			zero := base64.RawURLEncoding.EncodeToString(make([]byte, 32))
			return strings.NewReplacer(x, zero, y, zero).Replace(jwk)
		})},
		{"31 bytes of x", other(func(jwk string, key *ecdsa.PublicKey) string {
			x, _ := coordinatesOf(key)
			b, _ := base64.RawURLEncoding.DecodeString(x)
			return strings.Replace(jwk, x, base64.RawURLEncoding.EncodeToString(b[1:]), 1)
		})},
		{"33 bytes of x", other(func(jwk string, key *ecdsa.PublicKey) string {
			x, _ := coordinatesOf(key)
			b, _ := base64.RawURLEncoding.DecodeString(x)
			return strings.Replace(jwk, x, base64.RawURLEncoding.EncodeToString(append([]byte{0}, b...)), 1)
		})},
		{"x padded", other(func(jwk string, key *ecdsa.PublicKey) string {
			x, _ := coordinatesOf(key)
			return strings.Replace(jwk, x, x+"=", 1)
		})},
		{"no jti", replaced(`"jti"`, `"itj"`)},
		{"an empty jti", challenge(func(*deviceBrowser, string) string { return "" })},
		{"jti a number", resigned(func(_ *deviceBrowser, header, _ string) (string, string) {
			return header, `{"jti":1}`
		})},
		{"a changed challenge", challenge(func(_ *deviceBrowser, c string) string {
			return flipped(c, 30)
		})},
		{"a shorter challenge", challenge(func(_ *deviceBrowser, c string) string {
			return c[:len(c)-1]
		})},
		{"a longer challenge", challenge(func(_ *deviceBrowser, c string) string { return c + "A" })},
		{"the challenge of another session", challenge(func(b *deviceBrowser, c string) string {
			other := b.s.newDeviceBrowser().session.ID
			return other + c[len(other):]
		})},
		{"a challenge of a refresh", func(b *deviceBrowser, r *http.Request) {
			twin := *b
			b.forgetTrigger()
			twin.register(offeredChallenge(b.t, b.send(http.MethodPost, "/auth/token")))
			challenge := twin.askedFor()
			b.registration(challenge)(r)
		}},
		{"a challenge of another secret", func(b *deviceBrowser, r *http.Request) {
			cfg := deviceConfig(sessionhttp.DeviceBoundEnforced)
			cfg.ProofKeys = [][]byte{make([]byte, 32)}
			h, err := sessionhttp.New(b.s.m, cfg)
			require.NoError(b.t, err)
			keep := b.s.h
			b.s.h = h
			b.registration(b.login())(r)
			b.s.h = keep
		}},
		{"6 minutes later", func(b *deviceBrowser, _ *http.Request) {
			b.s.clock.Advance(6 * time.Minute)
		}},
		{"an access cookie of another session", func(b *deviceBrowser, r *http.Request) {
			r.Header.Del("Cookie")
			r.AddCookie(&http.Cookie{Name: accessCookie, Value: b.s.newDeviceBrowser().jar[accessCookie]})
		}},
		{"an access cookie of none", func(_ *deviceBrowser, r *http.Request) {
			r.Header.Set("Cookie", accessCookie+"=garbage")
		}},
		{"two access cookies", func(_ *deviceBrowser, r *http.Request) {
			r.Header.Add("Cookie", accessCookie+"=x")
		}},
		{"a query", func(_ *deviceBrowser, r *http.Request) { r.URL.RawQuery = "a=b" }},
	}...) {
		t.Run(attack.name, func(t *testing.T) {
			s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
			b := s.newDeviceBrowser()
			challenge := b.login()
			r := b.request(http.MethodPost, "/auth/device", b.registration(challenge))
			attack.edit(b, r)
			b.requireUntouched(func() {
				answer := s.do(r)
				requireError(t, answer, http.StatusBadRequest, "invalid_request")
				require.Empty(t, answer.Header["Set-Cookie"])
			})
		})
	}
}

func TestDevice_refusesRegistrationsOfOtherOrigins(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newDeviceBrowser()
	registration := b.registration(b.login())
	answer := b.send(http.MethodPost, "/auth/device", registration, func(r *http.Request) {
		r.Header.Set("Sec-Fetch-Site", "cross-site")
	})
	requireError(t, answer, http.StatusForbidden, "access_denied")
	answer = b.send(http.MethodGet, "/auth/device", registration)
	require.Equal(t, http.StatusMethodNotAllowed, answer.StatusCode)
}

// After a login that another site's page has posted, the registration has no cookies.
func TestDevice_registersWithoutCookies(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newDeviceBrowser()
	registration := b.registration(b.login())
	answer := b.send(http.MethodPost, "/auth/device", registration, func(r *http.Request) {
		r.Header.Del("Cookie")
	})
	require.Equal(t, http.StatusOK, answer.StatusCode)
	b.id = jsonOf(t, answer)["session_identifier"].(string)
	require.Equal(t, http.StatusOK, b.refresh().StatusCode)
	require.NotEmpty(t, b.stored().KeyThumbprint)
}

// What a browser refuses is answered so that it forgets what is of no use, and no more than that.
func TestDevice_refusesRefreshes(t *testing.T) {
	name := func(edit func(b *deviceBrowser, id []byte) []byte) deviceEdit {
		return func(b *deviceBrowser, r *http.Request) {
			id, err := base64.RawURLEncoding.DecodeString(b.id)
			require.NoError(b.t, err)
			changed := edit(b, id)
			r.Header.Set("Sec-Secure-Session-Id", base64.RawURLEncoding.EncodeToString(changed))
		}
	}
	text := func(values ...string) deviceEdit {
		return func(b *deviceBrowser, r *http.Request) {
			r.Header["Sec-Secure-Session-Id"] = nil
			for _, value := range values {
				value = strings.ReplaceAll(value, "{id}", b.id)
				r.Header.Add("Sec-Secure-Session-Id", value)
			}
		}
	}
	other := func(b *deviceBrowser) *deviceBrowser {
		other := b.s.newDeviceBrowser()
		other.register(other.login())
		return other
	}
	for _, attack := range append(badProofs(), []deviceAttack{
		{"no jti", replaced(`"jti"`, `"itj"`)},
		{"jti a number", resigned(func(_ *deviceBrowser, header, _ string) (string, string) {
			return header, `{"jti":1}`
		})},
		{"a proof with its key", resigned(func(b *deviceBrowser, header, claims string) (string, string) {
			withKey := `"jwk":` + jwkOf(b.t, &b.key.PublicKey) + `,"typ"`
			return strings.Replace(header, `"typ"`, withKey, 1), claims
		})},
		{"a name with another session", name(func(b *deviceBrowser, id []byte) []byte {
			session, err := base64.RawURLEncoding.DecodeString(other(b).session.ID)
			require.NoError(b.t, err)
			copy(id[1:], session)
			return id
		})},
		{"a name with another key", name(func(b *deviceBrowser, id []byte) []byte {
			stranger, err := base64.RawURLEncoding.DecodeString(other(b).id)
			require.NoError(b.t, err)
			copy(id[17:50], stranger[17:50])
			return id
		})},
		{"a name with the key's other point", name(func(_ *deviceBrowser, id []byte) []byte {
			id[17] ^= 1
			return id
		})},
		{"a name with a key off the curve", name(func(_ *deviceBrowser, id []byte) []byte {
			for i := range id[18:50] {
				id[18+i] = 0xff
			}
			return id
		})},
		{"a name with another MAC", name(func(_ *deviceBrowser, id []byte) []byte {
			id[65] ^= 1
			return id
		})},
		{"a name of another version", name(func(_ *deviceBrowser, id []byte) []byte {
			id[0] = 2
			return id
		})},
		{"the name of another session", func(b *deviceBrowser, r *http.Request) {
			r.Header.Set("Sec-Secure-Session-Id", other(b).id)
		}},
		{"two names", text("{id}", "{id}")},
		{"a quoted name", text(`"{id}"`)},
		{"a long name", text(strings.Repeat("x", 8<<10))},
		{"an empty name", text("")},
		{"a name with a line break", text("{id}\n")},
		{"a name with a space", text(" {id}")},
		{"the session's id", func(b *deviceBrowser, r *http.Request) {
			r.Header.Set("Sec-Secure-Session-Id", b.session.ID)
		}},
		{"no refresh cookie", func(b *deviceBrowser, r *http.Request) {
			r.Header.Set("Cookie", accessCookie+"="+b.jar[accessCookie])
		}},
		{"no access cookie", func(b *deviceBrowser, r *http.Request) {
			r.Header.Set("Cookie", refreshCookie+"="+b.jar[refreshCookie])
		}},
		{"no cookies", func(_ *deviceBrowser, r *http.Request) { r.Header.Del("Cookie") }},
		{"the cookies of another session", func(b *deviceBrowser, r *http.Request) {
			r.Header["Cookie"] = other(b).request(http.MethodPost, "/auth/token").Header["Cookie"]
		}},
		{"two access cookies", func(_ *deviceBrowser, r *http.Request) {
			r.Header.Add("Cookie", accessCookie+"=x")
		}},
		{"a query", func(_ *deviceBrowser, r *http.Request) { r.URL.RawQuery = "a=b" }},
	}...) {
		t.Run(attack.name, func(t *testing.T) {
			s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
			b := s.newDeviceBrowser()
			b.register(b.login())
			r := b.request(http.MethodPost, "/auth/token", b.proof(b.askedFor()))
			attack.edit(b, r)
			b.requireUntouched(func() {
				answer := s.do(r)
				requireError(t, answer, http.StatusBadRequest, "invalid_request")
				require.Empty(t, answer.Header["Set-Cookie"])
				require.Empty(t, answer.Header["Secure-Session-Challenge"])
			})
		})
	}
}

// A challenge that is no good, with a proof that is, is answered with a new one.
func TestDevice_asksForANewChallenge(t *testing.T) {
	for _, attack := range []struct {
		name string
		edit func(b *deviceBrowser, challenge string) string // returns the challenge that is signed
	}{
		{"of another name", func(b *deviceBrowser, _ string) string {
			twin := *b
			twin.key = newDeviceKey(b.t)
			b.forgetTrigger()
			twin.register(offeredChallenge(b.t, b.send(http.MethodPost, "/auth/token")))
			b.forgetTrigger()
			return twin.askedFor()
		}},
		{"of another refresh token", func(b *deviceBrowser, challenge string) string {
			b.forgetTrigger()
			require.Equal(b.t, http.StatusOK, b.send(http.MethodPost, "/auth/token").StatusCode)
			return challenge
		}},
		{"31 minutes old", func(b *deviceBrowser, challenge string) string {
			b.s.clock.Advance(31 * time.Minute)
			return challenge
		}},
		{"changed", func(_ *deviceBrowser, c string) string { return flipped(c, 9) }},
		{"of a registration", func(b *deviceBrowser, _ string) string { return b.login() }},
		{"a text", func(*deviceBrowser, string) string { return "challenge" }},
	} {
		t.Run(attack.name, func(t *testing.T) {
			s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
			b := s.newDeviceBrowser()
			b.register(b.login())
			challenge := attack.edit(b, b.askedFor())
			if attack.name == "of a registration" {
				b.register(challenge)
			}
			b.requireUntouched(func() {
				answer := b.send(http.MethodPost, "/auth/token", b.proof(challenge))
				requireError(t, answer, http.StatusForbidden, "invalid_dpop_proof")
				b.hear(answer)
			})
			require.Equal(t, http.StatusOK, b.refresh().StatusCode)
			require.NotEmpty(t, b.stored().KeyThumbprint)
		})
	}
}

// Before there is a proof, the store is not asked.
func TestDevice_asksForAProofWithoutTheStore(t *testing.T) {
	s := newSite(t, deviceConfig(sessionhttp.DeviceBoundEnforced))
	b := s.newDeviceBrowser()
	b.register(b.login())
	s.store.Down()
	b.askedFor()
	answer := b.send(http.MethodPost, "/auth/token", b.proof(b.challenge))
	requireError(t, answer, http.StatusServiceUnavailable, "temporarily_unavailable")
	require.Empty(t, answer.Header["Set-Cookie"])
	s.store.Clear()
	require.Equal(t, http.StatusOK, b.refresh().StatusCode)
}

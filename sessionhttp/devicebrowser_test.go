package sessionhttp_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

var deviceSecret = []byte("a secret for proofs, of 32 bytes or more")

// deviceConfig is of a host that binds browsers to their devices.
func deviceConfig(policy sessionhttp.DeviceBoundPolicy) sessionhttp.Config {
	return sessionhttp.Config{Cookies: true, DeviceBound: policy, ProofKeys: [][]byte{deviceSecret}}
}

const triggerCookie = "__Host-bound"

// A deviceBrowser speaks to a site as Chromium does (see test/browser), and keeps its cookies.
type deviceBrowser struct {
	t         testing.TB
	s         *site
	key       *ecdsa.PrivateKey
	jar       map[string]string
	id        string
	challenge string
	session   tokensession.Session // of its login
}

// newDeviceBrowser returns a browser where alice has logged in. It has not registered.
func (s *site) newDeviceBrowser() *deviceBrowser {
	s.t.Helper()
	b := &deviceBrowser{t: s.t, s: s, key: newDeviceKey(s.t), jar: map[string]string{}}
	offeredChallenge(s.t, b.logIn())
	return b
}

func newDeviceKey(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return key
}

// login logs alice in, and returns the challenge that the answer asks to register with.
func (b *deviceBrowser) login() string { return offeredChallenge(b.t, b.logIn()) }

func (b *deviceBrowser) logIn() *http.Response {
	b.t.Helper()
	w := httptest.NewRecorder()
	var err error
	b.session, err = b.s.h.Login(w, b.request(http.MethodPost, "/login"), "alice")
	require.NoError(b.t, err)
	b.keep(w.Result())
	return w.Result()
}

var offer = regexp.MustCompile(`^\(ES256\);path="/auth/device";challenge="([\w.-]+)"$`)

// offeredChallenge returns the challenge that an answer asks to register with.
func offeredChallenge(t testing.TB, answer *http.Response) string {
	t.Helper()
	values := answer.Header["Secure-Session-Registration"]
	require.Len(t, values, 1)
	found := offer.FindStringSubmatch(values[0])
	require.NotNil(t, found, values[0])
	return found[1]
}

// request makes a request with the browser's cookies.
func (b *deviceBrowser) request(
	method, path string, edit ...func(*http.Request),
) *http.Request {
	r := httptest.NewRequest(method, path, nil)
	for name, value := range b.jar {
		if name != refreshCookie || strings.HasPrefix(path, "/auth/") {
			r.AddCookie(&http.Cookie{Name: name, Value: value})
		}
	}
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for _, e := range edit {
		e(r)
	}
	return r
}

// send sends a request and keeps the answer's cookies.
func (b *deviceBrowser) send(
	method, path string, edit ...func(*http.Request),
) *http.Response {
	b.t.Helper()
	answer := b.s.do(b.request(method, path, edit...))
	b.keep(answer)
	return answer
}

func (b *deviceBrowser) keep(answer *http.Response) {
	for _, c := range answer.Cookies() {
		if c.MaxAge < 0 {
			delete(b.jar, c.Name)
		} else {
			b.jar[c.Name] = c.Value
		}
	}
}

// register sends the browser's key with a proof of the challenge, and reads the instructions.
func (b *deviceBrowser) register(challenge string) {
	b.t.Helper()
	answer := b.send(http.MethodPost, "/auth/device", b.registration(challenge))
	require.Equal(b.t, http.StatusOK, answer.StatusCode, "registering")
	require.Equal(b.t, "no-store", answer.Header.Get("Cache-Control"))
	trigger := cookiesOf(b.t, answer)
	require.Len(b.t, trigger, 1)
	require.Equal(b.t, 60, trigger[triggerCookie].MaxAge)
	b.id = jsonOf(b.t, answer)["session_identifier"].(string)
	b.challenge = ""
}

// registration returns an edit that adds a proof which brings the browser's key.
func (b *deviceBrowser) registration(challenge string) func(*http.Request) {
	return header("Secure-Session-Response", signProof(b.t, b.key,
		`{"alg":"ES256","jwk":`+jwkOf(b.t, &b.key.PublicKey)+`,"typ":"dbsc+jwt"}`,
		`{"jti":"`+challenge+`"}`))
}

// proof returns an edit that makes a request the browser's own refresh. Without a challenge it
// brings no proof.
func (b *deviceBrowser) proof(challenge string) func(*http.Request) {
	return func(r *http.Request) {
		r.Header.Set("Sec-Secure-Session-Id", b.id)
		if challenge != "" {
			r.Header.Set("Secure-Session-Response", signProof(b.t, b.key,
				`{"alg":"ES256","typ":"dbsc+jwt"}`, `{"jti":"`+challenge+`"}`))
		}
	}
}

// refresh refreshes as the browser does by itself: where it is asked for another proof, it makes
// that. It returns the last answer.
func (b *deviceBrowser) refresh() *http.Response {
	b.t.Helper()
	for range 3 {
		answer := b.send(http.MethodPost, "/auth/token", b.proof(b.challenge))
		b.hear(answer)
		if answer.StatusCode != http.StatusForbidden {
			return answer
		}
	}
	b.t.Fatal("the server asks for one proof after another")
	return nil
}

// hear remembers the challenge of an answer.
func (b *deviceBrowser) hear(answer *http.Response) {
	if value := answer.Header.Get("Secure-Session-Challenge"); value != "" {
		challenge, rest, _ := strings.Cut(strings.TrimPrefix(value, `"`), `"`)
		require.Equal(b.t, `;id="`+b.id+`"`, rest)
		b.challenge = challenge
	}
}

// askedFor returns the challenge that a refresh without a proof is answered with.
func (b *deviceBrowser) askedFor() string {
	b.t.Helper()
	answer := b.send(http.MethodPost, "/auth/token", b.proof(""))
	require.Equal(b.t, http.StatusForbidden, answer.StatusCode)
	b.hear(answer)
	return b.challenge
}

// bind registers and refreshes.
func (b *deviceBrowser) bind() {
	b.t.Helper()
	b.register(offeredChallenge(b.t, b.send(http.MethodPost, "/auth/token")))
	require.Equal(b.t, http.StatusOK, b.refresh().StatusCode)
	require.Equal(b.t, thumbprintOf(&b.key.PublicKey), b.stored().KeyThumbprint)
}

// stored returns the browser's session as it is in the store.
func (b *deviceBrowser) stored() tokensession.Session {
	b.t.Helper()
	session, err := b.s.m.Session(ctx, b.session.ID)
	require.NoError(b.t, err)
	return session
}

// forgetTrigger does what the trigger's Max-Age does.
func (b *deviceBrowser) forgetTrigger() { delete(b.jar, triggerCookie) }

// steal returns a browser that has a copy of the cookies, and not the key.
func (b *deviceBrowser) steal() *deviceBrowser {
	thief := *b
	thief.key = newDeviceKey(b.t)
	thief.jar = map[string]string{}
	for name, value := range b.jar {
		thief.jar[name] = value
	}
	return &thief
}

// requireUntouched requires that a request changes nothing and makes no events.
func (b *deviceBrowser) requireUntouched(send func()) {
	b.t.Helper()
	before := b.stored()
	b.s.events.Take()
	send()
	require.Equal(b.t, before, b.stored())
	require.Empty(b.t, b.s.events.Kinds())
}

// signProof signs a JWT by RFC 7518 section 3.4.
func signProof(t testing.TB, key *ecdsa.PrivateKey, header, claims string) string {
	t.Helper()
	signed := base64.RawURLEncoding.EncodeToString([]byte(header)) + "." +
		base64.RawURLEncoding.EncodeToString([]byte(claims))
	hash := sha256.Sum256([]byte(signed))
	r, s, err := ecdsa.Sign(rand.Reader, key, hash[:])
	require.NoError(t, err)
	signature := append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	return signed + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func coordinatesOf(key *ecdsa.PublicKey) (x, y string) {
	point, err := key.Bytes()
	if err != nil {
		panic(err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode(point[1:33]), encode(point[33:])
}

func jwkOf(t testing.TB, key *ecdsa.PublicKey) string {
	t.Helper()
	x, y := coordinatesOf(key)
	return fmt.Sprintf(`{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, x, y)
}

func thumbprintOf(key *ecdsa.PublicKey) string {
	x, y := coordinatesOf(key)
	sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, x, y))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

//go:build browser

package browser

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
)

// The tests named TestChromium show what we rely on in Device Bound Session Credentials, a draft
// that moves. They use nothing of ours. If one fails with a new Chromium, then the browser has
// changed, and what is built on it has to be looked at.

// With these headers a proof comes, and all cookies do.
func TestChromium_sendsProofsAndCookies(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	d := l.newDevice()
	if got := d.fetch("GET", "/thing"); got != "200" {
		t.Fatal(got)
	}
	register, refreshes := l.last("/auth/device"), l.requests("/auth/token")
	if len(refreshes) != 2 {
		t.Fatalf("there were %d refreshes, want one without a proof and one with it", len(refreshes))
	}
	key := checkProof(t, register.header, []string{"alg", "jwk", "typ"}, "c1", nil)
	checkProof(t, refreshes[1].header, []string{"alg", "typ"}, "c2", key)
	if got := l.last("/thing").cookies(); !slices.Contains(got, labCredential) {
		t.Errorf("the request that waited had the cookies %q", got)
	}
	for _, r := range []siteRequest{register, refreshes[0], refreshes[1]} {
		want := map[string]string{
			"Origin": l.url, "Sec-Fetch-Site": "same-origin", "Sec-Fetch-Mode": "no-cors",
			"Sec-Fetch-Dest": "empty", "Content-Length": "0",
		}
		for name, value := range want {
			if got := r.header.Get(name); got != value {
				t.Errorf("%s has %s %q, want %q", r.path, name, got, value)
			}
		}
		if got := r.header["Content-Type"]; got != nil || r.length != 0 {
			t.Errorf("%s has the content type %q, and %d bytes", r.path, got, r.length)
		}
		wantCookies := []string{"__Host-access", "__Secure-refresh"}
		if got := r.cookies(); !slices.Equal(got, wantCookies) {
			t.Errorf("%s has the cookies %q, want %q", r.path, got, wantCookies)
		}
	}
	for _, r := range refreshes {
		if got := r.header["Sec-Secure-Session-Id"]; !slices.Equal(got, []string{"s1"}) {
			t.Errorf("the session's id comes as %q", got)
		}
	}
	if got := register.header["Sec-Secure-Session-Id"]; got != nil {
		t.Errorf("the registration has the session's id %q", got)
	}
}

// checkProof checks a proof by the key, or by the key that it brings, which it returns.
func checkProof(
	t *testing.T, h http.Header, members []string, challenge string, key *ecdsa.PublicKey,
) *ecdsa.PublicKey {
	t.Helper()
	values := h["Secure-Session-Response"]
	if len(values) != 1 {
		t.Fatalf("there are %d proofs", len(values))
	}
	parts := strings.Split(values[0], ".")
	if len(parts) != 3 {
		t.Fatalf("the proof is no JWT: %q", values[0])
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = base64.RawURLEncoding.Strict().DecodeString(part); err != nil {
			t.Fatal(err)
		}
	}
	var header, claims map[string]any
	if err := json.Unmarshal(decoded[0], &header); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(decoded[1], &claims); err != nil {
		t.Fatal(err)
	}
	if got := slices.Sorted(maps.Keys(header)); !slices.Equal(got, members) ||
		header["alg"] != "ES256" || header["typ"] != "dbsc+jwt" {
		t.Errorf("the proof's header is %s", decoded[0])
	}
	if len(claims) != 1 || claims["jti"] != challenge {
		t.Errorf("the proof's claims are %s", decoded[1])
	}
	if key == nil {
		jwk, _ := header["jwk"].(map[string]any)
		if got := slices.Sorted(maps.Keys(jwk)); !slices.Equal(got, []string{"crv", "kty", "x", "y"}) {
			t.Errorf("the key has the members %q", got)
		}
		point := []byte{4}
		for _, name := range []string{"x", "y"} {
			text, _ := jwk[name].(string)
			b, err := base64.RawURLEncoding.Strict().DecodeString(text)
			if err != nil || len(b) != 32 {
				t.Errorf("the key's %s is %q", name, text)
			}
			point = append(point, b...)
		}
		var err error
		if key, err = ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point); err != nil {
			t.Fatal(err)
		}
	}
	hash := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	if len(decoded[2]) != 64 || !ecdsa.Verify(key, hash[:],
		new(big.Int).SetBytes(decoded[2][:32]), new(big.Int).SetBytes(decoded[2][32:])) {
		t.Error("the proof is not of the key")
	}
	return key
}

// What becomes of the browser's session by the answer to its refresh. Kept are the answers that our
// endpoint gives while the login is good. A proxy may not give any of the others.
func TestChromium_keepsOrForgetsByTheAnswer(t *testing.T) {
	t.Parallel()
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	instruct := func(changes ...string) http.HandlerFunc {
		instructions := strings.NewReplacer(changes...).Replace(labInstructions)
		return func(w http.ResponseWriter, r *http.Request) {
			if !labChallenge(w, r, "c2") {
				labInstruct(w, instructions)
			}
		}
	}
	redirect := func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "/page", http.StatusFound)
	}
	const unreachable, broken = "unreachable", "server_error"
	type answer struct {
		answer  http.HandlerFunc
		keeps   bool
		skipped string // what the request that waited says
	}
	answers := map[string]answer{
		"instructions": {instruct(), true, ""},
		"with unknown members, and attributes in another order": {
			instruct(`{"session`, `{"later":[{}],"session`,
				labAttributes, "SameSite=Strict; HttpOnly; Path=/; Secure"), true, "",
		},
		"200 and nothing":      {status(200), true, ""},
		"204":                  {status(204), true, ""},
		"other JSON":           {instruct(labInstructions, `{"subject":"alice"}`), false, ""},
		"another session's":    {instruct(`"s1"`, `"s2"`), false, ""},
		"no more":              {instruct(`{"session`, `{"continue":false,"session`), false, ""},
		"a page":               {instruct(labInstructions, `<!doctype html><p>Back soon`), false, ""},
		"302":                  {redirect, false, ""},
		"403 and no challenge": {status(403), false, ""},
		"407":                  {status(407), true, unreachable},
		"no answer at all":     {labBroken, true, unreachable},
	}
	for _, code := range []int{304, 400, 401, 404, 405, 408, 425, 429} {
		answers[fmt.Sprint(code)] = answer{status(code), false, ""}
	}
	for _, code := range []int{500, 501, 502, 503, 504} {
		answers[fmt.Sprint(code)] = answer{status(code), true, broken}
	}
	for name, c := range answers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := newLab(t)
			d := l.newDevice()
			l.answer(c.answer)
			if got := d.fetch("GET", "/thing"); got != "200" {
				t.Errorf("the request that waited comes to %s", got)
			}
			skipped := l.last("/thing").header.Get("Secure-Session-Skipped")
			want := c.skipped
			if want != "" {
				want += `;session_identifier="s1"`
			}
			if skipped != want {
				t.Errorf("the request that waited says it has skipped %q, want %q", skipped, want)
			}
			l.answer(labGrant)
			before := len(l.requests("/auth/token"))
			d.fetch("GET", "/thing")
			if keeps := len(l.requests("/auth/token")) > before; keeps != c.keeps {
				t.Errorf("after the answer it refreshes: %t, want %t", keeps, c.keeps)
			}
		})
	}
}

// The cookies of an answer that ends the browser's session count: so a refusal can clear ours.
func TestChromium_takesTheCookiesOfARefusal(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	d := l.newDevice()
	l.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Add("Set-Cookie", "__Host-access=; Max-Age=0; "+labAttributes)
		w.WriteHeader(http.StatusBadRequest)
	})
	d.fetch("GET", "/thing")
	if got := l.last("/thing").cookies(); len(got) != 0 {
		t.Errorf("the request that waited has the cookies %q", got)
	}
}

// While the server is down, the browser does not come with each request.
func TestChromium_backsOffFromAServerThatIsDown(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	d := l.newDevice()
	l.answer(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	})
	const requests = 10
	for range requests {
		d.fetch("GET", "/thing")
	}
	n := len(l.requests("/auth/token"))
	skipped := l.last("/thing").header.Get("Secure-Session-Skipped")
	if n < 2 || n > requests/2 || !strings.HasPrefix(skipped, "unreachable;") {
		t.Errorf("it came %d times, and the last request has skipped %q", n, skipped)
	}
}

// Each refusal with a new challenge costs a signature, and the fifth one the session.
func TestChromium_signsNewChallengesFourTimes(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	d := l.newDevice()
	var n atomic.Int64
	l.answer(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Secure-Session-Response")
		labChallenge(w, r, fmt.Sprint("again", n.Add(1)))
	})
	d.fetch("GET", "/thing")
	d.waitFor("end RefreshFatalError", 1)
	if n.Load() != 5 {
		t.Errorf("it came %d times", n.Load())
	}
}

// A challenge that comes with the answer is signed at once the next time.
func TestChromium_signsTheChallengeOfTheLastAnswer(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	d := l.newDevice()
	l.answer(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Secure-Session-Challenge", `"c3";id="s1"`)
		if !labChallenge(w, r, "c2") {
			labInstruct(w, labInstructions)
		}
	})
	d.fetch("GET", "/thing")
	d.fetch("GET", "/thing") // for the credential's cookie has not come
	all := l.requests("/auth/token")
	if len(all) != 3 {
		t.Fatalf("there were %d refreshes, want 3", len(all))
	}
	key := checkProof(t, l.last("/auth/device").header, []string{"alg", "jwk", "typ"}, "c1", nil)
	checkProof(t, all[2].header, []string{"alg", "typ"}, "c3", key)
}

// Without an answer, requests wait for twenty seconds. Then the same proof comes with the same
// cookie.
func TestChromium_givesAnAnswerTwentySeconds(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	d := l.newDevice()
	l.answer(func(w http.ResponseWriter, r *http.Request) {
		if !labChallenge(w, r, "c2") {
			<-r.Context().Done()
		}
	})
	began := time.Now()
	d.fetch("GET", "/thing")
	if waited := time.Since(began); waited < 19*time.Second || waited > 30*time.Second {
		t.Errorf("the request waited for %s", waited)
	}
	skipped := l.last("/thing").header.Get("Secure-Session-Skipped")
	if !strings.HasPrefix(skipped, "unreachable;") {
		t.Errorf("the request says it has skipped %q", skipped)
	}
	before := l.last("/auth/token")
	l.answer(labGrant)
	d.fetch("GET", "/thing")
	after := l.last("/auth/token")
	for _, name := range []string{"Secure-Session-Response", "Cookie"} {
		if got, want := after.header.Get(name), before.header.Get(name); got != want {
			t.Errorf("the next one has another %s", name)
		}
	}
	d.waitFor("refresh Refreshed", 1)
}

// A site has six signatures, registrations among them. Then the browser says so, and keeps what it
// has.
func TestChromium_signsSixTimesForASite(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	d := l.newDevice() // the first
	var n atomic.Int64
	l.answer(func(w http.ResponseWriter, r *http.Request) {
		if labChallenge(w, r, fmt.Sprint("more", n.Add(1))) {
			return
		}
		labInstruct(w, labInstructions)
	})
	skipped := func() string { return l.last("/thing").header.Get("Secure-Session-Skipped") }
	for i := range 5 {
		if d.fetch("GET", "/thing"); skipped() != "" {
			t.Fatalf("refresh %d was skipped: %s", i+1, skipped())
		}
	}
	if d.fetch("GET", "/thing"); skipped() != `quota_exceeded;session_identifier="s1"` {
		t.Errorf("after six signatures, the request has skipped %q", skipped())
	}
	for _, event := range d.happened() {
		if strings.HasPrefix(event, "end") {
			t.Errorf("the session has ended: %s", event)
		}
	}
	// Another host of the site has none left, either.
	d.run(chromedp.Navigate(l.sub("other") + "/page"))
	d.fetch("POST", "/login")
	d.waitFor("creation SigningQuotaExceeded", 1)
}

// A challenge that comes again is not signed again, and costs nothing.
func TestChromium_signsAChallengeOnce(t *testing.T) {
	t.Parallel()
	l := newLab(t)
	d := l.newDevice()
	l.answer(func(w http.ResponseWriter, r *http.Request) {
		if !labChallenge(w, r, "c2") {
			labInstruct(w, labInstructions)
		}
	})
	for i := range 8 {
		d.fetch("GET", "/thing")
		if skipped := l.last("/thing").header.Get("Secure-Session-Skipped"); skipped != "" {
			t.Fatalf("refresh %d was skipped: %s", i+1, skipped)
		}
	}
}

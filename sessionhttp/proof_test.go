package sessionhttp_test

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func TestNewProofs_saysWhatIsWrong(t *testing.T) {
	for message, cfg := range map[string]sessionhttp.ProofConfig{
		"ProofConfig.Keys is empty: nonces need a secret that all instances share": {},
		"ProofConfig.Keys[0] of 3 bytes: cannot be shorter than 32": {
			Keys: [][]byte{[]byte("abc")},
		},
		"ProofConfig.Memory 1023: cannot be less than 1024": {
			Keys: someKeys, Memory: 1023,
		},
		"ProofConfig.Memory -1: cannot be less than 1024": {Keys: someKeys, Memory: -1},
	} {
		_, err := sessionhttp.NewProofs(cfg)
		require.EqualError(t, err, "sessionhttp: "+message)
	}
	p, err := sessionhttp.NewProofs(sessionhttp.ProofConfig{Keys: someKeys})
	require.NoError(t, err, "the clock and the memory have defaults")
	_, err = p.Check(httptest.NewRecorder(), request(http.MethodGet, "/"), someToken)
	require.ErrorIs(t, err, sessionhttp.ErrInvalidProof)

	secret := []byte("a secret of more than 32 bytes, which nobody may see")
	requireUnprinted(t, sessionhttp.ProofConfig{Keys: [][]byte{secret}}, secret)
}

func TestCheck_returnsTheThumbprintOfTheKey(t *testing.T) {
	eachKey(t, func(t *testing.T, key clientKey) {
		b := newProofBench(t, key, sessionhttp.ProofConfig{})
		b.requireGood(b.proof(nil))
		b.requireGood(b.proof(nil), "with a header that was seen before")
		b.requireGood(b.proof(members{"exp": "1", "nbf": `"x"`, "sub": "null"}),
			"other claims are passed over")
		b.requireGood(b.proof(members{"jti": `"\u00e4"`}))
		b.requireGood(b.proof(members{"jti": text(strings.Repeat("j", 2000))}))
	})
}

// The examples of RFC 9449 sections 4.2 and 7.1.
func TestCheck_examplesOfTheRFC(t *testing.T) {
	const (
		front = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMz" +
			"R0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10" +
			"NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19."
		login = front +
			"eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyL" +
			"mV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMU" +
			"vwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
		call = front +
			"eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS" +
			"5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0Ra" +
			"NTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAg" +
			"R6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA"
		token = "Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU"
	)
	b := newProofBench(t, newP256Key(t), sessionhttp.ProofConfig{})
	b.clock.Set(time.Unix(1562262618, 0))
	r := request(http.MethodGet, "https://resource.example.org/protectedresource",
		header("DPoP", call))
	thumbprint, err := b.p.Check(httptest.NewRecorder(), r, token)
	require.NoError(t, err)
	require.Equal(t, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I", thumbprint,
		"as in its section 6.1")

	r = request(http.MethodPost, "https://server.example.com/token", header("DPoP", login))
	_, err = b.p.Check(httptest.NewRecorder(), r, "")
	require.ErrorIs(t, err, sessionhttp.ErrUseNonce, "all is right but that a login needs a nonce")
}

// Whatever is wrong with a login's proof, it is told before a nonce would be.
func TestCheck_loginNeedsANonce(t *testing.T) {
	eachKey(t, func(t *testing.T, key clientKey) {
		b := newProofBench(t, key, sessionhttp.ProofConfig{})
		b.token = ""
		post := func(edits members) (thumbprint, nonce string, err error) {
			claims := members{"htm": `"POST"`, "htu": `"https://api.example/login"`, "ath": ""}
			for name, value := range edits {
				claims[name] = value
			}
			return b.checkRequest(request(http.MethodPost, "https://api.example/login",
				header("DPoP", b.proof(claims))))
		}
		_, nonce, err := post(nil)
		require.ErrorIs(t, err, sessionhttp.ErrUseNonce)
		require.Len(t, nonce, 24)
		thumbprint, again, err := post(members{"nonce": text(nonce)})
		require.NoError(t, err)
		require.Equal(t, key.thumbprint, thumbprint)
		require.Empty(t, again, "a client that has the nonce is not sent it again")

		repeated := members{"nonce": text(nonce), "jti": `"once"`}
		for range 3 {
			_, _, err = post(repeated)
			require.NoError(t, err, "rotation is what protects a refresh from being repeated")
		}
		for name, edits := range map[string]members{
			"another method": {"htm": `"GET"`}, "another URL": {"htu": `"https://api.example/logi"`},
			"no jti": {"jti": ""},
		} {
			_, _, err := post(edits)
			require.ErrorIs(t, err, sessionhttp.ErrInvalidProof, name)
		}
		_, _, err = post(members{"nonce": text(nonce), "ath": `"of some token"`, "iat": "0"})
		require.NoError(t, err, "where there is no token, its hash says nothing")
	})
}

func TestCheck_oneHeader(t *testing.T) {
	b := newProofBench(t, newP256Key(t), sessionhttp.ProofConfig{})
	for name, headers := range map[string][]string{
		"none": nil, "empty": {""}, "two": {b.proof(nil), b.proof(nil)},
		"the same twice": {b.proof(nil), ""},
		"two in one":     {b.proof(nil) + "," + b.proof(nil)},
	} {
		r := request(http.MethodGet, "https://api.example/notes")
		r.Header["Dpop"] = headers
		_, nonce, err := b.checkRequest(r)
		require.ErrorIs(t, err, sessionhttp.ErrInvalidProof, name)
		require.Empty(t, nonce, name)
	}
}

func TestCheck_form(t *testing.T) {
	eachKey(t, func(t *testing.T, key clientKey) {
		b := newProofBench(t, key, sessionhttp.ProofConfig{})
		good := b.proof(nil)
		parts := strings.Split(good, ".")
		for name, proof := range map[string]string{
			"one part":        parts[0],
			"two parts":       parts[0] + "." + parts[1],
			"four parts":      good + "." + parts[2],
			"a dot behind":    good + ".",
			"no header":       "." + parts[1] + "." + parts[2],
			"no claims":       parts[0] + ".." + parts[2],
			"no signature":    parts[0] + "." + parts[1] + ".",
			"nothing":         "..",
			"padding":         parts[0] + "." + parts[1] + "." + parts[2] + "==",
			"standard base64": parts[0] + "." + parts[1] + "." + strings.Repeat("+", len(parts[2])),
			"CR":              parts[0] + "." + parts[1] + "." + parts[2][:8] + "\r" + parts[2][8:],
			"LF":              parts[0] + "." + parts[1][:8] + "\n" + parts[1][8:] + "." + parts[2],
			"LF in front":     "\n" + good,
			"stray bits":      parts[0] + "." + parts[1] + "." + withStrayBits(parts[2]),
			"Bearer":          "Bearer " + good,
			"a space":         good + " ",
			"an access token": someToken,
		} {
			b.requireInvalid(proof, name)
		}
		b.requireGood(good, "nothing of all that was remembered")
	})
}

// withStrayBits returns another text of the same 64 bytes for a decoder that is not strict.
func withStrayBits(s string) string {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
	last := strings.IndexByte(alphabet, s[len(s)-1])
	return s[:len(s)-1] + alphabet[last|1:last|1+1]
}

func TestCheck_size(t *testing.T) {
	b := newProofBench(t, newP256Key(t), sessionhttp.ProofConfig{})
	proofOf := func(size int) string {
		for padding := range 4 { // one text of base64 does not have every length, but two together do
			kid := strings.Repeat("k", padding)
			header := b.key.header(members{"kid": text(kid)})
			claims := b.claims(members{"p": `""`})
			room := size - len(b64([]byte(header))) - 2 - 86
			more := strings.Repeat("p", room*3/4-len(claims))
			claims = strings.Replace(claims, `"p":"`, `"p":"`+more, 1)
			if proof := b.key.seal(header, claims); len(proof) == size {
				return proof
			}
		}
		panic("no such size")
	}
	b.requireGood(proofOf(4096))
	b.requireInvalid(proofOf(4097))
	b.requireInvalid(b.proof(nil) + strings.Repeat("A", 1<<20))
}

func TestCheck_claims(t *testing.T) {
	b := newProofBench(t, newP256Key(t), sessionhttp.ProofConfig{})
	for _, name := range []string{"jti", "htm", "htu", "iat", "ath"} {
		b.requireInvalid(b.proof(members{name: ""}), name+" is missing")
		for _, value := range []string{`null`, `true`, `["x"]`, `{}`, `""`} {
			b.requireInvalid(b.proof(members{name: value}), name+" is "+value)
		}
		b.requireInvalid(b.proof(members{strings.ToUpper(name): `"x"`}), "a name in another case")
	}
	for _, name := range []string{"jti", "htm", "htu", "ath", "nonce"} {
		b.requireInvalid(b.proof(members{name: "1"}), name+" is a number")
	}
	now := b.clock.Now().Unix()
	for _, iat := range []string{text(fmt.Sprint(now)), fmt.Sprintf("%d.0", now),
		fmt.Sprintf("%de0", now),
		"1e400", "-1", "-0", "00", fmt.Sprint(uint64(1) << 63), "253402300800"} {
		b.requireInvalid(b.proof(members{"iat": iat}), "iat is "+iat)
	}
	for _, nonce := range []string{`["` + b.nonce() + `"]`, `{}`, `null`, `1`} {
		b.requireInvalid(b.proof(members{"nonce": nonce}), "nonce is "+nonce)
	}
	good := b.claims(nil)
	for name, claims := range map[string]string{
		"empty": "{}", "an array": "[" + good + "]", "two": good + good, "a space in front": " " + good,
		"cut":         good[:len(good)-1],
		"not UTF-8":   strings.Replace(good, "id", "\xff", 1),
		"half a pair": strings.Replace(good, "id", `\ud800`, 1),
		"jti twice":   strings.Replace(good, "{", `{"jti":"x",`, 1),
		"htm twice":   strings.Replace(good, "{", `{"h\u0074m":"GET",`, 1),
		"deep":        `{"x":` + strings.Repeat("[", 2000),
	} {
		b.requireInvalid(b.key.seal(b.key.header(nil), claims), name)
	}
}

func TestCheck_accessTokenHash(t *testing.T) {
	eachKey(t, func(t *testing.T, key clientKey) {
		b := newProofBench(t, key, sessionhttp.ProofConfig{})
		for name, ath := range map[string]string{
			"missing": "", "of another token": text(hashOf(someToken + "x")), "of none": text(hashOf("")),
			"padded": text(hashOf(someToken) + "="), "cut": text(hashOf(someToken)[:42]),
			"the token":       text(someToken),
			"in another case": text(strings.ToUpper(hashOf(someToken))),
		} {
			b.requireInvalid(b.proof(members{"ath": ath}), name)
		}
		b.requireGood(b.proof(nil))
	})
}

func TestCheck_method(t *testing.T) {
	b := newProofBench(t, newP256Key(t), sessionhttp.ProofConfig{})
	for _, method := range []string{"get", "GET ", "HEAD", "POST", "Get", "GET\x00"} {
		b.requireInvalid(b.proof(members{"htm": text(method)}), method)
	}
	for _, method := range []string{"HEAD", "POST", "get", "PURGE"} {
		r := func(htm string) *http.Request {
			return request(method, "https://api.example/notes",
				header("DPoP", b.proof(members{"htm": text(htm)})))
		}
		_, _, err := b.checkRequest(r("GET"))
		require.ErrorIs(t, err, sessionhttp.ErrInvalidProof, method)
		_, _, err = b.checkRequest(r(method))
		require.NoError(t, err, method)
	}
}

// What is told to a log is enough to see what a proxy did, and nothing secret.
func TestCheck_errorsTellBothURLs(t *testing.T) {
	b := newProofBench(t, newP256Key(t), sessionhttp.ProofConfig{})
	_, _, err := b.check(b.proof(members{"htu": `"https://api.example/internal?token=secret#secret"`}))
	require.ErrorContains(t, err, `"https://api.example/internal"`)
	require.ErrorContains(t, err, `"https://api.example/notes"`)
	require.ErrorContains(t, err, "RequestURL")
	require.NotContains(t, err.Error(), "secret")
	for _, htu := range []string{"https://me:secret@api.example/notes",
		"https://me:se@secret@api.example/notes?x", "https://secret@api.example",
		"https://me:secret@", "me:secret@api.example/notes",
		"//secret@api.example/notes", "https:/secret@api.example", `https:\\me:secret@api.example`} {
		_, _, err := b.check(b.proof(members{"htu": text(htu)}))
		require.ErrorIs(t, err, sessionhttp.ErrInvalidProof)
		require.NotContains(t, err.Error(), "secret", htu)
	}

	for _, proof := range []string{b.proof(members{"ath": `"x"`}), b.proof(members{"jti": "1"}),
		b.proof(nil)[1:]} {
		_, _, err := b.check(proof)
		require.NotContains(t, err.Error(), strings.Split(proof, ".")[1], "no part of the proof")
		require.NotContains(t, err.Error(), someToken)
	}
}

func TestCheck_iatCountsWithoutANonce(t *testing.T) {
	eachKey(t, func(t *testing.T, key clientKey) {
		b := newProofBench(t, key, sessionhttp.ProofConfig{})
		for ago, good := range map[int64]bool{-11: false, -10: true, 0: true, 60: true, 61: false,
			3600: false, -3600: false} {
			iat := fmt.Sprint(b.clock.Now().Unix() - ago)
			thumbprint, nonce, err := b.check(b.proof(members{"iat": iat}))
			require.Len(t, nonce, 24, "a client that had none gets one in any case")
			if good {
				require.NoError(t, err, ago)
				require.Equal(t, key.thumbprint, thumbprint)
				continue
			}
			require.ErrorIs(t, err, sessionhttp.ErrUseNonce, ago)
			require.NotErrorIs(t, err, sessionhttp.ErrInvalidProof, "with a nonce the client can do better")
		}
		nonce := b.nonce()
		for _, iat := range []string{"0", "1", "253402300799"} {
			_, again, err := b.check(b.proof(members{"iat": iat, "nonce": text(nonce)}))
			require.NoError(t, err, "with a nonce, a wrong clock does not matter")
			require.Empty(t, again)
		}
	})
}

func TestCheck_nonces(t *testing.T) {
	eachKey(t, func(t *testing.T, key clientKey) {
		b := newProofBench(t, key, sessionhttp.ProofConfig{})
		b.clock.Set(b.clock.Now().Truncate(halfMinute))
		nonces := map[int]string{} // by epoch; now is 0
		began := b.clock.Now()
		for epoch := -3; epoch <= 3; epoch++ {
			b.clock.Set(began.Add(time.Duration(epoch) * halfMinute))
			nonces[epoch] = b.nonce()
			b.clock.Advance(halfMinute - 1)
			require.Equal(t, nonces[epoch], b.nonce(), "to the end of the half minute")
		}
		for _, moment := range []time.Duration{0, halfMinute - 1} {
			b.clock.Set(began.Add(moment))
			for epoch, nonce := range nonces {
				_, again, err := b.check(b.proof(members{"nonce": text(nonce)}))
				if epoch == 0 {
					require.Empty(t, again)
				} else {
					require.Equal(t, nonces[0], again, "the client is to take the newest")
				}
				if epoch < -1 || epoch > 1 {
					require.ErrorIs(t, err, sessionhttp.ErrUseNonce, epoch)
				} else {
					require.NoError(t, err, epoch)
				}
			}
		}
		current := nonces[0]
		for _, nonce := range []string{"", "x", current[:23], current + "A", strings.ToLower(current),
			" " + current, current + "="} {
			_, again, err := b.check(b.proof(members{"nonce": text(nonce)}))
			require.ErrorIs(t, err, sessionhttp.ErrUseNonce, nonce)
			require.Equal(t, current, again)
		}
	})
}

// Two instances with the same keys accept each other's nonces, also while the keys are changed;
// with other keys they do not.
func TestCheck_noncesOfOtherInstances(t *testing.T) {
	old, next := bytes.Repeat([]byte("o"), 32), bytes.Repeat([]byte("n"), 32)
	key := newP256Key(t)
	instance := func(keys ...[]byte) *proofBench {
		return newProofBench(t, key, sessionhttp.ProofConfig{Keys: keys})
	}
	first, added := instance(old), instance(old, next)
	moved, dropped := instance(next, old), instance(next)
	for name, c := range map[string]struct {
		giver, taker *proofBench
		good         bool
	}{
		"the same keys":       {instance(old), first, true},
		"one was added":       {first, added, true},
		"and the other way":   {added, first, true},
		"it was moved":        {added, moved, true},
		"and the other way 2": {moved, added, true},
		"the old was dropped": {moved, dropped, true},
		"and the other way 3": {dropped, moved, true},
		"two steps at once":   {moved, first, false},
		"other keys":          {dropped, first, false},
	} {
		_, nonce, err := c.taker.check(c.taker.proof(members{"nonce": text(c.giver.nonce())}))
		if c.good {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, sessionhttp.ErrUseNonce, name)
			require.NotEmpty(t, nonce)
		}
	}
}

func TestCheck_signedByAnotherKey(t *testing.T) {
	eachKey(t, func(t *testing.T, key clientKey) {
		b := newProofBench(t, key, sessionhttp.ProofConfig{})
		thief := newEd25519Key(t)
		if key.alg == "ES256" {
			thief = newP256Key(t)
		}
		for range 2 {
			b.requireInvalid(thief.seal(key.header(nil), b.claims(nil)))
			b.requireGood(b.proof(nil), "now the header is known")
		}
		good := b.proof(nil)
		parts := strings.Split(good, ".")
		b.requireInvalid(parts[0] + "." + b64([]byte(b.claims(nil))) + "." + parts[2])
		b.requireInvalid(b64([]byte(key.header(members{"kid": `"x"`}))) + "." + parts[1] + "." + parts[2])
		b.requireGood(good)
	})
}

package sessionhttp

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func deviceKeys(t testing.TB) proofKeys {
	t.Helper()
	keys, err := newProofKeys("keys", [][]byte{bytes.Repeat([]byte{7}, 32)})
	require.NoError(t, err)
	return keys
}

func p256(t testing.TB) *proofKey {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	point, err := private.PublicKey.Bytes()
	require.NoError(t, err)
	key, err := newP256Key(point[1:33], point[33:])
	require.NoError(t, err)
	return key
}

const aSession = "AAECAwQFBgcICQoLDA0ODw"

func TestDeviceID_isReadAsItWasSealed(t *testing.T) {
	macs := deviceKeys(t).macs("ids", deviceMACSize)
	for range 100 { // both halves of the curve
		key := p256(t)
		text, ok := sealDeviceID(macs, aSession, key)
		require.True(t, ok)
		require.Len(t, text, 88)
		id, ok := parseDeviceID(macs, text)
		require.True(t, ok)
		require.True(t, id.sealed)
		require.Equal(t, text, id.text)
		require.Equal(t, aSession, id.session)
		require.Equal(t, key.thumbprint, id.key.thumbprint)
	}
	strayBits := aSession[:len(aSession)-1] + "x"
	for _, session := range []string{"", aSession[1:], aSession + "AA", strayBits, "!"} {
		_, ok := sealDeviceID(macs, session, p256(t))
		require.False(t, ok, session)
	}
}

// Whatever bit is changed, it is no name of a session, or not a sealed one.
func TestDeviceID_withAnyBitFlippedIsNotSealed(t *testing.T) {
	macs := deviceKeys(t).macs("ids", deviceMACSize)
	text, _ := sealDeviceID(macs, aSession, p256(t))
	b, err := base64.RawURLEncoding.DecodeString(text)
	require.NoError(t, err)
	for i := range 8 * len(b) {
		changed := bytes.Clone(b)
		changed[i/8] ^= 1 << (i % 8)
		id, ok := parseDeviceID(macs, base64.RawURLEncoding.EncodeToString(changed))
		require.False(t, ok && id.sealed, "bit %d", i)
		require.False(t, ok && i < 8, "another version, bit %d", i)
	}
	other, ok := parseDeviceID(deviceKeys(t).macs("other ids", deviceMACSize), text)
	require.True(t, ok)
	require.False(t, other.sealed)
}

func TestChallenger_acceptsItsOwnOnly(t *testing.T) {
	now := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	c := challenger{deviceKeys(t).macs("challenges", deviceMACSize), 5 * time.Minute}
	challenge := c.make("alice", now)
	require.Len(t, challenge, 27)
	for _, later := range []time.Duration{-time.Hour, 0, 5 * time.Minute} {
		made, err := c.check(challenge, "alice", now.Add(later))
		require.NoError(t, err, later)
		require.True(t, made.Equal(now))
	}
	late := now.Add(5*time.Minute + time.Second)
	_, err := c.check(challenge, "alice", late)
	require.ErrorIs(t, err, errOldChallenge)
	_, err = c.check(challenge, "bob", now)
	require.ErrorIs(t, err, errForeignChallenge)
	other := challenger{deviceKeys(t).macs("others", deviceMACSize), 5 * time.Minute}
	_, err = other.check(challenge, "alice", now)
	require.ErrorIs(t, err, errForeignChallenge)
	for _, text := range []string{
		"", challenge[1:], challenge + "A", challenge + "=", "\n" + challenge,
	} {
		_, err := c.check(text, "alice", now)
		require.ErrorIs(t, err, errForeignChallenge, text)
	}
	b, err := base64.RawURLEncoding.DecodeString(challenge)
	require.NoError(t, err)
	for i := range 8 * len(b) { // its time cannot be changed either
		changed := bytes.Clone(b)
		changed[i/8] ^= 1 << (i % 8)
		text := base64.RawURLEncoding.EncodeToString(changed)
		_, err := c.check(text, "alice", now)
		require.ErrorIs(t, err, errForeignChallenge, i)
	}
	session, err := c.registrationSession(c.registrationChallenge(aSession, now), now)
	require.NoError(t, err)
	require.Equal(t, aSession, session)
	// A challenge for a session is none for a refresh whose name begins like it.
	_, err = c.registrationSession(aSession+"."+c.make(aSession+"x", now), now)
	require.ErrorIs(t, err, errForeignChallenge)
}

func TestSkippedIDs_readsWhatABrowserSays(t *testing.T) {
	for _, c := range []struct {
		lines []string
		want  []string
	}{
		{nil, nil},
		{[]string{"unreachable"}, nil},
		{[]string{`unreachable;session_identifier="a"`}, []string{"a"}},
		{
			[]string{`unreachable;session_identifier="a", quota_exceeded;session_identifier="b"`},
			[]string{"a", "b"},
		},
		{[]string{`x;session_identifier="a"`, `y;session_identifier="b"`}, []string{"a", "b"}},
		{[]string{`x;session_identifier="a`}, []string{"a"}},
		{[]string{`x;session_identifier=a`}, nil},
	} {
		r := newSkipping(c.lines)
		require.Equal(t, c.want, skippedIDs(r), c.lines)
	}
}

// FuzzDeviceProof requires that what is taken for a proof has the parts that it is said to have,
// and that nothing panics.
func FuzzDeviceProof(f *testing.F) {
	keys := deviceKeys(f)
	macs := keys.macs("ids", deviceMACSize)
	curve := elliptic.P256().Params() // of whose generator nobody knows the logarithm
	key, err := newP256Key(curve.Gx.Bytes(), curve.Gy.Bytes())
	require.NoError(f, err)
	id, _ := sealDeviceID(macs, aSession, key)
	encode := base64.RawURLEncoding.EncodeToString
	for _, header := range []string{
		`{"alg":"ES256","typ":"dbsc+jwt"}`,
		`{"alg":"ES256","jwk":{"crv":"P-256","kty":"EC","x":"` + encode(key.point[1:]) + `","y":"` +
			encode(key.point[1:]) + `"},"typ":"dbsc+jwt"}`,
		`{"alg":"none","typ":"dbsc+jwt","crit":[]}`, `[]`,
	} {
		claims, signature := []byte(`{"jti":"c","aud":"x"}`), make([]byte, 64)
		f.Add(encode([]byte(header))+"."+encode(claims)+"."+encode(signature), id, "c")
	}
	f.Fuzz(func(t *testing.T, proof, name, challenge string) {
		if p, err := parseDeviceProof([]string{proof}); err == nil {
			require.Equal(t, 2, strings.Count(proof, "."))
			require.True(t, strings.HasPrefix(proof, p.signed+"."))
			require.NotEmpty(t, p.challenge)
			require.NotEmpty(t, p.signature)
			require.False(t, p.verifies(key), "it is not signed with this key")
			if p.key != nil {
				require.Len(t, p.key.point, pointSize)
				require.Len(t, p.key.thumbprint, 43)
			}
		}
		if parsed, ok := parseDeviceID(macs, name); ok {
			require.Equal(t, parsed.sealed, name == id)
			again, ok := sealDeviceID(macs, parsed.session, parsed.key)
			require.True(t, ok)
			require.Equal(t, name[:60], again[:60], "there is one way to write it")
		}
		c := challenger{keys.macs("challenges", deviceMACSize), time.Minute}
		_, err := c.check(challenge, "x", time.Unix(1, 0))
		require.Error(t, err)
	})
}

func newSkipping(lines []string) *http.Request {
	return &http.Request{Header: http.Header{deviceSkippedHeader: lines}}
}

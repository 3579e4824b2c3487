package tokensession

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"slices"
	"strings"

	"github.com/seed67bc9b7f/tokensession/internal/peek"
)

// A refresh token is refreshPrefix and 64 characters of base64url: the session's handle, a
// generation and a MAC of both. If the session is bound to a key of the client, the MAC is of the
// key's thumbprint, too. So such a token cannot be taken for a plain one, whatever the store says
// of the session, and a plain one not for a bound one. 48 bytes fill 64 characters exactly, so
// there are no padding and no stray bits: a token is one string only.
const (
	refreshPrefix = "tsr_"
	handleSize    = 16
	macSize       = 24
	refreshSize   = len(refreshPrefix) + (handleSize+8+macSize)*4/3

	refreshLabel = "tokensession refresh v1"
	boundLabel   = "tokensession bound refresh v1"
	deriveLabel  = "tokensession refresh key v1"
)

// A handle is what the holder of a session's refresh tokens knows and the store does not.
type handle [handleSize]byte

type refreshToken struct {
	handle     handle
	generation uint64
	mac        [macSize]byte
}

// parseRefreshToken reads a token's parts. It says nothing about its authenticity.
func parseRefreshToken(s string) (refreshToken, bool) {
	var t refreshToken
	body, ok := strings.CutPrefix(s, refreshPrefix)
	if !ok || len(s) != refreshSize || !isBase64URL(body) {
		return t, false
	}
	var b [handleSize + 8 + macSize]byte
	if n, err := base64.RawURLEncoding.Decode(b[:], []byte(body)); err != nil || n != len(b) {
		return t, false
	}
	copy(t.handle[:], b[:])
	t.generation = binary.BigEndian.Uint64(b[handleSize:])
	copy(t.mac[:], b[handleSize+8:])
	return t, true
}

// RefreshSessionID returns the ID of the session that a refresh token says it is of, without I/O.
// It verifies nothing, because anybody who has had one token of the session can write others. So it
// lets nobody in. It is for code like package sessionhttp, which has to tell which of two refresh
// tokens is of the session at hand, or to log whose refresh failed. Most programs do not need it.
//
// A string that has not the form of a refresh token is an [ErrInvalidToken].
func RefreshSessionID(refreshToken string) (string, error) {
	t, ok := parseRefreshToken(refreshToken)
	if !ok {
		return "", invalid("malformed refresh token")
	}
	return t.handle.sessionID(), nil
}

// madeFor returns the client's key that the token was made for, of those named: "" is a plain
// token. It reports false if the token was made for none of them, with none of the session's keys.
func (t refreshToken) madeFor(keys [][]byte, thumbprints ...string) (thumbprint string, ok bool) {
	for _, key := range keys {
		for i, candidate := range thumbprints {
			if slices.Contains(thumbprints[:i], candidate) {
				continue
			}
			mac := refreshMAC(key, t.handle, t.generation, candidate)
			if hmac.Equal(mac[:], t.mac[:]) {
				thumbprint, ok = candidate, true
			}
		}
	}
	return thumbprint, ok
}

// newRefreshToken makes the token of a generation, for the client's key or for none. The same
// arguments always make the same token.
func newRefreshToken(key []byte, h handle, generation uint64, thumbprint string) string {
	mac := refreshMAC(key, h, generation, thumbprint)
	b := make([]byte, 0, handleSize+8+macSize)
	b = append(binary.BigEndian.AppendUint64(append(b, h[:]...), generation), mac[:]...)
	token := append(make([]byte, 0, refreshSize), refreshPrefix...)
	return string(base64.RawURLEncoding.AppendEncode(token, b))
}

// refreshMAC covers a label, the handle and the generation, and the thumbprint of a bound token.
// The two kinds have labels of their own, so that no text is the text of both.
func refreshMAC(key []byte, h handle, generation uint64, thumbprint string) (mac [macSize]byte) {
	b := make([]byte, 0, 128)
	if thumbprint == "" {
		b = append(b, refreshLabel...)
	} else {
		b = append(b, boundLabel...)
	}
	b = binary.BigEndian.AppendUint64(append(b, h[:]...), generation)
	b = append(b, thumbprint...)
	w := hmac.New(sha256.New, key)
	w.Write(b)
	copy(mac[:], w.Sum(b[:0]))
	return mac
}

// sessionID is the session's public name. Nobody can go back from it to the handle.
func (h handle) sessionID() string { return peek.SessionID(h) }

func newHandle() handle { return handle(randomBytes(handleSize)) }

// randomID returns 128 random bits as 22 characters.
func randomID() string { return encodeID(randomBytes(16)) }

func encodeID(b []byte) string {
	return string(base64.RawURLEncoding.AppendEncode(make([]byte, 0, 22), b))
}

// appendRandomID appends 80 random bits as the 14 last characters of an id.
func appendRandomID(b []byte) []byte {
	var random [10]byte
	_, _ = rand.Read(random[:]) // it never returns an error
	return base64.RawURLEncoding.AppendEncode(b, random[:])
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // it never returns an error
	return b
}

// isBase64URL reports whether s consists of the base64url alphabet. Go's decoder skips CR and LF,
// even when strict.
func isBase64URL(s string) bool {
	for i := range len(s) {
		if !base64URLAlphabet[s[i]] {
			return false
		}
	}
	return true
}

var base64URLAlphabet = func() (table [256]bool) {
	for _, c := range []byte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") {
		table[c] = true
	}
	return table
}()

// deriveKey makes the key of a session's refresh tokens from the host's key and the record. A nil
// host key stands for none.
//
// It covers what no code ever changes of a record: whose session it is, by which issuer, for which
// client and actor, and when it ends at the latest. Somebody who can write to the store and changes
// one of these makes a forgery of every token of the session. Each field has its length before it,
// so that no two records look alike.
func deriveKey(hostKey []byte, rec Record) []byte {
	if hostKey == nil {
		return rec.Key
	}
	b := append(make([]byte, 0, 256), deriveLabel...)
	for _, field := range [...]string{string(rec.Key), rec.Issuer, rec.Subject, rec.ClientID, rec.Actor} {
		b = appendString(b, field)
	}
	end, _ := micros(rec.MaxExpiresAt)
	b = binary.BigEndian.AppendUint64(b, uint64(end))
	w := hmac.New(sha256.New, hostKey)
	w.Write(b)
	return w.Sum(nil)
}

// Package peek reads which session a token names, without verifying the token.
//
// Anybody can write such a token. So what is read here lets nobody in and ends nothing by itself.
// It is for telling tokens apart: which of two cookies belongs to the other one, or whether a token
// that cannot be verified could be one of ours.
package peek

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"strings"
)

const (
	refreshPrefix  = "tsr_"
	handleSize     = 16
	refreshBytes   = handleSize + 8 + 24 // handle, generation, MAC
	sessionIDLabel = "tokensession session id v1"
)

// SessionID returns the public name of a session whose handle this is. Nobody can go back from it
// to the handle.
func SessionID(handle [handleSize]byte) string {
	b := append(make([]byte, 0, 64), sessionIDLabel...)
	sum := sha256.Sum256(append(b, handle[:]...))
	return string(base64.RawURLEncoding.AppendEncode(make([]byte, 0, 22), sum[:16]))
}

// Refresh returns the session and the generation that a refresh token names. A session's handle is
// secret. So a token that names a session was made by somebody who has had one of its tokens.
func Refresh(token string) (sessionID string, generation uint64, ok bool) {
	body, ok := strings.CutPrefix(token, refreshPrefix)
	if !ok || len(body) != base64.RawURLEncoding.EncodedLen(refreshBytes) {
		return "", 0, false
	}
	b, err := base64.RawURLEncoding.DecodeString(body)
	if err != nil || len(b) != refreshBytes {
		return "", 0, false
	}
	return SessionID([handleSize]byte(b)), binary.BigEndian.Uint64(b[handleSize:]), true
}

// A Claims is what an access token says of itself.
type Claims struct {
	SessionID string `json:"sid"`
	Subject   string `json:"sub"`
	Issuer    string `json:"iss"`
}

// Access returns the claims of an access token. It reports false if the token has not the form of
// one, or names no session.
func Access(token string) (Claims, bool) {
	_, rest, _ := strings.Cut(token, ".")
	payload, _, ok := strings.Cut(rest, ".")
	if !ok {
		return Claims{}, false
	}
	text, err := base64.RawURLEncoding.DecodeString(payload)
	if err != nil {
		return Claims{}, false
	}
	var c Claims
	if err := json.Unmarshal(text, &c); err != nil || !isSessionID(c.SessionID) {
		return Claims{}, false
	}
	return c, true
}

// isSessionID reports whether s has the form of a session id.
func isSessionID(s string) bool {
	b, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil && len(b) == 16 && len(s) == 22
}

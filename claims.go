package tokensession

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"unicode/utf8"

	"github.com/seed67bc9b7f/tokensession/internal/strictjson"
)

// reservedClaims are the names that a grant's claims cannot have, in any case. They come from RFC
// 9068 section 2.2, RFC 7519 section 4.1, for act RFC 8693 section 4.1, for cnf RFC 7800 section
// 3.1, and for sid OpenID Connect. The epoch is this package's own.
var reservedClaims = []string{
	"iss", "sub", "aud", "exp", "nbf", "iat", "jti", "client_id", "sid", "auth_time", "amr", "acr",
	"act", "scope", "epoch", "cnf",
}

// standardClaims are the claims that this package gives a meaning.
type standardClaims struct {
	Issuer, Subject   string
	Audience          []string
	Expires, IssuedAt int64
	ID                string
	ClientID          string // not written if empty
	Session           string
	AuthTime          int64
	AuthMethods       []string // not written if empty, as the following
	AuthContext       string
	Actor             string
	Scope             string
	Epoch             uint64
	Confirmation      string // the thumbprint of a key: cnf.jkt
}

// marshal returns the claims as a JSON object, with the claims of the grant behind them. It uses
// the memory of b. What it returns is what this package's own verification accepts: a claim of the
// grant that this refuses, such as half of a surrogate pair, is an error now and not at the first
// request.
func (c standardClaims) marshal(b []byte, extra map[string]any) ([]byte, error) {
	b = c.append(b[:0])
	if len(extra) == 0 {
		return b, nil
	}
	for name := range extra {
		switch {
		case slices.Contains(reservedClaims, strictjson.FoldName(name)):
			return nil, fmt.Errorf("claim %q: the name is reserved", name)
		case !utf8.ValidString(name):
			return nil, fmt.Errorf("claim %q: the name is not valid UTF-8", name)
		}
	}
	more, err := json.Marshal(extra)
	if err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	b = append(append(b[:len(b)-1], ','), more[1:]...)
	if _, err := strictjson.ParseObject(b, reservedClaims...); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	return b, nil
}

func (c standardClaims) append(b []byte) []byte {
	b = appendQuoted(append(b, `{"iss":`...), c.Issuer)
	b = appendQuoted(append(b, `,"sub":`...), c.Subject)
	b = appendAudience(append(b, `,"aud":`...), c.Audience)
	b = strconv.AppendInt(append(b, `,"exp":`...), c.Expires, 10)
	b = strconv.AppendInt(append(b, `,"iat":`...), c.IssuedAt, 10)
	b = appendQuoted(append(b, `,"jti":`...), c.ID)
	if c.ClientID != "" {
		b = appendQuoted(append(b, `,"client_id":`...), c.ClientID)
	}
	b = appendQuoted(append(b, `,"sid":`...), c.Session)
	b = strconv.AppendInt(append(b, `,"auth_time":`...), c.AuthTime, 10)
	if len(c.AuthMethods) > 0 {
		b = appendStrings(append(b, `,"amr":`...), c.AuthMethods)
	}
	if c.AuthContext != "" {
		b = appendQuoted(append(b, `,"acr":`...), c.AuthContext)
	}
	if c.Actor != "" {
		b = append(appendQuoted(append(b, `,"act":{"sub":`...), c.Actor), '}')
	}
	if c.Scope != "" {
		b = appendQuoted(append(b, `,"scope":`...), c.Scope)
	}
	if c.Epoch != 0 {
		b = strconv.AppendUint(append(b, `,"epoch":`...), c.Epoch, 10)
	}
	if c.Confirmation != "" {
		b = append(appendQuoted(append(b, `,"cnf":{"jkt":`...), c.Confirmation), '}')
	}
	return append(b, '}')
}

// appendAudience writes an audience with one member as a string (RFC 7519 section 4.1.3).
func appendAudience(b []byte, audience []string) []byte {
	if len(audience) == 1 {
		return appendQuoted(b, audience[0])
	}
	return appendStrings(b, audience)
}

// appendStrings writes an array of at least one string.
func appendStrings(b []byte, list []string) []byte {
	for i, s := range list {
		b = appendQuoted(append(b, "[,"[min(i, 1)]), s)
	}
	return append(b, ']')
}

// appendQuoted writes a JSON string. Most are plain ASCII with nothing to escape. These are copied,
// because that is faster than encoding/json.
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string has no error
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

package tokensession

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxNumericDate is the last second of the year 9999. Later dates do not fit what stores and clocks can hold.
const maxNumericDate = 253402300799

// reservedClaims are the names that a grant's claims cannot have, in any case: RFC 9068 section 2.2, RFC 7519 section
// 4.1 and sid of OpenID Connect.
var reservedClaims = map[string]bool{
	"iss": true, "sub": true, "aud": true, "exp": true, "nbf": true, "iat": true, "jti": true,
	"client_id": true, "sid": true, "auth_time": true, "scope": true,
}

// standardClaims are the claims with a meaning of ours.
type standardClaims struct {
	Issuer, Subject   string
	Audience          []string
	Expires, IssuedAt int64
	ID                string
	ClientID          string // not written if empty
	Session           string
	AuthTime          int64
	Scope             string // not written if empty
}

// marshal returns the claims as an object in the memory of b, with the grant's behind them. parseObject accepts it.
func (c standardClaims) marshal(b []byte, extra map[string]any) ([]byte, error) {
	b = c.append(b[:0])
	if len(extra) == 0 {
		return b, nil
	}
	for name := range extra {
		switch {
		case reservedClaims[foldName(name)]:
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
	if _, err := parseObject(b); err != nil {
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
	if c.Scope != "" {
		b = appendQuoted(append(b, `,"scope":`...), c.Scope)
	}
	return append(b, '}')
}

// appendAudience writes an audience of one as a string (RFC 7519 section 4.1.3).
func appendAudience(b []byte, audience []string) []byte {
	if len(audience) == 1 {
		return appendQuoted(b, audience[0])
	}
	for i, a := range audience {
		b = appendQuoted(append(b, "[,"[min(i, 1)]), a)
	}
	return append(b, ']')
}

// appendQuoted writes a JSON string: as it is, if it is ASCII with nothing to escape.
func appendQuoted(b []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // a string has no error
			return append(b, quoted...)
		}
	}
	return append(append(append(b, '"'), s...), '"')
}

// claims are the members of a token's payload, whose values are valid JSON. They share its memory.
type claims []member

// text returns the string member of that name, or "" if there is none.
func (c claims) text(name string) (string, error) {
	raw, ok := c.find(name)
	if !ok {
		return "", nil
	}
	s, ok := unquote(raw)
	if !ok {
		return "", fmt.Errorf("%s is not a string", name)
	}
	return s, nil
}

type member struct{ name, value string }

func (c claims) find(name string) (string, bool) {
	for _, m := range c {
		if m.name == name {
			return m.value, true
		}
	}
	return "", false
}

func (c claims) names() []string {
	var list []string
	for _, m := range c {
		list = append(list, m.name)
	}
	return list
}

// A claimReader takes claims by name and type. It keeps the first error, and goes on with zero values.
type claimReader struct {
	claims claims
	err    error
}

func (r *claimReader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

// text returns the string claim of that name. A required one cannot be empty.
func (r *claimReader) text(name string, required bool) string {
	s, err := r.claims.text(name)
	if required && s == "" && err == nil {
		err = fmt.Errorf("%s is missing or empty", name)
	}
	if err != nil {
		r.fail(err)
	}
	return s
}

// date returns the NumericDate of that name, which must be a whole number of seconds, or -1 if there is none.
func (r *claimReader) date(name string, required bool) int64 {
	raw, ok := r.claims.find(name)
	if !ok && !required {
		return -1
	}
	n, err := strconv.ParseUint(raw, 10, 63)
	if err != nil || n > maxNumericDate {
		r.fail(fmt.Errorf("%s is missing, not a whole number or out of range", name))
	}
	return int64(n)
}

// audience returns the aud claim: a string, or an array with at least one.
func (r *claimReader) audience() []string {
	raw, _ := r.claims.find("aud")
	if s, ok := unquote(raw); ok {
		return []string{s}
	}
	elements, ok := splitArray(raw)
	if !ok {
		r.fail(errors.New("aud is neither a string nor an array"))
	}
	if ok && len(elements) == 0 {
		r.fail(errors.New("aud is empty"))
	}
	var list []string
	for _, element := range elements {
		s, ok := unquote(element)
		if !ok {
			r.fail(errors.New("aud has an element that is no string"))
		}
		list = append(list, s)
	}
	return list
}

// parseObject splits a JSON object into its members. It is stricter than encoding/json where that guesses: nothing
// before or behind the object, valid UTF-8 and no lone surrogates, which would become U+FFFD, no name twice, neither
// here nor in a nested object, no two names here that differ only in case, and no name that is a reserved claim's
// but for its case.
func parseObject(data []byte) (claims, error) {
	members, err := splitObject(string(data))
	if err != nil {
		return nil, err
	}
	folded := make([]string, 0, 16)
	for _, m := range members {
		name := foldName(m.name)
		if m.name != name && reservedClaims[name] {
			return nil, errors.New("a reserved name in another case")
		}
		folded = append(folded, name)
	}
	if hasDuplicate(folded) {
		return nil, errors.New("two names that differ in case only, if at all")
	}
	return members, nil
}

// unquote decodes a JSON string that is known to be valid. It reports false for any other value.
func unquote(raw string) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if strings.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1], true
	}
	var s string
	err := json.Unmarshal([]byte(raw), &s)
	return s, err == nil
}

// hasDuplicate compares pairwise while that is cheaper than a map.
func hasDuplicate(names []string) bool {
	if len(names) > 32 {
		seen := make(map[string]bool, len(names))
		for _, name := range names {
			if seen[name] {
				return true
			}
			seen[name] = true
		}
		return false
	}
	for i, name := range names {
		for _, other := range names[:i] {
			if name == other {
				return true
			}
		}
	}
	return false
}

// foldName maps names that encoding/json would take for the same one to the same string, which is in lower case where
// the name is ASCII: U+017F becomes s and the Kelvin sign k.
func foldName(name string) string {
	plain := true
	for i := range len(name) {
		if c := name[i]; c >= utf8.RuneSelf || 'A' <= c && c <= 'Z' {
			plain = false
			break
		}
	}
	if plain {
		return name
	}
	folded := make([]rune, 0, len(name))
	for _, r := range name {
		least := r
		for f := unicode.SimpleFold(r); f != r; f = unicode.SimpleFold(f) {
			least = min(least, f)
		}
		if 'A' <= least && least <= 'Z' {
			least += 'a' - 'A'
		}
		folded = append(folded, least)
	}
	return string(folded)
}

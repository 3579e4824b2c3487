package tokensession

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
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

// standardClaims are the claims with a meaning of ours, in the order in which they are written.
type standardClaims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Expires  int64    `json:"exp"`
	IssuedAt int64    `json:"iat"`
	ID       string   `json:"jti"`
	ClientID string   `json:"client_id,omitempty"`
	Session  string   `json:"sid"`
	AuthTime int64    `json:"auth_time"`
	Scope    string   `json:"scope,omitempty"`
}

// An audience of one is written as a string (RFC 7519 section 4.1.3).
type audience []string

func (a audience) MarshalJSON() ([]byte, error) {
	if len(a) == 1 {
		return json.Marshal(a[0])
	}
	return json.Marshal([]string(a))
}

// marshal returns the claims as an object, with the grant's behind them. What it returns, parseClaims accepts.
func (c standardClaims) marshal(extra map[string]any) ([]byte, error) {
	b, err := json.Marshal(c)
	if err != nil || len(extra) == 0 {
		return b, err
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

// claims are the members of a token's payload, whose values are valid JSON.
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

type member struct {
	name  string
	value []byte
}

func (c claims) find(name string) ([]byte, bool) {
	for _, m := range c {
		if m.name == name {
			return m.value, true
		}
	}
	return nil, false
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
	n, err := strconv.ParseUint(string(raw), 10, 63)
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
	var elements []json.RawMessage
	if err := json.Unmarshal(raw, &elements); err != nil || len(elements) == 0 {
		r.fail(errors.New("aud is neither a string nor an array with one"))
	}
	list := make([]string, len(elements))
	for i, e := range elements {
		s, ok := unquote(e)
		if !ok {
			r.fail(errors.New("aud has an element that is no string"))
		}
		list[i] = s
	}
	return list
}

// parseObject splits a JSON object into its members. It is stricter than encoding/json where that guesses: nothing
// before or behind the object, valid UTF-8 and no lone surrogates, which would become U+FFFD, no name twice, neither
// here nor in a nested object, no two names here that differ only in case, and no name that is a reserved claim's
// but for its case.
func parseObject(data []byte) (claims, error) {
	if len(data) == 0 || data[0] != '{' || data[len(data)-1] != '}' || !utf8.Valid(data) || !json.Valid(data) {
		return nil, errors.New("not exactly one JSON object in UTF-8")
	}
	if hasLoneSurrogate(data) {
		return nil, errors.New("a string with half a surrogate pair")
	}
	members, err := splitObject(data)
	if err != nil {
		return nil, err
	}
	folded := make([]string, len(members))
	for i, m := range members {
		folded[i] = foldName(m.name)
		if reservedClaims[folded[i]] && m.name != folded[i] {
			return nil, errors.New("a reserved name in another case")
		}
	}
	if hasDuplicate(folded) {
		return nil, errors.New("two names that differ in case only")
	}
	return members, nil
}

// splitObject returns the members of the object that data begins with. Its names, and those of objects inside it,
// must be unique. The data must be valid JSON.
func splitObject(data []byte) (claims, error) {
	members := make(claims, 0, 12)
	err := eachElement(data, func(element []byte) error {
		end := stringEnd(element)
		name, _ := unquote(element[:end])
		value := bytes.TrimLeft(bytes.TrimLeft(element[end:], " \t\r\n")[1:], " \t\r\n")
		members = append(members, member{name, value})
		return checkNested(value)
	})
	if err != nil {
		return nil, err
	}
	names := make([]string, len(members))
	for i, m := range members {
		names[i] = m.name
	}
	if hasDuplicate(names) {
		return nil, errors.New("a name twice in one object")
	}
	return members, nil
}

// checkNested looks for a name that stands twice in an object inside value.
func checkNested(value []byte) error {
	switch value[0] {
	case '{':
		_, err := splitObject(value)
		return err
	case '[':
		return eachElement(value, checkNested)
	}
	return nil
}

// eachElement calls f with each member of the object, or element of the array, that data is, without the white space
// around it. The data must be valid JSON.
func eachElement(data []byte, f func([]byte) error) error {
	depth, start := 0, 1
	for i := 0; i < len(data); i++ {
		switch data[i] {
		case '"':
			i += stringEnd(data[i:]) - 1
		case '{', '[':
			depth++
		case '}', ']':
			depth--
		}
		if depth == 0 || depth == 1 && data[i] == ',' {
			if element := bytes.Trim(data[start:i], " \t\r\n"); len(element) > 0 {
				if err := f(element); err != nil {
					return err
				}
			}
			start = i + 1
		}
	}
	return nil
}

// stringEnd returns the length of the JSON string that data begins with.
func stringEnd(data []byte) int {
	for i := 1; i < len(data); i++ {
		switch data[i] {
		case '\\':
			i++
		case '"':
			return i + 1
		}
	}
	return len(data)
}

// unquote decodes a JSON string that is known to be valid. It reports false for any other value.
func unquote(raw []byte) (string, bool) {
	if len(raw) < 2 || raw[0] != '"' {
		return "", false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), true
	}
	var s string
	err := json.Unmarshal(raw, &s)
	return s, err == nil
}

// hasLoneSurrogate reports whether a \u escape of valid JSON names half a surrogate pair.
func hasLoneSurrogate(data []byte) bool {
	for i := bytes.IndexByte(data, '\\'); i >= 0 && i < len(data); i++ {
		if data[i] != '\\' {
			continue
		}
		i++
		if data[i] != 'u' {
			continue
		}
		switch half := escapedUnit(data[i+1:]); {
		case half >= 0xDC00 && half <= 0xDFFF:
			return true
		case half >= 0xD800 && half <= 0xDBFF:
			rest := data[i+5:]
			if len(rest) < 6 || rest[0] != '\\' || rest[1] != 'u' {
				return true
			}
			if low := escapedUnit(rest[2:]); low < 0xDC00 || low > 0xDFFF {
				return true
			}
			i += 6
		}
		i += 4
	}
	return false
}

func escapedUnit(hex []byte) uint64 {
	n, _ := strconv.ParseUint(string(hex[:4]), 16, 16)
	return n
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
		folded = append(folded, unicode.ToLower(least))
	}
	return string(folded)
}

// Package strictjson reads the JSON objects that security depends on: the claims of tokens, and
// keys.
//
// Two programs that read the same bytes must read the same thing. [encoding/json] does not promise
// that: of a name that stands twice it takes the last value, it takes "ISS" for "iss", and it
// replaces what is not Unicode by U+FFFD, so that two different subjects can become one. A token
// that is read in one way here, and in another way by the next service, is a way around a check.
// [ParseObject] therefore refuses all of these instead of choosing. Members are taken out of the
// object by their exact name, and a [Reader] does that with a check of their type.
//
// The package knows the form of JSON and of JWT's data types. It does not know which claims a token
// has.
package strictjson

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// An Object holds the members of a JSON object in the order of the text. No two of them have the
// same name.
type Object []Member

// A Member has its name decoded and its value as the JSON text that stands in the object. The text
// is valid JSON.
type Member struct{ Name, Value string }

// ParseObject splits the text of one JSON object into its members. The text must begin with the
// object's brace and end with it. ParseObject is stricter than encoding/json where that guesses. It
// refuses
//   - invalid UTF-8 and half of a surrogate pair, which would become U+FFFD,
//   - a name that stands twice in one object, here or in an object inside,
//   - two names of the outermost object that differ in case only, and
//   - a name of the outermost object that is one of known but for its case.
//
// The last two are refused because encoding/json does not tell such names apart. The names in known
// are those with a meaning for the caller, in lower case. Errors quote nothing of the text.
func ParseObject(text []byte, known ...string) (Object, error) {
	members, err := splitObject(string(text))
	if err != nil {
		return nil, err
	}
	folded := make([]string, 0, 16)
	for _, m := range members {
		name := FoldName(m.Name)
		if m.Name != name && slices.Contains(known, name) {
			return nil, errors.New("a reserved name in another case")
		}
		folded = append(folded, name)
	}
	if hasDuplicate(folded) {
		return nil, errors.New("two names that differ in case only, if at all")
	}
	return members, nil
}

// Find returns the JSON text of the member of that name.
func (o Object) Find(name string) (value string, ok bool) {
	for _, m := range o {
		if m.Name == name {
			return m.Value, true
		}
	}
	return "", false
}

// Text returns the string that is the member of that name, or "" if there is no such member. A
// member of any other type is an error.
func (o Object) Text(name string) (string, error) {
	raw, ok := o.Find(name)
	if !ok {
		return "", nil
	}
	s, ok := unquote(raw)
	if !ok {
		return "", fmt.Errorf("%s is not a string", name)
	}
	return s, nil
}

func (o Object) names() []string {
	var list []string
	for _, m := range o {
		list = append(list, m.Name)
	}
	return list
}

// FoldName maps all the names that encoding/json takes for the same one to the same string. That is
// in lower case where the name is ASCII: U+017F becomes s, and the Kelvin sign becomes k.
func FoldName(name string) string {
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
		// SimpleFold walks in a circle through the characters that are equal but for their case.
		// The least of them stands for all.
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

// hasDuplicate compares each name with each other while that is cheaper than a map.
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

// unquote decodes a JSON string. The raw text must be valid JSON. For a value of any other type
// unquote reports false.
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

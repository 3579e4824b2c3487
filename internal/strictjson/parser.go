package strictjson

import (
	"errors"
	"strconv"
	"unicode/utf8"
)

// maxJSONDepth is encoding/json's limit.
const maxJSONDepth = 10000

var errNotJSON = errors.New("not exactly one JSON object in UTF-8")

// splitObject returns the members of a JSON object (RFC 8259) that begins and ends where s does. It
// refuses invalid UTF-8, half a surrogate pair, and a name that stands twice in an object inside.
// It does not compare the names of the outermost object: the caller does, and more strictly.
func splitObject(s string) (Object, error) {
	p := jsonParser{s: s}
	if p.at(0) != '{' {
		return nil, errNotJSON
	}
	members, end := p.object(0, make(Object, 0, 12))
	if end != len(s) {
		p.fail(errNotJSON)
	}
	return members, p.err
}

// splitArray returns the elements of an array as JSON text. The text s must be valid JSON. For a
// value of any other type splitArray reports false.
func splitArray(s string) (elements []string, ok bool) {
	p := jsonParser{s: s}
	if p.at(0) != '[' {
		return nil, false
	}
	for i := p.space(1); p.at(i) != ']'; {
		end := p.value(i)
		elements = append(elements, s[i:end])
		if i = p.space(end); p.at(i) == ',' {
			i = p.space(i + 1)
		}
	}
	return elements, true
}

// A jsonParser checks the text of JSON in one pass. Its methods take the index at which a value, or
// a part of one, has to begin, and return the index behind it. The first error is kept in err.
// After an error the text is empty, so that every method ends at once and no loop goes on.
type jsonParser struct {
	s     string
	depth int
	err   error
}

func (p *jsonParser) fail(err error) int {
	if p.err == nil {
		p.err = err
	}
	p.s = ""
	return 0
}

// at returns the byte at i, or 0 behind the end. A 0 is not allowed anywhere in JSON, so that no
// method needs another check for the end.
func (p *jsonParser) at(i int) byte {
	if i < len(p.s) {
		return p.s[i]
	}
	return 0
}

func (p *jsonParser) space(i int) int {
	for {
		switch p.at(i) {
		case ' ', '\t', '\r', '\n':
			i++
		default:
			return i
		}
	}
}

func (p *jsonParser) value(i int) int {
	switch p.at(i) {
	case '"':
		return p.text(i)
	case '{':
		members, end := p.object(i, nil)
		if hasDuplicate(members.names()) {
			return p.fail(errors.New("a name twice in one object"))
		}
		return end
	case '[':
		return p.array(i)
	case 't':
		return p.literal(i, "true")
	case 'f':
		return p.literal(i, "false")
	case 'n':
		return p.literal(i, "null")
	default:
		return p.number(i)
	}
}

func (p *jsonParser) object(i int, members Object) (Object, int) {
	if p.depth++; p.depth > maxJSONDepth {
		return nil, p.fail(errNotJSON)
	}
	i = p.space(i + 1)
	for more := p.at(i) != '}'; more; {
		behindName := p.text(i)
		colon := p.space(behindName)
		if p.at(colon) != ':' {
			return nil, p.fail(errNotJSON)
		}
		name, _ := unquote(p.s[i:behindName])
		begin := p.space(colon + 1)
		end := p.value(begin)
		if p.err != nil {
			return nil, 0
		}
		members = append(members, Member{name, p.s[begin:end]})
		i, more = p.next(end, '}')
	}
	p.depth--
	return members, i + 1
}

func (p *jsonParser) array(i int) int {
	if p.depth++; p.depth > maxJSONDepth {
		return p.fail(errNotJSON)
	}
	i = p.space(i + 1)
	for more := p.at(i) != ']'; more; {
		i, more = p.next(p.value(i), ']')
	}
	p.depth--
	return i + 1
}

// next returns the index at which the next member or element begins. If there is none, it returns
// the index of the closing bracket.
func (p *jsonParser) next(i int, closing byte) (_ int, more bool) {
	i = p.space(i)
	switch p.at(i) {
	case ',':
		return p.space(i + 1), true
	case closing:
		return i, false
	default:
		return p.fail(errNotJSON), false
	}
}

func (p *jsonParser) literal(i int, word string) int {
	if end := i + len(word); end <= len(p.s) && p.s[i:end] == word {
		return end
	}
	return p.fail(errNotJSON)
}

func (p *jsonParser) number(i int) int {
	if p.at(i) == '-' {
		i++
	}
	if p.at(i) == '0' {
		i++
	} else {
		i = p.digits(i)
	}
	if p.at(i) == '.' {
		i = p.digits(i + 1)
	}
	if c := p.at(i); c == 'e' || c == 'E' {
		i++
		if c := p.at(i); c == '+' || c == '-' {
			i++
		}
		i = p.digits(i)
	}
	return i
}

// digits reads one digit or more.
func (p *jsonParser) digits(i int) int {
	begin := i
	for c := p.at(i); '0' <= c && c <= '9'; c = p.at(i) {
		i++
	}
	if i == begin {
		return p.fail(errNotJSON)
	}
	return i
}

func (p *jsonParser) text(i int) int {
	if p.at(i) != '"' {
		return p.fail(errNotJSON)
	}
	for i++; ; {
		switch c := p.at(i); {
		case c == '"':
			return i + 1
		case c == '\\':
			i = p.escape(i + 1)
		case c < ' ':
			return p.fail(errNotJSON)
		case c < utf8.RuneSelf:
			i++
		default:
			r, size := utf8.DecodeRuneInString(p.s[i:])
			if r == utf8.RuneError && size == 1 {
				return p.fail(errNotJSON)
			}
			i += size
		}
	}
}

// escape reads the rest of an escape sequence, behind its backslash. An escaped character beyond
// U+FFFF is a surrogate pair: two sequences, the high half first. Half a pair is no character.
func (p *jsonParser) escape(i int) int {
	switch p.at(i) {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
	default:
		return p.fail(errNotJSON)
	}
	unit, i := p.hex4(i + 1)
	if unit < 0xD800 || unit > 0xDFFF {
		return i
	}
	if unit < 0xDC00 && p.at(i) == '\\' && p.at(i+1) == 'u' {
		low, end := p.hex4(i + 2)
		if low >= 0xDC00 && low <= 0xDFFF {
			return end
		}
	}
	return p.fail(errors.New("a string with half a surrogate pair"))
}

func (p *jsonParser) hex4(i int) (unit uint64, end int) {
	if end = i + 4; end > len(p.s) {
		return 0, p.fail(errNotJSON)
	}
	for _, c := range []byte(p.s[i:end]) {
		if !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F') {
			return 0, p.fail(errNotJSON)
		}
	}
	unit, _ = strconv.ParseUint(p.s[i:end], 16, 16)
	return unit, end
}

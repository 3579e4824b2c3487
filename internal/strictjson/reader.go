package strictjson

import (
	"fmt"
	"strconv"
)

// maxNumericDate is the last second of the year 9999. Later dates do not fit into what databases
// and clocks can hold.
const maxNumericDate = 253402300799

// A Reader takes members out of an object by name and type. After an error its methods go on, with
// zero values, and [Reader.Err] returns the first error: so a caller reads all members first and
// checks once.
type Reader struct {
	object Object
	err    error
}

// NewReader returns a Reader of the object's members.
func NewReader(o Object) *Reader { return &Reader{object: o} }

// Err returns the first error of the methods called so far. It names the member and quotes nothing
// of its value.
func (r *Reader) Err() error { return r.err }

func (r *Reader) fail(format string, name string) {
	if r.err == nil {
		r.err = fmt.Errorf(format, name)
	}
}

// Text returns the string of that name, or "" if there is none. A required one must be there and
// cannot be empty.
func (r *Reader) Text(name string, required bool) string {
	s, err := r.object.Text(name)
	if err != nil {
		r.fail("%s is not a string", name)
	} else if required && s == "" {
		r.fail("%s is missing or empty", name)
	}
	return s
}

// Date returns the NumericDate (RFC 7519 section 2) of that name, in seconds since 1970, or -1 if
// there is none. It must be a whole number of at least 0, without a fraction or an exponent, and
// not later than the year 9999.
func (r *Reader) Date(name string, required bool) int64 {
	raw, ok := r.object.Find(name)
	if !ok && !required {
		return -1
	}
	n, err := strconv.ParseUint(raw, 10, 63)
	if err != nil || n > maxNumericDate {
		r.fail("%s is missing, not a whole number or out of range", name)
	}
	return int64(n)
}

// Texts returns the strings of that name: one string, or an array of at least one, as RFC 7519
// section 4.1.3 has it for an audience. It must be there.
func (r *Reader) Texts(name string) []string {
	raw, _ := r.object.Find(name)
	if s, ok := unquote(raw); ok {
		return []string{s}
	}
	elements, ok := splitArray(raw)
	if !ok {
		r.fail("%s is neither a string nor an array", name)
	}
	if ok && len(elements) == 0 {
		r.fail("%s is empty", name)
	}
	var list []string
	for _, element := range elements {
		s, ok := unquote(element)
		if !ok {
			r.fail("%s has an element that is no string", name)
		}
		list = append(list, s)
	}
	return list
}

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

// maxNumber is the greatest whole number that every program reads as it is: JavaScript has no
// others than float64.
const maxNumber = 1<<53 - 1

// Number returns the whole number of that name, or 0 if there is none. It must be from 1 to
// 2^53 - 1, without a fraction or an exponent.
func (r *Reader) Number(name string) uint64 {
	raw, ok := r.object.Find(name)
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(raw, 10, 64)
	if err != nil || n == 0 || n > maxNumber {
		r.fail("%s is not a whole number or out of range", name)
	}
	return n
}

// TextIn returns the string of that member of the object of that name, or "" if there is no such
// object. If there is one, the string must be in it and cannot be empty.
func (r *Reader) TextIn(name, member string) string {
	raw, ok := r.object.Find(name)
	if !ok {
		return ""
	}
	inner, err := splitObject(raw)
	if err != nil {
		r.fail("%s is not an object", name)
		return ""
	}
	s, err := inner.Text(member)
	if err != nil || s == "" {
		r.fail("%s lacks a text that it must have", name)
	}
	return s
}

// Texts returns the strings of that name: one string, or an array of at least one, as RFC 7519
// section 4.1.3 has it for an audience. It must be there.
func (r *Reader) Texts(name string) []string {
	raw, _ := r.object.Find(name)
	if s, ok := unquote(raw); ok {
		return []string{s}
	}
	return r.list(name, raw, "%s is neither a string nor an array")
}

// List returns the strings of the array of that name, or nil if there is none. The array must have
// at least one.
func (r *Reader) List(name string) []string {
	raw, ok := r.object.Find(name)
	if !ok {
		return nil
	}
	return r.list(name, raw, "%s is not an array")
}

func (r *Reader) list(name, raw, otherwise string) []string {
	elements, ok := splitArray(raw)
	if !ok {
		r.fail(otherwise, name)
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

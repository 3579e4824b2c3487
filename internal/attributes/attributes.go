// Package attributes says which attributes of a session are taken. It is one place for the package
// that refuses others, and for the one that cuts what a request brings so that it fits.
package attributes

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxCount = 32
	maxSize  = 4096 // bytes of names and values together
)

// Check says what no store could keep as it is.
func Check(attributes map[string]string) error {
	if len(attributes) > maxCount {
		return fmt.Errorf("%d attributes: cannot be more than %d", len(attributes), maxCount)
	}
	size := 0
	for name, value := range attributes {
		switch {
		case name == "":
			return fmt.Errorf("a name is empty")
		case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
			return fmt.Errorf("the name %q: not valid UTF-8, or has a control character", name)
		case !utf8.ValidString(value) || strings.ContainsRune(value, 0):
			return fmt.Errorf("the value of %q: not valid UTF-8, or has a NUL", name)
		}
		size += len(name) + len(value)
	}
	if size > maxSize {
		return fmt.Errorf("%d bytes of names and values: cannot be more than %d", size, maxSize)
	}
	return nil
}

// Fit returns attributes that Check takes if their names are such: the first ones by name, and
// values cut to a number of bytes, or to fewer if together they are too long.
func Fit(given map[string]string, longest int) map[string]string {
	names := slices.Sorted(maps.Keys(given))
	names = names[:min(len(names), maxCount)]
	room := maxSize - len(strings.Join(names, ""))
	fitting := make(map[string]string, len(names))
	for _, name := range names {
		value := given[name]
		value = value[:min(len(value), longest, max(0, room/len(names)))]
		fitting[name] = strings.ReplaceAll(strings.ToValidUTF8(value, ""), "\x00", "")
	}
	return fitting
}

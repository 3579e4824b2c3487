package tokensession

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The binary form: recordFormat, then the fields in the order of marshalling. Integers and the
// lengths that precede strings are unsigned varints, and times are microseconds since the zero
// time. It is canonical: no two forms are read as the same record.
const recordFormat = 1

// zeroTimeUnix is the zero time in seconds since 1970, maxMicros the last microsecond of the year
// 9999.
const (
	zeroTimeUnix = -62135596800
	maxMicros    = 315_537_897_600_000_000 - 1
)

// MarshalBinary returns the record in a form that [Record.UnmarshalBinary] of this and any later
// version reads. Its first byte is the form's version. It contains Key, from which, without the
// session's handle, no token can be made. Times are cut to microseconds, and have to be in the
// years 1 to 9999.
func (r Record) MarshalBinary() ([]byte, error) { return r.AppendBinary(nil) }

// AppendBinary appends what [Record.MarshalBinary] returns.
func (r Record) AppendBinary(b []byte) ([]byte, error) {
	b = append(b, recordFormat)
	for _, n := range [...]uint64{r.Version, r.Generation, r.Predecessor} {
		b = binary.AppendUvarint(b, n)
	}
	for _, t := range r.times() {
		us, ok := micros(*t)
		if !ok {
			return nil, fmt.Errorf("tokensession: record %s: time %v is outside the years 1 to 9999", r.ID, t.UTC())
		}
		b = binary.AppendUvarint(b, uint64(us))
	}
	for _, s := range [...]string{r.ID, r.WriteID, r.Subject, r.ClientID, string(r.RevokeReason)} {
		b = appendString(b, s)
	}
	b = binary.AppendUvarint(b, uint64(len(r.Key)))
	b = append(b, r.Key...)
	return appendMap(b, r.Attributes), nil
}

// UnmarshalBinary reads what [Record.MarshalBinary] wrote, and nothing else: on an error r is
// unchanged.
func (r *Record) UnmarshalBinary(data []byte) error {
	rec, err := decodeRecord(string(data))
	if err == nil {
		*r = rec
	}
	return err
}

// decodeRecord reads the binary form. The record's strings share data's memory.
func decodeRecord(data string) (Record, error) {
	if data == "" || data[0] != recordFormat {
		return Record{}, fmt.Errorf("tokensession: not a record of format %d", recordFormat)
	}
	d := decoder{rest: data[1:]}
	var r Record
	for _, n := range [...]*uint64{&r.Version, &r.Generation, &r.Predecessor} {
		*n = d.uint()
	}
	for _, t := range r.times() {
		*t = d.time()
	}
	for _, s := range [...]*string{&r.ID, &r.WriteID, &r.Subject, &r.ClientID, (*string)(&r.RevokeReason)} {
		*s = d.string()
	}
	if key := d.string(); key != "" {
		r.Key = []byte(key)
	}
	r.Attributes = d.stringMap()
	if d.failed || d.rest != "" {
		return Record{}, errors.New("tokensession: damaged record")
	}
	return r, nil
}

// times lists the record's times in the order of the binary form.
func (r *Record) times() [7]*time.Time {
	return [...]*time.Time{&r.AuthTime, &r.CreatedAt, &r.ConsumedAt, &r.RotatedAt, &r.ExpiresAt, &r.MaxExpiresAt, &r.RevokedAt}
}

// micros returns the microseconds between the zero time and t, and whether t is in the years 1 to
// 9999.
func micros(t time.Time) (us int64, ok bool) {
	s := t.Unix() - zeroTimeUnix
	if s < 0 || s > maxMicros/1_000_000 {
		return 0, false
	}
	return s*1e6 + int64(t.Nanosecond())/1e3, true
}

// fromMicros is the inverse of [micros].
func fromMicros(us int64) time.Time {
	return time.Unix(us/1e6+zeroTimeUnix, us%1e6*1e3).UTC()
}

func appendString(b []byte, s string) []byte {
	b = binary.AppendUvarint(b, uint64(len(s)))
	return append(b, s...)
}

func appendMap(b []byte, m map[string]string) []byte {
	names := make([]string, 0, 16)
	for name := range m {
		names = append(names, name)
	}
	slices.Sort(names)
	b = binary.AppendUvarint(b, uint64(len(names)))
	for _, name := range names {
		b = appendString(b, name)
		b = appendString(b, m[name])
	}
	return b
}

// A decoder takes fields off the front of rest. After a failure rest is empty, and it returns zero
// values.
type decoder struct {
	rest   string
	failed bool
}

func (d *decoder) fail() { d.rest, d.failed = "", true }

// uint reads a varint, in its shortest form only.
func (d *decoder) uint() uint64 {
	var n uint64
	for i := 0; i < len(d.rest) && i < binary.MaxVarintLen64; i++ {
		c := d.rest[i]
		n |= uint64(c&0x7f) << (7 * i)
		if c >= 0x80 {
			continue
		}
		if i > 0 && c == 0 || i == binary.MaxVarintLen64-1 && c > 1 {
			break
		}
		d.rest = d.rest[i+1:]
		return n
	}
	d.fail()
	return 0
}

func (d *decoder) string() string {
	n := d.uint()
	if n > uint64(len(d.rest)) {
		d.fail()
		return ""
	}
	s := d.rest[:n]
	d.rest = d.rest[n:]
	return s
}

// stringMap reads what appendMap wrote: the names in ascending order, nil for no names.
func (d *decoder) stringMap() map[string]string {
	n := d.uint()
	if n > uint64(len(d.rest)/2) { // each takes two bytes at least: no damage makes us reserve more than we read
		d.fail()
	}
	if n == 0 || d.failed {
		return nil
	}
	m := make(map[string]string, n)
	for previous := ""; n > 0 && !d.failed; n-- {
		name := d.string()
		if len(m) > 0 && name <= previous {
			d.fail()
		}
		m[name] = d.string()
		previous = name
	}
	return m
}

func (d *decoder) time() time.Time {
	us := d.uint()
	if us > maxMicros {
		d.fail()
		return time.Time{}
	}
	return fromMicros(int64(us))
}

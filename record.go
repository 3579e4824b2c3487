package tokensession

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// The binary form: recordFormat, then the fields in the order of AppendBinary. Integers, and the
// lengths that precede strings, are unsigned varints. CreatedAt is in microseconds since the zero
// time, and the other times are in microseconds since CreatedAt, because that takes fewer bytes. A
// field that most sessions do not have takes no byte: a set of bits says which of them are there.
//
// The form is canonical: no two forms are read as the same record. The WriteID comes first, so that
// a store can compare it without reading the rest.
const recordFormat = 1

// zeroTimeUnix is the zero time in seconds since 1970, maxMicros the last microsecond of the year
// 9999.
const (
	zeroTimeUnix = -62135596800
	maxMicros    = 315_537_897_600_000_000 - 1
)

// The bits that say which optional fields are there: one for each of times, then one for each of
// texts, then these.
const (
	hasAttributes uint64 = 1 << (recordTimes + recordTexts + iota)
	hasAuthMethods
	hasEpoch
	isTransient
	firstUnusedBit

	recordTimes, recordTexts = 7, 5
)

// times lists the optional times, the most frequent ones first.
func (r *Record) times() [recordTimes]*time.Time {
	return [...]*time.Time{
		&r.AuthTime, &r.RotatedAt, &r.ExpiresAt, &r.MaxExpiresAt, &r.ConsumedAt, &r.RevokedAt,
		&r.OutdatedAt,
	}
}

// texts lists the optional strings.
func (r *Record) texts() [recordTexts]*string {
	return [...]*string{
		&r.ClientID, &r.Actor, &r.AuthContext, &r.KeyThumbprint, (*string)(&r.RevokeReason),
	}
}

// MarshalBinary returns the record in a form that [Record.UnmarshalBinary] of this and any later
// version reads. Its first byte is the form's version. It contains Key, from which, without the
// session's handle, no token can be made. Replaces is not part of it. Times are cut to
// microseconds, and have to be in the years 1 to 9999.
func (r Record) MarshalBinary() ([]byte, error) { return r.AppendBinary(nil) }

// AppendBinary appends what [Record.MarshalBinary] returns.
func (r Record) AppendBinary(b []byte) ([]byte, error) {
	created, ok := micros(r.CreatedAt)
	if !ok {
		return nil, r.outOfRange(r.CreatedAt)
	}
	if r.IdleTTL < 0 {
		return nil, fmt.Errorf("tokensession: record %s: IdleTTL %v: cannot be negative",
			r.ID, r.IdleTTL)
	}
	b = append(b, recordFormat)
	b = appendString(b, r.WriteID)
	b = binary.AppendUvarint(b, r.present())
	idle, at := uint64(r.IdleTTL.Microseconds()), uint64(created)
	for _, n := range [...]uint64{r.Version, r.Generation, r.Predecessor, idle, at} {
		b = binary.AppendUvarint(b, n)
	}
	for _, s := range [...]string{r.ID, r.Issuer, r.Subject, string(r.Key)} {
		b = appendString(b, s)
	}
	return r.appendOptional(b, created)
}

func (r Record) appendOptional(b []byte, created int64) ([]byte, error) {
	for _, t := range r.times() {
		us, ok := micros(*t)
		if !ok {
			return nil, r.outOfRange(*t)
		}
		if us != 0 {
			b = binary.AppendVarint(b, us-created)
		}
	}
	for _, s := range r.texts() {
		if *s != "" {
			b = appendString(b, *s)
		}
	}
	if len(r.Attributes) > 0 {
		b = appendMap(b, r.Attributes)
	}
	if len(r.AuthMethods) > 0 {
		b = binary.AppendUvarint(b, uint64(len(r.AuthMethods)))
		for _, method := range r.AuthMethods {
			b = appendString(b, method)
		}
	}
	if r.Epoch != 0 {
		b = binary.AppendUvarint(b, r.Epoch)
	}
	return b, nil
}

// present returns the bits of the optional fields that have a value.
func (r *Record) present() uint64 {
	var bits uint64
	for i, t := range r.times() {
		if us, ok := micros(*t); ok && us != 0 {
			bits |= 1 << i
		}
	}
	for i, s := range r.texts() {
		if *s != "" {
			bits |= 1 << (recordTimes + i)
		}
	}
	return bits | bitIf(hasAttributes, len(r.Attributes) > 0) | bitIf(hasAuthMethods, len(r.AuthMethods) > 0) |
		bitIf(hasEpoch, r.Epoch != 0) | bitIf(isTransient, r.Transient)
}

func bitIf(bit uint64, set bool) uint64 {
	if set {
		return bit
	}
	return 0
}

func (r Record) outOfRange(t time.Time) error {
	return fmt.Errorf("tokensession: record %s: time %v is outside the years 1 to 9999",
		r.ID, t.UTC())
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
	r.WriteID = d.string()
	bits := d.uint()
	r.Version, r.Generation, r.Predecessor = d.uint(), d.uint(), d.uint()
	idle := d.uint()
	r.CreatedAt = d.time(int64(d.uint()))
	for _, s := range [...]*string{&r.ID, &r.Issuer, &r.Subject} {
		*s = d.string()
	}
	if key := d.string(); key != "" {
		r.Key = []byte(key)
	}
	d.optional(&r, bits)
	if idle > uint64(maxIdle.Microseconds()) || bits >= firstUnusedBit || d.failed || d.rest != "" {
		return Record{}, errors.New("tokensession: damaged record")
	}
	r.IdleTTL = time.Duration(idle) * time.Microsecond
	return r, nil
}

// maxIdle is the longest time that a Duration can hold, in whole microseconds.
const maxIdle = (1<<63 - 1) / time.Microsecond * time.Microsecond

// optional reads the fields that are there according to bits. One that is there and empty is
// damage, because the same record would have a second form.
func (d *decoder) optional(r *Record, bits uint64) {
	created, _ := micros(r.CreatedAt)
	for i, t := range r.times() {
		if bits&(1<<i) != 0 {
			*t = d.time(d.difference(created))
			d.must(!t.IsZero())
		}
	}
	for i, s := range r.texts() {
		if bits&(1<<(recordTimes+i)) != 0 {
			*s = d.string()
			d.must(*s != "")
		}
	}
	if bits&hasAttributes != 0 {
		r.Attributes = d.stringMap()
		d.must(len(r.Attributes) > 0)
	}
	if bits&hasAuthMethods != 0 {
		r.AuthMethods = d.strings()
		d.must(len(r.AuthMethods) > 0)
	}
	if bits&hasEpoch != 0 {
		r.Epoch = d.uint()
		d.must(r.Epoch != 0)
	}
	r.Transient = bits&isTransient != 0
}

// writeIDOf returns the WriteID of a record's binary form.
func writeIDOf(data string) string {
	d := decoder{rest: data[1:]}
	return d.string()
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
	// Each takes two bytes at least, so no damage makes us reserve more than we read.
	if n > uint64(len(d.rest)/2) {
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

// strings reads a list of strings.
func (d *decoder) strings() []string {
	n := d.uint()
	if n > uint64(len(d.rest)) { // each takes a byte at least
		d.fail()
		return nil
	}
	list := make([]string, 0, n)
	for ; n > 0 && !d.failed; n-- {
		list = append(list, d.string())
	}
	return list
}

// difference reads a signed varint and adds it to a number of microseconds.
func (d *decoder) difference(created int64) int64 {
	zigzag := d.uint()
	difference := int64(zigzag >> 1)
	if zigzag&1 != 0 {
		difference = ^difference
	}
	if difference < -maxMicros || difference > maxMicros {
		d.fail()
		return 0
	}
	return created + difference
}

func (d *decoder) time(us int64) time.Time {
	if us < 0 || us > maxMicros {
		d.fail()
		return time.Time{}
	}
	return fromMicros(us)
}

// must fails unless what was read is as it has to be.
func (d *decoder) must(ok bool) {
	if !ok {
		d.fail()
	}
}

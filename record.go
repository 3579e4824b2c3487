package tokensession

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// The binary form: recordFormat, then the fields in the order of marshalling. Integers are big-endian, times are
// microseconds since 1970 with noTime for the zero time, and strings are preceded by their length as 32 bits.
const (
	recordFormat = 1
	noTime       = math.MinInt64
)

// MarshalBinary returns the record in a form that [Record.UnmarshalBinary] of this and any later version reads. Its
// first byte is the form's version. It contains Key, from which, without the session's handle, no token can be made.
func (r Record) MarshalBinary() ([]byte, error) { return r.AppendBinary(nil) }

// AppendBinary appends what [Record.MarshalBinary] returns.
func (r Record) AppendBinary(b []byte) ([]byte, error) {
	times := r.times()
	for _, t := range times {
		if !t.IsZero() && (t.Year() < 1 || t.Year() > 9999) {
			return nil, fmt.Errorf("tokensession: record %s: time %v is outside the years 1 to 9999", r.ID, t)
		}
	}
	names := slices.Sorted(maps.Keys(r.Attributes))

	b = append(b, recordFormat)
	for _, n := range []uint64{r.Version, r.Generation, r.Predecessor} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	for _, t := range times {
		b = binary.BigEndian.AppendUint64(b, uint64(unixMicro(*t)))
	}
	for _, s := range []string{r.ID, r.WriteID, r.Subject, r.ClientID, string(r.Key), string(r.RevokeReason)} {
		b = appendString(b, s)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(len(names)))
	for _, name := range names {
		b = appendString(b, name)
		b = appendString(b, r.Attributes[name])
	}
	return b, nil
}

// UnmarshalBinary reads what [Record.MarshalBinary] wrote, and nothing else: on an error r is unchanged.
func (r *Record) UnmarshalBinary(data []byte) error {
	if len(data) == 0 || data[0] != recordFormat {
		return fmt.Errorf("tokensession: not a record of format %d", recordFormat)
	}
	d := decoder{rest: data[1:]}
	var rec Record
	for _, n := range []*uint64{&rec.Version, &rec.Generation, &rec.Predecessor} {
		*n = d.uint64()
	}
	for _, t := range rec.times() {
		*t = d.time()
	}
	var key, reason string
	for _, s := range []*string{&rec.ID, &rec.WriteID, &rec.Subject, &rec.ClientID, &key, &reason} {
		*s = d.string()
	}
	if key != "" {
		rec.Key = []byte(key)
	}
	rec.RevokeReason = Reason(reason)
	previous := ""
	for i, n := uint32(0), d.uint32(); i < n && !d.failed; i++ {
		name := d.string()
		if rec.Attributes == nil {
			rec.Attributes = make(map[string]string)
		} else if name <= previous {
			d.failed = true
		}
		rec.Attributes[name] = d.string()
		previous = name
	}
	if d.failed || len(d.rest) != 0 {
		return errors.New("tokensession: damaged record")
	}
	*r = rec
	return nil
}

// times lists the record's times in the order of the binary form.
func (r *Record) times() []*time.Time {
	return []*time.Time{&r.AuthTime, &r.CreatedAt, &r.ConsumedAt, &r.RotatedAt, &r.ExpiresAt, &r.MaxExpiresAt, &r.RevokedAt}
}

// clone returns a record that shares no memory with r.
func (r Record) clone() Record {
	r.Key = slices.Clone(r.Key)
	r.Attributes = maps.Clone(r.Attributes)
	return r
}

func unixMicro(t time.Time) int64 {
	if t.IsZero() {
		return noTime
	}
	return t.UnixMicro()
}

func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}

// A decoder takes fields off the front of rest. After a failure it returns zero values.
type decoder struct {
	rest   []byte
	failed bool
}

func (d *decoder) take(n int) []byte {
	if d.failed || n < 0 || n > len(d.rest) {
		d.failed = true
		return nil
	}
	b := d.rest[:n]
	d.rest = d.rest[n:]
	return b
}

func (d *decoder) uint32() uint32 {
	if b := d.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if b := d.take(8); b != nil {
		return binary.BigEndian.Uint64(b)
	}
	return 0
}

func (d *decoder) string() string { return string(d.take(int(d.uint32()))) }

func (d *decoder) time() time.Time {
	us := int64(d.uint64())
	if us == noTime || d.failed {
		return time.Time{}
	}
	t := time.UnixMicro(us).UTC()
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		d.failed = true
	}
	return t
}

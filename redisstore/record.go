package redisstore

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// The fields of a session's hash. Every one is there, empty where it has no value: a field that is missing is damage,
// and a lost revoked_at must not read as "not revoked". Fields of other names are not read.
const (
	fieldFormat       = "format"
	fieldVersion      = "version"
	fieldWriteID      = "write_id"
	fieldSubject      = "subject"
	fieldClientID     = "client_id"
	fieldKey          = "key"
	fieldGeneration   = "generation"
	fieldPredecessor  = "predecessor"
	fieldAuthTime     = "auth_time"
	fieldCreatedAt    = "created_at"
	fieldConsumedAt   = "consumed_at"
	fieldRotatedAt    = "rotated_at"
	fieldExpiresAt    = "expires_at"
	fieldMaxExpiresAt = "max_expires_at"
	fieldRevokedAt    = "revoked_at"
	fieldRevokeReason = "revoke_reason"
	fieldIndexedUntil = "indexed_until" // not the record's: see index.go
	attributePrefix   = "attr:"

	format = "1"
)

// timeLayout is RFC 3339 in UTC, always with microseconds, so that it sorts as text.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// encode returns the record's fields, names and values in turn, ready to be a script's arguments.
func encode(rec tokensession.Record) ([]any, error) {
	fields := make([]any, 0, 2*(len(rec.Attributes)+17))
	add := func(name string, value any) { fields = append(fields, name, value) }
	add(fieldFormat, format)
	add(fieldVersion, strconv.FormatUint(rec.Version, 10))
	add(fieldWriteID, rec.WriteID)
	add(fieldSubject, rec.Subject)
	add(fieldClientID, rec.ClientID)
	add(fieldKey, rec.Key)
	add(fieldGeneration, strconv.FormatUint(rec.Generation, 10))
	add(fieldPredecessor, strconv.FormatUint(rec.Predecessor, 10))
	for _, f := range timesOf(&rec) {
		text, err := formatTime(*f.time)
		if err != nil {
			return nil, fmt.Errorf("redisstore: session %s: %s: %w", rec.ID, f.name, err)
		}
		add(f.name, text)
	}
	add(fieldRevokeReason, string(rec.RevokeReason))
	for _, name := range slices.Sorted(maps.Keys(rec.Attributes)) {
		add(attributePrefix+name, rec.Attributes[name])
	}
	return fields, nil
}

// decode is the reverse of encode.
func decode(id string, fields map[string]string) (tokensession.Record, error) {
	d := decoder{fields: fields}
	if f := d.text(fieldFormat); d.err == nil && f != format {
		return tokensession.Record{}, fmt.Errorf("format is %q, and this version reads %q", f, format)
	}
	rec := tokensession.Record{
		ID:           id,
		Version:      d.uint(fieldVersion),
		WriteID:      d.text(fieldWriteID),
		Subject:      d.text(fieldSubject),
		ClientID:     d.text(fieldClientID),
		Generation:   d.uint(fieldGeneration),
		Predecessor:  d.uint(fieldPredecessor),
		RevokeReason: tokensession.Reason(d.text(fieldRevokeReason)),
	}
	if key := d.text(fieldKey); key != "" {
		rec.Key = []byte(key)
	}
	for _, f := range timesOf(&rec) {
		*f.time = d.time(f.name)
	}
	for name, value := range fields {
		if attribute, ok := strings.CutPrefix(name, attributePrefix); ok {
			if rec.Attributes == nil {
				rec.Attributes = make(map[string]string)
			}
			rec.Attributes[attribute] = value
		}
	}
	if d.err != nil {
		return tokensession.Record{}, d.err
	}
	return rec, nil
}

type timeField struct {
	name string
	time *time.Time
}

func timesOf(rec *tokensession.Record) [7]timeField {
	return [...]timeField{
		{fieldAuthTime, &rec.AuthTime},
		{fieldCreatedAt, &rec.CreatedAt},
		{fieldConsumedAt, &rec.ConsumedAt},
		{fieldRotatedAt, &rec.RotatedAt},
		{fieldExpiresAt, &rec.ExpiresAt},
		{fieldMaxExpiresAt, &rec.MaxExpiresAt},
		{fieldRevokedAt, &rec.RevokedAt},
	}
}

// A decoder takes values out of a hash, and keeps the first error.
type decoder struct {
	fields map[string]string
	err    error
}

func (d *decoder) text(name string) string {
	value, ok := d.fields[name]
	if !ok {
		d.fail(name, errors.New("is missing"))
	}
	return value
}

func (d *decoder) uint(name string) uint64 {
	text := d.text(name)
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || strconv.FormatUint(n, 10) != text {
		d.fail(name, fmt.Errorf("is %q, not a decimal number of 64 bits", text))
	}
	return n
}

func (d *decoder) time(name string) time.Time {
	t, err := parseTime(d.text(name))
	if err != nil {
		d.fail(name, err)
	}
	return t
}

func (d *decoder) fail(name string, err error) {
	if d.err == nil {
		d.err = fmt.Errorf("field %s %w", name, err)
	}
}

func formatTime(t time.Time) (string, error) {
	if t.IsZero() {
		return "", nil
	}
	t = t.UTC()
	if t.Year() < 1 || t.Year() > 9999 {
		return "", fmt.Errorf("%v is outside the years 1 to 9999", t)
	}
	return t.Format(timeLayout), nil
}

func parseTime(text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil || t.IsZero() || len(text) != len(timeLayout) || text[len(text)-1] != 'Z' {
		return time.Time{}, fmt.Errorf("is %q, not a time of the form %s", text, timeLayout)
	}
	return t, nil
}

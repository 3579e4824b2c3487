package redisstore

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
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
	fieldDigest       = "digest"        // not the record's: of the fields that a refresh leaves as they are
	fieldIndexedUntil = "indexed_until" // not the record's: see index.go
	attributePrefix   = "attr:"

	format = "1"
)

// timeLayout is RFC 3339 in UTC, always with microseconds, so that it sorts as text.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// moving returns the fields that a refresh or a revocation changes, names and values in turn, ready to be a script's
// arguments.
func moving(rec tokensession.Record) []any {
	return []any{
		fieldVersion, strconv.FormatUint(rec.Version, 10),
		fieldWriteID, rec.WriteID,
		fieldGeneration, strconv.FormatUint(rec.Generation, 10),
		fieldPredecessor, strconv.FormatUint(rec.Predecessor, 10),
		fieldConsumedAt, formatTime(rec.ConsumedAt),
		fieldRotatedAt, formatTime(rec.RotatedAt),
		fieldExpiresAt, formatTime(rec.ExpiresAt),
		fieldRevokedAt, formatTime(rec.RevokedAt),
		fieldRevokeReason, string(rec.RevokeReason),
	}
}

// fixed calls add with each of the other fields, in an order that depends on their names only.
func fixed(rec tokensession.Record, add func(name, value string)) {
	add(fieldFormat, format)
	add(fieldSubject, rec.Subject)
	add(fieldClientID, rec.ClientID)
	add(fieldKey, string(rec.Key))
	add(fieldAuthTime, formatTime(rec.AuthTime))
	add(fieldCreatedAt, formatTime(rec.CreatedAt))
	add(fieldMaxExpiresAt, formatTime(rec.MaxExpiresAt))
	for _, name := range slices.Sorted(maps.Keys(rec.Attributes)) {
		add(attributePrefix+name, rec.Attributes[name])
	}
}

// digest returns 128 bits that stand for the fixed fields, as base64url.
func digest(rec tokensession.Record) string {
	b := make([]byte, 0, 512)
	fixed(rec, func(name, value string) {
		for _, s := range [...]string{name, value} {
			b = binary.AppendUvarint(b, uint64(len(s)))
			b = append(b, s...)
		}
	})
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// everything returns the fields that make a whole hash.
func everything(rec tokensession.Record, indexedUntil int64) []any {
	fields := append(moving(rec), fieldDigest, digest(rec), fieldIndexedUntil, indexedUntil)
	fixed(rec, func(name, value string) { fields = append(fields, name, value) })
	return fields
}

// checkTimes returns an error if a time of the record does not fit timeLayout.
func checkTimes(rec tokensession.Record) error {
	for _, f := range [...]struct {
		name string
		time time.Time
	}{
		{fieldAuthTime, rec.AuthTime},
		{fieldCreatedAt, rec.CreatedAt},
		{fieldConsumedAt, rec.ConsumedAt},
		{fieldRotatedAt, rec.RotatedAt},
		{fieldExpiresAt, rec.ExpiresAt},
		{fieldMaxExpiresAt, rec.MaxExpiresAt},
		{fieldRevokedAt, rec.RevokedAt},
	} {
		if year := f.time.UTC().Year(); year < 1 || year > 9999 {
			return fmt.Errorf("redisstore: session %s: %s is %v, outside the years 1 to 9999", rec.ID, f.name, f.time)
		}
	}
	return nil
}

// decode makes a record of the hash that everything made.
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
		AuthTime:     d.time(fieldAuthTime),
		CreatedAt:    d.time(fieldCreatedAt),
		ConsumedAt:   d.time(fieldConsumedAt),
		RotatedAt:    d.time(fieldRotatedAt),
		ExpiresAt:    d.time(fieldExpiresAt),
		MaxExpiresAt: d.time(fieldMaxExpiresAt),
		RevokedAt:    d.time(fieldRevokedAt),
		RevokeReason: tokensession.Reason(d.text(fieldRevokeReason)),
	}
	if key := d.text(fieldKey); key != "" {
		rec.Key = []byte(key)
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

func formatTime(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format(timeLayout)
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

package redisstore

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// The fields of a session's hash. Every one is there, empty where it has no value: a field that is missing is damage,
// and a lost revoked_at must not read as "not revoked". Fields of other names are not read.
//
// What changes at each refresh is in two fields, for the server's work at a write grows with their number, and in two
// because Redis keeps a hash compactly as long as no value is longer than 64 bytes.
const (
	fieldFormat       = "format"
	fieldWrite        = "write" // version and write ID
	fieldChain        = "chain" // generation, predecessor, ConsumedAt, RotatedAt and ExpiresAt
	fieldSubject      = "subject"
	fieldClientID     = "client_id"
	fieldKey          = "key"
	fieldAuthTime     = "auth_time"
	fieldCreatedAt    = "created_at"
	fieldMaxExpiresAt = "max_expires_at"
	fieldRevokedAt    = "revoked_at"
	fieldRevokeReason = "revoke_reason"
	fieldDigest       = "digest"  // not the record's: of the fields that a refresh leaves as they are
	fieldIndexed      = "indexed" // not the record's: see index.go
	attributePrefix   = "attr:"

	format = "1"
)

// timeLayout is RFC 3339 in UTC, always with microseconds, so that it sorts as text.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// writeOf returns the field that tells one write of a record from all others: the version, and behind a space the
// write ID, whatever that consists of.
func writeOf(rec tokensession.Record) string {
	return strconv.FormatUint(rec.Version, 10) + " " + rec.WriteID
}

// chainOf returns the field that says where the chain of refresh tokens is: two numbers and three times, as decimals
// between spaces. Times are in microseconds since 1970, and the zero time is a dash.
func chainOf(rec tokensession.Record) string {
	b := make([]byte, 0, 64)
	b = strconv.AppendUint(b, rec.Generation, 10)
	b = append(b, ' ')
	b = strconv.AppendUint(b, rec.Predecessor, 10)
	for _, t := range [...]time.Time{rec.ConsumedAt, rec.RotatedAt, rec.ExpiresAt} {
		b = append(b, ' ')
		if t.IsZero() {
			b = append(b, '-')
		} else {
			b = strconv.AppendInt(b, t.UnixMicro(), 10)
		}
	}
	return string(b)
}

// moving returns the fields that a refresh or a revocation changes, names and values in turn, ready to be a script's
// arguments. A refresh leaves out what is empty before and after it.
func moving(rec tokensession.Record) []any {
	fields := []any{fieldWrite, writeOf(rec), fieldChain, chainOf(rec)}
	if rec.RevokedAt.IsZero() && rec.RevokeReason == "" {
		return fields
	}
	return append(fields, fieldRevokedAt, formatTime(rec.RevokedAt), fieldRevokeReason, string(rec.RevokeReason))
}

// digest returns 128 bits that stand for the fields that are not moving, as base64url.
func digest(rec tokensession.Record) string {
	rec.Version, rec.WriteID = 0, ""
	rec.Generation, rec.Predecessor = 0, 0
	rec.ConsumedAt, rec.RotatedAt, rec.ExpiresAt = time.Time{}, time.Time{}, time.Time{}
	rec.RevokedAt, rec.RevokeReason = time.Time{}, ""
	b, _ := rec.AppendBinary(make([]byte, 0, 512)) // its times were checked
	sum := sha256.Sum256(b)
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// everything returns the fields that make a whole hash.
func everything(rec tokensession.Record, e entry) []any {
	fields := []any{
		fieldFormat, format,
		fieldWrite, writeOf(rec),
		fieldChain, chainOf(rec),
		fieldSubject, rec.Subject,
		fieldClientID, rec.ClientID,
		fieldKey, string(rec.Key),
		fieldAuthTime, formatTime(rec.AuthTime),
		fieldCreatedAt, formatTime(rec.CreatedAt),
		fieldMaxExpiresAt, formatTime(rec.MaxExpiresAt),
		fieldRevokedAt, formatTime(rec.RevokedAt),
		fieldRevokeReason, string(rec.RevokeReason),
		fieldDigest, digest(rec),
		fieldIndexed, e.String(),
	}
	for name, value := range rec.Attributes {
		fields = append(fields, attributePrefix+name, value)
	}
	return fields
}

// checkTimes returns an error if a time of the record is in no year that timeLayout can write.
func checkTimes(rec tokensession.Record) error {
	for _, f := range [...]struct {
		name string
		time time.Time
	}{
		{"AuthTime", rec.AuthTime},
		{"CreatedAt", rec.CreatedAt},
		{"ConsumedAt", rec.ConsumedAt},
		{"RotatedAt", rec.RotatedAt},
		{"ExpiresAt", rec.ExpiresAt},
		{"MaxExpiresAt", rec.MaxExpiresAt},
		{"RevokedAt", rec.RevokedAt},
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
		Subject:      d.text(fieldSubject),
		ClientID:     d.text(fieldClientID),
		AuthTime:     d.time(fieldAuthTime),
		CreatedAt:    d.time(fieldCreatedAt),
		MaxExpiresAt: d.time(fieldMaxExpiresAt),
		RevokedAt:    d.time(fieldRevokedAt),
		RevokeReason: tokensession.Reason(d.text(fieldRevokeReason)),
	}
	d.write(&rec)
	d.chain(&rec)
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

func (d *decoder) write(rec *tokensession.Record) {
	text := d.text(fieldWrite)
	version, writeID, found := strings.Cut(text, " ")
	n, err := parseUint(version)
	if err != nil || !found {
		d.fail(fieldWrite, fmt.Errorf("is %q, not a number of 64 bits and a write ID", text))
	}
	rec.Version, rec.WriteID = n, writeID
}

func (d *decoder) chain(rec *tokensession.Record) {
	text := d.text(fieldChain)
	rest := text
	next := func() string {
		var part string
		part, rest, _ = strings.Cut(rest, " ")
		return part
	}
	var errs [5]error
	rec.Generation, errs[0] = parseUint(next())
	rec.Predecessor, errs[1] = parseUint(next())
	rec.ConsumedAt, errs[2] = parseMicros(next())
	rec.RotatedAt, errs[3] = parseMicros(next())
	rec.ExpiresAt, errs[4] = parseMicros(rest)
	if err := errors.Join(errs[:]...); err != nil {
		d.fail(fieldChain, fmt.Errorf("is %q, not two numbers of 64 bits and three times in microseconds", text))
	}
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
	t, err := time.Parse(timeLayout, text)
	if err != nil || t.IsZero() || t.Year() < 1 || t.Format(timeLayout) != text {
		return time.Time{}, fmt.Errorf("is %q, not a time of the form %s", text, timeLayout)
	}
	return t, nil
}

// parseUint and parseMicros read the one way in which chainOf writes a value.

func parseUint(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || len(text) > 1 && text[0] == '0' {
		return 0, errors.New("not a number")
	}
	return n, nil
}

func parseMicros(text string) (time.Time, error) {
	if text == "-" {
		return time.Time{}, nil
	}
	us, err := strconv.ParseInt(text, 10, 64)
	t := time.UnixMicro(us).UTC()
	if err != nil || text != strconv.FormatInt(us, 10) || t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}, errors.New("not a time")
	}
	return t, nil
}

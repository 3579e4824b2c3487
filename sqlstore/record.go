package sqlstore

import (
	"bytes"
	"cmp"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/seed67bc9b7f/tokensession"
)

// The columns' sizes in bytes. All dialects have the same, so that a host can move from one to
// another. They are checked here, because MySQL outside its strict mode cuts what is longer without
// saying so.
const (
	maxID     = 64
	maxText   = 255
	maxIssuer = 1024
	maxKey    = 255
	maxJSON   = 65_535
)

// recordArgs returns the arguments for columns, in their order.
func (d Dialect) recordArgs(rec tokensession.Record) ([]any, error) {
	args, err := d.encode(rec)
	if err != nil {
		return nil, fmt.Errorf("record %q: %w", rec.ID, err)
	}
	return args, nil
}

func (d Dialect) encode(rec tokensession.Record) ([]any, error) {
	if err := checkRecord(rec); err != nil {
		return nil, err
	}
	attributes, err := encodeAttributes(rec.Attributes)
	if err != nil {
		return nil, err
	}
	methods, err := encodeMethods(rec.AuthMethods)
	if err != nil {
		return nil, err
	}
	args := []any{
		rec.ID, rec.Issuer, rec.Subject, optional(rec.ClientID), optional(rec.Actor),
		attributes, methods, optional(rec.AuthContext), optional(rec.KeyThumbprint),
		optional(string(rec.RevokeReason)), rec.Key, rec.WriteID,
	}
	for _, t := range []time.Time{
		rec.AuthTime, rec.CreatedAt, rec.RotatedAt, rec.ConsumedAt, rec.ExpiresAt, rec.MaxExpiresAt,
		rec.RevokedAt, rec.OutdatedAt,
	} {
		arg, err := d.timeArg(t)
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
	}
	return append(args,
		optional(rec.IdleTTL.Microseconds()), int64(rec.Generation), int64(rec.Predecessor),
		int64(rec.Version), optional(int64(rec.Epoch)), optional(rec.Transient)), nil
}

// checkRecord refuses what one of the databases could not give back as it is.
func checkRecord(rec tokensession.Record) error {
	for _, text := range []struct {
		field, value string
		limit        int
	}{
		{"ID", rec.ID, maxID}, {"WriteID", rec.WriteID, maxID}, {"Issuer", rec.Issuer, maxIssuer},
		{"Subject", rec.Subject, maxText}, {"ClientID", rec.ClientID, maxText},
		{"Actor", rec.Actor, maxText}, {"AuthContext", rec.AuthContext, maxText},
		{"KeyThumbprint", rec.KeyThumbprint, maxText},
		{"RevokeReason", string(rec.RevokeReason), maxText},
	} {
		if err := checkText(text.value, text.limit); err != nil {
			return fmt.Errorf("%s %w", text.field, err)
		}
	}
	if len(rec.Key) > maxKey {
		return fmt.Errorf("%s of %d bytes: cannot be longer than %d", "Key", len(rec.Key), maxKey)
	}
	if rec.IdleTTL < 0 {
		return fmt.Errorf("IdleTTL %v: cannot be negative", rec.IdleTTL)
	}
	for _, number := range []struct {
		field string
		value uint64
	}{
		{"Version", rec.Version}, {"Generation", rec.Generation}, {"Predecessor", rec.Predecessor},
		{"Epoch", rec.Epoch},
	} {
		if number.value > math.MaxInt64 {
			return fmt.Errorf("%s %d: cannot be greater than %d, the greatest BIGINT",
				number.field, number.value, int64(math.MaxInt64))
		}
	}
	return nil
}

// optional returns v as an argument of a statement, NULL for the zero value, which then takes no
// room.
func optional[T comparable](v T) any {
	if v == *new(T) {
		return nil
	}
	return v
}

// checkRevocation refuses what RevokeSubject could not write.
func checkRevocation(r tokensession.SubjectRevocation) error {
	switch {
	case r.At.IsZero():
		return errors.New("the time is zero")
	case len(r.Issuers) == 0:
		return errors.New("no issuer is given")
	}
	if err := checkText(string(r.Reason), maxText); err != nil {
		return fmt.Errorf("reason %w", err)
	}
	if err := checkText(r.WriteID, maxID); err != nil {
		return fmt.Errorf("write ID %w", err)
	}
	return nil
}

// checkText refuses what one of the databases could not give back as it is.
func checkText(s string, limit int) error {
	switch {
	case len(s) > limit:
		return fmt.Errorf("of %d bytes: cannot be longer than %d", len(s), limit)
	case !utf8.ValidString(s):
		return fmt.Errorf("%q: not valid UTF-8", s)
	case strings.ContainsRune(s, 0):
		return fmt.Errorf("%q: has a NUL, which PostgreSQL cannot keep", s)
	}
	return nil
}

// encodeAttributes returns a JSON object, or nil for no attributes.
func encodeAttributes(attributes map[string]string) (any, error) {
	for name, value := range attributes {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, fmt.Errorf("attribute %q: not valid UTF-8", name)
		}
	}
	return encodeJSON("attributes", attributes, len(attributes))
}

// encodeMethods returns a JSON array, or nil for no methods.
func encodeMethods(methods []string) (any, error) {
	for _, method := range methods {
		if !utf8.ValidString(method) {
			return nil, fmt.Errorf("AuthMethods %q: not valid UTF-8", method)
		}
	}
	return encodeJSON("AuthMethods", methods, len(methods))
}

// encodeJSON returns text that people who look at the table can read, or nil if there are no
// elements.
func encodeJSON(field string, value any, elements int) (any, error) {
	if elements == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("%s: %w", field, err)
	}
	text := strings.TrimSuffix(b.String(), "\n")
	if len(text) > maxJSON {
		return nil, fmt.Errorf("%s of %d bytes as JSON: cannot be longer than %d",
			field, len(text), maxJSON)
	}
	return text, nil
}

func decodeAttributes(text sql.NullString) (map[string]string, error) {
	if !text.Valid {
		return nil, nil
	}
	var attributes map[string]string
	if err := json.Unmarshal([]byte(text.String), &attributes); err != nil {
		return nil, fmt.Errorf("no JSON object of strings: %w", err)
	}
	if len(attributes) == 0 {
		return nil, nil
	}
	return attributes, nil
}

func decodeMethods(text sql.NullString) ([]string, error) {
	if !text.Valid {
		return nil, nil
	}
	var methods []string
	if err := json.Unmarshal([]byte(text.String), &methods); err != nil {
		return nil, fmt.Errorf("no JSON array of strings: %w", err)
	}
	if len(methods) == 0 {
		return nil, nil
	}
	return methods, nil
}

// A row is what a statement returned of one session.
type row struct {
	rec   tokensession.Record
	found bool // false where a confirmation returned no session
	err   error

	format sql.NullInt64
}

// A column scans one value of a row. It does not fail, because one value that cannot be read must
// not hide the rows after it: it notes why the row cannot be read.
type column func(value any) error

// Scan implements [sql.Scanner].
func (c column) Scan(value any) error { return c(value) }

// columns returns what scans the selected columns, in their order.
func (r *row) columns(d Dialect) []any {
	rec := &r.rec
	noted := func(name string, scan func(value any) error) column {
		return func(value any) error {
			if err := scan(value); err != nil && r.err == nil {
				r.err = fmt.Errorf("%s: %w", name, err)
			}
			return nil
		}
	}
	text := func(name string, dest *string) column {
		return noted(name, func(value any) error {
			var s sql.NullString
			err := s.Scan(value)
			*dest = s.String
			return err
		})
	}
	present := func(name string, dest *string) column {
		scan := text(name, dest)
		return noted(name, func(value any) error {
			return errors.Join(notNull(value), scan(value))
		})
	}
	number := func(name string, dest *uint64, required bool) column {
		return noted(name, func(value any) error {
			var n sql.NullInt64
			err := n.Scan(value)
			switch {
			case err == nil && n.Int64 < 0:
				return errors.New("a negative number")
			case err == nil && required:
				err = notNull(value)
			}
			*dest = uint64(n.Int64)
			return err
		})
	}
	at := func(name string, dest *time.Time) column { return noted(name, timeColumn{d, dest}.Scan) }
	return []any{
		noted("id", func(value any) error {
			r.found = value != nil
			return text("id", &rec.ID)(value)
		}),
		present("issuer", &rec.Issuer), present("subject", &rec.Subject),
		text("client_id", &rec.ClientID), text("actor", &rec.Actor),
		noted("attributes", func(value any) (err error) {
			var s sql.NullString
			if err = s.Scan(value); err == nil {
				rec.Attributes, err = decodeAttributes(s)
			}
			return err
		}),
		noted("auth_methods", func(value any) (err error) {
			var s sql.NullString
			if err = s.Scan(value); err == nil {
				rec.AuthMethods, err = decodeMethods(s)
			}
			return err
		}),
		text("auth_context", &rec.AuthContext), text("key_thumbprint", &rec.KeyThumbprint),
		text("revoke_reason", (*string)(&rec.RevokeReason)),
		noted("mac_key", func(value any) error {
			var b sql.Null[[]byte]
			err := b.Scan(value)
			rec.Key = b.V
			return err
		}),
		present("write_id", &rec.WriteID),
		at("auth_time", &rec.AuthTime), at("created_at", &rec.CreatedAt),
		at("rotated_at", &rec.RotatedAt), at("consumed_at", &rec.ConsumedAt),
		at("expires_at", &rec.ExpiresAt),
		at("max_expires_at", &rec.MaxExpiresAt), at("revoked_at", &rec.RevokedAt),
		at("outdated_at", &rec.OutdatedAt),
		noted("idle_ttl", func(value any) error {
			var us sql.NullInt64
			if err := us.Scan(value); err != nil {
				return err
			}
			if us.Int64 < 0 || us.Int64 > math.MaxInt64/int64(time.Microsecond) {
				return errors.New("no period of time")
			}
			rec.IdleTTL = time.Duration(us.Int64) * time.Microsecond
			return nil
		}),
		number("generation", &rec.Generation, true), number("predecessor", &rec.Predecessor, true),
		number("version", &rec.Version, true), number("epoch", &rec.Epoch, false),
		noted("transient", func(value any) error {
			var b sql.NullBool
			err := b.Scan(value)
			rec.Transient = b.Bool
			return err
		}),
		noted("format", r.format.Scan),
	}
}

// notNull refuses NULL in a column that has none: the values are not those of this row.
func notNull(value any) error {
	if value == nil {
		return errors.New("there is no value")
	}
	return nil
}

// scanRow reads a row of the selected columns. Others may go before them.
func (d Dialect) scanRow(rows *sql.Rows, before ...any) (row, error) {
	var r row
	if err := rows.Scan(append(before, r.columns(d)...)...); err != nil {
		return row{}, err
	}
	if !r.found {
		return row{}, nil
	}
	if r.format.Valid {
		r.err = newerFormat(r.format.Int64)
	}
	if r.err != nil {
		r.err = unreadable(r.rec.ID, r.err)
	}
	return r, nil
}

func newerFormat(format int64) error {
	return fmt.Errorf("a later version has written it, in format %d", format)
}

func unreadable(id string, err error) error {
	return fmt.Errorf("%w: session %q: %w", tokensession.ErrUnreadable, id, err)
}

// scanRows reads rows of the selected columns to their end and closes them.
func (d Dialect) scanRows(rows *sql.Rows) ([]row, error) {
	defer rows.Close()
	var all []row
	for rows.Next() {
		r, err := d.scanRow(rows)
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	return all, rows.Err()
}

// maxTold bounds how many sessions that cannot be read an error names.
const maxTold = 10

// records returns the sessions that can be read, oldest first, and an error that names the others.
func records(rows []row) ([]tokensession.Record, error) {
	var recs []tokensession.Record
	var failed unreadables
	for _, r := range rows {
		if r.err != nil {
			failed.add(r.err)
			continue
		}
		recs = append(recs, r.rec)
	}
	// The databases differ on where an unknown time goes.
	slices.SortFunc(recs, func(a, b tokensession.Record) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
	return recs, failed.err()
}

// unreadables are the sessions that could not be read.
type unreadables struct {
	told []error
	n    int
}

func (u *unreadables) add(err error) {
	if u.n++; u.n <= maxTold {
		u.told = append(u.told, err)
	}
}

func (u *unreadables) err() error {
	if u.n > maxTold {
		return fmt.Errorf("%w\nand %d more", errors.Join(u.told...), u.n-maxTold)
	}
	return errors.Join(u.told...)
}

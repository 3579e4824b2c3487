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

// The columns' sizes in bytes. All dialects have the same, so that a host can move from one to another; and they are
// checked here, for MySQL outside its strict mode cuts what is longer without saying so.
const (
	maxID         = 64
	maxText       = 255
	maxKey        = 255
	maxAttributes = 65_535
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
	for _, text := range []struct {
		field, value string
		limit        int
	}{
		{"ID", rec.ID, maxID}, {"WriteID", rec.WriteID, maxID}, {"Subject", rec.Subject, maxText},
		{"ClientID", rec.ClientID, maxText}, {"RevokeReason", string(rec.RevokeReason), maxText},
	} {
		if err := checkText(text.value, text.limit); err != nil {
			return nil, fmt.Errorf("%s %w", text.field, err)
		}
	}
	if len(rec.Key) > maxKey {
		return nil, fmt.Errorf("%s of %d bytes: cannot be longer than %d", "Key", len(rec.Key), maxKey)
	}
	for _, number := range []struct {
		field string
		value uint64
	}{{"Version", rec.Version}, {"Generation", rec.Generation}, {"Predecessor", rec.Predecessor}} {
		if number.value > math.MaxInt64 {
			return nil, fmt.Errorf("%s %d: cannot be greater than %d, the greatest BIGINT", number.field, number.value, int64(math.MaxInt64))
		}
	}
	attributes, err := encodeAttributes(rec.Attributes)
	if err != nil {
		return nil, err
	}
	args := []any{rec.ID, rec.Subject, rec.ClientID, attributes}
	for _, t := range []time.Time{rec.AuthTime, rec.CreatedAt, rec.RotatedAt, rec.ConsumedAt, rec.ExpiresAt, rec.MaxExpiresAt, rec.RevokedAt} {
		arg, err := d.timeArg(t)
		if err != nil {
			return nil, err
		}
		args = append(args, arg)
	}
	return append(args, string(rec.RevokeReason), int64(rec.Generation), int64(rec.Predecessor), rec.Key, int64(rec.Version), rec.WriteID), nil
}

// instantArg returns t as an argument that is never NULL.
func (d Dialect) instantArg(t time.Time) (any, error) {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	return d.timeArg(t)
}

// checkRevocation refuses what RevokeSubject could not write.
func checkRevocation(at time.Time, reason tokensession.Reason, writeID string) error {
	if at.IsZero() {
		return errors.New("the time is zero")
	}
	if err := checkText(string(reason), maxText); err != nil {
		return fmt.Errorf("reason %w", err)
	}
	if err := checkText(writeID, maxID); err != nil {
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
	if len(attributes) == 0 {
		return nil, nil
	}
	for name, value := range attributes {
		if !utf8.ValidString(name) || !utf8.ValidString(value) {
			return nil, fmt.Errorf("attribute %q: not valid UTF-8", name)
		}
	}
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false) // for who reads the table
	if err := encoder.Encode(attributes); err != nil {
		return nil, fmt.Errorf("attributes: %w", err)
	}
	text := strings.TrimSuffix(b.String(), "\n")
	if len(text) > maxAttributes {
		return nil, fmt.Errorf("attributes of %d bytes as JSON: cannot be longer than %d", len(text), maxAttributes)
	}
	return text, nil
}

func decodeAttributes(text sql.NullString) (map[string]string, error) {
	if !text.Valid {
		return nil, nil
	}
	var attributes map[string]string
	if err := json.Unmarshal([]byte(text.String), &attributes); err != nil {
		return nil, fmt.Errorf("the attributes are no JSON object of strings: %w", err)
	}
	if len(attributes) == 0 {
		return nil, nil
	}
	return attributes, nil
}

// scanRecords reads rows of columns to their end and closes them.
func (d Dialect) scanRecords(rows *sql.Rows) ([]tokensession.Record, error) {
	defer rows.Close()
	var records []tokensession.Record
	for rows.Next() {
		rec, err := d.scanRecord(rows)
		if err != nil {
			return nil, err
		}
		records = append(records, rec)
	}
	return records, rows.Err()
}

func (d Dialect) scanRecord(rows *sql.Rows) (tokensession.Record, error) {
	var rec tokensession.Record
	var attributes sql.NullString
	var reason string
	var generation, predecessor, version int64
	at := func(t *time.Time) timeColumn { return timeColumn{d, t} }
	err := rows.Scan(&rec.ID, &rec.Subject, &rec.ClientID, &attributes,
		at(&rec.AuthTime), at(&rec.CreatedAt), at(&rec.RotatedAt), at(&rec.ConsumedAt), at(&rec.ExpiresAt), at(&rec.MaxExpiresAt), at(&rec.RevokedAt),
		&reason, &generation, &predecessor, &rec.Key, &version, &rec.WriteID)
	if err != nil {
		return tokensession.Record{}, err
	}
	if generation < 0 || predecessor < 0 || version < 0 {
		return tokensession.Record{}, fmt.Errorf("record %q: a negative number: the row was changed by hand", rec.ID)
	}
	rec.Generation, rec.Predecessor, rec.Version = uint64(generation), uint64(predecessor), uint64(version)
	rec.RevokeReason = tokensession.Reason(reason)
	rec.Attributes, err = decodeAttributes(attributes)
	if err != nil {
		return tokensession.Record{}, fmt.Errorf("record %q: %w", rec.ID, err)
	}
	return rec, nil
}

// scanRevocations reads rows of id and revoked_at to their end and closes them.
func (d Dialect) scanRevocations(rows *sql.Rows) ([]tokensession.Revocation, error) {
	defer rows.Close()
	var revocations []tokensession.Revocation
	for rows.Next() {
		var r tokensession.Revocation
		if err := rows.Scan(&r.SessionID, timeColumn{d, &r.At}); err != nil {
			return nil, err
		}
		revocations = append(revocations, r)
	}
	return revocations, rows.Err()
}

// sortByAge puts the oldest first. The databases differ on where an unknown time goes.
func sortByAge(records []tokensession.Record) {
	slices.SortFunc(records, func(a, b tokensession.Record) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), cmp.Compare(a.ID, b.ID))
	})
}

package redisstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// The fields of a session's hash. What an operator reads or writes is plain. All the rest is the
// record's binary form, in the fields 0, 1, 2 …: pieces of it, because Redis keeps a hash in one
// compact block of memory as long as no value is longer than 64 bytes. A session so takes half of
// what a field for each of the record's fields takes.
//
// The data, which the pieces make together, is
//
//	2 bytes  how the subject's index lists the session: see index.go
//	1 byte   dataFormat
//	         the record's binary form, without what the key and the plain fields say
//
// The binary form begins with its own format and the write ID, so that both are in the first piece.
// The scripts compare them there.
const (
	fieldVersion   = "version"
	fieldSubject   = "subject"
	fieldRevokedAt = "revoked_at" // there only when the session is revoked
	fieldOutdated  = "outdated"   // epoch, space, time; there only when the session has both
	fieldData      = "0"          // the first piece

	// dataFormat is the form of the hash. A later version that writes another one counts it up, and
	// this version then reports its sessions as unreadable.
	dataFormat = 1
	markSize   = 2
	dataHead   = markSize + 1 // bytes before the binary form

	pieceSize = 63 // takes a byte less than 64 would

	// Data that is longer is one piece. Redis then keeps the hash in its large form.
	longestInPieces = 16 * pieceSize
)

// timeLayout is RFC 3339 in UTC, always with microseconds, so that it sorts as text.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// A row is a record as the scripts write it.
type row struct {
	mark     mark
	version  string
	write    string // what the data has behind the mark, up to the end of the write ID
	replaces string // the same of the record that a Swap replaces
	outdated string // the field's value; empty: there is no such field
	first    string // the first piece of the data
	pieces   int    // of the data
	fields   []any  // all fields but the subject, names and values in turn
}

// encode makes a row of a record.
func encode(rec tokensession.Record) (row, error) {
	r := row{mark: markOf(rec), version: strconv.FormatUint(rec.Version, 10),
		outdated: outdatedOf(rec)}
	bare := rec
	bare.ID, bare.Subject, bare.Version = "", "", 0
	b, err := bare.AppendBinary(append(make([]byte, 0, 256), r.mark.class, r.mark.bucket,
		dataFormat))
	if err != nil {
		return row{}, fmt.Errorf("redisstore: session %s: %w", rec.ID, err)
	}
	formats := b[markSize : dataHead+1]
	r.write, r.replaces = writeOf(formats, rec.WriteID), writeOf(formats, rec.Replaces)

	data, size := string(b), pieceSize
	if len(data) > longestInPieces {
		size = len(data)
	}
	r.first = data[:min(size, len(data))]
	if markSize+len(r.write) > len(r.first) {
		return row{}, fmt.Errorf("redisstore: session %s: its WriteID has %d bytes, which is too long",
			rec.ID, len(rec.WriteID))
	}
	r.fields = append(make([]any, 0, 20), fieldVersion, r.version)
	if !rec.RevokedAt.IsZero() {
		r.fields = append(r.fields, fieldRevokedAt, rec.RevokedAt.UTC().Format(timeLayout))
	}
	if r.outdated != "" {
		r.fields = append(r.fields, fieldOutdated, r.outdated)
	}
	for ; data != ""; r.pieces++ {
		n := min(size, len(data))
		r.fields = append(r.fields, strconv.Itoa(r.pieces), data[:n])
		data = data[n:]
	}
	return r, nil
}

// writeOf returns what the data of a write with this ID has behind the mark.
func writeOf(formats []byte, writeID string) string {
	b := binary.AppendUvarint(append(make([]byte, 0, 32), formats...), uint64(len(writeID)))
	return string(append(b, writeID...))
}

func outdatedOf(rec tokensession.Record) string {
	if rec.Epoch == 0 || rec.OutdatedAt.IsZero() {
		return ""
	}
	return strconv.FormatUint(rec.Epoch, 10) + " " + rec.OutdatedAt.UTC().Format(timeLayout)
}

// decode makes a record of the hash that encode made. The error says what is wrong, and wraps
// [tokensession.ErrUnreadable].
func decode(id string, fields map[string]string) (tokensession.Record, error) {
	data, err := dataOf(fields)
	if err != nil {
		return tokensession.Record{}, err
	}
	var rec tokensession.Record
	if err := rec.UnmarshalBinary(data); err != nil {
		return tokensession.Record{}, fmt.Errorf("%w: %w", tokensession.ErrUnreadable, err)
	}
	version := fields[fieldVersion]
	if rec.Version, err = parseUint(version); err != nil {
		return tokensession.Record{}, unreadable("%s is %q, not a number of 64 bits", fieldVersion,
			version)
	}
	subject, ok := fields[fieldSubject]
	if !ok {
		return tokensession.Record{}, unreadable("%s is missing", fieldSubject)
	}
	rec.ID, rec.Subject = id, subject
	switch revokedAt, ok := fields[fieldRevokedAt]; {
	case ok:
		return revokedAs(rec, revokedAt)
	case !rec.RevokedAt.IsZero(): // it must not read as "not revoked"
		return tokensession.Record{}, unreadable("%s is missing", fieldRevokedAt)
	}
	return rec, nil
}

// revokedAs gives the record the time in the plain field. If the data does not say it, an operator
// has written it.
func revokedAs(rec tokensession.Record, text string) (tokensession.Record, error) {
	at, err := parseTime(text)
	if err != nil {
		return tokensession.Record{}, fmt.Errorf("%s: %w", fieldRevokedAt, err)
	}
	if rec.RevokedAt.IsZero() {
		rec.RevokeReason = tokensession.ReasonRevoked
	}
	rec.RevokedAt = at
	return rec, nil
}

// dataOf puts the pieces together and returns the record's binary form.
func dataOf(fields map[string]string) ([]byte, error) {
	if err := checkFormat(fields[fieldData]); err != nil {
		return nil, err
	}
	data := make([]byte, 0, 256)
	for i := 0; ; i++ {
		piece, ok := fields[strconv.Itoa(i)]
		if !ok {
			return data[dataHead:], nil
		}
		data = append(data, piece...)
	}
}

// checkFormat returns an error unless the first piece of the data is one that this version can
// read.
func checkFormat(first string) error {
	switch {
	case len(first) < dataHead:
		return unreadable("field %s is missing or too short", fieldData)
	case first[markSize] != dataFormat:
		return unreadable("it is of format %d, and this version reads %d", first[markSize],
			dataFormat)
	}
	return nil
}

func unreadable(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{tokensession.ErrUnreadable}, args...)...)
}

// parseTime reads a time in the form of RFC 3339, which operators may write in other ways than
// encode does. It cuts it to microseconds.
func parseTime(text string) (time.Time, error) {
	t, err := time.Parse(time.RFC3339Nano, text)
	t = t.UTC().Truncate(time.Microsecond)
	if err != nil || t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}, unreadable("%q is not a time of the form %s", text, timeLayout)
	}
	return t, nil
}

// parseOutdated reads the field outdated.
func parseOutdated(text string) (epoch uint64, at time.Time, err error) {
	number, rest, _ := strings.Cut(text, " ")
	if epoch, err = parseUint(number); err != nil || epoch == 0 {
		return 0, time.Time{}, unreadable("%s is %q, not an epoch and a time", fieldOutdated, text)
	}
	at, err = parseTime(rest)
	return epoch, at, err
}

// parseUint reads a number as encode writes it.
func parseUint(text string) (uint64, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || len(text) > 1 && text[0] == '0' {
		return 0, errors.New("not a number")
	}
	return n, nil
}

package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/seed67bc9b7f/tokensession/keyring"
)

// The signing keys of package keyring are in a table of their own. The table's name is that of the
// sessions with _keys behind it, so each table of sessions has one ring.

var _ keyring.Store = (*Store)(nil)

// keyQueries are the statements for the table of signing keys.
type keyQueries struct {
	list, seal, drop  statement
	addFirst, addNext string
}

func newKeyQueries(t tableName) keyQueries {
	d, table := t.dialect, t.quoted("_keys")
	text := func(s string) statement { return statement{text: d.rebind(s)} }
	made, from := "made_at", "sign_from"
	if d == MySQL { // see selectable
		made, from = "CAST(made_at AS CHAR)", "CAST(sign_from AS CHAR)"
	}
	add := "INSERT INTO " + table + " (id, predecessor, algorithm, made_at, sign_from, sealed) SELECT " +
		d.keyParameters() + " WHERE "
	return keyQueries{
		list: text(d.fromPrimary() + "SELECT id, predecessor, algorithm, " + made + ", " + from + ", sealed FROM " + table + d.all()),

		// What these two statements look for, another instance may do at the same moment. Then the
		// column predecessor, which is unique, lets one of them win.
		addFirst: d.rebind(add + "NOT EXISTS (SELECT 1 FROM " + table + ")"),
		addNext: d.rebind(add + "EXISTS (SELECT 1 FROM " + table + " WHERE id = ?)" +
			" AND NOT EXISTS (SELECT 1 FROM " + table + " WHERE predecessor = ?)"),

		seal: text("UPDATE " + table + " SET sealed = ? WHERE id = ?"),
		drop: text("DELETE FROM " + table + " WHERE id = ?"),
	}
}

// keyParameters are the columns of a key as a SELECT that no table is needed for. The types have to
// be said there, because nothing else tells them.
func (d Dialect) keyParameters() string {
	switch d {
	case PostgreSQL:
		return "CAST(? AS text), CAST(? AS text), CAST(? AS text), CAST(? AS timestamptz), " +
			"CAST(? AS timestamptz), CAST(? AS bytea)"
	case MySQL:
		return "CAST(? AS BINARY), CAST(? AS BINARY), CAST(? AS BINARY), CAST(? AS DATETIME(6)), " +
			"CAST(? AS DATETIME(6)), CAST(? AS BINARY) FROM DUAL"
	}
	return "?, ?, ?, ?, ?, ?"
}

// Keys implements [keyring.Store].
func (s *Store) Keys(ctx context.Context) ([]keyring.SealedKey, error) {
	var keys []keyring.SealedKey
	err := s.do(ctx, "list signing keys", func() error {
		rows, err := s.query(ctx, &s.keys.list)
		if err != nil {
			return err
		}
		keys, err = s.scanKeys(rows)
		return err
	})
	return keys, err
}

func (s *Store) scanKeys(rows *sql.Rows) (keys []keyring.SealedKey, err error) {
	defer rows.Close()
	for rows.Next() {
		var k keyring.SealedKey
		err := rows.Scan(&k.ID, &k.Predecessor, &k.Algorithm,
			timeColumn{s.dialect, &k.MadeAt}, timeColumn{s.dialect, &k.SignFrom}, &k.Sealed)
		if err != nil {
			return nil, err
		}
		keys = append(keys, k)
	}
	return keys, rows.Err()
}

// AddKey implements [keyring.Store]. Whatever the statement's error, the table says afterwards what
// happened, so that no driver's error has to be understood.
func (s *Store) AddKey(ctx context.Context, key keyring.SealedKey) error {
	const doing = "add a signing key"
	args, err := s.dialect.keyArgs(key)
	if err != nil {
		return fmt.Errorf("sqlstore: %s: %w", doing, err)
	}
	insert := s.keys.addFirst
	if key.Predecessor != "" {
		insert, args = s.keys.addNext, append(args, key.Predecessor, key.Predecessor)
	}
	added := 0
	err = s.do(ctx, doing, func() error {
		added, err = s.insertKey(ctx, insert, args)
		return err
	})
	if err == nil && added == 1 {
		return nil
	}
	stored, listErr := s.Keys(ctx)
	if listErr != nil {
		return errors.Join(err, listErr)
	}
	taken, known := key.Predecessor == "" && len(stored) > 0, false
	for _, other := range stored {
		if other.ID == key.ID {
			return s.sealAgain(ctx, key)
		}
		known = known || other.ID == key.Predecessor
		taken = taken || key.Predecessor != "" && other.Predecessor == key.Predecessor
	}
	switch {
	case taken, err == nil && !known && key.Predecessor != "":
		return fmt.Errorf("sqlstore: %w: key %q", keyring.ErrExists, key.Predecessor)
	case err != nil:
		return err
	}
	return s.explain(ctx, doing,
		fmt.Errorf("%w: the key was not added, and nothing is in its place", errOtherAnswer))
}

// insertKey runs a statement that adds a key, and returns how many it added. MySQL would lock the
// gaps between the keys that the statement reads, so that instances which add one at the same
// moment lock each other out, again and again. In READ COMMITTED it does not.
func (s *Store) insertKey(ctx context.Context, text string, args []any) (int, error) {
	if s.dialect != MySQL {
		return s.execMany(ctx, text, args)
	}
	if err := s.askDriver(ctx); err != nil {
		return 0, err
	}
	n, err := s.execReadCommitted(ctx, text, args)
	if s.sendText(err) {
		return s.execReadCommitted(ctx, text, args)
	}
	return n, err
}

// sealAgain replaces what is sealed of a key that is there. MySQL may count no row where that is
// the same already.
func (s *Store) sealAgain(ctx context.Context, key keyring.SealedKey) error {
	_, err := s.change(ctx, "seal a signing key again", &s.keys.seal, key.Sealed, key.ID)
	return err
}

// DropKey implements [keyring.Store].
func (s *Store) DropKey(ctx context.Context, id string) error {
	if checkText(id, maxID) != nil { // no key can have it
		return ctx.Err()
	}
	_, err := s.change(ctx, "drop a signing key", &s.keys.drop, id)
	return err
}

// maxSealed is what MySQL's BLOB holds.
const maxSealed = 1<<16 - 1

// keyArgs returns the key as arguments of a statement, or says what cannot be kept as it is.
func (d Dialect) keyArgs(key keyring.SealedKey) ([]any, error) {
	for _, text := range []string{key.ID, key.Predecessor, key.Algorithm} {
		if err := checkText(text, maxID); err != nil {
			return nil, fmt.Errorf("key %q: %w", key.ID, err)
		}
	}
	if len(key.Sealed) > maxSealed {
		return nil, fmt.Errorf("key %q: sealed, it has %d bytes: cannot be more than %d",
			key.ID, len(key.Sealed), maxSealed)
	}
	args := []any{key.ID, key.Predecessor, key.Algorithm}
	for _, at := range []time.Time{key.MadeAt, key.SignFrom} {
		arg, err := d.instantArg(at)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", key.ID, err)
		}
		args = append(args, arg)
	}
	return append(args, key.Sealed), nil
}

// Package sqlstore keeps tokensession's sessions in a database that the host runs already: PostgreSQL, MySQL, MariaDB or
// SQLite. The host opens the pool with a driver of its choice; this module brings none.
//
//	db, err := sql.Open("pgx", "postgres://…")
//	…
//	store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Config{})
//	…
//	if err := store.Migrate(ctx); err != nil { … } // or apply the SQL of Schema
//	m, err := tokensession.New(signer, store, tokensession.Config{})
//
// A session is one row with plain columns, for ever: a refresh is one SELECT by primary key and one conditional UPDATE.
// Each write is a statement of its own, so that nothing is held between them. The README says what a crash or a failover
// of each server can lose, and which settings prevent it.
//
// The store must read what it wrote: give it the primary, never a read replica.
package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// Config holds what can be chosen of a [Store]. The zero value is the default.
type Config struct {
	// Table is the sessions' table, token_sessions if empty: ASCII letters, digits and underscores, at most 48, and not
	// beginning with a digit. It is quoted, so its case counts and it may be a reserved word. In PostgreSQL it may be
	// preceded by a schema and a dot, in MySQL by a database and a dot. Migrate does not create these. A second table
	// beside it, with the suffix _schema, says which migrations were applied.
	Table string
}

// A Store keeps sessions in a table. It is safe for concurrent use by any number of goroutines, and any number of
// processes may have one on the same table. Make it with [New].
type Store struct {
	db      *sql.DB
	dialect Dialect
	table   tableName

	*queries
}

var (
	_ tokensession.RefreshStore   = (*Store)(nil)
	_ tokensession.Sweeper        = (*Store)(nil)
	_ tokensession.RevocationFeed = (*Store)(nil)
	_ tokensession.SubjectRevoker = (*Store)(nil)
)

// New returns a store on the database that db is a pool of. It does not connect. The pool remains the host's, who closes
// it after the last use of the store.
func New(db *sql.DB, dialect Dialect, cfg Config) (*Store, error) {
	if db == nil {
		return nil, errors.New("sqlstore: New: db is nil")
	}
	if err := dialect.check(); err != nil {
		return nil, fmt.Errorf("sqlstore: New: dialect %w", err)
	}
	if err := dialect.checkDriver(db); err != nil {
		return nil, fmt.Errorf("sqlstore: New: dialect %w", err)
	}
	table, err := parseTable(dialect, cfg.Table)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: New: Config.Table %w", err)
	}
	return &Store{db: db, dialect: dialect, table: table, queries: newQueries(table)}, nil
}

// Create implements [tokensession.RefreshStore].
func (s *Store) Create(ctx context.Context, rec tokensession.Record) error {
	args, err := s.dialect.recordArgs(rec)
	if err != nil {
		return fmt.Errorf("sqlstore: create session: %w", err)
	}
	sweepAt, err := s.dialect.instantArg(rec.ExpiresAt)
	if err != nil {
		return fmt.Errorf("sqlstore: create session: %w", err)
	}
	return s.do(ctx, "create session", func() error {
		_, err := s.exec(ctx, &s.create, append([]any{sweepAt}, args...)...)
		if err == nil {
			return nil
		}
		// Whatever the error, a row with this ID says why, and no driver's error has to be understood.
		stored, found, stateErr := s.storedState(ctx, rec.ID)
		switch {
		case stateErr != nil || !found:
			return err
		case stored == stateOf(rec):
			return nil
		}
		return fmt.Errorf("%w: session %q", tokensession.ErrExists, rec.ID)
	})
}

// Load implements [tokensession.RefreshStore].
func (s *Store) Load(ctx context.Context, id string) (tokensession.Record, error) {
	records, err := s.records(ctx, "load session", &s.load, id)
	if err != nil {
		return tokensession.Record{}, err
	}
	if len(records) == 0 {
		return tokensession.Record{}, fmt.Errorf("sqlstore: %w: session %q", tokensession.ErrNotFound, id)
	}
	return records[0], nil
}

// Swap implements [tokensession.RefreshStore].
func (s *Store) Swap(ctx context.Context, next tokensession.Record) error {
	args, err := s.dialect.recordArgs(next)
	if err != nil {
		return fmt.Errorf("sqlstore: swap session: %w", err)
	}
	sweepAt, err := s.dialect.instantArg(next.ExpiresAt)
	if err != nil {
		return fmt.Errorf("sqlstore: swap session: %w", err)
	}
	args = slices.Concat([]any{sweepAt}, args[1:], []any{next.ID, int64(next.Version) - 1})
	return s.do(ctx, "swap session", func() error {
		if n, err := s.exec(ctx, &s.swap, args...); err != nil || n == 1 {
			return err
		}
		stored, found, err := s.storedState(ctx, next.ID)
		switch {
		case err != nil:
			return err
		case !found:
			return fmt.Errorf("%w: session %q", tokensession.ErrNotFound, next.ID)
		case stored == stateOf(next):
			return nil // the driver sent it twice, for the first reply was lost
		}
		return fmt.Errorf("%w: session %q: version %d is stored, or it is revoked; %d was to be replaced",
			tokensession.ErrConflict, next.ID, stored.version, next.Version-1)
	})
}

// List implements [tokensession.RefreshStore]. It leaves out what is revoked.
func (s *Store) List(ctx context.Context, subject string) ([]tokensession.Record, error) {
	records, err := s.records(ctx, "list sessions", &s.list, subject)
	sortByAge(records)
	return records, err
}

// Sweep implements [tokensession.Sweeper].
func (s *Store) Sweep(ctx context.Context, now time.Time, limit int) (int, error) {
	at, err := s.dialect.timeArg(now)
	if err != nil {
		return 0, fmt.Errorf("sqlstore: sweep: %w", err)
	}
	dropped := 0
	for dropped < limit {
		batch := limit - dropped
		n, err := s.change(ctx, "sweep", &s.dropDue, at, batch, at)
		dropped += n
		if err != nil || n == batch {
			return dropped, err
		}
		if n, err = s.change(ctx, "sweep", &s.moveDue, at, batch, at); err != nil || n == 0 {
			return dropped, err
		}
	}
	return dropped, nil
}

// RevokedSince implements [tokensession.RevocationFeed].
func (s *Store) RevokedSince(ctx context.Context, since time.Time) ([]tokensession.Revocation, error) {
	at, err := s.dialect.instantArg(since)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: read revocations: %w", err)
	}
	var revocations []tokensession.Revocation
	err = s.do(ctx, "read revocations", func() error {
		rows, err := s.query(ctx, &s.revokedSince, at)
		if err != nil {
			return err
		}
		revocations, err = s.dialect.scanRevocations(rows)
		return err
	})
	return revocations, err
}

// RevokeSubject implements [tokensession.SubjectRevoker]: in one statement, and one more that reads what it did.
func (s *Store) RevokeSubject(ctx context.Context, subject string, keep []string, at time.Time, reason tokensession.Reason, writeID string) ([]tokensession.Record, error) {
	const doing = "revoke a subject's sessions"
	if err := checkRevocation(at, reason, writeID); err != nil {
		return nil, fmt.Errorf("sqlstore: %s: %w", doing, err)
	}
	if checkText(subject, maxText) != nil {
		return nil, nil // no record can have it
	}
	when, err := s.dialect.timeArg(at)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %s: %w", doing, err)
	}
	text, args := s.revokeSubject, []any{when, when, string(reason), writeID, subject, when}
	keep = slices.DeleteFunc(slices.Clone(keep), func(id string) bool { return checkText(id, maxID) != nil }) // as above
	for i, id := range keep {
		text += []string{" AND id NOT IN (?", ", ?"}[min(i, 1)]
		args = append(args, id)
	}
	if len(keep) > 0 {
		text += ")"
	}
	if err := s.do(ctx, doing, func() error { return s.execMany(ctx, s.dialect.rebind(text), args) }); err != nil {
		return nil, err
	}
	records, err := s.records(ctx, doing, &s.revokedBy, subject, writeID)
	sortByAge(records)
	return records, err
}

// records returns the records that a statement selects by keys. There is none where a key is nothing that could be stored.
func (s *Store) records(ctx context.Context, doing string, st *statement, keys ...any) ([]tokensession.Record, error) {
	var records []tokensession.Record
	err := s.do(ctx, doing, func() error {
		for _, key := range keys {
			if checkText(key.(string), maxText) != nil {
				return nil
			}
		}
		rows, err := s.query(ctx, st, keys...)
		if err != nil {
			return err
		}
		records, err = s.dialect.scanRecords(rows)
		return err
	})
	return records, err
}

// change runs a statement and returns the number of rows it changed.
func (s *Store) change(ctx context.Context, doing string, st *statement, args ...any) (n int, err error) {
	err = s.do(ctx, doing, func() error {
		n, err = s.exec(ctx, st, args...)
		return err
	})
	return n, err
}

// A state tells one write of a record from all others.
type state struct {
	version uint64
	writeID string
}

func stateOf(rec tokensession.Record) state { return state{rec.Version, rec.WriteID} }

func (s *Store) storedState(ctx context.Context, id string) (stored state, found bool, err error) {
	rows, err := s.query(ctx, &s.state, id)
	if err != nil {
		return state{}, false, err
	}
	defer rows.Close()
	for rows.Next() {
		if err := rows.Scan(&stored.version, &stored.writeID); err != nil {
			return state{}, false, err
		}
		found = true
	}
	return stored, found, rows.Err()
}

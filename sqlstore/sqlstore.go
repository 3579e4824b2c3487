// Package sqlstore keeps tokensession's sessions in a database that the host runs already:
// PostgreSQL, MySQL, MariaDB or SQLite. The host opens the pool with a driver of its choice. This
// module brings none.
//
//	db, err := sql.Open("pgx", "postgres://…")
//	…
//	store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Config{})
//	…
//	if err := store.Migrate(ctx); err != nil { … } // or apply the SQL of Schema
//	m, err := tokensession.New(signer, store, tokensession.Config{})
//
// A session is one row with plain columns, for ever. A refresh is one conditional UPDATE by primary
// key, and one SELECT before it at an instance that has not written the session last. Each write is
// a statement of its own, so that nothing is held between them.
// The README says what a crash or a failover of each server can lose, and which settings prevent
// it.
//
// The store must read what it wrote: give it the primary, never a read replica. Before it says that
// there is no session, it asks again in a way that a replica, or a pooler that mixes up statements,
// does not answer. So such a mistake is an error and not a logout.
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
	// Table is the sessions' table, token_sessions if empty: ASCII letters, digits and underscores,
	// at most 48, and not beginning with a digit. It is quoted, so its case counts and it may be a
	// reserved word. In PostgreSQL it may be preceded by a schema and a dot, in MySQL by a database
	// and a dot. Migrate does not create these. Beside it are a table with the suffix _schema,
	// which says which migrations were applied, and one with the suffix _keys, for the keys of
	// package keyring.
	Table string

	// Now is the clock with which Check and Sweep compare the server's. Default: time.Now.
	Now func() time.Time
}

// A Store keeps sessions in a table. It is safe for concurrent use by any number of goroutines, and
// any number of processes may have one on the same table. Make it with [New].
type Store struct {
	db      *sql.DB
	dialect Dialect
	table   tableName
	now     func() time.Time

	*queries
	sending sending

	byID, bySubject confirmer
}

var (
	_ tokensession.RefreshStore   = (*Store)(nil)
	_ tokensession.Sweeper        = (*Store)(nil)
	_ tokensession.RevocationFeed = (*Store)(nil)
	_ tokensession.SubjectRevoker = (*Store)(nil)
)

// New returns a store on the database that db is a pool of. It does not connect. The pool remains
// the host's, who closes it after the last use of the store.
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
	s := &Store{db: db, dialect: dialect, table: table, now: cfg.Now, queries: newQueries(table)}
	if s.now == nil {
		s.now = time.Now
	}
	s.byID.ask = func(ctx context.Context, keys []string) (map[string][]row, error) {
		return s.ask(ctx, s.confirmIDs, keys)
	}
	s.bySubject.ask = func(ctx context.Context, keys []string) (map[string][]row, error) {
		return s.ask(ctx, s.confirmSubjects, keys)
	}
	return s, nil
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
		n, err := s.exec(ctx, &s.create, append([]any{sweepAt}, args...)...)
		switch {
		case err == nil && n == 1:
			return nil
		case err == nil:
			err = fmt.Errorf("%w: %d rows were added", errOtherAnswer, n)
		}
		// Whatever the error, a row with this ID says why, and no driver's error has to be
		// understood.
		stored, found, stateErr := s.storedState(ctx, rec.ID)
		switch {
		case stateErr != nil || !found:
			return err
		case stored.of(rec):
			return nil
		}
		return fmt.Errorf("%w: session %q", tokensession.ErrExists, rec.ID)
	})
}

// Load implements [tokensession.RefreshStore].
func (s *Store) Load(ctx context.Context, id string) (tokensession.Record, error) {
	const doing = "load session"
	if err := ctx.Err(); err != nil {
		return tokensession.Record{}, fmt.Errorf("sqlstore: %s: %w", doing, err)
	}
	if checkText(id, maxID) != nil { // no record can have it
		return tokensession.Record{}, notFound(id)
	}
	rows, err := s.rows(ctx, doing, &s.load, id)
	if err != nil {
		return tokensession.Record{}, err
	}
	if len(rows) == 0 {
		return s.confirmedRecord(ctx, id)
	}
	switch r := rows[0]; {
	case r.rec.ID != id || len(rows) > 1:
		return tokensession.Record{}, s.explain(ctx, doing, otherSession(r.rec.ID))
	case r.err != nil:
		return tokensession.Record{}, fmt.Errorf("sqlstore: %s: %w", doing, r.err)
	default:
		return r.rec, nil
	}
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
	args = slices.Concat([]any{sweepAt}, args[1:],
		[]any{next.ID, int64(next.Version) - 1, next.Replaces})
	if n, err := s.change(ctx, "swap session", &s.swap, args...); err != nil || n == 1 {
		return err
	}
	return s.whyNotSwapped(ctx, next)
}

// whyNotSwapped returns why no row was replaced by next. It is a verdict only if the row says so,
// or something has confirmed that there is none.
func (s *Store) whyNotSwapped(ctx context.Context, next tokensession.Record) error {
	const doing = "swap session"
	var stored state
	var found bool
	err := s.do(ctx, doing, func() (err error) {
		stored, found, err = s.storedState(ctx, next.ID)
		return err
	})
	if err != nil {
		return err
	}
	if !found {
		rec, err := s.confirmedRecord(ctx, next.ID)
		if err != nil {
			return err
		}
		stored = state{rec.Version, rec.WriteID, !rec.RevokedAt.IsZero()}
	}
	switch {
	case stored.of(next):
		return nil // the driver sent it twice, because the first reply was lost
	case stored == state{next.Version - 1, next.Replaces, false}:
		return s.explain(ctx, doing,
			fmt.Errorf("%w: the row is as it has to be, and was not changed", errOtherAnswer))
	}
	return fmt.Errorf("sqlstore: %w: session %q: version %d of another write is stored, or it is "+
		"revoked; version %d was to be replaced",
		tokensession.ErrConflict, next.ID, stored.version, next.Version-1)
}

// List implements [tokensession.RefreshStore]. It leaves out what is revoked.
func (s *Store) List(ctx context.Context, subject string) ([]tokensession.Record, error) {
	const doing = "list sessions"
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("sqlstore: %s: %w", doing, err)
	}
	if checkText(subject, maxText) != nil {
		return nil, nil // no record can have it
	}
	rows, err := s.rows(ctx, doing, &s.list, subject)
	if err == nil && len(rows) == 0 {
		rows, err = s.bySubject.rows(ctx, subject)
	}
	if err != nil {
		return nil, err
	}
	for _, r := range rows {
		if r.err == nil && r.rec.Subject != subject {
			return nil, s.explain(ctx, doing, otherSession(r.rec.ID))
		}
	}
	recs, err := records(rows)
	if err != nil {
		err = fmt.Errorf("sqlstore: %s: %w", doing, err)
	}
	return recs, err
}

// Sweep implements [tokensession.Sweeper]. Where this clock is ahead of the server's, it drops
// only what has expired by that one, too: a program whose clock is wrong by a week must not drop
// the sessions of everybody.
func (s *Store) Sweep(ctx context.Context, now time.Time, limit int) (int, error) {
	ahead, err := s.ahead(ctx)
	if err != nil {
		return 0, err
	}
	at, err := s.dialect.timeArg(now.Add(-ahead))
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

// rows returns the sessions that a statement selects.
func (s *Store) rows(ctx context.Context, doing string, st *statement, args ...any) ([]row, error) {
	var found []row
	err := s.do(ctx, doing, func() error {
		rows, err := s.query(ctx, st, args...)
		if err != nil {
			return err
		}
		found, err = s.dialect.scanRows(rows)
		return err
	})
	return found, err
}

// change runs a statement and returns the number of rows it changed.
func (s *Store) change(
	ctx context.Context, doing string, st *statement, args ...any,
) (n int, err error) {
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
	revoked bool
}

// of reports whether it is the state that the write rec leaves.
func (s state) of(rec tokensession.Record) bool {
	return s.version == rec.Version && s.writeID == rec.WriteID
}

func (s *Store) storedState(ctx context.Context, id string) (stored state, found bool, err error) {
	rows, err := s.query(ctx, &s.state, id)
	if err != nil {
		return state{}, false, err
	}
	defer rows.Close()
	for rows.Next() {
		var storedID string
		var revoked int64
		var format sql.NullInt64
		err := rows.Scan(&storedID, &stored.version, &stored.writeID, &revoked, &format)
		switch {
		case err != nil:
			return state{}, false, err
		case storedID != id:
			return state{}, false, otherSession(storedID)
		case format.Valid:
			return state{}, false, unreadable(id, newerFormat(format.Int64))
		}
		stored.revoked = revoked != 0
		found = true
	}
	return stored, found, rows.Err()
}

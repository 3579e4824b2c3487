package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"sync/atomic"
)

// A statement is one whose text never changes.
type statement struct {
	text     string
	prepared atomic.Pointer[sql.Stmt]
}

// stmt returns the prepared statement, or nil where the text is to be sent as it is. go-sql-driver/mysql and the SQLite
// drivers prepare what they are given each time, so that it is worth keeping. pgx keeps what it prepared itself, or
// prepares nothing where the host says so, for PgBouncer: a sql.Stmt would overrule that.
func (s *Store) stmt(ctx context.Context, st *statement) (*sql.Stmt, error) {
	if s.dialect == PostgreSQL {
		return nil, nil
	}
	if prepared := st.prepared.Load(); prepared != nil {
		return prepared, nil
	}
	prepared, err := s.db.PrepareContext(ctx, st.text)
	if err != nil {
		return nil, err
	}
	if !st.prepared.CompareAndSwap(nil, prepared) {
		_ = prepared.Close() // another goroutine was faster
	}
	return st.prepared.Load(), nil
}

func (s *Store) query(ctx context.Context, st *statement, args ...any) (*sql.Rows, error) {
	prepared, err := s.stmt(ctx, st)
	if err != nil {
		return nil, err
	}
	if prepared == nil {
		return s.db.QueryContext(ctx, st.text, args...)
	}
	return prepared.QueryContext(ctx, args...)
}

// exec returns the number of rows that the statement changed.
func (s *Store) exec(ctx context.Context, st *statement, args ...any) (int, error) {
	prepared, err := s.stmt(ctx, st)
	if err != nil {
		return 0, err
	}
	var result sql.Result
	if prepared == nil {
		result, err = s.db.ExecContext(ctx, st.text, args...)
	} else {
		result, err = prepared.ExecContext(ctx, args...)
	}
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// execMany runs a statement that changes many rows. Where the host has made PostgreSQL's default isolation stricter than
// READ COMMITTED, such a statement fails whenever one of the rows is refreshed meanwhile, again and again.
func (s *Store) execMany(ctx context.Context, text string, args []any) error {
	if s.dialect != PostgreSQL {
		_, err := s.db.ExecContext(ctx, text, args...)
		return err
	}
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, text, args...); err != nil {
		_ = tx.Rollback() // the connection goes if it fails
		return err
	}
	return tx.Commit()
}

// do runs f, again if the server undid it in favour of a concurrent statement, and explains its error.
func (s *Store) do(ctx context.Context, doing string, f func() error) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("sqlstore: %s: %w", doing, err)
	}
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil {
			return nil
		}
		if isVerdict(err) {
			return fmt.Errorf("sqlstore: %w", err)
		}
		if attempt == maxAttempts || failureOf(err) != rolledBack {
			return s.explain(ctx, doing, err)
		}
	}
}

// maxAttempts is how often a statement is sent that the server undoes.
const maxAttempts = 8

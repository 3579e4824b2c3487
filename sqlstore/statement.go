package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
)

// A statement is one whose text never changes.
type statement struct {
	text     string
	prepared atomic.Pointer[sql.Stmt]
}

// drop gives back the room that a prepared statement takes at the server.
func (st *statement) drop() {
	if prepared := st.prepared.Load(); prepared != nil && st.prepared.CompareAndSwap(prepared, nil) {
		_ = prepared.Close()
	}
}

// sending says how statements reach the server.
type sending struct {
	asked atomic.Bool // whether MySQL's driver was asked
	text  atomic.Bool // with their parameters in the text, and not prepared
}

// stmt returns the prepared statement, or nil where it is to be sent without preparing it first.
// go-sql-driver/mysql and the SQLite drivers prepare what they are given each time, so that it is
// worth keeping. pgx keeps what it prepared itself, or prepares nothing where the host says so, for
// PgBouncer: a sql.Stmt would overrule that.
func (s *Store) stmt(ctx context.Context, st *statement) (*sql.Stmt, error) {
	if s.dialect == PostgreSQL {
		return nil, nil
	}
	if err := s.askDriver(ctx); err != nil {
		return nil, err
	}
	if s.sending.text.Load() {
		st.drop()
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

// askDriver finds out, once, whether MySQL's driver puts parameters into the text of a statement,
// as interpolateParams=true in the DSN asks for. Hosts do that where a proxy or the server allows
// no prepared statements. The DSN itself cannot be read from a pool. A driver that prepares a
// statement with parameters first says so by driver.ErrSkip, before it sends anything.
func (s *Store) askDriver(ctx context.Context) error {
	if s.dialect != MySQL || s.sending.asked.Load() {
		return nil
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close()
	interpolates := false
	err = conn.Raw(func(driverConn any) error {
		queryer, ok := driverConn.(driver.QueryerContext)
		if !ok {
			return nil
		}
		one := []driver.NamedValue{{Ordinal: 1, Value: int64(1)}}
		rows, err := queryer.QueryContext(ctx, "SELECT ?", one)
		if errors.Is(err, driver.ErrSkip) {
			return nil
		}
		if err != nil {
			return err
		}
		interpolates = true
		return rows.Close()
	})
	if err != nil {
		return err
	}
	if interpolates {
		s.sending.text.Store(true)
	}
	s.sending.asked.Store(true)
	return nil
}

// sendText reports whether err means that the server, or a proxy before it, does not keep prepared
// statements. If so, none is used any more: it makes each call a little slower, and a server that
// is short of room for statements, or forgot them, would refuse the next one too.
func (s *Store) sendText(err error) bool {
	if s.dialect != MySQL || err == nil || failureOf(err) != notPrepared {
		return false
	}
	s.sending.text.Store(true)
	return true
}

func (s *Store) query(ctx context.Context, st *statement, args ...any) (*sql.Rows, error) {
	rows, err := s.queryOnce(ctx, st, args)
	if s.sendText(err) {
		return s.queryOnce(ctx, st, args)
	}
	return rows, err
}

func (s *Store) queryOnce(ctx context.Context, st *statement, args []any) (*sql.Rows, error) {
	prepared, err := s.stmt(ctx, st)
	if err != nil {
		return nil, err
	}
	if prepared != nil {
		return prepared.QueryContext(ctx, args...)
	}
	text, args, err := s.sent(st.text, args)
	if err != nil {
		return nil, err
	}
	return s.db.QueryContext(ctx, text, args...)
}

// exec returns the number of rows that the statement changed.
func (s *Store) exec(ctx context.Context, st *statement, args ...any) (int, error) {
	n, err := s.execOnce(ctx, st, args)
	if s.sendText(err) {
		return s.execOnce(ctx, st, args)
	}
	return n, err
}

func (s *Store) execOnce(ctx context.Context, st *statement, args []any) (int, error) {
	prepared, err := s.stmt(ctx, st)
	if err != nil {
		return 0, err
	}
	if prepared != nil {
		return changed(prepared.ExecContext(ctx, args...))
	}
	text, args, err := s.sent(st.text, args)
	if err != nil {
		return 0, err
	}
	return changed(s.db.ExecContext(ctx, text, args...))
}

func changed(result sql.Result, err error) (int, error) {
	if err != nil {
		return 0, err
	}
	n, err := result.RowsAffected()
	return int(n), err
}

// execMany runs a statement that changes many rows, and returns how many. Where the host has made
// PostgreSQL's default isolation stricter than READ COMMITTED, such a statement fails whenever one
// of the rows is refreshed meanwhile, again and again.
func (s *Store) execMany(ctx context.Context, text string, args []any) (int, error) {
	if s.dialect != PostgreSQL {
		if err := s.askDriver(ctx); err != nil {
			return 0, err
		}
		n, err := s.execText(ctx, text, args)
		if s.sendText(err) {
			return s.execText(ctx, text, args)
		}
		return n, err
	}
	return s.execReadCommitted(ctx, text, args)
}

// execReadCommitted runs a statement in a transaction of its own, in isolation READ COMMITTED.
func (s *Store) execReadCommitted(ctx context.Context, text string, args []any) (int, error) {
	text, args, err := s.sent(text, args)
	if err != nil {
		return 0, err
	}
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return 0, err
	}
	n, err := changed(tx.ExecContext(ctx, text, args...))
	if err != nil {
		_ = tx.Rollback() // the connection goes if it fails
		return 0, err
	}
	return n, tx.Commit()
}

func (s *Store) execText(ctx context.Context, text string, args []any) (int, error) {
	text, args, err := s.sent(text, args)
	if err != nil {
		return 0, err
	}
	return changed(s.db.ExecContext(ctx, text, args...))
}

// sent returns a statement as it is to be given to the pool: with its parameters in the text, where
// nothing is to be prepared.
func (s *Store) sent(text string, args []any) (string, []any, error) {
	if s.dialect != MySQL || !s.sending.text.Load() {
		return text, args, nil
	}
	text, err := interpolate(text, args)
	return text, nil, err
}

// interpolate puts the parameters into the text of a statement for MySQL. Text goes in as
// hexadecimal digits, which are safe in every character set and sql_mode.
func interpolate(text string, args []any) (string, error) {
	parts := strings.Split(text, "?") // no statement has a ? of another meaning
	if len(parts) != len(args)+1 {
		return "", fmt.Errorf("%d parameters for %d places", len(args), len(parts)-1)
	}
	var b strings.Builder
	for i, arg := range args {
		b.WriteString(parts[i])
		switch v := arg.(type) {
		case nil:
			b.WriteString("NULL")
		case string:
			b.WriteString(literal([]byte(v)))
		case []byte:
			if v == nil {
				b.WriteString("NULL")
			} else {
				b.WriteString(literal(v))
			}
		case int:
			b.WriteString(strconv.Itoa(v))
		case int64:
			b.WriteString(strconv.FormatInt(v, 10))
		case bool:
			b.WriteString(strings.ToUpper(strconv.FormatBool(v)))
		default:
			return "", fmt.Errorf("a parameter of type %T", arg)
		}
	}
	b.WriteString(parts[len(args)])
	return b.String(), nil
}

// literal returns the bytes as SQL. A time stays readable, because MySQL would take hexadecimal
// digits for a number where it compares them with one.
func literal(text []byte) string {
	if len(text) == len(MySQL.timeLayout()) && strings.Trim(string(text), "0123456789-:. ") == "" {
		return "'" + string(text) + "'"
	}
	return "X'" + hex.EncodeToString(text) + "'"
}

// do runs f, again if the server undid it in favour of a concurrent statement, and explains its
// error.
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

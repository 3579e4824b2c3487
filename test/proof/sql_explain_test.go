//go:build unix

package proof_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

// A statementNoter is a driver that notes each statement with its arguments.
type statementNoter struct {
	driver.Driver
	mu    sync.Mutex
	noted []notedStatement
}

type notedStatement struct {
	text string
	args []any
}

// take returns what was noted since the last call.
func (n *statementNoter) take() []notedStatement {
	n.mu.Lock()
	defer n.mu.Unlock()
	noted := n.noted
	n.noted = nil
	return noted
}

func (n *statementNoter) Open(dsn string) (driver.Conn, error) {
	conn, err := n.Driver.Open(dsn)
	return notingConn{conn, n}, err
}

// A notingConn has none of the optional methods that run a statement, so all go through Prepare.
type notingConn struct {
	driver.Conn
	noter *statementNoter
}

func (c notingConn) Prepare(text string) (driver.Stmt, error) {
	stmt, err := c.Conn.Prepare(text)
	return notingStmt{stmt, c.noter, text}, err
}

func (c notingConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	return c.Conn.(driver.ConnBeginTx).BeginTx(ctx, opts)
}

type notingStmt struct {
	driver.Stmt
	noter *statementNoter
	text  string
}

func (s notingStmt) note(args []driver.NamedValue) {
	noted := notedStatement{text: s.text}
	for _, arg := range args {
		noted.args = append(noted.args, arg.Value)
	}
	s.noter.mu.Lock()
	defer s.noter.mu.Unlock()
	s.noter.noted = append(s.noter.noted, noted)
}

func (s notingStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	s.note(args)
	return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}

func (s notingStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	s.note(args)
	return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
}

// Every statement that the store sends, but that which adds a row, finds its rows by an index.
func TestSQLStore_indexesAreUsed(t *testing.T) {
	explains := map[sqlstore.Dialect]string{sqlstore.PostgreSQL: "EXPLAIN ", sqlstore.MySQL: "EXPLAIN FORMAT=TRADITIONAL ", sqlstore.SQLite: "EXPLAIN QUERY PLAN "}
	names := map[sqlstore.Dialect]map[string]string{
		sqlstore.PostgreSQL: {"id": "token_sessions_pkey", "subject": "token_sessions_subject", "sweep": "token_sessions_sweep", "revoked": "token_sessions_revoked", "outdated": "token_sessions_outdated"},
		sqlstore.MySQL:      {"id": "PRIMARY", "subject": "by_subject", "sweep": "by_sweep", "revoked": "by_revoked", "outdated": "by_outdated"},
		sqlstore.SQLite:     {"id": "sqlite_autoindex_token_sessions_1", "subject": "token_sessions_subject", "sweep": "token_sessions_sweep", "revoked": "token_sessions_revoked", "outdated": "token_sessions_outdated"},
	}
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		db := server.open(t, dsn)
		db.SetMaxOpenConns(1)
		noter := &statementNoter{Driver: db.Driver()}
		sql.Register("noting "+server.driver, noter)
		noting := sqlServer{server.dialect, "noting " + server.driver, nil}
		store := noting.migrated(t, noting.open(t, dsn), "")
		for i := range 300 { // so that an index is worth its while
			if err := store.Create(t.Context(), sqlRecord(fmt.Sprint("user ", i))); err != nil {
				t.Fatal(err)
			}
		}
		if server.dialect == sqlstore.PostgreSQL {
			execSQL(t, db, "SET enable_seqscan = off") // only what no index can do is left to a scan
		}
		rec := sqlRecord("alice")
		if err := store.Create(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		next := swapped(rec)
		conflict := rec
		conflict.Version = 5
		for _, call := range []struct {
			name, index string
			statements  int // at least
			run         func() error
		}{
			{"Load", "id", 1, func() error { _, err := store.Load(t.Context(), rec.ID); return err }},
			{"Swap", "id", 1, func() error { return store.Swap(t.Context(), next) }},
			{"Swap that conflicts", "id", 2, func() error { _ = store.Swap(t.Context(), conflict); return nil }},
			{"Load of what is unknown", "id", 2, func() error { _, _ = store.Load(t.Context(), randomSQLID()); return nil }},
			{"List of nobody", "subject", 2, func() error { _, err := store.List(t.Context(), "nobody"); return err }},
			{"List", "subject", 1, func() error { return storeCalls(store)["List"](t.Context()) }},
			{"RevokeSubject", "subject", 2, func() error { return storeCalls(store)["RevokeSubject"](t.Context()) }},
			{"Revocations", "outdated", 1, func() error { return storeCalls(store)["Revocations"](t.Context()) }},
			{"Revocations", "revoked", 1, func() error { return storeCalls(store)["Revocations"](t.Context()) }},
			{"Sweep", "sweep", 2, func() error { _, err := store.Sweep(t.Context(), time.Now(), 10); return err }},
		} {
			noter.take()
			if err := call.run(); err != nil {
				t.Fatalf("%s: %v", call.name, err)
			}
			noted := noter.take()
			if len(noted) < call.statements {
				t.Errorf("%s: only %d statements were seen", call.name, len(noted))
			}
			for _, s := range noted {
				if strings.HasPrefix(s.text, "UPDATE") && strings.Contains(s.text, "_schema") {
					continue // by which SQLite proves that it may write
				}
				if !strings.Contains(s.text, "token_sessions") {
					continue // it asks for the server's time
				}
				plan := planOf(t, db, explains[server.dialect]+s.text, s.args)
				if strings.Contains(plan, "after reading const tables") {
					continue // MySQL has looked for the row by its primary key already, and found none
				}
				if strings.Contains(plan, "index_merge") {
					t.Errorf("%s merges indexes, and so reads and locks others' rows:\n%s\n%s", call.name, s.text, plan)
				}
				if !strings.Contains(plan, names[server.dialect][call.index]) {
					t.Errorf("%s does not use the index on %s:\n%s\n%s", call.name, call.index, s.text, plan)
				}
			}
		}
	})
}

// planOf returns what the server says of how it runs a statement, without the indexes that MySQL
// considered.
func planOf(t *testing.T, db *sql.DB, explain string, args []any) string {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), explain, args...)
	if err != nil {
		t.Fatalf("%s: %v", explain, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	var plan strings.Builder
	values, pointers := make([]sql.NullString, len(columns)), make([]any, len(columns))
	for i := range values {
		pointers[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(pointers...); err != nil {
			t.Fatal(err)
		}
		for i, value := range values {
			if columns[i] != "possible_keys" {
				plan.WriteString(value.String + " ")
			}
		}
		plan.WriteString("\n")
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return plan.String()
}

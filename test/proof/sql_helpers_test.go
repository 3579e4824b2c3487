//go:build unix

package proof_test

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math/rand/v2"
	"net/url"
	"sync/atomic"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

// randomRole returns what makes the name of an account of a database server its own.
func randomRole() string { return fmt.Sprintf("_%016x", rand.Uint64()) }

// withUser returns the URL of a database of PostgreSQL for another role.
func withUser(t testing.TB, dsn, role string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.User(role)
	return u.String()
}

// withMySQLUser returns the DSN for another account.
func withMySQLUser(t testing.TB, dsn, user string) string {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.User, cfg.Passwd = user, ""
	return cfg.FormatDSN()
}

// withUserOf returns the DSN of a server's database for another account.
func withUserOf(t testing.TB, server sqlServer, dsn, user string) string {
	t.Helper()
	if server.dialect == sqlstore.MySQL {
		return withMySQLUser(t, dsn, user)
	}
	return withUser(t, dsn, user)
}

// A forgettingDriver answers as a proxy that has forgotten what was prepared, for as long as it
// forgets.
type forgettingDriver struct {
	driver.Driver
	forgets *atomic.Bool
}

func (d forgettingDriver) Open(dsn string) (driver.Conn, error) {
	conn, err := d.Driver.Open(dsn)
	return forgettingConn{conn, d.forgets}, err
}

type forgettingConn struct {
	driver.Conn
	forgets *atomic.Bool
}

func (c forgettingConn) Prepare(text string) (driver.Stmt, error) {
	stmt, err := c.Conn.Prepare(text)
	return forgettingStmt{stmt, c.forgets}, err
}

func (c forgettingConn) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	return c.Conn.(driver.QueryerContext).QueryContext(ctx, text, args)
}

func (c forgettingConn) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	return c.Conn.(driver.ExecerContext).ExecContext(ctx, text, args)
}

type forgettingStmt struct {
	driver.Stmt
	forgets *atomic.Bool
}

func (s forgettingStmt) forgotten() error {
	if s.forgets.Load() {
		return &mysql.MySQLError{Number: 1243, SQLState: [5]byte([]byte("HY000")), Message: "Unknown prepared statement handler"}
	}
	return nil
}

func (s forgettingStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	if err := s.forgotten(); err != nil {
		return nil, err
	}
	return s.Stmt.(driver.StmtExecContext).ExecContext(ctx, args)
}

func (s forgettingStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	if err := s.forgotten(); err != nil {
		return nil, err
	}
	return s.Stmt.(driver.StmtQueryContext).QueryContext(ctx, args)
}

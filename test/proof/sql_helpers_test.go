//go:build unix

package proof_test

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
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

// A forgettingConn is a connection to MariaDB through a proxy that has lost what was prepared: once
// it forgets, each command that goes through it finds the server without prepared statements.
type forgettingConn struct {
	net.Conn
	forgets *atomic.Bool
}

func (c forgettingConn) Write(packet []byte) (int, error) {
	const closeStatement, most = 0x19, 64 // COM_STMT_CLOSE; more than a connection prepares here
	begins := len(packet) > 4 && packet[3] == 0
	if c.forgets.Load() && begins {
		var closes []byte
		for id := range uint32(most) { // there is no reply to any of these
			closes = append(closes, 5, 0, 0, 0, closeStatement)
			closes = binary.LittleEndian.AppendUint32(closes, id+1)
		}
		if _, err := c.Conn.Write(closes); err != nil {
			return 0, err
		}
	}
	return c.Conn.Write(packet)
}

// openForgetting returns a pool whose connections forget what was prepared once forgets is set.
func openForgetting(t testing.TB, dsn string, forgets *atomic.Bool) *sql.DB {
	t.Helper()
	cfg, err := mysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, addr)
		return forgettingConn{conn, forgets}, err
	}
	connector, err := mysql.NewConnector(cfg)
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(connector)
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(4)
	db.SetMaxIdleConns(4)
	return db
}

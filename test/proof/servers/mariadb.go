//go:build unix

package servers

import (
	"context"
	"database/sql"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
)

const (
	mariadbEnv  = "TOKENSESSION_TEST_MARIADB_BIN" // folder of its programs
	mysqlDSNEnv = "TOKENSESSION_TEST_MYSQL_DSN"   // DSN of a server that runs already, as go-sql-driver/mysql writes it
)

// MariaDBOptions say how a MariaDB server runs.
type MariaDBOptions struct {
	// Durable writes and syncs the log at each commit, which is the server's default. Without it
	// the server starts and commits faster and may lose its last second on Kill.
	Durable bool

	// Args are further arguments of mariadbd.
	Args []string

	// ClockAhead is by how much the server's clock is ahead of this machine's, in whole seconds.
	ClockAhead time.Duration
}

// A MariaDB is a MariaDB server that belongs to one test.
type MariaDB struct {
	*Process
	Addr string // host:port
	DSN  string // for go-sql-driver/mysql, of the empty database test, as root, without a password
}

// StartMariaDB starts a MariaDB server on an empty data folder.
func StartMariaDB(tb testing.TB, opts MariaDBOptions) *MariaDB {
	tb.Helper()
	folder := NewFolder(tb, "mariadb", "mysql")
	spec, port, err := mariadbSpec(folder, opts)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	if err := initMariaDB(folder); err != nil {
		tb.Fatalf("%v", err)
	}
	spec.Env = clockAhead(tb, opts.ClockAhead)
	m := &MariaDB{Process: Start(tb, spec), Addr: localAddr(port), DSN: mariadbDSN(port, "test")}
	execMySQL(tb, mariadbDSN(port, ""), "CREATE DATABASE test")
	return m
}

// MySQLDatabase returns the DSN, as go-sql-driver/mysql writes it, of an empty database on a
// MariaDB server that all tests of the package share, or on the MySQL or MariaDB that
// TOKENSESSION_TEST_MYSQL_DSN names. The database is dropped when the test ends.
func MySQLDatabase(tb testing.TB) string {
	tb.Helper()
	admin := sharedDSN(tb, &shared.mysql, mysqlDSNEnv, startSharedMariaDB)
	cfg, err := mysql.ParseDSN(admin)
	if err != nil {
		tb.Fatalf("servers: %s: %v", mysqlDSNEnv, err)
	}
	name := databaseName()
	execMySQL(tb, admin, "CREATE DATABASE "+name)
	tb.Cleanup(func() { execMySQL(tb, admin, "DROP DATABASE "+name) })
	cfg.DBName = name
	return cfg.FormatDSN()
}

func execMySQL(tb testing.TB, dsn, statement string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	db, err := sql.Open("mysql", dsn)
	if err != nil {
		tb.Fatalf("servers: %v", err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, statement); err != nil {
		tb.Fatalf("servers: %s: %v", statement, err)
	}
}

func startSharedMariaDB() (*sharedServer, error) {
	folder, err := newFolder("mariadb", []string{"mysql"})
	if err != nil {
		return nil, err
	}
	spec, port, err := mariadbSpec(folder, MariaDBOptions{})
	if err != nil {
		return nil, err
	}
	if err := initMariaDB(folder); err != nil {
		return nil, err
	}
	process := newProcess(spec)
	return &sharedServer{dsn: mariadbDSN(port, ""), process: process,
		folder: folder}, process.start()
}

func initMariaDB(folder *Folder) error {
	install, err := mariadbBinary("mariadb-install-db")
	if err != nil {
		return err
	}
	return folder.Exec(install, "--no-defaults", "--datadir="+folder.Join("data"),
		"--auth-root-authentication-method=normal",
		"--skip-test-db", "--skip-name-resolve", "--innodb-log-file-size=16M")
}

func mariadbSpec(folder *Folder, opts MariaDBOptions) (Spec, int, error) {
	path, err := mariadbBinary("mariadbd")
	if err != nil {
		return Spec{}, 0, err
	}
	port, err := freePort()
	if err != nil {
		return Spec{}, 0, err
	}
	args := []string{"--no-defaults", "--datadir=" + folder.Join("data"),
		"--bind-address=127.0.0.1", "--port=" + strconv.Itoa(port),
		"--socket=" + folder.Join("sock"), "--pid-file=" + folder.Join("pid"),
		"--skip-name-resolve",
		"--innodb-buffer-pool-size=64M", "--innodb-log-file-size=16M", "--performance-schema=OFF"}
	if !opts.Durable {
		args = append(args, "--innodb-flush-log-at-trx-commit=0", "--skip-innodb-doublewrite")
	}
	return Spec{
		Name: "mariadb", Path: path, Args: append(args, opts.Args...), Folder: folder,
		Ready: func(ctx context.Context) error {
			db, err := sql.Open("mysql", mariadbDSN(port, ""))
			if err != nil {
				return err
			}
			defer db.Close()
			return db.PingContext(ctx)
		},
	}, port, nil
}

func mariadbBinary(name string) (string, error) {
	return Find(Binary{Name: name, Env: mariadbEnv, Package: "mariadb-server"})
}

func mariadbDSN(port int, database string) string {
	return fmt.Sprintf("root@tcp(%s)/%s", localAddr(port), database)
}

//go:build unix

// Package migrate shows that sqlstore's migrations work in the tools that people have already,
// beside their own migrations.
package migrate

import (
	"database/sql"
	"errors"
	"io/fs"
	"os"
	"testing"
	"testing/fstest"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"github.com/golang-migrate/migrate/v4"
	"github.com/golang-migrate/migrate/v4/database"
	"github.com/golang-migrate/migrate/v4/database/mysql"
	pgxmigrate "github.com/golang-migrate/migrate/v4/database/pgx/v5"
	"github.com/golang-migrate/migrate/v4/database/sqlite"
	"github.com/golang-migrate/migrate/v4/source/iofs"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }

// A server is a kind of database, and what the two tools call it.
type server struct {
	dialect sqlstore.Dialect
	driver  string
	dsn     func(testing.TB) string
	goose   goose.Dialect
	migrate func(db *sql.DB, versions string) (database.Driver, error)
}

var all = []server{
	{
		sqlstore.PostgreSQL, "pgx", servers.PostgresDatabase, goose.DialectPostgres,
		func(db *sql.DB, versions string) (database.Driver, error) {
			return pgxmigrate.WithInstance(db, &pgxmigrate.Config{MigrationsTable: versions})
		},
	}, {
		sqlstore.MySQL, "mysql", mysqlDSN, goose.DialectMySQL,
		func(db *sql.DB, versions string) (database.Driver, error) {
			return mysql.WithInstance(db, &mysql.Config{MigrationsTable: versions})
		},
	}, {
		sqlstore.SQLite, "sqlite", servers.SQLiteDSN, goose.DialectSQLite3,
		func(db *sql.DB, versions string) (database.Driver, error) {
			return sqlite.WithInstance(db, &sqlite.Config{MigrationsTable: versions})
		},
	},
}

// mysqlDSN allows several statements at once, which golang-migrate asks for.
func mysqlDSN(tb testing.TB) string {
	return servers.MySQLDatabase(tb) + "?multiStatements=true&parseTime=true"
}

// hosts are the migrations of a program. It has as many as ours, or more, under the same numbers.
var hosts = fstest.MapFS{
	"000001_accounts.up.sql": {Data: []byte("-- +goose Up\nCREATE TABLE accounts (id INT PRIMARY KEY);\n")},
	"000002_orders.up.sql":   {Data: []byte("-- +goose Up\nCREATE TABLE orders (id INT PRIMARY KEY);\n")},
}

func (s server) open(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open(s.driver, s.dsn(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func (s server) migrations(t *testing.T) fs.FS {
	t.Helper()
	files, err := sqlstore.Migrations(s.dialect)
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// works fails the test unless the store finds its tables and keeps a session.
func (s server) works(t *testing.T, db *sql.DB) {
	t.Helper()
	store, err := sqlstore.New(db, s.dialect, sqlstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatalf("Migrate, after the tool: %v", err)
	}
	key, err := tokensession.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	})
	if err != nil {
		t.Fatal(err)
	}
	m, err := tokensession.New(signer, store, tokensession.Config{})
	if err != nil {
		t.Fatal(err)
	}
	tokens, err := m.Start(t.Context(), "alice")
	if err == nil {
		_, err = m.Refresh(t.Context(), tokens.RefreshToken)
	}
	if err != nil {
		t.Error(err)
	}
}

// tableIsThere reports whether the sessions' table exists.
func tableIsThere(t *testing.T, db *sql.DB) bool {
	t.Helper()
	var n int
	return db.QueryRowContext(t.Context(), "SELECT count(*) FROM token_sessions").Scan(&n) == nil
}

// The call that the documentation shows. Our versions are in a table of their own. Twice, because a
// program migrates at each start.
func TestGoose_besideTheProgramsOwn(t *testing.T) {
	for _, s := range all {
		t.Run(s.dialect.String(), func(t *testing.T) {
			db := s.open(t)
			for range 2 {
				up(t, s.goose, db, hosts)
				up(t, s.goose, db, s.migrations(t), goose.WithTableName("token_sessions_goose"))
			}
			s.works(t, db)
		})
	}
}

// In the program's own table of versions our first migration counts as applied, because the program
// has a first one, too. This is what the name above is for. Should goose find such a mistake one
// day, the documentation can say so.
func TestGoose_inTheProgramsTableSkipsOurs(t *testing.T) {
	s := all[0]
	db := s.open(t)
	up(t, s.goose, db, hosts)
	up(t, s.goose, db, s.migrations(t))
	if tableIsThere(t, db) {
		t.Error("the sessions' table is there: goose tells the two apart, and the documentation need not warn")
	}
	// The store creates what is missing, and says nothing wrong.
	s.works(t, db)
}

func up(t *testing.T, dialect goose.Dialect, db *sql.DB, files fs.FS, opts ...goose.ProviderOption) {
	t.Helper()
	p, err := goose.NewProvider(dialect, db, files, opts...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
}

func TestGolangMigrate_besideTheProgramsOwn(t *testing.T) {
	for _, s := range all {
		t.Run(s.dialect.String(), func(t *testing.T) {
			dsn := s.dsn(t)
			for range 2 {
				s.upTo(t, dsn, hosts, "schema_migrations")
				s.upTo(t, dsn, s.migrations(t), "token_sessions_migrations")
			}
			db, err := sql.Open(s.driver, dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			s.works(t, db)
		})
	}
}

// A table of another name is in a migration of the program's own, with the text of Schema.
func TestSchema_inAMigrationOfTheProgramsOwn(t *testing.T) {
	for _, s := range all {
		schema, err := sqlstore.Schema(s.dialect, "my_sessions")
		if err != nil {
			t.Fatal(err)
		}
		t.Run("goose/"+s.dialect.String(), func(t *testing.T) {
			db := s.open(t)
			up(t, s.goose, db, fstest.MapFS{
				"000002_sessions.sql": {Data: []byte("-- +goose Up\n" + schema)},
			})
			s.knowsItsTable(t, db)
		})
		t.Run("golang-migrate/"+s.dialect.String(), func(t *testing.T) {
			dsn := s.dsn(t)
			s.upTo(t, dsn, fstest.MapFS{
				"000002_sessions.up.sql": {Data: []byte(schema)},
			}, "schema_migrations")
			db, err := sql.Open(s.driver, dsn)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			s.knowsItsTable(t, db)
		})
	}
}

func (s server) knowsItsTable(t *testing.T, db *sql.DB) {
	t.Helper()
	store, err := sqlstore.New(db, s.dialect, sqlstore.Config{Table: "my_sessions"})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := store.Check(t.Context()); err != nil {
			t.Error(err)
		}
		if err := store.Migrate(t.Context()); err != nil { // for which there is nothing to do
			t.Error(err)
		}
	}
}

// upTo opens a pool of its own, because the tool closes the one that it was given.
func (s server) upTo(t *testing.T, dsn string, files fs.FS, versions string) {
	t.Helper()
	db, err := sql.Open(s.driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	from, err := iofs.New(files, ".")
	if err != nil {
		t.Fatal(err)
	}
	to, err := s.migrate(db, versions)
	if err != nil {
		t.Fatal(err)
	}
	m, err := migrate.NewWithInstance("iofs", from, s.driver, to)
	if err != nil {
		t.Fatal(err)
	}
	m.LockTimeout = time.Minute
	if err := m.Up(); err != nil && !errors.Is(err, migrate.ErrNoChange) {
		t.Fatal(err)
	}
	if fromErr, toErr := m.Close(); fromErr != nil || toErr != nil {
		t.Fatal(fromErr, toErr)
	}
}

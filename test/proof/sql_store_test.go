//go:build unix

package proof_test

import (
	"crypto/rand"
	"database/sql"
	"encoding/base64"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	_ "github.com/go-sql-driver/mysql"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/storetest"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// A sqlServer is one of the databases that sqlstore is for.
type sqlServer struct {
	dialect  sqlstore.Dialect
	driver   string
	database func(testing.TB) string // DSN of an empty database
}

var sqlServers = []sqlServer{
	{sqlstore.PostgreSQL, "pgx", servers.PostgresDatabase},
	{sqlstore.MySQL, "mysql", servers.MySQLDatabase},
	{sqlstore.SQLite, "sqlite", servers.SQLiteDSN},
}

// onEachSQLServer runs a test on each server, with the DSN of an empty database.
func onEachSQLServer(t *testing.T, test func(t *testing.T, server sqlServer, dsn string)) {
	t.Helper()
	for _, server := range sqlServers {
		t.Run(server.dialect.String(), func(t *testing.T) { test(t, server, server.database(t)) })
	}
}

func (s sqlServer) open(t testing.TB, dsn string) *sql.DB {
	t.Helper()
	db, err := sql.Open(s.driver, dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	return db
}

func (s sqlServer) store(t testing.TB, db *sql.DB, table string) *sqlstore.Store {
	t.Helper()
	store, err := sqlstore.New(db, s.dialect, sqlstore.Config{Table: table})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// migrated returns a store on a new table.
func (s sqlServer) migrated(t testing.TB, db *sql.DB, table string) *sqlstore.Store {
	t.Helper()
	store := s.store(t, db, table)
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return store
}

func execSQL(t testing.TB, db *sql.DB, statement string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), statement, args...); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// The contract, through every way a host may have written its DSN.
func TestSQLStore_keepsTheContract(t *testing.T) {
	dsns := map[sqlstore.Dialect][]string{
		sqlstore.PostgreSQL: {
			"",
			"timezone=Asia/Tokyo&DateStyle=SQL,%20DMY",
			"default_query_exec_mode=simple_protocol&timezone=America/New_York",
			"default_query_exec_mode=exec&default_transaction_isolation=repeatable%20read",
			"default_query_exec_mode=cache_describe&default_transaction_isolation=serializable",
		},
		sqlstore.MySQL: {
			"",
			"parseTime=true&loc=Asia%2FTokyo",
			"parseTime=true&loc=America%2FNew_York&interpolateParams=true&time_zone=%27%2B09%3A00%27",
			"interpolateParams=true&clientFoundRows=true&charset=utf8&sql_mode=%27NO_BACKSLASH_ESCAPES%27",
			"sql_select_limit=3",
			"clientFoundRows=true&charset=latin1&sql_mode=%27ANSI_QUOTES%27&tx_isolation=%27SERIALIZABLE%27",
		},
		sqlstore.SQLite: {
			"",
			"_time_format=sqlite&_txlock=immediate",
		},
	}
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		for _, options := range dsns[server.dialect] {
			t.Run("DSN "+options, func(t *testing.T) {
				t.Parallel()
				db := server.open(t, withDSNOptions(dsn, server.namesVariables(t, dsn, options)))
				table := newSQLTable()
				store := server.migrated(t, db, table)
				storetest.Run(t, func(t *testing.T) tokensession.RefreshStore {
					execSQL(t, db, "DELETE FROM "+table)
					return store
				})
			})
		}
		t.Run("several instances", func(t *testing.T) {
			t.Parallel()
			db, table := server.open(t, dsn), newSQLTable()
			stores := []tokensession.RefreshStore{server.migrated(t, db, table), server.store(t, server.open(t, dsn), table)}
			storetest.RunShared(t, func(t *testing.T) []tokensession.RefreshStore {
				execSQL(t, db, "DELETE FROM "+table)
				return stores
			})
		})
	})
}

// What is no ID of a record keeps none, and makes nothing fail.
func TestSQLStore_keepsOnlyWhatCanBeKept(t *testing.T) {
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		store := server.migrated(t, server.open(t, dsn), newSQLTable())
		rec, kept := sqlRecord("alice"), sqlRecord("alice")
		for _, r := range []tokensession.Record{rec, kept} {
			if err := store.Create(t.Context(), r); err != nil {
				t.Fatal(err)
			}
		}
		keep := []string{"\xff", "a\x00b", strings.Repeat("k", 65), kept.ID}
		revoked, err := store.RevokeSubject(t.Context(), ofSubject("alice", rec.RotatedAt, keep...))
		if err != nil || len(revoked) != 1 || revoked[0].ID != rec.ID {
			t.Errorf("RevokeSubject: %v, %v; want the one that is not kept", revoked, err)
		}
	})
}

// The options that the README excepts fail, and corrupt nothing. Who can take one of them off the
// list sees it here.
func TestSQLStore_optionsOfADSNThatItDoesNotBear(t *testing.T) {
	for _, test := range []struct {
		server        sqlServer
		options, call string
		says          string
	}{
		{sqlServers[0], "bytea_output=escape&default_query_exec_mode=simple_protocol", "List", "invalid hex"},
		{sqlServers[0], "bytea_output=escape&default_query_exec_mode=exec", "List", "invalid hex"},
		{sqlServers[0], "standard_conforming_strings=off&default_query_exec_mode=simple_protocol", "Load", "standard_conforming_strings"},
		{sqlServers[1], "sql_safe_updates=1", "Sweep", "1175"},
		{sqlServers[1], "sql_big_selects=0&max_join_size=1", "Sweep", "1104"},
	} {
		dsn := test.server.database(t)
		db := test.server.open(t, dsn)
		sound := test.server.migrated(t, db, "")
		if err := sound.Create(t.Context(), sqlRecord("alice")); err != nil {
			t.Fatal(err)
		}
		store := test.server.store(t, test.server.open(t, withDSNOptions(dsn, test.options)), "")
		wantRemedy(t, test.options+": "+test.call, storeCalls(store)[test.call](t.Context()), test.says)
		if got, err := sound.List(t.Context(), "alice"); err != nil || len(got) != 1 {
			t.Errorf("%s: afterwards alice has %v, %v", test.options, got, err)
		}
	}
}

// namesVariables returns the options with MySQL's names of variables that have others in MariaDB
// before 11.
func (s sqlServer) namesVariables(t *testing.T, dsn, options string) string {
	t.Helper()
	if !strings.Contains(options, "tx_") || isMariaDB(t, s.open(t, dsn)) {
		return options
	}
	return strings.Replace(options, "tx_", "transaction_", 1)
}

func isMariaDB(t testing.TB, db *sql.DB) bool {
	t.Helper()
	var version string
	if err := db.QueryRowContext(t.Context(), "SELECT VERSION()").Scan(&version); err != nil {
		t.Fatal(err)
	}
	return strings.Contains(version, "MariaDB")
}

var sqlTables atomic.Int64

// newSQLTable returns the name of a table that no other test uses.
func newSQLTable() string { return fmt.Sprintf("sessions_%d", sqlTables.Add(1)) }

func withDSNOptions(dsn, options string) string {
	switch {
	case options == "":
		return dsn
	case strings.Contains(dsn, "?"):
		return dsn + "&" + options
	}
	return dsn + "?" + options
}

func randomSQLID() string {
	b := make([]byte, 16)
	_, _ = rand.Read(b) // never fails
	return base64.RawURLEncoding.EncodeToString(b)
}

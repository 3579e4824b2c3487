//go:build unix

package proof_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

// keepsASession fails unless the store keeps a session.
func keepsASession(t *testing.T, store *sqlstore.Store) {
	t.Helper()
	rec := sqlRecord("alice")
	if err := store.Create(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	if got, err := store.Load(t.Context(), rec.ID); err != nil || got.WriteID != rec.WriteID {
		t.Errorf("Load: %v, %v", got, err)
	}
}

// usesItsTable fails unless every statement of the store finds its table.
func usesItsTable(t *testing.T, store *sqlstore.Store) {
	t.Helper()
	keepsASession(t, store)
	now := time.Now().UTC().Truncate(time.Microsecond)
	records := make([]tokensession.Record, 3)
	for i := range records {
		records[i] = sqlRecord("bob")
		if err := store.Create(t.Context(), records[i]); err != nil {
			t.Fatal(err)
		}
	}
	next := swapped(records[0])
	next.ExpiresAt = next.ExpiresAt.Add(24 * time.Hour)
	if err := store.Swap(t.Context(), next); err != nil {
		t.Errorf("Swap: %v", err)
	}
	if revoked, err := store.RevokeSubject(t.Context(), ofSubject("bob", now, records[0].ID, records[1].ID)); err != nil || len(revoked) != 1 {
		t.Errorf("RevokeSubject: %v, %v, want one", revoked, err)
	}
	if told, err := revocations(t.Context(), store, now); err != nil || len(told) != 1 || told[0].SessionID != records[2].ID {
		t.Errorf("Revocations: %v, %v, want %s", told, err, records[2].ID)
	}
	if left, err := store.List(t.Context(), "bob"); err != nil || len(left) != 2 {
		t.Errorf("List: %v, %v, want two", left, err)
	}
	// Two of bob's and the one of keepsASession have expired; one was refreshed, which is to be
	// moved.
	if n, err := store.Sweep(t.Context(), now.Add(2*time.Hour), 10); err != nil || n != 3 {
		t.Errorf("Sweep dropped %d, %v, want 3", n, err)
	}
	if got, err := store.Load(t.Context(), next.ID); err != nil || got.Version != 2 {
		t.Errorf("Load: %v, %v, want the refreshed one", got, err)
	}
}

func countSQL(t *testing.T, db *sql.DB, query string) (n int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), query).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

func TestMigrate_byManyInstancesAtOnce(t *testing.T) {
	const instances = 8
	options := map[sqlstore.Dialect][]string{
		sqlstore.PostgreSQL: {"", "default_transaction_isolation=serializable&default_query_exec_mode=simple_protocol"},
		sqlstore.MySQL:      {"", "interpolateParams=true"},
		sqlstore.SQLite:     {""},
	}
	for _, server := range sqlServers {
		for _, o := range options[server.dialect] {
			t.Run(server.dialect.String()+" "+o, func(t *testing.T) {
				dsn := withDSNOptions(server.database(t), o)
				for _, table := range []string{"first", "second", "third"} {
					errs := make([]error, instances)
					var all sync.WaitGroup
					for i := range instances {
						db := server.open(t, dsn) // a pool of its own, as another process has
						store := server.store(t, db, table)
						all.Go(func() { errs[i] = store.Migrate(t.Context()) })
					}
					all.Wait()
					if err := errors.Join(errs...); err != nil {
						t.Fatalf("table %s: %v", table, err)
					}
					db := server.open(t, dsn)
					if n := countSQL(t, db, "SELECT COUNT(*) FROM "+table+"_schema"); n != 1 {
						t.Errorf("%d migrations are recorded, want 1", n)
					}
					keepsASession(t, server.store(t, db, table))
				}
			})
		}
	}
}

func TestMigrate_againKeepsSessions(t *testing.T) {
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		db := server.open(t, dsn)
		store := server.migrated(t, db, "")
		rec := sqlRecord("alice")
		if err := store.Create(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		if err := store.Migrate(t.Context()); err != nil {
			t.Errorf("Migrate again: %v", err)
		}
		if _, err := store.Load(t.Context(), rec.ID); err != nil {
			t.Errorf("after Migrate again: %v", err)
		}
	})
}

// A table that somebody dropped is not there, whatever the other table says of migrations.
func TestMigrate_namesATableThatWasDropped(t *testing.T) {
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		db := server.open(t, dsn)
		store := server.migrated(t, db, "gone")
		execSQL(t, db, "DROP TABLE gone")
		for _, says := range []string{`table "gone" does not exist`, `drop table "gone_schema"`} {
			wantRemedy(t, "Migrate", store.Migrate(t.Context()), says)
		}
		execSQL(t, db, "DROP TABLE gone_schema")
		if err := store.Migrate(t.Context()); err != nil {
			t.Fatalf("Migrate after what it said: %v", err)
		}
		keepsASession(t, store)
	})
}

func TestMigrate_finishesWhatACrashLeft(t *testing.T) {
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		db := server.open(t, dsn)
		server.migrated(t, db, "")
		if server.dialect == sqlstore.MySQL {
			// Its statements that create something cannot be undone: all may be there but the last
			// row.
			execSQL(t, db, "DELETE FROM token_sessions_schema")
		} else {
			execSQL(t, db, "DROP TABLE token_sessions")
			execSQL(t, db, "DROP TABLE token_sessions_schema")
			execSQL(t, db, "CREATE TABLE token_sessions_revoked (x INTEGER)") // the name of an index
			if err := server.store(t, db, "").Migrate(t.Context()); err == nil {
				t.Fatal("Migrate succeeded without an index")
			}
			execSQL(t, db, "DROP TABLE token_sessions_revoked")
		}
		keepsASession(t, server.migrated(t, db, ""))
	})
}

func TestMigrate_endsWithItsContextAndGivesTheLockBack(t *testing.T) {
	// What another connection does so that Migrate has to wait when it holds its lock, and how that
	// ends.
	hold := map[sqlstore.Dialect][2]string{
		sqlstore.PostgreSQL: {"BEGIN; CREATE TABLE token_sessions (id integer)", "ROLLBACK"},
		sqlstore.MySQL:      {"LOCK TABLES token_sessions WRITE", "UNLOCK TABLES"},
		sqlstore.SQLite:     {"BEGIN IMMEDIATE", "ROLLBACK"},
	}
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		dsn = strings.Replace(dsn, "busy_timeout(10000)", "busy_timeout(500)", 1) // SQLite notices the context's end after it
		db := server.open(t, dsn)
		db.SetMaxOpenConns(1)
		if server.dialect == sqlstore.MySQL {
			server.migrated(t, db, "")
			execSQL(t, db, "DELETE FROM token_sessions_schema")
		}
		blocker, err := server.open(t, dsn).Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer blocker.Close()
		if _, err := blocker.ExecContext(t.Context(), hold[server.dialect][0]); err != nil {
			t.Fatal(err)
		}
		store := server.store(t, db, "")
		ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if err := store.Migrate(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Migrate that has to wait: %v, want the context's error", err)
		}
		if _, err := blocker.ExecContext(t.Context(), hold[server.dialect][1]); err != nil {
			t.Fatal(err)
		}
		keepsASession(t, server.migrated(t, server.open(t, dsn), "")) // on another connection
		keepsASession(t, server.migrated(t, db, ""))                  // on the one that was interrupted
	})
}

func TestMigrate_knowsASchemaAppliedByHand(t *testing.T) {
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		db := server.open(t, dsn)
		db.SetMaxOpenConns(1)
		for _, table := range []string{"", "by_hand"} {
			schema, err := sqlstore.Schema(server.dialect, table)
			if err != nil {
				t.Fatal(err)
			}
			for statement := range strings.SplitSeq(schema, ";\n") {
				if strings.TrimSpace(statement) != "" {
					execSQL(t, db, statement)
				}
			}
			store := server.store(t, db, table)
			keepsASession(t, store)
			if err := store.Migrate(t.Context()); err != nil {
				t.Errorf("Migrate after the SQL of Schema: %v", err)
			}
		}
	})
}

func TestSQLStore_quotesTheNameOfItsTable(t *testing.T) {
	names := map[sqlstore.Dialect][]string{
		sqlstore.PostgreSQL: {"order", "User", "user", "_", "auth.sessions", "auth.User", strings.Repeat("x", 48)},
		sqlstore.MySQL:      {"order", "select", "_", "DATABASE.sessions", "DATABASE.order", strings.Repeat("x", 48)},
		sqlstore.SQLite:     {"order", "select", "_", strings.Repeat("x", 48)},
	}
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		db := server.open(t, dsn)
		switch server.dialect {
		case sqlstore.PostgreSQL:
			execSQL(t, db, "CREATE SCHEMA auth")
		case sqlstore.MySQL: // the name of the database, seen from another one
			var name string
			if err := db.QueryRow("SELECT DATABASE()").Scan(&name); err != nil {
				t.Fatal(err)
			}
			for i := range names[server.dialect] {
				names[server.dialect][i] = strings.Replace(names[server.dialect][i], "DATABASE", name, 1)
			}
			db = server.open(t, server.database(t))
		}
		for _, name := range names[server.dialect] {
			usesItsTable(t, server.migrated(t, db, name))
		}
		if server.dialect == sqlstore.MySQL {
			// A pool of no database, whose statements must all name that of the table.
			cfg, err := mysql.ParseDSN(dsn)
			if err != nil {
				t.Fatal(err)
			}
			name := cfg.DBName + ".alone"
			cfg.DBName = ""
			usesItsTable(t, server.migrated(t, server.open(t, cfg.FormatDSN()), name))
		}
		if server.dialect == sqlstore.PostgreSQL {
			if n := countSQL(t, db, "SELECT COUNT(*) FROM pg_indexes WHERE schemaname='auth'"); n != 16 {
				t.Errorf("%d indexes in the schema of two tables of each kind, want 16", n)
			}
		}
	})
}

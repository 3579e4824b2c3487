//go:build unix

package proof_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/storetest"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// mysqlStatus returns a counter of the whole server.
func mysqlStatus(t *testing.T, db *sql.DB, name string) (value int) {
	t.Helper()
	if err := db.QueryRowContext(t.Context(), "SHOW GLOBAL STATUS LIKE '"+name+"'").Scan(&name, &value); err != nil {
		t.Fatal(err)
	}
	return value
}

// A host that asks its driver to put parameters into the text does so because something between
// here and the server bears no prepared statements.
func TestSQLStore_preparesNothingWhereTheDSNSaysSo(t *testing.T) {
	maria := servers.StartMariaDB(t, servers.MariaDBOptions{})
	db := sqlServers[1].open(t, withDSNOptions(maria.DSN, "interpolateParams=true"))
	store := sqlServers[1].migrated(t, db, "")
	before := mysqlStatus(t, db, "Com_stmt_prepare")
	usesItsTable(t, store)
	if n := mysqlStatus(t, db, "Com_stmt_prepare") - before; n != 0 {
		t.Errorf("%d statements were prepared", n)
	}
}

// A server that allows no prepared statements, or has no room for another one, says so when it is
// to prepare one.
func TestSQLStore_sendsTextWhereTheServerPreparesNothing(t *testing.T) {
	maria := servers.StartMariaDB(t, servers.MariaDBOptions{Args: []string{"--max-prepared-stmt-count=0"}})
	db := sqlServers[1].open(t, maria.DSN)
	store := sqlServers[1].migrated(t, db, "")
	usesItsTable(t, store)
	if err := store.Check(t.Context()); err != nil {
		t.Errorf("Check: %v", err)
	}
	storetest.Run(t, func(t *testing.T) tokensession.RefreshStore {
		execSQL(t, db, "DELETE FROM token_sessions")
		return store
	})
}

// A server that has room for a few statements is not kept from giving it to others.
func TestSQLStore_dropsItsStatementsWhereThereIsNoRoomForMore(t *testing.T) {
	maria := servers.StartMariaDB(t, servers.MariaDBOptions{Args: []string{"--max-prepared-stmt-count=3"}})
	db := sqlServers[1].open(t, maria.DSN)
	store := sqlServers[1].migrated(t, db, "")
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			rec := sqlRecord(fmt.Sprint("user ", i))
			if err := store.Create(t.Context(), rec); err != nil {
				t.Errorf("Create: %v", err)
			}
			for range 20 {
				rec = swapped(rec)
				if err := store.Swap(t.Context(), rec); err != nil {
					t.Errorf("Swap: %v", err)
				}
				if _, err := store.Load(t.Context(), rec.ID); err != nil {
					t.Errorf("Load: %v", err)
				}
			}
		})
	}
	all.Wait()
	execSQL(t, db, "DELETE FROM token_sessions")
	usesItsTable(t, store)
	if n := mysqlStatus(t, db, "Prepared_stmt_count"); n != 0 {
		t.Errorf("%d statements are still prepared", n)
	}
}

// A proxy that has lost its connection to the server has forgotten what was prepared on it. The
// server's error, 1243, comes back for as long as the statement is used.
func TestSQLStore_sendsTextWhereAStatementWasForgotten(t *testing.T) {
	server := sqlServers[1]
	dsn := server.database(t)
	var forgets atomic.Bool
	db := openForgetting(t, dsn, &forgets)
	store := server.migrated(t, db, "")
	usesItsTable(t, store)
	prepared, err := db.PrepareContext(t.Context(), "SELECT ?")
	if err != nil {
		t.Fatal(err)
	}
	defer prepared.Close()
	forgets.Store(true)
	var is *mysql.MySQLError
	if err := prepared.QueryRow(1).Scan(new(int)); !errors.As(err, &is) || is.Number != 1243 {
		t.Fatalf("a statement that was forgotten: %v, want error 1243", err)
	}
	execSQL(t, server.open(t, dsn), "DELETE FROM token_sessions")
	usesItsTable(t, store)
}

// RevokeSubject of one account waits for nobody else's session, and keeps nobody else waiting: with
// the wrong index MariaDB locks the rows of everybody who is not revoked.
func TestSQLStore_revokeSubjectLocksNoOtherSubject(t *testing.T) {
	for _, server := range sqlServers[:2] {
		t.Run(server.dialect.String(), func(t *testing.T) {
			dsn := server.database(t)
			db := server.open(t, dsn)
			store := server.migrated(t, db, "")
			var mine, others []tokensession.Record
			for i := range 2000 {
				subject := fmt.Sprint("user ", i%1000)
				if i%100 == 0 {
					subject = "alice"
				}
				rec := sqlRecord(subject)
				if err := store.Create(t.Context(), rec); err != nil {
					t.Fatal(err)
				}
				if subject == "alice" {
					mine = append(mine, rec)
				} else {
					others = append(others, rec)
				}
			}
			execSQL(t, db, map[sqlstore.Dialect]string{sqlstore.PostgreSQL: "ANALYZE", sqlstore.MySQL: "ANALYZE TABLE token_sessions"}[server.dialect])
			// Somebody holds every row of the others.
			blocker, err := server.open(t, dsn).Begin()
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = blocker.Rollback() }()
			holder, err := blocker.Query("SELECT id FROM token_sessions WHERE subject <> 'alice' FOR UPDATE")
			if err != nil {
				t.Fatal(err)
			}
			held := 0
			for holder.Next() {
				held++
			}
			_ = holder.Close()
			if held != len(others) && server.dialect == sqlstore.PostgreSQL {
				t.Fatalf("%d rows are held, want %d", held, len(others))
			}
			if server.dialect == sqlstore.MySQL { // it has locked all that it read: hold some by their ids instead
				_ = blocker.Rollback()
				if blocker, err = server.open(t, dsn).Begin(); err != nil {
					t.Fatal(err)
				}
				for _, rec := range others {
					if _, err := blocker.Exec("UPDATE token_sessions FORCE INDEX (PRIMARY) SET generation = 1 WHERE id = ?", rec.ID); err != nil {
						t.Fatal(err)
					}
				}
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			revoked, err := store.RevokeSubject(ctx, ofSubject("alice", time.Now()))
			if err != nil || len(revoked) != len(mine) {
				t.Errorf("RevokeSubject beside locked rows of others: %d of %d, %v", len(revoked), len(mine), err)
			}
		})
	}
}

// Confirmations and logins do not wait for each other for long, whatever the order of their ids.
func TestSQLStore_confirmationsLockNoSession(t *testing.T) {
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		if server.dialect == sqlstore.SQLite {
			return // it has one writer at a time
		}
		db := server.open(t, dsn)
		store := server.migrated(t, db, "")
		rec := sqlRecord("alice")
		if err := store.Create(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		blocker, err := server.open(t, dsn).Begin()
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = blocker.Rollback() }()
		if _, err := blocker.Exec("UPDATE token_sessions SET generation = 1 WHERE id = '" + rec.ID + "'"); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		var all sync.WaitGroup
		for range 8 {
			all.Go(func() {
				for range 10 {
					if _, err := store.Load(ctx, randomSQLID()); err == nil || !strings.Contains(err.Error(), "not found") {
						t.Errorf("Load beside a locked row: %v", err)
					}
					if err := store.Create(ctx, sqlRecord("bob")); err != nil {
						t.Errorf("Create beside confirmations: %v", err)
					}
				}
			})
		}
		all.Wait()
	})
}

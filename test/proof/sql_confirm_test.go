//go:build unix

package proof_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// Forged tokens must not double the load: what is unknown at the same time is confirmed by few
// statements.
func TestSQLStore_oneConfirmationServesManyUnknownSessions(t *testing.T) {
	const unknown = 100
	db, sent := countingPostgres(t)
	db.SetMaxOpenConns(16)
	db.SetMaxIdleConns(16)
	store := sqlServers[0].migrated(t, db, "")
	known := make([]tokensession.Record, 10)
	for i := range known {
		known[i] = sqlRecord("alice")
		if err := store.Create(t.Context(), known[i]); err != nil {
			t.Fatal(err)
		}
	}
	sent.queries.Store(0)
	var all sync.WaitGroup
	begin := make(chan struct{})
	for range unknown {
		all.Go(func() {
			<-begin
			if _, err := store.Load(t.Context(), randomSQLID()); !errors.Is(err, tokensession.ErrNotFound) {
				t.Errorf("Load: %v, want ErrNotFound", err)
			}
		})
	}
	for _, rec := range known {
		all.Go(func() {
			<-begin
			if got, err := store.Load(t.Context(), rec.ID); err != nil || got.WriteID != rec.WriteID {
				t.Errorf("Load of a live session: %v, %v", got, err)
			}
		})
	}
	close(begin)
	all.Wait()
	n := sent.queries.Load()
	t.Logf("%d unknown sessions took %d statements", unknown, n-int64(len(known)))
	if n > unknown*3/2 {
		t.Errorf("%d statements for %d unknown sessions and %d others", n, unknown, len(known))
	}
}

// Someone who waits for a confirmation goes when his request ends, and the others get theirs.
func TestSQLStore_whoGoesTakesNoConfirmationAlong(t *testing.T) {
	server := sqlServers[0]
	dsn := server.database(t)
	db := server.open(t, dsn)
	store := server.migrated(t, db, "")
	blocker, err := server.open(t, dsn).Begin()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = blocker.Rollback() }()
	if _, err := blocker.Exec("SELECT 1 FROM token_sessions_schema FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	impatient, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			if _, err := store.Load(t.Context(), randomSQLID()); !errors.Is(err, tokensession.ErrNotFound) {
				t.Errorf("Load by one who waits: %v, want ErrNotFound", err)
			}
		})
		all.Go(func() {
			if _, err := store.Load(impatient, randomSQLID()); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("Load by one who goes: %v, want the context's error", err)
			}
		})
	}
	<-impatient.Done()
	if err := blocker.Rollback(); err != nil {
		t.Fatal(err)
	}
	all.Wait()
}

// A MariaDB that is read-only is a replica, or a primary that was demoted, whatever the account may
// do.
func TestSQLStore_readOnlyMariaDBIsNoVerdict(t *testing.T) {
	server := sqlServers[1]
	maria := servers.StartMariaDB(t, servers.MariaDBOptions{})
	db := server.open(t, maria.DSN)
	store := server.migrated(t, db, "")
	rec := sqlRecord("alice")
	if err := store.Create(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	m := managerOn(t, store)
	tokens, err := m.Start(t.Context(), "bob")
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Check(t.Context()); err != nil {
		t.Errorf("Check of a primary: %v", err)
	}
	execSQL(t, db, "DELETE FROM token_sessions WHERE id <> ?", rec.ID) // as if it lagged behind
	execSQL(t, db, "SET GLOBAL read_only = 1")
	for name, call := range map[string]func() error{
		"Load":  func() error { _, err := store.Load(t.Context(), tokens.Session.ID); return err },
		"Swap":  func() error { return store.Swap(t.Context(), swapped(sqlRecord("bob"))) },
		"List":  func() error { _, err := store.List(t.Context(), "bob"); return err },
		"Check": func() error { return store.Check(t.Context()) },
		"Revocations": func() error {
			_, err := revocations(t.Context(), store, time.Now())
			return err
		},
		"RevokeSubject": func() error {
			_, err := store.RevokeSubject(t.Context(), ofSubject("bob", time.Now()))
			return err
		},
	} {
		wantRemedy(t, name, call(), "the server is read-only: open the pool on the primary")
	}
	if _, err := m.Refresh(t.Context(), tokens.RefreshToken); !errors.Is(err, tokensession.ErrUnavailable) {
		t.Errorf("Refresh: %v, want ErrUnavailable", err)
	}
	if got, err := store.Load(t.Context(), rec.ID); err != nil || got.WriteID != rec.WriteID {
		t.Errorf("Load of what is there: %v, %v", got, err)
	}
	execSQL(t, db, "SET GLOBAL read_only = 0")
	if _, err := m.Refresh(t.Context(), tokens.RefreshToken); !errors.Is(err, tokensession.ErrInvalidToken) {
		t.Errorf("Refresh of a session that is gone: %v, want ErrInvalidToken", err)
	}
}

// A file of SQLite that this connection may not write to may be a copy, or be read as it once was.
func TestSQLStore_readOnlySQLiteIsNoVerdict(t *testing.T) {
	server := sqlServers[2]
	dsn := server.database(t)
	db := server.open(t, dsn)
	server.migrated(t, db, "")
	execSQL(t, db, "PRAGMA wal_checkpoint(TRUNCATE)") // for who does not read what is written beside the file
	for _, options := range []string{"mode=ro", "_pragma=query_only(1)", "immutable=1"} {
		store := server.store(t, server.open(t, withDSNOptions(dsn, options)), "")
		for _, name := range []string{"Load", "List", "Swap"} {
			wantRemedy(t, options+": "+name, storeCalls(store)[name](t.Context()), "the server is read-only")
		}
		wantRemedy(t, options+": Check", store.Check(t.Context()), "the server is read-only")
	}
}

// With the rights that the README names all calls work. Check finds one that is missing.
func TestSQLStore_checkFindsMissingRights(t *testing.T) {
	for _, server := range sqlServers[:2] {
		t.Run(server.dialect.String(), func(t *testing.T) {
			dsn := server.database(t)
			admin := server.open(t, dsn)
			server.migrated(t, admin, "")
			role := "a" + randomRole()
			account, appDSN := role, withUserOf(t, server, dsn, role)
			if server.dialect == sqlstore.MySQL {
				account = "'" + role + "'@'%'"
				execSQL(t, admin, "CREATE USER "+account)
			} else {
				execSQL(t, admin, "CREATE ROLE "+role+" LOGIN")
			}
			t.Cleanup(func() {
				if server.dialect == sqlstore.MySQL {
					_, _ = admin.ExecContext(context.Background(), "DROP USER "+account)
					return
				}
				_, _ = admin.ExecContext(context.Background(), "DROP OWNED BY "+role)
				_, _ = admin.ExecContext(context.Background(), "DROP ROLE "+role)
			})
			execSQL(t, admin, "GRANT SELECT, INSERT, UPDATE, DELETE ON token_sessions TO "+account)
			execSQL(t, admin, "GRANT SELECT, UPDATE ON token_sessions_schema TO "+account)
			store := server.store(t, server.open(t, appDSN), "")
			if err := store.Check(t.Context()); err != nil {
				t.Errorf("Check: %v", err)
			}
			if err := store.Migrate(t.Context()); err != nil {
				t.Errorf("Migrate with nothing to do: %v", err)
			}
			usesItsTable(t, store)
			for _, missing := range []string{
				"SELECT ON token_sessions", "INSERT ON token_sessions", "UPDATE ON token_sessions",
				"DELETE ON token_sessions", "SELECT ON token_sessions_schema", "UPDATE ON token_sessions_schema",
			} {
				if server.dialect == sqlstore.MySQL && missing == "UPDATE ON token_sessions_schema" && isMariaDB(t, admin) {
					continue // MariaDB lets who may read lock
				}
				execSQL(t, admin, "REVOKE "+missing+" FROM "+account)
				wantRemedy(t, "Check without "+missing, store.Check(t.Context()), "the account may not do that")
				execSQL(t, admin, "GRANT "+missing+" TO "+account)
			}
			if err := store.Check(t.Context()); err != nil {
				t.Errorf("Check: %v", err)
			}
		})
	}
}

func TestSQLStore_checkFindsAClockThatDiffers(t *testing.T) {
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		db := server.open(t, dsn)
		server.migrated(t, db, "")
		for _, ahead := range []time.Duration{0, time.Minute, -time.Minute} {
			now := func() time.Time { return time.Now().Add(ahead) }
			store, err := sqlstore.New(db, server.dialect, sqlstore.Config{Now: now})
			if err != nil {
				t.Fatal(err)
			}
			switch err := store.Check(t.Context()); {
			case ahead == 0 && err != nil:
				t.Errorf("Check: %v", err)
			case ahead != 0:
				wantRemedy(t, "Check", err, "set both clocks by the same source")
			}
		}
	})
}

// The clock of one instance is ahead by more than a session lasts. It must not drop what lives by all
// other clocks.
func TestSQLStore_sweepByAClockThatIsAheadDropsNothingThatLives(t *testing.T) {
	for _, server := range sqlServers[:2] { // SQLite is on the machine of the instance
		t.Run(server.dialect.String(), func(t *testing.T) {
			db := server.open(t, server.database(t))
			server.migrated(t, db, "")
			const ahead = 8 * 24 * time.Hour
			now := func() time.Time { return time.Now().Add(ahead) }
			store, err := sqlstore.New(db, server.dialect, sqlstore.Config{Now: now})
			if err != nil {
				t.Fatal(err)
			}
			live, over := sqlRecord("alice"), sqlRecord("bob")
			over.ExpiresAt = time.Now().Add(-time.Minute)
			for _, rec := range []tokensession.Record{live, over} {
				if err := store.Create(t.Context(), rec); err != nil {
					t.Fatal(err)
				}
			}
			if n, err := store.Sweep(t.Context(), now(), 10); n != 1 || err != nil {
				t.Errorf("Sweep: %d, %v, want the one that has expired", n, err)
			}
			if _, err := store.Load(t.Context(), live.ID); err != nil {
				t.Errorf("of a session that lives: %v", err)
			}
		})
	}
}

// A row that a later version has written, of which this one knows only that, is no verdict, and
// stays.
func TestSQLStore_leavesAloneWhatALaterVersionHasWritten(t *testing.T) {
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		db := server.open(t, dsn)
		store := server.migrated(t, db, "")
		m := managerOn(t, store)
		tokens, err := m.Start(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		rec, err := store.Load(t.Context(), tokens.Session.ID)
		if err != nil {
			t.Fatal(err)
		}
		other := sqlRecord("alice")
		if err := store.Create(t.Context(), other); err != nil {
			t.Fatal(err)
		}
		execSQL(t, db, "ALTER TABLE token_sessions ADD COLUMN invented INTEGER")
		execSQL(t, db, "UPDATE token_sessions SET format = 2, invented = 7 WHERE id = '"+rec.ID+"'")

		if _, err := m.Refresh(t.Context(), tokens.RefreshToken); !errors.Is(err, tokensession.ErrUnavailable) {
			t.Errorf("Refresh: %v, want ErrUnavailable", err)
		}
		next := swapped(rec)
		for name, err := range map[string]error{
			"Load": loadError(t, store, rec.ID), "Swap": store.Swap(t.Context(), next),
		} {
			if !errors.Is(err, tokensession.ErrUnreadable) || !strings.Contains(err.Error(), "later version") {
				t.Errorf("%s: %v, want that a later version has written it", name, err)
			}
		}
		listed, err := store.List(t.Context(), "alice")
		if !errors.Is(err, tokensession.ErrUnreadable) || len(listed) != 1 || listed[0].ID != other.ID {
			t.Errorf("List: %v, %v, want the other one", listed, err)
		}
		revoked, err := store.RevokeSubject(t.Context(), ofSubject("alice", time.Now()))
		if !errors.Is(err, tokensession.ErrUnreadable) || len(revoked) != 1 || revoked[0].ID != other.ID {
			t.Errorf("RevokeSubject: %v, %v, want the other one and that this one is left", revoked, err)
		}
		execSQL(t, db, "UPDATE token_sessions SET format = NULL WHERE id = '"+rec.ID+"'")
		if got, err := store.Load(t.Context(), rec.ID); err != nil || got.WriteID != rec.WriteID || !got.RevokedAt.IsZero() {
			t.Errorf("it did not stay as it was: %v, %v", got, err)
		}
	})
}

func loadError(t *testing.T, store *sqlstore.Store, id string) error {
	t.Helper()
	_, err := store.Load(t.Context(), id)
	return err
}

// Of a table that a later version has changed so much that this one does not understand it, an
// empty answer says nothing.
func TestSQLStore_saysNothingOfATableOfALaterVersion(t *testing.T) {
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		db := server.open(t, dsn)
		store := server.migrated(t, db, "")
		execSQL(t, db, "INSERT INTO token_sessions_schema (version, oldest) VALUES (2, 1)")
		if err := errors.Join(store.Migrate(t.Context()), store.Check(t.Context())); err != nil {
			t.Errorf("of a later version that this one understands: %v", err)
		}
		if _, err := store.Load(t.Context(), randomSQLID()); !errors.Is(err, tokensession.ErrNotFound) {
			t.Errorf("Load: %v, want ErrNotFound", err)
		}
		execSQL(t, db, "INSERT INTO token_sessions_schema (version, oldest) VALUES (3, 3)")
		for _, name := range []string{"Load", "List", "Swap", "RevokeSubject"} {
			wantRemedy(t, name, storeCalls(store)[name](t.Context()), "upgrade this program")
		}
		wantRemedy(t, "Migrate", store.Migrate(t.Context()), "upgrade this program")
		wantRemedy(t, "Check", store.Check(t.Context()), "upgrade this program")
	})
}

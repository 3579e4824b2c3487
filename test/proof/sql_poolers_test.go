//go:build unix

package proof_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	_ "github.com/lib/pq"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// Behind PgBouncer in transaction mode a statement may meet what another client prepared on the
// connection. Then a call may fail, and must not say that a live session is unknown, or that a user
// has none.
func TestSQLStore_noSessionIsUnknownBehindPgBouncer(t *testing.T) {
	const sessions, clients, rounds = 400, 16, 3
	postgres := servers.StartPostgres(t, servers.PostgresOptions{})
	bouncer := servers.StartPgBouncer(t, postgres, 4)
	direct := sqlServers[0].migrated(t, sqlServers[0].open(t, postgres.DSN), "")
	live := make([]tokensession.Record, sessions)
	for i := range live {
		live[i] = sqlRecord(fmt.Sprint("user ", i))
		if err := direct.Create(t.Context(), live[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, way := range []struct {
		driver, options string
		works           bool
	}{
		{"postgres", "", false},
		{"postgres", "&binary_parameters=yes", true},
		{"pgx", "&default_query_exec_mode=exec", true},
		{"pgx", "&default_query_exec_mode=simple_protocol", true},
		{"pgx", "&default_query_exec_mode=describe_exec", false},
		{"pgx", "&default_query_exec_mode=cache_describe", true},
	} {
		t.Run(way.driver+way.options, func(t *testing.T) {
			db, err := sql.Open(way.driver, bouncer.DSN+way.options)
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			db.SetMaxOpenConns(clients)
			db.SetMaxIdleConns(clients)
			store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Config{})
			if err != nil {
				t.Fatal(err)
			}
			var right, failed atomic.Int64
			var all sync.WaitGroup
			for client := range clients {
				all.Go(func() {
					for i := client; i < rounds*sessions; i += clients {
						rec := live[i%sessions]
						loaded, err := store.Load(t.Context(), rec.ID)
						listed, listErr := store.List(t.Context(), rec.Subject)
						next := swapped(rec)
						next.Replaces = "another write"
						swapErr := store.Swap(t.Context(), next)
						switch {
						case errors.Is(err, tokensession.ErrNotFound), errors.Is(swapErr, tokensession.ErrNotFound):
							t.Errorf("a live session is unknown: Load says %v, Swap %v", err, swapErr)
						case err == nil && loaded.WriteID != rec.WriteID:
							t.Errorf("Load returned %v, want %v", loaded, rec)
						case listErr == nil && (len(listed) != 1 || listed[0].ID != rec.ID):
							t.Errorf("List returned %v, want one", listed)
						case swapErr == nil:
							t.Error("Swap replaced another write")
						case err != nil || listErr != nil || !errors.Is(swapErr, tokensession.ErrConflict):
							failed.Add(1)
							if way.works {
								t.Errorf("Load: %v; List: %v; Swap: %v", err, listErr, swapErr)
							}
							continue
						}
						right.Add(1)
					}
				})
			}
			all.Wait()
			t.Logf("%d right, %d failed", right.Load(), failed.Load())
		})
	}
}

// Row level security that is switched on without a policy hides every row, and says nothing of it.
func TestSQLStore_rowLevelSecurityIsNoEmptyTable(t *testing.T) {
	server := sqlServers[0]
	dsn := server.database(t)
	admin := server.open(t, dsn)
	owner := server.migrated(t, admin, "")
	role := "app" + randomRole()
	execSQL(t, admin, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() {
		_, _ = admin.ExecContext(context.Background(), "DROP OWNED BY "+role)
		_, _ = admin.ExecContext(context.Background(), "DROP ROLE "+role)
	})
	execSQL(t, admin, "GRANT SELECT, INSERT, UPDATE, DELETE ON token_sessions TO "+role)
	execSQL(t, admin, "GRANT SELECT, UPDATE ON token_sessions_schema TO "+role)

	app := server.store(t, server.open(t, withUser(t, dsn, role)), "")
	if err := app.Check(t.Context()); err != nil {
		t.Fatalf("with the rights that the README names: %v", err)
	}
	m := managerOn(t, app)
	tokens, err := m.Start(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	execSQL(t, admin, "ALTER TABLE token_sessions ENABLE ROW LEVEL SECURITY")
	const remedy = "row level security hides rows"
	for name, call := range map[string]func() error{
		"Check": func() error { return app.Check(t.Context()) },
		"Load":  func() error { _, err := app.Load(t.Context(), tokens.Session.ID); return err },
		"List":  func() error { _, err := app.List(t.Context(), "alice"); return err },
		"Swap":  func() error { return app.Swap(t.Context(), swapped(sqlRecord("alice"))) },
		"RevokeSubject": func() error {
			_, err := app.RevokeSubject(t.Context(), ofSubject("alice", time.Now()))
			return err
		},
		"Revocations": func() error { _, err := revocations(t.Context(), app, time.Now()); return err },
	} {
		wantRemedy(t, name, call(), remedy)
	}
	if _, err := m.Refresh(t.Context(), tokens.RefreshToken); !errors.Is(err, tokensession.ErrUnavailable) {
		t.Errorf("Refresh: %v, want ErrUnavailable", err)
	}
	if n, err := m.RevokeSubject(t.Context(), "alice"); err == nil {
		t.Errorf("RevokeSubject ended %d and said nothing", n)
	}
	if _, err := owner.Load(t.Context(), tokens.Session.ID); err != nil {
		t.Errorf("the owner is not bound by it, and gets %v", err)
	}
	execSQL(t, admin, "ALTER TABLE token_sessions DISABLE ROW LEVEL SECURITY")
	if _, err := m.Refresh(t.Context(), tokens.RefreshToken); err != nil {
		t.Errorf("Refresh afterwards: %v", err)
	}
}

// A pooler that sends reads to a standby answers them with the state of a while ago. This one does
// not look at the comment by which the store's reads ask for the primary.
func TestSQLStore_freshLoginsLiveBehindPgpool(t *testing.T) {
	primary := servers.StartPostgres(t, servers.PostgresOptions{})
	sqlServers[0].migrated(t, sqlServers[0].open(t, primary.DSN), "")
	standby := primary.StartStandby(servers.PostgresOptions{
		Settings: map[string]string{"recovery_min_apply_delay": "60s"},
	})
	pool := servers.StartPgpool(t, primary, standby, "allow_sql_comments = on")
	store := sqlServers[0].store(t, sqlServers[0].open(t, pool.DSN), "")
	m := managerOn(t, store)
	for i := range 60 {
		tokens, err := m.Start(t.Context(), fmt.Sprint("user ", i))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Refresh(t.Context(), tokens.RefreshToken); err != nil {
			t.Errorf("the first refresh of a fresh login: %v", err)
		}
	}
	if _, err := store.Load(t.Context(), randomSQLID()); !errors.Is(err, tokensession.ErrNotFound) {
		t.Errorf("of a session that does not exist: %v, want ErrNotFound", err)
	}
}

// What a standby knows can be old: a session that was revoked since, and some of a user's sessions, but
// not all. No read that is empty would show that, so all reads go to the primary.
func TestSQLStore_readsNothingOldBehindPgpool(t *testing.T) {
	primary := servers.StartPostgres(t, servers.PostgresOptions{})
	sqlServers[0].migrated(t, sqlServers[0].open(t, primary.DSN), "")
	standby := primary.StartStandby(servers.PostgresOptions{})
	pool := servers.StartPgpool(t, primary, standby)
	store := sqlServers[0].store(t, sqlServers[0].open(t, pool.DSN), "")
	key, err := tokensession.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	instance := func(cfg tokensession.Config) *tokensession.Manager {
		cfg.Remember = -1
		return redisManagerOf(t, key, store, cfg)
	}
	m, elsewhere, limited := instance(tokensession.Config{}), instance(tokensession.Config{}),
		instance(tokensession.Config{MaxSessions: 1})
	start := func(subject string) tokensession.Tokens {
		t.Helper()
		tokens, err := m.Start(t.Context(), subject)
		if err != nil {
			t.Fatal(err)
		}
		return tokens
	}

	first, bobs := start("alice"), start("bob")
	behind := sqlServers[0].open(t, standby.DSN)
	for countSQL(t, behind, "SELECT COUNT(*) FROM token_sessions") != 2 {
		time.Sleep(20 * time.Millisecond)
	}
	execSQL(t, behind, "SELECT pg_wal_replay_pause()")
	second := start("alice")
	if n, err := m.Reauthorize(t.Context(), "alice"); n != 2 || err != nil {
		t.Errorf("Reauthorize: %d, %v, want both sessions", n, err)
	}
	for _, tokens := range []tokensession.Tokens{first, second} {
		if _, err := elsewhere.VerifyLive(t.Context(), tokens.AccessToken); !errors.Is(err, tokensession.ErrOutdated) {
			t.Errorf("VerifyLive, of an outdated token: %v", err)
		}
	}
	if err := m.Revoke(t.Context(), bobs.Session.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := elsewhere.VerifyLive(t.Context(), bobs.AccessToken); !errors.Is(err, tokensession.ErrRevoked) {
		t.Errorf("VerifyLive, of a revoked session: %v", err)
	}
	told, err := revocations(t.Context(), store, bobs.Session.CreatedAt)
	if err != nil || len(told) != 3 {
		t.Errorf("the feed tells %v, %v, want one revoked and two outdated", told, err)
	}
	for range 2 {
		if first, err = m.Refresh(t.Context(), first.RefreshToken); err != nil {
			t.Fatalf("Refresh of a session that is old at the standby: %v", err)
		}
	}
	if _, err := limited.Start(t.Context(), "alice"); err != nil {
		t.Fatal(err)
	}
	if listed, err := m.Sessions(t.Context(), "alice"); len(listed) != 1 || err != nil {
		t.Errorf("with MaxSessions 1: %v, %v", listed, err)
	}
}

// A primary that waits for a synchronous standby, and is cut off from it, confirms nothing: another
// server may be the primary now.
func TestSQLStore_primaryWithoutItsSynchronousStandbyConfirmsNothing(t *testing.T) {
	postgres := servers.StartPostgres(t, servers.PostgresOptions{
		Settings: map[string]string{"synchronous_standby_names": "gone"},
	})
	// What waits for no standby creates the table.
	sqlServers[0].migrated(t, sqlServers[0].open(t, withDSNOptions(postgres.DSN, "synchronous_commit=local")), "")
	store := sqlServers[0].store(t, sqlServers[0].open(t, postgres.DSN), "")
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := store.Load(ctx, randomSQLID()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("Load: %v, want that it could not tell in time", err)
	}
}

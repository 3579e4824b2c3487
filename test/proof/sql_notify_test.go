//go:build unix

package proof_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/sqlstore/pgxnotify"
	"github.com/seed67bc9b7f/tokensession/storetest"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// pgxTo returns what connects to a database.
func pgxTo(dsn string) func(context.Context) (*pgx.Conn, error) {
	return func(ctx context.Context) (*pgx.Conn, error) {
		cfg, err := pgx.ParseConfig(dsn)
		if err != nil {
			return nil, err
		}
		cfg.RuntimeParams["application_name"] = listener
		return pgx.ConnectConfig(ctx, cfg)
	}
}

const listener = "listener"

// pgxStore returns a store that notifies, whose sessions are written through one database and whose
// notifications come from another, which most often is the same.
func pgxStore(t testing.TB, db *sql.DB, listenDSN, table string) *pgxnotify.Store {
	t.Helper()
	store, err := pgxnotify.New(db, pgxTo(listenDSN), sqlstore.Config{Table: table})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

// pgxMigrated returns a store that notifies on a new table.
func pgxMigrated(t testing.TB, db *sql.DB, listenDSN, table string) *pgxnotify.Store {
	t.Helper()
	store := pgxStore(t, db, listenDSN, table)
	if err := store.Migrate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return store
}

// pgxNotified fails the test unless Notified returns nil within some time.
func pgxNotified(t *testing.T, store *pgxnotify.Store, when string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := store.Notified(ctx); err != nil {
		t.Fatalf("%s: Notified: %v", when, err)
	}
}

// pgxQuiet fails the test if Notified returns before the time is over.
func pgxQuiet(t *testing.T, store *pgxnotify.Store, when string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := store.Notified(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s: Notified: %v, want to wait", when, err)
	}
}

// pgxRefuses fails the test unless Notified fails, for the reason given, and for no other one.
func pgxRefuses(t *testing.T, store *pgxnotify.Store, reason string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := store.Notified(ctx)
	if err == nil || ctx.Err() != nil || !strings.Contains(err.Error(), reason) {
		t.Errorf("Notified: %v, want an error that says %q", err, reason)
	}
}

func TestPgxnotify_keepsTheContract(t *testing.T) {
	server := sqlServers[0]
	dsn := server.database(t)
	db := server.open(t, dsn)
	for _, options := range []string{"", "default_query_exec_mode=simple_protocol"} {
		db, table := server.open(t, withDSNOptions(dsn, options)), newSQLTable()
		store := pgxMigrated(t, db, withDSNOptions(dsn, options), table)
		storetest.Run(t, func(t *testing.T) tokensession.RefreshStore {
			execSQL(t, db, "DELETE FROM "+table)
			return store
		})
	}
	table := newSQLTable()
	stores := []tokensession.RefreshStore{
		pgxMigrated(t, db, dsn, table), pgxStore(t, server.open(t, dsn), dsn, "public."+table), server.store(t, db, table),
	}
	storetest.RunShared(t, func(t *testing.T) []tokensession.RefreshStore {
		execSQL(t, db, "DELETE FROM "+table)
		return stores
	})
}

// Whatever revokes or outdates a session notifies, and nothing else does.
func TestPgxnotify_tellsWhatIsNewInTheFeed(t *testing.T) {
	server := sqlServers[0]
	dsn := server.database(t)
	db := server.open(t, dsn)
	execSQL(t, db, `CREATE SCHEMA "Apps own"`)
	for _, table := range []string{"", "elsewhere"} {
		pgxMigrated(t, db, dsn, table)
	}
	store := pgxStore(t, db, dsn, "")
	plain := server.store(t, db, "") // of a program that does not know of notifications
	elsewhere := server.store(t, db, "elsewhere")
	add := func(store *sqlstore.Store) tokensession.Record {
		t.Helper()
		rec := sqlRecord("alice")
		if err := store.Create(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		return rec
	}
	swap := func(store *sqlstore.Store, next tokensession.Record) tokensession.Record {
		t.Helper()
		if err := store.Swap(t.Context(), next); err != nil {
			t.Fatal(err)
		}
		return next
	}
	revoke := func(store *sqlstore.Store, rec tokensession.Record) {
		t.Helper()
		next := swapped(rec)
		next.RevokedAt, next.RevokeReason = time.Now(), tokensession.ReasonLogout
		swap(store, next)
	}
	pgxNotified(t, store, "a new connection")
	pgxQuiet(t, store, "nothing happened")

	rec := swap(plain, swapped(add(plain)))
	pgxQuiet(t, store, "a login and a refresh")

	outdated := swapped(rec)
	outdated.Epoch, outdated.OutdatedAt = 1, time.Now()
	rec = swap(plain, outdated)
	pgxNotified(t, store, "access tokens outdated")
	rec = swap(plain, swapped(rec))
	pgxQuiet(t, store, "a refresh of a session that was outdated before")

	for range 3 {
		revoke(plain, add(plain))
	}
	pgxNotified(t, store, "revoked between two calls")
	pgxQuiet(t, store, "all of it was told at once")

	revoke(elsewhere, add(elsewhere))
	pgxQuiet(t, store, "a revocation in another table")

	execSQL(t, db, strings.NewReplacer("…", rec.ID, ";", "").Replace(byHand[sqlstore.PostgreSQL]))
	pgxNotified(t, store, "revoked by hand, as the README says")
	execSQL(t, db, "UPDATE token_sessions SET epoch = 7, outdated_at = now(), version = version + 1")
	pgxNotified(t, store, "outdated by hand")

	if _, err := plain.RevokeSubject(t.Context(), ofSubject("nobody", time.Now())); err != nil {
		t.Fatal(err)
	}
	pgxQuiet(t, store, "RevokeSubject of nobody")
	add(plain)
	if _, err := plain.RevokeSubject(t.Context(), ofSubject("alice", time.Now())); err != nil {
		t.Fatal(err)
	}
	pgxNotified(t, store, "RevokeSubject")

	ended := sqlRecord("alice")
	ended.RevokedAt, ended.RevokeReason = time.Now(), tokensession.ReasonLogout
	if err := plain.Create(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	pgxNotified(t, store, "a record that is revoked when it is added")
	if _, err := plain.Sweep(t.Context(), time.Now().Add(3*time.Hour), 1000); err != nil {
		t.Fatal(err)
	}
	pgxQuiet(t, store, "Sweep")

	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	rec = add(plain)
	const end = "UPDATE token_sessions SET revoked_at = now(), version = version + 1 WHERE id = $1"
	if _, err := tx.ExecContext(t.Context(), end, rec.ID); err != nil {
		t.Fatal(err)
	}
	pgxQuiet(t, store, "a revocation that is not committed")
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	pgxNotified(t, store, "the commit")
}

// The names of the table that have to be quoted, or that need their schema.
func TestPgxnotify_quotesTheNameOfItsTable(t *testing.T) {
	server := sqlServers[0]
	dsn := server.database(t)
	db := server.open(t, dsn)
	execSQL(t, db, "CREATE SCHEMA apps_own")
	for _, table := range []string{"apps_own.sessions", "apps_own.User", "Select", strings.Repeat("t", 48)} {
		store := pgxMigrated(t, db, dsn, table)
		pgxNotified(t, store, "a new connection")
		rec := sqlRecord("alice")
		rec.RevokedAt = time.Now()
		if err := store.Create(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		pgxNotified(t, store, table)
		pgxQuiet(t, store, table)
	}
}

// A connection that ends is an error, because news may be lost meanwhile; the next one counts as
// news.
func TestPgxnotify_survivesItsConnection(t *testing.T) {
	server := sqlServers[0]
	dsn := server.database(t)
	db := server.open(t, dsn)
	store := pgxMigrated(t, db, dsn, "")
	for _, when := range []string{"between two calls", "during a call"} {
		pgxNotified(t, store, "a new connection")
		pgxQuiet(t, store, "nothing happened")
		var ended <-chan error
		if when == "during a call" {
			ended = pgxWaiting(t.Context(), t, store)
		}
		if n := countSQL(t, db, "SELECT count(*) FROM (SELECT pg_terminate_backend(pid) FROM pg_stat_activity "+listens+") AS ended"); n != 1 {
			t.Fatalf("%d connections listened, want 1", n)
		}
		var err error
		if ended == nil {
			err = store.Notified(t.Context())
		} else {
			err = <-ended
		}
		if err == nil || !strings.Contains(err.Error(), "terminating connection") {
			t.Errorf("%s: Notified: %v, want the server's error", when, err)
		}
	}
	pgxNotified(t, store, "a new connection")
	pgxQuiet(t, store, "nothing happened")
	rec := sqlRecord("alice")
	rec.RevokedAt = time.Now()
	if err := store.Create(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	pgxNotified(t, store, "a revocation on the new connection")
}

// listens selects the stores' own connections to this database that listen already: their last
// statement says so, or is a drain's ping.
const listens = "WHERE datname = current_database() AND application_name = '" + listener +
	"' AND (query LIKE 'LISTEN%' OR query = '-- ping')"

// pgxWaiting returns what a call of Notified returns that has the connection now. Another Manager's
// call does not take it away, and says why.
func pgxWaiting(ctx context.Context, t *testing.T, store *pgxnotify.Store) (ended <-chan error) {
	t.Helper()
	isBusy := func(err error) bool {
		return err != nil && strings.Contains(err.Error(), "give each Manager a Store of its own")
	}
	result := make(chan error, 1)
	go func() {
		err := store.Notified(ctx)
		for isBusy(err) {
			err = store.Notified(ctx)
		}
		result <- err
	}()
	awaitRedis(t, "a call that waits", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		return isBusy(store.Notified(ctx))
	})
	return result
}

func TestPgxnotify_endsWithItsContextAndLeavesNoConnection(t *testing.T) {
	server := sqlServers[0]
	dsn := server.database(t)
	db := server.open(t, dsn)
	store := pgxMigrated(t, db, dsn, "")
	ctx, cancel := context.WithCancel(t.Context())
	if err := store.Notified(ctx); err != nil {
		t.Fatal(err)
	}
	waiting := pgxWaiting(ctx, t, store)
	if n := countSQL(t, db, "SELECT count(*) FROM pg_stat_activity "+listens); n != 1 {
		t.Errorf("%d connections listen, want 1", n)
	}
	cancel()
	if err := <-waiting; !errors.Is(err, context.Canceled) {
		t.Errorf("Notified: %v, want context.Canceled", err)
	}
	awaitRedis(t, "the connection to be closed", func() bool {
		return countSQL(t, db, "SELECT count(*) FROM pg_stat_activity "+listens) == 0
	})
}

// Where no notification would come, Notified fails instead of waiting for ever, so that Run polls
// each second.
func TestPgxnotify_failsWhereNothingWouldNotify(t *testing.T) {
	postgres := servers.StartPostgres(t, servers.PostgresOptions{})
	server := sqlServers[0]
	db := server.open(t, postgres.DSN)
	missing := pgxStore(t, db, postgres.DSN, "")
	pgxRefuses(t, missing, `there is no table "token_sessions"`)
	plain := server.migrated(t, db, "")
	pgxRefuses(t, missing, "no trigger that notifies")
	wantPgxCheck(t, missing, "no trigger that notifies")

	store := pgxMigrated(t, db, postgres.DSN, "")
	wantPgxCheck(t, store, "")
	pgxNotified(t, store, "a new connection")
	for _, disabled := range []string{"tokensession_notify_update", "tokensession_notify_insert"} {
		execSQL(t, db, "ALTER TABLE token_sessions DISABLE TRIGGER "+disabled)
		pgxRefuses(t, pgxStore(t, db, postgres.DSN, ""), "no trigger that notifies, or it is disabled")
		execSQL(t, db, "ALTER TABLE token_sessions ENABLE ALWAYS TRIGGER "+disabled)
	}
	wantPgxCheck(t, store, "")

	const deaf = "has to go straight to the database that sessions are written to"
	bouncer := servers.StartPgBouncer(t, postgres, 4)
	pgxRefuses(t, pgxStore(t, db, bouncer.DSN+"&default_query_exec_mode=exec", ""), deaf)
	execSQL(t, db, "CREATE DATABASE elsewhere")
	other := strings.Replace(postgres.DSN, "/postgres?", "/elsewhere?", 1)
	pgxRefuses(t, pgxStore(t, db, other, ""), deaf)
	wantPgxCheck(t, pgxStore(t, db, other, ""), deaf)

	taken, err := pgxnotify.New(db, func(ctx context.Context) (*pgx.Conn, error) {
		cfg, err := pgx.ParseConfig(postgres.DSN)
		if err != nil {
			return nil, err
		}
		cfg.OnNotification = func(*pgconn.PgConn, *pgconn.Notification) {}
		return pgx.ConnectConfig(ctx, cfg)
	}, sqlstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	pgxRefuses(t, taken, "OnNotification is set")

	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	hanging := fmt.Sprintf("postgres://app:secret@%s/app", silent.Addr())
	began := time.Now()
	pgxRefuses(t, pgxStore(t, db, hanging, ""), "")
	if took := time.Since(began); took > 8*time.Second {
		t.Errorf("a server that does not answer is an error after %v", took)
	}
	if err := pgxStore(t, db, hanging, "").Check(t.Context()); err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("Check: %v, want an error without the password", err)
	}

	bouncer.Kill() // it keeps a connection on which it has listened
	awaitRedis(t, "the connection of the store to be the only one", func() bool {
		return countSQL(t, db, "SELECT count(*) FROM pg_stat_activity "+listens) == 1
	})
	postgres.Kill()
	for range 2 {
		pgxRefuses(t, store, "")
	}
	postgres.Start()
	pgxNotified(t, store, "a new connection")
	rec := sqlRecord("alice")
	rec.RevokedAt = time.Now()
	if err := plain.Create(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	pgxNotified(t, store, "a revocation")
}

func wantPgxCheck(t *testing.T, store *pgxnotify.Store, says string) {
	t.Helper()
	err := store.Check(t.Context())
	if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
		t.Errorf("Check: %v, want one that says %q", err, says)
	}
}

// The writer needs nothing of its connection.
func TestPgxnotify_tellsOfWritesThroughPgBouncer(t *testing.T) {
	postgres := servers.StartPostgres(t, servers.PostgresOptions{})
	pgxMigrated(t, sqlServers[0].open(t, postgres.DSN), postgres.DSN, "")
	bouncer := servers.StartPgBouncer(t, postgres, 4)
	for _, way := range []struct{ driver, options string }{
		{"postgres", "&binary_parameters=yes"},
		{"pgx", "&default_query_exec_mode=exec"},
		{"pgx", "&default_query_exec_mode=simple_protocol"},
	} {
		db, err := sql.Open(way.driver, bouncer.DSN+way.options)
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		store := pgxMigrated(t, db, postgres.DSN, "")
		wantPgxCheck(t, store, "")
		pgxNotified(t, store, "a new connection")
		m := managerOn(t, store)
		tokens, err := m.Start(t.Context(), "alice")
		if err != nil {
			t.Fatal(err)
		}
		pgxQuiet(t, store, "a login")
		if err := m.Revoke(t.Context(), tokens.Session.ID); err != nil {
			t.Fatal(err)
		}
		pgxNotified(t, store, "Revoke through PgBouncer by "+way.driver+way.options)
	}
}

// One of many instances creates what notifies, and an account without rights uses it.
func TestPgxnotify_migrates(t *testing.T) {
	server := sqlServers[0]
	dsn := server.database(t)
	admin := server.open(t, dsn)
	role := "app" + randomRole()
	execSQL(t, admin, "CREATE ROLE "+role+" LOGIN")
	t.Cleanup(func() {
		_, _ = admin.ExecContext(context.Background(), "DROP OWNED BY "+role)
		_, _ = admin.ExecContext(context.Background(), "DROP ROLE "+role)
	})
	server.migrated(t, admin, "")
	execSQL(t, admin, "GRANT SELECT, INSERT, UPDATE, DELETE ON token_sessions TO "+role)
	execSQL(t, admin, "GRANT SELECT, UPDATE ON token_sessions_schema TO "+role)
	appDSN := withUser(t, dsn, role)
	app := pgxStore(t, server.open(t, appDSN), appDSN, "")
	if err := app.Migrate(t.Context()); err == nil {
		t.Error("an account without rights has created triggers")
	}
	pgxRefuses(t, app, "no trigger that notifies")

	var all sync.WaitGroup
	for range 8 {
		options := "default_transaction_isolation=serializable"
		all.Go(func() {
			if err := pgxStore(t, server.open(t, withDSNOptions(dsn, options)), dsn, "").Migrate(t.Context()); err != nil {
				t.Errorf("Migrate, eight at once: %v", err)
			}
		})
	}
	all.Wait()
	execSQL(t, admin, app.Schema()) // may be run again
	if err := app.Migrate(t.Context()); err != nil {
		t.Errorf("Migrate where nothing is to be done: %v", err)
	}
	wantPgxCheck(t, app, "")
	pgxNotified(t, app, "a new connection")
	m := managerOn(t, app)
	tokens, err := m.Start(t.Context(), "alice")
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Revoke(t.Context(), tokens.Session.ID); err != nil {
		t.Fatal(err)
	}
	pgxNotified(t, app, "Revoke by an account without further rights")

	operations, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(operations), dropNotify) {
		t.Errorf("docs/operations.md does not have\n%s", dropNotify)
	}
	execSQL(t, admin, dropNotify)
	pgxRefuses(t, pgxStore(t, admin, dsn, ""), "no trigger that notifies")
	server.migrated(t, admin, "")
	usesItsTable(t, server.store(t, admin, ""))
}

// dropNotify are the statements by which the documentation has people stop notifying.
const dropNotify = `DROP TRIGGER tokensession_notify_update ON token_sessions;
DROP TRIGGER tokensession_notify_insert ON token_sessions;
DROP FUNCTION token_sessions_notify();`

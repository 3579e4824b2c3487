//go:build unix

package proof_test

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

// refreshers are the two kinds of a refresh: at the instance that wrote the session last, which
// remembers the record, and at any other one, which reads it first.
var refreshers = []struct {
	name       string
	cfg        tokensession.Config
	statements int64
}{
	{"where it was written last", tokensession.Config{}, 1},
	{"elsewhere", tokensession.Config{Remember: -1}, 2},
}

// refresherOn starts a session and returns a function that refreshes it.
func refresherOn(t *testing.T, store tokensession.RefreshStore, cfg tokensession.Config) func() {
	t.Helper()
	m := managerWith(t, store, cfg)
	tokens, err := m.Start(t.Context(), "dave")
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if tokens, err = m.Refresh(t.Context(), tokens.RefreshToken); err != nil {
			t.Fatal(err)
		}
	}
}

// A statementCounter counts what pgx sends.
type statementCounter struct{ queries, prepares atomic.Int64 }

func (c *statementCounter) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	c.queries.Add(1)
	return ctx
}
func (c *statementCounter) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
func (c *statementCounter) TracePrepareStart(ctx context.Context, _ *pgx.Conn, _ pgx.TracePrepareStartData) context.Context {
	c.prepares.Add(1)
	return ctx
}
func (c *statementCounter) TracePrepareEnd(_ context.Context, _ *pgx.Conn, data pgx.TracePrepareEndData) {
	if data.AlreadyPrepared {
		c.prepares.Add(-1)
	}
}

// countingPostgres opens a new database, and counts what is sent to it.
func countingPostgres(t *testing.T) (*sql.DB, *statementCounter) {
	t.Helper()
	cfg, err := pgx.ParseConfig(sqlServers[0].database(t))
	if err != nil {
		t.Fatal(err)
	}
	sent := new(statementCounter)
	cfg.Tracer = sent
	db := stdlib.OpenDB(*cfg)
	t.Cleanup(func() { _ = db.Close() })
	return db, sent
}

func TestSQLStore_refreshIsOneStatementOrTwoOnPostgreSQL(t *testing.T) {
	db, sent := countingPostgres(t)
	db.SetMaxOpenConns(1)
	store := sqlServers[0].migrated(t, db, "")
	for _, r := range refreshers {
		refresh := refresherOn(t, store, r.cfg)
		refresh() // prepares
		sent.queries.Store(0)
		sent.prepares.Store(0)
		const refreshes = 10
		for range refreshes {
			refresh()
		}
		queries, prepares := sent.queries.Load(), sent.prepares.Load()
		if queries != r.statements*refreshes || prepares != 0 {
			t.Errorf("%s: %d refreshes took %d statements and %d preparations, want %d and none",
				r.name, refreshes, queries, prepares, r.statements*refreshes)
		}
	}
}

// The README's table of what a call costs.
func TestSQLStore_callsTakeTheStatementsTheREADMENames(t *testing.T) {
	db, sent := countingPostgres(t)
	store := sqlServers[0].migrated(t, db, "")
	m := managerOn(t, store)
	ctx := t.Context()
	var tokens tokensession.Tokens
	login := func() (err error) { tokens, err = m.Start(ctx, "alice"); return err }
	elsewhere := refresherOn(t, store, refreshers[1].cfg)
	elsewhere() // prepares
	now := time.Now()
	sweep := func(after time.Duration, limit int) error {
		_, err := store.Sweep(ctx, now.Add(after), limit)
		return err
	}
	one := managerWith(t, store, tokensession.Config{MaxSessions: 1})
	for range 2 {
		if err := store.Create(ctx, sqlRecord("carol")); err != nil {
			t.Fatal(err)
		}
	}
	moved := sqlRecord("bob") // due after carol's, and refreshed
	if err := store.Create(ctx, moved); err != nil {
		t.Fatal(err)
	}
	moved = swapped(moved)
	moved.ExpiresAt = moved.ExpiresAt.Add(time.Hour)
	if err := store.Swap(ctx, moved); err != nil {
		t.Fatal(err)
	}
	for _, call := range []struct {
		name string
		run  func() error
		want int64
	}{
		{"a login", login, 1},
		{"a refresh where it was written last", func() (err error) { tokens, err = m.Refresh(ctx, tokens.RefreshToken); return err }, 1},
		{"a refresh elsewhere", func() error { elsewhere(); return nil }, 2},
		{"RevokeToken with an access token", func() error { return m.RevokeToken(ctx, tokens.AccessToken) }, 2},
		{"another login", login, 1},
		{"RevokeToken", func() error { return m.RevokeToken(ctx, tokens.RefreshToken) }, 3},
		{"another login", login, 1},
		{"Revoke", func() error { return m.Revoke(ctx, tokens.Session.ID) }, 2},
		{"another login", login, 1},
		{"RevokeSubject", func() error { _, err := m.RevokeSubject(ctx, "alice"); return err }, 5},
		{"RevokeSubject with nothing to end", func() error { _, err := m.RevokeSubject(ctx, "nobody"); return err }, 2 + 5},
		{"a list", func() error { _, err := store.List(ctx, "bob"); return err }, 1},
		{"an empty list", func() error { _, err := store.List(ctx, "nobody"); return err }, 2},
		{"an unknown session", func() error { _, _ = store.Load(ctx, randomSQLID()); return nil }, 2},
		{"the feed", func() error { _, err := revocations(ctx, store, now); return err }, 1},
		{"another login", login, 1},
		{"a login that ends another one for MaxSessions", func() error { _, err := one.Start(ctx, "alice"); return err }, 3 + 2},
		{"Sweep with nothing due", func() error { return sweep(0, 10) }, 3},
		{"Sweep of as many as it may drop", func() error { return sweep(90*time.Minute, 2) }, 2},
		{"Sweep of what was refreshed", func() error { return sweep(90*time.Minute, 10) }, 3 + 2},
		{"Sweep of what has expired", func() error { return sweep(3*time.Hour, 10) }, 3},
	} {
		sent.queries.Store(0)
		if err := call.run(); err != nil {
			t.Fatalf("%s: %v", call.name, err)
		}
		if n := sent.queries.Load(); n != call.want {
			t.Errorf("%s took %d statements, want %d", call.name, n, call.want)
		}
	}
}

func TestSQLStore_refreshIsOneStatementOrTwoOnMySQL(t *testing.T) {
	server := sqlServers[1]
	db := server.open(t, server.database(t))
	db.SetMaxOpenConns(1)
	store := server.migrated(t, db, "")
	status := func(name string) (value int64) {
		t.Helper()
		if err := db.QueryRowContext(t.Context(), "SHOW SESSION STATUS LIKE '"+name+"'").Scan(&name, &value); err != nil {
			t.Fatal(err)
		}
		return value
	}
	for _, r := range refreshers {
		refresh := refresherOn(t, store, r.cfg)
		refresh() // prepares
		executes, prepares := status("Com_stmt_execute"), status("Com_stmt_prepare")
		const refreshes = 10
		for range refreshes {
			refresh()
		}
		executes, prepares = status("Com_stmt_execute")-executes, status("Com_stmt_prepare")-prepares
		if executes != r.statements*refreshes || prepares != 0 {
			t.Errorf("%s: %d refreshes took %d statements and %d preparations, want %d and none",
				r.name, refreshes, executes, prepares, r.statements*refreshes)
		}
	}
}

func TestSQLStore_refreshesDoNotGrowTheTable(t *testing.T) {
	sizes := map[sqlstore.Dialect]string{
		// The data and the indexes, without the maps of free space, which are made at some time.
		sqlstore.PostgreSQL: "SELECT pg_relation_size('token_sessions') + pg_indexes_size('token_sessions')",
		sqlstore.MySQL:      "SELECT SUM(file_size) FROM information_schema.innodb_sys_tablespaces WHERE name = CONCAT(DATABASE(), '/token_sessions')",
		sqlstore.SQLite:     "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()",
	}
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		db := server.open(t, dsn)
		store := server.migrated(t, db, "")
		size := sizes[server.dialect]
		if server.dialect == sqlstore.MySQL && !isMariaDB(t, db) {
			size = strings.Replace(size, "innodb_sys_tablespaces", "innodb_tablespaces", 1)
		}
		if server.dialect == sqlstore.SQLite {
			execSQL(t, db, "PRAGMA synchronous=OFF") // this is not about durability
			db.SetMaxOpenConns(1)
		}
		records := make([]tokensession.Record, 200)
		for i := range records {
			records[i] = sqlRecord(fmt.Sprint("user ", i))
			records[i].Attributes = map[string]string{"user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"}
			if err := store.Create(t.Context(), records[i]); err != nil {
				t.Fatal(err)
			}
		}
		var before int
		for round := range 101 {
			if round == 1 { // the first refresh fills columns that were empty
				before = countSQL(t, db, size)
			}
			for i, rec := range records {
				rec = swapped(rec)
				rec.Predecessor, rec.Generation = rec.Generation, rec.Generation+1
				rec.RotatedAt = rec.RotatedAt.Add(time.Minute)
				rec.ConsumedAt, rec.ExpiresAt = rec.RotatedAt, rec.RotatedAt.Add(time.Hour)
				if err := store.Swap(t.Context(), rec); err != nil {
					t.Fatal(err)
				}
				records[i] = rec
			}
		}
		after := countSQL(t, db, size)
		t.Logf("%v: %d bytes a session after the first refresh, %d after 100 more", server.dialect, before/len(records), after/len(records))
		if rows := countSQL(t, db, "SELECT COUNT(*) FROM token_sessions"); rows != len(records) {
			t.Errorf("%d rows for %d sessions", rows, len(records))
		}
		// Without reuse it would be a hundred times as much. Some pages more are no growth: while another
		// transaction on the server has an older snapshot, dead rows cannot be reused.
		if after > before+before/4 {
			t.Errorf("grew from %d to %d bytes", before, after)
		}
	})
}

// What a session takes on PostgreSQL, with the indexes. What it does not have takes nothing.
func TestSQLStore_aSessionTakesLittleRoom(t *testing.T) {
	const sessions = 2000
	server := sqlServers[0]
	db := server.open(t, server.database(t))
	store := server.migrated(t, db, "")
	records := make([]tokensession.Record, sessions)
	for i := range records {
		records[i] = sqlRecord(fmt.Sprint("user ", i))
		records[i].Attributes = map[string]string{
			"user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
		}
		if err := store.Create(t.Context(), records[i]); err != nil {
			t.Fatal(err)
		}
	}
	for _, rec := range records {
		next := swapped(rec)
		next.Predecessor, next.Generation = 0, 1
		next.ConsumedAt, next.RotatedAt = rec.RotatedAt.Add(time.Minute), rec.RotatedAt.Add(time.Minute)
		next.ExpiresAt = next.RotatedAt.Add(time.Hour)
		if err := store.Swap(t.Context(), next); err != nil {
			t.Fatal(err)
		}
	}
	bytes := countSQL(t, db, "SELECT pg_relation_size('token_sessions') + pg_indexes_size('token_sessions')") / sessions
	t.Logf("%d bytes a session", bytes)
	if bytes > 700 {
		t.Errorf("%d bytes a session, want at most 700", bytes)
	}
}

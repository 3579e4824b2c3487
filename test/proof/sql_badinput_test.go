//go:build unix

package proof_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

// wantRemedy fails unless err names the remedy, keeps its cause, and is no verdict about a session.
func wantRemedy(t *testing.T, doing string, err error, remedy string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), remedy) {
		t.Errorf("%s: error %v, want one that says %q", doing, err, remedy)
		return
	}
	if !strings.HasPrefix(err.Error(), "sqlstore: ") {
		t.Errorf("%s: error %q does not say whose it is", doing, err)
	}
	for _, verdict := range []error{tokensession.ErrNotFound, tokensession.ErrExists, tokensession.ErrConflict} {
		if errors.Is(err, verdict) {
			t.Errorf("%s: error %v is the verdict %v: an outage would log users out", doing, err, verdict)
		}
	}
	if errors.Unwrap(err) == nil {
		t.Errorf("%s: error %v lost its cause", doing, err)
	}
}

// wantUnavailable fails unless a Manager on the store says that no verdict was reached, and why.
func wantUnavailable(t *testing.T, store *sqlstore.Store, remedy string) {
	t.Helper()
	_, err := managerOn(t, store).Start(t.Context(), "alice")
	if !errors.Is(err, tokensession.ErrUnavailable) || !strings.Contains(err.Error(), remedy) {
		t.Errorf("Start: error %v, want ErrUnavailable that says %q", err, remedy)
	}
}

func managerOn(t testing.TB, store tokensession.RefreshStore) *tokensession.Manager {
	t.Helper()
	return managerWith(t, store, tokensession.Config{})
}

func managerWith(t testing.TB, store tokensession.RefreshStore, cfg tokensession.Config) *tokensession.Manager {
	t.Helper()
	key, err := tokensession.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{Issuer: sqlIssuer, Audience: []string{"api"}})
	if err != nil {
		t.Fatal(err)
	}
	m, err := tokensession.New(signer, store, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// storeCalls are all calls of a store, each with a record that it would take.
func storeCalls(store *sqlstore.Store) map[string]func(context.Context) error {
	rec := sqlRecord("alice")
	next := swapped(rec)
	return map[string]func(context.Context) error{
		"Create": func(ctx context.Context) error { return store.Create(ctx, rec) },
		"Load":   func(ctx context.Context) error { _, err := store.Load(ctx, rec.ID); return err },
		"Swap":   func(ctx context.Context) error { return store.Swap(ctx, next) },
		"List":   func(ctx context.Context) error { _, err := store.List(ctx, "alice"); return err },
		"Sweep":  func(ctx context.Context) error { _, err := store.Sweep(ctx, time.Now(), 10); return err },
		"Revocations": func(ctx context.Context) error {
			_, err := revocations(ctx, store, time.Now())
			return err
		},
		"RevokeSubject": func(ctx context.Context) error {
			_, err := store.RevokeSubject(ctx, ofSubject("alice", time.Now()))
			return err
		},
	}
}

// swapped returns the next write of a record.
func swapped(rec tokensession.Record) tokensession.Record {
	rec.Version, rec.WriteID, rec.Replaces = rec.Version+1, randomSQLID(), rec.WriteID
	return rec
}

const sqlIssuer = "https://issuer.example"

// ofSubject returns a revocation of all sessions of a subject.
func ofSubject(subject string, at time.Time, keep ...string) tokensession.SubjectRevocation {
	return tokensession.SubjectRevocation{
		Subject: subject, Issuers: []string{sqlIssuer}, Keep: keep, At: at,
		Reason: tokensession.ReasonRevoked, WriteID: randomSQLID(),
	}
}

// revocations returns all that the feed tells.
func revocations(ctx context.Context, store *sqlstore.Store, since time.Time) ([]tokensession.Revocation, error) {
	var all []tokensession.Revocation
	err := store.Revocations(ctx, since, func(page []tokensession.Revocation) error {
		all = append(all, page...)
		return nil
	})
	return all, err
}

// sqlVerdicts are the calls that fail on a server that is read-only: those that write, and those
// that would say of an empty answer that there is nothing.
var sqlVerdicts = []string{"Create", "Load", "Swap", "List", "Sweep", "RevokeSubject"}

func sqlRecord(subject string) tokensession.Record {
	now := time.Now().UTC().Truncate(time.Microsecond)
	return tokensession.Record{
		ID: randomSQLID(), Version: 1, WriteID: randomSQLID(), Issuer: sqlIssuer, Subject: subject, Key: make([]byte, 32),
		IdleTTL:  time.Hour,
		AuthTime: now, CreatedAt: now, RotatedAt: now, ExpiresAt: now.Add(time.Hour),
	}
}

func TestSQLStore_missingTableNamesMigrate(t *testing.T) {
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		store := server.store(t, server.open(t, dsn), "")
		for name, call := range storeCalls(store) {
			wantRemedy(t, name, call(t.Context()), `table "token_sessions" does not exist: call Migrate or apply the SQL of Schema`)
		}
		wantUnavailable(t, store, "call Migrate")
	})
}

func TestSQLStore_foreignTableNamesTheChoice(t *testing.T) {
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		db := server.open(t, dsn)
		execSQL(t, db, "CREATE TABLE token_sessions (id INTEGER PRIMARY KEY, token VARCHAR(100))")
		store := server.store(t, db, "")
		wantRemedy(t, "List", storeCalls(store)["List"](t.Context()), "choose another Config.Table")
		if err := store.Migrate(t.Context()); err == nil {
			t.Error("Migrate took another application's table for its own")
		}
		execSQL(t, db, "INSERT INTO token_sessions (id, token) VALUES (1, 'untouched')")
	})
}

func TestSQLStore_closedPoolSaysSo(t *testing.T) {
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		db := server.open(t, dsn)
		store := server.migrated(t, db, "")
		if err := db.Close(); err != nil {
			t.Fatal(err)
		}
		for name, call := range storeCalls(store) {
			wantRemedy(t, name, call(t.Context()), "the *sql.DB was closed")
		}
		wantRemedy(t, "Migrate", store.Migrate(t.Context()), "the *sql.DB was closed")
		wantUnavailable(t, store, "the *sql.DB was closed")
	})
}

func TestSQLStore_readOnlyServerNamesThePrimary(t *testing.T) {
	options := map[sqlstore.Dialect]string{
		sqlstore.PostgreSQL: "default_transaction_read_only=on",
		sqlstore.MySQL:      "tx_read_only=1",
		sqlstore.SQLite:     "mode=ro",
	}
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		server.migrated(t, server.open(t, dsn), "")
		store := server.store(t, server.open(t, withDSNOptions(dsn, server.namesVariables(t, dsn, options[server.dialect]))), "")
		if err := store.Migrate(t.Context()); err != nil {
			t.Errorf("Migrate with nothing to do: %v", err)
		}
		for _, name := range sqlVerdicts {
			wantRemedy(t, name, storeCalls(store)[name](t.Context()), "the server is read-only: open the pool on the primary")
		}
		wantUnavailable(t, store, "the server is read-only")
		wantRemedy(t, "Check", store.Check(t.Context()), "the server is read-only")
	})
}

func TestSQLStore_wrongDialectIsRefusedByNew(t *testing.T) {
	for _, server := range sqlServers {
		for _, other := range sqlServers {
			db, err := sql.Open(server.driver, "")
			if err != nil {
				t.Fatal(err)
			}
			defer db.Close()
			_, err = sqlstore.New(db, other.dialect, sqlstore.Config{})
			if other.dialect == server.dialect {
				if err != nil {
					t.Errorf("%v with driver %s: %v", other.dialect, server.driver, err)
				}
			} else if err == nil || !strings.Contains(err.Error(), "pass sqlstore."+server.dialect.String()) {
				t.Errorf("%v with driver %s: error %v, want one that names %v", other.dialect, server.driver, err, server.dialect)
			}
		}
	}
}

// A wrappedDriver hides a driver's type, as tools for tracing do.
type wrappedDriver struct{ driver.Driver }

func TestSQLStore_wrongDialectIsNamedByTheFirstCall(t *testing.T) {
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		name := "wrapped " + server.driver
		sql.Register(name, wrappedDriver{server.open(t, dsn).Driver()})
		wrapped := sqlServer{server.dialect, name, nil}
		if err := wrapped.store(t, wrapped.open(t, dsn), "").Migrate(t.Context()); err != nil {
			t.Fatalf("with the right dialect: %v", err)
		}
		for _, other := range sqlServers {
			if other.dialect != server.dialect {
				wrong := sqlServer{other.dialect, name, nil}
				store := wrong.store(t, wrong.open(t, dsn), "other")
				wantRemedy(t, "Migrate", store.Migrate(t.Context()), fmt.Sprintf("does not understand %v", other.dialect))
				if err := storeCalls(store)["Create"](t.Context()); err == nil {
					t.Errorf("a store of %v wrote to %v", other.dialect, server.dialect)
				}
			}
		}
	})
}

func TestSQLStore_refusesWhatItCouldNotGiveBack(t *testing.T) {
	tooLong := strings.Repeat("x", 256)
	cases := map[string]struct {
		change func(*tokensession.Record)
		says   string
	}{
		"generation":         {func(r *tokensession.Record) { r.Generation = math.MaxInt64 + 1 }, "Generation 9223372036854775808: cannot be greater than 9223372036854775807"},
		"predecessor":        {func(r *tokensession.Record) { r.Predecessor = math.MaxUint64 }, "Predecessor 18446744073709551615: cannot be greater than 9223372036854775807"},
		"version":            {func(r *tokensession.Record) { r.Version = math.MaxUint64 }, "Version 18446744073709551615: cannot be greater than 9223372036854775807"},
		"long subject":       {func(r *tokensession.Record) { r.Subject = tooLong }, "Subject of 256 bytes: cannot be longer than 255"},
		"long client":        {func(r *tokensession.Record) { r.ClientID = tooLong }, "ClientID of 256 bytes: cannot be longer than 255"},
		"long reason":        {func(r *tokensession.Record) { r.RevokeReason = tokensession.Reason(tooLong) }, "RevokeReason of 256 bytes"},
		"long issuer":        {func(r *tokensession.Record) { r.Issuer = strings.Repeat("x", 1025) }, "Issuer of 1025 bytes: cannot be longer than 1024"},
		"long actor":         {func(r *tokensession.Record) { r.Actor = tooLong }, "Actor of 256 bytes"},
		"long context":       {func(r *tokensession.Record) { r.AuthContext = tooLong }, "AuthContext of 256 bytes"},
		"long thumbprint":    {func(r *tokensession.Record) { r.KeyThumbprint = tooLong }, "KeyThumbprint of 256 bytes"},
		"method no UTF-8":    {func(r *tokensession.Record) { r.AuthMethods = []string{"\xff"} }, "AuthMethods \"\\xff\": not valid UTF-8"},
		"epoch":              {func(r *tokensession.Record) { r.Epoch = math.MaxUint64 }, "Epoch 18446744073709551615: cannot be greater"},
		"idle time":          {func(r *tokensession.Record) { r.IdleTTL = -1 }, "IdleTTL -1ns: cannot be negative"},
		"long key":           {func(r *tokensession.Record) { r.Key = []byte(tooLong) }, "Key of 256 bytes: cannot be longer than 255"},
		"NUL":                {func(r *tokensession.Record) { r.Subject = "a\x00b" }, "has a NUL"},
		"no UTF-8":           {func(r *tokensession.Record) { r.Subject = "a\xff" }, "not valid UTF-8"},
		"attribute no UTF-8": {func(r *tokensession.Record) { r.Attributes = map[string]string{"ip": "\xff"} }, `attribute "ip": not valid UTF-8`},
		"long attributes":    {func(r *tokensession.Record) { r.Attributes = map[string]string{"a": strings.Repeat("x", 70_000)} }, "cannot be longer than 65535"},
		"year 10000":         {func(r *tokensession.Record) { r.ExpiresAt = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) }, "must be in the years 1 to 9999"},
	}
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		store := server.migrated(t, server.open(t, dsn), "")
		for name, tc := range cases {
			stored := sqlRecord("alice")
			if err := store.Create(t.Context(), stored); err != nil {
				t.Fatal(err)
			}
			created, next := sqlRecord("alice"), swapped(stored)
			tc.change(&created)
			tc.change(&next)
			wantRemedy(t, "Create of "+name, store.Create(t.Context(), created), tc.says)
			wantRemedy(t, "Swap of "+name, store.Swap(t.Context(), next), tc.says)
			if got, err := store.Load(t.Context(), stored.ID); err != nil || got.WriteID != stored.WriteID {
				t.Errorf("%s: after the refused Swap: %v, %v", name, got, err)
			}
			if _, err := store.Load(t.Context(), created.ID); !errors.Is(err, tokensession.ErrNotFound) {
				t.Errorf("%s: after the refused Create: %v, want ErrNotFound", name, err)
			}
		}
	})
}

func TestSQLStore_keepsTheLongestItTakes(t *testing.T) {
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		store := server.migrated(t, server.open(t, dsn), "")
		longest := strings.Repeat("ü", 127) + "x"
		rec := sqlRecord(longest)
		rec.ClientID, rec.RevokeReason = longest, tokensession.Reason(longest)
		rec.Issuer, rec.Actor, rec.AuthContext, rec.KeyThumbprint = strings.Repeat("ü", 512), longest, longest, longest
		rec.AuthMethods, rec.Epoch, rec.OutdatedAt = []string{longest, "pwd", ""}, math.MaxInt64, rec.CreatedAt
		rec.IdleTTL, rec.Transient = math.MaxInt64/1000*1000, true
		rec.Attributes = map[string]string{"control": strings.Repeat("\x01", 4096), "a": strings.Repeat("ü", 2000)}
		rec.Generation, rec.Predecessor = math.MaxInt64, math.MaxInt64-1
		if err := store.Create(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		got, err := store.List(t.Context(), longest)
		if err != nil || len(got) != 1 || !reflect.DeepEqual(got[0], rec) {
			t.Errorf("%#v, %v; want what was written", got, err)
		}
	})
}

func TestSQLStore_hostileNamesOfTablesAreRefused(t *testing.T) {
	for _, server := range sqlServers {
		db, err := sql.Open(server.driver, "")
		if err != nil {
			t.Fatal(err)
		}
		defer db.Close()
		for _, name := range []string{
			`x"; DROP TABLE users; --`, "x`; DROP TABLE users; --", "x'", "x y", "x-y", "1x", ".", ".x", "x.", "a.b.c", "x\x00", "tëst", "x;", "x/*", " ",
			strings.Repeat("x", 49), strings.Repeat("x", 49) + ".x", "pg_catalog.x y",
		} {
			_, err := sqlstore.New(db, server.dialect, sqlstore.Config{Table: name})
			if err == nil || !strings.Contains(err.Error(), "Config.Table") {
				t.Errorf("%v: table %q: error %v, want one that names Config.Table", server.dialect, name, err)
			}
			if _, err := sqlstore.Schema(server.dialect, name); err == nil {
				t.Errorf("%v: Schema took the table name %q", server.dialect, name)
			}
		}
	}
}

func TestSQLStore_newRefusesNoPoolAndNoDialect(t *testing.T) {
	if _, err := sqlstore.New(nil, sqlstore.SQLite, sqlstore.Config{}); err == nil || !strings.Contains(err.Error(), "db is nil") {
		t.Errorf("nil pool: %v", err)
	}
	db := sqlServers[0].open(t, "")
	for _, dialect := range []sqlstore.Dialect{0, -1, 4} {
		if _, err := sqlstore.New(db, dialect, sqlstore.Config{}); err == nil || !strings.Contains(err.Error(), "must be PostgreSQL, MySQL or SQLite") {
			t.Errorf("dialect %d: %v", dialect, err)
		}
	}
}

func TestSQLStore_lockedSQLiteNamesTheBusyTimeout(t *testing.T) {
	server := sqlServers[2]
	dsn := server.database(t)
	store := server.migrated(t, server.open(t, dsn), "")
	impatient := server.store(t, server.open(t, strings.Replace(dsn, "busy_timeout(10000)", "busy_timeout(0)", 1)), "")
	writer, err := server.open(t, dsn).Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer writer.Close()
	if _, err := writer.ExecContext(t.Context(), "BEGIN IMMEDIATE"); err != nil {
		t.Fatal(err)
	}
	wantRemedy(t, "Create", impatient.Create(t.Context(), sqlRecord("alice")), "set a busy timeout in the DSN")
	if _, err := writer.ExecContext(t.Context(), "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	if err := store.Create(t.Context(), sqlRecord("alice")); err != nil {
		t.Error(err)
	}
}

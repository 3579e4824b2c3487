package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"io"
	"slices"
	"strings"
	"testing"
)

// A scriptedDB is a database that does nothing but write down what it is told, and say which
// version its schema has, and the oldest that understands it.
type scriptedDB struct {
	version, oldest int64
	told            []string
}

func (db *scriptedDB) Connect(context.Context) (driver.Conn, error) { return scriptedConn{db}, nil }
func (db *scriptedDB) Driver() driver.Driver                        { return nil }

type scriptedConn struct{ db *scriptedDB }

func (c scriptedConn) Prepare(string) (driver.Stmt, error) { return nil, driver.ErrSkip }
func (c scriptedConn) Begin() (driver.Tx, error)           { return nil, driver.ErrSkip }
func (c scriptedConn) Close() error                        { return nil }

func (c scriptedConn) ExecContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Result, error) {
	c.db.told = append(c.db.told, query)
	return driver.RowsAffected(0), nil
}

func (c scriptedConn) QueryContext(_ context.Context, query string, _ []driver.NamedValue) (driver.Rows, error) {
	if strings.Contains(query, "MAX(version)") {
		return &scriptedRows{[]int64{c.db.version}, c.db.oldest}, nil
	}
	return &scriptedRows{}, nil
}

type scriptedRows struct {
	left   []int64
	oldest int64
}

func (r *scriptedRows) Columns() []string { return []string{"version", "oldest"} }
func (r *scriptedRows) Close() error      { return nil }

func (r *scriptedRows) Next(dest []driver.Value) error {
	if len(r.left) == 0 {
		return io.EOF
	}
	dest[0], dest[1], r.left = r.left[0], r.oldest, r.left[1:]
	return nil
}

// A connector that somebody wrote by hand may have no driver to show.
func TestNew_takesAConnectorWithoutDriver(t *testing.T) {
	db := sql.OpenDB(new(scriptedDB))
	defer db.Close()
	if _, err := New(db, PostgreSQL, Config{}); err != nil {
		t.Error(err)
	}
}

// So far there is one migration. Those to come are applied from where the database is, in their
// order, while the lock is held.
func TestMigrate_appliesWhatIsMissingInsideTheLock(t *testing.T) {
	migrations := []migration{{1, []string{"create versions", "create sessions"}}, {2, []string{"add a", "say 2"}}, {3, []string{"add b", "say 3"}}}
	for version, want := range map[int64][]string{
		0: {"create versions", "create versions", "create sessions", "add a", "say 2", "add b", "say 3"},
		1: {"create versions", "add a", "say 2", "add b", "say 3"},
		2: {"create versions", "add b", "say 3"},
		3: {"create versions"},
		4: {"create versions"}, // an instance of a newer version was there
	} {
		scripted := &scriptedDB{version: version}
		db := sql.OpenDB(scripted)
		defer db.Close()
		store := testStore(t, SQLite, "")
		conn, err := db.Conn(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := store.locked(t.Context(), conn, func() error { return store.apply(t.Context(), conn, migrations) }); err != nil {
			t.Errorf("from %d: %v", version, err)
		}
		want = slices.Concat([]string{"BEGIN IMMEDIATE"}, want, []string{"COMMIT"})
		if !slices.Equal(scripted.told, want) {
			t.Errorf("from %d: told %q, want %q", version, scripted.told, want)
		}
		_ = conn.Close()
	}
}

// Of a table that a later version has changed so much that this one does not understand it, nothing
// is said and nothing is changed.
func TestMigrate_refusesATableThatItDoesNotUnderstand(t *testing.T) {
	for oldest, want := range map[int64]bool{schemaVersion: true, schemaVersion + 1: false} {
		scripted := &scriptedDB{version: schemaVersion + 1, oldest: oldest}
		db := sql.OpenDB(scripted)
		defer db.Close()
		store, err := New(db, PostgreSQL, Config{})
		if err != nil {
			t.Fatal(err)
		}
		err = store.Migrate(t.Context())
		if (err == nil) != want || err != nil && !strings.Contains(err.Error(), "upgrade this program") {
			t.Errorf("oldest %d: %v", oldest, err)
		}
		if len(scripted.told) > 0 {
			t.Errorf("oldest %d: told %q", oldest, scripted.told)
		}
	}
}

func TestSchemaVersion_isThatOfTheNewestMigration(t *testing.T) {
	for _, d := range dialects {
		migrations := mustMigrations(t, d)
		if last := migrations[len(migrations)-1].version; last != schemaVersion {
			t.Errorf("%v: the newest migration is %d, schemaVersion %d", d, last, schemaVersion)
		}
	}
}

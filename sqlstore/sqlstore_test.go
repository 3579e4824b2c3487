package sqlstore

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

var dialects = []Dialect{PostgreSQL, MySQL, SQLite}

func testStore(t *testing.T, d Dialect, table string) *Store {
	t.Helper()
	name, err := parseTable(d, table)
	if err != nil {
		t.Fatal(err)
	}
	return &Store{dialect: d, table: name, queries: newQueries(name)}
}

type stateError string

func (e stateError) Error() string    { return "driver: SQLSTATE " + string(e) }
func (e stateError) SQLState() string { return string(e) }

func TestExplain_namesTheRemedyAndKeepsTheCause(t *testing.T) {
	for _, tc := range []struct {
		err  error
		says string
	}{
		{stateError("42P01"), "call Migrate"},
		{stateError("42703"), "not as this version needs it"},
		{stateError("25006"), "read-only"},
		{stateError("42501"), "grant it SELECT"},
		{errors.New("Error 1146 (42S02): Table 'x.y' doesn't exist"), "call Migrate"},
		{errors.New("Error 1146: Table 'x.y' doesn't exist"), "call Migrate"},
		{errors.New("Error 1290 (HY000): The MariaDB server is running with the --read-only option"), "read-only"},
		{errors.New("Error 1046 (3D000): No database selected"), "name an existing database"},
		{errors.New("Error 1205 (HY000): Lock wait timeout exceeded"), "another transaction holds the row"},
		{errors.New("SQL logic error: no such table: token_sessions (1)"), "call Migrate"},
		{errors.New("no such table: token_sessions"), "call Migrate"},
		{errors.New("attempt to write a readonly database (8)"), "read-only"},
		{errors.New("sql: database is closed"), "was closed"},
		{errors.New("driver: connection refused"), "sqlstore: load session: driver: connection refused"},
		{stateError("57P01"), "sqlstore: load session: driver: SQLSTATE 57P01"},
	} {
		wrapped := fmt.Errorf("tracing: %w", tc.err)
		for _, err := range []error{tc.err, wrapped} {
			got := testStore(t, PostgreSQL, "").explain(t.Context(), "load session", err)
			if says := strings.Replace(tc.says, "driver:", "tracing: driver:", strings.Count(err.Error(), "tracing")); !strings.Contains(got.Error(), says) {
				t.Errorf("%v: explained as %q, want %q", err, got, says)
			}
			if !errors.Is(got, tc.err) {
				t.Errorf("%v: lost its cause: %v", err, got)
			}
		}
	}
}

func TestExplain_saysThatTheContextEnded(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := testStore(t, SQLite, "").explain(ctx, "load session", errors.New("interrupted (9)"))
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "interrupted") {
		t.Errorf("got %v, want the context's error and the driver's", err)
	}
}

func TestDo_triesAgainOnlyWhatTheServerUndid(t *testing.T) {
	for _, tc := range []struct {
		err  error
		want int
	}{
		{nil, 1}, {stateError("40001"), maxAttempts}, {stateError("40P01"), maxAttempts},
		{errors.New("Error 1213 (40001): Deadlock found when trying to get lock"), maxAttempts},
		{stateError("57P01"), 1}, {errors.New("EOF"), 1}, {tokensession.ErrConflict, 1},
	} {
		n := 0
		err := testStore(t, PostgreSQL, "").do(t.Context(), "swap session", func() error { n++; return tc.err })
		if n != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%v: done %d times and returned %v, want %d times", tc.err, n, err, tc.want)
		}
	}
}

func TestDo_keepsAVerdictWhateverItsText(t *testing.T) {
	verdict := fmt.Errorf("%w: session %q", tokensession.ErrNotFound, "no such table: sql: database is closed")
	err := testStore(t, SQLite, "").do(t.Context(), "swap session", func() error { return verdict })
	if !errors.Is(err, tokensession.ErrNotFound) || strings.Contains(err.Error(), "Migrate") {
		t.Errorf("got %v", err)
	}
}

func TestTimes_comeBackInUTCAndCutToMicroseconds(t *testing.T) {
	tokyo := time.FixedZone("", 9*60*60)
	for _, d := range dialects {
		for in, want := range map[time.Time]time.Time{
			{}: {},
			time.Date(2026, 1, 1, 8, 0, 0, 123_456_789, tokyo):      time.Date(2025, 12, 31, 23, 0, 0, 123_456_000, time.UTC),
			time.Date(1969, 12, 31, 23, 59, 59, 1_999, time.UTC):    time.Date(1969, 12, 31, 23, 59, 59, 1_000, time.UTC),
			time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC):    time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC),
			time.Date(1, 1, 1, 0, 0, 0, 1_000, time.UTC):            time.Date(1, 1, 1, 0, 0, 0, 1_000, time.UTC),
			time.Date(2026, 3, 29, 2, 30, 0, 0, time.UTC):           time.Date(2026, 3, 29, 2, 30, 0, 0, time.UTC),
			time.Date(2026, 3, 29, 2, 30, 0, 100_000_000, tokyo):    time.Date(2026, 3, 28, 17, 30, 0, 100_000_000, time.UTC),
			time.Date(2026, 3, 29, 2, 30, 0, 999, time.UTC).Local(): time.Date(2026, 3, 29, 2, 30, 0, 0, time.UTC),
		} {
			arg, err := d.timeArg(in)
			if err != nil {
				t.Fatal(err)
			}
			forms := []any{arg}
			if text, ok := arg.(string); ok {
				forms = append(forms, []byte(text))
			}
			for _, form := range forms {
				got := time.Now()
				if err := (timeColumn{d, &got}).Scan(form); err != nil || got != want {
					t.Errorf("%v: %v came back from %v as %v, %v; want %v", d, in, form, got, err, want)
				}
			}
		}
	}
}

func TestTimeColumn_refusesWhatItDidNotWrite(t *testing.T) {
	for _, d := range dialects {
		for _, value := range []any{"yesterday", "", []byte("2026-01-01"), int64(0), 1.5, "2026-01-01 00:00:00.000000+09"} {
			got := time.Time{}
			if err := (timeColumn{d, &got}).Scan(value); err == nil {
				t.Errorf("%v: took %#v for %v", d, value, got)
			}
		}
	}
	// Some drivers of SQLite make a time of any text that looks like one.
	var got time.Time
	at := time.Date(2026, 3, 4, 5, 6, 7, 891_234_000, time.UTC)
	if err := (timeColumn{SQLite, &got}).Scan(at.In(time.FixedZone("", 3600))); err != nil || got != at {
		t.Errorf("SQLite: %v, %v, want %v", got, err, at)
	}
	if err := (timeColumn{MySQL, new(time.Time)}).Scan(time.Now()); err == nil {
		t.Error("MySQL: took a time in the zone of the DSN")
	}
}

func TestAttributes_comeBackAndAreReadable(t *testing.T) {
	for _, attributes := range []map[string]string{
		nil, {"ip": "203.0.113.7"}, {"": "", "ünï": "☃\u2028\x01\"'\\<b>&"}, {"JSON": `{"a":null}`},
	} {
		arg, err := encodeAttributes(attributes)
		if err != nil {
			t.Fatal(err)
		}
		text, ok := arg.(string)
		got, err := decodeAttributes(sql.NullString{String: text, Valid: ok})
		if err != nil || fmt.Sprint(got) != fmt.Sprint(attributes) || (got == nil) != (attributes == nil) {
			t.Errorf("%v came back from %v as %v, %v", attributes, arg, got, err)
		}
	}
	arg, _ := encodeAttributes(map[string]string{"device": "Zoë's <phone>"})
	if arg != `{"device":"Zoë's <phone>"}` {
		t.Errorf("an operator reads %v", arg)
	}
}

func TestSchema_isWholeAndNamesOnlyTheTable(t *testing.T) {
	for _, d := range dialects {
		plain, err := Schema(d, "")
		if err != nil {
			t.Fatal(err)
		}
		renamed, err := Schema(d, "other")
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(renamed, defaultTable) {
			t.Errorf("%v: the default name is left:\n%s", d, renamed)
		}
		q := newQueries(tableName{dialect: d, name: "x"}).probe
		for column := range strings.SplitSeq(strings.TrimPrefix(q[:strings.Index(q, " FROM")], "SELECT "), ", ") {
			if !regexp.MustCompile(`(?m)^    ` + column + ` `).MatchString(plain) {
				t.Errorf("%v: no column %s", d, column)
			}
		}
	}
}

// What goose and golang-migrate expect of a file.
func TestMigrations_areNamedAsToolsExpect(t *testing.T) {
	name := regexp.MustCompile(`^(\d{6})_[a-z_]+\.up\.sql$`)
	for _, d := range dialects {
		files, err := Migrations(d)
		if err != nil {
			t.Fatal(err)
		}
		entries, err := fs.ReadDir(files, ".")
		if err != nil || len(entries) == 0 {
			t.Fatalf("%v: %d migrations, %v", d, len(entries), err)
		}
		for i, entry := range entries {
			m := name.FindStringSubmatch(entry.Name())
			if m == nil || m[1] != fmt.Sprintf("%06d", i+1) {
				t.Errorf("%v: %s", d, entry.Name())
			}
			text, err := fs.ReadFile(files, entry.Name())
			if err != nil || !strings.HasPrefix(string(text), "-- +goose Up\n") || strings.Contains(string(text), "+goose Down") {
				t.Errorf("%v: %s does not begin with goose's annotation, or has a way down", d, entry.Name())
			}
			if last := fmt.Sprintf("(version, oldest) VALUES (%d, 1);\n", i+1); !strings.HasSuffix(string(text), last) {
				t.Errorf("%v: %s does not end with the record of its version", d, entry.Name())
			}
		}
		if len(entries) != len(mustMigrations(t, d)) {
			t.Errorf("%v: Migrate runs other migrations", d)
		}
	}
}

func mustMigrations(t *testing.T, d Dialect) []migration {
	t.Helper()
	migrations, err := migrationsOf(tableName{dialect: d, name: defaultTable})
	if err != nil {
		t.Fatal(err)
	}
	return migrations
}

func TestRename_qualifiesTablesAndNotIndexes(t *testing.T) {
	got := tableName{PostgreSQL, "auth", "Sessions"}.rename(`CREATE INDEX "token_sessions_subject" ON "token_sessions" (x); INSERT INTO "token_sessions_schema"`)
	want := `CREATE INDEX "Sessions_subject" ON "auth"."Sessions" (x); INSERT INTO "auth"."Sessions_schema"`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestRebind_numbersPostgreSQLsParametersOnly(t *testing.T) {
	if got := PostgreSQL.rebind("a = ? AND b IN (?, ?)"); got != "a = $1 AND b IN ($2, $3)" {
		t.Error(got)
	}
	if got := MySQL.rebind("a = ?"); got != "a = ?" {
		t.Error(got)
	}
}

func TestDialect_namesItself(t *testing.T) {
	for d, want := range map[Dialect]string{PostgreSQL: "PostgreSQL", MySQL: "MySQL", SQLite: "SQLite", 7: "Dialect(7)"} {
		if d.String() != want {
			t.Errorf("%q, want %q", d.String(), want)
		}
	}
}

func TestSchemaAndMigrations_refuseNoDialect(t *testing.T) {
	if _, err := Schema(0, ""); err == nil {
		t.Error("Schema took the zero dialect")
	}
	if _, err := Migrations(0); err == nil {
		t.Error("Migrations took the zero dialect")
	}
}

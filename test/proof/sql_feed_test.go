//go:build unix

package proof_test

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

// fill adds n rows whose ids are numbers, as sessions that the function of a row's number
// describes. The dialects differ on how to count.
func fill(t testing.TB, server sqlServer, store *sqlstore.Store, n int, column, value string) {
	t.Helper()
	db := server.open(t, fillDSN[store])
	id, later := "'n' || n", "rotated_at"
	count := "SELECT CAST(n AS bigint) AS n FROM generate_series(1, %d) AS n"
	switch server.dialect {
	case sqlstore.MySQL:
		id = "CONCAT('n', n)"
		count = "WITH RECURSIVE c AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM c WHERE n < %d) SELECT n FROM c"
		db.SetMaxOpenConns(1)
		if isMariaDB(t, db) {
			execSQL(t, db, "SET SESSION max_recursive_iterations = 100000000")
		} else {
			execSQL(t, db, "SET SESSION cte_max_recursion_depth = 100000000")
		}
	case sqlstore.SQLite:
		count = "WITH RECURSIVE c AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM c WHERE n < %d) SELECT n FROM c"
	}
	_ = later
	execSQL(t, db, "INSERT INTO token_sessions (id, issuer, subject, write_id, generation, predecessor, version, sweep_at, created_at, "+
		"rotated_at, expires_at, epoch, "+column+") SELECT "+id+", t.issuer, t.subject, t.write_id, 0, 0, 1, t.sweep_at, t.created_at, "+
		"t.rotated_at, t.expires_at, "+epochOf(column)+", "+value+" FROM token_sessions AS t, ("+fmt.Sprintf(count, n)+") AS c WHERE t.id = 'template'")
}

func epochOf(column string) string {
	if column == "outdated_at" {
		return "7"
	}
	return "NULL"
}

// fillDSN is of the databases that are filled.
var fillDSN = map[*sqlstore.Store]string{}

// fillable returns a store with one session that the others are made of.
func fillable(t testing.TB, server sqlServer) (*sqlstore.Store, time.Time) {
	t.Helper()
	dsn := server.database(t)
	store := server.migrated(t, server.open(t, dsn), "")
	rec := sqlRecord("alice")
	rec.ID = "template"
	if err := store.Create(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
	fillDSN[store] = dsn
	return store, rec.RotatedAt
}

// The feed comes in pages, whole, once each, in whatever way the revocations lie in time.
func TestSQLStore_feedIsWholeWhateverItsSize(t *testing.T) {
	for _, server := range sqlServers {
		t.Run(server.dialect.String(), func(t *testing.T) {
			for _, n := range []int{999, 1000, 1001, 2500} {
				for _, column := range []string{"revoked_at", "outdated_at"} {
					store, since := fillable(t, server)
					at := "t.rotated_at"
					fill(t, server, store, n, column, at) // all of one instant
					pages, told := 0, map[string]tokensession.Revocation{}
					err := store.Revocations(t.Context(), since, func(page []tokensession.Revocation) error {
						pages++
						if len(page) > 1000 {
							t.Errorf("a page of %d", len(page))
						}
						for _, r := range page {
							if _, twice := told[r.SessionID]; twice {
								t.Errorf("%s is told twice", r.SessionID)
							}
							told[r.SessionID] = r
						}
						return nil
					})
					if err != nil || len(told) != n {
						t.Errorf("%s: told %d of %d in %d pages: %v", column, len(told), n, pages, err)
					}
					for _, r := range told {
						if !r.At.Equal(since) || (r.Epoch == 7) != (column == "outdated_at") {
							t.Fatalf("%s: told %v, want it at %v", column, r, since)
						}
					}
				}
			}
		})
	}
	t.Run("of many instants", func(t *testing.T) {
		server := sqlServers[0]
		store, since := fillable(t, server)
		// Of the instants some have more than a page, and pages begin and end among them.
		fill(t, server, store, 5000, "revoked_at", "t.rotated_at + (CASE WHEN n % 3 = 0 THEN n / 100 ELSE 3 END) * interval '1 ms'")
		told := map[string]bool{}
		all, err := revocations(t.Context(), store, since)
		for _, r := range all {
			told[r.SessionID] = true
		}
		if err != nil || len(told) != 5000 || len(all) != 5000 {
			t.Errorf("told %d, of which %d differ, want 5000; %v", len(all), len(told), err)
		}
	})
}

// Whoever wants no more pages gets none, and his error.
func TestSQLStore_feedEndsWithAPagesError(t *testing.T) {
	store, since := fillable(t, sqlServers[2])
	fill(t, sqlServers[2], store, 2500, "revoked_at", "t.rotated_at")
	enough, pages := fmt.Errorf("enough"), 0
	err := store.Revocations(t.Context(), since, func([]tokensession.Revocation) error {
		pages++
		return enough
	})
	if err != enough || pages != 1 {
		t.Errorf("%v after %d pages, want %v after one", err, pages, enough)
	}
}

// However many were revoked, a look at the feed holds a few pages. TOKENSESSION_TEST_REVOCATIONS
// says how many: 3000000 takes a few minutes, most of it to make them.
func TestSQLStore_feedHoldsLittleWhateverItsSize(t *testing.T) {
	n := 20_000
	if s := os.Getenv("TOKENSESSION_TEST_REVOCATIONS"); s != "" {
		var err error
		if n, err = strconv.Atoi(s); err != nil {
			t.Fatal(err)
		}
	}
	server := sqlServers[0]
	store, since := fillable(t, server)
	fill(t, server, store, n, "revoked_at", "t.rotated_at + n * interval '10 us'")
	held := func() int64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return int64(stats.HeapAlloc)
	}
	look := func(since time.Time) (told int, most int64) {
		before := held()
		pages := 0
		err := store.Revocations(t.Context(), since, func(page []tokensession.Revocation) error {
			told += len(page)
			if pages++; pages%100 == 1 {
				most = max(most, held()-before)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return told, most
	}
	var stats, after runtime.MemStats
	runtime.ReadMemStats(&stats)
	begin := time.Now()
	told, most := look(since)
	took := time.Since(begin)
	runtime.ReadMemStats(&after)
	each := (after.TotalAlloc - stats.TotalAlloc) / uint64(n)
	t.Logf("each revocation allocates %d bytes", each)
	if each > 200 { // most of it is the driver's
		t.Errorf("each revocation allocates %d bytes, want at most 200", each)
	}
	if told != n || most > 10<<20 {
		t.Errorf("told %d of %d, and held %d bytes, want at most 10 MB", told, n, most)
	}
	// What is new costs what is new.
	last := since.Add(time.Duration(n-100) * 10 * time.Microsecond)
	runtime.ReadMemStats(&stats)
	begin = time.Now()
	told, _ = look(last)
	runtime.ReadMemStats(&after)
	t.Logf("%d revocations: all of them in %v, holding %d bytes; the last %d in %v, allocating %d bytes", n, took, most, told,
		time.Since(begin), after.TotalAlloc-stats.TotalAlloc)
	if told != 101 || after.TotalAlloc-stats.TotalAlloc > 10<<20 {
		t.Errorf("of the last 100, %d were told, with %d bytes allocated", told, after.TotalAlloc-stats.TotalAlloc)
	}
}

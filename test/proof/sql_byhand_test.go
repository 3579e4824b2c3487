//go:build unix

package proof_test

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

// byHand are the statements by which the README has people end sessions.
var byHand = map[sqlstore.Dialect]string{
	sqlstore.PostgreSQL: `UPDATE token_sessions
SET revoked_at = now(), revoke_reason = 'by hand', version = version + 1
WHERE id = '…' AND revoked_at IS NULL;`,
	sqlstore.MySQL: `UPDATE token_sessions
SET revoked_at = UTC_TIMESTAMP(6), revoke_reason = 'by hand', version = version + 1
WHERE id = '…' AND revoked_at IS NULL;`,
	sqlstore.SQLite: `UPDATE token_sessions
SET revoked_at = strftime('%Y-%m-%dT%H:%M:%f', 'now'), revoke_reason = 'by hand', version = version + 1
WHERE id = '…' AND revoked_at IS NULL;`,
}

func TestSQLStore_sessionsEndByHandAsTheREADMESays(t *testing.T) {
	readme, err := os.ReadFile("../../sqlstore/README.md")
	if err != nil {
		t.Fatal(err)
	}
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		db := server.open(t, dsn)
		store := server.migrated(t, db, "")
		m := managerOn(t, store)
		statement := byHand[server.dialect]
		if !strings.Contains(string(readme), statement) {
			t.Errorf("the README does not have\n%s", statement)
		}
		start := func(subject string) tokensession.Tokens {
			t.Helper()
			tokens, err := m.Start(t.Context(), subject)
			if err != nil {
				t.Fatal(err)
			}
			return tokens
		}
		one, other, others := start("alice"), start("alice"), start("bob")
		beside, err := store.Load(t.Context(), one.Session.ID) // a refresh that is under way
		if err != nil {
			t.Fatal(err)
		}
		before := time.Now().Add(-time.Second)
		statement = strings.TrimSuffix(statement, ";")
		execSQL(t, db, strings.Replace(statement, "…", one.Session.ID, 1))

		if err := store.Swap(t.Context(), swapped(beside)); !errors.Is(err, tokensession.ErrConflict) {
			t.Errorf("a write from before: %v, want ErrConflict", err)
		}
		if _, err := m.Refresh(t.Context(), one.RefreshToken); !errors.Is(err, tokensession.ErrRevoked) {
			t.Errorf("Refresh: %v, want ErrRevoked", err)
		}
		told, err := revocations(t.Context(), store, before)
		if err != nil || len(told) != 1 || told[0].SessionID != one.Session.ID || told[0].At.Before(before) {
			t.Errorf("the feed tells %v, %v, want the one that was ended now", told, err)
		}
		if listed, err := m.Sessions(t.Context(), "alice"); err != nil || len(listed) != 1 {
			t.Errorf("Sessions: %v, %v, want the other one", listed, err)
		}
		execSQL(t, db, strings.Replace(statement, "id = '…'", "subject = 'alice'", 1))
		if _, err := m.Refresh(t.Context(), other.RefreshToken); !errors.Is(err, tokensession.ErrRevoked) {
			t.Errorf("Refresh of a subject's session: %v, want ErrRevoked", err)
		}
		if _, err := m.Refresh(t.Context(), others.RefreshToken); err != nil {
			t.Errorf("Refresh of another subject's session: %v", err)
		}
	})
}

// A time that somebody wrote in SQLite with one of its own functions is what the function means.
func TestSQLStore_readsSQLitesOwnTimes(t *testing.T) {
	server := sqlServers[2]
	db := server.open(t, server.database(t))
	store := server.migrated(t, db, "")
	for expression, precision := range map[string]time.Duration{
		"datetime('now')": time.Second, "datetime('now', 'subsec')": time.Millisecond, "CURRENT_TIMESTAMP": time.Second,
		"unixepoch()": time.Second, "unixepoch('subsec')": time.Millisecond, "unixepoch('now')": time.Second,
		"julianday()": 10 * time.Millisecond, "strftime('%s', 'now')": time.Second,
		"strftime('%Y-%m-%dT%H:%M:%f', 'now')": time.Millisecond, "strftime('%Y-%m-%dT%H:%M:%SZ', 'now')": time.Second,
		"strftime('%Y-%m-%dT%H:%M:%f000Z', 'now')":                     time.Millisecond,
		"strftime('%Y-%m-%d %H:%M:%S', 'now', '+2 hours') || '+02:00'": time.Second,
		"strftime('%Y-%m-%dT%H:%M:%f', 'now', '-5 hours') || '-05:00'": time.Millisecond,
		"strftime('%Y-%m-%d %H:%M', 'now')":                            time.Minute,
		"CAST(unixepoch() AS TEXT)":                                    time.Second,
		"strftime('%J', 'now')":                                        10 * time.Millisecond,
		"strftime('%FT%TZ', 'now')":                                    time.Second,
		"strftime('%Y-%m-%d %H:%M:%f', 'now') || 'Z'":                  time.Millisecond,
	} {
		rec := sqlRecord("alice")
		if err := store.Create(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
		before := time.Now()
		execSQL(t, db, "UPDATE token_sessions SET version = version + 1, revoked_at = "+expression+" WHERE id = ?", rec.ID)
		after := time.Now()
		near := func(at time.Time) bool { return !at.Before(before.Add(-precision)) && !at.After(after.Add(precision)) }
		got, err := store.Load(t.Context(), rec.ID)
		if err != nil || !near(got.RevokedAt) {
			t.Errorf("%s: Load gives %v, %v, want %v", expression, got.RevokedAt, err, before.UTC())
		}
		told, err := revocations(t.Context(), store, before.Add(-precision))
		found := false
		for _, r := range told {
			found = found || r.SessionID == rec.ID && near(r.At)
		}
		if err != nil || !found {
			t.Errorf("%s: the feed tells %v, %v, want %s at %v", expression, told, err, rec.ID, before.UTC())
		}
		execSQL(t, db, "DELETE FROM token_sessions")
	}
}

// One row that cannot be read hides no other. A session that was revoked at a time that cannot be
// read is told as revoked.
func TestSQLStore_oneBadRowSpoilsNothing(t *testing.T) {
	type spoiled struct {
		set     string
		revoked bool // it counts as revoked, at a time that cannot be read
	}
	spoils := map[sqlstore.Dialect][]spoiled{
		sqlstore.PostgreSQL: {
			{"revoked_at = 'infinity'", true}, {"revoked_at = '-infinity'", true},
			{"outdated_at = 'infinity', epoch = 3, idle_ttl = -1", false},
		},
		sqlstore.MySQL: {
			{"revoked_at = '0000-00-00 00:00:00'", true},
			{"outdated_at = '0000-00-00 00:00:00', epoch = 3", false},
		},
		sqlstore.SQLite: {
			{"revoked_at = 'yesterday'", true}, {"revoked_at = ''", true}, {"revoked_at = date('now')", true},
			{"revoked_at = 7", true}, {"revoked_at = unixepoch() * 1000", true}, {"revoked_at = x'00ff'", true},
			{"expires_at = 'soon'", false}, {"generation = 'many'", false}, {"outdated_at = 'today', epoch = 3", false},
			{"outdated_at = rotated_at, epoch = 'three'", false}, {"outdated_at = rotated_at, epoch = 1.5", false},
			{"outdated_at = rotated_at, epoch = x'00ff'", false}, {"outdated_at = 'today', epoch = 'three'", false},
			{"outdated_at = rotated_at, epoch = 3, format = 'new'", false}, {"created_at = 'long ago'", false},
			{"rotated_at = x'00ff'", false}, {"transient = 'yes'", false}, {"version = 1.5", false},
		},
	}
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		db := server.open(t, dsn)
		db.SetMaxOpenConns(1)
		store := server.migrated(t, db, "")
		if server.dialect == sqlstore.MySQL {
			execSQL(t, db, "SET SESSION sql_mode = ''")
		}
		for _, bad := range append(spoils[server.dialect],
			spoiled{"attributes = '{\"ip\": 7}'", false}, spoiled{"attributes = '['", false},
			spoiled{"auth_methods = '{}'", false}, spoiled{"generation = -1", false}, spoiled{"idle_ttl = -1", false},
			spoiled{"epoch = -5, outdated_at = rotated_at", false}, spoiled{"outdated_at = rotated_at", false},
		) {
			name := fmt.Sprintf("%v: %s", server.dialect, bad.set)
			execSQL(t, db, "DELETE FROM token_sessions")
			recs := []tokensession.Record{sqlRecord("alice"), sqlRecord("alice"), sqlRecord("alice")}
			for _, rec := range recs {
				if err := store.Create(t.Context(), rec); err != nil {
					t.Fatal(err)
				}
			}
			since := recs[0].CreatedAt.Add(-time.Minute)
			gone := swapped(recs[0])
			gone.RevokedAt = gone.CreatedAt
			if err := store.Swap(t.Context(), gone); err != nil {
				t.Fatal(err)
			}
			broken, sound := recs[1], recs[2]
			execSQL(t, db, "UPDATE token_sessions SET version = version + 1, "+bad.set+" WHERE id = '"+broken.ID+"'")

			told, err := revocations(t.Context(), store, since)
			at := map[string]time.Time{}
			for _, r := range told {
				at[r.SessionID] = r.At
			}
			if !at[gone.ID].Equal(gone.RevokedAt) {
				t.Errorf("%s: the feed tells %v, %v, and not another one's logout", name, told, err)
			}
			if when, ok := at[broken.ID]; ok != bad.revoked || !when.IsZero() {
				t.Errorf("%s: the feed tells %v, %v; that it is revoked: want %v, at no time", name, told, err, bad.revoked)
			}
			outdated := strings.Contains(bad.set, "outdated_at")
			if outdated != errors.Is(err, tokensession.ErrUnreadable) || !outdated && err != nil {
				t.Errorf("%s: the feed says %v", name, err)
			}

			listed, err := store.List(t.Context(), "alice")
			if !bad.revoked && bad.set != "outdated_at = rotated_at" && !errors.Is(err, tokensession.ErrUnreadable) {
				t.Errorf("%s: List says %v, want ErrUnreadable", name, err)
			}
			found := false
			for _, rec := range listed {
				found = found || rec.ID == sound.ID
			}
			if !found {
				t.Errorf("%s: List gives %v, %v, want the sound one", name, listed, err)
			}

			revoked, err := store.RevokeSubject(t.Context(), ofSubject("alice", time.Now()))
			found = false
			for _, rec := range revoked {
				found = found || rec.ID == sound.ID
			}
			if !found || err != nil && !errors.Is(err, tokensession.ErrUnreadable) {
				t.Errorf("%s: RevokeSubject gives %v, %v, want the sound one", name, revoked, err)
			}
			left := 0
			if strings.Contains(bad.set, "format") { // a later version's is left alone, and told
				left = 1
			}
			if n := countSQL(t, db, "SELECT COUNT(*) FROM token_sessions WHERE revoked_at IS NULL"); n != left ||
				left > 0 && err == nil {
				t.Errorf("%s: RevokeSubject left %d sessions, %v", name, n, err)
			}
		}
	})
}

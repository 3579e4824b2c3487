//go:build unix

package servers

import (
	"net/url"
	"path/filepath"
	"testing"
)

// SQLiteDSN returns the DSN, as modernc.org/sqlite writes it, of a new SQLite database in a file,
// with the settings that sqlstore asks for. Several connections and processes may open it.
func SQLiteDSN(tb testing.TB) string {
	tb.Helper()
	return SQLiteFileDSN(filepath.Join(tb.TempDir(), "sessions.db"))
}

// SQLiteFileDSN returns the DSN of a SQLite database in this file, with the settings that sqlstore
// asks for.
func SQLiteFileDSN(path string) string {
	u := url.URL{Scheme: "file", Opaque: path,
		RawQuery: "_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)"}
	return u.String()
}

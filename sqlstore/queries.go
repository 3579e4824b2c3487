package sqlstore

import (
	"slices"
	"strconv"
	"strings"
)

// columns are those of a record, in the order of [Dialect.encode] and [row.columns]. When a record
// is created sweep_at goes before them, and when one is read format goes after them.
var columns = []string{
	"id", "issuer", "subject", "client_id", "actor", "attributes", "auth_methods", "auth_context",
	"key_thumbprint", "revoke_reason", "mac_key", "write_id",
	"auth_time", "created_at", "rotated_at", "consumed_at", "expires_at", "max_expires_at",
	"revoked_at", "outdated_at", "idle_ttl", "generation", "predecessor", "version", "epoch",
	"transient",
}

// timeColumns are those of columns that are times.
var timeColumns = map[string]bool{
	"auth_time": true, "created_at": true, "rotated_at": true, "consumed_at": true,
	"expires_at": true, "max_expires_at": true, "revoked_at": true, "outdated_at": true,
}

// queries are all statements of a [Store]. Their only variable part is the table's name. What users
// and clients send goes in as parameters.
type queries struct {
	create, load, swap, state, list statement
	dropDue, moveDue                statement
	revokedBy                       statement
	revokeSubject                   string // an unfinished statement
	confirmIDs, confirmSubjects     *confirmation
	feed                            feedQueries
	keys                            keyQueries
	confirmWritable, insertNothing  statement
	serverTime                      string
	installed, probe                string
}

func newQueries(t tableName) *queries {
	d, table := t.dialect, t.quoted("")
	text := func(s string) statement { return statement{text: d.rebind(s)} }
	read := d.selectable(slices.Concat(columns, []string{"format"}))
	selected := d.fromPrimary() + "SELECT " + read + " FROM " + table
	drop, move := d.dueQueries(table)
	written := "sweep_at, " + strings.Join(columns, ", ")
	return &queries{
		create: text("INSERT INTO " + table + " (" + written + ") VALUES (?" +
			strings.Repeat(", ?", len(columns)) + ")"),
		load: text(selected + " WHERE id = ?"),
		list: text(selected + " WHERE subject = ? AND revoked_at IS NULL" + d.all()),
		state: text(d.fromPrimary() + "SELECT id, version, write_id, CASE WHEN revoked_at IS NULL THEN 0 ELSE 1 END, " +
			"format FROM " + table + " WHERE id = ?"),

		// sweep_at follows only an expiry that came nearer.
		swap: text("UPDATE " + table + d.by("PRIMARY") + " SET sweep_at = " + d.earlier("sweep_at") + ", " +
			strings.Join(columns[1:], " = ?, ") + " = ?" +
			" WHERE id = ? AND version = ? AND write_id = ? AND revoked_at IS NULL" +
			" AND format IS NULL"),

		dropDue: text(drop), moveDue: text(move),

		// A live session that a later version has written is selected too, because it was not
		// revoked.
		revokedBy: text(selected + " WHERE subject = ? AND (revoked_at IS NOT NULL AND write_id = ?" +
			" OR revoked_at IS NULL AND format IS NOT NULL)" + d.all()),
		revokeSubject: "UPDATE " + table + d.by("by_subject") +
			" SET revoked_at = " + d.sinceRotation() + ", revoke_reason = ?, write_id = ?, version = version + 1," +
			" expires_at = " + d.earlier("expires_at") + ", sweep_at = " + d.earlier("sweep_at") +
			" WHERE subject = ? AND revoked_at IS NULL AND format IS NULL AND " + d.expiresAfter(),

		confirmIDs:      newConfirmation(t, "id", "", read),
		confirmSubjects: newConfirmation(t, "subject", " AND revoked_at IS NULL", read),
		feed:            newFeedQueries(t),
		keys:            newKeyQueries(t),

		confirmWritable: text("UPDATE " + t.quoted("_schema") +
			" SET oldest = oldest WHERE version = 1"),
		insertNothing: text("INSERT INTO " + table + " (" + written + ")" +
			" SELECT " + written + " FROM " + table + " WHERE 1 = 0"),
		serverTime: "SELECT " + d.now(),
		installed: "SELECT COALESCE(MAX(version), 0), COALESCE(MAX(oldest), 0) FROM " +
			t.quoted("_schema"),
		probe: "SELECT " + written + ", format FROM " + table + " WHERE 1 = 0",
	}
}

// dueQueries return the two statements of a sweep. Both take a batch of the rows that may have
// expired, those longest due first. One drops those that have expired, the other moves those that
// were refreshed on to their new expiry. Their parameters are the time, the size of the batch, and
// the time.
func (d Dialect) dueQueries(table string) (drop, move string) {
	expired, live := "COALESCE(expires_at, sweep_at) <= ?", "expires_at > ?"
	if d == SQLite { // text in another form does not sort as the time does
		expired += " AND COALESCE(expires_at, sweep_at) GLOB " + sqliteForm
	}
	due := "SELECT id FROM " + table + " WHERE sweep_at <= ? ORDER BY sweep_at LIMIT ?"
	if d == MySQL { // it has no LIMIT in IN (…)
		// The table has no alias: DELETE would look for that in the connection's database, and
		// there may be none.
		join := table + " JOIN (" + due + ") AS due ON " + table + ".id = due.id"
		return "DELETE " + table + " FROM " + join + " WHERE " + expired,
			"UPDATE " + join + " SET sweep_at = expires_at WHERE " + live
	}
	where := " WHERE id IN (" + due + ") AND "
	if d == PostgreSQL {
		// As IN (…) it might be read again for each row, and lock and drop more than the limit.
		where = " WHERE id = ANY (ARRAY(" + due + " FOR UPDATE SKIP LOCKED)) AND "
	}
	return "DELETE FROM " + table + where + expired,
		"UPDATE " + table + " SET sweep_at = expires_at" + where + live
}

// sqliteForm is what matches a time in the form that timeArg writes. The indexes of the migration
// have the same text.
var sqliteForm = "'" + strings.ReplaceAll("0000-00-00T00:00:00.000000Z", "0", "[0-9]") + "'"

// selectable returns the columns as a SELECT names them. MySQL is asked for the text of times,
// because its driver would make of a time what the DSN's parseTime and loc say.
func (d Dialect) selectable(columns []string) string {
	expressions := make([]string, len(columns))
	for i, column := range columns {
		expressions[i] = column
		if d == MySQL && timeColumns[column] {
			expressions[i] = "CAST(" + column + " AS CHAR) AS " + column
		}
	}
	return strings.Join(expressions, ", ")
}

// by returns what makes a statement of MySQL find its rows by an index.
//
// An UPDATE of one row needs the primary key. MariaDB would take the index on revoked_at, in which
// the rows that are not revoked have their id too, and look up and lock the row there first.
//
// An UPDATE of a subject's rows needs the index on subjects. MariaDB might intersect it with the
// index on revoked_at, and so read and lock the row of everybody who is not revoked.
//
// The feed needs the index on the time that it is about. MySQL might read the whole table in the
// order of the ids instead.
func (d Dialect) by(index string) string {
	if d == MySQL {
		return " FORCE INDEX (" + index + ")"
	}
	return ""
}

// fromPrimary returns what has Pgpool-II send a SELECT to the primary. A standby that lags behind
// would answer it with a session that was revoked since, or with only some of a user's. To a
// server it is a comment.
func (d Dialect) fromPrimary() string {
	if d == PostgreSQL {
		return "/*NO LOAD BALANCE*/ "
	}
	return ""
}

// all returns what makes a SELECT return all rows. Where a host has set sql_select_limit, MySQL
// would leave out the others, and say nothing of it.
func (d Dialect) all() string {
	if d == MySQL {
		return " LIMIT 18446744073709551615"
	}
	return ""
}

// sinceRotation returns the expression for the later one of rotated_at and a parameter, which it
// has twice.
func (d Dialect) sinceRotation() string {
	switch d {
	case MySQL:
		return "GREATEST(CAST(? AS DATETIME(6)), COALESCE(rotated_at, CAST(? AS DATETIME(6))))"
	case SQLite:
		return "MAX(?, COALESCE(CASE WHEN rotated_at GLOB " + sqliteForm +
			" THEN rotated_at END, ?))"
	}
	return "GREATEST(?, COALESCE(rotated_at, ?))"
}

// expiresAfter returns the condition that a row expires after a parameter. SQLite compares text, so
// that a time in another form than ours cannot be compared: such a row is taken to be live.
func (d Dialect) expiresAfter() string {
	if d == SQLite {
		return "(expires_at > ? OR expires_at NOT GLOB " + sqliteForm + ")"
	}
	return "expires_at > ?"
}

// earlier returns the expression for the earlier one of a column and a parameter.
func (d Dialect) earlier(column string) string {
	switch d {
	case MySQL:
		return "LEAST(" + column + ", CAST(? AS DATETIME(6)))"
	case SQLite:
		return "MIN(" + column + ", ?)"
	}
	return "LEAST(" + column + ", ?)"
}

// now returns the expression for the time by the server's clock.
func (d Dialect) now() string {
	switch d {
	case MySQL:
		return "CAST(UTC_TIMESTAMP(6) AS CHAR)"
	case SQLite:
		return "strftime('%Y-%m-%dT%H:%M:%fZ', 'now')"
	}
	return "clock_timestamp()"
}

// barred returns the expression for what forbids to take an absent row for one that does not exist:
// NULL, or one of the reasons below. PostgreSQL's locking reads fail by themselves where the server
// is read-only.
func (t tableName) barred() string {
	switch t.dialect {
	case PostgreSQL:
		return "CASE WHEN row_security_active('" + t.quoted("") + "')" +
			" THEN '" + barredByRowSecurity + "' END"
	case MySQL:
		// MariaDB 12 has words where the others have numbers.
		return "CASE WHEN CAST(@@global.read_only AS CHAR) NOT IN ('0', 'OFF')" +
			" OR CAST(@@global.innodb_read_only AS CHAR) NOT IN ('0', 'OFF')" +
			" THEN '" + barredByReadOnly + "' END"
	}
	return "CASE WHEN (SELECT query_only FROM pragma_query_only)" +
		" THEN '" + barredByReadOnly + "' END"
}

const (
	barredByRowSecurity = "row security"
	barredByReadOnly    = "read-only"
)

// placeholders returns n of them.
func placeholders(n int) string { return "?" + strings.Repeat(", ?", n-1) }

// quotedText returns a string of SQL. It is for names and constants, which have no quotes.
func quotedText(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

func number(n int) string { return strconv.Itoa(n) }

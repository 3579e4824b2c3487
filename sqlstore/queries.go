package sqlstore

import "strings"

// columns are those of a record, in the order of [recordArgs] and [scanRecord]; sweep_at goes before them.
var columns = []string{
	"id", "subject", "client_id", "attributes",
	"auth_time", "created_at", "rotated_at", "consumed_at", "expires_at", "max_expires_at", "revoked_at", "revoke_reason",
	"generation", "predecessor", "mac_key", "version", "write_id",
}

// timeColumns are those of columns that are times.
var timeColumns = map[string]bool{
	"auth_time": true, "created_at": true, "rotated_at": true, "consumed_at": true, "expires_at": true, "max_expires_at": true, "revoked_at": true,
}

// queries are all statements of a [Store]. Their only variable part is the table's name; what users and clients send
// goes in as parameters.
type queries struct {
	create, load, swap, state, list statement
	dropDue, moveDue                statement
	revokedSince, revokedBy         statement
	revokeSubject                   string // an unfinished statement
	schemaVersion, probe            string
}

func newQueries(t tableName) *queries {
	d, table := t.dialect, t.quoted("")
	text := func(s string) statement { return statement{text: d.rebind(s)} }
	selected := "SELECT " + d.selectable(columns) + " FROM " + table
	drop, move := dueQueries(d, table)
	return &queries{
		create: text("INSERT INTO " + table + " (sweep_at, " + strings.Join(columns, ", ") + ") VALUES (?" + strings.Repeat(", ?", len(columns)) + ")"),
		load:   text(selected + " WHERE id = ?"),
		list:   text(selected + " WHERE subject = ? AND revoked_at IS NULL" + d.all()),
		state:  text("SELECT version, write_id FROM " + table + " WHERE id = ?"),

		// sweep_at follows only an expiry that came nearer.
		swap: text("UPDATE " + table + d.byID() + " SET sweep_at = " + d.earlier() + ", " + strings.Join(columns[1:], " = ?, ") + " = ?" +
			" WHERE id = ? AND version = ? AND revoked_at IS NULL"),

		dropDue: text(drop), moveDue: text(move),

		revokedSince: text("SELECT " + d.selectable([]string{"id", "revoked_at"}) + " FROM " + table + " WHERE revoked_at >= ?" + d.all()),
		revokedBy:    text(selected + " WHERE subject = ? AND write_id = ? AND revoked_at IS NOT NULL" + d.all()),
		revokeSubject: "UPDATE " + table + " SET revoked_at = " + d.sinceRotation() + ", revoke_reason = ?, write_id = ?, version = version + 1" +
			" WHERE subject = ? AND revoked_at IS NULL AND expires_at > ?",

		schemaVersion: "SELECT COALESCE(MAX(version), 0) FROM " + t.quoted("_schema"),
		probe:         "SELECT sweep_at, " + strings.Join(columns, ", ") + " FROM " + table + " WHERE 1 = 0",
	}
}

// dueQueries return the two statements of a sweep. Both take a batch of the rows that may have expired, those longest due
// first; one drops those that have expired, the other moves those that were refreshed on to their new expiry.
// Their parameters are the time, the size of the batch, and the time.
func dueQueries(d Dialect, table string) (drop, move string) {
	const expired, live = "COALESCE(expires_at, sweep_at) <= ?", "expires_at > ?"
	due := "SELECT id FROM " + table + " WHERE sweep_at <= ? ORDER BY sweep_at LIMIT ?"
	if d == MySQL { // it has no LIMIT in IN (…)
		// The table has no alias: DELETE would look for that in the connection's database, and there may be none.
		join := table + " JOIN (" + due + ") AS due ON " + table + ".id = due.id"
		return "DELETE " + table + " FROM " + join + " WHERE " + expired, "UPDATE " + join + " SET sweep_at = expires_at WHERE " + live
	}
	where := " WHERE id IN (" + due + ") AND "
	if d == PostgreSQL {
		// As IN (…) it might be read again for each row, and lock and drop more than the limit.
		where = " WHERE id = ANY (ARRAY(" + due + " FOR UPDATE SKIP LOCKED)) AND "
	}
	return "DELETE FROM " + table + where + expired, "UPDATE " + table + " SET sweep_at = expires_at" + where + live
}

// selectable returns the columns as a SELECT names them. MySQL is asked for the text of times: its driver would make of
// a time what the DSN's parseTime and loc say.
func (d Dialect) selectable(columns []string) string {
	expressions := make([]string, len(columns))
	for i, column := range columns {
		expressions[i] = column
		if d == MySQL && timeColumns[column] {
			expressions[i] = "CAST(" + column + " AS CHAR)"
		}
	}
	return strings.Join(expressions, ", ")
}

// byID returns what makes an UPDATE of one row find it by its primary key. MariaDB would take the index on revoked_at, in
// which the rows that are not revoked have their id too, and look up and lock the row there first.
func (d Dialect) byID() string {
	if d == MySQL {
		return " FORCE INDEX (PRIMARY)"
	}
	return ""
}

// all returns what makes a SELECT return all rows: where a host has set sql_select_limit, MySQL would leave out the others,
// and say nothing of it.
func (d Dialect) all() string {
	if d == MySQL {
		return " LIMIT 18446744073709551615"
	}
	return ""
}

// sinceRotation returns the expression for the later one of rotated_at and a parameter, which it has twice.
func (d Dialect) sinceRotation() string {
	switch d {
	case MySQL:
		return "GREATEST(CAST(? AS DATETIME(6)), COALESCE(rotated_at, CAST(? AS DATETIME(6))))"
	case SQLite:
		return "MAX(?, COALESCE(rotated_at, ?))"
	}
	return "GREATEST(?, COALESCE(rotated_at, ?))"
}

// earlier returns the expression for the earlier one of sweep_at and a parameter.
func (d Dialect) earlier() string {
	switch d {
	case MySQL:
		return "LEAST(sweep_at, CAST(? AS DATETIME(6)))"
	case SQLite:
		return "MIN(sweep_at, ?)"
	}
	return "LEAST(sweep_at, ?)"
}

package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/seed67bc9b7f/tokensession"
)

// A failure is what went wrong, in the words of none of the drivers.
type failure int

const (
	otherFailure failure = iota
	missingTable
	droppedTable
	missingColumn
	wrongDialect
	readOnly
	notAllowed
	noDatabase
	rolledBack // undone by the server in favour of another statement: may be tried again
	locked
	poolClosed
	notPrepared // the server, or a proxy before it, does not keep prepared statements
	mixedUp
	rowSecurity
	newerTable
	differentClock
)

// sqlStates are the codes of PostgreSQL's errors, and errorNumbers those of MySQL's and MariaDB's,
// that have a remedy.
var (
	sqlStates = map[string]failure{
		"42P01": missingTable, "3F000": missingTable, "42703": missingColumn,
		"42601": wrongDialect, "42883": wrongDialect, "25006": readOnly, "42501": notAllowed,
		"40001": rolledBack, "40P01": rolledBack,
		"26000": mixedUp, "42P05": mixedUp, "08P01": mixedUp,
	}
	errorNumbers = map[string]failure{
		"1146": missingTable, "1054": missingColumn,
		"1064": wrongDialect, "1305": wrongDialect, "1630": wrongDialect,
		"1290": readOnly, "1792": readOnly, "1836": readOnly,
		"1142": notAllowed, "1143": notAllowed, "1044": notAllowed,
		"1046": noDatabase, "1049": noDatabase,
		"1213": rolledBack, "1020": rolledBack, "1205": locked,
		"1461": notPrepared, "1243": notPrepared, "1295": notPrepared, "1615": notPrepared,
	}
	// phrases are SQLite's, whose error codes say less, and database/sql's.
	phrases = []struct {
		text string
		failure
	}{
		{"no such table", missingTable}, {"no such column", missingColumn},
		{"has no column named", missingColumn}, {"syntax error", wrongDialect},
		{"no such function", wrongDialect}, {"readonly database", readOnly},
		{"database is locked", locked}, {"database table is locked", locked},
		{"sql: database is closed", poolClosed},
		{"sql: statement is closed", notPrepared}, // another goroutine has dropped it
	}
	mysqlError = regexp.MustCompile(`\bError (\d{4})(?: \(\w{5}\))?: `)
)

// ownFailures are those that the store itself finds.
var ownFailures = map[error]failure{
	errDropped: droppedTable, errReadOnly: readOnly, errRowSecurity: rowSecurity,
	errNewerTable: newerTable, errOtherAnswer: mixedUp, errNotSeen: mixedUp,
	errClock: differentClock,
}

// failureOf recognizes an error without importing its driver.
func failureOf(err error) failure {
	for own, f := range ownFailures {
		if errors.Is(err, own) {
			return f
		}
	}
	var coded interface{ SQLState() string } // of pgx and lib/pq
	if errors.As(err, &coded) {
		return sqlStates[coded.SQLState()]
	}
	text := err.Error()
	if m := mysqlError.FindStringSubmatch(text); m != nil {
		return errorNumbers[m[1]]
	}
	for _, p := range phrases {
		if strings.Contains(text, p.text) {
			return p.failure
		}
	}
	return otherFailure
}

// isVerdict reports whether the store could tell.
func isVerdict(err error) bool {
	return errors.Is(err, tokensession.ErrNotFound) || errors.Is(err, tokensession.ErrExists) ||
		errors.Is(err, tokensession.ErrConflict)
}

// explain says what was being done, and what to do where that is known. It is never one of the
// store contract's verdicts, because the store could not tell.
func (s *Store) explain(ctx context.Context, doing string, err error) error {
	if ended := ctx.Err(); ended != nil && !errors.Is(err, ended) {
		// Drivers say that they were interrupted, or that the connection broke.
		err = fmt.Errorf("%w: %w", ended, err)
	}
	if remedy := s.remedy(failureOf(err)); remedy != "" {
		return fmt.Errorf("sqlstore: %s: %s: %w", doing, remedy, err)
	}
	return fmt.Errorf("sqlstore: %s: %w", doing, err)
}

func (s *Store) remedy(f failure) string {
	switch f {
	case missingTable:
		return fmt.Sprintf("table %q does not exist: call Migrate or apply the SQL of Schema",
			s.table)
	case droppedTable:
		return fmt.Sprintf("table %q does not exist, though table %q says that it was created: restore it, "+
			"or drop table %[2]q, too, and call Migrate, which then creates both",
			s.table, s.table.String()+"_schema")
	case missingColumn:
		return fmt.Sprintf("table %q is not as this version needs it: call Migrate or apply the newest SQL "+
			"of Schema; if it belongs to something else, choose another Config.Table", s.table)
	case wrongDialect:
		return fmt.Sprintf("the server does not understand %v: is that the dialect it speaks?",
			s.dialect)
	case readOnly:
		return "the server is read-only: open the pool on the primary, with an account that may write"
	case notAllowed:
		return fmt.Sprintf("the account may not do that: grant it SELECT, INSERT, UPDATE and DELETE on table %q, "+
			"and SELECT and UPDATE on table %q, and if signing keys are kept there, "+
			"SELECT, INSERT, UPDATE and DELETE on table %q, and let another one with CREATE "+
			"call Migrate",
			s.table, s.table.String()+"_schema", s.table.String()+"_keys")
	case noDatabase:
		return "name an existing database in the DSN"
	case locked:
		if s.dialect == SQLite {
			return "another connection is writing: set a busy timeout in the DSN (_pragma=busy_timeout(10000))"
		}
		return "another transaction holds the row"
	case mixedUp:
		return "the answer is not this statement's: prepare no statements behind a pooler in transaction " +
			"mode (README, Poolers)"
	case rowSecurity:
		return fmt.Sprintf("row level security hides rows of table %q from this role: switch it off there, or "+
			"give the role BYPASSRLS", s.table)
	case differentClock:
		return "set both clocks by the same source"
	case newerTable:
		return fmt.Sprintf("table %q is of a later version: upgrade this program", s.table)
	case poolClosed:
		return "the *sql.DB was closed: close it after the last use of the store"
	}
	return ""
}

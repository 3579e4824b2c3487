package sqlstore

import (
	"database/sql"
	"fmt"
	"reflect"
	"regexp"
	"strconv"
	"strings"
)

// A Dialect is the SQL that a server speaks.
type Dialect int

// The dialects. MySQL is MariaDB's too.
const (
	PostgreSQL Dialect = iota + 1
	MySQL
	SQLite
)

// String returns the name of the dialect's constant.
func (d Dialect) String() string {
	switch d {
	case PostgreSQL:
		return "PostgreSQL"
	case MySQL:
		return "MySQL"
	case SQLite:
		return "SQLite"
	}
	return fmt.Sprintf("Dialect(%d)", int(d))
}

func (d Dialect) check() error {
	if d < PostgreSQL || d > SQLite {
		return fmt.Errorf("%v: must be PostgreSQL, MySQL or SQLite", d)
	}
	return nil
}

// drivers are the import paths of well-known drivers.
var drivers = map[string]Dialect{
	"github.com/jackc/pgx/v5/stdlib":       PostgreSQL,
	"github.com/jackc/pgx/v4/stdlib":       PostgreSQL,
	"github.com/lib/pq":                    PostgreSQL,
	"github.com/go-sql-driver/mysql":       MySQL,
	"modernc.org/sqlite":                   SQLite,
	"github.com/mattn/go-sqlite3":          SQLite,
	"github.com/ncruces/go-sqlite3/driver": SQLite,
}

// checkDriver refuses a pool whose driver is known to speak another dialect. Some statements of one
// dialect run on another server too, and would write what cannot be read.
func (d Dialect) checkDriver(db *sql.DB) error {
	t := reflect.TypeOf(db.Driver())
	if t == nil {
		return nil // a connector that was written by hand may say nothing
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	if actual, known := drivers[t.PkgPath()]; known && actual != d {
		return fmt.Errorf("%v, but the pool's driver %s is for %v: pass sqlstore.%v",
			d, t.PkgPath(), actual, actual)
	}
	return nil
}

// rebind writes the placeholders ? of a statement as the dialect has them. No statement has a ? of
// another meaning.
func (d Dialect) rebind(statement string) string {
	if d != PostgreSQL {
		return statement
	}
	var b strings.Builder
	n := 0
	for part := range strings.SplitSeq(statement, "?") {
		if n > 0 {
			b.WriteString("$" + strconv.Itoa(n))
		}
		b.WriteString(part)
		n++
	}
	return b.String()
}

// A tableName is the name of the sessions' table, taken apart. The zero value is invalid.
type tableName struct {
	dialect Dialect
	schema  string // PostgreSQL's schema or MySQL's database; empty: the connection's
	name    string
}

const (
	defaultTable = "token_sessions"

	// The longest name that leaves room for the names of indexes within PostgreSQL's 63 bytes,
	// beyond which it would cut.
	maxTableName = 48
)

var identifier = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

func parseTable(d Dialect, table string) (tableName, error) {
	if table == "" {
		table = defaultTable
	}
	schema, name, qualified := strings.Cut(table, ".")
	if !qualified {
		schema, name = "", table
	}
	switch {
	case qualified && d == SQLite:
		return tableName{}, fmt.Errorf("%q: a table of SQLite cannot have a schema", table)
	case qualified && !identifier.MatchString(schema), !identifier.MatchString(name):
		return tableName{}, fmt.Errorf("%q: must be ASCII letters, digits and underscores, not beginning with a digit, "+
			"and may be preceded by a schema and a dot", table)
	case len(name) > maxTableName, len(schema) > maxTableName:
		return tableName{}, fmt.Errorf("%q: a name cannot be longer than %d bytes",
			table, maxTableName)
	}
	return tableName{d, schema, name}, nil
}

func (t tableName) quoteMark() string {
	if t.dialect == MySQL {
		return "`"
	}
	return `"`
}

// quoted returns the name of the table, or of another thing that begins with it, as statements have
// it.
func (t tableName) quoted(suffix string) string {
	q := t.quoteMark()
	if t.schema == "" {
		return q + t.name + suffix + q
	}
	return q + t.schema + q + "." + q + t.name + suffix + q
}

// String returns the name as messages have it.
func (t tableName) String() string {
	if t.schema == "" {
		return t.name
	}
	return t.schema + "." + t.name
}

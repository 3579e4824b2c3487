package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"embed"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"regexp"
	"strconv"
	"strings"
	"time"
)

//go:embed migrations
var migrationFiles embed.FS

// Migrations returns the migrations of a dialect, for hosts that have a migration tool of their
// own. Each is a file as golang-migrate names them, 000001_….up.sql, which goose reads too. None
// has a way down, which would log everyone out. They create the table token_sessions. [Schema] has
// another name.
//
// They are numbered from 1, as the host's own may be. So the tool has to keep their versions in a
// table of their own. In the host's table, ours would count as applied already.
//
//	migrations, err := sqlstore.Migrations(sqlstore.PostgreSQL)
//
//	provider, err := goose.NewProvider(goose.DialectPostgres, db, migrations,
//		goose.WithTableName("token_sessions_goose")) // goose
//
//	source, err := iofs.New(migrations, ".") // golang-migrate, and pgx of its database drivers
//	driver, err := pgx.WithInstance(db, &pgx.Config{MigrationsTable: "token_sessions_migrations"})
func Migrations(d Dialect) (fs.FS, error) {
	if err := d.check(); err != nil {
		return nil, fmt.Errorf("sqlstore: Migrations: dialect %w", err)
	}
	return fs.Sub(migrationFiles, d.folder())
}

// Schema returns the statements that create the table of this name in an empty database: all
// migrations, one after the other. An empty name is that of the default. [Store.Migrate] runs the
// same, and knows if they were applied by hand.
func Schema(d Dialect, table string) (string, error) {
	if err := d.check(); err != nil {
		return "", fmt.Errorf("sqlstore: Schema: dialect %w", err)
	}
	name, err := parseTable(d, table)
	if err != nil {
		return "", fmt.Errorf("sqlstore: Schema: table %w", err)
	}
	migrations, err := migrationsOf(name)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, m := range migrations {
		b.WriteString(strings.Join(m.statements, ";\n\n"))
		b.WriteString(";\n")
	}
	return b.String(), nil
}

// Migrate creates the table, or brings it up to date. It may be called at each start, by several
// instances at once: one does the work, in a lock, and the others wait for it. When nothing is to
// be done it only reads. The account needs the right to create tables the first time only.
//
// It does not create again a table that was dropped while the other one, which says what was
// applied, is there, because whoever restores the table would be in its way. The error says what to
// do. It is an error too if a later version has changed the table so much that this one does not
// understand it.
func (s *Store) Migrate(ctx context.Context) error {
	migrations, err := migrationsOf(s.table)
	if err != nil {
		return err
	}
	return s.do(ctx, "migrate", func() error {
		if version, oldest, err := s.version(ctx, s.db); err == nil && version >= schemaVersion {
			return errors.Join(newerThan(oldest), s.checkTable(ctx, s.db))
		}
		conn, err := s.db.Conn(ctx)
		if err != nil {
			return err
		}
		defer conn.Close()
		return s.locked(ctx, conn, func() error { return s.apply(ctx, conn, migrations) })
	})
}

// apply runs the migrations that were not applied yet. The first statement of the first one creates
// the table that says which were. It does nothing if that is there.
func (s *Store) apply(ctx context.Context, conn *sql.Conn, migrations []migration) error {
	if _, err := conn.ExecContext(ctx, migrations[0].statements[0]); err != nil {
		return err
	}
	version, oldest, err := s.version(ctx, conn)
	if err := errors.Join(err, newerThan(oldest)); err != nil {
		return err
	}
	for _, m := range migrations {
		if m.version <= version {
			continue
		}
		for _, statement := range m.statements {
			if _, err := conn.ExecContext(ctx, statement); err != nil {
				return fmt.Errorf("migration %d: %w", m.version, err)
			}
		}
	}
	return s.checkTable(ctx, conn)
}

type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

// checkTable returns an error unless the table is there, with the columns of this version. It is
// called when all migrations are said to have been applied: the table may have been dropped since,
// or have been another one's.
func (s *Store) checkTable(ctx context.Context, q queryer) error {
	rows, err := q.QueryContext(ctx, s.probe)
	if err == nil {
		err = errors.Join(rows.Close(), rows.Err())
	}
	if err != nil && failureOf(err) == missingTable {
		return fmt.Errorf("%w: %w", errDropped, err)
	}
	return err
}

// errDropped is that the table is not there although it was created.
var errDropped = errors.New("the table was dropped")

// schemaVersion is the version of the newest migration. A later one that older programs do not
// understand says so in the column oldest, with its own version. Then they neither migrate nor call
// a session unknown. One that older programs understand leaves oldest as it is, and gives the rows
// that they would misread a format of its own: these rows they leave alone.
const schemaVersion = 1

// version returns the version of the schema as it is in the database, and the oldest that
// understands it.
func (s *Store) version(ctx context.Context, q queryer) (version int, oldest int64, err error) {
	err = q.QueryRowContext(ctx, s.installed).Scan(&version, &oldest)
	return version, oldest, err
}

// locked runs f while no other instance migrates the same table.
func (s *Store) locked(ctx context.Context, conn *sql.Conn, f func() error) error {
	lock := s.dialect.lock(s.table)
	for _, statement := range lock.begin {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return errors.Join(err, s.release(ctx, conn, lock.undo))
		}
	}
	if lock.wait != "" {
		if err := waitForLock(ctx, conn, lock.wait); err != nil {
			return errors.Join(err, s.release(ctx, conn, lock.undo))
		}
	}
	if err := f(); err != nil {
		return errors.Join(err, s.release(ctx, conn, lock.undo))
	}
	return s.release(ctx, conn, lock.commit)
}

// releaseTimeout bounds the wait for a server that does not answer any more.
const releaseTimeout = 30 * time.Second

// release runs the statement that gives the lock back, also when ctx has ended. A connection that
// may still have it does not go back to the pool.
func (s *Store) release(ctx context.Context, conn *sql.Conn, statement string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
	defer cancel()
	_, err := conn.ExecContext(ctx, statement)
	if err != nil {
		_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	}
	return err
}

// waitForLock asks for MySQL's lock until it is got.
func waitForLock(ctx context.Context, conn *sql.Conn, query string) error {
	for {
		var got sql.NullInt64
		if err := conn.QueryRowContext(ctx, query).Scan(&got); err != nil {
			return err
		}
		if got.Int64 == 1 {
			return nil
		}
		if !got.Valid {
			return errors.New("the server refused the lock")
		}
	}
}

// A migrationLock says how one instance migrates at a time.
type migrationLock struct {
	begin        []string
	wait         string // returns 1 when the lock was got, 0 when it is to be asked for again
	commit, undo string
}

func (d Dialect) lock(table tableName) migrationLock {
	hash := fnv.New64a()
	_, _ = hash.Write([]byte("tokensession/sqlstore " + table.String()))
	key := int64(hash.Sum64())
	switch d {
	case PostgreSQL:
		// In READ COMMITTED what another instance did is seen once the lock was waited for.
		return migrationLock{
			begin: []string{
				"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE",
				"SELECT pg_advisory_xact_lock(" + strconv.FormatInt(key, 10) + ")",
			},
			commit: "COMMIT", undo: "ROLLBACK",
		}
	case MySQL:
		// Its statements that create something commit, so a lock cannot belong to a transaction,
		// and it is the whole server's. A lock's name has 64 characters at most. MySQL has had no
		// MD5 since 9.6, unless a component is installed.
		name := "CONCAT('tokensession ', LEFT(SHA2(CONCAT(COALESCE(DATABASE(), ''), ' " +
			strconv.FormatInt(key, 10) + "'), 256), 32))"
		release := "SELECT RELEASE_LOCK(" + name + ")"
		return migrationLock{wait: "SELECT GET_LOCK(" + name + ", 10)", commit: release,
			undo: release}
	}
	return migrationLock{begin: []string{"BEGIN IMMEDIATE"}, commit: "COMMIT", undo: "ROLLBACK"}
}

// A migration is a file of the folder migrations.
type migration struct {
	version    int
	statements []string
}

func (d Dialect) folder() string { return "migrations/" + strings.ToLower(d.String()) }

// tableNames are what a migration names after the table, and what goes before an index's name:
// PostgreSQL has the schema of an index from its table, and does not want it repeated.
var tableNames = regexp.MustCompile("(INDEX )?[\"`]" + defaultTable + "(_[a-z]+)?[\"`]")

// migrationsOf returns the migrations for the table, in their order.
func migrationsOf(table tableName) ([]migration, error) {
	folder := table.dialect.folder()
	entries, err := migrationFiles.ReadDir(folder)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: %w", err)
	}
	var migrations []migration
	for _, entry := range entries {
		number, _, _ := strings.Cut(entry.Name(), "_")
		version, err := strconv.Atoi(number)
		if err != nil {
			return nil, fmt.Errorf("sqlstore: migration %s: %w", entry.Name(), err)
		}
		text, err := migrationFiles.ReadFile(folder + "/" + entry.Name())
		if err != nil {
			return nil, fmt.Errorf("sqlstore: %w", err)
		}
		migrations = append(migrations,
			migration{version, splitStatements(table.rename(string(text)))})
	}
	return migrations, nil
}

// rename puts the table's name in the place of the default one.
func (t tableName) rename(text string) string {
	return tableNames.ReplaceAllStringFunc(text, func(match string) string {
		parts := tableNames.FindStringSubmatch(match)
		named, index, suffix := t, parts[1], parts[2]
		if index != "" {
			named.schema = ""
		}
		return index + named.quoted(suffix)
	})
}

// splitStatements takes a migration apart, because drivers run one statement at a time. Its
// statements end with a semicolon at the end of a line, and have none in a string.
func splitStatements(text string) []string {
	text = strings.TrimPrefix(text, "-- +goose Up\n")
	var statements []string
	for statement := range strings.SplitSeq(text, ";\n") {
		if statement = strings.TrimSpace(statement); statement != "" {
			statements = append(statements, statement)
		}
	}
	return statements
}

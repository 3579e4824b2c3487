package pgxnotify

import (
	"cmp"
	"context"
	"database/sql"
	_ "embed"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"
)

// channel is the one that trigger.sql names.
const channel = "tokensession"

//go:embed trigger.sql
var trigger string

// A name is that of the sessions' table: its parts, of which the last one is the table.
type name []string

// nameOf takes apart what sqlstore has checked.
func nameOf(table string) name {
	return strings.Split(cmp.Or(table, "token_sessions"), ".")
}

// quoted returns the name, with something after it, as SQL.
func (n name) quoted(suffix string) string {
	last := len(n) - 1
	return pgx.Identifier(append(n[:last:last], n[last]+suffix)).Sanitize()
}

// Schema returns the statements that create the function and the triggers which notify, for hosts
// with a migration tool of their own. They stand beside those of [sqlstore.Schema], which create
// the table, and may be run again. They need PostgreSQL 14 or later.
func (s *Store) Schema() string {
	return strings.NewReplacer(
		`"token_sessions_notify"`, s.table.quoted("_notify"),
		`"token_sessions"`, s.table.quoted(""),
	).Replace(trigger)
}

// Migrate creates the table, or brings it up to date, as [sqlstore.Store.Migrate] does, and creates
// what notifies. When nothing is to be done it only reads. The account has to own the table the
// first time, and needs the right to create a function in its schema.
func (s *Store) Migrate(ctx context.Context) error {
	if err := s.Store.Migrate(ctx); err != nil {
		return err
	}
	if _, err := s.installed(ctx, s.db); err == nil {
		return nil
	}
	if err := s.install(ctx); err != nil {
		return fmt.Errorf("pgxnotify: migrate: %w", err)
	}
	return nil
}

// install creates what notifies, while no other instance does the same.
func (s *Store) install(ctx context.Context) error {
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{Isolation: sql.LevelReadCommitted})
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	_, err = tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtext('tokensession pgxnotify'))")
	if err != nil {
		return err
	}
	if _, err := s.installed(ctx, tx); err == nil {
		return nil // another instance was faster
	}
	for statement := range strings.SplitSeq(s.Schema(), ";\n") {
		if statement = strings.TrimSpace(statement); statement == "" {
			continue
		}
		if _, err := tx.ExecContext(ctx, statement); err != nil {
			return err
		}
	}
	return tx.Commit()
}

// Check returns an error for what would fail, or would go wrong unseen, when the store is used. It
// finds what [sqlstore.Store.Check] finds, and whether what notifies is there and is heard. It
// opens a connection that listens, and closes it.
func (s *Store) Check(ctx context.Context) error {
	if err := s.Store.Check(ctx); err != nil {
		return err
	}
	conn, _, err := s.listen(ctx)
	if err != nil {
		return fmt.Errorf("pgxnotify: check: %w", err)
	}
	hangUp(conn)
	return nil
}

type queryer interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

var errNotInstalled = errors.New("the table has no trigger that notifies, or it is disabled: " +
	"call Migrate, or run the statements of Schema")

// installed returns the payload of the table's notifications, or an error unless it has both
// triggers.
func (s *Store) installed(ctx context.Context, q queryer) (topic string, err error) {
	const query = `SELECT n.nspname || '.' || c.relname, (SELECT count(*) FROM pg_trigger AS t
		WHERE t.tgrelid = c.oid AND t.tgenabled IN ('O', 'A')
		AND t.tgname IN ('tokensession_notify_update', 'tokensession_notify_insert'))
		FROM pg_class AS c JOIN pg_namespace AS n ON n.oid = c.relnamespace
		WHERE c.oid = to_regclass($1)`
	var triggers int
	err = q.QueryRowContext(ctx, query, s.table.quoted("")).Scan(&topic, &triggers)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return "", fmt.Errorf("there is no table %s", s.table.quoted(""))
	case err != nil:
		return "", err
	case triggers != 2:
		return "", errNotInstalled
	}
	return topic, nil
}

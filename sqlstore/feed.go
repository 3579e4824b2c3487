package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// feedPage is how many revocations a page has.
const feedPage = 1000

// feedQueries are the statements of the feed. Each begins with a row that always exists. It names
// the statement, repeats a number made for this question alone, and says whether rows may be hidden
// or old. Without it, an answer that is empty by mistake would look as if nobody had been revoked.
type feedQueries struct {
	first feedStatement // the first page of each part: usually all there is
	parts []feedPart
}

type feedStatement struct {
	*statement
	tag string // the kind of its first row
}

// A feedPart is what the feed tells of one column. Its statement takes a time and an id, and
// returns the rows behind them in the order of the two. So it finds its rows by the index, whatever
// was told before, and however many have the same time.
//
// The part of an odd kind has the rows whose time sorts as nothing that means anything. They were
// written by hand, and are few. All are told at each look.
type feedPart struct {
	kind string // of its rows
	odd  bool
	next feedStatement
}

// A feedColumn is one that the feed is about, and the columns of MySQL's index and of the epoch.
type feedColumn struct{ name, index, epoch string }

func newFeedQueries(t tableName) feedQueries {
	var q feedQueries
	var first []string
	for _, c := range []feedColumn{
		{"revoked_at", "by_revoked", "0"}, {"outdated_at", "by_outdated", "COALESCE(epoch, -1)"},
	} {
		pages := t.feedPages(c)
		odd := t.oddPage(c)
		q.parts = append(q.parts,
			feedPart{kind: c.name,
				next: t.feedStatement("next "+c.name, t.laterPages(c, pages)...)},
			feedPart{kind: "odd " + c.name, odd: true, next: t.feedStatement("odd "+c.name, odd)})
		first = append(append(first, pages...), odd)
	}
	q.first = t.feedStatement("first", first...)
	return q
}

// feedPages returns the subqueries that make a page together, the first rows first. What is beyond
// feedPage is to be left out.
func (t tableName) feedPages(c feedColumn) []string {
	d := t.dialect
	ordinary, _ := d.oddTimes(c.name)
	key, order := "("+c.name+", id)", " ORDER BY "+c.name+", id LIMIT "
	rows := func(condition string) string {
		return "SELECT '" + c.name + "' AS kind, id, " + d.selectable([]string{c.name}) + ", " +
			c.epoch + " AS epoch, format FROM " + t.quoted("") + d.by(c.index) +
			" WHERE " + condition + ordinary
	}
	limit := number(feedPage)
	switch d {
	case MySQL: // it compares pairs without the index
		return []string{
			rows(c.name+" = ? AND id > ?") + " ORDER BY id LIMIT " + limit,
			rows(c.name+" > ?") + order + limit,
		}
	case SQLite:
		// The index has only what is not NULL.
		return []string{rows(key+" > (?, ?) AND "+c.name+" IS NOT NULL") + order + limit}
	}
	// PostgreSQL would read and sort all rows behind the time where its statistics are older than a
	// storm of revocations. If it is asked for one row at a time it takes the index. That is slower
	// for many rows, and as fast for the few that are new at most looks.
	row := func(behind string) string {
		return "SELECT id, " + c.name + " AS happened, CAST(" + c.epoch + " AS bigint) AS epoch, " +
			"format FROM " + t.quoted("") + " WHERE " + key + " > " + behind + ordinary + order + "1"
	}
	return []string{"WITH RECURSIVE walk AS (" +
		"(SELECT 1 AS n, one.* FROM (" + row("(CAST(? AS timestamptz), CAST(? AS text))") +
		") AS one)" +
		" UNION ALL " +
		"SELECT walk.n + 1, one.* FROM walk" +
		" CROSS JOIN LATERAL (" + row("(walk.happened, walk.id)") + ") AS one" +
		" WHERE walk.n < " + limit +
		") SELECT '" + c.name + "' AS kind, id, happened, epoch, format FROM walk"}
}

// laterPages returns the subqueries for the pages after the first one. PostgreSQL takes a page at
// once there, which is faster than row by row: queryInOrder keeps it from sorting.
func (t tableName) laterPages(c feedColumn, pages []string) []string {
	if t.dialect != PostgreSQL {
		return pages
	}
	ordinary, _ := t.dialect.oddTimes(c.name)
	return []string{"SELECT '" + c.name + "' AS kind, id, " + c.name + ", CAST(" + c.epoch +
		" AS bigint) AS epoch, format FROM " + t.quoted("") +
		" WHERE (" + c.name + ", id) > (CAST(? AS timestamptz), CAST(? AS text))" + ordinary +
		" ORDER BY " + c.name + ", id LIMIT " + number(feedPage)}
}

// queryInOrder runs a statement that returns rows in the order of an index, and has PostgreSQL take
// that index. The caller calls done after it has closed the rows.
func (s *Store) queryInOrder(
	ctx context.Context, st *statement, args []any,
) (rows *sql.Rows, done func(), err error) {
	if s.dialect != PostgreSQL {
		rows, err = s.query(ctx, st, args...)
		return rows, func() {}, err
	}
	tx, err := s.db.BeginTx(ctx, &sql.TxOptions{ReadOnly: true})
	if err != nil {
		return nil, nil, err
	}
	done = func() { _ = tx.Rollback() } // it has changed nothing but settings of its own
	_, err = tx.ExecContext(ctx, "SELECT set_config('enable_sort', 'off', true), "+
		"set_config('enable_bitmapscan', 'off', true), set_config('enable_seqscan', 'off', true)")
	if err == nil {
		rows, err = tx.QueryContext(ctx, st.text, args...)
	}
	if err != nil {
		done()
	}
	return rows, done, err
}

// after returns the arguments of the subqueries that feedPages returns.
func (d Dialect) after(at any, id string) []any {
	if d == MySQL {
		return []any{at, id, at}
	}
	return []any{at, id}
}

// oddPage returns the subquery for the rows of an odd kind.
func (t tableName) oddPage(c feedColumn) string {
	d := t.dialect
	_, odd := d.oddTimes(c.name)
	at, order := d.selectable([]string{c.name}), c.name
	switch d {
	case PostgreSQL:
		at = "CAST(NULL AS timestamptz) AS happened" // infinity is no time
	case SQLite:
		order = "id" // of the index
	}
	return "SELECT 'odd " + c.name + "' AS kind, id, " + at + ", " + c.epoch + " AS epoch, format" +
		" FROM " + t.quoted("") + d.by(c.index) + " WHERE " + odd +
		" ORDER BY " + order + " LIMIT " + number(feedPage)
}

// feedStatement returns the statement of these pages, with the row that goes before them.
func (t tableName) feedStatement(name string, pages ...string) feedStatement {
	d := t.dialect
	tag := "revocations of " + t.String() + ": " + name
	text := d.fromPrimary() + "SELECT " + quotedText(tag) + " AS kind, " + d.feedHead(t)
	for i, page := range pages {
		text += " UNION ALL SELECT * FROM (" + page + ") AS page" + number(i)
	}
	return feedStatement{&statement{text: d.rebind(text + d.all())}, tag}
}

// feedHead returns the other columns of a statement's first row. The last one stands for one of
// feedBars. The feed locks nothing, so PostgreSQL has to be asked whether it is a standby.
func (d Dialect) feedHead(t tableName) string {
	switch d {
	case PostgreSQL:
		return "CAST(? AS text) AS id, CAST(NULL AS timestamptz) AS happened," +
			" CAST(0 AS bigint) AS epoch, CASE WHEN pg_is_in_recovery() THEN 2" +
			" WHEN " + t.barred() + " IS NOT NULL THEN 1 ELSE 0 END AS format"
	case MySQL:
		return "CAST(? AS CHAR) AS id, CAST(NULL AS CHAR) AS happened," +
			" CAST(0 AS SIGNED) AS epoch, CASE WHEN " + t.barred() + " IS NOT NULL THEN 2 ELSE 0 END AS format"
	}
	return "? AS id, NULL AS happened, 0 AS epoch, 0 AS format"
}

var feedBars = map[int64]error{1: errRowSecurity, 2: errReadOnly}

// oddTimes returns the conditions that a time sorts as it should, and that it does not. PostgreSQL
// has infinities, MySQL has dates of zeros, and SQLite's times are text of any form.
func (d Dialect) oddTimes(column string) (ordinary, odd string) {
	switch d {
	case PostgreSQL:
		return " AND " + column + " < 'infinity'", column + " IN ('infinity', '-infinity')"
	case MySQL:
		return "", column + " < '0001-01-01 00:00:00'"
	}
	return " AND " + column + " GLOB " + sqliteForm, column + " NOT GLOB " + sqliteForm
}

// Revocations implements [tokensession.RevocationFeed]. It holds a few pages of a thousand at most.
func (s *Store) Revocations(
	ctx context.Context, since time.Time, page func([]tokensession.Revocation) error,
) error {
	look := feedLook{store: s, page: page}
	from, err := s.dialect.instantArg(since.Truncate(time.Microsecond).Add(-time.Microsecond))
	if err != nil {
		return fmt.Errorf("sqlstore: read revocations: %w", err)
	}
	if err := look.run(ctx, from); err != nil {
		return err
	}
	// What was read has been told. Now comes what may be missing.
	if look.barred != nil {
		return s.explain(ctx, "read revocations", look.barred)
	}
	if err := look.failed.err(); err != nil {
		return fmt.Errorf("sqlstore: read revocations: %w", err)
	}
	return nil
}

// A feedLook is one call of Revocations.
type feedLook struct {
	store  *Store
	page   func([]tokensession.Revocation) error
	barred error
	failed unreadables

	// The memory of one page, which all pages have in turn.
	rows []feedRow
	told []tokensession.Revocation
}

// A feedRow is what the feed's statements return of one session.
type feedRow struct {
	kind       string
	at         any // as it came
	revocation tokensession.Revocation
	err        error // it cannot be read
}

func (l *feedLook) run(ctx context.Context, from any) error {
	q := &l.store.feed
	var args []any
	for _, part := range q.parts {
		if !part.odd {
			args = append(args, l.store.dialect.after(from, "")...)
		}
	}
	rows, err := l.read(ctx, q.first, false, args...)
	if err != nil {
		return err
	}
	pages := make(map[string][]feedRow, len(q.parts))
	for _, r := range rows {
		pages[r.kind] = append(pages[r.kind], r)
	}
	for _, part := range q.parts {
		if err := l.tellPart(ctx, part, pages[part.kind]); err != nil {
			return err
		}
	}
	return nil
}

// tellPart tells the first page of a part, and those after it.
func (l *feedLook) tellPart(ctx context.Context, part feedPart, page []feedRow) error {
	for {
		page = page[:min(len(page), feedPage)]
		if err := l.tell(page); err != nil {
			return err
		}
		switch {
		case len(page) < feedPage:
			return nil
		case part.odd:
			l.failed.add(fmt.Errorf("%w: %d sessions or more have a time in an unknown form",
				tokensession.ErrUnreadable, feedPage))
			return nil
		}
		last := page[feedPage-1]
		var err error
		args := l.store.dialect.after(last.at, last.revocation.SessionID)
		page, err = l.read(ctx, part.next, true, args...)
		if err != nil {
			return err
		}
	}
}

func (l *feedLook) tell(rows []feedRow) error {
	l.told = l.told[:0]
	for _, r := range rows {
		if r.err != nil {
			l.failed.add(r.err)
			continue
		}
		l.told = append(l.told, r.revocation)
	}
	if len(l.told) == 0 {
		return nil
	}
	return l.page(l.told)
}

// read runs a statement, of the first page or a later one, and returns its rows without the first
// one. They are the caller's until the next read.
func (l *feedLook) read(
	ctx context.Context, st feedStatement, later bool, args ...any,
) ([]feedRow, error) {
	nonce := rand.Text()
	args = append([]any{nonce}, args...)
	scan := newFeedScan(l.store.dialect)
	err := l.store.do(ctx, "read revocations", func() error {
		var found *sql.Rows
		var err error
		if later {
			var done func()
			if found, done, err = l.store.queryInOrder(ctx, st.statement, args); err == nil {
				defer done()
			}
		} else {
			found, err = l.store.query(ctx, st.statement, args...)
		}
		if err != nil {
			return err
		}
		defer found.Close()
		l.rows = l.rows[:0]
		answered := false
		for found.Next() {
			row, err := scan.row(found)
			switch {
			case err != nil:
				return err
			case row.kind == st.tag:
				answered = row.revocation.SessionID == nonce
				if l.barred == nil {
					l.barred = feedBars[scan.format.Int64]
				}
			default:
				l.rows = append(l.rows, row)
			}
		}
		if err := found.Err(); err != nil {
			return err
		}
		if !answered {
			return errOtherAnswer
		}
		return nil
	})
	return l.rows, err
}

// A feedScan is where rows are scanned to, one after the other. It is used again for each row,
// because a look may tell of millions.
type feedScan struct {
	dialect Dialect
	to      []any // the fields that follow, as Scan takes them

	kind, id      string
	at            any // as it came
	time          time.Time
	epoch, format sql.NullInt64

	timeErr, epochErr, formatErr error // why they cannot be read
}

func newFeedScan(d Dialect) *feedScan {
	s := &feedScan{dialect: d}
	s.to = []any{&s.kind, &s.id, column(s.scanTime),
		noting(&s.epochErr, s.epoch.Scan), noting(&s.formatErr, s.format.Scan)}
	return s
}

func (s *feedScan) scanTime(value any) error {
	if text, ok := value.([]byte); ok {
		value = string(text) // the driver may use its memory again
	}
	s.at, s.time = value, time.Time{}
	s.timeErr = timeColumn{s.dialect, &s.time}.Scan(value)
	return nil
}

// noting returns what scans a value, and notes why it cannot.
func noting(failed *error, scan func(value any) error) column {
	return func(value any) error {
		*failed = scan(value)
		return nil
	}
}

// row reads the next row. One value that cannot be read must not hide the rows after it: in SQLite,
// any column can have a value of any type.
func (s *feedScan) row(rows *sql.Rows) (row feedRow, err error) {
	s.epoch, s.format = sql.NullInt64{}, sql.NullInt64{} // not those of the row before
	if err := rows.Scan(s.to...); err != nil {
		return row, err
	}
	row = feedRow{kind: s.kind, at: s.at}
	row.revocation = tokensession.Revocation{
		SessionID: s.id, At: s.time, Epoch: uint64(max(s.epoch.Int64, 0)),
	}
	switch {
	case row.kind == "":
	case s.formatErr != nil:
		row.err = unreadable(s.id, fmt.Errorf("format: %w", s.formatErr))
	case s.format.Valid && s.format.Int64 > 0:
		row.err = unreadable(s.id, newerFormat(s.format.Int64))
	case s.epochErr != nil && isOutdated(row.kind):
		row.err = unreadable(s.id, fmt.Errorf("epoch: %w", s.epochErr))
	case s.epoch.Int64 < 0 || s.epoch.Int64 == 0 && isOutdated(row.kind):
		row.err = unreadable(s.id, errors.New("outdated_at has a time and epoch has none"))
	case s.timeErr != nil && isOutdated(row.kind):
		row.err = unreadable(s.id, s.timeErr)
	case s.time.IsZero() && isOutdated(row.kind):
		row.err = unreadable(s.id, errors.New("outdated_at is no time"))
	case s.timeErr != nil:
		row.revocation.At = time.Time{} // revoked, but who knows when
	}
	return row, nil
}

func isOutdated(kind string) bool { return kind == "outdated_at" || kind == "odd outdated_at" }

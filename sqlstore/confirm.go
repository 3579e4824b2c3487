package sqlstore

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/seed67bc9b7f/tokensession"
)

// Why an empty answer is confirmed.
//
// "There is no such session" logs a user out, and a plain SELECT says so for many wrong reasons. A
// pooler sent it to a standby that lags behind. A pooler in transaction mode ran the statement that
// another client had prepared on the connection. Row level security hides the row. The server is a
// former primary. So before an empty answer counts, the store asks again, in one statement that
// cannot be empty by mistake:
//
//   - It joins the sessions to a row that always exists, so that it always returns a row.
//   - That row says which statement ran, on which table, and repeats a number made for this
//     question alone. Parameters travel together, so the number says that the keys arrived too.
//   - It locks that row. Poolers send locking reads to the primary, and a PostgreSQL standby
//     refuses them. MySQL and SQLite, which do not, are asked whether they are read-only.
//   - It says whether PostgreSQL's row level security applies, and whether a later version has
//     changed the table so much that this one does not understand it.
//
// It proves that, and no more: a server that was cut off from the others and takes itself for the
// primary confirms too. The README says which settings prevent that.

// A confirmation is the statement that asks again, for several numbers of keys at once.
type confirmation struct {
	tag    string // names the statement and the table
	column string
	bySize [len(confirmSizes)]statement
}

// confirmSizes are the numbers of keys for which there is a statement. Where there are fewer keys
// the last one is repeated, so that few statements have to be prepared.
var confirmSizes = [...]int{1, 10, 100}

func newConfirmation(t tableName, column, condition, read string) *confirmation {
	d := t.dialect
	c := &confirmation{tag: "sessions of " + t.String() + " by " + column, column: column}
	nonce, lock := "CAST(? AS CHAR)", " FOR UPDATE"
	switch d {
	case PostgreSQL:
		// The weakest lock: those of several instances do not wait for each other.
		nonce, lock = "CAST(? AS text)", " FOR KEY SHARE OF known"
	case SQLite:
		nonce, lock = "?", "" // see confirmOnce
	}
	for i, size := range confirmSizes {
		// The sessions are read in a subquery, which MySQL does not lock.
		c.bySize[i].text = d.rebind("SELECT " + quotedText(c.tag) + ", " + nonce + ", " +
			"(SELECT MAX(oldest) FROM " + t.quoted("_schema") + "), " + t.barred() + ", found.*" +
			" FROM " + t.quoted("_schema") + " AS known" +
			" LEFT JOIN (SELECT " + read + " FROM " + t.quoted("") +
			" WHERE " + column + " IN (" + placeholders(size) + ")" + condition + ") AS found" +
			" ON 1 = 1" +
			" WHERE known.version = 1" + d.all() + lock)
	}
	return c
}

// key returns the value by which a confirmation found a row.
func (c *confirmation) key(r row) string {
	if c.column == "subject" {
		return r.rec.Subject
	}
	return r.rec.ID
}

// ask returns the rows of the keys. An error means that it could not tell of any.
func (s *Store) ask(ctx context.Context, c *confirmation, keys []string) (map[string][]row, error) {
	found := make(map[string][]row, len(keys))
	largest := confirmSizes[len(confirmSizes)-1]
	for some := range slices.Chunk(keys, largest) {
		err := s.do(ctx, "confirm that there is no session", func() error {
			rows, err := s.askOnce(ctx, c, some)
			if err != nil {
				return err
			}
			for key, of := range rows {
				found[key] = of
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
}

func (s *Store) askOnce(
	ctx context.Context, c *confirmation, keys []string,
) (map[string][]row, error) {
	size := slices.IndexFunc(confirmSizes[:], func(size int) bool { return size >= len(keys) })
	nonce := rand.Text()
	args := make([]any, 0, 1+confirmSizes[size])
	args = append(args, nonce)
	for i := range confirmSizes[size] {
		args = append(args, keys[min(i, len(keys)-1)])
	}
	if s.dialect == SQLite {
		// This writes nothing, and needs all that a write needs: a file and a connection that may
		// be written to. Whoever opens the file as it was at some time cannot do it.
		if _, err := s.exec(ctx, &s.confirmWritable); err != nil {
			return nil, err
		}
	}
	rows, err := s.query(ctx, &c.bySize[size], args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	found := make(map[string][]row, len(keys))
	answered := false
	for rows.Next() {
		r, err := s.confirmed(rows, c, nonce)
		if err != nil {
			return nil, err
		}
		answered = true
		if !r.found {
			continue
		}
		key := c.key(r)
		if !slices.Contains(keys, key) {
			return nil, otherSession(r.rec.ID)
		}
		found[key] = append(found[key], r)
	}
	if err := rows.Err(); err != nil {
		return nil, err
	}
	if !answered {
		return nil, fmt.Errorf("%w: it is empty", errOtherAnswer)
	}
	return found, nil
}

// confirmed reads a row of a confirmation, and whether it is an answer to the question.
func (s *Store) confirmed(rows *sql.Rows, c *confirmation, nonce string) (row, error) {
	var tag, echo, barred sql.NullString
	var oldest sql.NullInt64
	r, err := s.dialect.scanRow(rows, &tag, &echo, &oldest, &barred)
	switch {
	case err != nil:
		return row{}, err
	case tag.String != c.tag || echo.String != nonce:
		return row{}, errOtherAnswer
	}
	return r, errors.Join(barredBy(barred.String), newerThan(oldest.Int64))
}

func barredBy(reason string) error {
	switch reason {
	case "":
		return nil
	case barredByRowSecurity:
		return errRowSecurity
	case barredByReadOnly:
		return errReadOnly
	}
	return errOtherAnswer
}

// newerThan refuses a table of which the oldest version that understands it is later than this one.
func newerThan(oldest int64) error {
	if oldest > schemaVersion {
		return fmt.Errorf("%w: it is for version %d and later, this is %d",
			errNewerTable, oldest, schemaVersion)
	}
	return nil
}

var (
	errOtherAnswer = errors.New("the answer is that of another statement")
	errRowSecurity = errors.New("row level security applies to this role")
	errReadOnly    = errors.New("the server may not be written to")
	errNewerTable  = errors.New("a later version has changed the table")
)

// A confirmer asks for all callers that wait. While one question is under way, the keys of those
// that come meanwhile are collected for the next one: it begins after their plain reads ended, as
// it must. So the load that forged tokens make is one plain read each, whatever their number.
type confirmer struct {
	ask func(ctx context.Context, keys []string) (map[string][]row, error)

	mu    sync.Mutex
	next  *question // collects keys; nil if nobody waits
	asked bool      // a question is under way
}

// A question is one confirmation and those who wait for it.
type question struct {
	ctx     context.Context // ends when nobody waits any more
	cancel  context.CancelFunc
	waiting int // guarded by confirmer.mu
	keys    map[string]bool

	done  chan struct{} // closed when found and err are set
	found map[string][]row
	err   error
}

// rows returns the rows of key as something has confirmed them that began after the call.
func (c *confirmer) rows(ctx context.Context, key string) ([]row, error) {
	q := c.join(ctx, key)
	defer c.leave(q)
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("sqlstore: confirm that there is no session: %w", ctx.Err())
	case <-q.done:
	}
	if q.err != nil {
		return nil, q.err
	}
	rows := slices.Clone(q.found[key])
	for i := range rows { // others may have got the same
		rows[i].rec.Attributes = maps.Clone(rows[i].rec.Attributes)
		rows[i].rec.AuthMethods = slices.Clone(rows[i].rec.AuthMethods)
		rows[i].rec.Key = slices.Clone(rows[i].rec.Key)
	}
	return rows, nil
}

// join adds a key to the next question.
func (c *confirmer) join(ctx context.Context, key string) *question {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.next == nil {
		q := &question{keys: make(map[string]bool), done: make(chan struct{})}
		// One caller's end is not that of the others.
		q.ctx, q.cancel = context.WithCancel(context.WithoutCancel(ctx))
		c.next = q
	}
	q := c.next
	q.keys[key] = true
	q.waiting++
	if !c.asked {
		c.asked = true
		go c.run()
	}
	return q
}

func (c *confirmer) leave(q *question) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if q.waiting--; q.waiting == 0 {
		q.cancel()
		if c.next == q { // it has not been asked, and nobody wants to know any more
			c.next = nil
		}
	}
}

// run asks until nobody waits.
func (c *confirmer) run() {
	for q := c.take(); q != nil; q = c.take() {
		q.found, q.err = c.ask(q.ctx, slices.Collect(maps.Keys(q.keys)))
		close(q.done)
	}
}

func (c *confirmer) take() *question {
	c.mu.Lock()
	defer c.mu.Unlock()
	q := c.next
	c.next = nil
	c.asked = q != nil
	return q
}

// confirmedRecord returns the session of this ID, or ErrNotFound if something has confirmed that
// there is none.
func (s *Store) confirmedRecord(ctx context.Context, id string) (tokensession.Record, error) {
	rows, err := s.byID.rows(ctx, id)
	switch {
	case err != nil:
		return tokensession.Record{}, err
	case len(rows) == 0:
		return tokensession.Record{}, notFound(id)
	}
	if err := rows[0].err; err != nil {
		return tokensession.Record{}, fmt.Errorf("sqlstore: load session: %w", err)
	}
	return rows[0].rec, nil
}

func otherSession(id string) error {
	return fmt.Errorf("%w: it has session %q", errOtherAnswer, id)
}

func notFound(id string) error {
	return fmt.Errorf("sqlstore: %w: session %q", tokensession.ErrNotFound, id)
}

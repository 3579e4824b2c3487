// Package pgxnotify makes a revocation in PostgreSQL reach the other instances at once, by LISTEN
// and NOTIFY through the host's pgx. It is for programs that keep their sessions with sqlstore, and
// for which the second between two looks at the revocation feed is too long, or a look each second
// costs too much.
//
//	store, err := pgxnotify.New(db, func(ctx context.Context) (*pgx.Conn, error) {
//		return pgx.Connect(ctx, "postgres://…") // straight to the server
//	}, sqlstore.Config{})
//	…
//	if err := store.Migrate(ctx); err != nil { … } // or apply the SQL of Schema, too
//	m, err := tokensession.New(signer, store, tokensession.Config{})
//
// A trigger on the sessions' table notifies. So whatever revokes a session is told, also a
// statement by hand, and a program that uses plain sqlstore. The notification is part of the
// transaction that revokes: it is sent when that commits, and needs nothing of the connection,
// which may go through a pooler.
//
// A refresh does not notify. It costs the comparison of three columns more. Hosts that do not use
// this package have no trigger, and pay nothing.
package pgxnotify

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

const (
	// listenTimeout bounds how long it may take until a new connection is known to work. Until then
	// Run believes that it will be notified, and looks rarely.
	listenTimeout = 5 * time.Second

	// closeTimeout bounds how long the end of a connection may take.
	closeTimeout = time.Second
)

// A Store is a [sqlstore.Store] that notifies. Make it with [New].
type Store struct {
	*sqlstore.Store
	db      *sql.DB
	table   name
	connect func(context.Context) (*pgx.Conn, error)

	listening sync.Mutex // held by the call of Notified that uses what follows
	conn      *pgx.Conn  // nil: there is none
	topic     string     // the payload of the table's notifications
}

var _ tokensession.RevocationNotifier = (*Store)(nil)

// New returns a store on the table of a PostgreSQL database, as [sqlstore.New] does.
//
// The function connect opens the connection that listens. It is called at the first call of
// Notified, and again after a connection has ended. Each connection is closed by the Store, so a
// function that takes it from a pool has to hijack it. It must go straight to the server that db
// writes to, because a pooler that gives each transaction another connection does not pass on
// notifications.
func New(
	db *sql.DB, connect func(context.Context) (*pgx.Conn, error), cfg sqlstore.Config,
) (*Store, error) {
	if connect == nil {
		return nil, errors.New("pgxnotify: New: connect is nil")
	}
	store, err := sqlstore.New(db, sqlstore.PostgreSQL, cfg)
	if err != nil {
		return nil, err
	}
	return &Store{Store: store, db: db, table: nameOf(cfg.Table), connect: connect}, nil
}

// Notified implements [tokensession.RevocationNotifier]. It keeps a connection for itself, which it
// opens at the first call, and closes when the context of a call is cancelled. What comes between
// two calls waits in the connection.
//
// Only one call at a time can have the connection. So give each Manager a Store of its own, made
// with the same db. The calls of a second Manager are errors, and it polls.
func (s *Store) Notified(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if !s.listening.TryLock() {
		return errors.New("pgxnotify: another call waits for news: give each Manager a Store of its own")
	}
	defer s.listening.Unlock()
	err := s.awaitNews(ctx)
	switch {
	case err == nil:
		return nil
	case errors.Is(ctx.Err(), context.DeadlineExceeded) && s.conn != nil && !s.conn.IsClosed():
		return ctx.Err() // the connection waits for the next call
	}
	s.hangUp()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("pgxnotify: wait for news: %w", err)
}

// awaitNews returns nil when there is news. A new connection is news, because what was notified
// before it was not received.
func (s *Store) awaitNews(ctx context.Context) error {
	if s.conn == nil {
		var err error
		s.conn, s.topic, err = s.listen(ctx)
		return err
	}
	for {
		payload, err := next(ctx, s.conn)
		switch {
		case err != nil:
			return err
		case payload == s.topic: // others are of other tables, and of prove
			return s.drain(ctx)
		}
	}
}

// next waits for a notification and returns its payload.
func next(ctx context.Context, conn *pgx.Conn) (payload string, err error) {
	notification, err := conn.WaitForNotification(ctx)
	switch {
	case err != nil:
		return "", err
	case notification == nil:
		return "", errors.New("OnNotification is set in the configuration of the connection that " +
			"listens, and takes the notifications")
	}
	return notification.Payload, nil
}

// drain takes what else has been notified by now, because it is the same news. Otherwise a thousand
// revocations would be followed by a thousand looks. The server sends all that it has before it
// answers the ping.
func (s *Store) drain(ctx context.Context) error {
	if err := s.conn.Ping(ctx); err != nil {
		return err
	}
	over, cancel := context.WithCancel(ctx)
	cancel()
	for {
		if _, err := next(over, s.conn); err != nil {
			return nil // what the ping has brought is used up
		}
	}
}

func (s *Store) hangUp() {
	if s.conn != nil {
		hangUp(s.conn)
		s.conn = nil
	}
}

// hangUp closes a connection, whether the caller still wants something or not.
func hangUp(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	_ = conn.Close(ctx) // it is closed whatever this says
}

// listen returns a connection that is known to hear what is notified, and the payload of what
// concerns this table.
func (s *Store) listen(ctx context.Context) (conn *pgx.Conn, topic string, err error) {
	ctx, cancel := context.WithTimeout(ctx, listenTimeout)
	defer cancel()
	if topic, err = s.installed(ctx, s.db); err != nil {
		return nil, "", err
	}
	if conn, err = s.connect(ctx); err != nil {
		return nil, "", err
	}
	if _, err = conn.Exec(ctx, "LISTEN "+channel); err == nil {
		err = s.prove(ctx, conn)
	}
	if err != nil {
		hangUp(conn)
		return nil, "", err
	}
	return conn, topic, nil
}

// prove sends a notification by the pool that sessions are written through, and waits for it. A
// pooler between the connection and the server takes LISTEN and says that all is well, and so does
// another server, or another database of this one. None of them would ever notify of anything.
func (s *Store) prove(ctx context.Context, conn *pgx.Conn) error {
	nonce := rand.Text()
	if _, err := s.db.ExecContext(ctx, "SELECT pg_notify($1, $2)", channel, nonce); err != nil {
		return err
	}
	for {
		payload, err := next(ctx, conn)
		switch {
		case errors.Is(ctx.Err(), context.DeadlineExceeded):
			return fmt.Errorf("%w: %w", errDeaf, err)
		case err != nil:
			return err
		case payload == nonce:
			return nil
		}
	}
}

var errDeaf = errors.New("a notification that was sent has not come: the connection that listens " +
	"has to go straight to the database that sessions are written to, and not through a pooler")

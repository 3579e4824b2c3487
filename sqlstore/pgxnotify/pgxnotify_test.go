package pgxnotify_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/sqlstore/pgxnotify"
)

// nowhere is a pool that reaches no server.
type nowhere struct{}

func (nowhere) Connect(context.Context) (driver.Conn, error) {
	return nil, errors.New("there is no server")
}

func (n nowhere) Driver() driver.Driver { return n }

func (n nowhere) Open(string) (driver.Conn, error) { return n.Connect(context.Background()) }

func connect(context.Context) (*pgx.Conn, error) { return nil, errors.New("there is no server") }

func TestNew_refusesWhatCannotWork(t *testing.T) {
	db := sql.OpenDB(nowhere{})
	if _, err := pgxnotify.New(db, nil, sqlstore.Config{}); err == nil || !strings.Contains(err.Error(), "connect") {
		t.Errorf("without connect: %v", err)
	}
	if _, err := pgxnotify.New(nil, connect, sqlstore.Config{}); err == nil || !strings.Contains(err.Error(), "db") {
		t.Errorf("without a pool: %v", err)
	}
	if _, err := pgxnotify.New(db, connect, sqlstore.Config{Table: `x"; DROP TABLE users; --`}); err == nil {
		t.Error("a hostile name of a table is taken")
	}
}

func TestStore_Notified_failsWithoutAServer(t *testing.T) {
	store, err := pgxnotify.New(sql.OpenDB(nowhere{}), connect, sqlstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		err := store.Notified(t.Context())
		if err == nil || !strings.Contains(err.Error(), "there is no server") {
			t.Errorf("Notified: %v, want the error of the pool", err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if err := store.Notified(ended); !errors.Is(err, context.Canceled) {
		t.Errorf("Notified whose context has ended: %v", err)
	}
}

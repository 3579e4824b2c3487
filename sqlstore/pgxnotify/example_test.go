package pgxnotify_test

import (
	"context"
	"database/sql"
	"log"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/sqlstore/pgxnotify"
)

func ExampleNew() {
	const dsn = "postgres://app@localhost/app"
	db, err := sql.Open("pgx", dsn) // the driver that package stdlib registers
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	store, err := pgxnotify.New(db, func(ctx context.Context) (*pgx.Conn, error) {
		return pgx.Connect(ctx, dsn)
	}, sqlstore.Config{})
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Migrate(context.Background()); err != nil {
		log.Fatal(err)
	}
	// tokensession.New(signer, store, tokensession.Config{})
}

func ExampleNew_pool() {
	pool, err := pgxpool.New(context.Background(), "postgres://app@localhost/app")
	if err != nil {
		log.Fatal(err)
	}
	defer pool.Close()

	// The pool opens the connection as it opens its others, and gives it away.
	connect := func(ctx context.Context) (*pgx.Conn, error) {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return nil, err
		}
		return conn.Hijack(), nil
	}
	if _, err := pgxnotify.New(stdlib.OpenDBFromPool(pool), connect, sqlstore.Config{}); err != nil {
		log.Fatal(err)
	}
}

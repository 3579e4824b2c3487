package sqlstore_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"

	// One of:
	//	_ "github.com/jackc/pgx/v5/stdlib"
	//	_ "github.com/go-sql-driver/mysql"
	//	_ "modernc.org/sqlite"

	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

func ExampleNew() {
	db, err := sql.Open("pgx", "postgres://app@localhost/app")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Config{})
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Migrate(context.Background()); err != nil { // or apply the SQL of Schema
		log.Fatal(err)
	}
	// tokensession.New(signer, store, tokensession.Config{})
}

func ExampleNew_mySQL() {
	db, err := sql.Open("mysql", "app:password@tcp(localhost:3306)/app")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	if _, err := sqlstore.New(db, sqlstore.MySQL, sqlstore.Config{}); err != nil {
		log.Fatal(err)
	}
}

func ExampleNew_sqlite() {
	db, err := sql.Open("sqlite", "file:/var/lib/app/sessions.db?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()

	if _, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.Config{}); err != nil {
		log.Fatal(err)
	}
}

func ExampleSchema() {
	schema, err := sqlstore.Schema(sqlstore.SQLite, "logins")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(schema[:40])
	// Output:
	// CREATE TABLE IF NOT EXISTS "logins_schem
}

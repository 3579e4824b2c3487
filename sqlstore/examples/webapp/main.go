// Webapp is the application of examples/webapp with its sessions in a SQLite file, so that
// everybody stays logged in when it is restarted, or killed. The key that signs access tokens is
// kept in a file beside it.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"syscall"

	_ "modernc.org/sqlite"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/examples/webapp/app"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

func main() {
	options := app.Flags(flag.CommandLine)
	file := flag.String("db", "webapp.db", "the sessions' `file`; the signing key is beside it, in file.pem")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *options, *file); err != nil {
		fmt.Fprintln(os.Stderr, "webapp:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, options app.Options, file string) error {
	// The settings that sqlstore's README asks for.
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.Config{})
	if err != nil {
		return err
	}
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	key, err := signingKey(file + ".pem")
	if err != nil {
		return err
	}
	return app.Serve(ctx, options, key, store, os.Stdout)
}

// signingKey reads the key from its file, which it makes at the first start. That is enough for one
// process on one machine. The example server has a ring, which several can share.
func signingKey(file string) (tokensession.Key, error) {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		var key tokensession.Key
		if key, err = tokensession.GenerateKey(); err == nil {
			data, err = key.MarshalPEM()
		}
		if err == nil {
			err = os.WriteFile(file, data, 0o600)
		}
	}
	if err != nil {
		return tokensession.Key{}, err
	}
	return tokensession.ParseKeyPEM(data)
}

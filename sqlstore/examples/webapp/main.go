// Webapp is the application of examples/webapp with its sessions in a SQLite file, so that
// everybody stays logged in when it is restarted, or killed. The keys that sign access tokens are
// in the same file, sealed with a secret. Make it once, and keep it:
//
//	export TOKENSESSION_SECRET=$(go run github.com/seed67bc9b7f/tokensession/tokenkeys secret)
package main

import (
	"context"
	"crypto/hkdf"
	"crypto/sha256"
	"database/sql"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	_ "modernc.org/sqlite"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/examples/webapp/app"
	"github.com/seed67bc9b7f/tokensession/keyring"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

func main() {
	options := app.Flags(flag.CommandLine)
	file := flag.String("db", "webapp.db", "the `file` of the sessions and the signing keys")
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
	secret := []byte(os.Getenv("TOKENSESSION_SECRET"))
	sign := func(cfg tokensession.AccessConfig) (*tokensession.AccessSigner, error) {
		ring, err := keyring.Open(ctx, store, keyring.Config{
			Secret: secret, Access: cfg,
		})
		if err != nil {
			return nil, err
		}
		go ring.Run(ctx)
		return ring.Signer(), nil
	}
	// Browsers that have bound their sessions to the device are asked for proofs with another
	// secret, which is made of the same one.
	options.ProofKey, err = hkdf.Key(sha256.New, secret, nil, "tokensession webapp proofs", 32)
	if err != nil {
		return err
	}
	return app.Serve(ctx, options, sign, store, os.Stdout)
}

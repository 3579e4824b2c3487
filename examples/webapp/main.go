// Webapp is a web application with sessions that one can watch: log in, call an API, see the
// tokens' time run, sign devices out, and replay a stolen token. Its sessions are in memory. With
// others in a database, it is in sqlstore/examples/webapp.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/examples/webapp/app"
)

func main() {
	options := app.Flags(flag.CommandLine)
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	key, err := tokensession.GenerateKey() // where sessions outlive the process, the key must, too
	if err == nil {
		err = app.Serve(ctx, *options, app.WithKey(key), tokensession.NewMemoryStore(), os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "webapp:", err)
		os.Exit(1)
	}
}

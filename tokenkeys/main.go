// Tokenkeys looks at the signing keys that package keyring keeps in a store, and does by hand what
// a ring does not do by itself. Servers that use the same store notice it within 10 seconds.
//
//	tokenkeys secret                 print a new secret for TOKENSESSION_SECRET; keep it, it is not shown again
//	tokenkeys list   <store>         list the keys with their times
//	tokenkeys make   <store>         make the next key now; in an empty store, the first one
//	tokenkeys retire <store> <id>    drop a key that has leaked, at once
//	tokenkeys reseal <store>         seal all keys under TOKENSESSION_SECRET
//
// A store is a URL:
//
//	postgres://app@localhost/app     PostgreSQL
//	mysql://app@localhost:3306/app   MariaDB and MySQL
//	sqlite:sessions.db               SQLite, a file
//	redis://localhost:6379/0         Redis and Valkey; rediss:// with TLS, redis+cluster:// for a Cluster
//
// A password in it is seen by whoever lists processes. So a URL that is "-" or missing is read from
// TOKENSESSION_STORE. The secret is read from TOKENSESSION_SECRET, and secrets from before it, with
// spaces between, from TOKENSESSION_OLD_SECRETS. list needs none.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, errUsage), errors.Is(err, flag.ErrHelp):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "tokenkeys:", err)
		os.Exit(1)
	}
}

const usage = `usage: tokenkeys [flags] secret | list | make | retire | reseal [store] [id]

  secret               print a new secret for TOKENSESSION_SECRET
  list   [store]       list the keys with their times
  make   [store]       make the next key now; in an empty store, the first one
  retire [store] <id>  drop a key that has leaked, at once
  reseal [store]       seal all keys under TOKENSESSION_SECRET

A store is postgres://…, mysql://…, sqlite:FILE, redis://…, rediss://… or redis+cluster://…,
and is read from TOKENSESSION_STORE if it is "-" or not there.

flags:
`

// errUsage means that the command line was not understood. What is wrong was printed.
var errUsage = errors.New("usage")

// options are what the command line says beside the command.
type options struct {
	table, prefix, algorithm string
	ahead, timeout           time.Duration
}

func run(
	ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer,
) error {
	var o options
	flags := flag.NewFlagSet("tokenkeys", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.Usage = func() {
		fmt.Fprint(stderr, usage)
		flags.PrintDefaults()
	}
	flags.StringVar(&o.table, "table", "", "the sessions' `table`, if it is not token_sessions")
	flags.StringVar(&o.prefix, "prefix", "",
		"the `prefix` of Redis keys, if it is not tokensession")
	flags.StringVar(&o.algorithm, "algorithm", "",
		"of a key that is made: EdDSA, ES256, ES384, ES512 or RS256")
	flags.DurationVar(&o.ahead, "ahead", 0,
		"the servers' Config.Ahead, an hour by default: a key that is made signs after twice that")
	flags.DurationVar(&o.timeout, "timeout", 30*time.Second, "how long to wait for the store")
	if err := flags.Parse(args); err != nil {
		return err
	}
	refuse := func(format string, a ...any) error {
		fmt.Fprintf(stderr, "tokenkeys: "+format+"\n", a...)
		flags.Usage()
		return errUsage
	}
	command, rest := flags.Arg(0), flags.Args()
	if len(rest) > 0 {
		rest = rest[1:]
	}
	if command == "secret" {
		if len(rest) > 0 {
			return refuse("secret takes no arguments")
		}
		return printSecret(stdout)
	}
	c := commands[command]
	switch {
	case command == "":
		return refuse("no command")
	case c == nil:
		return refuse("no such command: %q", command)
	}
	id := ""
	if command == "retire" {
		if len(rest) == 0 {
			return refuse("retire which key? list shows their ids")
		}
		id, rest = rest[len(rest)-1], rest[:len(rest)-1]
	}
	if len(rest) > 1 {
		return refuse("too many arguments for %s", command)
	}
	url := getenv("TOKENSESSION_STORE")
	if len(rest) == 1 && rest[0] != "-" {
		url = rest[0]
	}
	if url == "" {
		return refuse("which store? name it, or set TOKENSESSION_STORE")
	}
	ctx, cancel := context.WithTimeout(ctx, o.timeout)
	defer cancel()
	store, closeStore, err := openStore(ctx, url, o)
	if err != nil {
		return err
	}
	defer closeStore()
	return c(ctx, job{store: store, options: o, getenv: getenv, w: stdout, id: id})
}

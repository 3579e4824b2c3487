// Server is a whole server: its sessions and its signing keys outlive a restart, and a second
// instance may run beside it. Make the secret once, and keep it:
//
//	openssl rand -base64 32 > secret
//	TOKENSESSION_SECRET=$(cat secret) go run ./server
//	curl -b jar -c jar -d 'user=alice&password=open sesame' localhost:8080/login
//	curl -b jar -c jar localhost:8080/me
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/keyring"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
	_ "modernc.org/sqlite"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, "localhost:8080", "sessions.db"); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context, addr, file string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	// The sessions, in the database that you have already.
	db, err := sql.Open("sqlite", "file:"+file+
		"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
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

	// The signing keys, beside them and sealed with a secret of 32 random bytes or more.
	ring, err := keyring.Open(ctx, store, keyring.Config{
		Secret: []byte(os.Getenv("TOKENSESSION_SECRET")),
		Access: tokensession.AccessConfig{Issuer: "http://" + addr, Audience: []string{"http://" + addr}},
	})
	if err != nil {
		return err
	}
	sessions, err := tokensession.New(ring.Signer(), store, tokensession.Config{})
	if err != nil {
		return err
	}

	// The cookies, and the handlers of your own.
	auth, err := sessionhttp.New(sessions, sessionhttp.Config{Cookies: true})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	auth.Mount(mux) // /auth/token, /auth/logout, /auth/session.js and more
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("password") != "open sesame" { // your own check
			http.Error(w, "wrong user or password", http.StatusForbidden)
			return
		}
		if _, err := auth.Login(w, r, r.FormValue("user")); err != nil {
			http.Error(w, "no login", sessionhttp.Status(err))
		}
	})
	mux.Handle("GET /me", auth.Require()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access, _ := sessionhttp.FromContext(r.Context())
		fmt.Fprintln(w, "hello", access.Subject)
	})))

	// All goes on until the process is told to stop. Requests under way are answered.
	server := &http.Server{Addr: addr, Handler: mux}
	var background sync.WaitGroup
	background.Go(func() { _ = ring.Run(ctx) })     // makes new keys in time
	background.Go(func() { _ = sessions.Run(ctx) }) // hears what other instances revoke
	background.Go(func() {
		<-ctx.Done()
		last, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_ = server.Shutdown(last)
	})
	if err = server.ListenAndServe(); errors.Is(err, http.ErrServerClosed) {
		err = nil // as it was told
	}
	stop() // if it could not listen, there is nothing to run for
	background.Wait()
	return err
}

// Server is a whole server: its sessions and its signing keys outlive a restart, and a second instance
// may run beside it. Make the secret once, and keep it:
//
//	export TOKENSESSION_SECRET=$(go run github.com/seed67bc9b7f/tokensession/tokenkeys secret)
//	go run ./server
//	curl -c cookies -d user=alice -H 'Sec-Fetch-Site: same-origin' localhost:8080/login
//	curl -b cookies localhost:8080/me
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"

	_ "modernc.org/sqlite"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/keyring"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

func main() {
	ctx := context.Background()
	db, err := sql.Open("sqlite", "file:sessions.db?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		log.Fatal(err)
	}
	handler, err := newServer(ctx, db, os.Getenv("TOKENSESSION_SECRET"))
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(http.ListenAndServe("localhost:8080", handler))
}

// newServer runs in the background until ctx ends.
func newServer(ctx context.Context, db *sql.DB, secret string) (http.Handler, error) {
	if secret == "" {
		return nil, errors.New("TOKENSESSION_SECRET is not set; this makes one, which you have to keep: " +
			"go run github.com/seed67bc9b7f/tokensession/tokenkeys secret")
	}
	store, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.Config{})
	if err != nil {
		return nil, err
	}
	if err := store.Migrate(ctx); err != nil {
		return nil, err
	}
	ring, err := keyring.Open(ctx, store, keyring.Config{
		Secret: []byte(secret),
		Access: tokensession.AccessConfig{Issuer: "http://localhost:8080", Audience: []string{"http://localhost:8080"}},
	})
	if err != nil {
		return nil, err
	}
	go ring.Run(ctx)
	sessions, err := tokensession.New(ring.Signer(), store, tokensession.Config{})
	if err != nil {
		return nil, err
	}
	go sessions.Run(ctx)
	auth, err := sessionhttp.New(sessions, sessionhttp.Config{Cookies: true})
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	auth.Mount(mux)
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		// Here you check the password.
		if _, err := auth.Login(w, r, r.FormValue("user")); err != nil {
			http.Error(w, "no login", sessionhttp.Status(err))
		}
	})
	mux.Handle("GET /me", auth.Require()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access, _ := sessionhttp.FromContext(r.Context())
		fmt.Fprintln(w, "hello", access.Subject)
	})))
	return mux, nil
}

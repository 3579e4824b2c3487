// Running is a server with all that its operators want: it looks at its database before it starts,
// has probes, says when it cannot refresh or hear of revocations, and ends without losing a
// request. docs/running.md says why each of these is as it is.
//
//	export TOKENSESSION_SECRET=$(go run github.com/seed67bc9b7f/tokensession/tokenkeys secret)
//	go run ./running
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	_ "modernc.org/sqlite"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/keyring"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	listener, err := net.Listen("tcp", "localhost:8080")
	if err == nil {
		fmt.Println("listening on", listener.Addr())
		err = run(ctx, listener, "sessions.db", slog.Default(), 5*time.Second)
	}
	if err != nil {
		log.Fatal(err)
	}
}

// run serves until ctx ends. drain is how long the load balancer may need to notice.
func run(
	ctx context.Context, l net.Listener, file string, log *slog.Logger, drain time.Duration,
) error {
	db, err := openDatabase("file:" + file + "?_pragma=busy_timeout(1000)" +
		"&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	if err != nil {
		return err
	}
	defer db.Close()
	store, err := openStore(ctx, db)
	if err != nil {
		return err
	}
	issuer := "http://" + l.Addr().String()
	ring, err := keyring.Open(ctx, store, keyring.Config{
		Secret: []byte(os.Getenv("TOKENSESSION_SECRET")),
		Access: tokensession.AccessConfig{Issuer: issuer, Audience: []string{issuer}},
	})
	if err != nil {
		return err
	}
	sessions, err := tokensession.New(ring.Signer(), store, tokensession.Config{})
	if err != nil {
		return err
	}
	auth, err := sessionhttp.New(sessions, sessionhttp.Config{Cookies: true})
	if err != nil {
		return err
	}

	s := &server{sessions: sessions, auth: auth, log: log, drain: drain}
	return s.serve(ctx, l, ring.Run, sessions.Run, s.watch)
}

func openDatabase(dsn string) (*sql.DB, error) {
	db, err := sql.Open("sqlite", dsn)
	if err != nil {
		return nil, err
	}
	db.SetMaxOpenConns(40)
	db.SetMaxIdleConns(40)
	db.SetConnMaxIdleTime(5 * time.Minute)
	db.SetConnMaxLifetime(time.Hour)
	return db, nil
}

func openStore(ctx context.Context, db *sql.DB) (*sqlstore.Store, error) {
	store, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.Config{})
	if err != nil {
		return nil, err
	}
	if err := store.Migrate(ctx); err != nil {
		return nil, err
	}
	if err := store.Check(ctx); err != nil {
		return nil, fmt.Errorf("the sessions' database: %w", err)
	}
	return store, nil
}

type server struct {
	sessions *tokensession.Manager
	auth     *sessionhttp.Handlers
	log      *slog.Logger
	drain    time.Duration

	draining atomic.Bool
	streams  context.Context // ends when the server is told to stop
}

func (s *server) routes() http.Handler {
	mux := http.NewServeMux()
	s.auth.Mount(mux)
	s.probes(mux)
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("password") != "open sesame" { // your own check
			http.Error(w, "wrong user or password", http.StatusForbidden)
			return
		}
		if _, err := s.auth.Login(w, r, r.FormValue("user")); err != nil {
			s.auth.Refuse(w, r, err)
		}
	})
	mux.Handle("GET /me", s.auth.Require()(http.HandlerFunc(s.me)))
	mux.Handle("GET /news",
		s.auth.Require(sessionhttp.UntilSessionEnds())(http.HandlerFunc(s.news)))
	return mux
}

func (s *server) probes(mux *http.ServeMux) {
	mux.HandleFunc("GET /probe/startup", func(w http.ResponseWriter, r *http.Request) {
		if err := s.sessions.Healthy(r.Context()); err != nil {
			http.Error(w, "not yet", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /probe/readiness", func(w http.ResponseWriter, r *http.Request) {
		if s.draining.Load() {
			http.Error(w, "on its way out", http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /probe/liveness", func(http.ResponseWriter, *http.Request) {})
}

func (s *server) me(w http.ResponseWriter, r *http.Request) {
	access, _ := sessionhttp.FromContext(r.Context())
	fmt.Fprintln(w, "hello", access.Subject)
}

// news is an answer that goes on until the session ends, or the server.
func (s *server) news(w http.ResponseWriter, r *http.Request) {
	fmt.Fprintln(w, "no news yet")
	_ = http.NewResponseController(w).Flush()
	select {
	case <-r.Context().Done():
	case <-s.streams.Done():
	}
}

// watch is the alarm. Here it writes into the log; yours may page somebody.
func (s *server) watch(ctx context.Context) error {
	tick := time.NewTicker(5 * time.Second)
	defer tick.Stop()
	healthy := true
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		err := s.sessions.Healthy(ctx)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil && healthy:
			s.log.Error("sessions cannot refresh, or do not hear of revocations", "error", err)
		case err == nil && !healthy:
			s.log.Info("sessions are well again")
		}
		healthy = err == nil
	}
}

// serve answers requests until ctx ends or one part fails, and then ends all of them in order.
func (s *server) serve(
	ctx context.Context, l net.Listener, background ...func(context.Context) error,
) error {
	parts, failed := errgroup.WithContext(ctx)
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	for _, run := range background {
		parts.Go(func() error { return run(running) })
	}

	streams, endStreams := context.WithCancel(running)
	s.streams = streams
	web := &http.Server{Handler: s.routes(), ReadHeaderTimeout: 10 * time.Second}
	web.RegisterOnShutdown(endStreams)
	parts.Go(func() error {
		if err := web.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})

	parts.Go(func() error {
		<-failed.Done() // or told to stop
		s.draining.Store(true)
		if ctx.Err() != nil {
			time.Sleep(s.drain) // the load balancer notices, and sends no more
		}
		last, cancel := context.WithTimeout(running, 20*time.Second)
		defer cancel()
		err := web.Shutdown(last) // answers what is under way
		stop()                    // until then, revocations are heard of
		return err
	})
	return parts.Wait()
}

//go:build unix

package servers

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	postgresEnv    = "TOKENSESSION_TEST_POSTGRES_BIN" // folder of its programs
	postgresDSNEnv = "TOKENSESSION_TEST_POSTGRES_DSN" // URL of a server that runs already
)

// PostgresOptions say how a PostgreSQL server runs.
type PostgresOptions struct {
	// Durable leaves fsync and full_page_writes on. Without it the server starts and commits
	// faster, and survives Kill, but not the end of the machine.
	Durable bool

	// Settings are further settings of postgresql.conf.
	Settings map[string]string

	// ClockAhead is by how much the server's clock is ahead of this machine's, in whole seconds.
	ClockAhead time.Duration
}

// A Postgres is a PostgreSQL server that belongs to one test.
type Postgres struct {
	*Process
	Addr string // host:port
	DSN  string // URL of the database postgres, as superuser, without a password

	folder *Folder
}

// StartPostgres starts a PostgreSQL server on an empty data folder.
func StartPostgres(tb testing.TB, opts PostgresOptions) *Postgres {
	tb.Helper()
	folder := NewFolder(tb, "postgres", "postgres")
	if err := initPostgres(folder); err != nil {
		tb.Fatalf("%v", err)
	}
	return startPostgres(tb, folder, opts)
}

// StartStandby starts an asynchronous streaming standby of the server, made with pg_basebackup. It
// answers reads until [Postgres.Promote] makes it a server of its own, with what it had received by
// then.
func (p *Postgres) StartStandby(opts PostgresOptions) *Postgres {
	p.tb.Helper()
	backup, err := postgresBinary("pg_basebackup")
	if err != nil {
		p.tb.Fatalf("%v", err)
	}
	folder := NewFolder(p.tb, "standby", "postgres")
	host, port, _ := net.SplitHostPort(p.Addr)
	err = folder.Exec(backup, "--pgdata", folder.Join("data"), "--host", host, "--port", port,
		"--username", "postgres",
		"--write-recovery-conf", "--wal-method", "stream", "--checkpoint", "fast", "--no-sync")
	if err != nil {
		p.tb.Fatalf("%v", err)
	}
	return startPostgres(p.tb, folder, opts)
}

// Promote makes a standby a primary, and returns once it accepts writes.
func (p *Postgres) Promote() {
	p.tb.Helper()
	if err := p.promote(); err != nil {
		p.tb.Fatalf("servers: promote: %v", err)
	}
}

func (p *Postgres) promote() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.DSN)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	var done bool
	if err := conn.QueryRow(ctx, "SELECT pg_promote(true, 60)").Scan(&done); err != nil {
		return err
	}
	if !done {
		return fmt.Errorf("not done after 60 seconds")
	}
	return nil
}

// PostgresDatabase returns the URL of an empty database on a PostgreSQL server that all tests of
// the package share, or that TOKENSESSION_TEST_POSTGRES_DSN names. The database is dropped when the
// test ends.
func PostgresDatabase(tb testing.TB) string {
	tb.Helper()
	admin := sharedDSN(tb, &shared.postgres, postgresDSNEnv, startSharedPostgres)
	u, err := url.Parse(admin)
	if err != nil || u.Scheme == "" {
		tb.Fatalf("servers: %s must be a URL, postgres://…: %v", postgresDSNEnv, err)
	}
	name := databaseName()
	execPostgres(tb, admin, "CREATE DATABASE "+name)
	tb.Cleanup(func() { execPostgres(tb, admin, "DROP DATABASE "+name+" WITH (FORCE)") })
	u.Path = "/" + name
	return u.String()
}

func execPostgres(tb testing.TB, dsn, statement string) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		tb.Fatalf("servers: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, statement); err != nil {
		tb.Fatalf("servers: %s: %v", statement, err)
	}
}

func startSharedPostgres() (*sharedServer, error) {
	folder, err := newFolder("postgres", []string{"postgres"})
	if err != nil {
		return nil, err
	}
	if err := initPostgres(folder); err != nil {
		return nil, err
	}
	spec, port, err := postgresSpec(folder, PostgresOptions{})
	if err != nil {
		return nil, err
	}
	process := newProcess(spec)
	return &sharedServer{dsn: postgresDSN(port), process: process, folder: folder}, process.start()
}

func startPostgres(tb testing.TB, folder *Folder, opts PostgresOptions) *Postgres {
	tb.Helper()
	spec, port, err := postgresSpec(folder, opts)
	if err != nil {
		tb.Fatalf("%v", err)
	}
	spec.Env = clockAhead(tb, opts.ClockAhead)
	return &Postgres{Process: Start(tb, spec), Addr: localAddr(port), DSN: postgresDSN(port),
		folder: folder}
}

func initPostgres(folder *Folder) error {
	initdb, err := postgresBinary("initdb")
	if err != nil {
		return err
	}
	return folder.Exec(initdb, "--pgdata", folder.Join("data"), "--username", "postgres", "--auth",
		"trust",
		"--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync", "--no-instructions")
}

func postgresSpec(folder *Folder, opts PostgresOptions) (Spec, int, error) {
	path, err := postgresBinary("postgres")
	if err != nil {
		return Spec{}, 0, err
	}
	port, err := freePort()
	if err != nil {
		return Spec{}, 0, err
	}
	args := []string{"-D", folder.Join("data"), "-h", "127.0.0.1", "-p", strconv.Itoa(port),
		"-c", "unix_socket_directories=", "-c", "dynamic_shared_memory_type=mmap"}
	if !opts.Durable {
		args = append(args, "-c", "fsync=off", "-c", "full_page_writes=off")
	}
	for name, value := range opts.Settings {
		args = append(args, "-c", name+"="+value)
	}
	return Spec{
		Name: "postgres", Path: path, Args: args, Folder: folder,
		StopSignal:  syscall.SIGINT,  // "fast": does not wait for clients
		DeathSignal: syscall.SIGQUIT, // "immediate": leaves no shared memory behind
		Ready: func(ctx context.Context) error {
			conn, err := pgx.Connect(ctx, postgresDSN(port))
			if err != nil {
				return err
			}
			return conn.Close(ctx)
		},
	}, port, nil
}

// postgresBinary returns the path of a program of the same installation as the server, which need
// not be the one on PATH: Debian's PATH has wrappers.
func postgresBinary(name string) (string, error) {
	server, err := Find(Binary{Name: "postgres", Env: postgresEnv,
		Dirs: "/usr/lib/postgresql/*/bin", Package: "postgresql"})
	if err != nil {
		return "", err
	}
	server, err = filepath.EvalSymlinks(server)
	if err != nil {
		return "", fmt.Errorf("servers: %w", err)
	}
	return filepath.Join(filepath.Dir(server), name), nil
}

func postgresDSN(port int) string {
	return fmt.Sprintf("postgres://postgres@%s/postgres?sslmode=disable", localAddr(port))
}

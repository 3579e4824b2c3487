//go:build unix

package servers_test

import (
	"context"
	"database/sql"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Run(m)) }

func query[T any](t *testing.T, dsn, statement string) (T, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	var value T
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return value, err
	}
	defer conn.Close(ctx)
	return value, conn.QueryRow(ctx, statement).Scan(&value)
}

func must[T any](t *testing.T, dsn, statement string) T {
	t.Helper()
	value, err := query[T](t, dsn, statement)
	if err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return value
}

func TestPostgres_killAndStartKeepsCommittedData(t *testing.T) {
	pg := servers.StartPostgres(t, servers.PostgresOptions{Durable: true})
	must[int](t, pg.DSN, "WITH made AS (SELECT 1 AS n) SELECT n FROM made")
	if _, err := query[int](t, pg.DSN, "CREATE TABLE kept AS SELECT 42 AS n"); err == nil {
		t.Fatal("a CREATE returned a row")
	}
	pid := pg.Pid()
	pg.Kill()
	if err := syscall.Kill(pid, 0); err == nil {
		t.Fatal("the server lives on after Kill")
	}
	if _, err := query[int](t, pg.DSN, "SELECT 1"); err == nil {
		t.Fatal("the server answers after Kill")
	}
	pg.Start()
	if got := must[int](t, pg.DSN, "SELECT n FROM kept"); got != 42 {
		t.Fatalf("after the restart: %d, want 42", got)
	}
	pg.Stop()
	pg.Start()
	if got := must[int](t, pg.DSN, "SELECT n FROM kept"); got != 42 {
		t.Fatalf("after the second restart: %d, want 42", got)
	}
}

func TestPostgres_standbyFollowsAndCanBePromoted(t *testing.T) {
	primary := servers.StartPostgres(t, servers.PostgresOptions{})
	standby := primary.StartStandby(servers.PostgresOptions{})
	_, _ = query[int](t, primary.DSN, "CREATE TABLE sent AS SELECT 7 AS n")
	deadline := time.After(10 * time.Second)
	for {
		if got, err := query[int](t, standby.DSN, "SELECT n FROM sent"); err == nil && got == 7 {
			break
		}
		select {
		case <-deadline:
			t.Fatal("the standby does not follow")
		case <-time.After(20 * time.Millisecond):
		}
	}
	if !must[bool](t, standby.DSN, "SELECT pg_is_in_recovery()") {
		t.Fatal("the standby is a primary")
	}
	primary.Kill()
	standby.Promote()
	if must[bool](t, standby.DSN, "SELECT pg_is_in_recovery()") {
		t.Fatal("still a standby after Promote")
	}
}

func TestPostgresDatabase_isEmptyAndOwn(t *testing.T) {
	a, b := servers.PostgresDatabase(t), servers.PostgresDatabase(t)
	if a == b {
		t.Fatal("two tests got one database")
	}
	for _, dsn := range []string{a, b} {
		if n := must[int](t, dsn, "SELECT count(*) FROM information_schema.tables WHERE table_schema='public'"); n != 0 {
			t.Fatalf("%d tables in a new database", n)
		}
	}
}

func TestMariaDB_killAndStartKeepsCommittedData(t *testing.T) {
	maria := servers.StartMariaDB(t, servers.MariaDBOptions{Durable: true})
	db, err := sql.Open("mysql", maria.DSN)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	for _, statement := range []string{"CREATE TABLE kept (n INT)", "INSERT INTO kept VALUES (42)"} {
		if _, err := db.Exec(statement); err != nil {
			t.Fatal(err)
		}
	}
	maria.Kill()
	if err := db.Ping(); err == nil {
		t.Fatal("the server answers after Kill")
	}
	maria.Start()
	var n int
	if err := db.QueryRow("SELECT n FROM kept").Scan(&n); err != nil || n != 42 {
		t.Fatalf("after the restart: %d, %v, want 42", n, err)
	}
}

func TestMySQLDatabase_isEmptyAndOwn(t *testing.T) {
	a, b := servers.MySQLDatabase(t), servers.MySQLDatabase(t)
	if a == b {
		t.Fatal("two tests got one database")
	}
}

// A server that was there before the tests is left as it was.
func TestRedisPrefix_leavesNothingOnAServerThatIsThere(t *testing.T) {
	server := servers.StartRedis(t, servers.RedisOptions{})
	client := server.Client(nil)
	t.Setenv("TOKENSESSION_TEST_REDIS_ADDR", server.Addr)
	write := func(ctx context.Context, key string) {
		if err := client.Set(ctx, key, "v", 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	write(t.Context(), "test-of somebody else")
	prefixes := make(map[string]bool)
	for range 2 { // as in a second run
		t.Run("one", func(t *testing.T) {
			prefix := servers.RedisPrefix(t, servers.RedisAddr(t))
			prefixes[prefix] = true
			for i := range 3000 { // more than one SCAN returns
				write(t.Context(), prefix+":"+strconv.Itoa(i))
			}
		})
	}
	if keys, err := client.Keys(t.Context(), "*").Result(); err != nil || len(keys) != 1 || len(prefixes) != 2 {
		t.Errorf("%d keys are left under the prefixes %v, %v, want one of somebody else", len(keys), prefixes, err)
	}
}

// Where there is a Valkey and no Redis, the tests run on that.
func TestStartRedis_takesValkeyInstead(t *testing.T) {
	folder := t.TempDir()
	if err := os.Symlink(servers.ValkeyServer(t), filepath.Join(folder, "valkey-server")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TOKENSESSION_TEST_REDIS_BIN", folder)
	if err := servers.StartRedis(t, servers.RedisOptions{}).Client(nil).Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}
}

func TestFind_namesTheRemedy(t *testing.T) {
	_, err := servers.Find(servers.Binary{Name: "no-such-server", Env: "TOKENSESSION_TEST_NONE", Package: "none"})
	if err == nil || !strings.Contains(err.Error(), "scripts/install-servers.sh") {
		t.Fatalf("got %v, want the script that installs it", err)
	}
}

//go:build unix

package proof_test

import (
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/keyring"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

const (
	oldSecret = "the-secret-of-last-year-of-32-bytes-or-more"
	newSecret = "the-secret-of-this-year-of-32-bytes-or-more"
)

// The command, as it is built, on each kind of server.
func TestTokenkeys_onRealServers(t *testing.T) {
	command := filepath.Join(t.TempDir(), "tokenkeys")
	build := exec.Command("go", "build", "-o", command, ".")
	build.Dir = "../../tokenkeys"
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		store := server.migrated(t, server.open(t, dsn), "logins")
		playTokenkeys(t, command, store, []string{"-table", "logins"}, urlOf(t, server.dialect, dsn))
	})
	t.Run("Redis", func(t *testing.T) {
		addr := servers.RedisAddr(t)
		store, prefix := redisStore(t, redisClient(t, addr, nil), redisstore.Config{})
		playTokenkeys(t, command, store, []string{"-prefix", prefix}, "redis://"+addr)
	})
	t.Run("Redis Cluster", func(t *testing.T) {
		cluster := servers.StartRedisCluster(t, servers.RedisOptions{})
		store, prefix := redisStore(t, cluster.Client(nil), redisstore.Config{})
		playTokenkeys(t, command, store, []string{"-prefix", prefix}, "redis+cluster://"+cluster.Addrs[0])
	})
}

// urlOf returns the DSN in the form that the command takes.
func urlOf(t *testing.T, dialect sqlstore.Dialect, dsn string) string {
	t.Helper()
	switch dialect {
	case sqlstore.MySQL:
		cfg, err := mysql.ParseDSN(dsn)
		if err != nil {
			t.Fatal(err)
		}
		u := url.URL{Scheme: "mysql", Host: cfg.Addr, Path: "/" + cfg.DBName, User: url.UserPassword(cfg.User, cfg.Passwd)}
		return u.String()
	case sqlstore.SQLite:
		path, _, _ := strings.Cut(strings.TrimPrefix(dsn, "file:"), "?")
		return "sqlite:" + path
	}
	return dsn
}

var listedKey = regexp.MustCompile(`(?m)^[A-Za-z0-9_-]{43} `)

// playTokenkeys changes the keys of a ring that is open, by the command.
func playTokenkeys(t *testing.T, command string, store keyring.Store, flags []string, storeURL string) {
	t.Helper()
	ring := func(secret string) *keyring.Keyring {
		t.Helper()
		ring, err := keyring.Open(t.Context(), store, keyring.Config{Secret: []byte(secret),
			Access: tokensession.AccessConfig{Issuer: "https://auth.example", Audience: []string{"a"}}})
		if err != nil {
			t.Fatal(err)
		}
		return ring
	}
	run := func(secret string, args ...string) []string {
		t.Helper()
		cmd := exec.Command(command, append(flags, args...)...)
		cmd.Env = append(os.Environ(), "TOKENSESSION_STORE="+storeURL, "TOKENSESSION_SECRET="+secret, "TOKENSESSION_OLD_SECRETS="+oldSecret)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("tokenkeys %q: %v\n%s", args, err, out)
		}
		var ids []string
		for _, id := range listedKey.FindAllString(string(out), -1) {
			ids = append(ids, strings.TrimSpace(id))
		}
		return ids
	}
	server := ring(oldSecret)
	wantPublished := func(ids []string, gone string) {
		t.Helper()
		if err := server.Update(t.Context()); err != nil {
			t.Fatal(err)
		}
		jwks := string(server.Signer().JWKS())
		for _, id := range ids {
			if !strings.Contains(jwks, id) {
				t.Errorf("the server does not publish %s", id)
			}
		}
		if gone != "" && strings.Contains(jwks, gone) {
			t.Errorf("the server still publishes %s", gone)
		}
	}
	first := run("", "list")
	if len(first) != 1 {
		t.Fatalf("list shows %q, want the key that the server made", first)
	}
	made := run(oldSecret, "make")
	if len(made) != 2 || made[0] != first[0] {
		t.Fatalf("after make: %q", made)
	}
	wantPublished(made, "")
	left := run(oldSecret, "retire", first[0])
	if len(left) != 1 || left[0] != made[1] {
		t.Fatalf("after retire: %q", left)
	}
	wantPublished(left, first[0])
	run(newSecret, "reseal")
	if jwks := string(ring(newSecret).Signer().JWKS()); !strings.Contains(jwks, left[0]) {
		t.Errorf("with the new secret alone: %s", jwks)
	}
}

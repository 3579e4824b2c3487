package main

import (
	"context"
	"database/sql"
	"errors"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/keyring"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

const (
	secret = "a secret for tests, of 32 bytes+"
	other  = "another secret, also of 32 bytes"
)

// A shell runs the command with an environment of its own.
type shell struct {
	t     *testing.T
	env   map[string]string
	store *sqlstore.Store
	file  string
}

func newShell(t *testing.T) *shell {
	t.Helper()
	file := filepath.Join(t.TempDir(), "sessions.db")
	db, err := sql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	store, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.Config{})
	if err == nil {
		err = store.Migrate(t.Context())
	}
	if err != nil {
		t.Fatal(err)
	}
	env := map[string]string{"TOKENSESSION_SECRET": secret, "TOKENSESSION_STORE": "sqlite:" + file}
	return &shell{t, env, store, file}
}

func (s *shell) run(args ...string) (stdout, stderr string, err error) {
	var out, errOut strings.Builder
	err = run(context.Background(), args, func(name string) string { return s.env[name] }, &out, &errOut)
	return out.String(), errOut.String(), err
}

func (s *shell) ok(args ...string) string {
	s.t.Helper()
	out, errOut, err := s.run(args...)
	if err != nil {
		s.t.Fatalf("tokenkeys %q: %v\n%s", args, err, errOut)
	}
	return out
}

func (s *shell) fails(says string, args ...string) {
	s.t.Helper()
	out, errOut, err := s.run(args...)
	if err == nil || !strings.Contains(err.Error()+errOut, says) {
		s.t.Errorf("tokenkeys %q: %v\n%s\nwant %q", args, err, errOut, says)
	}
	if strings.Contains(err.Error()+out+errOut, secret) {
		s.t.Errorf("tokenkeys %q prints the secret", args)
	}
}

// server opens the ring as a server does.
func (s *shell) server(secret string) *keyring.Keyring {
	s.t.Helper()
	ring, err := keyring.Open(context.Background(), s.store, keyring.Config{
		Secret: []byte(secret),
		Access: tokensession.AccessConfig{Issuer: "https://auth.example", Audience: []string{"a"}},
	})
	if err != nil {
		s.t.Fatal(err)
	}
	return ring
}

var keyLine = regexp.MustCompile(`(?m)^([A-Za-z0-9_-]{43})  +(\S+)  +\S+Z  +\S+Z  +(.*)$`)

// listed returns the ids and the states that list shows.
func listed(out string) (ids, states []string) {
	for _, line := range keyLine.FindAllStringSubmatch(out, -1) {
		ids, states = append(ids, line[1]), append(states, line[3])
	}
	return ids, states
}

func want(t *testing.T, what string, got, want any) {
	t.Helper()
	if got != want {
		t.Errorf("%s: %v, want %v", what, got, want)
	}
}

func TestSecret_isNewEachTimeAndLongEnough(t *testing.T) {
	s := newShell(t)
	first, second := s.ok("secret"), s.ok("secret")
	if first == second || !regexp.MustCompile(`^[A-Za-z0-9_-]{43}\n$`).MatchString(first) {
		t.Errorf("secrets %q and %q", first, second)
	}
	s.server(strings.TrimSpace(first))
}

func TestTokenkeys_doesWhatServersNotice(t *testing.T) {
	s := newShell(t)
	if out := s.ok("list"); !strings.HasPrefix(out, "no keys") {
		t.Errorf("list of an empty store: %s", out)
	}
	ids, states := listed(s.ok("make"))
	want(t, "keys after the first make", len(ids), 1)
	want(t, "its state", states[0], "signs")
	server := s.server(secret)

	delete(s.env, "TOKENSESSION_SECRET")
	again, _ := listed(s.ok("list")) // needs no secret
	want(t, "list", again[0], ids[0])
	s.fails("TOKENSESSION_SECRET is not set", "make")
	s.env["TOKENSESSION_SECRET"] = secret

	ids, states = listed(s.ok("-algorithm", "ES256", "-ahead", "2h", "make", "sqlite:"+s.file))
	want(t, "keys", len(ids), 2)
	want(t, "the first", states[0], "signs")
	want(t, "the second", states[1], "is published")
	if err := server.Update(t.Context()); err != nil || !strings.Contains(string(server.Signer().JWKS()), ids[1]) {
		t.Errorf("a server does not notice: %v", err)
	}

	out := s.ok("retire", ids[0])
	left, states := listed(out)
	if len(left) != 1 || left[0] != ids[1] || states[0] != "signs" || !strings.Contains(out, "key "+ids[0]+" is gone") {
		t.Errorf("after retire: %s", out)
	}
	if err := server.Update(t.Context()); err != nil || strings.Contains(string(server.Signer().JWKS()), ids[0]) {
		t.Errorf("a server does not notice: %v", err)
	}
	left, _ = listed(s.ok("retire", "-", left[0])) // the only one
	want(t, "keys after the only one leaked", len(left), 1)
	if left[0] == ids[1] {
		t.Error("the key that leaked is still there")
	}
	s.fails(`there is no key "`+ids[0], "retire", ids[0])
}

func TestReseal_needsBothSecretsOnce(t *testing.T) {
	s := newShell(t)
	s.server(secret)
	s.env["TOKENSESSION_SECRET"] = other
	s.fails("the secret is not the one", "reseal")
	const spaceless = "a-secret-for-tests-of-32-bytes-or-more"
	s = newShell(t)
	s.server(spaceless)
	s.env["TOKENSESSION_SECRET"], s.env["TOKENSESSION_OLD_SECRETS"] = other, " "+spaceless
	s.ok("reseal")
	delete(s.env, "TOKENSESSION_OLD_SECRETS")
	s.ok("make")
	s.server(other)
	s.env["TOKENSESSION_SECRET"] = spaceless
	s.fails("the secret is not the one", "make")
	s.fails("there are no keys", "-table", "", "reseal", "sqlite:"+newShell(t).file)
}

func TestTokenkeys_refusesWhatItDoesNotUnderstand(t *testing.T) {
	s := newShell(t)
	for _, c := range []struct {
		says string
		args []string
	}{
		{"no command", nil},
		{`no such command: "lst"`, []string{"lst"}},
		{"secret takes no arguments", []string{"secret", "x"}},
		{"too many arguments for list", []string{"list", "sqlite:a", "b"}},
		{"retire which key?", []string{"retire"}},
		{"too many arguments for retire", []string{"retire", "sqlite:a", "b", "c"}},
		{"flag provided but not defined", []string{"-secret", "x", "list"}},
	} {
		s.fails(c.says, c.args...)
		if _, errOut, err := s.run(c.args...); !strings.Contains(errOut, "usage: tokenkeys") {
			t.Errorf("%q: %v without the usage", c.args, err)
		}
	}
	if _, _, err := s.run("lst"); !errors.Is(err, errUsage) {
		t.Error(err)
	}
	s.env["TOKENSESSION_STORE"] = ""
	s.fails("which store?", "list")
	s.fails("which store?", "list", "-")
	s.env["TOKENSESSION_SECRET"] = "short"
	s.fails("Config.Secret of 5 bytes", "make", "sqlite:"+s.file)
}

// A password in the URL is in no error.
func TestTokenkeys_printsNoPassword(t *testing.T) {
	s := newShell(t)
	for _, url := range []string{
		"no-url-hunter2", "oracle://app:hunter2@localhost/app",
		"postgres://app:hunter2@127.0.0.1:1/app", "postgres://app:hunter2@[::x/app",
		"mysql://app:hunter2@127.0.0.1:1/app", "mysql://app:hunter2@127.0.0.1:1", "mysql://app:hunter2@h/db?timeout=hunter2",
		"redis://app:hunter2@127.0.0.1:1/0", "redis://app:hunter2@127.0.0.1:1/hunter2", "rediss://app:hunter2@[::x",
	} {
		out, errOut, err := s.run("-timeout", "3s", "list", url)
		if err == nil || strings.Contains(out+errOut+err.Error(), "hunter2") {
			t.Errorf("%s: %v\n%s", url, err, errOut)
		}
	}
}

// A typing error makes no database.
func TestTokenkeys_createsNoFile(t *testing.T) {
	s := newShell(t)
	file := filepath.Join(t.TempDir(), "typo.db")
	for range 2 {
		s.fails("unable to open database file", "make", "sqlite:"+file)
	}
	s.fails("does not exist", "-table", "others", "list")
}

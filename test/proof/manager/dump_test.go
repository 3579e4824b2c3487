package manager_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

// hostKey is kept outside the store.
var hostKey = []byte("fedcba9876543210fedcba9876543210")

// TestDumpHoldsNoToken: whoever reads all that the store holds finds no token in it, nor the handle
// that a token needs, in any common spelling; and nothing that can be built from what is there, by
// one who knows how tokens are made, is accepted.
func TestDumpHoldsNoToken(t *testing.T) {
	eachBackend(t, func(t *testing.T, p place) {
		for name, hostKeys := range map[string][][]byte{"without a key of the host": nil, "with one": {hostKey}} {
			t.Run(name, func(t *testing.T) {
				happened := new(events)
				store := p.open(t, access{})
				m := newManager(t, store, tokensession.Config{
					Now: newClock().Now, RefreshKeys: hostKeys, OnEvent: happened.Add,
				})
				given := someSessions(t, m)
				dump := p.dump(t)
				rec, err := store.Load(context.Background(), given[0].Session.ID)
				if err != nil || !contains(dump, rec.Key) {
					t.Fatalf("the dump does not contain the sessions' keys: %v", err)
				}
				wantNoSecret(t, dump, given)
				wantNothingPresentable(t, m, store, given, hostKeys != nil)
				happened.none(t, tokensession.EventReused)
			})
		}
	})
}

// someSessions returns all the tokens that three sessions got, of which one has ended.
func someSessions(t *testing.T, m *tokensession.Manager) (given []tokensession.Tokens) {
	for range 3 {
		tokens := start(t, m, "alice")
		for range 3 {
			given = append(given, tokens)
			tokens = refresh(t, m, tokens.RefreshToken)
		}
		given = append(given, tokens)
	}
	if err := m.Revoke(context.Background(), given[len(given)-1].Session.ID); err != nil {
		t.Fatal(err)
	}
	return given
}

// dump returns everything that the store holds.
func (p place) dump(t *testing.T) []byte {
	t.Helper()
	switch p.Backend {
	case redisSingle, redisCluster:
		return p.dumpRedis(t)
	case sqlite:
		return append(p.dumpDB(t), dumpFiles(t, p.DSN)...)
	default:
		return p.dumpDB(t)
	}
}

func (p place) dumpRedis(t *testing.T) []byte {
	t.Helper()
	var dump bytes.Buffer
	for _, addr := range p.Addrs {
		node := redis.NewClient(&redis.Options{Addr: addr})
		if err := errors.Join(dumpNode(context.Background(), node, p.Prefix, &dump), node.Close()); err != nil {
			t.Fatal(err)
		}
	}
	return dump.Bytes()
}

func dumpNode(ctx context.Context, node *redis.Client, prefix string, dump io.Writer) error {
	keys := node.Scan(ctx, 0, prefix+":*", 1000).Iterator()
	for keys.Next(ctx) {
		key := keys.Val()
		var content any
		var err error
		switch kind := node.Type(ctx, key).Val(); kind {
		case "hash":
			content, err = node.HGetAll(ctx, key).Result()
		case "zset":
			content, err = node.ZRange(ctx, key, 0, -1).Result()
		default:
			err = fmt.Errorf("key %s is of type %s, which this test does not read", key, kind)
		}
		if err != nil {
			return err
		}
		fmt.Fprintln(dump, key, content)
	}
	return keys.Err()
}

func (p place) dumpDB(t *testing.T) []byte {
	db, dialect, err := p.openDB(access{})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	var dump bytes.Buffer
	tables := map[sqlstore.Dialect]string{
		sqlstore.PostgreSQL: "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'",
		sqlstore.MySQL:      "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()",
		sqlstore.SQLite:     "SELECT name FROM sqlite_master WHERE type = 'table'",
	}[dialect]
	n := 0
	for _, table := range rowsOf(t, db, tables) {
		for _, row := range rowsOf(t, db, "SELECT * FROM "+string(table)) {
			dump.Write(row)
			n++
		}
	}
	if n < 3 {
		t.Fatalf("the dump has %d rows", n)
	}
	return dump.Bytes()
}

// rowsOf returns the rows that a query selects, each with its values one after the other.
func rowsOf(t *testing.T, db *sql.DB, query string) (all [][]byte) {
	t.Helper()
	rows, err := db.Query(query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	values, pointers := make([]any, len(columns)), make([]any, len(columns))
	for i := range values {
		pointers[i] = &values[i]
	}
	for rows.Next() {
		if err := rows.Scan(pointers...); err != nil {
			t.Fatal(err)
		}
		var row []byte
		for i, v := range values {
			if i > 0 {
				row = append(row, ' ')
			}
			if b, ok := v.([]byte); ok {
				row = append(row, b...)
			} else {
				row = fmt.Append(row, v)
			}
		}
		all = append(all, row)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

// dumpFiles returns a SQLite database's files: what was there and is no longer may be in them.
func dumpFiles(t *testing.T, dsn string) (all []byte) {
	t.Helper()
	path, _, _ := strings.Cut(strings.TrimPrefix(dsn, "file:"), "?")
	for _, suffix := range []string{"", "-wal"} {
		content, err := os.ReadFile(path + suffix)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, content...)
	}
	return all
}

// wantNoSecret fails the test if the dump contains a token, or the part of one that only its holder
// may know.
func wantNoSecret(t *testing.T, dump []byte, given []tokensession.Tokens) {
	t.Helper()
	for _, tokens := range given {
		handle, _, mac := tokenParts(tokens.RefreshToken)
		secrets := map[string][]byte{
			"refresh token": []byte(tokens.RefreshToken), "access token": []byte(tokens.AccessToken),
			"handle": handle, "MAC": mac,
		}
		for i, part := range strings.Split(tokens.AccessToken, ".")[1:] {
			secrets[fmt.Sprintf("access token's part %d", i+1)] = []byte(part)
		}
		for what, secret := range secrets {
			if contains(dump, secret) {
				t.Errorf("the dump contains a %s", what)
			}
		}
	}
}

// contains reports whether the secret is in the dump, as it is, in base64 or in hex.
func contains(dump, secret []byte) bool {
	return bytes.Contains(dump, secret) ||
		bytes.Contains(bytes.ToLower(dump), []byte(hex.EncodeToString(secret))) ||
		bytes.Contains(dump, []byte(base64.RawStdEncoding.EncodeToString(secret))) ||
		bytes.Contains(dump, []byte(base64.RawURLEncoding.EncodeToString(secret)))
}

// wantNothingPresentable makes tokens from what the dump holds, and fails the test if one is
// accepted. To show that it makes them well, it makes some with a handle that only the client has:
// then only the host's key is missing.
func wantNothingPresentable(t *testing.T, m *tokensession.Manager, store tokensession.RefreshStore, given []tokensession.Tokens, hostHasKey bool) {
	t.Helper()
	var handles, keys [][]byte
	seen := map[string]bool{}
	for _, tokens := range given {
		if seen[tokens.Session.ID] {
			continue
		}
		seen[tokens.Session.ID] = true
		rec, err := store.Load(context.Background(), tokens.Session.ID)
		if err != nil {
			t.Fatal(err)
		}
		id, writeID := decode(t, rec.ID), decode(t, rec.WriteID)
		handles = append(handles, id, writeID, rec.Key[:16], rec.Key[16:])
		keys = append(keys, rec.Key, slices.Concat(id, writeID))
	}
	for _, token := range forgeries(handles, keys) {
		if _, err := m.Refresh(context.Background(), token); !errors.Is(err, tokensession.ErrInvalidToken) {
			t.Errorf("a token made from the dump: %v, want ErrInvalidToken", err)
		}
		if err := m.RevokeToken(context.Background(), token); !errors.Is(err, tokensession.ErrInvalidToken) {
			t.Errorf("logout with a token made from the dump: %v, want ErrInvalidToken", err)
		}
	}
	handle, _, _ := tokenParts(given[0].RefreshToken)
	made := slices.Contains(forgeries([][]byte{handle}, keys), given[0].RefreshToken)
	if made == hostHasKey {
		t.Errorf("with a handle that only the client has, the dump was enough for a token: %v, want %v", made, !hostHasKey)
	}
}

func decode(t *testing.T, id string) []byte {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(id)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// forgeries returns the tokens of the first generations with these handles and keys, made as the
// package does.
func forgeries(handles, keys [][]byte) (tokens []string) {
	for _, handle := range handles {
		for _, key := range keys {
			for generation := range uint64(5) {
				body := binary.BigEndian.AppendUint64(slices.Clone(handle), generation)
				mac := hmac.New(sha256.New, key)
				mac.Write([]byte("tokensession refresh v1"))
				mac.Write(body)
				tokens = append(tokens, "tsr_"+base64.RawURLEncoding.EncodeToString(append(body, mac.Sum(nil)[:24]...)))
			}
		}
	}
	return tokens
}

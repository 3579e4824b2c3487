package manager_test

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
)

// TestDumpHoldsNoToken: whoever reads all that a store holds finds no token, no part of one that matters, and nothing
// to make one from.
func TestDumpHoldsNoToken(t *testing.T) {
	eachBackend(t, func(t *testing.T, p place) {
		m := newManager(t, p.open(t, access{}), tokensession.Config{Now: newClock().Now})
		first := start(t, m, "alice")
		live := refresh(t, m, refresh(t, m, first.RefreshToken).RefreshToken)
		loggedOut := start(t, m, "alice")
		if err := m.RevokeToken(context.Background(), loggedOut.RefreshToken); err != nil {
			t.Fatal(err)
		}

		values := p.dump(t)
		everything := bytes.Join(values, []byte("\n"))
		for _, id := range []string{live.Session.ID, loggedOut.Session.ID} {
			if !bytes.Contains(everything, []byte(id)) {
				t.Fatalf("the dump does not hold session %s: it is not all that the store holds", id)
			}
		}
		for _, tokens := range []tokensession.Tokens{first, live, loggedOut} {
			wantAbsent(t, everything, tokens)
		}

		presented := 0
		for _, forged := range forgeries(values) {
			presented++
			if _, err := m.Refresh(context.Background(), forged); !errors.Is(err, tokensession.ErrInvalidToken) {
				t.Fatalf("a token made from the dump: %v, want ErrInvalidToken", err)
			}
		}
		if presented < 100 {
			t.Fatalf("only %d tokens were made from the dump", presented)
		}
		t.Logf("%d values, %d tokens made from them", len(values), presented)
		refresh(t, m, live.RefreshToken)
	})
}

// wantAbsent fails the test if the dump has a secret of the tokens in some spelling.
func wantAbsent(t *testing.T, dump []byte, tokens tokensession.Tokens) {
	t.Helper()
	handle, _, mac := tokenParts(tokens.RefreshToken)
	secrets := map[string][]byte{"handle": handle, "MAC": mac, "refresh token": []byte(tokens.RefreshToken), "access token": []byte(tokens.AccessToken)}
	for name, secret := range secrets {
		spellings := [][]byte{secret, []byte(hex.EncodeToString(secret)), bytes.ToUpper([]byte(hex.EncodeToString(secret)))}
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			spellings = append(spellings, []byte(encoding.EncodeToString(secret)))
		}
		for _, spelling := range spellings {
			if bytes.Contains(dump, spelling) {
				t.Errorf("the dump has the %s", name)
			}
		}
	}
}

// forgeries returns the dump's values as they are, and tokens made from them: each value, decoded or not, as the handle
// and as the key, for the first generations.
func forgeries(values [][]byte) []string {
	var tokens []string
	var handles, keys [][]byte
	for _, value := range values {
		tokens = append(tokens, string(value), "tsr_"+string(value))
		readings := [][]byte{value}
		if b, err := base64.RawURLEncoding.DecodeString(string(value)); err == nil {
			readings = append(readings, b)
		}
		for _, b := range readings {
			for part := range slices.Chunk(b, 16) {
				if len(part) == 16 {
					handles = append(handles, part)
				}
			}
			if len(b) == 16 || len(b) == 32 {
				keys = append(keys, b)
			}
		}
	}
	for _, handle := range handles {
		for _, key := range keys {
			for generation := range uint64(4) {
				tokens = append(tokens, forge(handle, key, generation))
			}
		}
	}
	return tokens
}

// forge makes a refresh token as the library does.
func forge(handle, key []byte, generation uint64) string {
	body := binary.BigEndian.AppendUint64(bytes.Clone(handle), generation)
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte("tokensession refresh v1"))
	mac.Write(body)
	return "tsr_" + base64.RawURLEncoding.EncodeToString(append(body, mac.Sum(nil)[:24]...))
}

// TestForge shows that forge is right, and so that what it makes is refused for its parts.
func TestForge(t *testing.T) {
	store := tokensession.NewMemoryStore()
	m := newManager(t, store, tokensession.Config{})
	tokens := start(t, m, "alice")
	rec, err := store.Load(context.Background(), tokens.Session.ID)
	if err != nil {
		t.Fatal(err)
	}
	handle, generation, _ := tokenParts(tokens.RefreshToken)
	if forge(handle, rec.Key, generation) != tokens.RefreshToken {
		t.Fatal("forge does not make the token that Start made")
	}
}

// dump returns all that the place holds, value by value.
func (p place) dump(tb testing.TB) [][]byte {
	tb.Helper()
	if p.Backend == redisSingle || p.Backend == redisCluster {
		return p.dumpRedis(tb)
	}
	db, _, err := p.openDB(access{})
	if err != nil {
		tb.Fatal(err)
	}
	defer db.Close()
	rows, err := db.Query("SELECT * FROM token_sessions")
	if err != nil {
		tb.Fatal(err)
	}
	defer rows.Close()
	columns, err := rows.Columns()
	if err != nil {
		tb.Fatal(err)
	}
	var values [][]byte
	for rows.Next() {
		row := make([]any, len(columns))
		for i := range row {
			row[i] = new(any)
		}
		if err := rows.Scan(row...); err != nil {
			tb.Fatal(err)
		}
		for _, cell := range row {
			values = append(values, asBytes(*cell.(*any)))
		}
	}
	if err := rows.Err(); err != nil {
		tb.Fatal(err)
	}
	return values
}

func asBytes(v any) []byte {
	if b, ok := v.([]byte); ok {
		return bytes.Clone(b)
	}
	return fmt.Append(nil, v)
}

func (p place) dumpRedis(tb testing.TB) [][]byte {
	tb.Helper()
	var values [][]byte
	for _, addr := range p.Addrs {
		client := redis.NewClient(&redis.Options{Addr: addr})
		keys, err := client.Keys(context.Background(), p.Prefix+"*").Result()
		if err != nil {
			tb.Fatal(err)
		}
		for _, key := range keys {
			values = append(values, []byte(key))
			values = append(values, dumpKey(tb, client, key)...)
		}
		_ = client.Close()
	}
	return values
}

func dumpKey(tb testing.TB, client *redis.Client, key string) (values [][]byte) {
	tb.Helper()
	ctx := context.Background()
	kind, err := client.Type(ctx, key).Result()
	if err != nil {
		tb.Fatal(err)
	}
	var found []string
	switch kind {
	case "hash":
		fields, hashErr := client.HGetAll(ctx, key).Result()
		for name, value := range fields {
			found = append(found, name, value)
		}
		err = hashErr
	case "zset":
		found, err = client.ZRange(ctx, key, 0, -1).Result()
	default:
		tb.Fatalf("key %s is a %s: the dump has to learn how to read that", key, kind)
	}
	if err != nil {
		tb.Fatal(err)
	}
	for _, value := range found {
		values = append(values, []byte(value))
	}
	return values
}

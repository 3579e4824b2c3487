//go:build unix

package benchmarks

import (
	"crypto/hmac"
	"crypto/sha256"
	"database/sql"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// growthEnv is the environment variable with the number of sessions up to which BenchmarkGrowth
// goes: a million if it is not set.
const growthEnv = "TOKENSESSION_GROWTH"

// A crowd is very many sessions that were made in the store without a login each. They are copies of
// one session: they have its key, and handles that count up, so that their tokens can be made here.
type crowd struct {
	m      *tokensession.Manager
	key    []byte
	grow   func(from, to uint64) // makes the sessions from one number up to another
	count  uint64
	tokens map[uint64]string // of those that were refreshed before
}

// BenchmarkGrowth_stores refreshes sessions that are drawn from all, one after the other, of a
// thousand to a million of them.
func BenchmarkGrowth_stores(b *testing.B) {
	most := uint64(1_000_000)
	if text := os.Getenv(growthEnv); text != "" {
		n, err := strconv.ParseUint(text, 10, 32)
		check(b, err)
		most = n
	}
	for name, begin := range map[string]func(*testing.B) *crowd{
		"postgres": postgresCrowd, "redis": redisCrowd,
	} {
		b.Run(name, func(b *testing.B) {
			c := begin(b)
			for n := uint64(1000); n <= most; n *= 10 {
				b.Run(fmt.Sprintf("sessions=%d", n), func(b *testing.B) {
					if c.count < n {
						c.grow(c.count, n)
						c.count = n
					}
					for b.Loop() {
						c.refresh(b)
					}
				})
			}
		})
	}
}

func (c *crowd) refresh(b *testing.B) {
	const refreshes, warm = 3000, 300
	var t timings
	for i := range refreshes + warm {
		n := rand.Uint64N(c.count)
		token := c.token(n)
		began := time.Now()
		tokens, err := c.m.Refresh(ctx, token)
		took := time.Since(began)
		check(b, err)
		c.tokens[n] = tokens.RefreshToken
		if i >= warm {
			t.each = append(t.each, took)
			t.elapsed += took
		}
	}
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(t.percentile(50)/1e3, "refresh-p50-µs")
	b.ReportMetric(t.percentile(95)/1e3, "refresh-p95-µs")
}

func handleOf(n uint64) []byte { return binary.BigEndian.AppendUint64(make([]byte, 8), n) }

// token is the live refresh token of the n-th session.
func (c *crowd) token(n uint64) string {
	if token := c.tokens[n]; token != "" {
		return token
	}
	body := binary.BigEndian.AppendUint64(handleOf(n), 0)
	mac := hmac.New(sha256.New, c.key)
	mac.Write([]byte("tokensession refresh v1"))
	mac.Write(body)
	return "tsr_" + base64.RawURLEncoding.EncodeToString(append(body, mac.Sum(nil)[:24]...))
}

func idOf(n uint64) string {
	sum := sha256.Sum256(append([]byte("tokensession session id v1"), handleOf(n)...))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// newCrowd begins the session of which all others are copies. Nothing is remembered, as if each
// refresh came to another instance than the one before.
func newCrowd(b *testing.B, store tokensession.RefreshStore) (c *crowd, template string) {
	signer, err := tokensession.NewAccessSigner(must(tokensession.GenerateKey()),
		tokensession.AccessConfig{Issuer: "https://auth.example", Audience: []string{"https://api.example"}})
	check(b, err)
	m, err := tokensession.New(signer, store, tokensession.Config{Remember: -1})
	check(b, err)
	tokens, err := m.Start(ctx, "template", tokensession.WithAttributes(map[string]string{
		"device": "Firefox on Linux", "ip": "198.51.100.7",
	}))
	check(b, err)
	rec, err := store.Load(ctx, tokens.Session.ID)
	check(b, err)
	return &crowd{m: m, key: rec.Key, tokens: map[uint64]string{}}, rec.ID
}

func postgresCrowd(b *testing.B) *crowd {
	db, _ := openPostgres(b, servers.StartPostgres(b, servers.PostgresOptions{Durable: true,
		Settings: map[string]string{"max_wal_size": "8GB", "shared_buffers": "2GB"}}).DSN)
	c, template := newCrowd(b, migrated(b, db))
	columns := columnsOf(b, db)
	copied := make([]string, len(columns))
	for i, column := range columns {
		switch column {
		case "id":
			copied[i] = `rtrim(translate(encode(substring(sha256('tokensession session id v1'::bytea ||
				decode(lpad(to_hex(n), 32, '0'), 'hex')) for 16), 'base64'), '+/', '-_'), '=')`
		case "subject":
			copied[i] = "'user-' || n"
		default:
			copied[i] = column
		}
	}
	c.grow = func(from, to uint64) {
		_, err := db.ExecContext(ctx, fmt.Sprintf( //nolint:gosec // of the names of columns
			`INSERT INTO token_sessions (%s) SELECT %s FROM token_sessions, generate_series($1::bigint, $2::bigint) n
			WHERE id = $3`, strings.Join(columns, ", "), strings.Join(copied, ", ")), from, to-1, template)
		check(b, err)
		for _, statement := range []string{"VACUUM ANALYZE token_sessions", "CHECKPOINT"} {
			_, err = db.ExecContext(ctx, statement)
			check(b, err)
		}
	}
	return c
}

func columnsOf(b *testing.B, db *sql.DB) []string {
	rows, err := db.QueryContext(ctx, "SELECT * FROM token_sessions WHERE false")
	check(b, err)
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	check(b, err)
	check(b, rows.Err())
	return columns
}

// growRedis copies the hash at KEYS[1] for each of the ids, and lists it for a subject of its own.
var growRedis = redis.NewScript(`
for i = 3, #ARGV do
	local session, subject = ARGV[1] .. ':session:' .. ARGV[i], 'user-' .. ARGV[i]
	redis.call('COPY', KEYS[1], session)
	redis.call('HSET', session, 'subject', subject)
	redis.call('ZADD', ARGV[1] .. ':subject:' .. subject, ARGV[2], ARGV[i])
	redis.call('PEXPIREAT', ARGV[1] .. ':subject:' .. subject, ARGV[2])
end`)

func redisCrowd(b *testing.B) *crowd {
	client := servers.StartRedis(b, servers.RedisOptions{AppendFsync: "everysec"}).
		Client(&redis.Options{PoolSize: pool})
	store, err := redisstore.New(client, redisstore.Config{})
	check(b, err)
	c, template := newCrowd(b, store)
	until := time.Now().Add(8 * 24 * time.Hour).UnixMilli()
	c.grow = func(from, to uint64) {
		const batch = 1000
		for ; from < to; from += batch {
			args := []any{"tokensession", until}
			for n := from; n < min(to, from+batch); n++ {
				args = append(args, idOf(n))
			}
			err := growRedis.Run(ctx, client, []string{"tokensession:session:" + template}, args...).Err()
			if err != nil && err != redis.Nil {
				check(b, err)
			}
		}
	}
	return c
}

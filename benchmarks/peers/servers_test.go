//go:build unix

package peers

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/appleboy/gin-jwt/v3/store"
	"github.com/gin-gonic/gin"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// serverPool is how many connections to the store each server may have.
const serverPool = 20

// A server answers refreshes over loopback HTTP.
type server struct {
	name string
	// login begins a session, and returns what one client does over and over.
	login func(client *http.Client, user string) func()
}

// BenchmarkServers_refresh refreshes over loopback HTTP at servers that keep their sessions on the
// same PostgreSQL, with fsync, or on the same Redis, with appendfsync everysec. They take turns of a
// quarter of a second. The ratio is that of the turns' throughputs, and its interval is the 95 % one
// of the median.
func BenchmarkServers_refresh(b *testing.B) {
	for _, c := range []struct {
		name string
		make func(testing.TB) []server
	}{
		{"postgres", postgresServers}, {"redis", redisServers},
	} {
		b.Run("store="+c.name, func(b *testing.B) {
			all := c.make(b)
			for _, clients := range []int{1, 16} {
				b.Run(fmt.Sprintf("clients=%d", clients), func(b *testing.B) { serve(b, all, clients) })
			}
		})
	}
}

// TestServers_refresh shows that each of them rotates: what was used is refused, or answered alike
// in the grace period.
func TestServers_refresh(t *testing.T) {
	for _, all := range [][]server{postgresServers(t), redisServers(t)} {
		for _, s := range all {
			refresh := s.login(&http.Client{}, "user")
			for range 3 {
				refresh()
			}
		}
	}
}

func serve(b *testing.B, all []server, clients int) {
	const turn, turns = 250 * time.Millisecond, 24
	rates, latencies := make([][]float64, len(all)), make([][]time.Duration, len(all))
	work := make([][]func(), len(all))
	for i, s := range all {
		client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
		for n := range clients {
			work[i] = append(work[i], s.login(client, fmt.Sprintf("user-%d", n)))
		}
		inTurn(work[i], turn) // connects and warms up
	}
	for b.Loop() {
		for range turns {
			for i := range all {
				each := inTurn(work[i], turn)
				rates[i] = append(rates[i], float64(len(each))/turn.Seconds())
				latencies[i] = append(latencies[i], each...)
			}
		}
	}
	b.ReportMetric(0, "ns/op") // of all together: no use
	for i, s := range all {
		slices.Sort(latencies[i])
		b.ReportMetric(float64(latencies[i][len(latencies[i])/2].Microseconds()), s.name+"-p50-µs")
		b.ReportMetric(median(rates[i]), s.name+"-ops/s")
		if i == 0 {
			continue
		}
		ratios := make([]float64, len(rates[i]))
		for n := range ratios {
			ratios[n] = rates[0][n] / rates[i][n]
		}
		b.ReportMetric(median(ratios), s.name+"-×")
		low, high := interval(ratios)
		b.ReportMetric(low, s.name+"-×-low")
		b.ReportMetric(high, s.name+"-×-high")
	}
}

// inTurn has each client do its work for a time, and returns how long each piece took.
func inTurn(work []func(), d time.Duration) (all []time.Duration) {
	var mu sync.Mutex
	var clients sync.WaitGroup
	begin := time.Now()
	for _, do := range work {
		clients.Go(func() {
			var each []time.Duration
			for t := time.Now(); t.Sub(begin) < d; {
				do()
				next := time.Now()
				each = append(each, next.Sub(t))
				t = next
			}
			mu.Lock()
			defer mu.Unlock()
			all = append(all, each...)
		})
	}
	clients.Wait()
	return all
}

func median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	return sorted[len(sorted)/2]
}

// interval returns the values between which the median lies with a probability of 95 %, by the order
// of the values alone: half of n, less or more by the square root of n.
func interval(values []float64) (low, high float64) {
	sorted := slices.Sorted(slices.Values(values))
	n, root := len(sorted), 0
	for root*root < len(sorted) {
		root++
	}
	return sorted[max(0, (n-root)/2)], sorted[min(n-1, (n+root)/2)]
}

func postgresServers(tb testing.TB) []server {
	tb.Helper()
	pg := servers.StartPostgres(tb, servers.PostgresOptions{Durable: true})
	open := func() *sql.DB {
		db := stdlib.OpenDB(*must(pgx.ParseConfig(pg.DSN)))
		tb.Cleanup(func() { _ = db.Close() })
		db.SetMaxOpenConns(serverPool)
		db.SetMaxIdleConns(serverPool)
		return db
	}
	sessions := must(sqlstore.New(open(), sqlstore.PostgreSQL, sqlstore.Config{}))
	if err := sessions.Migrate(ctx); err != nil {
		tb.Fatal(err)
	}
	a := algorithm("EdDSA")
	return []server{
		ourServer(tb, "tokensession", a, sessions, tokensession.Config{}),
		ourServer(tb, "elsewhere", a, sessions, tokensession.Config{Remember: -1}),
		fositeServer(tb, a, open()),
	}
}

func redisServers(tb testing.TB) []server {
	tb.Helper()
	s := servers.StartRedis(tb, servers.RedisOptions{AppendFsync: "everysec"})
	open := func() *redis.Client {
		client := redis.NewClient(&redis.Options{Addr: s.Addr, PoolSize: serverPool})
		tb.Cleanup(func() { _ = client.Close() })
		return client
	}
	sessions := must(redisstore.New(open(), redisstore.Config{}))
	a := algorithm("HS256") // gin-jwt's default
	return []server{
		ourServer(tb, "tokensession", a, sessions, tokensession.Config{}),
		ourServer(tb, "elsewhere", a, sessions, tokensession.Config{Remember: -1}),
		ginServer(tb, a, s.Addr),
		scsServer(tb, open()),
	}
}

// listen serves until the benchmark ends.
func listen(tb testing.TB, h http.Handler) string {
	s := httptest.NewServer(h)
	tb.Cleanup(s.Close)
	return s.URL
}

// tokenClient posts a refresh token, and goes on with the one that it is answered with.
func tokenClient(client *http.Client, endpoint, token string, more url.Values) func() {
	return func() {
		form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
		for name, values := range more {
			form[name] = values
		}
		answer := must(client.PostForm(endpoint, form))
		body := must(io.ReadAll(answer.Body))
		_ = answer.Body.Close()
		var tokens struct {
			RefreshToken string `json:"refresh_token"`
		}
		err := json.Unmarshal(body, &tokens)
		if err != nil || answer.StatusCode != http.StatusOK || tokens.RefreshToken == token {
			panic(fmt.Sprintf("%s: %s", answer.Status, body))
		}
		token = tokens.RefreshToken
	}
}

// ourServer refreshes at the instance that made the refresh before. Without Config.Remember it is as
// if that had been another instance.
func ourServer(
	tb testing.TB, name string, a Algorithm, sessions tokensession.RefreshStore,
	cfg tokensession.Config,
) server {
	m := must(tokensession.New(signerOf(a, tokensession.AccessConfig{}), sessions, cfg))
	h := must(sessionhttp.New(m, sessionhttp.Config{}))
	endpoint := listen(tb, h) + "/auth/token"
	return server{name, func(client *http.Client, user string) func() {
		return tokenClient(client, endpoint, must(m.Start(ctx, user)).RefreshToken, nil)
	}}
}

// ginServer is gin-jwt's own refresh handler on its own Redis store.
func ginServer(tb testing.TB, a Algorithm, addr string) server {
	gin.SetMode(gin.ReleaseMode)
	cfg := store.DefaultRedisConfig()
	cfg.Addr, cfg.PoolSize = addr, serverPool
	tokens := must(store.NewRedisRefreshTokenStore(cfg))
	tb.Cleanup(func() { _ = tokens.Close() })
	p := newGinJWT(a, nil).(*ginPeer)
	p.middleware.RefreshTokenStore = tokens
	router := gin.New()
	router.POST("/token", p.middleware.RefreshHandler)
	endpoint := listen(tb, router) + "/token"
	return server{"gin-jwt", func(client *http.Client, user string) func() {
		pair := must(p.middleware.TokenGenerator(ctx, user))
		return tokenClient(client, endpoint, pair.RefreshToken, nil)
	}}
}

// scsServer gives a session of scs another token, as at a login: it has no refreshes.
func scsServer(tb testing.TB, client *redis.Client) server {
	sessions := scs.New()
	sessions.Store = goredisstore.New(client)
	endpoint := listen(tb, sessions.LoadAndSave(http.HandlerFunc(
		func(_ http.ResponseWriter, r *http.Request) {
			sessions.Put(r.Context(), "user", r.URL.Query().Get("user"))
			if err := sessions.RenewToken(r.Context()); err != nil {
				panic(err)
			}
		})))
	return server{"scs", func(client *http.Client, user string) func() {
		var cookie *http.Cookie
		return func() {
			r := must(http.NewRequest(http.MethodPost, endpoint+"?user="+user, nil))
			if cookie != nil {
				r.AddCookie(cookie)
			}
			answer := must(client.Do(r))
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
			next := answer.Cookies()
			if len(next) != 1 || cookie != nil && next[0].Value == cookie.Value {
				panic("no new session token")
			}
			cookie = next[0]
		}
	}}
}

// fositeServer is fosite's refresh grant behind its own HTTP half.
func fositeServer(tb testing.TB, a Algorithm, db *sql.DB) server {
	p := newSQLFosite(a, must(newFositeSQL(db)))
	endpoint := listen(tb, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		request, err := p.provider.NewAccessRequest(r.Context(), r, fositeSession(""))
		if err != nil {
			p.provider.WriteAccessError(r.Context(), w, request, err)
			return
		}
		answer, err := p.provider.NewAccessResponse(r.Context(), request)
		if err != nil {
			p.provider.WriteAccessError(r.Context(), w, request, err)
			return
		}
		p.provider.WriteAccessResponse(r.Context(), w, request, answer)
	}))
	return server{"fosite", func(client *http.Client, user string) func() {
		token := must(p.login(context.Background(), user))
		return tokenClient(client, endpoint, token, url.Values{"client_id": {"app"}})
	}}
}

// TestInterval is of 24 turns: the values from the 10th to the 15th, and one more to be sure.
func TestInterval(t *testing.T) {
	var values []float64
	for i := range 24 {
		values = append(values, float64(i+1))
	}
	low, high := interval(values)
	if low > 10 || high < 15 || low < 7 || high > 18 {
		t.Errorf("from %v to %v", low, high)
	}
}

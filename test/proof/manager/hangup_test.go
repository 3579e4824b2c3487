package manager_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	mathrand "math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// TestHangUps: clients that send forged tokens hang up while the store is asked, thousands of
// times. A driver closes a connection whose call is interrupted. Nobody who hangs up may cause
// that: the pool keeps the connections that it has, and honest refreshes go on.
func TestHangUps(t *testing.T) {
	const pool, attackers, each = 8, 16, 60
	eachBackend(t, func(t *testing.T, p place) {
		var dialled atomic.Int64
		store := p.open(t, access{pool: pool, dial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			dialled.Add(1)
			var d net.Dialer
			conn, err := d.DialContext(ctx, network, addr)
			return slowConn{conn}, err
		}})
		m := newManager(t, store, tokensession.Config{})
		h, err := sessionhttp.New(m, sessionhttp.Config{})
		if err != nil {
			t.Fatal(err)
		}
		mux := http.NewServeMux()
		h.Mount(mux)
		var hungUp atomic.Int64
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mux.ServeHTTP(w, r)
			if r.Context().Err() != nil {
				hungUp.Add(1)
			}
		}))
		defer server.Close()

		tokens := start(t, m, "alice")
		stop, refreshes := make(chan struct{}), 0
		var honest, attack sync.WaitGroup
		honest.Go(func() {
			for {
				next, err := m.Refresh(context.Background(), tokens.RefreshToken)
				if err != nil {
					t.Errorf("an honest refresh: %v", err)
					return
				}
				tokens = next
				refreshes++
				select {
				case <-stop:
					return
				default:
				}
			}
		})
		for range attackers {
			attack.Go(func() {
				client := &http.Client{Transport: &http.Transport{}}
				for i := range each {
					sendAndHangUp(client, server.URL, i)
				}
			})
		}
		attack.Wait()
		close(stop)
		honest.Wait()
		if n := hungUp.Load(); n < attackers*each/4 {
			t.Errorf("only %d of %d requests were hung up on while they were served", n, attackers*each)
		}
		if n := dialled.Load(); n > 2*pool {
			t.Errorf("%d connections were made, for a pool of %d", n, pool)
		}
		t.Logf("%d hang-ups, %d connections, %d honest refreshes", hungUp.Load(), dialled.Load(), refreshes)
	}, sqlite, redisCluster)
}

// sendAndHangUp sends a forged token, and hangs up within some milliseconds.
func sendAndHangUp(client *http.Client, server string, i int) {
	body := make([]byte, 48)
	_, _ = rand.Read(body)
	token := "tsr_" + base64.RawURLEncoding.EncodeToString(body)
	path, form := "/auth/token", url.Values{"grant_type": {"refresh_token"}, "refresh_token": {token}}
	if i%2 == 0 {
		path, form = "/auth/revoke", url.Values{"token": {token}}
	}
	ctx, hangUp := context.WithTimeout(context.Background(), time.Duration(2+mathrand.IntN(6))*time.Millisecond)
	defer hangUp()
	r, _ := http.NewRequestWithContext(ctx, http.MethodPost, server+path, strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if answer, err := client.Do(r); err == nil {
		_ = answer.Body.Close()
	}
}

// A slowConn is a connection on which replies take some milliseconds, as from another machine that
// has much to do.
type slowConn struct{ net.Conn }

func (c slowConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	time.Sleep(4 * time.Millisecond)
	return n, err
}

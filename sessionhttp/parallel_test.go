package sessionhttp_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// calls is how many requests a page makes at once while it is rendered on a server.
const calls = 18

// A renderer is a server that makes a page for a browser: it calls the site with the browser's
// cookies over loopback HTTP, and refreshes where it is told that the access token has expired. Its
// calls know nothing of each other.
type renderer struct {
	*site
	url     string
	cookies map[string]*http.Cookie
	arrived atomic.Int32  // requests to refresh
	all     chan struct{} // closed when all have arrived: then they are let through at once
}

func newRenderer(t *testing.T) *renderer {
	t.Helper()
	p := &renderer{site: newSite(t, sessionhttp.Config{Cookies: true}), all: make(chan struct{})}
	p.protect()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/auth/token" {
			if p.arrived.Add(1) == calls {
				close(p.all)
			}
			<-p.all
		}
		p.mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	p.url = server.URL
	p.cookies = p.login()
	p.clock.Advance(16 * time.Minute)
	return p
}

// A called is what came of one call.
type called struct {
	first, refresh, second *http.Response // without their bodies; second is nil where the refresh came to nothing
	set                    map[string]*http.Cookie
	err                    error
}

// render makes the calls of a page.
func (p *renderer) render() []called {
	p.t.Helper()
	results := make([]called, calls)
	var wait sync.WaitGroup
	for i := range results {
		wait.Go(func() { results[i] = p.callAndRefresh() })
	}
	wait.Wait()
	for i := range results {
		require.NoError(p.t, results[i].err)
		require.Equal(p.t, http.StatusUnauthorized, results[i].first.StatusCode, "the access token has expired")
		require.Empty(p.t, results[i].first.Header["Set-Cookie"])
		results[i].set = cookiesOf(p.t, results[i].refresh)
		for _, c := range results[i].set {
			require.Positive(p.t, c.MaxAge, "a cookie is deleted")
			require.NotEmpty(p.t, c.Value, "a cookie is deleted")
		}
	}
	return results
}

func (p *renderer) callAndRefresh() (c called) {
	if c.first, c.err = p.send(http.MethodGet, "/api", p.cookies[accessCookie]); c.err != nil {
		return c
	}
	if c.refresh, c.err = p.send(http.MethodPost, "/auth/token", p.cookies[accessCookie], p.cookies[refreshCookie]); c.err != nil || c.refresh.StatusCode != http.StatusOK {
		return c
	}
	for _, set := range c.refresh.Cookies() {
		if set.Name == accessCookie {
			c.second, c.err = p.send(http.MethodGet, "/api", set)
		}
	}
	return c
}

func (p *renderer) send(method, path string, cookies ...*http.Cookie) (*http.Response, error) {
	r, err := http.NewRequest(method, p.url+path, nil)
	if err != nil {
		return nil, err
	}
	for _, c := range cookies {
		r.AddCookie(&http.Cookie{Name: c.Name, Value: c.Value})
	}
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	_, err = io.Copy(io.Discard, answer.Body)
	return answer, err
}

// requireOneSuccessor requires that those calls that were answered have the same refresh token, and
// returns it.
func (p *renderer) requireOneSuccessor(results []called) string {
	p.t.Helper()
	successor := ""
	for _, c := range results {
		if c.refresh.StatusCode != http.StatusOK {
			continue
		}
		require.Len(p.t, c.set, 2)
		require.NotNil(p.t, c.second)
		require.Equal(p.t, http.StatusOK, c.second.StatusCode, "the new access token is not let in")
		if successor == "" {
			successor = c.set[refreshCookie].Value
		}
		require.Equal(p.t, successor, c.set[refreshCookie].Value, "two successors")
	}
	require.NotEmpty(p.t, successor, "nobody was answered")
	require.NotEqual(p.t, p.cookies[refreshCookie].Value, successor)
	return successor
}

func TestParallel_callsWithOneExpiredCookieAreAllAnswered(t *testing.T) {
	p := newRenderer(t)
	p.events.TakeKinds()
	results := p.render()
	for _, c := range results {
		require.Equal(t, http.StatusOK, c.refresh.StatusCode)
	}
	successor := p.requireOneSuccessor(results)
	kinds := map[tokensession.EventKind]int{}
	for _, kind := range p.events.TakeKinds() {
		kinds[kind]++
	}
	require.Equal(t, map[tokensession.EventKind]int{tokensession.EventRefreshed: 1, tokensession.EventReplayed: calls - 1}, kinds)
	p.requireLive(successor)
}

func TestParallel_callsWhileTheStoreIsDownKeepTheCookie(t *testing.T) {
	p := newRenderer(t)
	p.store.Down()
	for _, c := range p.render() {
		require.Equal(t, http.StatusServiceUnavailable, c.refresh.StatusCode)
		require.NotEmpty(t, c.refresh.Header.Get("Retry-After"))
		require.Equal(t, "no-store", c.refresh.Header.Get("Cache-Control"))
		require.Empty(t, c.refresh.Header["Set-Cookie"])
	}
	p.store.Clear()
	p.clock.Advance(time.Hour)
	p.requireLive(p.cookies[refreshCookie].Value)
}

// Calls of a store that fails now and then, having done what it was asked or not.
func TestParallel_callsWhileTheStoreFailsNowAndThenGetOneSuccessor(t *testing.T) {
	answered, failed := 0, 0
	for range 10 {
		p := newRenderer(t)
		lost := testkit.LoseRequest
		p.store.Always(testkit.Load, testkit.InTurn(lost, lost, testkit.Pass))
		p.store.Always(testkit.Swap, testkit.InTurn(replyLost, testkit.Pass, lost, testkit.Pass))
		results := p.render()
		for _, c := range results {
			switch c.refresh.StatusCode {
			case http.StatusOK:
				answered++
			case http.StatusServiceUnavailable:
				failed++
				require.NotEmpty(t, c.refresh.Header.Get("Retry-After"))
				require.Empty(t, c.refresh.Header["Set-Cookie"])
			default:
				require.Fail(t, c.refresh.Status)
			}
		}
		successor := p.requireOneSuccessor(results)
		require.NotContains(t, p.events.TakeKinds(), tokensession.EventReused)
		p.store.Clear()
		p.requireLive(successor)
	}
	require.Positive(t, answered)
	require.Positive(t, failed, "the store never failed")
}

// replyLost is the step that a write reaches the store, and its reply gets lost.
func replyLost(r *testkit.Request) {
	testkit.Pass(r)
	testkit.LoseReply(r)
}

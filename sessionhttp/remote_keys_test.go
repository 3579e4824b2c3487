package sessionhttp_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A directTransport calls an issuer's handler without a network, so that a bubble can have it.
type directTransport struct {
	issuer http.Handler
	keys   atomic.Int64 // how often they were fetched

	cacheControl, age string // of the answers with keys
	down              atomic.Bool
}

func (d *directTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	isKeys := strings.HasSuffix(r.URL.Path, "/jwks.json")
	if isKeys {
		d.keys.Add(1)
	}
	if isKeys && d.down.Load() {
		w.WriteHeader(http.StatusBadGateway)
	} else {
		d.issuer.ServeHTTP(w, r)
	}
	answer := w.Result()
	if isKeys {
		answer.Header.Set("Cache-Control", d.cacheControl)
		answer.Header.Set("Age", d.age)
	}
	return answer, nil
}

// inTheirBubble runs a test with a Remote whose time is the bubble's, and tokens of its issuer and
// of a stranger.
func inTheirBubble(t *testing.T, d *directTransport, test func(r *sessionhttp.Remote, own, foreign string)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, newSigner(t), tokensession.NewMemoryStore(), tokensession.Config{})
		runsFor(t, m.Run)
		synctest.Wait()
		var err error
		d.issuer, err = sessionhttp.New(m, sessionhttp.Config{
			MayFollow: func(*http.Request) bool { return true },
		})
		require.NoError(t, err)
		cfg := remoteConfig()
		cfg.Client = &http.Client{Transport: d}
		remote := newRemote(t, "https://auth.example/auth", cfg)
		time.Sleep(time.Second)
		own, err := m.Start(ctx, "alice")
		require.NoError(t, err)
		stranger := newManager(t, newSigner(t), tokensession.NewMemoryStore(), tokensession.Config{})
		foreign, err := stranger.Start(ctx, "mallory")
		require.NoError(t, err)
		test(remote, own.AccessToken, foreign.AccessToken)
	})
}

// Keys are fetched again when half of their time is over, or all of it, as chance has it.
func TestRemote_fetchesTheKeysByCacheControl(t *testing.T) {
	for name, c := range map[string]struct {
		cacheControl, age string
		each              time.Duration
	}{
		"ten minutes":      {"public, max-age=600", "", 10 * time.Minute},
		"quoted":           {`max-age="600"`, "", 10 * time.Minute},
		"upper case":       {"Max-Age=600", "", 10 * time.Minute},
		"in a cache":       {"max-age=1000", "400", 10 * time.Minute},
		"nothing is said":  {"", "", 5 * time.Minute},
		"nonsense":         {"max-age=soon", "often", 5 * time.Minute},
		"a year":           {"max-age=31536000", "", time.Hour},
		"a negative time":  {"max-age=-1", "", 10 * time.Second},
		"old":              {"max-age=60", "3600", 10 * time.Second},
		"not to be stored": {"no-store, max-age=600", "", 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			d := &directTransport{cacheControl: c.cacheControl, age: c.age}
			inTheirBubble(t, d, func(*sessionhttp.Remote, string, string) {
				before := d.keys.Load()
				time.Sleep(20 * c.each)
				got := d.keys.Load() - before
				require.GreaterOrEqual(t, got, int64(19))
				require.LessOrEqual(t, got, int64(41))
			})
		})
	}
}

// Anybody can send tokens of unknown keys, as many as they like: there is a fetch each five seconds
// at most, whether the issuer answers or not. Good tokens are good all the time.
func TestRemote_isNotMadeToFetchKeysMoreOften(t *testing.T) {
	for _, down := range []bool{false, true} {
		d := &directTransport{cacheControl: "max-age=3600"}
		inTheirBubble(t, d, func(remote *sessionhttp.Remote, own, foreign string) {
			_, err := remote.Verify(own)
			require.NoError(t, err)
			d.down.Store(down)
			before := d.keys.Load()
			const seconds = 100
			for range 10 * seconds {
				var all sync.WaitGroup
				for range 3 {
					all.Go(func() {
						// While the issuer is down, a fetch that has failed is no verdict.
						_, err := remote.Verify(foreign)
						if !errors.Is(err, tokensession.ErrUnavailable) || !down {
							require.ErrorIs(t, err, tokensession.ErrUnknownKey)
						}
					})
				}
				all.Wait()
				_, err = remote.Verify(own)
				require.NoError(t, err)
				time.Sleep(time.Second / 10)
			}
			fetched := d.keys.Load() - before
			require.GreaterOrEqual(t, fetched, int64(seconds/5-2), "a new key is found")
			require.LessOrEqual(t, fetched, int64(seconds/5+1))
		})
	}
}

package sessionhttp

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	fetchTimeout = 5 * time.Second
	fetchPause   = 5 * time.Second // between two fetches for unknown keys
	maxJWKS      = 1 << 20

	// The bounds of what Cache-Control asks for, and what holds without it.
	minKeysFresh     = 10 * time.Second
	maxKeysFresh     = time.Hour
	defaultKeysFresh = 5 * time.Minute

	minKeysRetry = time.Second
	maxKeysRetry = 30 * time.Second
)

// remoteKeys are what is known of the issuer's JWKS. The verifier has the keys themselves: those of
// the last good set, however long ago that was.
type remoteKeys struct {
	mu       sync.Mutex
	fetching chan struct{} // is closed when the fetch under way is done; nil: there is none
	began    time.Time     // when the last fetch began
	got      time.Time     // when the last fetch that worked began; zero: none has
	fresh    time.Duration // how long its set may be kept
	err      error         // of the last fetch
}

// keepKeys fetches the keys again and again.
func (r *Remote) keepKeys(ctx context.Context) {
	retry := minKeysRetry
	for ctx.Err() == nil {
		pause := retry
		if err := r.fetchKeys(ctx, 0); err != nil {
			retry = min(2*retry, maxKeysRetry)
		} else {
			r.keys.mu.Lock()
			pause, retry = r.keys.fresh, minKeysRetry
			r.keys.mu.Unlock()
		}
		select {
		case <-time.After(jittered(pause)):
		case <-ctx.Done():
		}
	}
}

// fetchUnknownKey fetches the keys for a token of a key that is not known: the issuer may have a
// new one. But anybody can write such tokens, as many as they like, so it makes one request in a
// pause. It goes on though the token's own request is given up, because others wait for the same
// fetch.
func (r *Remote) fetchUnknownKey() error { return r.fetchKeys(context.Background(), fetchPause) }

// fetchKeys fetches the keys, or waits for the fetch that is under way, and returns its error. If
// the last one began less than a pause ago, it returns the error of that.
func (r *Remote) fetchKeys(ctx context.Context, pause time.Duration) error {
	k := &r.keys
	k.mu.Lock()
	if k.fetching != nil {
		done := k.fetching
		k.mu.Unlock()
		<-done
		return r.lastFetch()
	}
	now := r.Now()
	if since := now.Sub(k.began); since >= 0 && since < pause {
		defer k.mu.Unlock()
		return k.err
	}
	k.began, k.fetching = now, make(chan struct{})
	k.mu.Unlock()

	fresh, err := r.fetchJWKS(ctx)

	k.mu.Lock()
	failed, got := k.err, k.got
	k.err = err
	if err == nil {
		k.got, k.fresh = now, fresh
	}
	close(k.fetching)
	k.fetching = nil
	k.mu.Unlock()
	switch {
	case err != nil && failed == nil && ctx.Err() == nil: // the first failure; Run has not ended
		r.emit(ctx, EventKeysStale, got, err)
	case err == nil && (failed != nil || got.IsZero()):
		r.emit(ctx, EventKeysFresh, got, nil)
	}
	return err
}

func (r *Remote) lastFetch() error {
	r.keys.mu.Lock()
	defer r.keys.mu.Unlock()
	return r.keys.err
}

// keysState returns why there are no keys, or none that are fresh.
func (r *Remote) keysState() error {
	r.keys.mu.Lock()
	defer r.keys.mu.Unlock()
	switch {
	case r.keys.err != nil && (r.keys.got.IsZero() || r.Now().Sub(r.keys.got) > 2*r.keys.fresh):
		return r.keys.err
	case r.keys.got.IsZero():
		return fmt.Errorf("Run has not fetched them yet")
	}
	return nil
}

// fetchJWKS gives the verifier the issuer's keys, and returns for how long they are fresh.
func (r *Remote) fetchJWKS(ctx context.Context) (fresh time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+"/jwks.json", nil)
	if err != nil {
		return 0, err
	}
	response, err := r.client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("GET %s/jwks.json: status %d", r.url, response.StatusCode)
	}
	jwks, err := io.ReadAll(io.LimitReader(response.Body, maxJWKS+1))
	if err != nil {
		return 0, err
	}
	if len(jwks) > maxJWKS {
		return 0, fmt.Errorf("GET %s/jwks.json: more than %d bytes", r.url, maxJWKS)
	}
	if err := r.local.SetKeys(jwks); err != nil {
		return 0, err
	}
	return freshness(response.Header), nil
}

// freshness is how long an answer may be used (RFC 9111 section 5.2.2), within bounds.
func freshness(header http.Header) time.Duration {
	fresh := defaultKeysFresh
	for directive := range strings.SplitSeq(strings.Join(header["Cache-Control"], ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		switch strings.ToLower(name) {
		case "no-store", "no-cache":
			return minKeysFresh
		case "max-age":
			if seconds, err := strconv.Atoi(strings.Trim(value, `"`)); err == nil {
				seconds = min(max(seconds, 0), int(maxKeysFresh/time.Second))
				fresh = time.Duration(seconds) * time.Second
			}
		}
	}
	if age, err := strconv.Atoi(header.Get("Age")); err == nil && age > 0 {
		fresh -= time.Duration(min(age, int(maxKeysFresh/time.Second))) * time.Second
	}
	return min(max(fresh, minKeysFresh), maxKeysFresh)
}

//go:build browser

package browser

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A tlsSite is a server that is a site of its own, with TLS, and keeps what was asked of it.
type tlsSite struct {
	t    *testing.T
	url  string // without a slash at its end
	host string
	mux  *http.ServeMux

	mu   sync.Mutex
	seen []*siteRequest
}

type siteRequest struct {
	method, path string
	header       http.Header
	length       int64
	status       int // of the answer; 0 while there is none
}

var tlsSites atomic.Int64

// newTLSSite starts a server. Names below localhost are this machine, and the last two labels are
// the site.
func newTLSSite(t *testing.T) *tlsSite {
	t.Helper()
	s := &tlsSite{t: t, mux: http.NewServeMux()}
	server := httptest.NewUnstartedServer(http.HandlerFunc(s.serve))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{certificate.Certificate}}
	server.StartTLS()
	t.Cleanup(func() { server.CloseClientConnections(); server.Close() })
	_, port, err := net.SplitHostPort(server.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s.host = fmt.Sprintf("site%d.localhost", tlsSites.Add(1))
	s.url = "https://" + s.host + ":" + port
	return s
}

func (s *tlsSite) serve(w http.ResponseWriter, r *http.Request) {
	seen := &siteRequest{
		method: r.Method, path: r.URL.Path, header: r.Header.Clone(), length: r.ContentLength,
	}
	s.mu.Lock()
	s.seen = append(s.seen, seen)
	s.mu.Unlock()
	status := &statusWriter{w, http.StatusOK}
	s.mux.ServeHTTP(status, r)
	s.mu.Lock()
	defer s.mu.Unlock()
	seen.status = status.code
}

// A statusWriter keeps the status of an answer.
type statusWriter struct {
	http.ResponseWriter
	code int
}

func (w *statusWriter) WriteHeader(status int) {
	w.code = status
	w.ResponseWriter.WriteHeader(status)
}

// Unwrap is for http.ResponseController.
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// sub returns the address of the same server at a host below its own.
func (s *tlsSite) sub(name string) string {
	return strings.Replace(s.url, s.host, name+"."+s.host, 1)
}

// requests returns those to a path so far.
func (s *tlsSite) requests(path string) []siteRequest {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []siteRequest
	for _, r := range s.seen {
		if r.path == path {
			found = append(found, *r)
		}
	}
	return found
}

// last returns the last request to a path.
func (s *tlsSite) last(path string) siteRequest {
	s.t.Helper()
	found := s.requests(path)
	if len(found) == 0 {
		s.t.Fatalf("there was no request to %s", path)
	}
	return found[len(found)-1]
}

// order returns the place of the first request to a path among all, or -1.
func (s *tlsSite) order(path string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.IndexFunc(s.seen, func(r *siteRequest) bool { return r.path == path })
}

// comes waits until there is a request to a path.
func (s *tlsSite) comes(path string) {
	s.t.Helper()
	waitUntil(s.t, "a request to "+path, func() bool { return s.order(path) >= 0 })
}

// waitUntil waits until something is so.
func waitUntil(t *testing.T, what string, is func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(time.Minute); !is(); {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited a minute for %s", what)
		}
	}
}

// cookies returns the names of the request's cookies, in order.
func (r siteRequest) cookies() []string {
	var names []string
	for _, line := range r.header["Cookie"] {
		for pair := range strings.SplitSeq(line, "; ") {
			name, _, _ := strings.Cut(pair, "=")
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

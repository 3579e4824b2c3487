//go:build browser

package browser

import (
	"crypto/tls"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync"
	"testing"
)

// A proxy is between the browser and the server. It sees everything, and can be told to fail.
type proxy struct {
	*httptest.Server
	url     string // with localhost for a host
	forward http.Handler

	mu      sync.Mutex
	seen    []exchange
	fault   fault
	down    string           // a path that is answered 502
	streams http.HandlerFunc // answers what is below /stream/
}

// An exchange is a request and its answer.
type exchange struct {
	method, path, origin string
	status               int
	header               http.Header
	body                 string
}

// A fault gets a request in place of the server, and answers it or not. forward is what the server
// would answer.
type fault func(w http.ResponseWriter, r *http.Request, forward func() *httptest.ResponseRecorder)

func startProxy(t *testing.T, s *server) *proxy {
	t.Helper()
	upstream, err := url.Parse(s.url)
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{forward: &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(upstream)
			r.Out.Host = r.In.Host // which the server compares with the Origin
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
	}}
	p.Server = httptest.NewUnstartedServer(p)
	if upstream.Scheme == "https" {
		p.TLS = &tls.Config{Certificates: []tls.Certificate{certificate.Certificate}}
		p.StartTLS()
	} else {
		p.Start()
	}
	t.Cleanup(func() { p.CloseClientConnections(); p.Close() })
	p.url = strings.Replace(p.URL, "127.0.0.1", "localhost", 1)
	return p
}

func (p *proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	fault, down, stream := p.fault, p.down, p.streams
	p.mu.Unlock()
	if r.URL.Path == down {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	if strings.HasPrefix(r.URL.Path, "/stream/") {
		stream(w, r)
		return
	}
	forward := func() *httptest.ResponseRecorder {
		rec := httptest.NewRecorder()
		p.forward.ServeHTTP(rec, r)
		p.mu.Lock()
		defer p.mu.Unlock()
		p.seen = append(p.seen, exchange{r.Method, r.URL.Path, r.Header.Get("Origin"), rec.Code, rec.Header(), rec.Body.String()})
		return rec
	}
	if fault != nil && r.URL.Path == "/auth/token" {
		fault(w, r, forward)
		return
	}
	reply(w, forward())
}

func reply(w http.ResponseWriter, rec *httptest.ResponseRecorder) {
	maps.Copy(w.Header(), rec.Header())
	w.WriteHeader(rec.Code)
	_, _ = w.Write(rec.Body.Bytes())
}

// fail has a fault take the refreshes from now on; nil ends that.
func (p *proxy) fail(f fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
}

// takeDown has a path fail from now on; "" ends that.
func (p *proxy) takeDown(path string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = path
}

// stream has a handler answer what is below /stream/.
func (p *proxy) stream(h http.HandlerFunc) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.streams = h
}

// exchanges returns what there has been at a path.
func (p *proxy) exchanges(path string) []exchange {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []exchange
	for _, e := range p.seen {
		if path == "" || e.path == path {
			found = append(found, e)
		}
	}
	return found
}

// refreshes counts the refreshes that the server has granted.
func (p *proxy) refreshes() int {
	n := 0
	for _, e := range p.exchanges("/auth/token") {
		if e.status == http.StatusOK {
			n++
		}
	}
	return n
}

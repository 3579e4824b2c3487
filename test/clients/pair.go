package main

import (
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync/atomic"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A pair is two instances of a host, each a server of its own, behind a proxy that sends every
// other request to the second one. They have the store and the secrets in common, and no memory.
// Bearer tokens are refused there.
type pair struct {
	requests atomic.Int64
	proxies  [2]http.Handler
	servers  [2]*httptest.Server
}

func newPair(base, prefix string) (*pair, error) {
	p := &pair{}
	key, err := newKey("EdDSA")
	if err != nil {
		return nil, err
	}
	sessions := &store{RefreshStore: tokensession.NewMemoryStore()}
	for i := range p.servers {
		h, err := newInstance(sessions, key, base, prefix, config(sessionhttp.DPoPRequired))
		if err != nil {
			return nil, err
		}
		p.servers[i] = httptest.NewServer(h)
		server, err := url.Parse(p.servers[i].URL)
		if err != nil {
			return nil, err
		}
		p.proxies[i] = &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(server)
			r.Out.Host = r.In.Host // a proof names the host that the client sees
		}}
	}
	return p, nil
}

func (p *pair) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	p.proxies[p.requests.Add(1)%2].ServeHTTP(w, r)
}

func (p *pair) close() {
	for _, s := range p.servers {
		s.Close()
	}
}

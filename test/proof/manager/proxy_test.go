package manager_test

import (
	"context"
	"net"
	"sync"
	"testing"
)

// A faultProxy stands between clients and servers, and loses or holds back replies as it is told
// to: the server has answered then, and so has done what it was asked. It listens on a port of its
// own for each server that is dialled through it.
type faultProxy struct {
	tb testing.TB

	mu        sync.Mutex
	listeners map[string]net.Listener // by the server's address
	moved     map[string]string       // server → server that took its place
	conns     map[net.Conn]struct{}
	refusing  bool
	fault     *fault
	lost      int // replies, in all
}

// A fault is what happens to some of the replies that follow.
type fault struct {
	skip    int           // replies that come through first
	lose    int           // replies that are lost then, each with its connection
	hold    chan struct{} // if not nil, each reply to be lost waits until this is closed, and then comes through
	seen    int           // requests since
	applied int           // replies lost or held
}

func newFaultProxy(tb testing.TB) *faultProxy {
	p := &faultProxy{tb: tb, listeners: map[string]net.Listener{}, moved: map[string]string{}, conns: map[net.Conn]struct{}{}}
	tb.Cleanup(p.close)
	return p
}

// dial connects to the server through the proxy. It is what clients take as their dialer.
func (p *faultProxy) dial(ctx context.Context, network, server string) (net.Conn, error) {
	addr, err := p.listen(server)
	if err != nil {
		return nil, err
	}
	var d net.Dialer
	return d.DialContext(ctx, "tcp", addr)
}

// listen returns the address at which the proxy stands for the server.
func (p *faultProxy) listen(server string) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := p.listeners[server]
	if l == nil {
		var err error
		if l, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return "", err
		}
		p.listeners[server] = l
		go p.accept(l, server)
	}
	return l.Addr().String(), nil
}

// lose makes the proxy let skip replies through and lose the n that follow. It returns a function
// that ends the fault and tells how many replies were lost.
func (p *faultProxy) lose(skip, n int) (stop func() int) { return p.set(&fault{skip: skip, lose: n}) }

// hold makes the proxy hold back the reply after the next skip ones, and all that follow, until it
// is stopped.
func (p *faultProxy) hold(skip int) (stop func() int) {
	return p.set(&fault{skip: skip, lose: 1 << 30, hold: make(chan struct{})})
}

func (p *faultProxy) set(f *fault) func() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.fault = f
	return func() int {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.fault == f {
			p.fault = nil
			if f.hold != nil {
				close(f.hold)
			}
		}
		return f.applied
	}
}

// losses returns how many replies were lost or held until now.
func (p *faultProxy) losses() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.lost
}

// refuse makes the proxy cut all connections and take no new ones, or take them again.
func (p *faultProxy) refuse(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.refusing = on
	if on {
		p.cut()
	}
}

// open returns how many connections there are.
func (p *faultProxy) open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns) / 2
}

// move cuts all connections and lets another server take this one's place.
func (p *faultProxy) move(server, to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.moved[server] = to
	p.cut()
}

func (p *faultProxy) cut() {
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *faultProxy) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, l := range p.listeners {
		_ = l.Close()
	}
	p.cut()
}

func (p *faultProxy) accept(l net.Listener, server string) {
	for {
		client, err := l.Accept()
		if err != nil {
			return
		}
		go p.serve(client, server)
	}
}

func (p *faultProxy) serve(client net.Conn, server string) {
	defer client.Close()
	p.mu.Lock()
	if to, ok := p.moved[server]; ok {
		server = to
	}
	refusing := p.refusing
	p.mu.Unlock()
	if refusing {
		return
	}
	upstream, err := net.Dial("tcp", server)
	if err != nil {
		return
	}
	defer upstream.Close()
	if !p.track(client, upstream) {
		return
	}
	defer p.forget(client, upstream)

	pair := &pair{proxy: p, client: client, upstream: upstream}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer upstream.Close()
		pair.requests()
	}()
	pair.replies()
	_, _ = client.Close(), upstream.Close()
	<-done
}

func (p *faultProxy) track(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.refusing {
		return false
	}
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return true
}

func (p *faultProxy) forget(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		delete(p.conns, c)
	}
}

// A pair is a client's connection and the one to the server.
type pair struct {
	proxy            *faultProxy
	client, upstream net.Conn
	pending          *fault // what happens to the reply to the last request; guarded by proxy.mu
}

func (p *pair) requests() {
	buf := make([]byte, 64<<10)
	for {
		n, err := p.client.Read(buf)
		if n > 0 {
			p.request()
			if _, err := p.upstream.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// request decides, when a request comes in, what happens to the reply.
func (p *pair) request() {
	p.proxy.mu.Lock()
	defer p.proxy.mu.Unlock()
	p.pending = nil
	f := p.proxy.fault
	if f == nil {
		return
	}
	f.seen++
	if f.seen > f.skip && f.applied < f.lose {
		f.applied++
		p.proxy.lost++
		p.pending = f
	}
}

func (p *pair) replies() {
	buf := make([]byte, 64<<10)
	for {
		n, err := p.upstream.Read(buf)
		if n > 0 {
			p.proxy.mu.Lock()
			f := p.pending
			p.proxy.mu.Unlock()
			if f != nil {
				if f.hold == nil {
					return
				}
				<-f.hold
			}
			if _, err := p.client.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

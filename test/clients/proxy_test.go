package main

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync"
	"testing"
)

// A lossyProxy stands between clients and a server. It lets each request through, and drops answers
// as it is told to: the server has done then what it was asked.
type lossyProxy struct {
	tb     testing.TB
	server string // its address

	mu       sync.Mutex
	losses   []loss
	lost     int
	requests []request
}

// A loss is how much of an answer arrives before the connection is cut.
type loss int

const (
	wholeAnswer loss = iota
	afterHeader
	inTheBody
)

var losses = []loss{wholeAnswer, afterHeader, inTheBody}

// A request is what a test wants to know of one that went through.
type request struct {
	basic, refreshToken string // the user of the Basic header, and the token in the body
}

// newLossyProxy returns a proxy and its address.
func newLossyProxy(tb testing.TB, server string) (*lossyProxy, string) {
	p := &lossyProxy{tb: tb, server: server}
	front := httptest.NewServer(p)
	tb.Cleanup(front.Close)
	return p, front.URL
}

// lose drops the next answers, one for each loss.
func (p *lossyProxy) lose(losses ...loss) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.losses = append(p.losses, losses...)
}

// took returns how many answers were lost and which requests went through since the last took.
func (p *lossyProxy) took() (lost int, requests []request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	lost, requests = p.lost, p.requests
	p.lost, p.requests = 0, nil
	return lost, requests
}

func (p *lossyProxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	answer, body, err := p.forward(r)
	if err != nil {
		p.tb.Errorf("the proxy cannot reach the server: %v", err)
		panic(http.ErrAbortHandler)
	}
	what, lose := p.next()
	if lose && what == wholeAnswer {
		panic(http.ErrAbortHandler)
	}
	for name, values := range answer.Header {
		w.Header()[name] = values
	}
	w.WriteHeader(answer.StatusCode)
	if lose && what == inTheBody {
		_, _ = w.Write(body[:len(body)/2])
	}
	if lose {
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(body)
}

// forward sends the request on, remembers it, and reads the answer to its end.
func (p *lossyProxy) forward(r *http.Request) (*http.Response, []byte, error) {
	user, _, _ := r.BasicAuth()
	sent, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, nil, err
	}
	p.remember(user, sent)
	on, err := http.NewRequestWithContext(r.Context(), r.Method, p.server+r.URL.RequestURI(), bytes.NewReader(sent))
	if err != nil {
		return nil, nil, err
	}
	on.Header = r.Header.Clone()
	answer, err := http.DefaultTransport.RoundTrip(on)
	if err != nil {
		return nil, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	return answer, body, err
}

// remember keeps what a test wants to know of a request.
func (p *lossyProxy) remember(basic string, body []byte) {
	form, err := url.ParseQuery(string(body))
	if err != nil {
		p.tb.Errorf("the client sends no form: %v", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = append(p.requests, request{basic, form.Get("refresh_token")})
}

func (p *lossyProxy) next() (loss, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.losses) == 0 {
		return 0, false
	}
	what := p.losses[0]
	p.losses = p.losses[1:]
	p.lost++
	return what, true
}

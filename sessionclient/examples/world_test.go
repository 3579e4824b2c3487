package examples

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/coder/websocket"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A world is a server at which alice is logged in. Her access token has run out.
type world struct {
	url       string
	sessions  *tokensession.Manager
	server    *httptest.Server
	tokens    sessionclient.TokenMemory
	refreshes int
}

func newWorld() *world {
	key := must(tokensession.GenerateKey())
	signer := must(tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	}))
	sessions := must(tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{}))
	handlers := must(sessionhttp.New(sessions, sessionhttp.Config{
		DPoP: sessionhttp.DPoPAccepted, ProofKeys: [][]byte{make([]byte, 32)},
	}))
	w := &world{sessions: sessions}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /auth/token", func(rw http.ResponseWriter, r *http.Request) {
		handlers.Token(countOK{rw, &w.refreshes}, r)
	})
	mux.Handle("GET /me", handlers.Require()(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		access, _ := sessionhttp.FromContext(r.Context())
		fmt.Fprintf(rw, "%s, with refresh %d", access.Subject, w.refreshes)
	})))
	mux.Handle("GET /hello", handlers.Require()(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		access, _ := sessionhttp.FromContext(r.Context())
		conn, err := websocket.Accept(rw, r, nil)
		if err != nil {
			return
		}
		defer conn.CloseNow()
		hello := fmt.Sprintf("hello %s, with refresh %d", access.Subject, w.refreshes)
		_ = conn.Write(r.Context(), websocket.MessageText, []byte(hello))
		_ = conn.Close(websocket.StatusNormalClosure, "")
	})))
	w.server = httptest.NewTLSServer(mux)
	w.url = w.server.URL
	tokens := must(sessions.Start(context.Background(), "alice"))
	if err := w.tokens.Save(context.Background(), tokens); err != nil {
		panic(err)
	}
	w.expire()
	return w
}

// countOK counts the answers that are good.
type countOK struct {
	http.ResponseWriter
	n *int
}

func (c countOK) WriteHeader(status int) {
	if status == http.StatusOK {
		*c.n++
	}
	c.ResponseWriter.WriteHeader(status)
}

// expire makes the client take its access token for run out.
func (w *world) expire() {
	tokens := must(w.tokens.Load(context.Background()))
	tokens.AccessExpiresAt = time.Now()
	if err := w.tokens.Save(context.Background(), tokens); err != nil {
		panic(err)
	}
}

func (w *world) transport() *sessionclient.Transport {
	return must(sessionclient.New(w.url+"/auth/token", &w.tokens, sessionclient.Config{Base: w.base()}))
}

func (w *world) base() http.RoundTripper { return w.server.Client().Transport }

func (w *world) serverTLS() *tls.Config {
	return &tls.Config{Certificates: w.server.TLS.Certificates, NextProtos: []string{"h2"}}
}

func (w *world) clientTLS() *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(w.server.Certificate())
	return &tls.Config{RootCAs: roots, ServerName: "example.com"}
}

func (w *world) close() { w.server.Close() }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

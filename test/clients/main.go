// Command clients serves the endpoints of package sessionhttp to the OAuth clients of other
// languages that are tested against it (make test-clients), until its standard input ends. It
// prints its address. Each algorithm is an issuer of its own: http://127.0.0.1:port/EdDSA, /ES256,
// /RS256. A fourth one, /two, is two instances behind a proxy, which takes them in turns.
package main

import (
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func main() {
	if err := run(); err != nil {
		log.Fatal("clients: ", err)
	}
}

func run() error {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	base := "http://" + listener.Addr().String()
	mux := http.NewServeMux()
	for _, algorithm := range []string{"EdDSA", "ES256", "RS256"} {
		key, err := newKey(algorithm)
		if err != nil {
			return err
		}
		h, err := newHost(key, base, "/"+algorithm, config(sessionhttp.DPoPAccepted))
		if err != nil {
			return err
		}
		mux.Handle("/"+algorithm+"/", h)
		mux.Handle("/.well-known/oauth-authorization-server/"+algorithm, h)
		h.control(mux, "/test/"+algorithm)
	}
	two, err := newPair(base, "/two")
	if err != nil {
		return err
	}
	defer two.close()
	mux.Handle("/two/", two)
	mux.Handle("/.well-known/oauth-authorization-server/two", two)
	mux.HandleFunc("GET /test/two/requests", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, two.requests.Load())
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // ends with the program that started this one
		_ = server.Close()
	}()
	fmt.Println(base)
	if err := server.Serve(listener); err != http.ErrServerClosed {
		return err
	}
	return nil
}

// config is that of all hosts. A client that proves no key is served as without DPoP.
func config(policy sessionhttp.DPoPPolicy) sessionhttp.Config {
	return sessionhttp.Config{
		AuthenticateClient: authenticateClient, DPoP: policy,
		ProofKeys: [][]byte{[]byte("a secret that all instances have")},
	}
}

// control lets a test do what is not a client's matter.
func (h *host) control(mux *http.ServeMux, prefix string) {
	mux.HandleFunc("POST "+prefix+"/start", func(w http.ResponseWriter, r *http.Request) {
		tokens, err := h.Start(r.Context(), "alice",
			tokensession.WithClient(r.FormValue("client_id")))
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		writeJSON(w, map[string]string{"access_token": tokens.AccessToken, "refresh_token": tokens.RefreshToken})
	})
	mux.HandleFunc("POST "+prefix+"/store", func(w http.ResponseWriter, r *http.Request) {
		h.store.down.Store(r.FormValue("down") == "true")
		writeJSON(w, struct{}{})
	})
	mux.HandleFunc("GET "+prefix+"/events", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, h.told()) })
	mux.HandleFunc("GET "+prefix+"/clients", func(w http.ResponseWriter, _ *http.Request) {
		writeJSON(w, map[string]string{
			"publicClient": publicClient, "confidentialClient": confidentialClient,
			"confidentialSecret": confidentialSecret,
			"plainClient":        plainClient, "plainSecret": plainSecret,
			"resourceServer": resourceServer, "resourceSecret": resourceSecret,
			"audience": audience,
		})
	})
}

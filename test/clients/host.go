package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// The OAuth clients that a host knows. One has an id and a secret that each encoding on their way
// changes.
const (
	publicClient       = "native app"
	confidentialClient = "back:end"
	confidentialSecret = "p%40ss: word&=+"
	plainClient        = "backend"
	plainSecret        = "IHLKf9Vm4u2RiASQrGvHk0"
	resourceServer     = "api"
	resourceSecret     = "introspects"
	audience           = "https://api.example"
)

// A host is a program that embeds sessions for OAuth clients.
type host struct {
	*tokensession.Manager
	http.Handler
	issuer string
	store  *store

	mu     sync.Mutex
	events []tokensession.EventKind
}

// newHost returns one whose endpoints are under prefix, where clients find it at base.
func newHost(key tokensession.Key, base, prefix string, config sessionhttp.Config) (*host, error) {
	return newInstance(&store{RefreshStore: tokensession.NewMemoryStore()}, key, base, prefix,
		config)
}

// newInstance returns a host on a store that it may share with other instances.
func newInstance(
	sessions *store, key tokensession.Key, base, prefix string, config sessionhttp.Config,
) (*host, error) {
	h := &host{issuer: base + prefix, store: sessions}
	signer, err := tokensession.NewAccessSigner(key,
		tokensession.AccessConfig{Issuer: h.issuer, Audience: []string{audience}})
	if err != nil {
		return nil, err
	}
	h.Manager, err = tokensession.New(signer, h.store, tokensession.Config{
		GracePeriod: time.Minute, // a busy machine may need more than the default to try again
		OnEvent:     h.listen,
		Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
			return tokensession.Grant{Scope: "read write"}, nil
		},
	})
	if err != nil {
		return nil, err
	}
	config.Prefix = prefix + "/auth"
	config.MayIntrospect = func(r *http.Request) bool {
		id, secret, _ := r.BasicAuth()
		return id == resourceServer && same(secret, resourceSecret)
	}
	handlers, err := sessionhttp.New(h.Manager, config)
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	handlers.Mount(mux)
	mux.HandleFunc("GET /.well-known/oauth-authorization-server"+prefix, h.metadata)
	mux.Handle("GET "+prefix+"/me", handlers.Require()(http.HandlerFunc(me)))
	mux.Handle("POST "+prefix+"/payments",
		handlers.Require(sessionhttp.FreshNonce())(http.HandlerFunc(me)))
	mux.HandleFunc("POST "+prefix+"/login", func(w http.ResponseWriter, r *http.Request) {
		opts, err := handlers.ProofOptions(w, r)
		if err != nil {
			handlers.Refuse(w, r, err)
			return
		}
		opts = append(opts, tokensession.WithClient(r.PostFormValue("client_id")))
		tokens, err := h.Start(r.Context(), "alice", opts...)
		if err != nil {
			handlers.Refuse(w, r, err)
			return
		}
		handlers.WriteTokens(w, tokens)
	})
	h.Handler = mux
	return h, nil
}

// authenticateClient is for a host with both kinds of clients.
func authenticateClient(_ context.Context, id, secret string) (bool, error) {
	switch id {
	case publicClient:
		return secret == "", nil
	case confidentialClient:
		return same(secret, confidentialSecret), nil
	case plainClient:
		return same(secret, plainSecret), nil
	default:
		return false, nil
	}
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (h *host) listen(_ context.Context, e tokensession.Event) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.events = append(h.events, e.Kind)
}

// told returns what happened to sessions.
func (h *host) told() []tokensession.EventKind {
	h.mu.Lock()
	defer h.mu.Unlock()
	return append([]tokensession.EventKind(nil), h.events...)
}

// metadata is RFC 8414's, for clients that begin with it.
func (h *host) metadata(w http.ResponseWriter, _ *http.Request) {
	methods := []string{"none", "client_secret_basic", "client_secret_post"}
	writeJSON(w, map[string]any{
		"issuer":                   h.issuer,
		"token_endpoint":           h.issuer + "/auth/token",
		"revocation_endpoint":      h.issuer + "/auth/revoke",
		"introspection_endpoint":   h.issuer + "/auth/introspect",
		"jwks_uri":                 h.issuer + "/auth/jwks.json",
		"grant_types_supported":    []string{"refresh_token"},
		"response_types_supported": []string{},
		"scopes_supported":         []string{"read", "write"},

		"token_endpoint_auth_methods_supported":      methods,
		"revocation_endpoint_auth_methods_supported": methods,
		"dpop_signing_alg_values_supported":          []string{"ES256", "EdDSA", "Ed25519"},
	})
}

// me is an API.
func me(w http.ResponseWriter, r *http.Request) {
	access, _ := sessionhttp.FromContext(r.Context())
	writeJSON(w, map[string]string{"subject": access.Subject, "client": access.ClientID})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v)
}

// A store can be down.
type store struct {
	tokensession.RefreshStore
	down atomic.Bool
}

var errDown = errors.New("connection refused")

func (s *store) Load(ctx context.Context, id string) (tokensession.Record, error) {
	if s.down.Load() {
		return tokensession.Record{}, errDown
	}
	return s.RefreshStore.Load(ctx, id)
}

func (s *store) Swap(ctx context.Context, next tokensession.Record) error {
	if s.down.Load() {
		return errDown
	}
	return s.RefreshStore.Swap(ctx, next)
}

// newKey makes a key for one of the algorithms that clients are tested with.
func newKey(algorithm string) (tokensession.Key, error) {
	switch algorithm {
	case "EdDSA":
		return tokensession.GenerateKey()
	case "ES256":
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return tokensession.Key{}, err
		}
		return tokensession.NewKey(key)
	case "RS256":
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return tokensession.Key{}, err
		}
		return tokensession.NewKey(key)
	default:
		return tokensession.Key{}, errors.New("no such algorithm: " + algorithm)
	}
}

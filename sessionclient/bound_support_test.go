package sessionclient_test

import (
	"bytes"
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

// What a server binds to the key that a client has proved.
const (
	bindsBoth    = iota
	bindsRefresh // the access token stays a bearer token
	bindsNothing // it does not know proofs
)

type serveFunc = func(http.ResponseWriter)

// A boundFault disturbs the n-th exchange, from 1.
type boundFault func(n int, rw http.ResponseWriter, r *http.Request, serve serveFunc)

// A boundServer is the server of a clientWorld that binds its sessions to keys. It always wants its
// nonce at the login and at the token endpoint, and wants it at the API if a test says so.
type boundServer struct {
	w       *clientWorld
	checker *proofChecker

	mu         sync.Mutex
	binds      int
	nonce      func(path string) string // "" if none is needed
	fault      boundFault
	exchanges  int      // logins and refreshes that had the right nonce
	presented  []string // refresh tokens, also those with the wrong nonce
	requests   []string // "GET /api DPoP proof", for instance
	wrong      []error  // what is wrong with proofs that were there
	challenged []string // paths for which another nonce was wanted
}

func newBoundServer(w *clientWorld) *boundServer {
	return &boundServer{
		w: w, checker: newProofChecker(),
		nonce: func(path string) string {
			if path == "/api" {
				return ""
			}
			return "nonce"
		},
	}
}

func (s *boundServer) set(change func()) { s.mu.Lock(); defer s.mu.Unlock(); change() }

// transport makes a Transport with a key, or with none, on the in-memory network.
func (s *boundServer) transport(
	store sessionclient.TokenStore, key crypto.Signer,
) *sessionclient.Transport {
	s.w.t.Helper()
	cfg := s.w.config(clientNetwork{s.w, s})
	cfg.Key = key
	transport, err := sessionclient.New(clientAuthURL, store, cfg)
	require.NoError(s.w.t, err)
	return transport
}

func (s *boundServer) login(transport *sessionclient.Transport, user string) error {
	req, err := http.NewRequest("POST", "https://auth.example/login", strings.NewReader("hello"))
	if err != nil {
		return err
	}
	req.SetBasicAuth(user, user)
	return transport.Login(req)
}

func (s *boundServer) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	r.Body = io.NopCloser(bytes.NewReader(body))
	form, _ := url.ParseQuery(string(body))
	path, proofs := r.URL.Path, r.Header.Values("DPoP")
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	s.mu.Lock()
	line := strings.Join(strings.Fields(r.Method+" "+path+" "+scheme), " ")
	s.requests = append(s.requests, line+strings.Repeat(" proof", len(proofs)))
	if path == "/token" {
		s.presented = append(s.presented, form.Get("refresh_token"))
	}
	wanted, binds := s.nonce(path), s.binds
	s.mu.Unlock()
	var thumbprint string
	if len(proofs) > 0 && binds != bindsNothing {
		claims, proved, err := s.checker.check(r)
		if err != nil {
			s.set(func() { s.wrong = append(s.wrong, err) })
			refuseProof(rw, path, "invalid_dpop_proof")
			return
		}
		if wanted != "" && (claims.Nonce == nil || *claims.Nonce != wanted) {
			s.set(func() { s.challenged = append(s.challenged, path) })
			rw.Header().Set("DPoP-Nonce", wanted)
			refuseProof(rw, path, "use_dpop_nonce")
			return
		}
		thumbprint = proved
	}
	switch path {
	case "/token", "/login":
		s.exchange(rw, r, form, thumbprint, binds)
	case "/revoke":
		s.w.h.Revoke(rw, r)
	default:
		s.api(rw, r, thumbprint)
	}
}

func refuseProof(rw http.ResponseWriter, path, code string) {
	if path == "/api" {
		rw.Header().Set("WWW-Authenticate", fmt.Sprintf(`DPoP error="%s", algs="ES256 EdDSA"`, code))
		rw.WriteHeader(401)
		return
	}
	clientJSON(rw, 400, map[string]string{"error": code})
}

// exchange logs in or refreshes.
func (s *boundServer) exchange(
	rw http.ResponseWriter, r *http.Request, form url.Values, thumbprint string, binds int,
) {
	s.mu.Lock()
	s.exchanges++
	n, fault := s.exchanges, s.fault
	s.mu.Unlock()
	serve := func(rw http.ResponseWriter) {
		var start []tokensession.StartOption
		var refresh []tokensession.RefreshOption
		if thumbprint != "" {
			key := tokensession.WithKeyThumbprint(thumbprint)
			start, refresh = append(start, key), append(refresh, key)
			if binds == bindsBoth {
				confirmed := tokensession.WithConfirmation(thumbprint)
				start, refresh = append(start, confirmed), append(refresh, confirmed)
			}
		}
		ctx := context.WithoutCancel(r.Context())
		var tokens tokensession.Tokens
		var err error
		if user, _, ok := r.BasicAuth(); ok {
			tokens, err = s.w.m.Start(ctx, user, start...)
		} else {
			tokens, err = s.w.m.Refresh(ctx, form.Get("refresh_token"), refresh...)
		}
		writeAnswer(rw, tokens, err)
	}
	if fault != nil {
		fault(n, rw, r, serve)
		return
	}
	serve(rw)
}

// writeAnswer answers as a token endpoint does that knows keys.
func writeAnswer(rw http.ResponseWriter, tokens tokensession.Tokens, err error) {
	switch {
	case err == nil:
		clientJSON(rw, 200, map[string]any{
			"access_token": tokens.AccessToken, "token_type": tokens.TokenType,
			"refresh_token": tokens.RefreshToken, "expires_in": 900, "scope": tokens.Scope,
		})
	case errors.Is(err, tokensession.ErrUnavailable):
		clientJSON(rw, 503, map[string]string{"error": "temporarily_unavailable"})
	case errors.Is(err, tokensession.ErrProofRequired):
		clientJSON(rw, 400, map[string]string{"error": "invalid_dpop_proof"})
	default:
		clientJSON(rw, 400, map[string]string{"error": "invalid_grant"})
	}
}

func (s *boundServer) api(rw http.ResponseWriter, r *http.Request, thumbprint string) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	var access tokensession.Access
	err := errors.New("another scheme")
	switch scheme {
	case "DPoP":
		access, err = s.w.m.VerifyBound(token, thumbprint)
	case "Bearer":
		access, err = s.w.m.Verify(token)
	}
	if err != nil {
		rw.Header().Set("WWW-Authenticate", scheme+` error="invalid_token"`)
		rw.WriteHeader(401)
		return
	}
	_, _ = io.WriteString(rw, access.Subject)
}

// took returns the requests that have come since it was asked before.
func (s *boundServer) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	took := s.requests
	s.requests = nil
	return took
}

// requireSound shows that all proofs were right, and that nobody was logged out.
func (s *boundServer) requireSound() {
	s.w.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.NoError(s.w.t, errors.Join(s.wrong...))
	require.Empty(s.w.t, s.w.toldOfEnd())
}

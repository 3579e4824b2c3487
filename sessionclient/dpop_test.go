package sessionclient_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A dpopSite is a server of package sessionhttp that binds sessions to keys. It has two instances,
// which share the store, the signing key and the secrets for nonces. Requests go to them in turns.
type dpopSite struct {
	*httptest.Server
	t        testing.TB
	managers []*tokensession.Manager
	dir      string // for files

	mu       sync.Mutex
	requests []string // the path and the status of each
	lose     int      // how many of the next refreshes lose their answer
}

func newDPoPSite(t testing.TB, policy sessionhttp.DPoPPolicy) *dpopSite {
	t.Helper()
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	store := tokensession.NewMemoryStore()
	s := &dpopSite{t: t, dir: t.TempDir()}
	var instances []http.Handler
	for range 2 {
		signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
			Issuer: "https://auth.example", Audience: []string{"https://api.example"},
		})
		require.NoError(t, err)
		m, err := tokensession.New(signer, store, tokensession.Config{})
		require.NoError(t, err)
		s.managers = append(s.managers, m)
		instances = append(instances, newDPoPInstance(t, m, policy))
	}
	turn := 0
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		turn++
		instance := instances[turn%len(instances)]
		lost := s.lose > 0 && r.URL.Path == "/auth/token"
		s.mu.Unlock()
		answer := httptest.NewRecorder()
		instance.ServeHTTP(answer, r)
		s.mu.Lock()
		s.requests = append(s.requests, fmt.Sprint(r.URL.Path, " ", answer.Code))
		if lost = lost && answer.Code == 200; lost {
			s.lose--
		}
		s.mu.Unlock()
		if lost {
			panic(http.ErrAbortHandler)
		}
		for name, values := range answer.Header() {
			w.Header()[name] = values
		}
		w.WriteHeader(answer.Code)
		_, _ = w.Write(answer.Body.Bytes())
	}))
	t.Cleanup(s.Close)
	return s
}

func newDPoPInstance(
	t testing.TB, m *tokensession.Manager, policy sessionhttp.DPoPPolicy,
) http.Handler {
	t.Helper()
	h, err := sessionhttp.New(m, sessionhttp.Config{
		DPoP: policy, ProofKeys: [][]byte{[]byte("a secret that both instances have")},
	})
	require.NoError(t, err)
	mux := http.NewServeMux()
	mux.Handle("/auth/", h)
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		opts, err := h.ProofOptions(w, r)
		if err != nil {
			h.Refuse(w, r, err)
			return
		}
		user, _ := io.ReadAll(r.Body)
		tokens, err := m.Start(r.Context(), string(user), opts...)
		if err != nil {
			h.Refuse(w, r, err)
			return
		}
		h.WriteTokens(w, tokens)
	})
	mux.Handle("GET /me", h.Require()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access, _ := sessionhttp.FromContext(r.Context())
		_, _ = io.WriteString(w, access.Subject)
	})))
	return mux
}

// path is the name of a file.
func (s *dpopSite) path(name string) string { return filepath.Join(s.dir, name) }

// program starts a process with a file of tokens, and with a file for its key if that is named.
func (s *dpopSite) program(files ...string) *child {
	s.t.Helper()
	what := []string{"program", s.URL}
	for _, name := range files {
		what = append(what, s.path(name))
	}
	return startChild(s.t, what...)
}

// took returns the requests that have come since it was asked before.
func (s *dpopSite) took() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	took := s.requests
	s.requests = nil
	return took
}

// expire has the programs take their access token for run out. None may be doing anything.
func (s *dpopSite) expire(name string) {
	s.t.Helper()
	file := sessionclient.NewTokenFile(s.path(name))
	tokens := loaded(s.t, file)
	tokens.AccessExpiresAt = time.Now().Add(-time.Second)
	require.NoError(s.t, file.Save(s.t.Context(), tokens))
}

// requireSessions shows how many sessions a user has.
func (s *dpopSite) requireSessions(user string, n int) {
	s.t.Helper()
	sessions, err := s.managers[0].Sessions(s.t.Context(), user)
	require.NoError(s.t, err)
	require.Len(s.t, sessions, n)
}

const alicesPage = "200 OK alice"

// A program logs in, calls, refreshes, is started anew, and logs out, at two instances in turns.
func TestDPoP_aProgramsLife(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPRequired)
	p := s.program("tokens", "key")
	require.Contains(t, p.do("get"), sessionclient.ErrNoTokens.Error())
	require.Empty(t, p.do("login alice"))
	require.Equal(t, []string{"/login 400", "/login 200"}, s.took())
	for range 5 {
		require.Equal(t, alicesPage, p.do("get"))
		require.Equal(t, []string{"/me 200"}, s.took())
		s.expire("tokens")
		require.Equal(t, alicesPage, p.do("get"))
		require.Equal(t, []string{"/auth/token 200", "/me 200"}, s.took(),
			"the nonce of one instance is good at the other one")
	}
	p.kill()
	p = s.program("tokens", "key")
	require.Equal(t, alicesPage, p.do("get"))
	s.took()
	s.expire("tokens")
	require.Equal(t, alicesPage, p.do("get"))
	s.requireSessions("alice", 1)
	require.Empty(t, p.do("logout"))
	s.requireSessions("alice", 0)
	require.Contains(t, p.do("get"), sessionclient.ErrNoTokens.Error())
}

// Several processes share the tokens and the key. They refresh at once, answers are lost, and some
// processes are killed and started anew in the middle of it.
func TestDPoP_processesShareAFile(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPRequired)
	programs := make([]*child, 3)
	for i := range programs {
		programs[i] = s.program("tokens", "key")
	}
	require.Empty(t, programs[0].do("login alice"))
	for round := range 12 {
		s.expire("tokens")
		s.mu.Lock()
		s.lose = round % 3
		s.mu.Unlock()
		for _, p := range programs {
			p.ask("get")
		}
		victim := round % len(programs)
		if round%4 == 3 {
			programs[victim].kill()
			programs[victim] = s.program("tokens", "key")
			programs[victim].ask("get")
		}
		for _, p := range programs {
			require.Equal(t, alicesPage, p.answer(), "round %d", round)
		}
	}
	s.requireSessions("alice", 1)
}

// A process has another key, or none, as if it was started before the user logged in anew. It
// neither uses nor ends what the first one has.
func TestDPoP_processesWithAnotherKey(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPAccepted)
	p, other, none := s.program("tokens", "key"), s.program("tokens", "key2"), s.program("tokens")
	require.Empty(t, p.do("login alice"))
	s.took()
	for range 3 {
		s.expire("tokens")
		for _, stranger := range []*child{other, none} {
			said := stranger.do("get")
			require.Contains(t, said, sessionclient.ErrNoTokens.Error())
			require.Contains(t, said, "Config.Key")
		}
		require.Empty(t, s.took(), "they ask nobody")
		require.Equal(t, alicesPage, p.do("get"))
		s.took()
	}
	require.Empty(t, other.do("login alice"))
	require.Equal(t, alicesPage, other.do("get"))
	require.Contains(t, p.do("get"), sessionclient.ErrNoTokens.Error())
	s.requireSessions("alice", 2)
	require.Empty(t, none.do("logout"), "a logout needs no key")
	s.requireSessions("alice", 1)
}

// A thief has the file with the tokens, and not the key.
func TestDPoP_aThiefOfTheTokensGetsAndEndsNothing(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPAccepted)
	p := s.program("tokens", "key")
	require.Empty(t, p.do("login alice"))
	stolen := loaded(t, sessionclient.NewTokenFile(s.path("tokens")))
	refresh := func(client http.RoundTripper) (int, string) {
		req := mustRequest(t, "POST", s.URL+"/auth/token", url.Values{
			"grant_type": {"refresh_token"}, "refresh_token": {stolen.RefreshToken},
		}.Encode())
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		resp, err := client.RoundTrip(req)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return resp.StatusCode, string(body)
	}
	thief := newProver(t, newKeys(t)["P-256"], nil)
	for range 3 {
		status, body := refresh(http.DefaultTransport)
		require.Equal(t, 400, status)
		require.Contains(t, body, "invalid_dpop_proof")
		status, body = refresh(thief)
		require.Equal(t, 400, status)
		require.Contains(t, body, "invalid_grant")
		for _, scheme := range []string{"DPoP ", "Bearer "} {
			req := mustRequest(t, "GET", s.URL+"/me", "")
			req.Header.Set("Authorization", scheme+stolen.AccessToken)
			requireStatus(t, thief, 401, req)
		}
		require.Equal(t, alicesPage, p.do("get"))
		s.expire("tokens")
		require.Equal(t, alicesPage, p.do("get"), "and the session goes on")
	}
	s.requireSessions("alice", 1)

	// A new program with the stolen file does not even ask.
	require.NoError(t, os.Mkdir(s.path("elsewhere"), 0o700))
	data, err := os.ReadFile(s.path("tokens"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(s.path("elsewhere/tokens"), data, 0o600))
	copied := s.program("elsewhere/tokens", "elsewhere/key")
	require.Contains(t, copied.do("get"), "bound to the key")
}

// A program gets a key after the user has logged in. The next refresh binds the session.
func TestDPoP_aProgramGetsAKeyLater(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPAccepted)
	before := s.program("tokens")
	require.Empty(t, before.do("login alice"))
	require.Equal(t, alicesPage, before.do("get"))
	after := s.program("tokens", "key")
	require.Equal(t, alicesPage, after.do("get"))
	s.expire("tokens")
	require.Equal(t, alicesPage, after.do("get"))
	tokens := loaded(t, sessionclient.NewTokenFile(s.path("tokens")))
	require.Equal(t, "DPoP", tokens.TokenType)
	_, err := s.managers[0].Refresh(context.Background(), tokens.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrProofRequired)
	require.Contains(t, before.do("get"), "Config.Key is nil")
	require.Equal(t, alicesPage, after.do("get"))
	s.requireSessions("alice", 1)
}

// A server that needs proofs says so to a program that has no key, and ends nothing.
func TestDPoP_aProgramWithoutAKeyWhereOneIsRequired(t *testing.T) {
	s := newDPoPSite(t, sessionhttp.DPoPRequired)
	transport, err := sessionclient.New(s.URL+"/auth/token", &sessionclient.TokenMemory{},
		sessionclient.Config{})
	require.NoError(t, err)
	err = transport.Login(mustRequest(t, "POST", s.URL+"/login", "alice"))
	require.ErrorIs(t, err, sessionclient.ErrProofRefused)
	require.True(t, strings.HasSuffix(err.Error(), "invalid_dpop_proof"), err)
	s.requireSessions("alice", 0)
}

package sessionclient_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func unb64(t testing.TB, text string) []byte {
	t.Helper()
	data, err := base64.RawURLEncoding.DecodeString(text)
	require.NoError(t, err)
	return data
}

func newProver(t testing.TB, key crypto.Signer, base http.RoundTripper) *sessionclient.Prover {
	t.Helper()
	prover, err := sessionclient.NewProver(key, base)
	require.NoError(t, err)
	return prover
}

// The keys of RFC 9449 and of RFC 8037 appendix A, and the thumbprints that these say they have.
func TestProver_thumbprintIsThatOfTheRFCs(t *testing.T) {
	point := slices.Concat([]byte{4}, unb64(t, "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs"),
		unb64(t, "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA"))
	ecKey, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	require.NoError(t, err)
	edKey := ed25519.PublicKey(unb64(t, "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"))
	for thumbprint, public := range map[string]crypto.PublicKey{
		"0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I": ecKey,
		"kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k": edKey,
	} {
		require.Equal(t, thumbprint, newProver(t, driver{public: public}, nil).Thumbprint())
	}
}

// The checker of these tests accepts the proofs that RFC 9449 has in sections 4.1 and 7.1, and none
// that differs from them in a bit.
func TestProofChecker_acceptsTheProofsOfTheRFC(t *testing.T) {
	const header = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Im" +
		"w4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpi" +
		"VFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19"
	const payload = "eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2" +
		"VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ"
	const signature = "2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK7" +
		"0nfbV37xRZT3Lg"
	proof := header + "." + payload + "." + signature
	_, claims, err := openProof(proof)
	require.NoError(t, err)
	require.Equal(t, proofClaims{ID: "-BwC3ESc6acc2lTc", Method: "POST",
		Target: "https://server.example.com/token", IssuedAt: 1562262616}, claims)
	for i := range len(proof) {
		changed := []byte(proof)
		changed[i] ^= 1
		_, _, err := openProof(string(changed))
		require.Error(t, err, "with another character at %d", i)
	}
	require.Equal(t, "fUHyO2r2Z3DZ53EsNrWBb0xWXoaNy59IiKCAqksmQEo",
		b64(sha256Of("Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU")))
}

// What a server sees is what the proof says, whatever the request looks like.
func TestProver_provesEachRequest(t *testing.T) {
	checker := newProofChecker()
	var got proofClaims
	var thumbprint string
	var checked error
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		got, thumbprint, checked = checker.check(r)
	})
	plain, secure := httptest.NewServer(handler), httptest.NewTLSServer(handler)
	defer plain.Close()
	defer secure.Close()
	for kind, key := range newKeys(t) {
		prover := newProver(t, key, secure.Client().Transport)
		for _, c := range []struct {
			method, path, host, authorization string
		}{
			{method: "GET"}, {method: "", path: "/"}, {method: "POST", path: "/token"},
			{method: "HEAD", path: "/a//b/../c/"}, {method: "QUERY", path: "/x?y=/z&a=b"},
			{method: "GET", path: "/%7euser/%2F/ä ö/&<>\"'"}, {method: "GET", path: "/?"},
			{method: "GET", path: "/a#fragment"},
			{method: "GET", path: "/a", host: "api.example"},
			{method: "GET", path: "/a", host: "api.example:8443"},
			{method: "GET", path: "/a", authorization: "DPoP abc.def"},
			{method: "GET", path: "/a", authorization: "dpop abc.def"},
			{method: "GET", path: "/a", authorization: "DPoP   abc.def"},
			{method: "GET", path: "/a", authorization: "Bearer abc.def"},
		} {
			for _, server := range []*httptest.Server{plain, secure} {
				u, err := url.Parse(server.URL + c.path)
				require.NoError(t, err)
				req := &http.Request{Method: c.method, URL: u, Host: c.host}
				if c.authorization != "" {
					req.Header = http.Header{"Authorization": {c.authorization}}
				}
				resp, err := prover.RoundTrip(req)
				require.NoError(t, err)
				resp.Body.Close()
				require.NoError(t, checked, "%s %v", kind, c)
				require.Equal(t, prover.Thumbprint(), thumbprint)
				require.Nil(t, got.Nonce)
				require.Same(t, req, resp.Request)
				require.Empty(t, req.Header.Values("DPoP"), "the caller's request stays as it is")
			}
		}
	}
}

func TestProver_nameOfTheServerIsInItsNormalForm(t *testing.T) {
	var htu string
	prover := newProver(t, newKeys(t)["P-256"], clientBase(
		func(req *http.Request) (*http.Response, error) {
			_, claims, err := openProof(req.Header.Get("DPoP"))
			htu = claims.Target
			return &http.Response{StatusCode: 200, Body: http.NoBody}, err
		}))
	for from, to := range map[string]string{
		"https://API.Example:443/A":    "https://api.example/A",
		"http://api.example:80":        "http://api.example/",
		"http://api.example:443/":      "http://api.example:443/",
		"https://[::1]:443/":           "https://[::1]/",
		"https://[2001:DB8::1]:8443/?": "https://[2001:db8::1]:8443/",
	} {
		resp, err := prover.RoundTrip(mustRequest(t, "GET", from, ""))
		require.NoError(t, err)
		resp.Body.Close()
		require.Equal(t, to, htu)
	}
	htu = ""
	for _, from := range []*url.URL{
		{Scheme: "https", Host: "bücher.example"}, {Scheme: "https", Host: "[fe80::1%25eth0]"},
		{Scheme: "https", Host: "api.example", Opaque: "//api.example/a"},
		{Scheme: "https", Host: "api.example", Path: "*"},
	} {
		body := newTrackedBody("hello")
		_, err := prover.RoundTrip(&http.Request{Method: "POST", URL: from, Body: body})
		require.ErrorContains(t, err, "proof for this request", from)
		require.True(t, body.isClosed())
		require.Empty(t, htu, "nothing was sent")
	}
}

// The checker of package sessionhttp accepts the proofs, with the nonces that it wants.
func TestProver_isAcceptedByProofs(t *testing.T) {
	proofs, err := sessionhttp.NewProofs(sessionhttp.ProofConfig{Keys: [][]byte{make([]byte, 32)}})
	require.NoError(t, err)
	var thumbprint string
	checks := 0
	handler := func(w http.ResponseWriter, r *http.Request) {
		token := strings.TrimPrefix(r.Header.Get("Authorization"), "DPoP ")
		checks++
		proved, err := proofs.Check(w, r, token)
		switch {
		case err == nil:
			thumbprint = proved
		case errors.Is(err, sessionhttp.ErrUseNonce):
			clientJSON(w, 400, map[string]string{"error": "use_dpop_nonce"})
		default:
			t.Error(err)
		}
	}
	server := httptest.NewTLSServer(http.HandlerFunc(handler))
	defer server.Close()
	for _, key := range newKeys(t) {
		prover := newProver(t, key, server.Client().Transport)
		for n, authorization := range []string{"", "", "DPoP abc"} {
			before := checks
			req := mustRequest(t, "POST", server.URL+"/ä%2F?x=y", "hello")
			if authorization != "" {
				req.Header.Set("Authorization", authorization)
			}
			requireStatus(t, prover, 200, req)
			require.Equal(t, prover.Thumbprint(), thumbprint)
			require.Equal(t, []int{2, 1, 1}[n], checks-before)
		}
	}
}

// A nonceServer wants a nonce of its own in each proof.
type nonceServer struct {
	*httptest.Server
	mu      sync.Mutex
	nonce   string
	checker *proofChecker
	told    []string // the nonces that it got, "-" for none
	bodies  []string
	errs    []error

	// tell writes the answer to a proof with the wrong nonce. The header with the nonce is there.
	tell func(w http.ResponseWriter)
}

// ways are how servers ask for another nonce (RFC 9449 sections 8 and 9).
var ways = map[string]func(http.ResponseWriter){
	"token endpoint": func(w http.ResponseWriter) {
		clientJSON(w, 400, map[string]string{"error": "use_dpop_nonce"})
	},
	"resource server": func(w http.ResponseWriter) {
		w.Header().Set("WWW-Authenticate", `DPoP error="use_dpop_nonce", algs="ES256 EdDSA"`)
		w.WriteHeader(401)
		_, _ = io.WriteString(w, "no entry")
	},
	"in JSON only": func(w http.ResponseWriter) {
		clientJSON(w, 401, map[string]string{"error": "use_dpop_nonce"})
	},
	"beside another scheme": func(w http.ResponseWriter) {
		w.Header().Add("WWW-Authenticate", `Bearer realm="api"`)
		w.Header().Add("WWW-Authenticate", `DPoP error=use_dpop_nonce`)
		w.WriteHeader(401)
	},
}

func newNonceServer(t testing.TB) *nonceServer {
	s := &nonceServer{nonce: "n-0", checker: newProofChecker(), tell: ways["token endpoint"]}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

func (s *nonceServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	claims, _, err := s.checker.check(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	got := "-"
	if claims.Nonce != nil {
		got = *claims.Nonce
	}
	s.told, s.bodies, s.errs = append(s.told, got), append(s.bodies, string(body)), append(s.errs, err)
	if got != s.nonce {
		w.Header().Set("DPoP-Nonce", s.nonce)
		s.tell(w)
	}
}

// took returns the nonces that have come since it was asked before.
func (s *nonceServer) took(t testing.TB) []string {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	require.NoError(t, errors.Join(s.errs...))
	told := s.told
	s.told, s.errs = nil, nil
	return told
}

func (s *nonceServer) set(nonce string) { s.mu.Lock(); defer s.mu.Unlock(); s.nonce = nonce }

func requireStatus(t testing.TB, rt http.RoundTripper, status int, req *http.Request) string {
	t.Helper()
	resp, err := rt.RoundTrip(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.Equal(t, status, resp.StatusCode, string(body))
	return string(body)
}

func TestProver_sendsTheNonceThatTheServerWants(t *testing.T) {
	for way, tell := range ways {
		t.Run(way, func(t *testing.T) {
			s, other := newNonceServer(t), newNonceServer(t)
			s.tell = tell
			other.nonce = "other"
			prover := newProver(t, newKeys(t)["Ed25519"], nil)
			post := func(status int) {
				requireStatus(t, prover, status, mustRequest(t, "POST", s.URL+"/token", "hello"))
			}
			post(200)
			require.Equal(t, []string{"-", "n-0"}, s.took(t))
			require.Equal(t, []string{"hello", "hello"}, s.bodies)
			post(200)
			require.Equal(t, []string{"n-0"}, s.took(t), "it is kept")
			s.set("n-1")
			post(200)
			require.Equal(t, []string{"n-0", "n-1"}, s.took(t))
			requireStatus(t, prover, 200, mustRequest(t, "GET", other.URL, ""))
			require.Equal(t, []string{"-", "other"}, other.took(t), "each server has its own")
			post(200)
			require.Equal(t, []string{"n-1"}, s.took(t))
		})
	}
}

// A server may send the next nonce in advance, with any answer.
func TestProver_takesTheNonceOfAnyAnswer(t *testing.T) {
	var told []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, claims, _ := openProof(r.Header.Get("DPoP"))
		got := "-"
		if claims.Nonce != nil {
			got = *claims.Nonce
		}
		told = append(told, got)
		for _, nonce := range r.URL.Query()["nonce"] {
			w.Header().Add("DPoP-Nonce", nonce)
		}
		w.WriteHeader(500)
	}))
	defer server.Close()
	prover := newProver(t, newKeys(t)["P-256"], nil)
	for _, query := range []string{
		"nonce=a", "nonce=b.c-d_e~f", "", "nonce=", "nonce=x%20y", "nonce=x%22y", "nonce=x%5Cy",
		"nonce=%C3%A4", "nonce=x&nonce=y", "nonce=" + strings.Repeat("x", 1025),
		"nonce=" + strings.Repeat("x", 1024), "",
	} {
		requireStatus(t, prover, 500, mustRequest(t, "GET", server.URL+"/?"+query, ""))
	}
	kept := slices.Repeat([]string{"b.c-d_e~f"}, 9)
	longest := strings.Repeat("x", 1024)
	require.Equal(t, slices.Concat([]string{"-", "a"}, kept, []string{longest}), told)
}

// However a server asks again, a request is sent twice at most.
func TestProver_repeatsOnce(t *testing.T) {
	for way, tell := range ways {
		for name, next := range map[string]func(n int) string{
			"always another nonce": func(n int) string { return fmt.Sprint("n-", n) },
			"always the same":      func(int) string { return "same" },
			"none":                 func(int) string { return "" },
		} {
			t.Run(way+"/"+name, func(t *testing.T) {
				requests := 0
				handler := func(w http.ResponseWriter, _ *http.Request) {
					requests++
					if nonce := next(requests); nonce != "" {
						w.Header().Set("DPoP-Nonce", nonce)
					}
					tell(w)
				}
				server := httptest.NewServer(http.HandlerFunc(handler))
				defer server.Close()
				prover := newProver(t, newKeys(t)["Ed25519"], nil)
				var counts []int
				for range 3 {
					before := requests
					resp, err := prover.RoundTrip(mustRequest(t, "POST", server.URL, "hello"))
					require.NoError(t, err)
					body, err := io.ReadAll(resp.Body)
					require.NoError(t, err)
					resp.Body.Close()
					if way == "token endpoint" {
						require.JSONEq(t, `{"error":"use_dpop_nonce"}`, string(body))
					}
					counts = append(counts, requests-before)
				}
				require.Equal(t, map[string][]int{
					"always another nonce": {2, 2, 2}, "always the same": {2, 1, 1}, "none": {1, 1, 1},
				}[name], counts)
			})
		}
	}
}

// An http.Transport sends a request again by itself if a connection dies, with the same proof. A
// server that has seen it refuses it.
func TestProver_makesAnotherProofIfOneIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		status    int
		challenge string
		body      string
		requests  int
	}{
		"refused":                {401, `DPoP error="invalid_dpop_proof"`, "", 2},
		"among others":           {401, `Bearer, DPoP algs="ES256", error="invalid_dpop_proof"`, "", 2},
		"by a token endpoint":    {400, "", `{"error":"invalid_dpop_proof"}`, 1},
		"the token is invalid":   {401, `DPoP error="invalid_token"`, "", 1},
		"no words":               {401, "", "", 1},
		"it may not":             {403, `DPoP error="invalid_dpop_proof"`, "", 1},
		"a nonce in a 403":       {403, `DPoP error="use_dpop_nonce"`, `{"error":"use_dpop_nonce"}`, 1},
		"a nonce in other words": {400, "", `use_dpop_nonce`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			checker, requests := newProofChecker(), 0
			handler := func(w http.ResponseWriter, r *http.Request) {
				requests++
				if _, _, err := checker.check(r); err != nil {
					t.Error(err)
				}
				w.Header().Set("DPoP-Nonce", fmt.Sprint("n-", requests))
				w.Header().Set("WWW-Authenticate", c.challenge)
				w.Header().Set("Content-Type", "application/json")
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}
			server := httptest.NewServer(http.HandlerFunc(handler))
			defer server.Close()
			prover := newProver(t, newKeys(t)["Ed25519"], nil)
			body := requireStatus(t, prover, c.status, mustRequest(t, "POST", server.URL, "hello"))
			require.Equal(t, c.body, body)
			require.Equal(t, c.requests, requests)
		})
	}
}

// The nonce changes in the middle of an upload whose body is gone by then. The caller gets the
// answer, all of it, and the next upload has the new nonce.
func TestProver_doesNotRepeatWhatItCannotReadAgain(t *testing.T) {
	for name, getBody := range map[string]func() (io.ReadCloser, error){
		"no GetBody": nil, "GetBody fails": func() (io.ReadCloser, error) { return nil, errClientDisk },
	} {
		t.Run(name, func(t *testing.T) {
			s := newNonceServer(t)
			prover := newProver(t, newKeys(t)["P-256"], nil)
			upload := func() *http.Request {
				req := mustRequest(t, "PUT", s.URL, "")
				req.Body, req.GetBody = newTrackedBody("hello"), getBody
				req.ContentLength = 5
				return req
			}
			req := upload()
			answer := requireStatus(t, prover, 400, req)
			require.JSONEq(t, `{"error":"use_dpop_nonce"}`, answer)
			require.True(t, req.Body.(*trackedBody).isClosed())
			requireStatus(t, prover, 200, upload())
			require.Equal(t, []string{"-", "n-0"}, s.took(t))
		})
	}
}

// The base has one connection, and the repeated request needs it.
func TestProver_repeatsOverTheOnlyConnection(t *testing.T) {
	for _, way := range []string{"token endpoint", "resource server"} {
		s := newNonceServer(t)
		s.tell = func(w http.ResponseWriter) {
			ways[way](w)
			_, _ = io.WriteString(w, strings.Repeat(" ", 5000))
		}
		base := &http.Transport{MaxConnsPerHost: 1}
		prover := newProver(t, newKeys(t)["P-256"], base)
		requireStatus(t, prover, 200, mustRequest(t, "POST", s.URL, "hello"))
		prover.CloseIdleConnections()
	}
}

// Nobody can fill the memory of a program with nonces.
func TestProver_remembersFewNonces(t *testing.T) {
	known := map[string]bool{}
	prover := newProver(t, newKeys(t)["Ed25519"], clientBase(
		func(req *http.Request) (*http.Response, error) {
			_, claims, err := openProof(req.Header.Get("DPoP"))
			known[req.URL.Host] = claims.Nonce != nil
			return &http.Response{
				StatusCode: 200, Header: http.Header{"Dpop-Nonce": {req.URL.Host}}, Body: http.NoBody,
			}, err
		}))
	get := func(n int) {
		requireStatus(t, prover, 200, mustRequest(t, "GET", fmt.Sprintf("https://h%d.example", n), ""))
	}
	for n := range 400 {
		get(n)
	}
	get(399)
	require.True(t, known["h399.example"], "the newest is there")
	count := 0
	for n := range 399 {
		if get(n); known[fmt.Sprintf("h%d.example", n)] {
			count++
		}
	}
	require.LessOrEqual(t, count, 256)
}

func TestProver_leavesAProofOfTheProgramsOwn(t *testing.T) {
	s := newNonceServer(t)
	prover := newProver(t, newKeys(t)["P-256"], clientBase(
		func(req *http.Request) (*http.Response, error) {
			require.Equal(t, []string{"mine"}, req.Header.Values("DPoP"))
			req.Header.Del("DPoP")
			return http.DefaultTransport.RoundTrip(req)
		}))
	req := mustRequest(t, "GET", s.URL, "")
	req.Header.Set("DPoP", "mine")
	requireStatus(t, prover, 400, req)
	require.Len(t, s.told, 1)
}

func TestProver_whenTheBaseFails(t *testing.T) {
	for name, c := range map[string]struct {
		resp *http.Response
		err  error
		want string
	}{"error": {nil, errClientDisk, "no space"}, "nothing": {nil, nil, "neither a response"}} {
		prover := newProver(t, newKeys(t)["P-256"], clientBase(
			func(*http.Request) (*http.Response, error) { return c.resp, c.err }))
		_, err := prover.RoundTrip(mustRequest(t, "GET", clientAPIURL, ""))
		require.ErrorContains(t, err, c.want, name)
		require.NotErrorIs(t, err, tokensession.ErrUnavailable)
	}
}

func TestNewProver_refusesOtherKeys(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	require.NoError(t, err)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	for want, key := range map[string]crypto.Signer{
		"is nil":                  nil,
		"not a *rsa.PublicKey":    rsaKey,
		"must be of the curve P-": p384,
		"of 3 bytes":              driver{public: ed25519.PublicKey("abc")},
		"not a <nil>":             driver{},
	} {
		_, err := sessionclient.NewProver(key, nil)
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "sessionclient: NewProver: ")
	}
}

// Drivers of hardware return many things. What is no signature is not sent.
func TestProver_sendsNoSignatureOfAnotherForm(t *testing.T) {
	keys := newKeys(t)
	der := func(halves ...*big.Int) []byte {
		data, err := asn1.Marshal(halves)
		require.NoError(t, err)
		return data
	}
	one, big257 := big.NewInt(1), new(big.Int).Lsh(big.NewInt(1), 256)
	for name, c := range map[string]struct {
		kind      string
		signature []byte
		err       error
	}{
		"raw, not ASN.1":   {kind: "P-256", signature: make([]byte, 64)},
		"empty":            {kind: "P-256"},
		"one half":         {kind: "P-256", signature: der(one)},
		"trailing bytes":   {kind: "P-256", signature: append(der(one, one), 0)},
		"zero":             {kind: "P-256", signature: der(one, new(big.Int))},
		"negative":         {kind: "P-256", signature: der(big.NewInt(-1), one)},
		"of a larger key":  {kind: "P-256", signature: der(big257, one)},
		"63 bytes":         {kind: "Ed25519", signature: make([]byte, 63)},
		"of two":           {kind: "Ed25519", signature: make([]byte, 128)},
		"it is locked":     {kind: "Ed25519", err: errClientDisk},
		"it is unplugged":  {kind: "P-256", err: errClientDisk},
		"it is nobody's":   {kind: "P-256", err: sessionclient.ErrNoTokens},
		"it is over there": {kind: "P-256", err: sessionclient.ErrSessionEnded},
	} {
		t.Run(name, func(t *testing.T) {
			key := driver{keys[c.kind].Public(), func([]byte, crypto.SignerOpts) ([]byte, error) {
				return c.signature, c.err
			}}
			prover := newProver(t, key, clientBase(func(*http.Request) (*http.Response, error) {
				t.Error("sent")
				return nil, errClientDisk
			}))
			req := mustRequest(t, "POST", clientAPIURL, "")
			body := newTrackedBody("hello")
			req.Body = body
			_, err := prover.RoundTrip(req)
			require.ErrorIs(t, err, tokensession.ErrUnavailable, "the user is still logged in")
			require.NotErrorIs(t, err, sessionclient.ErrNoTokens)
			require.NotErrorIs(t, err, sessionclient.ErrSessionEnded)
			if errors.Is(c.err, errClientDisk) {
				require.ErrorIs(t, err, errClientDisk)
			}
			require.True(t, body.isClosed())
		})
	}
}

// A half of a signature can be short: one in 128 has a zero in front. Each has its 32 bytes.
func TestProver_signaturesAreOfOneLength(t *testing.T) {
	key := newKeys(t)["P-256"]
	short := 0
	watched := driver{key.Public(), func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
		require.Equal(t, crypto.SHA256, opts.HashFunc())
		require.Len(t, digest, 32)
		der, err := key.Sign(rand.Reader, digest, opts)
		var halves struct{ R, S *big.Int }
		if _, err := asn1.Unmarshal(der, &halves); err != nil {
			return nil, err
		}
		if halves.R.BitLen() <= 248 || halves.S.BitLen() <= 248 {
			short++
		}
		return der, err
	}}
	prover := newProver(t, watched, clientBase(func(req *http.Request) (*http.Response, error) {
		_, _, err := openProof(req.Header.Get("DPoP"))
		return &http.Response{StatusCode: 200, Body: http.NoBody}, err
	}))
	for n := 0; short < 3; n++ {
		require.Less(t, n, 10000)
		requireStatus(t, prover, 200, mustRequest(t, "GET", clientAPIURL, ""))
	}
}

func TestProver_isForManyGoroutines(t *testing.T) {
	s := newNonceServer(t)
	prover := newProver(t, newKeys(t)["P-256"], nil)
	client := &http.Client{Transport: prover}
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for i := range 20 {
				if n == 0 {
					s.set(fmt.Sprint("n-", i/10))
				}
				_, _, err := clientGet(context.Background(), client.Transport, s.URL)
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	s.took(t)
	requireStatus(t, prover, 200, mustRequest(t, "GET", s.URL, ""))
}

func TestProver_printsNoKey(t *testing.T) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	prover := newProver(t, key, nil)
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "prover", prover)
	within := struct{ p sessionclient.Prover }{*prover}
	cfg := sessionclient.Config{Key: key}
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "config", cfg)
	printed := fmt.Sprintf("%v %+v %#v %s %v %+v %#v %v", prover, *prover, prover, prover,
		within, within, &within, sessionclient.Prover{}) + log.String() +
		fmt.Sprintf("%v %+v %#v %v", cfg, cfg, cfg, &cfg)
	require.Contains(t, printed, prover.Thumbprint())
	for _, secret := range []string{
		fmt.Sprintf("%x", key.Seed()), fmt.Sprint(key.Seed()[:8])[1:20], b64(key.Seed()),
	} {
		require.NotContains(t, printed, secret)
	}
}

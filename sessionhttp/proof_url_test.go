package sessionhttp_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// requestLine reads a request as a server does.
func requestLine(t *testing.T, target, host string) *http.Request {
	t.Helper()
	text := strings.NewReader("GET " + target + " HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
	r, err := http.ReadRequest(bufio.NewReader(text))
	require.NoError(t, err, target)
	return r
}

func TestCheck_url(t *testing.T) {
	const good, other = true, false
	b := newProofBench(t, newEd25519Key(t), sessionhttp.ProofConfig{})
	for _, c := range []struct {
		target, host, htu string
		plain             bool // came without TLS, as from a proxy that ends it
		want              bool
	}{
		{"/notes", "api.example", "https://api.example/notes", false, good},
		{"/notes?page=2", "api.example", "https://api.example/notes", false, good},
		{"/notes", "api.example", "https://api.example/notes?page=2", false, good},
		{"/notes", "api.example", "https://api.example/notes#top", false, good},
		{"/notes", "api.example", "https://api.example/notes?#/x", false, good},
		{"/notes", "api.example", "https://api.example:443/notes", false, good},
		{"/notes", "api.example:443", "https://api.example/notes", false, good},
		{"/notes", "api.example", "https://api.example:/notes", false, good},
		{"/notes", "api.example:8443", "https://api.example:8443/notes", false, good},
		{"/notes", "api.example", "HTTPS://API.Example/notes", false, good},
		{"/notes", "API.EXAMPLE", "https://api.example/notes", false, good},
		{"/", "api.example", "https://api.example/", false, good},
		{"/", "api.example", "https://api.example", false, good},
		{"/?a=b", "api.example", "https://api.example?a", false, good},
		{"/a%7eb", "api.example", "https://api.example/a~b", false, good},
		{"/a~b", "api.example", "https://api.example/a%7Eb", false, good},
		{"/a%2fb", "api.example", "https://api.example/a%2Fb", false, good},
		{"/a%2Fb", "api.example", "https://api.example/a%2fb", false, good},
		{"/%41%5a%30%2D%2e%5f", "api.example", "https://api.example/AZ0-._", false, good},
		{"/n%C3%B6te", "api.example", "https://api.example/n%c3%b6te", false, good},
		{"https://api.example/notes", "api.example", "https://api.example/notes", false, good},
		{"http://api.example/notes?x", "other.example", "http://api.example/notes", true, good},
		{"http://api.example", "api.example", "https://api.example/", true, good},
		{"/a//b", "api.example", "https://api.example/a//b", false, good},
		{"/go/https://x.example/notes", "api.example", "https://api.example/go/https://x.example/notes",
			false, good},
		{"/notes", "[::1]:8080", "http://[::1]:8080/notes", true, good},
		{"/notes", "[2001:DB8::1]:443", "https://[2001:db8::1]/notes", false, good},
		{"/notes", "api.example", "https://api.example/notes", true, good},
		{"/notes", "api.example", "http://api.example/notes", true, good},
		{"/notes", "api.example:80", "http://api.example/notes", true, good},
		{"/notes", "api.example:443", "https://api.example/notes", true, good},

		{"/notes", "api.example", "http://api.example/notes", false, other},
		{"/notes", "api.example", "https://api.example/notes/", false, other},
		{"/notes/", "api.example", "https://api.example/notes", false, other},
		{"/notes", "api.example", "https://api.example/Notes", false, other},
		{"/notes", "api.example", "https://api.example/note", false, other},
		{"/notes", "api.example", "https://api.example/notes/1", false, other},
		{"/notes", "api.example", "https://api.example/", false, other},
		{"/notes", "api.example", "https://api.example", false, other},
		{"/notes", "api.example", "https://api.example:8443/notes", false, other},
		{"/notes", "api.example", "https://api.example:80/notes", false, other},
		{"/notes", "api.example", "http://api.example:443/notes", true, other},
		{"/notes", "api.example:80", "https://api.example/notes", true, other},
		{"/notes", "api.example", "https://api.example./notes", false, other},
		{"/notes", "api.example", "https://evil.example/notes", false, other},
		{"/notes", "api.example", "https://api.example.evil.example/notes", false, other},
		{"/notes", "api.example", "https://user@api.example/notes", false, other},
		{"/notes", "api.example", "https://api.example@evil.example/notes", false, other},
		{"/notes", "api.example", "https://:@api.example/notes", false, other},
		{"/notes", "api.example", "https://api.example/a/../notes", false, other},
		{"/a/../notes", "api.example", "https://api.example/notes", false, other},
		{"/notes", "api.example", "https://api.example/./notes", false, other},
		{"/notes", "api.example", "https://api.example//notes", false, other},
		{"/notes", "api.example", `https://api.example\notes`, false, other},
		{"/go/https://x.example/notes", "api.example", "https://api.example/notes", false, other},
		{"/a%2Fb", "api.example", "https://api.example/a/b", false, other},
		{"/a/b", "api.example", "https://api.example/a%2Fb", false, other},
		{"/a%25b", "api.example", "https://api.example/a%b", false, other},
		{"/a", "api.example", "https://api.example/a%", false, other},
		{"/a", "api.example", "https://api.example/a%2", false, other},
		{"/a", "api.example", "https://api.example/%6G", false, other},
		{"/a;x", "api.example", "https://api.example/a%3Bx", false, other},
		{"/notes", "api.example", "/notes", false, other},
		{"/notes", "api.example", "//api.example/notes", false, other},
		{"/notes", "api.example", "api.example/notes", false, other},
		{"/notes", "api.example", "https:/api.example/notes", false, other},
		{"/notes", "api.example", "https:///notes", false, other},
		{"/notes", "api.example", "ftp://api.example/notes", true, other},
		{"/notes", "api.example", "wss://api.example/notes", false, other},
		{"/notes", "api.example", " https://api.example/notes", false, other},
		{"/notes", "api.example", "https://api.example/notes ", false, other},
		{"/notes", "api.example", "https://api.example/notes\n", false, other},
		{"/notes", "kapi.example", "https://\u212aapi.example/notes", false, other},
		{"/notes", "api.example", "https://ap%69.example/notes", false, other},
		// A fragment is never sent: what looks like one is a part of the path.
		{"/notes#x", "api.example", "https://api.example/notes", false, other},
		{"/notes#x", "api.example", "https://api.example/notes#x", false, other},
		{"*", "api.example", "https://api.example/", false, other},
		{"*", "api.example", "https://api.example/*", false, other},
	} {
		r := requestLine(t, c.target, c.host)
		if r.URL.Host == "" || !c.plain {
			r.TLS = &tls.ConnectionState{}
		}
		if c.plain {
			r.TLS = nil
		}
		r.Header.Set("DPoP", b.proof(members{"htu": text(c.htu)}))
		_, _, err := b.checkRequest(r)
		name := fmt.Sprintf("%s of %s, htu %s", c.target, c.host, c.htu)
		if c.want == good {
			require.NoError(t, err, name)
		} else {
			require.ErrorIs(t, err, sessionhttp.ErrInvalidProof, name)
		}
	}
}

// The name of the host is what the server was asked for. Nothing that looks like a URL in it
// counts.
func TestCheck_hostIsAName(t *testing.T) {
	b := newProofBench(t, newEd25519Key(t), sessionhttp.ProofConfig{})
	for host, htu := range map[string]string{
		"api.example/x":      "https://api.example/x/notes",
		"api.example/notes?": "https://api.example/notes",
		"user@api.example":   "https://api.example/notes",
		"api.example#":       "https://api.example", "": "https:///notes",
		`api.example\`: `https://api.example\/notes`,
	} {
		r := request(http.MethodGet, "https://api.example/notes",
			header("DPoP", b.proof(members{"htu": text(htu)})))
		r.Host, r.RequestURI = host, "/notes"
		_, _, err := b.checkRequest(r)
		require.ErrorIs(t, err, sessionhttp.ErrInvalidProof, host)
	}
}

// A client that puts a user before the host's name may mean another host.
func TestCheck_urlWithAUser(t *testing.T) {
	const url = "https://user@api.example/notes"
	b := newProofBench(t, newEd25519Key(t), sessionhttp.ProofConfig{
		RequestURL: func(*http.Request) string { return url },
	})
	_, _, err := b.checkRequest(request(http.MethodGet, "https://api.example/notes",
		header("DPoP", b.proof(members{"htu": text(url)}))))
	require.ErrorIs(t, err, sessionhttp.ErrInvalidProof)
}

// The path is the one that the client sent, whatever a router in front has made of it.
func TestCheck_behindStripPrefix(t *testing.T) {
	b := newProofBench(t, newEd25519Key(t), sessionhttp.ProofConfig{})
	var err error
	seen := ""
	check := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _, err = b.checkRequest(r)
		seen = r.URL.Path
	})
	handler := http.StripPrefix("/api/v1", check)
	for htu, good := range map[string]bool{"https://api.example/api/v1/notes": true,
		"https://api.example/notes": false} {
		handler.ServeHTTP(httptest.NewRecorder(),
			request(http.MethodGet, "https://api.example/api/v1/notes", func(r *http.Request) {
				r.RequestURI = "/api/v1/notes"
				r.Header.Set("DPoP", b.proof(members{"htu": text(htu)}))
			}))
		require.Equal(t, "/notes", seen)
		require.Equal(t, good, err == nil, htu)
	}
}

// With a real server, and TLS: what net/http makes of the request is what counts.
func TestCheck_atRealServers(t *testing.T) {
	b := newProofBench(t, newEd25519Key(t), sessionhttp.ProofConfig{})
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, _, err := b.checkRequest(r); err != nil {
			http.Error(w, err.Error(), http.StatusUnauthorized)
		}
	})
	secure := httptest.NewUnstartedServer(handler)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	plain := httptest.NewServer(handler)
	defer plain.Close()
	for _, server := range []*httptest.Server{secure, plain} {
		get := func(htu string) int {
			t.Helper()
			r, err := http.NewRequest(http.MethodGet, server.URL+"/a%7Eb/%C3%A4?q=1", nil)
			require.NoError(t, err)
			r.Header.Set("DPoP", b.proof(members{"htu": text(htu)}))
			answer, err := server.Client().Do(r)
			require.NoError(t, err)
			_, err = io.Copy(io.Discard, answer.Body)
			require.NoError(t, err)
			require.NoError(t, answer.Body.Close())
			return answer.StatusCode
		}
		require.Equal(t, http.StatusOK, get(server.URL+"/a~b/%c3%a4"))
		require.Equal(t, http.StatusUnauthorized, get(server.URL+"/a~b/"))
		_, host, _ := strings.Cut(server.URL, "://")
		require.Equal(t, http.StatusOK, get("https://"+host+"/a~b/%c3%a4"))
		require.Equal(t, server == plain, get("http://"+host+"/a~b/%c3%a4") == http.StatusOK)
	}
}

func TestCheck_requestURL(t *testing.T) {
	public := "https://api.example/v1/notes"
	b := newProofBench(t, newEd25519Key(t), sessionhttp.ProofConfig{
		RequestURL: func(r *http.Request) string { return public },
	})
	check := func(htu string) error {
		r := request(http.MethodGet, "http://10.0.0.1:8080/notes",
			header("DPoP", b.proof(members{"htu": text(htu)})))
		_, _, err := b.checkRequest(r)
		return err
	}
	require.NoError(t, check("https://api.example/v1/notes"))
	require.NoError(t, check("HTTPS://api.example:443/v1/notes?x"))
	require.ErrorIs(t, check("http://10.0.0.1:8080/notes"), sessionhttp.ErrInvalidProof)
	require.ErrorIs(t, check("http://api.example/v1/notes"), sessionhttp.ErrInvalidProof)
	public = "https://api.example/v1/notes?page=2"
	require.NoError(t, check("https://api.example/v1/notes"), "a query that was left in")
	for _, public = range []string{"", "/v1/notes", "not a URL", "https://"} {
		require.ErrorIs(t, check(public+"x"), sessionhttp.ErrInvalidProof)
		require.ErrorIs(t, check("https://api.example/v1/notes"), sessionhttp.ErrInvalidProof, public)
	}
}

// Who sends a request chooses these headers, too.
func TestCheck_forwardedHeadersAreNotRead(t *testing.T) {
	b := newProofBench(t, newEd25519Key(t), sessionhttp.ProofConfig{})
	for _, forged := range []string{"X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Prefix",
		"Forwarded", "X-Original-URL", "X-Rewrite-URL"} {
		for _, value := range []string{"evil.example", "https", "/evil", "host=evil.example;proto=https",
			"https://evil.example/notes"} {
			r := request(http.MethodGet, "https://api.example/notes", header(forged, value),
				header("DPoP", b.proof(members{"htu": `"https://evil.example/notes"`})))
			_, _, err := b.checkRequest(r)
			require.ErrorIs(t, err, sessionhttp.ErrInvalidProof, forged)
			r.Header.Set("DPoP", b.proof(nil))
			_, _, err = b.checkRequest(r)
			require.NoError(t, err, forged)
			for _, htu := range []string{"https://api.example/notes", "http://api.example/notes"} {
				r := request(http.MethodGet, "http://api.example/notes", header(forged, value),
					header("DPoP", b.proof(members{"htu": text(htu)})))
				_, _, err := b.checkRequest(r)
				require.NoError(t, err, "%s, htu %s", forged, htu)
			}
		}
	}
}

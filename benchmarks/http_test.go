package benchmarks

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

const httpClients = 16

// BenchmarkHTTP_refresh lets clients refresh over loopback HTTP, in turns with a handler on the
// same server that signs an access token with Ed25519, writes an answer of the same size, and does
// nothing else.
func BenchmarkHTTP_refresh(b *testing.B) {
	m := newManager(b, must(tokensession.GenerateKey()), tokensession.AccessConfig{})
	h, err := sessionhttp.New(m, sessionhttp.Config{})
	check(b, err)
	mux := http.NewServeMux()
	h.Mount(mux)
	mux.Handle("/sign", signer(start(b, m)))
	server := httptest.NewServer(mux)
	b.Cleanup(server.Close)
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: httpClients}}

	var refreshes, signatures []func()
	for range httpClients {
		refreshes = append(refreshes, httpRefresher(client, server.URL+"/auth/token",
			start(b, m).RefreshToken))
		signatures = append(signatures, httpRefresher(client, server.URL+"/sign",
			start(b, m).RefreshToken))
	}
	run(refreshes, 300*time.Millisecond) // connects and warms up
	run(signatures, 300*time.Millisecond)
	var ours, floor timings
	var ratios []float64
	for b.Loop() {
		for range 20 {
			f, o := run(signatures, 250*time.Millisecond), run(refreshes, 250*time.Millisecond)
			ratios = append(ratios, o.rate()/f.rate())
			floor.add(f)
			ours.add(o)
		}
	}
	slices.Sort(ratios)
	b.ReportMetric(0, "ns/op") // of everything together: no use
	b.ReportMetric(floor.rate(), "sign-ops/s")
	b.ReportMetric(floor.percentile(50), "sign-p50-ns")
	b.ReportMetric(floor.percentile(99), "sign-p99-ns")
	b.ReportMetric(ours.rate(), "refresh-ops/s")
	b.ReportMetric(ours.percentile(50), "refresh-p50-ns")
	b.ReportMetric(ours.percentile(99), "refresh-p99-ns")
	b.ReportMetric(ratios[len(ratios)/2], "throughput-ratio")
}

// signer answers with the tokens, of which it signs the access token.
func signer(tokens tokensession.Tokens) http.Handler {
	_, key := must2(ed25519.GenerateKey(rand.Reader))
	signed := tokens.AccessToken[:strings.LastIndexByte(tokens.AccessToken, '.')]
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		signature := base64.RawURLEncoding.EncodeToString(ed25519.Sign(key, []byte(signed)))
		w.Header().Set("Content-Type", "application/json")
		_, _ = fmt.Fprintf(w, `{"access_token":"%s.%s","refresh_token":"%s"}`, signed, signature,
			tokens.RefreshToken)
	})
}

// httpRefresher is a client that goes on with the refresh token that it is answered with.
func httpRefresher(client *http.Client, url, token string) func() {
	return func() {
		answer, err := client.Post(url, "application/x-www-form-urlencoded",
			strings.NewReader("grant_type=refresh_token&refresh_token="+token))
		if err != nil {
			panic(err)
		}
		body, err := io.ReadAll(answer.Body)
		if err != nil {
			panic(err)
		}
		_ = answer.Body.Close()
		var tokens struct {
			RefreshToken string `json:"refresh_token"`
		}
		if err := json.Unmarshal(body, &tokens); err != nil || tokens.RefreshToken == "" || answer.StatusCode != http.StatusOK {
			panic(fmt.Sprintf("%s: %s", answer.Status, body))
		}
		token = tokens.RefreshToken
	}
}

// BenchmarkHTTP_require calls a handler that does nothing, in turns as it is and behind Require,
// with a token that was verified before.
func BenchmarkHTTP_require(b *testing.B) {
	m := newManager(b, must(tokensession.GenerateKey()), tokensession.AccessConfig{})
	h, err := sessionhttp.New(m, sessionhttp.Config{Cookies: true})
	check(b, err)
	bare := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	guarded := h.Require()(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if _, ok := sessionhttp.FromContext(r.Context()); !ok {
			panic("no access")
		}
	}))
	token := start(b, m).AccessToken
	for _, c := range []struct{ name, header, value string }{
		{"bearer", "Authorization", "Bearer " + token},
		{"cookie", "Cookie", "theme=dark; __Host-access=" + token + "; lang=en"},
	} {
		b.Run(c.name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, "https://api.example/notes", nil)
			r.Header.Set(c.header, c.value)
			w := nothing{http.Header{}}
			guarded.ServeHTTP(w, r)
			b.ReportMetric(testing.AllocsPerRun(1000, func() { bare.ServeHTTP(w, r) }), "bare-allocs")
			allocs := testing.AllocsPerRun(1000, func() { guarded.ServeHTTP(w, r) })
			const batch = 1000 // a call of the bare handler is shorter than a look at the clock
			var bareTimes, guardedTimes []time.Duration
			for b.Loop() {
				bareTimes = append(bareTimes, elapsed(batch, func() { bare.ServeHTTP(w, r) }))
				guardedTimes = append(guardedTimes, elapsed(batch, func() { guarded.ServeHTTP(w, r) }))
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(median(bareTimes)/batch, "bare-ns")
			b.ReportMetric(median(guardedTimes)/batch, "require-ns")
			b.ReportMetric(allocs, "require-allocs")
		})
	}
}

func elapsed(times int, f func()) time.Duration {
	begin := time.Now()
	for range times {
		f()
	}
	return time.Since(begin)
}

// nothing is a ResponseWriter for handlers that write nothing but headers.
type nothing struct{ header http.Header }

func (n nothing) Header() http.Header       { return n.header }
func (nothing) Write(b []byte) (int, error) { panic("an answer") }
func (nothing) WriteHeader(int)             { panic("an answer") }

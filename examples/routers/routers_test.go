package routers

import (
	"bufio"
	"io"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func TestRouters(t *testing.T) {
	for name, router := range map[string]func(*sessionhttp.Handlers) http.Handler{
		"net/http": NetHTTP, "chi": Chi, "gin": Gin, "echo": Echo,
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewTLSServer(router(newHandlers(t)))
			defer server.Close()
			client := server.Client()
			client.Jar, _ = cookiejar.New(nil)
			// A body that ends in "…" is the beginning.
			do := func(method, path string, status int, body string) {
				t.Helper()
				r, err := http.NewRequest(method, server.URL+path, nil)
				if err != nil {
					t.Fatal(err)
				}
				answer, err := client.Do(r)
				if err != nil {
					t.Fatal(err)
				}
				defer answer.Body.Close()
				got, err := io.ReadAll(answer.Body)
				if err != nil {
					t.Fatal(err)
				}
				begins, rest := strings.CutSuffix(body, "…")
				good := string(got) == body || rest && strings.HasPrefix(string(got), begins)
				if answer.StatusCode != status || !good {
					t.Errorf("%s %s: %d %q, want %d %q", method, path, answer.StatusCode, got, status, body)
				}
			}
			do("GET", "/", 200, "welcome\n")
			do("GET", "/me", 401, "{\"error\":\"invalid_token\"}\n")
			do("GET", "/auth/session", 200, "null\n")
			do("GET", "/auth/session.js", 200, "//…")
			do("GET", "/auth/jwks.json", 200, `{"keys":…`)
			do("GET", "/auth/unknown", 404, "404 page not found\n")
			do("POST", "/login", 200, "")
			do("GET", "/me", 200, "hello alice\n")
			do("GET", "/", 200, "welcome back, alice\n")
			do("POST", "/auth/token", 200, `{"subject":"alice"…`)
			do("GET", "/me", 200, "hello alice\n")
			events, err := client.Get(server.URL + "/live")
			if err != nil {
				t.Fatal(err)
			}
			defer events.Body.Close()
			stream := bufio.NewReader(events.Body)
			if line, err := stream.ReadString('\n'); err != nil || line != "data: hello\n" {
				t.Errorf("GET /live: %q, %v", line, err)
			}
			do("POST", "/auth/logout", 200, "{}\n")
			rest, err := io.ReadAll(stream) // ends because the session did
			if err != nil || string(rest) != "\ndata: revoked\n\n" {
				t.Errorf("GET /live, after the logout: %q, %v", rest, err)
			}
			do("GET", "/me", 401, "{\"error\":\"invalid_token\"}\n")
		})
	}
}

func newHandlers(t *testing.T) *sessionhttp.Handlers {
	t.Helper()
	key, err := tokensession.GenerateKey()
	if err != nil {
		t.Fatal(err)
	}
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	})
	if err != nil {
		t.Fatal(err)
	}
	sessions, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{})
	if err != nil {
		t.Fatal(err)
	}
	h, err := sessionhttp.New(sessions, sessionhttp.Config{Cookies: true})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

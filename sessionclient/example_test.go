package sessionclient_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A command-line tool keeps its tokens in a file. The user logged in some days ago, so the access
// token has expired long since.
func ExampleTransport() {
	server := exampleServer() // stands for https://auth.example
	defer server.Close()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	store := sessionclient.NewTokenFile(filepath.Join(dir, "tokens.json"))

	// The login answers in the form of OAuth 2. The program saves that.
	asked := time.Now().Add(-72 * time.Hour)
	resp, err := http.Post(server.URL+"/login", "", nil)
	if err != nil {
		panic(err)
	}
	body, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil {
		panic(err)
	}
	tokens, err := sessionclient.ParseTokens(body, asked)
	if err != nil {
		panic(err)
	}
	if err := store.Save(context.Background(), tokens); err != nil {
		panic(err)
	}

	// Each run of the program.
	transport, err := sessionclient.New(server.URL+"/auth/token", store, sessionclient.Config{
		OnSessionEnd: func(error) { fmt.Println("please log in again") },
	})
	if err != nil {
		panic(err)
	}
	defer transport.Wait(context.Background()) // before it exits
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}

	get := func(path string) {
		resp, err := client.Get(server.URL + path)
		switch {
		case errors.Is(err, sessionclient.ErrSessionEnded), errors.Is(err, sessionclient.ErrNoTokens):
			fmt.Println("not logged in")
		case err != nil: // tokensession.ErrUnavailable, among others: the tokens stay
			fmt.Println("try again later:", err)
		default:
			defer resp.Body.Close()
			body, _ := io.ReadAll(resp.Body)
			fmt.Println(resp.StatusCode, string(body))
		}
	}
	get("/me")
	get("/me")
	get("/kick") // an administrator ends the session
	get("/me")
	// Output:
	// 200 alice, with refresh 1
	// 200 alice, with refresh 1
	// 200 done
	// please log in again
	// not logged in
}

// The Transport posts the login itself and saves its tokens. A logout ends the session at the
// server.
func ExampleTransport_Login() {
	server := exampleServer() // stands for https://auth.example
	defer server.Close()
	store := &sessionclient.TokenMemory{}
	transport, err := sessionclient.New(server.URL+"/auth/token", store, sessionclient.Config{})
	if err != nil {
		panic(err)
	}
	client := &http.Client{Transport: transport}
	ctx := context.Background()

	for _, password := range []string{"wrong", "right"} {
		form := strings.NewReader(url.Values{"user": {"alice"}, "password": {password}}.Encode())
		req, err := http.NewRequestWithContext(ctx, "POST", server.URL+"/login", form)
		if err != nil {
			panic(err)
		}
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		err = transport.Login(req)
		var refused *sessionclient.LoginError
		switch {
		case errors.As(err, &refused):
			fmt.Print(refused.StatusCode, " ", string(refused.Body)) // the server's own words
		case err != nil: // no answer, or the tokens cannot be saved
			fmt.Println("try again later:", err)
		default:
			fmt.Println("logged in")
		}
	}
	resp, err := client.Get(server.URL + "/me")
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode)

	if err := transport.Logout(ctx); err != nil {
		fmt.Println("still logged in, try again later:", err)
	}
	_, err = client.Get(server.URL + "/me")
	fmt.Println(errors.Is(err, sessionclient.ErrNoTokens))
	// Output:
	// 403 wrong user or password
	// logged in
	// 200
	// true
}

// An API wants a more recent proof of who the user is. The program asks the user for it, sends it,
// and makes the request again.
func ExampleStepUpOf() {
	server := exampleServer() // stands for https://auth.example
	defer server.Close()
	store := &sessionclient.TokenMemory{}
	logIn(server, store)
	transport, err := sessionclient.New(server.URL+"/auth/token", store, sessionclient.Config{})
	if err != nil {
		panic(err)
	}
	client := &http.Client{Transport: transport}
	for range 2 {
		resp, err := client.Post(server.URL+"/pay", "text/plain", strings.NewReader("ten euros"))
		if err != nil {
			panic(err)
		}
		resp.Body.Close()
		if asked, ok := sessionclient.StepUpOf(resp); ok {
			fmt.Println("please enter your code again; it may be", *asked.MaxAge, "old at most")
			proof := url.Values{"code": {"123456"}}
			if resp, err = client.PostForm(server.URL+"/step-up", proof); err != nil {
				panic(err)
			}
			resp.Body.Close()
			continue
		}
		fmt.Println(resp.StatusCode)
	}
	// Output:
	// please enter your code again; it may be 5m0s old at most
	// 200
}

// The tokens are bound to a key, which a thief of the tokens does not have.
func ExampleLoadKey() {
	server := exampleServer() // stands for https://auth.example
	defer server.Close()
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	store := sessionclient.NewTokenFile(filepath.Join(dir, "tokens.json"))

	key, err := sessionclient.LoadKey(filepath.Join(dir, "key.pem")) // the first run makes it
	if err != nil {
		panic(err)
	}
	transport, err := sessionclient.New(server.URL+"/auth/token", store, sessionclient.Config{
		Key: key,
	})
	if err != nil {
		panic(err)
	}
	login, err := http.NewRequest("POST", server.URL+"/login", nil)
	if err != nil {
		panic(err)
	}
	if err := transport.Login(login); err != nil {
		panic(err)
	}
	resp, err := (&http.Client{Transport: transport}).Get(server.URL + "/me")
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode)

	thief, err := sessionclient.New(server.URL+"/auth/token", store, sessionclient.Config{})
	if err != nil {
		panic(err)
	}
	_, err = thief.Token(context.Background())
	fmt.Println(err)
	// Output:
	// 200
	// sessionclient: no tokens that can be used: those in the store are bound to a key, and Config.Key is nil
}

// logIn logs alice in.
func logIn(server *httptest.Server, store sessionclient.TokenStore) {
	transport, err := sessionclient.New(server.URL+"/auth/token", store, sessionclient.Config{})
	if err != nil {
		panic(err)
	}
	req, err := http.NewRequest("POST", server.URL+"/login", nil)
	if err != nil {
		panic(err)
	}
	if err := transport.Login(req); err != nil {
		panic(err)
	}
	// Some days pass.
	tokens, err := store.Load(context.Background())
	if err != nil {
		panic(err)
	}
	if tokens.AccessExpiresAt.After(time.Now()) {
		tokens.AccessExpiresAt = time.Now()
		if err := store.Save(context.Background(), tokens); err != nil {
			panic(err)
		}
	}
}

// exampleServer logs everybody in as alice.
func exampleServer() *httptest.Server {
	key, err := tokensession.GenerateKey()
	if err != nil {
		panic(err)
	}
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	})
	if err != nil {
		panic(err)
	}
	sessions, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{})
	if err != nil {
		panic(err)
	}
	h, err := sessionhttp.New(sessions, sessionhttp.Config{
		DPoP: sessionhttp.DPoPAccepted, ProofKeys: [][]byte{make([]byte, 32)},
	})
	if err != nil {
		panic(err)
	}
	refreshes := 0
	mux := http.NewServeMux()
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("password") == "wrong" {
			http.Error(w, "wrong user or password", http.StatusForbidden)
			return
		}
		opts, err := h.ProofOptions(w, r)
		if err != nil {
			h.Refuse(w, r, err)
			return
		}
		opts = append(opts, tokensession.WithAuthTime(time.Now().Add(-time.Hour)))
		tokens, err := sessions.Start(r.Context(), "alice", opts...)
		if err != nil {
			panic(err)
		}
		h.WriteTokens(w, tokens)
	})
	mux.HandleFunc("POST /auth/token", func(w http.ResponseWriter, r *http.Request) {
		refreshes++
		h.Token(w, r)
	})
	mux.HandleFunc("POST /auth/revoke", h.Revoke)
	mux.Handle("GET /me", h.Require()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access, _ := sessionhttp.FromContext(r.Context())
		fmt.Fprintf(w, "%s, with refresh %d", access.Subject, refreshes)
	})))
	mux.Handle("GET /kick", h.Require()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access, _ := sessionhttp.FromContext(r.Context())
		if err := sessions.Revoke(r.Context(), access.SessionID); err != nil {
			panic(err)
		}
		fmt.Fprint(w, "done")
	})))
	recently := h.Require(sessionhttp.MaxAuthAge(5 * time.Minute))
	mux.Handle("POST /pay", recently(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})))
	mux.Handle("POST /step-up", h.Require()(http.HandlerFunc(
		func(_ http.ResponseWriter, r *http.Request) {
			access, _ := sessionhttp.FromContext(r.Context())
			if _, err := sessions.Reauthenticate(r.Context(), access.SessionID); err != nil {
				panic(err)
			}
		})))
	return httptest.NewServer(mux)
}

package sessionhttp_test

import (
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

var proofSecret = bytes.Repeat([]byte("s"), 32)

// A server whose clients bind their tokens to a key, and one of them, which has its key in memory.
func ExampleHandlers_ProofOptions() {
	sessions := newExampleManager()
	h, err := sessionhttp.New(sessions, sessionhttp.Config{
		DPoP:      sessionhttp.DPoPRequired,
		ProofKeys: [][]byte{proofSecret}, // all instances have the same
	})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	h.Mount(mux)
	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		opts, err := h.ProofOptions(w, r) // before the password: the client has to come twice
		if err != nil {
			h.Refuse(w, r, err)
			return
		}
		if !passwordIsRight(r) {
			http.Error(w, "wrong user or password", http.StatusForbidden)
			return
		}
		tokens, err := sessions.Start(r.Context(), "alice", opts...)
		if err != nil {
			h.Refuse(w, r, err)
			return
		}
		h.WriteTokens(w, tokens)
	})
	mux.Handle("GET /notes", h.Require()(http.HandlerFunc(notes)))
	mux.Handle("POST /payments", h.Require(sessionhttp.FreshNonce())(http.HandlerFunc(notes)))
	server := httptest.NewServer(mux)
	defer server.Close()

	_, key, err := ed25519.GenerateKey(nil)
	if err != nil {
		panic(err)
	}
	dir, err := os.MkdirTemp("", "example")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	store := sessionclient.NewTokenFile(filepath.Join(dir, "tokens.json"))
	transport, err := sessionclient.New(server.URL+"/auth/token", store,
		sessionclient.Config{Key: key})
	if err != nil {
		panic(err)
	}
	login, err := http.NewRequest(http.MethodPost, server.URL+"/login",
		strings.NewReader("password=x"))
	if err != nil {
		panic(err)
	}
	if err := transport.Login(login); err != nil {
		panic(err)
	}
	client := &http.Client{Transport: transport}
	resp, err := client.Get(server.URL + "/notes")
	if err != nil {
		panic(err)
	}
	body, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	fmt.Println(resp.StatusCode, string(body))
	resp, err = client.Post(server.URL+"/payments", "text/plain", strings.NewReader("10"))
	if err != nil {
		panic(err)
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode)

	// Somebody has stolen the access token.
	tokens, err := transport.Token(ctx)
	if err != nil {
		panic(err)
	}
	stolen, err := http.NewRequest(http.MethodGet, server.URL+"/notes", nil)
	if err != nil {
		panic(err)
	}
	stolen.Header.Set("Authorization", "DPoP "+tokens.AccessToken)
	if resp, err = http.DefaultClient.Do(stolen); err != nil {
		panic(err)
	}
	resp.Body.Close()
	fmt.Println(resp.StatusCode, resp.Header.Get("WWW-Authenticate"))
	// Output:
	// 200 the notes of alice
	// 200
	// 401 DPoP error="invalid_dpop_proof", algs="ES256 EdDSA Ed25519"
}

// A step-up of a program: the session goes on, and so does the key of its access tokens.
func ExampleBound() {
	sessions := newExampleManager()
	h, err := sessionhttp.New(sessions, sessionhttp.Config{
		DPoP:      sessionhttp.DPoPAccepted,
		ProofKeys: [][]byte{proofSecret},
		// A proxy in front takes https://api.example/v1/… and asks this server for /….
		RequestURL: func(r *http.Request) string {
			return "https://api.example/v1" + r.URL.EscapedPath()
		},
	})
	if err != nil {
		panic(err)
	}
	stepUp := func(w http.ResponseWriter, r *http.Request) {
		access, _ := sessionhttp.FromContext(r.Context())
		if !passwordIsRight(r) {
			http.Error(w, "wrong code", http.StatusForbidden)
			return
		}
		tokens, err := sessions.Reauthenticate(r.Context(), access.SessionID,
			tokensession.WithAuthMethods("pwd", "otp"),
			tokensession.WithConfirmation(access.KeyThumbprint))
		if err != nil {
			h.Refuse(w, r, err)
			return
		}
		h.WriteTokens(w, tokens)
	}
	mux := http.NewServeMux()
	mux.Handle("POST /step-up", h.Require(sessionhttp.Bound())(http.HandlerFunc(stepUp)))

	// A unit test of the handler alone.
	const thumbprint = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
	tokens, err := sessions.Start(ctx, "alice", tokensession.WithKeyThumbprint(thumbprint))
	if err != nil {
		panic(err)
	}
	access := tokensession.Access{SessionID: tokens.Session.ID, KeyThumbprint: thumbprint}
	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodPost, "/step-up", nil)
	stepUp(w, r.WithContext(sessionhttp.NewContext(r.Context(), access)))
	fmt.Println(w.Code, strings.Contains(w.Body.String(), `"token_type":"DPoP"`))
	// Output: 200 true
}

func notes(w http.ResponseWriter, r *http.Request) {
	access, _ := sessionhttp.FromContext(r.Context())
	fmt.Fprint(w, "the notes of ", access.Subject)
}

func newExampleVerifier() *tokensession.AccessVerifier {
	cfg := tokensession.AccessConfig{Issuer: "https://auth.example",
		Audience: []string{"https://api.example"}}
	key, err := tokensession.GenerateKey()
	if err != nil {
		panic(err)
	}
	signer, err := tokensession.NewAccessSigner(key, cfg)
	if err != nil {
		panic(err)
	}
	verifier, err := tokensession.NewAccessVerifier(signer.JWKS(), cfg)
	if err != nil {
		panic(err)
	}
	return verifier
}

// A middleware of one's own, in a service that has the issuer's keys and nothing else.
func ExampleProofs_Check() {
	verifier := newExampleVerifier()
	proofs, err := sessionhttp.NewProofs(sessionhttp.ProofConfig{Keys: [][]byte{proofSecret}})
	if err != nil {
		panic(err)
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "DPoP ")
		if !ok {
			w.Header().Set("WWW-Authenticate", `DPoP algs="ES256 EdDSA Ed25519"`)
			http.Error(w, "no token", http.StatusUnauthorized)
			return
		}
		var access tokensession.Access
		thumbprint, err := proofs.Check(w, r, token)
		if err == nil {
			access, err = verifier.VerifyBound(token, thumbprint)
		}
		if err != nil {
			code := "invalid_token"
			switch {
			case errors.Is(err, sessionhttp.ErrUseNonce):
				code = "use_dpop_nonce"
			case errors.Is(err, sessionhttp.ErrInvalidProof):
				code = "invalid_dpop_proof"
			}
			w.Header().Set("WWW-Authenticate", `DPoP error="`+code+`", algs="ES256 EdDSA Ed25519"`)
			http.Error(w, code, sessionhttp.Status(err))
			return
		}
		fmt.Fprintln(w, "hello", access.Subject)
	})

	w := httptest.NewRecorder()
	r := httptest.NewRequest(http.MethodGet, "https://api.example/notes", nil)
	r.Header.Set("Authorization", "DPoP some.access.token")
	handler.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Header().Get("WWW-Authenticate"))
	// Output: 401 DPoP error="invalid_dpop_proof", algs="ES256 EdDSA Ed25519"
}

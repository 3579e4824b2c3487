package sessionhttp_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func newExampleManager() *tokensession.Manager {
	key, err := tokensession.GenerateKey()
	if err != nil {
		panic(err)
	}
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{Issuer: "https://auth.example", Audience: []string{"https://api.example"}})
	if err != nil {
		panic(err)
	}
	m, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{})
	if err != nil {
		panic(err)
	}
	return m
}

func passwordIsRight(*http.Request) bool { return true }

// A server whose browsers keep their tokens in cookies.
func Example() {
	sessions := newExampleManager()
	mux := http.NewServeMux()

	h, err := sessionhttp.New(sessions, sessionhttp.Config{Cookies: true})
	if err != nil {
		panic(err)
	}
	h.Mount(mux) // /auth/token, /auth/logout, /auth/session.js and more

	mux.HandleFunc("POST /login", func(w http.ResponseWriter, r *http.Request) {
		if !passwordIsRight(r) {
			http.Error(w, "wrong user or password", http.StatusForbidden)
			return
		}
		if _, err := h.Login(w, r, "alice"); err != nil {
			http.Error(w, "no login", sessionhttp.Status(err))
			return
		}
		http.Redirect(w, r, "/", http.StatusSeeOther)
	})
	mux.Handle("GET /api/me", h.Require()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access, _ := sessionhttp.FromContext(r.Context())
		fmt.Fprintln(w, "hello", access.Subject)
	})))

	login := httptest.NewRecorder()
	mux.ServeHTTP(login, httptest.NewRequest(http.MethodPost, "/login", nil))
	r := httptest.NewRequest(http.MethodGet, "/api/me", nil)
	for _, c := range login.Result().Cookies() {
		if c.Path == "/" {
			r.AddCookie(c)
		}
	}
	me := httptest.NewRecorder()
	mux.ServeHTTP(me, r)
	fmt.Print(me.Body)
	// Output: hello alice
}

// What a program sends to refresh.
func ExampleHandlers_Token() {
	sessions := newExampleManager()
	h, err := sessionhttp.New(sessions, sessionhttp.Config{})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	h.Mount(mux)
	tokens, err := sessions.Start(context.Background(), "alice")
	if err != nil {
		panic(err)
	}
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {tokens.RefreshToken}}
	r := httptest.NewRequest(http.MethodPost, "/auth/token", strings.NewReader(form.Encode()))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	fmt.Println(w.Code, strings.Contains(w.Body.String(), `"token_type":"Bearer","expires_in":900,`))
	// Output: 200 true
}

// A page that everybody sees, and that greets those who are logged in.
func ExampleOptional() {
	h, err := sessionhttp.New(newExampleManager(), sessionhttp.Config{Cookies: true})
	if err != nil {
		panic(err)
	}
	home := func(w http.ResponseWriter, r *http.Request) {
		if access, ok := sessionhttp.FromContext(r.Context()); ok {
			fmt.Fprintln(w, "welcome back,", access.Subject)
			return
		}
		fmt.Fprintln(w, "welcome")
	}
	page := h.Require(sessionhttp.Optional())(http.HandlerFunc(home))

	w := httptest.NewRecorder()
	page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
	fmt.Print(w.Body)

	// In a unit test, NewContext stands for the login.
	r := httptest.NewRequest(http.MethodGet, "/", nil)
	home(w, r.WithContext(sessionhttp.NewContext(r.Context(), tokensession.Access{Subject: "alice"})))
	fmt.Print(strings.TrimPrefix(w.Body.String(), "welcome\n"))
	// Output:
	// welcome
	// welcome back, alice
}

// An identity provider answers with response_mode=form_post: its page posts the answer to us.
func ExampleHandlers_Login_formPost() {
	sessions := newExampleManager()
	h, err := sessionhttp.New(sessions, sessionhttp.Config{
		Cookies:      true,
		LoginOrigins: []string{"https://idp.example"},
	})
	if err != nil {
		panic(err)
	}
	callback := func(w http.ResponseWriter, r *http.Request) {
		if r.FormValue("state") != "as this browser was given" { // else somebody else's login is posted here
			http.Error(w, "not the login that was asked for", http.StatusForbidden)
			return
		}
		if _, err := h.Login(w, r, "alice"); err != nil {
			http.Error(w, "no login", sessionhttp.Status(err))
		}
	}

	for _, origin := range []string{"https://idp.example", "https://evil.example"} {
		form := url.Values{"state": {"as this browser was given"}}
		r := httptest.NewRequest(http.MethodPost, "/callback", strings.NewReader(form.Encode()))
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		r.Header.Set("Origin", origin)
		r.Header.Set("Sec-Fetch-Site", "cross-site")
		w := httptest.NewRecorder()
		callback(w, r)
		fmt.Println(w.Code, len(w.Result().Cookies()))
	}
	// Output:
	// 200 2
	// 403 0
}

// A page that the server renders. Its browser is sent to refresh where that is due.
func ExampleResume() {
	h, err := sessionhttp.New(newExampleManager(), sessionhttp.Config{
		Cookies: true, SameSite: http.SameSiteLaxMode,
		Refuse: func(w http.ResponseWriter, r *http.Request, err error) {
			if sessionhttp.Status(err) == http.StatusUnauthorized {
				http.Redirect(w, r, "/login", http.StatusSeeOther)
				return
			}
			http.Error(w, "Try again in a moment.", sessionhttp.Status(err))
		},
	})
	if err != nil {
		panic(err)
	}
	report := func(w http.ResponseWriter, r *http.Request) { fmt.Fprintln(w, "<h1>Report</h1>") }
	page := h.Require(sessionhttp.Resume())(http.HandlerFunc(report))

	w := httptest.NewRecorder()
	page.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/report", nil))
	fmt.Println(w.Code, w.Header().Get("Location"))
	// Output: 303 /login
}

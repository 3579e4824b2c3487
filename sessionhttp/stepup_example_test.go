package sessionhttp_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func oneTimePasswordIsRight(*http.Request, string) bool { return true }

// A change of the e-mail address needs a one-time password that is not older than five minutes.
func ExampleHandlers_Reauthenticated() {
	handlers, err := sessionhttp.New(newExampleManager(), sessionhttp.Config{Cookies: true})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	handlers.Mount(mux)

	changeEmail := handlers.Require(sessionhttp.MaxAuthAge(5*time.Minute), sessionhttp.AuthMethods("otp"))
	mux.Handle("POST /email", changeEmail(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "changed")
	})))

	// Below the prefix, so that the refresh cookie comes along.
	mux.HandleFunc("POST /auth/step-up", func(w http.ResponseWriter, r *http.Request) {
		access, err := handlers.Access(r)
		if err != nil {
			handlers.Refuse(w, r, err)
			return
		}
		if !oneTimePasswordIsRight(r, access.Subject) {
			http.Error(w, "wrong one-time password", http.StatusForbidden)
			return
		}
		if err := handlers.Reauthenticated(w, r, tokensession.WithAuthMethods("pwd", "otp")); err != nil {
			handlers.Refuse(w, r, err)
		}
	})

	login := httptest.NewRecorder()
	if _, err := handlers.Login(login, httptest.NewRequest("POST", "/login", nil), "alice"); err != nil {
		panic(err)
	}
	jar := login.Result().Cookies()
	for _, path := range []string{"/email", "/auth/step-up", "/email"} {
		r := httptest.NewRequest("POST", path, nil)
		for _, c := range jar {
			r.AddCookie(c)
		}
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, r)
		if cookies := w.Result().Cookies(); len(cookies) > 0 {
			jar = cookies
		}
		fmt.Println(path, w.Code)
		if challenge := w.Header().Get("WWW-Authenticate"); challenge != "" {
			fmt.Println(challenge)
		}
	}
	// Output:
	// /email 401
	// Bearer error="insufficient_user_authentication", acr_values="otp", max_age="300"
	// /auth/step-up 200
	// /email 200
}

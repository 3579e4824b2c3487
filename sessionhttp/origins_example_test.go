package sessionhttp_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// An API on https://api.shop.example for the pages of https://app.shop.example.
func ExampleHandlers_CORS() {
	sessions := newExampleManager()
	login := func(http.ResponseWriter, *http.Request) {}
	notes := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "milk") }

	h, err := sessionhttp.New(sessions, sessionhttp.Config{
		Cookies: true,
		Origins: []string{"https://app.shop.example"},
	})
	if err != nil {
		panic(err)
	}
	mux := http.NewServeMux()
	h.Mount(mux)
	mux.HandleFunc("POST /login", login)
	mux.Handle("GET /notes", h.Require()(http.HandlerFunc(notes)))
	server := &http.Server{Addr: ":8443", Handler: h.CORS(mux)}

	// What a browser asks before it sends the login as JSON.
	for _, origin := range []string{"https://app.shop.example", "https://evil.example"} {
		r := httptest.NewRequest(http.MethodOptions, "/login", nil)
		r.Header.Set("Origin", origin)
		r.Header.Set("Access-Control-Request-Method", "POST")
		r.Header.Set("Access-Control-Request-Headers", "content-type")
		w := httptest.NewRecorder()
		server.Handler.ServeHTTP(w, r)
		fmt.Println(w.Code, w.Header().Get("Access-Control-Allow-Origin"))
	}
	// Output:
	// 204 https://app.shop.example
	// 405
}

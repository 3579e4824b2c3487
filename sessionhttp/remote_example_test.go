package sessionhttp_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A service without a store lets requests in, and hears at once that a session was revoked.
func ExampleNewRemote() {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()

	// The issuer, another process.
	sessions := newExampleManager()
	go func() { _ = sessions.Run(ctx) }()
	auth, err := sessionhttp.New(sessions, sessionhttp.Config{
		MayFollow: func(r *http.Request) bool { return r.Header.Get("Authorization") == "Bearer a secret of services" },
	})
	if err != nil {
		panic(err)
	}
	issuer := httptest.NewServer(auth)
	defer issuer.Close()

	service := func(authURL string, client *http.Client) (http.Handler, error) {
		remote, err := sessionhttp.NewRemote(authURL, sessionhttp.RemoteConfig{
			Access: tokensession.AccessConfig{Issuer: "https://auth.example", Audience: []string{"https://api.example"}},
			Client: client, // adds what MayFollow asks for
		})
		if err != nil {
			return nil, err
		}
		go remote.Run(ctx)
		return remote.Require()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			access, _ := sessionhttp.FromContext(r.Context())
			fmt.Fprintln(w, "hello", access.Subject)
		})), nil
	}
	api, err := service(issuer.URL+"/auth", &http.Client{Transport: serviceTransport{}})
	if err != nil {
		panic(err)
	}

	tokens, err := sessions.Start(ctx, "alice")
	if err != nil {
		panic(err)
	}
	status := func() int {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("Authorization", "Bearer "+tokens.AccessToken)
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		return w.Code
	}
	for status() == http.StatusServiceUnavailable { // until it has heard from the issuer
		time.Sleep(time.Millisecond)
	}
	fmt.Println(status())
	if err := sessions.Revoke(ctx, tokens.Session.ID); err != nil {
		panic(err)
	}
	for status() == http.StatusOK {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(status())
	// Output:
	// 200
	// 401
}

type serviceTransport struct{}

func (serviceTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer a secret of services")
	return http.DefaultTransport.RoundTrip(r)
}

package examples

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"golang.org/x/oauth2"

	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

// A source is an [oauth2.TokenSource]. A request of the library has no context to give to it.
type source struct{ *sessionclient.Transport }

func (s source) Token() (*oauth2.Token, error) {
	t, err := s.Transport.Token(context.Background())
	return &oauth2.Token{AccessToken: t.AccessToken, Expiry: t.AccessExpiresAt}, err
}

var _ oauth2.TokenSource = source{}

// A library for some API takes an oauth2.TokenSource.
func Example_oauth2() {
	w := newWorld()
	defer w.close()
	transport := w.transport() // sessionclient.New(…)

	client := &http.Client{Transport: &oauth2.Transport{Source: source{transport}, Base: w.base()}}
	for range 2 {
		resp, err := client.Get(w.url + "/me")
		if err != nil {
			panic(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		fmt.Println(resp.StatusCode, string(body))
		w.expire()
	}
	// Output:
	// 200 alice, with refresh 1
	// 200 alice, with refresh 2
}

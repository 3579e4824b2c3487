package examples

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"

	"github.com/coder/websocket"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A WebSocket that stays open for as long as the session lives, and is closed when the user is
// logged out.
func Example_webSocketServer() {
	key := must(tokensession.GenerateKey())
	signer := must(tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	}))
	sessions := must(tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{}))
	h := must(sessionhttp.New(sessions, sessionhttp.Config{}))

	mux := http.NewServeMux()
	live := func(w http.ResponseWriter, r *http.Request) {
		conn, err := websocket.Accept(w, r, nil)
		if err != nil {
			return // and it has answered
		}
		stop := context.AfterFunc(r.Context(), func() {
			_ = conn.Close(4401, tokensession.Kind(context.Cause(r.Context())))
		})
		defer stop()
		// Read and Write drop the connection without a word when their context ends.
		ctx := context.WithoutCancel(r.Context())
		for err == nil { // here, it says back what it hears
			var text []byte
			if _, text, err = conn.Read(ctx); err == nil {
				err = conn.Write(ctx, websocket.MessageText, text)
			}
		}
	}
	mux.Handle("GET /live", h.Require(sessionhttp.UntilSessionEnds())(http.HandlerFunc(live)))

	server := httptest.NewServer(mux)
	defer server.Close()
	ctx := context.Background()
	tokens := must(sessions.Start(ctx, "alice"))
	conn, _, err := websocket.Dial(ctx, server.URL+"/live", &websocket.DialOptions{
		HTTPHeader: http.Header{"Authorization": {"Bearer " + tokens.AccessToken}},
	})
	if err != nil {
		panic(err)
	}
	defer func() { _ = conn.CloseNow() }()
	if err := conn.Write(ctx, websocket.MessageText, []byte("hello")); err != nil {
		panic(err)
	}
	_, text, err := conn.Read(ctx)
	fmt.Println(string(text), err)

	must(sessions.RevokeSubject(ctx, "alice"))
	_, _, err = conn.Read(ctx)
	fmt.Println(websocket.CloseStatus(err))
	// Output:
	// hello <nil>
	// StatusCode(4401)
}

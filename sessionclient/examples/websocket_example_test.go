package examples

import (
	"context"
	"fmt"
	"net/http"

	"github.com/coder/websocket"
)

// A WebSocket's handshake is an HTTP request. A dialer that takes an [http.Client] takes ours, and
// one that takes a header gets the access token in it.
func Example_webSocket() {
	w := newWorld()
	defer w.close()
	transport := w.transport() // sessionclient.New(…)
	ctx := context.Background()

	client := &http.Client{Transport: transport}
	byClient, _, err := websocket.Dial(ctx, w.url+"/hello", &websocket.DialOptions{HTTPClient: client})
	if err != nil {
		panic(err)
	}
	_, hello, err := byClient.Read(ctx)
	fmt.Println(string(hello), err)

	w.expire()
	tokens, err := transport.Token(ctx)
	if err != nil {
		panic(err)
	}
	byHeader, _, err := websocket.Dial(ctx, w.url+"/hello", &websocket.DialOptions{
		HTTPClient: &http.Client{Transport: w.base()},
		HTTPHeader: http.Header{"Authorization": {"Bearer " + tokens.AccessToken}},
	})
	if err != nil {
		panic(err)
	}
	_, hello, err = byHeader.Read(ctx)
	fmt.Println(string(hello), err)
	// Output:
	// hello alice, with refresh 1 <nil>
	// hello alice, with refresh 2 <nil>
}

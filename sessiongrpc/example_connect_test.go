package sessiongrpc_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"sync"

	"connectrpc.com/connect"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// memoryTokens keeps a client's tokens as long as the program runs.
type memoryTokens struct {
	mu     sync.Mutex
	tokens tokensession.Tokens
}

func (m *memoryTokens) Load(context.Context) (tokensession.Tokens, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tokens.AccessToken == "" {
		return tokensession.Tokens{}, sessionclient.ErrNoTokens
	}
	return m.tokens, nil
}

func (m *memoryTokens) Save(_ context.Context, tokens tokensession.Tokens) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.tokens = tokens
	return nil
}

// A service of Connect is a handler of net/http, so that the middleware of sessionhttp protects it,
// and a client of Connect sends its requests through an http.Client with a Transport.
func Example_connect() {
	key, err := tokensession.GenerateKey()
	if err != nil {
		log.Fatal(err)
	}
	signer, err := tokensession.NewAccessSigner(key, accessConfig)
	if err != nil {
		log.Fatal(err)
	}
	manager, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{})
	if err != nil {
		log.Fatal(err)
	}
	handlers, err := sessionhttp.New(manager, sessionhttp.Config{})
	if err != nil {
		log.Fatal(err)
	}

	// Generated code has a function like this one, NewGreeterHandler.
	const procedure = "/greet.v1.Greeter/Greet"
	greeter := connect.NewUnaryHandler(procedure, func(
		ctx context.Context, _ *connect.Request[wrapperspb.StringValue],
	) (*connect.Response[wrapperspb.StringValue], error) {
		access, _ := sessionhttp.FromContext(ctx)
		return connect.NewResponse(wrapperspb.String("hello, " + access.Subject)), nil
	})
	mux := http.NewServeMux()
	mux.Handle(procedure, handlers.Require()(greeter))
	handlers.Mount(mux)
	server := httptest.NewServer(mux)
	defer server.Close()

	// The client has logged in, and keeps its tokens in a store.
	tokens, err := manager.Start(context.Background(), "alice")
	if err != nil {
		log.Fatal(err)
	}
	store := &memoryTokens{tokens: tokens}
	transport, err := sessionclient.New(server.URL+"/auth/token", store, sessionclient.Config{})
	if err != nil {
		log.Fatal(err)
	}
	greet := func(client *http.Client) {
		call := connect.NewClient[wrapperspb.StringValue, wrapperspb.StringValue](
			client, server.URL+procedure)
		answer, err := call.CallUnary(context.Background(),
			connect.NewRequest(wrapperspb.String("")))
		if err != nil {
			fmt.Println(connect.CodeOf(err))
			return
		}
		fmt.Println(answer.Msg.GetValue())
	}
	greet(&http.Client{Transport: transport})
	greet(http.DefaultClient)

	// Output:
	// hello, alice
	// unauthenticated
}

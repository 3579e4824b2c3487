package keyring_test

import (
	"context"
	"fmt"
	"os"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/keyring"
)

// An everything is what a program gets from sqlstore.New or redisstore.New: it keeps sessions and
// keys.
type everything struct {
	tokensession.RefreshStore
	keyring.Store
}

// serve is what a server does at its start.
func serve(ctx context.Context, store everything) error {
	ring, err := keyring.Open(ctx, store, keyring.Config{
		Secret: []byte(os.Getenv("TOKENSESSION_SECRET")),
		Access: tokensession.AccessConfig{Issuer: "https://auth.example", Audience: []string{"https://api.example"}},
	})
	if err != nil {
		return err
	}
	go ring.Run(ctx)
	sessions, err := tokensession.New(ring.Signer(), store, tokensession.Config{})
	if err != nil {
		return err
	}
	tokens, err := sessions.Start(ctx, "alice")
	if err != nil {
		return err
	}
	access, err := sessions.Verify(tokens.AccessToken)
	fmt.Println("request by", access.Subject, err)
	return err
}

func ExampleOpen() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store := everything{tokensession.NewMemoryStore(), keyring.NewMemoryStore()}
	fmt.Println("without a secret:", serve(ctx, store) != nil)

	// One is made by: openssl rand -base64 32
	os.Setenv("TOKENSESSION_SECRET", "RN10o2MRZBUXHFo1olbo8zXQRK-YeFk-tZP52Xv6xXU")
	defer os.Unsetenv("TOKENSESSION_SECRET")
	if err := serve(ctx, store); err != nil {
		fmt.Println(err)
	}
	if err := serve(ctx, store); err != nil { // another instance, or this one after a restart
		fmt.Println(err)
	}
	keys, _ := store.Keys(ctx)
	fmt.Println("keys:", len(keys))
	// Output:
	// without a secret: true
	// request by alice <nil>
	// request by alice <nil>
	// keys: 1
}

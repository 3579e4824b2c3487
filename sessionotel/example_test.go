package sessionotel_test

import (
	"context"
	"log/slog"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionotel"
)

func Example() {
	audit := func(ctx context.Context, e tokensession.Event) {
		slog.InfoContext(ctx, "session", "event", e)
	}
	newSessions := func(signer *tokensession.AccessSigner, store tokensession.RefreshStore) (*tokensession.Manager, error) {
		telemetry, err := sessionotel.New(sessionotel.Config{}) // the global providers
		if err != nil {
			return nil, err
		}
		sessions, err := tokensession.New(signer, telemetry.Store(store), tokensession.Config{
			OnEvent: telemetry.OnEvent(audit), // your own function, or nil
		})
		if err != nil {
			return nil, err
		}
		return sessions, telemetry.Observe(sessions)
	}
	_ = newSessions
}

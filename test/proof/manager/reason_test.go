package manager_test

import (
	"context"
	"errors"
	"testing"

	"github.com/seed67bc9b7f/tokensession"
)

// TestReasonIsToldElsewhere: a session is ended at one instance, and its client comes to another one,
// which knows of it by the feed. That one tells the host why: each store keeps the reason.
func TestReasonIsToldElsewhere(t *testing.T) {
	eachBackend(t, func(t *testing.T, p place) {
		const reason = tokensession.Reason("password_change")
		var told events
		here := newManager(t, p.open(t, access{}), tokensession.Config{})
		there := newManager(t, p.open(t, access{}), tokensession.Config{OnEvent: told.Add})
		ctx, stop := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- there.Run(ctx) }()
		defer func() {
			stop()
			if err := <-ended; err != nil {
				t.Error(err)
			}
		}()
		tokens := start(t, here, "alice")
		if err := here.Revoke(ctx, tokens.Session.ID, tokensession.Because(reason)); err != nil {
			t.Fatal(err)
		}
		await(t, "the news", func() bool {
			_, err := there.Verify(tokens.AccessToken)
			return errors.Is(err, tokensession.ErrRevoked)
		})
		told.none(t, tokensession.EventRevoked)
		wantDead(t, there, tokens.RefreshToken, tokensession.ErrRevoked)
		var reasons []tokensession.Reason
		for _, e := range told.TakeRefused() {
			reasons = append(reasons, e.Session.RevokeReason)
		}
		if len(reasons) != 1 || reasons[0] != reason {
			t.Errorf("refused because of %q, want %q once", reasons, reason)
		}
	})
}

package tokensession_test

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

func TestKind(t *testing.T) {
	for err, want := range map[error]string{
		nil: "", errors.New("x"): "other", context.Canceled: "other",
		tokensession.ErrInvalidToken: "invalid_token", tokensession.ErrUnknownKey: "unknown_key",
		tokensession.ErrExpired: "expired", tokensession.ErrOutdated: "outdated",
		tokensession.ErrRevoked: "revoked", tokensession.ErrReused: "reused",
		tokensession.ErrDenied: "denied", tokensession.ErrInvalidScope: "invalid_scope",
		tokensession.ErrAttributes: "attributes", tokensession.ErrUnavailable: "unavailable",
		tokensession.ErrNotFound: "not_found", tokensession.ErrNoClaim: "no_claim",
		tokensession.ErrExists: "exists", tokensession.ErrConflict: "conflict",
		tokensession.ErrUnreadable: "unreadable", tokensession.ErrProofRequired: "proof_required",
		&tokensession.RevokedError{}: "revoked",
		&tokensession.ReuseError{}:   "reused",
		errors.Join(testkit.ErrDown): "other",
		fmt.Errorf("%w: %w", tokensession.ErrUnavailable, tokensession.ErrConflict): "unavailable",
	} {
		require.Equal(t, want, tokensession.Kind(err), "%v", err)
		if err != nil {
			require.Equal(t, want, tokensession.Kind(fmt.Errorf("wrapped: %w", err)))
		}
	}
}

// The labels of what the Manager's calls return.
func TestKind_ofWhatIsReturned(t *testing.T) {
	ctx := context.Background()
	w := newAnsweringWorld(t, tokensession.Config{})
	tokens := w.start()
	w.store.Down()
	require.Equal(t, "unavailable", tokensession.Kind(w.refreshError(tokens.RefreshToken)))
	w.store.Clear()
	w.reauthorize(w.m, 1)
	_, err := w.m.Verify(tokens.AccessToken)
	require.Equal(t, "outdated", tokensession.Kind(err))
	_, err = w.m.Session(ctx, "nonsense")
	require.Equal(t, "not_found", tokensession.Kind(err))
	w.refresh(tokens.RefreshToken)
	w.clock.Advance(grace)
	require.Equal(t, "reused", tokensession.Kind(w.refreshError(tokens.RefreshToken)))
	require.Equal(t, "revoked", tokensession.Kind(w.refreshError(tokens.RefreshToken)))
}

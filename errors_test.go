package tokensession_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

func TestRevokedError_saysWhy(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	old := w.start()
	w.start(tokensession.Replacing(old.Session.ID))
	var revoked *tokensession.RevokedError
	err := w.refreshError(old.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
	require.ErrorAs(t, err, &revoked)
	require.Equal(t, tokensession.RevokedError{SessionID: old.Session.ID,
		Reason: tokensession.ReasonReplaced}, *revoked)
	_, err = w.other(tokensession.Config{}).VerifyLive(ctx, old.AccessToken)
	require.ErrorAs(t, err, &revoked)
	require.Equal(t, tokensession.ReasonReplaced, revoked.Reason)
}

// An authorizer that verifies tokens itself, or a store that fails with our own errors, must not
// end a session.
func TestUnavailable_neverLooksLikeAVerdict(t *testing.T) {
	for _, verdict := range append(slices.Clone(verdicts), tokensession.ErrProofRequired) {
		for name, failure := range map[string]error{"itself": verdict,
			"wrapped": fmt.Errorf("asking: %w", verdict),
			"joined":  errors.Join(testkit.ErrDown, verdict),
			"a reuse": &tokensession.ReuseError{}} {
			t.Run(verdict.Error()+", "+name, func(t *testing.T) {
				w := newAnsweringWorld(t, tokensession.Config{Remember: -1})
				tokens, ending := w.start(), w.start()
				outage := func(err error) {
					t.Helper()
					require.ErrorIs(t, err, tokensession.ErrUnavailable)
					requireNoVerdict(t, err)
					require.NotErrorIs(t, err, tokensession.ErrProofRequired)
					require.NotErrorAs(t, err, new(*tokensession.ReuseError))
				}
				w.unchanged(tokens.Session.ID, func() {
					// which is the authorizer's own verdict
					if !errors.Is(failure, tokensession.ErrDenied) {
						w.answer(failure)
						outage(w.refreshError(tokens.RefreshToken))
						_, err := w.m.Start(context.Background(), "alice")
						outage(err)
						w.answer(nil)
					}
					for _, call := range []testkit.Call{testkit.Load, testkit.Swap, testkit.Create, testkit.List} {
						w.store.Clear()
						w.store.Always(call, testkit.Refuse(failure))
						ctx := context.Background()
						switch call {
						case testkit.Load:
							outage(w.m.Revoke(ctx, tokens.Session.ID))
							outage(w.m.RevokeToken(ctx, tokens.RefreshToken))
							fallthrough
						case testkit.Swap:
							outage(w.refreshError(tokens.RefreshToken))
							outage(w.m.Revoke(ctx, ending.Session.ID)) // which may have been done
							outage(w.m.RevokeToken(ctx, ending.RefreshToken))
						case testkit.Create:
							_, err := w.m.Start(ctx, "alice")
							outage(err)
						case testkit.List:
							_, err := w.m.Sessions(ctx, "alice")
							outage(err)
							_, err = w.m.RevokeSubject(ctx, "alice")
							outage(err)
						}
						if call == testkit.Load {
							_, err := w.m.VerifyLive(ctx, tokens.AccessToken)
							outage(err)
						}
					}
					w.store.Clear()
				})
				w.requireLive(tokens)
			})
		}
	}
}

package tokensession_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// The feed tells ids and times, and no reasons. An instance that was told by it, and one that has
// read nothing, tell the reason when the session's client comes back: it is in the record. The end
// itself is told once, by the instance where it happened.
func TestBecause_isToldByTheInstanceThatTheClientComesTo(t *testing.T) {
	const reason = tokensession.Reason("password_change")
	for name, end := range map[string]func(m *tokensession.Manager, s tokensession.Session) error{
		"Revoke": func(m *tokensession.Manager, s tokensession.Session) error {
			return m.Revoke(ctx, s.ID, tokensession.Because(reason))
		},
		"RevokeOwn": func(m *tokensession.Manager, s tokensession.Session) error {
			return m.RevokeOwn(ctx, s.Subject, s.ID, tokensession.Because(reason))
		},
		"RevokeSubject": func(m *tokensession.Manager, s tokensession.Session) error {
			_, err := m.RevokeSubject(ctx, s.Subject, tokensession.Because(reason))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store, signer := tokensession.NewMemoryStore(), testSigner(t)
				instance := func() (*tokensession.Manager, *testkit.Events) {
					events := &testkit.Events{}
					cfg := tokensession.Config{OnEvent: events.Add}
					return newManager(t, signer, store, cfg), events
				}
				here, _ := instance()
				told, toldEvents := instance()
				defer runs(t, told)()
				asleep, asleepEvents := instance()
				tokens, err := here.Start(ctx, "alice")
				require.NoError(t, err)
				passes(time.Second)
				toldEvents.Take()

				require.NoError(t, end(here, tokens.Session))
				passes(time.Second)
				_, err = told.Verify(tokens.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrRevoked, "by the feed")
				require.Empty(t, toldEvents.Take(), "it has not happened here")

				for m, events := range map[*tokensession.Manager]*testkit.Events{
					told: toldEvents, asleep: asleepEvents,
				} {
					_, err := m.Refresh(ctx, tokens.RefreshToken)
					var revoked *tokensession.RevokedError
					require.ErrorAs(t, err, &revoked)
					require.Equal(t, reason, revoked.Reason)
					all := events.TakeRefused()
					require.Len(t, all, 1)
					require.Equal(t, reason, all[0].Session.RevokeReason)
					require.Contains(t, all[0].LogValue().String(), "reason="+string(reason))
				}
			})
		})
	}
}

package tokensession_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// keycloak#51312, better-auth#11317: a revocation that raced with a refresh was lost. R11: ASVS
// 7.4.1.
func TestRevoke_nothingLivesAfterItWhateverItRacesWith(t *testing.T) {
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	ctx := context.Background()
	revocations := map[string]func(s *scene, ctx context.Context, tokens tokensession.Tokens) error{
		"Revoke": func(s *scene, ctx context.Context, tokens tokensession.Tokens) error {
			return s.m.Revoke(ctx, tokens.Session.ID)
		},
		"RevokeToken": func(s *scene, ctx context.Context, tokens tokensession.Tokens) error {
			return s.m.RevokeToken(ctx, tokens.RefreshToken)
		},
		"RevokeSubject": func(s *scene, ctx context.Context, _ tokensession.Tokens) error {
			_, err := s.m.RevokeSubject(ctx, "alice")
			return err
		},
	}
	// tokens to refresh with
	presented := map[string]func(s *scene, first tokensession.Tokens) []string{
		"the live token": func(_ *scene, first tokensession.Tokens) []string {
			return []string{first.RefreshToken}
		},
		"two tabs": func(_ *scene, first tokensession.Tokens) []string {
			return []string{first.RefreshToken, first.RefreshToken}
		},
		"a token in its grace": func(s *scene, first tokensession.Tokens) []string {
			s.refresh(first.RefreshToken)
			return []string{first.RefreshToken}
		},
		"the grace and the live": func(s *scene, first tokensession.Tokens) []string {
			return []string{s.refresh(first.RefreshToken).RefreshToken, first.RefreshToken}
		},
		"a token to be recovered": func(s *scene, first tokensession.Tokens) []string {
			s.refresh(first.RefreshToken)
			s.clock.Advance(grace)
			return []string{first.RefreshToken}
		},
	}
	for how, revoke := range revocations {
		for what, present := range presented {
			t.Run(how+", "+what, func(t *testing.T) {
				testkit.InEveryOrder(t, func(play *testkit.Play) func() {
					cfg := tokensession.Config{RecoveryPeriod: time.Hour}
					if what != "two tabs" { // where a replay is sure to pause: it writes nothing
						cfg.Authorize = pausingAuthorizer
					}
					s := newScene(t, play, key, cfg)
					first := s.start()
					for _, token := range present(s, first) {
						s.refreshes(token)
					}
					var revokeErr error
					var verifyErr error
					s.play.Actor("revoke", func(ctx context.Context) {
						revokeErr = revoke(s, ctx, first)
						_, verifyErr = s.m.Verify(first.AccessToken)
					})
					return func() {
						require.NoError(t, revokeErr)
						require.ErrorIs(t, verifyErr, tokensession.ErrRevoked,
							"Verify when the revocation returned")
						for _, got := range s.given {
							if got.err != nil {
								require.ErrorIs(t, got.err, tokensession.ErrRevoked)
							}
						}
						s.requireDead(append(s.handedOut(), first)...)
						sessions, err := s.m.Sessions(ctx, "alice")
						require.NoError(t, err)
						require.Empty(t, sessions)
						require.Equal(t, 1,
							s.events.Count(tokensession.EventRevoked)+s.events.Count(tokensession.EventReused))
					}
				})
			})
		}
	}
}

// A session that begins while RevokeSubject runs may live, but then as a whole.
func TestRevokeSubject_racingALoginLeavesItWholeOrDead(t *testing.T) {
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	ended := map[int]int{}
	testkit.InEveryOrder(t, func(play *testkit.Play) func() {
		s := newScene(t, play, key, tokensession.Config{})
		before := s.start()
		got := s.logsIn("alice")
		var n int
		var revokeErr error
		s.play.Actor("revoke subject",
			func(ctx context.Context) { n, revokeErr = s.m.RevokeSubject(ctx, "alice") })
		return func() {
			require.NoError(t, revokeErr)
			require.NoError(t, got.err)
			s.requireDead(before)
			ended[n]++
			if n == 2 {
				s.requireDead(got.tokens)
			} else {
				s.requireLive(got.tokens)
			}
		}
	})
	require.NotZero(t, ended[1])
	require.NotZero(t, ended[2])
}

// What others ended, or what was dropped, between the list and the end of its sessions was not
// ended by this call.
func TestRevokeSubject_countsOnlyWhatItEnded(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	ended, elsewhere, dropped := w.start(), w.start(), w.start()
	other := w.other(tokensession.Config{})
	w.store.On(testkit.List,
		testkit.Apply,
		testkit.Do(func() {
			require.NoError(t, other.Revoke(context.Background(), elsewhere.Session.ID))
			held := w.record(ended.Session.ID)
			revoked := w.record(elsewhere.Session.ID)
			w.restore(held)
			require.NoError(t, w.memory.Create(context.Background(), revoked))
		}),
	)
	n, err := w.m.RevokeSubject(context.Background(), "alice")
	require.NoError(t, err)
	require.Equal(t, 1, n)
	require.Equal(t, 1, w.events.Count(tokensession.EventRevoked))
	w.requireDead(ended, elsewhere)
	require.ErrorIs(t, w.refreshError(dropped.RefreshToken), tokensession.ErrInvalidToken)
}

// A session is ended just after its time was over, by a refresh's clock or by that of another
// instance, while a refresh is under way that was presented before: nothing may come of that.
func TestRevoke_atTheSessionsEndStopsARefreshThatWasPresentedBefore(t *testing.T) {
	for name, revoke := range map[string]func(m *tokensession.Manager, tokens tokensession.Tokens) error{
		"Revoke": func(m *tokensession.Manager, tokens tokensession.Tokens) error {
			return m.Revoke(ctx, tokens.Session.ID)
		},
		"RevokeToken": func(m *tokensession.Manager, tokens tokensession.Tokens) error {
			return m.RevokeToken(ctx, tokens.RefreshToken)
		},
		"RevokeToken, access": func(m *tokensession.Manager, tokens tokensession.Tokens) error {
			return m.RevokeToken(ctx, tokens.AccessToken)
		},
		"RevokeSubject": func(m *tokensession.Manager, _ tokensession.Tokens) error {
			n, err := m.RevokeSubject(ctx, "alice")
			require.Zero(t, n, "it had expired")
			return err
		},
	} {
		for kind, atOneStroke := range map[string]bool{"one by one": false, "at one stroke": true} {
			t.Run(name+", "+kind, func(t *testing.T) {
				var meanwhile func()
				w := newWorld(t, tokensession.Config{Authorize: onceAuthorizing(&meanwhile)})
				if atOneStroke {
					cfg := tokensession.Config{Authorize: onceAuthorizing(&meanwhile)}
					w.m = w.manager(w.memory, cfg, w.events)
				}
				tokens := w.start()
				w.clock.Advance(week - 10*time.Millisecond)
				meanwhile = func() {
					w.clock.Advance(20 * time.Millisecond)
					require.NoError(t, revoke(w.m, tokens))
				}
				_, err := w.m.Refresh(ctx, tokens.RefreshToken)
				// the record has been dropped already
				if !errors.Is(err, tokensession.ErrInvalidToken) {
					require.ErrorIs(t, err, tokensession.ErrRevoked)
				}
				require.Zero(t, w.events.Count(tokensession.EventRevoked), "it had expired")
			})
		}
	}
}

// A revocation waits in a store that stalls. It is written after a tab has got the successor of a
// write that waited there, too. The access token that this tab got dies with the others.
func TestRevoke_thatTakesLongDeniesWhatWasReplayedMeanwhile(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	var late tokensession.Tokens
	w.store.On(testkit.Swap, // by the refresh
		testkit.Apply,
		testkit.Do(func() { require.NoError(t, w.m.Revoke(ctx, first.Session.ID)) }),
	)
	w.store.On(testkit.Swap, // by the revocation
		w.clock.Passes(10*time.Minute),
		testkit.Do(func() { late = w.refresh(first.RefreshToken) }),
	)
	require.ErrorIs(t, w.refreshError(first.RefreshToken), tokensession.ErrRevoked)
	for ; w.clock.Now().Before(late.AccessExpiresAt); w.clock.Advance(time.Second) {
		_, err := w.m.Verify(late.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked,
			"%v before it expires", late.AccessExpiresAt.Sub(w.clock.Now()))
	}
}

// The store hangs for two minutes before it revokes, or fails: what was refreshed meanwhile is
// denied for as long as it lives, here and by who reads the feed.
func TestRevokeSubject_thatTakesLongDeniesWhatWasRefreshedMeanwhile(t *testing.T) {
	for name, fails := range map[string]bool{"revokes": false, "fails": true} {
		w := newWorld(t, tokensession.Config{})
		store := testkit.Hook(t, w.memory)
		w.m = w.manager(store.Store(), tokensession.Config{}, w.events)
		first := w.start()
		var last tokensession.Tokens
		steps := []testkit.Step{
			w.clock.Passes(119 * time.Second),
			testkit.Do(func() { last = w.refresh(first.RefreshToken) }),
			w.clock.Passes(time.Second),
		}
		if fails {
			steps = append(steps, testkit.LoseRequest)
		}
		store.On(testkit.RevokeSubject, steps...)
		_, err := w.m.RevokeSubject(ctx, "alice")
		require.NoError(t, err)
		if fails {
			require.WithinDuration(t, w.clock.Now(), w.record(first.Session.ID).RevokedAt, micro,
				"what the feed tells")
		}
		for ; w.clock.Now().Before(last.AccessExpiresAt); w.clock.Advance(time.Second) {
			_, err := w.m.Verify(last.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrRevoked, name)
		}
	}
}

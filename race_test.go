package tokensession_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// Two tabs refresh at once, and the authorizer takes longer than the grace. Which of them wins does not matter.
func TestRefresh_slowAuthorizerDoesNotMakeARaceLookLikeTheft(t *testing.T) {
	var w *world
	var first, second tokensession.Tokens
	asked := 0
	w = newWorld(t, tokensession.Config{Authorize: func(ctx context.Context, _ tokensession.Session) (tokensession.Grant, error) {
		asked++
		if asked == 2 { // for the first tab: meanwhile the second comes
			w.clock.Advance(time.Second)
			second = w.refresh(first.RefreshToken)
		}
		if asked > 1 {
			w.clock.Advance(grace + time.Second)
		}
		return tokensession.Grant{}, nil
	}})
	first = w.start()
	third := w.refresh(first.RefreshToken)
	require.Equal(t, second.RefreshToken, third.RefreshToken)
	w.requireLive(third)
}

// The client gives up waiting and tries again: the grace begins when the successor is written, not when it was asked for.
func TestRefresh_slowAuthorizerDoesNotUseUpTheGrace(t *testing.T) {
	var w *world
	w = newWorld(t, tokensession.Config{Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
		w.clock.Advance(grace + time.Second)
		return tokensession.Grant{}, nil
	}})
	first := w.start()
	second := w.refresh(first.RefreshToken)
	require.Equal(t, second.RefreshToken, w.refresh(first.RefreshToken).RefreshToken)
}

// A ticket is what a scene's Refresh came to.
type ticket struct {
	tokens tokensession.Tokens
	err    error
}

// A scene is a world in a play: its actors wait for their turn at each call of the store.
type scene struct {
	*world
	play  *testkit.Play
	given []*ticket // by refreshes and logins
}

func newScene(t *testing.T, play *testkit.Play, key tokensession.Key, cfg tokensession.Config) *scene {
	t.Helper()
	w := newWorldOf(t, key, cfg)
	w.store.Always(testkit.Any, testkit.AwaitTurn)
	return &scene{world: w, play: play}
}

// pausingAuthorizer allows everything at the actor's turn.
func pausingAuthorizer(ctx context.Context, _ tokensession.Session) (tokensession.Grant, error) {
	testkit.Await(ctx, "authorize")
	return tokensession.Grant{}, nil
}

// refreshes adds an actor that refreshes with a token.
func (s *scene) refreshes(token string) *ticket {
	got := &ticket{}
	s.given = append(s.given, got)
	s.play.Actor("refresh", func(ctx context.Context) { got.tokens, got.err = s.m.Refresh(ctx, token) })
	return got
}

func (s *scene) logsIn(subject string) *ticket {
	got := &ticket{}
	s.given = append(s.given, got)
	s.play.Actor("start", func(ctx context.Context) { got.tokens, got.err = s.m.Start(ctx, subject) })
	return got
}

// handedOut are the tokens that the actors got.
func (s *scene) handedOut() []tokensession.Tokens {
	var all []tokensession.Tokens
	for _, got := range s.given {
		if got.err == nil {
			all = append(all, got.tokens)
		}
	}
	return all
}

// keycloak#51312, better-auth#11317: a revocation that raced with a refresh was lost. R11: ASVS 7.4.1.
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
	presented := map[string]func(s *scene, first tokensession.Tokens) []string{ // tokens to refresh with
		"the live token": func(_ *scene, first tokensession.Tokens) []string { return []string{first.RefreshToken} },
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
						require.ErrorIs(t, verifyErr, tokensession.ErrRevoked, "Verify when the revocation returned")
						for _, got := range s.given {
							if got.err != nil {
								require.ErrorIs(t, got.err, tokensession.ErrRevoked)
							}
						}
						s.requireDead(append(s.handedOut(), first)...)
						sessions, err := s.m.Sessions(ctx, "alice")
						require.NoError(t, err)
						require.Empty(t, sessions)
						require.Equal(t, 1, s.events.Count(tokensession.EventRevoked)+s.events.Count(tokensession.EventReused))
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
		s.play.Actor("revoke subject", func(ctx context.Context) { n, revokeErr = s.m.RevokeSubject(ctx, "alice") })
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

// R3. Keycloak CVE-2026-1035, better-auth GHSA-392p-2q2v-4372: check and update were not one.
func TestRefresh_tabsInEveryOrderGetOneSuccessor(t *testing.T) {
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	testkit.InEveryOrder(t, func(play *testkit.Play) func() {
		s := newScene(t, play, key, tokensession.Config{})
		first := s.start()
		for range 3 {
			s.refreshes(first.RefreshToken)
		}
		return func() {
			for _, got := range s.given {
				require.NoError(t, got.err)
				require.Equal(t, s.given[0].tokens.RefreshToken, got.tokens.RefreshToken)
			}
			require.EqualValues(t, 1, s.record(first.Session.ID).Generation)
			require.Equal(t, 1, s.events.Count(tokensession.EventRefreshed))
			require.Equal(t, 2, s.events.Count(tokensession.EventReplayed))
			s.requireLive(s.given[2].tokens)
		}
	})
}

func TestRefresh_strictHasOneWinnerInEveryOrder(t *testing.T) {
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	testkit.InEveryOrder(t, func(play *testkit.Play) func() {
		s := newScene(t, play, key, tokensession.Config{GracePeriod: tokensession.Strict})
		first := s.start()
		a, b := s.refreshes(first.RefreshToken), s.refreshes(first.RefreshToken)
		return func() {
			if a.err == nil {
				a, b = b, a
			}
			require.NoError(t, b.err, "nobody won")
			requireReused(t, a.err, 0, 1)
			s.requireDead(first, b.tokens)
		}
	})
}

// The thief comes with an old token while the honest client refreshes.
func TestRefresh_theftIsCaughtInEveryOrder(t *testing.T) {
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	testkit.InEveryOrder(t, func(play *testkit.Play) func() {
		s := newScene(t, play, key, tokensession.Config{})
		stolen := s.start()
		second := s.refresh(stolen.RefreshToken)
		live := s.refresh(second.RefreshToken)
		thief := s.refreshes(stolen.RefreshToken)
		s.refreshes(live.RefreshToken)
		return func() {
			require.ErrorIs(t, thief.err, tokensession.ErrReused)
			s.requireDead(append(s.handedOut(), stolen, second, live)...)
			require.Equal(t, 1, s.events.Count(tokensession.EventReused))
		}
	})
}

func TestMaxSessions_holdsInEveryOrderOfLogins(t *testing.T) {
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	testkit.InEveryOrder(t, func(play *testkit.Play) func() {
		s := newScene(t, play, key, tokensession.Config{MaxSessions: 1})
		before := s.start()
		a, b := s.logsIn("alice"), s.logsIn("alice")
		return func() {
			require.NoError(t, a.err)
			require.NoError(t, b.err)
			s.requireDead(before)
			sessions, err := s.m.Sessions(context.Background(), "alice")
			require.NoError(t, err)
			require.Len(t, sessions, 1)
		}
	})
}

// R3, for the race detector.
func TestRefresh_hundredInParallelGetOneSuccessor(t *testing.T) {
	const parallel = 100
	w := newWorld(t, tokensession.Config{})
	managers := []*tokensession.Manager{w.m, w.other(tokensession.Config{})}
	tokens := w.start()
	for range 20 {
		var wg sync.WaitGroup
		got := make([]tokensession.Tokens, parallel)
		for i := range parallel {
			wg.Go(func() {
				var err error
				if got[i], err = managers[i%2].Refresh(context.Background(), tokens.RefreshToken); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		for _, other := range got {
			require.Equal(t, got[0].RefreshToken, other.RefreshToken)
		}
		require.NotEqual(t, tokens.RefreshToken, got[0].RefreshToken)
		tokens = got[0]
	}
	require.EqualValues(t, 20, w.record(tokens.Session.ID).Generation)
}

func TestRefresh_strictHasOneWinnerOfAHundred(t *testing.T) {
	w := newWorld(t, tokensession.Config{GracePeriod: tokensession.Strict})
	tokens := w.start()
	var wg sync.WaitGroup
	var winners atomic.Int32
	for range 100 {
		wg.Go(func() {
			switch _, err := w.m.Refresh(context.Background(), tokens.RefreshToken); {
			case err == nil:
				winners.Add(1)
			case !errors.Is(err, tokensession.ErrRevoked):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.EqualValues(t, 1, winners.Load())
	require.Equal(t, 1, w.events.Count(tokensession.EventReused))
}

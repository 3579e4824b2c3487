package tokensession_test

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// The bugs that others had, where they need no race, fault or table of their own.

// R2: RFC 9700 section 4.14.2, ASVS 10.4.5.
func TestReuse_endsTheWholeFamilyAndNoOther(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	bystander := w.start()
	chain := []tokensession.Tokens{w.start()}
	for range 6 {
		w.clock.Advance(time.Minute)
		chain = append(chain, w.refresh(chain[len(chain)-1].RefreshToken))
	}
	requireReused(t, w.refreshError(chain[2].RefreshToken), 2, 6)
	w.requireDead(chain...)
	w.requireLive(bystander)
}

// django-oauth-toolkit#1617: the grace accepted older generations too.
func TestGrace_coversOnlyTheImmediatePredecessor(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	second := w.refresh(first.RefreshToken)
	third := w.refresh(second.RefreshToken)
	w.refresh(second.RefreshToken)
	requireReused(t, w.refreshError(first.RefreshToken), 0, 2)
	w.requireDead(second, third)
}

// Supabase: the parent of the live token was always accepted, so that two could take turns for ever.
func TestReuse_twoHoldersInTurnAreCaught(t *testing.T) {
	for _, pause := range []time.Duration{time.Minute, 14 * time.Minute, grace} {
		w := newWorld(t, tokensession.Config{})
		shared := w.start()
		holders := [2]tokensession.Tokens{shared, shared}
		caughtIn := 0
		for round := range 100 {
			w.clock.Advance(pause)
			next, err := w.m.Refresh(context.Background(), holders[round%2].RefreshToken)
			if errors.Is(err, tokensession.ErrReused) {
				caughtIn = round
				break
			}
			require.NoError(t, err)
			holders[round%2] = next
		}
		require.Equal(t, 1, caughtIn, "the second one to come, after %v", pause)
		for _, tokens := range holders {
			require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
		}
	}
}

// Hydra's graceful rotation: both got tokens of their own in the grace, and these never met again.
func TestGrace_aThiefInsideItIsCaughtLater(t *testing.T) {
	for name, thiefFirst := range map[string]bool{"the thief comes first": true, "the honest client comes first": false} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			stolen := w.start()
			thief, honest := w.refresh(stolen.RefreshToken), w.refresh(stolen.RefreshToken)
			require.Equal(t, thief.RefreshToken, honest.RefreshToken, "a fork")
			w.clock.Advance(14 * time.Minute)
			earlier, later := honest, thief
			if thiefFirst {
				earlier, later = thief, honest
			}
			earlier = w.refresh(earlier.RefreshToken)
			w.clock.Advance(grace)
			requireReused(t, w.refreshError(later.RefreshToken), 1, 2)
			w.requireDead(stolen, thief, honest, earlier)
		})
	}
}

// A session came back to life in the grace.
func TestRevoked_staysRevokedInTheGrace(t *testing.T) {
	t.Run("after a family was killed", func(t *testing.T) {
		w := newWorld(t, tokensession.Config{})
		first := w.start()
		second := w.refresh(first.RefreshToken)
		third := w.refresh(second.RefreshToken)
		w.refreshError(first.RefreshToken)
		w.requireDead(third, second, first)
	})
	t.Run("after a logout", func(t *testing.T) {
		w := newWorld(t, tokensession.Config{RecoveryPeriod: time.Hour})
		first := w.start()
		second := w.refresh(first.RefreshToken)
		require.NoError(t, w.m.RevokeToken(context.Background(), second.RefreshToken))
		err := w.refreshError(first.RefreshToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked)
		require.NotErrorIs(t, err, tokensession.ErrReused)
		w.requireDead(first, second)
	})
}

// A revocation was rolled back with the request that failed.
func TestRevocation_persistsThoughTheCallFailed(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	live := w.refresh(w.refresh(first.RefreshToken).RefreshToken)
	ctx, cancel := context.WithCancel(context.Background())
	w.store.Always(testkit.Swap,
		testkit.Do(cancel), // the caller goes away
		func(r *testkit.Request) {
			require.NoError(t, r.Context().Err(), "the revocation goes with the caller")
			_, limited := r.Context().Deadline()
			require.True(t, limited, "and would wait for ever")
		},
	)
	_, err := w.m.Refresh(ctx, first.RefreshToken)
	requireReused(t, err, 0, 2)
	w.requireDead(first, live)
}

func TestRevocation_thatTheStoreLostIsMadeAgain(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	held := w.record(tokens.Session.ID)
	require.NoError(t, w.m.Revoke(context.Background(), tokens.Session.ID))
	w.restore(held)
	err := w.refreshError(tokens.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
	require.Equal(t, tokensession.ReasonRevoked, w.record(tokens.Session.ID).RevokeReason)
	w.requireDead(tokens)
	require.Equal(t, 2, w.events.Count(tokensession.EventRevoked))
}

func TestAuthorizer_failureChangesNothing(t *testing.T) {
	for name, failure := range map[string]error{
		"an error":            testkit.ErrDown,
		"a deadline":          context.DeadlineExceeded,
		"not found":           tokensession.ErrNotFound,
		"a conflict":          tokensession.ErrConflict,
		"joined, no verdict":  errors.Join(testkit.ErrDown, io.ErrUnexpectedEOF),
		"another unavailable": fmt.Errorf("%w: authorizer", tokensession.ErrUnavailable),
	} {
		t.Run(name, func(t *testing.T) {
			w := newAnsweringWorld(t, tokensession.Config{})
			tokens := w.start()
			w.answer(failure)
			w.unchanged(tokens.Session.ID, func() {
				for range 3 {
					requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), failure)
				}
				none, err := w.m.Start(context.Background(), "bob")
				requireUnavailableFor(t, err, failure)
				require.Zero(t, none)
			})
			require.Empty(t, listed(t, w, "bob"))
			w.answer(nil)
			w.requireLive(tokens)
		})
	}
}

// An authorizer that verifies tokens itself, or a store that fails with our own errors, must not end a session.
func TestUnavailable_neverLooksLikeAVerdict(t *testing.T) {
	for _, verdict := range verdicts {
		for name, failure := range map[string]error{"itself": verdict, "wrapped": fmt.Errorf("asking: %w", verdict), "joined": errors.Join(testkit.ErrDown, verdict),
			"a reuse": &tokensession.ReuseError{}} {
			t.Run(verdict.Error()+", "+name, func(t *testing.T) {
				w := newAnsweringWorld(t, tokensession.Config{})
				tokens, ending := w.start(), w.start()
				outage := func(err error) {
					t.Helper()
					require.ErrorIs(t, err, tokensession.ErrUnavailable)
					requireNoVerdict(t, err)
					require.NotErrorAs(t, err, new(*tokensession.ReuseError))
				}
				w.unchanged(tokens.Session.ID, func() {
					if !errors.Is(failure, tokensession.ErrDenied) { // which is the authorizer's own verdict
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

func TestAuthorizer_deniedEndsTheSession(t *testing.T) {
	because := fmt.Errorf("account closed: %w", tokensession.ErrDenied)
	w := newAnsweringWorld(t, tokensession.Config{})
	first := w.start()
	second := w.refresh(first.RefreshToken)
	w.answer(because)
	err := w.refreshError(first.RefreshToken) // a replay
	require.ErrorIs(t, err, because)
	require.ErrorContains(t, err, "account closed")
	require.Equal(t, tokensession.ReasonDenied, w.record(first.Session.ID).RevokeReason)
	w.answer(nil)
	w.requireDead(first, second)

	w.answer(because)
	w.store.Took()
	_, err = w.m.Start(context.Background(), "alice")
	require.ErrorIs(t, err, because)
	require.Empty(t, listed(t, w, "alice"))
	require.NotContains(t, w.store.Took(), testkit.Create)
}

func TestCancelledContext_isItsErrorAndConsumesNothing(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	late, stop := context.WithDeadline(context.Background(), time.Unix(0, 0))
	defer stop()
	w.store.Took()
	for _, c := range []struct {
		ctx   context.Context
		cause error
	}{{ctx, context.Canceled}, {late, context.DeadlineExceeded}} {
		w.unchanged(tokens.Session.ID, func() {
			requireCause := func(err error) { t.Helper(); requireUnavailableFor(t, err, c.cause) }
			_, err := w.m.Start(c.ctx, "alice")
			requireCause(err)
			_, err = w.m.Refresh(c.ctx, tokens.RefreshToken)
			requireCause(err)
			_, err = w.m.VerifyLive(c.ctx, tokens.AccessToken)
			requireCause(err)
			requireCause(w.m.Revoke(c.ctx, tokens.Session.ID))
			requireCause(w.m.RevokeToken(c.ctx, tokens.RefreshToken))
			_, err = w.m.RevokeSubject(c.ctx, "alice")
			requireCause(err)
			_, err = w.m.Sessions(c.ctx, "alice")
			requireCause(err)
		})
	}
	require.Empty(t, w.store.Took(), "the store was asked")
	w.requireLive(tokens)
}

func TestCancelledContext_inMidRefreshConsumesNothing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	asked := 0
	w := newWorld(t, tokensession.Config{Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
		if asked++; asked == 2 {
			cancel()
		}
		return tokensession.Grant{}, nil
	}})
	tokens := w.start()
	w.unchanged(tokens.Session.ID, func() {
		_, err := w.m.Refresh(ctx, tokens.RefreshToken)
		requireUnavailableFor(t, err, context.Canceled)
	})
	w.requireLive(tokens)
}

func TestConflict_forEverIsAnOutage(t *testing.T) {
	w := newWorld(t, tokensession.Config{GracePeriod: tokensession.Strict})
	tokens := w.start()
	w.store.Always(testkit.Swap, testkit.Refuse(tokensession.ErrConflict))
	w.store.Took()
	w.unchanged(tokens.Session.ID, func() {
		requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), tokensession.ErrConflict)
		requireUnavailableFor(t, w.m.Revoke(context.Background(), tokens.Session.ID), tokensession.ErrConflict)
	})
	require.LessOrEqual(t, len(w.store.Took()), 40, "it tries for too long")
	w.store.Clear()
	w.requireLive(tokens)
}

// What it costs to ask an authorizer or a KMS must not grow with the number of tabs, nor with a store's troubles.
func TestRefresh_asksTheAuthorizerOnceHoweverOftenItWrites(t *testing.T) {
	for name, failure := range map[string]error{"conflict": tokensession.ErrConflict, "outage": testkit.ErrDown} {
		t.Run(name, func(t *testing.T) {
			asked := 0
			w := newWorld(t, tokensession.Config{Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
				asked++
				return tokensession.Grant{}, nil
			}})
			tokens := w.start()
			asked = 0
			w.store.On(testkit.Swap, testkit.Refuse(failure))
			w.store.On(testkit.Swap, testkit.Refuse(failure))
			w.refresh(tokens.RefreshToken)
			require.Equal(t, 1, asked)
		})
	}
}

// A store that is down is not helped by being asked many times for each token.
func TestRefresh_givesAnOutageThreeTries(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.store.Took()
	w.store.Down(testkit.Swap)
	requireUnavailableFor(t, w.refreshError(tokens.RefreshToken), testkit.ErrDown)
	require.Equal(t, 3, w.store.Count(testkit.Swap))
}

// A failingSigner is a KMS that is down.
type failingSigner struct {
	ed25519.PrivateKey
	down atomic.Pointer[error]
}

func (s *failingSigner) Sign(rand io.Reader, message []byte, opts crypto.SignerOpts) ([]byte, error) {
	if err := s.down.Load(); err != nil {
		return nil, *err
	}
	return s.PrivateKey.Sign(rand, message, opts)
}

func TestSigner_failureConsumesNothing(t *testing.T) {
	for _, failure := range append([]error{testkit.ErrDown}, verdicts...) {
		t.Run(failure.Error(), func(t *testing.T) {
			_, private, err := ed25519.GenerateKey(nil)
			require.NoError(t, err)
			signer := &failingSigner{PrivateKey: private}
			key, err := tokensession.NewKey(signer)
			require.NoError(t, err)
			w := newWorldOf(t, key, tokensession.Config{})
			tokens := w.start()
			signer.down.Store(&failure)
			w.unchanged(tokens.Session.ID, func() {
				err := w.refreshError(tokens.RefreshToken)
				require.ErrorIs(t, err, tokensession.ErrUnavailable)
				require.ErrorContains(t, err, failure.Error())
				requireNoVerdict(t, err)
				_, err = w.m.Start(context.Background(), "bob")
				require.ErrorIs(t, err, tokensession.ErrUnavailable)
				requireNoVerdict(t, err)
			})
			require.Empty(t, listed(t, w, "bob"))
			signer.down.Store(nil)
			w.requireLive(tokens)
		})
	}
}

func TestVerifyLive_inEveryState(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		do   func(w *world, tokens tokensession.Tokens)
		want error // of VerifyLive
		only error // of Verify after it, on an instance that knew nothing
	}{
		"live":      {func(*world, tokensession.Tokens) {}, nil, nil},
		"refreshed": {func(w *world, tokens tokensession.Tokens) { w.refresh(tokens.RefreshToken) }, nil, nil},
		"revoked": {func(w *world, tokens tokensession.Tokens) { require.NoError(w.t, w.m.Revoke(ctx, tokens.Session.ID)) },
			tokensession.ErrRevoked, tokensession.ErrRevoked},
		"gone": {func(w *world, _ tokensession.Tokens) {
			_, err := w.memory.Sweep(ctx, w.clock.Now().Add(1e6*time.Hour), 1e6)
			require.NoError(w.t, err)
		}, tokensession.ErrRevoked, nil},
		"access token expired": {func(w *world, _ tokensession.Tokens) { w.clock.Advance(15 * time.Minute) }, tokensession.ErrExpired, tokensession.ErrExpired},
		"session expired": {func(w *world, tokens tokensession.Tokens) { // which the token outlives, if it was shortened by hand
			rec := w.record(tokens.Session.ID)
			rec.Version, rec.WriteID, rec.ExpiresAt = 2, "another", w.clock.Now().Add(time.Second)
			require.NoError(w.t, w.memory.Swap(ctx, rec))
			w.clock.Advance(time.Second)
		}, tokensession.ErrExpired, nil},
	} {
		for call, ask := range map[string]func(*tokensession.Manager, context.Context, string) (tokensession.Access, error){
			"VerifyLive": (*tokensession.Manager).VerifyLive, "Introspect": (*tokensession.Manager).Introspect,
		} {
			t.Run(call+"/"+name, func(t *testing.T) {
				w := newWorld(t, tokensession.Config{})
				tokens := w.start()
				other := w.other(tokensession.Config{})
				c.do(w, tokens)
				access, err := ask(other, ctx, tokens.AccessToken)
				_, after := other.Verify(tokens.AccessToken)
				if c.want == nil {
					require.NoError(t, err)
					require.Equal(t, tokens.Session.ID, access.SessionID)
				} else {
					require.ErrorIs(t, err, c.want)
					require.Zero(t, access)
				}
				require.ErrorIs(t, after, c.only)
			})
		}
	}
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.store.Down(testkit.Load)
	_, err := w.m.VerifyLive(ctx, tokens.AccessToken)
	requireUnavailableFor(t, err, testkit.ErrDown)
	_, err = w.m.Introspect(ctx, tokens.AccessToken)
	requireUnavailableFor(t, err, testkit.ErrDown)
	for _, token := range []string{"x" + tokens.AccessToken, tokens.AccessToken[:len(tokens.AccessToken)-4] + "AAAA", tokens.RefreshToken} {
		_, err = w.m.VerifyLive(ctx, token)
		require.ErrorIs(t, err, tokensession.ErrInvalidToken)
		_, err = w.m.Introspect(ctx, token)
		require.ErrorIs(t, err, tokensession.ErrInvalidToken)
	}
}

// A grant may name another service. Its tokens let nobody in here; but the session is ours, to be asked about and ended.
func TestIntrospect_ofATokenForAnotherAudience(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, tokensession.Config{Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
		return tokensession.Grant{Audience: []string{"https://billing.example"}}, nil
	}})
	tokens := w.start()
	for range 2 { // the second time, it is known
		access, err := w.m.Introspect(ctx, tokens.AccessToken)
		require.NoError(t, err)
		require.Equal(t, tokens.Session.ID, access.SessionID)
		_, err = w.m.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrInvalidToken)
		_, err = w.m.VerifyLive(ctx, tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrInvalidToken)
	}
	id, err := w.m.SessionID(tokens.AccessToken)
	require.NoError(t, err)
	require.Equal(t, tokens.Session.ID, id)
	require.NoError(t, w.m.RevokeAccess(ctx, tokens.AccessToken))
	require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
	_, err = w.m.Introspect(ctx, tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)

	tokens = w.start()
	w.clock.Advance(15 * time.Minute)
	_, err = w.m.Introspect(ctx, tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrExpired)
	_, err = w.m.Verify(tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrInvalidToken)
}

// A key that was removed says nothing any more, not even of tokens that are for somebody else.
func TestIntrospect_refusesWhatARetiredKeySigned(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	next, err := tokensession.GenerateKey()
	require.NoError(t, err)
	tokens := w.start()
	require.NoError(t, w.signer.Rotate(next, w.clock.Now().Add(-time.Hour)))
	w.clock.Advance(time.Minute)
	_, err = w.m.Introspect(context.Background(), tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrInvalidToken)
}

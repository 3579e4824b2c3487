package tokensession_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

const (
	clientKey = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
	thiefKey  = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
)

var (
	withKey      = tokensession.WithKeyThumbprint(clientKey)
	withThiefKey = tokensession.WithKeyThumbprint(thiefKey)
)

// requireProofRequired presents a token of a bound session without its key, and with another one.
// Both get nothing, the record stays as it is, and the host is told.
func (w *world) requireProofRequired(tokens tokensession.Tokens) {
	w.t.Helper()
	before := w.record(tokens.Session.ID)
	for _, c := range []struct {
		opts []tokensession.RefreshOption
		want error
	}{
		{nil, tokensession.ErrProofRequired},
		{[]tokensession.RefreshOption{withThiefKey}, tokensession.ErrInvalidToken},
	} {
		told := len(w.events.All())
		w.events.TakeRefused()
		err := w.refreshError(tokens.RefreshToken, c.opts...)
		require.ErrorIs(w.t, err, c.want)
		require.NotErrorIs(w.t, err, tokensession.ErrRevoked)
		require.NotContains(w.t, err.Error(), tokens.RefreshToken)
		require.Equal(w.t, before, w.record(tokens.Session.ID), "the record was changed")
		require.Len(w.t, w.events.All(), told, "the session has not changed")
		refused := w.events.TakeRefused()
		require.Len(w.t, refused, 1)
		require.ErrorIs(w.t, refused[0].Err, c.want)
		require.Equal(w.t, tokens.Session.ID, refused[0].Session.ID)
		require.Equal(w.t, clientKey, refused[0].Session.KeyThumbprint)
	}
}

func TestBound_aTokenWithoutItsKeyGetsAndEndsNothing(t *testing.T) {
	for mode, cfg := range modes {
		t.Run(mode, func(t *testing.T) {
			w := newWorld(t, cfg)
			tokens := w.start(withKey)
			require.Equal(t, clientKey, tokens.Session.KeyThumbprint)
			all := []tokensession.Tokens{tokens}
			for range 3 {
				tokens = w.refresh(tokens.RefreshToken, withKey)
				all = append(all, tokens)
			}
			for _, wait := range []time.Duration{0, 11 * time.Second, time.Hour} {
				w.clock.Advance(wait)
				for _, old := range all {
					w.requireProofRequired(old)
				}
			}
			tokens = w.refresh(tokens.RefreshToken, withKey)

			err := w.refreshError(all[0].RefreshToken, withKey)
			requireReused(t, err, 0, 4) // two parties hold the token and the key
			w.requireDead(tokens)
		})
	}
}

// A browser gives up a refresh after 20 seconds, which is longer than the grace period, and comes
// with the same token again. A program may come days later.
func TestBound_theKeysHolderRecoversHoweverLate(t *testing.T) {
	for _, late := range []time.Duration{25 * time.Second, 6 * 24 * time.Hour} {
		w := newWorld(t, tokensession.Config{})
		first := w.start(withKey)
		lost := w.refresh(first.RefreshToken, withKey)
		w.clock.Advance(late)
		w.requireProofRequired(first)
		got := w.refresh(first.RefreshToken, withKey)
		require.NotEqual(t, lost.RefreshToken, got.RefreshToken)
		require.Equal(t, 1, w.events.Count(tokensession.EventRecovered))
		w.requireProofRequired(lost)

		// Whoever holds the displaced one has the key, too.
		requireReused(t, w.refreshError(lost.RefreshToken, withKey), 1, 2)
	}
}

func TestBound_strictForgivesTheKeysHolderNothing(t *testing.T) {
	w := newWorld(t, tokensession.Config{GracePeriod: tokensession.Strict})
	first := w.start(withKey)
	w.refresh(first.RefreshToken, withKey)
	requireReused(t, w.refreshError(first.RefreshToken, withKey), 0, 1)
}

func TestBound_manyLostRepliesInARowEndNothing(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start(withKey)
	for range 3 {
		w.refresh(tokens.RefreshToken, withKey) // the reply is lost
		w.clock.Advance(time.Minute)
	}
	tokens = w.refresh(tokens.RefreshToken, withKey)
	w.refresh(tokens.RefreshToken, withKey)
	require.Zero(t, w.events.Count(tokensession.EventReused))
}

// The first refresh with a key binds the session: one that rotates, heals or recovers.
func TestBound_refreshWithAKeyBindsTheSession(t *testing.T) {
	for name, bind := range map[string]func(w *world, first tokensession.Tokens) tokensession.Tokens{
		"rotate": func(w *world, first tokensession.Tokens) tokensession.Tokens {
			return w.refresh(first.RefreshToken, withKey)
		},
		"heal": func(w *world, first tokensession.Tokens) tokensession.Tokens {
			before := w.record(first.Session.ID)
			next := w.refresh(first.RefreshToken)
			w.restore(before)
			return w.refresh(next.RefreshToken, withKey)
		},
		"recover": func(w *world, first tokensession.Tokens) tokensession.Tokens {
			w.refresh(first.RefreshToken)
			w.clock.Advance(time.Minute)
			return w.refresh(first.RefreshToken, withKey)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{RecoveryPeriod: time.Hour})
			got := bind(w, w.start())
			require.Equal(t, clientKey, got.Session.KeyThumbprint)
			require.Equal(t, clientKey, w.record(got.Session.ID).KeyThumbprint)
			w.requireProofRequired(got)
			w.refresh(got.RefreshToken, withKey)
		})
	}
}

// Others may have got the successor that a replay hands out, so the replay does not bind it.
func TestBound_replayBindsNothing(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	second := w.refresh(first.RefreshToken)
	before := w.record(first.Session.ID)
	got := w.refresh(first.RefreshToken, withKey)
	require.Equal(t, second.RefreshToken, got.RefreshToken)
	require.Equal(t, before, w.record(first.Session.ID))
	require.Empty(t, got.Session.KeyThumbprint)
}

// An honest second tab and the victim of a thief look alike within the grace period of the refresh
// that bound the session. Neither gets the successor, and neither ends the session.
func TestBound_aTokenOfBeforeTheBinding(t *testing.T) {
	for mode, cfg := range map[string]tokensession.Config{
		"no recovery": {}, "recovery": {RecoveryPeriod: time.Hour},
	} {
		t.Run(mode, func(t *testing.T) {
			bound := func() (*world, tokensession.Tokens, tokensession.Tokens) {
				w := newWorld(t, cfg)
				first := w.start()
				return w, first, w.refresh(first.RefreshToken, withKey)
			}

			w, first, second := bound()
			err := w.refreshError(first.RefreshToken)
			require.ErrorIs(t, err, tokensession.ErrProofRequired)
			err = w.refreshError(first.RefreshToken, withThiefKey)
			require.ErrorIs(t, err, tokensession.ErrProofRequired)
			w.clock.Advance(grace)
			requireReused(t, w.refreshError(first.RefreshToken), 0, 1)
			w.requireDead(first, second)

			w, first, second = bound()
			again := w.refresh(first.RefreshToken, withKey) // the reply was lost
			require.Equal(t, second.RefreshToken, again.RefreshToken)
			w.clock.Advance(24 * time.Hour)
			again = w.refresh(first.RefreshToken, withKey)
			require.Equal(t, clientKey, again.Session.KeyThumbprint)
			w.requireProofRequired(again)
		})
	}
}

// The write that bound the session was in doubt. That forgives the key's holder, and nobody else.
func TestBound_doubtIsTheKeysHoldersOnly(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	w.store.On(testkit.Swap,
		testkit.Apply, w.store.GoesDown(testkit.Swap, testkit.Load), testkit.LoseReply)
	requireUnavailableFor(t, w.refreshError(first.RefreshToken, withKey), testkit.ErrDown)
	w.store.Clear()
	w.clock.Advance(time.Minute)
	got := w.refresh(first.RefreshToken, withKey)
	require.Equal(t, clientKey, got.Session.KeyThumbprint)

	w = newWorld(t, tokensession.Config{})
	first = w.start()
	w.store.On(testkit.Swap,
		testkit.Apply, w.store.GoesDown(testkit.Swap, testkit.Load), testkit.LoseReply)
	requireUnavailableFor(t, w.refreshError(first.RefreshToken, withThiefKey), testkit.ErrDown)
	w.store.Clear()
	w.clock.Advance(time.Minute)
	requireReused(t, w.refreshError(first.RefreshToken), 0, 1)
}

// A thief binds the session to a key of the thief's own. At the latest when the grace period of that
// is over, the victim ends it for both, whatever the victim has to prove.
func TestBound_thiefWhoBindsTheSessionDoesNotOutliveTheVictim(t *testing.T) {
	for _, opts := range [][]tokensession.RefreshOption{nil, {withKey}} {
		for _, after := range []time.Duration{0, 5 * time.Second, time.Minute} {
			w := newWorld(t, tokensession.Config{RecoveryPeriod: time.Hour})
			first := w.start()
			stolen := w.refresh(first.RefreshToken, withThiefKey)
			w.clock.Advance(after)
			if after < grace {
				err := w.refreshError(first.RefreshToken, opts...)
				require.ErrorIs(t, err, tokensession.ErrProofRequired)
				w.clock.Advance(grace)
			}
			requireReused(t, w.refreshError(first.RefreshToken, opts...), 0, 1)
			w.requireDead(first)
			err := w.refreshError(stolen.RefreshToken, withThiefKey)
			require.ErrorIs(t, err, tokensession.ErrRevoked)
		}
	}
}

// The thief comes with the stolen token again and again, as if each reply got lost. Each time a
// grace period begins anew. The victim must not have to wait for a moment at which none is on.
func TestBound_thiefWhoRecoversForeverDoesNotOutliveTheVictim(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	stolen := w.refresh(first.RefreshToken, withThiefKey)
	for n := 1; ; n++ {
		w.clock.Advance(grace - micro)
		err := w.refreshError(first.RefreshToken, withKey)
		if n > 2 {
			requireReused(t, err, 0, 3)
			break
		}
		require.ErrorIs(t, err, tokensession.ErrProofRequired)
		w.clock.Advance(micro)
		stolen = w.refresh(first.RefreshToken, withThiefKey)
	}
	w.requireDead(stolen)
}

// A hangUpStore is one whose callers go away when their write has been applied.
type hangUpStore struct {
	tokensession.RefreshStore
	goAway context.CancelFunc
}

func (s *hangUpStore) Swap(ctx context.Context, next tokensession.Record) error {
	err := s.RefreshStore.Swap(ctx, next)
	s.goAway()
	return err
}

// The thief never receives an answer, because the thief hangs up each time. So the successor is
// handed out anew to whoever comes with the stolen token. The victim must not have to wait for the
// thief to tire of it.
func TestBound_thiefWhoHangsUpDoesNotOutliveTheVictim(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	store := &hangUpStore{RefreshStore: w.memory}
	m := w.manager(store, tokensession.Config{Remember: -1}, &testkit.Events{})
	for n := 0; ; n++ {
		ctx, cancel := context.WithCancel(context.Background())
		store.goAway = cancel
		_, _ = m.Refresh(ctx, first.RefreshToken, withThiefKey)
		cancel()
		w.clock.Advance(grace - micro)
		_, err := m.Refresh(context.Background(), first.RefreshToken)
		if errors.Is(err, tokensession.ErrReused) {
			break
		}
		require.ErrorIs(t, err, tokensession.ErrProofRequired)
		require.Less(t, n, 5, "the victim is put off again and again")
	}
	_, err := m.Refresh(context.Background(), first.RefreshToken, withThiefKey)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

// The thief comes at the last moment of each grace period, and is answered when it is over. The
// period must not begin anew each time.
func TestBound_thiefWhoComesAtTheLastMomentDoesNotOutliveTheVictim(t *testing.T) {
	var w *world
	took := 2 * micro
	w = newWorld(t, tokensession.Config{
		Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
			w.clock.Advance(took)
			return tokensession.Grant{}, nil
		},
	})
	first := w.start()
	w.refresh(first.RefreshToken, withThiefKey)
	for n := 0; ; n++ {
		w.clock.Advance(grace - micro)
		_, _ = w.m.Refresh(context.Background(), first.RefreshToken, withThiefKey)
		err := w.refreshError(first.RefreshToken)
		if errors.Is(err, tokensession.ErrReused) {
			break
		}
		require.ErrorIs(t, err, tokensession.ErrProofRequired)
		require.Less(t, n, 5, "the victim is put off again and again")
	}
	w.requireDead(first)
}

// The store loses the write that bound the session. The token is worth nothing without its key all
// the same, and with the key it binds the session again.
func TestBound_storeThatLosesTheBindingMakesNoTokenPlain(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	before := w.record(first.Session.ID)
	second := w.refresh(first.RefreshToken, withKey)
	w.restore(before)
	for _, opts := range [][]tokensession.RefreshOption{nil, {withThiefKey}} {
		err := w.refreshError(second.RefreshToken, opts...)
		require.ErrorIs(t, err, tokensession.ErrInvalidToken)
		require.NotErrorIs(t, err, tokensession.ErrProofRequired, "nobody can tell it from a forgery")
		require.Equal(t, before, w.record(first.Session.ID))
	}
	healed := w.refresh(second.RefreshToken, withKey)
	require.Equal(t, 1, w.events.Count(tokensession.EventHealed))
	require.Equal(t, clientKey, w.record(first.Session.ID).KeyThumbprint)
	w.requireProofRequired(healed)
}

// Somebody writes to the store. With another key there the session is two parties', and without one
// a bound token needs its key all the same.
func TestBound_nobodyMakesATokenPlainInTheStore(t *testing.T) {
	for _, planted := range []string{"", thiefKey} {
		w := newWorld(t, tokensession.Config{})
		first := w.start(withKey)
		second := w.refresh(first.RefreshToken, withKey)
		rec := w.record(first.Session.ID)
		rec.KeyThumbprint = planted
		w.restore(rec)
		for _, opts := range [][]tokensession.RefreshOption{nil, {withThiefKey}} {
			err := w.refreshError(second.RefreshToken, opts...)
			require.ErrorIs(t, err, tokensession.ErrInvalidToken, "planted %q", planted)
			require.Equal(t, rec, w.record(first.Session.ID))
		}
		if planted == "" {
			w.refresh(second.RefreshToken, withKey)
		} else {
			requireReused(t, w.refreshError(second.RefreshToken, withKey), 1, 1)
		}
	}
}

// The MAC covers exactly the 43 characters, in a text of its own kind.
func TestBound_tokenForAnotherThumbprintIsForged(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start(withKey)
	rec := w.record(first.Session.ID)
	for name, thumbprint := range map[string]string{
		"truncated": clientKey[:42], "longer": clientKey + "A", "other case": swapCase(clientKey),
		"none": "", "another": thiefKey,
	} {
		forged := forgeBound(t, first.RefreshToken, rec.Key, "tokensession bound refresh v1", thumbprint)
		err := w.refreshError(forged, withKey)
		require.ErrorIs(t, err, tokensession.ErrInvalidToken, name)
	}
	plainWithMore := forgeBound(t, first.RefreshToken, rec.Key, "tokensession refresh v1", clientKey)
	require.ErrorIs(t, w.refreshError(plainWithMore, withKey), tokensession.ErrInvalidToken)
	control := forgeBound(t, first.RefreshToken, rec.Key, "tokensession bound refresh v1", clientKey)
	require.Equal(t, first.RefreshToken, control, "the form of a bound token")
	w.refresh(control, withKey)
}

func TestBound_hundredInParallelGetOneSuccessor(t *testing.T) {
	const parallel = 100
	w := newWorld(t, tokensession.Config{})
	first := w.start(withKey)
	var group sync.WaitGroup
	got := make([]tokensession.Tokens, parallel)
	errs := make([]error, parallel)
	for i := range parallel {
		group.Go(func() {
			if i%2 == 0 {
				got[i], errs[i] = w.m.Refresh(context.Background(), first.RefreshToken, withKey)
			} else {
				got[i], errs[i] = w.m.Refresh(context.Background(), first.RefreshToken)
			}
		})
	}
	group.Wait()
	for i := range parallel {
		if i%2 == 0 {
			require.NoError(t, errs[i])
			require.Equal(t, got[0].RefreshToken, got[i].RefreshToken)
		} else {
			require.ErrorIs(t, errs[i], tokensession.ErrProofRequired)
		}
	}
	require.EqualValues(t, 1, w.record(first.Session.ID).Generation)
}

// Two tabs race, and one of them binds the session, in every order. The other one gets the plain
// successor that it made itself, or no verdict.
func TestBound_tabsInEveryOrder(t *testing.T) {
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	testkit.InEveryOrder(t, func(play *testkit.Play) func() {
		s := newScene(t, play, key, tokensession.Config{})
		first := s.start()
		var bound, plain ticket
		play.Actor("bind", func(ctx context.Context) {
			bound.tokens, bound.err = s.m.Refresh(ctx, first.RefreshToken, withKey)
		})
		play.Actor("refresh", func(ctx context.Context) {
			plain.tokens, plain.err = s.m.Refresh(ctx, first.RefreshToken)
		})
		return func() {
			require.NoError(t, bound.err)
			if plain.err == nil {
				require.Equal(t, plain.tokens.RefreshToken, bound.tokens.RefreshToken)
			} else {
				require.ErrorIs(t, plain.err, tokensession.ErrProofRequired)
			}
			require.Zero(t, s.events.Count(tokensession.EventReused))
			s.refresh(bound.tokens.RefreshToken, withKey)
		}
	})
}

// Whatever the store does while a refresh binds the session, the key's holder goes on.
func TestBound_afterAnyFaultOfTheStoreTheKeysHolderGoesOn(t *testing.T) {
	for mode, cfg := range modes {
		for _, f := range everyFault() {
			t.Run(mode+", "+f.String(), func(t *testing.T) {
				w := newWorld(t, cfg)
				tokens := w.start()
				for range 3 {
					w.suffers(f)
					got, err := w.m.Refresh(context.Background(), tokens.RefreshToken, withKey)
					if err != nil {
						requireUnavailableFor(t, err, testkit.ErrDown)
					} else {
						tokens = got
					}
					w.store.Clear()
					tokens = w.refresh(tokens.RefreshToken, withKey)
				}
				require.Zero(t, w.events.Count(tokensession.EventReused))
				require.Equal(t, clientKey, w.record(tokens.Session.ID).KeyThumbprint)
			})
		}
	}
}

// That a session is over is news for whoever asks.
func TestBound_verdictsAboutTheSessionNeedNoProof(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first, other := w.start(withKey), w.start(withKey)
	require.NoError(t, w.m.Revoke(context.Background(), first.Session.ID))
	require.ErrorIs(t, w.refreshError(first.RefreshToken), tokensession.ErrRevoked)
	w.clock.Advance(week)
	require.ErrorIs(t, w.refreshError(other.RefreshToken), tokensession.ErrExpired)
}

// A logout must not fail because the key is lost.
func TestBound_logoutNeedsNoProof(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start(withKey)
	require.NoError(t, w.m.RevokeToken(context.Background(), first.RefreshToken))
	require.Equal(t, tokensession.ReasonLogout, w.record(first.Session.ID).RevokeReason)

	second := w.start(withKey)
	w.start(tokensession.ReplacingToken(second.RefreshToken))
	require.Equal(t, tokensession.ReasonReplaced, w.record(second.Session.ID).RevokeReason)
}

func TestBound_otherClientIsRefusedFirst(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start(withKey, tokensession.WithClient("app"))
	w.unchanged(first.Session.ID, func() {
		err := w.refreshError(first.RefreshToken, withKey, tokensession.WithClient("other"))
		require.ErrorIs(t, err, tokensession.ErrInvalidToken)
	})
	w.refresh(first.RefreshToken, withKey, tokensession.WithClient("app"))
}

func TestBound_thumbprintThatIsNoneIsAMistake(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	for _, bad := range []string{
		"", clientKey[:42], clientKey + "A", clientKey[:42] + "t", clientKey[:42] + "=",
		clientKey[:42] + "+", clientKey[:20] + "\n" + clientKey[21:], clientKey[:43] + "\n",
	} {
		for name, opt := range map[string]tokensession.SessionOption{
			"WithKeyThumbprint": tokensession.WithKeyThumbprint(bad),
			"WithConfirmation":  tokensession.WithConfirmation(bad),
		} {
			_, err := w.m.Start(context.Background(), "alice", opt)
			require.ErrorContains(t, err, name)
			requireNoVerdict(t, err)
			w.unchanged(first.Session.ID, func() {
				err := w.refreshError(first.RefreshToken, opt)
				require.ErrorContains(t, err, name)
				requireNoVerdict(t, err)
				_, err = w.m.Reauthenticate(context.Background(), first.Session.ID, opt)
				require.ErrorContains(t, err, name)
			})
		}
	}
	require.Len(t, listed(t, w, "alice"), 1)
}

// A step-up of a bound session rotates its refresh token only with the proof of its key, and needs
// none if it leaves the refresh token alone.
func TestBound_reauthenticate(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	ctx := context.Background()
	first := w.start(withKey, tokensession.WithConfirmation(clientKey))
	_, err := w.m.Reauthenticate(ctx, first.Session.ID, tokensession.Rotating(first.RefreshToken))
	require.ErrorIs(t, err, tokensession.ErrProofRequired)
	got, err := w.m.Reauthenticate(ctx, first.Session.ID, tokensession.WithConfirmation(clientKey))
	require.NoError(t, err)
	require.Equal(t, "DPoP", got.TokenType)
	_, err = w.m.VerifyBound(got.AccessToken, clientKey)
	require.NoError(t, err)
	got, err = w.m.Reauthenticate(ctx, first.Session.ID, tokensession.Rotating(first.RefreshToken), withKey)
	require.NoError(t, err)
	w.requireProofRequired(got)
	w.refresh(got.RefreshToken, withKey)
}

// An access token that says cnf is of no use to whoever takes it for a bearer token.
func TestBound_accessToken(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	ctx := context.Background()
	confirm := tokensession.WithConfirmation(clientKey)
	bound, bearer := w.start(confirm), w.start(withKey)
	require.Equal(t, []string{"DPoP", "Bearer"}, []string{bound.TokenType, bearer.TokenType})
	require.Empty(t, bound.Session.KeyThumbprint, "it binds the access token only")
	verifier, err := tokensession.NewAccessVerifier(w.m.JWKS(), verifierConfig(w))
	require.NoError(t, err)

	for name, verify := range map[string]func(string) (tokensession.Access, error){
		"Verify":         w.m.Verify,
		"AccessVerifier": verifier.Verify,
		"VerifyLive": func(token string) (tokensession.Access, error) {
			return w.m.VerifyLive(ctx, token)
		},
		"VerifyBound with no key": func(token string) (tokensession.Access, error) {
			return w.m.VerifyBound(token, "")
		},
		"AccessVerifier with no key": func(token string) (tokensession.Access, error) {
			return verifier.VerifyBound(token, "")
		},
	} {
		for range 2 { // the second time from the cache
			access, err := verify(bound.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrInvalidToken, name)
			require.ErrorIs(t, err, tokensession.ErrProofRequired, name)
			require.Equal(t, "proof_required", tokensession.Kind(err))
			require.Zero(t, access)
		}
	}
	for name, verify := range map[string]func(token, thumbprint string) (tokensession.Access, error){
		"Manager": w.m.VerifyBound, "AccessVerifier": verifier.VerifyBound,
	} {
		for range 2 {
			access, err := verify(bound.AccessToken, clientKey)
			require.NoError(t, err, name)
			require.Equal(t, clientKey, access.KeyThumbprint)
			for _, c := range [][2]string{
				{bound.AccessToken, thiefKey}, {bound.AccessToken, clientKey[:42]},
				{bearer.AccessToken, clientKey}, {bearer.AccessToken, ""},
			} {
				_, err = verify(c[0], c[1])
				require.ErrorIs(t, err, tokensession.ErrInvalidToken, name)
			}
		}
	}

	access, err := w.m.Introspect(ctx, bound.AccessToken)
	require.NoError(t, err)
	require.Equal(t, clientKey, access.KeyThumbprint)
	require.NoError(t, w.m.Live(ctx, access))
	id, err := w.m.SessionID(bound.AccessToken)
	require.NoError(t, err)
	require.Equal(t, bound.Session.ID, id)
	require.NoError(t, w.m.RevokeToken(ctx, bound.AccessToken))
	_, err = w.m.VerifyBound(bound.AccessToken, clientKey)
	require.ErrorIs(t, err, tokensession.ErrRevoked)

	next := w.refresh(bearer.RefreshToken, withKey, confirm)
	require.Equal(t, "DPoP", next.TokenType)
	next = w.refresh(next.RefreshToken, withKey)
	require.Equal(t, "Bearer", next.TokenType, "a confirmation is for one access token")
}

func verifierConfig(w *world) tokensession.AccessConfig {
	cfg := accessConfig
	cfg.Now = w.clock.Now
	return cfg
}

func swapCase(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsUpper(r) {
			return unicode.ToLower(r)
		}
		return unicode.ToUpper(r)
	}, s)
}

// forgeBound makes a token's MAC anew, over a label and behind the generation a thumbprint.
func forgeBound(t testing.TB, token string, key []byte, label, thumbprint string) string {
	t.Helper()
	body := tokenBytes(t, token)[:24:24]
	mac := hmac.New(sha256.New, key)
	mac.Write([]byte(label))
	mac.Write(body)
	mac.Write([]byte(thumbprint))
	return tokenOf(append(body, mac.Sum(nil)[:24]...))
}

// A cnf that is the thumbprint of no key binds the token to nothing that anybody could prove.
func TestBound_confirmationThatIsNoThumbprint(t *testing.T) {
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	for jkt, want := range map[string]error{
		clientKey: nil, clientKey[:42]: tokensession.ErrInvalidToken,
		clientKey[:42] + "t": tokensession.ErrInvalidToken,
	} {
		token := b.forge(b.header(), claimsWith(`"cnf":{"jkt":"`+jkt+`"}`))
		_, err := b.manager.VerifyBound(token, jkt)
		require.ErrorIs(t, err, want, jkt)
		_, err = b.manager.SessionID(token)
		require.ErrorIs(t, err, want, jkt)
	}
}

package tokensession_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// A host that logs errors, and gives a token to the wrong one of two functions.
func TestRevoke_ofATokenDoesNotPrintIt(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	for _, token := range []string{tokens.RefreshToken, tokens.AccessToken} {
		err := w.m.Revoke(ctx, token)
		require.ErrorIs(t, err, tokensession.ErrNotFound)
		for i := range len(token) - 8 {
			require.NotContains(t, err.Error(), token[i:i+8])
		}
	}
}

func TestRevokeSubject_refusesASubjectThatCannotBe(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	for _, subject := range []string{"", "\xff", strings.Repeat("a", 256)} {
		_, err := w.m.RevokeSubject(context.Background(), subject)
		require.ErrorContains(t, err, "subject")
	}
	require.Empty(t, w.store.Took())
}

func TestRevoke_unknownSessionIsNotFound(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	unknown := fmt.Sprintf("%022d", 7)
	require.ErrorIs(t, w.m.Revoke(context.Background(), unknown), tokensession.ErrNotFound)
	w.requireLive(tokens)
	require.Zero(t, w.events.Count(tokensession.EventRevoked))
}

func TestRevokeToken_logsOutWithAnAccessTokenHoweverOld(t *testing.T) {
	for name, later := range map[string]time.Duration{"fresh": 0, "expired": time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			tokens, other := w.start(), w.start()
			w.clock.Advance(later)
			id, err := w.m.SessionID(tokens.AccessToken)
			require.NoError(t, err)
			require.Equal(t, tokens.Session.ID, id)
			require.NoError(t, w.m.RevokeToken(context.Background(), tokens.AccessToken))
			require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
			require.Equal(t, tokensession.ReasonLogout, w.record(id).RevokeReason)
			w.refresh(other.RefreshToken)

			require.NoError(t, w.m.RevokeToken(context.Background(), tokens.AccessToken), "twice")
			id, err = w.m.SessionID(tokens.AccessToken)
			require.NoError(t, err, "of a revoked session")
			require.Equal(t, tokens.Session.ID, id)
		})
	}
}

func TestRevokeToken_ofALostRecordStillDeniesTheToken(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	elsewhere := newWorld(t, tokensession.Config{})
	m, err := tokensession.New(w.signer, elsewhere.memory, tokensession.Config{Now: w.clock.Now})
	require.NoError(t, err)
	tokens := w.start()
	require.NoError(t, m.RevokeToken(context.Background(), tokens.AccessToken))
	_, err = m.Verify(tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

func TestRevokeToken_refusesWhatIsNoTokenOfOurs(t *testing.T) {
	w, foreign := newWorld(t, tokensession.Config{}), newWorld(t, tokensession.Config{})
	tokens := w.start()
	for name, token := range map[string]string{
		"empty": "", "foreign": foreign.start().AccessToken,
		"half a refresh token": tokens.RefreshToken[:40], "foreign refresh token": foreign.start().RefreshToken,
		"another signature": tokens.AccessToken[:len(tokens.AccessToken)-4] + "AAAA", "longer": tokens.AccessToken + "A", "huge": strings.Repeat("a", 1<<20),
	} {
		w.unchanged(tokens.Session.ID, func() {
			require.ErrorIs(t, w.m.RevokeToken(context.Background(), token),
				tokensession.ErrInvalidToken, name)
		})
	}
	w.store.Down(testkit.Load)
	require.ErrorIs(t, w.m.RevokeToken(context.Background(), tokens.AccessToken),
		tokensession.ErrUnavailable)
}

// A browser comes back long after the key was rotated, and logs out. But who holds a key that
// leaked, and was retired for that, cannot log everybody out.
func TestRevokeToken_takesATokenOfARotatedKeyAndNoneOfARetiredOne(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	next, err := tokensession.GenerateKey()
	require.NoError(t, err)
	require.NoError(t, w.signer.Rotate(next, w.clock.Now()))
	w.clock.Advance(time.Second)
	late := w.start() // with the new key
	w.clock.Advance(24 * time.Hour)
	_, err = w.m.Verify(tokens.AccessToken)
	require.Error(t, err)
	require.NotContains(t, string(w.m.JWKS()), testKeyFor("EdDSA").key.ID(),
		"its key has retired by itself")
	require.NoError(t, w.m.RevokeToken(context.Background(), tokens.AccessToken))
	require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)

	third, err := tokensession.GenerateKey()
	require.NoError(t, err)
	require.NoError(t, w.signer.Rotate(third, w.clock.Now()))
	require.NoError(t, w.signer.Retire(next.ID()))
	w.unchanged(late.Session.ID, func() {
		require.ErrorIs(t, w.m.RevokeToken(context.Background(), late.AccessToken),
			tokensession.ErrInvalidToken)
	})
}

// A process that began anew with another key, or knows less keys than the others, cannot tell what
// such a token is. A logout must not look as if it had worked.
func TestRevokeToken_saysThatItDoesNotKnowTheKey(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	restarted := newManager(t, testSigner(t), w.memory, tokensession.Config{Now: w.clock.Now})
	w.unchanged(tokens.Session.ID, func() {
		err := restarted.RevokeToken(ctx, tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrUnknownKey)
	})
	foreign := accessConfig
	foreign.Issuer = "https://other.example"
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	signer, err := tokensession.NewAccessSigner(key, foreign)
	require.NoError(t, err)
	strange, err := newManager(t, signer, tokensession.NewMemoryStore(), tokensession.Config{}).Start(ctx, "alice")
	require.NoError(t, err)
	err = restarted.RevokeToken(ctx, strange.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrInvalidToken)
	require.NotErrorIs(t, err, tokensession.ErrUnknownKey, "no key of ours has signed that")
	require.NoError(t, restarted.RevokeToken(ctx, tokens.RefreshToken))
	require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
}

// R12: ASVS 7.4.2, 7.4.3, 7.5.2.
func TestSessions_areListedNewestFirstAndEndedOneByOne(t *testing.T) {
	ctx := context.Background()
	for name, optional := range map[string]bool{"one after the other": false, "at one stroke": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			if optional {
				w.m = w.manager(w.memory, tokensession.Config{}, w.events)
			}
			var all []tokensession.Tokens
			for range 4 {
				all = append(all, w.start())
				w.clock.Advance(time.Second)
			}
			bobs, err := w.m.Start(ctx, "bob")
			require.NoError(t, err)
			w.clock.Advance(week - 4*time.Second)
			for i := range all[1:] {
				all[i+1] = w.refresh(all[i+1].RefreshToken)
			}
			require.Equal(t, idsOf(all[3], all[2], all[1]), listed(t, w, "alice"))

			require.NoError(t, w.m.Revoke(ctx, all[2].Session.ID))
			require.Equal(t, idsOf(all[3], all[1]), listed(t, w, "alice"))
			w.requireDead(all[2])

			n, err := w.m.RevokeSubject(ctx, "alice", tokensession.Keep("unknown", all[1].Session.ID, bobs.Session.ID))
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.Equal(t, idsOf(all[1]), listed(t, w, "alice"))
			w.requireDead(all[2], all[3])
			require.Equal(t, tokensession.ReasonSubjectRevoked,
				w.record(all[3].Session.ID).RevokeReason)
			require.Equal(t, tokensession.ReasonRevoked, w.record(all[2].Session.ID).RevokeReason,
				"the first reason stays")
			all[1] = w.requireLive(all[1])

			n, err = w.m.RevokeSubject(ctx, "alice")
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.Empty(t, listed(t, w, "alice"))
			n, err = w.m.RevokeSubject(ctx, "alice")
			require.NoError(t, err)
			require.Zero(t, n)
			require.Equal(t, idsOf(bobs), listed(t, w, "bob"))
			require.Equal(t, 3, w.events.Count(tokensession.EventRevoked))
		})
	}
}

// RevokeToken takes whatever a client has: any genuine token of the session ends it.
func TestRevokeToken_takesEitherToken(t *testing.T) {
	for name, token := range map[string]func(tokens tokensession.Tokens) string{
		"refresh token": func(tokens tokensession.Tokens) string { return tokens.RefreshToken },
		"access token":  func(tokens tokensession.Tokens) string { return tokens.AccessToken },
	} {
		w := newWorld(t, tokensession.Config{})
		tokens := w.start()
		w.refresh(tokens.RefreshToken)
		w.clock.Advance(time.Hour) // the access token has expired, and the refresh token was consumed
		require.NoError(t, w.m.RevokeToken(ctx, token(tokens)), name)
		require.Equal(t, tokensession.ReasonLogout, w.record(tokens.Session.ID).RevokeReason)
	}
}

func TestBecause_isKeptWithTheSessionAndTold(t *testing.T) {
	for name, revoke := range map[string]func(w *world, tokens tokensession.Tokens) error{
		"Revoke": func(w *world, tokens tokensession.Tokens) error {
			return w.m.Revoke(ctx, tokens.Session.ID, tokensession.Because("password_change"))
		},
		"RevokeSubject": func(w *world, _ tokensession.Tokens) error {
			_, err := w.m.RevokeSubject(ctx, "alice", tokensession.Because("password_change"))
			return err
		},
		"RevokeSubject at one stroke": func(w *world, _ tokensession.Tokens) error {
			w.m = w.manager(w.memory, tokensession.Config{}, w.events)
			_, err := w.m.RevokeSubject(ctx, "alice", tokensession.Because("password_change"))
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			tokens := w.start()
			w.events.Take()
			require.NoError(t, revoke(w, tokens))
			require.EqualValues(t, "password_change", w.record(tokens.Session.ID).RevokeReason)
			require.Equal(t, []tokensession.EventKind{tokensession.EventRevoked}, w.events.Kinds())
			require.EqualValues(t, "password_change", w.events.All()[0].Session.RevokeReason)
			var revoked *tokensession.RevokedError
			require.ErrorAs(t, w.refreshError(tokens.RefreshToken), &revoked)
			require.EqualValues(t, "password_change", revoked.Reason)
		})
	}
}

func TestBecause_refusesWhatNoStoreCouldKeep(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	for _, reason := range []tokensession.Reason{"", "a\nb", "\xff", tokensession.Reason(strings.Repeat("x", 256))} {
		w.unchanged(tokens.Session.ID, func() {
			err := w.m.Revoke(ctx, tokens.Session.ID, tokensession.Because(reason))
			require.ErrorContains(t, err, "Because")
			_, err = w.m.RevokeSubject(ctx, "alice", tokensession.Because(reason))
			require.ErrorContains(t, err, "Because")
		})
	}
	w.requireLive(tokens)
}

func TestKeep_isForRevokeSubjectOnly(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	here, there, elsewhere := w.start(), w.start(), w.start()
	w.unchanged(here.Session.ID, func() {
		err := w.m.Revoke(ctx, here.Session.ID, tokensession.Keep(here.Session.ID))
		require.ErrorContains(t, err, "Keep")
	})
	n, err := w.m.RevokeSubject(ctx, "alice",
		tokensession.Keep(here.Session.ID), tokensession.Keep(there.Session.ID))
	require.NoError(t, err)
	require.Equal(t, 1, n)
	w.requireLive(here)
	w.requireLive(there)
	w.requireDead(elsewhere)
}

func TestSession_isFoundWhileThereIsARecord(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start(tokensession.WithAttributes(map[string]string{"device": "phone"}))
	got, err := w.m.Session(ctx, tokens.Session.ID)
	require.NoError(t, err)
	require.Equal(t, tokens.Session, got)

	require.NoError(t, w.m.Revoke(ctx, tokens.Session.ID, tokensession.Because("theft")))
	got, err = w.m.Session(ctx, tokens.Session.ID)
	require.NoError(t, err)
	require.EqualValues(t, "theft", got.RevokeReason)

	for _, id := range []string{"", "no session id", strings.Repeat("A", 22)} {
		_, err = w.m.Session(ctx, id)
		require.ErrorIs(t, err, tokensession.ErrNotFound)
	}
	w.store.Down(testkit.Load)
	_, err = w.m.Session(ctx, tokens.Session.ID)
	requireUnavailableFor(t, err, testkit.ErrDown)
}

// An ended session's record goes as soon as nothing needs it, however long the session would have
// lasted.
func TestKeepEnded_recordsOfEndedSessionsGo(t *testing.T) {
	for name, end := range map[string]func(w *world, tokens tokensession.Tokens){
		"Revoke": func(w *world, tokens tokensession.Tokens) {
			require.NoError(t, w.m.Revoke(ctx, tokens.Session.ID))
		},
		"RevokeSubject at one stroke": func(w *world, _ tokensession.Tokens) {
			w.m = w.manager(w.memory, tokensession.Config{KeepEnded: 2 * time.Hour}, w.events)
			_, err := w.m.RevokeSubject(ctx, "alice")
			require.NoError(t, err)
		},
		"reuse": func(w *world, tokens tokensession.Tokens) {
			w.refresh(w.refresh(tokens.RefreshToken).RefreshToken)
			requireReused(t, w.refreshError(tokens.RefreshToken), 0, 2)
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{KeepEnded: 2 * time.Hour})
			tokens := w.start()
			end(w, tokens)
			w.clock.Advance(2*time.Hour - micro)
			_, err := w.memory.Sweep(ctx, w.clock.Now(), 100)
			require.NoError(t, err)
			_, err = w.m.Session(ctx, tokens.Session.ID)
			require.NoError(t, err, "it is told for two hours")
			w.clock.Advance(micro)
			n, err := w.memory.Sweep(ctx, w.clock.Now(), 100)
			require.NoError(t, err)
			require.NotZero(t, n)
			_, err = w.m.Session(ctx, tokens.Session.ID)
			require.ErrorIs(t, err, tokensession.ErrNotFound)
		})
	}
}

func TestRevokeOwn_endsOnlyTheSubjectsSessions(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, tokensession.Config{})
	mine, keep := w.start(), w.start()
	w.unchanged(mine.Session.ID, func() {
		for _, c := range [][2]string{
			{"bob", mine.Session.ID}, {"ALICE", mine.Session.ID}, {"alice", "AAAAAAAAAAAAAAAAAAAAAQ"}, {"alice", ""},
		} {
			require.ErrorIs(t, w.m.RevokeOwn(ctx, c[0], c[1]), tokensession.ErrNotFound)
		}
		require.ErrorContains(t, w.m.RevokeOwn(ctx, "", mine.Session.ID), "subject is empty")
		require.ErrorContains(t, w.m.RevokeOwn(ctx, "alice", mine.Session.ID, tokensession.Because("")), "Because")
		w.store.Down(testkit.Load)
		requireUnavailableFor(t, w.m.RevokeOwn(ctx, "alice", mine.Session.ID), testkit.ErrDown)
		w.store.Clear()
	})
	w.requireLive(keep)
	require.NoError(t, w.m.RevokeOwn(ctx, "alice", mine.Session.ID, tokensession.Because("lost_phone")))
	require.Equal(t, tokensession.Reason("lost_phone"), w.record(mine.Session.ID).RevokeReason)
	w.requireDead(mine)
	require.NoError(t, w.m.RevokeOwn(ctx, "alice", mine.Session.ID), "it is over")
}

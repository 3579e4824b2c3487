package tokensession_test

import (
	"bytes"
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

func TestMaxSessions_endsTheOldestWhateverTheClockDoes(t *testing.T) {
	for name, step := range map[string]time.Duration{"forwards": time.Minute, "frozen": 0, "backwards": -30 * time.Second} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{MaxSessions: 3})
			var all []tokensession.Tokens
			for range 8 {
				all = append(all, w.start())
				w.clock.Advance(step)
			}
			sessions, err := w.m.Sessions(context.Background(), "alice")
			require.NoError(t, err)
			require.Len(t, sessions, 3)
			for i, tokens := range all[5:] {
				require.Equal(t, tokens.Session.ID, sessions[2-i].ID, "newest first")
				w.refresh(tokens.RefreshToken)
			}
			for _, tokens := range all[:5] {
				require.Equal(t, tokensession.ReasonMaxSessions, w.record(tokens.Session.ID).RevokeReason)
				require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
			}
		})
	}
}

// The store lists records that were created at the same time in another order than they were created in.
func TestMaxSessions_neverEndsTheLoginItselfWhateverTheOrderOfTies(t *testing.T) {
	w := newWorld(t, tokensession.Config{MaxSessions: 2})
	w.store.Always(testkit.List, testkit.Apply, func(r *testkit.Request) {
		slices.Reverse(r.Records)
		slices.SortStableFunc(r.Records, func(a, b tokensession.Record) int {
			return a.CreatedAt.Compare(b.CreatedAt)
		})
	})
	var all []tokensession.Tokens
	for range 5 { // at the same time
		all = append(all, w.start())
		w.requireLive(all[len(all)-1])
	}
	w.requireDead(all[:3]...)
}

func TestMaxSessions_countsOnlyTheSubjectsLiveSessions(t *testing.T) {
	w := newWorld(t, tokensession.Config{MaxSessions: 2})
	_, err := w.m.Start(context.Background(), "bob")
	require.NoError(t, err)
	expired, revoked := w.start(), w.start()
	require.NoError(t, w.m.Revoke(context.Background(), revoked.Session.ID))
	live := w.start()
	w.refresh(expired.RefreshToken) // it made room for nobody
	w.clock.Advance(time.Hour)
	live = w.refresh(live.RefreshToken)
	w.clock.Advance(week - time.Minute)
	w.start()
	w.refresh(live.RefreshToken)
}

func TestMaxSessions_isNeverExceededByParallelLogins(t *testing.T) {
	for _, limit := range []int{1, 3} {
		w := newWorld(t, tokensession.Config{MaxSessions: limit})
		var wg sync.WaitGroup
		for range 32 {
			wg.Go(func() {
				_, err := w.m.Start(context.Background(), "alice")
				if err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		sessions, err := w.m.Sessions(context.Background(), "alice")
		require.NoError(t, err)
		require.Len(t, sessions, limit)
	}
}

// R10: RFC 6749 section 6. ZITADEL CVE-2026-55672.
func TestWithClient_bindsTheSession(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start(tokensession.WithClient("app"))
	require.Equal(t, "app", first.Session.ClientID)
	tokens := w.refresh(first.RefreshToken, tokensession.WithClient("app"))
	require.NotEqual(t, first.RefreshToken, tokens.RefreshToken)
	for _, token := range []string{tokens.RefreshToken, first.RefreshToken} { // the live one and one in its grace
		w.unchanged(tokens.Session.ID, func() {
			require.ErrorIs(t, w.refreshError(token), tokensession.ErrInvalidToken)
			for _, client := range []string{"", "App", "app ", "other"} {
				require.ErrorIs(t, w.refreshError(token, tokensession.WithClient(client)), tokensession.ErrInvalidToken)
			}
		})
	}
	w.clock.Advance(grace)
	w.unchanged(tokens.Session.ID, func() { // not even theft, for who knows no client is no party
		require.ErrorIs(t, w.refreshError(first.RefreshToken, tokensession.WithClient("other")), tokensession.ErrInvalidToken)
	})
	tokens = w.refresh(tokens.RefreshToken, tokensession.WithClient("app"))
	access, err := w.m.Verify(tokens.AccessToken)
	require.NoError(t, err)
	require.Equal(t, "app", access.ClientID)
}

func TestWithClient_isNotAskedOfASessionBegunWithout(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.refresh(w.start().RefreshToken, tokensession.WithClient("app"))
	require.Empty(t, tokens.Session.ClientID, "a refresh bound the session")
	w.refresh(tokens.RefreshToken)
}

func TestWithAttributes_mergesAndSharesNothing(t *testing.T) {
	var asked []map[string]string
	w := newWorld(t, tokensession.Config{Authorize: func(_ context.Context, s tokensession.Session) (tokensession.Grant, error) {
		asked = append(asked, map[string]string{})
		for name, value := range s.Attributes {
			asked[len(asked)-1][name] = value
			s.Attributes[name] = "the authorizer was here"
		}
		return tokensession.Grant{}, nil
	}})
	given := map[string]string{"device": "phone", "ip": "192.0.2.1"}
	begin := tokensession.WithAttributes(given)
	given["device"] = "changed before Start"
	first := w.start(begin)
	given["device"] = "changed after Start"
	want := map[string]string{"device": "phone", "ip": "192.0.2.1"}
	require.Equal(t, want, first.Session.Attributes)
	first.Session.Attributes["device"] = "changed in the tokens"
	for _, e := range w.events.All() {
		e.Session.Attributes["device"] = "changed in the event"
	}
	require.Equal(t, want, w.record(first.Session.ID).Attributes)

	more := map[string]string{"ip": "192.0.2.2", "agent": ""}
	second := w.refresh(first.RefreshToken, tokensession.WithAttributes(more))
	more["ip"] = "changed after Refresh"
	want = map[string]string{"device": "phone", "ip": "192.0.2.2", "agent": ""}
	require.Equal(t, want, second.Session.Attributes)
	require.Equal(t, want, w.record(first.Session.ID).Attributes)
	require.Equal(t, want, asked[1], "the authorizer did not see what was given")

	replay := w.refresh(first.RefreshToken, tokensession.WithAttributes(map[string]string{"ip": "a thief's"}))
	require.Equal(t, want, replay.Session.Attributes, "a replay writes nothing")
	require.Equal(t, map[string]string{"device": "phone", "ip": "a thief's", "agent": ""}, asked[2], "the authorizer did not see what was given")
	third := w.refresh(second.RefreshToken, tokensession.WithAttributes(nil))
	require.Equal(t, want, third.Session.Attributes)
}

// R15: RFC 9068 section 2.2.1.
func TestWithAuthTime_neverMoves(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	when := w.clock.Now().Add(-3 * time.Hour)
	tokens := w.start(tokensession.WithAuthTime(when.In(time.FixedZone("there", 7200))))
	require.Equal(t, when.Truncate(micro), tokens.Session.AuthTime)
	plain := w.start()
	began := w.clock.Now()
	for range 5 {
		w.clock.Advance(time.Hour)
		tokens, plain = w.refresh(tokens.RefreshToken), w.refresh(plain.RefreshToken)
		require.Equal(t, when.Truncate(time.Microsecond), tokens.Session.AuthTime)
		require.Equal(t, began.Truncate(time.Microsecond), plain.Session.AuthTime)
		access, err := w.m.Verify(tokens.AccessToken)
		require.NoError(t, err)
		require.Equal(t, when.Unix(), access.AuthTime.Unix())
	}
}

// R13: ASVS 7.2.4.
func TestReplacing_endsTheOtherSession(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	old, bystander := w.start(), w.start()
	tokens, err := w.m.Start(context.Background(), "bob", tokensession.Replacing(old.Session.ID)) // of another subject
	require.NoError(t, err)
	w.requireDead(old)
	require.Equal(t, tokensession.ReasonReplaced, w.record(old.Session.ID).RevokeReason)
	w.requireLive(tokens)
	w.requireLive(bystander)
}

func TestReplacing_whatIsNotThereIsNoError(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	expired := w.start()
	w.clock.Advance(week)
	revoked := w.start()
	require.NoError(t, w.m.Revoke(context.Background(), revoked.Session.ID))
	for _, id := range []string{"", "unknown", "AAAAAAAAAAAAAAAAAAAAAA", "\x00", expired.Session.ID, revoked.Session.ID} {
		w.requireLive(w.start(tokensession.Replacing(id)))
	}
	require.Equal(t, tokensession.ReasonRevoked, w.record(revoked.Session.ID).RevokeReason)
	require.Equal(t, 1, w.events.Count(tokensession.EventRevoked))
}

func TestReplacing_makesRoomByItself(t *testing.T) {
	w := newWorld(t, tokensession.Config{MaxSessions: 2})
	phone := w.start()
	browser := w.start()
	again := w.start(tokensession.Replacing(browser.Session.ID))
	w.requireLive(phone)
	w.requireLive(again)
	require.Equal(t, tokensession.ReasonReplaced, w.record(browser.Session.ID).RevokeReason)
}

func TestReplacing_leavesTheOldSessionWhereTheLoginFails(t *testing.T) {
	w := newWorld(t, tokensession.Config{MaxSessions: 5})
	old := w.start()
	w.store.Took()
	w.store.On(testkit.List)
	w.store.On(testkit.List, // after the new session was created
		testkit.LoseRequest)
	_, err := w.m.Start(context.Background(), "alice", tokensession.Replacing(old.Session.ID))
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	require.Equal(t, 2, w.store.Count(testkit.List))
	w.store.Clear()
	w.requireLive(old)
}

func TestReplacing_leavesNoNewSessionWhereTheOldOneCannotBeEnded(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	old := w.start()
	w.store.Times(8, testkit.Swap, testkit.LoseRequest) // of the old one; that of the new one succeeds
	tokens, err := w.m.Start(context.Background(), "alice", tokensession.Replacing(old.Session.ID))
	requireUnavailableFor(t, err, testkit.ErrDown)
	require.Zero(t, tokens)
	w.store.Clear()
	sessions, err := w.m.Sessions(context.Background(), "alice")
	require.NoError(t, err)
	require.Len(t, sessions, 1)
	require.Equal(t, old.Session.ID, sessions[0].ID)
	w.requireLive(old)
	require.Equal(t, 1, w.events.Count(tokensession.EventStarted), "a login that failed was told")
}

func keyOf(b byte) []byte { return bytes.Repeat([]byte{b}, 32) }

func TestRefreshKeys_changeInTwoSteps(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	instance := func(keys ...[]byte) *tokensession.Manager {
		return w.manager(w.memory, tokensession.Config{RefreshKeys: keys, MaxLifetime: tokensession.Unlimited}, w.events)
	}
	ctx := context.Background()
	steps := []*tokensession.Manager{instance(), instance(nil, keyOf(1)), instance(keyOf(1), nil), // to begin with
		instance(keyOf(1), keyOf(2), nil), instance(keyOf(2), keyOf(1), nil), instance(keyOf(2))}
	last := steps[len(steps)-1]
	tokens := w.start()
	var err error
	for i := range len(steps) - 1 { // neighbours run side by side, and each takes the other's tokens
		for _, m := range []*tokensession.Manager{steps[i], steps[i+1], steps[i], steps[i+1]} {
			tokens, err = m.Refresh(ctx, tokens.RefreshToken)
			require.NoError(t, err, "step %d", i)
		}
	}
	fresh, err := last.Start(ctx, "alice")
	require.NoError(t, err)
	for i, m := range []*tokensession.Manager{instance(keyOf(1)), instance(keyOf(3)), instance(keyOf(3), keyOf(1)), w.m} {
		_, err := m.Refresh(ctx, tokens.RefreshToken)
		require.ErrorIs(t, err, tokensession.ErrInvalidToken, "without the key it was made with: %d", i)
		require.ErrorIs(t, m.RevokeToken(ctx, fresh.RefreshToken), tokensession.ErrInvalidToken)
	}
	_, err = last.Refresh(ctx, tokens.RefreshToken)
	require.NoError(t, err)
	old := w.start()
	_, err = last.Refresh(ctx, old.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrInvalidToken, "made with the record's key alone, after that has ended")
}

// Who can write to the store and has a token knows the handle and the record's key, and cannot make another token.
func TestRefreshKeys_areNeededToMakeAToken(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	m := w.manager(w.memory, tokensession.Config{RefreshKeys: [][]byte{keyOf(1)}}, w.events)
	tokens, err := m.Start(context.Background(), "alice")
	require.NoError(t, err)
	forged, err := w.m.Refresh(context.Background(), forge(t, tokens.RefreshToken, w.record(tokens.Session.ID).Key, 5))
	require.NoError(t, err, "the forgery is right where there is no host key: %v", forged)
	_, err = m.Refresh(context.Background(), forge(t, tokens.RefreshToken, w.record(tokens.Session.ID).Key, 7))
	require.ErrorIs(t, err, tokensession.ErrInvalidToken)
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

			n, err := w.m.RevokeSubject(ctx, "alice", "unknown", all[1].Session.ID, bobs.Session.ID)
			require.NoError(t, err)
			require.Equal(t, 1, n)
			require.Equal(t, idsOf(all[1]), listed(t, w, "alice"))
			w.requireDead(all[2], all[3])
			require.Equal(t, tokensession.ReasonSubjectRevoked, w.record(all[3].Session.ID).RevokeReason)
			require.Equal(t, tokensession.ReasonRevoked, w.record(all[2].Session.ID).RevokeReason, "the first reason stays")
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

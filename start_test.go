package tokensession_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

func TestStart_refusesBadInputByFieldValueAndBound(t *testing.T) {
	now := testkit.NewClock().Now()
	with := func(opts ...tokensession.StartOption) []tokensession.StartOption { return opts }
	attributes := func(name, value string) []tokensession.StartOption {
		return with(tokensession.WithAttributes(map[string]string{name: value}))
	}
	for name, c := range map[string]struct {
		subject string
		opts    []tokensession.StartOption
		says    []string
	}{
		"no subject":           {"", nil, []string{"subject", "empty"}},
		"long subject":         {strings.Repeat("a", 256), nil, []string{"subject", "256", "255"}},
		"subject not UTF-8":    {"a\xffb", nil, []string{"subject", `"a\xffb"`, "UTF-8"}},
		"subject with NUL":     {"a\x00b", nil, []string{"subject", "U+0000"}},
		"subject with newline": {"a\nb", nil, []string{"subject", "U+000A"}},
		"long client": {"a", with(tokensession.WithClient(strings.Repeat("c", 256))),
			[]string{"WithClient", "256", "255"}},
		"client not UTF-8": {"a", with(tokensession.WithClient("\xff")),
			[]string{"WithClient", "UTF-8"}},
		"33 attributes": {"a", with(tokensession.WithAttributes(attributesOf(33))),
			[]string{"WithAttributes", "33", "32"}},
		"attributes of 4097": {"a", attributes("n", strings.Repeat("v", 4096)),
			[]string{"WithAttributes", "4097", "4096"}},
		"attribute without name": {"a", attributes("", "v"),
			[]string{"WithAttributes", "name", "empty"}},
		"name not UTF-8": {"a", attributes("\xff", "v"),
			[]string{"WithAttributes", "name", "UTF-8"}},
		"value not UTF-8": {"a", attributes("device", "\xff"),
			[]string{"WithAttributes", `"device"`, "UTF-8"}},
		"value with NUL": {"a", attributes("device", "a\x00"),
			[]string{"WithAttributes", `"device"`, "NUL"}},
		"future auth time": {"a", with(tokensession.WithAuthTime(now.Add(time.Minute + time.Microsecond))),
			[]string{"WithAuthTime", "2026-01-02 03:05:05", "2026-01-02 03:04:05"}},
		"ancient auth time": {"a", with(tokensession.WithAuthTime(time.Unix(-1, 0))),
			[]string{"WithAuthTime", "1970"}},
		"no actor":       {"a", with(tokensession.WithActor("")), []string{"WithActor", "empty"}},
		"long actor":     {"a", with(tokensession.WithActor(strings.Repeat("a", 256))), []string{"WithActor", "256", "255"}},
		"actor with NUL": {"a", with(tokensession.WithActor("a\x00")), []string{"WithActor", "U+0000"}},
		"idle below a minute": {"a", with(tokensession.WithLifetimes(time.Minute-micro, 0)),
			[]string{"WithLifetimes: idle 59.999999s", "1m0s", "Config.RefreshTTL (168h0m0s)"}},
		"idle beyond Config's": {"a", with(tokensession.WithLifetimes(week+micro, 0)),
			[]string{"WithLifetimes: idle 168h0m0.000001s", "1m0s", "Config.RefreshTTL (168h0m0s)"}},
		"negative idle": {"a", with(tokensession.WithLifetimes(tokensession.Strict, 0)),
			[]string{"WithLifetimes: idle -1ns", "1m0s"}},
		"absolute below a minute": {"a", with(tokensession.WithLifetimes(0, time.Second)),
			[]string{"WithLifetimes: absolute 1s", "1m0s", "Config.MaxLifetime (720h0m0s)"}},
		"absolute beyond Config's": {"a", with(tokensession.WithLifetimes(0, 720*time.Hour+micro)),
			[]string{"WithLifetimes: absolute 720h0m0.000001s", "Config.MaxLifetime (720h0m0s)"}},
		"unlimited where Config is not": {"a", with(tokensession.WithLifetimes(0, tokensession.Unlimited)),
			[]string{"WithLifetimes: absolute -2ns", "Config.MaxLifetime (720h0m0s)"}},
		"zero auth time": {"a", with(tokensession.WithAuthTime(time.Time{})),
			[]string{"WithAuthTime", "0001-01-01"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			tokens, err := w.m.Start(context.Background(), c.subject, c.opts...)
			require.Error(t, err)
			require.Zero(t, tokens)
			requireNoVerdict(t, err)
			require.NotErrorIs(t, err, tokensession.ErrUnavailable)
			for _, says := range c.says {
				require.Contains(t, err.Error(), says)
			}
			require.Empty(t, w.store.Took(), "the store was asked")
			require.Empty(t, w.events.All())
		})
	}
}

func attributesOf(n int) map[string]string {
	attributes := map[string]string{}
	for i := range n {
		attributes[strings.Repeat("n", i+1)] = ""
	}
	return attributes
}

func TestStart_acceptsTheBounds(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	for subject, opts := range map[string][]tokensession.StartOption{
		strings.Repeat("a", 255): {tokensession.WithClient(strings.Repeat("c", 255))},
		"Zoë Ünïcode 名前 🙂":       {tokensession.WithAttributes(map[string]string{"n": strings.Repeat("v", 4095)})},
		"many":                   {tokensession.WithAttributes(attributesOf(32))},
		"lines":                  {tokensession.WithAttributes(map[string]string{"user agent": "a\r\nb\t"})},
		"ahead":                  {tokensession.WithAuthTime(w.clock.Now().Truncate(micro).Add(time.Minute))},
		" ":                      {tokensession.WithAuthTime(time.Unix(0, 0))},
	} {
		tokens, err := w.m.Start(context.Background(), subject, opts...)
		require.NoError(t, err, "%q", subject)
		require.Equal(t, subject, w.record(tokens.Session.ID).Subject)
	}
}

// A session that was never refreshed has had no refresh that could have cut its end.
func TestStart_beginsWithAnEndThatIsNotBeyondTheAbsoluteOne(t *testing.T) {
	w := newWorld(t, tokensession.Config{MaxLifetime: time.Hour})
	tokens := w.start()
	require.Equal(t, tokens.Session.CreatedAt.Add(time.Hour), tokens.RefreshExpiresAt)
	w.clock.Advance(time.Hour)
	w.unchanged(tokens.Session.ID, func() {
		require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrExpired)
	})
}

func TestStart_givesEachSessionItsOwnSecrets(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	seen := map[string]bool{}
	for range 1000 {
		tokens := w.start()
		rec := w.record(tokens.Session.ID)
		raw := tokenBytes(t, tokens.RefreshToken)
		for _, secret := range []string{rec.ID, rec.WriteID, string(rec.Key), string(raw[:16]), string(raw[24:]), tokens.AccessToken} {
			require.False(t, seen[secret], "twice: %q", secret)
			seen[secret] = true
		}
		require.Len(t, tokens.RefreshToken, 68)
		require.Len(t, rec.Key, 32)
		require.Equal(t, "tsr_", tokens.RefreshToken[:4])
	}
}

func TestStart_leavesNoSessionThatCountsAfterAFault(t *testing.T) {
	for _, f := range everyFault() {
		t.Run(f.String(), func(t *testing.T) {
			w := newWorld(t, tokensession.Config{MaxSessions: 1})
			old := w.start()
			w.suffers(f)
			got, err := w.m.Start(context.Background(), "alice",
				tokensession.Replacing(old.Session.ID))
			w.store.Clear()
			if err != nil {
				requireUnavailableFor(t, err, testkit.ErrDown)
				require.Zero(t, got)
				got = w.start()
			}
			w.requireDead(old)
			sessions, err := w.m.Sessions(context.Background(), "alice")
			require.NoError(t, err)
			require.Len(t, sessions, 1)
			require.Equal(t, got.Session.ID, sessions[0].ID)
			w.requireLive(got)
		})
	}
}

// The new session is there, and the ones beyond MaxSessions cannot be found or ended: then there is
// no login.
func TestStart_thatCannotMakeRoomLeavesNoSession(t *testing.T) {
	for name, breaks := range map[string]func(store *testkit.HookedStore){
		"found": func(store *testkit.HookedStore) {
			store.On(testkit.List) // before the new session is created
			store.On(testkit.List, testkit.LoseRequest)
		},
		"ended": func(store *testkit.HookedStore) { store.Down(testkit.Swap) },
	} {
		w := newWorld(t, tokensession.Config{MaxSessions: 1})
		old := w.start()
		w.events.Take()
		breaks(w.store)
		_, err := w.m.Start(context.Background(), "alice")
		requireUnavailableFor(t, err, testkit.ErrDown)
		w.store.Clear()
		require.Empty(t, w.events.Take(), name)
		w.requireLive(old)
		sessions, err := w.m.Sessions(context.Background(), "alice")
		require.NoError(t, err)
		if name == "found" {
			require.Len(t, sessions, 1)
		}
	}
}

// A user goes away during the login on a second device, and logs in there again: neither the first
// device nor the lost login may count.
func TestStart_whoseCallerGoesAwayLeavesNoSessionThatCounts(t *testing.T) {
	w := newWorld(t, tokensession.Config{MaxSessions: 2})
	phone := w.start()
	w.clock.Advance(time.Minute)
	w.events.Take()
	ctx, cancel := context.WithCancel(context.Background())
	w.store.Always(testkit.Create,
		testkit.Pass,
		testkit.Do(cancel),
		testkit.Refuse(context.Canceled),
	)
	_, err := w.m.Start(ctx, "alice")
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	w.store.Clear()
	require.Empty(t, w.events.Take(), "of a session that nobody has heard of")
	sessions, err := w.m.Sessions(context.Background(), "alice")
	require.NoError(t, err)
	require.Len(t, sessions, 1)
	w.clock.Advance(time.Minute)
	w.requireLive(w.start())
	w.requireLive(phone)
}

// The store has a record of somebody else under whatever ID a login comes up with.
func TestStart_doesNotTakeAnothersRecordForItsOwn(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	w.store.Always(testkit.Create,
		func(r *testkit.Request) {
			r.Record.Subject, r.Record.WriteID = "bob", "AAAAAAAAAAAAAAAAAAAAAA"
		},
		testkit.Pass,
		testkit.Refuse(tokensession.ErrExists),
	)
	tokens, err := w.m.Start(context.Background(), "alice")
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	require.Zero(t, tokens)
	require.Empty(t, w.events.All())
}

// A store need not recognize a write that it has applied already: the Manager looks.
func TestStart_findsTheSessionWhoseReplyWasLost(t *testing.T) {
	for name, second := range map[string]error{
		"lost again": testkit.ErrDown, "exists": tokensession.ErrExists,
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			w.store.On(testkit.Create, testkit.Apply, testkit.LoseReply)
			w.store.Always(testkit.Create, testkit.Refuse(second))
			w.requireLive(w.start())
		})
	}
}

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
				require.Equal(t, tokensession.ReasonMaxSessions,
					w.record(tokens.Session.ID).RevokeReason)
				require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
			}
		})
	}
}

// The store lists records that were created at the same time in another order than they were
// created in.
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

// R13: ASVS 7.2.4.
func TestReplacing_endsTheOtherSession(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	old, bystander := w.start(), w.start()
	// of another subject
	tokens, err := w.m.Start(context.Background(), "bob", tokensession.Replacing(old.Session.ID))
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
	// of the old one; that of the new one succeeds
	w.store.Times(8, testkit.Swap, testkit.LoseRequest)
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

// A login that fails may have ended the session that it was to replace, or not: then that one
// lives.
func TestReplacing_thatIsInDoubtEndsNothingByItself(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	old := w.start()
	w.store.Down(testkit.Swap)
	_, err := w.m.Start(ctx, "alice", tokensession.Replacing(old.Session.ID))
	requireUnavailableFor(t, err, testkit.ErrDown)
	w.store.Clear()
	w.requireLive(old)
}

// A failover lost the record of the session that a login replaces. Its access token is still about.
func TestReplacing_refusesTheAccessTokenOfASessionThatTheStoreLost(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	old := w.start()
	w.forget()
	w.start(tokensession.Replacing(old.Session.ID))
	_, err := w.m.Verify(old.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

func TestWithLifetimes_areKeptWithTheSession(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	began := w.m.Now()
	short := w.start(tokensession.WithLifetimes(time.Hour, 3*time.Hour))
	usual := w.start()
	require.Equal(t, began.Add(time.Hour), short.RefreshExpiresAt)
	require.Equal(t, began.Add(3*time.Hour), short.Session.MaxExpiresAt)
	require.Equal(t, began.Add(week), usual.RefreshExpiresAt)
	require.Equal(t, began.Add(30*24*time.Hour), usual.Session.MaxExpiresAt)

	whole := w.start(tokensession.WithLifetimes(0, 3*time.Hour))
	require.Equal(t, began.Add(3*time.Hour), w.record(whole.Session.ID).ExpiresAt, "in the store, too")

	w.clock.Advance(time.Hour - micro)
	next := w.refresh(short.RefreshToken)
	require.Equal(t, began.Add(2*time.Hour-micro), next.RefreshExpiresAt, "an hour from now")
	require.Equal(t, began.Add(time.Hour-micro).Add(week), w.refresh(usual.RefreshToken).RefreshExpiresAt)
	w.clock.Advance(59 * time.Minute)
	next = w.refresh(next.RefreshToken)
	w.clock.Advance(55 * time.Minute)
	next = w.refresh(next.RefreshToken)
	require.Equal(t, began.Add(3*time.Hour), next.RefreshExpiresAt, "and not beyond the absolute end")
	require.Equal(t, began.Add(3*time.Hour).Truncate(time.Second), next.AccessExpiresAt)
	w.clock.Set(began.Add(3 * time.Hour))
	require.ErrorIs(t, w.refreshError(next.RefreshToken), tokensession.ErrExpired)

	idle := w.start(tokensession.WithLifetimes(time.Hour, 0))
	w.clock.Advance(time.Hour)
	require.ErrorIs(t, w.refreshError(idle.RefreshToken), tokensession.ErrExpired)
}

// What was chosen at login holds on every instance, and a shorter Config holds at once.
func TestWithLifetimes_theShorterOneHolds(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, tokensession.Config{})
	began := w.m.Now()
	tokens := w.start(tokensession.WithLifetimes(time.Hour, 0))
	longer := w.other(tokensession.Config{RefreshTTL: 2 * week})
	next, err := longer.Refresh(ctx, tokens.RefreshToken)
	require.NoError(t, err)
	require.Equal(t, began.Add(time.Hour), next.RefreshExpiresAt)
	shorter := w.other(tokensession.Config{RefreshTTL: time.Minute, RecoveryPeriod: tokensession.Strict})
	next, err = shorter.Refresh(ctx, next.RefreshToken)
	require.NoError(t, err)
	require.Equal(t, began.Add(time.Minute), next.RefreshExpiresAt)
	next, err = longer.Refresh(ctx, next.RefreshToken)
	require.NoError(t, err)
	require.Equal(t, began.Add(time.Hour), next.RefreshExpiresAt)
}

func TestWithLifetimes_withoutAnAbsoluteEndInConfig(t *testing.T) {
	w := newWorld(t, tokensession.Config{MaxLifetime: tokensession.Unlimited})
	require.Zero(t, w.start(tokensession.WithLifetimes(time.Hour, 0)).Session.MaxExpiresAt)
	require.Equal(t, w.m.Now().Add(1000*24*time.Hour),
		w.start(tokensession.WithLifetimes(0, 1000*24*time.Hour)).Session.MaxExpiresAt)
	_, err := w.m.Start(context.Background(), "alice", tokensession.WithLifetimes(0, 101*365*24*time.Hour))
	require.ErrorContains(t, err, "WithLifetimes: absolute 884760h0m0s: must be from 1m0s to the longest that there is (876000h0m0s)")
}

func TestTransient_isKeptWithTheSession(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start(tokensession.Transient())
	require.True(t, tokens.Session.Transient)
	require.True(t, w.refresh(tokens.RefreshToken).Session.Transient)
	require.False(t, w.start().Session.Transient)
}

func TestWithActor_isKeptAndTold(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, tokensession.Config{})
	tokens := w.start(tokensession.WithActor("carol"))
	for range 2 {
		access, err := w.m.Verify(tokens.AccessToken)
		require.NoError(t, err)
		require.Equal(t, [2]string{"alice", "carol"}, [2]string{access.Subject, access.Actor})
		require.Equal(t, "carol", tokens.Session.Actor)
		tokens = w.refresh(tokens.RefreshToken)
	}
	for _, e := range w.events.All() {
		require.Equal(t, "carol", e.Session.Actor, e.Kind)
	}
	sessions, err := w.m.Sessions(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, "carol", sessions[0].Actor)
	w.reauthorize(w.m, 1)
	n, err := w.m.RevokeSubject(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, 1, n, "it ends with the subject's")
}

// Support staff log nobody out, and the user's logins do not throw them out.
func TestWithActor_doesNotCountForMaxSessions(t *testing.T) {
	w := newWorld(t, tokensession.Config{MaxSessions: 2})
	first := w.start()
	acting := []tokensession.Tokens{w.start(tokensession.WithActor("carol")), w.start(tokensession.WithActor("dave"))}
	second := w.start()
	acting = append(acting, w.start(tokensession.WithActor("carol")))
	require.ElementsMatch(t, idsOf(append(acting, first, second)...), listed(t, w, "alice"))
	third := w.start()
	require.ElementsMatch(t, idsOf(append(acting, second, third)...), listed(t, w, "alice"), "the oldest of the user's own")

	fewer := w.other(tokensession.Config{MaxSessions: 1})
	last, err := fewer.Start(ctx, "alice", tokensession.WithActor("erin"))
	require.NoError(t, err)
	require.ElementsMatch(t, idsOf(append(acting, second, third, last)...), listed(t, w, "alice"),
		"the limit is for the user's next login")
}

// A browser brings what it had before the login. What proves that the session was its own, ends it.
func TestReplacingToken_endsTheSessionsOfGenuineTokens(t *testing.T) {
	w := newWorld(t, tokensession.Config{MaxSessions: 2})
	other := newManager(t, testSigner(t), w.memory, tokensession.Config{Now: w.clock.Now})
	elsewhere := func(subject string) tokensession.Tokens { // with a key that is unknown here
		tokens, err := other.Start(ctx, subject)
		require.NoError(t, err)
		return tokens
	}
	forged := func(tokens tokensession.Tokens) string { // of the same session, with another MAC
		i := len(tokens.RefreshToken) - 4
		return tokens.RefreshToken[:i] + "AAAA"
	}
	for name, c := range map[string]struct {
		old   func() tokensession.Tokens
		token func(tokensession.Tokens) string
		ends  bool
	}{
		"access token":  {func() tokensession.Tokens { return w.start() }, accessOf, true},
		"refresh token": {func() tokensession.Tokens { return w.start() }, refreshOf, true},
		"access token, unknown key": {
			func() tokensession.Tokens { return elsewhere("alice") }, accessOf, true},
		"access token, unknown key, another subject": {
			func() tokensession.Tokens { return elsewhere("bob") }, accessOf, false},
		"refresh token of another subject": {
			func() tokensession.Tokens { return elsewhere("bob") }, refreshOf, true},
		"forged refresh token": {func() tokensession.Tokens { return w.start() }, forged, false},
		"garbage": {
			func() tokensession.Tokens { return w.start() },
			func(tokensession.Tokens) string { return "x.y.z" }, false},
	} {
		_, err := w.m.RevokeSubject(ctx, "alice")
		require.NoError(t, err)
		old := c.old()
		w.clock.Advance(time.Hour) // the access token has expired
		w.start(tokensession.ReplacingToken("", c.token(old)))
		rec := w.record(old.Session.ID)
		require.Equal(t, c.ends, !rec.RevokedAt.IsZero(), name)
		if c.ends {
			require.Equal(t, tokensession.ReasonReplaced, rec.RevokeReason, name)
		}
	}
}

func TestReplacingToken_endsAllAndMakesRoomByThem(t *testing.T) {
	w := newWorld(t, tokensession.Config{MaxSessions: 3})
	phone, one, two := w.start(), w.start(), w.start()
	w.start(tokensession.ReplacingToken(one.AccessToken, two.RefreshToken))
	w.requireLive(phone)
	w.requireDead(one, two)
}

func TestReplacingToken_anOutageIsNoForgery(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	old := w.start()
	w.store.Down(testkit.Load)
	_, err := w.m.Start(ctx, "alice", tokensession.ReplacingToken(old.RefreshToken))
	requireUnavailableFor(t, err, testkit.ErrDown)
	w.store.Clear()
	sessions, err := w.m.Sessions(ctx, "alice")
	require.NoError(t, err)
	require.Len(t, sessions, 1)
}

// A record that somebody has damaged, or that a later version has written, keeps nobody from
// logging in in the same browser.
func TestReplacing_ofARecordThatCannotBeReadIsTold(t *testing.T) {
	for name, by := range map[string]func(tokensession.Tokens) tokensession.StartOption{
		"id": func(t tokensession.Tokens) tokensession.StartOption { return tokensession.Replacing(t.Session.ID) },
		"access token": func(t tokensession.Tokens) tokensession.StartOption {
			return tokensession.ReplacingToken(t.AccessToken)
		},
		"refresh token": func(t tokensession.Tokens) tokensession.StartOption {
			return tokensession.ReplacingToken(t.RefreshToken)
		},
	} {
		w := newWorld(t, tokensession.Config{})
		old := w.start()
		w.store.Always(testkit.Load, testkit.If(
			func(r *testkit.Request) bool { return r.Record.ID == old.Session.ID },
			testkit.Refuse(fmt.Errorf("row 7: %w", tokensession.ErrUnreadable)),
		))
		tokens, err := w.m.Start(ctx, "alice", by(old))
		require.NoError(t, err, name)
		require.Equal(t, 1, w.events.Count(tokensession.EventUnreadable), name)
		w.requireLive(tokens)
		if name != "refresh token" { // which proves nothing
			_, err = w.m.Verify(old.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrRevoked, name)
		}
		w.store.Clear()
		require.Zero(t, w.record(old.Session.ID).RevokedAt, "what cannot be read leads to no write")
	}
}

func accessOf(t tokensession.Tokens) string  { return t.AccessToken }
func refreshOf(t tokensession.Tokens) string { return t.RefreshToken }

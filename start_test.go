package tokensession_test

import (
	"context"
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

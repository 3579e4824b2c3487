package tokensession_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// within asks for denials and waits for no longer than a time.
func within(
	t *testing.T, m *tokensession.Manager, d time.Duration, cursor string,
) tokensession.Denials {
	t.Helper()
	asked, cancel := context.WithTimeout(t.Context(), d)
	defer cancel()
	got, err := m.Denials(asked, cursor)
	require.NoError(t, err)
	return got
}

func TestDenials_waitForNews(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, testSigner(t), tokensession.NewMemoryStore(), tokensession.Config{})
		_, err := m.Denials(t.Context(), "")
		require.ErrorIs(t, err, tokensession.ErrUnavailable, "Run has not read the feed")
		stop := runs(t, m)
		synctest.Wait()
		first := within(t, m, time.Second, "")
		require.True(t, first.Snapshot)
		require.Empty(t, first.Entries)
		require.Equal(t, 15*time.Minute, first.AccessTTL)

		cursor := first.Cursor
		for n := range 5 { // also while those before have just been told
			tokens, err := m.Start(t.Context(), "alice")
			require.NoError(t, err)
			time.AfterFunc(time.Duration(n)*time.Millisecond, func() {
				_ = m.Revoke(context.Background(), tokens.Session.ID)
			})
			began := time.Now()
			d := within(t, m, time.Minute, cursor)
			require.False(t, d.Snapshot)
			require.Less(t, time.Since(began), 20*time.Millisecond)
			require.Equal(t, time.Since(began), d.Waited)
			require.Contains(t, string(d.Entries), tokens.Session.ID)
			cursor = d.Cursor
		}
		began := time.Now()
		d := within(t, m, 20*time.Second, cursor)
		require.Equal(t, 20*time.Second, time.Since(began), "nothing new")
		require.Empty(t, d.Entries)
		require.Equal(t, 20*time.Second, d.Waited)
		require.LessOrEqual(t, d.Age, 10*time.Second)

		gone, leave := context.WithCancel(t.Context())
		leave()
		_, err = m.Denials(gone, d.Cursor)
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
		stop()
	})
}

// A program that asks for everything is told what is known now. Only a long answer may be one of a
// moment ago, because many may want it at once: then the cursor leads to the rest.
func TestDenials_aSnapshotHasWhatIsKnownNow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newRunning(t, testSigner(t), tokensession.NewMemoryStore())
		revoke := func() string {
			tokens, err := m.Start(t.Context(), "alice")
			require.NoError(t, err)
			require.NoError(t, m.Revoke(t.Context(), tokens.Session.ID))
			return tokens.Session.ID
		}
		require.Empty(t, within(t, m, time.Second, "").Entries)
		id := revoke()
		all := within(t, m, time.Second, "")
		require.True(t, all.Snapshot)
		require.Contains(t, string(all.Entries), id)

		for range 1000 {
			revoke()
		}
		long := within(t, m, time.Second, "")
		require.Equal(t, 1001, bytes.Count(long.Entries, []byte("\n")))
		id = revoke()
		time.Sleep(9 * time.Second)
		again := within(t, m, time.Second, "")
		require.True(t, again.Snapshot)
		require.Equal(t, &long.Entries[0], &again.Entries[0], "it was not written again")
		require.GreaterOrEqual(t, again.Age, 9*time.Second, "and says how old it is")
		require.Contains(t, string(within(t, m, time.Second, again.Cursor).Entries), id)
		time.Sleep(2 * time.Second)
		require.Contains(t, string(within(t, m, time.Second, "").Entries), id)
	})
}

// However much is revoked, a follower is answered less often the more followers there are. No
// revocation waits for longer than half a second.
func TestDenials_answerManyFollowersLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const followers = 2000 // who rest for 100 milliseconds
		m := newManager(t, testSigner(t), tokensession.NewMemoryStore(), tokensession.Config{})
		stop := runs(t, m)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		var answers, lines atomic.Int64
		cursor := within(t, m, time.Second, "").Cursor
		for range followers {
			go func() {
				cursor := cursor
				for {
					d, err := m.Denials(ctx, cursor)
					if err != nil {
						return
					}
					answers.Add(1)
					lines.Add(int64(strings.Count(string(d.Entries), "\n")))
					cursor = d.Cursor
				}
			}()
		}
		synctest.Wait()
		const revocations = 200
		for range revocations { // one each 10 milliseconds
			tokens, err := m.Start(t.Context(), "alice")
			require.NoError(t, err)
			require.NoError(t, m.Revoke(t.Context(), tokens.Session.ID))
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, int64(followers*revocations), lines.Load(), "each is told once to each")
		require.LessOrEqual(t, answers.Load(), int64(followers*25), "answers in two seconds")
		cancel()
		stop()
	})
}

// An issuer that has been started a moment ago answers from a minute before the cursor's time, and
// not with everything, although all is new to it.
func TestDenials_anotherInstanceDoesNotTellEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signer, store := testSigner(t), tokensession.NewMemoryStore()
		one := newManager(t, signer, store, tokensession.Config{})
		stop := runs(t, one)
		revoke := func(n int) (ids []string) {
			for range n {
				tokens, err := one.Start(t.Context(), "alice")
				require.NoError(t, err)
				require.NoError(t, one.Revoke(t.Context(), tokens.Session.ID))
				ids = append(ids, tokens.Session.ID)
			}
			return ids
		}
		revoke(100)
		time.Sleep(5 * time.Minute)
		cursor := within(t, one, time.Second, "").Cursor
		last := revoke(3)
		two := newManager(t, signer, store, tokensession.Config{})
		stopTwo := runs(t, two)
		synctest.Wait()
		d := within(t, two, time.Second, cursor)
		require.False(t, d.Snapshot)
		require.Equal(t, 3, strings.Count(string(d.Entries), "\n"))
		for _, id := range last {
			require.Contains(t, string(d.Entries), id)
		}
		// Now it knows its place in the log of each.
		require.Empty(t, within(t, one, time.Second, within(t, one, time.Second, d.Cursor).Cursor).Entries)
		require.Empty(t, within(t, two, time.Second, d.Cursor).Entries)

		// After a time that no log goes back to, it is everything.
		time.Sleep(11 * time.Minute)
		require.True(t, within(t, newRunning(t, signer, store), time.Second, cursor).Snapshot)
		stop()
		stopTwo()
	})
}

func newRunning(
	t *testing.T, signer *tokensession.AccessSigner, store tokensession.RefreshStore,
) *tokensession.Manager {
	m := newManager(t, signer, store, tokensession.Config{})
	t.Cleanup(runs(t, m))
	synctest.Wait()
	return m
}

func TestDenials_ofAStoreWithoutAFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := testkit.Plain(tokensession.NewMemoryStore())
		m := newManager(t, testSigner(t), store, tokensession.Config{})
		_, err := m.Denials(t.Context(), "")
		require.ErrorIs(t, err, tokensession.ErrUnavailable)
		require.ErrorContains(t, err, "no RevocationFeed")
	})
}

func newVerifier(
	t *testing.T, signer *tokensession.AccessSigner, cfg tokensession.AccessConfig,
) *tokensession.AccessVerifier {
	t.Helper()
	v, err := tokensession.NewAccessVerifier(signer.JWKS(), cfg)
	require.NoError(t, err)
	return v
}

// A revocation is remembered for as long as a token can be accepted by this verifier, whose leeway
// is longer than the issuer's.
func TestDeny_forAsLongAsATokenIsAccepted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signer := testSigner(t)
		m := newRunning(t, signer, tokensession.NewMemoryStore())
		tokens, err := m.Start(t.Context(), "alice")
		require.NoError(t, err)
		require.NoError(t, m.Revoke(t.Context(), tokens.Session.ID))
		access := accessConfig
		access.Leeway = 5 * time.Minute
		v := newVerifier(t, signer, access)
		next, err := v.Deny(within(t, m, time.Second, ""))
		require.NoError(t, err)
		require.NotEmpty(t, next)
		for range 20 * 60 {
			_, err := v.Verify(tokens.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrRevoked)
			time.Sleep(time.Second)
		}
		_, err = v.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrExpired)
	})
}

// Two issuers have different AccessTTLs, as while that is being changed. What the one with the
// shorter one tells is forgotten sooner. So the longer one counts only from a snapshot on.
func TestDeny_aLongerAccessTTLNeedsASnapshot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signer, store := testSigner(t), tokensession.NewMemoryStore()
		short := newManager(t, signer, store, tokensession.Config{AccessTTL: 5 * time.Minute})
		long := newManager(t, signer, store, tokensession.Config{AccessTTL: 30 * time.Minute})
		t.Cleanup(runs(t, short))
		t.Cleanup(runs(t, long))
		synctest.Wait()
		v := newVerifier(t, signer, accessConfig)
		tokens, err := long.Start(t.Context(), "alice")
		require.NoError(t, err)
		next, err := v.Deny(within(t, short, time.Second, ""))
		require.NoError(t, err)
		time.Sleep(5 * time.Minute)
		_, err = v.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrExpired, "as at the short one")

		news := within(t, long, time.Second, next)
		require.False(t, news.Snapshot)
		next, err = v.Deny(news)
		require.NoError(t, err)
		require.Empty(t, next, "a snapshot is needed")
		_, err = v.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrExpired, "still")
		next, err = v.Deny(within(t, long, time.Second, ""))
		require.NoError(t, err)
		require.NotEmpty(t, next)
		_, err = v.Verify(tokens.AccessToken)
		require.NoError(t, err)
		_, err = v.Deny(within(t, short, time.Second, next))
		require.NoError(t, err)
		_, err = v.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrExpired, "a shorter one counts at once")
	})
}

func TestDeny_refusesWhatNoManagerMakes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signer := testSigner(t)
		m := newRunning(t, signer, tokensession.NewMemoryStore())
		good := within(t, m, time.Second, "")
		tokens, err := m.Start(t.Context(), "alice")
		require.NoError(t, err)
		id, now := tokens.Session.ID, time.Now().Unix()
		v := newVerifier(t, signer, accessConfig)
		line := fmt.Sprintf("%s %d\n", id, now)
		for _, entries := range []string{
			line[:len(line)-1], line + "\n", line + "x", "\n", " " + line, line[1:], "A" + line,
			strings.Replace(line, " ", "  ", 1), strings.Replace(line, " ", "\t", 1),
			strings.Replace(line, "\n", "\r\n", 1), strings.Replace(line, "\n", " \n", 1),
			line + id + " -1\n", line + id + " 99999999999999999999\n", line + id + " 1 2 3\n",
			line + id + " 0 0\n", line + id + " 01\n", line + id + " 1e9\n",
			line + strings.Repeat("A", 22) + "\n", line + strings.Repeat("A", 22) + " 1\n",
			line + id[:21] + "B 1\n",
		} {
			bad := good
			bad.Entries = []byte(entries)
			_, err := v.Deny(bad)
			require.Error(t, err, "%q", entries)
			require.NotErrorIs(t, err, tokensession.ErrRevoked)
			_, err = v.Verify(tokens.AccessToken)
			require.NoError(t, err, "a line before the malformed one counts: %q", entries)
		}
		for _, bad := range []tokensession.Denials{
			{}, {AccessTTL: time.Hour, Keep: time.Minute, Cursor: good.Cursor},
			{AccessTTL: 25 * time.Hour, Keep: 26 * time.Hour, Cursor: good.Cursor},
			{AccessTTL: time.Hour, Keep: 2 * time.Hour, Cursor: "x"},
		} {
			_, err := v.Deny(bad)
			require.Error(t, err)
		}
	})
}

// A verifier has no store to ask. A newer token of the session is the proof that it goes on.
func TestAccessVerifier_sessionContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signer := testSigner(t)
		m := newRunning(t, signer, tokensession.NewMemoryStore())
		v := newVerifier(t, signer, accessConfig)
		_, err := v.Deny(within(t, m, time.Second, ""))
		require.NoError(t, err)
		tokens, err := m.Start(t.Context(), "alice")
		require.NoError(t, err)
		access, err := v.Verify(tokens.AccessToken)
		require.NoError(t, err)
		short, cancel := v.SessionContext(t.Context(), access)
		defer cancel()
		long, cancelLong := v.SessionContext(t.Context(), access, tokensession.UntilSessionEnds())
		defer cancelLong()
		time.Sleep(14 * time.Minute)
		next, err := m.Refresh(t.Context(), tokens.RefreshToken)
		require.NoError(t, err)
		_, err = v.Verify(next.AccessToken)
		require.NoError(t, err)
		requireOpen(t, short, "its token is good for a minute")
		time.Sleep(time.Minute)
		requireEnded(t, short, tokensession.ErrExpired, "its token has expired")
		requireOpen(t, long, "a newer token was verified")
		time.Sleep(14 * time.Minute)
		requireEnded(t, long, tokensession.ErrExpired, "that has expired, too")
	})
}

// Of a session whose rights have changed, the tokens made before are refused, and those made after
// that are not.
func TestDeny_epochs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signer := testSigner(t)
		m := newRunning(t, signer, tokensession.NewMemoryStore())
		v := newVerifier(t, signer, accessConfig)
		tokens, err := m.Start(t.Context(), "alice")
		require.NoError(t, err)
		cursor, err := v.Deny(within(t, m, time.Second, ""))
		require.NoError(t, err)
		for range 3 {
			access, err := v.Verify(tokens.AccessToken)
			require.NoError(t, err)
			open, cancel := v.SessionContext(t.Context(), access)
			_, err = m.Reauthorize(t.Context(), "alice")
			require.NoError(t, err)
			d := within(t, m, time.Second, cursor)
			lines := strings.Count(string(d.Entries), "\n")
			require.LessOrEqual(t, len(d.Entries), 40*lines, "%s", d.Entries)
			cursor, err = v.Deny(d)
			require.NoError(t, err)
			_, err = v.Verify(tokens.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrOutdated)
			requireEnded(t, open, tokensession.ErrOutdated, "outdated")
			cancel()
			tokens, err = m.Refresh(t.Context(), tokens.RefreshToken)
			require.NoError(t, err)
			_, err = v.Verify(tokens.AccessToken)
			require.NoError(t, err, "made after the change")
		}
		snapshot := newVerifier(t, signer, accessConfig)
		_, err = snapshot.Deny(within(t, m, time.Second, ""))
		require.NoError(t, err)
		_, err = snapshot.Verify(tokens.AccessToken)
		require.NoError(t, err)
		require.NoError(t, m.Revoke(t.Context(), tokens.Session.ID))
		_, err = v.Deny(within(t, m, time.Second, cursor))
		require.NoError(t, err)
		_, err = v.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked)
	})
}

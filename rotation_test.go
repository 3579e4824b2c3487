package tokensession_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// The table of decisions itself is in rotation_internal_test.go. Here are stories told by it,
// through a Manager.

// R1: RFC 9700 section 4.14.2.
func TestRefresh_rotatesTheTokenEachTime(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	seen := map[string]bool{tokens.RefreshToken: true, tokens.AccessToken: true}
	for range 5 {
		next := w.refresh(tokens.RefreshToken)
		require.False(t, seen[next.RefreshToken] || seen[next.AccessToken], "a token came twice")
		seen[next.RefreshToken], seen[next.AccessToken] = true, true
		require.Equal(t, tokens.Session.ID, next.Session.ID)
		tokens = next
	}
}

// IdentityServer4#4947: each reuse restarted the window.
func TestRefresh_replaysTheSameTokenUntilTheGraceEndsToTheMicrosecond(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	second := w.refresh(first.RefreshToken)
	written := w.record(first.Session.ID)
	// in all one microsecond less than the grace
	for _, wait := range []time.Duration{0, grace / 2, grace/2 - micro} {
		w.clock.Advance(wait)
		again := w.refresh(first.RefreshToken)
		require.Equal(t, second.RefreshToken, again.RefreshToken)
		require.Equal(t, second.RefreshExpiresAt, again.RefreshExpiresAt,
			"a replay prolonged the session")
		_, err := w.m.Verify(again.AccessToken)
		require.NoError(t, err)
	}
	require.Equal(t, written, w.record(first.Session.ID), "a replay wrote something")

	w.clock.Advance(micro)
	requireReused(t, w.refreshError(first.RefreshToken), 0, 1)
	w.requireDead(first, second)
}

func TestRefresh_endsTheGraceWhenTheSuccessorIsUsed(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	second := w.refresh(first.RefreshToken)
	third := w.refresh(second.RefreshToken) // at the same time
	requireReused(t, w.refreshError(first.RefreshToken), 0, 2)
	w.requireDead(first, second, third)
}

// keycloak#50999: within one second all tokens looked equally old.
func TestRefresh_decidesByGenerationWhileTheClockStandsStill(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	chain := []tokensession.Tokens{w.start()}
	for range 4 {
		chain = append(chain, w.refresh(chain[len(chain)-1].RefreshToken))
	}
	require.Equal(t, chain[4].RefreshToken, w.refresh(chain[3].RefreshToken).RefreshToken,
		"the immediate predecessor")
	requireReused(t, w.refreshError(chain[2].RefreshToken), 2, 4)
	w.requireDead(chain...)
}

func TestRefresh_worksWhileTheClockGoesBackwards(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	tokens := first
	for range 5 {
		w.clock.Advance(-time.Hour)
		previous := tokens
		tokens = w.refresh(tokens.RefreshToken)
		require.Equal(t, tokens.RefreshToken, w.refresh(previous.RefreshToken).RefreshToken)
	}
	requireReused(t, w.refreshError(first.RefreshToken), 0, 5)
}

func TestRefresh_strictNeverReplaysWhateverTheClockDoes(t *testing.T) {
	for name, step := range map[string]time.Duration{"frozen": 0, "forwards": micro, "backwards": -micro, "an hour backwards": -time.Hour} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{GracePeriod: tokensession.Strict})
			first := w.start()
			w.clock.Advance(step)
			second := w.refresh(first.RefreshToken)
			w.clock.Advance(step)
			requireReused(t, w.refreshError(first.RefreshToken), 0, 1)
			require.ErrorIs(t, w.refreshError(second.RefreshToken), tokensession.ErrRevoked)
		})
	}
}

func TestRefresh_recoversWithANewSuccessorUntilTheWindowEnds(t *testing.T) {
	const recovery = time.Hour
	for name, c := range map[string]struct {
		grace, last time.Duration // last: of the attempts, since the token was consumed
		recovers    bool
	}{
		"in time":          {0, recovery - micro, true},
		"too late":         {0, recovery, false},
		"strict, in time":  {tokensession.Strict, recovery - micro, true},
		"strict, too late": {tokensession.Strict, recovery, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{GracePeriod: c.grace, RecoveryPeriod: recovery})
			first := w.start()
			lost := w.refresh(first.RefreshToken)
			w.clock.Advance(30 * time.Minute)
			recovered := w.refresh(first.RefreshToken)
			require.NotEqual(t, lost.RefreshToken, recovered.RefreshToken)
			w.clock.Advance(c.last - 30*time.Minute) // a window that slid would be open still
			if !c.recovers {
				requireReused(t, w.refreshError(first.RefreshToken), 0, 2)
				require.ErrorIs(t, w.refreshError(recovered.RefreshToken), tokensession.ErrRevoked)
				return
			}
			again := w.refresh(first.RefreshToken)
			require.NotEqual(t, recovered.RefreshToken, again.RefreshToken)
			w.requireLive(again)
		})
	}
}

func TestRefresh_endsTheSessionWhenADisplacedSuccessorComesBack(t *testing.T) {
	w := newWorld(t, tokensession.Config{RecoveryPeriod: time.Hour})
	first := w.start()
	displaced := w.refresh(first.RefreshToken)
	w.clock.Advance(grace)
	recovered := w.refresh(first.RefreshToken)
	requireReused(t, w.refreshError(displaced.RefreshToken), 1, 2)
	w.requireDead(first, displaced, recovered)
}

func TestRefresh_replaysARecoveryInsideItsOwnGrace(t *testing.T) {
	w := newWorld(t, tokensession.Config{RecoveryPeriod: time.Hour})
	first := w.start()
	w.refresh(first.RefreshToken)
	w.clock.Advance(time.Minute)
	recovered := w.refresh(first.RefreshToken)
	w.clock.Advance(grace - micro)
	require.Equal(t, recovered.RefreshToken, w.refresh(first.RefreshToken).RefreshToken)
	w.clock.Advance(micro)
	require.NotEqual(t, recovered.RefreshToken, w.refresh(first.RefreshToken).RefreshToken)
}

func TestRefresh_closesTheRecoveryWindowWhenTheSuccessorIsUsed(t *testing.T) {
	w := newWorld(t, tokensession.Config{RecoveryPeriod: time.Hour})
	first := w.start()
	second := w.refresh(first.RefreshToken)
	third := w.refresh(second.RefreshToken)
	w.clock.Advance(grace)
	requireReused(t, w.refreshError(first.RefreshToken), 0, 2)
	w.requireDead(second, third)
}

// R5: ASVS 7.3.1.
func TestRefresh_endsAnIdleSessionToTheMicrosecond(t *testing.T) {
	for _, ttl := range []time.Duration{week, time.Hour} {
		w := newWorld(t, tokensession.Config{RefreshTTL: ttl})
		tokens := w.start()
		for range 3 {
			w.clock.Advance(ttl - micro)
			tokens = w.refresh(tokens.RefreshToken)
		}
		w.clock.Advance(ttl)
		before, told := w.record(tokens.Session.ID), len(w.events.All())
		require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrExpired)
		after := w.record(tokens.Session.ID)
		require.Equal(t, before.Version+1, after.Version, "the store has confirmed it with a write")
		after.Version, after.WriteID = before.Version, before.WriteID
		require.Equal(t, before, after, "which changes nothing")
		require.Empty(t, w.events.All()[told:], "the host was told")
	}
}

// A record that has expired may be old news: of a replica, or of a node that is no longer the
// master. Until the store has taken a write of it, that is no verdict.
func TestRefresh_ofAnExpiredRecordIsConfirmed(t *testing.T) {
	for name, c := range map[string]struct {
		swap testkit.Step
		want error
	}{
		"the store takes the write":           {testkit.Apply, tokensession.ErrExpired},
		"the store is not the master":         {testkit.LoseRequest, tokensession.ErrUnavailable},
		"the record is another on the master": {testkit.Refuse(tokensession.ErrConflict), tokensession.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			tokens := w.start()
			w.clock.Advance(week)
			w.store.Always(testkit.Swap, c.swap)
			require.ErrorIs(t, w.refreshError(tokens.RefreshToken), c.want)
			w.store.Clear()
		})
	}
	t.Run("after the absolute end there is nothing to confirm", func(t *testing.T) {
		w := newWorld(t, tokensession.Config{})
		tokens := w.start()
		w.clock.Advance(30 * 24 * time.Hour)
		w.unchanged(tokens.Session.ID, func() {
			require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrExpired)
		})
	})
	t.Run("it was refreshed meanwhile", func(t *testing.T) {
		w := newWorld(t, tokensession.Config{})
		tokens := w.start()
		stale := w.record(tokens.Session.ID)
		w.clock.Advance(week - time.Hour)
		w.refresh(tokens.RefreshToken)
		w.clock.Advance(time.Hour)
		w.store.On(testkit.Load, testkit.Apply, func(r *testkit.Request) { r.Record = stale })
		// The grace period of the refresh is over, but the session is not.
		requireReused(t, w.refreshError(tokens.RefreshToken), 0, 1)
	})
}

// A shorter Config holds at once, also for sessions that are idle; a longer one is for new logins.
func TestRefresh_usesTheShorterOfTheSessionsPeriodsAndConfigs(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, tokensession.Config{})
	shorter := w.other(tokensession.Config{RefreshTTL: time.Hour, MaxLifetime: 24 * time.Hour})
	longer := w.other(tokensession.Config{RefreshTTL: 2 * week, MaxLifetime: tokensession.Unlimited})

	idle := w.start()
	w.clock.Advance(time.Hour)
	_, err := shorter.Refresh(ctx, idle.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrExpired)
	got, err := longer.Refresh(ctx, idle.RefreshToken)
	require.NoError(t, err)
	require.Equal(t, w.clock.Now().Add(week).Truncate(micro), got.RefreshExpiresAt, "as at login")

	old := w.start()
	for range 23 {
		w.clock.Advance(time.Hour - micro)
		old, err = shorter.Refresh(ctx, old.RefreshToken)
		require.NoError(t, err)
		require.False(t, old.AccessExpiresAt.After(old.RefreshExpiresAt), "the access token outlives the session")
	}
	w.clock.Advance(time.Hour)
	_, err = shorter.Refresh(ctx, old.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrExpired, "the absolute end")
	_, err = longer.Refresh(ctx, old.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrExpired, "it ended as the last refresh said")
}

// What is told of a session is when it ends here, whatever another Manager wrote.
func TestSession_endsWhenTheShorterPeriodSays(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, tokensession.Config{MaxLifetime: tokensession.Unlimited})
	tokens := w.start()
	began := w.clock.Now().Truncate(micro)
	var asked tokensession.Session
	shorter := w.other(tokensession.Config{
		RefreshTTL: time.Hour, MaxLifetime: 24 * time.Hour,
		Authorize: func(_ context.Context, s tokensession.Session) (tokensession.Grant, error) {
			asked = s
			return tokensession.Grant{}, nil
		},
	})
	requireEnds := func(s tokensession.Session) {
		t.Helper()
		require.Equal(t, began.Add(time.Hour), s.ExpiresAt)
		require.Equal(t, began.Add(24*time.Hour), s.MaxExpiresAt)
	}
	one, err := shorter.Session(ctx, tokens.Session.ID)
	require.NoError(t, err)
	requireEnds(one)
	all, err := shorter.Sessions(ctx, "alice")
	require.NoError(t, err)
	requireEnds(all[0])
	tokens, err = shorter.Refresh(ctx, tokens.RefreshToken)
	require.NoError(t, err)
	requireEnds(asked)
	requireEnds(tokens.Session)
	require.Equal(t, tokens.RefreshExpiresAt, tokens.Session.ExpiresAt)
}

// A session that is over by the shorter period takes no room, is not listed, and is not live.
func TestSession_thatIsOverByTheShorterPeriodCountsNowhere(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, tokensession.Config{AccessTTL: 4 * time.Hour})
	long := w.start()
	shorter := w.other(tokensession.Config{
		AccessTTL: 4 * time.Hour, RefreshTTL: time.Hour, MaxSessions: 1,
	})
	w.clock.Advance(time.Hour)
	all, err := shorter.Sessions(ctx, "alice")
	require.NoError(t, err)
	require.Empty(t, all)
	_, err = shorter.VerifyLive(ctx, long.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrExpired)
	_, err = shorter.Start(ctx, "alice")
	require.NoError(t, err)
	require.Zero(t, w.record(long.Session.ID).RevokedAt, "it made no room: it took none")
	w.requireLive(long)
}

// A session can be over by the shorter periods of one Manager and live by those of another one, or
// by the same one's once they are longer again. After "log out everywhere" it must not live, and its
// access tokens must not have the rights of before.
func TestSession_thatIsOverByTheShorterPeriodOnlyIsReachedAllTheSame(t *testing.T) {
	ctx := context.Background()
	for name, cfg := range map[string]tokensession.Config{
		"idle": {RefreshTTL: time.Hour}, "absolute": {MaxLifetime: time.Hour},
	} {
		for _, plain := range []bool{true, false} {
			t.Run(fmt.Sprint(name, plain), func(t *testing.T) {
				w := newWorld(t, tokensession.Config{AccessTTL: 4 * time.Hour})
				shorter := w.other(cfg)
				if plain {
					shorter = w.manager(testkit.Plain(w.memory), cfg, &testkit.Events{})
				}
				tokens := w.start()
				w.clock.Advance(3 * time.Hour)
				_, err := shorter.Reauthorize(ctx, "alice")
				require.NoError(t, err)
				_, err = w.m.VerifyLive(ctx, tokens.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrOutdated)
				_, err = shorter.RevokeSubject(ctx, "alice")
				require.NoError(t, err)
				require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
			})
		}
	}
}

// The absolute end of a session that nobody has refreshed since the Config was changed.
func TestRefresh_usesTheShorterOfTheSessionsLifetimeAndConfigs(t *testing.T) {
	const day = 24 * time.Hour
	for name, c := range map[string]struct{ login, now, want time.Duration }{
		"shorter now": {30 * day, day, day},
		"longer now":  {day, 30 * day, day},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{MaxLifetime: c.login})
			m := w.other(tokensession.Config{MaxLifetime: c.now})
			early, late := w.start(), w.start()
			w.clock.Advance(c.want - micro)
			got, err := m.Refresh(context.Background(), early.RefreshToken)
			require.NoError(t, err)
			require.Equal(t, w.clock.Now().Add(micro).Truncate(micro), got.RefreshExpiresAt)
			w.clock.Advance(micro)
			_, err = m.Refresh(context.Background(), late.RefreshToken)
			require.ErrorIs(t, err, tokensession.ErrExpired)
		})
	}
}

// Near its absolute end a session's idle end was cut. A shorter RefreshTTL must not shorten it
// twice.
func TestRefresh_doesNotShortenASessionTwiceNearItsEnd(t *testing.T) {
	w := newWorld(t, tokensession.Config{RefreshTTL: 20 * 24 * time.Hour})
	tokens := w.start()
	w.clock.Advance(19 * 24 * time.Hour)
	tokens = w.refresh(tokens.RefreshToken) // until the 30th day, not the 39th
	shorter := w.other(tokensession.Config{RefreshTTL: 24 * time.Hour})
	w.clock.Advance(24*time.Hour - micro)
	_, err := shorter.Refresh(context.Background(), tokens.RefreshToken)
	require.NoError(t, err)
}

// A session is of one issuer. Another application on the same store cannot use it, list it or end
// it.
func TestIssuer_sessionsOfOthersAreNotOurs(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	access := accessConfig
	access.Issuer = "https://other.example"
	m := func(access tokensession.AccessConfig) *tokensession.Manager {
		key, err := tokensession.GenerateKey()
		require.NoError(t, err)
		signer, err := tokensession.NewAccessSigner(key, access)
		require.NoError(t, err)
		return newManager(t, signer, w.memory, tokensession.Config{Now: w.clock.Now})
	}
	other := m(access)
	w.unchanged(tokens.Session.ID, func() {
		_, err := other.Refresh(ctx, tokens.RefreshToken)
		require.ErrorIs(t, err, tokensession.ErrInvalidToken)
		require.ErrorIs(t, other.RevokeToken(ctx, tokens.RefreshToken), tokensession.ErrInvalidToken)
		require.ErrorIs(t, other.Revoke(ctx, tokens.Session.ID), tokensession.ErrNotFound)
		n, err := other.RevokeSubject(ctx, "alice")
		require.NoError(t, err)
		require.Zero(t, n)
		sessions, err := other.Sessions(ctx, "alice")
		require.NoError(t, err)
		require.Empty(t, sessions)
	})
	theirs, err := other.Start(ctx, "alice")
	require.NoError(t, err)
	_, err = w.m.RevokeSubject(ctx, "alice")
	require.NoError(t, err)
	_, err = other.Refresh(ctx, theirs.RefreshToken)
	require.NoError(t, err)
}

// The issuer's URL is corrected: nobody is logged out.
func TestFormerIssuers_sessionsGoOn(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	access := accessConfig
	access.Issuer, access.FormerIssuers = "https://login.example", []string{accessConfig.Issuer}
	signer, err := tokensession.NewAccessSigner(key, access)
	require.NoError(t, err)
	m := newManager(t, signer, w.memory, tokensession.Config{Now: w.clock.Now})
	next, err := m.Refresh(ctx, tokens.RefreshToken)
	require.NoError(t, err)
	got, err := m.Verify(next.AccessToken)
	require.NoError(t, err)
	require.Equal(t, "https://login.example", got.Issuer)
	require.Equal(t, accessConfig.Issuer, w.record(tokens.Session.ID).Issuer, "its name is bound and stays")
	n, err := m.RevokeSubject(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, 1, n)
}

// The issuer's URL is corrected on one instance after the other. While the new name is a former one
// on those that have the old name still, sessions and access tokens go back and forth.
func TestFormerIssuers_changeInTwoSteps(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, tokensession.Config{})
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	const corrected = "https://login.example"
	instance := func(issuer, other string) *tokensession.Manager {
		access := accessConfig
		access.Issuer, access.FormerIssuers = issuer, []string{other}
		signer, err := tokensession.NewAccessSigner(key, access)
		require.NoError(t, err)
		return newManager(t, signer, w.memory, tokensession.Config{Now: w.clock.Now})
	}
	before, after := instance(accessConfig.Issuer, corrected), instance(corrected, accessConfig.Issuer)
	for _, m := range []*tokensession.Manager{before, after} {
		tokens, err := m.Start(ctx, "alice")
		require.NoError(t, err)
		for range 2 {
			for _, m := range []*tokensession.Manager{after, before} {
				_, err = m.VerifyLive(ctx, tokens.AccessToken)
				require.NoError(t, err)
				tokens, err = m.Refresh(ctx, tokens.RefreshToken)
				require.NoError(t, err)
			}
		}
	}
	n, err := before.RevokeSubject(ctx, "alice")
	require.NoError(t, err)
	require.Equal(t, 2, n)
}

// R4: ASVS 7.3.2. R14: NIST SP 800-63B-4, AAL1 and AAL2.
func TestRefresh_neverExtendsTheAbsoluteEnd(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  tokensession.Config
		max  time.Duration
		step time.Duration
	}{
		"30 days (AAL1)": {tokensession.Config{}, 30 * 24 * time.Hour, time.Hour},
		"24 hours, 1 idle (AAL2)": {tokensession.Config{MaxLifetime: 24 * time.Hour,
			RefreshTTL: time.Hour}, 24 * time.Hour, 30 * time.Minute},
		"shorter than the idle time": {tokensession.Config{MaxLifetime: time.Hour}, time.Hour,
			time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.cfg)
			tokens := w.start()
			end := tokens.Session.CreatedAt.Add(c.max)
			for passed := c.step; passed < c.max; passed += c.step {
				w.clock.Advance(c.step)
				tokens = w.refresh(tokens.RefreshToken)
				require.Equal(t, end, tokens.Session.MaxExpiresAt)
				require.False(t, tokens.RefreshExpiresAt.After(end) || tokens.AccessExpiresAt.After(end), "a token outlives its session")
			}
			w.clock.Advance(c.step - micro)
			tokens = w.refresh(tokens.RefreshToken)
			w.clock.Advance(micro)
			require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrExpired)
			_, err := w.m.Verify(tokens.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrExpired)
		})
	}
}

func TestRefresh_unlimitedSessionLivesAsLongAsItIsRefreshed(t *testing.T) {
	w := newWorld(t, tokensession.Config{MaxLifetime: tokensession.Unlimited})
	tokens := w.start()
	for range 500 {
		w.clock.Advance(week - micro)
		tokens = w.refresh(tokens.RefreshToken)
		require.Zero(t, tokens.Session.MaxExpiresAt)
	}
	w.clock.Advance(week)
	require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrExpired)
}

// A failover to a replica that had not got the last writes.
func TestRefresh_healsARecordThatLostSeveralGenerations(t *testing.T) {
	for _, period := range []time.Duration{0, tokensession.Strict} {
		w := newWorld(t, tokensession.Config{GracePeriod: period})
		first := w.start()
		stale := w.record(first.Session.ID)
		chain := []tokensession.Tokens{first}
		for range 5 {
			chain = append(chain, w.refresh(chain[len(chain)-1].RefreshToken))
			w.clock.Advance(time.Minute)
		}
		w.restore(stale)

		healed := w.refresh(chain[5].RefreshToken)
		require.Equal(t, tokensession.EventHealed, w.events.Kinds()[len(w.events.Kinds())-1])
		require.EqualValues(t, 6, w.record(first.Session.ID).Generation)
		next := w.requireLive(healed)
		requireReused(t, w.refreshError(chain[3].RefreshToken), 3, 7)
		w.requireDead(append(chain, healed, next)...)
	}
}

// The thief's token was consumed, but the store forgot that.
func TestRefresh_catchesAnOldTokenThatALostWriteBroughtBackToLife(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	stale := w.record(first.Session.ID)
	honest := w.refresh(w.refresh(first.RefreshToken).RefreshToken)
	w.clock.Advance(time.Minute)
	w.restore(stale)

	stolen := w.refresh(first.RefreshToken)
	honest = w.refresh(honest.RefreshToken)
	requireReused(t, w.refreshError(stolen.RefreshToken), 1, 3)
	w.requireDead(first, stolen, honest)
}

func TestRefresh_keepsTheReplayInsideTheSessionsEnd(t *testing.T) {
	w := newWorld(t, tokensession.Config{MaxLifetime: time.Hour})
	first := w.start()
	w.clock.Advance(time.Hour - 5*time.Second)
	w.refresh(first.RefreshToken)
	w.clock.Advance(5*time.Second - micro)
	w.refresh(first.RefreshToken)
	w.clock.Advance(micro)
	require.ErrorIs(t, w.refreshError(first.RefreshToken), tokensession.ErrExpired)
}

// Here are bugs that other libraries had in their rotation.

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

// Supabase: the parent of the live token was always accepted, so that two could take turns for
// ever.
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

// The clock of one instance is wrong at its boot, by more than a session lasts without a refresh.
// However often clients come to that instance, they are logged in at the others.
func TestRefresh_anInstanceThatIsBehindEndsNoSession(t *testing.T) {
	for _, behind := range []time.Duration{time.Hour, week + time.Hour, 29 * 24 * time.Hour, 365 * 24 * time.Hour} {
		for _, age := range []time.Duration{0, 10 * 24 * time.Hour} {
			w := newWorld(t, tokensession.Config{})
			wrong := w.other(tokensession.Config{Now: func() time.Time { return w.clock.Now().Add(-behind) }})
			tokens := w.start()
			for w.clock.Now().Before(testkit.Began.Add(age)) {
				w.clock.Advance(24 * time.Hour)
				tokens = w.refresh(tokens.RefreshToken)
			}
			for range 4 {
				w.clock.Advance(15 * time.Minute)
				end := w.record(tokens.Session.ID).ExpiresAt
				var err error
				tokens, err = wrong.Refresh(context.Background(), tokens.RefreshToken)
				require.NoError(t, err)
				require.False(t, w.record(tokens.Session.ID).ExpiresAt.Before(end), "the session was shortened")
			}
			w.clock.Advance(time.Hour)
			tokens = w.refresh(tokens.RefreshToken)
			require.Equal(t, w.m.Now().Add(week), tokens.RefreshExpiresAt)
		}
	}
}

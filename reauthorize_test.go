package tokensession_test

import (
	"cmp"
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// reauthorize calls Reauthorize for alice, who has so many sessions.
func (w *world) reauthorize(m *tokensession.Manager, sessions int) {
	w.t.Helper()
	n, err := m.Reauthorize(context.Background(), "alice")
	require.NoError(w.t, err)
	require.Equal(w.t, sessions, n)
}

// requireOutdated requires that Managers refuse an access token, and that this is no logout.
func requireOutdated(t testing.TB, tokens tokensession.Tokens, managers ...*tokensession.Manager) {
	t.Helper()
	for _, m := range managers {
		_, err := m.Verify(tokens.AccessToken)
		requireIsOutdated(t, err)
	}
}

func requireIsOutdated(t testing.TB, err error) {
	t.Helper()
	require.ErrorIs(t, err, tokensession.ErrOutdated)
	require.ErrorIs(t, err, tokensession.ErrExpired, "clients refresh what has expired")
	require.NotErrorIs(t, err, tokensession.ErrRevoked)
}

func requireAccepted(t testing.TB, tokens tokensession.Tokens, managers ...*tokensession.Manager) {
	t.Helper()
	for _, m := range managers {
		_, err := m.Verify(tokens.AccessToken)
		require.NoError(t, err)
	}
}

// rights is an authorizer's answer that a test changes.
type rights struct{ scope string }

func (r *rights) authorize(context.Context, tokensession.Session) (tokensession.Grant, error) {
	return tokensession.Grant{Scope: r.scope}, nil
}

func TestReauthorize_outdatesAccessTokensAndEndsNoSession(t *testing.T) {
	ctx := context.Background()
	r := &rights{"read"}
	w := newWorld(t, tokensession.Config{Authorize: r.authorize})
	phone, laptop := w.start(), w.start()
	bob, err := w.m.Start(ctx, "bob")
	require.NoError(t, err)
	w.events.Take()

	r.scope = "read write"
	w.reauthorize(w.m, 2)
	require.Equal(t, []tokensession.EventKind{tokensession.EventOutdated, tokensession.EventOutdated},
		w.events.TakeKinds())
	requireOutdated(t, phone, w.m)
	requireOutdated(t, laptop, w.m)
	requireAccepted(t, bob, w.m)

	for _, before := range []tokensession.Tokens{phone, laptop} {
		now := w.refresh(before.RefreshToken)
		require.Equal(t, "read write", now.Scope)
		requireAccepted(t, now, w.m)
		requireOutdated(t, before, w.m)
		w.clock.Advance(grace)
		requireAccepted(t, w.requireLive(now), w.m)
	}
	w.reauthorize(w.m, 2) // once more
	requireOutdated(t, phone, w.m)
}

// The epoch is nothing that a client has to know of as long as there is none.
func TestReauthorize_addsNothingToOtherTokens(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	for _, c := range []struct {
		tokens tokensession.Tokens
		want   error
	}{
		{first, tokensession.ErrNoClaim}, {w.refresh(first.RefreshToken), tokensession.ErrNoClaim},
	} {
		access, err := w.m.Verify(c.tokens.AccessToken)
		require.NoError(t, err)
		require.ErrorIs(t, access.Claim("epoch", new(uint64)), c.want)
	}
	w.reauthorize(w.m, 1)
	access, err := w.m.Verify(w.refresh(first.RefreshToken).AccessToken)
	require.NoError(t, err)
	var epoch uint64
	require.NoError(t, access.Claim("epoch", &epoch))
	require.EqualValues(t, w.clock.Now().UnixMilli(), epoch, "the time, so that no failover makes one twice")

	w.clock.Advance(-time.Hour)
	w.reauthorize(w.m, 1)
	require.Equal(t, epoch+1, w.record(first.Session.ID).Epoch, "a clock that was put back")
}

// Another instance hears of it by the feed, and VerifyLive asks the store.
func TestReauthorize_reachesOtherInstances(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		store := tokensession.NewMemoryStore()
		signer := testSigner(t)
		here, there := newManager(t, signer, store, tokensession.Config{}), newManager(t, signer, store, tokensession.Config{})
		ran := make(chan error, 1)
		go func() { ran <- there.Run(ctx) }()
		tokens, err := here.Start(ctx, "alice")
		require.NoError(t, err)
		synctest.Wait()
		requireAccepted(t, tokens, here, there)

		n, err := here.Reauthorize(ctx, "alice")
		require.NoError(t, err)
		require.Equal(t, 1, n)
		_, err = newManager(t, signer, store, tokensession.Config{}).VerifyLive(ctx, tokens.AccessToken)
		requireIsOutdated(t, err)
		time.Sleep(time.Second)
		requireOutdated(t, tokens, here, there)
		next, err := there.Refresh(ctx, tokens.RefreshToken)
		require.NoError(t, err)
		requireAccepted(t, next, here, there)
		_, err = here.VerifyLive(ctx, next.AccessToken)
		require.NoError(t, err)

		cancel()
		require.NoError(t, <-ran)
	})
}

// What VerifyLive or a refresh has read is known from then on.
func TestReauthorize_isKnownOnceTheRecordWasRead(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	live, refreshed := w.other(tokensession.Config{}), w.other(tokensession.Config{})
	w.reauthorize(w.m, 1)
	requireAccepted(t, tokens, live, refreshed)
	_, err := live.VerifyLive(context.Background(), tokens.AccessToken)
	requireIsOutdated(t, err)
	_, err = refreshed.Refresh(context.Background(), tokens.RefreshToken)
	require.NoError(t, err)
	requireOutdated(t, tokens, live, refreshed)
}

func TestReauthorize_refusesForAsLongAsATokenLives(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.reauthorize(w.m, 1)
	w.clock.Advance(15*time.Minute - time.Second)
	requireOutdated(t, tokens, w.m)
	w.clock.Advance(2 * time.Minute)
	next := w.refresh(tokens.RefreshToken)
	requireAccepted(t, next, w.m)
	w.clock.Advance(time.Hour)
	requireAccepted(t, w.refresh(next.RefreshToken), w.m)
}

// A refresh came a moment before its session's end, and its authorizer takes long. What it was told
// before the rights changed must not be good afterwards.
func TestReauthorize_ofASessionThatExpiresMeanwhile(t *testing.T) {
	w := newAnsweringWorld(t, tokensession.Config{})
	tokens := w.start()
	w.clock.Advance(week - micro)
	w.store.On(testkit.Swap, w.clock.Passes(time.Second), testkit.Do(func() {
		w.answer(tokensession.ErrDenied)
		w.events.Take()
		w.reauthorize(w.other(tokensession.Config{}), 0)
		require.Empty(t, w.events.Take(), "the session is over")
	}))
	require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrDenied)
}

// Sessions that are over stay over, and others on the same store are not touched.
func TestReauthorize_leavesOthersAlone(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, tokensession.Config{})
	ended, live := w.start(), w.start()
	require.NoError(t, w.m.Revoke(ctx, ended.Session.ID))
	foreign := w.record(live.Session.ID)
	foreign.ID, foreign.Issuer = "AAAAAAAAAAAAAAAAAAAAAQ", "https://other.example"
	require.NoError(t, w.memory.Create(ctx, foreign))

	w.reauthorize(w.m, 1)
	require.Zero(t, w.record(ended.Session.ID).Epoch)
	require.Zero(t, w.record(foreign.ID).Epoch)
	n, err := w.m.Reauthorize(ctx, "nobody")
	require.NoError(t, err)
	require.Zero(t, n)
	for _, subject := range []string{"", "a\nb"} {
		_, err := w.m.Reauthorize(ctx, subject)
		require.ErrorContains(t, err, "subject")
	}
}

func TestReauthorize_thatCannotTellIsCalledAgain(t *testing.T) {
	ctx := context.Background()
	for _, f := range everyFault() {
		if f.call == testkit.Create {
			continue
		}
		t.Run(f.String(), func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			first, second := w.start(), w.start()
			w.events.Take()
			w.suffers(f)
			n, err := w.m.Reauthorize(ctx, "alice")
			w.store.Clear()
			if err != nil {
				requireUnavailableFor(t, err, testkit.ErrDown)
				require.Less(t, n, 2)
				n, err = w.m.Reauthorize(ctx, "alice")
				require.NoError(t, err)
			} else {
				require.Equal(t, 2, w.events.Count(tokensession.EventOutdated), "each is told once")
			}
			require.Equal(t, 2, n)
			for _, tokens := range []tokensession.Tokens{first, second} {
				requireOutdated(t, tokens, w.m)
				w.requireLive(w.refresh(tokens.RefreshToken))
			}
		})
	}
}

// The store fails over and loses the write. Whoever knows of it refuses the tokens still, and the
// next refresh writes it again, whatever that refresh comes to.
func TestRefresh_raisesTheEpochToWhatIsKnown(t *testing.T) {
	const refreshed, replayed = tokensession.EventRefreshed, tokensession.EventReplayed
	for name, c := range map[string]struct {
		cfg  tokensession.Config
		wait time.Duration // since the last refresh
		old  bool          // the consumed token is presented
		want tokensession.EventKind
	}{
		"a rotation":        {want: refreshed},
		"a strict rotation": {cfg: tokensession.Config{GracePeriod: tokensession.Strict}, want: refreshed},
		"a replay":          {old: true, wait: grace - time.Second, want: replayed},
		"a recovery": {
			cfg: tokensession.Config{RecoveryPeriod: time.Hour}, old: true, wait: grace,
			want: tokensession.EventRecovered,
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, c.cfg)
			first := w.start()
			second := w.refresh(first.RefreshToken)
			w.clock.Advance(c.wait)
			before := w.record(first.Session.ID)
			w.reauthorize(w.m, 1)
			epoch := w.record(first.Session.ID).Epoch
			w.restore(before)
			w.events.Take()

			token := second.RefreshToken
			if c.old {
				token = first.RefreshToken
			}
			got := w.refresh(token)
			require.Equal(t, []tokensession.EventKind{c.want}, w.events.TakeKinds())
			requireAccepted(t, got, w.m)
			requireOutdated(t, second, w.m)
			after := w.record(first.Session.ID)
			require.Equal(t, epoch, after.Epoch)
			require.Equal(t, w.m.Now(), after.OutdatedAt, "the feed has to tell it anew")
			if c.want == replayed {
				require.Equal(t, second.RefreshToken, got.RefreshToken)
				require.Equal(t, before.RotatedAt, after.RotatedAt, "the grace period does not begin anew")
				require.Equal(t, before.ExpiresAt, after.ExpiresAt)
				w.store.Took()
				w.refresh(token)
				require.Zero(t, w.store.Count(testkit.Swap), "once is enough")
				w.clock.Advance(time.Second)
				require.ErrorIs(t, w.refreshError(token), tokensession.ErrReused)
			}
		})
	}
}

// Writes were lost, and perhaps one that outdated the session's tokens, of which this instance has
// never heard.
func TestRefresh_aHealedSessionHasANewEpoch(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	other := w.other(tokensession.Config{})
	first := w.start()
	stale := w.record(first.Session.ID)
	last := w.refresh(first.RefreshToken)
	w.clock.Advance(time.Second)
	w.reauthorize(other, 1)
	w.restore(stale)
	w.clock.Advance(time.Second)
	healed := w.refresh(last.RefreshToken)
	requireAccepted(t, healed, w.m, other)
	requireOutdated(t, last, w.m, other)
	requireAccepted(t, w.requireLive(healed), w.m, other)
}

// What an attempt was told by the authorizer is of no use once the epoch is a later one.
func TestRefresh_asksAgainAfterANewEpoch(t *testing.T) {
	for name, c := range map[string]struct{ before, after error }{
		"allowed, and then not": {nil, tokensession.ErrDenied},
		"denied, and then not":  {tokensession.ErrDenied, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newAnsweringWorld(t, tokensession.Config{})
			tokens := w.start()
			w.answer(c.before)
			w.store.On(testkit.Swap, testkit.Do(func() {
				w.answer(c.after)
				w.reauthorize(w.other(tokensession.Config{}), 1)
			}))
			got, err := w.m.Refresh(context.Background(), tokens.RefreshToken)
			require.ErrorIs(t, err, c.after)
			if c.after == nil {
				w.requireLive(got)
			} else {
				w.requireDead(tokens)
			}
		})
	}
}

// The same, but the new epoch comes by the feed while the store has lost it again: the version of
// the record is the same in both attempts.
func TestRefresh_asksAgainAfterAnEpochThatTheStoreHasLost(t *testing.T) {
	for name, c := range map[string]struct{ before, after error }{
		"allowed, and then not":    {nil, tokensession.ErrDenied},
		"denied, and then not":     {tokensession.ErrDenied, nil},
		"allowed both times":       {nil, nil},
		"denied, and denied again": {tokensession.ErrDenied, tokensession.ErrDenied},
	} {
		t.Run(name, func(t *testing.T) {
			w := newAnsweringWorld(t, tokensession.Config{})
			tokens := w.start()
			before := w.record(tokens.Session.ID)
			w.answer(c.before)
			w.store.On(testkit.Swap, testkit.LoseRequest, testkit.Do(func() {
				w.answer(c.after)
				w.store.On(testkit.Swap) // of Reauthorize
				w.reauthorize(w.m, 1)
				w.restore(before)
			}))
			// The presentation counts from when the token came, so the clock goes on.
			got, err := w.m.Refresh(context.Background(), tokens.RefreshToken)
			require.ErrorIs(t, err, c.after)
			if c.after == nil {
				requireAccepted(t, got, w.m)
				w.requireLive(got)
			} else {
				w.requireDead(tokens)
			}
		})
	}
}

// A write is applied and its reply is lost, and before the call looks again another instance writes
// the session once more, for a new epoch. The call has to know its own work all the same.
func TestRefresh_knowsItsOwnWorkThatWasWrittenOnceMore(t *testing.T) {
	for name, c := range map[string]struct {
		cfg tokensession.Config
		old bool // recover
	}{
		"rotation":         {},
		"strict rotation":  {cfg: tokensession.Config{GracePeriod: tokensession.Strict}},
		"recovery":         {cfg: tokensession.Config{RecoveryPeriod: time.Hour}, old: true},
		"strict, recovery": {cfg: tokensession.Config{GracePeriod: tokensession.Strict, RecoveryPeriod: time.Hour}},
	} {
		for _, took := range []time.Duration{0, 9 * time.Second, time.Minute} {
			for _, twice := range []bool{false, true} {
				t.Run(fmt.Sprint(name, took, twice), func(t *testing.T) {
					w := newWorld(t, c.cfg)
					first := w.start()
					want := tokensession.EventRefreshed
					if c.old {
						w.refresh(first.RefreshToken)
						w.clock.Advance(grace)
						want = tokensession.EventRecovered
					}
					w.events.Take()
					other := w.other(tokensession.Config{})
					w.store.On(testkit.Swap,
						testkit.Apply,
						testkit.Do(func() { w.reauthorize(other, 1) }),
						w.clock.Passes(took),
						testkit.Do(func() {
							if twice {
								w.reauthorize(other, 1)
							}
						}),
						testkit.LoseReply,
					)
					got := w.refresh(first.RefreshToken)
					require.Equal(t, []tokensession.EventKind{want}, w.events.TakeKinds())
					requireAccepted(t, got, w.m, other)
					live := w.record(first.Session.ID)
					if c.cfg.GracePeriod == 0 {
						w.clock.Advance(grace - 6*time.Second)
						tab := w.refresh(first.RefreshToken)
						require.Equal(t, got.RefreshToken, tab.RefreshToken, "the other tab")
					}
					require.Equal(t, live.Generation, w.record(first.Session.ID).Generation)
					w.requireLive(got)
				})
			}
		}
	}
}

// The same in mid-outage: the call has to give up, another instance writes the session once more,
// and the client's retry is no theft, however late it comes.
func TestRefresh_aRetryIsNoTheftAfterANewEpochElsewhere(t *testing.T) {
	for _, after := range []time.Duration{0, grace, time.Hour, 24 * time.Hour} {
		w := newWorld(t, tokensession.Config{})
		first := w.start()
		w.fails(first.RefreshToken)
		w.reauthorize(w.other(tokensession.Config{}), 1)
		w.clock.Advance(after)
		w.requireLive(w.refresh(first.RefreshToken))
	}
}

// A login whose reply is lost, and another instance that writes the new session once more.
func TestStart_knowsItsOwnWorkThatWasWrittenOnceMore(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	w.store.On(testkit.Create,
		testkit.Apply,
		testkit.Do(func() { w.reauthorize(w.other(tokensession.Config{}), 1) }),
		testkit.LoseReply,
	)
	w.refresh(w.start().RefreshToken)
}

// A racer is a refresh beside a Reauthorize.
type racer struct {
	ticket
	after bool // the record that its tokens were made of was loaded after Reauthorize had returned
	fails int  // how many replies to its writes are still to be lost
}

type racerKey struct{}

// Nobody gets a good token with rights of before, and nobody's token with rights of after is
// refused, in whatever order the steps come, and although replies are lost.
func TestReauthorize_isExactInEveryOrder(t *testing.T) {
	recovering := tokensession.Config{RecoveryPeriod: time.Hour}
	strict := tokensession.Config{GracePeriod: tokensession.Strict}
	type prepare func(s *scene, first tokensession.Tokens) []string
	live := func(_ *scene, first tokensession.Tokens) []string { return []string{first.RefreshToken} }
	for name, c := range map[string]struct {
		cfg     tokensession.Config
		lost    int
		prepare prepare // returns the tokens that are presented
	}{
		"rotation":                   {prepare: live},
		"rotation, reply lost":       {lost: 1, prepare: live},
		"rotation, two replies lost": {lost: 2, prepare: live},
		"strict":                     {cfg: strict, prepare: live},
		"strict, reply lost":         {cfg: strict, lost: 1, prepare: live},
		"strict, two replies lost":   {cfg: strict, lost: 2, prepare: live},
		"two tabs": {prepare: func(_ *scene, first tokensession.Tokens) []string {
			return []string{first.RefreshToken, first.RefreshToken}
		}},
		"replay": {prepare: func(s *scene, first tokensession.Tokens) []string {
			s.refresh(first.RefreshToken)
			return []string{first.RefreshToken}
		}},
		"recovery": {cfg: recovering, prepare: func(s *scene, first tokensession.Tokens) []string {
			s.refresh(first.RefreshToken)
			s.clock.Advance(grace)
			return []string{first.RefreshToken}
		}},
		"recovery, reply lost": {cfg: recovering, lost: 1, prepare: func(s *scene, first tokensession.Tokens) []string {
			s.refresh(first.RefreshToken)
			s.clock.Advance(grace)
			return []string{first.RefreshToken}
		}},
		"heal": {prepare: func(s *scene, first tokensession.Tokens) []string {
			stale := s.record(first.Session.ID)
			last := s.refresh(first.RefreshToken)
			s.restore(stale)
			return []string{last.RefreshToken}
		}},
		"heal after a lost epoch": {prepare: func(s *scene, first tokensession.Tokens) []string {
			stale := s.record(first.Session.ID)
			last := s.refresh(first.RefreshToken)
			s.reauthorize(s.m, 1)
			s.restore(stale)
			return []string{last.RefreshToken}
		}},
		"replay after a lost epoch": {prepare: func(s *scene, first tokensession.Tokens) []string {
			s.refresh(first.RefreshToken)
			before := s.record(first.Session.ID)
			s.reauthorize(s.m, 1)
			s.restore(before)
			return []string{first.RefreshToken}
		}},
		"rotation after a lost epoch": {prepare: func(s *scene, first tokensession.Tokens) []string {
			before := s.record(first.Session.ID)
			s.reauthorize(s.m, 1)
			s.restore(before)
			return []string{first.RefreshToken}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := tokensession.GenerateKey()
			require.NoError(t, err)
			testkit.InEveryOrder(t, func(play *testkit.Play) func() {
				r, returned := &rights{"before"}, false
				var racers []*racer
				cfg := c.cfg
				cfg.Authorize = func(ctx context.Context, s tokensession.Session) (tokensession.Grant, error) {
					grant, err := r.authorize(ctx, s)
					if len(racers) == 1 { // with two it would be ten thousand orders
						testkit.Await(ctx, "authorize")
					}
					return grant, err
				}
				s := newScene(t, play, key, cfg)
				first := s.start()
				for _, token := range c.prepare(s, first) {
					got := &racer{fails: c.lost}
					racers = append(racers, got)
					play.Actor("refresh", func(ctx context.Context) {
						got.tokens, got.err = s.m.Refresh(context.WithValue(ctx, racerKey{}, got), token)
					})
				}
				s.store.Always(testkit.Load, testkit.AwaitTurn, func(req *testkit.Request) {
					if got, ok := req.Context().Value(racerKey{}).(*racer); ok {
						got.after = returned
					}
				})
				s.store.Always(testkit.Swap, testkit.AwaitTurn, testkit.Pass, func(req *testkit.Request) {
					if got, ok := req.Context().Value(racerKey{}).(*racer); ok && req.Err() == nil && got.fails > 0 {
						got.fails--
						testkit.LoseReply(req)
					}
				})
				other := s.other(tokensession.Config{RecoveryPeriod: cfg.RecoveryPeriod, Authorize: r.authorize})
				play.Actor("reauthorize", func(ctx context.Context) {
					r.scope = "after"
					n, err := s.m.Reauthorize(ctx, "alice")
					require.NoError(t, err)
					require.Equal(t, 1, n)
					returned = true
				})
				return func() {
					for _, got := range racers {
						require.NoError(t, got.err)
						_, err := s.m.Verify(got.tokens.AccessToken)
						if got.after {
							require.NoError(t, err, "its record was loaded after the call")
						}
						if got.tokens.Scope == "before" {
							requireIsOutdated(t, err)
						}
						requireOutdated(t, first, s.m)
						last := s.refresh(got.tokens.RefreshToken)
						requireAccepted(t, last, s.m)
						require.Equal(t, "after", last.Scope)
						_, err = other.VerifyLive(context.Background(), last.AccessToken)
						require.NoError(t, err)
					}
					require.Zero(t, s.events.Count(tokensession.EventReused))
				}
			})
		})
	}
}

// A refresh that heals the session, and a Reauthenticate, make a new epoch, too. If one of them asked
// the authorizer before Reauthorize was called, and writes while it runs, its epoch can be the same
// one, or a later one, by a clock that is ahead. Its token must not be good afterwards.
func TestReauthorize_isExactBesideWhatRaisesTheEpochItself(t *testing.T) {
	for name, reauthenticates := range map[string]bool{"heal": false, "reauthenticate": true} {
		for _, ahead := range []time.Duration{-time.Second, 0, time.Second, time.Hour} {
			t.Run(fmt.Sprint(name, ahead), func(t *testing.T) {
				ctx := context.Background()
				r := &rights{"before"}
				w := newWorld(t, tokensession.Config{Authorize: r.authorize, Remember: -1})
				first := w.start()
				stale := w.record(first.Session.ID)
				last := w.refresh(first.RefreshToken)
				if !reauthenticates {
					w.restore(stale)
				}
				administrators := w.manager(w.store.Store(), tokensession.Config{
					Authorize: r.authorize,
					Now:       func() time.Time { return w.clock.Now().Add(-ahead) },
				}, &testkit.Events{})

				var got tokensession.Tokens
				var err error
				w.store.On(testkit.Swap, testkit.Do(func() { // of Reauthorize, which has read the record
					r.scope = "before"
					w.store.On(testkit.Swap, testkit.Pass, testkit.Do(func() { r.scope = "after" }))
					if reauthenticates {
						got, err = w.m.Reauthenticate(ctx, first.Session.ID)
					} else {
						got, err = w.m.Refresh(ctx, last.RefreshToken)
					}
				}))
				r.scope = "after"
				w.reauthorize(administrators, 1)
				require.NoError(t, err)
				require.Equal(t, "before", got.Scope)
				_, err = w.m.VerifyLive(ctx, got.AccessToken)
				require.ErrorIs(t, err, tokensession.ErrOutdated)
				next, err := w.m.Refresh(ctx, cmp.Or(got.RefreshToken, last.RefreshToken))
				require.NoError(t, err)
				require.Equal(t, "after", next.Scope)
				requireAccepted(t, next, w.m)
			})
		}
	}
}

// Two administrators change things at the same time.
func TestReauthorize_twiceAtOnceInEveryOrder(t *testing.T) {
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	testkit.InEveryOrder(t, func(play *testkit.Play) func() {
		s := newScene(t, play, key, tokensession.Config{})
		first := s.start()
		for range 2 {
			play.Actor("reauthorize", func(ctx context.Context) {
				n, err := s.m.Reauthorize(ctx, "alice")
				require.NoError(t, err)
				require.Equal(t, 1, n)
			})
		}
		got := s.refreshes(first.RefreshToken)
		return func() {
			require.NoError(t, got.err)
			requireOutdated(t, first, s.m)
			requireAccepted(t, s.refresh(got.tokens.RefreshToken), s.m)
			require.Equal(t, 2, s.events.Count(tokensession.EventOutdated))
		}
	})
}

// A theft stays a theft, and a logout a logout.
func TestReauthorize_saveNoSessionInEveryOrder(t *testing.T) {
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	testkit.InEveryOrder(t, func(play *testkit.Play) func() {
		s := newScene(t, play, key, tokensession.Config{})
		stolen := s.start()
		live := s.refresh(s.refresh(stolen.RefreshToken).RefreshToken)
		thief := s.refreshes(stolen.RefreshToken)
		play.Actor("reauthorize", func(ctx context.Context) {
			_, err := s.m.Reauthorize(ctx, "alice")
			require.NoError(t, err)
		})
		return func() {
			requireReused(t, thief.err, 0, 2)
			s.requireDead(stolen, live)
		}
	})
	testkit.InEveryOrder(t, func(play *testkit.Play) func() {
		s := newScene(t, play, key, tokensession.Config{})
		live := s.start()
		play.Actor("revoke", func(ctx context.Context) {
			require.NoError(t, s.m.Revoke(ctx, live.Session.ID))
		})
		play.Actor("reauthorize", func(ctx context.Context) {
			_, err := s.m.Reauthorize(ctx, "alice")
			require.NoError(t, err)
		})
		return func() { s.requireDead(live) }
	})
}

func TestReauthorize_whoseReplyIsLostWritesOnce(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	w.start()
	w.store.Took()
	w.store.On(testkit.Swap, testkit.Apply, testkit.LoseReply)
	w.reauthorize(w.m, 1)
	require.Equal(t, 1, w.store.Count(testkit.Swap))
}

// The feed tells an epoch under the time at which it was written, not under that at which the
// authorizer was asked: others would have read past it.
func TestReauthenticate_isOutdatedWhenItIsWritten(t *testing.T) {
	var w *world
	w = newWorld(t, tokensession.Config{
		Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
			w.clock.Advance(20 * time.Second)
			return tokensession.Grant{}, nil
		},
	})
	tokens := w.start()
	w.stepUp(tokens.Session.ID)
	require.Equal(t, w.m.Now(), w.record(tokens.Session.ID).OutdatedAt)
}

package tokensession_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// newRemembering makes a world whose Manager remembers what it wrote.
func newRemembering(t testing.TB, cfg tokensession.Config) *world {
	t.Helper()
	cfg.Remember = 1000
	return newWorld(t, cfg)
}

// calls returns the calls of the store that f makes.
func (w *world) calls(f func()) []testkit.Call {
	w.t.Helper()
	w.store.Took()
	f()
	return w.store.Took()
}

var (
	oneCall  = []testkit.Call{testkit.Swap}
	twoCalls = []testkit.Call{testkit.Load, testkit.Swap}
)

func TestRemember_aRefreshIsOneCallOfTheStore(t *testing.T) {
	w := newRemembering(t, tokensession.Config{})
	first := w.start(tokensession.WithAttributes(map[string]string{"device": "phone"}))
	second := first
	for range 3 {
		require.Equal(t, oneCall, w.calls(func() { second = w.refresh(second.RefreshToken) }))
	}
	require.Equal(t, "phone", second.Session.Attributes["device"])
	require.EqualValues(t, 3, w.record(first.Session.ID).Generation)
	_, err := w.m.Verify(second.AccessToken)
	require.NoError(t, err)

	// So is it after a step-up, which always loads.
	require.Equal(t, twoCalls, w.calls(func() {
		_, err = w.m.Reauthenticate(context.Background(), first.Session.ID)
	}))
	require.NoError(t, err)
	require.Equal(t, oneCall, w.calls(func() { w.refresh(second.RefreshToken) }))
}

// A process that knows of new rights, and remembers a record from before, looks at the store. So the
// authorizer is asked once, and about the session as it is.
func TestRemember_asksNobodyAboutASessionOfAnOldEpoch(t *testing.T) {
	asked := 0
	w := newRemembering(t, tokensession.Config{
		Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
			asked++
			return tokensession.Grant{}, nil
		},
	})
	tokens := w.refresh(w.start().RefreshToken)
	w.reauthorize(w.other(tokensession.Config{}), 1)
	_, err := w.m.VerifyLive(context.Background(), tokens.AccessToken)
	requireIsOutdated(t, err)

	asked = 0
	require.Equal(t, twoCalls, w.calls(func() { tokens = w.refresh(tokens.RefreshToken) }))
	require.Equal(t, 1, asked)
	requireAccepted(t, tokens, w.m)
}

// A loadCounter is a MemoryStore of which it is known how often it is read.
type loadCounter struct {
	*tokensession.MemoryStore
	loads int
}

func (s *loadCounter) Load(ctx context.Context, id string) (tokensession.Record, error) {
	s.loads++
	return s.MemoryStore.Load(ctx, id)
}

// A wrapper of which only the four methods are known may do anything in Load, so it is called.
func TestRemember_isOnByDefaultWhereTheStoreHasAFeed(t *testing.T) {
	for _, wraps := range []bool{false, true} {
		counter := &loadCounter{MemoryStore: tokensession.NewMemoryStore()}
		var store tokensession.RefreshStore = counter
		if wraps {
			store = testkit.Plain(counter)
		}
		m := newManager(t, testSigner(t), store, tokensession.Config{})
		tokens, err := m.Start(context.Background(), "alice")
		require.NoError(t, err)
		_, err = m.Refresh(context.Background(), tokens.RefreshToken)
		require.NoError(t, err)
		require.Equal(t, wraps, counter.loads > 0)
	}
}

func TestRemember_canBeTurnedOff(t *testing.T) {
	w := newWorld(t, tokensession.Config{Remember: -1})
	first := w.start()
	require.Equal(t, twoCalls, w.calls(func() { w.refresh(first.RefreshToken) }))

	_, err := tokensession.New(testSigner(t), tokensession.NewMemoryStore(),
		tokensession.Config{Remember: 1<<24 + 1})
	require.EqualError(t, err, "tokensession: Config.Remember 16777217: cannot be more than 16777216")
}

// No more sessions are remembered than Config says, or one for each of the 64 shards.
func TestRemember_isBounded(t *testing.T) {
	w := newRemembering(t, tokensession.Config{})
	w.m = w.manager(w.store.Store(), tokensession.Config{Remember: 128}, w.events)
	var all []tokensession.Tokens
	for range 1000 {
		all = append(all, w.start())
	}
	once := 0
	for i := range all {
		calls := w.calls(func() { all[i] = w.refresh(all[i].RefreshToken) })
		if len(calls) == 1 {
			once++
		}
	}
	require.LessOrEqual(t, once, 128)

	// What was written last is remembered.
	require.Equal(t, oneCall, w.calls(func() { w.refresh(all[len(all)-1].RefreshToken) }))
}

// Whatever is no plain rotation begins with a look at the store, and comes out as if nothing had been
// remembered.
func TestRemember_nothingElseIsDecidedOnWhatIsRemembered(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		cfg     tokensession.Config
		opts    []tokensession.StartOption
		refresh []tokensession.RefreshOption
		before  func(w *world, tokens *tokensession.Tokens)
		want    error
		writes  bool
	}{
		"a replay": {before: func(w *world, tokens *tokensession.Tokens) {
			w.refresh(tokens.RefreshToken)
		}},
		"an old token": {before: func(w *world, tokens *tokensession.Tokens) {
			w.refresh(w.refresh(tokens.RefreshToken).RefreshToken)
		}, want: tokensession.ErrReused, writes: true},
		"a forged token": {before: func(w *world, tokens *tokensession.Tokens) {
			tokens.RefreshToken = forge(w.t, tokens.RefreshToken, make([]byte, 32), 0)
		}, want: tokensession.ErrInvalidToken},
		"another client's": {
			opts: []tokensession.StartOption{tokensession.WithClient("app")},
			want: tokensession.ErrInvalidToken,
		},
		"one without its key": {
			opts: []tokensession.StartOption{withKey}, want: tokensession.ErrProofRequired,
		},
		"one that is revoked": {before: func(w *world, tokens *tokensession.Tokens) {
			require.NoError(w.t, w.m.Revoke(ctx, tokens.Session.ID))
		}, want: tokensession.ErrRevoked},
		"one that has expired": {before: func(w *world, _ *tokensession.Tokens) {
			w.clock.Advance(week)
		}, want: tokensession.ErrExpired, writes: true},
		"one that the authorizer refuses": {before: func(w *world, _ *tokensession.Tokens) {
			w.answer(tokensession.ErrDenied)
		}, want: tokensession.ErrDenied, writes: true},
		"a scope that is not granted": {
			refresh: []tokensession.RefreshOption{tokensession.WithScope("admin")},
			want:    tokensession.ErrInvalidScope,
		},
		"a later epoch": {before: func(w *world, _ *tokensession.Tokens) {
			w.reauthorize(w.m, 1)
		}, writes: true},
	} {
		t.Run(name, func(t *testing.T) {
			c.cfg.Remember = 1000
			w := newAnsweringWorld(t, c.cfg)
			tokens := w.start(c.opts...)
			if c.before != nil {
				c.before(w, &tokens)
			}
			var err error
			calls := w.calls(func() { _, err = w.m.Refresh(ctx, tokens.RefreshToken, c.refresh...) })
			require.ErrorIs(t, err, c.want)
			if len(calls) > 0 && calls[0] == testkit.Swap { // it had guessed
				calls = calls[1:]
			}
			if c.writes {
				require.Equal(t, twoCalls, calls)
			} else {
				require.Equal(t, twoCalls[:1], calls)
			}
			require.LessOrEqual(t, len(w.events.TakeRefused()), 1)
		})
	}
}

// The authorizer cannot tell: nothing has happened, and there is nothing to look for.
func TestRemember_anAuthorizerThatFailsCostsNoCall(t *testing.T) {
	w := newAnsweringWorld(t, tokensession.Config{Remember: 1000})
	first := w.start()
	w.answer(testkit.ErrDown)
	require.Empty(t, w.calls(func() {
		requireUnavailableFor(t, w.refreshError(first.RefreshToken), testkit.ErrDown)
	}))
	w.answer(nil)
	w.requireLive(first)
}

// Another instance wrote the session in between. The write here finds another record, and then all is
// as if nothing had been remembered.
func TestRemember_whatOthersDidInBetween(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		between func(w *world, other *tokensession.Manager, tokens tokensession.Tokens)
		want    func(w *world, tokens tokensession.Tokens)
	}{
		"a tab refreshed a moment ago": {
			func(w *world, other *tokensession.Manager, tokens tokensession.Tokens) {
				_, err := other.Refresh(ctx, tokens.RefreshToken)
				require.NoError(w.t, err)
				w.clock.Advance(time.Second)
			},
			func(w *world, tokens tokensession.Tokens) {
				w.refresh(tokens.RefreshToken)
				require.Equal(w.t, 1, w.events.Count(tokensession.EventReplayed))
			},
		},
		"a thief refreshed an hour ago": {
			func(w *world, other *tokensession.Manager, tokens tokensession.Tokens) {
				_, err := other.Refresh(ctx, tokens.RefreshToken)
				require.NoError(w.t, err)
				w.clock.Advance(time.Hour)
			},
			func(w *world, tokens tokensession.Tokens) {
				requireReused(w.t, w.refreshError(tokens.RefreshToken), 0, 1)
			},
		},
		"a thief refreshed twice": {
			func(w *world, other *tokensession.Manager, tokens tokensession.Tokens) {
				next, err := other.Refresh(ctx, tokens.RefreshToken)
				require.NoError(w.t, err)
				_, err = other.Refresh(ctx, next.RefreshToken)
				require.NoError(w.t, err)
			},
			func(w *world, tokens tokensession.Tokens) {
				requireReused(w.t, w.refreshError(tokens.RefreshToken), 0, 2)
			},
		},
		"it was revoked": {
			func(w *world, other *tokensession.Manager, tokens tokensession.Tokens) {
				require.NoError(w.t, other.Revoke(ctx, tokens.Session.ID, tokensession.Because("x")))
			},
			func(w *world, tokens tokensession.Tokens) {
				err := w.refreshError(tokens.RefreshToken)
				var revoked *tokensession.RevokedError
				require.ErrorAs(w.t, err, &revoked)
				require.EqualValues(w.t, "x", revoked.Reason)
			},
		},
		"its rights changed": {
			func(w *world, other *tokensession.Manager, tokens tokensession.Tokens) {
				w.reauthorize(other, 1)
			},
			func(w *world, tokens tokensession.Tokens) {
				next := w.refresh(tokens.RefreshToken)
				_, err := w.other(tokensession.Config{}).VerifyLive(ctx, next.AccessToken)
				require.NoError(w.t, err, "a token of the epoch before")
			},
		},
		"the store has dropped it": {
			func(w *world, _ *tokensession.Manager, _ tokensession.Tokens) { w.forget() },
			func(w *world, tokens tokensession.Tokens) {
				err := w.refreshError(tokens.RefreshToken)
				require.ErrorIs(w.t, err, tokensession.ErrInvalidToken)
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newRemembering(t, tokensession.Config{})
			tokens := w.start()
			c.between(w, w.other(tokensession.Config{}), tokens)
			c.want(w, tokens)
		})
	}
}

// The store lost what this instance wrote last, and another instance has written the same version
// since. The write here finds that it is another one.
func TestRemember_afterAFailoverTheSameVersionIsAnotherRecord(t *testing.T) {
	w := newRemembering(t, tokensession.Config{})
	ctx := context.Background()
	first := w.start()
	before := w.record(first.Session.ID)
	second := w.refresh(first.RefreshToken)
	w.restore(before)
	theirs, err := w.other(tokensession.Config{}).Refresh(ctx, first.RefreshToken)
	require.NoError(t, err)
	require.Equal(t, theirs.RefreshToken, second.RefreshToken, "made again, it is the same")
	w.refresh(second.RefreshToken)
	require.EqualValues(t, 2, w.record(first.Session.ID).Generation)
}

// Two instances, both of which remember, and tabs at both, in every order.
func TestRemember_tabsAtTwoInstancesInEveryOrder(t *testing.T) {
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	testkit.InEveryOrder(t, func(play *testkit.Play) func() {
		s := newScene(t, play, key, tokensession.Config{Remember: 1000})
		other := s.manager(s.store.Store(), tokensession.Config{Remember: 1000}, s.events)
		first := s.start()
		s.refreshes(first.RefreshToken)
		s.refreshes(first.RefreshToken)
		elsewhere := &ticket{}
		s.given = append(s.given, elsewhere)
		play.Actor("refresh elsewhere", func(ctx context.Context) {
			elsewhere.tokens, elsewhere.err = other.Refresh(ctx, first.RefreshToken)
		})
		return func() {
			for _, got := range s.given {
				require.NoError(t, got.err)
				require.Equal(t, s.given[0].tokens.RefreshToken, got.tokens.RefreshToken)
			}
			require.EqualValues(t, 1, s.record(first.Session.ID).Generation)
			s.requireLive(elsewhere.tokens)
		}
	})
}

// A refresh, a logout elsewhere, and a change of rights, in every order: no token of before lives.
func TestRemember_revocationAndNewRightsInEveryOrder(t *testing.T) {
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	for _, revokes := range []bool{true, false} {
		testkit.InEveryOrder(t, func(play *testkit.Play) func() {
			s := newScene(t, play, key, tokensession.Config{
				Remember: 1000, Authorize: pausingAuthorizer,
			})
			other := s.manager(s.store.Store(), tokensession.Config{}, s.events)
			first := s.start()
			got := s.refreshes(first.RefreshToken)
			play.Actor("elsewhere", func(ctx context.Context) {
				if revokes {
					require.NoError(t, other.Revoke(ctx, first.Session.ID))
				} else {
					_, err := other.Reauthorize(ctx, "alice")
					require.NoError(t, err)
				}
			})
			return func() {
				if revokes {
					for _, tokens := range append(s.handedOut(), first) {
						_, err := other.VerifyLive(context.Background(), tokens.AccessToken)
						require.ErrorIs(t, err, tokensession.ErrRevoked)
						require.ErrorIs(t, s.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
					}
					return
				}
				require.NoError(t, got.err)
				rec := s.record(first.Session.ID)
				_, err := other.VerifyLive(context.Background(), got.tokens.AccessToken)
				if err != nil {
					require.ErrorIs(t, err, tokensession.ErrOutdated)
				}
				require.NotZero(t, rec.Epoch)
				s.refresh(got.tokens.RefreshToken)
			}
		})
	}
}

// A refresh decides by heart, and is held up, while a tab elsewhere refreshes twice. The token was
// good when it came, so it proves no theft.
func TestRemember_slowRefreshThatGuessedIsNoTheft(t *testing.T) {
	for _, twice := range []bool{false, true} {
		t.Run(fmt.Sprint("twice ", twice), func(t *testing.T) {
			ctx := context.Background()
			var meanwhile func()
			w := newRemembering(t, tokensession.Config{Authorize: onceAuthorizing(&meanwhile)})
			other := w.other(tokensession.Config{})
			first := w.start()
			var theirs tokensession.Tokens
			meanwhile = func() {
				w.clock.Advance(micro)
				var err error
				theirs, err = other.Refresh(ctx, first.RefreshToken)
				require.NoError(t, err)
				if twice {
					theirs, err = other.Refresh(ctx, theirs.RefreshToken)
					require.NoError(t, err)
				}
				w.clock.Advance(5 * time.Minute)
			}
			got, err := w.m.Refresh(ctx, first.RefreshToken)
			if twice {
				require.ErrorIs(t, err, tokensession.ErrUnavailable)
				requireNoVerdict(t, err)
			} else {
				require.NoError(t, err)
				require.Equal(t, theirs.RefreshToken, got.RefreshToken)
			}
			w.requireLive(theirs)
		})
	}
}

// A step-up looks at the store. What is remembered stays there, also if the store does not answer.
func TestRemember_aStepUpTakesNothing(t *testing.T) {
	w := newRemembering(t, tokensession.Config{})
	tokens := w.start()
	w.store.On(testkit.Load, testkit.LoseRequest)
	_, err := w.m.Reauthenticate(context.Background(), tokens.Session.ID)
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	require.Equal(t, oneCall, w.calls(func() { w.refresh(tokens.RefreshToken) }))
}

// The second attempt of a refresh looks at the store. What another call has put back stays there.
func TestRemember_aLostReplyTakesNothingOfOthers(t *testing.T) {
	w := newRemembering(t, tokensession.Config{})
	first := w.start()
	w.store.On(testkit.Swap, testkit.Apply, testkit.Do(func() {
		_, err := w.m.Reauthenticate(context.Background(), first.Session.ID)
		require.NoError(t, err)
	}), testkit.LoseReply)
	got := w.refresh(first.RefreshToken)
	require.Equal(t, oneCall, w.calls(func() { got = w.refresh(got.RefreshToken) }))
	w.requireLive(got)
}

// The reply to the write is lost, and so is the next look. The client comes again.
func TestRemember_aLostReplyIsNoTheft(t *testing.T) {
	w := newRemembering(t, tokensession.Config{})
	first := w.start()
	w.fails(first.RefreshToken)
	w.clock.Advance(time.Hour)
	got := w.refresh(first.RefreshToken)
	require.Zero(t, w.events.Count(tokensession.EventReused))
	w.requireLive(got)
}

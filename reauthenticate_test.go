package tokensession_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// stepUp reauthenticates a session with a one-time password.
func (w *world) stepUp(id string, opts ...tokensession.AuthOption) tokensession.Tokens {
	w.t.Helper()
	tokens, err := w.m.Reauthenticate(context.Background(), id, append(opts, otp...)...)
	require.NoError(w.t, err)
	return tokens
}

var otp = []tokensession.AuthOption{
	tokensession.WithAuthMethods("pwd", "otp"), tokensession.WithAuthContext("urn:example:gold"),
}

// proven is what an access token and its session say of how the user has proved who they are.
type proven struct {
	at      time.Time
	methods []string
	context string
}

func provenBy(t testing.TB, m *tokensession.Manager, tokens tokensession.Tokens) proven {
	t.Helper()
	a, err := m.Verify(tokens.AccessToken)
	require.NoError(t, err)
	s := tokens.Session
	require.Equal(t, proven{s.AuthTime.Truncate(time.Second), s.AuthMethods, s.AuthContext},
		proven{a.AuthTime, a.AuthMethods, a.AuthContext}, "the session and its access token")
	return proven{a.AuthTime, a.AuthMethods, a.AuthContext}
}

func TestReauthenticate_changesHowTheUserProvedWhoTheyAreAndNothingElse(t *testing.T) {
	ctx := context.Background()
	var asked tokensession.Session
	w := newWorld(t, tokensession.Config{
		Authorize: func(_ context.Context, s tokensession.Session) (tokensession.Grant, error) {
			asked = s
			return tokensession.Grant{Scope: "read"}, nil
		},
	})
	first := w.start(tokensession.WithAuthMethods("pwd"), tokensession.WithAuthContext("urn:example:silver"),
		tokensession.WithAttributes(map[string]string{"device": "phone"}))
	require.Equal(t, proven{testkit.Began.Truncate(time.Second), []string{"pwd"}, "urn:example:silver"}, provenBy(t, w.m, first))
	w.clock.Advance(time.Hour)
	tokens := w.refresh(first.RefreshToken)
	require.Equal(t, testkit.Began.Truncate(time.Second), provenBy(t, w.m, tokens).at, "no refresh changes it")
	before := w.record(first.Session.ID)
	w.events.Take()

	w.clock.Advance(time.Minute)
	now := w.m.Now()
	got := w.stepUp(first.Session.ID)
	want := proven{now.Truncate(time.Second), []string{"pwd", "otp"}, "urn:example:gold"}
	require.Equal(t, want, provenBy(t, w.m, got))
	require.Empty(t, got.RefreshToken, "the client has one")
	require.Equal(t, "read", got.Scope)
	require.Equal(t, before.ExpiresAt, got.RefreshExpiresAt)
	require.Equal(t, now.Truncate(time.Second).Add(15*time.Minute), got.AccessExpiresAt)
	require.Equal(t, []string{"pwd", "otp"}, asked.AuthMethods, "the authorizer is asked about the session as it is to be")
	require.Equal(t, now, asked.AuthTime)
	requireOutdated(t, tokens, w.m)
	require.Equal(t, []tokensession.EventKind{tokensession.EventReauthenticated}, w.events.TakeKinds())

	after := w.record(first.Session.ID)
	require.Equal(t, before.WriteID[:8], after.WriteID[:8], "who made the live generation")
	wanted := before
	wanted.Version, wanted.WriteID = before.Version+1, after.WriteID
	wanted.Epoch, wanted.OutdatedAt = uint64(now.UnixMilli()), now
	wanted.AuthTime, wanted.AuthMethods, wanted.AuthContext = now, want.methods, want.context
	require.Equal(t, wanted.Session(), after.Session())
	require.Equal(t, recordFields(t, wanted), recordFields(t, after))

	next := w.refresh(tokens.RefreshToken)
	require.Equal(t, want, provenBy(t, w.m, next), "it stays")
	requireOutdated(t, tokens, w.m)
	_, err := w.other(tokensession.Config{}).VerifyLive(ctx, got.AccessToken)
	require.NoError(t, err)

	w.clock.Advance(time.Second)
	again, err := w.m.Reauthenticate(ctx, first.Session.ID, tokensession.WithAuthTime(now.Add(-time.Minute)))
	require.NoError(t, err)
	require.Equal(t, proven{now.Add(-time.Minute).Truncate(time.Second), nil, ""}, provenBy(t, w.m, again),
		"what is not said this time is not said any more")
}

// recordFields is a record in a form that compares all of it.
func recordFields(t testing.TB, rec tokensession.Record) []byte {
	t.Helper()
	b, err := rec.MarshalBinary()
	require.NoError(t, err)
	return b
}

// A copy of the refresh token is worth nothing more after a step-up that rotates: its use shows.
func TestReauthenticate_rotatingCostsACopyTheStepUp(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	copied := first.RefreshToken
	got := w.stepUp(first.Session.ID, tokensession.Rotating(first.RefreshToken))
	require.NotEmpty(t, got.RefreshToken)
	require.NotEqual(t, first.RefreshToken, got.RefreshToken)
	require.Equal(t, []tokensession.EventKind{tokensession.EventStarted, tokensession.EventReauthenticated}, w.events.Kinds())
	w.clock.Advance(grace)
	requireReused(t, w.refreshError(copied), 0, 1)
	w.requireDead(first, got)
}

func TestReauthenticate_rotatingIsARefresh(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	second := w.refresh(first.RefreshToken)

	// Another tab has refreshed a moment ago.
	got := w.stepUp(first.Session.ID, tokensession.Rotating(first.RefreshToken))
	require.Equal(t, second.RefreshToken, got.RefreshToken)
	require.Equal(t, []string{"pwd", "otp"}, provenBy(t, w.m, got).methods)
	requireOutdated(t, second, w.m)

	other := w.start()
	w.unchanged(first.Session.ID, func() {
		for _, token := range []string{"", "x", other.RefreshToken, second.AccessToken} {
			tokens, err := w.m.Reauthenticate(ctx, first.Session.ID, tokensession.Rotating(token))
			require.ErrorIs(t, err, tokensession.ErrInvalidToken)
			require.Zero(t, tokens)
		}
	})
	w.clock.Advance(grace)
	_, err := w.m.Reauthenticate(ctx, first.Session.ID, tokensession.Rotating(first.RefreshToken))
	requireReused(t, err, 0, 1)
	w.requireDead(got)
}

func TestReauthenticate_rotatingKnowsTheClient(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start(tokensession.WithClient("app"))
	_, err := w.m.Reauthenticate(context.Background(), first.Session.ID, tokensession.Rotating(first.RefreshToken))
	require.ErrorIs(t, err, tokensession.ErrInvalidToken)
	w.stepUp(first.Session.ID, tokensession.Rotating(first.RefreshToken), tokensession.WithClient("app"))
	w.stepUp(first.Session.ID) // the host names the session, and no client has presented anything
}

func TestReauthenticate_doesNotRevive(t *testing.T) {
	ctx := context.Background()
	for _, rotating := range []bool{false, true} {
		for name, c := range map[string]struct {
			before func(w *world, first tokensession.Tokens)
			want   error
		}{
			"revoked": {func(w *world, first tokensession.Tokens) {
				require.NoError(w.t, w.m.Revoke(ctx, first.Session.ID))
			}, tokensession.ErrRevoked},
			"expired": {func(w *world, _ tokensession.Tokens) { w.clock.Advance(week) }, tokensession.ErrExpired},
			"over":    {func(w *world, _ tokensession.Tokens) { w.clock.Advance(30 * 24 * time.Hour) }, tokensession.ErrExpired},
			"denied": {func(w *world, _ tokensession.Tokens) { w.answer(tokensession.ErrDenied) },
				tokensession.ErrDenied},
			"a lost revocation": {func(w *world, first tokensession.Tokens) {
				before := w.record(first.Session.ID)
				require.NoError(w.t, w.m.Revoke(ctx, first.Session.ID))
				w.restore(before)
			}, tokensession.ErrRevoked},
		} {
			t.Run(name, func(t *testing.T) {
				w := newAnsweringWorld(t, tokensession.Config{})
				first := w.start()
				c.before(w, first)
				var opts []tokensession.AuthOption
				if rotating {
					opts = append(opts, tokensession.Rotating(first.RefreshToken))
				}
				tokens, err := w.m.Reauthenticate(ctx, first.Session.ID, opts...)
				require.ErrorIs(t, err, c.want)
				require.Zero(t, tokens)
				if c.want != tokensession.ErrExpired {
					require.False(t, w.record(first.Session.ID).RevokedAt.IsZero())
					w.requireDead(first)
				}
			})
		}
	}
}

func TestReauthenticate_ofAnUnknownSession(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, tokensession.Config{})
	for _, id := range []string{"", "x", "AAAAAAAAAAAAAAAAAAAAAQ"} {
		_, err := w.m.Reauthenticate(ctx, id)
		require.ErrorIs(t, err, tokensession.ErrNotFound)
	}
	gone, cancel := context.WithCancel(ctx)
	cancel()
	_, err := w.m.Reauthenticate(gone, w.start().Session.ID)
	requireUnavailableFor(t, err, context.Canceled)
}

// What cannot be kept is refused with its name and the bound, and nothing is written.
func TestReauthenticate_refusesWhatCannotBeKept(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, tokensession.Config{})
	first := w.start()
	for want, opt := range map[string]tokensession.ProofOption{
		"WithAuthMethods of 0 methods: must be from 1 to 16":                tokensession.WithAuthMethods(),
		"WithAuthMethods of 17 methods: must be from 1 to 16":               tokensession.WithAuthMethods(strings.Split(strings.Repeat("x ", 16)+"x", " ")...),
		"WithAuthMethods: a method is empty":                                tokensession.WithAuthMethods("pwd", ""),
		"WithAuthMethods: a method of 65 bytes: cannot be longer than 64":   tokensession.WithAuthMethods(strings.Repeat("x", 65)),
		"WithAuthMethods: a method \"a\\x00\": has the control character U": tokensession.WithAuthMethods("a\x00"),
		"WithAuthContext is empty":                                          tokensession.WithAuthContext(""),
		"WithAuthContext of 256 bytes: cannot be longer than 255":           tokensession.WithAuthContext(strings.Repeat("x", 256)),
		"WithAuthContext \"\\xff\": not valid UTF-8":                        tokensession.WithAuthContext("\xff"),
		"WithAuthTime 2026-01-02 03:06:05.678901234 +0000 UTC: must be":     tokensession.WithAuthTime(testkit.Began.Add(2 * time.Minute)),
	} {
		w.unchanged(first.Session.ID, func() {
			_, err := w.m.Reauthenticate(ctx, first.Session.ID, opt)
			require.ErrorContains(t, err, want)
			requireNoVerdict(t, err)
			_, err = w.m.Reauthenticate(ctx, first.Session.ID, opt, tokensession.Rotating(first.RefreshToken))
			require.ErrorContains(t, err, want)
			_, err = w.m.Start(ctx, "alice", opt)
			require.ErrorContains(t, err, want)
		})
	}
	for want, opt := range map[string]tokensession.AuthOption{
		"WithAttributes": tokensession.WithAttributes(map[string]string{"": "x"}),
		"cannot be longer than WithMaxAccessSize (10)": tokensession.WithMaxAccessSize(10),
	} {
		w.unchanged(first.Session.ID, func() {
			_, err := w.m.Reauthenticate(ctx, first.Session.ID, opt)
			require.ErrorContains(t, err, want)
			requireNoVerdict(t, err)
		})
	}
	most := strings.Split(strings.Repeat(strings.Repeat("m", 64)+" ", 15)+"m", " ")
	got, err := w.m.Reauthenticate(ctx, first.Session.ID, tokensession.WithAuthMethods(most...),
		tokensession.WithAuthContext(strings.Repeat("c", 255)), tokensession.WithAttributes(map[string]string{"ip": "192.0.2.1"}))
	require.NoError(t, err)
	require.Equal(t, most, provenBy(t, w.m, got).methods)
	require.Equal(t, "192.0.2.1", got.Session.Attributes["ip"])
}

func TestReauthenticate_whateverFails(t *testing.T) {
	ctx := context.Background()
	for _, rotating := range []bool{false, true} {
		for _, f := range everyFault() {
			if f.call == testkit.Create || f.call == testkit.List {
				continue
			}
			w := newWorld(t, tokensession.Config{})
			first := w.start()
			w.events.Take()
			opts := otp
			if rotating {
				opts = append([]tokensession.AuthOption{tokensession.Rotating(first.RefreshToken)}, otp...)
			}
			w.suffers(f)
			got, err := w.m.Reauthenticate(ctx, first.Session.ID, opts...)
			w.store.Clear()
			if err != nil {
				requireUnavailableFor(t, err, testkit.ErrDown)
				w.clock.Advance(time.Hour) // the client comes again, however late
				got, err = w.m.Reauthenticate(ctx, first.Session.ID, opts...)
				require.NoError(t, err, f)
			} else {
				require.Equal(t, []tokensession.EventKind{tokensession.EventReauthenticated}, w.events.TakeKinds(), f)
			}
			require.Equal(t, []string{"pwd", "otp"}, provenBy(t, w.m, got).methods, f)
			token := first.RefreshToken
			if rotating {
				token = got.RefreshToken
			}
			require.Equal(t, []string{"pwd", "otp"}, provenBy(t, w.m, w.refresh(token)).methods, f)
		}
	}
}

// The write is applied and its reply lost, and before the call looks again an administrator outdates
// the session.
func TestReauthenticate_knowsItsOwnWorkThatWasWrittenOnceMore(t *testing.T) {
	for _, cfg := range []tokensession.Config{{}, {GracePeriod: tokensession.Strict}} {
		for _, rotating := range []bool{false, true} {
			w := newWorld(t, cfg)
			first := w.start()
			w.events.Take()
			other := w.other(tokensession.Config{})
			var opts []tokensession.AuthOption
			if rotating {
				opts = append(opts, tokensession.Rotating(first.RefreshToken))
			}
			w.store.On(testkit.Swap,
				testkit.Apply,
				testkit.Do(func() { w.reauthorize(other, 1) }),
				w.clock.Passes(time.Minute),
				testkit.LoseReply,
			)
			got := w.stepUp(first.Session.ID, opts...)
			require.Equal(t, []tokensession.EventKind{tokensession.EventReauthenticated}, w.events.TakeKinds())
			require.Equal(t, []string{"pwd", "otp"}, provenBy(t, w.m, got).methods)
			token := first.RefreshToken
			if rotating {
				token = got.RefreshToken
			}
			require.Equal(t, []string{"pwd", "otp"}, provenBy(t, w.m, w.refresh(token)).methods)
		}
	}
}

// Whatever the order, the session has stepped up afterwards, nobody is logged out, and only an
// access token that says how the user has proved who they are is good.
func TestReauthenticate_besideRefreshesInEveryOrder(t *testing.T) {
	for name, c := range map[string]struct {
		cfg      tokensession.Config
		rotating bool
	}{
		"named":         {},
		"named, strict": {cfg: tokensession.Config{GracePeriod: tokensession.Strict}},
		"rotating":      {rotating: true},
	} {
		t.Run(name, func(t *testing.T) {
			key, err := tokensession.GenerateKey()
			require.NoError(t, err)
			testkit.InEveryOrder(t, func(play *testkit.Play) func() {
				s := newScene(t, play, key, c.cfg)
				first := s.start()
				tab := s.refreshes(first.RefreshToken)
				stepped := &ticket{}
				play.Actor("reauthenticate", func(ctx context.Context) {
					opts := otp
					if c.rotating {
						opts = append([]tokensession.AuthOption{tokensession.Rotating(first.RefreshToken)}, otp...)
					}
					stepped.tokens, stepped.err = s.m.Reauthenticate(ctx, first.Session.ID, opts...)
				})
				return func() {
					require.NoError(t, tab.err)
					require.NoError(t, stepped.err)
					requireOutdated(t, first, s.m)
					require.Equal(t, []string{"pwd", "otp"}, provenBy(t, s.m, stepped.tokens).methods)
					if access, err := s.m.Verify(tab.tokens.AccessToken); err == nil {
						require.Equal(t, []string{"pwd", "otp"}, access.AuthMethods)
					} else {
						requireIsOutdated(t, err)
					}
					if c.rotating {
						require.Equal(t, tab.tokens.RefreshToken, stepped.tokens.RefreshToken, "the session has not forked")
					}
					next := s.refresh(tab.tokens.RefreshToken)
					require.Equal(t, []string{"pwd", "otp"}, provenBy(t, s.m, next).methods)
					require.Equal(t, 1, s.events.Count(tokensession.EventReauthenticated))
				}
			})
		})
	}
}

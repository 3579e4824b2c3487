package tokensession_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/sessiontest"
)

// told is what of an event a table can say.
type told struct {
	kind            tokensession.EventKind
	presented, live uint64
	reason          tokensession.Reason
}

func TestEvents_tellEachChangeOnceAndNothingElse(t *testing.T) {
	ctx := context.Background()
	const (
		started, refreshed, replayed = tokensession.EventStarted, tokensession.EventRefreshed, tokensession.EventReplayed
		recovered, healed, reused    = tokensession.EventRecovered, tokensession.EventHealed, tokensession.EventReused
		denied, revoked              = tokensession.EventDenied, tokensession.EventRevoked
		mobile                       = 1 // the config with recovery
		invalid                      = "tsr_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
		onlyOne                      = 2 // MaxSessions
	)
	for name, c := range map[string]struct {
		config int
		do     func(w *world, first tokensession.Tokens)
		want   []told
	}{
		"login":   {0, func(w *world, _ tokensession.Tokens) { w.start() }, []told{{kind: started}}},
		"refresh": {0, func(w *world, first tokensession.Tokens) { w.refresh(w.refresh(first.RefreshToken).RefreshToken) }, []told{{refreshed, 0, 0, ""}, {refreshed, 1, 1, ""}}},
		"replay": {0, func(w *world, first tokensession.Tokens) {
			w.refresh(first.RefreshToken)
			w.refresh(first.RefreshToken)
		}, []told{{refreshed, 0, 0, ""}, {replayed, 0, 1, ""}}},
		"recovery": {mobile, func(w *world, first tokensession.Tokens) {
			w.refresh(first.RefreshToken)
			w.clock.Advance(grace)
			w.refresh(first.RefreshToken)
		}, []told{{refreshed, 0, 0, ""}, {recovered, 0, 1, ""}}},
		"heal": {0, func(w *world, first tokensession.Tokens) {
			stale := w.record(first.Session.ID)
			last := w.refresh(w.refresh(first.RefreshToken).RefreshToken)
			w.restore(stale)
			w.events.Take()
			w.refresh(last.RefreshToken)
		}, []told{{healed, 2, 0, ""}}},
		"reuse": {0, func(w *world, first tokensession.Tokens) {
			w.refresh(w.refresh(first.RefreshToken).RefreshToken)
			w.refreshError(first.RefreshToken)
			w.refreshError(first.RefreshToken)
		}, []told{{refreshed, 0, 0, ""}, {refreshed, 1, 1, ""}, {reused, 0, 2, tokensession.ReasonReuse}}},
		"denied": {0, func(w *world, first tokensession.Tokens) {
			next := w.refresh(first.RefreshToken)
			w.events.Take()
			w.answer(tokensession.ErrDenied)
			w.refreshError(next.RefreshToken)
			w.refreshError(next.RefreshToken)
			_, err := w.m.Start(ctx, "alice")
			require.ErrorIs(w.t, err, tokensession.ErrDenied)
		}, []told{{denied, 1, 1, tokensession.ReasonDenied}}},
		"authorizer failed": {0, func(w *world, first tokensession.Tokens) {
			w.answer(testkit.ErrDown)
			w.refreshError(first.RefreshToken)
		}, nil},
		"store failed": {0, func(w *world, first tokensession.Tokens) {
			w.store.Down(testkit.Swap)
			w.refreshError(first.RefreshToken)
		}, nil},
		"revoke, twice": {0, func(w *world, first tokensession.Tokens) {
			require.NoError(w.t, w.m.Revoke(ctx, first.Session.ID))
			require.NoError(w.t, w.m.Revoke(ctx, first.Session.ID))
			w.refreshError(first.RefreshToken)
		}, []told{{kind: revoked, reason: tokensession.ReasonRevoked}}},
		"logout": {0, func(w *world, first tokensession.Tokens) {
			w.refresh(first.RefreshToken)
			w.events.Take()
			require.NoError(w.t, w.m.RevokeToken(ctx, first.RefreshToken)) // a consumed one
		}, []told{{kind: revoked, reason: tokensession.ReasonLogout}}},
		"everywhere": {0, func(w *world, _ tokensession.Tokens) {
			w.start()
			w.events.Take()
			n, err := w.m.RevokeSubject(ctx, "alice")
			require.NoError(w.t, err)
			require.Equal(w.t, 2, n)
		}, []told{{kind: revoked, reason: tokensession.ReasonSubjectRevoked}, {kind: revoked, reason: tokensession.ReasonSubjectRevoked}}},
		"replaced": {0, func(w *world, first tokensession.Tokens) { w.start(tokensession.Replacing(first.Session.ID)) },
			[]told{{kind: revoked, reason: tokensession.ReasonReplaced}, {kind: started}}},
		"one too many": {onlyOne, func(w *world, _ tokensession.Tokens) { w.start() },
			[]told{{kind: revoked, reason: tokensession.ReasonMaxSessions}, {kind: started}}},
		"expired": {0, func(w *world, first tokensession.Tokens) {
			w.clock.Advance(week)
			w.refreshError(first.RefreshToken)
			require.NoError(w.t, w.m.Revoke(ctx, first.Session.ID))
			if err := w.m.RevokeToken(ctx, first.RefreshToken); err != nil { // that write may have had the record dropped
				require.ErrorIs(w.t, err, tokensession.ErrInvalidToken)
			}
		}, nil},
		"invalid": {0, func(w *world, _ tokensession.Tokens) { w.refreshError(invalid) }, nil},
		"looking": {0, func(w *world, first tokensession.Tokens) {
			_, err := w.m.VerifyLive(ctx, first.AccessToken)
			require.NoError(w.t, err)
			_, err = w.m.Sessions(ctx, "alice")
			require.NoError(w.t, err)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := [...]tokensession.Config{{}, {RecoveryPeriod: time.Hour}, {MaxSessions: 1}}[c.config]
			w := newAnsweringWorld(t, cfg)
			first := w.start()
			w.events.Take()
			c.do(w, first)
			var got []told
			for _, e := range w.events.All() {
				got = append(got, told{e.Kind, e.Presented, e.Live, e.Session.RevokeReason})
				require.False(t, e.At.Before(testkit.NewClock().Now().Truncate(micro)) || e.At.After(w.clock.Now()), "told at %v", e.At)
				require.NotEmpty(t, e.Session.ID)
				require.Equal(t, "alice", e.Session.Subject)
				require.Equal(t, e.Session.RevokeReason == "", e.Session.RevokedAt.IsZero())
				require.NoError(t, e.Err)
			}
			require.Equal(t, c.want, got)
		})
	}
}

// Who hears of a fact may act on it: it is in the store.
func TestEvents_areToldAfterTheFactAndMayCallTheManager(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	var m *tokensession.Manager
	heard := 0
	m, err := tokensession.New(w.signer, w.memory, tokensession.Config{Now: w.clock.Now, OnEvent: func(ctx context.Context, e tokensession.Event) {
		heard++
		require.Equal(t, "yes", ctx.Value(contextKey{}))
		rec := w.record(e.Session.ID)
		require.Equal(t, e.Session, rec.Session())
		if e.Kind == tokensession.EventReused {
			_, err := m.RevokeSubject(ctx, e.Session.Subject)
			require.NoError(t, err)
		}
	}})
	require.NoError(t, err)
	ctx := context.WithValue(context.Background(), contextKey{}, "yes")
	other, err := m.Start(ctx, "alice")
	require.NoError(t, err)
	first, err := m.Start(ctx, "alice")
	require.NoError(t, err)
	second, err := m.Refresh(ctx, first.RefreshToken)
	require.NoError(t, err)
	_, err = m.Refresh(ctx, second.RefreshToken)
	require.NoError(t, err)
	_, err = m.Refresh(ctx, first.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrReused)
	_, err = m.Refresh(ctx, other.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
	require.Equal(t, 7, heard)
}

type contextKey struct{}

func TestEvent_logValue(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	session := tokensession.Session{ID: "SID", Subject: "alice", Attributes: map[string]string{"ip": "192.0.2.1"}}
	bound, ended := session, session
	bound.ClientID = "app"
	ended.RevokeReason = tokensession.ReasonReuse
	acting := session
	acting.Actor = "carol"
	for want, e := range map[string]tokensession.Event{
		"e.kind=started e.session=SID e.subject=alice":                                                                                                      {Kind: tokensession.EventStarted, Session: session},
		"e.kind=refreshed e.session=SID e.subject=alice e.client=app e.presented=0 e.live=0":                                                                {Kind: tokensession.EventRefreshed, Session: bound},
		"e.kind=reused e.session=SID e.subject=alice e.reason=reuse e.presented=3 e.live=7":                                                                 {Kind: tokensession.EventReused, Session: ended, Presented: 3, Live: 7},
		"e.kind=revoked e.session=SID e.subject=alice e.reason=reuse":                                                                                       {Kind: tokensession.EventRevoked, Session: ended},
		"e.kind=feed_stale e.since=2026-01-02T03:04:05.000Z e.error=down":                                                                                   {Kind: tokensession.EventFeedStale, Since: at, Err: errors.New("down")},
		"e.kind=feed_fresh e.since=2026-01-02T03:04:05.000Z":                                                                                                {Kind: tokensession.EventFeedFresh, Since: at},
		"e.kind=feed_polled e.error=down":                                                                                                                   {Kind: tokensession.EventFeedPolled, Err: errors.New("down")},
		"e.kind=sweep_failed e.error=down":                                                                                                                  {Kind: tokensession.EventSweepFailed, Err: errors.New("down")},
		"e.kind=healed e.session=SID e.subject=alice e.presented=9 e.live=2":                                                                                {Kind: tokensession.EventHealed, Session: session, Presented: 9, Live: 2},
		"e.kind=replayed e.session=SID e.subject=alice e.presented=0 e.live=1 e.delay=3s e.in_a_row=2":                                                      {Kind: tokensession.EventReplayed, Session: session, Live: 1, Delay: 3 * time.Second, InARow: 2},
		"e.kind=recovered e.session=SID e.subject=alice e.presented=0 e.live=1":                                                                             {Kind: tokensession.EventRecovered, Session: session, Live: 1},
		"e.kind=refused e.session=SID e.subject=alice e.reason=reuse e.presented=1 e.live=2 e.error_kind=revoked e.error=\"tokensession: session revoked\"": {Kind: tokensession.EventRefused, Session: ended, Presented: 1, Live: 2, Err: tokensession.ErrRevoked},
		"e.kind=outdated e.session=SID e.subject=alice e.actor=carol":                                                                                       {Kind: tokensession.EventOutdated, Session: acting},
		"e.kind=denied e.session=SID e.subject=alice e.reason=reuse e.presented=1 e.live=1":                                                                 {Kind: tokensession.EventDenied, Session: ended, Presented: 1, Live: 1},
	} {
		var b bytes.Buffer
		drop := func(_ []string, a slog.Attr) slog.Attr {
			if a.Key == slog.TimeKey || a.Key == slog.LevelKey || a.Key == slog.MessageKey {
				return slog.Attr{}
			}
			return a
		}
		slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: drop})).Info("", "e", e)
		require.Equal(t, want+"\n", b.String())
	}
}

// Whatever happens, nothing that is printed of it lets anybody in.
func TestEventsAndErrors_neverPrintASecret(t *testing.T) {
	w := newAnsweringWorld(t, tokensession.Config{RecoveryPeriod: time.Hour})
	first := w.start()
	second := w.refresh(first.RefreshToken)
	w.refresh(first.RefreshToken)
	w.clock.Advance(grace)
	third := w.refresh(first.RefreshToken)
	printed := []any{}
	for _, err := range []error{
		w.refreshError(second.RefreshToken), w.refreshError(third.RefreshToken), w.refreshError(third.RefreshToken + "x"),
		func() error { _, err := w.m.Verify(third.AccessToken); return err }(),
	} {
		printed = append(printed, err)
	}
	w.answer(tokensession.ErrDenied)
	denied := w.signedIn()
	printed = append(printed, w.refreshError(denied.RefreshToken))
	w.store.Down(testkit.Load)
	printed = append(printed, w.refreshError(denied.RefreshToken))
	var reuse *tokensession.ReuseError
	require.ErrorAs(t, printed[0].(error), &reuse)
	printed = append(printed, *reuse, third, &third, third.Session)
	for _, e := range w.events.All() {
		printed = append(printed, e, &e)
	}
	var secrets []string
	for _, tokens := range []tokensession.Tokens{first, second, third, denied} {
		raw := tokenBytes(t, tokens.RefreshToken)
		secrets = append(secrets, tokens.RefreshToken[4:20], tokens.RefreshToken[36:], tokens.AccessToken[len(tokens.AccessToken)-20:])
		secrets = append(secrets, spellings(raw[24:])...)
		secrets = append(secrets, spellings(w.record(tokens.Session.ID).Key)...)
	}
	for _, v := range printed {
		for how, text := range prints(v) {
			if fieldsShow("itself", how) {
				continue
			}
			for _, secret := range secrets {
				require.NotContains(t, text, secret, "%T printed with %s", v, how)
			}
		}
	}
}

// signedIn logs in with an authorizer that allows it.
func (w *world) signedIn() tokensession.Tokens {
	answer := w.authorizer
	w.authorizer = nil
	defer func() { w.authorizer = answer }()
	return w.start()
}

func TestEvent_tellsHowLongARefreshTook(t *testing.T) {
	var took []time.Duration
	var w *sessiontest.World
	w = sessiontest.New(t, tokensession.Config{
		Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
			w.Clock.Advance(time.Second)
			return tokensession.Grant{}, nil
		},
		OnEvent: func(_ context.Context, e tokensession.Event) { took = append(took, e.Took) },
	})
	tokens := w.Login("alice")
	lost := w.Refresh(tokens)
	w.Clock.Advance(time.Minute)
	w.Refresh(w.Refresh(tokens))
	w.Clock.Advance(time.Minute)
	_, err := w.Manager.Refresh(t.Context(), lost.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrReused)
	require.Equal(t, []time.Duration{0, time.Second, time.Second, time.Second, 0}, took)
}

// Of a session that is over there is one event for each token that comes, and it says why.
func TestEvents_tellWhyATokenIsRefused(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		do    func(w *world, first tokensession.Tokens)
		kinds []string // of the errors
	}{
		"expired": {func(w *world, first tokensession.Tokens) {
			w.clock.Advance(week)
			w.refreshError(first.RefreshToken)
			w.refreshError(first.RefreshToken)
		}, []string{"expired", "expired"}},
		"at its absolute end": {func(w *world, first tokensession.Tokens) {
			w.clock.Advance(30 * 24 * time.Hour)
			w.refreshError(first.RefreshToken)
		}, []string{"expired"}},
		"revoked": {func(w *world, first tokensession.Tokens) {
			require.NoError(w.t, w.m.Revoke(ctx, first.Session.ID, tokensession.Because("password_change")))
			require.ErrorContains(w.t, w.refreshError(first.RefreshToken), "password_change")
		}, []string{"revoked"}},
		"reused, and then once more": {func(w *world, first tokensession.Tokens) {
			w.refresh(first.RefreshToken)
			w.clock.Advance(grace)
			w.refreshError(first.RefreshToken) // which is told as reused
			w.refreshError(first.RefreshToken)
		}, []string{"revoked"}},
		"of another client": {func(w *world, _ tokensession.Tokens) {
			bound := w.start(tokensession.WithClient("app"))
			w.refreshError(bound.RefreshToken, tokensession.WithClient("other"))
		}, []string{"invalid_token"}},
		"a step-up": {func(w *world, first tokensession.Tokens) {
			w.clock.Advance(week)
			_, err := w.m.Reauthenticate(ctx, first.Session.ID)
			require.Error(w.t, err)
		}, []string{"expired"}},
		"forged": {func(w *world, first tokensession.Tokens) {
			last := byte('A')
			if first.RefreshToken[67] == last {
				last = 'B'
			}
			w.refreshError(first.RefreshToken[:67] + string(last))
			w.refreshError("x")
		}, nil},
		"denied": {func(w *world, first tokensession.Tokens) { // which is told as denied
			w.answer(tokensession.ErrDenied)
			w.refreshError(first.RefreshToken)
		}, nil},
		"an outage": {func(w *world, first tokensession.Tokens) {
			w.store.Down(testkit.Swap)
			w.clock.Advance(week)
			w.refreshError(first.RefreshToken)
		}, nil},
		"an access token": {func(w *world, first tokensession.Tokens) {
			w.clock.Advance(time.Hour)
			_, err := w.m.Verify(first.AccessToken)
			require.Error(w.t, err)
		}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			w := newAnsweringWorld(t, tokensession.Config{})
			first := w.start()
			c.do(w, first)
			var kinds []string
			for _, e := range w.events.TakeRefused() {
				require.Equal(t, "alice", e.Session.Subject)
				require.Equal(t, w.record(e.Session.ID).Session(), e.Session)
				require.Equal(t, w.m.Now(), e.At)
				kinds = append(kinds, tokensession.Kind(e.Err))
			}
			require.Equal(t, c.kinds, kinds)
		})
	}
}

// How old a refused token is says who may have it: the live one is the owner's, too.
func TestEvents_tellWhichTokenIsRefused(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	client := tokensession.WithClient("app")
	first := w.start(client)
	second := w.refresh(first.RefreshToken, client)
	w.refreshError(first.RefreshToken)
	w.refreshError(second.RefreshToken)
	w.clock.Advance(week)
	w.refreshError(first.RefreshToken, client)
	_, err := w.m.Reauthenticate(t.Context(), first.Session.ID, client,
		tokensession.Rotating(first.RefreshToken))
	require.ErrorIs(t, err, tokensession.ErrExpired)
	_, err = w.m.Reauthenticate(t.Context(), first.Session.ID, client)
	require.ErrorIs(t, err, tokensession.ErrExpired)
	var got [][2]uint64
	for _, e := range w.events.TakeRefused() {
		got = append(got, [2]uint64{e.Presented, e.Live})
	}
	require.Equal(t, [][2]uint64{{0, 1}, {1, 1}, {0, 1}, {0, 1}, {1, 1}}, got,
		"where no token was presented, it is the live one")
}

// Somebody presents each token that the owner has just consumed.
func TestEvent_tellsOfReplaysInARow(t *testing.T) {
	w := sessiontest.New(t, tokensession.Config{})
	owner := w.Login("alice")
	for n := range 5 {
		next := w.Refresh(owner)
		w.Clock.Advance(3 * time.Second)
		w.Refresh(owner)
		events := w.Events(tokensession.EventReplayed)
		require.Len(t, events, n+1)
		require.Equal(t, 3*time.Second, events[n].Delay)
		require.Equal(t, n+1, events[n].InARow)
		owner = next
		w.Clock.Advance(time.Minute)
	}
	owner = w.Refresh(owner)
	w.Refresh(owner)
	w.Refresh(owner)
	events := w.Events(tokensession.EventReplayed)
	require.Equal(t, 1, events[len(events)-1].InARow, "the generation before was not replayed")
	for _, e := range w.Events() {
		if e.Kind != tokensession.EventReplayed {
			require.Zero(t, e.Delay, e.Kind)
			require.Zero(t, e.InARow, e.Kind)
		}
	}
}

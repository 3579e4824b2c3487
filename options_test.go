package tokensession_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// R10: RFC 6749 section 6. ZITADEL CVE-2026-55672.
func TestWithClient_bindsTheSession(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	first := w.start(tokensession.WithClient("app"))
	require.Equal(t, "app", first.Session.ClientID)
	tokens := w.refresh(first.RefreshToken, tokensession.WithClient("app"))
	require.NotEqual(t, first.RefreshToken, tokens.RefreshToken)
	// the live one and one in its grace
	for _, token := range []string{tokens.RefreshToken, first.RefreshToken} {
		w.unchanged(tokens.Session.ID, func() {
			require.ErrorIs(t, w.refreshError(token), tokensession.ErrInvalidToken)
			for _, client := range []string{"", "App", "app ", "other"} {
				require.ErrorIs(t, w.refreshError(token, tokensession.WithClient(client)),
					tokensession.ErrInvalidToken)
			}
		})
	}
	w.clock.Advance(grace)
	w.unchanged(tokens.Session.ID, func() { // not even theft, for who knows no client is no party
		require.ErrorIs(t, w.refreshError(first.RefreshToken, tokensession.WithClient("other")),
			tokensession.ErrInvalidToken)
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
	w := newWorld(t, tokensession.Config{
		Authorize: func(_ context.Context, s tokensession.Session) (tokensession.Grant, error) {
			asked = append(asked, map[string]string{})
			for name, value := range s.Attributes {
				asked[len(asked)-1][name] = value
				s.Attributes[name] = "the authorizer was here"
			}
			return tokensession.Grant{}, nil
		},
	})
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

	replay := w.refresh(first.RefreshToken,
		tokensession.WithAttributes(map[string]string{"ip": "a thief's"}))
	require.Equal(t, want, replay.Session.Attributes, "a replay writes nothing")
	require.Equal(t, map[string]string{"device": "phone", "ip": "a thief's", "agent": ""}, asked[2],
		"the authorizer did not see what was given")
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

func TestRefresh_refusesBadAttributesAndConsumesNothing(t *testing.T) {
	for name, c := range map[string]struct{ begun, given map[string]string }{
		"too many":        {nil, attributesOf(33)},
		"too large":       {nil, map[string]string{"n": strings.Repeat("v", 4096)}},
		"not UTF-8":       {nil, map[string]string{"n": "\xff"}},
		"too many in all": {attributesOf(32), map[string]string{"one more": ""}},
		"too large in all": {map[string]string{"a": strings.Repeat("v", 4000)},
			map[string]string{"b": strings.Repeat("v", 100)}},
		"a name that is empty": {nil, map[string]string{"": "v"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, tokensession.Config{})
			tokens := w.start(tokensession.WithAttributes(c.begun))
			w.unchanged(tokens.Session.ID, func() {
				err := w.refreshError(tokens.RefreshToken, tokensession.WithAttributes(c.given))
				require.ErrorIs(t, err, tokensession.ErrAttributes)
				require.ErrorContains(t, err, "WithAttributes")
				requireNoVerdict(t, err)
			})
			w.requireLive(tokens)
		})
	}
}

// grants is a config whose authorizer always says the same.
func grants(grant tokensession.Grant) tokensession.Config {
	return tokensession.Config{
		Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
			return grant, nil
		},
	}
}

// RFC 6749 section 6.
func TestRefresh_cannotWidenTheScope(t *testing.T) {
	w := newWorld(t, grants(tokensession.Grant{Scope: "read write"}))
	tokens := w.start()
	for _, wider := range []string{"admin", "read admin", "read write admin", "rea", "reading", "READ", "read  write", " read", "read ", "re\"ad", "read\n"} {
		w.unchanged(tokens.Session.ID, func() {
			require.ErrorIs(t, w.refreshError(tokens.RefreshToken, tokensession.WithScope(wider)),
				tokensession.ErrInvalidScope, "%q", wider)
		})
	}
	w.requireLive(tokens)
}

func TestRefresh_canNarrowTheScopeOfOneAccessToken(t *testing.T) {
	w := newWorld(t, grants(tokensession.Grant{Scope: "read write delete"}))
	tokens := w.start()
	for _, asked := range []struct{ scope, got string }{
		{"read", "read"},
		{"delete read", "delete read"},
		{"", "read write delete"},
		{"write", "write"},
		{"read write delete", "read write delete"},
	} {
		tokens = w.refresh(tokens.RefreshToken, tokensession.WithScope(asked.scope))
		access, err := w.m.Verify(tokens.AccessToken)
		require.NoError(t, err)
		require.Equal(t, asked.got, access.Scope)
		w.clock.Advance(time.Minute)
	}
}

func TestRefresh_withScopeWhereNoneIsGranted(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.unchanged(tokens.Session.ID, func() {
		require.ErrorIs(t, w.refreshError(tokens.RefreshToken, tokensession.WithScope("read")),
			tokensession.ErrInvalidScope)
	})
}

func TestWithScope_isNotQuoted(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	for _, mistaken := range []string{tokens.RefreshToken + "\n", tokens.RefreshToken + " "} {
		err := w.refreshError(tokens.RefreshToken, tokensession.WithScope(mistaken))
		require.ErrorIs(t, err, tokensession.ErrInvalidScope)
		require.NotContains(t, err.Error(), tokens.RefreshToken)
	}
}

func TestMaxAccessSize_isCheckedBeforeAnythingIsConsumed(t *testing.T) {
	grant := tokensession.Grant{Claims: map[string]any{"note": ""}}
	w := newWorld(t, tokensession.Config{
		Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
			return grant, nil
		},
	})
	tokens := w.start()
	size := len(tokens.AccessToken)

	_, err := w.m.Start(context.Background(), "alice", tokensession.WithMaxAccessSize(size-1))
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	require.ErrorContains(t, err, "WithMaxAccessSize")
	sessions, err := w.m.Sessions(context.Background(), "alice")
	require.NoError(t, err)
	require.Len(t, sessions, 1)

	w.unchanged(tokens.Session.ID, func() {
		require.ErrorIs(t, w.refreshError(tokens.RefreshToken,
			tokensession.WithMaxAccessSize(size-1)), tokensession.ErrUnavailable)
	})
	tokens = w.refresh(tokens.RefreshToken, tokensession.WithMaxAccessSize(size))
	require.Len(t, tokens.AccessToken, size)
	grant.Claims["note"] = strings.Repeat("x", 4096)
	w.unchanged(tokens.Session.ID, func() {
		require.ErrorIs(t, w.refreshError(tokens.RefreshToken,
			tokensession.WithMaxAccessSize(4096)), tokensession.ErrUnavailable)
	})
	w.requireLive(tokens)
}

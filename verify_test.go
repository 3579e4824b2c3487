package tokensession_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

func TestVerifyLive_inEveryState(t *testing.T) {
	ctx := context.Background()
	for name, c := range map[string]struct {
		do   func(w *world, tokens tokensession.Tokens)
		want error // of VerifyLive
		only error // of Verify after it, on an instance that knew nothing
	}{
		"live": {func(*world, tokensession.Tokens) {}, nil, nil},
		"refreshed": {func(w *world, tokens tokensession.Tokens) { w.refresh(tokens.RefreshToken) },
			nil, nil},
		"revoked": {func(w *world, tokens tokensession.Tokens) {
			require.NoError(w.t, w.m.Revoke(ctx, tokens.Session.ID))
		},
			tokensession.ErrRevoked, tokensession.ErrRevoked},
		"gone": {func(w *world, _ tokensession.Tokens) {
			_, err := w.memory.Sweep(ctx, w.clock.Now().Add(1e6*time.Hour), 1e6)
			require.NoError(w.t, err)
		}, tokensession.ErrRevoked, nil},
		"access token expired": {func(w *world, _ tokensession.Tokens) {
			w.clock.Advance(15 * time.Minute)
		}, tokensession.ErrExpired, tokensession.ErrExpired},
		// which the token outlives, if it was shortened by hand
		"session expired": {func(w *world, tokens tokensession.Tokens) {
			rec := w.record(tokens.Session.ID)
			rec.Replaces = rec.WriteID
			rec.Version, rec.WriteID, rec.ExpiresAt = 2, "another", w.clock.Now().Add(time.Second)
			require.NoError(w.t, w.memory.Swap(ctx, rec))
			w.clock.Advance(time.Second)
		}, tokensession.ErrExpired, nil},
	} {
		for call, ask := range map[string]func(*tokensession.Manager, context.Context, string) (tokensession.Access, error){
			"VerifyLive": (*tokensession.Manager).VerifyLive, "Introspect": (*tokensession.Manager).Introspect,
		} {
			t.Run(call+"/"+name, func(t *testing.T) {
				w := newWorld(t, tokensession.Config{})
				tokens := w.start()
				other := w.other(tokensession.Config{})
				c.do(w, tokens)
				access, err := ask(other, ctx, tokens.AccessToken)
				_, after := other.Verify(tokens.AccessToken)
				if c.want == nil {
					require.NoError(t, err)
					require.Equal(t, tokens.Session.ID, access.SessionID)
				} else {
					require.ErrorIs(t, err, c.want)
					require.Zero(t, access)
				}
				require.ErrorIs(t, after, c.only)
			})
		}
	}
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	w.store.Down(testkit.Load)
	_, err := w.m.VerifyLive(ctx, tokens.AccessToken)
	requireUnavailableFor(t, err, testkit.ErrDown)
	_, err = w.m.Introspect(ctx, tokens.AccessToken)
	requireUnavailableFor(t, err, testkit.ErrDown)
	for _, token := range []string{"x" + tokens.AccessToken, tokens.AccessToken[:len(tokens.AccessToken)-4] + "AAAA", tokens.RefreshToken} {
		_, err = w.m.VerifyLive(ctx, token)
		require.ErrorIs(t, err, tokensession.ErrInvalidToken)
		_, err = w.m.Introspect(ctx, token)
		require.ErrorIs(t, err, tokensession.ErrInvalidToken)
	}
}

// A grant may name another service. Its tokens let nobody in here; but the session is ours, to be
// asked about and ended.
func TestIntrospect_ofATokenForAnotherAudience(t *testing.T) {
	ctx := context.Background()
	w := newWorld(t, tokensession.Config{
		Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
			return tokensession.Grant{Audience: []string{"https://billing.example"}}, nil
		},
	})
	tokens := w.start()
	for range 2 { // the second time, it is known
		access, err := w.m.Introspect(ctx, tokens.AccessToken)
		require.NoError(t, err)
		require.Equal(t, tokens.Session.ID, access.SessionID)
		_, err = w.m.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrInvalidToken)
		_, err = w.m.VerifyLive(ctx, tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrInvalidToken)
	}
	id, err := w.m.SessionID(tokens.AccessToken)
	require.NoError(t, err)
	require.Equal(t, tokens.Session.ID, id)
	require.NoError(t, w.m.RevokeToken(ctx, tokens.AccessToken))
	require.ErrorIs(t, w.refreshError(tokens.RefreshToken), tokensession.ErrRevoked)
	_, err = w.m.Introspect(ctx, tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)

	tokens = w.start()
	w.clock.Advance(15 * time.Minute)
	_, err = w.m.Introspect(ctx, tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrExpired)
	_, err = w.m.Verify(tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrInvalidToken)
}

// A key that was removed says nothing any more, not even of tokens that are for somebody else.
func TestIntrospect_refusesWhatARetiredKeySigned(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	next, err := tokensession.GenerateKey()
	require.NoError(t, err)
	tokens := w.start()
	require.NoError(t, w.signer.Rotate(next, w.clock.Now().Add(-time.Hour)))
	w.clock.Advance(time.Minute)
	_, err = w.m.Introspect(context.Background(), tokens.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrInvalidToken)
}

func TestLive_isVerifyLiveForAnAccess(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	access, err := w.m.Verify(tokens.AccessToken)
	require.NoError(t, err)
	require.NoError(t, w.m.Live(t.Context(), access))
	require.NoError(t, w.m.Revoke(t.Context(), tokens.Session.ID))
	require.ErrorIs(t, w.m.Live(t.Context(), access), tokensession.ErrRevoked)
	require.ErrorIs(t, w.m.Live(t.Context(), tokensession.Access{}), tokensession.ErrRevoked)
}

package keyring_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

func TestRotate_makesTheNextKeyBeforeItsTime(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	w.clock.Advance(day)
	require.NoError(t, a.Rotate(context.Background()))
	ids := w.storedIDs()
	require.Len(t, ids, 2)
	require.Equal(t, ids, a.published(), "at once")
	b.update()
	require.Equal(t, ids, b.published())
	require.Equal(t, ids[0], a.signsWith())
	w.clock.Advance(2 * ahead)
	require.Equal(t, ids[1], a.signsWith())
	require.Equal(t, ids[1], b.signsWith())

	// Twice at once: they begin to sign one after the other.
	require.NoError(t, a.Rotate(context.Background()))
	require.NoError(t, b.Rotate(context.Background()))
	keys := w.stored()
	require.Len(t, keys, 4)
	require.True(t, keys[3].SignFrom.After(keys[2].SignFrom))
	a.update()
	require.Equal(t, a.published(), b.published())
}

// requireRefused wants the instance to refuse a token of a key that was retired.
func requireRefused(t *testing.T, i *instance, token string) {
	t.Helper()
	_, err := i.manager.Verify(token)
	require.ErrorIs(t, err, tokensession.ErrInvalidToken)
}

func TestRetire_ofTheOnlyKey(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	leaked, kid := a.token()
	tokens, err := a.manager.Start(context.Background(), "bob")
	require.NoError(t, err)
	require.NoError(t, a.Retire(context.Background(), kid))
	ids := w.storedIDs()
	require.Len(t, ids, 1)
	require.NotEqual(t, kid, ids[0])
	requireRefused(t, a, leaked)
	require.Equal(t, ids[0], a.signsWith(), "there is nothing else to sign with")
	_, err = b.manager.Verify(leaked)
	require.NoError(t, err, "b has not looked yet")
	b.update()
	requireRefused(t, b, leaked)
	require.Equal(t, ids, b.published())
	require.Equal(t, ids[0], b.signsWith())
	requireRefused(t, w.start(), leaked)
	_, err = a.manager.Refresh(context.Background(), tokens.RefreshToken)
	require.NoError(t, err, "nobody is logged out")
	require.ErrorContains(t, a.Retire(context.Background(), kid), "there is no key")
	w.clock.Advance(every)
	a.update()
	require.Len(t, w.stored(), 2, "the chain goes on")
}

func TestRetire_ofTheKeyThatSignsWhereTheNextIsThere(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	require.NoError(t, a.Rotate(context.Background()))
	b.update()
	leaked, kid := b.token()
	next := w.storedIDs()[1]
	require.NoError(t, b.Retire(context.Background(), kid))
	require.Equal(t, []string{next}, w.storedIDs(), "no third one is made")
	a.update()
	for _, i := range []*instance{a, b, w.start()} {
		requireRefused(t, i, leaked)
		require.Equal(t, next, i.signsWith())
	}
}

func TestRetire_ofTheKeyThatIsToSignNext(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	require.NoError(t, a.Rotate(context.Background()))
	b.update()
	ids := w.storedIDs()
	w.clock.Advance(ahead)
	require.NoError(t, a.Retire(context.Background(), ids[1]))
	b.update()
	keys := w.stored()
	require.Len(t, keys, 2)
	for _, i := range []*instance{a, b, w.start()} {
		require.Equal(t, []string{ids[0], keys[1].ID}, i.published())
		require.Equal(t, ids[0], i.signsWith(), "verifiers may not know the new one")
	}
	w.clock.Set(keys[1].SignFrom)
	for _, i := range []*instance{a, b, w.start()} {
		require.Equal(t, keys[1].ID, i.signsWith())
	}
}

// The key before the last leaked, whose tokens may still be out. An instance that has never seen
// the key between the two hears of it, too.
func TestRetire_ofAKeyThatNoLongerSigns(t *testing.T) {
	for name, between := range map[string]bool{"with its successor": false, "whose successor was retired before": true} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			a := w.start()
			leaked, kid := a.token()
			require.NoError(t, a.Rotate(context.Background()))
			w.clock.Advance(2 * ahead)
			if between {
				require.NoError(t, a.Retire(context.Background(), w.storedIDs()[1]))
			}
			b := w.start()
			signing := w.storedIDs()[1]
			require.NoError(t, a.Retire(context.Background(), kid))
			b.update()
			require.Equal(t, []string{signing}, w.storedIDs())
			for _, i := range []*instance{a, b} {
				requireRefused(t, i, leaked)
				require.Equal(t, []string{signing}, i.published())
			}
		})
	}
}

func TestByHand_saysWhatFailed(t *testing.T) {
	w := newWorld(t)
	a := w.start()
	w.store.setDown(errDown)
	for what, call := range map[string]func(context.Context) error{
		"keyring: Rotate: ": a.Rotate, "keyring: Reseal: ": a.Reseal,
		"keyring: Retire: ": func(ctx context.Context) error { return a.Retire(ctx, w.storedIDs()[0]) },
	} {
		err := call(context.Background())
		require.ErrorIs(t, err, errDown)
		require.ErrorContains(t, err, what)
	}
	require.Len(t, w.stored(), 1)
	w.store.setDown(nil)
	require.ErrorContains(t, a.Retire(context.Background(), "unknown"), `there is no key "unknown"`)
	require.Len(t, w.stored(), 1, "and no successor was made for it")
}

// Two operators retire the same key.
func TestRetire_twiceAtOnce(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	kid := w.storedIDs()[0]
	errs := make(chan error, 2)
	for _, i := range []*instance{a, b} {
		go func() { errs <- i.Retire(context.Background(), kid) }()
	}
	for range 2 {
		if err := <-errs; err != nil {
			require.ErrorContains(t, err, "there is no key", "the other one was faster")
		}
	}
	a.update()
	b.update()
	require.NotContains(t, w.storedIDs(), kid)
	require.Len(t, w.stored(), 1)
	require.Equal(t, a.published(), b.published())
	w.clock.Advance(time.Hour)
	require.Equal(t, w.storedIDs()[0], a.signsWith())
}

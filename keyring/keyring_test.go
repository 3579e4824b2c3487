package keyring_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession/keyring"
)

func TestOpen_theFirstMakesTheKeyAndOthersFindIt(t *testing.T) {
	w := newWorld(t)
	a := w.start()
	require.Len(t, w.stored(), 1)
	key := w.stored()[0]
	require.Empty(t, key.Predecessor)
	require.Equal(t, "EdDSA", key.Algorithm)
	now := w.clock.Now().Truncate(time.Microsecond)
	require.Equal(t, now, key.MadeAt)
	require.Equal(t, now, key.SignFrom, "there is nothing else to sign with")

	b := w.start()
	require.Len(t, w.stored(), 1)
	token, kid := a.token()
	require.Equal(t, key.ID, kid)
	_, err := b.manager.Verify(token)
	require.NoError(t, err)
	require.Equal(t, a.Signer().JWKS(), b.Signer().JWKS())
}

func TestOpen_makesKeysOfEachAlgorithm(t *testing.T) {
	for _, algorithm := range []string{"EdDSA", "ES256", "ES384", "ES512", "RS256"} {
		w := newWorld(t)
		cfg := w.config(0)
		cfg.Algorithm = algorithm
		token, _ := w.open(cfg).token()
		require.Equal(t, algorithm, w.stored()[0].Algorithm)
		require.Contains(t, string(w.open(cfg).Signer().JWKS()), `"alg":"`+algorithm+`"`)
		_, err := w.open(cfg).manager.Verify(token)
		require.NoError(t, err, algorithm)
	}
}

// Fifty instances that start at once make one key, and so do fifty that wake up at the same second,
// whatever their clocks say.
func TestKeyring_fiftyInstancesMakeOneKey(t *testing.T) {
	w := newWorld(t)
	instances := make([]*instance, 50)
	all := func(f func(i int)) {
		w.store.meet(len(instances))
		var running sync.WaitGroup
		for i := range instances {
			running.Go(func() { f(i) })
		}
		running.Wait()
	}
	all(func(i int) { instances[i] = w.open(w.config(time.Duration(i-25) * day)) })
	require.Len(t, w.stored(), 1)
	for _, i := range instances {
		require.Equal(t, w.storedIDs(), i.published(), "and none that only one instance has")
	}
	for n := range 5 {
		w.clock.Advance(every + 50*day)
		all(func(i int) { instances[i].update() })
		ids := w.storedIDs()
		last := w.stored()[len(ids)-1]
		require.Equal(t, n+2, w.store.adds-w.store.refused, "one more, and one only")
		for _, i := range instances {
			i.update()
			require.Contains(t, i.published(), last.ID)
		}
	}
	require.GreaterOrEqual(t, w.store.refused, 2*49, "all wanted to make the first two; later, some dropped one first")
}

// A rotation from beginning to end, on two instances.
func TestKeyring_publishesThenSignsThenDrops(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(0)
	cfg.Access.Leeway = 3 * time.Second
	a, b := w.open(cfg), w.open(cfg)
	began := w.clock.Now().Truncate(time.Microsecond)
	first := w.stored()[0].ID

	w.clock.Set(began.Add(every - 2*ahead - time.Microsecond))
	a.update()
	require.Len(t, w.stored(), 1, "not before its time")
	w.clock.Set(began.Add(every - 2*ahead))
	a.update()
	require.Len(t, w.stored(), 2)
	next := w.stored()[1]
	require.Equal(t, first, next.Predecessor)
	require.Equal(t, began.Add(every), next.SignFrom)
	require.Equal(t, []string{first, next.ID}, a.published())
	require.Equal(t, []string{first}, b.published())
	b.update()
	require.Equal(t, []string{first, next.ID}, b.published())
	require.Len(t, w.stored(), 2, "one of them made it")

	w.clock.Set(next.SignFrom.Add(-time.Microsecond))
	for _, i := range []*instance{a, b} {
		require.Equal(t, first, i.signsWith())
	}
	w.clock.Set(next.SignFrom)
	for _, i := range []*instance{a, b, w.open(cfg)} {
		require.Equal(t, next.ID, i.signsWith(), "all at the same moment")
	}

	dropped := next.SignFrom.Add(ahead + day + 3*time.Second)
	w.clock.Set(dropped.Add(-time.Microsecond))
	a.update()
	for _, i := range []*instance{a, b, w.open(cfg)} {
		require.Equal(t, []string{first, next.ID}, i.published(), "another process may have made tokens for a day")
	}
	w.clock.Set(dropped)
	a.update()
	require.Equal(t, []string{next.ID}, w.storedIDs())
	b.update()
	for _, i := range []*instance{a, b, w.open(cfg)} {
		require.Equal(t, []string{next.ID}, i.published())
	}
}

// All instances were down for long. The old key goes on until verifiers know the new one.
func TestOpen_afterALongRestPublishesBeforeItSigns(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.clock.Advance(3 * every)
	a := w.start()
	ids := w.storedIDs()
	require.Len(t, ids, 2, "one, not one for each period that was missed")
	require.Equal(t, ids, a.published())
	require.Equal(t, ids[0], a.signsWith())
	w.clock.Advance(2*ahead - time.Microsecond)
	require.Equal(t, ids[0], a.signsWith())
	w.clock.Advance(time.Microsecond)
	require.Equal(t, ids[1], a.signsWith())
}

func TestKeyring_goesOverToAnotherAlgorithm(t *testing.T) {
	w := newWorld(t)
	w.start()
	cfg := w.config(0)
	cfg.Algorithm = "ES256"
	b := w.open(cfg)
	require.Contains(t, string(b.Signer().JWKS()), "EdDSA")
	w.clock.Advance(every)
	b.update()
	w.clock.Advance(2 * ahead)
	token, kid := b.token()
	require.Equal(t, w.stored()[1].ID, kid)
	require.Equal(t, "ES256", w.stored()[1].Algorithm)
	a := w.start()
	_, err := a.manager.Verify(token)
	require.NoError(t, err, "an instance whose Config names another algorithm can use it")
}

// Run does it all by itself. The bubble's clock is everybody's.
func TestRun_rotatesAndEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		cfg := w.config(0)
		cfg.Access.Now, cfg.Every = nil, 2*day
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 3)
		var instances []*instance
		for range 3 {
			i := w.open(cfg)
			instances = append(instances, i)
			go func() { ended <- i.Run(ctx) }()
		}
		first := instances[0].signsWith()
		time.Sleep(2*day - 2*ahead + 30*time.Second)
		for _, i := range instances {
			require.Len(t, i.published(), 2)
			require.Equal(t, first, i.signsWith())
		}
		time.Sleep(2 * ahead)
		for _, i := range instances {
			require.Equal(t, w.stored()[1].ID, i.signsWith())
		}
		time.Sleep(day + 2*ahead)
		require.Len(t, w.stored(), 1)
		for _, i := range instances {
			require.NotContains(t, i.published(), first)
		}
		cancel()
		for range instances {
			require.NoError(t, <-ended)
		}
	})
}

// What Run cannot do is told each time, and it goes on. A store that hangs does not end it.
func TestRun_tellsWhatItCannotDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		told := make(chan error, 1000)
		cfg := w.config(0)
		cfg.Access.Now = nil
		cfg.OnError = func(err error) { told <- err }
		hanging := &hangingStore{store: w.store}
		ring, err := keyring.Open(context.Background(), hanging, cfg)
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		ended := make(chan error, 1)
		go func() { ended <- ring.Run(ctx) }()
		w.store.setDown(errDown)
		time.Sleep(time.Minute)
		synctest.Wait() // for a look at this moment
		require.ErrorIs(t, <-told, errDown)
		require.NotEmpty(t, told)
		w.store.setDown(nil)
		hanging.hang.Lock()
		for len(told) > 0 {
			<-told
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		require.ErrorIs(t, <-told, context.DeadlineExceeded)
		hanging.hang.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		for len(told) > 0 {
			<-told
		}
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Empty(t, told, "all is well again")
		cancel()
		require.NoError(t, <-ended)
	})
}

// A hangingStore answers nothing while hang is locked.
type hangingStore struct {
	*store
	hang sync.Mutex
}

func (s *hangingStore) Keys(ctx context.Context) ([]keyring.SealedKey, error) {
	if s.hang.TryLock() {
		s.hang.Unlock()
		return s.store.Keys(ctx)
	}
	<-ctx.Done()
	return nil, ctx.Err()
}

func TestOpen_refusesABadConfig(t *testing.T) {
	type C = keyring.Config
	seal := func(context.Context, string, []byte) ([]byte, error) { return nil, errors.New("not asked") }
	for name, c := range map[string]struct {
		change func(*C)
		want   []string
	}{
		"no secret":                  {func(c *C) { c.Secret = nil }, []string{"Config.Secret is empty", "tokenkeys secret"}},
		"an empty secret":            {func(c *C) { c.Secret = []byte{} }, []string{"Config.Secret is empty"}},
		"a short secret":             {func(c *C) { c.Secret = secret[:31] }, []string{"Config.Secret of 31 bytes", "32"}},
		"zeros":                      {func(c *C) { c.Secret = make([]byte, 32) }, []string{"random"}},
		"zeros as an old secret":     {func(c *C) { c.OldSecrets = [][]byte{make([]byte, 40)} }, []string{"random"}},
		"a short old secret":         {func(c *C) { c.OldSecrets = [][]byte{other, secret[:31]} }, []string{"OldSecrets[1] of 31 bytes"}},
		"an empty old secret":        {func(c *C) { c.OldSecrets = [][]byte{nil} }, []string{"OldSecrets[0] of 0 bytes"}},
		"Seal alone":                 {func(c *C) { c.Secret, c.Seal = nil, seal }, []string{"Seal and Unseal"}},
		"Unseal alone":               {func(c *C) { c.Secret, c.Unseal = nil, seal }, []string{"Seal and Unseal"}},
		"Seal and Secret":            {func(c *C) { c.Seal, c.Unseal = seal, seal }, []string{"choose one"}},
		"Seal and OldSecrets":        {func(c *C) { c.Secret, c.OldSecrets, c.Seal, c.Unseal = nil, [][]byte{other}, seal, seal }, []string{"choose one"}},
		"no time ahead":              {func(c *C) { c.Ahead = 10*time.Millisecond - 1 }, []string{"Config.Ahead 9.999999ms", "10ms"}},
		"negative Ahead":             {func(c *C) { c.Ahead = -ahead }, []string{"Config.Ahead -1h0m0s"}},
		"Ahead too long":             {func(c *C) { c.Every, c.Ahead = 2*ahead-1, ahead }, []string{"Config.Ahead 1h0m0s", "half of Every"}},
		"negative Every":             {func(c *C) { c.Every = -day }, []string{"Every"}},
		"Every too long":             {func(c *C) { c.Every = 200 * 365 * day }, []string{"Config.Every"}},
		"HMAC":                       {func(c *C) { c.Algorithm = "HS256" }, []string{`Config.Algorithm "HS256"`, "EdDSA"}},
		"PS256, which has no PEM":    {func(c *C) { c.Algorithm = "PS256" }, []string{`Config.Algorithm "PS256"`}},
		"no issuer":                  {func(c *C) { c.Access.Issuer = "" }, []string{"AccessConfig.Issuer"}},
		"a secret that says nothing": {func(c *C) { c.Secret = []byte("                                ") }, []string{"random"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cfg := w.config(0)
			c.change(&cfg)
			ring, err := keyring.Open(context.Background(), w.store, cfg)
			require.Nil(t, ring)
			for _, want := range c.want {
				require.ErrorContains(t, err, want)
			}
			require.NotContains(t, err.Error(), string(secret[:16]))
			require.Empty(t, w.stored(), "nothing was written")
		})
	}
	_, err := keyring.Open(context.Background(), nil, newWorld(t).config(0))
	require.ErrorContains(t, err, "store is nil")
}

// A program's tests have secrets like this one. Only what looks like one forgotten is refused.
func TestOpen_acceptsASecretOfOneLetter(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(0)
	cfg.Secret = bytes.Repeat([]byte("s"), 32)
	cfg.OldSecrets = [][]byte{bytes.Repeat([]byte{1}, 32)}
	_, err := keyring.Open(context.Background(), w.store, cfg)
	require.NoError(t, err)
}

func TestOpen_acceptsShortTimes(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(0)
	cfg.Every = 8 * time.Second // Ahead becomes 2 seconds
	a := w.open(cfg)
	w.clock.Advance(4 * time.Second)
	a.update()
	require.Len(t, w.stored(), 2)
	require.Equal(t, w.stored()[0].SignFrom.Add(8*time.Second), w.stored()[1].SignFrom)
}

func TestConfig_neverPrintsItsSecrets(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(0)
	cfg.OldSecrets = [][]byte{other}
	ring := w.open(cfg).Keyring
	for _, v := range []any{cfg, &cfg, struct{ C any }{cfg}, ring, struct{ R any }{ring}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			printed := fmt.Sprintf(verb, v)
			for _, s := range [][]byte{secret, other} {
				for _, form := range []string{string(s), fmt.Sprintf("%x", s), fmt.Sprintf("%d", s), fmt.Sprintf("%#v", s)} {
					require.NotContains(t, printed, form, verb)
				}
			}
		}
	}
	require.NotContains(t, cfg.LogValue().String(), string(secret))
}

package keyring_test

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/keyring"
)

func TestOpen_saysThatTheStoreIsDown(t *testing.T) {
	w := newWorld(t)
	for range 2 { // without a key and with one
		w.store.setDown(errDown)
		ring, err := keyring.Open(context.Background(), w.store, w.config(0))
		require.Nil(t, ring)
		require.ErrorIs(t, err, errDown)
		require.ErrorContains(t, err, "keyring: Open: the store of the signing keys cannot be read")
		w.store.setDown(nil)
		w.start()
	}
}

// A store that can be read but not written is enough where there are keys.
func TestOpen_onAStoreThatCannotBeWritten(t *testing.T) {
	w := newWorld(t)
	readOnly := errors.New("read-only")
	_, err := keyring.Open(context.Background(), &readOnlyStore{w.store, readOnly}, w.config(0))
	require.ErrorIs(t, err, readOnly)
	require.ErrorContains(t, err, "the first signing key cannot be stored")

	w.start()
	w.clock.Advance(every)
	var told []error
	cfg := w.config(0)
	cfg.OnError = func(err error) { told = append(told, err) }
	ring, err := keyring.Open(context.Background(), &readOnlyStore{w.store, readOnly}, cfg)
	require.NoError(t, err)
	require.Len(t, told, 1)
	require.ErrorIs(t, told[0], readOnly)
	require.ErrorContains(t, told[0], "the next signing key cannot be stored")
	require.NotNil(t, ring.Signer())
}

type readOnlyStore struct {
	*store
	err error
}

func (s *readOnlyStore) AddKey(context.Context, keyring.SealedKey) error { return s.err }

// With keys in memory an outage is nobody's logout: it goes on for as long as the outage does.
func TestKeyring_goesOnWhileTheStoreIsDown(t *testing.T) {
	w := newWorld(t)
	a := w.start()
	w.clock.Advance(every - ahead)
	a.update()
	ids := w.storedIDs()
	require.Len(t, ids, 2)
	w.store.setDown(errDown)
	require.ErrorIs(t, a.Update(context.Background()), errDown)
	token, kid := a.token()
	require.Equal(t, ids[0], kid)
	_, err := a.manager.Verify(token)
	require.NoError(t, err)
	w.clock.Advance(2 * ahead)
	require.ErrorIs(t, a.Update(context.Background()), errDown)
	require.Equal(t, ids[1], a.signsWith(), "the rotation that was under way goes on")
	w.clock.Advance(2 * every)
	require.ErrorIs(t, a.Update(context.Background()), errDown)
	require.Equal(t, ids[1], a.signsWith())
	w.store.setDown(nil)
	a.update()
	require.Equal(t, ids[1], w.storedIDs()[0])
	require.Len(t, w.stored(), 2)
}

func TestOpen_refusesAnotherSecret(t *testing.T) {
	w := newWorld(t)
	w.start()
	before := w.stored()
	w.clock.Advance(2 * every) // the next key is due
	cfg := w.config(0)
	for _, old := range [][][]byte{nil, {[]byte("a third secret, not the right one")}} {
		cfg.Secret, cfg.OldSecrets = other, old
		ring, err := keyring.Open(context.Background(), w.store, cfg)
		require.Nil(t, ring)
		require.ErrorIs(t, err, keyring.ErrSecret)
		require.ErrorContains(t, err, before[0].ID)
		require.Equal(t, before, w.stored(), "it made no key that the others could not open")
	}
	cfg.OldSecrets = [][]byte{secret}
	w.open(cfg)
}

// Two rings in one store: with the same secret they are one, and with two secrets the second one
// says so.
func TestOpen_twoRingsInOneStore(t *testing.T) {
	w := newWorld(t)
	a := w.start()
	cfg := w.config(0)
	cfg.Access.Issuer, cfg.Every, cfg.Algorithm = "https://other.example", 10*day, "RS256"
	b, err := keyring.Open(context.Background(), w.store, cfg)
	require.NoError(t, err)
	require.Equal(t, a.Signer().JWKS(), b.Signer().JWKS())
	token, _ := a.token()
	m, err := tokensession.New(b.Signer(), tokensession.NewMemoryStore(), tokensession.Config{Now: w.clock.Now})
	require.NoError(t, err)
	_, err = m.Verify(token)
	require.ErrorIs(t, err, tokensession.ErrInvalidToken, "of another issuer")
	w.clock.Advance(10 * day)
	require.NoError(t, b.Update(context.Background()))
	a.update()
	require.Equal(t, a.Signer().JWKS(), b.Signer().JWKS(), "the shorter Every rotates for both")

	cfg.Secret = other
	_, err = keyring.Open(context.Background(), w.store, cfg)
	require.ErrorIs(t, err, keyring.ErrSecret)
}

// A later version may make keys that this one cannot use. It says so, and a running instance goes
// on with what it has.
func TestKeyring_aKeyOfAnUnknownAlgorithm(t *testing.T) {
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	require.NoError(t, err)
	der, err := x509.MarshalPKCS8PrivateKey(x25519)
	require.NoError(t, err)
	for name, private := range map[string][]byte{
		"a key that cannot sign": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		"no key":                 []byte("something of a later version"),
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cfg := w.config(0)
			cfg.Secret, cfg.Seal, cfg.Unseal = nil, mask, mask
			a := w.open(cfg)
			first := w.stored()[0]
			unknown, err := mask(context.Background(), "", private)
			require.NoError(t, err)
			next := keyring.SealedKey{
				ID: "of-a-later-version", Predecessor: first.ID, Algorithm: "ML-DSA-65",
				MadeAt: first.MadeAt, SignFrom: first.SignFrom.Add(every), Sealed: unknown,
			}
			require.NoError(t, w.store.AddKey(context.Background(), next))
			w.clock.Advance(3 * every)
			err = a.Update(context.Background())
			require.ErrorContains(t, err, `key of-a-later-version is for "ML-DSA-65", and this version cannot use it`)
			require.NotContains(t, err.Error(), "something of")
			require.Equal(t, first.ID, a.signsWith())
			require.Len(t, w.stored(), 1, "the first one's time is over, and the last one is not ours to replace")
			require.Error(t, a.Update(context.Background()), "it is said each time")
			require.Equal(t, []string{next.ID}, w.storedIDs())
			require.Equal(t, first.ID, a.signsWith())
			_, err = keyring.Open(context.Background(), w.store, cfg)
			require.ErrorContains(t, err, "ML-DSA-65")
		})
	}
}

// mask is Seal and Unseal of a host that does not know what it does, but does change the key.
func mask(_ context.Context, _ string, data []byte) ([]byte, error) {
	out := bytes.Clone(data)
	for i := range out {
		out[i] ^= 0x5a
	}
	return out, nil
}

// Somebody who can write to the store exchanges what is sealed of two keys.
func TestOpen_refusesAnotherKeysSealedForm(t *testing.T) {
	for name, change := range map[string]func(*keyring.Config){
		"with a secret": func(*keyring.Config) {},
		"with Seal":     func(cfg *keyring.Config) { cfg.Secret, cfg.Seal, cfg.Unseal = nil, mask, mask },
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			cfg := w.config(0)
			change(&cfg)
			a := w.open(cfg)
			require.NoError(t, a.Rotate(context.Background()))
			keys := w.stored()
			keys[0].Sealed, keys[1].Sealed = keys[1].Sealed, keys[0].Sealed
			w.restore(keys)
			_, err := keyring.Open(context.Background(), w.store, cfg)
			require.ErrorContains(t, err, keys[0].ID)
		})
	}
}

// lastWeek plays a server up to a rotation, with a backup from before it.
func lastWeek(t *testing.T) (w *world, a *instance, backup []keyring.SealedKey) {
	w = newWorld(t)
	a = w.start()
	backup = w.stored()
	w.clock.Advance(every)
	a.update()
	w.clock.Advance(2*ahead + 3*day)
	a.update()
	require.Len(t, w.stored(), 1)
	require.Equal(t, w.storedIDs()[0], a.signsWith())
	return w, a, backup
}

// An instance that runs puts the newer keys back, and the tokens that are out are good everywhere.
func TestKeyring_aStoreRestoredFromABackupGetsItsKeysBack(t *testing.T) {
	w, a, backup := lastWeek(t)
	newest := w.stored()
	token, _ := a.token()
	w.restore(backup)
	a.update()
	require.Equal(t, newest[0].ID, w.storedIDs()[0])
	require.Len(t, w.stored(), 1, "and the old one, which was dropped, is dropped again")
	b := w.start()
	_, err := b.manager.Verify(token)
	require.NoError(t, err)
	require.Equal(t, a.Signer().JWKS(), b.Signer().JWKS())
}

// Where another instance starts first, with what the backup has, it makes a new key in time before
// that signs, and both agree on it. The running instance's tokens are refused there, which makes
// clients refresh.
func TestKeyring_aStoreRestoredFromABackupWhereAnotherInstanceIsFirst(t *testing.T) {
	w, a, backup := lastWeek(t)
	w.restore(backup)
	b := w.start()
	require.Len(t, w.stored(), 2)
	next := w.stored()[1]
	require.Equal(t, backup[0].ID, next.Predecessor)
	token, kid := a.token()
	a.update()
	require.Equal(t, kid, a.signsWith(), "until the new key's time")
	w.clock.Set(next.SignFrom)
	require.Equal(t, next.ID, a.signsWith())
	require.Equal(t, next.ID, b.signsWith())
	newest, _ := b.token()
	_, err := a.manager.Verify(newest)
	require.NoError(t, err)
	require.NotEmpty(t, token)
	require.Contains(t, a.published(), kid, "for the tokens that are out")
	for range 3 {
		a.update()
		b.update()
	}
	require.Equal(t, next.ID, a.signsWith())
	require.Contains(t, a.published(), kid, "the store's loss is not a retirement")
}

// Nothing was rotated since the backup: nothing happens.
func TestKeyring_aStoreRestoredFromABackupWithAllKeys(t *testing.T) {
	w := newWorld(t)
	a := w.start()
	backup := w.stored()
	w.clock.Advance(7 * day)
	w.restore(backup)
	a.update()
	require.Equal(t, backup, w.stored())
	require.Equal(t, backup[0].ID, a.signsWith())
}

// A key that leaked and was retired is in the backup. Whoever knows of the retirement carries it
// out again.
func TestKeyring_aRetiredKeyComesBackWithABackup(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	leaked, _ := a.token()
	backup := w.stored()
	require.NoError(t, a.Retire(context.Background(), backup[0].ID))
	after := w.storedIDs()
	b.update()
	w.restore(backup)
	b.update()
	require.Equal(t, after, w.storedIDs())
	for _, i := range []*instance{a, b, w.start()} {
		i.update()
		_, err := i.manager.Verify(leaked)
		require.ErrorIs(t, err, tokensession.ErrInvalidToken)
		require.Equal(t, after[0], i.signsWith())
	}
}

// The table was emptied, or Redis flushed.
func TestKeyring_anEmptiedStoreGetsItsKeysBack(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	w.clock.Advance(every - ahead)
	a.update()
	b.update()
	ids := w.storedIDs()
	w.restore(nil)
	a.update()
	require.Equal(t, ids, w.storedIDs())
	require.Empty(t, w.stored()[0].Predecessor)
	b.update()
	c := w.start()
	for _, i := range []*instance{a, b, c} {
		require.Equal(t, ids, i.published())
	}
	w.clock.Advance(2*ahead + day)
	a.update()
	w.restore(nil)
	a.update()
	require.Equal(t, ids, w.storedIDs())
}

// An instance starts on the emptied store before one that runs has looked. There are two rings for
// a moment, and one a moment later.
func TestKeyring_anEmptiedStoreWhereAnotherInstanceIsFirst(t *testing.T) {
	w := newWorld(t)
	a := w.start()
	old := w.storedIDs()[0]
	w.clock.Advance(10 * day)
	w.restore(nil)
	b := w.start()
	newest := w.storedIDs()[0]
	a.update()
	require.Equal(t, []string{newest}, w.storedIDs())
	require.Equal(t, newest, a.signsWith())
	require.Equal(t, newest, b.signsWith())
	require.Contains(t, a.published(), old)
}

// A failover lost the newest key before another instance had seen it.
func TestKeyring_aFailoverThatLostTheNewestKey(t *testing.T) {
	w := newWorld(t)
	a, b := w.start(), w.start()
	before := w.stored()
	w.clock.Advance(every - 2*ahead)
	a.update()
	lost := w.storedIDs()[1]
	w.restore(before)
	b.update() // it is due for b, too, which knows nothing of a's
	require.Len(t, w.stored(), 2)
	newest := w.stored()[1]
	require.NotEqual(t, lost, newest.ID)
	a.update()
	require.Contains(t, a.published(), newest.ID)
	w.clock.Set(newest.SignFrom)
	for range 2 {
		a.update()
		b.update()
	}
	require.Equal(t, newest.ID, b.signsWith())
	require.Equal(t, newest.ID, a.signsWith(), "the lost one, whose time came at the same moment, never signs")
}

// Every instance has another clock, up to an hour off. No key signs anywhere before all others know
// it, and before a service that fetches the JWKS every half hour does. None is dropped while an
// instance signs with it.
func TestKeyring_clocksAnHourOff(t *testing.T) {
	w := newWorld(t)
	var instances []*instance
	for _, skew := range []time.Duration{-ahead, -ahead / 2, 0} { // they differ by Ahead
		cfg := w.config(skew)
		cfg.Every = 2 * day
		instances = append(instances, w.open(cfg))
	}
	var fetched []string
	signed := map[string]bool{}
	for step := range 6 * 24 * 20 {
		w.clock.Advance(3 * time.Minute)
		instances[step%3].update()
		if step%10 == 0 {
			fetched = instances[step/10%3].published()
		}
		for _, i := range instances {
			kid := i.signsWith()
			signed[kid] = true
			require.Contains(t, fetched, kid, "step %d: a service does not know the key", step)
			for _, j := range instances {
				require.Contains(t, j.published(), kid, "step %d", step)
			}
		}
	}
	require.Len(t, signed, 4)
}

// The secret was changed on one instance only. The others cannot open the keys that it makes, and
// say so long before these sign. What they have goes on. When they have got the secret, all is
// well.
func TestKeyring_theSecretChangedOnOnlyOneInstance(t *testing.T) {
	w := newWorld(t)
	b := w.start()
	cfg := w.config(0)
	cfg.Secret, cfg.OldSecrets = other, [][]byte{secret}
	a := w.open(cfg)
	w.clock.Advance(every - 2*ahead)
	a.update()
	ids := w.storedIDs()
	require.Len(t, ids, 2)
	for range 3 {
		err := b.Update(context.Background())
		require.ErrorIs(t, err, keyring.ErrSecret)
		require.ErrorContains(t, err, ids[1])
		require.Equal(t, ids[0], b.signsWith())
		require.Equal(t, ids, w.storedIDs(), "it makes no other key in its place")
	}
	token, _ := a.token()
	_, err := b.manager.Verify(token)
	require.NoError(t, err, "until the new key signs")
	_, err = keyring.Open(context.Background(), w.store, w.config(0))
	require.ErrorIs(t, err, keyring.ErrSecret, "one of the keys is not enough to start with")

	cfg = w.config(0)
	cfg.OldSecrets = [][]byte{other}
	b = w.open(cfg)
	w.clock.Advance(2 * ahead)
	token, kid := a.token()
	require.Equal(t, ids[1], kid)
	_, err = b.manager.Verify(token)
	require.NoError(t, err)
}

// Seal cannot be reached for a while: the next key waits.
func TestKeyring_aKMSThatIsDown(t *testing.T) {
	w := newWorld(t)
	down := errors.New("KMS: throttled")
	var failing bool
	cfg := w.config(0)
	cfg.Secret = nil
	cfg.Seal = func(ctx context.Context, id string, data []byte) ([]byte, error) {
		if failing {
			return nil, down
		}
		return mask(ctx, id, data)
	}
	cfg.Unseal = cfg.Seal
	a := w.open(cfg)
	b := w.open(cfg)
	failing = true
	w.clock.Advance(every - 2*ahead)
	require.ErrorIs(t, a.Update(context.Background()), down)
	require.Len(t, w.stored(), 1)
	_, err := keyring.Open(context.Background(), w.store, cfg)
	require.ErrorIs(t, err, down)
	failing = false
	a.update()
	failing = true
	require.ErrorIs(t, b.Update(context.Background()), down)
	failing = false
	b.update()
	require.Equal(t, a.Signer().JWKS(), b.Signer().JWKS())
}

// The reply to AddKey was lost.
func TestKeyring_aLostReply(t *testing.T) {
	w := newWorld(t)
	lossy := &lossyStore{store: w.store}
	cfg := w.config(0)
	_, err := keyring.Open(context.Background(), lossy, cfg)
	require.ErrorIs(t, err, errDown)
	ring, err := keyring.Open(context.Background(), lossy, cfg)
	require.NoError(t, err)
	require.Len(t, w.stored(), 1)
	w.clock.Advance(every)
	require.ErrorIs(t, ring.Update(context.Background()), errDown)
	require.NoError(t, ring.Update(context.Background()))
	require.Len(t, w.stored(), 2)
}

// A lossyStore carries out AddKey and loses the reply.
type lossyStore struct{ *store }

func (s *lossyStore) AddKey(ctx context.Context, key keyring.SealedKey) error {
	return errors.Join(s.store.AddKey(ctx, key), errDown)
}

// A store that breaks the contract is found out, and does not hang the instance.
func TestUpdate_endsWithAStoreThatSaysErrExistsAlways(t *testing.T) {
	w := newWorld(t)
	w.start()
	w.clock.Advance(every)
	cfg := w.config(0)
	var told error
	cfg.OnError = func(err error) { told = err }
	_, err := keyring.Open(context.Background(), &readOnlyStore{w.store, keyring.ErrExists}, cfg)
	require.NoError(t, err)
	require.ErrorContains(t, told, "not in step after 100 changes")
}

package manager_test

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/pem"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/keyring"
)

var ringSecret = []byte("a secret that is not in the store")

func ringConfig(now func() time.Time) keyring.Config {
	return keyring.Config{Secret: ringSecret, Access: tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"}, Now: now,
	}}
}

func openRing(t *testing.T, p place, cfg keyring.Config) *keyring.Keyring {
	t.Helper()
	ring, err := keyring.Open(context.Background(), p.open(t, access{}).(keyring.Store), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return ring
}

// TestDumpHoldsNoSigningKey: whoever reads all that the store holds cannot sign a token. With the
// secret he could, which shows that the key was looked for in its right form.
func TestDumpHoldsNoSigningKey(t *testing.T) {
	eachBackend(t, func(t *testing.T, p place) {
		store := p.open(t, access{})
		for _, algorithm := range []string{"EdDSA", "RS256"} { // a ring is one chain, of any algorithms
			cfg := ringConfig(nil)
			cfg.Algorithm = algorithm
			ring := openRing(t, p, cfg)
			if err := ring.Rotate(t.Context()); err != nil {
				t.Fatal(err)
			}
			someSessions(t, newManager(t, store, tokensession.Config{}))
		}
		keys, err := store.(keyring.Store).Keys(t.Context())
		if err != nil || len(keys) != 3 {
			t.Fatalf("%d keys, %v; want 3", len(keys), err)
		}
		dump := p.dump(t)
		for _, k := range keys {
			if !contains(dump, k.Sealed) || !strings.Contains(string(dump), k.ID) {
				t.Fatal("the dump does not have the sealed keys")
			}
			private := unsealed(t, k)
			block, _ := pem.Decode(private)
			for what, secret := range map[string][]byte{
				"PEM": private, "DER": block.Bytes, "last 32 bytes of the DER": block.Bytes[len(block.Bytes)-32:],
				"secret": ringSecret,
			} {
				if contains(dump, secret) {
					t.Errorf("the dump contains the %s of a %s key", what, k.Algorithm)
				}
			}
		}
		other := ringConfig(nil)
		other.Secret = []byte("the guess of somebody who has the store only")
		if _, err := keyring.Open(t.Context(), store.(keyring.Store), other); !errors.Is(err, keyring.ErrSecret) {
			t.Errorf("another secret: %v, want ErrSecret", err)
		}
	})
}

// unsealed opens a key as docs/keys.md tells.
func unsealed(t *testing.T, k keyring.SealedKey) []byte {
	t.Helper()
	const purpose = "tokensession keyring signing key v1"
	key, err := hkdf.Key(sha256.New, ringSecret, nil, purpose, 32)
	if err != nil {
		t.Fatal(err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	private, err := aead.Open(nil, k.Sealed[1:13], k.Sealed[13:], []byte(purpose+"\x00"+k.ID))
	if err != nil {
		t.Fatal(err)
	}
	return private
}

// TestKeyring_fiftyProcessesMakeOneKey: each has a connection of its own, and all start at once.
// Half a year later they wake up at once.
func TestKeyring_fiftyProcessesMakeOneKey(t *testing.T) {
	eachBackend(t, func(t *testing.T, p place) {
		clock := newClock()
		stores := make([]keyring.Store, 50)
		for i := range stores {
			stores[i] = p.open(t, access{pool: 1}).(keyring.Store)
		}
		rings := make([]*keyring.Keyring, len(stores))
		atOnce := func(f func(i int) error) {
			t.Helper()
			errs := make([]error, len(stores))
			var all sync.WaitGroup
			for i := range stores {
				all.Go(func() { errs[i] = f(i) })
			}
			all.Wait()
			if err := errors.Join(errs...); err != nil {
				t.Fatal(err)
			}
		}
		wantKeys := func(n int) {
			t.Helper()
			keys, err := stores[0].Keys(t.Context())
			if err != nil || len(keys) != n {
				t.Fatalf("%d keys, %v; want %d", len(keys), err, n)
			}
			for _, ring := range rings {
				for _, k := range keys {
					if !strings.Contains(string(ring.Signer().JWKS()), k.ID) {
						t.Fatalf("an instance does not publish key %s", k.ID)
					}
				}
			}
		}
		atOnce(func(i int) (err error) {
			rings[i], err = keyring.Open(t.Context(), stores[i], ringConfig(clock.Now))
			return err
		})
		wantKeys(1)
		clock.Advance(180 * 24 * time.Hour)
		update := func(i int) error { return rings[i].Update(t.Context()) }
		atOnce(update)
		wantKeys(2)
	}, redisCluster) // one key of Redis, which one node has: as on a single server
}

// TestKeyring_whileTheServerIsDown: a start says that it is down. What runs goes on, and is in step
// again when the server is back, which has kept the keys.
func TestKeyring_whileTheServerIsDown(t *testing.T) {
	eachServer(t, func(t *testing.T, p place, s server) {
		clock := newClock()
		ring := openRing(t, p, ringConfig(clock.Now))
		before := string(ring.Signer().JWKS())
		m, err := tokensession.New(ring.Signer(), tokensession.NewMemoryStore(), tokensession.Config{Now: clock.Now})
		if err != nil {
			t.Fatal(err)
		}
		s.Stop()
		down := p.open(t, access{wait: time.Second})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if _, err := keyring.Open(ctx, down.(keyring.Store), ringConfig(clock.Now)); err == nil ||
			!strings.Contains(err.Error(), "the store of the signing keys cannot be read") {
			t.Errorf("Open: %v, want an error that says what is down", err)
		}
		clock.Advance(100 * 24 * time.Hour)
		if err := ring.Update(ctx); err == nil {
			t.Error("Update while the server is down: no error")
		}
		tokens, err := m.Start(t.Context(), "alice")
		if err == nil {
			_, err = m.Verify(tokens.AccessToken)
		}
		if err != nil {
			t.Errorf("while the server is down: %v", err)
		}
		s.Start()
		if again := string(openRing(t, p, ringConfig(nil)).Signer().JWKS()); again != before {
			t.Errorf("after the restart the keys are %s, want %s", again, before)
		}
		for range 100 { // connections of before the restart may still be in the pool
			if err = ring.Update(t.Context()); err == nil {
				break
			}
		}
		if err != nil {
			t.Errorf("Update after the restart: %v", err)
		}
		if keys, err := p.open(t, access{}).(keyring.Store).Keys(t.Context()); err != nil || len(keys) != 2 {
			t.Errorf("%d keys, %v; want the one that was overdue, too", len(keys), err)
		}
	})
}

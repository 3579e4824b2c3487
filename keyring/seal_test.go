package keyring_test

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/keyring"
)

// unseal opens what a ring has sealed as docs/keys.md tells, with nothing but the standard library.
func unseal(secret []byte, id string, sealed []byte) ([]byte, error) {
	const purpose = "tokensession keyring signing key v1"
	key, err := hkdf.Key(sha256.New, secret, nil, purpose, 32)
	if err != nil {
		return nil, err
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		return nil, err
	}
	if sealed[0] != 1 {
		return nil, fmt.Errorf("format %d", sealed[0])
	}
	return aead.Open(nil, sealed[1:13], sealed[13:], []byte(purpose+"\x00"+id))
}

// What the store has is of no use without the secret, and with it gives the key.
func TestKeyring_storesSealedKeysOnly(t *testing.T) {
	for _, algorithm := range []string{"EdDSA", "ES256", "RS256"} {
		w := newWorld(t)
		cfg := w.config(0)
		cfg.Algorithm = algorithm
		a := w.open(cfg)
		require.NoError(t, a.Rotate(context.Background()))
		dump := fmt.Appendf(nil, "%+v", w.stored())
		for _, k := range w.stored() {
			dump = append(dump, k.Sealed...)
		}
		for _, k := range w.stored() {
			private, err := unseal(secret, k.ID, k.Sealed)
			require.NoError(t, err, "the form that the documents tell")
			key, err := tokensession.ParseKeyPEM(private)
			require.NoError(t, err)
			require.Equal(t, k.ID, key.ID())
			block, _ := pem.Decode(private)
			for _, part := range [][]byte{private, block.Bytes, block.Bytes[len(block.Bytes)-32:]} {
				for _, form := range []string{
					string(part), hex.EncodeToString(part), base64.StdEncoding.EncodeToString(part),
					base64.RawURLEncoding.EncodeToString(part), fmt.Sprint(part),
				} {
					require.False(t, bytes.Contains(dump, []byte(form)), "the store has the private key")
				}
			}
			for what, try := range map[string]func() ([]byte, error){
				"with another secret":        func() ([]byte, error) { return unseal(other, k.ID, k.Sealed) },
				"without a secret":           func() ([]byte, error) { return unseal(nil, k.ID, k.Sealed) },
				"with the id as the secret":  func() ([]byte, error) { return unseal([]byte(k.ID), k.ID, k.Sealed) },
				"as another key":             func() ([]byte, error) { return unseal(secret, w.stored()[0].ID+"x", k.Sealed) },
				"with a secret that is like": func() ([]byte, error) { return unseal(append(bytes.Clone(secret), 0), k.ID, k.Sealed) },
			} {
				_, err := try()
				require.Error(t, err, what)
			}
		}
	}
}

// No bit of it can be changed, and nothing is ever sealed twice alike.
func TestOpen_refusesWhatWasChanged(t *testing.T) {
	w := newWorld(t)
	w.start()
	sound := w.stored()
	for bit := range 8 * len(sound[0].Sealed) {
		changed := []keyring.SealedKey{sound[0]}
		changed[0].Sealed = bytes.Clone(sound[0].Sealed)
		changed[0].Sealed[bit/8] ^= 1 << (bit % 8)
		w.restore(changed)
		_, err := keyring.Open(context.Background(), w.store, w.config(0))
		require.ErrorContains(t, err, sound[0].ID, "bit %d", bit)
	}
	for n := range len(sound[0].Sealed) {
		changed := []keyring.SealedKey{sound[0]}
		changed[0].Sealed = sound[0].Sealed[:n]
		w.restore(changed)
		_, err := keyring.Open(context.Background(), w.store, w.config(0))
		require.ErrorContains(t, err, sound[0].ID, "cut to %d bytes", n)
	}
	w.restore(sound)
	a := w.start()
	require.NoError(t, a.Reseal(context.Background()))
	require.NotEqual(t, sound[0].Sealed, w.stored()[0].Sealed)
}

func TestOpen_sealsWithAKMS(t *testing.T) {
	w := newWorld(t)
	var ids []string
	cfg := w.config(0)
	cfg.Secret = nil
	cfg.Seal = func(ctx context.Context, id string, data []byte) ([]byte, error) {
		ids = append(ids, id)
		return mask(ctx, id, data)
	}
	cfg.Unseal = mask
	a := w.open(cfg)
	require.Equal(t, w.storedIDs(), ids)
	require.NotContains(t, string(w.stored()[0].Sealed), "PRIVATE KEY")
	token, _ := a.token()
	_, err := w.open(cfg).manager.Verify(token)
	require.NoError(t, err)
}

func TestOpen_refusesASealThatDoesNothing(t *testing.T) {
	w := newWorld(t)
	cfg := w.config(0)
	cfg.Secret = nil
	cfg.Seal = func(_ context.Context, _ string, data []byte) ([]byte, error) {
		return append([]byte("KMS:"), data...), nil
	}
	cfg.Unseal = func(_ context.Context, _ string, data []byte) ([]byte, error) { return data[4:], nil }
	_, err := keyring.Open(context.Background(), w.store, cfg)
	require.ErrorContains(t, err, "Config.Seal returned it as it was")
	require.Empty(t, w.stored())
}

// The steps that Config.OldSecrets tells. No instance refuses another's tokens in any of them.
func TestConfig_theSecretIsChangedStepByStep(t *testing.T) {
	w := newWorld(t)
	third := []byte("a third secret, for the leftovers")
	steps := []struct {
		secret []byte
		old    [][]byte
	}{
		{secret, nil}, {secret, [][]byte{other}}, {other, [][]byte{secret}}, {other, [][]byte{secret}}, {other, nil},
	}
	config := func(step int) keyring.Config {
		cfg := w.config(0)
		cfg.Secret, cfg.OldSecrets = steps[step].secret, steps[step].old
		return cfg
	}
	a, b := w.open(config(0)), w.open(config(0))
	for step := 1; step < len(steps); step++ {
		if step == 4 {
			require.NoError(t, a.Reseal(context.Background()))
		}
		for _, restarted := range []**instance{&a, &b} { // one after the other, and a key is made in between
			*restarted = w.open(config(step))
			require.NoError(t, (*restarted).Rotate(context.Background()))
			w.clock.Advance(2 * ahead)
			for range 2 {
				a.update()
				b.update()
			}
			for _, signs := range []*instance{a, b} {
				token, _ := signs.token()
				for _, verifies := range []*instance{a, b} {
					_, err := verifies.manager.Verify(token)
					require.NoError(t, err, "step %d", step)
				}
			}
		}
	}
	_, err := keyring.Open(context.Background(), w.store, config(0))
	require.ErrorIs(t, err, keyring.ErrSecret)
	cfg := config(4)
	cfg.Secret, cfg.OldSecrets = third, [][]byte{secret, other}
	w.open(cfg)
}

package keyring

import (
	"context"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
)

const (
	minSecretSize = 32 // in bytes: the size of the AES-256 key that is derived from it

	// purpose is what a sealed key is for. It goes into the derivation of the sealing key and into
	// the associated data. So nothing that was sealed for something else opens as a signing key,
	// also if the host uses the same secret there.
	purpose = "tokensession keyring signing key v1"

	// sealedFormat is the first byte of what a secret sealed. A later version that seals in another
	// way counts it up.
	sealedFormat = 1
)

// A sealer turns a private key into what may go to the store, and back.
type sealer struct {
	seal, unseal func(ctx context.Context, id string, data []byte) ([]byte, error)
}

// secretSealer seals under the first secret. Each of them opens.
func secretSealer(secrets [][]byte) (sealer, error) {
	aeads := make([]cipher.AEAD, len(secrets))
	for i, secret := range secrets {
		var err error
		if aeads[i], err = newAEAD(secret); err != nil {
			return sealer{}, err
		}
	}
	return sealer{
		seal: func(_ context.Context, id string, data []byte) ([]byte, error) {
			return aeads[0].Seal([]byte{sealedFormat}, nil, data, associatedData(id)), nil
		},
		unseal: func(_ context.Context, id string, sealed []byte) ([]byte, error) {
			return open(aeads, id, sealed)
		},
	}, nil
}

func open(aeads []cipher.AEAD, id string, sealed []byte) ([]byte, error) {
	if len(sealed) == 0 || sealed[0] != sealedFormat {
		return nil, errors.New("it is sealed in a form that this version does not know")
	}
	for _, aead := range aeads {
		if data, err := aead.Open(nil, nil, sealed[1:], associatedData(id)); err == nil {
			return data, nil
		}
	}
	return nil, ErrSecret
}

// newAEAD derives the key of AES-256-GCM with HKDF (RFC 5869), because the secret may be text, of
// any length. The nonce is random and goes before the ciphertext: one key seals a handful of
// signing keys a year, and up to 2³² messages are safe.
func newAEAD(secret []byte) (cipher.AEAD, error) {
	key, err := hkdf.Key(sha256.New, secret, nil, purpose, 32)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	return cipher.NewGCMWithRandomNonce(block)
}

// associatedData binds what is sealed to the key's id. Without it, somebody who can write to the
// store could pass one sealed key off as another one.
func associatedData(id string) []byte { return []byte(purpose + "\x00" + id) }

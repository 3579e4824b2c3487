package keyring

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// algorithms are those of the keys that a ring can make.
var algorithms = []string{"EdDSA", "ES256", "ES384", "ES512", "RS256"}

const rsaBits = 2048

func generate(algorithm string) (tokensession.Key, error) {
	var private crypto.Signer
	var err error
	switch algorithm {
	case "ES256":
		private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	case "ES384":
		private, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	case "ES512":
		private, err = ecdsa.GenerateKey(elliptic.P521(), rand.Reader)
	case "RS256":
		private, err = rsa.GenerateKey(rand.Reader, rsaBits)
	default:
		return tokensession.GenerateKey()
	}
	if err != nil {
		return tokensession.Key{}, err
	}
	return tokensession.NewKey(private)
}

// newKey makes a key.
func (k *Keyring) newKey(
	ctx context.Context, predecessor string, now, signFrom time.Time,
) (SealedKey, error) {
	key, err := generate(k.cfg.Algorithm)
	if err != nil {
		return SealedKey{}, fmt.Errorf("making a key: %w", err)
	}
	sealed, err := k.seal(ctx, key)
	if err != nil {
		return SealedKey{}, err
	}
	return SealedKey{
		ID: key.ID(), Predecessor: predecessor, Algorithm: k.cfg.Algorithm,
		MadeAt:   now.UTC().Truncate(time.Microsecond),
		SignFrom: signFrom.UTC().Truncate(time.Microsecond),
		Sealed:   sealed,
	}, nil
}

// seal returns the private key as it goes to the store. It leaves this function sealed only.
func (k *Keyring) seal(ctx context.Context, key tokensession.Key) ([]byte, error) {
	private, err := key.MarshalPEM()
	if err != nil {
		return nil, fmt.Errorf("sealing key %s: %w", key.ID(), err)
	}
	defer clear(private)
	sealed, err := k.sealer.seal(ctx, key.ID(), private)
	if err != nil {
		return nil, fmt.Errorf("sealing key %s: %w", key.ID(), err)
	}
	if bytes.Contains(sealed, bytes.TrimSpace(private)) {
		return nil, fmt.Errorf("sealing key %s: Config.Seal returned it as it was", key.ID())
	}
	return sealed, nil
}

// open makes the key of what the store has of it. That the id is the key's thumbprint is checked
// here, because Seal and Unseal of a host may not bind it.
func (k *Keyring) open(ctx context.Context, s SealedKey) (tokensession.Key, error) {
	private, err := k.sealer.unseal(ctx, s.ID, s.Sealed)
	if err != nil {
		return tokensession.Key{}, fmt.Errorf("opening key %s: %w", s.ID, err)
	}
	defer clear(private)
	key, err := tokensession.ParseKeyPEM(private)
	if err != nil {
		return tokensession.Key{}, fmt.Errorf("key %s is for %q, and this version cannot use it: %w",
			s.ID, s.Algorithm, err)
	}
	if key.ID() != s.ID {
		return tokensession.Key{}, fmt.Errorf("key %s: what was sealed is key %s", s.ID, key.ID())
	}
	return key, nil
}

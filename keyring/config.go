package keyring

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

const (
	defaultEvery     = 90 * 24 * time.Hour
	defaultAhead     = time.Hour
	defaultAlgorithm = "EdDSA"

	minAhead = 10 * time.Millisecond
	maxEvery = 100 * 365 * 24 * time.Hour // keeps dates within what stores hold

	// maxAccessTTL is the longest AccessTTL that a Manager can have. Another process may sign with
	// the same keys and have a longer AccessTTL than this one's, so a key is kept for as long as
	// any token of it can be good for.
	maxAccessTTL = 24 * time.Hour

	// maxLookInterval is how often Run looks at the store, at most. A key that leaked is refused so
	// long after it was retired.
	maxLookInterval = 10 * time.Second
)

// A Config says how a ring's keys are made and kept. Required are Access and Secret, or Seal and
// Unseal in place of Secret. [Open] copies and validates it.
type Config struct {
	// Secret is what private keys are sealed under in the store: 32 bytes or more that nobody can
	// guess, kept outside the store, and the same on all instances. It may be text, as from the
	// environment. One is made by "openssl rand -base64 32", or by "tokenkeys secret". One that is
	// nothing but zeros or white space is refused.
	Secret []byte

	// OldSecrets open what was sealed under them, and seal nothing. To change the secret, first add
	// the new one to OldSecrets on every instance. Then make it the Secret, and the old one an
	// OldSecret, on every instance. Then seal all keys under it with [Keyring.Reseal], or wait
	// until they have been replaced. Then remove the old one. A secret that is changed at once is
	// an error at the start of an instance, and the other instances cannot open the keys that this
	// one makes.
	OldSecrets [][]byte

	// Seal and Unseal take the place of Secret, for a KMS or for age: what Seal makes of a private
	// key goes to the store, and Unseal has to make the same of it again. Bind it to the key's id,
	// where that is possible: as the encryption context, or as associated data. What Unseal
	// returns is wiped after use. Either both are set, or none.
	Seal, Unseal func(ctx context.Context, id string, data []byte) ([]byte, error)

	// Access is for the ring's AccessSigner, see [tokensession.NewAccessSigner]. Its Now is also
	// the clock by which keys are rotated. Its KeepKeys is set to at least 24 hours and Ahead.
	Access tokensession.AccessConfig

	// Every is how long a key signs: 90 days if 0, at least twice Ahead.
	Every time.Duration

	// Ahead is how long a new key is published, at least, before it signs: an hour, or a quarter of
	// Every if that is shorter, if it is 0. It must be longer than verifiers keep the JWKS in a
	// cache, and longer than clocks of instances differ.
	Ahead time.Duration

	// Algorithm is that of the keys that are made: EdDSA if empty (Ed25519), ES256, ES384, ES512 or
	// RS256 (2048 bits). If it is changed, the next key is of the new one.
	Algorithm string

	// OnError is told what Run could not do. It tries again soon, and goes on with the keys it has.
	// If it is nil, errors go to slog.Default, because an error that nobody sees would end in keys
	// that are never rotated. It must not block.
	OnError func(error)
}

// withDefaults returns a copy with the defaults filled in, and with what seals keys.
func (c Config) withDefaults() (Config, sealer, error) {
	if c.Every == 0 {
		c.Every = defaultEvery
	}
	if c.Ahead == 0 {
		c.Ahead = min(defaultAhead, c.Every/4)
	}
	if c.Algorithm == "" {
		c.Algorithm = defaultAlgorithm
	}
	if c.OnError == nil {
		c.OnError = func(err error) {
			slog.Error("the signing keys could not be looked after", "error", err)
		}
	}
	if c.Access.Now == nil {
		c.Access.Now = time.Now
	}
	seals, err := c.validate()
	if err != nil {
		return Config{}, sealer{}, err
	}
	c.Secret, c.OldSecrets = nil, nil // the sealer has what is derived from them
	c.Access.KeepKeys = max(c.Access.KeepKeys, maxAccessTTL+c.Ahead)
	return c, seals, c.validateAccess()
}

// validateAccess makes a signer that nobody uses, so that a mistake in Access shows before a key is
// stored.
func (c Config) validateAccess() error {
	key, err := tokensession.GenerateKey()
	if err == nil {
		_, err = tokensession.NewAccessSigner(key, c.Access)
	}
	return err
}

func (c Config) validate() (sealer, error) {
	if c.Ahead < minAhead || c.Ahead > c.Every/2 {
		return sealer{}, fmt.Errorf(
			"keyring: Config.Ahead %v: must be from %v to half of Every (%v)",
			c.Ahead, minAhead, c.Every)
	}
	if c.Every > maxEvery {
		return sealer{}, fmt.Errorf("keyring: Config.Every %v: cannot be more than %v",
			c.Every, maxEvery)
	}
	if !slices.Contains(algorithms, c.Algorithm) {
		return sealer{}, fmt.Errorf("keyring: Config.Algorithm %q: must be one of %q",
			c.Algorithm, algorithms)
	}
	if c.Seal != nil || c.Unseal != nil {
		switch {
		case c.Seal == nil || c.Unseal == nil:
			return sealer{}, errors.New("keyring: Config.Seal and Unseal: one without the other")
		case len(c.Secret) > 0 || len(c.OldSecrets) > 0:
			return sealer{}, errors.New("keyring: Config.Secret and Seal: choose one of them")
		}
		return sealer{c.Seal, c.Unseal}, nil
	}
	if len(c.Secret) == 0 {
		return sealer{}, errors.New("keyring: Config.Secret is empty: " +
			`keys are never kept unsealed; make one with "openssl rand -base64 32" or "tokenkeys secret"`)
	}
	secrets := append([][]byte{c.Secret}, c.OldSecrets...)
	for i, secret := range secrets {
		if len(secret) < minSecretSize {
			name := "Secret"
			if i > 0 {
				name = fmt.Sprintf("OldSecrets[%d]", i-1)
			}
			return sealer{}, fmt.Errorf("keyring: Config.%s of %d bytes: cannot be shorter than %d",
				name, len(secret), minSecretSize)
		}
		if len(bytes.Trim(secret, "\x00 \t\r\n")) == 0 { // nobody has written anything into it
			return sealer{}, errors.New("keyring: Config: a secret is nothing but zeros or white space: " +
				"make it of random bytes")
		}
	}
	return secretSealer(secrets)
}

// lookInterval is how often Run looks at the store. A new key has to be known on all instances well
// before Ahead is over.
func (c Config) lookInterval() time.Duration { return min(maxLookInterval, c.Ahead/10) }

// Format prints the config without its secrets, whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// String describes the config without its secrets.
func (c Config) String() string {
	return fmt.Sprintf("keyring.Config{Issuer:%q Every:%v Ahead:%v Algorithm:%q Secret:REDACTED}",
		c.Access.Issuer, c.Every, c.Ahead, c.Algorithm)
}

// LogValue describes the config without its secrets.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

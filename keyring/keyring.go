package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// A Keyring is an [tokensession.AccessSigner] whose keys look after themselves. It is safe for
// concurrent use. Make it with [Open].
type Keyring struct {
	store  Store
	cfg    Config
	sealer sealer
	signer *tokensession.AccessSigner

	mu      sync.Mutex // held while the ring is compared with the store
	known   []SealedKey
	gone    map[string]bool
	orphans map[string]bool
	earlier links
}

// Open returns a ring of the keys in the store. If the store has none, it makes the first one. It
// is an error if the store cannot be reached, or if one of the keys cannot be opened: then the
// error wraps [ErrSecret], or says what is wrong with the key. Without all keys this instance would
// refuse the tokens of others.
func Open(ctx context.Context, store Store, cfg Config) (*Keyring, error) {
	cfg, seals, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	if store == nil {
		return nil, errors.New("keyring: Open: the store is nil")
	}
	k := &Keyring{
		store: store, cfg: cfg, sealer: seals,
		gone: map[string]bool{}, orphans: map[string]bool{}, earlier: links{},
	}
	if err := k.load(ctx); err != nil {
		return nil, fmt.Errorf("keyring: Open: %w", err)
	}
	if err := k.Update(ctx); err != nil {
		cfg.OnError(err) // it has all the keys, and Run tries again
	}
	return k, nil
}

// Signer returns the signer whose keys the ring looks after. Give it to [tokensession.New], and
// call neither Rotate nor Retire of it: the other instances would not hear of it.
func (k *Keyring) Signer() *tokensession.AccessSigner { return k.signer }

// Run looks after the keys until ctx ends, and then returns nil: it calls Update every 10 seconds,
// or more often where Ahead is short. Every instance of a server runs it. What goes wrong meanwhile
// is told to [Config].OnError. Where the store is down, the keys in memory go on.
func (k *Keyring) Run(ctx context.Context) error {
	ticker := time.NewTicker(k.cfg.lookInterval())
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		}
		if err := k.updateInTime(ctx); err != nil && ctx.Err() == nil {
			k.cfg.OnError(err)
		}
	}
}

// lookTimeout bounds a look, so that a store that hangs does not end all looking.
const lookTimeout = 30 * time.Second

func (k *Keyring) updateInTime(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	return k.Update(ctx)
}

// Update does once what [Keyring.Run] does again and again: it learns what other instances did,
// makes the next key if its time has come, and drops keys whose last token is over. It is for
// programs that run only now and then, and have no Run: they call it more often than once in a
// fifth of Ahead. On an error the ring goes on with the keys it has.
func (k *Keyring) Update(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.update(ctx); err != nil {
		return fmt.Errorf("keyring: %w", err)
	}
	return nil
}

// maxSteps bounds the steps of one update. Each changes one thing in the store, or finds that
// another instance was faster.
const maxSteps = 100

// update brings this ring and the store in step. After every step that may have changed the store
// it looks again, so that each step goes by what all instances have done.
func (k *Keyring) update(ctx context.Context) error {
	for range maxSteps {
		stored, err := k.look(ctx)
		if err != nil {
			return err
		}
		if len(stored) > 0 {
			err = k.learn(ctx, stored)
		}
		changed, stepErr := k.step(ctx, stored)
		if err := errors.Join(err, stepErr); err != nil || !changed {
			return err
		}
	}
	return fmt.Errorf("the store is not in step after %d changes: does its AddKey say ErrExists of a key "+
		"that has no successor?", maxSteps)
}

// look returns the keys in the store, in the order in which they begin to sign.
func (k *Keyring) look(ctx context.Context) ([]SealedKey, error) {
	stored, err := k.store.Keys(ctx)
	if err != nil {
		return nil, fmt.Errorf("the store of the signing keys cannot be read: %w", err)
	}
	slices.SortFunc(stored, func(a, b SealedKey) int { return a.SignFrom.Compare(b.SignFrom) })
	k.earlier.add(stored)
	return stored, nil
}

// load makes the signer of the keys in the store.
func (k *Keyring) load(ctx context.Context) error {
	stored, err := k.look(ctx)
	if err == nil && len(stored) == 0 {
		stored, err = k.makeFirst(ctx)
	}
	if err != nil {
		return err
	}
	for _, s := range stored {
		if err := k.take(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// makeFirst makes the first key, unless another instance is faster. It signs at once, because there
// is nothing else to sign with. The keys come from the store in any case: what AddKey has
// acknowledged is what others see.
func (k *Keyring) makeFirst(ctx context.Context) ([]SealedKey, error) {
	now := k.cfg.Access.Now()
	first, err := k.newKey(ctx, "", now, now)
	if err != nil {
		return nil, err
	}
	if err := k.store.AddKey(ctx, first); err != nil && !errors.Is(err, ErrExists) {
		return nil, fmt.Errorf("the first signing key cannot be stored: %w", err)
	}
	stored, err := k.look(ctx)
	if err == nil && len(stored) == 0 {
		err = errors.New("the store does not have the key that it has just acknowledged")
	}
	return stored, err
}

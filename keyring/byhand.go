package keyring

import (
	"context"
	"fmt"
)

// What an operator does: tokenkeys calls these, and so may a program of the host.

// Rotate makes the next key now, before its time. It is published at once, and signs from twice
// Ahead from now on, on all instances.
func (k *Keyring) Rotate(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	stored, err := k.lookInStep(ctx)
	if err == nil {
		err = k.addSuccessor(ctx, stored[len(stored)-1])
	}
	if err == nil {
		err = k.update(ctx)
	}
	if err != nil {
		return fmt.Errorf("keyring: Rotate: %w", err)
	}
	return nil
}

// Retire drops a key at once, because it has leaked. This instance refuses its tokens when Retire
// returns, and the others when they have looked at the store, within 10 seconds. Its successor
// signs at once, and is made if there is none. Verifiers that follow the JWKS accept the key's
// tokens until they have fetched the set again. Nobody is logged out: clients refresh.
//
// It is an error if the store has no key of that id.
func (k *Keyring) Retire(ctx context.Context, id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.retire(ctx, id); err != nil {
		return fmt.Errorf("keyring: Retire: %w", err)
	}
	return nil
}

func (k *Keyring) retire(ctx context.Context, id string) error {
	stored, err := k.lookInStep(ctx)
	if err != nil {
		return err
	}
	switch indexOf(stored, id) {
	case -1:
		return fmt.Errorf("there is no key %q in the store", id)
	case len(stored) - 1:
		if err := k.addSuccessor(ctx, stored[len(stored)-1]); err != nil {
			return err
		}
		if err := k.update(ctx); err != nil { // the successor has to be ours before the key goes
			return err
		}
	}
	if err := k.store.DropKey(ctx, id); err != nil {
		return fmt.Errorf("key %s cannot be dropped from the store: %w", id, err)
	}
	return k.update(ctx)
}

// Reseal seals all keys in the store under Config.Secret, or with Config.Seal. When it has returned
// nil, no key needs OldSecrets any more. If the old secret has leaked, and with it a copy of the
// store, that is not enough: retire the keys, too.
func (k *Keyring) Reseal(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if err := k.reseal(ctx); err != nil {
		return fmt.Errorf("keyring: Reseal: %w", err)
	}
	return nil
}

func (k *Keyring) reseal(ctx context.Context) error {
	stored, err := k.lookInStep(ctx)
	if err != nil {
		return err
	}
	for _, s := range stored {
		key, err := k.open(ctx, s)
		if err != nil {
			return err
		}
		if s.Sealed, err = k.seal(ctx, key); err != nil {
			return err
		}
		if err := k.store.AddKey(ctx, s); err != nil {
			return fmt.Errorf("key %s cannot be stored: %w", s.ID, err)
		}
	}
	return nil
}

// lookInStep returns the keys in the store when it and this ring are in step.
func (k *Keyring) lookInStep(ctx context.Context) ([]SealedKey, error) {
	if err := k.update(ctx); err != nil {
		return nil, err
	}
	return k.look(ctx)
}

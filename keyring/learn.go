package keyring

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// What this ring remembers of keys.
//
// known are the keys of the signer, in its order, as the store had them. gone are the keys that the
// signer had and that were dropped. They never come back, whatever the store says later. orphans
// are known keys that the store has lost, and whose place another key has taken there. earlier says
// which keys come before which.

// A key that is not in the store may have been dropped, and then its tokens must be refused at
// once, because it may have leaked. Or the store has lost it, in a failover or because a backup was
// restored, and then nothing may happen to its tokens. What tells the two apart is a later key. A
// key is dropped only when it has a successor, and the store keeps that one. If the store was set
// back, the newest keys are those that are missing.
//
// So links lead from a key to those before it: to its predecessor, and to the one before it in a
// list that the store once gave.
type links map[string]map[string]bool

// add remembers the order of keys in a list of the store.
func (l links) add(stored []SealedKey) {
	for i, s := range stored {
		if l[s.ID] == nil {
			l[s.ID] = map[string]bool{}
		}
		if s.Predecessor != "" {
			l[s.ID][s.Predecessor] = true
		}
		if i > 0 {
			l[s.ID][stored[i-1].ID] = true
		}
	}
}

// before returns the ids of all keys that come before one of these.
func (l links) before(stored []SealedKey) map[string]bool {
	found := map[string]bool{}
	var follow func(id string)
	follow = func(id string) {
		for earlier := range l[id] {
			if !found[earlier] {
				found[earlier] = true
				follow(earlier)
			}
		}
	}
	for _, s := range stored {
		follow(s.ID)
	}
	return found
}

// learn takes over what other instances did: it adds their keys to the signer, and removes those
// that they dropped. A key that cannot be opened is an error, and does not keep the others out.
func (k *Keyring) learn(ctx context.Context, stored []SealedKey) error {
	var errs []error
	for _, s := range stored {
		if indexOf(k.known, s.ID) < 0 && !k.gone[s.ID] {
			errs = append(errs, k.take(ctx, s))
		}
	}
	before := k.earlier.before(stored)
	for _, s := range slices.Clone(k.known) {
		if before[s.ID] && indexOf(stored, s.ID) < 0 {
			errs = append(errs, k.forget(s.ID))
		}
	}
	return errors.Join(errs...)
}

// take adds a key to the signer.
func (k *Keyring) take(ctx context.Context, s SealedKey) error {
	key, err := k.open(ctx, s)
	if err != nil {
		return err
	}
	if k.signer == nil {
		k.signer, err = tokensession.NewAccessSigner(key, k.cfg.Access)
	} else {
		err = k.signer.Rotate(key, latest(s.SignFrom, k.lastSignFrom()))
	}
	if err != nil {
		return fmt.Errorf("key %s: %w", s.ID, err)
	}
	k.known = append(k.known, s)
	return nil
}

// lastSignFrom is when the last of the signer's keys begins to sign. A key from the store is later,
// unless the store has lost keys of ours and others have made new ones: then it follows ours.
func (k *Keyring) lastSignFrom() time.Time {
	var last time.Time
	for _, s := range k.known {
		last = latest(last, s.SignFrom)
	}
	return last
}

// forget removes a key from the signer, which refuses its tokens from then on. If the key is the
// only one that this ring could open, the signer keeps it: it has nothing else to sign with.
func (k *Keyring) forget(id string) error {
	if err := k.signer.Retire(id); err != nil {
		return fmt.Errorf("key %s was dropped from the store: %w", id, err)
	}
	k.known = slices.DeleteFunc(k.known, func(s SealedKey) bool { return s.ID == id })
	k.gone[id] = true
	return nil
}

func latest(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

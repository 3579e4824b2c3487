package keyring

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// step does the first thing that is to be done in the store, and reports whether it may have
// changed it: then the caller looks again. ErrExists is no failure, because it means that another
// instance has done something.
func (k *Keyring) step(ctx context.Context, stored []SealedKey) (changed bool, err error) {
	if lost, ok := k.lost(stored); ok {
		return true, k.putBack(ctx, stored, lost)
	}
	if len(stored) == 0 {
		return false, errors.New("the store has lost its keys, and nobody can put them back")
	}
	now := k.cfg.Access.Now()
	if id := k.overdue(stored, now); id != "" {
		if err := k.store.DropKey(ctx, id); err != nil {
			return false, fmt.Errorf("key %s cannot be dropped from the store: %w", id, err)
		}
		return true, nil
	}
	last := stored[len(stored)-1]
	if indexOf(k.known, last.ID) < 0 || now.Before(k.nextIsMadeAt(last)) {
		return false, nil // a key that this instance cannot open is not its to replace
	}
	return true, k.addSuccessor(ctx, last)
}

// lost returns a key that the signer has and the store has not, although it was not dropped. So the
// store was set back: by a failover that lost writes, or to a backup.
func (k *Keyring) lost(stored []SealedKey) (SealedKey, bool) {
	before := k.earlier.before(stored)
	for _, s := range k.known {
		if indexOf(stored, s.ID) < 0 && !before[s.ID] && !k.orphans[s.ID] {
			return s, true
		}
	}
	return SealedKey{}, false
}

// putBack puts a lost key back in its place, sealed as it was. In an empty store it is the first
// one. If another instance has filled its place meanwhile, that key is the one to use from its
// SignFrom on. This instance then keeps its own for the tokens that are out.
func (k *Keyring) putBack(ctx context.Context, stored []SealedKey, lost SealedKey) error {
	if len(stored) == 0 {
		lost.Predecessor = ""
	}
	switch err := k.store.AddKey(ctx, lost); {
	case errors.Is(err, ErrExists):
		k.orphans[lost.ID] = true
	case err != nil:
		return fmt.Errorf("key %s, which the store has lost, cannot be put back: %w", lost.ID, err)
	}
	return nil
}

// overdue returns the id of a key that is to be dropped, or "". That is one whose last token is
// over, and one that was dropped before and has come back, as from a backup: it may have leaked.
// The last key is never dropped.
func (k *Keyring) overdue(stored []SealedKey, now time.Time) string {
	for i := range len(stored) - 1 {
		if k.gone[stored[i].ID] || !now.Before(k.droppedAt(stored[i+1])) {
			return stored[i].ID
		}
	}
	return ""
}

// droppedAt is when the key before this one is dropped. Its last token was signed just before this
// one began to sign; on an instance whose clock is behind, up to Ahead later. It may be accepted
// for as long as any AccessTTL can be, and the leeway.
func (k *Keyring) droppedAt(successor SealedKey) time.Time {
	return successor.SignFrom.Add(k.cfg.Ahead + maxAccessTTL + k.cfg.Access.Leeway)
}

// nextIsMadeAt is when the successor of the last key is made.
func (k *Keyring) nextIsMadeAt(last SealedKey) time.Time {
	return last.SignFrom.Add(k.cfg.Every - 2*k.cfg.Ahead)
}

// nextSignsFrom is when a key that is made now begins to sign. Clocks may differ by Ahead, so that
// on an instance whose clock is ahead it begins to sign when it has been published for Ahead.
func (k *Keyring) nextSignsFrom(last SealedKey, now time.Time) time.Time {
	return latest(now.Add(2*k.cfg.Ahead), last.SignFrom.Add(time.Microsecond))
}

// addSuccessor makes the key after the last one, unless another instance has done so.
func (k *Keyring) addSuccessor(ctx context.Context, last SealedKey) error {
	now := k.cfg.Access.Now()
	next, err := k.newKey(ctx, last.ID, now, k.nextSignsFrom(last, now))
	if err != nil {
		return err
	}
	if err := k.store.AddKey(ctx, next); err != nil && !errors.Is(err, ErrExists) {
		return fmt.Errorf("the next signing key cannot be stored: %w", err)
	}
	return nil
}

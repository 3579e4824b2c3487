package keyring

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// A MemoryStore is a [Store] in the memory of one process. Its keys end with the process, so it is
// for tests and for programs whose sessions are in a MemoryStore, too. Make it with
// [NewMemoryStore].
type MemoryStore struct {
	mu   sync.Mutex
	keys []SealedKey
}

var _ Store = (*MemoryStore)(nil)

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore { return &MemoryStore{} }

// Keys implements [Store].
func (s *MemoryStore) Keys(ctx context.Context) ([]SealedKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	keys := make([]SealedKey, len(s.keys))
	for i, key := range s.keys {
		keys[i] = clone(key)
	}
	return keys, nil
}

// AddKey implements [Store].
func (s *MemoryStore) AddKey(ctx context.Context, key SealedKey) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if i := indexOf(s.keys, key.ID); i >= 0 {
		s.keys[i].Sealed = slices.Clone(key.Sealed)
		return nil
	}
	if !s.isLast(key.Predecessor) {
		return fmt.Errorf("%w: key %q", ErrExists, key.Predecessor)
	}
	s.keys = append(s.keys, clone(key))
	return nil
}

// isLast reports whether a key is there and has no successor. If id is empty, it reports whether
// there is no key at all.
func (s *MemoryStore) isLast(id string) bool {
	if id == "" {
		return len(s.keys) == 0
	}
	return indexOf(s.keys, id) >= 0 &&
		!slices.ContainsFunc(s.keys, func(k SealedKey) bool { return k.Predecessor == id })
}

// DropKey implements [Store].
func (s *MemoryStore) DropKey(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.keys = slices.DeleteFunc(s.keys, func(k SealedKey) bool { return k.ID == id })
	return nil
}

func clone(key SealedKey) SealedKey {
	key.Sealed = slices.Clone(key.Sealed)
	return key
}

// indexOf returns the place of the key of that id, or -1.
func indexOf(keys []SealedKey, id string) int {
	return slices.IndexFunc(keys, func(k SealedKey) bool { return k.ID == id })
}

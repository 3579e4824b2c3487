package keyring

import (
	"context"
	"errors"
	"time"
)

// A Store keeps the keys of one ring. sqlstore.Store, redisstore.Store and [MemoryStore] are such
// stores. If you write another one, run storetest.RunKeys in its tests. All methods are called
// concurrently, by any number of processes.
//
// Two rings need two stores: a table or a prefix of its own for each. On one store they are one
// ring, if they have the same secret, and else each finds keys that it cannot open.
type Store interface {
	// Keys returns all keys, in any order. No key is no error.
	Keys(ctx context.Context) ([]SealedKey, error)

	// AddKey adds a key as the successor of the one that Predecessor names. It MUST return an error
	// that wraps [ErrExists], and change nothing, if that key has a successor in the store, or is
	// not in the store (any more). Of several calls at once, by several processes, at most one may
	// add a successor. A key with an empty Predecessor is the first one: it is added only if the
	// store has no key at all, or else the error is ErrExists, too.
	//
	// If the store has a key with this ID already, AddKey MUST replace its Sealed, leave all the
	// rest of it as it is, and return nil. That is how a key is sealed under another secret. And it
	// makes a repeat harmless, where the first reply was lost.
	AddKey(ctx context.Context, key SealedKey) error

	// DropKey removes a key. If there is none with this ID, it was removed already, which is no
	// error.
	DropKey(ctx context.Context, id string) error
}

// ErrExists means that a key has a successor already, or that there is a first key. Then another
// instance was faster, and its key is the one to use. [Store.AddKey] returns it, and a [Keyring]
// never does.
var ErrExists = errors.New("keyring: the key has a successor already")

// ErrSecret means that a key is in the store that neither Secret nor one of OldSecrets opens.
var ErrSecret = errors.New("keyring: the secret is not the one that the key was sealed under")

// A SealedKey is what a [Store] keeps of a signing key. Only Sealed is secret, and it is sealed.
// Times are in UTC and in whole microseconds.
type SealedKey struct {
	ID          string // the key's kid: 43 characters of base64url, primary key
	Predecessor string // the ID of the key whose successor it is; empty: it is the first one
	Algorithm   string // as in a JWK, for people to read
	MadeAt      time.Time
	SignFrom    time.Time // when it begins to sign; always later than the predecessor's
	Sealed      []byte    // the private key; at most 16 KiB
}

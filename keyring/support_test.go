package keyring_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/keyring"
)

const (
	day   = 24 * time.Hour
	every = 90 * day // the default
	ahead = time.Hour
)

var (
	secret = []byte("a secret for tests, of 32 bytes+")
	other  = []byte("another secret, also of 32 bytes")
)

// A world is a store of keys and a clock, which the instances of a server have in common.
type world struct {
	t     *testing.T
	store *store
	clock *testkit.Clock
}

func newWorld(t *testing.T) *world {
	return &world{t: t, store: &store{MemoryStore: keyring.NewMemoryStore()}, clock: testkit.NewClock()}
}

// config is that of an instance whose clock is ahead by so much.
func (w *world) config(skew time.Duration) keyring.Config {
	return keyring.Config{
		Secret: secret,
		Access: tokensession.AccessConfig{
			Issuer: "https://auth.example", Audience: []string{"https://api.example"},
			Now: func() time.Time { return w.clock.Now().Add(skew) },
		},
		OnError: func(err error) { w.t.Errorf("OnError: %v", err) },
	}
}

// An instance has a ring, and a Manager that signs with it.
type instance struct {
	*keyring.Keyring
	t       *testing.T
	manager *tokensession.Manager
}

func (w *world) open(cfg keyring.Config) *instance {
	w.t.Helper()
	ring, err := keyring.Open(context.Background(), w.store, cfg)
	require.NoError(w.t, err)
	m, err := tokensession.New(ring.Signer(), tokensession.NewMemoryStore(), tokensession.Config{Now: cfg.Access.Now})
	require.NoError(w.t, err)
	return &instance{ring, w.t, m}
}

func (w *world) start() *instance {
	w.t.Helper()
	return w.open(w.config(0))
}

func (i *instance) update() {
	i.t.Helper()
	require.NoError(i.t, i.Update(context.Background()))
}

// token returns an access token, and the kid of the key that signed it.
func (i *instance) token() (token, kid string) {
	i.t.Helper()
	tokens, err := i.manager.Start(context.Background(), "alice")
	require.NoError(i.t, err)
	return tokens.AccessToken, i.kidOf(tokens.AccessToken)
}

func (i *instance) signsWith() string {
	i.t.Helper()
	_, kid := i.token()
	return kid
}

// kidOf returns the kid in the token's header.
func (i *instance) kidOf(token string) string {
	i.t.Helper()
	header, _, _ := strings.Cut(token, ".")
	text, err := base64.RawURLEncoding.DecodeString(header)
	require.NoError(i.t, err)
	var h struct{ Kid string }
	require.NoError(i.t, json.Unmarshal(text, &h))
	return h.Kid
}

// published returns the kids of the JWKS, in order.
func (i *instance) published() []string {
	i.t.Helper()
	var set struct{ Keys []struct{ Kid string } }
	require.NoError(i.t, json.Unmarshal(i.Signer().JWKS(), &set))
	kids := []string{}
	for _, k := range set.Keys {
		kids = append(kids, k.Kid)
	}
	return kids
}

// stored returns the keys in the store, the first one first.
func (w *world) stored() []keyring.SealedKey {
	w.t.Helper()
	keys, err := w.store.MemoryStore.Keys(context.Background())
	require.NoError(w.t, err)
	slices.SortFunc(keys, func(a, b keyring.SealedKey) int { return a.SignFrom.Compare(b.SignFrom) })
	return keys
}

func (w *world) storedIDs() []string {
	w.t.Helper()
	ids := []string{}
	for _, k := range w.stored() {
		ids = append(ids, k.ID)
	}
	return ids
}

// restore sets the store back to what it once had.
func (w *world) restore(keys []keyring.SealedKey) {
	w.t.Helper()
	w.store.MemoryStore = keyring.NewMemoryStore()
	for i, k := range keys {
		if i == 0 {
			k.Predecessor = "" // the one before it was dropped long ago
		}
		require.NoError(w.t, w.store.AddKey(context.Background(), k))
	}
}

// A store is one in memory that can be down.
type store struct {
	*keyring.MemoryStore
	mu   sync.Mutex
	down error

	adds, refused int // calls of AddKey

	met     atomic.Int64
	meeting sync.WaitGroup
}

var errDown = errors.New("connection refused")

func (s *store) setDown(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = err
}

func (s *store) isDown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

func (s *store) Keys(ctx context.Context) ([]keyring.SealedKey, error) {
	if err := s.isDown(); err != nil {
		return nil, err
	}
	keys, err := s.MemoryStore.Keys(ctx)
	if s.met.Add(-1) >= 0 {
		s.meeting.Done()
		s.meeting.Wait()
	}
	return keys, err
}

// meet makes the next n callers of Keys wait for each other, so that all of them have read the
// same.
func (s *store) meet(n int) {
	s.meeting.Add(n)
	s.met.Store(int64(n))
}

func (s *store) AddKey(ctx context.Context, key keyring.SealedKey) error {
	if err := s.isDown(); err != nil {
		return err
	}
	err := s.MemoryStore.AddKey(ctx, key)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.adds++
	if errors.Is(err, keyring.ErrExists) {
		s.refused++
	}
	return err
}

func (s *store) DropKey(ctx context.Context, id string) error {
	if err := s.isDown(); err != nil {
		return err
	}
	return s.MemoryStore.DropKey(ctx, id)
}

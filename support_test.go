package tokensession_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// A world is a Manager on a store that a test can listen to and break, with its clock and what it told the host.
type world struct {
	t      testing.TB
	clock  *clock
	memory *tokensession.MemoryStore
	store  *spyStore
	events *eventLog
	signer *tokensession.AccessSigner
	m      *tokensession.Manager

	authorizer error // of newAnsweringWorld: what it says
}

// newWorld makes one whose store has no optional abilities: every step of the Manager is one of the four calls.
func newWorld(t testing.TB, cfg tokensession.Config) *world {
	t.Helper()
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	return newWorldOf(t, key, cfg)
}

func newWorldOf(t testing.TB, key tokensession.Key, cfg tokensession.Config) *world {
	t.Helper()
	access := accessConfig
	access.CacheSize = 64 // some tests make thousands of worlds
	signer, err := tokensession.NewAccessSigner(key, access)
	require.NoError(t, err)
	memory := tokensession.NewMemoryStore()
	w := &world{t: t, clock: newClock(), memory: memory, store: &spyStore{inner: memory}, events: &eventLog{}, signer: signer}
	w.m = w.manager(w.store, cfg, w.events)
	return w
}

// manager makes one more Manager with the world's keys and clock.
func (w *world) manager(store tokensession.RefreshStore, cfg tokensession.Config, events *eventLog) *tokensession.Manager {
	w.t.Helper()
	if cfg.Now == nil {
		cfg.Now = w.clock.Now
	}
	cfg.OnEvent = events.add
	m, err := tokensession.New(w.signer, store, cfg)
	require.NoError(w.t, err)
	return m
}

// other makes another instance, which knows nothing but what is in the store.
func (w *world) other(cfg tokensession.Config) *tokensession.Manager {
	return w.manager(w.memory, cfg, &eventLog{})
}

func (w *world) start(opts ...tokensession.StartOption) tokensession.Tokens {
	w.t.Helper()
	tokens, err := w.m.Start(context.Background(), "alice", opts...)
	require.NoError(w.t, err)
	return tokens
}

func (w *world) refresh(token string, opts ...tokensession.RefreshOption) tokensession.Tokens {
	w.t.Helper()
	tokens, err := w.m.Refresh(context.Background(), token, opts...)
	require.NoError(w.t, err)
	return tokens
}

func (w *world) refreshError(token string, opts ...tokensession.RefreshOption) error {
	w.t.Helper()
	tokens, err := w.m.Refresh(context.Background(), token, opts...)
	require.Error(w.t, err)
	require.Zero(w.t, tokens, "tokens beside an error")
	return err
}

// record returns what the store holds of a session.
func (w *world) record(id string) tokensession.Record {
	w.t.Helper()
	rec, err := w.memory.Load(context.Background(), id)
	require.NoError(w.t, err)
	return rec
}

// requireLive refreshes with a token: its session lives.
func (w *world) requireLive(tokens tokensession.Tokens) tokensession.Tokens {
	w.t.Helper()
	_, err := w.m.Verify(tokens.AccessToken)
	require.NoError(w.t, err, "the access token of a session that lives")
	next, err := w.m.Refresh(context.Background(), tokens.RefreshToken)
	require.NoError(w.t, err, "the refresh token of a session that lives")
	return next
}

// requireDead tries all tokens in all ways there are, here and on an instance that knows only the store.
func (w *world) requireDead(all ...tokensession.Tokens) {
	w.t.Helper()
	other := w.other(tokensession.Config{})
	for _, tokens := range all {
		_, err := w.m.Verify(tokens.AccessToken)
		require.ErrorIs(w.t, err, tokensession.ErrRevoked, "Verify")
		_, err = other.VerifyLive(context.Background(), tokens.AccessToken)
		require.ErrorIs(w.t, err, tokensession.ErrRevoked, "VerifyLive elsewhere")
		for _, m := range []*tokensession.Manager{other, w.m} {
			_, err = m.Refresh(context.Background(), tokens.RefreshToken)
			require.ErrorIs(w.t, err, tokensession.ErrRevoked, "Refresh")
		}
	}
}

// unchanged runs f and requires that it neither changed the session nor told the host anything.
func (w *world) unchanged(id string, f func()) {
	w.t.Helper()
	before, told := w.record(id), len(w.events.all())
	f()
	require.Equal(w.t, before, w.record(id), "the record was changed")
	require.Empty(w.t, w.events.all()[told:], "the host was told")
}

// An eventLog keeps what the host was told.
type eventLog struct {
	mu     sync.Mutex
	events []tokensession.Event
}

func (l *eventLog) add(_ context.Context, e tokensession.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
}

func (l *eventLog) all() []tokensession.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.events)
}

func (l *eventLog) kinds() []tokensession.EventKind {
	var kinds []tokensession.EventKind
	for _, e := range l.all() {
		kinds = append(kinds, e.Kind)
	}
	return kinds
}

func (l *eventLog) count(kind tokensession.EventKind) int {
	n := 0
	for _, k := range l.kinds() {
		if k == kind {
			n++
		}
	}
	return n
}

// take returns what was told since the last take.
func (l *eventLog) take() []tokensession.Event {
	l.mu.Lock()
	defer l.mu.Unlock()
	events := l.events
	l.events = nil
	return events
}

// A storeCall is one of the four methods of a store.
type storeCall string

const (
	callCreate storeCall = "Create"
	callLoad   storeCall = "Load"
	callSwap   storeCall = "Swap"
	callList   storeCall = "List"
)

// A spyStore passes each call to around, which applies it or not, and answers what it likes. It has no optional
// abilities.
type spyStore struct {
	inner tokensession.RefreshStore

	mu     sync.Mutex
	calls  []storeCall
	around func(ctx context.Context, call storeCall, apply func() error) error
}

// set replaces what is done around each call; nil means nothing.
func (s *spyStore) set(around func(context.Context, storeCall, func() error) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.around = around
}

// took returns the calls since the last took.
func (s *spyStore) took() []storeCall {
	s.mu.Lock()
	defer s.mu.Unlock()
	calls := s.calls
	s.calls = nil
	return calls
}

func (s *spyStore) count(call storeCall) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, c := range s.calls {
		if c == call {
			n++
		}
	}
	return n
}

func (s *spyStore) do(ctx context.Context, call storeCall, apply func() error) error {
	s.mu.Lock()
	s.calls = append(s.calls, call)
	around := s.around
	s.mu.Unlock()
	if around == nil {
		return apply()
	}
	return around(ctx, call, apply)
}

func (s *spyStore) Create(ctx context.Context, rec tokensession.Record) error {
	return s.do(ctx, callCreate, func() error { return s.inner.Create(ctx, rec) })
}

func (s *spyStore) Swap(ctx context.Context, next tokensession.Record) error {
	return s.do(ctx, callSwap, func() error { return s.inner.Swap(ctx, next) })
}

func (s *spyStore) Load(ctx context.Context, id string) (rec tokensession.Record, err error) {
	err = s.do(ctx, callLoad, func() (err error) {
		rec, err = s.inner.Load(ctx, id)
		return err
	})
	if err != nil {
		return tokensession.Record{}, err
	}
	return rec, nil
}

func (s *spyStore) List(ctx context.Context, subject string) (recs []tokensession.Record, err error) {
	err = s.do(ctx, callList, func() (err error) {
		recs, err = s.inner.List(ctx, subject)
		return err
	})
	if err != nil {
		return nil, err
	}
	return recs, nil
}

var errStoreDown = errors.New("connection reset by peer")

// requireUnavailableFor requires an outage with its cause, which is no verdict.
func requireUnavailableFor(t testing.TB, err, cause error) {
	t.Helper()
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	require.ErrorIs(t, err, cause)
	requireNoVerdict(t, err)
}

func requireNoVerdict(t testing.TB, err error) {
	t.Helper()
	for _, verdict := range verdicts {
		require.NotErrorIs(t, err, verdict, "an outage must not look like the end of a session")
	}
}

var verdicts = []error{tokensession.ErrInvalidToken, tokensession.ErrExpired, tokensession.ErrRevoked, tokensession.ErrReused, tokensession.ErrDenied}

// requireReused requires a ReuseError with these generations.
func requireReused(t testing.TB, err error, presented, live uint64) {
	t.Helper()
	var reuse *tokensession.ReuseError
	require.ErrorAs(t, err, &reuse)
	require.Equal(t, [2]uint64{presented, live}, [2]uint64{reuse.Presented, reuse.Live}, "generations presented and live")
	require.Equal(t, tokensession.ReasonReuse, reuse.Session.RevokeReason)
	require.False(t, reuse.Session.RevokedAt.IsZero())
}

const micro = time.Microsecond

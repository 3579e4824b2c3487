package tokensession_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

const (
	grace = 10 * time.Second // the default GracePeriod
	week  = 7 * 24 * time.Hour
	micro = time.Microsecond
)

// remember is Config.Remember of the worlds that say nothing of it. Most tests plan for each call of
// the store, and a refresh that remembers the record does not load it. recent_test.go is about those
// that do. With TOKENSESSION_TEST_REMEMBER=1 all the others do, too.
var remember = func() int {
	if os.Getenv("TOKENSESSION_TEST_REMEMBER") != "" {
		return 1000
	}
	return -1
}()

var accessConfig = tokensession.AccessConfig{
	Issuer: "https://auth.example", Audience: []string{"https://api.example"},
}

func testSigner(t testing.TB) *tokensession.AccessSigner {
	t.Helper()
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	signer, err := tokensession.NewAccessSigner(key, accessConfig)
	require.NoError(t, err)
	return signer
}

func newManager(
	t testing.TB, signer *tokensession.AccessSigner, store tokensession.RefreshStore,
	cfg tokensession.Config,
) *tokensession.Manager {
	t.Helper()
	m, err := tokensession.New(signer, store, cfg)
	require.NoError(t, err)
	return m
}

// A world is a Manager on a store that a test can listen to and break, with its clock and what it
// told the host.
type world struct {
	t      testing.TB
	clock  *testkit.Clock
	memory *tokensession.MemoryStore
	store  *testkit.HookedStore // around memory
	events *testkit.Events
	signer *tokensession.AccessSigner
	m      *tokensession.Manager

	authorizer error // of newAnsweringWorld: the authorizer's answer
}

// newWorld makes a world whose store has no optional abilities. So each step of its Manager is one
// of the four calls, and a test can plan for all of them.
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
	w := &world{
		t: t, clock: testkit.NewClock(), memory: memory, signer: signer, events: &testkit.Events{},
		store: testkit.Hook(t, testkit.Plain(memory)),
	}
	w.m = w.manager(w.store.Store(), cfg, w.events)
	return w
}

// newAnsweringWorld makes a world whose authorizer gives the answer that was set last with answer.
func newAnsweringWorld(t testing.TB, cfg tokensession.Config) *world {
	t.Helper()
	var w *world
	cfg.Authorize = func(context.Context, tokensession.Session) (tokensession.Grant, error) {
		return tokensession.Grant{}, w.authorizer
	}
	w = newWorld(t, cfg)
	return w
}

func (w *world) answer(err error) { w.authorizer = err }

// manager makes one more Manager with the world's keys and clock.
func (w *world) manager(
	store tokensession.RefreshStore, cfg tokensession.Config, events *testkit.Events,
) *tokensession.Manager {
	w.t.Helper()
	if cfg.Now == nil {
		cfg.Now = w.clock.Now
	}
	if cfg.RecoveryPeriod == 0 {
		// Most tests are about what happens after the grace period, which recovery would forgive.
		// So it is off here unless a test turns it on; TestRecoveryPeriod_isOnByDefault is about
		// the default.
		cfg.RecoveryPeriod = tokensession.Strict
	}
	if cfg.Remember == 0 {
		cfg.Remember = remember
	}
	cfg.OnEvent = events.Add
	return newManager(w.t, w.signer, store, cfg)
}

// other makes another instance, which knows nothing but what is in the store.
func (w *world) other(cfg tokensession.Config) *tokensession.Manager {
	w.t.Helper()
	return w.manager(w.memory, cfg, &testkit.Events{})
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

// fails makes a refresh fail after its write was applied: the reply is lost, and then the store is
// down for as long as the refresh tries.
func (w *world) fails(token string) {
	w.t.Helper()
	w.store.On(testkit.Swap,
		testkit.Apply,
		w.store.GoesDown(testkit.Swap, testkit.Load),
		testkit.LoseReply,
	)
	requireUnavailableFor(w.t, w.refreshError(token), testkit.ErrDown)
	w.store.Clear()
}

// record returns what the store holds of a session.
func (w *world) record(id string) tokensession.Record {
	w.t.Helper()
	rec, err := w.memory.Load(context.Background(), id)
	require.NoError(w.t, err)
	return rec
}

// forget drops everything from the store.
func (w *world) forget() {
	w.t.Helper()
	_, err := w.memory.Sweep(context.Background(), testkit.Began.Add(1e6*time.Hour), 1e6)
	require.NoError(w.t, err)
}

// restore puts a record back as it was: the store lost what was written since.
func (w *world) restore(rec tokensession.Record) {
	w.t.Helper()
	w.forget()
	require.NoError(w.t, w.memory.Create(context.Background(), rec))
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

// requireDead tries all tokens in all ways there are, here and on an instance that knows only the
// store.
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
	before, told := w.record(id), len(w.events.All())
	f()
	require.Equal(w.t, before, w.record(id), "the record was changed")
	require.Empty(w.t, w.events.All()[told:], "the host was told")
}

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

var verdicts = []error{
	tokensession.ErrInvalidToken, tokensession.ErrExpired, tokensession.ErrRevoked,
	tokensession.ErrReused, tokensession.ErrDenied,
}

// requireReused requires a ReuseError with these generations.
func requireReused(t testing.TB, err error, presented, live uint64) {
	t.Helper()
	var reuse *tokensession.ReuseError
	require.ErrorAs(t, err, &reuse)
	require.Equal(t, [2]uint64{presented, live}, [2]uint64{reuse.Presented, reuse.Live},
		"generations presented and live")
	require.Equal(t, tokensession.ReasonReuse, reuse.Session.RevokeReason)
	require.False(t, reuse.Session.RevokedAt.IsZero())
}

func idsOf(all ...tokensession.Tokens) []string {
	ids := []string{}
	for _, tokens := range all {
		ids = append(ids, tokens.Session.ID)
	}
	return ids
}

func listed(t testing.TB, w *world, subject string) []string {
	t.Helper()
	sessions, err := w.m.Sessions(context.Background(), subject)
	require.NoError(t, err)
	ids := []string{}
	for _, s := range sessions {
		require.Equal(t, subject, s.Subject)
		ids = append(ids, s.ID)
	}
	return ids
}

// A fault is what a broken connection does to calls of a store.
type fault struct {
	call    testkit.Call
	applied bool // the request arrived, and the reply was lost
	times   int  // how often; 0: until it is repaired
}

func (f fault) String() string {
	how, often := "not applied", fmt.Sprint(f.times, " times")
	if f.applied {
		how = "reply lost"
	}
	if f.times == 0 {
		often = "always"
	}
	return fmt.Sprintf("%s %s %s", f.call, how, often)
}

// suffers makes the world's store fail so.
func (w *world) suffers(f fault) {
	steps := []testkit.Step{testkit.LoseRequest}
	if f.applied {
		steps = []testkit.Step{testkit.Pass, testkit.LoseReply}
	}
	if f.times > 0 {
		w.store.Times(f.times, f.call, steps...)
	} else {
		w.store.Always(f.call, steps...)
	}
}

func everyFault() []fault {
	var all []fault
	for _, call := range []testkit.Call{testkit.Load, testkit.Create, testkit.Swap, testkit.List} {
		for _, applied := range []bool{true, false} {
			for _, times := range []int{1, 2, 3, 0} {
				all = append(all, fault{call, applied, times})
			}
		}
	}
	return all
}

// A ticket is what a scene's Refresh came to.
type ticket struct {
	tokens tokensession.Tokens
	err    error
}

// A scene is a world in a play: its actors wait for their turn at each call of the store.
type scene struct {
	*world
	play  *testkit.Play
	given []*ticket // by refreshes and logins
}

func newScene(
	t *testing.T, play *testkit.Play, key tokensession.Key, cfg tokensession.Config,
) *scene {
	t.Helper()
	w := newWorldOf(t, key, cfg)
	w.store.Always(testkit.Any, testkit.AwaitTurn)
	return &scene{world: w, play: play}
}

// pausingAuthorizer allows everything at the actor's turn.
func pausingAuthorizer(ctx context.Context, _ tokensession.Session) (tokensession.Grant, error) {
	testkit.Await(ctx, "authorize")
	return tokensession.Grant{}, nil
}

// refreshes adds an actor that refreshes with a token.
func (s *scene) refreshes(token string) *ticket {
	got := &ticket{}
	s.given = append(s.given, got)
	s.play.Actor("refresh", func(ctx context.Context) {
		got.tokens,
			got.err = s.m.Refresh(ctx, token)
	})
	return got
}

func (s *scene) logsIn(subject string) *ticket {
	got := &ticket{}
	s.given = append(s.given, got)
	s.play.Actor("start", func(ctx context.Context) {
		got.tokens,
			got.err = s.m.Start(ctx, subject)
	})
	return got
}

// handedOut are the tokens that the actors got.
func (s *scene) handedOut() []tokensession.Tokens {
	var all []tokensession.Tokens
	for _, got := range s.given {
		if got.err == nil {
			all = append(all, got.tokens)
		}
	}
	return all
}

package tokensession_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// A bench is a Manager with a clock, an authorizer and a store. A test decides what they do, and
// the bench counts the writes.
type bench struct {
	t         *testing.T
	now       time.Time
	memory    *tokensession.MemoryStore
	m         *tokensession.Manager
	events    []tokensession.Event
	authorize func() // called before the authorizer allows it
	swaps     int

	// Called instead of Swap, if it is set. It calls send to write.
	swap func(ctx context.Context, send func() error) error
}

type benchStore struct {
	tokensession.RefreshStore
	b *bench
}

func (s benchStore) Swap(ctx context.Context, next tokensession.Record) error {
	send := func() error { return s.RefreshStore.Swap(ctx, next) }
	s.b.swaps++
	if s.b.swap == nil {
		return send()
	}
	return s.b.swap(ctx, send)
}

func newBench(t *testing.T, cfg tokensession.Config) *bench {
	t.Helper()
	b := &bench{
		t: t, now: time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC),
		memory: tokensession.NewMemoryStore(), authorize: func() {},
	}
	cfg.Now = func() time.Time { return b.now }
	if cfg.RecoveryPeriod == 0 {
		cfg.RecoveryPeriod = tokensession.Strict // what comes after the grace period is reuse
	}
	cfg.OnEvent = func(_ context.Context, e tokensession.Event) { b.events = append(b.events, e) }
	cfg.Authorize = func(context.Context, tokensession.Session) (tokensession.Grant, error) {
		b.authorize()
		return tokensession.Grant{}, nil
	}
	var err error
	b.m, err = tokensession.New(testSigner(t), benchStore{b.memory, b}, cfg)
	require.NoError(t, err)
	return b
}

func (b *bench) start() tokensession.Tokens {
	b.t.Helper()
	tokens, err := b.m.Start(context.Background(), "alice")
	require.NoError(b.t, err)
	return tokens
}

func (b *bench) refresh(token string) tokensession.Tokens {
	b.t.Helper()
	tokens, err := b.m.Refresh(context.Background(), token)
	require.NoError(b.t, err)
	return tokens
}

// wrote returns the number of writes since the last time that it was called.
func (b *bench) wrote() int {
	n := b.swaps
	b.swaps = 0
	return n
}

// A tab loses a race, and then its authorizer takes a minute. Nothing that this tab has sent is in
// the store. So this tab is no reason to answer a thief who comes with the same token meanwhile. The
// session ends with the thief, and this tab is told that.
func TestRefresh_thatHasLostARaceIsNoReasonToAnswerAThief(t *testing.T) {
	b := newBench(t, tokensession.Config{})
	first := b.start()
	asked := 0
	var thief error
	b.authorize = func() {
		if asked++; asked == 3 { // of this tab again, after the other one
			b.now = b.now.Add(time.Minute)
			b.authorize = func() {}
			_, thief = b.m.Refresh(context.Background(), first.RefreshToken)
		}
	}
	var winner tokensession.Tokens
	b.swap = func(_ context.Context, send func() error) error {
		b.swap = nil
		winner = b.refresh(first.RefreshToken)
		return send()
	}
	_, err := b.m.Refresh(context.Background(), first.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
	require.ErrorIs(t, thief, tokensession.ErrReused)
	_, err = b.m.Verify(winner.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrRevoked)
}

// Others may be faster several times. A store that fails as often would be an outage, but this is
// not.
func TestRefresh_triesAgainWhileOthersAreFaster(t *testing.T) {
	b := newBench(t, tokensession.Config{})
	first := b.start()
	conflicts := 5
	b.swap = func(_ context.Context, send func() error) error {
		if conflicts--; conflicts >= 0 {
			return tokensession.ErrConflict
		}
		return send()
	}
	b.refresh(first.RefreshToken)
	require.Equal(t, 6, b.wrote())
}

// One write is enough, unless it used up the grace period. There is none to use up in strict mode,
// or in a session that ends.
func TestRefresh_writesOnce(t *testing.T) {
	for name, c := range map[string]struct {
		grace time.Duration
		took  time.Duration // the write
		want  int
	}{
		"quick":            {0, 0, 1},
		"slow":             {0, time.Minute, 2},
		"slow, but strict": {tokensession.Strict, time.Minute, 1},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t, tokensession.Config{GracePeriod: c.grace})
			first := b.start()
			b.swap = func(_ context.Context, send func() error) error {
				b.swap = nil
				err := send()
				b.now = b.now.Add(c.took)
				return err
			}
			b.refresh(first.RefreshToken)
			require.Equal(t, c.want, b.wrote())

			b.now = b.now.Add(time.Hour)
			_, err := b.m.Refresh(context.Background(), first.RefreshToken)
			require.ErrorIs(t, err, tokensession.ErrReused)
			require.Equal(t, 1, b.wrote(), "the revocation")
		})
	}
}

// A slow write is followed by another one, which fails. The client is told the end of the session
// that the store has.
func TestRefresh_afterASlowWriteTellsTheEndThatTheStoreHas(t *testing.T) {
	b := newBench(t, tokensession.Config{})
	first := b.start()
	b.swap = func(_ context.Context, send func() error) error {
		b.swap = func(context.Context, func() error) error { return errors.New("connection reset") }
		err := send()
		b.now = b.now.Add(time.Minute)
		return err
	}
	got := b.refresh(first.RefreshToken)
	require.Equal(t, 2, b.wrote())
	rec, err := b.memory.Load(context.Background(), first.Session.ID)
	require.NoError(t, err)
	require.Equal(t, rec.ExpiresAt, got.RefreshExpiresAt)
}

// A thief hangs up while the theft is written, and the reply is lost. The call looks all the same,
// and tells the host.
func TestReuse_isToldThoughTheThiefHungUpAndTheReplyWasLost(t *testing.T) {
	b := newBench(t, tokensession.Config{})
	first := b.start()
	b.refresh(first.RefreshToken)
	b.now = b.now.Add(time.Minute)
	ctx, hangUp := context.WithCancel(context.Background())
	b.swap = func(_ context.Context, send func() error) error {
		b.swap = nil
		defer hangUp()
		return errors.Join(send(), errors.New("connection reset"))
	}
	b.events = nil
	_, err := b.m.Refresh(ctx, first.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrReused)
	require.Len(t, b.events, 1)
	require.Equal(t, tokensession.EventReused, b.events[0].Kind)
	rec, err := b.memory.Load(context.Background(), first.Session.ID)
	require.NoError(t, err)
	require.Equal(t, tokensession.ReasonReuse, rec.RevokeReason)
}

// The authorizer takes five minutes, and then another tab refreshes. Its write is much later than
// the time when the first tab came, but not later than the clock.
func TestRefresh_thatWaitedForMinutesGetsTheSuccessor(t *testing.T) {
	b := newBench(t, tokensession.Config{})
	first := b.start()
	var winner tokensession.Tokens
	b.authorize = func() {
		b.authorize = func() {}
		b.now = b.now.Add(5 * time.Minute)
		winner = b.refresh(first.RefreshToken)
	}
	loser := b.refresh(first.RefreshToken)
	require.Equal(t, winner.RefreshToken, loser.RefreshToken)
}

// A client comes a second before its session ends, and the first write takes two seconds and is
// lost. The client came in time.
func TestRefresh_thatCameInTimeIsServedAfterTheEnd(t *testing.T) {
	b := newBench(t, tokensession.Config{RefreshTTL: time.Hour})
	first := b.start()
	b.now = b.now.Add(time.Hour - time.Second)
	b.swap = func(context.Context, func() error) error {
		b.swap = nil
		b.now = b.now.Add(2 * time.Second)
		return errors.New("connection reset")
	}
	next := b.refresh(first.RefreshToken)
	b.now = next.RefreshExpiresAt.Add(-time.Microsecond)
	b.refresh(next.RefreshToken)
}

// Just before the end of a session a refresh puts that end off. The access token is of the session
// as it is then, and lives as long as others.
func TestRefresh_justBeforeTheEndGivesAWholeAccessToken(t *testing.T) {
	b := newBench(t, tokensession.Config{RefreshTTL: time.Hour, AccessTTL: 15 * time.Minute})
	first := b.start()
	b.now = b.now.Add(time.Hour - time.Minute)
	next := b.refresh(first.RefreshToken)
	require.Equal(t, b.now.Add(15*time.Minute), next.AccessExpiresAt)
}

// A Manager gives up, and its writes were all lost. Then another instance makes the same
// generation, and somebody gets it. So the token that comes again later was consumed by somebody
// else.
func TestRefresh_knowsWhatAnotherInstanceMadeFromItsOwn(t *testing.T) {
	b := newBench(t, tokensession.Config{})
	other, err := tokensession.New(testSigner(t), b.memory, tokensession.Config{Now: b.m.Now, RecoveryPeriod: tokensession.Strict})
	require.NoError(t, err)
	first := b.start()
	b.swap = func(context.Context, func() error) error { return errors.New("connection reset") }
	_, err = b.m.Refresh(context.Background(), first.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	b.swap = nil
	_, err = other.Refresh(context.Background(), first.RefreshToken)
	require.NoError(t, err)
	b.now = b.now.Add(time.Minute)
	_, err = b.m.Refresh(context.Background(), first.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrReused)
}

// A client hangs up after the write, so that its refresh is told to nobody. When it comes again,
// the refresh is told as what it is: not as a replay, and not as one of a consumed token.
func TestRefresh_thatIsDoneAgainIsToldAsTheRefreshThatItIs(t *testing.T) {
	b := newBench(t, tokensession.Config{})
	first := b.start()
	b.events = nil
	ctx, hangUp := context.WithCancel(context.Background())
	b.swap = func(_ context.Context, send func() error) error {
		b.swap = nil
		defer hangUp()
		return errors.Join(send(), context.Canceled)
	}
	_, err := b.m.Refresh(ctx, first.RefreshToken)
	require.ErrorIs(t, err, tokensession.ErrUnavailable)
	require.Empty(t, b.events)

	next := b.refresh(first.RefreshToken)
	require.Len(t, b.events, 1)
	require.Equal(t, tokensession.EventRefreshed, b.events[0].Kind)
	require.Zero(t, b.events[0].Presented)
	require.Zero(t, b.events[0].Live)
	require.Equal(t, next.Session, b.events[0].Session)
}

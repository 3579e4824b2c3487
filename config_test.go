package tokensession_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

func TestNew_refusesAContradictoryConfigByFieldValueAndBound(t *testing.T) {
	const century = 100 * 365 * 24 * time.Hour
	long, short := make([]byte, 32), make([]byte, 31)
	for name, c := range map[string]struct {
		cfg  tokensession.Config
		says []string
	}{
		"access too short":      {tokensession.Config{AccessTTL: time.Second - 1}, []string{"AccessTTL", "999.999999ms", "1s", "24h"}},
		"access negative":       {tokensession.Config{AccessTTL: -1}, []string{"AccessTTL", "-1ns", "1s"}},
		"access too long":       {tokensession.Config{AccessTTL: 24*time.Hour + 1}, []string{"AccessTTL", "24h0m0.000000001s", "24h0m0s"}},
		"refresh too short":     {tokensession.Config{RefreshTTL: time.Second - 1}, []string{"RefreshTTL", "999.999999ms", "1s"}},
		"refresh unlimited":     {tokensession.Config{RefreshTTL: tokensession.Unlimited}, []string{"RefreshTTL", "-2ns", "1s"}},
		"refresh too long":      {tokensession.Config{RefreshTTL: century + 1}, []string{"RefreshTTL", "876000h0m0s"}},
		"lifetime too short":    {tokensession.Config{MaxLifetime: time.Second - 1}, []string{"MaxLifetime", "999.999999ms", "1s", "Unlimited"}},
		"lifetime negative":     {tokensession.Config{MaxLifetime: -3}, []string{"MaxLifetime", "-3ns", "Unlimited"}},
		"lifetime strict":       {tokensession.Config{MaxLifetime: tokensession.Strict}, []string{"MaxLifetime", "-1ns", "Unlimited"}},
		"lifetime too long":     {tokensession.Config{MaxLifetime: century + 1}, []string{"MaxLifetime", "876000h0m0s", "Unlimited"}},
		"grace negative":        {tokensession.Config{GracePeriod: -3}, []string{"GracePeriod", "-3ns", "negative", "Strict"}},
		"grace unlimited":       {tokensession.Config{GracePeriod: tokensession.Unlimited}, []string{"GracePeriod", "-2ns", "negative", "Strict"}},
		"grace as access":       {tokensession.Config{AccessTTL: time.Minute, GracePeriod: time.Minute}, []string{"GracePeriod", "1m0s", "AccessTTL"}},
		"grace over access":     {tokensession.Config{GracePeriod: time.Hour}, []string{"GracePeriod", "1h0m0s", "AccessTTL", "15m0s"}},
		"default grace":         {tokensession.Config{AccessTTL: 10 * time.Second}, []string{"GracePeriod", "10s", "AccessTTL"}},
		"recovery negative":     {tokensession.Config{RecoveryPeriod: -3}, []string{"RecoveryPeriod", "-3ns", "negative", "Strict"}},
		"recovery unlimited":    {tokensession.Config{RecoveryPeriod: tokensession.Unlimited}, []string{"RecoveryPeriod", "-2ns", "negative", "Strict"}},
		"recovery over refresh": {tokensession.Config{RecoveryPeriod: week + 1}, []string{"RecoveryPeriod", "168h0m0.000000001s", "RefreshTTL", "168h0m0s"}},
		"ended sessions kept too briefly": {tokensession.Config{KeepEnded: 26*time.Minute + 10*time.Second - 1},
			[]string{"KeepEnded", "26m9.999999999s", "26m10s"}},
		"ended sessions kept too long": {tokensession.Config{KeepEnded: century + 1}, []string{"KeepEnded", "876000h0m0s"}},
		"sessions negative":            {tokensession.Config{MaxSessions: -1}, []string{"MaxSessions", "-1", "negative"}},
		"short key":                    {tokensession.Config{RefreshKeys: [][]byte{short}}, []string{"RefreshKeys[0]", "31", "32"}},
		"second key short":             {tokensession.Config{RefreshKeys: [][]byte{long, short}}, []string{"RefreshKeys[1]", "31", "32"}},
		"only key nil":                 {tokensession.Config{RefreshKeys: [][]byte{nil}}, []string{"RefreshKeys[0]", "0", "32"}},
		"nil key at both ends":         {tokensession.Config{RefreshKeys: [][]byte{nil, long, nil}}, []string{"RefreshKeys[0]", "32"}},
		"nil keys only":                {tokensession.Config{RefreshKeys: [][]byte{nil, nil}}, []string{"RefreshKeys[0]", "32"}},
		"nil key in the middle":        {tokensession.Config{RefreshKeys: [][]byte{long, nil, long}}, []string{"RefreshKeys[1]", "32"}},
		"empty key, but not nil":       {tokensession.Config{RefreshKeys: [][]byte{long, {}}}, []string{"RefreshKeys[1]", "32"}},
		"feed too often":               {tokensession.Config{FeedInterval: 100*time.Millisecond - 1}, []string{"FeedInterval", "99.999999ms", "100ms", "1m0s"}},
		"feed negative":                {tokensession.Config{FeedInterval: -1}, []string{"FeedInterval", "-1ns", "100ms"}},
		"feed too rarely":              {tokensession.Config{FeedInterval: time.Minute + 1}, []string{"FeedInterval", "1m0.000000001s", "100ms", "1m0s"}},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := tokensession.New(testSigner(t), tokensession.NewMemoryStore(), c.cfg)
			require.Nil(t, m)
			require.Error(t, err)
			for _, says := range append(c.says, "tokensession: Config.") {
				require.Contains(t, err.Error(), says)
			}
		})
	}
}

func TestNew_acceptsTheBounds(t *testing.T) {
	const century = 100 * 365 * 24 * time.Hour
	for name, cfg := range map[string]tokensession.Config{
		"the zero value": {},
		"shortest":       {AccessTTL: time.Second, RefreshTTL: time.Second, MaxLifetime: time.Second, GracePeriod: time.Second - 1, RecoveryPeriod: time.Second, FeedInterval: 100 * time.Millisecond},
		"longest":        {AccessTTL: 24 * time.Hour, RefreshTTL: century, MaxLifetime: century, GracePeriod: 24*time.Hour - 1, RecoveryPeriod: century, FeedInterval: time.Minute},
		"all off":        {MaxLifetime: tokensession.Unlimited, GracePeriod: tokensession.Strict, RecoveryPeriod: tokensession.Strict},
		"keys":           {RefreshKeys: [][]byte{make([]byte, 32), make([]byte, 64), nil}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, cfg)
			w.refresh(w.start().RefreshToken)
		})
	}
}

func TestNew_defaults(t *testing.T) {
	w := newWorld(t, tokensession.Config{})
	tokens := w.start()
	start := w.clock.Now().Truncate(time.Microsecond)
	require.Equal(t, start.Add(15*time.Minute).Truncate(time.Second), tokens.AccessExpiresAt)
	require.Equal(t, start.Add(week), tokens.RefreshExpiresAt)
	require.Equal(t, start.Add(30*24*time.Hour), tokens.Session.MaxExpiresAt)
}

type brokenStore struct{ tokensession.RefreshStore }

func TestNew_refusesNil(t *testing.T) {
	store := tokensession.NewMemoryStore()
	_, err := tokensession.New(nil, store, tokensession.Config{})
	require.ErrorContains(t, err, "signer is nil")
	for name, nothing := range map[string]tokensession.RefreshStore{"nil": nil, "typed nil": (*tokensession.MemoryStore)(nil), "nil of the host's": (*brokenStore)(nil)} {
		_, err := tokensession.New(testSigner(t), nothing, tokensession.Config{})
		require.ErrorContains(t, err, "store is nil", name)
	}
}

func TestNew_copiesTheConfig(t *testing.T) {
	key := bytes.Repeat([]byte{1}, 32)
	w := newWorld(t, tokensession.Config{})
	keys := [][]byte{key}
	w.m = w.manager(w.store.Store(), tokensession.Config{RefreshKeys: keys}, w.events)
	tokens := w.start()
	clear(key)
	keys[0] = make([]byte, 40)
	w.requireLive(tokens)
}

// A browser that is killed half a minute after a refresh comes back with the token consumed last.
func TestRecoveryPeriod_isOnByDefault(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  tokensession.Config
		last time.Duration // the last microsecond in which the consumed token recovers; 0: it never does
	}{
		"an hour":                        {tokensession.Config{}, time.Hour},
		"RefreshTTL if that is shorter":  {tokensession.Config{RefreshTTL: 20 * time.Minute}, 20 * time.Minute},
		"none where the grace is Strict": {tokensession.Config{GracePeriod: tokensession.Strict}, 0},
		"as it says":                     {tokensession.Config{RecoveryPeriod: 2 * time.Hour}, 2 * time.Hour},
		"off":                            {tokensession.Config{RecoveryPeriod: tokensession.Strict}, 0},
		"as it says, with Strict":        {tokensession.Config{GracePeriod: tokensession.Strict, RecoveryPeriod: time.Hour}, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			clock := testkit.NewClock()
			c.cfg.Now = clock.Now
			comesBackAfter := func(d time.Duration) error {
				m := newManager(t, testSigner(t), tokensession.NewMemoryStore(), c.cfg)
				first, err := m.Start(ctx, "alice")
				require.NoError(t, err)
				_, err = m.Refresh(ctx, first.RefreshToken)
				require.NoError(t, err)
				clock.Advance(d)
				_, err = m.Refresh(ctx, first.RefreshToken)
				return err
			}
			if c.last == 0 {
				require.ErrorIs(t, comesBackAfter(30*time.Second), tokensession.ErrReused)
				return
			}
			require.NoError(t, comesBackAfter(30*time.Second))
			require.NoError(t, comesBackAfter(c.last-micro))
			require.Error(t, comesBackAfter(c.last), "reused, or expired where the period is RefreshTTL")
		})
	}
}

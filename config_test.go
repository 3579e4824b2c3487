package tokensession_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

func TestNew_refusesAContradictoryConfigByFieldValueAndBound(t *testing.T) {
	const century = 100 * 365 * 24 * time.Hour
	long, short := make([]byte, 32), make([]byte, 31)
	for name, c := range map[string]struct {
		cfg  tokensession.Config
		says []string
	}{
		"access too short":       {tokensession.Config{AccessTTL: time.Second - 1}, []string{"AccessTTL", "999.999999ms", "1s", "24h"}},
		"access negative":        {tokensession.Config{AccessTTL: -1}, []string{"AccessTTL", "-1ns", "1s"}},
		"access too long":        {tokensession.Config{AccessTTL: 24*time.Hour + 1}, []string{"AccessTTL", "24h0m0.000000001s", "24h0m0s"}},
		"refresh too short":      {tokensession.Config{RefreshTTL: time.Second - 1}, []string{"RefreshTTL", "999.999999ms", "1s"}},
		"refresh unlimited":      {tokensession.Config{RefreshTTL: tokensession.Unlimited}, []string{"RefreshTTL", "-1ns", "1s"}},
		"refresh too long":       {tokensession.Config{RefreshTTL: century + 1}, []string{"RefreshTTL", "876000h0m0s"}},
		"lifetime too short":     {tokensession.Config{MaxLifetime: time.Second - 1}, []string{"MaxLifetime", "999.999999ms", "1s", "Unlimited"}},
		"lifetime negative":      {tokensession.Config{MaxLifetime: -2}, []string{"MaxLifetime", "-2ns", "Unlimited"}},
		"lifetime too long":      {tokensession.Config{MaxLifetime: century + 1}, []string{"MaxLifetime", "876000h0m0s", "Unlimited"}},
		"grace negative":         {tokensession.Config{GracePeriod: -2}, []string{"GracePeriod", "-2ns", "negative", "Strict"}},
		"grace as access":        {tokensession.Config{AccessTTL: time.Minute, GracePeriod: time.Minute}, []string{"GracePeriod", "1m0s", "AccessTTL"}},
		"grace over access":      {tokensession.Config{GracePeriod: time.Hour}, []string{"GracePeriod", "1h0m0s", "AccessTTL", "15m0s"}},
		"default grace":          {tokensession.Config{AccessTTL: 10 * time.Second}, []string{"GracePeriod", "10s", "AccessTTL"}},
		"recovery negative":      {tokensession.Config{RecoveryPeriod: -1}, []string{"RecoveryPeriod", "-1ns", "RefreshTTL", "168h"}},
		"recovery over refresh":  {tokensession.Config{RecoveryPeriod: week + 1}, []string{"RecoveryPeriod", "168h0m0.000000001s", "RefreshTTL", "168h0m0s"}},
		"sessions negative":      {tokensession.Config{MaxSessions: -1}, []string{"MaxSessions", "-1", "negative"}},
		"short key":              {tokensession.Config{RefreshKeys: [][]byte{short}}, []string{"RefreshKeys[0]", "31", "32"}},
		"second key short":       {tokensession.Config{RefreshKeys: [][]byte{long, short}}, []string{"RefreshKeys[1]", "31", "32"}},
		"only key nil":           {tokensession.Config{RefreshKeys: [][]byte{nil}}, []string{"RefreshKeys[0]", "0", "32"}},
		"nil key at both ends":   {tokensession.Config{RefreshKeys: [][]byte{nil, long, nil}}, []string{"RefreshKeys[0]", "32"}},
		"nil keys only":          {tokensession.Config{RefreshKeys: [][]byte{nil, nil}}, []string{"RefreshKeys[0]", "32"}},
		"nil key in the middle":  {tokensession.Config{RefreshKeys: [][]byte{long, nil, long}}, []string{"RefreshKeys[1]", "32"}},
		"empty key, but not nil": {tokensession.Config{RefreshKeys: [][]byte{long, {}}}, []string{"RefreshKeys[1]", "32"}},
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
		"shortest":       {AccessTTL: time.Second, RefreshTTL: time.Second, MaxLifetime: time.Second, GracePeriod: time.Second - 1, RecoveryPeriod: time.Second},
		"longest":        {AccessTTL: 24 * time.Hour, RefreshTTL: century, MaxLifetime: century, GracePeriod: 24*time.Hour - 1, RecoveryPeriod: century},
		"all off":        {MaxLifetime: tokensession.Unlimited, GracePeriod: tokensession.Strict},
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

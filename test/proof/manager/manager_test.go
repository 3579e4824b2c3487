package manager_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// newClock returns a clock that stands at the real time, because Redis drops records by its own
// clock.
func newClock() *testkit.Clock { return testkit.NewClockAt(time.Now().Round(0)) }

// grace is the period of the proofs in which time stands still: it must only be on. pastGrace is
// longer.
const (
	grace     = 10 * time.Second
	pastGrace = 11 * time.Second
)

// signingSecret is the key of every manager, in every process: a manager made anew is the old one
// after a restart.
var signingSecret = []byte("0123456789abcdef0123456789abcdef")

func newManager(tb testing.TB, store tokensession.RefreshStore, cfg tokensession.Config) *tokensession.Manager {
	tb.Helper()
	m, err := makeManager(store, cfg)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func makeManager(store tokensession.RefreshStore, cfg tokensession.Config) (*tokensession.Manager, error) {
	return makeManagerWith(tokensession.AccessConfig{}, store, cfg)
}

func makeManagerWith(access tokensession.AccessConfig, store tokensession.RefreshStore, cfg tokensession.Config) (*tokensession.Manager, error) {
	if cfg.RecoveryPeriod == 0 {
		// Recovery would turn what the proofs look for, reuse after the grace period, into a new
		// successor. It is off unless a proof is about it.
		cfg.RecoveryPeriod = tokensession.Strict
	}
	access.Issuer, access.Audience = "https://auth.example", []string{"https://api.example"}
	key, err := tokensession.NewHMACKey(signingSecret)
	if err != nil {
		return nil, err
	}
	signer, err := tokensession.NewAccessSigner(key, access)
	if err != nil {
		return nil, err
	}
	return tokensession.New(signer, store, cfg)
}

// events collects what a manager reports.
type events struct{ testkit.Events }

// none fails the test if there was an event of one of these kinds.
func (e *events) none(tb testing.TB, kinds ...tokensession.EventKind) {
	tb.Helper()
	for _, kind := range kinds {
		if n := e.Count(kind); n > 0 {
			tb.Errorf("%d events %q, want none", n, kind)
		}
	}
}

func start(tb testing.TB, m *tokensession.Manager, subject string) tokensession.Tokens {
	tb.Helper()
	tokens, err := m.Start(context.Background(), subject)
	if err != nil {
		tb.Fatalf("Start(%s): %v", subject, err)
	}
	return tokens
}

func refresh(tb testing.TB, m *tokensession.Manager, token string) tokensession.Tokens {
	tb.Helper()
	tokens, err := m.Refresh(context.Background(), token)
	if err != nil {
		tb.Fatalf("Refresh(generation %d): %v", generation(token), err)
	}
	return tokens
}

// refreshUntilVerdict refreshes with the token, as a client does that tries again when there is no
// verdict: after a fault, a driver may have to find out that each connection of its pool is dead.
func refreshUntilVerdict(tb testing.TB, m *tokensession.Manager, token string) (tokens tokensession.Tokens, err error) {
	tb.Helper()
	await(tb, "a verdict", func() bool {
		tokens, err = m.Refresh(context.Background(), token)
		return !errors.Is(err, tokensession.ErrUnavailable)
	})
	return tokens, err
}

// wantDead fails the test unless refreshing with the token is refused with want.
func wantDead(tb testing.TB, m *tokensession.Manager, token string, want error) {
	tb.Helper()
	if _, err := refreshUntilVerdict(tb, m, token); !errors.Is(err, want) {
		tb.Errorf("Refresh(generation %d) = %v, want %v", generation(token), err, want)
	}
}

// tokenParts takes a refresh token apart, as only a test may: to a client it is opaque.
func tokenParts(token string) (handle []byte, generation uint64, mac []byte) {
	b, err := base64.RawURLEncoding.DecodeString(token[len("tsr_"):])
	if err != nil {
		panic(err)
	}
	return b[:16], binary.BigEndian.Uint64(b[16:24]), b[24:]
}

func generation(token string) uint64 {
	_, n, _ := tokenParts(token)
	return n
}

// patience is for what takes a second on a machine that does nothing else.
const patience = time.Minute

// await polls until done.
func await(tb testing.TB, what string, done func() bool) {
	tb.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-deadline:
			tb.Fatalf("waited %v for %s", patience, what)
		case <-tick.C:
		}
	}
}

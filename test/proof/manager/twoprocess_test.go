package manager_test

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// roundsEnv is the environment variable that says how many rounds TestTwoProcesses has.
const roundsEnv = "TOKENSESSION_PROOF_ROUNDS"

func rounds(tb testing.TB) int {
	text := os.Getenv(roundsEnv)
	if text == "" {
		return 100
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		tb.Fatalf("%s=%q: must be a number, 1 or more", roundsEnv, text)
	}
	return n
}

// TestTwoProcesses: two processes of 32 goroutines, each process with one connection to the store,
// refresh one token at once. In the grace period all 64 get the same successor; in Strict one gets
// it, and the others end the session. If one process has the client's key, and so may bind the
// session, the other one gets that same successor or none, and ends nothing. If both have it, and
// the session is bound, all of them get the same successor, while a third process without the key
// and a fourth one with a key of its own get nothing for the same token, and end nothing.
func TestTwoProcesses(t *testing.T) {
	eachBackend(t, func(t *testing.T, p place) {
		for _, mode := range linModes {
			t.Run(mode.name, func(t *testing.T) {
				now := newClock().Now()
				m := newManager(t, p.open(t, access{}), tokensession.Config{Now: func() time.Time { return now }, GracePeriod: mode.grace})
				var workers []*worker
				for range 2 {
					workers = append(workers, startWorker(t, job{Do: "race", Place: p, Pool: 1, Grace: mode.grace, Now: now}))
				}
				begin := time.Now()
				if mode.strict {
					raceStrictly(t, m, workers)
				} else {
					raceWithGrace(t, m, workers)
				}
				t.Logf("%d rounds in %v", rounds(t), time.Since(begin).Round(time.Millisecond))
			})
		}
		t.Run("key", func(t *testing.T) {
			now := newClock().Now()
			cfg := tokensession.Config{Now: func() time.Time { return now }}
			m := newManager(t, p.open(t, access{}), cfg)
			var workers []*worker
			for _, key := range []string{clientKey, ""} {
				j := job{Do: "race", Place: p, Pool: 1, Now: now, Key: key}
				workers = append(workers, startWorker(t, j))
			}
			raceForAKey(t, m, workers)
		})
		t.Run("copies", func(t *testing.T) {
			now := newClock().Now()
			cfg := tokensession.Config{Now: func() time.Time { return now }}
			m := newManager(t, p.open(t, access{}), cfg)
			var workers []*worker
			for _, key := range []string{clientKey, clientKey, "", thiefKey} {
				j := job{Do: "race", Place: p, Pool: 1, Now: now, Key: key}
				workers = append(workers, startWorker(t, j))
			}
			raceWithCopies(t, m, workers)
		})
	})
}

// Thumbprints of keys.
const (
	clientKey = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
	thiefKey  = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)

// raceForAKey races for the first tokens of one session after the other. The first process binds
// the session, unless the second one, which has no key, is faster and both get a plain successor.
func raceForAKey(t *testing.T, m *tokensession.Manager, workers []*worker) {
	boundAtOnce, begin := 0, time.Now()
	for round := range rounds(t) {
		token := start(t, m, "carol").RefreshToken
		bound := false
		for n := range 3 {
			got := race(t, workers, token)
			if len(got.Successors) != 1 || got.Reused+got.Revoked+len(got.Others) > 0 {
				t.Fatalf("round %d, race %d: %+v, want one successor only", round, n, got)
			}
			var winners int
			for token, winners = range got.Successors {
			}
			switch {
			case winners == raceGoroutines && got.Unproved == raceGoroutines:
				bound = true
				if n == 0 {
					boundAtOnce++
				}
			case bound || winners != 2*raceGoroutines:
				t.Fatalf("round %d, race %d, bound before: %v: %d successors, %d need a proof",
					round, n, bound, winners, got.Unproved)
			}
		}
		proof := tokensession.WithKeyThumbprint(clientKey)
		tokens, err := m.Refresh(context.Background(), token, proof)
		if err != nil || tokens.Session.KeyThumbprint != clientKey {
			t.Fatalf("round %d: bound to %q, %v", round, tokens.Session.KeyThumbprint, err)
		}
	}
	t.Logf("%d rounds, %d bound by their first race, in %v",
		rounds(t), boundAtOnce, time.Since(begin).Round(time.Millisecond))
}

// raceWithCopies races for the tokens of one bound session, each the successor of the one before. Of
// four processes the first two have its key. The others have copies of each token.
func raceWithCopies(t *testing.T, m *tokensession.Manager, workers []*worker) {
	proof := tokensession.WithKeyThumbprint(clientKey)
	tokens, err := m.Start(context.Background(), "dave", proof)
	if err != nil {
		t.Fatal(err)
	}
	token, begin := tokens.RefreshToken, time.Now()
	for round := range rounds(t) {
		got := race(t, workers, token)
		if len(got.Successors) != 1 || got.Reused+got.Revoked+len(got.Others) > 0 ||
			got.Unproved != raceGoroutines || got.Invalid != raceGoroutines {
			t.Fatalf("round %d: %+v, want one successor, and nothing without the key", round, got)
		}
		for successor, n := range got.Successors {
			if n != 2*raceGoroutines || generation(successor) != generation(token)+1 {
				t.Fatalf("round %d: %d got generation %d, want %d and generation %d", round, n,
					generation(successor), 2*raceGoroutines, generation(token)+1)
			}
			token = successor
		}
	}
	if _, err := m.Refresh(context.Background(), token, proof); err != nil {
		t.Fatalf("after the last round: %v", err)
	}
	t.Logf("%d rounds in %v", rounds(t), time.Since(begin).Round(time.Millisecond))
}

// race lets all the goroutines of all the processes refresh the token.
func race(t *testing.T, workers []*worker, token string) tally {
	t.Helper()
	for _, w := range workers {
		w.send(t, token)
	}
	all := tally{Successors: map[string]int{}}
	for _, w := range workers {
		var one tally
		if !w.receive(t, &one) {
			t.Fatal("a second process has ended")
		}
		all.add(one)
	}
	return all
}

// raceWithGrace races for the tokens of one session, each the successor of the one before.
func raceWithGrace(t *testing.T, m *tokensession.Manager, workers []*worker) {
	token := start(t, m, "alice").RefreshToken
	for round := range rounds(t) {
		got := race(t, workers, token)
		if len(got.Successors) != 1 || got.Reused+got.Revoked+len(got.Others) > 0 {
			t.Fatalf("round %d: %+v, want one successor and nothing else", round, got)
		}
		for successor, n := range got.Successors {
			if n != len(workers)*raceGoroutines || generation(successor) != generation(token)+1 {
				t.Fatalf("round %d: %d got the successor of generation %d, want %d and generation %d",
					round, n, generation(successor), len(workers)*raceGoroutines, generation(token)+1)
			}
			token = successor
		}
	}
	refresh(t, m, token)
}

// raceStrictly races for the first token of one session after the other.
//
// A round in which the store did not answer some of them for the five seconds that a revocation
// waits has told them nothing. It is played again, a few times.
func raceStrictly(t *testing.T, m *tokensession.Manager, workers []*worker) {
	void := 0
	for round := 0; round < rounds(t); round++ {
		got := race(t, workers, start(t, m, "bob").RefreshToken)
		winners := 0
		for successor, n := range got.Successors {
			winners += n
			wantDead(t, m, successor, tokensession.ErrRevoked)
		}
		if void < 3 && winners <= 1 && len(got.Others) > 0 && len(got.Others) == got.Unavailable {
			t.Logf("round %d is played again: %v", round, got.Others)
			void++
			round--
			continue
		}
		if winners != 1 || got.Reused != 1 || got.Revoked != len(workers)*raceGoroutines-2 || len(got.Others) > 0 {
			t.Fatalf("round %d: %d winners and %+v, want one winner, one who is told of the reuse, and the others told that the session is revoked",
				round, winners, got)
		}
	}
}

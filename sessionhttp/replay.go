package sessionhttp

import (
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// replayPeriod is how long a proof is remembered at least: as long as it can be accepted. A proof
// with a nonce can be for nonceLifetime, and one without for the shorter time that its iat allows.
const replayPeriod = max(nonceLifetime, proofMaxAge+proofMaxAhead+time.Second)

const (
	replayShards  = 64
	defaultMemory = 1 << 20 // proofs
	minMemory     = 1 << 10 // proofs: fewer would be full before they are evenly spread
)

// replays remember the proofs that were accepted, so that none is accepted twice (RFC 9449 section
// 11.1). A request that somebody has captured, as in a log, can then not be sent again.
//
// A proof is remembered by a hash of its key and its jti: a client chooses its own jti, and must
// not be able to spend another's. The hash has 64 bits and a seed that nobody knows, so that nobody
// can look for two proofs with the same one.
//
// Each shard has two generations. When the recent one is replayPeriod old, it becomes the one
// before, and what that had is forgotten. So a proof is remembered for one to two periods.
//
// When there is no room, nothing is forgotten early: a proof that cannot be remembered is not
// accepted.
type replays struct {
	seed   maphash.Seed
	limit  int // proofs in one shard
	shards [replayShards]replayShard
}

type replayShard struct {
	mu             sync.Mutex
	began          time.Time // when the recent generation did
	recent, before map[uint64]struct{}
}

var errReplayed = fmt.Errorf("%w: it was used before", ErrInvalidProof)

func newReplays(memory int) *replays {
	return &replays{seed: maphash.MakeSeed(), limit: memory / replayShards}
}

// enter remembers a proof. The error is an ErrInvalidProof if it is there already, and
// ErrUnavailable if there is no room.
func (m *replays) enter(thumbprint, jti string, now time.Time) error {
	var h maphash.Hash
	h.SetSeed(m.seed)
	_, _ = h.WriteString(thumbprint) // always 43 bytes, so that the two cannot be confused
	_, _ = h.WriteString(jti)
	sum := h.Sum64()
	return m.shards[sum%replayShards].enter(sum, m.limit, now)
}

func (s *replayShard) enter(sum uint64, limit int, now time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turn(now)
	if _, ok := s.recent[sum]; ok {
		return errReplayed
	}
	if _, ok := s.before[sum]; ok {
		return errReplayed
	}
	if len(s.recent)+len(s.before) >= limit {
		return errMemoryFull
	}
	s.recent[sum] = struct{}{}
	return nil
}

var errMemoryFull = fmt.Errorf("%w: %w", tokensession.ErrUnavailable,
	errors.New("sessionhttp: the memory of DPoP proofs is full"))

// turn begins a new generation where it is time to. Times of [time.Now] are compared by a clock
// that nobody can set. Others can come from a clock that was put back. Then nobody knows how much
// time has passed: what is remembered is kept for one more period, and not for as long as the clock
// was put back, in which the memory would be full.
func (s *replayShard) turn(now time.Time) {
	switch age := now.Sub(s.began); {
	case s.recent != nil && age.Abs() < replayPeriod:
		return
	case age < 2*replayPeriod:
		s.before = s.recent
	default:
		s.before = nil
	}
	s.recent, s.began = map[uint64]struct{}{}, now
}

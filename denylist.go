package tokensession

import (
	"sync"
	"sync/atomic"
	"time"
)

const purgeInterval = time.Minute

// A timedSet holds ids, each until the latest time it was added for. Reading it takes no lock and
// allocates nothing.
type timedSet struct {
	ids       sync.Map     // id → until when, in microseconds
	nextPurge atomic.Int64 // in microseconds
}

func (s *timedSet) add(id string, until, now time.Time) {
	if !until.After(now) {
		return
	}
	for {
		known, there := s.ids.LoadOrStore(id, until.UnixMicro())
		if !there || known.(int64) >= until.UnixMicro() || s.ids.CompareAndSwap(id, known, until.UnixMicro()) {
			break
		}
	}
	next := s.nextPurge.Load()
	due := now.UnixMicro() >= next || now.UnixMicro() < next-purgeInterval.Microseconds() // the clock was put back
	if due && s.nextPurge.CompareAndSwap(next, now.Add(purgeInterval).UnixMicro()) {
		s.purge(now)
	}
}

// has takes the id as an any because the map does, and to make one of a string costs an allocation.
// A [verifiedToken] keeps its session's id in that form.
func (s *timedSet) has(id any, now time.Time) bool {
	until, ok := s.ids.Load(id)
	return ok && now.UnixMicro() < until.(int64)
}

func (s *timedSet) purge(now time.Time) {
	s.ids.Range(func(id, until any) bool {
		if now.UnixMicro() >= until.(int64) {
			s.ids.CompareAndDelete(id, until)
		}
		return true
	})
}

// deny puts a revoked session on the deny list, for as long as an access token of it may live. The
// clock that revoked may be behind that of the instance that made the token by as much as the
// leeway, which comes to the token's life, too.
func (m *Manager) deny(sessionID string, revokedAt time.Time) {
	m.denied.add(sessionID, revokedAt.Add(m.denyPeriod()), m.now())
}

func (m *Manager) denyPeriod() time.Duration {
	// A replay makes access tokens, too, and may do so while the revocation is being written.
	return m.cfg.AccessTTL + m.rules.grace + 2*m.signer.cfg.Leeway + clockSkew
}

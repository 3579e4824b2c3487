package tokensession

import "time"

// In a storm of notifications, there are 20 looks at the feed a second. After a quiet time there
// may be a few without a pause: revocations are seldom alone, and only a storm is a load for the
// store.
const (
	lookEach  = time.Second / 20
	lookBurst = 4
)

// A pace keeps looks at the feed from coming too often. It is a bucket of lookBurst looks, which
// fills by one each lookEach.
type pace struct {
	filling time.Duration // how long the bucket took to be full, at the time of last
	last    time.Time     // when a look was taken out of it
}

// take takes one look out of the bucket, and returns how long to wait before it. That is lookEach
// at most, also where the clock stands still. A clock that was put back tells nothing of how much
// time has passed, and counts as one that has stood still.
func (p *pace) take(now time.Time) time.Duration {
	const empty = lookBurst * lookEach
	passed := max(now.Sub(p.last), 0)
	p.filling = min(max(p.filling-passed, 0)+lookEach, empty+lookEach)
	p.last = now
	return max(p.filling-empty, 0)
}

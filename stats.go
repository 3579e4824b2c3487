package tokensession

import "time"

// Stats are figures of a Manager for a monitoring system.
type Stats struct {
	// FeedReadAt is when the last good look at the revocation feed began. It is zero before the
	// first one, and without Run or a feed. A revocation that is older has been heard of.
	FeedReadAt time.Time

	// Denied is how many entries the deny list has: sessions whose access tokens are refused, or
	// the older ones of them. Some may be over, because they are dropped in batches.
	Denied int
}

// Stats returns the figures as they are now. It reads no store, and is cheap enough for a look each
// second.
func (m *Manager) Stats() Stats {
	read, _ := m.feed.last()
	return Stats{FeedReadAt: read, Denied: m.denied.len()}
}

func (l *denyList) len() int {
	n := 0
	for i := range l.shards {
		s := &l.shards[i]
		s.mu.Lock()
		n += s.count
		s.mu.Unlock()
	}
	return n
}

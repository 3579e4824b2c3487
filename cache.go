package tokensession

import (
	"hash/maphash"
	"math"
	"math/bits"
	"sync/atomic"
)

// A tokenCache remembers authentic tokens. It is a hash table of fixed size in which a token can stand in any place of
// two sets; reading it takes no lock and allocates nothing. Losing an entry costs a signature check and nothing else,
// so writers need not agree.
type tokenCache struct {
	seed maphash.Seed
	sets []cacheSet // a power of two of them, or none
}

// A cacheSet is one line of a processor's cache. Two sets of four give a token a place while the table is nearly full;
// one alone would make tokens push each other out long before.
type cacheSet [cacheWays]cacheSlot

const cacheWays = 4

// A cacheSlot has the token's hash beside it, so that looking for one token touches no other. The two are not written
// together: only the token itself says what is there.
type cacheSlot struct {
	hash  atomic.Uint64
	token atomic.Pointer[verifiedToken]
}

func newTokenCache(size int) *tokenCache {
	if size <= 0 {
		return &tokenCache{}
	}
	sets := 1 << bits.Len(uint(max(size, cacheWays)-1)/cacheWays)
	return &tokenCache{maphash.MakeSeed(), make([]cacheSet, sets)}
}

func (c *tokenCache) get(token string) *verifiedToken {
	if len(c.sets) == 0 || len(token) > maxAccessSize {
		return nil
	}
	hash := maphash.String(c.seed, token)
	for _, set := range c.setsOf(hash) {
		for i := range set {
			if set[i].hash.Load() != hash {
				continue
			}
			if v := set[i].token.Load(); v != nil && v.token == token {
				return v
			}
		}
	}
	return nil
}

// put remembers v in the set that has more room, and where neither has any, instead of the token that expires first.
func (c *tokenCache) put(v *verifiedToken) {
	if v.cached || len(c.sets) == 0 {
		return
	}
	v.cached = true
	hash := maphash.String(c.seed, v.token)
	sets := c.setsOf(hash)
	slot, free, expires := sets[0].victim()
	if s, f, e := sets[1].victim(); f > free || f == free && e < expires {
		slot = s
	}
	slot.token.Store(v)
	slot.hash.Store(hash)
}

// victim returns the place that a new token should take, how many are free, and when the token there expires.
func (s *cacheSet) victim() (slot *cacheSlot, free int, expires int64) {
	slot, expires = &s[0], math.MaxInt64
	for i := range s {
		switch old := s[i].token.Load(); {
		case old == nil:
			slot, free, expires = &s[i], free+1, math.MinInt64
		case old.expires < expires:
			slot, expires = &s[i], old.expires
		}
	}
	return slot, free, expires
}

func (c *tokenCache) setsOf(hash uint64) [2]*cacheSet {
	mask := uint64(len(c.sets) - 1)
	return [2]*cacheSet{&c.sets[hash&mask], &c.sets[hash>>32&mask]}
}

package tokensession

import (
	"hash/maphash"
	"math"
	"math/bits"
	"sync/atomic"
)

// A tokenCache remembers tokens that have been verified. It is a hash table of fixed size in which
// a token can stand in any place of two sets. Reading it takes no lock and allocates nothing.
//
// Writers take no lock either. Two of them can choose the same place, and one of the two tokens is
// lost; or both put the same token in, in two places. That is harmless, because the cache decides
// nothing: a token that is not found is verified again, which costs a check of its signature.
type tokenCache struct {
	seed maphash.Seed
	sets []cacheSet // a power of two of them, or none
}

// A cacheSet is as long as one line of a processor's cache. With two sets of four, a token finds a
// place until the table is nearly full. With one set, tokens would push each other out long before.
type cacheSet [cacheWays]cacheSlot

const cacheWays = 4

// A cacheSlot has the hash beside the pointer to the token, so that a search reads the memory of no
// other token. The two are not written together. A reader can find the hash of one token beside
// another token, and so it must compare the token itself.
type cacheSlot struct {
	hash  atomic.Uint64
	token atomic.Pointer[verifiedToken]
}

// newTokenCache returns a cache with room for so many tokens, or for none.
func newTokenCache(size int) *tokenCache {
	if size <= 0 {
		return &tokenCache{}
	}
	sets := 1 << bits.Len(uint(max(size, cacheWays)-1)/cacheWays)
	return &tokenCache{maphash.MakeSeed(), make([]cacheSet, sets)}
}

// get returns the token as it was put in, or nil.
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

// put remembers v, for which get has found nothing. It takes the set that has more room. Where
// neither has any, v takes the place of the token that expires first.
func (c *tokenCache) put(v *verifiedToken) {
	if len(c.sets) == 0 {
		return
	}
	hash := maphash.String(c.seed, v.token)
	sets := c.setsOf(hash)
	slot, free, expires := sets[0].victim()
	if s, f, e := sets[1].victim(); f > free || f == free && e < expires {
		slot = s
	}
	slot.token.Store(v)
	slot.hash.Store(hash)
}

// victim returns the place that a new token should take, how many places are free, and when the
// token that stands there expires.
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

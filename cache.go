package tokensession

import (
	"hash/maphash"
	"math/bits"
	"sync/atomic"
)

// A tokenCache remembers authentic tokens. It is a hash table of fixed size in which a token can stand in cacheWays
// places; reading it takes no lock and allocates nothing. Losing an entry costs a signature check and nothing else, so
// writers need not agree.
type tokenCache struct {
	seed  maphash.Seed
	slots []atomic.Pointer[verifiedToken] // a power of two of them, or none
}

const cacheWays = 4

func newTokenCache(size int) *tokenCache {
	if size <= 0 {
		return &tokenCache{}
	}
	slots := 1 << bits.Len(uint(max(size, cacheWays)-1))
	return &tokenCache{maphash.MakeSeed(), make([]atomic.Pointer[verifiedToken], slots)}
}

func (c *tokenCache) get(token string) *verifiedToken {
	if len(c.slots) == 0 || len(token) > maxAccessSize {
		return nil
	}
	hash := maphash.String(c.seed, token)
	ways := c.ways(hash)
	for i := range ways {
		if v := ways[i].Load(); v != nil && v.hash == hash && v.token == token {
			return v
		}
	}
	return nil
}

// put remembers v instead of the token among its ways that expires first.
func (c *tokenCache) put(v *verifiedToken) {
	if v.cached || len(c.slots) == 0 {
		return
	}
	v.hash, v.cached = maphash.String(c.seed, v.token), true
	ways := c.ways(v.hash)
	victim := 0
	soonest := int64(1<<63 - 1)
	for i := range ways {
		old := ways[i].Load()
		if old == nil {
			victim = i
			break
		}
		if old.expires < soonest {
			victim, soonest = i, old.expires
		}
	}
	ways[victim].Store(v)
}

func (c *tokenCache) ways(hash uint64) []atomic.Pointer[verifiedToken] {
	first := hash & uint64(len(c.slots)-1) &^ (cacheWays - 1)
	return c.slots[first : first+cacheWays]
}

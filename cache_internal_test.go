package tokensession

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func (c *tokenCache) places() int { return len(c.sets) * cacheWays }

func TestTokenCache_isBounded(t *testing.T) {
	for _, size := range []int{1, 3, 4, 5, 64, 1000, defaultCacheSize} {
		c := newTokenCache(size)
		require.GreaterOrEqual(t, c.places(), size)
		require.Less(t, c.places(), max(2*size, cacheWays+1), "the next power of two, but for the ways")
		for n := range 4 * c.places() {
			c.put(&verifiedToken{token: fmt.Sprint("token ", n), expires: int64(n)})
		}
		found := 0
		for n := range 4 * c.places() {
			if v := c.get(fmt.Sprint("token ", n)); v != nil {
				require.EqualValues(t, n, v.expires)
				found++
			}
		}
		require.LessOrEqual(t, found, c.places())
		require.Greater(t, found, c.places()/2, "and it is used")
	}
	for _, size := range []int{0, -1} {
		c := newTokenCache(size)
		c.put(&verifiedToken{token: "token"})
		require.Nil(t, c.get("token"))
	}
}

// TestTokenCache_keepsAllWhileHalfFull: tokens that push each other out cost a signature check at
// every request.
func TestTokenCache_keepsAllWhileHalfFull(t *testing.T) {
	lost := 0
	for range 10 {
		c := newTokenCache(defaultCacheSize)
		for n := range defaultCacheSize / 2 {
			c.put(&verifiedToken{token: fmt.Sprint("token ", n), expires: int64(n)})
		}
		for n := range defaultCacheSize / 2 {
			if c.get(fmt.Sprint("token ", n)) == nil {
				lost++
			}
		}
	}
	require.LessOrEqual(t, lost, 10*defaultCacheSize/2/1000, "one in a thousand would be much")
}

// TestTokenCache_givesUpTheTokenThatExpiresFirst has all tokens in the same few places.
func TestTokenCache_givesUpTheTokenThatExpiresFirst(t *testing.T) {
	c := newTokenCache(cacheWays)
	for n := range 100 {
		c.put(&verifiedToken{token: fmt.Sprint(n), expires: int64(n)})
	}
	for n := range 100 {
		require.Equal(t, n >= 100-cacheWays, c.get(fmt.Sprint(n)) != nil, n)
	}
}

// TestTokenCache_comparesTheToken has two tokens with the same hash, which is otherwise hard to
// come by.
func TestTokenCache_comparesTheToken(t *testing.T) {
	c := newTokenCache(4)
	v := &verifiedToken{token: "token"}
	c.put(v)
	require.Same(t, v, c.get("token"))
	v.token = "other"
	require.Nil(t, c.get("token"))
}

// TestVerify_remembersNoTokenThatWasRefused: else old tokens, of which anybody who had one has
// many, would push out the ones in use.
func TestVerify_remembersNoTokenThatWasRefused(t *testing.T) {
	s, token, now := signerAndToken(t)
	remembered := func() bool { return s.keys.Load().cache.get(token) != nil }

	_, err := s.verify(token, now.Add(-time.Second))
	require.ErrorIs(t, err, ErrInvalidToken)
	require.False(t, remembered())
	_, err = s.verify(token, now.Add(time.Minute))
	require.ErrorIs(t, err, ErrExpired)
	require.False(t, remembered())
	_, err = s.verify(token, now)
	require.NoError(t, err)
	require.True(t, remembered())
}

func TestVerify_remembersATokenOnce(t *testing.T) {
	s, token, now := signerAndToken(t)
	first, err := s.verify(token, now)
	require.NoError(t, err)
	for range 10 {
		again, err := s.verify(token, now)
		require.NoError(t, err)
		require.Same(t, first, again)
	}
	n := 0
	sets := s.keys.Load().cache.sets
	for i := range sets {
		for j := range sets[i] {
			if sets[i][j].token.Load() != nil {
				n++
			}
		}
	}
	require.Equal(t, 1, n)
}

// signerAndToken returns a signer with a token that is good for a minute from now on.
func signerAndToken(t *testing.T) (s *AccessSigner, token string, now time.Time) {
	key, err := GenerateKey()
	require.NoError(t, err)
	s, err = NewAccessSigner(key, AccessConfig{Issuer: "issuer", Audience: []string{"audience"}})
	require.NoError(t, err)
	now = time.Unix(1_000_000, 0)
	token, err = s.sign(standardClaims{
		Issuer: "issuer", Subject: "alice", Audience: []string{"audience"}, ID: "j", Session: "s",
		Expires: now.Unix() + 60, IssuedAt: now.Unix(),
	}, nil, now)
	require.NoError(t, err)
	return s, token, now
}

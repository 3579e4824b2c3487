package tokensession_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

func TestVerify_allocatesNothingOnAHit(t *testing.T) {
	for _, k := range testKeys() {
		b := newAccessBench(t, k, tokensession.AccessConfig{}, tokensession.Config{})
		tokens := b.start(t)
		for name, verify := range b.verifiers() {
			first, err := verify(tokens.AccessToken)
			require.NoError(t, err)
			second, err := verify(tokens.AccessToken)
			require.NoError(t, err)
			require.Equal(t, first, second, "%s by %s", k.alg, name)
			require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = verify(tokens.AccessToken) }), "%s by %s", k.alg, name)
		}
	}
}

// TestVerify_remembersNothingWithoutACache tells a hit from a miss by its allocations.
func TestVerify_remembersNothingWithoutACache(t *testing.T) {
	for _, k := range testKeys() {
		b := newAccessBench(t, k, tokensession.AccessConfig{CacheSize: -1}, tokensession.Config{})
		for name, verify := range b.verifiers() {
			require.Positive(t, testing.AllocsPerRun(5, func() {
				_, err := verify(b.good)
				require.NoError(t, err)
			}), "%s by %s", k.alg, name)
		}
	}
}

func TestVerify_looksAtNotBeforeOnAHit(t *testing.T) {
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	early := b.forge(b.header(), claimsWith(fmt.Sprintf(`"nbf":%d`, forgeTime.Unix()+60)))
	for name, verify := range b.verifiers() {
		for range 2 {
			_, err := verify(early)
			require.ErrorIs(t, err, tokensession.ErrInvalidToken, name)
			b.clock.Advance(time.Minute)
			_, err = verify(early)
			require.NoError(t, err, "%s: its time has come", name)
			b.clock.Advance(-time.Minute) // the clock is set back, and the token is in the cache
		}
	}
}

func TestVerify_looksAtTheDenyListOnAHit(t *testing.T) {
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	tokens, other := b.start(t), b.start(t)
	for range 2 {
		_, err := b.manager.Verify(tokens.AccessToken)
		require.NoError(t, err)
	}
	require.NoError(t, b.manager.Revoke(context.Background(), tokens.Session.ID))
	for range 2 {
		access, err := b.manager.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked)
		require.Zero(t, access)
	}
	_, err := b.manager.Verify(other.AccessToken)
	require.NoError(t, err, "the subject's other session")
}

// TestVerify_findsATokenOnlyByAllOfIt: the cache must not take the beginning of a token for the
// token.
func TestVerify_findsATokenOnlyByAllOfIt(t *testing.T) {
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{CacheSize: 4}, tokensession.Config{})
	for name, verify := range b.verifiers() {
		requireGood(t, b, name, verify)
		for i := range b.good {
			changed := []byte(b.good)
			changed[i] ^= 1
			for _, token := range []string{b.good[:i], b.good[i+1:], string(changed)} {
				_, err := verify(token)
				require.ErrorIs(t, err, tokensession.ErrInvalidToken, "%s: %s", name, token)
			}
		}
		requireGood(t, b, name, verify)
	}
}

// TestVerify_concurrently is for the race detector: many tokens in few places, while keys are added
// and sessions end.
func TestVerify_concurrently(t *testing.T) {
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{CacheSize: 8}, tokensession.Config{})
	jwks := b.signer.JWKS()
	tokens := make([]tokensession.Tokens, 64)
	for i := range tokens {
		tokens[i] = b.start(t)
	}
	ends := func(i int) bool { return i%8 == 0 }
	var working sync.WaitGroup
	for worker := range 4 {
		working.Go(func() {
			for n := range 256 {
				i := (n*7 + worker) % len(tokens)
				for name, verify := range b.verifiers() {
					access, err := verify(tokens[i].AccessToken)
					if name == "Manager" && ends(i) && errors.Is(err, tokensession.ErrRevoked) {
						continue
					}
					if err != nil || access.SessionID != tokens[i].Session.ID {
						t.Errorf("%s: token of session %s: %+v, %v", name, tokens[i].Session.ID, access, err)
						return
					}
				}
			}
		})
	}
	working.Go(func() {
		for i := range tokens {
			var err error
			if ends(i) {
				err = b.manager.Revoke(context.Background(), tokens[i].Session.ID)
			}
			key, keyErr := tokensession.GenerateKey()
			if err := errors.Join(err, keyErr, b.signer.Rotate(key, forgeTime.Add(time.Hour)), b.verifier.SetKeys(jwks)); err != nil {
				t.Error(err)
			}
		}
	})
	working.Wait()
	for i := range tokens {
		_, err := b.manager.Verify(tokens[i].AccessToken)
		require.Equal(t, ends(i), errors.Is(err, tokensession.ErrRevoked))
	}
}

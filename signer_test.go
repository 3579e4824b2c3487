package tokensession_test

import (
	"context"
	"crypto/ecdsa"
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// kids returns the key ids of a JWKS, in order.
func kids(t testing.TB, jwks []byte) []string {
	t.Helper()
	list := []string{}
	for _, raw := range jwksKeys(jwks) {
		var k struct{ Kid string }
		require.NoError(t, json.Unmarshal(raw, &k))
		list = append(list, k.Kid)
	}
	return list
}

// kidOf returns the kid in a token's header.
func kidOf(t testing.TB, token string) string {
	t.Helper()
	var h struct{ Kid string }
	require.NoError(t, json.Unmarshal(tokenPart(t, token, 0), &h))
	return h.Kid
}

// TestRotate_publishesThenSignsThenRetires walks through a rotation: the old key signs until
// signFrom, and its tokens live until each has expired; the new one is published before anything is
// signed with it.
func TestRotate_publishesThenSignsThenRetires(t *testing.T) {
	const ttl, leeway = 20 * time.Minute, 3 * time.Second
	k1, k2 := testKeyFor("EdDSA"), testKeyFor("ES256")
	b := newAccessBench(t, k1, tokensession.AccessConfig{Leeway: leeway}, tokensession.Config{AccessTTL: ttl})
	require.Equal(t, []string{k1.key.ID()}, kids(t, b.signer.JWKS()))
	early := b.start(t)
	_, err := b.manager.Verify(early.AccessToken)
	require.NoError(t, err, "and in the cache")

	signFrom := forgeTime.Add(time.Hour)
	require.NoError(t, b.signer.Rotate(k2.key, signFrom))
	published := b.signer.JWKS()
	require.Equal(t, []string{k1.key.ID(), k2.key.ID()}, kids(t, published), "published at once")
	cfg := accessConfig
	cfg.Leeway, cfg.Now = leeway, b.clock.Now
	elsewhere, err := tokensession.NewAccessVerifier(published, cfg)
	require.NoError(t, err)

	b.clock.Set(signFrom.Add(-time.Microsecond))
	last := b.start(t)
	require.Equal(t, k1.key.ID(), kidOf(t, last.AccessToken), "the old key signs until signFrom")
	b.clock.Set(signFrom)
	first := b.start(t)
	require.Equal(t, k2.key.ID(), kidOf(t, first.AccessToken), "the new one from signFrom on")
	for _, tokens := range []tokensession.Tokens{last, first} {
		for _, verify := range []verifyFunc{b.manager.Verify, elsewhere.Verify} {
			_, err := verify(tokens.AccessToken)
			require.NoError(t, err)
		}
	}
	next, err := b.manager.Refresh(context.Background(), early.RefreshToken)
	require.NoError(t, err)
	require.Equal(t, k2.key.ID(), kidOf(t, next.AccessToken), "sessions go over to the new key")

	// exp is in whole seconds, so the last token dies up to a second before its key.
	b.clock.Set(last.AccessExpiresAt.Add(leeway - time.Microsecond))
	_, err = b.manager.Verify(last.AccessToken)
	require.NoError(t, err, "the last token lives out its time")
	b.clock.Set(signFrom.Add(ttl + leeway - time.Microsecond))
	require.Equal(t, []string{k1.key.ID(), k2.key.ID()}, kids(t, b.signer.JWKS()))
	foreverYoung := k1.forge(k1.header(), claimsWith(`"exp":9999999999`,
		fmt.Sprintf(`"iat":%d`, signFrom.Unix()))) // a Manager accepts none that is older than its AccessTTL
	_, err = b.manager.Verify(foreverYoung)
	require.NoError(t, err)

	b.clock.Set(signFrom.Add(ttl + leeway))
	require.Equal(t, []string{k2.key.ID()}, kids(t, b.signer.JWKS()), "retired by itself")
	_, err = b.manager.Verify(foreverYoung)
	require.ErrorIs(t, err, tokensession.ErrInvalidToken, "whatever it signed, though it is in the cache")
	_, err = b.manager.Verify(b.start(t).AccessToken)
	require.NoError(t, err)
}

// Two Managers share a signer, say one for browsers and one for machines: a key lives as long as
// the longer tokens.
func TestRotate_keepsAKeyForTheLongestTokensItSigned(t *testing.T) {
	for name, other := range map[string]time.Duration{"before": 2 * time.Hour, "after": time.Minute} {
		t.Run(name, func(t *testing.T) {
			k1 := testKeyFor("EdDSA")
			b := newAccessBench(t, k1, tokensession.AccessConfig{}, tokensession.Config{AccessTTL: time.Hour})
			second, err := tokensession.New(b.signer, tokensession.NewMemoryStore(), tokensession.Config{Now: b.clock.Now, AccessTTL: other})
			require.NoError(t, err)
			tokens, verify := b.start(t), b.manager.Verify
			if other > time.Hour {
				tokens, err = second.Start(context.Background(), "bob")
				require.NoError(t, err)
				verify = second.Verify
			}
			require.NoError(t, b.signer.Rotate(testKeyFor("ES256").key, b.clock.Now()))
			b.clock.Set(tokens.AccessExpiresAt.Add(-time.Microsecond))
			_, err = verify(tokens.AccessToken)
			require.NoError(t, err)
			require.Contains(t, kids(t, b.signer.JWKS()), k1.key.ID())
		})
	}
}

// Another process, whose AccessTTL is longer, may have signed with the key.
func TestRotate_keepsAKeyForOtherProcesses(t *testing.T) {
	const leeway = 3 * time.Second
	for name, keep := range map[string]time.Duration{"for longer": 5 * time.Hour, "never less": time.Minute} {
		t.Run(name, func(t *testing.T) {
			k1 := testKeyFor("EdDSA")
			b := newAccessBench(t, k1, tokensession.AccessConfig{KeepKeys: keep, Leeway: leeway},
				tokensession.Config{AccessTTL: time.Hour})
			require.NoError(t, b.signer.Rotate(testKeyFor("ES256").key, forgeTime))
			ends := forgeTime.Add(max(keep, time.Hour) + leeway)
			b.clock.Set(ends.Add(-micro))
			require.Contains(t, kids(t, b.signer.JWKS()), k1.key.ID())
			b.clock.Set(ends)
			require.NotContains(t, kids(t, b.signer.JWKS()), k1.key.ID())
		})
	}
}

// TestRotate_asksNothingOfAnUnhurriedVerifier: one that fetched the JWKS before a rotation, and
// again at any time between Rotate and signFrom, never meets a token that it cannot verify.
func TestRotate_asksNothingOfAnUnhurriedVerifier(t *testing.T) {
	b := newAccessBench(t, testKeyFor("ES384"), tokensession.AccessConfig{}, tokensession.Config{})
	keys := testKeys()
	for i := range 3 {
		signFrom := b.clock.Now().Add(time.Hour)
		require.NoError(t, b.signer.Rotate(keys[i].key, signFrom))
		for range 8 {
			require.NoError(t, b.verifier.SetKeys(b.signer.JWKS()))
			for range 4 {
				b.clock.Advance(14 * time.Minute)
				_, err := b.verifier.Verify(b.start(t).AccessToken)
				require.NoError(t, err)
			}
		}
		require.Len(t, kids(t, b.signer.JWKS()), 1)
	}
}

func TestRotate_severalTimesAhead(t *testing.T) {
	keys := testKeys()
	b := newAccessBench(t, keys[0], tokensession.AccessConfig{}, tokensession.Config{})
	at := func(h int) time.Time { return forgeTime.Add(time.Duration(h) * time.Hour) }
	require.NoError(t, b.signer.Rotate(keys[1].key, at(1)))
	require.NoError(t, b.signer.Rotate(keys[2].key, at(2)))
	require.NoError(t, b.signer.Rotate(keys[3].key, at(2)), "at the same time: the later call's key signs")
	for h, want := range map[int]int{0: 0, 1: 1, 2: 3, 3: 3} {
		b.clock.Set(at(h))
		require.Equal(t, keys[want].key.ID(), kidOf(t, b.start(t).AccessToken), "hour %d", h)
	}
	b.clock.Set(at(1).Add(30 * time.Minute))
	require.Len(t, kids(t, b.signer.JWKS()), 3, "the first has retired")
	b.clock.Set(at(3))
	require.Equal(t, []string{keys[3].key.ID()}, kids(t, b.signer.JWKS()))
}

func TestRotate_atOnce(t *testing.T) {
	for name, signFrom := range map[string]time.Time{"past": forgeTime.Add(-time.Minute), "now": forgeTime} {
		k := testKeyFor("ES256")
		b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
		before := b.start(t)
		require.NoError(t, b.signer.Rotate(k.key, signFrom), name)
		require.Equal(t, k.key.ID(), kidOf(t, b.start(t).AccessToken), name)
		_, err := b.manager.Verify(before.AccessToken)
		require.NoError(t, err, name)
		require.Len(t, kids(t, b.signer.JWKS()), 2, name)
		b.clock.Set(signFrom.Add(15 * time.Minute))
		require.Equal(t, []string{k.key.ID()}, kids(t, b.signer.JWKS()), name)
	}
}

func TestRotate_refuses(t *testing.T) {
	k1, k2 := testKeyFor("EdDSA"), testKeyFor("ES256")
	b := newAccessBench(t, k1, tokensession.AccessConfig{}, tokensession.Config{})
	signFrom := forgeTime.Add(time.Hour)
	require.ErrorContains(t, b.signer.Rotate(tokensession.Key{}, signFrom), "zero value")
	require.ErrorContains(t, b.signer.Rotate(k2.key, time.Time{}), "zero time", "which would keep the old key for ever")
	require.ErrorContains(t, b.signer.Rotate(k1.key, signFrom), k1.key.ID(), "the key that signs")
	require.NoError(t, b.signer.Rotate(k2.key, signFrom))
	require.ErrorContains(t, b.signer.Rotate(k2.key, signFrom.Add(time.Hour)), k2.key.ID(), "the next key")
	require.ErrorContains(t, b.signer.Rotate(k1.key, signFrom.Add(time.Hour)), k1.key.ID(), "back to the first")
	err := b.signer.Rotate(testKeyFor("ES384").key, signFrom.Add(-1))
	require.ErrorContains(t, err, signFrom.String(), "before the one before it")
	require.ErrorContains(t, err, k2.key.ID())
	pss, err := tokensession.ParseKeyJWK(rsaJWK(rsaKey("RS256"), "PS256"))
	require.NoError(t, err)
	rs := newAccessBench(t, testKeyFor("RS256"), tokensession.AccessConfig{}, tokensession.Config{})
	require.Error(t, rs.signer.Rotate(pss, signFrom), "the same key for another algorithm: its kid would be there twice")

	b.clock.Advance(24 * time.Hour)
	require.Error(t, b.signer.Rotate(k1.key, b.clock.Now()), "a retired key does not come back")
	require.Equal(t, []string{k2.key.ID()}, kids(t, b.signer.JWKS()), "no refused call left a trace")
}

// TestRetire_atOnce is jwkset's GHSA-675f-rq2r-jw82: a key that was removed went on verifying out
// of a cache.
func TestRetire_atOnce(t *testing.T) {
	k1, k2 := testKeyFor("EdDSA"), testKeyFor("ES256")
	b := newAccessBench(t, k1, tokensession.AccessConfig{}, tokensession.Config{})
	leaked := b.start(t)
	for _, verify := range b.verifiers() {
		for range 2 {
			_, err := verify(leaked.AccessToken)
			require.NoError(t, err)
		}
	}
	require.ErrorContains(t, b.signer.Retire(k1.key.ID()), "rotate to another first")
	requireNoKey(t, b.signer.Retire("unknown"), "unknown")
	require.NoError(t, b.signer.Rotate(k2.key, forgeTime.Add(time.Hour)))
	_, err := b.manager.Verify(leaked.AccessToken)
	require.NoError(t, err, "and so it is in the cache again, which Rotate has emptied")
	require.NoError(t, b.signer.Retire(k1.key.ID()))

	require.Equal(t, []string{k2.key.ID()}, kids(t, b.signer.JWKS()))
	_, err = b.manager.Verify(leaked.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrInvalidToken)
	now := b.start(t)
	require.Equal(t, k2.key.ID(), kidOf(t, now.AccessToken), "the next key signs at once, before its time")
	_, err = b.manager.Verify(now.AccessToken)
	require.NoError(t, err)
	next, err := b.manager.Refresh(context.Background(), leaked.RefreshToken)
	require.NoError(t, err, "the session lives on")
	_, err = b.manager.Verify(next.AccessToken)
	require.NoError(t, err)

	require.NoError(t, b.verifier.SetKeys(b.signer.JWKS()))
	_, err = b.verifier.Verify(leaked.AccessToken)
	require.ErrorIs(t, err, tokensession.ErrInvalidToken, "a verifier forgets with the key what was in its cache")
	requireNoKey(t, b.signer.Retire(k1.key.ID()), k1.key.ID())
	require.ErrorContains(t, b.signer.Rotate(k1.key, b.clock.Now().Add(time.Hour)), k1.key.ID(), "what leaked does not come back")
}

// requireNoKey wants an error that names the key. It is not ErrNotFound, which is said of sessions.
func requireNoKey(t *testing.T, err error, kid string) {
	t.Helper()
	require.ErrorContains(t, err, fmt.Sprintf("tokensession: no key %q", kid))
	require.NotErrorIs(t, err, tokensession.ErrNotFound)
}

// TestRetire_ofAKeyThatHasNotSigned leaves the times of the others as they are: verifiers may not
// have the one after it.
func TestRetire_ofAKeyThatHasNotSigned(t *testing.T) {
	keys := testKeys()
	b := newAccessBench(t, keys[0], tokensession.AccessConfig{}, tokensession.Config{})
	at := func(h int) time.Time { return forgeTime.Add(time.Duration(h) * time.Hour) }
	require.NoError(t, b.signer.Rotate(keys[1].key, at(1)))
	require.NoError(t, b.signer.Rotate(keys[2].key, at(5)))
	require.NoError(t, b.signer.Retire(keys[1].key.ID()))
	for h, want := range []int{0, 0, 0, 0, 0, 2, 2} {
		b.clock.Set(at(h))
		tokens := b.start(t)
		require.Equal(t, keys[want].key.ID(), kidOf(t, tokens.AccessToken), "hour %d", h)
		_, err := b.manager.Verify(tokens.AccessToken)
		require.NoError(t, err, "hour %d", h)
	}
	require.Equal(t, []string{keys[2].key.ID()}, kids(t, b.signer.JWKS()))
}

// TestRetire_ofTheKeyThatSigns lets its successor sign at once and not the key before it, which
// verifiers may have forgotten.
func TestRetire_ofTheKeyThatSigns(t *testing.T) {
	for name, since := range map[string]time.Duration{"for an hour": time.Hour, "since this moment": 0} {
		t.Run(name, func(t *testing.T) {
			keys := testKeys()
			b := newAccessBench(t, keys[0], tokensession.AccessConfig{}, tokensession.Config{})
			signFrom := forgeTime.Add(time.Hour)
			require.NoError(t, b.signer.Rotate(keys[1].key, signFrom))
			require.NoError(t, b.signer.Rotate(keys[2].key, signFrom.Add(5*time.Hour)))
			b.clock.Set(signFrom.Add(since))
			leaked := b.start(t)
			require.Equal(t, keys[1].key.ID(), kidOf(t, leaked.AccessToken))
			require.NoError(t, b.signer.Retire(keys[1].key.ID()))
			_, err := b.manager.Verify(leaked.AccessToken)
			require.ErrorIs(t, err, tokensession.ErrInvalidToken)
			require.Equal(t, keys[2].key.ID(), kidOf(t, b.start(t).AccessToken))
		})
	}
}

// TestJWKS_hasPublicMembersOnly checks the set's form: RFC 7517, RFC 7518 section 6 and RFC 8037
// section 2.
func TestJWKS_hasPublicMembersOnly(t *testing.T) {
	members := map[string][]string{
		"OKP": {"alg", "crv", "kid", "kty", "use", "x"}, "EC": {"alg", "crv", "kid", "kty", "use", "x", "y"}, "RSA": {"alg", "e", "kid", "kty", "n", "use"},
	}
	widths := map[string]int{"ES256": 43, "ES384": 64, "ES512": 88, "EdDSA": 43}
	b := newAccessBench(t, testKeyFor("HS256"), tokensession.AccessConfig{}, tokensession.Config{})
	require.JSONEq(t, `{"keys":[]}`, string(b.signer.JWKS()), "a secret is never published")
	algs := []string{"EdDSA", "ES256", "ES384", "ES512", "RS256", "PS256"}
	for i, alg := range algs {
		require.NoError(t, b.signer.Rotate(testKeyFor(alg).key, forgeTime.Add(time.Duration(i)*time.Minute)))
	}
	jwks := b.signer.JWKS()
	var set map[string][]map[string]string
	require.NoError(t, json.Unmarshal(jwks, &set))
	require.Len(t, set, 1)
	require.Len(t, set["keys"], len(algs))
	for i, k := range set["keys"] {
		var names []string
		for name := range k {
			names = append(names, name)
		}
		slices.Sort(names)
		require.Equal(t, members[k["kty"]], names)
		require.Equal(t, algs[i], k["alg"])
		require.Equal(t, "sig", k["use"])
		require.Equal(t, testKeyFor(algs[i]).key.ID(), k["kid"])
		if w := widths[algs[i]]; w > 0 {
			require.Len(t, k["x"], w, "as long as the field")
		}
		if ec, ok := testKeyFor(algs[i]).private.(*ecdsa.PrivateKey); ok {
			require.Equal(t, ec.Params().Name, k["crv"])
			require.Len(t, k["y"], widths[algs[i]])
		}
	}
	require.NotContains(t, string(jwks), b64(testKeyFor("HS256").secret))

	v, err := tokensession.NewAccessVerifier(jwks, accessConfig)
	require.NoError(t, err, "and it can read its own")
	require.NotNil(t, v)
}

func TestJWKS_isTheCallersOwn(t *testing.T) {
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	first := b.signer.JWKS()
	want := string(first)
	clear(first)
	require.Equal(t, want, string(b.signer.JWKS()))
}

package sessionhttp_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func TestCheck_proofsAreGoodOnce(t *testing.T) {
	eachKey(t, func(t *testing.T, key clientKey) {
		b := newProofBench(t, key, sessionhttp.ProofConfig{})
		proof := b.proof(members{"jti": `"some id"`})
		b.requireGood(proof)
		b.requireInvalid(proof)
		b.requireInvalid(b.proof(members{"jti": `"some id"`, "x": "1"}), "another proof of the same jti")
		b.requireGood(b.proof(members{"jti": `"SOME ID"`}))

		other := newEd25519Key(t)
		thumbprint, _, err := b.check(other.seal(other.header(nil),
			b.claims(members{"jti": `"some id"`})))
		require.NoError(t, err, "nobody can spend another one's jti")
		require.Equal(t, other.thumbprint, thumbprint)
	})
}

func TestCheck_badProofsAreNotRemembered(t *testing.T) {
	b := newProofBench(t, newP256Key(t), sessionhttp.ProofConfig{})
	id := members{"jti": `"id"`}
	thief := newP256Key(t)
	for _, bad := range []members{{"ath": `"x"`}, {"htm": `"PUT"`},
		{"htu": `"https://evil.example/"`}, {"iat": "0"}, {"nonce": `"x"`}} {
		bad["jti"] = id["jti"]
		_, _, err := b.check(b.proof(bad))
		require.Error(t, err)
	}
	b.requireInvalid(thief.seal(b.key.header(nil), b.claims(id)))
	b.requireGood(b.proof(id))
}

// To the last moment in which a proof could be accepted for its iat or its nonce, it is remembered.
func TestCheck_repeatedAsLateAsItCouldBe(t *testing.T) {
	b := newProofBench(t, newEd25519Key(t), sessionhttp.ProofConfig{})
	b.clock.Set(b.clock.Now().Truncate(halfMinute).Add(halfMinute))
	next := b.nonce()
	b.clock.Advance(-halfMinute)
	for name, edits := range map[string]members{
		"by its nonce": {"nonce": text(next)},
		"by its iat":   {"iat": fmt.Sprint(b.clock.Now().Unix() + 10)},
	} {
		proof := b.proof(edits)
		began := b.clock.Now()
		b.requireGood(proof, name)
		for after := time.Duration(0); after < 200*time.Second; after += time.Second {
			b.clock.Set(began.Add(after))
			_, _, err := b.check(proof)
			require.Error(t, err, "%s, %v later", name, after)
		}
		b.clock.Set(began)
	}
}

func TestCheck_memoryIsFull(t *testing.T) {
	b := newProofBench(t, newP256Key(t), sessionhttp.ProofConfig{Memory: 1024})
	var accepted []string
	for range 2048 {
		proof := b.proof(nil)
		_, _, err := b.check(proof)
		if err != nil {
			require.ErrorIs(t, err, tokensession.ErrUnavailable)
			require.NotErrorIs(t, err, sessionhttp.ErrInvalidProof)
			require.Equal(t, 503, sessionhttp.Status(err))
			break
		}
		accepted = append(accepted, proof)
	}
	require.Greater(t, len(accepted), 300)
	require.Less(t, len(accepted), 1024)
	for _, proof := range accepted {
		b.requireInvalid(proof, "none is forgotten")
	}
	b.clock.Advance(3 * time.Minute)
	b.requireGood(b.proof(nil))
}

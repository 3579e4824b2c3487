package sessionhttp

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/require"
)

func proofKeysOf(t *testing.T, secrets ...string) proofKeys {
	t.Helper()
	var list [][]byte
	for _, s := range secrets {
		list = append(list, bytes.Repeat([]byte(s), minProofKey))
	}
	keys, err := newProofKeys("Config.ProofKeys", list)
	require.NoError(t, err)
	return keys
}

func TestMACs_firstKeyMakesAndAllAreAccepted(t *testing.T) {
	data := []byte("data")
	old := proofKeysOf(t, "a").macs("purpose", 18).make(data)
	require.Len(t, old, 18)

	added := proofKeysOf(t, "a", "b").macs("purpose", 18)
	require.Equal(t, old, added.make(data), "a key that was added at the end makes nothing yet")
	moved := proofKeysOf(t, "b", "a").macs("purpose", 18)
	require.NotEqual(t, old, moved.make(data))
	require.True(t, moved.check(data, old), "an instance that has moved the keys takes the old ones")
	require.True(t, added.check(data, moved.make(data)), "and one that has not, the new ones")

	dropped := proofKeysOf(t, "b").macs("purpose", 18)
	require.False(t, dropped.check(data, old))
	require.Equal(t, [][]byte{moved.make(data), old}, moved.makeAll(data))
}

func TestMACs_areOfOnePurpose(t *testing.T) {
	keys := proofKeysOf(t, "a")
	m := keys.macs("purpose", 32)
	for label, data := range map[string]string{
		"purpose2": "data", "purpos": "edata", "purposed": "ata", "": "purposedata", "Purpose": "data",
	} {
		require.False(t, m.check([]byte("data"), keys.macs(label, 32).make([]byte(data))), label)
	}

	// The key of a purpose is an HMAC of its label, and the MAC one of the data.
	inner := hmac.New(sha256.New, bytes.Repeat([]byte("a"), minProofKey))
	inner.Write([]byte("purpose"))
	outer := hmac.New(sha256.New, inner.Sum(nil))
	outer.Write([]byte("data"))
	require.Equal(t, outer.Sum(nil), m.make([]byte("data")))
}

func TestMACs_otherOnesAreRefused(t *testing.T) {
	m, data := proofKeysOf(t, "a", "b").macs("purpose", 18), []byte("data")
	for _, good := range m.makeAll(data) {
		require.True(t, m.check(data, good))
		require.False(t, m.check([]byte("datb"), good))
		require.False(t, m.check(data, good[:17]), "cut")
		require.False(t, m.check(data, append(bytes.Clone(good), 0)), "longer")
		for bit := range 18 * 8 {
			bad := bytes.Clone(good)
			bad[bit/8] ^= 1 << (bit % 8)
			require.False(t, m.check(data, bad), bit)
		}
	}
	require.False(t, m.check(data, nil))
	require.False(t, m.check(data, make([]byte, 18)))
}

func TestMACs_withoutKeysNothingIsAccepted(t *testing.T) {
	for name, keys := range map[string]proofKeys{"nil": nil, "none": proofKeysOf(t)} {
		m := keys.macs("purpose", 18)
		require.Nil(t, m.make([]byte("data")), name)
		require.False(t, m.check([]byte("data"), nil), name)
		require.False(t, m.check([]byte("data"), []byte{}), name)
	}
}

func TestProofKeys_areCopied(t *testing.T) {
	secret := bytes.Repeat([]byte("a"), minProofKey)
	keys, err := newProofKeys("Config.ProofKeys", [][]byte{secret})
	require.NoError(t, err)
	m := keys.macs("purpose", 18)
	before := m.make([]byte("data"))
	secret[0] = 'b'
	require.Equal(t, before, m.make([]byte("data")))
	require.Equal(t, before, keys.macs("purpose", 18).make([]byte("data")))
}

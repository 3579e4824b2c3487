package sessionhttp

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
)

func (t *keyTable) size() (keys int) {
	for i := range t.shards {
		for _, generation := range []map[string]*proofKey{t.shards[i].recent, t.shards[i].before} {
			keys += len(generation)
		}
	}
	return keys
}

func TestKeyTable_staysSmall(t *testing.T) {
	table, key := newKeyTable(), &proofKey{}
	for i := range 6 * keyTableSize {
		header := fmt.Sprintf("%0230d", i)
		table.put(header, key)
		if table.get(header) != key {
			t.Fatal("a key that was put in a moment ago is not there")
		}
	}
	require.LessOrEqual(t, table.size(), keyTableSize)
	require.Greater(t, table.size(), keyTableSize/3)

	longest := strings.Repeat("h", maxTabledHeader)
	table.put(longest, key)
	require.Same(t, key, table.get(longest))
	size := table.size()
	for i := range 100 {
		header := longest + fmt.Sprint(i)
		table.put(header, key)
		require.Nil(t, table.get(header), "long ones are parsed each time")
	}
	require.Equal(t, size, table.size())
}

func TestKeyTable_keepsKeysInUse(t *testing.T) {
	table, used, other := newKeyTable(), &proofKey{}, &proofKey{}
	require.Nil(t, table.get("used"))
	for i := range 5 * keyTableSize {
		table.put("used", used) // as after each proof that has verified
		table.put(fmt.Sprint(i), other)
		require.Same(t, used, table.get("used"))
	}
	require.Nil(t, table.get("0"))
}

// Anybody can make headers. Only one whose proof has verified is remembered.
func TestCheck_remembersOnlyKeysThatHaveSigned(t *testing.T) {
	now := time.Unix(1767323045, 0)
	p, err := NewProofs(ProofConfig{
		Keys: [][]byte{make([]byte, 32)}, Now: func() time.Time { return now },
	})
	require.NoError(t, err)
	public, private, err := ed25519.GenerateKey(nil)
	require.NoError(t, err)
	part := base64.RawURLEncoding.EncodeToString
	signed := part([]byte(`{"typ":"dpop+jwt","alg":"EdDSA","jwk":{"kty":"OKP","crv":"Ed25519","x":"`+
		part(public)+`"}}`)) + "." + part([]byte(`{"jti":"x","htm":"GET","htu":"https://example.com/",`+
		`"iat":1767323045,"ath":"`+part(sha256.New().Sum(nil))+`"}`))
	check := func(signature []byte) error {
		r := httptest.NewRequest(http.MethodGet, "/", nil)
		r.Header.Set("DPoP", signed+"."+part(signature))
		token := ""
		_, _, err := p.check(r, proofUse{accessToken: &token})
		return err
	}
	require.ErrorIs(t, check(make([]byte, 64)), ErrInvalidProof)
	require.Zero(t, p.known.size())
	require.NoError(t, check(ed25519.Sign(private, []byte(signed))))
	require.Equal(t, 1, p.known.size())
}

// A header is a part of a request, which would be kept whole with it.
func TestKeyTable_keepsNoRequests(t *testing.T) {
	table := newKeyTable()
	request := strings.Repeat("x", 100)
	table.put(request[:10], &proofKey{})
	for i := range table.shards {
		for header := range table.shards[i].recent {
			require.NotSame(t, stringData(request), stringData(header))
		}
	}
}

func stringData(s string) *byte { return unsafe.StringData(s) }

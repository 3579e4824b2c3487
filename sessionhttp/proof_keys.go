package sessionhttp

import (
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/maphash"
	"math/big"
	"strings"
	"sync"

	"github.com/seed67bc9b7f/tokensession/internal/strictjson"
)

// proofAlgorithms are those of the keys that proofs may be signed with, as a challenge names them.
// Ed25519 is the name of RFC 9864 for what RFC 8037 calls EdDSA: clients send either.
const proofAlgorithms = "ES256 EdDSA Ed25519"

// A proofKey is the public key that a proof brings along in its header.
type proofKey struct {
	thumbprint string // RFC 7638
	point      []byte // of a P-256 key: SEC 1 section 2.3.3, compressed
	verify     func(signed, signature []byte) bool
}

// parseProofHeader reads the header of a proof of a type, for DPoP that of RFC 9449 section 4.2.
// The key is nil if the header brings none. Members with other names than those that matter here
// are passed over. Some of those can name a place to fetch a key or a certificate from, as jku and
// x5u do: nothing is ever fetched.
func parseProofHeader(text []byte, proofType string) (alg string, key *proofKey, err error) {
	header, err := strictjson.ParseObject(text, "typ", "alg", "jwk", "crit")
	if err != nil {
		return "", nil, err
	}
	r := strictjson.NewReader(header)
	typ, alg := r.Text("typ", true), r.Text("alg", true)
	jwk, hasKey := header.Find("jwk")
	_, critical := header.Find("crit")
	switch {
	case r.Err() != nil:
		return "", nil, r.Err()
	case typ != proofType:
		return "", nil, errors.New("typ is not " + proofType)
	case critical: // RFC 7515 section 4.1.11: who does not know the extensions refuses
		return "", nil, errors.New("crit names extensions")
	case !hasKey:
		return alg, nil, nil
	}
	key, err = parseProofJWK(alg, []byte(jwk))
	return alg, key, err
}

// privateMembers are those that only a private or a symmetric JWK has (RFC 7518 section 6).
var privateMembers = []string{"d", "k", "p", "q", "dp", "dq", "qi", "oth"}

// parseProofJWK reads a public key. The algorithm has to be the one of the key's kind: a header
// that could choose another one could choose one that checks nothing.
func parseProofJWK(alg string, text []byte) (*proofKey, error) {
	known := append([]string{"kty", "crv", "x", "y"}, privateMembers...)
	jwk, err := strictjson.ParseObject(text, known...)
	if err != nil {
		return nil, fmt.Errorf("jwk: %w", err)
	}
	for _, name := range privateMembers {
		if _, ok := jwk.Find(name); ok {
			return nil, errors.New("jwk has a private key")
		}
	}
	r := strictjson.NewReader(jwk)
	kind := alg + " " + r.Text("kty", true) + " " + r.Text("crv", false)
	x, err := coordinate(r.Text("x", false))
	switch {
	case r.Err() != nil:
		return nil, fmt.Errorf("jwk: %w", r.Err())
	case err != nil:
		return nil, err
	}
	switch kind {
	case "ES256 EC P-256":
		y, err := coordinate(r.Text("y", true))
		if err = errors.Join(r.Err(), err); err != nil {
			return nil, err
		}
		return newP256Key(x, y)
	case "EdDSA OKP Ed25519", "Ed25519 OKP Ed25519":
		return newEd25519Key(x), nil
	default:
		return nil, errors.New("alg is not one of " + proofAlgorithms + ", or jwk is no key of it")
	}
}

// coordinate decodes a member of a JWK. Each is 32 bytes for the keys here, leading zeros included:
// of any key there is one way to write it, and one thumbprint.
func coordinate(text string) ([]byte, error) {
	b, ok := decodePart(text)
	if !ok || len(b) != 32 {
		return nil, errors.New("jwk has a coordinate that is not 32 bytes in base64url")
	}
	return b, nil
}

// newP256Key returns an error if the point is not on the curve.
func newP256Key(x, y []byte) (*proofKey, error) {
	point := append(append([]byte{4}, x...), y...) // SEC 1 section 2.3.3, uncompressed
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, errors.New("jwk is no point of P-256")
	}
	return &proofKey{
		point:      append([]byte{2 + y[len(y)-1]&1}, x...),
		thumbprint: thumbprint(`{"crv":"P-256","kty":"EC","x":"%s","y":"%s"}`, x, y),
		verify: func(signed, signature []byte) bool {
			if len(signature) != 64 { // RFC 7518 section 3.4: two numbers of 32 bytes
				return false
			}
			digest := sha256.Sum256(signed)
			var r, s big.Int
			return ecdsa.Verify(public, digest[:], r.SetBytes(signature[:32]),
				s.SetBytes(signature[32:]))
		},
	}, nil
}

func newEd25519Key(x []byte) *proofKey {
	return &proofKey{
		thumbprint: thumbprint(`{"crv":"Ed25519","kty":"OKP","x":"%s"}`, x),
		verify: func(signed, signature []byte) bool {
			return ed25519.Verify(ed25519.PublicKey(x), signed, signature)
		},
	}
}

// thumbprint is RFC 7638's of a JWK with these coordinates.
func thumbprint(form string, coordinates ...[]byte) string {
	var texts []any
	for _, c := range coordinates {
		texts = append(texts, base64.RawURLEncoding.EncodeToString(c))
	}
	sum := sha256.Sum256(fmt.Appendf(nil, form, texts...))
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

const (
	keyTableShards  = 16
	keyTableSize    = 1 << 14 // keys
	maxTabledHeader = 512     // bytes; a header with an ES256 key has some 230
)

// A keyTable remembers the keys of headers whose proofs have verified. A client sends the same
// header with each proof, and to parse it takes some microseconds.
//
// Each shard has two generations, and forgets the one before when the recent one is full. Somebody
// who makes many keys can push out the others'. That costs them the parsing, and changes no answer.
type keyTable struct {
	seed   maphash.Seed
	shards [keyTableShards]keyShard
}

type keyShard struct {
	mu             sync.RWMutex
	recent, before map[string]*proofKey
}

func newKeyTable() *keyTable { return &keyTable{seed: maphash.MakeSeed()} }

func (t *keyTable) shard(header string) *keyShard {
	return &t.shards[maphash.String(t.seed, header)%keyTableShards]
}

// get returns the key of a header, as it stands in the proof, or nil.
func (t *keyTable) get(header string) *proofKey {
	if len(header) > maxTabledHeader {
		return nil
	}
	s := t.shard(header)
	s.mu.RLock()
	defer s.mu.RUnlock()
	if key := s.recent[header]; key != nil {
		return key
	}
	return s.before[header]
}

// put remembers a key that a proof has verified with. A key of the generation before moves to the
// recent one, so that keys in use stay.
func (t *keyTable) put(header string, key *proofKey) {
	if len(header) > maxTabledHeader {
		return
	}
	s := t.shard(header)
	s.mu.RLock()
	known := s.recent[header] != nil
	s.mu.RUnlock()
	if known {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.recent == nil || len(s.recent) >= keyTableSize/keyTableShards/2 {
		s.before, s.recent = s.recent, map[string]*proofKey{}
	}
	s.recent[strings.Clone(header)] = key // the header is a part of the whole request's memory
}

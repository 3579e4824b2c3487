package sessionclient_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// A proofHeader and a proofClaims are what is allowed in a proof.
type proofHeader struct {
	Type string            `json:"typ"`
	Alg  string            `json:"alg"`
	Key  map[string]string `json:"jwk"`
}

type proofClaims struct {
	ID        string  `json:"jti"`
	Method    string  `json:"htm"`
	Target    string  `json:"htu"`
	IssuedAt  int64   `json:"iat"`
	TokenHash *string `json:"ath"`
	Nonce     *string `json:"nonce"`
}

// A proofChecker checks proofs more strictly than RFC 9449 section 4.3 wants: all is compared byte
// for byte, and nothing may be there that need not be.
type proofChecker struct {
	now  func() time.Time
	mu   sync.Mutex
	seen map[string]bool
}

func newProofChecker() *proofChecker {
	return &proofChecker{now: time.Now, seen: map[string]bool{}}
}

// check returns the claims of a request's proof, and the thumbprint of its key.
func (c *proofChecker) check(r *http.Request) (claims proofClaims, thumbprint string, err error) {
	proofs := r.Header.Values("DPoP")
	if len(proofs) != 1 {
		return claims, "", fmt.Errorf("%d proofs", len(proofs))
	}
	header, claims, err := openProof(proofs[0])
	if err != nil {
		return claims, "", err
	}
	scheme := "http"
	if r.TLS != nil || r.URL.Scheme == "https" { // the latter in memory
		scheme = "https"
	}
	path, _, _ := strings.Cut(r.RequestURI, "?")
	if r.RequestURI == "" {
		path = r.URL.EscapedPath()
	}
	age := c.now().Unix() - claims.IssuedAt
	switch {
	case claims.Method != r.Method:
		err = fmt.Errorf("htm is %q", claims.Method)
	case claims.Target != scheme+"://"+r.Host+path:
		err = fmt.Errorf("htu is %q, and the URL %q", claims.Target, scheme+"://"+r.Host+path)
	case age < -10 || age > 60:
		err = fmt.Errorf("it is %d seconds old", age)
	case len(claims.ID) < 16:
		err = fmt.Errorf("jti is %q", claims.ID)
	default:
		err = checkTokenHash(r, claims.TokenHash)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil && c.seen[claims.ID] {
		err = errors.New("this jti was there before")
	}
	c.seen[claims.ID] = true
	return claims, thumbprintOf(header.Key), err
}

func checkTokenHash(r *http.Request, hash *string) error {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	bound := strings.EqualFold(scheme, "DPoP")
	token = strings.TrimLeft(token, " ")
	switch {
	case !bound && hash != nil:
		return errors.New("there is a hash, and no token")
	case bound && (hash == nil || *hash != b64(sha256Of(token))):
		return errors.New("the hash is not that of the token")
	}
	return nil
}

// openProof reads a proof and checks its signature.
func openProof(proof string) (header proofHeader, claims proofClaims, err error) {
	parts := strings.Split(proof, ".")
	if len(parts) != 3 {
		return header, claims, fmt.Errorf("%d parts", len(parts))
	}
	signature, err := base64.RawURLEncoding.Strict().DecodeString(parts[2])
	if err == nil {
		err = errors.Join(decodePart(parts[0], &header), decodePart(parts[1], &claims))
	}
	if err != nil {
		return header, claims, err
	}
	if header.Type != "dpop+jwt" {
		return header, claims, fmt.Errorf("typ is %q", header.Type)
	}
	return header, claims, checkSignature(header, parts[0]+"."+parts[1], signature)
}

func checkSignature(header proofHeader, signed string, signature []byte) error {
	x, errX := base64.RawURLEncoding.Strict().DecodeString(header.Key["x"])
	y, errY := base64.RawURLEncoding.Strict().DecodeString(header.Key["y"])
	if err := errors.Join(errX, errY); err != nil {
		return err
	}
	ok := false
	switch kind := header.Alg + " " + header.Key["kty"] + " " + header.Key["crv"]; kind {
	case "EdDSA OKP Ed25519":
		ok = len(header.Key) == 3 && len(x) == 32 && ed25519.Verify(x, []byte(signed), signature)
	case "ES256 EC P-256":
		point := slices.Concat([]byte{4}, x, y)
		public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
		if err != nil || len(header.Key) != 4 || len(signature) != 64 {
			return fmt.Errorf("%d members, a signature of %d bytes, %w",
				len(header.Key), len(signature), err)
		}
		r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
		ok = ecdsa.Verify(public, sha256Of(signed), r, s)
	default:
		return errors.New(kind)
	}
	if !ok {
		return errors.New("the signature is wrong")
	}
	return nil
}

func decodePart(part string, into any) error {
	data, err := base64.RawURLEncoding.Strict().DecodeString(part)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	return d.Decode(into)
}

// thumbprintOf hashes the required members in alphabetical order (RFC 7638 section 3.2).
func thumbprintOf(key map[string]string) string {
	members := []string{"crv", "kty", "x"}
	if key["kty"] == "EC" {
		members = append(members, "y")
	}
	var fields []string
	for _, name := range members {
		fields = append(fields, fmt.Sprintf("%q:%q", name, key[name]))
	}
	return b64(sha256Of("{" + strings.Join(fields, ",") + "}"))
}

func sha256Of(text string) []byte { sum := sha256.Sum256([]byte(text)); return sum[:] }

func b64(data []byte) string { return base64.RawURLEncoding.EncodeToString(data) }

// newKeys returns a key of each kind.
func newKeys(t testing.TB) map[string]crypto.Signer {
	t.Helper()
	_, edKey, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	ecKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	return map[string]crypto.Signer{"Ed25519": edKey, "P-256": ecKey}
}

// A driver is a key whose signatures are made by a function, as those of a key in hardware are.
type driver struct {
	public crypto.PublicKey
	sign   func(digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

func (d driver) Public() crypto.PublicKey { return d.public }

func (d driver) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return d.sign(digest, opts)
}

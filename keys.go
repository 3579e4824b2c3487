package tokensession

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"reflect"
	"slices"

	"github.com/lestrrat-go/jwx/v2/jwa"
	"github.com/lestrrat-go/jwx/v2/jwk"
	"github.com/lestrrat-go/jwx/v2/jws"

	"github.com/seed67bc9b7f/tokensession/internal/strictjson"
)

const (
	minRSABits    = 2048 // RFC 7518 section 3.3
	minSecretSize = 32   // in bytes: the size of the hash of HS256 (RFC 7518 section 3.2)
)

// algorithms are all that a Key can be for.
var algorithms = []jwa.SignatureAlgorithm{
	jwa.EdDSA, jwa.ES256, jwa.ES384, jwa.ES512, jwa.RS256, jwa.PS256, jwa.HS256,
}

func isAlgorithm(alg string) bool {
	return slices.Contains(algorithms, jwa.SignatureAlgorithm(alg))
}

// A Key signs access tokens. Make one with [GenerateKey], [NewKey], [NewHMACKey], [ParseKeyPEM] or
// [ParseKeyJWK]. It prints without its secret.
type Key struct {
	verifyKey
	private hidden // crypto.Signer, or []byte for HMAC
	signer  jws.Signer
}

// A hidden value prints as the address of a function. Where fmt calls Format, a Key hides its
// secret itself. But fmt calls no method on what stands in an unexported field of another type, nor
// after a mistaken %p or %w, and prints the fields instead.
type hidden func() any

func hide(v any) hidden { return func() any { return v } }

// A verifyKey is what verification needs of a key. Its alg and id together name it: one RSA key can
// be two keys here, for RS256 and for PS256.
type verifyKey struct {
	alg    jwa.SignatureAlgorithm
	id     string
	size   int    // of a signature, in bytes
	public hidden // of crypto, or []byte for HMAC
	jwk    []byte // the public JWK; nil for HMAC

	verifier jws.Verifier
}

// GenerateKey returns a new Ed25519 key. It lives as long as the process. A server that restarts,
// or has instances, lets package keyring keep its keys, or loads its key with [ParseKeyPEM],
// [ParseKeyJWK] or [NewKey].
func GenerateKey() (Key, error) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return Key{}, fmt.Errorf("tokensession: %w", err)
	}
	return NewKey(private)
}

// NewKey returns a key that signs with k: Ed25519 (EdDSA), ECDSA on P-256, P-384 or P-521 (ES256,
// ES384, ES512), or RSA of 2048 bits or more (RS256). The signer may be a KMS or an HSM; NewKey has
// it sign once, to see that its signatures verify with the public key it names.
func NewKey(k crypto.Signer) (Key, error) { return newKey(k, "") }

func newKey(k crypto.Signer, alg jwa.SignatureAlgorithm) (Key, error) {
	if isNil(k) {
		return Key{}, errors.New("tokensession: signing key is nil")
	}
	if private, ok := k.(ed25519.PrivateKey); ok && len(private) != ed25519.PrivateKeySize {
		return Key{}, fmt.Errorf("tokensession: Ed25519 private key of %d bytes: must have %d",
			len(private), ed25519.PrivateKeySize)
	} else if ok {
		k = slices.Clone(private) // the caller may wipe it
	}
	public, err := newVerifyKey(k.Public(), alg)
	if err != nil {
		return Key{}, fmt.Errorf("tokensession: %w", err)
	}
	if private, ok := k.(*rsa.PrivateKey); ok {
		if err := checkRSA(private); err != nil {
			return Key{}, fmt.Errorf("tokensession: RSA key: %w", err)
		}
	}
	key, err := signingKey(public, hide(k))
	if err != nil {
		return Key{}, err
	}
	probe := []byte("tokensession key probe")
	signature, err := key.sign(probe)
	if err != nil {
		return Key{}, fmt.Errorf("tokensession: %s key: %w", public.alg, err)
	}
	if !public.verify(probe, signature) {
		return Key{}, fmt.Errorf("tokensession: %s key: its signature does not verify with its public key",
			public.alg)
	}
	return key, nil
}

// checkRSA is Validate, and sees to it that the private exponent belongs to the public one, which
// Validate does only since Go 1.26. Signing would not notice: it computes with the primes.
func checkRSA(k *rsa.PrivateKey) error {
	if err := k.Validate(); err != nil {
		return err
	}
	one := big.NewInt(1)
	for _, prime := range k.Primes {
		order := new(big.Int).Sub(prime, one)
		product := new(big.Int).Mul(k.D, big.NewInt(int64(k.E)))
		if product.Mod(product, order).Cmp(one) != 0 {
			return errors.New("the private exponent is not that of the public one")
		}
	}
	return nil
}

// signingKey adds what signing needs.
func signingKey(public verifyKey, private hidden) (Key, error) {
	signer, err := jws.NewSigner(public.alg)
	if err != nil {
		return Key{}, fmt.Errorf("tokensession: %w", err)
	}
	return Key{public, private, signer}, nil
}

// NewHMACKey returns a key for HS256 from a random secret of 32 bytes or more (RFC 7518 section
// 3.2). Whoever can verify with it can sign, and it is never in a JWKS: prefer [GenerateKey] where
// another service is to verify.
func NewHMACKey(secret []byte) (Key, error) {
	if len(secret) < minSecretSize {
		return Key{}, fmt.Errorf("tokensession: HMAC secret of %d bytes: cannot be shorter than %d",
			len(secret), minSecretSize)
	}
	secret = bytes.Clone(secret)
	id, err := thumbprint(secret)
	if err != nil {
		return Key{}, err
	}
	verifier, err := jws.NewVerifier(jwa.HS256)
	if err != nil {
		return Key{}, fmt.Errorf("tokensession: %w", err)
	}
	public := verifyKey{alg: jwa.HS256, id: id, size: 32, public: hide(secret), verifier: verifier}
	return signingKey(public, hide(secret))
}

// ParseKeyPEM reads one private key in PKCS #8, PKCS #1 or SEC 1 form, not encrypted.
func ParseKeyPEM(pemData []byte) (Key, error) {
	block, rest := pem.Decode(pemData)
	if block != nil && block.Type == "EC PARAMETERS" { // openssl ecparam -genkey writes them first
		block, rest = pem.Decode(rest)
	}
	if block == nil {
		return Key{}, errors.New("tokensession: no PEM block")
	}
	if len(bytes.TrimSpace(rest)) > 0 {
		return Key{}, fmt.Errorf("tokensession: more than one key: data behind the PEM block %q",
			block.Type)
	}
	signer, err := parseBlock(block)
	if err != nil {
		return Key{}, fmt.Errorf("tokensession: PEM block %q: %w", block.Type, err)
	}
	return NewKey(signer)
}

// MarshalPEM returns the private key in PKCS #8 form, not encrypted. [ParseKeyPEM] makes the same
// key of it, with the same ID. Keep it as you keep a password.
//
// It is an error for a key whose secret does not leave its KMS or HSM, and for two that have no
// such form: a secret for HMAC, and an RSA key for PS256, which would come back as one for RS256.
func (k Key) MarshalPEM() ([]byte, error) {
	if k.private == nil {
		return nil, errors.New("tokensession: MarshalPEM: no key: the Key is the zero value")
	}
	if k.alg == jwa.HS256 || k.alg == jwa.PS256 {
		return nil, fmt.Errorf("tokensession: MarshalPEM: a key for %s has no PEM form", k.alg)
	}
	private := k.private()
	switch private.(type) {
	case ed25519.PrivateKey, *ecdsa.PrivateKey, *rsa.PrivateKey:
	default:
		return nil, fmt.Errorf("tokensession: MarshalPEM: the key is in a %T, which keeps it",
			private)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, fmt.Errorf("tokensession: MarshalPEM: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

func parseBlock(block *pem.Block) (crypto.Signer, error) {
	if block.Type == "ENCRYPTED PRIVATE KEY" || block.Headers["DEK-Info"] != "" {
		return nil, errors.New("the key is encrypted: decrypt it first")
	}
	switch block.Type {
	case "PRIVATE KEY":
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		signer, ok := key.(crypto.Signer)
		if !ok {
			return nil, fmt.Errorf("%T cannot sign", key)
		}
		return signer, nil
	case "RSA PRIVATE KEY":
		return x509.ParsePKCS1PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		return x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, errors.New("not a private key")
	}
}

// ParseKeyJWK reads one private JWK (RFC 7517) of type OKP (Ed25519), EC, RSA or oct. An alg of
// PS256 makes an RSA key sign with PSS. The kid is not taken over: a key's is always its RFC 7638
// thumbprint.
func ParseKeyJWK(jwkJSON []byte) (Key, error) {
	fields, err := strictjson.ParseObject(bytes.TrimSpace(jwkJSON))
	if err != nil {
		return Key{}, fmt.Errorf("tokensession: JWK: %w", err)
	}
	if err := checkKeyUse(fields, "sign"); err != nil {
		return Key{}, fmt.Errorf("tokensession: JWK: %w", err)
	}
	raw, alg, err := rawKey(fields, jwkJSON)
	if err != nil {
		return Key{}, fmt.Errorf("tokensession: JWK: %w", err)
	}
	var key Key
	switch raw := raw.(type) {
	case []byte:
		key, err = NewHMACKey(raw)
	case crypto.Signer:
		key, err = newKey(raw, alg)
	default:
		return Key{}, errors.New("tokensession: JWK: not a private key")
	}
	if err != nil {
		return Key{}, err
	}
	if alg != "" && alg != key.alg {
		return Key{}, fmt.Errorf("tokensession: JWK: alg %q with a key for %s", alg, key.alg)
	}
	return key, nil
}

// rawKey returns a JWK's key in the types of package crypto, and its alg, or "" if it has none.
func rawKey(fields strictjson.Object, jwkJSON []byte) (any, jwa.SignatureAlgorithm, error) {
	alg, err := fields.Text("alg")
	if err != nil {
		return nil, "", err
	}
	parsed, err := jwk.ParseKey(jwkJSON)
	if err != nil {
		return nil, "", errors.New("malformed") // jwx's errors can quote key material
	}
	var raw any
	if err := parsed.Raw(&raw); err != nil {
		return nil, "", errors.New("malformed key material")
	}
	return raw, jwa.SignatureAlgorithm(alg), nil
}

// checkKeyUse refuses a JWK that is meant for something else (RFC 7517 sections 4.2 and 4.3).
func checkKeyUse(fields strictjson.Object, operation string) error {
	if _, isSet := fields.Find("keys"); isSet {
		return errors.New("a set of keys where one key was expected")
	}
	if use, err := fields.Text("use"); err != nil || use != "" && use != "sig" {
		return fmt.Errorf("use %q: not a signature key", use)
	}
	if raw, ok := fields.Find("key_ops"); ok {
		var operations []string
		if err := json.Unmarshal([]byte(raw), &operations); err != nil {
			return errors.New("key_ops is no array of strings")
		}
		for _, o := range operations {
			if o == operation {
				return nil
			}
		}
		return fmt.Errorf("key_ops %q without %q", operations, operation)
	}
	return nil
}

// newVerifyKey checks a public key and picks its algorithm. Only an RSA key has a choice: it is for
// PS256 if alg says so, and otherwise for RS256. Any other alg must be that of the key's type, or
// empty.
func newVerifyKey(public crypto.PublicKey, alg jwa.SignatureAlgorithm) (verifyKey, error) {
	k := verifyKey{public: hide(public)}
	if isNil(public) {
		return k, errors.New("public key is nil")
	}
	var err error
	switch public := public.(type) {
	case ed25519.PublicKey:
		err = k.takeEd25519(public)
	case *ecdsa.PublicKey:
		err = k.takeECDSA(public)
	case *rsa.PublicKey:
		err = k.takeRSA(public, alg)
	default:
		err = fmt.Errorf("key of type %T: must be Ed25519, ECDSA or RSA", public)
	}
	if err != nil {
		return k, err
	}
	if alg != "" && alg != k.alg {
		return k, fmt.Errorf("alg %q with a key for %s", alg, k.alg)
	}
	return k, k.complete()
}

func (k *verifyKey) takeEd25519(public ed25519.PublicKey) error {
	if len(public) != ed25519.PublicKeySize {
		return fmt.Errorf("Ed25519 public key of %d bytes: must have %d",
			len(public), ed25519.PublicKeySize)
	}
	k.alg, k.size = jwa.EdDSA, ed25519.SignatureSize
	return nil
}

// takeECDSA refuses other curves than those of RFC 7518 section 3.4, and a point that is not on its
// curve.
func (k *verifyKey) takeECDSA(public *ecdsa.PublicKey) error {
	switch public.Curve {
	case elliptic.P256():
		k.alg, k.size = jwa.ES256, 64
	case elliptic.P384():
		k.alg, k.size = jwa.ES384, 96
	case elliptic.P521():
		k.alg, k.size = jwa.ES512, 132
	default:
		return errors.New("ECDSA key: the curve must be P-256, P-384 or P-521")
	}
	if public.X == nil || public.Y == nil {
		return errors.New("ECDSA public key: it has no point")
	}
	if _, err := public.ECDH(); err != nil {
		return fmt.Errorf("ECDSA public key: %w", err)
	}
	return nil
}

// takeRSA refuses keys that are too short, and exponents with which RSA is no signature.
func (k *verifyKey) takeRSA(public *rsa.PublicKey, alg jwa.SignatureAlgorithm) error {
	if public.N == nil {
		return errors.New("RSA key: it has no modulus")
	}
	if bits := public.N.BitLen(); bits < minRSABits {
		return fmt.Errorf("RSA key of %d bits: cannot be shorter than %d", bits, minRSABits)
	}
	if public.E < 3 || public.E%2 == 0 {
		return fmt.Errorf("RSA key with public exponent %d: must be odd and at least 3", public.E)
	}
	k.alg, k.size = jwa.RS256, public.Size()
	if alg == jwa.PS256 {
		k.alg = alg
	}
	return nil
}

// complete sets what follows from the algorithm and the public key.
func (k *verifyKey) complete() error {
	public, err := jwk.FromRaw(k.public())
	if err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	if k.id, err = thumbprint(k.public()); err != nil {
		return err
	}
	for name, value := range map[string]any{
		jwk.KeyIDKey: k.id, jwk.AlgorithmKey: k.alg, jwk.KeyUsageKey: jwk.ForSignature,
	} {
		if err := public.Set(name, value); err != nil {
			return fmt.Errorf("public key: %w", err)
		}
	}
	if k.jwk, err = json.Marshal(public); err != nil {
		return fmt.Errorf("public key: %w", err)
	}
	if k.alg == jwa.PS256 {
		k.verifier = ps256Verifier{}
		return nil
	}
	k.verifier, err = jws.NewVerifier(k.alg)
	return err
}

// A ps256Verifier wants a salt as long as the hash, as RFC 7518 section 3.5 does. That of jwx takes
// a salt of any length.
type ps256Verifier struct{}

func (ps256Verifier) Algorithm() jwa.SignatureAlgorithm { return jwa.PS256 }

func (ps256Verifier) Verify(data, signature []byte, key any) error {
	public, ok := key.(*rsa.PublicKey)
	if !ok {
		return fmt.Errorf("key of type %T: must be RSA", key)
	}
	sum := sha256.Sum256(data)
	return rsa.VerifyPSS(public, crypto.SHA256, sum[:], signature,
		&rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash})
}

// thumbprint returns the key's id: its RFC 7638 thumbprint, a SHA-256 hash in base64url. So a key
// has the same id wherever it is loaded, and no two keys have the same.
func thumbprint(raw any) (string, error) {
	key, err := jwk.FromRaw(raw)
	if err != nil {
		return "", fmt.Errorf("tokensession: key: %w", err)
	}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return "", fmt.Errorf("tokensession: key: %w", err)
	}
	return base64.RawURLEncoding.EncodeToString(sum), nil
}

// isThumbprint reports whether a kid is the thumbprint of some key.
func isThumbprint(kid string) bool {
	sum, err := strictBase64.DecodeString(kid)
	return err == nil && len(sum) == sha256.Size &&
		len(kid) == base64.RawURLEncoding.EncodedLen(sha256.Size) // it has no CR or LF
}

// parseJWKS returns the keys of a set that can verify access tokens. Keys for other purposes, and
// keys that cannot be read, are passed over, as RFC 7517 section 5 asks. A key that stands there
// twice counts once, whatever kid the set gives it: sets that are put together from several sources
// have such keys, and to refuse the set would lock every client out. A secret makes the whole set
// an error, because it has no place where a set is published, and the operator must know.
func parseJWKS(jwks []byte) ([]verifyKey, error) {
	set, err := strictjson.ParseObject(bytes.TrimSpace(jwks))
	if err != nil {
		return nil, err
	}
	list, _ := set.Find("keys")
	var elements []json.RawMessage
	if err := json.Unmarshal([]byte(list), &elements); err != nil || elements == nil {
		return nil, errors.New("no array of keys")
	}
	if len(elements) == 0 {
		return nil, errors.New("no key in the set, and HMAC keys are never published")
	}
	var keys []verifyKey
	var skipped error
	seen := map[string]bool{}
	for i, element := range elements {
		key, err := parsePublicJWK(element)
		switch {
		case errors.Is(err, errSecretInSet):
			return nil, fmt.Errorf("key %d: %w", i, err)
		case err != nil:
			skipped = errors.Join(skipped, fmt.Errorf("key %d: %w", i, err))
		case !seen[key.name()]:
			seen[key.name()] = true
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("no usable key: %w", skipped)
	}
	return keys, nil
}

// name tells the key from all others.
func (k *verifyKey) name() string { return k.alg.String() + " " + k.id }

var errSecretInSet = errors.New("a private or symmetric key in a public set")

func parsePublicJWK(element []byte) (verifyKey, error) {
	fields, err := strictjson.ParseObject(element)
	if err != nil {
		return verifyKey{}, err
	}
	for _, secret := range []string{"d", "k", "p", "q", "dp", "dq", "qi", "oth"} {
		if _, ok := fields.Find(secret); ok {
			return verifyKey{}, errSecretInSet
		}
	}
	if err := checkKeyUse(fields, "verify"); err != nil {
		return verifyKey{}, err
	}
	raw, alg, err := rawKey(fields, element)
	if err != nil {
		return verifyKey{}, err
	}
	return newVerifyKey(raw, alg)
}

// sign returns the signature in the form of RFC 7518. A panic becomes an error: a signer of the
// host can panic, and so does jwx if the numbers of an ECDSA signature are wider than the curve, as
// when a KMS has changed its key.
func (k Key) sign(data []byte) (signature []byte, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	signature, err = k.signer.Sign(data, k.private())
	if err == nil && len(signature) != k.size {
		err = fmt.Errorf("signature of %d bytes, want %d", len(signature), k.size)
	}
	return signature, err
}

// verify reports whether the signature is one of data by this key. It must have the one length that
// signatures of the key have.
func (k verifyKey) verify(data, signature []byte) bool {
	return len(signature) == k.size && k.verifier.Verify(data, signature, k.public()) == nil
}

// ID is the key's kid: its RFC 7638 thumbprint.
func (k Key) ID() string { return k.id }

// Format prints the key without its secret, whatever the verb.
func (k Key) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(k.String())) }

// String describes the key without its secret.
func (k Key) String() string { return fmt.Sprintf("tokensession.Key{%s %s}", k.alg, k.id) }

// LogValue describes the key without its secret.
func (k Key) LogValue() slog.Value { return slog.StringValue(k.String()) }

// isNil reports whether v is nil or an interface that holds a nil pointer.
func isNil(v any) bool {
	r := reflect.ValueOf(v)
	return !r.IsValid() || r.Kind() == reflect.Pointer && r.IsNil()
}

package tokensession_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

func rsaKey(alg string) *rsa.PrivateKey { return testKeyFor(alg).private.(*rsa.PrivateKey) }

func ecKey(alg string) *ecdsa.PrivateKey { return testKeyFor(alg).private.(*ecdsa.PrivateKey) }

func edKey() ed25519.PrivateKey { return testKeyFor("EdDSA").private.(ed25519.PrivateKey) }

func mustGet[T any](v T, err error) T {
	noError(err)
	return v
}

func pemOf(blockType string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: blockType, Bytes: der}))
}

func pkcs8(key any) string { return pemOf("PRIVATE KEY", mustGet(x509.MarshalPKCS8PrivateKey(key))) }

func sec1(key *ecdsa.PrivateKey) string {
	return pemOf("EC PRIVATE KEY", mustGet(x509.MarshalECPrivateKey(key)))
}

func pkcs1(key *rsa.PrivateKey) string {
	return pemOf("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(key))
}

// requireWorks has the key make a token that verifies, and says which algorithm it must be of.
func requireWorks(t *testing.T, key tokensession.Key, alg, what string) {
	t.Helper()
	b := newAccessBench(t, testKeyFor("EdDSA"), tokensession.AccessConfig{}, tokensession.Config{})
	cfg := accessConfig
	cfg.Now = b.clock.Now
	signer, err := tokensession.NewAccessSigner(key, cfg)
	require.NoError(t, err, what)
	m, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{Now: b.clock.Now})
	require.NoError(t, err, what)
	tokens, err := m.Start(context.Background(), "alice")
	require.NoError(t, err, what)
	require.Equal(t, fmt.Sprintf(`{"alg":%q,"kid":%q,"typ":"at+jwt"}`, alg, key.ID()), string(tokenPart(t, tokens.AccessToken, 0)), what)
	_, err = m.Verify(tokens.AccessToken)
	require.NoError(t, err, what)
	if alg == "HS256" {
		return
	}
	v, err := tokensession.NewAccessVerifier(signer.JWKS(), cfg)
	require.NoError(t, err, what)
	_, err = v.Verify(tokens.AccessToken)
	require.NoError(t, err, what)
}

func TestGenerateKey_isEd25519AndNewEachTime(t *testing.T) {
	a, b := mustGet(tokensession.GenerateKey()), mustGet(tokensession.GenerateKey())
	require.NotEqual(t, a.ID(), b.ID())
	requireWorks(t, a, "EdDSA", "generated")
}

func TestParseKeyPEM_readsEveryForm(t *testing.T) {
	ecParameters := pemOf("EC PARAMETERS", mustGet(asn1.Marshal(asn1.ObjectIdentifier{1, 2, 840, 10045, 3, 1, 7})))
	for name, c := range map[string]struct{ alg, pem string }{
		"PKCS #8 Ed25519":            {"EdDSA", pkcs8(edKey())},
		"PKCS #8 P-256":              {"ES256", pkcs8(ecKey("ES256"))},
		"PKCS #8 P-384":              {"ES384", pkcs8(ecKey("ES384"))},
		"PKCS #8 P-521":              {"ES512", pkcs8(ecKey("ES512"))},
		"PKCS #8 RSA":                {"RS256", pkcs8(rsaKey("RS256"))},
		"PKCS #1":                    {"RS256", pkcs1(rsaKey("RS256"))},
		"SEC 1 P-256":                {"ES256", sec1(ecKey("ES256"))},
		"SEC 1 P-384":                {"ES384", sec1(ecKey("ES384"))},
		"SEC 1 P-521":                {"ES512", sec1(ecKey("ES512"))},
		"SEC 1 behind EC PARAMETERS": {"ES256", ecParameters + sec1(ecKey("ES256"))},
		"text before, space behind":  {"EdDSA", "subject=whoever\n" + pkcs8(edKey()) + "\n \n"},
		"CR and LF":                  {"EdDSA", strings.ReplaceAll(pkcs8(edKey()), "\n", "\r\n")},
	} {
		key, err := tokensession.ParseKeyPEM([]byte(c.pem))
		require.NoError(t, err, name)
		require.Equal(t, testKeyFor(c.alg).key.ID(), key.ID(), name)
		requireWorks(t, key, c.alg, name)
	}
}

func TestMarshalPEM_comesBackAsTheSameKey(t *testing.T) {
	for _, alg := range []string{"EdDSA", "ES256", "ES384", "ES512", "RS256"} {
		pemData, err := testKeyFor(alg).key.MarshalPEM()
		require.NoError(t, err, alg)
		require.Equal(t, pkcs8(testKeyFor(alg).private), string(pemData), alg)
		key, err := tokensession.ParseKeyPEM(pemData)
		require.NoError(t, err, alg)
		require.Equal(t, testKeyFor(alg).key.ID(), key.ID())
		requireWorks(t, key, alg, "from PEM")
	}
}

func TestMarshalPEM_refusesWhatWouldNotComeBack(t *testing.T) {
	remote := mustGet(tokensession.NewKey(kms(edKey())))
	for says, key := range map[string]tokensession.Key{
		"zero value": {}, "HS256": testKeyFor("HS256").key, "PS256": testKeyFor("PS256").key, "kmsSigner": remote,
	} {
		pemData, err := key.MarshalPEM()
		require.ErrorContains(t, err, "tokensession: MarshalPEM: ")
		require.ErrorContains(t, err, says)
		require.Nil(t, pemData)
	}
}

func TestParseKeyPEM_refuses(t *testing.T) {
	encrypted := pem.EncodeToMemory(&pem.Block{
		Type: "RSA PRIVATE KEY", Headers: map[string]string{"Proc-Type": "4,ENCRYPTED", "DEK-Info": "AES-256-CBC,00"}, Bytes: make([]byte, 64),
	})
	x25519 := mustGet(ecdh.X25519().GenerateKey(rand.Reader))
	small := mustGet(rsa.GenerateKey(rand.Reader, 1024))
	for name, c := range map[string]struct{ pem, want string }{
		"nothing":              {"", "no PEM block"},
		"garbage":              {"-----BEGIN nothing", "no PEM block"},
		"a JWK":                {string(rsaJWK(rsaKey("PS256"), "PS256")), "no PEM block"},
		"DER":                  {string(mustGet(x509.MarshalPKCS8PrivateKey(edKey()))), "no PEM block"},
		"EC PARAMETERS only":   {pemOf("EC PARAMETERS", []byte{5, 0}), "no PEM block"},
		"a cut block":          {pkcs8(edKey())[:60], "no PEM block"},
		"garbage in a block":   {pemOf("PRIVATE KEY", []byte("garbage")), "PRIVATE KEY"},
		"garbage in PKCS #1":   {pemOf("RSA PRIVATE KEY", []byte("garbage")), "RSA PRIVATE KEY"},
		"garbage in SEC 1":     {pemOf("EC PRIVATE KEY", []byte("garbage")), "EC PRIVATE KEY"},
		"SEC 1 called PKCS #8": {strings.ReplaceAll(sec1(ecKey("ES256")), "EC PRIVATE", "PRIVATE"), "PRIVATE KEY"},
		"encrypted PKCS #8":    {pemOf("ENCRYPTED PRIVATE KEY", []byte("x")), "encrypted"},
		"encrypted PKCS #1":    {string(encrypted), "encrypted"},
		"public":               {string(publicPEM(edKey().Public())), "not a private key"},
		"public PKCS #1":       {pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey("RS256").PublicKey)), "not a private key"},
		"certificate":          {pemOf("CERTIFICATE", certificate(edKey())), "not a private key"},
		"two keys":             {pkcs8(edKey()) + pkcs8(ecKey("ES256")), "more than one"},
		"key and certificate":  {pkcs8(edKey()) + pemOf("CERTIFICATE", certificate(edKey())), "more than one"},
		"key and garbage":      {pkcs8(edKey()) + "garbage", "more than one"},
		"X25519":               {pkcs8(x25519), "cannot sign"},
		"P-224":                {pkcs8(mustGet(ecdsa.GenerateKey(elliptic.P224(), rand.Reader))), "P-256, P-384 or P-521"},
		"RSA of 1024":          {pkcs8(small), "RSA key of 1024 bits: cannot be shorter than 2048"},
		"RSA of 1024, PKCS #1": {pkcs1(small), "RSA key of 1024 bits: cannot be shorter than 2048"},
	} {
		key, err := tokensession.ParseKeyPEM([]byte(c.pem))
		require.ErrorContains(t, err, c.want, name)
		require.True(t, strings.HasPrefix(err.Error(), "tokensession: "), "%s: %v", name, err)
		require.Zero(t, key.ID(), name)
		requireQuotesNothing(t, err, c.pem, name)
	}
}

// requireQuotesNothing looks for any stretch of 12 characters of what was to be parsed, but for
// words.
func requireQuotesNothing(t *testing.T, err error, input, name string) {
	t.Helper()
	for i := 0; i+12 <= len(input); i++ {
		if piece := input[i : i+12]; strings.ContainsAny(piece, "0123456789+/-_") && !strings.Contains(piece, " ") {
			require.NotContains(t, err.Error(), piece, name)
		}
	}
}

// jwkOf makes a JWK of name and value pairs, in their order.
func jwkOf(members ...string) string {
	var b strings.Builder
	for i := 0; i < len(members); i += 2 {
		fmt.Fprintf(&b, `%q:%q,`, members[i], members[i+1])
	}
	return "{" + strings.TrimSuffix(b.String(), ",") + "}"
}

func okpJWK(more ...string) string {
	k := edKey()
	return jwkOf(append([]string{"kty", "OKP", "crv", "Ed25519", "d", b64(k.Seed()), "x", b64(k[32:])}, more...)...)
}

func ecJWK(k *ecdsa.PrivateKey, more ...string) string {
	point, d := mustGet(k.PublicKey.Bytes()), mustGet(k.Bytes())
	half := len(point) / 2
	return jwkOf(append([]string{"kty", "EC", "crv", k.Params().Name, "d", b64(d), "x", b64(point[1 : 1+half]), "y", b64(point[1+half:])}, more...)...)
}

func octJWK(secret []byte, more ...string) string {
	return jwkOf(append([]string{"kty", "oct", "k", b64(secret)}, more...)...)
}

// jwkWith replaces a member's value in a JWK.
func jwkWith(jwk, name, value string) string {
	var members map[string]any
	noError(json.Unmarshal([]byte(jwk), &members))
	members[name] = value
	return string(mustGet(json.Marshal(members)))
}

func jwkWithout(jwk string, names ...string) string {
	var members map[string]any
	noError(json.Unmarshal([]byte(jwk), &members))
	for _, name := range names {
		delete(members, name)
	}
	return string(mustGet(json.Marshal(members)))
}

func jwkPlus(jwk, member string) string { return strings.TrimSuffix(jwk, "}") + "," + member + "}" }

func TestParseKeyJWK_readsEveryType(t *testing.T) {
	for name, c := range map[string]struct{ alg, jwk string }{
		"OKP":                  {"EdDSA", okpJWK()},
		"OKP with alg":         {"EdDSA", okpJWK("alg", "EdDSA", "use", "sig", "kid", "of somebody else")},
		"P-256":                {"ES256", ecJWK(ecKey("ES256"))},
		"P-384":                {"ES384", ecJWK(ecKey("ES384"), "alg", "ES384")},
		"P-521":                {"ES512", ecJWK(ecKey("ES512"))},
		"RSA":                  {"RS256", jwkWithout(string(rsaJWK(rsaKey("RS256"), "RS256")), "alg")},
		"RSA with alg":         {"RS256", string(rsaJWK(rsaKey("RS256"), "RS256"))},
		"RSA with PSS":         {"PS256", string(rsaJWK(rsaKey("PS256"), "PS256"))},
		"oct":                  {"HS256", octJWK(testKeyFor("HS256").secret)},
		"oct with alg":         {"HS256", octJWK(testKeyFor("HS256").secret, "alg", "HS256")},
		"key_ops":              {"EdDSA", jwkPlus(okpJWK(), `"key_ops":["verify","sign"]`)},
		"unknown members":      {"EdDSA", jwkPlus(okpJWK(), `"x-vendor":{"a":[1]},"iat":1`)},
		"white space around":   {"EdDSA", " \n" + okpJWK() + "\n"},
		"a chain it ignores":   {"EdDSA", jwkPlus(okpJWK(), `"x5u":"http://127.0.0.1:1/"`)},
		"an empty use and alg": {"EdDSA", okpJWK("use", "", "alg", "")},
	} {
		key, err := tokensession.ParseKeyJWK([]byte(c.jwk))
		require.NoError(t, err, name)
		require.Equal(t, testKeyFor(c.alg).key.ID(), key.ID(), name)
		requireWorks(t, key, c.alg, name)
	}
}

func TestParseKeyJWK_refuses(t *testing.T) {
	okp, other := okpJWK(), keyFor(otherKeys(), "EdDSA").private.(ed25519.PrivateKey)
	ec, ec2 := ecJWK(ecKey("ES256")), ecJWK(keyFor(otherKeys(), "ES256").private.(*ecdsa.PrivateKey))
	rs := string(rsaJWK(rsaKey("RS256"), "RS256"))
	secret := testKeyFor("HS256").secret
	member := func(jwk, name string) string {
		var members map[string]string
		noError(json.Unmarshal([]byte(jwk), &members))
		return members[name]
	}
	order := elliptic.P256().Params().N
	for name, c := range map[string]struct{ jwk, want string }{
		"nothing":                   {"", "JWK"},
		"garbage":                   {"garbage", "JWK"},
		"PEM":                       {pkcs8(edKey()), "JWK"},
		"an array":                  {"[" + okp + "]", "JWK"},
		"two":                       {okp + okp, "JWK"},
		"a set":                     {`{"keys":[` + okp + `]}`, "a set of keys"},
		"a set within a key":        {jwkPlus(okp, `"keys":[]`), "a set of keys"},
		"kty missing":               {jwkWithout(okp, "kty"), "malformed"},
		"kty unknown":               {jwkWith(okp, "kty", "XYZ"), "malformed"},
		"kty of another":            {jwkWith(okp, "kty", "EC"), "malformed"},
		"d twice":                   {jwkPlus(okp, `"d":"`+b64(other.Seed())+`"`), "two names"},
		"d and D":                   {jwkPlus(okp, `"D":"`+b64(other.Seed())+`"`), "case"},
		"kty twice, escaped":        {jwkPlus(okp, `"\u006bty":"oct"`), "two names"},
		"Kelvin sign in kty":        {jwkPlus(okp, `"`+"\u212A"+`ty":"oct"`), "case"},
		"invalid UTF-8":             {jwkPlus(okp, `"kid":"`+"\xff"+`"`), "UTF-8"},
		"use is enc":                {okpJWK("use", "enc"), `use "enc"`},
		"use is a number":           {jwkPlus(okp, `"use":1`), "use"},
		"key_ops without sign":      {jwkPlus(okp, `"key_ops":["verify"]`), "key_ops"},
		"key_ops of encryption":     {jwkPlus(okp, `"key_ops":["encrypt","wrapKey"]`), "key_ops"},
		"key_ops empty":             {jwkPlus(okp, `"key_ops":[]`), "key_ops"},
		"key_ops is text":           {jwkPlus(okp, `"key_ops":"sign"`), "key_ops"},
		"alg of another type":       {okpJWK("alg", "ES256"), `alg "ES256" with a key for EdDSA`},
		"alg is none":               {okpJWK("alg", "none"), "alg"},
		"alg is a number":           {jwkPlus(okp, `"alg":1`), "alg"},
		"alg for another curve":     {jwkWith(ec, "alg", "ES384"), `alg "ES384" with a key for ES256`},
		"alg RS384":                 {jwkWith(rs, "alg", "RS384"), `alg "RS384" with a key for RS256`},
		"alg PS512":                 {jwkWith(rs, "alg", "PS512"), `alg "PS512" with a key for RS256`},
		"alg RSA-OAEP":              {jwkWith(rs, "alg", "RSA-OAEP"), "alg"},
		"alg HS512":                 {octJWK(secret, "alg", "HS512"), `alg "HS512" with a key for HS256`},
		"alg RS256 on a secret":     {octJWK(secret, "alg", "RS256"), `alg "RS256" with a key for HS256`},
		"alg HS256 on a public key": {jwkWith(jwkWithout(okp, "d"), "alg", "HS256"), "JWK"},
		"public OKP":                {jwkWithout(okp, "d"), "not a private key"},
		"public EC":                 {jwkWithout(ec, "d"), "not a private key"},
		"public RSA":                {jwkWithout(rs, "d", "p", "q", "dp", "dq", "qi"), "not a private key"},
		"OKP, x of another":         {jwkWith(okp, "x", b64(other[32:])), "malformed key material"},
		"OKP, x cut":                {jwkWith(okp, "x", member(okp, "x")[:40]), ""},
		"OKP, d cut":                {jwkWith(okp, "d", member(okp, "d")[:40]), ""},
		"OKP, d empty":              {jwkWith(okp, "d", ""), ""},
		"OKP, d not base64":         {jwkWith(okp, "d", "!!!!"), ""},
		"OKP, d is a number":        {jwkPlus(jwkWithout(okp, "d"), `"d":1`), ""},
		"X25519":                    {jwkWith(okp, "crv", "X25519"), ""},
		"Ed448":                     {jwkWith(okp, "crv", "Ed448"), ""},
		"EC, point of another":      {jwkWith(jwkWith(ec, "x", member(ec2, "x")), "y", member(ec2, "y")), ""},
		"EC, y of another":          {jwkWith(ec, "y", member(ec2, "y")), ""},
		"EC, x and y are 0":         {jwkWith(jwkWith(ec, "x", b64(make([]byte, 32))), "y", b64(make([]byte, 32))), ""},
		"EC, x missing":             {jwkWithout(ec, "x"), ""},
		"EC, d is 0":                {jwkWith(ec, "d", b64(make([]byte, 32))), ""},
		"EC, d is n":                {jwkWith(ec, "d", b64(order.Bytes())), ""},
		"EC, d of another":          {jwkWith(ec, "d", member(ec2, "d")), ""},
		"EC, another curve":         {jwkWith(ec, "crv", "P-384"), ""},
		"EC, unknown curve":         {jwkWith(ec, "crv", "P-224"), ""},
		"EC, secp256k1":             {jwkWith(ec, "crv", "secp256k1"), ""},
		"RSA, d of another":         {jwkWith(rs, "d", member(string(rsaJWK(rsaKey("PS256"), "")), "d")), ""},
		"RSA, n of another":         {jwkWith(rs, "n", member(string(rsaJWK(rsaKey("PS256"), "")), "n")), ""},
		"RSA, e is 1":               {jwkWith(rs, "e", "AQ"), ""},
		"RSA, e is even":            {jwkWith(rs, "e", "BA"), ""},
		"RSA, e is 0":               {jwkWith(rs, "e", "AA"), ""},
		"RSA, e is enormous":        {jwkWith(rs, "e", b64(bytes.Repeat([]byte{0xff}, 100))), ""},
		"RSA of 1024":               {string(rsaJWK(mustGet(rsa.GenerateKey(rand.Reader, 1024)), "RS256")), "1024 bits: cannot be shorter than 2048"},
		"oct of 31 bytes":           {octJWK(secret[:31]), "31 bytes: cannot be shorter than 32"},
		"oct of nothing":            {octJWK(nil), ""},
		"oct without k":             {jwkOf("kty", "oct"), ""},
	} {
		key, err := tokensession.ParseKeyJWK([]byte(c.jwk))
		require.Error(t, err, name)
		require.ErrorContains(t, err, c.want, name)
		require.True(t, strings.HasPrefix(err.Error(), "tokensession: "), "%s: %v", name, err)
		require.Zero(t, key.ID(), name)
		requireQuotesNothing(t, err, c.jwk, name)
	}
}

// A kmsSigner is what a KMS client is: it has a public key, and signs.
type kmsSigner struct {
	public crypto.PublicKey
	sign   func(digest []byte, opts crypto.SignerOpts) ([]byte, error)
}

func (k kmsSigner) Public() crypto.PublicKey { return k.public }

func (k kmsSigner) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.sign(digest, opts)
}

func kms(private crypto.Signer) kmsSigner {
	return kmsSigner{private.Public(), func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
		return private.Sign(rand.Reader, digest, opts)
	}}
}

func TestNewKey_signsWithAKMS(t *testing.T) {
	for _, k := range testKeys() {
		if k.secret != nil || k.alg == "PS256" {
			continue
		}
		remote := kms(k.private)
		for name, signer := range map[string]crypto.Signer{"the key itself": k.private, "by value": remote, "by pointer": &remote} {
			key, err := tokensession.NewKey(signer)
			require.NoError(t, err, "%s %s", k.alg, name)
			require.Equal(t, k.key.ID(), key.ID())
			requireWorks(t, key, k.alg, k.alg+" "+name)
		}
	}
}

func TestNewKey_keepsACopy(t *testing.T) {
	_, private, err := ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	key, err := tokensession.NewKey(private)
	require.NoError(t, err)
	clear(private)
	w := newWorldOf(t, key, tokensession.Config{})
	_, err = w.m.Verify(w.start().AccessToken)
	require.NoError(t, err)
}

func TestNewKey_refusesWhatCannotSignSafely(t *testing.T) {
	ed, ec, rs := edKey(), ecKey("ES256"), rsaKey("RS256")
	failing := kms(ed)
	failing.sign = func([]byte, crypto.SignerOpts) ([]byte, error) { return nil, errors.New("the HSM is locked") }
	signing := func(public crypto.PublicKey, private crypto.Signer) kmsSigner {
		k := kms(private)
		k.public = public
		return k
	}
	returning := func(public crypto.PublicKey, sig []byte) kmsSigner {
		return kmsSigner{public, func([]byte, crypto.SignerOpts) ([]byte, error) { return sig, nil }}
	}
	der := func(r, s *big.Int) []byte { return mustGet(asn1.Marshal(struct{ R, S *big.Int }{r, s})) }
	var nilKMS *kmsSigner
	short := mustGet(rsa.GenerateKey(rand.Reader, 2047))
	for name, c := range map[string]struct {
		signer crypto.Signer
		want   string
	}{
		"nil":                               {nil, "nil"},
		"nil RSA":                           {(*rsa.PrivateKey)(nil), "nil"},
		"nil ECDSA":                         {(*ecdsa.PrivateKey)(nil), "nil"},
		"nil Ed25519":                       {ed25519.PrivateKey(nil), "0 bytes: must have 64"},
		"nil pointer to Ed25519":            {(*ed25519.PrivateKey)(nil), "nil"},
		"nil signer of the host's":          {nilKMS, "nil"},
		"empty ECDSA":                       {&ecdsa.PrivateKey{}, "P-256, P-384 or P-521"},
		"ECDSA without d":                   {&ecdsa.PrivateKey{PublicKey: ec.PublicKey}, "ES256 key: panic"},
		"an Ed25519 seed":                   {ed25519.PrivateKey(ed.Seed()), "32 bytes: must have 64"},
		"short Ed25519":                     {ed[:63], "63 bytes: must have 64"},
		"long Ed25519":                      {append(slices.Clone(ed), 0), "65 bytes: must have 64"},
		"Ed25519, public half of another":   {append(slices.Clone(ed[:32]), keyFor(otherKeys(), "EdDSA").private.(ed25519.PrivateKey)[32:]...), "verify"},
		"RSA of 2047 bits":                  {short, "2047 bits: cannot be shorter than 2048"},
		"RSA of 1024 bits":                  {mustGet(rsa.GenerateKey(rand.Reader, 1024)), "1024 bits: cannot be shorter than 2048"},
		"KMS with RSA of 2047 bits":         {kms(short), "2047 bits: cannot be shorter than 2048"},
		"KMS with a small exponent":         {returning(&rsa.PublicKey{N: rs.N, E: 1}, nil), "exponent 1"},
		"KMS with an even exponent":         {returning(&rsa.PublicKey{N: rs.N, E: 4}, nil), "exponent 4"},
		"KMS with a nil RSA key":            {returning((*rsa.PublicKey)(nil), nil), "nil"},
		"KMS with a nil ECDSA key":          {returning((*ecdsa.PublicKey)(nil), nil), "nil"},
		"KMS with an empty ECDSA key":       {returning(&ecdsa.PublicKey{}, nil), "P-256, P-384 or P-521"},
		"KMS with an ECDSA key of no point": {returning(&ecdsa.PublicKey{Curve: elliptic.P256()}, nil), "no point"},
		"KMS with an empty RSA key":         {returning(&rsa.PublicKey{}, nil), "no modulus"},
		"an empty RSA key":                  {&rsa.PrivateKey{}, "no modulus"},
		"an ECDSA key of no point":          {&ecdsa.PrivateKey{PublicKey: ecdsa.PublicKey{Curve: elliptic.P256()}}, "no point"},
		"KMS with a point off the curve":    {returning(&ecdsa.PublicKey{Curve: elliptic.P256(), X: big.NewInt(1), Y: big.NewInt(1)}, nil), "ECDSA"},
		"KMS with a short Ed25519 key":      {returning(ed25519.PublicKey{1}, nil), "1 bytes: must have 32"},
		"KMS without a public key":          {returning(nil, nil), "nil"},
		"KMS with a public key by value":    {returning(ec.PublicKey, nil), "ecdsa.PublicKey"},
		"P-224":                             {mustGet(ecdsa.GenerateKey(elliptic.P224(), rand.Reader)), "P-256, P-384 or P-521"},
		"X25519":                            {returning(mustGet(ecdh.X25519().GenerateKey(rand.Reader)).Public(), nil), "ecdh.PublicKey"},
		"public key of another, Ed25519":    {signing(keyFor(otherKeys(), "EdDSA").private.Public(), ed), "verify"},
		"public key of another, ECDSA":      {signing(keyFor(otherKeys(), "ES256").private.Public(), ec), "verify"},
		"public key of another, RSA":        {signing(keyFor(otherKeys(), "RS256").private.Public(), rs), "verify"},
		"public key of another type":        {signing(ec.Public(), ed), "ES256"},
		"public key of another curve":       {signing(ec.Public(), ecKey("ES384")), "ES256"},
		"a signer that fails":               {failing, "the HSM is locked"},
		"a signer that returns nothing":     {returning(ed.Public(), nil), "EdDSA"},
		"ECDSA that returns r and s raw":    {returning(ec.Public(), make([]byte, 64)), "ES256"},
		"ECDSA that returns wide numbers":   {returning(ec.Public(), der(rs.N, rs.N)), "ES256"},
		"ECDSA that returns negative ones":  {returning(ec.Public(), der(big.NewInt(-1), big.NewInt(-1))), "ES256"},
	} {
		key, err := tokensession.NewKey(c.signer)
		require.ErrorContains(t, err, c.want, name)
		require.True(t, strings.HasPrefix(err.Error(), "tokensession: "), "%s: %v", name, err)
		require.Zero(t, key.ID(), name)
	}
}

// TestNewKey_thatBreaksLaterConsumesNothing: a KMS that is down, or mad, is no verdict about the
// session.
func TestNewKey_thatBreaksLaterConsumesNothing(t *testing.T) {
	for name, c := range map[string]struct {
		alg    string
		answer func() ([]byte, error)
	}{
		"an error":              {"ES256", func() ([]byte, error) { return nil, errors.New("the HSM is locked") }},
		"garbage":               {"ES256", func() ([]byte, error) { return make([]byte, 7), nil }},
		"that of another curve": {"ES256", func() ([]byte, error) { return ecKey("ES512").Sign(rand.Reader, make([]byte, 64), crypto.SHA512) }},
		"a panic":               {"ES256", func() ([]byte, error) { panic("the HSM is on fire") }},
		"a short one":           {"EdDSA", func() ([]byte, error) { return make([]byte, 63), nil }},
		"that of another size":  {"RS256", func() ([]byte, error) { return make([]byte, 512), nil }},
	} {
		private := testKeyFor(c.alg).private
		broken := false
		k := kms(private)
		k.sign = func(digest []byte, opts crypto.SignerOpts) ([]byte, error) {
			if broken {
				return c.answer()
			}
			return private.Sign(rand.Reader, digest, opts)
		}
		b := newAccessBench(t, testKey{alg: c.alg, key: mustGet(tokensession.NewKey(k)), private: private}, tokensession.AccessConfig{}, tokensession.Config{})
		tokens := b.start(t)
		broken = true
		_, err := b.manager.Refresh(context.Background(), tokens.RefreshToken)
		require.ErrorIs(t, err, tokensession.ErrUnavailable, name)
		broken = false
		_, err = b.manager.Refresh(context.Background(), tokens.RefreshToken)
		require.NoError(t, err, name)
	}
}

func TestNewHMACKey_takesThirtyTwoBytesOrMore(t *testing.T) {
	secret := make([]byte, 64)
	_, _ = rand.Read(secret)
	for n := range 32 {
		_, err := tokensession.NewHMACKey(secret[:n])
		require.ErrorContains(t, err, fmt.Sprintf("%d bytes: cannot be shorter than 32", n))
	}
	for _, n := range []int{32, 33, 64} {
		key, err := tokensession.NewHMACKey(secret[:n])
		require.NoError(t, err)
		requireWorks(t, key, "HS256", fmt.Sprint(n))
	}
}

func TestNewHMACKey_keepsACopy(t *testing.T) {
	secret := bytes.Repeat([]byte{7}, 32)
	k := testKey{alg: "HS256", key: mustGet(tokensession.NewHMACKey(secret)), secret: slices.Clone(secret)}
	k.good = k.forge(k.header(), claimsWith())
	clear(secret)
	b := newAccessBench(t, k, tokensession.AccessConfig{}, tokensession.Config{})
	requireGood(t, b, "Manager", b.manager.Verify)
}

func TestKeyID_isTheThumbprintOfRFC7638(t *testing.T) {
	// RFC 8037 appendix A: the key of A.1, the thumbprint of A.3.
	key, err := tokensession.ParseKeyJWK([]byte(`{"kty":"OKP","crv":"Ed25519",
		"d":"nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}`))
	require.NoError(t, err)
	require.Equal(t, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", key.ID())

	point := func(k *ecdsa.PrivateKey) (x, y string) {
		raw := mustGet(k.PublicKey.Bytes())[1:]
		return b64(raw[:len(raw)/2]), b64(raw[len(raw)/2:])
	}
	for _, k := range append(testKeys(), otherKeys()...) {
		var canonical string
		switch private := k.private.(type) {
		case ed25519.PrivateKey:
			canonical = fmt.Sprintf(`{"crv":"Ed25519","kty":"OKP","x":%q}`, b64(private[32:]))
		case *ecdsa.PrivateKey:
			x, y := point(private)
			canonical = fmt.Sprintf(`{"crv":%q,"kty":"EC","x":%q,"y":%q}`, private.Params().Name, x, y)
		case *rsa.PrivateKey:
			canonical = fmt.Sprintf(`{"e":"AQAB","kty":"RSA","n":%q}`, b64(private.N.Bytes()))
		default:
			canonical = fmt.Sprintf(`{"k":%q,"kty":"oct"}`, b64(k.secret))
		}
		sum := sha256.Sum256([]byte(canonical))
		require.Equal(t, b64(sum[:]), k.key.ID(), k.alg)
	}
}

// TestKeyID_ofCoordinatesWithLeadingZeros: RFC 7518 section 6.2.1.2 wants them as long as the
// field, and verifiers differ over it.
func TestKeyID_ofCoordinatesWithLeadingZeros(t *testing.T) {
	for {
		k := mustGet(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
		raw := mustGet(k.PublicKey.Bytes())[1:]
		if raw[0] != 0 && raw[32] != 0 {
			continue
		}
		key := mustGet(tokensession.NewKey(k))
		sum := sha256.Sum256(fmt.Appendf(nil, `{"crv":"P-256","kty":"EC","x":%q,"y":%q}`, b64(raw[:32]), b64(raw[32:])))
		require.Equal(t, b64(sum[:]), key.ID())
		requireWorks(t, key, "ES256", "leading zero")
		return
	}
}

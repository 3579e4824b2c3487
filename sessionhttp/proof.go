package sessionhttp

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession/internal/strictjson"
)

// What [Proofs.Check] and [Handlers.ProofOptions] return beside the errors of package tokensession.
// [Status] is 401 for both, and 400 where they come from a login.
var (
	// ErrInvalidProof means that a request's DPoP proof is missing, malformed, of another request
	// or of another access token, used before, or not signed by the key in it. It says nothing of
	// the token, which may be good with a good proof.
	ErrInvalidProof = errors.New("sessionhttp: invalid DPoP proof")

	// ErrUseNonce means that the client is to send the request again, with a proof that has the
	// nonce of the answer's DPoP-Nonce header (RFC 9449 section 8).
	ErrUseNonce = errors.New("sessionhttp: a DPoP proof with a new nonce is needed")
)

// A ProofConfig says how [Proofs] are checked. Keys are required.
type ProofConfig struct {
	// Keys are the secrets that nonces are made with: see [Config.ProofKeys].
	Keys [][]byte

	// RequestURL is as in [Config].
	RequestURL func(*http.Request) string

	// Memory is how many proofs are remembered, for one and a half to three minutes each, so that
	// none is accepted twice: 1,048,576 if 0, which is enough for some 6,000 requests a second, and
	// at least 1,024. Each takes some 40 bytes. While there is no room for another one, the answer
	// is 503.
	Memory int

	// Now is the clock: [time.Now] if nil.
	Now func() time.Time
}

// Format prints the config without Keys, whatever the verb.
func (c ProofConfig) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// String describes the config without Keys.
func (c ProofConfig) String() string {
	return fmt.Sprintf("sessionhttp.ProofConfig{Memory:%d Keys:%d REDACTED}", c.Memory, len(c.Keys))
}

// LogValue describes the config without Keys.
func (c ProofConfig) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Proofs checks DPoP proofs (RFC 9449): a client shows with each request that it has the key to
// which its access token is bound. Few need it, because [Handlers.Require] and [Remote.Require] do
// all this. It is for services with a [tokensession.AccessVerifier] and a middleware of their own.
// Make it with [NewProofs], once. It is safe for concurrent use.
type Proofs struct {
	nonces     *nonces
	replays    *replays
	known      *keyTable
	requestURL func(*http.Request) string // can be nil
	now        func() time.Time
}

// NewProofs returns Proofs, or says which field of cfg is wrong.
func NewProofs(cfg ProofConfig) (*Proofs, error) {
	keys, err := newProofKeys("ProofConfig.Keys", cfg.Keys)
	switch {
	case err != nil:
		return nil, err
	case len(cfg.Keys) == 0:
		return nil, errors.New("sessionhttp: ProofConfig.Keys is empty: nonces need a secret that all " +
			"instances share")
	}
	if err := checkMemory("ProofConfig.Memory", cfg.Memory); err != nil {
		return nil, err
	}
	return newProofs(keys, cfg), nil
}

func checkMemory(field string, memory int) error {
	if memory != 0 && memory < minMemory {
		return fmt.Errorf("sessionhttp: %s %d: cannot be less than %d", field, memory, minMemory)
	}
	return nil
}

func newProofs(keys proofKeys, cfg ProofConfig) *Proofs {
	if cfg.Memory == 0 {
		cfg.Memory = defaultMemory
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Proofs{newNonces(keys), newReplays(cfg.Memory), newKeyTable(), cfg.RequestURL, cfg.Now}
}

// Check checks the proof in a request's DPoP header, and returns the thumbprint of the key that it
// proves (RFC 7638). It reads only what is in memory.
//
// A request that brings an access token passes it, as it stands behind "DPoP " in the Authorization
// header. The proof has to be of this token. Then the token has to be of this key, which is for the
// caller to see: by [tokensession.AccessVerifier.VerifyBound] with the thumbprint.
//
// Without an access token, as at a login, the proof has to have a nonce, which the first one does
// not have. So call Check before the password is looked at: the error is ErrUseNonce, and the
// client comes again.
//
// Check sets the header DPoP-Nonce of the answer where the client needs a new one. The error is
// [ErrInvalidProof] or [ErrUseNonce], which are to be answered by 401 with the challenge
// DPoP error="invalid_dpop_proof" or DPoP error="use_dpop_nonce", or without an access token by 400
// and the same codes in the body (RFC 9449 sections 7.1 and 5). It is [tokensession.ErrUnavailable]
// where the memory of proofs is full.
//
// Whoever can make requests can fill that memory, because Check does not know which access tokens
// are good. Require remembers proofs of good tokens only.
func (p *Proofs) Check(
	w http.ResponseWriter, r *http.Request, accessToken string,
) (thumbprint string, err error) {
	use := proofUse{accessToken: &accessToken}
	if accessToken == "" {
		use = proofUse{freshNonce: true}
	}
	checked, nonce, err := p.check(r, use)
	if nonce != "" {
		w.Header().Set(nonceHeader, nonce)
	}
	if err == nil && accessToken != "" {
		err = p.once(checked)
	}
	if err != nil {
		return "", err
	}
	return checked.thumbprint, nil
}

// A proofUse says what a proof is to show beside the possession of a key.
type proofUse struct {
	accessToken *string // that it is of this access token; nil where there is none
	freshNonce  bool    // that it was made just now, for which only a nonce counts
}

// A checkedProof is what a good proof says. at is when it was found to be good.
type checkedProof struct {
	thumbprint, id string
	at             time.Time
}

const (
	proofHeader = "Dpop" // in the form that http.Header has
	nonceHeader = "DPoP-Nonce"

	// maxProof is in bytes. Proofs of ES256 have some 500.
	maxProof = 4 << 10

	// A proof without a nonce is accepted from its iat on for so long, and by a clock that is so
	// much behind the client's. FAPI 2.0 asks that ten seconds ahead pass and sixty do not.
	proofMaxAge   = 60 * time.Second
	proofMaxAhead = 10 * time.Second
)

// check makes all the checks of RFC 9449 section 4.3 but the one for a replay. The signature comes
// last, because it alone is expensive. None of them needs I/O. Whether the proof is good or not,
// check also returns the nonce that the client is to be told, or "" if it has the newest one.
func (p *Proofs) check(r *http.Request, use proofUse) (good checkedProof, nonce string, err error) {
	proof, err := p.parseProof(r.Header[proofHeader])
	if err != nil {
		return checkedProof{}, "", invalidProof(err)
	}
	now := p.now()
	nonces := p.nonces.at(now)
	if proof.nonce != nonces.current {
		nonce = nonces.current
	}
	if err := p.checkTarget(proof, r, use); err != nil {
		return checkedProof{}, nonce, invalidProof(err)
	}
	if err := checkFresh(proof, nonces, now, use.freshNonce); err != nil {
		return checkedProof{}, nonce, err
	}
	if !proof.key.verify([]byte(proof.signed), proof.signature) {
		return checkedProof{}, nonce, invalidProof(errors.New("the signature does not verify"))
	}
	p.known.put(proof.header, proof.key)
	return checkedProof{proof.key.thumbprint, proof.id, now}, nonce, nil
}

// once remembers a proof that has passed check. The error is an ErrInvalidProof if it was used
// before. It comes last of all, so that nothing else that is refused takes room.
func (p *Proofs) once(proof checkedProof) error {
	return p.replays.enter(proof.thumbprint, proof.id, proof.at)
}

func invalidProof(reason error) error { return fmt.Errorf("%w: %w", ErrInvalidProof, reason) }

// A proof is a JWT that has been parsed. Nothing of it is authentic yet.
type proof struct {
	header    string // as it stands there
	key       *proofKey
	signed    string
	signature []byte
	proofClaims
}

// proofClaims are those of RFC 9449 section 4.2.
type proofClaims struct {
	id        string // jti
	method    string // htm
	url       string // htu
	tokenHash string // ath
	nonce     string
	hasNonce  bool
	issued    int64 // iat
}

func (p *Proofs) parseProof(headers []string) (proof, error) {
	switch {
	case len(headers) == 0:
		return proof{}, errors.New("there is none")
	case len(headers) > 1:
		return proof{}, fmt.Errorf("%d DPoP headers", len(headers))
	case len(headers[0]) > maxProof:
		return proof{}, fmt.Errorf("longer than %d bytes", maxProof)
	}
	header, rest, _ := strings.Cut(headers[0], ".")
	payload, signature, _ := strings.Cut(rest, ".")
	claimsJSON, ok1 := decodePart(payload)
	signatureBytes, ok2 := decodePart(signature) // a fourth part would not be base64url
	if !ok1 || !ok2 {
		return proof{}, errNotJWT
	}
	key, err := p.headerKey(header)
	if err != nil {
		return proof{}, err
	}
	claims, err := parseProofClaims(claimsJSON)
	if err != nil {
		return proof{}, fmt.Errorf("claims: %w", err)
	}
	signed := headers[0][:len(header)+1+len(payload)]
	return proof{header, key, signed, signatureBytes, claims}, nil
}

var errNotJWT = errors.New("not three parts of strict base64url")

// headerKey returns the key of a header. If a proof with the same header has verified before, the
// header is not even decoded.
func (p *Proofs) headerKey(header string) (*proofKey, error) {
	if key := p.known.get(header); key != nil {
		return key, nil
	}
	text, ok := decodePart(header)
	if !ok {
		return nil, errNotJWT
	}
	_, key, err := parseProofHeader(text, "dpop+jwt")
	if err == nil && key == nil {
		err = errors.New("jwk is missing")
	}
	if err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	return key, nil
}

// strictBase64 refuses stray bits behind the last byte, which would make several strings of one
// proof. It skips CR and LF.
var strictBase64 = base64.RawURLEncoding.Strict()

// decodePart decodes a part of a JWT. An empty one is none.
func decodePart(s string) ([]byte, bool) {
	if s == "" || strings.IndexByte(s, '\n') >= 0 || strings.IndexByte(s, '\r') >= 0 {
		return nil, false
	}
	b, err := strictBase64.DecodeString(s)
	return b, err == nil
}

func parseProofClaims(text []byte) (proofClaims, error) {
	claims, err := strictjson.ParseObject(text, "jti", "htm", "htu", "iat", "ath", "nonce")
	if err != nil {
		return proofClaims{}, err
	}
	r := strictjson.NewReader(claims)
	c := proofClaims{
		id: r.Text("jti", true), method: r.Text("htm", true), url: r.Text("htu", true),
		tokenHash: r.Text("ath", false), nonce: r.Text("nonce", false),
		issued: r.Date("iat", true),
	}
	_, c.hasNonce = claims.Find("nonce") // an empty one is not the same as none
	return c, r.Err()
}

// checkTarget compares what the proof was made for with the request.
func (p *Proofs) checkTarget(proof proof, r *http.Request, use proofUse) error {
	if token := use.accessToken; token != nil {
		hash := sha256.Sum256([]byte(*token))
		if proof.tokenHash != base64.RawURLEncoding.EncodeToString(hash[:]) {
			return errors.New("ath is missing, or of another access token")
		}
	}
	if proof.method != r.Method {
		return fmt.Errorf("htm is %q, and the request a %q", proof.method, r.Method)
	}
	if urls := p.requestURLs(r); !isURLOf(proof.url, urls) {
		return fmt.Errorf("htu is %s, and the request's URL %q: if a proxy changes the host or the "+
			"path, RequestURL has to say what clients see", urlForLog(proof.url), urls)
	}
	return nil
}

// checkFresh refuses a proof that was not made just now. Where there is a nonce, only that counts,
// because there are phones with wrong clocks. Where there is none, a wrong clock is no reason to
// call the proof invalid: the client gets a nonce, with which it can do better.
func checkFresh(proof proof, nonces *nonceSet, now time.Time, demanded bool) error {
	switch {
	case proof.hasNonce:
		if !nonces.accepts(proof.nonce) {
			return fmt.Errorf("%w: the nonce is not of the last minute, or of other keys",
				ErrUseNonce)
		}
		return nil
	case demanded:
		return fmt.Errorf("%w: there is none", ErrUseNonce)
	}
	age := now.Unix() - proof.issued
	if age > int64(proofMaxAge/time.Second) || age < -int64(proofMaxAhead/time.Second) {
		return fmt.Errorf("%w: iat is %d seconds ago by this clock", ErrUseNonce, age)
	}
	return nil
}

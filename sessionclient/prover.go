package sessionclient

import (
	"cmp"
	"crypto"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// A Prover is an [http.RoundTripper] that proves with each request that the program holds a key
// (DPoP, RFC 9449). A server that binds its tokens to the key accepts them with such a proof only.
// So tokens that were stolen without the key are worth nothing.
//
// A [Transport] with a [Config.Key] has a Prover of its own, also for its [Transport.Login]. Use a
// Prover for requests that a Transport does not send, such as a login with other libraries.
//
// A proof is for one request. It has the method, the URL without its query, the time, and, if the
// request has an Authorization header with the scheme DPoP, a hash of the access token. It also has
// the newest nonce that the server has sent. If the server wants a nonce, or another one than that,
// the Prover sends the request once more with the server's new one, if the request has no body or
// its body can be had again ([http.Request.GetBody]). It also does so after a 401 that refuses the
// proof, because a proof counts only once, and an [http.Transport] may send a request twice. It
// sends no request more than twice. A request that has a DPoP header goes as it is.
//
// Make a Prover with [NewProver]. It is safe for concurrent use, and prints without the key.
type Prover struct {
	core func() *prover // a function for the same reason as Transport's core
}

var _ http.RoundTripper = (*Prover)(nil)

// NewProver returns a Prover that sends its requests with base, or with [http.DefaultTransport] if
// that is nil. The key is of P-256 or Ed25519. It may be in a TPM, in a smart card, or in the
// system's keychain, and it MUST be safe for concurrent use. [LoadKey] keeps a key in a file.
func NewProver(key crypto.Signer, base http.RoundTripper) (*Prover, error) {
	made, err := newProver(key, base, time.Now)
	if err != nil {
		return nil, fmt.Errorf("sessionclient: NewProver: %w", err)
	}
	return &Prover{func() *prover { return made }}, nil
}

// RoundTrip sends the request with a proof. If the key makes none, the error is a
// [tokensession.ErrUnavailable], and nothing was sent.
func (p *Prover) RoundTrip(req *http.Request) (*http.Response, error) {
	return p.core().roundTrip(req, func() {})
}

// Thumbprint is the key's (RFC 7638), by which servers know it. A program needs it for the
// parameter dpop_jkt of an authorization request (RFC 9449 section 10).
func (p *Prover) Thumbprint() string { return p.core().key.thumbprint }

// CloseIdleConnections closes those of the base, if it has a method for it.
// [http.Client.CloseIdleConnections] calls this one.
func (p *Prover) CloseIdleConnections() { closeIdle(p.core().base) }

// String names the key by its thumbprint.
func (p Prover) String() string {
	if p.core == nil {
		return "sessionclient.Prover{}"
	}
	return fmt.Sprintf("sessionclient.Prover{%s}", p.core().key.thumbprint)
}

// Format prints [Prover.String], whatever the verb.
func (p Prover) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(p.String())) }

// LogValue is [Prover.String].
func (p Prover) LogValue() slog.Value { return slog.StringValue(p.String()) }

const (
	// maxNonces is of how many servers a Prover remembers the nonce. A program that calls very many
	// pays with one trip more for some of them.
	maxNonces = 256

	// maxNonce is the longest nonce that is remembered. A proof has to fit into a header.
	maxNonce = 1024
)

// A prover is what a Prover is made of, and what a Transport with a key uses.
type prover struct {
	key  *proofKey
	base http.RoundTripper
	now  func() time.Time

	mu     sync.Mutex
	nonces map[string]string // the newest of each server, by the server's origin
}

func newProver(
	key crypto.Signer, base http.RoundTripper, now func() time.Time,
) (*prover, error) {
	made, err := newProofKey(key)
	if err != nil {
		return nil, err
	}
	if base == nil {
		base = http.DefaultTransport
	}
	return &prover{key: made, base: base, now: now, nonces: map[string]string{}}, nil
}

// A keyError says why the key has made no proof. Nothing was sent.
type keyError struct{ error }

func (e keyError) Unwrap() error { return e.error }

// roundTrip sends the request, and once more if that may help. It calls again in between, so that a
// caller who watches what was sent knows that the first request is settled.
func (p *prover) roundTrip(req *http.Request, again func()) (*http.Response, error) {
	if originOf(req.URL) == "" || len(req.Header.Values("DPoP")) > 0 {
		return whole(p.base.RoundTrip(req))
	}
	origin, path, err := proofTarget(req)
	if err != nil {
		return nil, closeBody(req, fmt.Errorf("sessionclient: a proof for this request: %w", err))
	}
	nonce := p.nonceOf(origin)
	resp, err := p.send(req, req.Body, origin, path, nonce)
	if err != nil || !anotherProofHelps(resp, nonce) {
		return resp, err
	}
	body, ok := replayBody(req)
	if !ok {
		return resp, nil
	}
	resp.Body.Close()
	again()
	return p.send(req, body, origin, path, cmp.Or(nonceIn(resp), nonce))
}

// send sends a copy of the request with a proof, and remembers the nonce of the response.
func (p *prover) send(
	req *http.Request, body io.ReadCloser, origin, path, nonce string,
) (*http.Response, error) {
	proof, err := p.key.prove(proofClaims{
		Method:    cmp.Or(req.Method, http.MethodGet),
		Target:    origin + path,
		IssuedAt:  p.now().Unix(),
		TokenHash: tokenHash(req.Header),
		Nonce:     nonce,
	})
	if err != nil {
		if body != nil {
			body.Close()
		}
		return nil, keyError{unavailable("making a proof", err)}
	}
	sent := req.Clone(req.Context())
	if sent.Header == nil {
		sent.Header = http.Header{}
	}
	sent.Body = body
	sent.Trailer = req.Trailer // not a copy, because its values are set while the body is read
	sent.Header.Set("DPoP", proof)
	resp, err := whole(p.base.RoundTrip(sent))
	if err != nil {
		return nil, err
	}
	resp.Request = req
	if next := nonceIn(resp); next != "" {
		p.setNonce(origin, next)
	}
	return resp, nil
}

// whole completes what a base returned, as an http.Client does. A base that a program has written
// itself, for a test perhaps, may leave out the body of an answer that has none.
func whole(resp *http.Response, err error) (*http.Response, error) {
	switch {
	case err != nil:
		return nil, err
	case resp == nil:
		return nil, errors.New("sessionclient: the base returned neither a response nor an error")
	case resp.Body == nil:
		resp.Body = http.NoBody
	}
	return resp, nil
}

// anotherProofHelps reports whether a request may succeed with another proof, after a response to a
// proof with this nonce. A server that asks for the nonce that it got is not asked again.
func anotherProofHelps(resp *http.Response, nonce string) bool {
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		if challenged(resp, "invalid_dpop_proof") {
			freeConnection(resp)
			return true
		}
	case http.StatusBadRequest:
	default:
		return false
	}
	if next := nonceIn(resp); next == "" || next == nonce {
		return false
	}
	const code = "use_dpop_nonce"
	if challenged(resp, code) {
		freeConnection(resp)
		return true
	}
	// A token endpoint answers in JSON (RFC 9449 section 8).
	kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err != nil || kind != "application/json" {
		return false
	}
	var answer struct {
		Error string `json:"error"`
	}
	return json.Unmarshal(freeConnection(resp), &answer) == nil && answer.Error == code
}

// nonceIn returns the nonce of a response (RFC 9449 section 8.1), or "" if there is none to use.
func nonceIn(resp *http.Response) string {
	values := resp.Header.Values("DPoP-Nonce")
	if len(values) != 1 || len(values[0]) > maxNonce || !isVisible(values[0]) ||
		strings.ContainsAny(values[0], `"\`) {
		return ""
	}
	return values[0]
}

func (p *prover) nonceOf(origin string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.nonces[origin]
}

func (p *prover) setNonce(origin, nonce string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, known := p.nonces[origin]; !known && len(p.nonces) >= maxNonces {
		for other := range p.nonces {
			delete(p.nonces, other)
			break
		}
	}
	p.nonces[origin] = nonce
}

// tokenHash is the hash of the access token that a request brings (RFC 9449 section 4.2), or "" if
// it brings none.
func tokenHash(header http.Header) string {
	scheme, token, _ := strings.Cut(header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "DPoP") {
		return ""
	}
	hash := sha256.Sum256([]byte(strings.TrimLeft(token, " ")))
	return encode(hash[:])
}

// proofTarget returns the origin and the path of the URL that a proof names: as the server sees it,
// without query and fragment, in the normal form of RFC 3986 section 6.2.3. A server behind a name
// of its own sees the request's Host.
func proofTarget(req *http.Request) (origin, path string, err error) {
	at := url.URL{Scheme: req.URL.Scheme, Host: cmp.Or(req.Host, req.URL.Host)}
	host, port := asciiLower(at.Hostname()), at.Port()
	if host == "" || !isVisible(host) || strings.ContainsAny(host, `%/?#@"\`) {
		// A host like bücher.example would be sent in its other form.
		return "", "", errors.New("the host must be in ASCII (xn--…), and have no zone")
	}
	path, _, _ = strings.Cut(req.URL.RequestURI(), "?")
	if !strings.HasPrefix(path, "/") {
		return "", "", errors.New("the URL has no path that begins with a slash")
	}
	switch {
	case port != "" && port != map[string]string{"http": "80", "https": "443"}[at.Scheme]:
		host = net.JoinHostPort(host, port)
	case strings.Contains(host, ":"):
		host = "[" + host + "]"
	}
	return at.Scheme + "://" + host, path, nil
}

// closeBody closes the body of a request that is not sent, as a RoundTripper must.
func closeBody(req *http.Request, err error) error {
	if req.Body != nil {
		req.Body.Close()
	}
	return err
}

func closeIdle(base http.RoundTripper) {
	if base, ok := base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

package sessionhttp

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/seed67bc9b7f/tokensession"
)

// A DPoPPolicy says whether clients that carry their tokens themselves bind them to a key of theirs
// (RFC 9449). Cookies are not concerned: a browser cannot prove a key with each request.
type DPoPPolicy int

const (
	// DPoPOff means that proofs are not looked at.
	DPoPOff DPoPPolicy = iota

	// DPoPAccepted means that a client which proves a key gets tokens that are bound to it, and
	// that any other client gets bearer tokens.
	DPoPAccepted

	// DPoPRequired means that a login or a refresh without a proof is refused, and so are bearer
	// tokens in the Authorization header.
	DPoPRequired
)

// dpop is what a gate needs to look at proofs.
type dpop struct {
	proofs        *Proofs // nil where DPoP is off
	proofRequired bool    // where only bound tokens are accepted, but for cookies
}

// newDPoP checks the fields of a config whose name is given.
func newDPoP(config string, policy DPoPPolicy, secrets [][]byte, cfg ProofConfig) (dpop, error) {
	keys, err := newProofKeys(config+".ProofKeys", secrets)
	switch {
	case err != nil:
		return dpop{}, err
	case policy < DPoPOff || policy > DPoPRequired:
		return dpop{}, fmt.Errorf("sessionhttp: %s.DPoP %d: must be DPoPOff, DPoPAccepted or "+
			"DPoPRequired", config, policy)
	case policy != DPoPOff && len(secrets) == 0:
		return dpop{}, fmt.Errorf("sessionhttp: %s.ProofKeys is empty, and DPoP needs them: nonces are "+
			"made with a secret that all instances share", config)
	}
	if err := checkMemory(config+".ProofMemory", cfg.Memory); err != nil || policy == DPoPOff {
		return dpop{}, err
	}
	return dpop{newProofs(keys, cfg), policy == DPoPRequired}, nil
}

// ProofOptions returns what a login passes on to [tokensession.Manager.Start], so that the tokens
// are bound to the client's key: none if the client proves no key, and Config.DPoP does not require
// it. It is for the host's login of clients that get their tokens from [Handlers.WriteTokens]. A
// browser that gets cookies has no use for bound tokens.
//
// Call it before the password is looked at. On an error, [Handlers.Refuse] answers, which is not
// the end of it: a client's first proof has no nonce, and it sends the same request once more with
// the one that the answer tells.
//
// An OAuth client that has a secret needs no other key for its refresh token. For such a client,
// use [Proofs.Check] and [tokensession.WithConfirmation] instead, so that it can change its key.
func (h *Handlers) ProofOptions(
	w http.ResponseWriter, r *http.Request,
) ([]tokensession.StartOption, error) {
	thumbprint, err := h.provenKey(w, r)
	if err != nil {
		return nil, &loginError{err}
	}
	if thumbprint == "" {
		return nil, nil
	}
	return []tokensession.StartOption{
		tokensession.WithKeyThumbprint(thumbprint), tokensession.WithConfirmation(thumbprint),
	}, nil
}

// provenKey returns the thumbprint of the key that a login or a refresh proves, or "" if it proves
// none and need not. It always asks for a nonce, so that no proof can be made in advance by
// somebody who has had the key for a while. It does no I/O, and consumes nothing.
func (h *Handlers) provenKey(w http.ResponseWriter, r *http.Request) (string, error) {
	switch {
	case h.proofs == nil:
		return "", nil
	case len(r.Header[proofHeader]) > 0:
		return h.proofs.Check(w, r, "")
	case h.proofRequired:
		return "", fmt.Errorf("%w: there is no DPoP header", tokensession.ErrProofRequired)
	}
	return "", nil
}

// A loginError is an error of a login's proof. OAuth answers it by another status than that of a
// request with an access token.
type loginError struct{ error }

func (e *loginError) Unwrap() error { return e.error }

// errBearer means that an access token came alone, or in a cookie, where only a bound one is
// accepted.
var errBearer = fmt.Errorf("%w: %w: a bearer token, where the client has to prove a key",
	tokensession.ErrInvalidToken, tokensession.ErrProofRequired)

// errNoProofs means that the host requires what its Config makes impossible.
var errNoProofs = errors.New(
	"sessionhttp: Bound or FreshNonce is asked for, and Config.DPoP is off")

// A nonceError is an error of a proof, with the nonce that the next one is to have. It is for
// callers that have no answer at hand: the nonce is sent when the error is answered.
type nonceError struct {
	error
	nonce string
}

func (e *nonceError) Unwrap() error { return e.error }

// verifyBound verifies an access token whose client proves to have the key that the token is bound
// to. The proof is remembered when all else is good, so that only somebody who has such a token can
// fill the memory.
func (g *gate) verifyBound(
	w http.ResponseWriter, r *http.Request, token string, q requirement,
) (tokensession.Access, error) {
	proof, nonce, err := g.proofs.check(r, proofUse{accessToken: &token, freshNonce: q.freshNonce})
	if nonce != "" && w != nil {
		w.Header().Set(nonceHeader, nonce)
	}
	if err != nil {
		return tokensession.Access{}, &nonceError{err, nonce}
	}
	access, err := g.verifier.VerifyBound(token, proof.thumbprint)
	if err == nil && !g.remembered(r) {
		err = g.proofs.once(proof)
	}
	return access, err
}

// challenges returns the challenges of an answer (RFC 6750 section 3, RFC 9449 section 7.1).
func (g *gate) challenges(r *http.Request, err error, a answer) []string {
	var scope *scopeError
	var auth *authError
	params := ""
	switch {
	case errors.Is(err, errNoToken):
		return g.bareChallenges(err)
	case errors.Is(err, ErrBadRequest):
		params = `error="invalid_request"`
	case errors.As(err, &scope):
		params = scope.challenge()
	case errors.As(err, &auth):
		params = auth.required.challenge()
	case a.status == http.StatusUnauthorized:
		params = `error="` + a.code + `"`
	default:
		return nil
	}
	if g.wantsProof(r, err) {
		return []string{"DPoP " + params + `, algs="` + proofAlgorithms + `"`}
	}
	return []string{"Bearer " + params}
}

// bareChallenges are those of a request that has brought no token: of each way to bring one.
func (g *gate) bareChallenges(err error) []string {
	const bound = `DPoP algs="` + proofAlgorithms + `"`
	switch {
	case g.proofs == nil:
		return []string{"Bearer"}
	case g.proofRequired || errors.Is(err, tokensession.ErrProofRequired):
		return []string{bound}
	}
	return []string{"Bearer", bound}
}

// wantsProof reports whether a refused request is one that has to have a proof, or had one.
func (g *gate) wantsProof(r *http.Request, err error) bool {
	return g.proofs != nil && (g.scheme(r) == "DPoP" || errors.Is(err, ErrInvalidProof) ||
		errors.Is(err, ErrUseNonce) || errors.Is(err, tokensession.ErrProofRequired))
}

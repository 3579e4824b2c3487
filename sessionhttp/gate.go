package sessionhttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/seed67bc9b7f/tokensession"
)

// A gate lets requests in by their access tokens, and answers those that it refuses. It is the part
// of Handlers that needs no store. Whatever else can verify an access token has the same middleware
// with a gate of its own.
type gate struct {
	verifier    verifier
	access      cookie                      // has no name where tokens are not in cookies
	crossOrigin *http.CrossOriginProtection // is asked where a cookie says who it is
	onError     func(*http.Request, error)
}

// A verifier says what an access token says. A [tokensession.Manager] is one. An error is an answer
// to the client: it is one of those of package tokensession, and ErrUnavailable where the verifier
// could not tell.
type verifier interface {
	// Verify reads nothing but the memory.
	Verify(accessToken string) (tokensession.Access, error)

	// VerifyLive also asks who knows best whether the session lives: see [Live].
	VerifyLive(ctx context.Context, accessToken string) (tokensession.Access, error)
}

var _ verifier = (*tokensession.Manager)(nil)

// require is [Handlers.Require] for any gate.
func (g *gate) require(opts []RequireOption) func(http.Handler) http.Handler {
	var q requirement
	for _, opt := range opts {
		opt(&q)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			access, err := g.admit(r, q)
			if err != nil {
				g.refuseAccess(w, r, q, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(NewContext(r.Context(), access)))
		})
	}
}

var (
	errNoToken = errors.New("sessionhttp: no access token")
	errScope   = errors.New("sessionhttp: insufficient scope")
)

func (g *gate) admit(r *http.Request, q requirement) (tokensession.Access, error) {
	token, err := g.accessToken(r)
	if err != nil {
		return tokensession.Access{}, err
	}
	var access tokensession.Access
	if q.live {
		access, err = g.verifier.VerifyLive(r.Context(), token)
	} else {
		access, err = g.verifier.Verify(token)
	}
	if err != nil {
		return tokensession.Access{}, err
	}
	for _, name := range q.scope {
		if !hasScope(access.Scope, name) {
			return tokensession.Access{}, errScope
		}
	}
	return access, nil
}

// accessToken returns the request's one access token.
func (g *gate) accessToken(r *http.Request) (string, error) {
	headers := r.Header["Authorization"]
	if len(headers) > 1 {
		return "", fmt.Errorf("%w: %d Authorization headers", ErrBadRequest, len(headers))
	}
	cookie, err := g.access.read(r)
	if err != nil {
		return "", err
	}
	bearer := len(headers) == 1 && hasScheme(headers[0], "Bearer")
	switch {
	case bearer && cookie != "":
		return "", fmt.Errorf("%w: an access token in the Authorization header and one in a cookie", ErrBadRequest)
	case bearer:
		return strings.TrimLeft(headers[0][len("Bearer "):], " "), nil
	case cookie == "":
		return "", errNoToken
	}
	if err := g.crossOrigin.Check(asUnsafe(r)); err != nil {
		return "", fmt.Errorf("%w: %w", ErrCrossOrigin, err)
	}
	return cookie, nil
}

// asUnsafe returns a request as the check of its origin is to see it. A WebSocket begins with a
// GET, but is not safe like one: a page of a sibling domain opens it with the cookies, and no CORS
// keeps that page from reading what comes.
func asUnsafe(r *http.Request) *http.Request {
	if r.Header.Get("Upgrade") == "" {
		return r
	}
	r = r.WithContext(r.Context()) // a copy
	r.Method = http.MethodPost
	return r
}

func (g *gate) refuseAccess(w http.ResponseWriter, r *http.Request, q requirement, err error) {
	neverStored(w)
	a := accessAnswer(err)
	switch {
	case errors.Is(err, errNoToken):
		w.Header().Set("WWW-Authenticate", "Bearer")
		a = unauthorized
	case errors.Is(err, ErrBadRequest):
		w.Header().Set("WWW-Authenticate", `Bearer error="invalid_request"`)
	case errors.Is(err, errScope):
		a = answer{http.StatusForbidden, "insufficient_scope"}
		w.Header().Set("WWW-Authenticate", `Bearer error="insufficient_scope", scope="`+strings.Join(q.scope, " ")+`"`)
	}
	g.refuse(w, r, a, err)
}

// hasScheme reports whether an Authorization header is of that scheme, whose name is in any case.
func hasScheme(header, scheme string) bool {
	return len(header) > len(scheme) && header[len(scheme)] == ' ' && strings.EqualFold(header[:len(scheme)], scheme)
}

// hasScope reports whether a name is one of those in a scope.
func hasScope(scope, name string) bool {
	for s := range strings.SplitSeq(scope, " ") {
		if s == name {
			return true
		}
	}
	return false
}

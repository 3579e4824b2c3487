package sessionhttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/seed67bc9b7f/tokensession"
)

// A RequireOption is an option of [Handlers.Require].
type RequireOption func(*requirement)

type requirement struct {
	scope []string
	live  bool
}

// Scope requires that the access token has all of these scopes. Without, the answer is 403 (RFC
// 6750 section 3.1).
func Scope(names ...string) RequireOption {
	return func(q *requirement) { q.scope = append(q.scope, names...) }
}

// Live makes Require read the store (see [tokensession.Manager.VerifyLive]): for what must not
// happen even in the second that a revocation needs to reach other instances, like a change of
// password.
func Live() RequireOption {
	return func(q *requirement) { q.live = true }
}

// Require returns a middleware that lets only requests with a valid access token through, to a
// handler where [FromContext] gives what the token says. It has the shape that routers take, as in
// router.Use(handlers.Require()), and with net/http alone it is handlers.Require()(next).
//
// The token is in the one Authorization header (RFC 6750 section 2.1), or in its cookie. Then the
// request must not come from another origin if it could change something, or open a WebSocket.
// Tokens elsewhere, as in the URL, are not looked at.
//
// Other requests are answered with 401 and a challenge, which is a bare one if there is no token.
// The answer is 400 for two tokens, 403 for a missing scope and for another origin, and 503 with
// Retry-After if Live could not tell. Require never touches cookies.
func (h *Handlers) Require(opts ...RequireOption) func(http.Handler) http.Handler {
	var q requirement
	for _, opt := range opts {
		opt(&q)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			access, err := h.admit(r, q)
			if err != nil {
				h.refuseAccess(w, r, q, err)
				return
			}
			next.ServeHTTP(w, r.WithContext(&accessContext{r.Context(), access}))
		})
	}
}

var (
	errNoToken = errors.New("sessionhttp: no access token")
	errScope   = errors.New("sessionhttp: insufficient scope")
)

func (h *Handlers) admit(r *http.Request, q requirement) (tokensession.Access, error) {
	token, err := h.accessToken(r)
	if err != nil {
		return tokensession.Access{}, err
	}
	var access tokensession.Access
	if q.live {
		access, err = h.m.VerifyLive(r.Context(), token)
	} else {
		access, err = h.m.Verify(token)
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
func (h *Handlers) accessToken(r *http.Request) (string, error) {
	headers := r.Header["Authorization"]
	if len(headers) > 1 {
		return "", fmt.Errorf("%w: %d Authorization headers", ErrBadRequest, len(headers))
	}
	cookie, err := h.access.read(r)
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
	if err := h.cfg.CrossOrigin.Check(asUnsafe(r)); err != nil {
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

func (h *Handlers) refuseAccess(w http.ResponseWriter, r *http.Request, q requirement, err error) {
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
	h.refuse(w, r, a, err)
}

// FromContext returns what the access token says that [Handlers.Require] let through.
func FromContext(ctx context.Context) (tokensession.Access, bool) {
	c, ok := ctx.Value(accessKey{}).(*accessContext)
	if !ok {
		return tokensession.Access{}, false
	}
	return c.access, true
}

type accessKey struct{}

// An accessContext is a context with one value, in one allocation.
type accessContext struct {
	context.Context
	access tokensession.Access
}

func (c *accessContext) Value(key any) any {
	if key == (accessKey{}) {
		return c
	}
	return c.Context.Value(key)
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

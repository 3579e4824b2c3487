package sessionhttp

import "net/http"

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
	return h.require(opts)
}

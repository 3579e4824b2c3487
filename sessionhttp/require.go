package sessionhttp

import (
	"net/http"

	"github.com/seed67bc9b7f/tokensession"
)

// A RequireOption is an option of [Handlers.Require].
type RequireOption func(*requirement)

type requirement struct {
	scope    []string
	live     bool
	optional bool
	resume   bool
	auth     authRequirement

	untilSessionEnds bool

	bound      bool // only a token that is bound to a key
	freshNonce bool // and a proof with a nonce
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

// Optional lets requests through where nobody is logged in: those that bring no access token, and
// those of a session that is over. [FromContext] says which it is. An access token that has only
// run out is refused with 401 also here, because the client is to refresh, and to see the page as
// the user that it is.
func Optional() RequireOption {
	return func(q *requirement) { q.optional = true }
}

// UntilSessionEnds makes the request's context end when its session does: for a WebSocket, a stream
// of events, or another answer that takes long. [context.Cause] says why. A hijacked connection is
// the handler's to close then. See [tokensession.UntilSessionEnds].
func UntilSessionEnds() RequireOption {
	return func(q *requirement) { q.untilSessionEnds = true }
}

// Bound requires an access token that is bound to a key, with a proof of that key (see
// [DPoPPolicy]): for what a stolen token must not be enough for. Cookies are refused, too.
func Bound() RequireOption {
	return func(q *requirement) { q.bound = true }
}

// FreshNonce is [Bound], and requires that the proof has a nonce, which is of the last minute. So
// the client had its key a moment ago: the proof cannot be one that was made in advance.
func FreshNonce() RequireOption {
	return func(q *requirement) { q.bound, q.freshNonce = true, true }
}

// Require returns a middleware that lets only requests with a valid access token through, to a
// handler where [FromContext] gives what the token says. It has the shape that routers take, as in
// router.Use(handlers.Require()), and with net/http alone it is handlers.Require()(next).
//
// The token is in the one Authorization header (RFC 6750 section 2.1), or in its cookie. Then the
// request must not come from another origin if it could change something, or open a WebSocket.
// Tokens elsewhere, as in the URL, are not looked at. With Config.DPoP, a token that is bound to a
// key comes by the scheme DPoP, with a proof of that key in the header DPoP (RFC 9449 section 7.1).
//
// Other requests are answered with 401 and a challenge, which is a bare one if there is no token.
// The answer is 400 for two tokens, 403 for a missing scope and for another origin, and 503 with
// Retry-After if Live could not tell. [Config.Refuse] can give all these another form. Require
// never touches cookies.
//
// A request with the header Tokensession-Session says in which session it was made: the script of
// [Handlers.Script] sends it. If the token is another session's, because somebody else has logged
// in in the browser in the meantime, the answer is 401 with the error session_changed.
//
// What is let through gets the headers Cache-Control: private, no-cache, and Vary: Cookie,
// Authorization, so that no cache gives one user's answer to another. The handler may set others.
func (h *Handlers) Require(opts ...RequireOption) func(http.Handler) http.Handler {
	return h.require(opts)
}

// Access is for handlers that are not behind [Handlers.Require]: it returns what the request's
// access token says, or the error that Require would have refused the request with.
// [Handlers.Refuse] answers that error. Behind Require it is [FromContext], and so it is in a unit
// test with [NewContext]. With Config.DPoP, call it once for a request: a proof is good once.
func (h *Handlers) Access(r *http.Request) (tokensession.Access, error) {
	if access, ok := FromContext(r.Context()); ok {
		return access, nil
	}
	return h.admit(nil, r, requirement{})
}

// Refuse answers an error as [Handlers.Require] does, with its status, its challenge, Retry-After,
// and the form of [Config.Refuse] if there is one. It is for a host's own handlers: for errors of
// [Handlers.Access], [Handlers.Login], [Handlers.Logout] and a Manager. The answer says nothing of
// the error but its kind; [Config.OnError] is told the whole.
func (h *Handlers) Refuse(w http.ResponseWriter, r *http.Request, err error) {
	h.refuseAccess(w, r, err)
}

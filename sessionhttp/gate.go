package sessionhttp

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/peek"
)

// A gate lets requests in by their access tokens, and answers those that it refuses. It is the part
// of Handlers that needs no store. Whatever else can verify an access token has the same middleware
// with a gate of its own.
type gate struct {
	verifier    verifier
	access      cookie                      // has no name where tokens are not in cookies
	crossOrigin *http.CrossOriginProtection // is asked where a cookie says who it is
	origins     originSet                   // whose pages are the host's own

	dpop

	resumer resumer // its path is empty where no session can be resumed

	// live asks who knows best whether the session of a verified access token lives: see [Live].
	live func(ctx context.Context, token string, access tokensession.Access) error

	onError func(*http.Request, error)
	form    func(http.ResponseWriter, *http.Request, error) // the host's own; can be nil

	reportsSkips bool // the host wants to know where a browser could not refresh
}

// A verifier says what an access token says. A [tokensession.Manager] is one. An error is an answer
// to the client: it is one of those of package tokensession, and ErrUnavailable where the verifier
// could not tell.
type verifier interface {
	// Verify reads nothing but the memory.
	Verify(accessToken string) (tokensession.Access, error)

	// VerifyBound is for a token whose client has proved to have the key with that thumbprint.
	VerifyBound(accessToken, thumbprint string) (tokensession.Access, error)

	// Now is the time by the clock that access tokens are verified with.
	Now() time.Time

	// SessionContext is for [UntilSessionEnds].
	SessionContext(
		ctx context.Context, a tokensession.Access, opts ...tokensession.ContextOption,
	) (context.Context, context.CancelFunc)
}

var (
	_ verifier = (*tokensession.Manager)(nil)
	_ verifier = (*Remote)(nil)
)

// require is [Handlers.Require] for any gate.
func (g *gate) require(opts []RequireOption) func(http.Handler) http.Handler {
	var q requirement
	for _, opt := range opts {
		opt(&q)
	}
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if g.cors(w, r) {
				return
			}
			access, err := g.admit(w, r, q)
			token, runOut := "", false
			if err != nil && q.resume {
				token, runOut = g.runOut(r, err)
			}
			switch {
			case runOut && g.resumer.send(w, r, token), q.resume && g.lead(w, r, err):
				return
			case err == nil:
				if len(r.Header["Authorization"]) == 0 { // so a browser's script can compare
					w.Header().Set(namedSession, access.SessionID)
				}
				ctx := r.Context()
				if q.untilSessionEnds {
					var cancel context.CancelFunc
					ctx, cancel = g.verifier.SessionContext(ctx, access,
						tokensession.UntilSessionEnds())
					defer cancel()
				}
				r = r.WithContext(g.contextOf(ctx, r, access))
			case q.optional && isAnonymous(r, err, runOut):
			default:
				g.refuseAccess(w, r, err)
				return
			}
			keepPrivate(w.Header())
			next.ServeHTTP(w, r)
		})
	}
}

// isAnonymous reports whether an error of admit says that nobody is logged in, so that a page with
// [Optional] is shown as to a visitor. A token that has run out says so, too, if the browser was
// sent to resume the session, and in vain. A request that names its session was made while somebody
// was logged in, and is refused instead: see namedSession.
func isAnonymous(r *http.Request, err error, triedInVain bool) bool {
	over := errors.Is(err, errNoToken) || errors.Is(err, tokensession.ErrRevoked) || triedInVain
	return over && len(r.Header[namedSession]) == 0
}

// keepPrivate says that an answer is for this user only. A cache that is told nothing may give one
// user's answer to the next: a proxy, and the browser itself after a logout and another login. The
// handler behind can say something else.
func keepPrivate(h http.Header) {
	if h.Get("Cache-Control") == "" {
		h.Set("Cache-Control", "private, no-cache")
	}
	addOnce(h, "Vary", "Cookie, Authorization")
}

// namedSession is a request's header with the session that it was made in. A page makes a request
// while alice is logged in. Before the request is sent, or before it is sent again after a refresh,
// bob logs in in another tab. The cookies are bob's then, and without the header alice's draft
// would be stored as his. A page cannot compare: only the server sees which session the cookie that
// came along belongs to. In an answer, the header tells the page the session, so that a page that
// has never asked knows which one to name.
const namedSession = "Tokensession-Session"

// namesAnother reports whether a request was made in another session than this one.
func namesAnother(r *http.Request, sessionID string) bool {
	for _, id := range r.Header[namedSession] {
		if id != sessionID {
			return true
		}
	}
	return false
}

var (
	errNoToken      = errors.New("sessionhttp: no access token")
	errOtherSession = errors.New("sessionhttp: the request was made in another session")
)

// A scopeError says which scopes were required of an access token that does not have them all.
type scopeError struct{ required []string }

func (e *scopeError) Error() string {
	return "sessionhttp: insufficient scope: required is " + strings.Join(e.required, " ")
}

// challenge returns the parameters of the challenge of RFC 6750 section 3.1.
func (e *scopeError) challenge() string {
	return `error="insufficient_scope", scope="` + strings.Join(e.required, " ") + `"`
}

// admit returns what a request's access token says, or why the request is refused. If a DPoP proof
// needs a new nonce, admit puts it into the answer w. If there is no answer at hand, w is nil.
func (g *gate) admit(
	w http.ResponseWriter, r *http.Request, q requirement,
) (tokensession.Access, error) {
	if g.reportsSkips && r.Header[deviceSkippedHeader] != nil {
		g.onError(r, skippedError(r))
	}
	token, scheme, err := g.accessToken(r)
	if err != nil && q.bound && errors.Is(err, errNoToken) {
		err = fmt.Errorf("%w: %w", err, tokensession.ErrProofRequired)
	}
	if err != nil {
		return tokensession.Access{}, err
	}
	access, err := g.verify(w, r, token, scheme, q)
	if err != nil {
		return tokensession.Access{}, err
	}
	if q.live {
		if err := g.live(r.Context(), token, access); err != nil {
			return tokensession.Access{}, err
		}
	}
	if namesAnother(r, access.SessionID) {
		return tokensession.Access{}, errOtherSession
	}
	for _, name := range q.scope {
		if !hasScope(access.Scope, name) {
			return tokensession.Access{}, &scopeError{q.scope}
		}
	}
	if !q.auth.met(access, g.verifier.Now) {
		return tokensession.Access{}, &authError{q.auth}
	}
	return access, nil
}

// verify verifies an access token that came by that scheme, or, if it is empty, in a cookie.
func (g *gate) verify(
	w http.ResponseWriter, r *http.Request, token, scheme string, q requirement,
) (tokensession.Access, error) {
	switch {
	case scheme == "DPoP":
		return g.verifyBound(w, r, token, q)
	case q.bound && g.proofs == nil:
		return tokensession.Access{}, errNoProofs
	case q.bound, g.proofRequired && scheme != "":
		return tokensession.Access{}, errBearer
	}
	return g.verifier.Verify(token)
}

// accessToken returns the request's one access token, and the scheme that it came by. A token in a
// cookie has none.
func (g *gate) accessToken(r *http.Request) (token, scheme string, err error) {
	headers := r.Header["Authorization"]
	if len(headers) > 1 {
		return "", "", fmt.Errorf("%w: %d Authorization headers", ErrBadRequest, len(headers))
	}
	cookie, err := g.access.read(r)
	if err != nil {
		return "", "", err
	}
	switch scheme = g.scheme(r); {
	case scheme != "" && cookie != "":
		return "", "", fmt.Errorf("%w: an access token in the Authorization header and one in a cookie",
			ErrBadRequest)
	case scheme != "":
		return strings.TrimLeft(headers[0][len(scheme)+1:], " "), scheme, nil
	case cookie == "":
		return "", "", errNoToken
	}
	if err := g.checkOrigin(asUnsafe(r)); err != nil {
		return "", "", err
	}
	return cookie, "", nil
}

// scheme returns the scheme by which a request has its access token in the Authorization header:
// Bearer, or DPoP where proofs are checked. It is empty if there is no token.
func (g *gate) scheme(r *http.Request) string {
	headers := r.Header["Authorization"]
	switch {
	case len(headers) != 1:
		return ""
	case hasScheme(headers[0], "Bearer"):
		return "Bearer"
	case g.proofs != nil && hasScheme(headers[0], "DPoP"):
		return "DPoP"
	}
	return ""
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

// refuseAccess answers a request that was not let in, or an error of a host's own handler. The host
// may have a form of its own for it.
func (g *gate) refuseAccess(w http.ResponseWriter, r *http.Request, err error) {
	a := g.challenge(w, r, err)
	var login *loginError // OAuth clients look for its code in the body
	if g.form != nil && !errors.As(err, &login) {
		g.form(w, r, err)
		return
	}
	writeError(w, a)
}

// challenge tells the host the error of an access token, sets the headers that belong to it, and
// returns what to answer.
func (g *gate) challenge(w http.ResponseWriter, r *http.Request, err error) answer {
	neverStored(w)
	a := accessAnswer(err)
	if list := g.challenges(r, err, a); len(list) > 0 {
		w.Header()["Www-Authenticate"] = list
	}
	var proof *nonceError
	if errors.As(err, &proof) && proof.nonce != "" {
		w.Header().Set(nonceHeader, proof.nonce)
	}
	if cookie, err := g.access.read(r); err == nil && a.status == http.StatusUnauthorized {
		if claims, ok := peek.Access(cookie); ok { // after a refresh, the page can compare
			w.Header().Set(namedSession, claims.SessionID)
		}
	}
	g.announce(w, r, a, err)
	return a
}

// hasScheme reports whether an Authorization header is of that scheme, whose name is in any case.
func hasScheme(header, scheme string) bool {
	return len(header) > len(scheme) && header[len(scheme)] == ' ' &&
		strings.EqualFold(header[:len(scheme)], scheme)
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

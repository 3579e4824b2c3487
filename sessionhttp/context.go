package sessionhttp

import (
	"context"
	"net/http"

	"github.com/seed67bc9b7f/tokensession"
)

// FromContext returns what the access token says that [Handlers.Require] let through.
func FromContext(ctx context.Context) (tokensession.Access, bool) {
	c, ok := ctx.Value(accessKey{}).(*accessContext)
	if !ok {
		return tokensession.Access{}, false
	}
	return c.access, true
}

// NewContext returns a context in which [FromContext] finds what an access token says, as in a
// request that [Handlers.Require] has let through. It is for a host's unit tests of its handlers,
// and for middleware of its own. It verifies nothing.
func NewContext(ctx context.Context, access tokensession.Access) context.Context {
	return &accessContext{Context: ctx, access: access}
}

type accessKey struct{}

// An accessContext is a context with one value, in one allocation.
//
// A request can pass more than one middleware of Require: one for all routes, and one for a route
// that asks for more. Each of them checks the proof, and the first one has remembered it, so that
// the second one would take it for a repeated one. So the context also says which proof that was,
// and by whose memory.
type accessContext struct {
	context.Context
	access tokensession.Access
	proof  string  // the request's, if it had to have one
	usedBy *Proofs // that have remembered the proof
}

// contextOf returns the context of a request that was let in.
func (g *gate) contextOf(
	ctx context.Context, r *http.Request, access tokensession.Access,
) context.Context {
	c := &accessContext{Context: ctx, access: access}
	if g.scheme(r) == "DPoP" {
		c.proof, c.usedBy = r.Header.Get(proofHeader), g.proofs
	}
	return c
}

// remembered reports whether this gate has let in the same request before, and so has remembered
// its proof.
func (g *gate) remembered(r *http.Request) bool {
	c, ok := r.Context().Value(accessKey{}).(*accessContext)
	return ok && c.usedBy == g.proofs && c.proof == r.Header.Get(proofHeader)
}

func (c *accessContext) Value(key any) any {
	if key == (accessKey{}) {
		return c
	}
	return c.Context.Value(key)
}

package sessionhttp

import (
	"context"

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
	return &accessContext{ctx, access}
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

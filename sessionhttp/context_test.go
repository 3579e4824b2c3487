package sessionhttp_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

func TestNewContext_isWhatFromContextReads(t *testing.T) {
	type key struct{}
	outer := context.WithValue(context.Background(), key{}, "value")
	ctx := sessionhttp.NewContext(outer, tokensession.Access{Subject: "alice"})
	access, ok := sessionhttp.FromContext(ctx)
	require.True(t, ok)
	require.Equal(t, "alice", access.Subject)
	require.Equal(t, "value", ctx.Value(key{}))
	access, _ = sessionhttp.FromContext(sessionhttp.NewContext(ctx, tokensession.Access{Subject: "bob"}))
	require.Equal(t, "bob", access.Subject)
}

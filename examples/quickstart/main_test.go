package main

import (
	"context"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

func TestTell_isTrue(t *testing.T) {
	require.NoError(t, tell(io.Discard, tokensession.NewMemoryStore()))
}

// A forgetful store acknowledges revocations and drops them.
type forgetful struct{ tokensession.RefreshStore }

func (f forgetful) Swap(ctx context.Context, next tokensession.Record) error {
	if !next.RevokedAt.IsZero() {
		return nil
	}
	return f.RefreshStore.Swap(ctx, next)
}

func TestTell_noticesWhatComesOutDifferently(t *testing.T) {
	require.Error(t, tell(io.Discard, forgetful{tokensession.NewMemoryStore()}))
}

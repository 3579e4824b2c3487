package main

import (
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

func TestTell_isTrue(t *testing.T) {
	require.NoError(t, tell(io.Discard, tokensession.NewMemoryStore()))
}

// A forgetful store acknowledges revocations and drops them.
func TestTell_noticesWhatComesOutDifferently(t *testing.T) {
	forgetful := testkit.Hook(t, testkit.Plain(tokensession.NewMemoryStore()))
	forgetful.Always(testkit.Swap, func(r *testkit.Request) {
		if !r.Record.RevokedAt.IsZero() {
			r.Answer(nil)
		}
	})
	require.Error(t, tell(io.Discard, forgetful.Store()))
}

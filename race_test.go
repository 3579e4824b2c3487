package tokensession_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// Two tabs refresh at once, and the authorizer takes longer than the grace. Which of them wins does not matter.
func TestRefresh_slowAuthorizerDoesNotMakeARaceLookLikeTheft(t *testing.T) {
	var w *world
	var first, second tokensession.Tokens
	asked := 0
	w = newWorld(t, tokensession.Config{Authorize: func(ctx context.Context, _ tokensession.Session) (tokensession.Grant, error) {
		asked++
		if asked == 2 { // for the first tab: meanwhile the second comes
			w.clock.advance(time.Second)
			second = w.refresh(first.RefreshToken)
		}
		if asked > 1 {
			w.clock.advance(grace + time.Second)
		}
		return tokensession.Grant{}, nil
	}})
	first = w.start()
	third := w.refresh(first.RefreshToken)
	require.Equal(t, second.RefreshToken, third.RefreshToken)
	w.requireLive(third)
}

// The client gives up waiting and tries again: the grace begins when the successor is written, not when it was asked for.
func TestRefresh_slowAuthorizerDoesNotUseUpTheGrace(t *testing.T) {
	var w *world
	w = newWorld(t, tokensession.Config{Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
		w.clock.advance(grace + time.Second)
		return tokensession.Grant{}, nil
	}})
	first := w.start()
	second := w.refresh(first.RefreshToken)
	require.Equal(t, second.RefreshToken, w.refresh(first.RefreshToken).RefreshToken)
}

package sessiontest

import (
	"context"

	"github.com/seed67bc9b7f/tokensession"
)

// A Thief has a copy of somebody's tokens, and uses it.
type Thief struct {
	Tokens tokensession.Tokens // those stolen, or their successors
	world  *World
}

// Thief returns somebody who has copied these tokens.
func (w *World) Thief(stolen tokensession.Tokens) *Thief {
	return &Thief{Tokens: stolen, world: w}
}

// Refresh presents the refresh token and keeps its successor. An error is the Manager's.
func (t *Thief) Refresh() error {
	t.world.t.Helper()
	next, err := t.world.Manager.Refresh(context.Background(), t.Tokens.RefreshToken)
	if err == nil {
		t.Tokens = next
		t.world.keep(next)
	}
	return err
}

// Out fails the test unless none of the thief's tokens works any more.
func (t *Thief) Out() {
	t.world.t.Helper()
	t.world.works(t.Tokens, "in the hands of a thief")
}

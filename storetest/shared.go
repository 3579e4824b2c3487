package storetest

import (
	"context"
	"sync/atomic"

	"github.com/seed67bc9b7f/tokensession"
)

// A shared store is several on the same records that take turns.
type shared struct {
	stores []tokensession.RefreshStore
	turn   atomic.Uint32
}

func (r *shared) next() tokensession.RefreshStore {
	return r.stores[int(r.turn.Add(1))%len(r.stores)]
}

func (r *shared) Create(ctx context.Context, rec tokensession.Record) error {
	return r.next().Create(ctx, rec)
}

func (r *shared) Load(ctx context.Context, id string) (tokensession.Record, error) {
	return r.next().Load(ctx, id)
}

func (r *shared) Swap(ctx context.Context, next tokensession.Record) error {
	return r.next().Swap(ctx, next)
}

func (r *shared) List(ctx context.Context, subject string) ([]tokensession.Record, error) {
	return r.next().List(ctx, subject)
}

//go:build browser

package browser

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/seed67bc9b7f/tokensession"
)

// An outage is a store that can be down.
type outage struct {
	tokensession.RefreshStore
	down atomic.Bool
}

func (o *outage) err() error {
	if o.down.Load() {
		return fmt.Errorf("%w: the store is down", tokensession.ErrUnavailable)
	}
	return nil
}

func (o *outage) Create(ctx context.Context, rec tokensession.Record) error {
	if err := o.err(); err != nil {
		return err
	}
	return o.RefreshStore.Create(ctx, rec)
}

func (o *outage) Load(ctx context.Context, id string) (tokensession.Record, error) {
	if err := o.err(); err != nil {
		return tokensession.Record{}, err
	}
	return o.RefreshStore.Load(ctx, id)
}

func (o *outage) Swap(ctx context.Context, rec tokensession.Record) error {
	if err := o.err(); err != nil {
		return err
	}
	return o.RefreshStore.Swap(ctx, rec)
}

func (o *outage) List(ctx context.Context, subject string) ([]tokensession.Record, error) {
	if err := o.err(); err != nil {
		return nil, err
	}
	return o.RefreshStore.List(ctx, subject)
}

package tokensession

import (
	"context"
	"fmt"
	"sync"
	"time"
)

const (
	clockSkew = time.Minute

	sweepInterval = time.Minute
	idleSweeps    = 10 * time.Minute // while nothing has expired
	sweepTimeout  = 30 * time.Second // of a batch
	sweepBatch    = 1000
)

// Run keeps this Manager's deny list in step with what other instances revoke, if the store is a
// [RevocationFeed], and drops expired records, if it is a [Sweeper]. It returns nil when ctx ends.
//
// With a store that is neither, there is nothing to run, and that is an error at once. Most often
// it is a wrapper around a store that hides these abilities: give it a method Unwrap()
// RefreshStore. With a store that only has no feed, Run says so with [EventFeedStale]: then a
// revocation by another instance does not reach this one's access tokens.
//
// A feed that cannot be read is an event, not an error. Verify goes on with what it knows, and a
// host that would rather fail uses [Manager.VerifyLive]. Just after the start of a process that is
// nothing, also if it is the only one: see [Manager.Healthy].
func (m *Manager) Run(ctx context.Context) error {
	feed, hasFeed := ability[RevocationFeed](m.store)
	sweeper, sweeps := ability[Sweeper](m.store)
	if !hasFeed && !sweeps {
		return fmt.Errorf("tokensession: Run: the store (%T) has neither a RevocationFeed nor a Sweeper; "+
			"a store that wraps one has to have a method Unwrap() RefreshStore", m.store)
	}
	var sweeping sync.WaitGroup
	defer sweeping.Wait()
	if sweeps {
		sweeping.Go(func() { m.sweep(ctx, sweeper) })
	}
	if hasFeed {
		m.follow(ctx, feed)
	} else {
		err := fmt.Errorf("the store (%T) has no RevocationFeed", m.store)
		m.emit(ctx, Event{Kind: EventFeedStale, Err: err})
	}
	<-ctx.Done()
	return nil
}

// sweep drops expired records in batches, so that no statement holds up the others. They may live a
// little longer by the clock of another instance.
//
// It does so each minute while there is something to drop. Where nothing had expired, the next
// minute will most probably have nothing either, and a server that is billed by the statement, or
// sleeps while it is asked nothing, should not be asked for that. Then a record may stay for ten
// minutes longer, which harms nobody: it has ended for everybody who asks for it.
func (m *Manager) sweep(ctx context.Context, store Sweeper) {
	for ctx.Err() == nil {
		next := time.After(sweepInterval)
		dropped, err := m.sweepAll(ctx, store)
		if err != nil && ctx.Err() == nil {
			m.emit(ctx, Event{Kind: EventSweepFailed, Err: err})
		}
		if err == nil && dropped == 0 {
			next = time.After(idleSweeps)
		}
		select {
		case <-ctx.Done():
		case <-next:
		}
	}
}

// sweepAll drops batches until one is not full.
func (m *Manager) sweepAll(ctx context.Context, store Sweeper) (dropped int, err error) {
	for n := sweepBatch; n >= sweepBatch && ctx.Err() == nil; {
		if n, err = m.sweepOnce(ctx, store); err != nil {
			return dropped, err
		}
		dropped += n
	}
	return dropped, nil
}

func (m *Manager) sweepOnce(ctx context.Context, store Sweeper) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, sweepTimeout)
	defer cancel()
	return store.Sweep(ctx, m.now().Add(-clockSkew), sweepBatch)
}

package tokensession

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	// callTimeout is how long one call of the store may take.
	callTimeout = 5 * time.Second

	// maxStoreCalls is how many calls a Manager has at the store at a time, of those that clients
	// can cause without being logged in: enough for ten thousand calls a second of 3 ms each. Where
	// somebody sends more than the store can do, everybody waits for their turn here, in a row that
	// those who hung up leave. So the fewer there are at the store, the shorter is the row.
	maxStoreCalls = 32
)

var (
	errStoreBusy = errors.New("too many calls wait for the store")
	errNotSent   = errors.New("not sent to the store")
)

// atStore begins a call of the store for a caller that may go away. The call gets the context that
// is returned. When it has come back, done has to be called.
//
// Clients can hang up. Then the context of their request ends, and database/sql and go-redis answer
// that by closing the connection on which the call is under way. So somebody who sends forged
// tokens and hangs up at once costs the database a new connection each time, and the refreshes of
// everybody else wait for those. Therefore a call that has begun goes on to its end, with a time
// limit of its own, whatever becomes of its caller.
//
// Such calls must not pile up where the store is slow. So their number is bounded, and others wait
// for their turn. Who waits and goes away, leaves the row, because nothing has begun yet.
func (m *Manager) atStore(
	ctx context.Context, limit time.Duration,
) (call context.Context, done func(), err error) {
	if err := ctx.Err(); err != nil {
		return nil, nil, err
	}
	call, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	select {
	case m.storeCalls <- struct{}{}:
		return call, func() { cancel(); <-m.storeCalls }, nil
	case <-ctx.Done():
		err = ctx.Err()
	case <-call.Done():
		err = errStoreBusy
	}
	cancel()
	return nil, nil, err
}

// swap writes a record, as [Manager.atStore] says. The error is an errNotSent if the store was not
// asked.
func (m *Manager) swap(ctx context.Context, limit time.Duration, next Record) error {
	call, done, err := m.atStore(ctx, limit)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotSent, err)
	}
	defer done()
	return m.store.Swap(call, next)
}

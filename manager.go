package tokensession

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// A Manager runs the sessions of one store. Make it with [New]; it is safe for concurrent use.
type Manager struct {
	signer *AccessSigner
	store  RefreshStore
	cfg    Config // without RefreshKeys
	rules  rules

	// refreshKeys returns Config's. It is a function so that printing a Manager prints no key.
	refreshKeys func() [][]byte

	feed   feedState // what Run has read of the revocation feed
	denied denyList  // sessions whose access tokens are refused although they have not expired

	name       string        // begins the WriteIDs of this Manager
	storeCalls chan struct{} // has an element for each call that is at the store
	deliveries deliveries    // which of its successors perhaps nobody has received yet
	replays    replayLog     // which generations were replayed one after the other
	recent     *recent       // the records that it wrote last
	endings    endings       // which revocations it still has to carry out
}

// New returns a Manager, or says which field of cfg is wrong.
func New(signer *AccessSigner, store RefreshStore, cfg Config) (*Manager, error) {
	if signer == nil {
		return nil, errors.New("tokensession: New: signer is nil")
	}
	if isNil(store) {
		return nil, errors.New("tokensession: New: store is nil")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	signer.raiseTTL(cfg.AccessTTL)
	keys := cfg.RefreshKeys
	cfg.RefreshKeys = nil
	return &Manager{
		signer: signer, store: store, cfg: cfg, rules: cfg.rules(),
		refreshKeys: func() [][]byte { return keys },
		name:        newManagerName(),
		storeCalls:  make(chan struct{}, maxStoreCalls),
		recent:      newRecent(cfg.rememberFor(store)),
	}, nil
}

// Now returns the time by this Manager's clock. It is for code that tells clients how long
// something lasts.
func (m *Manager) Now() time.Time { return m.now() }

// JWKS returns what [AccessSigner.JWKS] does, at this Manager's time.
func (m *Manager) JWKS() []byte { return m.signer.jwks(m.cfg.Now()) }

// load returns a record, [ErrNotFound] or [ErrUnavailable].
func (m *Manager) load(ctx context.Context, id string) (Record, error) {
	if err := checkSessionID(id); err != nil {
		return Record{}, err
	}
	call, done, err := m.atStore(ctx, callTimeout)
	if err != nil {
		return Record{}, unavailable("waiting for the store", err)
	}
	defer done()
	rec, err := m.store.Load(call, id)
	if errors.Is(err, ErrNotFound) {
		return Record{}, fmt.Errorf("%w: session %s", ErrNotFound, id)
	}
	if err != nil {
		return Record{}, unavailable("loading the session", err)
	}
	if !m.signer.cfg.isOurs(rec.Issuer) { // another application's on the same store
		return Record{}, fmt.Errorf("%w: session %s of another issuer", ErrNotFound, id)
	}
	if len(rec.Key) == 0 { // taken out by hand; every token of the session would look forged
		err := fmt.Errorf("%w: session %s: it has no key", ErrUnreadable, id)
		return Record{}, unavailable("loading the session", err)
	}
	return rec, nil
}

// checkSessionID refuses what not every store could look for. It is not quoted, because it may be a
// token that was passed by mistake.
func checkSessionID(id string) error {
	if !isSessionID(id) {
		return fmt.Errorf("%w: no session id, but %d bytes of something else", ErrNotFound, len(id))
	}
	return nil
}

// retry calls f until it succeeds, a few times. What f does must be the same however often it was
// done.
func (m *Manager) retry(ctx context.Context, f func() error) error {
	var err error
	for range 3 {
		if err = f(); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return unavailable("writing the session", err)
}

// detach returns a context for a write that must not be lost because the caller went away.
func detach(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
}

// now is the clock in the precision of the stores.
func (m *Manager) now() time.Time { return toMicro(m.cfg.Now()) }

func toMicro(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// unavailable is an ErrUnavailable with its cause. A cause that looks like a verdict, say of an
// authorizer that verifies tokens itself, is told but not wrapped: no outage may be taken for the
// end of a session.
func unavailable(doing string, cause error) error {
	for _, other := range []error{
		ErrInvalidToken, ErrExpired, ErrRevoked, ErrReused, ErrDenied, ErrProofRequired,
		ErrInvalidScope, ErrAttributes,
	} {
		if errors.Is(cause, other) {
			return fmt.Errorf("%w: %s: %v", ErrUnavailable, doing, cause)
		}
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, doing, cause)
}

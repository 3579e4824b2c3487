package sessionclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// How tokens are kept.
//
// A refresh consumes the old refresh token, so its result must not be lost. It is saved before any
// request uses it. If the store does not take it, because the disk is full for instance, it stays
// in memory as unsavedTokens, requests use it from there, and saving is tried again.
//
// The store still has the consumed token then. The Transport remembers that token. While the store
// has it, nobody else has saved, and the tokens in memory are the newest. As soon as the store has
// another one, or none, somebody has logged in, logged out, or refreshed in another process. What
// is in memory is older then, and is forgotten.
//
// A TokenPreparer is asked before each refresh whether the result can be saved. If not, or if an
// earlier result still waits to be saved, there is no refresh.
//
// Only flights save, and only one flight runs at a time. So nothing here competes with itself, only
// with the program and with other processes.

const (
	// savePause is the time between two attempts to save what could not be saved.
	savePause = 5 * time.Second

	// storeTimeout is the time that a flight gives the store. A flight has no request's context,
	// because the requests that wait for it come and go.
	storeTimeout = 10 * time.Second
)

// unsavedTokens are tokens that the store would not take.
type unsavedTokens struct {
	tokens tokensession.Tokens
	held   string // the refresh token in the store; if it has another, tokens are outdated
	err    error  // why they could not be saved
	noSave quietTime
}

// load returns the tokens to use: the store's, or newer ones that the store would not take.
func (c *core) load(ctx context.Context) (tokensession.Tokens, error) {
	return c.newest(c.loadStore(ctx))
}

// newest returns what the store returned, or newer tokens that the store would not take.
func (c *core) newest(stored tokensession.Tokens, err error) (tokensession.Tokens, error) {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if u := c.state.unsaved; u != nil && u.newerThan(stored, err) {
		return u.tokens, nil
	}
	return stored, err
}

// newerThan compares with what the store returned. A store that cannot be read has not been given
// anything else, as far as one can tell.
func (u *unsavedTokens) newerThan(stored tokensession.Tokens, err error) bool {
	if err != nil {
		return !errors.Is(err, ErrNoTokens)
	}
	return stored.RefreshToken == u.held
}

// loadStore returns what the store has, if it can be used with the Transport's key. Its error is
// ErrNoTokens or ErrUnavailable.
func (c *core) loadStore(ctx context.Context) (tokensession.Tokens, error) {
	tokens, err := c.readStore(ctx)
	if err == nil {
		err = c.ofAnotherKey(tokens)
	}
	if err != nil {
		return tokensession.Tokens{}, err
	}
	return tokens, nil
}

// readStore returns what the store has, whichever key it is bound to.
func (c *core) readStore(ctx context.Context) (tokensession.Tokens, error) {
	tokens, err := c.store.Load(ctx)
	switch {
	case errors.Is(err, ErrNoTokens):
		return tokensession.Tokens{}, err
	case err != nil:
		return tokensession.Tokens{}, unavailable("loading the tokens", err)
	case noTokens(tokens):
		return tokensession.Tokens{}, ErrNoTokens
	}
	return tokens, nil
}

// reconcile is load for a flight, which may also change the store. It returns the tokens to use,
// and the refresh token that the store has. Tokens that could not be saved before are saved if
// their pause is over or if it is urgent. They are forgotten if the store has been given others.
func (c *core) reconcile(
	f *flight, urgent bool,
) (tokens tokensession.Tokens, held string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	c.state.mu.Lock()
	u := c.state.unsaved
	c.state.mu.Unlock()
	tokens, err = c.loadStore(ctx)
	if u == nil {
		return tokens, tokens.RefreshToken, err
	}
	if !u.newerThan(tokens, err) {
		c.setUnsaved(nil)
		return tokens, tokens.RefreshToken, err
	}
	if !urgent && !u.noSave.over(c.now()) {
		return u.tokens, u.held, nil
	}
	switch saved, err := c.save(ctx, f, unprepared{c.store}, u.held, u.tokens); {
	case saved:
		return u.tokens, u.tokens.RefreshToken, nil
	case err != nil:
		return u.tokens, u.held, nil
	}
	// The store was given others between the loading and the saving.
	tokens, err = c.loadStore(ctx)
	return tokens, tokens.RefreshToken, err
}

// saveUnsaved saves what could not be saved, or returns why it still cannot.
func (c *core) saveUnsaved(f *flight) error {
	_, _, err := c.reconcile(f, true)
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if c.state.unsaved == nil {
		return nil
	}
	return errors.Join(err, c.state.unsaved.err)
}

// prepare makes ready for saving the result of a refresh. Its error means that the result would be
// lost.
func (c *core) prepare(f *flight) (PreparedSwap, error) {
	if told := c.exposureToTell(); told != nil {
		f.notices = append(f.notices, func() { c.cfg.OnError(told) })
	}
	store, ok := c.store.(TokenPreparer)
	if !ok {
		return unprepared{c.store}, nil
	}
	c.state.mu.Lock()
	u := c.state.unsaved
	c.state.mu.Unlock()
	if u != nil {
		return nil, u.err
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	prepared, err := store.Prepare(ctx)
	if err != nil {
		return nil, fmt.Errorf("preparing to save the tokens: %w", err)
	}
	return prepared, nil
}

// unprepared is the PreparedSwap of a store that cannot prepare anything.
type unprepared struct{ store TokenStore }

func (u unprepared) Swap(
	ctx context.Context, held string, tokens tokensession.Tokens,
) (bool, error) {
	if store, ok := u.store.(TokenSwapper); ok {
		return store.Swap(ctx, held, tokens)
	}
	err := u.store.Save(ctx, tokens)
	return err == nil, err
}

func (unprepared) Discard() {}

// exposureToTell returns an error if others can use the tokens in the store, but only once.
func (c *core) exposureToTell() error {
	store, ok := c.store.(interface{ exposure() error })
	if !ok {
		return nil
	}
	c.state.mu.Lock()
	told := c.state.exposureTold
	c.state.mu.Unlock()
	if told {
		return nil
	}
	err := store.exposure()
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if err == nil || c.state.exposureTold {
		return nil
	}
	c.state.exposureTold = true
	return err
}

// keep saves the result of a refresh. It reports false if the store has been given something else
// since the flight loaded from it: a login, a logout, or the result of another process for the same
// refresh token. None of these may be overwritten, and none is older than this result.
func (c *core) keep(
	f *flight, prepared PreparedSwap, held string, old tokensession.Tokens, answer endpointAnswer,
) (tokensession.Tokens, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	current, err := c.loadStore(ctx)
	if errors.Is(err, ErrNoTokens) || err == nil && current.RefreshToken != held {
		return tokensession.Tokens{}, false
	}
	// If the store cannot be read now, the result is saved, or kept in memory if that fails, too.
	next := successor(old, answer.tokens)
	c.state.mu.Lock()
	c.state.lifetime = answer.lifetime
	c.state.mu.Unlock()
	saved, err := c.save(ctx, f, prepared, held, next)
	return next, saved || err != nil
}

// successor completes the answer to a refresh with what has not changed, because the answer need
// not repeat it: the scope (RFC 6749 section 5.1), and the refresh token of a server that does not
// rotate (section 6). An answer never tells the Session, so that of the old tokens stays, but for
// the key that was proved.
func successor(old, next tokensession.Tokens) tokensession.Tokens {
	key := next.Session.KeyThumbprint
	next.Session = old.Session
	next.Session.KeyThumbprint = key
	next.Scope = cmp.Or(next.Scope, old.Scope)
	if next.RefreshToken == "" {
		next.RefreshToken, next.RefreshExpiresAt = old.RefreshToken, old.RefreshExpiresAt
	}
	return next
}

// save gives tokens to the store in place of those with the refresh token held. It reports false
// without an error if the store has been given others. If there is an error, the tokens stay in
// memory.
func (c *core) save(
	ctx context.Context, f *flight, store PreparedSwap, held string, tokens tokensession.Tokens,
) (saved bool, err error) {
	saved, err = store.Swap(ctx, held, tokens)
	if err == nil {
		c.setUnsaved(nil)
		return saved, nil
	}
	err = unavailable("saving the tokens", err)
	c.setUnsaved(&unsavedTokens{
		tokens: tokens, held: held, err: err, noSave: quietFor(savePause, c.now()),
	})
	f.notices = append(f.notices, func() { c.cfg.OnError(err) })
	return false, err
}

func (c *core) setUnsaved(u *unsavedTokens) {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	c.state.unsaved = u
}

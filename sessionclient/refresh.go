package sessionclient

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// How a refresh goes.
//
// Many requests can meet an expired access token at the same moment. The first of them begins a
// flight: a goroutine that refreshes once for all. The others join it and wait. A request that is
// cancelled stops waiting, and the flight goes on, because the server may already have consumed the
// refresh token, and then only the server's answer has the new one.
//
// The answer can be lost: a connection breaks, or a proxy answers for the server. Then the refresh
// is in doubt: the server may have consumed the token, or may never have seen the request. During
// its grace period, usually 10 seconds, the server gives the same answer to the same token again.
// After that it takes the old token for a stolen one and ends the session. So while there is a
// doubt, the flight repeats the refresh with the same token, for 8 seconds, whatever the later
// attempts meet. retry.go has the times.
//
// Another process that shares the store can be faster, and the program can log in or out meanwhile.
// So the flight loads the tokens before each attempt, and once more before it saves. If the store
// has another refresh token by then, that one is newer: the flight drops its own result and goes on
// with the store's tokens. For the same reason an invalid_grant is the end of the session only if
// the store still has the token that was refused.

const (
	// earlyWait is how long a request waits for a refresh that it could do without.
	earlyWait = time.Second

	// A refresh that failed for now is not tried again for failurePause. It is not tried for
	// failurePauseEarly while the access token can still be used, unless the refresh is in doubt.
	failurePause      = time.Second
	failurePauseEarly = 15 * time.Second
)

// A flight is a refresh that runs, for all requests that wait for it. The goroutine that runs it
// writes tokens and err before it closes done, and nobody else reads them before.
type flight struct {
	began    time.Time
	stale    string // the access token that the requests cannot or should not use any more
	saveOnly bool   // it does not refresh, it only saves what could not be saved before

	done   chan struct{}
	tokens tokensession.Tokens
	err    error

	// notices are the calls to OnSessionEnd and OnError. They wait until the flight is no longer
	// the one that runs, so that they may use the Transport: a request of theirs would wait for a
	// flight that waits for them.
	notices []func()
}

// A failure is the last refresh that reached no verdict. It is about one refresh token only.
type failure struct {
	refreshToken   string
	err            error
	noRefresh      quietTime // in it, requests fail with err and no refresh begins
	noEarlyRefresh quietTime // in it, no refresh begins that requests could do without
	doubtUntil     time.Time // see retrySchedule
}

// errTakesLong is why a request no longer waits for a refresh that it can do without.
var errTakesLong = errors.New("the refresh takes long")

// refresh returns tokens with another access token than the stale one. The end of the context ends
// the waiting and not the refresh. If the refresh is early, the waiting also ends earlyWait after
// the refresh began, with errTakesLong.
func (c *core) refresh(
	ctx context.Context, stale string, early bool,
) (tokensession.Tokens, error) {
	for {
		f, mine := c.join(stale, false)
		if err := f.waitFor(ctx, early); err != nil {
			return tokensession.Tokens{}, err
		}
		// Another request's flight may have refreshed nothing, or have begun with an older access
		// token, and then its result can be the stale token. This request needs another flight.
		if mine || !f.saveOnly && (f.err != nil || f.tokens.AccessToken != stale) {
			return f.tokens, f.err
		}
	}
}

// saveNow tries again to save what could not be saved.
func (c *core) saveNow(ctx context.Context) error {
	f, _ := c.join("", true)
	if err := f.wait(ctx); err != nil {
		return err
	}
	return f.err
}

// Wait returns when no refresh is running and its tokens are saved. A program calls it before it
// exits, because a request that was cancelled may have left a refresh running. To refresh one token
// takes at most 16 seconds, a RefreshTimeout, and the time that the store takes. The context may
// end the wait before. The error is the context's, or says why there are tokens that cannot be
// saved.
func (t *Transport) Wait(ctx context.Context) error {
	c := t.core()
	for {
		c.state.mu.Lock()
		idle := c.state.flight == nil && c.state.unsaved == nil
		c.state.mu.Unlock()
		if idle {
			return nil
		}
		f, mine := c.join("", true)
		if err := f.wait(ctx); err != nil {
			return err
		}
		if mine {
			return f.err
		}
	}
}

func (f *flight) waitFor(ctx context.Context, early bool) error {
	if early {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadlineCause(ctx, f.began.Add(earlyWait), errTakesLong)
		defer cancel()
	}
	return f.wait(ctx)
}

func (f *flight) wait(ctx context.Context) error {
	select {
	case <-f.done:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx) // not wrapped, because url.Error itself asks it for Timeout()
	}
}

// join returns the flight that is running. If there is none, it begins one, and that one is the
// caller's own: it does what the caller asked for.
func (c *core) join(stale string, saveOnly bool) (f *flight, mine bool) {
	s := &c.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight != nil {
		return s.flight, false
	}
	f = &flight{began: time.Now(), stale: stale, saveOnly: saveOnly, done: make(chan struct{})}
	s.flight = f
	go c.fly(f)
	return f, true
}

func (c *core) fly(f *flight) {
	defer close(f.done)
	if f.saveOnly {
		f.err = c.saveUnsaved(f)
	} else {
		f.tokens, f.err = c.refreshFor(f)
	}
	c.state.mu.Lock()
	c.state.flight = nil
	c.state.mu.Unlock()
	for _, notice := range f.notices {
		notice()
	}
}

// refreshFor refreshes until an answer settles the matter, or until the next attempt would be later
// than requests should wait for.
func (c *core) refreshFor(f *flight) (tokensession.Tokens, error) {
	var (
		tokens  tokensession.Tokens // the newest there are, as far as the store could be read
		held    string              // the refresh token in the store; older, if saving failed
		retry   retrySchedule
		answer  endpointAnswer // to the latest attempt
		refused string         // the refresh token for which the endpoint answered invalid_grant

		prepared PreparedSwap // for the result
	)
	defer func() {
		if prepared != nil {
			prepared.Discard()
		}
	}()
	for {
		latest, latestHeld, err := c.reconcile(f, false)
		switch {
		case err == nil:
			tokens, held = latest, latestHeld
		case retry.tokensTried == 0 || answer.refused || errors.Is(err, ErrNoTokens):
			return tokensession.Tokens{}, err
		}
		// If the store cannot be read after an attempt, the flight goes on with the tokens it
		// knows. The answer to that attempt may be lost, and the time to ask for it again is short.
		if f.servedBy(tokens, c.now()) {
			return tokens, nil
		}
		if err := c.hopeless(f, tokens, refused, retry.tokensTried == 0); err != nil {
			return tokensession.Tokens{}, err
		}
		if !retry.begin(tokens.RefreshToken, c.lastFailure(), time.Now()) {
			answer.err = errors.New(
				"the store's tokens were replaced again and again by expired ones")
			return tokensession.Tokens{}, c.fail(f, retry, answer)
		}
		if prepared == nil {
			if prepared, err = c.prepare(f); err != nil {
				answer.err = err
				return tokensession.Tokens{}, c.fail(f, retry, answer)
			}
		}
		answer = c.ask(tokens.RefreshToken)
		switch {
		case answer.granted:
			if kept, ok := c.keep(f, prepared, held, tokens, answer); ok {
				return kept, nil
			}
			retry.unkept++
		case answer.refused:
			// This is the end, unless the store has another token by now. The next round looks.
			refused = tokens.RefreshToken
		default:
			pause, ok := retry.pause(answer, time.Now())
			if !ok {
				return tokensession.Tokens{}, c.fail(f, retry, answer)
			}
			// Nothing shortens this sleep. A request that is cancelled leaves, and others wait on.
			time.Sleep(pause)
			if errors.Is(answer.err, context.DeadlineExceeded) {
				// The connection may be dead, after the machine has slept for instance, and HTTP/2
				// would use it again. By now no request of ours is on it.
				closeIdle(c.cfg.Base)
			}
		}
	}
}

// servedBy reports whether the requests that wait can go with these tokens. If a response refused
// the access token and there is no refresh token to get another one, they have to do.
func (f *flight) servedBy(tokens tokensession.Tokens, now time.Time) bool {
	if expired(tokens, now) {
		return false
	}
	return tokens.AccessToken != f.stale || tokens.RefreshToken == ""
}

// hopeless returns an error if there is no use in presenting the refresh token: the session is
// over, or, at the first attempt of a flight, the last refresh with this token failed only just
// now.
func (c *core) hopeless(f *flight, tokens tokensession.Tokens, refused string, first bool) error {
	s := &c.state
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	switch {
	case sessionKey(tokens) == s.ended:
		return ErrSessionEnded
	case tokens.RefreshToken == "":
		err = fmt.Errorf("%w: the access token has expired and there is no refresh token",
			ErrSessionEnded)
	case tokens.RefreshToken == refused:
		err = fmt.Errorf("%w: the token endpoint answered invalid_grant", ErrSessionEnded)
	case first && tokens.RefreshToken == s.failed.refreshToken && !s.failed.noRefresh.over(c.now()):
		return s.failed.err
	default:
		return nil
	}
	s.ended = sessionKey(tokens)
	f.notices = append(f.notices, func() { c.cfg.OnSessionEnd(err) })
	return err
}

// fail remembers that a refresh failed for now, and returns why.
//
// While there is a doubt, the next refresh may begin soon even if the access token is good for
// longer. The sooner it begins, the likelier it is that the server still gives the lost answer
// again.
func (c *core) fail(f *flight, retry retrySchedule, answer endpointAnswer) error {
	err := unavailable("refreshing the tokens", answer.err)
	pause := failurePause/2 + rand.N(failurePause/2)
	early := failurePauseEarly
	if retry.inDoubt() {
		early = pause
	}
	now := c.now()
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	c.state.failed = failure{
		refreshToken:   retry.refreshToken,
		err:            err,
		noRefresh:      quietFor(max(pause, answer.retryAfter), now),
		noEarlyRefresh: quietFor(max(early, answer.retryAfter), now),
		doubtUntil:     retry.doubtUntil,
	}
	f.notices = append(f.notices, func() { c.cfg.OnError(err) })
	return err
}

func (c *core) lastFailure() failure {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	return c.state.failed
}

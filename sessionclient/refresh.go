package sessionclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

const (
	// retryWindow is how long after the first attempt the last one begins; if one may have been applied although its
	// answer was lost, after the first such one: then the token is good for the 10 seconds of the usual grace period.
	retryWindow = 8 * time.Second

	retryAttempts  = 5                       // as long as none may have been applied
	retryPause     = 200 * time.Millisecond  // before the second attempt; doubled for each further one
	retryPauseMost = 1600 * time.Millisecond // but no longer than this

	failurePause      = time.Second      // after a refresh that failed for now
	failurePauseEarly = 15 * time.Second // and while the access token can still be used, if none may have been applied
	savePause         = 5 * time.Second  // between attempts to save what could not be saved

	// earlyWait is how long a request waits for a refresh that it could do without.
	earlyWait = time.Second

	// storeTimeout is the time a store has when no request waits for it.
	storeTimeout = 10 * time.Second
)

// A flight is a refresh that runs, for all requests that wait for it. Its results are there once done is closed.
type flight struct {
	began  time.Time
	stale  string // the access token to get away from
	settle bool   // no refresh: only to save what could not be saved

	done    chan struct{}
	tokens  tokensession.Tokens
	err     error
	notices []func() // what the program is told, when the flight is over for others
}

// unsavedTokens are tokens that the store would not take.
type unsavedTokens struct {
	tokens tokensession.Tokens
	held   string // the refresh token that the store has instead: any other is newer than tokens
	err    error
	pause  quietTime // before saving is tried again
}

// errTakesLong is why a request no longer waits for a refresh that it can do without.
var errTakesLong = errors.New("the refresh takes long")

// refresh returns tokens with another access token than the stale one. The context ends the wait, not the refresh; so
// does, with errTakesLong, earlyWait from when the refresh began, if it is early.
func (c *core) refresh(ctx context.Context, stale string, early bool) (tokensession.Tokens, error) {
	for {
		f, mine := c.join(stale, false)
		if err := f.waitFor(ctx, early); err != nil {
			return tokensession.Tokens{}, err
		}
		if mine || !f.settle && (f.err != nil || f.tokens.AccessToken != stale) {
			return f.tokens, f.err
		}
	}
}

// settleNow tries again to save what could not be saved.
func (c *core) settleNow(ctx context.Context) error {
	f, _ := c.join("", true)
	if err := f.wait(ctx); err != nil {
		return err
	}
	return f.err
}

// Wait returns when no refresh is running and its tokens are saved. A program calls it before it exits: a request that
// was cancelled may have left a refresh behind. To refresh one token takes at most 16 seconds, a RefreshTimeout and the
// time that the store takes; the context may end the wait before. The error is the context's, or says why there are tokens
// that cannot be saved.
func (t *Transport) Wait(ctx context.Context) error {
	c := t.core()
	for {
		c.state.mu.Lock()
		f, unsaved := c.state.flight, c.state.unsaved
		c.state.mu.Unlock()
		if f == nil && unsaved == nil {
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
		return context.Cause(ctx) // not wrapped: url.Error asks it itself whether it is a timeout
	}
}

// join returns the flight that is under way, or begins one: that is the caller's own.
func (c *core) join(stale string, settle bool) (f *flight, mine bool) {
	s := &c.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.flight != nil {
		return s.flight, false
	}
	f = &flight{began: time.Now(), stale: stale, settle: settle, done: make(chan struct{})}
	s.flight = f
	go c.fly(f)
	return f, true
}

func (c *core) fly(f *flight) {
	defer close(f.done)
	if f.settle {
		f.err = c.settled(f)
	} else {
		f.tokens, f.err = c.renew(f)
	}
	c.state.mu.Lock()
	c.state.flight = nil
	c.state.mu.Unlock()
	for _, notice := range f.notices { // after that, so that they may use the Transport
		notice()
	}
}

// renew refreshes until there is an answer that settles it, or it has to wait for longer than requests should.
func (c *core) renew(f *flight) (tokensession.Tokens, error) {
	var (
		tokens  tokensession.Tokens
		held    string // the refresh token in the store
		retry   retrySchedule
		answer  endpointAnswer
		refused string
	)
	for {
		latest, latestHeld, err := c.settle(f, false) // each time: another process may have been faster
		switch {
		case err == nil:
			tokens, held = latest, latestHeld
		case retry.tokens == 0 || answer.refused || errors.Is(err, ErrNoTokens):
			return tokensession.Tokens{}, err
		} // else an answer may be lost, for which the time is short
		if tokens.AccessToken != f.stale && !expired(tokens, c.now()) {
			return tokens, nil
		}
		if tokens.RefreshToken == "" && !expired(tokens, c.now()) {
			return tokens, nil // refused somewhere, but there is no other
		}
		if err := c.hopeless(f, tokens, refused, retry.tokens == 0); err != nil {
			return tokensession.Tokens{}, err
		}
		if !retry.begin(tokens.RefreshToken, c.lastFailure(), time.Now()) {
			answer.err = errors.New("the store's tokens were replaced again and again by expired ones")
			return tokensession.Tokens{}, c.fail(f, retry, answer)
		}
		answer = c.ask(tokens.RefreshToken)
		switch {
		case answer.granted:
			if kept, ok := c.keep(f, held, tokens, answer); ok {
				return kept, nil
			}
			retry.unkept++
		case answer.refused:
			refused = tokens.RefreshToken // unless the store has another one by now, that is it
		default:
			pause, ok := retry.pause(answer, time.Now())
			if !ok {
				return tokensession.Tokens{}, c.fail(f, retry, answer)
			}
			time.Sleep(pause) // which nothing shortens: a request that is cancelled leaves, and others wait
		}
	}
}

// hopeless returns why there is no use in presenting the refresh token, if there is none.
func (c *core) hopeless(f *flight, tokens tokensession.Tokens, refused string, first bool) error {
	s := &c.state
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	switch {
	case sessionKey(tokens) == s.ended:
		return ErrSessionEnded
	case tokens.RefreshToken == "":
		err = fmt.Errorf("%w: the access token has expired and there is no refresh token", ErrSessionEnded)
	case tokens.RefreshToken == refused:
		err = fmt.Errorf("%w: the token endpoint answered invalid_grant", ErrSessionEnded)
	case first && tokens.RefreshToken == s.failed.refreshToken && !s.failed.any.over(c.now()):
		return s.failed.err
	default:
		return nil
	}
	s.ended = sessionKey(tokens)
	f.notices = append(f.notices, func() { c.cfg.OnSessionEnd(err) })
	return err
}

// fail remembers that a refresh failed for now.
func (c *core) fail(f *flight, retry retrySchedule, answer endpointAnswer) error {
	err := unavailable("refreshing the tokens", answer.err)
	pause := failurePause/2 + rand.N(failurePause/2)
	early := failurePauseEarly
	if retry.inDoubt() {
		early = pause // good access token or not: the sooner, the likelier it is that the same answer can still be had
	}
	now := c.now()
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	c.state.failed = failure{refreshToken: retry.refreshToken, err: err, doubt: retry.doubt,
		any: quietFor(max(pause, answer.retryAfter), now), early: quietFor(max(early, answer.retryAfter), now)}
	f.notices = append(f.notices, func() { c.cfg.OnError(err) })
	return err
}

func (c *core) lastFailure() failure {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	return c.state.failed
}

// load returns the tokens to use: the store's, or those that it would not take.
func (c *core) load(ctx context.Context) (tokensession.Tokens, error) {
	tokens, err := c.loadStore(ctx)
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if u := c.state.unsaved; u != nil && !errors.Is(err, ErrNoTokens) && (err != nil || tokens.RefreshToken == u.held) {
		return u.tokens, nil
	}
	return tokens, err
}

func (c *core) loadStore(ctx context.Context) (tokensession.Tokens, error) {
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

// settle is load for a flight, and the refresh token that the store has. It saves what could not be saved before, if it
// is time or urgent, or forgets it if the store has been given something newer. Only flights do this, one at a time.
func (c *core) settle(f *flight, urgent bool) (tokens tokensession.Tokens, held string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	c.state.mu.Lock()
	u := c.state.unsaved
	c.state.mu.Unlock()
	tokens, err = c.loadStore(ctx)
	if u == nil {
		return tokens, tokens.RefreshToken, err
	}
	if errors.Is(err, ErrNoTokens) || err == nil && tokens.RefreshToken != u.held {
		c.setUnsaved(nil)
		return tokens, tokens.RefreshToken, err
	}
	if !urgent && !u.pause.over(c.now()) {
		return u.tokens, u.held, nil
	}
	switch saved, err := c.save(ctx, f, u.held, u.tokens); {
	case saved:
		return u.tokens, u.tokens.RefreshToken, nil
	case err != nil:
		return u.tokens, u.held, nil
	}
	tokens, err = c.loadStore(ctx)
	return tokens, tokens.RefreshToken, err
}

// settled returns why there are tokens that cannot be saved.
func (c *core) settled(f *flight) error {
	_, _, err := c.settle(f, true)
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	if c.state.unsaved == nil {
		return nil
	}
	return errors.Join(err, c.state.unsaved.err)
}

// keep saves what a refresh gave, unless the store has been given something else since: a login, a logout, or what
// another process got for the same refresh token. It may not be overwritten, and is no older.
func (c *core) keep(f *flight, held string, old tokensession.Tokens, answer endpointAnswer) (tokensession.Tokens, bool) {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	current, err := c.loadStore(ctx)
	if errors.Is(err, ErrNoTokens) || err == nil && current.RefreshToken != held {
		return tokensession.Tokens{}, false
	}
	next := answer.tokens
	next.Session = old.Session
	next.Scope = cmp.Or(next.Scope, old.Scope) // what is not said has not changed (RFC 6749 section 5.1)
	if next.RefreshToken == "" {               // it stays the same (RFC 6749 section 6)
		next.RefreshToken, next.RefreshExpiresAt = old.RefreshToken, old.RefreshExpiresAt
	}
	c.state.mu.Lock()
	c.state.lifetime = answer.lifetime
	c.state.mu.Unlock()
	saved, err := c.save(ctx, f, held, next)
	return next, saved || err != nil
}

// save reports whether the store has taken the tokens. It has not if it has been given others since; if there is an
// error, they are kept here.
func (c *core) save(ctx context.Context, f *flight, held string, tokens tokensession.Tokens) (saved bool, err error) {
	if store, ok := c.store.(TokenSwapper); ok {
		saved, err = store.Swap(ctx, held, tokens)
	} else {
		err = c.store.Save(ctx, tokens)
		saved = err == nil
	}
	if err == nil {
		c.setUnsaved(nil)
		return saved, nil
	}
	err = unavailable("saving the tokens", err)
	c.setUnsaved(&unsavedTokens{tokens: tokens, held: held, err: err, pause: quietFor(savePause, c.now())})
	f.notices = append(f.notices, func() { c.cfg.OnError(err) })
	return false, err
}

func (c *core) setUnsaved(u *unsavedTokens) {
	c.state.mu.Lock()
	defer c.state.mu.Unlock()
	c.state.unsaved = u
}

// A retrySchedule says when to present a refresh token again. Its times are of the monotonic clock: the program's may stand
// still or be set back, and then it would go on without end.
type retrySchedule struct {
	tokens       int // that were presented
	refreshToken string
	unkept       int       // how often what came of this token could not be kept
	attempts     int       // with this token
	began        time.Time // when the latest of them did
	last         time.Time // when the last one may begin
	doubt        time.Time // retryWindow after the latest one that may have been applied; zero if none may
}

func (r *retrySchedule) inDoubt() bool { return !r.doubt.IsZero() }

// begin reports whether there is to be an attempt. A doubt that an earlier refresh left is this one's, too.
func (r *retrySchedule) begin(refreshToken string, failed failure, now time.Time) bool {
	if r.refreshToken != refreshToken {
		*r = retrySchedule{tokens: r.tokens + 1, refreshToken: refreshToken, last: now.Add(retryWindow)}
		if failed.refreshToken == refreshToken && now.Before(failed.doubt) {
			r.last, r.doubt = failed.doubt, failed.doubt
		}
	}
	r.attempts, r.began = r.attempts+1, now
	return r.tokens <= retryAttempts && r.unkept < retryAttempts
}

// pause returns how long to wait before the next attempt, if there is to be one. Nothing but the time ends the attempts
// while there is a doubt: whatever the later ones met, the first may have been applied.
func (r *retrySchedule) pause(answer endpointAnswer, now time.Time) (time.Duration, bool) {
	if answer.inDoubt {
		doubt := r.began.Add(retryWindow)
		if !r.inDoubt() {
			r.last = doubt
		}
		r.doubt = doubt
	}
	if !r.inDoubt() && (answer.final || r.attempts >= retryAttempts) {
		return 0, false
	}
	longest := min(retryPause<<(r.attempts-1), retryPauseMost)
	pause := answer.retryAfter + longest/2 + rand.N(longest/2)
	left := r.last.Sub(now)
	if pause > left && r.inDoubt() && left > 0 {
		return left, true // even where the server asks for more: later, the token may count as stolen
	}
	return pause, pause <= left
}

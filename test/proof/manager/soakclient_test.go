package manager_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// thinking is how long a client waits at most before it refreshes again.
const thinking = 300 * time.Millisecond

// A soakClient is a browser with a session.
type soakClient struct {
	*world
	subject string
	tokens  tokensession.Tokens // the last it got
	used    bool                // by a thief, so that a verdict is no false one
}

// live uses the session, has its token stolen, logs out and in again, until over.
func (c *soakClient) live(over <-chan struct{}) {
	for {
		select {
		case <-over:
			return
		default:
		}
		switch n := rand.IntN(1000); {
		case n < 15:
			c.theft()
		case n < 30:
			c.revocation()
		default:
			if !c.refresh() {
				c.login()
			}
			pause(thinking)
		}
	}
}

func (w *world) any() *instance { return w.instances[rand.IntN(soakInstances)] }

// callContext is a call's context: every 20th is cancelled in the middle.
func (w *world) callContext() (ctx context.Context, cancel context.CancelFunc) {
	if rand.IntN(20) == 0 {
		w.cancelled.Add(1)
		return context.WithTimeout(context.Background(), rand.N(10*time.Millisecond))
	}
	return context.WithTimeout(context.Background(), 5*time.Second)
}

// untilVerdict makes a call again and again, with any instance, until the error is no
// ErrUnavailable.
func (w *world) untilVerdict(call func(context.Context, *instance) error) error {
	for deadline := time.Now().Add(soakGrace - 2*clockStep - time.Second); ; {
		ctx, cancel := w.callContext()
		err := call(ctx, w.any())
		cancel()
		if !errors.Is(err, tokensession.ErrUnavailable) {
			return err
		}
		w.unanswered.Add(1)
		if time.Now().After(deadline) {
			w.stuck.Add(1)
			return err
		}
		pause(40 * time.Millisecond)
	}
}

// login begins another session. One that was begun without an answer stays, and nobody has its
// tokens.
func (c *soakClient) login() {
	err := c.untilVerdict(func(ctx context.Context, in *instance) (err error) {
		c.tokens, err = in.m.Start(ctx, c.subject)
		return err
	})
	if err != nil {
		c.wrong(&c.others, "Start: %v", err)
	}
	c.used = false
}

// present refreshes with the token.
func (w *world) present(token string) (tokens tokensession.Tokens, err error) {
	err = w.untilVerdict(func(ctx context.Context, in *instance) error {
		tokens, err = in.m.Refresh(ctx, token)
		return err
	})
	if err == nil {
		w.refreshes.Add(1)
	}
	return tokens, err
}

// refresh presents the client's token from some tabs at once. All get the same successor, or the
// same verdict; the latter is false if nobody has done anything to the session. It reports whether
// the session goes on.
func (c *soakClient) refresh() bool {
	c.gate.RLock()
	defer c.gate.RUnlock()
	began := time.Now()
	tabs := 1 + max(0, rand.IntN(8)-4)
	answers, verdicts := make([]tokensession.Tokens, tabs), make([]error, tabs)
	var all sync.WaitGroup
	for i := range tabs {
		all.Go(func() { answers[i], verdicts[i] = c.present(c.tokens.RefreshToken) })
	}
	all.Wait()
	c.longest.raise(time.Since(began))

	for i, err := range verdicts {
		if err != nil && !errors.Is(err, tokensession.ErrUnavailable) && !c.used {
			c.wrong(&c.falseLogouts, "%s, tab %d of %d, generation %d, after %v: %v",
				c.subject, i+1, tabs, generation(c.tokens.RefreshToken), time.Since(began), err)
		}
	}
	if errors.Join(verdicts...) != nil {
		return false
	}
	for _, other := range answers {
		if other.RefreshToken != answers[0].RefreshToken && !c.used {
			c.wrong(&c.others, "%s: two successors of generation %d: %d and %d", c.subject,
				generation(c.tokens.RefreshToken), generation(answers[0].RefreshToken), generation(other.RefreshToken))
		}
	}
	c.tokens = answers[rand.IntN(tabs)]
	c.verify()
	return true
}

// verify looks whether both instances accept the access token that the client has just got.
func (c *soakClient) verify() {
	for _, in := range c.instances {
		if _, err := in.m.Verify(c.tokens.AccessToken); err != nil && !c.used {
			c.wrong(&c.refused, "%s: Verify: %v", c.subject, err)
		}
	}
	if rand.IntN(10) > 0 {
		return
	}
	err := c.untilVerdict(func(ctx context.Context, in *instance) error {
		_, err := in.m.VerifyLive(ctx, c.tokens.AccessToken)
		return err
	})
	if err != nil && !c.used {
		c.wrong(&c.refused, "%s: VerifyLive: %v", c.subject, err)
	}
}

// theft has a thief copy the client's token, and use it, before or after the client and more than
// once, with time between or without. In the end each has refreshed outside the grace period once
// more, and both must be out.
func (c *soakClient) theft() {
	thief := c.tokens
	use := func() {
		c.gate.RLock()
		defer c.gate.RUnlock()
		c.used = true
		if tokens, err := c.present(thief.RefreshToken); err == nil {
			thief = tokens
		}
	}
	for range rand.IntN(5) {
		switch rand.IntN(3) {
		case 0:
			if !c.refresh() && !c.used {
				c.login()
				return
			}
		case 1:
			use()
		case 2:
			c.awaitLeap()
		}
	}
	use()
	c.awaitLeap()
	c.refresh()
	c.awaitLeap()
	use()
	c.thefts.Add(1)
	_, clientErr := c.present(c.tokens.RefreshToken)
	_, thiefErr := c.present(thief.RefreshToken)
	if thiefErr == nil || clientErr == nil {
		c.wrong(&c.undetected, "%s: after a theft, the thief at generation %d: %v; the client at %d: %v",
			c.subject, generation(thief.RefreshToken), thiefErr, generation(c.tokens.RefreshToken), clientErr)
	}
	c.login()
}

// revocation ends the session in one of the three ways, while a tab refreshes or not. Afterwards
// nothing of it works.
func (c *soakClient) revocation() {
	before := c.tokens
	c.end(before)
	c.awaitNews()
	for _, token := range []string{before.RefreshToken, c.tokens.RefreshToken} {
		if _, err := c.present(token); !errors.Is(err, tokensession.ErrRevoked) || errors.Is(err, tokensession.ErrReused) {
			c.wrong(&c.revived, "%s: Refresh after a revocation: %v", c.subject, err)
		}
	}
	c.login()
}

// end revokes the session. The time does not leap meanwhile: a tab's refresh that lasts for longer
// than the grace period may give an access token that outlives the denial.
func (c *soakClient) end(before tokensession.Tokens) {
	c.gate.RLock()
	defer c.gate.RUnlock()
	m, tried := c.anyThatCanEnd() // it refuses the access token from then on
	var tab sync.WaitGroup
	if rand.IntN(2) == 0 {
		tab.Go(func() {
			if tokens, err := c.present(before.RefreshToken); err == nil {
				c.tokens = tokens
			}
		})
	}
	how := rand.IntN(3)
	err := c.untilVerdict(func(ctx context.Context, _ *instance) (err error) {
		switch how {
		case 0:
			return m.Revoke(ctx, before.Session.ID)
		case 1:
			return m.RevokeToken(ctx, before.RefreshToken)
		default:
			_, err = m.RevokeSubject(ctx, c.subject)
			return err
		}
	})
	if err != nil {
		c.wrong(&c.others, "%s: revocation: %v", c.subject, err)
	}
	tab.Wait()
	c.revocations.Add(1)
	if tried { // the old master may have become a replica meanwhile, and the call have come through
		return
	}
	if _, err := m.Verify(c.tokens.AccessToken); !errors.Is(err, tokensession.ErrRevoked) && !errors.Is(err, tokensession.ErrExpired) {
		c.wrong(&c.revived, "%s: Verify after a revocation: %v", c.subject, err)
	}
}

// anyThatCanEnd returns a Manager that can end the session, and whether another one was tried before
// it: one that uses an old master knows nothing of what has happened since, and must not say that
// there is no session to end.
func (c *soakClient) anyThatCanEnd() (m *tokensession.Manager, tried bool) {
	in := c.any()
	if in != c.behind.Load() {
		return in.m, false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if n, err := in.m.RevokeSubject(ctx, c.subject); err == nil && n == 0 && !c.used {
		c.wrong(&c.revived, "%s: an instance that uses an old master found no session to end", c.subject)
	}
	for _, other := range c.instances {
		if other != in {
			m = other.m
		}
	}
	return m, true
}

// awaitNews returns when each instance refuses the access token, as Run has told it, and it has
// asked nobody itself; or when the token has expired, as during an outage, in which nobody can tell
// it.
func (c *soakClient) awaitNews() {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	began := time.Now()
	for _, in := range c.instances {
		for {
			_, err := in.m.Verify(c.tokens.AccessToken)
			if errors.Is(err, tokensession.ErrExpired) {
				return
			}
			if err != nil {
				break
			}
			<-tick.C
		}
	}
	c.toldElsewhere.Add(1)
	c.slowestNews.raise(time.Since(began))
}

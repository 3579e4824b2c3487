package storetest

import (
	"context"
	"fmt"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// newsWithin is how long news may take until Notified returns. It allows for a slow server.
const newsWithin = 5 * time.Second

// aWhile is how long a call has to last before it counts as one that waits.
const aWhile = 200 * time.Millisecond

var notifiedCases = []testCase{
	{
		"Notified/returns at once for news before the call",
		"what comes between two calls would reach access tokens on this instance much later",
		func(c *check) {
			notifier, writer := c.notifier()
			for _, subject := range []string{"alice", "bob"} {
				c.quiet(notifier)
				writer.swap(revoked(writer.created(subject), c.now, tokensession.ReasonLogout))
				c.wantNotified(notifier, "after a revocation")
			}
		},
	}, {
		"Notified/returns for news during the call",
		"a revocation would reach access tokens on this instance much later",
		func(c *check) {
			notifier, writer := c.notifier()
			rec := writer.created("alice")
			call := c.waiting(notifier)
			writer.swap(revoked(rec, c.now, tokensession.ReasonLogout))
			if call == nil {
				return // it returns again and again: another case says so
			}
			defer call.cancel()
			if err, ended := call.result(); err != nil || !ended {
				c.errorf("Notified, waiting when a session was revoked: returned %v, error %v",
					ended, err)
			}
		},
	}, {
		"Notified/returns for every kind of news",
		"outdated access tokens, or those of before a password change, would be accepted for " +
			"much longer",
		func(c *check) {
			notifier, writer := c.notifier()
			rec := writer.created("alice")
			c.quiet(notifier)
			writer.swap(outdated(rec, c.now))
			c.wantNotified(notifier, "after a session was outdated")
			if revoker, ok := ability[tokensession.SubjectRevoker](writer.store); ok {
				c.quiet(notifier)
				c.wantIDs(writer.revokeSubject(revoker, "alice", nil, c.now, newID()), rec)
				c.wantNotified(notifier, "after RevokeSubject")
			}
		},
	}, {
		"Notified/waits until its context ends if there is no news",
		"a call that returns again and again makes its caller ask the feed in a loop; one " +
			"without end leaks",
		func(c *check) {
			notifier, writer := c.notifier()
			writer.created("alice")
			var err error
			for range 5 { // what came at the very moment of the end is news
				call := c.waiting(notifier)
				if call == nil {
					c.fatalf("Notified returns again and again without news")
				}
				call.cancel()
				var ended bool
				if err, ended = call.result(); !ended {
					c.fatalf("Notified has not returned %v after its context ended", newsWithin)
				}
				if err != nil {
					break
				}
			}
			c.wantError(err, context.Canceled, "Notified whose context was cancelled")
		},
	}, {
		"Notified/comes when the feed has the news",
		"an instance that looks at the feed too early finds nothing, and is not told again",
		notifiedIsInTheFeed,
	},
}

// notifiedIsInTheFeed revokes one session after the other, and looks at the feed only when Notified
// says so. A look may come before the write that Notified returned for was acknowledged, but then
// there has to be another one.
func notifiedIsInTheFeed(c *check) {
	notifier, writer := c.notifier()
	feed, ok := notifier.(tokensession.RevocationFeed)
	if !ok {
		c.fatalf("a tokensession.RevocationNotifier has to be a RevocationFeed")
	}
	for round := range 20 {
		rec := writer.created(fmt.Sprint("user ", round))
		told := true
		parallel(2, func(i int) {
			if i == 0 {
				if err := writer.store.Swap(c.ctx, revoked(rec, c.now, tokensession.ReasonLogout)); err != nil {
					c.errorf("Swap beside Notified: %v", err)
				}
				return
			}
			if err := c.lookUntilTold(notifier, feed, rec.ID); err != nil {
				c.errorf("looking at the feed whenever Notified returns does not find a revocation: %v", err)
				told = false
			}
		})
		if !told {
			return
		}
	}
}

// lookUntilTold looks at the feed whenever Notified returns, until it tells the session.
func (c *check) lookUntilTold(
	notifier tokensession.RevocationNotifier, feed tokensession.RevocationFeed, id string,
) error {
	ctx, cancel := context.WithTimeout(c.ctx, newsWithin)
	defer cancel()
	for found := false; !found; {
		if err := notifier.Notified(ctx); err != nil {
			return err
		}
		err := feed.Revocations(c.ctx, c.now, func(page []tokensession.Revocation) error {
			for _, r := range page {
				found = found || r.SessionID == id
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// notifier returns the store's optional side, or skips the case, and a check that writes. Of
// several stores on the same records it writes by another one, because that is where most news
// comes from.
func (c *check) notifier() (notifier tokensession.RevocationNotifier, writer *check) {
	c.t.Helper()
	this, other := *c, *c
	if several, ok := c.store.(*shared); ok {
		this.store, other.store = several.stores[0], &shared{stores: several.stores[1:]}
	}
	return optional[tokensession.RevocationNotifier](&this, "RevocationNotifier"), &other
}

// wantNotified fails unless Notified returns soon, because there was news before.
func (c *check) wantNotified(notifier tokensession.RevocationNotifier, when string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, newsWithin)
	defer cancel()
	if err := notifier.Notified(ctx); err != nil {
		c.errorf("Notified %s: error %v, want nil within %v", when, err, newsWithin)
	}
}

// A notifiedCall is a call of Notified that is under way.
type notifiedCall struct {
	cancel context.CancelFunc
	done   chan error
}

// result waits for the call, but not for ever.
func (n *notifiedCall) result() (err error, ended bool) {
	select {
	case err := <-n.done:
		return err, true
	case <-time.After(newsWithin):
		return nil, false
	}
}

// waiting returns a call of Notified that waits. Those before it that return are for older news, or
// for none, which is allowed now and then. It returns nil if no call waits.
func (c *check) waiting(notifier tokensession.RevocationNotifier) *notifiedCall {
	c.t.Helper()
	for range 50 {
		ctx, cancel := context.WithCancel(c.ctx)
		call := &notifiedCall{cancel: cancel, done: make(chan error, 1)}
		go func() { call.done <- notifier.Notified(ctx) }()
		select {
		case err := <-call.done:
			cancel()
			if err != nil {
				c.fatalf("Notified: %v", err)
			}
		case <-time.After(aWhile):
			return call
		}
	}
	return nil
}

// quiet calls Notified until there is no more news from before.
func (c *check) quiet(notifier tokensession.RevocationNotifier) {
	c.t.Helper()
	if call := c.waiting(notifier); call != nil {
		call.cancel()
		if _, ended := call.result(); !ended {
			c.fatalf("Notified has not returned %v after its context ended", newsWithin)
		}
	}
}

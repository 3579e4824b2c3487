package storetest

import (
	"context"
	"errors"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// contextReason is why every method has to look at its context.
const contextReason = "the caller has gone: what it did not hear of must not have happened, and a verdict it gets in haste is wrong"

var contextCases = []testCase{
	{
		"Context/ended before Create", contextReason,
		func(c *check) {
			rec := c.newRecord("alice")
			c.wantContextErrors("Create", func(ctx context.Context) error { return c.store.Create(ctx, clone(rec)) })
			c.wantMissing(rec.ID, "alice", "after Create with a context that had ended")
			c.created("alice")
		},
	}, {
		"Context/ended before Load", contextReason,
		func(c *check) {
			rec := c.created("alice")
			for _, id := range []string{rec.ID, newID()} {
				c.wantContextErrors("Load", func(ctx context.Context) error { _, err := c.store.Load(ctx, id); return err })
			}
		},
	}, {
		"Context/ended before Swap", contextReason,
		func(c *check) {
			rec := c.created("alice")
			next := rotated(rec)
			c.wantContextErrors("Swap", func(ctx context.Context) error { return c.store.Swap(ctx, clone(next)) })
			c.wantStored(rec, "after Swap with a context that had ended")
			c.swap(next)
		},
	}, {
		"Context/ended before List", contextReason,
		func(c *check) {
			c.created("alice")
			for _, subject := range []string{"alice", "nobody"} {
				c.wantContextErrors("List", func(ctx context.Context) error { _, err := c.store.List(ctx, subject); return err })
			}
		},
	}, {
		"Context/ended before Sweep", contextReason,
		func(c *check) {
			sweeper := c.sweeper()
			rec := c.newRecord("alice")
			rec.ExpiresAt = c.now.Add(time.Hour)
			c.create(rec)
			c.wantContextErrors("Sweep", func(ctx context.Context) error {
				_, err := sweeper.Sweep(ctx, c.now.Add(day), 10)
				return err
			})
			c.wantStored(rec, "after Sweep with a context that had ended")
		},
	}, {
		"Context/ended before Revocations", contextReason,
		func(c *check) {
			feed := c.feed()
			c.wantContextErrors("Revocations", func(ctx context.Context) error {
				return feed.Revocations(ctx, c.now, func([]tokensession.Revocation) error { return nil })
			})
		},
	}, {
		"Context/ended before Notified", contextReason,
		func(c *check) {
			notifier, writer := c.notifier()
			c.quiet(notifier)
			writer.swap(revoked(writer.created("alice"), c.now, tokensession.ReasonLogout))
			c.wantContextErrors("Notified", notifier.Notified)
			c.wantNotified(notifier, "after calls with contexts that had ended")
		},
	}, {
		"Context/ended before RevokeSubject", contextReason,
		func(c *check) {
			revoker := c.subjectRevoker()
			rec := c.created("alice")
			c.wantContextErrors("RevokeSubject", func(ctx context.Context) error {
				_, err := revoker.RevokeSubject(ctx, tokensession.SubjectRevocation{
					Subject: "alice", Issuers: []string{issuer},
					At: c.now, Reason: subjectReason, WriteID: newID(),
				})
				return err
			})
			c.wantStored(rec, "after RevokeSubject with a context that had ended")
		},
	},
}

// verdicts are the errors that a store must not return if it could not tell.
var verdicts = []error{tokensession.ErrNotFound, tokensession.ErrExists, tokensession.ErrConflict}

// wantContextErrors fails unless call returns the error of a context that was cancelled, and of one
// that ran out of time.
func (c *check) wantContextErrors(name string, call func(context.Context) error) {
	c.t.Helper()
	cancelled, cancel := context.WithCancel(c.ctx)
	cancel()
	late, cancel := context.WithDeadline(c.ctx, c.now.Add(-time.Hour))
	defer cancel()
	for _, ctx := range []context.Context{cancelled, late} {
		err := call(ctx)
		if !errors.Is(err, ctx.Err()) {
			c.errorf("%s with a context that had ended: error %v, want %v", name, err, ctx.Err())
		}
		for _, verdict := range verdicts {
			if errors.Is(err, verdict) {
				c.errorf("%s with a context that had ended gave the verdict %v", name, err)
			}
		}
	}
}

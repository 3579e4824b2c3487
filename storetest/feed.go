package storetest

import (
	"fmt"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

var feedCases = []testCase{
	{
		"RevokedSince/tells a revocation at once and exactly",
		"access tokens of a session that was ended go on working on other instances",
		func(c *check) {
			feed := c.feed()
			rec := c.swap(revoked(c.swap(rotated(c.created("alice"))), c.now, tokensession.ReasonLogout))
			for _, before := range []time.Duration{0, time.Microsecond, time.Second, time.Hour} {
				c.wantTold(feed, c.now.Add(-before), rec)
			}
		},
	}, {
		"RevokedSince/tells only revocations",
		"live users' access tokens would be refused",
		func(c *check) {
			feed := c.feed()
			live := []tokensession.Record{c.created("alice"), c.swap(rotated(c.created("alice"))), c.swap(rotated(c.created("bob")))}
			refused := revoked(live[1], c.now, tokensession.ReasonLogout)
			refused.Version++
			c.wantError(c.store.Swap(c.ctx, refused), tokensession.ErrConflict, "Swap of a version that is not the next")
			c.wantTold(feed, c.now.Add(-time.Hour))

			gone := c.swap(revoked(live[0], c.now, tokensession.ReasonLogout))
			c.wantTold(feed, c.now.Add(-time.Hour), gone)
		},
	}, {
		"RevokedSince/tells again what it told before",
		"an instance that was cut off asks from an earlier time: it would miss what was told meanwhile",
		func(c *check) {
			feed := c.feed()
			var all []tokensession.Record
			for n := range 5 {
				all = append(all, c.swap(revoked(c.created("alice"), c.now.Add(time.Duration(n)*time.Second), tokensession.ReasonLogout)))
			}
			for range 2 {
				for n := len(all) - 1; n >= 0; n-- {
					c.wantTold(feed, c.now.Add(time.Duration(n)*time.Second), all[n:]...)
				}
			}
		},
	}, {
		"RevokedSince/finds a late write with an earlier time",
		"a revocation that took a second to commit, or of a clock that is behind, is asked for with an overlap",
		func(c *check) {
			feed := c.feed()
			late := c.created("alice")
			third := c.swap(revoked(c.created("alice"), c.now.Add(2*time.Second), tokensession.ReasonLogout))
			c.wantTold(feed, c.now.Add(2*time.Second), third)
			first := c.swap(revoked(c.created("bob"), c.now, tokensession.ReasonLogout))
			late = c.swap(revoked(late, c.now.Add(time.Second), tokensession.ReasonReuse))
			c.wantTold(feed, c.now.Add(2*time.Second), third)
			c.wantTold(feed, c.now.Add(time.Second), late, third)
			c.wantTold(feed, c.now, first, late, third)
		},
	}, {
		"RevokedSince/tells all of one instant",
		"a password change ends every session at the same microsecond",
		func(c *check) {
			feed := c.feed()
			var all []tokensession.Record
			for n := range 150 {
				all = append(all, c.swap(revoked(c.created(fmt.Sprint("user ", n)), c.now, tokensession.ReasonLogout)))
			}
			c.wantTold(feed, c.now, all...)
		},
	}, {
		"RevokedSince/tells for 24 hours",
		"an instance that was cut off for a night has to learn what it missed",
		func(c *check) {
			feed := c.feed()
			old := c.newRecord("alice")
			old.CreatedAt = c.now.Add(-3 * day)
			at := c.now.Add(-day + time.Minute)
			gone := c.swap(revoked(c.create(old), at, tokensession.ReasonLogout))
			all := []tokensession.Record{gone}
			for range 150 { // a store that keeps a number of them, or tidies at a write, has had its chance
				all = append(all, c.swap(revoked(c.created("bob"), c.now, tokensession.ReasonLogout)))
			}
			if sweeper, ok := c.store.(tokensession.Sweeper); ok {
				if _, err := sweeper.Sweep(c.ctx, c.now, 1000); err != nil {
					c.errorf("Sweep: %v", err)
				}
			}
			c.wantTold(feed, at, all...)
		},
	}, {
		"RevokedSince/tells what was revoked in parallel",
		"one of two logouts at once would not reach the other instances",
		func(c *check) {
			feed := c.feed()
			recs := make([]tokensession.Record, 32)
			errs := make([]error, len(recs))
			for i := range recs {
				recs[i] = revoked(c.created(fmt.Sprint("user ", i%4)), c.now.Add(time.Duration(i%5)*time.Second), tokensession.ReasonLogout)
			}
			parallel(len(recs), func(i int) { errs[i] = c.store.Swap(c.ctx, clone(recs[i])) })
			for _, err := range errs {
				if err != nil {
					c.errorf("one of %d parallel Swaps of different records: %v", len(recs), err)
				}
			}
			c.wantTold(feed, c.now, recs...)
		},
	}, {
		"RevokedSince/tells what RevokeSubject revoked",
		"after a password change the thief's access token goes on working on other instances",
		func(c *check) {
			feed, revoker := c.feed(), c.subjectRevoker()
			first, second := c.created("alice"), c.created("alice")
			c.created("bob")
			recs := c.revokeSubject(revoker, "alice", nil, c.now, newID())
			c.wantIDs(recs, first, second)
			c.wantTold(feed, c.now, recs...)
			if len(recs) != 2 {
				c.errorf("RevokeSubject returned %d records, want 2", len(recs))
			}
		},
	},
}

// wantTold fails unless the feed tells each of want, with its time, and nothing at or after since besides.
func (c *check) wantTold(feed tokensession.RevocationFeed, since time.Time, want ...tokensession.Record) {
	c.t.Helper()
	told, err := feed.RevokedSince(c.ctx, since)
	if err != nil {
		c.errorf("RevokedSince: %v", err)
	}
	at := make(map[string]time.Time)
	for _, r := range told {
		if !r.At.Before(since) {
			at[r.SessionID] = r.At
		}
	}
	for _, rec := range want {
		got, ok := at[rec.ID]
		switch {
		case !ok:
			c.errorf("RevokedSince tells %d revocations and lacks one made %v after since", len(told), rec.RevokedAt.Sub(since))
		case !got.Equal(rec.RevokedAt) || got.Location() != time.UTC:
			c.errorf("RevokedSince tells the time %v, want %v", got, rec.RevokedAt)
		}
		delete(at, rec.ID)
	}
	for _, other := range at {
		c.errorf("RevokedSince tells a session at %v that was not revoked then", other)
	}
}

package storetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

var feedCases = []testCase{
	{
		"Revocations/tells a revocation at once and exactly",
		"access tokens of a session that was ended go on working on other instances",
		func(c *check) {
			feed := c.feed()
			rec := c.swap(revoked(c.swap(rotated(c.created("alice"))), c.now,
				tokensession.ReasonLogout))
			for _, before := range []time.Duration{0, time.Microsecond, time.Second, time.Hour} {
				c.wantTold(feed, c.now.Add(-before), rec)
			}
		},
	}, {
		"Revocations/tells only revocations",
		"live users' access tokens would be refused",
		func(c *check) {
			feed := c.feed()
			live := []tokensession.Record{c.created("alice"), c.swap(rotated(c.created("alice"))),
				c.swap(rotated(c.created("bob")))}
			refused := revoked(live[1], c.now, tokensession.ReasonLogout)
			refused.Version++
			c.wantError(c.store.Swap(c.ctx, refused), tokensession.ErrConflict,
				"Swap of a version that is not the next")
			c.wantTold(feed, c.now.Add(-time.Hour))

			gone := c.swap(revoked(live[0], c.now, tokensession.ReasonLogout))
			c.wantTold(feed, c.now.Add(-time.Hour), gone)
		},
	}, {
		"Revocations/tells again what it told before",
		"an instance that was cut off asks from an earlier time: it would miss what was told " +
			"meanwhile",
		func(c *check) {
			feed := c.feed()
			var all []tokensession.Record
			for n := range 5 {
				all = append(all, c.ended("alice", c.now.Add(time.Duration(n)*time.Second)))
			}
			for range 2 {
				for n := len(all) - 1; n >= 0; n-- {
					c.wantTold(feed, c.now.Add(time.Duration(n)*time.Second), all[n:]...)
				}
			}
		},
	}, {
		"Revocations/finds a late write with an earlier time",
		"a revocation that took a second to commit, or of a clock that is behind, is asked for " +
			"with an overlap",
		func(c *check) {
			feed := c.feed()
			late := c.created("alice")
			third := c.ended("alice", c.now.Add(2*time.Second))
			c.wantTold(feed, c.now.Add(2*time.Second), third)
			first := c.ended("bob", c.now)
			late = c.swap(revoked(late, c.now.Add(time.Second), tokensession.ReasonReuse))
			c.wantTold(feed, c.now.Add(2*time.Second), third)
			c.wantTold(feed, c.now.Add(time.Second), late, third)
			c.wantTold(feed, c.now, first, late, third)
		},
	}, {
		"Revocations/tells all of one instant",
		"a password change ends every session at the same microsecond",
		func(c *check) {
			feed := c.feed()
			var all []tokensession.Record
			for n := range 150 {
				all = append(all, c.ended(fmt.Sprint("user ", n), c.now))
			}
			c.wantTold(feed, c.now, all...)
		},
	}, {
		"Revocations/tells for 24 hours",
		"an instance that was cut off for a night has to learn what it missed",
		func(c *check) {
			feed := c.feed()
			old := c.newRecord("alice")
			old.CreatedAt = c.now.Add(-3 * day)
			at := c.now.Add(-day - 20*time.Minute) // of 30: a slow server is not to be blamed
			gone := c.swap(revoked(c.create(old), at, tokensession.ReasonLogout))
			all := []tokensession.Record{gone}
			for range 150 { // a store that keeps a number of them, or tidies at a write, has had its chance
				all = append(all, c.ended("bob", c.now))
			}
			if sweeper, ok := c.store.(tokensession.Sweeper); ok {
				if _, err := sweeper.Sweep(c.ctx, c.now, 1000); err != nil {
					c.errorf("Sweep: %v", err)
				}
			}
			c.wantTold(feed, at, all...)
		},
	}, {
		"Revocations/tells what was revoked in parallel",
		"one of two logouts at once would not reach the other instances",
		func(c *check) {
			feed := c.feed()
			recs := make([]tokensession.Record, 32)
			errs := make([]error, len(recs))
			for i := range recs {
				recs[i] = revoked(c.created(fmt.Sprint("user ", i%4)),
					c.now.Add(time.Duration(i%5)*time.Second), tokensession.ReasonLogout)
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
		"Revocations/tells what RevokeSubject revoked",
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
	}, {
		"Revocations/tells that a session is outdated",
		"access tokens with a role that was taken away go on working on other instances",
		func(c *check) {
			feed := c.feed()
			c.swap(rotated(c.created("bob")))
			rec := c.swap(rotated(c.created("alice")))
			for n := range 3 {
				at := c.now.Add(time.Duration(n) * time.Second)
				rec = c.swap(outdated(rec, at))
				for _, before := range []time.Duration{0, time.Microsecond, time.Hour} {
					c.wantTold(feed, at.Add(-before), rec)
				}
			}
		},
	}, {
		"Revocations/tells nothing wrong when an outdated session is refreshed",
		"the user who got fresh tokens would be refused, or the old ones accepted again",
		func(c *check) {
			feed := c.feed()
			rec := c.swap(outdated(c.swap(rotated(c.created("alice"))), c.now))
			for range 3 {
				rec = rotated(rec)
				c.swap(rec)
				c.wantTold(feed, c.now, rec)
			}
		},
	}, {
		"Revocations/tells that an outdated session was revoked",
		"its new access tokens go on working on other instances after the logout",
		func(c *check) {
			feed := c.feed()
			rec := c.swap(outdated(c.created("alice"), c.now))
			at := c.now.Add(time.Second)
			rec = c.swap(revoked(c.swap(rotated(rec)), at, tokensession.ReasonLogout))
			c.wantTold(feed, at, rec)
			c.wantTold(feed, c.now, rec)
		},
	}, {
		"Revocations/ends at an error of page and returns it",
		"an instance that could not take in a page would count itself up to date",
		func(c *check) {
			feed := c.feed()
			for n := range 150 {
				at := c.now.Add(time.Duration(n) * time.Microsecond)
				c.ended(fmt.Sprint("user ", n), at)
			}
			c.wantPageError(feed)
		},
	}, {
		manyRevocationsCase,
		"an instance would learn of some only, or need the memory for all at once",
		tellsMany,
	},
}

// manyRevocationsCase takes a store some seconds.
const manyRevocationsCase = "Revocations/tells thousands in pages"

// tellsMany makes more revocations than a page may have. Some are of one instant, which is where a
// feed that goes on after the last time of a page loses some.
func tellsMany(c *check) {
	const subjects, sessions, atOneInstant, longestPage = 10, 310, 120, 3_000
	feed := c.feed()
	ended := make([][]tokensession.Record, subjects)
	parallel(subjects, func(i int) {
		var recs []tokensession.Record
		for n := range sessions {
			rec := c.newRecord(fmt.Sprint("user ", i))
			if n >= atOneInstant { // no session ends before its last refresh
				rec.RotatedAt = c.now.Add(time.Duration(n*subjects+i) * time.Millisecond)
			}
			if err := c.store.Create(c.ctx, clone(rec)); err != nil {
				c.errorf("one of many Creates: %v", err)
				return
			}
			recs = append(recs, rec)
		}
		ended[i] = c.endAll(recs)
	})
	want := slices.Concat(ended...)
	c.wantTold(feed, c.now, want...)
	err := feed.Revocations(c.ctx, c.now, func(page []tokensession.Revocation) error {
		if len(page) > longestPage {
			c.errorf("Revocations gives a page of %d, want no more than %d", len(page), longestPage)
		}
		return nil
	})
	if err != nil {
		c.errorf("Revocations: %v", err)
	}
	c.wantPageError(feed)
}

// endAll revokes the records of one subject, each at c.now or when it was last refreshed.
func (c *check) endAll(recs []tokensession.Record) []tokensession.Record {
	if revoker, ok := ability[tokensession.SubjectRevoker](c.store); ok {
		ended, err := revoker.RevokeSubject(c.ctx, subjectRevocation(recs[0].Subject, c.now))
		if err != nil || len(ended) != len(recs) {
			c.errorf("RevokeSubject returned %d records of %d, error %v", len(ended), len(recs),
				err)
		}
		return ended
	}
	ended := make([]tokensession.Record, len(recs))
	for i, rec := range recs {
		ended[i] = revoked(rec, rec.RotatedAt, tokensession.ReasonLogout)
		if err := c.store.Swap(c.ctx, clone(ended[i])); err != nil {
			c.errorf("one of many Swaps: %v", err)
		}
	}
	return ended
}

// wantPageError fails unless the feed, which has something to tell, ends at an error of page.
func (c *check) wantPageError(feed tokensession.RevocationFeed) {
	c.t.Helper()
	calls, errPage := 0, errors.New("the page cannot be taken in")
	err := feed.Revocations(c.ctx, c.now, func([]tokensession.Revocation) error {
		calls++
		return errPage
	})
	c.wantError(err, errPage, "Revocations with a page that fails")
	if calls != 1 {
		c.errorf("Revocations called page %d times, want once, because it failed", calls)
	}
}

// wantTold fails unless the feed tells each of want as it is: revoked, or else outdated. At since
// or later it may tell nothing of other sessions, and nothing that is not true of these.
func (c *check) wantTold(feed tokensession.RevocationFeed, since time.Time, want ...tokensession.Record) {
	c.t.Helper()
	told := make(map[string][]tokensession.Revocation)
	n := 0
	err := feed.Revocations(c.ctx, since, func(page []tokensession.Revocation) error {
		for _, r := range page { // a copy: the page is the feed's again afterwards
			if r.At.IsZero() || !r.At.Before(since) {
				told[r.SessionID] = append(told[r.SessionID], r)
			}
			n++
		}
		return nil
	})
	if err != nil {
		c.errorf("Revocations: %v", err)
	}
	var lacks []tokensession.Revocation
	for _, rec := range want {
		now := tokensession.Revocation{SessionID: rec.ID, At: rec.OutdatedAt, Epoch: rec.Epoch}
		if !rec.RevokedAt.IsZero() {
			now.At, now.Epoch = rec.RevokedAt, 0
		}
		found := false
		for _, r := range told[rec.ID] {
			found = found || r.Epoch == now.Epoch
			c.wantTrue(r, now, rec)
		}
		if !found {
			lacks = append(lacks, now)
		}
		delete(told, rec.ID)
	}
	if len(lacks) > 0 {
		c.errorf("Revocations tells %d entries and lacks %d, the first is of epoch %d and made %v after since",
			n, len(lacks), lacks[0].Epoch, lacks[0].At.Sub(since))
	}
	for _, others := range told {
		for _, r := range others {
			c.errorf("Revocations tells epoch %d at %v of a session that was neither revoked nor outdated then",
				r.Epoch, r.At)
		}
	}
}

// wantTrue fails unless an entry of the feed is true of the session. Now is the latest one.
func (c *check) wantTrue(r, now tokensession.Revocation, rec tokensession.Record) {
	c.t.Helper()
	switch {
	case r.At.Location() != time.UTC:
		c.errorf("Revocations tells a time in the zone %v, want UTC", r.At.Location())
	case r.Epoch == now.Epoch && !r.At.Equal(now.At):
		c.errorf("Revocations tells epoch %d at the time %v, want %v", r.Epoch, r.At, now.At)
	case r.Epoch == 0 && now.Epoch != 0:
		c.errorf("Revocations tells at %v that an outdated session was revoked", r.At)
	case r.Epoch > rec.Epoch:
		c.errorf("Revocations tells epoch %d of a session that has reached epoch %d", r.Epoch,
			rec.Epoch)
	}
}

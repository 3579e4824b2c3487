package storetest

import (
	"errors"
	"fmt"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

var expiryCases = []testCase{
	{
		"Expiry/takes a record that has expired already",
		"clocks differ: a login at the edge must be answered by what is true of the session, " +
			"not by an outage",
		func(c *check) {
			for _, ago := range []time.Duration{0, time.Microsecond, time.Second, 400 * day} {
				rec := c.newRecord("alice")
				rec.ExpiresAt = c.now.Add(-ago)
				c.create(rec)
				c.wantStoredOrMissing(rec, "of a record created when it had expired")

				live := c.created("bob")
				gone := rotated(live)
				gone.ExpiresAt = c.now.Add(-ago)
				c.swap(gone)
				c.wantStoredOrMissing(gone, "of a record swapped when it had expired")
			}
		},
	}, {
		"Expiry/does not keep for ever what had expired already",
		"records that nothing ever drops fill the store",
		func(c *check) {
			sweeper := c.sweeper()
			created := c.newRecord("alice")
			created.ExpiresAt = c.now.Add(-time.Second)
			c.create(created)
			swapped := rotated(c.created("alice"))
			swapped.ExpiresAt = c.now.Add(-time.Second)
			c.swap(swapped)
			if _, err := sweeper.Sweep(c.ctx, c.now, 10); err != nil {
				c.errorf("Sweep: %v", err)
			}
			c.wantMissing(created.ID, "alice",
				"of a record created when it had expired, after Sweep")
			c.wantMissing(swapped.ID, "alice",
				"of a record swapped when it had expired, after Sweep")
		},
	}, {
		"Expiry/of one record leaves the subject's others alone",
		"an index that expires with one of its sessions hides the others from the password " +
			"change that should end them",
		func(c *check) {
			expired := c.newRecord("alice")
			expired.ExpiresAt = c.now.Add(-time.Hour)
			c.create(expired)
			first := c.created("alice")
			expired.ID = newID()
			c.create(expired)
			second := c.created("alice")
			swapped := rotated(c.created("alice"))
			swapped.ExpiresAt = c.now.Add(-time.Hour)
			c.swap(swapped)

			c.wantStored(first, "of a record beside one that had expired")
			c.wantStored(second, "of a record beside one that had expired")
			c.wantLiveListed("alice", first, second)
		},
	}, {
		"Expiry/is not early",
		"a store that counts whole seconds, or does not count anew after a refresh, logs its " +
			"users out",
		expiryNotEarly,
	},
}

// expiresByItself is for stores that nobody sweeps.
func expiresByItself(within time.Duration) testCase {
	return testCase{
		"Expiry/drops by itself what has expired",
		"records that nothing ever drops fill the store",
		func(c *check) {
			left := map[string]tokensession.Record{}
			for when, end := range map[string]time.Time{
				"had expired":                 c.now.Add(-time.Second),
				"expired in the distant past": c.now.Add(-400 * day),
				"was about to expire":         c.now.Add(300 * time.Millisecond),
			} {
				created := c.newRecord("alice")
				created.ExpiresAt = end
				left["created when it "+when] = c.create(created)
				swapped := rotated(c.created("alice"))
				swapped.ExpiresAt = end
				left["swapped when it "+when] = c.swap(swapped)
			}
			lives := c.created("alice")
			tick := time.NewTicker(20 * time.Millisecond)
			defer tick.Stop()
			deadline := time.Now().Add(within + 300*time.Millisecond)
			for ; len(left) > 0 && time.Now().Before(deadline); <-tick.C {
				listed := c.list("alice")
				for when, rec := range left {
					_, err := c.store.Load(c.ctx, rec.ID)
					if errors.Is(err, tokensession.ErrNotFound) && indexOf(listed, rec.ID) < 0 {
						delete(left, when)
					}
				}
			}
			for when := range left {
				c.errorf("a record that was %s is still there %v after", when, within)
			}
			c.wantListed("alice", []tokensession.Record{lives})
		},
	}
}

// wantLiveListed fails unless the subject's list has each of live.
func (c *check) wantLiveListed(subject string, live ...tokensession.Record) {
	c.t.Helper()
	recs := c.list(subject)
	for _, want := range live {
		if indexOf(recs, want.ID) < 0 {
			c.errorf("List(%q) lacks a live record", subject)
		}
	}
}

func (c *check) wantStoredOrMissing(want tokensession.Record, when string) {
	c.t.Helper()
	got, err := c.store.Load(c.ctx, want.ID)
	if errors.Is(err, tokensession.ErrNotFound) {
		return
	}
	if err != nil {
		c.errorf("Load %s: %v", when, err)
	} else if d := diff(got, want); d != "" {
		c.errorf("Load %s: %s", when, d)
	}
}

// expiryNotEarly watches records in real time until they have expired. Records that go too late are
// the subject of other cases.
func expiryNotEarly(c *check) {
	start := time.Now().UTC().Truncate(time.Microsecond)
	mortal := map[string]tokensession.Record{}
	for name, expires := range map[string]time.Time{
		"1.7 seconds to live":        start.Add(1700 * time.Millisecond), // 1 by whole seconds
		"the end of a second to die": start.Truncate(time.Second).Add(1900 * time.Millisecond),
	} {
		rec := c.newRecord(name)
		rec.ExpiresAt = expires
		mortal[name] = c.create(rec)
	}
	prolonged := c.newRecord("prolonged")
	prolonged.ExpiresAt = start.Add(time.Second)
	c.create(prolonged)
	prolonged = rotated(prolonged)
	prolonged.ExpiresAt = start.Add(time.Hour)
	c.swap(prolonged)

	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for time.Since(start) < 2*time.Second {
		for name, rec := range mortal {
			_, err := c.store.Load(c.ctx, rec.ID)
			listed := indexOf(c.list(name), rec.ID) >= 0
			if left := time.Until(rec.ExpiresAt); left > 0 && (err != nil || !listed) {
				c.errorf("a record with %s is gone %v before ExpiresAt: Load says %v, listed: %v",
					name, left, err, listed)
				delete(mortal, name)
			}
		}
		<-tick.C
	}
	c.wantStored(prolonged, "after the expiry that a Swap put off")
	c.wantListed("prolonged", []tokensession.Record{prolonged})
}

var sweepCases = []testCase{
	{
		"Sweep/drops what has expired and nothing else",
		"what it drops too much is a logout, what it leaves fills the store",
		func(c *check) {
			sweeper := c.sweeper()
			at := c.now.Add(time.Hour)
			var live []tokensession.Record
			for _, after := range []time.Duration{time.Microsecond, time.Second, day} {
				rec := c.newRecord("alice")
				rec.ExpiresAt = at.Add(after)
				live = append(live, c.create(rec))
			}
			var gone []tokensession.Record
			for _, before := range []time.Duration{0, time.Microsecond, time.Second} {
				rec := c.newRecord("alice")
				rec.ExpiresAt = at.Add(-before)
				gone = append(gone, c.create(rec))
			}
			c.wantSwept(sweeper, at, 100, len(gone))
			for _, rec := range gone {
				c.wantMissing(rec.ID, "alice", "after Sweep")
			}
			c.wantListed("alice", live)
			for _, rec := range live {
				c.wantStored(rec, "of a live record after Sweep")
			}
			c.wantSwept(sweeper, at, 100, 0)
		},
	}, {
		"Sweep/drops no more than its limit",
		"the caller bounds how long a sweep holds the store",
		func(c *check) {
			sweeper := c.sweeper()
			for n := range 10 {
				rec := c.newRecord(fmt.Sprint("user ", n))
				rec.ExpiresAt = c.now.Add(time.Hour)
				c.create(rec)
			}
			at := c.now.Add(2 * time.Hour)
			for _, step := range []struct{ limit, want int }{{0, 0}, {4, 4}, {1, 1}, {5, 5}, {5, 0}} {
				c.wantSwept(sweeper, at, step.limit, step.want)
			}
		},
	}, {
		"Sweep/goes by the expiry of the last write",
		"a session would end a week after its login, however often it is refreshed",
		func(c *check) {
			sweeper := c.sweeper()
			rec := c.newRecord("alice")
			rec.ExpiresAt = c.now.Add(time.Hour)
			c.create(rec)
			rec = rotated(rec)
			rec.ExpiresAt = c.now.Add(2 * time.Hour)
			c.swap(rec)
			c.wantSwept(sweeper, c.now.Add(time.Hour), 10, 0)
			c.wantStored(rec, "after Sweep at its first expiry")
			c.wantSwept(sweeper, c.now.Add(2*time.Hour), 10, 1)
			c.wantMissing(rec.ID, "alice", "after Sweep at its last expiry")
			c.wantError(c.store.Swap(c.ctx, rotated(rec)), tokensession.ErrNotFound,
				"Swap after Sweep")
		},
	}, {
		"Sweep/keeps a revoked record until it expires",
		"a reuse or a late refresh would be told that the session is unknown, and other " +
			"instances not that it was revoked",
		func(c *check) {
			sweeper := c.sweeper()
			rec := c.ended("alice", c.now)
			c.wantSwept(sweeper, c.now.Add(time.Hour), 10, 0)
			c.wantStored(rec, "of a revoked record after Sweep")
		},
	}, {
		"Sweep/does not drop what is refreshed meanwhile",
		"a refresh that was acknowledged would be a logout",
		sweepBesideSwap,
	},
}

func (c *check) wantSwept(sweeper tokensession.Sweeper, now time.Time, limit, want int) {
	c.t.Helper()
	if n, err := sweeper.Sweep(c.ctx, now, limit); n != want || err != nil {
		c.errorf("Sweep with limit %d: %d dropped, error %v; want %d", limit, n, err, want)
	}
}

func sweepBesideSwap(c *check) {
	sweeper := c.sweeper()
	for range 10 {
		recs := make([]tokensession.Record, 8)
		for i := range recs {
			recs[i] = c.newRecord("alice")
			recs[i].ExpiresAt = c.now.Add(time.Hour)
			c.create(recs[i])
		}
		errs := make([]error, len(recs))
		parallel(len(recs)+1, func(i int) {
			if i == len(recs) {
				if _, err := sweeper.Sweep(c.ctx, c.now.Add(time.Hour), 100); err != nil {
					c.errorf("Sweep beside Swap: %v", err)
				}
				return
			}
			recs[i] = rotated(recs[i])
			recs[i].ExpiresAt = c.now.Add(day)
			errs[i] = c.store.Swap(c.ctx, clone(recs[i]))
		})
		for i, err := range errs {
			if err == nil {
				c.wantStored(recs[i], "after a Swap beside Sweep")
			} else {
				c.wantError(err, tokensession.ErrNotFound, "Swap beside Sweep")
			}
		}
	}
}

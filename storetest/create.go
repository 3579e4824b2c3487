package storetest

import (
	"errors"
	"strings"

	"github.com/seed67bc9b7f/tokensession"
)

var createCases = []testCase{
	{
		"Create/keeps every field",
		"a field that is lost or changed ends a session, or authenticates a token that it " +
			"should not",
		func(c *check) {
			rec := c.created("alice")
			c.wantStored(rec, "after Create")
			rec = c.newRecord("alice")
			fullLogin(&rec)
			c.wantStored(c.create(rec), "after Create of a record with every field of a login")
		},
	}, {
		"Create/leaves an existing record as it is",
		"who can overwrite a session can take it over, or bring a revoked one back to life",
		func(c *check) {
			rec := c.swap(rotated(c.created("alice")))
			other := c.newRecord("alice")
			other.ID = rec.ID
			c.wantError(c.store.Create(c.ctx, other), tokensession.ErrExists,
				"Create with an ID that exists")
			c.wantStored(rec, "after the refused Create")
		},
	}, {
		"Create/lists nothing that it refused",
		"the subject would see, and could end, another one's session",
		func(c *check) {
			rec := c.created("alice")
			other := c.newRecord("bob")
			other.ID = rec.ID
			c.wantError(c.store.Create(c.ctx, other), tokensession.ErrExists,
				"Create with an ID that exists")
			c.wantListed("bob", nil)
			c.wantListed("alice", []tokensession.Record{rec})
		},
	}, {
		"Create/may be repeated when its reply was lost",
		"drivers send a request again when the connection broke before the answer: the login " +
			"has to work",
		func(c *check) {
			rec := c.created("alice")
			if err := c.store.Create(c.ctx, clone(rec)); err != nil && !errors.Is(err, tokensession.ErrExists) {
				c.errorf("Create with the same WriteID again: error %v, want nil or ErrExists", err)
			}
			c.wantStored(rec, "after Create was repeated")
			c.wantListed("alice", []tokensession.Record{rec})
		},
	}, {
		"Create/does not undo later writes when repeated",
		"a request that the network delivers late would bring a consumed token, or a revoked " +
			"session, back to life",
		func(c *check) {
			first := c.created("alice")
			rec := c.swap(rotated(first))
			c.wantError(c.store.Create(c.ctx, clone(first)), tokensession.ErrExists,
				"Create repeated after a Swap")
			c.wantStored(rec, "after Create was repeated")
		},
	}, {
		"Create/has one winner of many at once",
		"two logins would share one session, each with a key that the other one does not know",
		createOneWinner,
	},
}

func createOneWinner(c *check) {
	const writers = 32
	for range 4 {
		id := newID()
		recs := make([]tokensession.Record, writers)
		errs := make([]error, writers)
		for i := range recs {
			recs[i] = c.newRecord("alice")
			recs[i].ID = id
		}
		parallel(writers, func(i int) { errs[i] = c.store.Create(c.ctx, clone(recs[i])) })
		if winner := c.winner(errs, tokensession.ErrExists); winner >= 0 {
			c.wantStored(recs[winner], "after parallel Create")
		}
	}
}

// winner returns the index of the only nil among errs, or fails and returns -1. All others have to
// be losing.
func (c *check) winner(errs []error, losing error) int {
	c.t.Helper()
	winners := []int{}
	for i, err := range errs {
		if err == nil {
			winners = append(winners, i)
		} else if !errors.Is(err, losing) {
			c.errorf("one of %d parallel writes: error %v, want nil or %v", len(errs), err, losing)
		}
	}
	if len(winners) != 1 {
		c.errorf("%d of %d parallel writes were acknowledged, want 1", len(winners), len(errs))
		return -1
	}
	return winners[0]
}

var loadCases = []testCase{
	{
		"Load/says ErrNotFound of an unknown ID",
		"any other error means that the store is down: a forged token would be answered by " +
			"\"try again later\" for ever",
		func(c *check) {
			c.created("alice")
			rec, err := c.store.Load(c.ctx, newID())
			c.wantError(err, tokensession.ErrNotFound, "Load of an unknown ID")
			if d := diff(rec, tokensession.Record{}); d != "" {
				c.errorf("Load of an unknown ID returned a record besides its error: %s", d)
			}
		},
	}, {
		"Load/tells IDs apart by every byte",
		"a token of one session would be measured by another one's record: IDs of base64url " +
			"differ by case",
		func(c *check) {
			lower := c.newRecord("alice")
			lower.ID = "session-id_of-22-chars"
			upper := c.newRecord("alice")
			upper.ID = strings.ToUpper(lower.ID)
			c.create(lower)
			for _, id := range []string{upper.ID, lower.ID[:21], lower.ID + "s", lower.ID + " ", "session%", "*"} {
				_, err := c.store.Load(c.ctx, id)
				c.wantError(err, tokensession.ErrNotFound, "Load of an ID like the one that exists")
			}
			c.create(upper)
			c.wantStored(lower, "of the ID in lower case")
			c.wantStored(upper, "of the ID in upper case")
		},
	},
}

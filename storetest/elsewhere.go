package storetest

import (
	"errors"
	"testing"

	"github.com/seed67bc9b7f/tokensession"
)

// RunElsewhere runs the cases for databases that are in several places, of which one is the master.
// A wrong address, a proxy, or a failover that is under way can bring a store to one of the other
// places. It cannot give the right answer there, so it has to return an error that is no verdict.
// If it finds the right answer after all, say by asking the master, that is accepted too.
//
// NewStores makes two stores on places that an operator may take for the same database. They are
// empty. Master is the store at the master. Elsewhere is the store at the other place, such as a
// replica that does not follow, or an old master that is cut off. From then on that place must not
// receive anything that is written through master, and it must not accept writes.
func RunElsewhere(
	t *testing.T, newStores func(t *testing.T) (master, elsewhere tokensession.RefreshStore),
) {
	t.Helper()
	for _, tc := range elsewhereCases {
		t.Run(tc.name, func(t *testing.T) {
			master, elsewhere := newStores(t)
			c := newCheck(t, master, tc.reason)
			c.elsewhere = elsewhere
			tc.run(c)
		})
	}
}

// attempts is how often each call is made elsewhere. A store that finds out by the first call that
// it is in the wrong place must not forget that before the second one.
const attempts = 3

var elsewhereCases = []testCase{
	{
		"Elsewhere/Load gives no verdict",
		"ErrNotFound ends a login: each refresh during a failover would be a logout",
		func(c *check) {
			rec := c.created("alice")
			for range attempts {
				got, err := c.elsewhere.Load(c.ctx, rec.ID)
				if c.couldTell(err, "Load of a session that only the master has") {
					if d := diff(got, rec); d != "" {
						c.errorf("Load of a session that only the master has: %s", d)
					}
				}
			}
		},
	}, {
		"Elsewhere/Load gives no verdict to many at once",
		"calls that share one confirmation would be told more than it says",
		func(c *check) {
			recs := make([]tokensession.Record, 32)
			for i := range recs {
				recs[i] = c.created("alice")
			}
			for range attempts {
				parallel(len(recs), func(i int) {
					got, err := c.elsewhere.Load(c.ctx, recs[i].ID)
					if c.couldTell(err, "one of many Loads of what only the master has") {
						if d := diff(got, recs[i]); d != "" {
							c.errorf("one of many Loads of what only the master has: %s", d)
						}
					}
				})
			}
		},
	}, {
		"Elsewhere/Swap gives no verdict",
		"ErrNotFound is a logout, ErrConflict looks like a theft, and a lost write makes the " +
			"next one so",
		func(c *check) {
			for range attempts {
				rec := c.created("alice")
				ended := revoked(rec, c.now, tokensession.ReasonReuse)
				for _, next := range []tokensession.Record{rotated(rec), ended} {
					err := c.elsewhere.Swap(c.ctx, clone(next))
					if c.couldTell(err, "Swap of a session that only the master has") {
						c.wantStored(next,
							"at the master after a Swap elsewhere that was acknowledged")
						break
					}
					c.wantStored(rec, "at the master after a Swap elsewhere that failed")
				}
			}
		},
	}, {
		"Elsewhere/List is not empty",
		"the password change would end no session, and say that it ended all",
		func(c *check) {
			want := []tokensession.Record{c.created("alice"), c.created("alice")}
			for range attempts {
				got, err := c.elsewhere.List(c.ctx, "alice")
				if c.couldTell(err, "List of a subject that only the master has") {
					c.wantAll(got, want, "List of a subject that only the master has")
				}
			}
		},
	}, {
		"Elsewhere/RevokeSubject does not end nothing",
		"the password change would end no session, and say that it ended all",
		func(c *check) {
			this := *c
			this.store = c.elsewhere
			revoker := this.subjectRevoker()
			for _, subject := range []string{"alice", "bob", "carol"} {
				rec := c.created(subject)
				r := subjectRevocation(subject, c.now)
				got, err := revoker.RevokeSubject(c.ctx, r)
				if c.couldTell(err, "RevokeSubject of a subject that only the master has") {
					rec = subjectRevoked(rec, r.At, r.WriteID)
					all := []tokensession.Record{rec}
					c.wantAll(got, all, "RevokeSubject of a subject that only the master has")
					c.wantStored(rec,
						"at the master after RevokeSubject elsewhere was acknowledged")
				}
			}
		},
	}, {
		"Elsewhere/Create loses no login",
		"the user would hold tokens of a session that is nowhere",
		func(c *check) {
			for range attempts {
				rec := c.newRecord("alice")
				if c.couldTell(c.elsewhere.Create(c.ctx, clone(rec)), "Create of a new record") {
					c.wantStored(rec,
						"at the master after a Create elsewhere that was acknowledged")
				}
			}
		},
	},
}

// couldTell reports whether a call elsewhere succeeded. It fails if the call gave a verdict.
func (c *check) couldTell(err error, what string) bool {
	c.t.Helper()
	for _, verdict := range verdicts {
		if errors.Is(err, verdict) {
			c.errorf("%s gave the verdict %v, want an error that is none, or the right answer",
				what, err)
		}
	}
	return err == nil
}

// wantAll fails unless a successful call elsewhere returned all the records that it should.
func (c *check) wantAll(got, want []tokensession.Record, what string) {
	c.t.Helper()
	if len(got) != len(want) {
		c.errorf("%s: %d records and no error, want %d, or an error", what, len(got), len(want))
	}
	for _, rec := range want {
		if i := indexOf(got, rec.ID); i >= 0 {
			if d := diff(got[i], rec); d != "" {
				c.errorf("%s: %s", what, d)
			}
		}
	}
}

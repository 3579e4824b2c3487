package storetest

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

var swapCases = []testCase{
	{
		"Swap/replaces what a refresh changes",
		"a field that stays behind makes the next refresh look like a theft",
		func(c *check) {
			rec := c.created("alice")
			for range 20 {
				rec = c.swap(rotated(rec))
				c.wantStored(rec, fmt.Sprintf("after version %d", rec.Version))
			}
		},
	}, {
		"Swap/replaces what a revocation changes",
		"the session would live on",
		func(c *check) {
			rec := c.swap(rotated(c.created("alice")))
			rec = c.swap(revoked(rec, c.now, tokensession.ReasonLogout))
			c.wantStored(rec, "after the revocation")
		},
	}, {
		"Swap/refuses any version but the next",
		"a write made from an old read would bring a consumed token back, or undo a revocation",
		swapRefusesVersions,
	}, {
		"Swap/refuses the right version of another write",
		"after a failover that lost writes, a write from before it would undo those made since",
		swapRefusesOtherWrites,
	}, {
		"Swap/says ErrNotFound of an unknown ID and creates nothing",
		"a refresh that runs while its session is dropped would bring the session back",
		func(c *check) {
			rec := c.newRecord("alice")
			for _, version := range []uint64{1, 2} {
				rec.Version = version
				c.wantError(c.store.Swap(c.ctx, clone(rec)), tokensession.ErrNotFound,
					"Swap of an unknown ID")
			}
			c.wantMissing(rec.ID, "alice", "after Swap of an unknown ID")
		},
	}, {
		"Swap/leaves other records alone",
		"one device's refresh would end another one's session",
		func(c *check) {
			mine, same, other := c.created("alice"), c.created("alice"), c.created("bob")
			mine = c.swap(rotated(mine))
			mine = c.swap(revoked(mine, c.now, tokensession.ReasonReuse))
			c.wantStored(mine, "of the record written")
			c.wantStored(same, "of the subject's other record")
			c.wantStored(other, "of another subject's record")
		},
	}, {
		"Swap/has one winner of many at once",
		"one token would be exchanged for two: the family forks and a thief goes unseen",
		swapOneWinner,
	}, {
		"Swap/may be repeated when its reply was lost",
		"drivers send a request again when the connection broke before the answer: that is not " +
			"a theft",
		func(c *check) {
			rec := c.swap(rotated(c.created("alice")))
			for range 3 {
				c.wantAppliedOrConflict(c.store.Swap(c.ctx, clone(rec)),
					"Swap with the same WriteID again")
				c.wantStored(rec, "after Swap was repeated")
			}
			rec = c.swap(revoked(rec, c.now, tokensession.ReasonLogout))
			c.wantAppliedOrConflict(c.store.Swap(c.ctx, clone(rec)),
				"Swap with the same WriteID again, of a revocation")
			c.wantStored(rec, "after the revocation was repeated")
		},
	}, {
		"Swap/is applied once when sent twice at once",
		"a proxy or driver may deliver a request twice: the version must not run ahead, and the " +
			"write is not lost",
		swapSentTwice,
	}, {
		"Swap/does not undo later writes when repeated",
		"a request that the network delivers late would bring a consumed token back to life",
		func(c *check) {
			second := c.swap(rotated(c.created("alice")))
			third := c.swap(rotated(second))
			c.wantError(c.store.Swap(c.ctx, clone(second)), tokensession.ErrConflict,
				"Swap repeated after a later one")
			c.wantStored(third, "after an old Swap was repeated")
		},
	}, {
		"Swap/never undoes a revocation",
		"a session that was ended, perhaps because it was stolen, would live again",
		swapRevokedIsTerminal,
	}, {
		"Swap/keeps a revoked record until it expires",
		"its refresh token would be called unknown, not revoked, and its ID could be created anew",
		func(c *check) {
			rec := c.ended("alice", c.now)
			again := c.newRecord("alice")
			again.ID = rec.ID
			c.wantError(c.store.Create(c.ctx, again), tokensession.ErrExists,
				"Create with the ID of a revoked record")
			c.wantStored(rec, "after the revocation")
		},
	},
}

func swapRefusesVersions(c *check) {
	rec := c.created("alice")
	for range 4 {
		rec = c.swap(rotated(rec))
	}
	for _, version := range []uint64{0, 1, rec.Version - 1, rec.Version, rec.Version + 2, rec.Version + 100, 1 << 40} {
		for name, next := range map[string]tokensession.Record{
			"refresh":    rotated(rec),
			"revocation": revoked(rec, c.now, tokensession.ReasonReuse),
		} {
			next.Version = version
			what := fmt.Sprintf("Swap of version %d by a %s of version %d", rec.Version, name,
				version)
			c.wantError(c.store.Swap(c.ctx, next), tokensession.ErrConflict, what)
		}
	}
	c.wantStored(rec, "after the refused ones")
	rec = c.swap(rotated(rec))
	c.wantStored(rec, "after the right one")
}

func swapRefusesOtherWrites(c *check) {
	first := c.newRecord("alice")
	first.WriteID = "write-id_of-22-letters"
	c.create(first)
	second := rotated(first)
	second.WriteID = "Write-ID_of-22-letters"
	c.swap(second)
	others := map[string]string{
		"that it never had":            newID(),
		"of the version before":        first.WriteID,
		"of other case":                strings.ToLower(second.WriteID),
		"that is longer":               second.WriteID + "s",
		"that is shorter":              second.WriteID[:21],
		"that is empty":                "",
		"that is a pattern":            "%",
		"that has a space at the end":  second.WriteID + " ",
		"that is the one to be stored": "the next",
	}
	for which, writeID := range others {
		for name, next := range map[string]tokensession.Record{
			"refresh":    rotated(second),
			"revocation": revoked(second, c.now, tokensession.ReasonReuse),
		} {
			next.Replaces = writeID
			if writeID == "the next" {
				next.Replaces = next.WriteID
			}
			what := fmt.Sprintf("Swap by a %s that replaces a WriteID %s", name, which)
			c.wantError(c.store.Swap(c.ctx, next), tokensession.ErrConflict, what)
			c.wantStored(second, "after "+what)
		}
	}
	c.swap(revoked(c.swap(rotated(second)), c.now, tokensession.ReasonLogout))
}

func swapOneWinner(c *check) {
	const writers = 32
	rec := c.created("alice")
	for round := range 6 {
		nexts := make([]tokensession.Record, writers)
		errs := make([]error, writers)
		for i := range nexts {
			nexts[i] = rotated(rec)
			nexts[i].RotatedAt = rec.RotatedAt.Add(time.Duration(i) * time.Microsecond)
		}
		parallel(writers, func(i int) { errs[i] = c.store.Swap(c.ctx, clone(nexts[i])) })
		winner := c.winner(errs, tokensession.ErrConflict)
		if winner < 0 {
			return
		}
		rec = nexts[winner]
		c.wantStored(rec, fmt.Sprintf("after round %d of parallel Swap", round+1))
	}
}

func swapSentTwice(c *check) {
	rec := c.created("alice")
	for range 6 {
		next := rotated(rec)
		errs := make([]error, 8)
		parallel(len(errs), func(i int) { errs[i] = c.store.Swap(c.ctx, clone(next)) })
		applied := 0
		for _, err := range errs {
			c.wantAppliedOrConflict(err, "one of several equal Swaps at once")
			if err == nil {
				applied++
			}
		}
		if applied == 0 {
			c.errorf("none of %d equal Swaps at once was acknowledged", len(errs))
		}
		c.wantStored(next, "after several equal Swaps at once")
		rec = next
	}
}

func swapRevokedIsTerminal(c *check) {
	rec := c.created("alice")
	before := rotated(rec) // of a refresh that began before the revocation
	rec = c.swap(revoked(rec, c.now, tokensession.ReasonReuse))

	alive := rotated(rec)
	alive.RevokedAt, alive.RevokeReason = time.Time{}, ""
	still := rotated(rec)
	anew := revoked(rec, c.now.Add(time.Minute), tokensession.ReasonLogout)
	for what, next := range map[string]tokensession.Record{
		"Swap from a read before the revocation":             before,
		"Swap of a revoked record by a live one":             alive,
		"Swap of a revoked record that leaves it revoked":    still,
		"Swap of a revoked record by another one's reason":   anew,
		"Swap of a revoked record, two versions ahead of it": rotated(alive),
	} {
		c.wantError(c.store.Swap(c.ctx, next), tokensession.ErrConflict, what)
		c.wantStored(rec, "after "+what)
	}
}

func (c *check) wantAppliedOrConflict(err error, what string) {
	c.t.Helper()
	if err != nil && !errors.Is(err, tokensession.ErrConflict) {
		c.errorf("%s: error %v, want nil or ErrConflict", what, err)
	}
}

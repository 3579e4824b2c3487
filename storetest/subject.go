package storetest

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

var subjectRevokerCases = []testCase{
	{
		"RevokeSubject/keeps what it ended until it is told to",
		"records of ended sessions would stay for months, or go before other instances have " +
			"heard of them",
		func(c *check) {
			revoker := c.subjectRevoker()
			long, short := c.created("alice"), c.newRecord("alice")
			short.ExpiresAt = c.now.Add(time.Hour)
			c.create(short)
			recs, err := revoker.RevokeSubject(c.ctx, tokensession.SubjectRevocation{
				Subject: "alice", Issuers: []string{issuer}, At: c.now, Reason: subjectReason,
				WriteID: newID(), KeepUntil: c.now.Add(day),
			})
			if err != nil || len(recs) != 2 {
				c.errorf("RevokeSubject: %d records, %v, want 2", len(recs), err)
			}
			for id, want := range map[string]time.Time{long.ID: c.now.Add(day), short.ID: short.ExpiresAt} {
				if got := c.load(id).ExpiresAt; !got.Equal(want) {
					c.errorf("ExpiresAt is %v after RevokeSubject, want %v", got, want)
				}
			}
		},
	},
	{
		"RevokeSubject/revokes every live record of the subject",
		"a session that is missed survives the password change that should end it",
		func(c *check) {
			revoker := c.subjectRevoker()
			var mine []tokensession.Record
			for n := range 40 {
				rec := c.created("alice")
				if n%2 == 0 {
					rec = c.swap(rotated(rec))
				}
				mine = append(mine, rec)
			}
			other := c.created("bob")
			writeID := newID()
			c.wantRevoked(c.revokeSubject(revoker, "alice", nil, c.now, writeID), mine, c.now,
				writeID)
			c.wantStored(other, "of another subject")
			c.wantListed("bob", []tokensession.Record{other})
		},
	}, {
		"RevokeSubject/leaves out what is to be kept",
		"who changes the password would be logged out as well, or a kept ID spare another session",
		func(c *check) {
			revoker := c.subjectRevoker()
			first, second, third := c.created("alice"), c.created("alice"), c.created("alice")
			other := c.created("bob")
			writeID := newID()
			keep := []string{newID(), third.ID, first.ID, other.ID, "", "'"}
			got := c.revokeSubject(revoker, "alice", keep, c.now, writeID)
			c.wantRevoked(got, []tokensession.Record{second}, c.now, writeID)
			for _, rec := range []tokensession.Record{first, third, other} {
				c.wantStored(rec, "of a record to be kept")
			}
		},
	}, {
		"RevokeSubject/tells subjects and kept IDs apart by every byte",
		"one user's password change would log another one out",
		revokeSubjectExact,
	}, {
		"RevokeSubject/leaves other issuers' sessions alone",
		"two services that share a store would end each other's sessions",
		revokeSubjectOfIssuer,
	}, {
		"RevokeSubject/revokes the sessions of every issuer named",
		"a session that began before the issuer was renamed would survive the password change",
		func(c *check) {
			revoker := c.subjectRevoker()
			names := []string{issuer, "https://old.example", "https://older.example"}
			var mine []tokensession.Record
			for _, name := range append(names, names...) {
				rec := c.newRecord("alice")
				rec.Issuer = name
				mine = append(mine, c.create(rec))
			}
			r := subjectRevocation("alice", c.now)
			r.Issuers = append(names, "https://unknown.example")
			c.wantRevoked(c.revoke(revoker, r), mine, r.At, r.WriteID)
		},
	}, {
		"RevokeSubject/changes nothing of a login",
		"a list of ended sessions would show another login, and the session's key could no " +
			"longer be told",
		func(c *check) {
			revoker := c.subjectRevoker()
			var mine []tokensession.Record
			for range 2 {
				rec := c.newRecord("alice")
				fullLogin(&rec)
				mine = append(mine, c.create(rec))
			}
			mine[1] = c.swap(rotated(mine[1]))
			r := subjectRevocation("alice", c.now)
			r.Issuers = []string{mine[0].Issuer}
			c.wantRevoked(c.revoke(revoker, r), mine, r.At, r.WriteID)
		},
	}, {
		"RevokeSubject/leaves revoked and expired records as they are",
		"when and why a session ended would be told wrongly, and expired sessions counted as ended",
		func(c *check) {
			revoker := c.subjectRevoker()
			at := c.now.Add(time.Hour)
			before := c.swap(revoked(c.created("alice"), c.now, tokensession.ReasonReuse))
			ends := map[time.Duration]tokensession.Record{}
			for _, after := range []time.Duration{-time.Second, 0, time.Microsecond} {
				rec := c.newRecord("alice")
				rec.ExpiresAt = at.Add(after)
				ends[after] = c.create(rec)
			}
			writeID := newID()
			c.wantRevoked(c.revokeSubject(revoker, "alice", nil, at, writeID),
				[]tokensession.Record{ends[time.Microsecond]}, at, writeID)
			c.wantStored(before, "of a record that had been revoked before")
			// A store may take at for the time, and drop these.
			c.wantStoredOrMissing(ends[0], "of a record with ExpiresAt == at")
			c.wantStoredOrMissing(ends[-time.Second], "of a record with ExpiresAt < at")
		},
	}, {
		"RevokeSubject/revokes no record at a time before its last refresh",
		"other instances go by that time, and would accept tokens made when a clock was ahead",
		func(c *check) {
			revoker := c.subjectRevoker()
			ahead := c.newRecord("alice")
			ahead.RotatedAt = c.now.Add(time.Hour)
			behind := c.newRecord("alice")
			behind.RotatedAt = c.now.Add(-time.Hour)
			never := c.newRecord("alice")
			never.RotatedAt = time.Time{}
			mine := []tokensession.Record{c.create(ahead), c.create(behind), c.create(never)}
			writeID := newID()
			c.wantRevoked(c.revokeSubject(revoker, "alice", nil, c.now, writeID), mine, c.now,
				writeID)
		},
	}, {
		"RevokeSubject/returns the same again when repeated",
		"after a lost reply the caller has to learn which sessions ended, to refuse their " +
			"access tokens",
		func(c *check) {
			revoker := c.subjectRevoker()
			mine := []tokensession.Record{c.created("alice"), c.swap(rotated(c.created("alice")))}
			keep := []string{c.created("alice").ID}
			writeID := newID()
			for n := range 3 { // later each time
				at := c.now.Add(time.Duration(n) * time.Millisecond)
				got := c.revokeSubject(revoker, "alice", keep, at, writeID)
				c.wantRevoked(got, mine, c.now, writeID)
			}
			got := c.revokeSubject(revoker, "alice", keep, c.now.Add(time.Second), newID())
			if len(got) != 0 {
				c.errorf("RevokeSubject by another write, with nothing left to revoke, "+
					"returned %d records", len(got))
			}
			for _, rec := range mine {
				c.wantStored(subjectRevoked(rec, c.now, writeID),
					"after RevokeSubject by another write")
			}
		},
	}, {
		"RevokeSubject/makes a refresh from before conflict",
		"a refresh that was under way would bring the session back to life",
		func(c *check) {
			revoker := c.subjectRevoker()
			rec := c.created("alice")
			next := rotated(rec)
			writeID := newID()
			c.revokeSubject(revoker, "alice", nil, c.now, writeID)
			err := c.store.Swap(c.ctx, next)
			c.wantError(err, tokensession.ErrConflict, "Swap from a read before RevokeSubject")
			c.wantStored(subjectRevoked(rec, c.now, writeID), "after that Swap")
		},
	}, {
		"RevokeSubject/revokes what is refreshed meanwhile",
		"a thief who refreshes at the right moment would survive the password change",
		revokeSubjectBesideSwap,
	}, {
		"RevokeSubject/does nothing for an unknown subject",
		"an error would be taken for an outage",
		func(c *check) {
			revoker := c.subjectRevoker()
			rec := c.created("alice")
			if recs := c.revokeSubject(revoker, "nobody", nil, c.now, newID()); len(recs) != 0 {
				c.errorf("RevokeSubject of an unknown subject returned %d records", len(recs))
			}
			c.wantStored(rec, "of another subject")
		},
	},
}

func revokeSubjectExact(c *check) {
	revoker := c.subjectRevoker()
	subjects := hostileSubjects()
	records := make(map[string]tokensession.Record)
	for _, subject := range subjects {
		records[subject] = c.created(subject)
	}
	for i, subject := range subjects {
		writeID := newID()
		got := c.revokeSubject(revoker, subject, nil, c.now, writeID)
		c.wantRevoked(got, []tokensession.Record{records[subject]}, c.now, writeID)
		if i+1 < len(subjects) {
			next := subjects[i+1]
			c.wantStored(records[next], fmt.Sprintf("of %q after RevokeSubject(%q)", next, subject))
		}
	}

	rec := c.newRecord("kept")
	rec.ID = "session-id_of-22-chars"
	c.create(rec)
	writeID := newID()
	keep := []string{"SESSION-ID_OF-22-CHARS", "session-id_of-22-char", "session-id_of-22-chars ",
		"%"}
	got := c.revokeSubject(revoker, "kept", keep, c.now, writeID)
	c.wantRevoked(got, []tokensession.Record{rec}, c.now, writeID)
}

func revokeSubjectBesideSwap(c *check) {
	revoker := c.subjectRevoker()
	const sessions = 8
	for round := range 6 {
		subject := fmt.Sprint("user ", round)
		recs := make([]tokensession.Record, sessions)
		for i := range recs {
			recs[i] = c.created(subject)
		}
		var returned []tokensession.Record
		writeID := newID()
		parallel(sessions+1, func(i int) {
			if i == sessions {
				returned = c.revokeSubject(revoker, subject, nil, c.now, writeID)
				return
			}
			for range 20 { // until RevokeSubject gets hold of it
				next := rotated(recs[i])
				if err := c.store.Swap(c.ctx, next); err != nil {
					c.wantError(err, tokensession.ErrConflict, "Swap beside RevokeSubject")
					return
				}
				recs[i] = next
			}
		})
		c.wantRevoked(returned, recs, c.now, writeID)
	}
}

// revokeSubjectOfIssuer ends the sessions of one issuer after the other. Their names differ by a
// byte.
func revokeSubjectOfIssuer(c *check) {
	revoker := c.subjectRevoker()
	names := []string{issuer, issuer + "/", strings.ToUpper(issuer), issuer[:len(issuer)-1]}
	// Those of them that differ by case, spaces, accents and patterns are enough.
	names = append(names, hostileSubjects()[:26]...)
	records := make([]tokensession.Record, len(names))
	for i, name := range names {
		records[i] = c.newRecord("alice")
		records[i].Issuer = name
		c.create(records[i])
	}
	r := subjectRevocation("alice", c.now)
	r.Issuers = []string{"https://unknown.example", "https://auth%"}
	c.wantRevoked(c.revoke(revoker, r), []tokensession.Record{}, r.At, r.WriteID)
	for i, name := range names {
		r := subjectRevocation("alice", c.now)
		r.Issuers = []string{name}
		c.wantRevoked(c.revoke(revoker, r), records[i:i+1], r.At, r.WriteID)
		if i+1 < len(names) {
			next := fmt.Sprintf("of issuer %q after RevokeSubject for %q", names[i+1], name)
			c.wantStored(records[i+1], next)
		}
	}
}

const subjectReason = tokensession.ReasonSubjectRevoked

// subjectRevocation returns an order to end the subject's sessions, by a write of its own.
func subjectRevocation(subject string, at time.Time) tokensession.SubjectRevocation {
	return tokensession.SubjectRevocation{
		Subject: subject, Issuers: []string{issuer},
		At: at, Reason: subjectReason, WriteID: newID(),
	}
}

func (c *check) revokeSubject(
	revoker tokensession.SubjectRevoker, subject string, keep []string,
	at time.Time, writeID string,
) []tokensession.Record {
	c.t.Helper()
	r := subjectRevocation(subject, at)
	r.Keep, r.WriteID = keep, writeID
	return c.revoke(revoker, r)
}

func (c *check) revoke(
	revoker tokensession.SubjectRevoker, r tokensession.SubjectRevocation,
) []tokensession.Record {
	c.t.Helper()
	recs, err := revoker.RevokeSubject(c.ctx, r)
	if err != nil {
		c.errorf("RevokeSubject(%q) of issuers %q: %v", r.Subject, r.Issuers, err)
	}
	return recs
}

// subjectRevoked returns rec as RevokeSubject has to leave it.
func subjectRevoked(rec tokensession.Record, at time.Time, writeID string) tokensession.Record {
	if at.Before(rec.RotatedAt) {
		at = rec.RotatedAt
	}
	rec = revoked(rec, at, subjectReason)
	rec.WriteID = writeID
	return rec
}

// wantRevoked fails unless got are the records that RevokeSubject had to revoke, as they are stored
// now. Before are the same ones as they were.
func (c *check) wantRevoked(got, before []tokensession.Record, at time.Time, writeID string) {
	c.t.Helper()
	c.wantIDs(got, before...)
	for _, rec := range before {
		want := subjectRevoked(rec, at, writeID)
		c.wantStored(want, "after RevokeSubject")
		if i := indexOf(got, rec.ID); i >= 0 {
			if d := diff(got[i], want); d != "" {
				c.errorf("RevokeSubject returned a record that is not as it is now: %s", d)
			}
		}
	}
}

// wantIDs fails unless the records are those of want, in any order, each once.
func (c *check) wantIDs(got []tokensession.Record, want ...tokensession.Record) {
	c.t.Helper()
	for _, rec := range want {
		if indexOf(got, rec.ID) < 0 {
			c.errorf("RevokeSubject returned %d records and lacks one it has to revoke", len(got))
		}
	}
	for i, rec := range got {
		if indexOf(want, rec.ID) < 0 || indexOf(got, rec.ID) != i {
			c.errorf("RevokeSubject returned a record of subject %q twice, "+
				"or one that it must not revoke", rec.Subject)
		}
	}
}

package storetest

import (
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

var listCases = []testCase{
	{
		"List/tells subjects apart by every byte",
		"a user would see another one's sessions, and log that one out",
		func(c *check) {
			records := make(map[string]tokensession.Record)
			for _, subject := range hostileSubjects() {
				records[subject] = c.created(subject)
			}
			for _, subject := range hostileSubjects() {
				c.wantListed(subject, []tokensession.Record{records[subject]})
			}
		},
	}, {
		"List/puts the oldest first",
		"a limit on sessions a subject ends the oldest: the wrong device would be logged out",
		listOldestFirst,
	}, {
		"List/has every live record",
		"a session that is not listed survives the password change that should end it",
		func(c *check) {
			var mine, other []tokensession.Record
			for n := range 250 {
				rec := c.newRecord("alice")
				rec.CreatedAt = c.now.Add(time.Duration(n) * time.Second)
				mine = append(mine, c.create(rec))
				if n%10 == 0 {
					other = append(other, c.created("bob"))
				}
			}
			c.wantListed("alice", mine)
			c.wantListed("bob", other)
		},
	}, {
		"List/has records as they are now",
		"ending a subject's sessions swaps what List returned: from an old version it ends nothing",
		func(c *check) {
			first, second := c.created("alice"), c.created("alice")
			first = c.swap(rotated(c.swap(rotated(first))))
			c.wantListed("alice", []tokensession.Record{first, second})
			second = c.swap(rotated(second))
			c.wantListed("alice", []tokensession.Record{first, second})
		},
	}, {
		"List/has the live ones after another was revoked",
		"logging out of one device must not hide the others",
		func(c *check) {
			first, second, third := c.created("alice"), c.created("alice"), c.created("alice")
			second = c.swap(revoked(second, c.now, tokensession.ReasonLogout))
			c.wantListed("alice", []tokensession.Record{first, third}, second)
			recs := c.list("alice")
			if i := indexOf(recs, second.ID); i >= 0 && recs[i].RevokedAt.IsZero() {
				c.errorf("List shows the revoked record as live")
			}
		},
	}, {
		"List/has nothing of an unknown subject",
		"a user's first login asks for the sessions before: it would fail",
		func(c *check) {
			c.created("alice")
			for _, subject := range []string{"nobody", "", "alic", "alice2"} {
				if recs := c.list(subject); len(recs) != 0 {
					c.errorf("List(%q) has %d records, want none", subject, len(recs))
				}
			}
		},
	},
}

func listOldestFirst(c *check) {
	const n = 20
	byAge := make([]tokensession.Record, n)
	for i := range n {
		place := i * 7 % n // in an order that is neither that of age nor the reverse
		rec := c.newRecord("alice")
		rec.CreatedAt = c.now.Add(time.Duration(place-n) * 3 * time.Microsecond)
		rec.ExpiresAt = c.now.Add(time.Duration(1+i*11%n) * day)
		byAge[place] = c.create(rec)
	}
	for i := 0; i < n; i += 3 { // an order by the last write would show
		byAge[i] = c.swap(rotated(byAge[i]))
	}
	recs := c.list("alice")
	if len(recs) != n {
		c.fatalf("List has %d records, want %d", len(recs), n)
	}
	for i, rec := range recs {
		if rec.ID != byAge[i].ID {
			c.errorf("List has the record created at %v in place %d, want the one of %v",
				rec.CreatedAt.Format(time.RFC3339Nano), i, byAge[i].CreatedAt.Format(time.RFC3339Nano))
		}
	}
}

// hostileSubjects are subjects that databases, patterns, and foldings of case or accents take for
// one another. A Manager lets all of them pass: it refuses control characters.
func hostileSubjects() []string {
	subjects := []string{
		"alice", "Alice", "ALICE", "alice ", " alice", "alice  ", "alice\u00a0",
		"al\u00edce", "ali\u0301ce", "ali\u0302ce", "ali\u200bce", "ali\u00adce", "\u0430lice",
		"ａlice", "\ufeffalice",
		"alice%", "alic_", "alic%", "%", "_", "*", "?", "alic?", "alic*", "[a]lice", "[^b]lice",
		"al.ce", "^alice$",
		`alice'`, `alice"`, "alice`", `alice\`, `alice\\`, `'alice'`, `alice' OR '1'='1`, "alice--", "alice;", "alice/*",
		"alice:1", "alice:1:2", ":alice", "{alice}", "{alice}1", "alice{1}", "{}alice", "{alice", "alice}",
		"stra\u00dfe", "strasse", "STRASSE", "K", "k", "\u212a", "I", "i", "\u0131", "\u0130", "fi", "\ufb01", "ǆ", "ǅ",
		"0", "00", "0.0", "0x0", "1", "1e0", "1.0", "-0", "null", "NULL", "nil", "true", "💩", "💪",
		"https://issuer.example/users/7?x=1#y", "auth0|5f7c", "alice@example.com", "Alice@example.com",
	}
	for _, end := range []string{"", "a", "b", " "} { // of up to 255 bytes, the longest that a Manager lets pass
		subjects = append(subjects, strings.Repeat("long", 63)+"ab"+end, strings.Repeat("\u00e9", 127)+end)
	}
	return subjects
}

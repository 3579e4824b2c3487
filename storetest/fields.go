package storetest

import (
	"bytes"
	"math"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

var fieldCases = []testCase{
	{
		"Fields/times to the microsecond",
		"a time cut to seconds or milliseconds moves the end of a grace period, and ends " +
			"sessions early",
		func(c *check) {
			for _, fraction := range []time.Duration{1, 999, 1000, 1001, 123_456, 500_000, 999_999} {
				at := c.now.Truncate(time.Second).Add(-time.Second + fraction*time.Microsecond)
				c.roundTrip(func(r *tokensession.Record) {
					r.AuthTime, r.CreatedAt = at, at.Add(1*time.Second)
					r.ConsumedAt, r.RotatedAt = at.Add(2*time.Second), at.Add(3*time.Second)
					r.ExpiresAt, r.MaxExpiresAt = at.Add(7*day), at.Add(30*day)
				})
			}
		},
	}, {
		"Fields/zero times",
		"a zero RevokedAt that comes back as a time revokes every session; a zero MaxExpiresAt " +
			"that does ends it",
		func(c *check) {
			c.roundTrip(func(r *tokensession.Record) {
				r.AuthTime, r.ConsumedAt = time.Time{}, time.Time{}
				r.MaxExpiresAt, r.RevokedAt = time.Time{}, time.Time{}
			})
		},
	}, {
		"Fields/times before and after 1970",
		"a store that writes zero times as 0 turns the first instant of 1970 into one",
		func(c *check) {
			for _, us := range []int64{0, -1, 1, -1_500_000, 1_000_000} {
				c.roundTrip(func(r *tokensession.Record) { r.AuthTime = time.UnixMicro(us).UTC() })
			}
		},
	}, {
		"Fields/times at a change of daylight saving",
		"a store that keeps local time moves these by an hour",
		func(c *check) {
			for _, at := range []string{"2026-03-29T01:30:00Z", "2026-03-29T02:30:00Z",
				"2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z",
				"2026-03-08T07:30:00Z", "2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z"} {
				auth, _ := time.Parse(time.RFC3339, at)
				c.roundTrip(func(r *tokensession.Record) { r.AuthTime = auth.UTC() })
			}
		},
	}, {
		"Fields/times in UTC",
		"times that look different on each server end up in answers and logs, and in " +
			"comparisons with ==",
		func(c *check) {
			for _, zone := range []*time.Location{
				time.FixedZone("", 0), time.FixedZone("IST", 19800), time.FixedZone("PST", -28800),
			} {
				c.roundTrip(func(r *tokensession.Record) {
					r.AuthTime, r.CreatedAt = r.AuthTime.In(zone), r.CreatedAt.In(zone)
					r.RotatedAt = r.RotatedAt.In(zone)
					r.ExpiresAt, r.MaxExpiresAt = r.ExpiresAt.In(zone), r.MaxExpiresAt.In(zone)
				})
			}
		},
	}, {
		"Fields/expiry in the year 9999",
		"a store that counts the time to live in nanoseconds overflows after 292 years, and " +
			"drops the session at once",
		func(c *check) {
			c.roundTrip(func(r *tokensession.Record) {
				r.ExpiresAt = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
				r.MaxExpiresAt = r.ExpiresAt
			})
		},
	}, {
		"Fields/attributes of any text",
		"they are the host's: names of devices and people, and what browsers say of themselves",
		func(c *check) { c.roundTrip(func(r *tokensession.Record) { r.Attributes = hostileAttributes() }) },
	}, {
		"Fields/no attributes",
		"the contract has nil or not empty, so that records can be compared",
		func(c *check) { c.roundTrip(func(r *tokensession.Record) { r.Attributes = nil }) },
	}, {
		"Fields/attributes that a Swap replaces or removes",
		"a host that takes an attribute back, an address say, would go on showing it",
		func(c *check) {
			rec := c.created("alice")
			for _, attributes := range []map[string]string{
				{"device": "another"}, {"place": "Kyiv", "device": ""}, nil, {"ip": "::1"},
			} {
				rec = rotated(rec)
				rec.Attributes = attributes
				c.swap(rec)
				c.wantStored(rec, "after Swap changed the attributes")
			}
		},
	}, {
		"Fields/key of any bytes",
		"a key that is kept as text is damaged: no refresh token of the session is ever valid " +
			"again",
		func(c *check) {
			every := make([]byte, 256)
			for i := range every {
				every[i] = byte(i)
			}
			for ; len(every) > 0; every = every[32:] {
				c.roundTrip(func(r *tokensession.Record) { r.Key = every[:32:32] })
			}
			for _, b := range []byte{0, ' ', 0xff} {
				c.roundTrip(func(r *tokensession.Record) { r.Key = bytes.Repeat([]byte{b}, 32) })
			}
		},
	}, {
		"Fields/large generations",
		"a store that computes in floating point takes 2^53+1 for 2^53, and the live token for " +
			"a consumed one",
		func(c *check) {
			for _, n := range []uint64{math.MaxUint32, math.MaxUint32 + 1, 1<<53 + 1, math.MaxInt64} {
				c.roundTrip(func(r *tokensession.Record) { r.Generation, r.Predecessor = n, n-1 })
			}
		},
	}, {
		"Fields/client of any text, and every reason",
		"a client that comes back as another one is refused its own session",
		func(c *check) {
			for _, s := range append([]string{""}, hostileSubjects()...) {
				c.roundTrip(func(r *tokensession.Record) { r.ClientID = s })
			}
			for _, reason := range []tokensession.Reason{"", tokensession.ReasonLogout,
				tokensession.ReasonRevoked,
				tokensession.ReasonSubjectRevoked, tokensession.ReasonReuse,
				tokensession.ReasonDenied,
				tokensession.ReasonReplaced, tokensession.ReasonMaxSessions} {
				rec := c.swap(revoked(c.created("alice"), c.now, reason))
				c.wantStored(rec, "after a revocation")
			}
		},
	}, {
		"Fields/no memory shared with the caller",
		"a host that fills one map anew for each request would rewrite other users' sessions",
		fieldsIsolated,
	},
}

// roundTrip writes a record, changed by change, by Create and by Swap, and reads it by Load and by
// List.
func (c *check) roundTrip(change func(*tokensession.Record)) {
	c.t.Helper()
	rec := c.newRecord("round trip " + newID())
	change(&rec)
	c.create(rec)
	c.wantStored(rec, "after Create")
	c.wantListed(rec.Subject, []tokensession.Record{rec})

	plain := c.created("round trip " + newID())
	next := rotated(plain)
	change(&next)
	next.CreatedAt = plain.CreatedAt // no write changes it: a store may sort by the first
	c.swap(next)
	c.wantStored(next, "after Swap")
	c.wantListed(next.Subject, []tokensession.Record{next})
}

// hostileAttributes are within what a Manager lets pass: 32 of them, 4096 bytes, no control
// characters in names.
func hostileAttributes() map[string]string {
	m := map[string]string{
		"empty":                "",
		"space":                " ",
		"spaces around":        "  x  ",
		"quotes":               `it's "so" ` + "`called`",
		"backslash":            `C:\temp\n \\ \' \u0041 \x41 %5C`,
		"lines":                "one\ntwo\r\nthree\n",
		"control":              "\x01\x02\t\v\x1b[31m\x7f",
		"accents":              "Zoë Ångström, n\u0303",
		"scripts":              "Пристрій 设备 デバイス جهاز",
		"beyond 16 bits":       "👩🏽‍💻 𝒳 🏳️‍🌈",
		"replacement, BOM":     "\ufffd\ufeff\u2028",
		"JSON":                 `{"a":[null,1e5],"b":"\u0000"}`,
		"number":               "0123",
		"null":                 "NULL",
		"SQL":                  `'); DROP TABLE sessions; --`,
		"format":               "%s %d $1 ? :name @x {{.}}",
		"markup":               "<b>&amp;</b>",
		"long":                 strings.Repeat("long ", 200),
		"Case":                 "upper",
		"case":                 "lower",
		"case ":                "with a space behind",
		"a=b&c;d,e:f|\"g\"'\\": "a name with separators",
	}
	// Names that a store may use itself.
	for _, name := range []string{"id", "version", "write_id", "subject", "key", "expires_at", "revoked_at", "__proto__"} {
		m[name] = "the host's " + name
	}
	return m
}

func fieldsIsolated(c *check) {
	c.t.Helper()
	spoil := func(rec tokensession.Record) {
		for name := range rec.Attributes {
			rec.Attributes[name] = "spoiled"
		}
		for i := range rec.AuthMethods {
			rec.AuthMethods[i] = "spoiled"
		}
		for i := range rec.Key {
			rec.Key[i] ^= 0xff
		}
	}
	rec := c.newRecord("alice")
	rec.AuthMethods = []string{"otp", "pwd"}

	given := clone(rec)
	if err := c.store.Create(c.ctx, given); err != nil {
		c.fatalf("Create: %v", err)
	}
	spoil(given)
	c.wantStored(rec, "after the caller changed what it gave to Create")

	rec = rotated(rec)
	given = clone(rec)
	if err := c.store.Swap(c.ctx, given); err != nil {
		c.fatalf("Swap: %v", err)
	}
	spoil(given)
	c.wantStored(rec, "after the caller changed what it gave to Swap")

	spoil(c.load(rec.ID))
	c.wantStored(rec, "after the caller changed what it got from Load")

	if i := indexOf(c.list("alice"), rec.ID); i >= 0 {
		spoil(c.list("alice")[i])
	}
	c.wantStored(rec, "after the caller changed what it got from List")
	c.wantListed("alice", []tokensession.Record{rec})
}

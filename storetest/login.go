package storetest

import (
	"math"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// loginCases are about the fields that are chosen at login: how the user proved who they are, for
// how long that holds, and to which key and actor the session is bound.
var loginCases = []testCase{
	{
		"Fields/issuer of any text",
		"a session whose issuer comes back as another one is refused, or ended by another service",
		func(c *check) {
			names := []string{issuer + "/", strings.ToUpper(issuer), ""}
			for _, s := range append(names, hostileSubjects()...) {
				c.roundTrip(func(r *tokensession.Record) { r.Issuer = s })
			}
		},
	}, {
		"Fields/actor and authentication context of any text",
		"access tokens would name another actor, or claim a stronger login than there was",
		func(c *check) {
			texts := append([]string{"", "urn:mace:incommon:iap:silver"}, hostileSubjects()...)
			for i, actor := range texts {
				authContext := texts[len(texts)-1-i]
				c.roundTrip(func(r *tokensession.Record) { r.Actor, r.AuthContext = actor, authContext })
			}
			c.roundTrip(func(r *tokensession.Record) { r.Actor, r.AuthContext = "", "" })
		},
	}, {
		"Fields/authentication methods",
		"access tokens would claim a login that did not happen, with a second factor, say",
		func(c *check) {
			for _, methods := range [][]string{
				nil, {"pwd"}, {"pwd", "otp", "mfa"}, {"otp", "pwd"}, {"pwd", "pwd"}, {"a,b", "c"},
				{"a b", "c"},
				{""}, {"", ""}, {"pwd", ""}, {"null"}, {"[]"}, {"{}"}, {`{"a"}`, `\`},
				hostileSubjects(),
			} {
				c.roundTrip(func(r *tokensession.Record) { r.AuthMethods = methods })
			}
		},
	}, {
		"Fields/key thumbprint",
		"the session would be bound to another key, or to none, and a stolen token works " +
			"without the key",
		func(c *check) {
			for _, thumbprint := range []string{
				"", "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs",
				"nzblsxh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9xs",
				strings.Repeat("-", 43), strings.Repeat("0", 43),
			} {
				c.roundTrip(func(r *tokensession.Record) { r.KeyThumbprint = thumbprint })
			}
		},
	}, {
		"Fields/epoch, up to the largest",
		"an epoch that comes back smaller makes outdated access tokens valid again",
		func(c *check) {
			for _, epoch := range []uint64{
				0, 1, 127, 128, math.MaxUint32, math.MaxUint32 + 1, 1<<53 + 1, math.MaxInt64,
			} {
				c.roundTrip(func(r *tokensession.Record) { r.Epoch, r.OutdatedAt = epoch, c.now })
			}
		},
	}, {
		"Fields/time at which a session was outdated",
		"other instances would forget too early that access tokens are outdated",
		func(c *check) {
			for _, at := range []time.Time{
				{}, c.now, c.now.Add(-day + time.Microsecond),
				time.UnixMicro(0).UTC(), time.UnixMicro(-1).UTC(),
				c.now.In(time.FixedZone("IST", 19800)),
			} {
				c.roundTrip(func(r *tokensession.Record) { r.Epoch, r.OutdatedAt = 1, at })
				c.roundTrip(func(r *tokensession.Record) { r.Epoch, r.OutdatedAt = 0, at })
			}
		},
	}, {
		"Fields/idle time from a microsecond to a century",
		"the next refresh would give the session another length than was chosen at login",
		func(c *check) {
			for _, idle := range []time.Duration{
				0, time.Microsecond, time.Millisecond + time.Microsecond,
				time.Second - time.Microsecond,
				15 * time.Minute, 30 * day, 25 * 365 * day, 100*365*day + 123_456*time.Microsecond,
			} {
				c.roundTrip(func(r *tokensession.Record) { r.IdleTTL = idle })
			}
		},
	}, {
		"Fields/transient or not",
		"a session on a computer that others use would stay when the browser is closed",
		func(c *check) {
			for _, transient := range []bool{true, false} {
				c.roundTrip(func(r *tokensession.Record) { r.Transient = transient })
			}
		},
	}, {
		"Fields/of a login that a Swap replaces or removes",
		"a step that makes a login stronger would not be seen, or one that is taken back would " +
			"stay",
		func(c *check) {
			rec := c.created("alice")
			for _, change := range []func(*tokensession.Record){
				fullLogin, otherLogin, noLogin, otherLogin, fullLogin, noLogin,
			} {
				rec = rotated(rec)
				change(&rec)
				c.swap(rec)
				c.wantStored(rec, "after Swap changed the login")
				c.wantListed("alice", []tokensession.Record{rec})
			}
		},
	}, {
		"Fields/of a login that later writes leave alone",
		"the session would be bound to no key after a refresh, say, and a stolen token works " +
			"without it",
		func(c *check) {
			rec := c.newRecord("alice")
			fullLogin(&rec)
			c.create(rec)
			for range 3 {
				rec = c.swap(rotated(rec))
				c.wantStored(rec, "after a refresh")
			}
			rec = c.swap(outdated(rec, c.now))
			c.wantStored(rec, "after its access tokens were outdated")
			rec = c.swap(revoked(rec, c.now, tokensession.ReasonLogout))
			c.wantStored(rec, "after the revocation")
		},
	}, {
		"Fields/what a write replaces is not stored",
		"the next write would be made from a value that says nothing of the record",
		func(c *check) {
			rec := c.newRecord("alice")
			rec.Replaces = newID()
			c.create(rec)
			c.wantStored(rec, "after Create of a record with Replaces")
			c.wantListed("alice", []tokensession.Record{rec})
			rec = c.swap(rotated(rec))
			c.wantStored(rec, "after Swap")
			c.wantListed("alice", []tokensession.Record{rec})
		},
	},
}

// fullLogin gives every field of a login a value.
func fullLogin(r *tokensession.Record) {
	r.Issuer, r.Actor, r.AuthContext = "https://login.example", "agent-7", "urn:example:loa:2"
	r.AuthMethods = []string{"pwd", "otp"}
	r.KeyThumbprint = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
	r.Epoch, r.OutdatedAt = 3, r.CreatedAt.Add(-time.Minute)
	r.IdleTTL, r.Transient = 30*time.Minute, true
}

// otherLogin gives them other values.
func otherLogin(r *tokensession.Record) {
	r.Issuer, r.Actor, r.AuthContext = "https://login2.example", "agent-8", "urn:example:loa:1"
	r.AuthMethods = []string{"hwk"}
	r.KeyThumbprint = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
	r.Epoch, r.OutdatedAt = 7, r.CreatedAt.Add(time.Minute)
	r.IdleTTL, r.Transient = 90*day, true
}

// noLogin takes away those that a session need not have.
func noLogin(r *tokensession.Record) {
	r.Actor, r.AuthContext, r.AuthMethods, r.KeyThumbprint = "", "", nil, ""
	r.Epoch, r.OutdatedAt = 0, time.Time{}
	r.IdleTTL, r.Transient = 0, false
}

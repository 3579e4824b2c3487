package tokensession

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func boundTo(key string) Record {
	rec := decisionRecord()
	rec.KeyThumbprint = key
	return rec
}

// recoveredBy is a record after the key's holder has lost replies.
func recoveredBy(key string, times uint64) Record {
	rec := boundTo(key)
	rec.Generation += times
	return rec
}

// renewedAfter is decisionRecord, bound to a key, and with a grace period that began anew so long
// after the rotation.
func renewedAfter(key string, d time.Duration) Record {
	rec := boundTo(key)
	rec.RotatedAt = at(d)
	return rec
}

// The session is bound to K, or to none. The token was made for a key, or is plain. The client has
// proved a key, or none. decisionRecord is at generation 5, and 4 was consumed.
func TestDecide_byKey(t *testing.T) {
	const week = 7 * 24 * time.Hour
	usual := rules{refreshTTL: week, grace: 10 * time.Second}
	strict := rules{refreshTTL: week}
	mobile := rules{refreshTTL: week, grace: 10 * time.Second, recovery: time.Hour}
	revokedAlready := boundTo("K").revoke(at(time.Second), ReasonLogout)
	token := func(n uint64, made, proven string) presentation {
		return presentation{generation: n, boundTo: made, proven: proven}
	}
	by := func(a author, p presentation) presentation { p.author = a; return p }
	good := func(reached uint64, p presentation) presentation {
		p.good, p.reached = true, reached
		return p
	}
	denied := func(p presentation) presentation { p.denied = true; return p }

	for _, c := range []struct {
		name  string
		rules rules
		rec   Record
		p     presentation
		at    time.Duration
		want  outcome
		key   string // after that
	}{
		// A bound token with its key.
		{"the live one", usual, boundTo("K"), token(5, "K", "K"), time.Minute, rotated, "K"},
		{"newer", usual, boundTo("K"), token(6, "K", "K"), time.Minute, healed, "K"},
		{"in the grace", usual, boundTo("K"), token(4, "K", "K"), time.Second, replayed, "K"},
		{"after the grace", usual, boundTo("K"), token(4, "K", "K"), 10 * time.Second, recovered, "K"},
		{"after the recovery period", mobile, boundTo("K"), token(4, "K", "K"), 6 * 24 * time.Hour, recovered, "K"},
		{"at the end", usual, boundTo("K"), token(4, "K", "K"), week, expired, "K"},
		{"n-2", usual, boundTo("K"), token(3, "K", "K"), time.Second, reused, "K"},
		{"strict", strict, boundTo("K"), token(4, "K", "K"), time.Second, reused, "K"},
		{"in doubt", usual, boundTo("K"), by(undelivered, token(4, "K", "K")), time.Second, renewed, "K"},
		{"in doubt, and renewed before", usual, renewedAfter("K", 19*time.Second), by(undelivered, token(4, "K", "K")), 20*time.Second - us, renewed, "K"},
		{"in doubt, and renewed for too long", usual, renewedAfter("K", 19*time.Second), by(undelivered, token(4, "K", "K")), 20 * time.Second, replayed, "K"},
		{"the call runs", usual, boundTo("K"), by(running, token(4, "K", "K")), time.Hour, renewed, "K"},
		{"denied", usual, boundTo("K"), denied(token(5, "K", "K")), time.Minute, unrevoked, "K"},
		{"denied, reuse", usual, boundTo("K"), denied(token(3, "K", "K")), time.Minute, reused, "K"},

		// The store has lost the write that bound the session.
		{"lost, newer", usual, decisionRecord(), token(6, "P", "P"), time.Minute, healed, "P"},
		{"lost, the live one", usual, decisionRecord(), token(5, "P", "P"), time.Minute, rotated, "P"},
		{"lost, in the grace", usual, decisionRecord(), token(4, "P", "P"), time.Second, replayed, ""},
		{"lost, after the grace", usual, decisionRecord(), token(4, "P", "P"), time.Hour, recovered, "P"},
		{"lost, n-2", usual, decisionRecord(), token(3, "P", "P"), time.Second, reused, ""},
		{"lost, and bound by somebody else, newer", usual, boundTo("K"), token(6, "P", "P"), time.Minute, reused, "K"},
		{"lost, and bound by somebody else, in the grace", usual, boundTo("K"), token(4, "P", "P"), time.Second, reused, "K"},
		{"lost, and bound by somebody else, and the call runs", usual, boundTo("K"), by(running, token(4, "P", "P")), time.Second, reused, "K"},

		// A bound token without its key.
		{"no proof, the live one", usual, boundTo("K"), token(5, "K", ""), time.Minute, unproved, "K"},
		{"no proof, newer", usual, boundTo("K"), token(6, "K", ""), time.Minute, unproved, "K"},
		{"no proof, in the grace", usual, boundTo("K"), token(4, "K", ""), time.Second, unproved, "K"},
		{"no proof, after the grace", usual, boundTo("K"), token(4, "K", ""), time.Minute, unproved, "K"},
		{"no proof, in the recovery period", mobile, boundTo("K"), token(4, "K", ""), time.Minute, unproved, "K"},
		{"no proof, n-2", usual, boundTo("K"), token(3, "K", ""), time.Hour, unproved, "K"},
		{"no proof, strict", strict, boundTo("K"), token(4, "K", ""), 0, unproved, "K"},
		{"no proof, in doubt", usual, boundTo("K"), by(undelivered, token(4, "K", "")), time.Hour, unproved, "K"},
		{"no proof, n-2, and it was good", usual, boundTo("K"), good(3, token(3, "K", "")), time.Minute, unproved, "K"},
		{"no proof, revoked", usual, revokedAlready, token(5, "K", ""), time.Minute, revoked, "K"},
		{"no proof, expired", usual, boundTo("K"), token(5, "K", ""), week, expired, "K"},
		{"no proof, denied", usual, boundTo("K"), denied(token(5, "K", "")), time.Minute, unrevoked, "K"},
		{"no proof, n-2, denied", usual, boundTo("K"), denied(token(3, "K", "")), time.Minute, unrevoked, "K"},
		{"another key", usual, boundTo("K"), token(5, "K", "P"), time.Minute, foreign, "K"},
		{"another key, n-2", usual, boundTo("K"), token(3, "K", "P"), time.Hour, foreign, "K"},
		{"another key, in the grace", usual, boundTo("K"), token(4, "K", "P"), time.Second, foreign, "K"},
		{"another key, revoked", usual, revokedAlready, token(5, "K", "P"), time.Minute, revoked, "K"},

		// A plain token of a session that is bound to no key.
		{"plain and a key, the live one", usual, decisionRecord(), token(5, "", "P"), time.Minute, rotated, "P"},
		{"plain and a key, newer", usual, decisionRecord(), token(6, "", "P"), time.Minute, healed, "P"},
		{"plain and a key, in the grace", usual, decisionRecord(), token(4, "", "P"), time.Second, replayed, ""},
		{"plain and a key, in doubt", usual, decisionRecord(), by(undelivered, token(4, "", "P")), time.Second, renewed, ""},
		{"plain and a key, a later epoch", usual, decisionRecord(), presentation{generation: 4, proven: "P", epoch: 1}, time.Second, raised, ""},
		{"plain and a key, in doubt, and renewed for long", usual, renewedAfter("", time.Hour), by(undelivered, token(4, "", "P")), time.Hour, renewed, ""},
		{"plain and a key, recovery", mobile, decisionRecord(), token(4, "", "P"), time.Minute, recovered, "P"},
		{"plain and a key, after the grace", usual, decisionRecord(), token(4, "", "P"), time.Minute, reused, ""},
		{"plain and a key, n-2", usual, decisionRecord(), token(3, "", "P"), time.Second, reused, ""},

		// A plain token of a bound session, with the key: the reply that bound it was lost.
		{"plain, in the grace", usual, boundTo("K"), token(4, "", "K"), time.Second, replayed, "K"},
		{"plain, after the grace", usual, boundTo("K"), token(4, "", "K"), 6 * 24 * time.Hour, recovered, "K"},
		{"plain, strict", strict, boundTo("K"), token(4, "", "K"), time.Second, reused, "K"},
		{"plain, n-2", usual, boundTo("K"), token(3, "", "K"), time.Second, reused, "K"},
		{"plain, it is mine", usual, boundTo("K"), by(mine, token(4, "", "K")), time.Hour, replayed, "K"},

		// A plain token of a bound session, without the key.
		{"before, in the grace", usual, boundTo("K"), token(4, "", ""), 10*time.Second - us, unproved, "K"},
		{"before, with another key", usual, boundTo("K"), token(4, "", "P"), time.Second, unproved, "K"},
		{"before, after the grace", usual, boundTo("K"), token(4, "", ""), 10 * time.Second, reused, "K"},
		{"before, after one recovery", usual, recoveredBy("K", 1), token(4, "", ""), time.Second, unproved, "K"},
		{"before, after two recoveries", usual, recoveredBy("K", 2), token(4, "", ""), time.Second, reused, "K"},
		{"before, after two recoveries, and the call runs", usual, recoveredBy("K", 2), by(running, token(4, "", "")), time.Second, reused, "K"},
		{"before, after two recoveries, with the key", usual, recoveredBy("K", 2), token(4, "", "K"), time.Second, replayed, "K"},
		{"before, after the grace, with another key", usual, boundTo("K"), token(4, "", "P"), time.Minute, reused, "K"},
		{"before, in the recovery period", mobile, boundTo("K"), token(4, "", ""), time.Minute, reused, "K"},
		{"before, in doubt", usual, boundTo("K"), by(undelivered, token(4, "", "")), time.Minute, reused, "K"},
		{"before, in doubt and in the grace", usual, boundTo("K"), by(undelivered, token(4, "", "")), time.Second, unproved, "K"},
		{"before, and the call runs", usual, boundTo("K"), by(running, token(4, "", "")), time.Hour, unproved, "K"},
		{"before, and the call runs, strict", strict, boundTo("K"), by(running, token(4, "", "")), time.Second, reused, "K"},
		{"before, n-2", usual, boundTo("K"), token(3, "", ""), time.Second, reused, "K"},
		{"before, n-2, and the call runs", usual, boundTo("K"), by(running, token(3, "", "")), time.Second, reused, "K"},
		{"before, the live one: the store has lost writes", usual, boundTo("K"), token(5, "", ""), time.Second, reused, "K"},
		{"before, newer: the store has lost writes", usual, boundTo("K"), token(6, "", ""), time.Second, reused, "K"},
		{"before, and it was good", usual, boundTo("K"), good(4, token(4, "", "")), time.Hour, unproved, "K"},
		{"before, n-2, and it was good", usual, boundTo("K"), good(3, token(3, "", "")), time.Hour, raced, "K"},
		{"before, denied", usual, boundTo("K"), denied(token(4, "", "")), time.Second, unrevoked, "K"},
		{"before, revoked", usual, revokedAlready, token(4, "", ""), time.Minute, revoked, "K"},

		{"named", usual, boundTo("K"), presentation{named: true, proved: true}, time.Hour, raised, "K"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.p.at, c.p.now = at(c.at), at(c.at)
			what := c.rules.decide(c.rec, c.p)
			require.Equal(t, c.want, what)
			require.Equal(t, c.key, keyAfter(what, c.rec, c.p), "the session's key after that")
		})
	}
}

// What holds for all combinations of keys, whatever a Manager knows beside them.
func TestDecide_neverGivesABoundTokenAway(t *testing.T) {
	type keys struct{ session, token, proven string }
	var all []keys
	for _, session := range []string{"", "K"} {
		for _, made := range []string{"", "K", "P"} {
			for _, proven := range []string{"", "K", "P"} {
				// A token is only ever found to be made for a key that is named.
				if made == "" || made == session || made == proven {
					all = append(all, keys{session, made, proven})
				}
			}
		}
	}
	tried := 0
	for _, r := range []rules{
		{refreshTTL: time.Hour}, {refreshTTL: time.Hour, grace: 10 * time.Second},
		{refreshTTL: time.Hour, grace: 10 * time.Second, recovery: time.Minute},
	} {
		for p := range everyPresentation() {
			for _, k := range all {
				rec := boundTo(k.session)
				p.boundTo, p.proven = k.token, k.proven
				what := r.decide(rec, p)
				tried++
				granted := grantedAs[what] != ""
				switch {
				case k.token != "" && k.proven != k.token:
					require.Contains(t, []outcome{unproved, foreign, expired, unrevoked}, what,
						"a bound token gets and ends nothing without its key: %+v, %+v", k, p)
				case k.session != "" && k.proven != k.session:
					require.False(t, granted, "the session's key is not proved: %+v, %+v", k, p)
				case k.session == "" && k.token == "":
					unkeyed := p
					unkeyed.proven = ""
					require.Equal(t, r.decide(rec, unkeyed), what, "a plain session knows no keys: %+v", p)
				case p.generation == rec.Predecessor && r.grace > 0:
					require.NotEqual(t, reused, what, "the key's holder has lost a reply: %+v, %+v", k, p)
				}
				if k.session != "" {
					require.Equal(t, k.session, keyAfter(what, rec, p), "a session keeps its key")
				}
			}
		}
	}
	require.Greater(t, tried, 100_000)
}

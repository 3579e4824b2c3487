package tokensession

import (
	"fmt"
	"iter"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var decisionTime = time.Date(2026, 5, 6, 7, 8, 9, 0, time.UTC)

// at is so long after, or before, the live generation became live.
func at(d time.Duration) time.Time { return decisionTime.Add(d) }

// decisionRecord was at generation 5 after 4 was used at decisionTime.
func decisionRecord() Record {
	return Record{
		ID: "session", Version: 9, WriteID: "write", Issuer: "us", Subject: "alice", Key: make([]byte, 32),
		IdleTTL:    7 * 24 * time.Hour,
		Attributes: map[string]string{"device": "phone"},
		Generation: 5, Predecessor: 4, AuthTime: at(-24 * time.Hour), CreatedAt: at(-24 * time.Hour),
		ConsumedAt: decisionTime, RotatedAt: decisionTime,
		ExpiresAt: at(7 * 24 * time.Hour), MaxExpiresAt: at(29 * 24 * time.Hour),
	}
}

const us = time.Microsecond

func TestDecide(t *testing.T) {
	const (
		week  = 7 * 24 * time.Hour
		month = 29 * 24 * time.Hour
	)
	usual := rules{refreshTTL: week, grace: 10 * time.Second}
	strict := rules{refreshTTL: week}
	mobile := rules{refreshTTL: week, grace: 10 * time.Second, recovery: time.Hour}
	patient := rules{refreshTTL: week, recovery: time.Hour} // strict, with recovery

	recoveredOnce := decisionRecord() // 5 was displaced by 6 half an hour later
	recoveredOnce.Generation, recoveredOnce.RotatedAt = 6, at(30*time.Minute)
	revokedAlready := decisionRecord().revoke(at(time.Second), ReasonLogout)

	for _, c := range []struct {
		name  string
		rules rules
		rec   Record
		n     uint64
		at    time.Duration
		want  outcome
	}{
		{"the live one", usual, decisionRecord(), 5, time.Minute, rotated},
		{"the live one, strict", strict, decisionRecord(), 5, time.Minute, rotated},
		{"the live one, clock frozen", usual, decisionRecord(), 5, 0, rotated},
		{"the live one, clock gone back", usual, decisionRecord(), 5, -time.Hour, rotated},
		{"the first one", usual, fresh(), 0, 0, rotated},
		{"the first one, within what would be its grace", usual, fresh(), 0, time.Second, rotated},
		{"the live one, before the end", usual, decisionRecord(), 5, week - us, rotated},
		{"the live one, at the end", usual, decisionRecord(), 5, week, expired},
		{"the live one, after the end", usual, decisionRecord(), 5, week + us, expired},
		{"the live one of a revoked session", usual, revokedAlready, 5, time.Minute, revoked},
		{"the live one of a revoked session, at the end", usual, revokedAlready, 5, week, revoked},

		{"newer by one", usual, decisionRecord(), 6, time.Minute, healed},
		{"newer by many", strict, decisionRecord(), 1000, time.Minute, healed},
		{"newer, clock gone back", usual, decisionRecord(), 6, -time.Hour, healed},
		{"newer, at the end", usual, decisionRecord(), 6, week, expired},
		{"newer, of a revoked session", usual, revokedAlready, 6, time.Minute, revoked},

		{"the predecessor at once", usual, decisionRecord(), 4, 0, replayed},
		{"the predecessor before the grace ends", usual, decisionRecord(), 4, 10*time.Second - us, replayed},
		{"the predecessor when the grace ends", usual, decisionRecord(), 4, 10 * time.Second, reused},
		{"the predecessor, clock gone back a little", usual, decisionRecord(), 4, -time.Minute, replayed},
		{"the predecessor, written by a clock that is ahead", usual, decisionRecord(), 4, -time.Minute - us, reused},
		{"the predecessor in the grace of a revoked session", usual, revokedAlready, 4, 2 * time.Second, revoked},
		{"the predecessor, strict", strict, decisionRecord(), 4, 0, reused},
		{"the predecessor, strict, clock gone back", strict, decisionRecord(), 4, -us, reused},
		{"the predecessor, strict, clock gone far back", strict, decisionRecord(), 4, -24 * 365 * time.Hour, reused},
		{"n-2 inside the grace", usual, decisionRecord(), 3, us, reused},
		{"n-2 inside the grace, clock gone back", usual, decisionRecord(), 3, -time.Hour, reused},
		{"the oldest inside the grace", usual, decisionRecord(), 0, us, reused},
		{"the predecessor at the end", usual, decisionRecord(), 4, week, expired},
		{"n-2 at the end", usual, decisionRecord(), 3, week, expired},
		{"n-2 of a revoked session", usual, revokedAlready, 3, time.Minute, revoked},

		{"recovery: in the grace", mobile, decisionRecord(), 4, 10*time.Second - us, replayed},
		{"recovery: after the grace", mobile, decisionRecord(), 4, 10 * time.Second, recovered},
		{"recovery: before the window ends", mobile, decisionRecord(), 4, time.Hour - us, recovered},
		{"recovery: when the window ends", mobile, decisionRecord(), 4, time.Hour, reused},
		{"recovery: n-2 in the window", mobile, decisionRecord(), 3, time.Minute, reused},
		{"recovery: strict", patient, decisionRecord(), 4, 0, recovered},
		{"recovery: strict, clock gone back", patient, decisionRecord(), 4, -time.Hour, recovered},
		{"recovery: strict, window over", patient, decisionRecord(), 4, time.Hour, reused},

		{"recovered: the new successor", mobile, recoveredOnce, 6, 31 * time.Minute, rotated},
		{"recovered: the displaced one", mobile, recoveredOnce, 5, 30 * time.Minute, reused},
		{"recovered: the displaced one, strict", patient, recoveredOnce, 5, 30 * time.Minute, reused},
		{"recovered: the predecessor in the second grace", mobile, recoveredOnce, 4, 30*time.Minute + 10*time.Second - us, replayed},
		{"recovered: the predecessor after the second grace", mobile, recoveredOnce, 4, 30*time.Minute + 10*time.Second, recovered},
		{"recovered: the window did not slide", mobile, recoveredOnce, 4, time.Hour, reused},

		{"a session that never ends before month's end", usual, withoutEnd(), 5, month, rotated},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := fmt.Sprintf("%#v", plain(c.rec))
			require.Equal(t, c.want, c.rules.decide(c.rec, presentation{generation: c.n, at: at(c.at), now: at(c.at)}))
			next := c.rules.next(c.want, c.rec, c.n, at(c.at))
			require.Equal(t, before, fmt.Sprintf("%#v", plain(c.rec)), "the record given was changed")
			require.Equal(t, wantNext(c.rules, c.rec, c.want, c.n, at(c.at)), plain(next))
		})
	}
}

// What a Manager knows beside the record. The rows are the rule as a list: what the record and the
// time say, what is known, and what comes of it.
func TestDecide_withWhatTheManagerKnows(t *testing.T) {
	const week = 7 * 24 * time.Hour
	usual := rules{refreshTTL: week, grace: 10 * time.Second}
	strict := rules{refreshTTL: week}
	mobile := rules{refreshTTL: week, grace: 10 * time.Second, recovery: time.Hour}
	patient := rules{refreshTTL: week, recovery: time.Hour} // strict, with recovery
	revokedAlready := decisionRecord().revoke(at(time.Second), ReasonLogout)
	later := func(d time.Duration) Record { // written so long after decisionTime
		rec := decisionRecord()
		rec.ConsumedAt, rec.RotatedAt = at(d), at(d)
		rec.ExpiresAt = rec.RotatedAt.Add(rec.IdleTTL)
		return rec
	}
	good := func(reached, n uint64) presentation { return presentation{generation: n, good: true, reached: reached} }

	for _, c := range []struct {
		name  string
		rules rules
		rec   Record
		p     presentation // but for the time
		at    time.Duration
		now   time.Duration // 0: as at
		want  outcome
	}{
		// The call may have been overtaken. decisionRecord is at 5, which was made of 4.
		{"overtaken once, long ago", usual, decisionRecord(), good(4, 4), -time.Minute, time.Hour, replayed},
		{"overtaken once, and it came long after that", usual, decisionRecord(), good(4, 4), time.Minute, time.Hour, replayed},
		{"overtaken by a write that came much later", usual, later(time.Hour), good(4, 4), 0, time.Hour, replayed},
		{"overtaken by a write of a clock that is ahead", usual, later(time.Hour), good(4, 4), 0, time.Minute, raced},
		{"the same, but it can be recovered", mobile, later(time.Hour), good(4, 4), 0, time.Minute, recovered},
		{"overtaken twice", usual, decisionRecord(), good(3, 3), -time.Minute, time.Hour, raced},
		{"overtaken twice, and it came long after that", usual, decisionRecord(), good(3, 3), time.Minute, 0, raced},
		{"overtaken by a recovery", mobile, decisionRecord(), good(4, 4), 30 * time.Minute, 0, replayed},
		{"overtaken once, strict", strict, decisionRecord(), good(4, 4), -time.Minute, 0, reused},
		{"overtaken twice, strict", strict, decisionRecord(), good(3, 3), -time.Minute, 0, reused},
		{"overtaken once, strict with recovery", patient, decisionRecord(), good(4, 4), 0, 0, recovered},
		{
			"overtaken once, strict, and the recovery is over",
			patient, decisionRecord(), good(4, 4), time.Hour, 0, reused,
		},
		{
			"overtaken at the session's end, and it came before that",
			usual, withEnd(later(time.Hour), 30*time.Minute), good(4, 4),
			30*time.Minute - us, time.Hour, replayed,
		},
		{"not overtaken: it would still rotate", usual, decisionRecord(), good(5, 5), time.Minute, 0, rotated},
		{"not overtaken: somebody only renewed", usual, later(time.Hour), good(5, 4), 59 * time.Minute, time.Hour, replayed},
		{"good, and then settled by somebody: no theft", usual, decisionRecord(), good(5, 4), time.Minute, 0, raced},
		{"overtaken and revoked", usual, revokedAlready, good(4, 4), 0, 0, revoked},
		{"overtaken and expired", usual, withEnd(decisionRecord(), -time.Hour), good(4, 4), 0, 0, expired},
		{"guessed, and overtaken twice meanwhile", usual, later(time.Hour), presentation{generation: 3, guessed: true}, time.Hour - us, 2 * time.Hour, raced},
		{"guessed, and it was old when it came", usual, later(time.Hour), presentation{generation: 3, guessed: true}, time.Hour, 0, reused},
		{"guessed, and this process has refreshed it since", usual, decisionRecord(), presentation{generation: 3, guessed: true, ours: true}, time.Hour, 0, raced},
		{"guessed, and overtaken once meanwhile", usual, later(time.Hour), presentation{generation: 4, guessed: true}, time.Hour - us, 2 * time.Hour, replayed},
		{"guessed, overtaken once and too late for the grace", usual, decisionRecord(), presentation{generation: 4, guessed: true}, time.Minute, 0, reused},
		{"guessed, strict", strict, later(time.Hour), presentation{generation: 4, guessed: true, ours: true}, time.Minute, 0, reused},
		{"guessed, denied", usual, later(time.Hour), presentation{generation: 3, guessed: true, denied: true}, time.Minute, 0, reused},
		{"made here, and not guessed", usual, decisionRecord(), presentation{generation: 3, ours: true}, time.Minute, 0, reused},
		{"newer than the record, though it was good", usual, decisionRecord(), good(7, 7), time.Minute, 0, healed},

		// The deny list knows that the session was revoked.
		{"denied, the live one", usual, decisionRecord(), presentation{generation: 5, denied: true}, time.Minute, 0, unrevoked},
		{"denied, newer", usual, decisionRecord(), presentation{generation: 6, denied: true}, time.Minute, 0, unrevoked},
		{"denied, in the grace", usual, decisionRecord(), presentation{generation: 4, denied: true}, time.Second, 0, unrevoked},
		{"denied, could be recovered", mobile, decisionRecord(), presentation{generation: 4, denied: true}, time.Minute, 0, unrevoked},
		{"denied, reuse", usual, decisionRecord(), presentation{generation: 4, denied: true}, time.Minute, 0, reused},
		{"denied, reuse, and a call runs", usual, decisionRecord(), presentation{generation: 4, denied: true, author: running}, time.Minute, 0, reused},
		{"denied, reuse, and nobody got it", usual, decisionRecord(), presentation{generation: 4, denied: true, author: undelivered}, time.Minute, 0, reused},
		{"denied, overtaken twice", usual, decisionRecord(), presentation{generation: 3, good: true, reached: 3, denied: true}, time.Second, 0, unrevoked},
		{"denied, and the record says it, too", usual, revokedAlready, presentation{generation: 5, denied: true}, time.Minute, 0, revoked},
		{"denied, and over anyway", usual, decisionRecord(), presentation{generation: 5, denied: true}, week, 0, expired},
		{"denied, and a call runs", usual, decisionRecord(), presentation{generation: 4, denied: true, author: running}, time.Second, 0, unrevoked},
		{"denied, and nobody got it", usual, decisionRecord(), presentation{generation: 4, denied: true, author: undelivered}, time.Second, 0, unrevoked},

		// The call that made the live one has not returned.
		{"running, the live one", usual, decisionRecord(), presentation{generation: 5, author: running}, time.Minute, 0, rotated},
		{"running, newer", usual, decisionRecord(), presentation{generation: 6, author: running}, time.Minute, 0, healed},
		{"running, in the grace", usual, decisionRecord(), presentation{generation: 4, author: running}, time.Second, 0, replayed},
		{"running, early in the grace", usual, decisionRecord(), presentation{generation: 4, author: running}, 5 * time.Second, 0, replayed},
		{"running, late in the grace", usual, decisionRecord(), presentation{generation: 4, author: running}, 5*time.Second + us, 0, renewed},
		{"running, decided late", usual, decisionRecord(), presentation{generation: 4, author: running}, time.Second, 11 * time.Second, renewed},
		{"settled, late in the grace", usual, decisionRecord(), presentation{generation: 4}, 9 * time.Second, 0, replayed},
		{"running, after the grace", usual, decisionRecord(), presentation{generation: 4, author: running}, time.Hour, 0, renewed},
		{"running, could be recovered", mobile, decisionRecord(), presentation{generation: 4, author: running}, time.Minute, 0, renewed},
		{"running, n-2", usual, decisionRecord(), presentation{generation: 3, author: running}, time.Second, 0, reused},
		{"running, strict", strict, decisionRecord(), presentation{generation: 4, author: running}, time.Second, 0, reused},
		{"running, strict with recovery", patient, decisionRecord(), presentation{generation: 4, author: running}, time.Second, 0, recovered},
		{"running, revoked", usual, revokedAlready, presentation{generation: 4, author: running}, time.Second, 0, revoked},
		{"running, expired", usual, decisionRecord(), presentation{generation: 4, author: running}, week, 0, expired},

		// The call that made the live one gave up, and nobody has got it.
		{"undelivered, the live one", usual, decisionRecord(), presentation{generation: 5, author: undelivered}, time.Minute, 0, rotated},
		{"undelivered, newer", usual, decisionRecord(), presentation{generation: 6, author: undelivered}, time.Minute, 0, healed},
		{"undelivered, in the grace", usual, decisionRecord(), presentation{generation: 4, author: undelivered}, 10*time.Second - us, 0, renewed},
		{"undelivered, after the grace", usual, decisionRecord(), presentation{generation: 4, author: undelivered}, 10 * time.Second, 0, recovered},
		{"undelivered, days later", usual, decisionRecord(), presentation{generation: 4, author: undelivered}, 6 * 24 * time.Hour, 0, recovered},
		{"undelivered, could be recovered", mobile, decisionRecord(), presentation{generation: 4, author: undelivered}, time.Minute, 0, recovered},
		{"undelivered, n-2", usual, decisionRecord(), presentation{generation: 3, author: undelivered}, time.Second, 0, reused},
		{"undelivered, strict", strict, decisionRecord(), presentation{generation: 4, author: undelivered}, time.Second, 0, recovered},
		{
			"good, and a call runs",
			usual, decisionRecord(), presentation{generation: 4, good: true, reached: 5, author: running},
			time.Minute, 0, renewed,
		},
		{
			"good, and nobody got it",
			usual, decisionRecord(),
			presentation{generation: 4, good: true, reached: 5, author: undelivered},
			time.Minute, 0, recovered,
		},
		{"undelivered, overtaken twice", usual, decisionRecord(), presentation{generation: 3, good: true, reached: 3, author: undelivered}, time.Second, 0, raced},
		{"undelivered, revoked", usual, revokedAlready, presentation{generation: 4, author: undelivered}, time.Second, 0, revoked},
		{"undelivered, expired", usual, decisionRecord(), presentation{generation: 4, author: undelivered}, week, 0, expired},

		// This call has made the live one itself, and its reply was lost.
		{"mine, in the grace", usual, decisionRecord(), presentation{generation: 4, author: mine}, time.Second, 0, replayed},
		{"mine, after the grace", usual, decisionRecord(), presentation{generation: 4, author: mine}, time.Hour, 0, replayed},
		{"mine, could be recovered", mobile, decisionRecord(), presentation{generation: 4, author: mine}, time.Minute, 0, replayed},
		{"mine, strict", strict, decisionRecord(), presentation{generation: 4, author: mine}, time.Second, 0, replayed},
		{"mine, strict, could be recovered", patient, decisionRecord(), presentation{generation: 4, author: mine}, time.Second, 0, replayed},
		{"mine, n-2", usual, decisionRecord(), presentation{generation: 3, author: mine}, time.Second, 0, reused},
		{"mine, denied", usual, decisionRecord(), presentation{generation: 4, author: mine, good: true, reached: 4, denied: true}, time.Second, 0, unrevoked},
		{"mine, revoked", usual, revokedAlready, presentation{generation: 4, author: mine}, time.Second, 0, revoked},

		// This process knows of a later epoch than the record, which is at 7.
		{"a later epoch, the live one", usual, withEpoch(7), presentation{generation: 5, epoch: 8}, time.Minute, 0, rotated},
		{"a later epoch, newer", usual, withEpoch(7), presentation{generation: 6, epoch: 8}, time.Minute, 0, healed},
		{"a later epoch, in the grace", usual, withEpoch(7), presentation{generation: 4, epoch: 8}, time.Second, 0, raised},
		{"an epoch where the record has none", usual, decisionRecord(), presentation{generation: 4, epoch: 1}, time.Second, 0, raised},
		{"the same epoch", usual, withEpoch(7), presentation{generation: 4, epoch: 7}, time.Second, 0, replayed},
		{"an earlier epoch", usual, withEpoch(7), presentation{generation: 4, epoch: 6}, time.Second, 0, replayed},
		{"a later epoch, could be recovered", mobile, withEpoch(7), presentation{generation: 4, epoch: 8}, time.Minute, 0, recovered},
		{"a later epoch, reuse", usual, withEpoch(7), presentation{generation: 4, epoch: 8}, time.Minute, 0, reused},
		{"a later epoch, and nobody got it", usual, withEpoch(7), presentation{generation: 4, epoch: 8, author: undelivered}, time.Second, 0, renewed},
		{"a later epoch, and it is mine", strict, withEpoch(7), presentation{generation: 4, epoch: 8, author: mine}, time.Hour, 0, raised},
		{"a later epoch, denied", usual, withEpoch(7), presentation{generation: 4, epoch: 8, denied: true}, time.Second, 0, unrevoked},
		{"a later epoch, expired", usual, withEpoch(7), presentation{generation: 4, epoch: 8}, week, 0, expired},

		// The user has proved again who they are.
		{"proved, the live one", usual, decisionRecord(), presentation{generation: 5, proved: true}, time.Minute, 0, rotated},
		{"proved, in the grace", usual, decisionRecord(), presentation{generation: 4, proved: true}, time.Second, 0, raised},
		{"proved, and it is mine", usual, decisionRecord(), presentation{generation: 4, proved: true, author: mine}, time.Second, 0, replayed},
		{"proved, could be recovered", mobile, decisionRecord(), presentation{generation: 4, proved: true}, time.Minute, 0, recovered},
		{"proved, reuse", usual, decisionRecord(), presentation{generation: 4, proved: true}, time.Minute, 0, reused},

		// The host has named the session.
		{"named", usual, decisionRecord(), presentation{named: true, proved: true}, time.Hour, 0, raised},
		{"named, strict", strict, decisionRecord(), presentation{named: true, proved: true}, time.Hour, 0, raised},
		{"named, before the first refresh", usual, fresh(), presentation{named: true, proved: true, author: undelivered}, time.Hour, 0, raised},
		{"named, and others have refreshed", usual, decisionRecord(), presentation{named: true, proved: true, good: true, reached: 1}, time.Hour, 0, raised},
		{"named, denied", usual, decisionRecord(), presentation{named: true, proved: true, denied: true}, time.Hour, 0, unrevoked},
		{"named, revoked", usual, revokedAlready, presentation{named: true, proved: true}, time.Hour, 0, revoked},
		{"named, expired", usual, decisionRecord(), presentation{named: true, proved: true}, week, 0, expired},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.p.at, c.p.now = at(c.at), at(c.at)
			if c.now != 0 {
				c.p.now = at(c.now)
			}
			require.Equal(t, c.want, c.rules.decide(c.rec, c.p))
			next := c.rules.next(c.want, c.rec, c.p.generation, c.p.now)
			require.Equal(t, wantNext(c.rules, c.rec, c.want, c.p.generation, c.p.now), plain(next))
		})
	}
}

// A replay may be answered later than it was decided.
func TestAnswered(t *testing.T) {
	usual := rules{refreshTTL: time.Hour, grace: 10 * time.Second}
	for _, c := range []struct {
		name   string
		author author
		at     time.Duration
		want   outcome
	}{
		{"settled", settled, 10*time.Second - us, replayed},
		{"settled, after the grace", settled, 10 * time.Second, renewed},
		{"running, early", running, 5 * time.Second, replayed},
		{"running, late", running, 5*time.Second + us, renewed},
		{"running, after the grace", running, time.Hour, renewed},
		{"undelivered", undelivered, 0, renewed},
		{"the clock was put back", settled, -time.Hour, replayed},
		{"its own, after the grace", mine, time.Hour, replayed},
	} {
		require.Equal(t, c.want, usual.answered(replayed, decisionRecord(), c.author, at(c.at)), c.name)
		if c.want == replayed {
			c.want = raised
		}
		require.Equal(t, c.want, usual.answered(raised, decisionRecord(), c.author, at(c.at)), c.name)
	}
}

// The period of a bound session begins anew for a while only.
func TestAnswered_ofABoundSession(t *testing.T) {
	usual := rules{refreshTTL: time.Hour, grace: 10 * time.Second}
	rec := renewedAfter("K", 19*time.Second)
	require.Equal(t, renewed, usual.answered(replayed, rec, undelivered, at(20*time.Second-us)))
	require.Equal(t, replayed, usual.answered(replayed, rec, undelivered, at(20*time.Second)))
	require.Equal(t, raced, usual.answered(replayed, rec, settled, at(29*time.Second)))
	require.Equal(t, replayed, usual.answered(replayed, rec, settled, at(29*time.Second-us)))
	require.Equal(t, renewed, usual.answered(replayed, boundTo("K"), settled, at(10*time.Second)))
	rec.KeyThumbprint = ""
	require.Equal(t, renewed, usual.answered(replayed, rec, settled, at(29*time.Second)))
}

// What holds whatever a Manager knows, for all combinations.
func TestDecide_neverBreaksAPromise(t *testing.T) {
	revokedAlready := decisionRecord().revoke(at(time.Second), ReasonLogout)
	var all int
	for _, r := range []rules{
		{refreshTTL: time.Hour}, {refreshTTL: time.Hour, grace: 10 * time.Second},
		{refreshTTL: time.Hour, recovery: time.Minute}, {refreshTTL: time.Hour, grace: 10 * time.Second, recovery: time.Minute},
	} {
		for _, rec := range []Record{decisionRecord(), revokedAlready, withEnd(decisionRecord(), 2*time.Minute)} {
			for p := range everyPresentation() {
				what := r.decide(rec, p)
				all++
				switch judged := r.judge(rec, p.generation, p.at, p.now); {
				case judged == revoked:
					require.Equal(t, revoked, what, "a revocation is never undone: %+v", p)
				case judged == expired && !p.good:
					require.Equal(t, expired, what, "a session that is over stays over: %+v", p)
				case p.denied && r.live(rec, p.at):
					require.Contains(t, []outcome{unrevoked, reused}, what, "what is known to be revoked gets no tokens: %+v", p)
				case judged != reused:
					require.NotEqual(t, reused, what, "what is known never makes an honest token a stolen one: %+v", p)
				}
				if grantedAs[what] != "" {
					after := r.epochAfter(what, rec, p)
					require.GreaterOrEqual(t, after, max(rec.Epoch, p.epoch), "a token that this process would refuse: %+v", p)
					require.Equal(t, after > rec.Epoch, after > rec.Epoch && what != replayed, "it is not written: %+v", p)
				}
				if what == raised {
					require.Equal(t, replayed, r.decide(rec, withoutEpoch(p)), "only a replay is written for the epoch's sake: %+v", p)
				}
				if p.generation+1 < rec.Generation && p.generation != rec.Predecessor {
					require.Contains(t, []outcome{revoked, expired, reused, raced, unrevoked}, what, "an older token gets nothing: %+v", p)
				}
				if r.grace == 0 && p.author != undelivered && p.author != mine {
					require.NotContains(t, []outcome{replayed, renewed, raced}, what, "strict: %+v", p)
				}
				if r.grace == 0 && p.author == mine && !p.proved {
					require.NotContains(t, []outcome{renewed, raced}, what, "strict: %+v", p)
				}
				if what == renewed {
					require.NotEqual(t, settled, p.author, "only what nobody got begins the grace anew: %+v", p)
				}
			}
		}
	}
	require.Greater(t, all, 10_000)
}

func everyPresentation() iter.Seq[presentation] {
	return func(yield func(presentation) bool) {
		for n := uint64(2); n <= 6; n++ {
			for _, came := range []time.Duration{-2 * time.Minute, -time.Second, 0, 5 * time.Second, 30 * time.Second, time.Minute, time.Hour} {
				for _, took := range []time.Duration{0, time.Minute} {
					for reached := uint64(0); reached <= 6; reached++ { // 0 stands for a call's first attempt
						for bits := range 32 {
							p := presentation{
								generation: n, at: at(came), now: at(came + took), good: reached > 0, reached: reached,
								denied: bits%2 == 1, author: author(bits / 2 % 4), epoch: uint64(bits / 8 % 2), proved: bits/16 == 1,
							}
							if !yield(p) {
								return
							}
						}
					}
				}
			}
		}
	}
}

// withoutEpoch is a presentation that gives no reason to raise the epoch.
func withoutEpoch(p presentation) presentation {
	p.epoch, p.proved = 0, false
	return p
}

func TestEpochAfter(t *testing.T) {
	now := time.UnixMilli(1_000_000)
	for _, c := range []struct {
		name   string
		what   outcome
		record uint64
		p      presentation
		want   uint64
	}{
		{"nothing is known", rotated, 0, presentation{}, 0},
		{"nothing new is known", rotated, 7, presentation{epoch: 7}, 7},
		{"the record knows more", replayed, 7, presentation{epoch: 6}, 7},
		{"more is known", recovered, 7, presentation{epoch: 8}, 8},
		{"a heal", healed, 0, presentation{}, 1_000_000},
		{"a heal, and the clock is behind", healed, 2_000_000, presentation{epoch: 3_000_000}, 3_000_001},
		{"proved", raised, 7, presentation{proved: true}, 1_000_000},
		{"proved, and the clock is behind", rotated, 2_000_000, presentation{proved: true}, 2_000_001},
		{"proved, by what is written already", replayed, 7, presentation{proved: true, author: mine}, 7},
	} {
		c.p.now = now
		require.Equal(t, c.want, rules{}.epochAfter(c.what, Record{Epoch: c.record}, c.p), c.name)
	}
	require.EqualValues(t, 8, nextEpoch(7, time.Unix(-1, 0)), "before 1970")
}

func TestOutdated_changesNothingElse(t *testing.T) {
	rec := withEpoch(7)
	want := plain(rec)
	require.Equal(t, want, plain(rec.outdated(7, at(time.Minute))), "it has that epoch")
	require.Equal(t, want, plain(rec.outdated(6, at(time.Minute))), "it has a later one")
	want.Epoch, want.OutdatedAt = 8, at(time.Minute)
	require.Equal(t, want, plain(rec.outdated(8, at(time.Minute))))
	want.OutdatedAt = decisionTime
	require.Equal(t, want, plain(rec.outdated(8, at(-time.Minute))), "the clock was put back")
}

func TestNext_renewalLeavesTheGenerationsAlone(t *testing.T) {
	r := rules{refreshTTL: 7 * 24 * time.Hour, grace: 10 * time.Second}
	rec := decisionRecord()
	next := r.next(renewed, rec, 4, at(time.Minute))
	want := plain(rec)
	want.Replaces = rec.WriteID
	want.Version, want.RotatedAt, want.ExpiresAt = rec.Version+1, at(time.Minute), at(7*24*time.Hour+time.Minute)
	require.Equal(t, want, plain(next))
}

// A clock that was put back shortens no session.
func TestNext_countsTheEndFromTheLastRotation(t *testing.T) {
	r := rules{refreshTTL: 7 * 24 * time.Hour}
	for _, what := range []outcome{rotated, healed, recovered, renewed} {
		next := r.next(what, decisionRecord(), 5, at(-24*time.Hour))
		require.Equal(t, at(-24*time.Hour), next.RotatedAt)
		require.Equal(t, at(7*24*time.Hour), next.ExpiresAt, "%v", what)
	}
}

func withEpoch(epoch uint64) Record {
	rec := decisionRecord()
	rec.Epoch, rec.OutdatedAt = epoch, at(-time.Hour)
	return rec
}

// fresh was not refreshed yet.
func fresh() Record {
	rec := decisionRecord()
	rec.Generation, rec.Predecessor, rec.ConsumedAt = 0, 0, time.Time{}
	return rec
}

func withEnd(rec Record, end time.Duration) Record {
	rec.ExpiresAt = at(end)
	return rec
}

func withoutEnd() Record {
	rec := decisionRecord()
	rec.ExpiresAt, rec.MaxExpiresAt = at(30*24*time.Hour+us), time.Time{}
	return rec
}

// plain is a record that prints and compares field by field.
type plain Record

// wantNext says in the words of the table what the record becomes.
func wantNext(r rules, rec Record, what outcome, n uint64, now time.Time) plain {
	want := plain(rec)
	switch what {
	case rotated, healed:
		want.Predecessor, want.ConsumedAt = n, now
		want.Generation, want.RotatedAt = n+1, now
	case recovered:
		want.Generation, want.RotatedAt = rec.Generation+1, now
	case renewed:
		want.RotatedAt = now
	case raised:
		want.Version, want.Replaces = rec.Version+1, rec.WriteID
		return want
	default:
		return want
	}
	want.Version, want.Replaces = rec.Version+1, rec.WriteID
	want.ExpiresAt = now.Add(r.refreshTTL)
	if now.Before(rec.RotatedAt) {
		want.ExpiresAt = rec.RotatedAt.Add(r.refreshTTL)
	}
	if !rec.MaxExpiresAt.IsZero() && want.ExpiresAt.After(rec.MaxExpiresAt) {
		want.ExpiresAt = rec.MaxExpiresAt
	}
	return want
}

func TestNext_capsTheEndAtTheAbsoluteEnd(t *testing.T) {
	r := rules{refreshTTL: 7 * 24 * time.Hour}
	rec := decisionRecord()
	rec.MaxExpiresAt = at(8 * 24 * time.Hour)
	for _, c := range []struct{ now, want time.Duration }{
		{24*time.Hour - us, 8*24*time.Hour - us},
		{24 * time.Hour, 8 * 24 * time.Hour},
		{24*time.Hour + us, 8 * 24 * time.Hour},
		{7 * 24 * time.Hour, 8 * 24 * time.Hour},
	} {
		for _, what := range []outcome{rotated, healed, recovered} {
			require.Equal(t, at(c.want), r.next(what, rec, 5, at(c.now)).ExpiresAt, "%v at %v", what, c.now)
		}
	}
	rec.MaxExpiresAt = time.Time{}
	require.Equal(t, at(100*24*time.Hour), r.next(rotated, rec, 5, at(93*24*time.Hour)).ExpiresAt, "unlimited")
}

// A write is late if it left less than half of the grace period.
func TestLate(t *testing.T) {
	for _, c := range []struct {
		grace, took time.Duration
		want        bool
	}{
		{10 * time.Second, 0, false},
		{10 * time.Second, 5 * time.Second, false},
		{10 * time.Second, 5*time.Second + us, true},
		{10 * time.Second, time.Hour, true},
		{10 * time.Second, -time.Hour, false}, // the clock was put back
		{0, 0, false},
		{0, time.Hour, false},
	} {
		require.Equal(t, c.want, rules{grace: c.grace}.late(decisionRecord(), at(c.took)), "%+v", c)
	}
}

func TestRevoke_changesNothingElse(t *testing.T) {
	rec := decisionRecord()
	want := plain(rec)
	want.Version, want.Replaces = rec.Version+1, rec.WriteID
	want.RevokedAt, want.RevokeReason = at(time.Minute), ReasonReuse
	require.Equal(t, want, plain(rec.revoke(at(time.Minute), ReasonReuse)))
	want.RevokedAt = decisionTime
	require.Equal(t, want, plain(rec.revoke(at(-time.Hour), ReasonReuse)), "the clock was put back")
}

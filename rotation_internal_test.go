package tokensession

import (
	"fmt"
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
		ID: "session", Version: 9, WriteID: "write", Subject: "alice", Key: make([]byte, 32),
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
	fresh := decisionRecord()
	fresh.Generation, fresh.Predecessor, fresh.ConsumedAt = 0, 0, time.Time{}

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
		{"the first one", usual, fresh, 0, 0, rotated},
		{"the first one, within what would be its grace", usual, fresh, 0, time.Second, rotated},
		{"the live one, before the end", usual, decisionRecord(), 5, week - us, rotated},
		{"the live one, at the end", usual, decisionRecord(), 5, week, expired},
		{"the live one, after the end", usual, decisionRecord(), 5, week + us, expired},
		{"the live one of a revoked session", usual, revokedAlready, 5, time.Minute, revoked},

		{"newer by one", usual, decisionRecord(), 6, time.Minute, healed},
		{"newer by many", strict, decisionRecord(), 1000, time.Minute, healed},
		{"newer, clock gone back", usual, decisionRecord(), 6, -time.Hour, healed},
		{"newer, at the end", usual, decisionRecord(), 6, week, expired},
		{"newer, of a revoked session", usual, revokedAlready, 6, time.Minute, revoked},

		{"the predecessor at once", usual, decisionRecord(), 4, 0, replayed},
		{"the predecessor before the grace ends", usual, decisionRecord(), 4, 10*time.Second - us, replayed},
		{"the predecessor when the grace ends", usual, decisionRecord(), 4, 10 * time.Second, reused},
		{"the predecessor, clock gone back", usual, decisionRecord(), 4, -time.Hour, replayed},
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
			require.Equal(t, c.want, c.rules.decide(c.rec, c.n, at(c.at)))
			next := c.rules.next(c.want, c.rec, c.n, at(c.at))
			require.Equal(t, before, fmt.Sprintf("%#v", plain(c.rec)), "the record given was changed")
			require.Equal(t, wantNext(c.rules, c.rec, c.want, c.n, at(c.at)), plain(next))
		})
	}
}

func withoutEnd() Record {
	rec := decisionRecord()
	rec.ExpiresAt, rec.MaxExpiresAt = at(100*24*time.Hour), time.Time{}
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
	default:
		return want
	}
	want.Version++
	want.ExpiresAt = now.Add(r.refreshTTL)
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

func TestRevoke_changesNothingElse(t *testing.T) {
	rec := decisionRecord()
	want := plain(rec)
	want.Version++
	want.RevokedAt, want.RevokeReason = at(time.Minute), ReasonReuse
	require.Equal(t, want, plain(rec.revoke(at(time.Minute), ReasonReuse)))
}

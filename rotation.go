package tokensession

import "time"

// An outcome is what a genuine refresh token leads to.
type outcome uint8

const (
	rotated   outcome = iota // the live generation: the next one becomes live
	healed                   // newer than the record: the store lost writes
	replayed                 // consumed a moment ago: the live generation again
	recovered                // consumed a while ago: a new successor displaces the lost one
	reused                   // any other: two parties hold the session
	expired
	revoked
	raced // live when the call began, and consumed twice over since: only a refresh that lost a race knows
)

// rules are the periods that a decision depends on. Zero turns grace or recovery off.
type rules struct {
	refreshTTL, grace, recovery time.Duration
}

// decide says what presenting generation n of rec at now leads to, and what the record becomes. The record is the one
// given, but for a new WriteID, unless the outcome is one that writes: rotated, healed, recovered and reused.
//
// The order is by generation, never by clock: instances' clocks differ, and a clock can stand still.
func (r rules) decide(rec Record, n uint64, now time.Time) (outcome, Record) {
	switch {
	case !rec.RevokedAt.IsZero():
		return revoked, rec
	case !now.Before(rec.ExpiresAt):
		return expired, rec
	case n == rec.Generation:
		return rotated, r.rotate(rec, n, now)
	case n > rec.Generation:
		return healed, r.rotate(rec, n, now)
	case n == rec.Predecessor && within(now, rec.RotatedAt, r.grace):
		return replayed, rec
	case n == rec.Predecessor && within(now, rec.ConsumedAt, r.recovery):
		return recovered, r.recover(rec, now)
	default:
		return reused, rec.revoke(now, ReasonReuse)
	}
}

func (r rules) rotate(rec Record, n uint64, now time.Time) Record {
	rec.Predecessor, rec.ConsumedAt = n, now
	rec.Generation, rec.RotatedAt = n+1, now
	return r.extend(rec, now)
}

// recover leaves Predecessor and ConsumedAt as they are, so that the window in which it is possible never slides.
func (r rules) recover(rec Record, now time.Time) Record {
	rec.Generation++
	rec.RotatedAt = now
	return r.extend(rec, now)
}

func (r rules) extend(rec Record, now time.Time) Record {
	rec.ExpiresAt = earlier(now.Add(r.refreshTTL), rec.MaxExpiresAt)
	rec.Version++
	return rec
}

// revoke returns the record as revoked. No other function sets RevokedAt, and none clears it.
func (r Record) revoke(now time.Time, reason Reason) Record {
	r.RevokedAt, r.RevokeReason = now, reason
	r.Version++
	return r
}

// live reports whether the session's tokens may be used.
func (r Record) live(now time.Time) bool { return r.RevokedAt.IsZero() && now.Before(r.ExpiresAt) }

// within reports whether period is on, and not yet over at now.
func within(now, from time.Time, period time.Duration) bool {
	return period > 0 && now.Before(from.Add(period))
}

// earlier returns the earlier of t and end, where a zero end is never.
func earlier(t, end time.Time) time.Time {
	if !end.IsZero() && end.Before(t) {
		return end
	}
	return t
}

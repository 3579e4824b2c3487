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

// decide says what presenting generation n of rec leads to, where at is when it was presented.
//
// The order is by generation, never by clock: instances' clocks differ, and a clock can stand still.
func (r rules) decide(rec Record, n uint64, at time.Time) outcome {
	switch {
	case !rec.RevokedAt.IsZero():
		return revoked
	case !at.Before(rec.ExpiresAt):
		return expired
	case n == rec.Generation:
		return rotated
	case n > rec.Generation:
		return healed
	case n == rec.Predecessor && within(at, rec.RotatedAt, r.grace):
		return replayed
	case n == rec.Predecessor && within(at, rec.ConsumedAt, r.recovery):
		return recovered
	default:
		return reused
	}
}

// next returns what the record becomes if what decide said is written now. Only rotated, healed and recovered change
// it; the WriteID is the writer's to set.
func (r rules) next(what outcome, rec Record, n uint64, now time.Time) Record {
	switch what {
	case rotated, healed:
		rec.Predecessor, rec.ConsumedAt = n, now
		rec.Generation = n + 1
		return r.renew(rec, now)
	case recovered: // Predecessor and ConsumedAt stay, so that the window in which it is possible never slides
		rec.Generation++
		return r.renew(rec, now)
	default:
		return rec
	}
}

func (r rules) renew(rec Record, now time.Time) Record {
	rec.RotatedAt = now
	rec.ExpiresAt = earlier(now.Add(r.refreshTTL), rec.MaxExpiresAt)
	rec.Version++
	return rec
}

// revoke returns the record as revoked. No other function sets RevokedAt, and none clears it. It is not before the last
// refresh, even if the clock was put back: access tokens are denied from then on for as long as they live.
func (r Record) revoke(now time.Time, reason Reason) Record {
	r.RevokedAt, r.RevokeReason = later(now, r.RotatedAt), reason
	r.Version++
	return r
}

// live reports whether the session's tokens may be used.
func (r Record) live(now time.Time) bool { return r.RevokedAt.IsZero() && now.Before(r.ExpiresAt) }

// within reports whether period is on, and not yet over at now.
func within(now, from time.Time, period time.Duration) bool {
	return period > 0 && now.Before(from.Add(period))
}

// later returns the later of two times.
func later(t, u time.Time) time.Time {
	if u.After(t) {
		return u
	}
	return t
}

// earlier returns the earlier of t and end, where a zero end is never.
func earlier(t, end time.Time) time.Time {
	if !end.IsZero() && end.Before(t) {
		return end
	}
	return t
}

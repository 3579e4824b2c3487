package tokensession

import "time"

// This file is the rule: what a genuine refresh token leads to, and what the record becomes then.
// It is pure. It reads no clock, asks no store and remembers nothing, so everything that a Manager
// knows about a presentation is an argument, and the tests are a table.
//
// Three stories explain most of it.
//
// Two tabs of a browser hold the same token and refresh at the same moment. One of them rotates: it
// makes generation 5 of generation 4. The other one presents 4 a moment later. It gets 5 again, a
// replay, because the grace period has not passed. Both tabs hold the same successor, so the
// session did not fork.
//
// A client's reply is lost, and the client comes back with the token that it has. Within the grace
// period that is a replay. Later, and within the recovery period, the client recovers: it gets
// generation 6, which displaces 5. Should somebody else hold 5, the next use of it shows up as
// reuse.
//
// A thief copies generation 4 and uses it. Now the thief holds 5, and the owner still holds 4. Once
// the grace and recovery periods are over, the owner's next refresh presents a generation that was
// consumed by somebody else. That is reuse: the session is revoked, and both are out. If the owner
// refreshes first, the thief's copy is the consumed one, and the same thing happens.

// An outcome is what presenting a genuine refresh token leads to.
type outcome uint8

const (
	rotated   outcome = iota // the live generation: the next one becomes live
	healed                   // newer than the record: the store lost writes, and catches up
	replayed                 // consumed a moment ago: the live generation again
	renewed                  // as replayed, but nobody got the answer: the grace period begins anew
	recovered                // consumed a while ago: a new successor displaces the lost one
	reused                   // any other: two parties hold the session
	expired                  // the session's time is over
	revoked                  // the session was ended before its time
	unrevoked                // this process knows that it was revoked, and the store has lost that
	raced                    // no verdict: others refreshed twice while this call was under way
)

// rules are the periods that a decision depends on. Zero turns grace or recovery off.
type rules struct {
	refreshTTL, grace, recovery time.Duration
}

// A presentation is all that a Manager knows about one presentation of a refresh token, beside the
// session's record.
type presentation struct {
	generation uint64    // of the token
	at         time.Time // when the token came: the periods are measured up to here
	now        time.Time // when it is decided, which is later where the store or the host is slow

	// An earlier attempt of the same call found the token good: it would have made a successor. The
	// session had reached this generation then, or the token's if that is newer.
	good    bool
	reached uint64

	denied bool   // this process knows that the session was revoked
	author author // of the record's live generation
}

// An author says what this process knows about who made the live generation of a record, and so
// about whether anybody has got its token. The zero value is the answer of a process that knows
// nothing.
type author uint8

const (
	settled     author = iota // another process made it, or somebody has got it
	running                   // a call of this process made it, and has not returned
	undelivered               // a call of this process made it, and then had to return ErrUnavailable
)

// decide says what a presentation of rec leads to. judge knows the record and the time only, and
// three things that this process knows can change its answer. The first is in overtaken.
//
// The second is that the deny list can know of a revocation that the record does not have, because
// a failover lost the write. A revocation is never undone, so it is written again. Reuse ends the
// session, too, and is the more important news.
//
// The third is that the live generation may be one that nobody has got. Its call may still be
// running, perhaps in a store that stalls: then its token is the right answer for everybody who
// comes with the predecessor meanwhile, however long the write took. Or its call had to give up,
// and its client was told to come again: then the grace period begins when the client hears of the
// successor, which is now. If the period is over, another instance may already have replayed that
// successor to somebody. A new one displaces it, so that the use of the old one would show up as
// reuse.
func (r rules) decide(rec Record, p presentation) outcome {
	what := r.overtaken(rec, p)
	switch known := p.denied && rec.live(p.at); {
	case known && what != reused:
		return unrevoked
	case known, p.generation != rec.Predecessor:
		return what
	case p.author == running && r.grace > 0 && (what == reused || what == recovered):
		return replayed
	case p.author == undelivered && what == replayed:
		return renewed
	case p.author == undelivered && what == reused:
		return recovered
	default:
		return what
	}
}

// overtaken is judge for a call that may have been overtaken: an earlier attempt found its token
// good, and while the host's authorizer or the store took long, others refreshed the same session.
// That the clock went on meanwhile is no fault of the client, so the token counts as having come no
// later than the last of these writes. If it is reuse even so, the session has gone on by two
// generations, and there is no successor any more that this client could get. That proves no theft.
// So there is no verdict, and the client tries again.
//
// Without a grace period, losing a race is reuse.
func (r rules) overtaken(rec Record, p presentation) outcome {
	if !p.good || rec.Generation <= p.reached || r.grace <= 0 {
		return r.judge(rec, p.generation, p.at, p.now)
	}
	what := r.judge(rec, p.generation, sooner(p.at, rec.RotatedAt), p.now)
	if what == reused {
		return raced
	}
	return what
}

// judge says what presenting generation n at a time leads to, by the record alone.
//
// The order is by generation, never by clock: instances' clocks differ, and a clock can stand
// still. A record that became live well after now was written by a clock that is ahead. It opens no
// grace period here, because the period would last until this clock has caught up: for days, if the
// other clock is ahead by days.
func (r rules) judge(rec Record, n uint64, at, now time.Time) outcome {
	switch {
	case !rec.RevokedAt.IsZero():
		return revoked
	case !at.Before(rec.ExpiresAt):
		return expired
	case n == rec.Generation:
		return rotated
	case n > rec.Generation:
		return healed
	case n != rec.Predecessor:
		return reused
	case within(at, rec.RotatedAt, r.grace) && !rec.RotatedAt.After(now.Add(clockSkew)):
		return replayed
	case within(at, rec.ConsumedAt, r.recovery):
		return recovered
	default:
		return reused
	}
}

// next returns what the record becomes if an outcome is written now. Only rotated, healed, renewed
// and recovered change it. The WriteID is the writer's to set.
//
// A recovery leaves Predecessor and ConsumedAt as they are, so that the window in which recovery is
// possible never slides. A renewal leaves the generations as they are, so that a successor that a
// recovery has displaced cannot come back.
//
// RotatedAt and ConsumedAt are always now. The idle end is counted from the last rotation if that
// is later, so that a clock that was put back shortens no session.
func (r rules) next(what outcome, rec Record, n uint64, now time.Time) Record {
	switch what {
	case rotated, healed:
		rec.Predecessor, rec.ConsumedAt = n, now
		rec.Generation = n + 1
	case recovered:
		rec.Generation++
	case renewed:
	default:
		return rec
	}
	rec.ExpiresAt = earlier(later(now, rec.RotatedAt).Add(r.refreshTTL), rec.MaxExpiresAt)
	rec.RotatedAt = now
	rec.Version++
	return rec
}

// late reports whether a write took so long that most of the grace period was over before the
// client could hear of the successor.
func (r rules) late(rec Record, now time.Time) bool {
	return r.grace > 0 && now.Sub(rec.RotatedAt) > r.grace/2
}

// revoke returns the record as revoked. No other function sets RevokedAt, and none clears it. It is
// not before the last refresh, even if the clock was put back, because access tokens are refused
// from then on for as long as they live.
func (r Record) revoke(now time.Time, reason Reason) Record {
	r.RevokedAt, r.RevokeReason = later(now, r.RotatedAt), reason
	r.Version++
	return r
}

// live reports whether the session's tokens may be used.
func (r Record) live(now time.Time) bool { return r.RevokedAt.IsZero() && now.Before(r.ExpiresAt) }

// within reports whether a period that began at from is on, and not yet over at now.
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

// sooner returns the earlier of two times.
func sooner(t, u time.Time) time.Time {
	if u.Before(t) {
		return u
	}
	return t
}

// earlier returns the earlier of t and end, where a zero end means never.
func earlier(t, end time.Time) time.Time {
	if end.IsZero() {
		return t
	}
	return sooner(t, end)
}

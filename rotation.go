package tokensession

import "time"

// This file is the rule: what a genuine refresh token leads to, and what the record becomes then.
// It is pure. It reads no clock, asks no store and remembers nothing, so everything that a Manager
// knows about a presentation is an argument, and the tests are a table.
//
// Four stories explain most of it.
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
// A thief copies generation 4 and uses it. Now the thief holds 5, and the owner still holds 4. If
// the owner comes back within the recovery period, the owner gets 6, and the thief's next use of 5
// is reuse. If the owner comes later, the owner's own 4 is reuse. If the owner refreshes first, it
// is the same with the parts exchanged. In each case the session is revoked, and both are out.
//
// An administrator takes a permission away from a user. The session goes on, and its access tokens
// must not. So the record's epoch goes up, and access tokens of earlier epochs are refused in every
// process that has heard of it. An access token has the epoch of the record that it was made from.
// So it does not matter which of two clocks is ahead, or whether a refresh was under way: a token
// whose record was loaded before is refused, and one whose record was loaded after is not.
//
// And one story is about keys. A client can have a key, and can prove that it has it. With the
// first refresh that comes with such a proof, the session is bound to that key, and so is each
// refresh token from then on. A thief who copies a bound token gets nothing for it, and cannot end
// the session with it, either. The client itself may have lost a reply however long ago: nobody
// else can have received it, so it gets a new successor instead of being taken for a thief. But a
// thief can copy a token before the session is bound, and bind the session to a key of the thief's
// own. Then the owner comes with a token that was made before the binding, and cannot prove the
// thief's key: that is reuse ([rules.byKey]).

// An outcome is what presenting a genuine refresh token leads to.
type outcome uint8

const (
	rotated   outcome = iota // the live generation: the next one becomes live
	healed                   // newer than the record: the store lost writes, and catches up
	replayed                 // consumed a moment ago: the live generation again
	raised                   // as replayed, but the epoch goes up, and that is written
	renewed                  // as replayed, but nobody got the answer: the grace period begins anew
	recovered                // consumed a while ago: a new successor displaces the lost one
	reused                   // any other: two parties hold the session
	expired                  // the session's time is over
	revoked                  // the session was ended before its time
	unrevoked                // this process knows that it was revoked, and the store has lost that
	raced                    // no verdict: the session went on by two generations meanwhile
	unproved                 // no verdict: the proof of the session's key is missing
	foreign                  // another client: it proves another key than that of the token
)

// rules are the periods that a decision depends on. Zero turns grace or recovery off, and a zero
// maxLifetime is none. A session that was ended is kept for keepEnded.
type rules struct {
	refreshTTL, maxLifetime, grace, recovery, keepEnded time.Duration
}

// A presentation is all that a Manager knows about one presentation of a refresh token, beside the
// session's record.
type presentation struct {
	generation uint64    // of the token
	at         time.Time // when the token came: the periods are measured up to here
	now        time.Time // when it is decided, which is later if the store or the host is slow

	good    bool   // an earlier attempt of the same call found the token good
	reached uint64 // the generation that the session had reached then

	// guessed says that an earlier attempt of the same call found the token to be the live one by a
	// record that this process remembers. That record can have been old news. ours says that this
	// process made the live generation.
	guessed, ours bool

	denied bool   // this process knows that the session was revoked, or has to be
	epoch  uint64 // this process refuses the access tokens of earlier ones
	author author // of the record's live generation

	boundTo string // the key that the token was made for; empty: a plain token
	proven  string // the key of which the client has given proof; empty: of none

	// proved says that the user has just proved again who they are, so that the session has to
	// change. named says that the host named the session, and nobody presented a token.
	proved, named bool
}

// An author says what this process knows about the call that made the live generation of a record,
// and so about whether anybody has received its token. The zero value is the answer of a process
// that knows nothing.
type author uint8

const (
	settled     author = iota // nothing here says that nobody has received it
	running                   // a call of this process made it, and has not returned
	undelivered               // a call of this process made it, and nobody received it from there
	mine                      // the call that decides made it itself, and its reply was lost
)

// decide says what a presentation of rec leads to. judge knows the record and the time only. Five
// things can change its answer.
//
// Good: an earlier attempt of this call found the token good. While the host's authorizer or the
// store took long, others may have refreshed the same session, and overtaken this call. That the
// clock went on meanwhile is no fault of the client, so the token is judged as if it had come when
// the last of them wrote. If it is reuse even so, there is no successor any more that this client
// could get. That proves no theft. So there is no verdict, and the client tries again. Without a
// grace period, losing a race is reuse.
//
// Key: the session or the token may be bound to a key ([rules.byKey]).
//
// Denied: this process can know of a revocation that the record does not have, because a failover
// lost the write, or because the reply to it was lost. A revocation is never undone, so it is
// written again. Reuse ends the session, too, and is the more important news.
//
// Author: perhaps nobody has received the token of the live generation. If the grace period is over
// while the call that made it still runs, then the write took long, in a store that stalls. If that
// call had to give up, its client was told to come again. In both cases nobody can have heard of
// the successor before now. So this client gets it, and its grace period begins anew. But if a call
// gave up and the period is over, another instance may have replayed the successor to somebody.
// Then a new one displaces it, so that the use of the old one would show up as reuse. And if it is
// this very call that made the live generation, its client gets it, however long the reply took and
// whatever others have written meanwhile.
//
// Last comes the epoch. A replay leaves the record as it is, unless the epoch has to go up. What is
// written anyway raises it with the same write ([rules.epochAfter]).
func (r rules) decide(rec Record, p presentation) outcome {
	what := r.byKey(r.judgeInTime(rec, p), rec, p)
	if p.denied && r.live(rec, p.at) {
		if what == reused && !p.good {
			return reused
		}
		return unrevoked
	}
	if p.generation == rec.Predecessor && !p.named && p.holds(rec) {
		what = r.byAuthor(what, rec, p)
	}
	switch {
	case what == reused && p.overtaken(rec) && r.grace > 0:
		return raced
	case what == replayed && r.epochAfter(what, rec, p) > rec.Epoch:
		return raised
	}
	return what
}

// overtaken reports whether others may have refreshed the session while this call was under way.
// Then an old token proves no theft.
//
// If an earlier attempt found the token good by the record in the store, that is so. If it only
// guessed, by a record that this process remembered, the token may have been old already when it
// came, and that would be theft. There are two signs that it was not. The live generation was made
// after the token came, by the record's time. Or this process made it: if it had done so before the
// token came, it would have remembered that record, and not an older one.
func (p presentation) overtaken(rec Record) bool {
	return p.good || p.guessed && (p.ours || rec.RotatedAt.After(p.at))
}

// judgeInTime is the first part of decide: it judges the token by the time that counts for this
// call. If the host has named the session, there is no token, and the session goes on as it is.
func (r rules) judgeInTime(rec Record, p presentation) outcome {
	overtaken := p.good && rec.Generation > p.reached && r.grace > 0
	at := p.at
	if overtaken {
		at = sooner(at, rec.RotatedAt)
	}
	what := r.judge(rec, p.generation, at, p.now)
	if p.named && what != revoked && what != expired {
		what = replayed
	}
	return what
}

// holds reports whether a presentation brings the proof of the session's key, if there is one.
// Where there is none, a bound token has the proof of its own key: without that, nobody can tell it
// from a forgery ([refreshToken.madeFor]).
func (p presentation) holds(rec Record) bool {
	return rec.KeyThumbprint == "" || rec.KeyThumbprint == p.proven
}

// byKey is the second part of decide. What revoked and expired say is about the session, so it is
// said whoever asks.
//
// The holder of the key can have lost a reply however long ago, because nobody else can have got
// it. So it recovers at any time, and not only within the recovery period. It does not if there is
// no grace period: then a token counts once, whoever presents it.
//
// A bound token without its key gets nothing and ends nothing, because a copy of it proves no more
// than that there is a copy. There is one exception. The record can be bound to another key than
// the token, and the client proves the token's. Then the store has lost the write that bound the
// session, and somebody else has bound it since. Two parties hold the session, and both are out.
func (r rules) byKey(what outcome, rec Record, p presentation) outcome {
	predecessor, bound := p.generation == rec.Predecessor, rec.KeyThumbprint != "" || p.boundTo != ""
	switch {
	case what == revoked, what == expired, p.named:
		return what
	case p.holds(rec):
		if what == reused && predecessor && bound && r.grace > 0 {
			return recovered
		}
		return what
	case p.boundTo == "":
		return r.beforeBinding(what, rec, p)
	case p.proven == "":
		return unproved
	case p.proven != p.boundTo:
		return foreign
	}
	return reused
}

// beforeBinding is about a plain token of a bound session that comes without the proof of its key.
// The token was made before the session was bound. After the grace period two parties hold the
// session: whoever bound it, and whoever comes now. That is reuse, also within the recovery period,
// because the successor would be of no use without the key.
//
// Within the grace period two things look alike: an honest second tab that raced with the refresh
// that bound the session, and the victim of a thief who did that. If the victim got the successor,
// it could never use it, and would present no plain token again, and the thief would stay. So there
// is no verdict and no successor. The tab finds the new token where its browser keeps them, and the
// victim comes again when the period is over.
//
// When the holder of the key recovers, the grace period begins anew, and the tab may come with the
// same token at that moment, too: both have slept, say. But a thief who holds the key could recover
// again and again, and the period would never be over. So this holds for one recovery, and a token
// of before the binding is reuse after the second one.
func (r rules) beforeBinding(what outcome, rec Record, p presentation) outcome {
	waits := p.generation == rec.Predecessor && p.author == running && r.grace > 0
	if rec.Generation <= rec.Predecessor+2 && (what == replayed || waits) {
		return unproved
	}
	return reused
}

// keyAfter returns the key that the session is bound to after an outcome. A session has one key at
// most, for good. A replay or a renewal hands out a successor that others may have, too, so it
// binds nothing.
func keyAfter(what outcome, rec Record, p presentation) string {
	if rec.KeyThumbprint == "" && (what == rotated || what == healed || what == recovered) {
		return p.proven
	}
	return rec.KeyThumbprint
}

// epochAfter returns the session's epoch after an outcome that gives the client tokens.
//
// A failover can lose the write that raised the epoch. This process still refuses the tokens of
// earlier epochs then. If the session's record stayed behind, every new access token would be
// refused, too. So the epoch becomes at least what this process knows. A session that heals has
// lost writes, and one of them may have raised the epoch without this process knowing. So it gets
// a new one, later than any that can have been lost.
func (r rules) epochAfter(what outcome, rec Record, p presentation) uint64 {
	epoch := max(rec.Epoch, p.epoch)
	if what == healed || p.proved && p.author != mine {
		return nextEpoch(epoch, p.now)
	}
	return epoch
}

// nextEpoch returns the epoch that comes after one. It is not just the next number, because a
// failover can lose the write of that, and then the same number would stand for two epochs.
func nextEpoch(epoch uint64, now time.Time) uint64 {
	return max(epoch+1, uint64(max(now.UnixMilli(), 0)))
}

// byAuthor is the last part of decide, for the predecessor's generation. If most of the grace
// period is over and the call that made the live generation still runs, a replay has to begin the
// period anew, too: that call may have to give up, and its client would come again when it is over.
func (r rules) byAuthor(what outcome, rec Record, p presentation) outcome {
	a, missed := p.author, what == reused || what == recovered
	switch {
	case a == mine && missed:
		return replayed
	case a == running && what == replayed && r.late(rec, p.now):
		return renewed
	case a == running && r.grace > 0 && missed:
		return renewed
	case a == undelivered && what == replayed && r.renewable(rec, p.at):
		return renewed
	case a == undelivered && what == reused:
		return recovered
	default:
		return what
	}
}

// renewable reports whether the grace period may begin anew for who came in time: because nobody
// has received the successor, or because the answer is late. Of a session that is bound to no key,
// whoever comes gets that successor, so it harms nobody. But a thief can bind a session, and come
// again and again, at the last moment or hanging up before the answer: the victim would get no
// verdict for as long as the thief goes on ([rules.beforeBinding]). So for a bound session this
// ends after two grace periods. Its client does not need more, because it recovers at any time.
func (r rules) renewable(rec Record, at time.Time) bool {
	return rec.KeyThumbprint == "" || within(at, rec.ConsumedAt, 2*r.grace)
}

// answered says what a replay is when it is answered, which is later if the store or the host is
// slow. If the grace period is over by then, the replay is written as a renewal. That shows whether
// the record is still the one that was loaded: a client that recovered may have displaced the
// successor. And the client's other tabs have a period of which they can know. Where the period may
// not begin anew any more, there is no verdict: the client comes again, and recovers.
func (r rules) answered(what outcome, rec Record, a author, now time.Time) outcome {
	switch {
	case a == mine:
		return what
	case a == undelivered && r.renewable(rec, now), a == running && r.late(rec, now):
		return renewed
	case within(now, rec.RotatedAt, r.grace):
		return what
	case r.renewable(rec, now):
		return renewed
	}
	return raced
}

// judge says what presenting generation n leads to, by the record alone. The periods are measured
// up to at, when the token came; now only shows whether another clock is ahead.
//
// The order is by generation, never by clock: instances' clocks differ, and a clock can stand
// still. A record that became live well after now was written by a clock that is ahead. It opens no
// grace period here, because the period would last until this clock has caught up: for days, if the
// other clock is ahead by days.
func (r rules) judge(rec Record, n uint64, at, now time.Time) outcome {
	switch {
	case !rec.RevokedAt.IsZero():
		return revoked
	case !at.Before(r.end(rec)):
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

// next returns what the record becomes if an outcome is written now. Only rotated, healed, renewed,
// recovered and raised change it. The WriteID is the writer's to set, and the epoch is raised by
// [Record.outdated].
//
// A recovery leaves Predecessor and ConsumedAt as they are, so that the window in which recovery is
// possible never slides. A renewal leaves the generations as they are, so that a successor that a
// recovery has displaced cannot come back.
//
// RotatedAt and ConsumedAt are always now. The end is never earlier than it was by these rules. So
// a clock that is behind, or was put back, shortens no session, however many refreshes go by it.
//
// The session's own periods, as they were chosen at login, count, or these rules' if they are
// shorter.
func (r rules) next(what outcome, rec Record, n uint64, now time.Time) Record {
	switch what {
	case rotated, healed:
		rec.Predecessor, rec.ConsumedAt = n, now
		rec.Generation = n + 1
	case recovered:
		rec.Generation++
	case renewed:
	case raised:
		return rec.replacing()
	default:
		return rec
	}
	idle := r.refreshTTL
	if rec.IdleTTL > 0 {
		idle = min(idle, rec.IdleTTL)
	}
	rec.ExpiresAt = earlier(later(now.Add(idle), r.end(rec)), r.absoluteEnd(rec))
	rec.RotatedAt = now
	return rec.replacing()
}

// replacing returns the record as the one to be written in its own place.
func (r Record) replacing() Record {
	r.Replaces = r.WriteID
	r.Version++
	return r
}

// absoluteEnd returns when a session ends whatever happens, or the zero time. MaxExpiresAt was
// written at login and never changes. A shorter lifetime of these rules holds at once.
func (r rules) absoluteEnd(rec Record) time.Time {
	if r.maxLifetime <= 0 {
		return rec.MaxExpiresAt
	}
	return earlier(rec.CreatedAt.Add(r.maxLifetime), rec.MaxExpiresAt)
}

// end returns when a session ends unless it is refreshed. That is ExpiresAt, unless these rules are
// shorter than those that it was written under. Then it is as much earlier as the idle time is
// shorter. But it is not earlier than the idle time after the last rotation: ExpiresAt may have
// been cut to the absolute end, or been written under these rules.
func (r rules) end(rec Record) time.Time {
	end := rec.ExpiresAt
	if excess := rec.IdleTTL - r.refreshTTL; excess > 0 {
		end = sooner(end, later(end.Add(-excess), rec.RotatedAt.Add(r.refreshTTL)))
	}
	return earlier(end, r.absoluteEnd(rec))
}

// late reports whether a write took so long that most of the grace period was over before the
// client could hear of the successor.
func (r rules) late(rec Record, now time.Time) bool {
	return r.grace > 0 && now.Sub(rec.RotatedAt) > r.grace/2
}

// revoke returns the record as revoked, and as expired when nothing needs it any more.
func (r rules) revoke(rec Record, now time.Time, reason Reason) Record {
	rec = rec.revoke(now, reason)
	rec.ExpiresAt = sooner(rec.ExpiresAt, rec.RevokedAt.Add(r.keepEnded))
	return rec
}

// revoke returns the record as revoked. No other function sets RevokedAt, and none clears it. It is
// not before the last refresh, even if the clock was put back, because access tokens are refused
// from then on for as long as they live.
func (r Record) revoke(now time.Time, reason Reason) Record {
	r.RevokedAt, r.RevokeReason = later(now, r.RotatedAt), reason
	return r.replacing()
}

// outdated returns the record with a later epoch, or as it is if it has that already. No other
// function sets Epoch. OutdatedAt is not before the last refresh, for the same reason as RevokedAt.
func (r Record) outdated(epoch uint64, now time.Time) Record {
	if epoch > r.Epoch {
		r.Epoch, r.OutdatedAt = epoch, later(now, r.RotatedAt)
	}
	return r
}

// live reports whether a session's tokens may be used.
func (r rules) live(rec Record, now time.Time) bool {
	return rec.RevokedAt.IsZero() && now.Before(r.end(rec))
}

// mayLive reports whether a session's tokens may be used somewhere. These rules do not count here,
// because another Manager's may be longer, or this one's be so later.
func (r Record) mayLive(now time.Time) bool {
	return r.RevokedAt.IsZero() && now.Before(r.ExpiresAt)
}

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

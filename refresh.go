package tokensession

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// maxAttempts is how often a write is tried against others that get in between. Each that does has
// rotated or revoked the session, so more than two or three never happen.
const maxAttempts = 8

// maxFailures is how many of a call's writes may fail without a word on whether they were applied.
const maxFailures = 3

// Refresh exchanges a refresh token for new tokens. The order of steps is: parse, load,
// authenticate, compare the client, decide, authorize, sign, and only then write. So whatever fails
// before, nothing is consumed and the token still works: the error is [ErrUnavailable].
//
// [ErrInvalidToken] and [ErrExpired] say that the token is of no use, [ErrRevoked] that the session
// was ended before, a [*ReuseError] that it has been ended now because the token was consumed
// before, and [ErrDenied] that it has been ended now because the authorizer says so.
// [ErrInvalidScope] is about a [WithScope] only.
func (m *Manager) Refresh(
	ctx context.Context, refreshToken string, opts ...RefreshOption,
) (Tokens, error) {
	r := refresh{Manager: m, presented: m.now()}
	for _, opt := range opts {
		opt.applyRefresh(&r.options)
	}
	if err := checkAttributes(r.options.attributes); err != nil {
		return Tokens{}, err
	}
	if err := checkScope("WithScope", r.options.scope); err != nil {
		return Tokens{}, fmt.Errorf("%w: %w", ErrInvalidScope, err)
	}
	if err := ctx.Err(); err != nil {
		return Tokens{}, unavailable("refreshing", err)
	}
	var ok bool
	if r.token, ok = parseRefreshToken(refreshToken); !ok {
		return Tokens{}, invalid("malformed refresh token")
	}
	r.id = r.token.handle.sessionID()
	r.writeID, r.endID = m.newWriteIDs()
	defer m.deliveries.leave(r.id, r.writeID) // also if the host's code panics
	return r.run(ctx)
}

// A refresh is one call of Refresh. Nothing here changes after the call has begun.
//
// All attempts of a call share two WriteIDs, one for the write that makes a successor and one for
// the write that ends the session. A record with one of them is this call's work, whichever attempt
// wrote it. They differ because a store may take two writes with one WriteID for the same write.
type refresh struct {
	*Manager
	token     refreshToken
	id        string // of its session
	options   refreshOptions
	presented time.Time
	writeID   string
	endID     string
}

// run attempts to refresh until that has come to something, or too often.
//
// An attempt loads the record, decides what the token leads to, asks the authorizer, signs, and
// writes. The write is a compare-and-swap, and one of three things becomes of it.
//
// It is applied, and the client gets its answer.
//
// It conflicts: somebody changed the record in between, say another tab with the same token. The
// next attempt loads what the other one wrote and decides afresh. By then the token is the
// predecessor, within its grace period, so that this tab gets the same successor.
//
// Its reply is lost, and nobody knows whether it was applied. The next attempt looks: a record with
// this call's WriteID says that it was. If the store cannot even be read, the call has to give up.
// The client is told to come again with the same token, and the deliveries remember that there may
// be a successor that nobody has got. So the client's next refresh is no theft, however late it
// comes.
//
// A thief is caught on the same path: the decision is reuse, and what is written is a revocation.
// If the reply to that is lost and the store cannot be read, the session's access tokens are
// refused from now on, and its next refresh writes the revocation again.
func (r *refresh) run(ctx context.Context) (Tokens, error) {
	var so attempts
	for so.n < maxAttempts && so.failures < maxFailures {
		tokens, err := r.attempt(ctx, &so)
		if err == nil || !errors.Is(err, errTryAgain) {
			return tokens, r.conclude(so, err)
		}
		so.n++
		so.err = err
	}
	return Tokens{}, r.conclude(so, unavailable("refreshing", so.err))
}

// attempts are what the attempts of a call have come to so far.
type attempts struct {
	n        int
	failures int   // how many writes failed without a conflict
	err      error // of the last one
	sent     step  // the last one that was to be written

	good    bool   // one of them found the token good, as a presentation says it
	reached uint64 // and the session had reached this generation then

	made  time.Time // when a session ends of which a successor may have been made; zero: none
	ended bool      // the session may have been ended
}

// errTryAgain marks the error of a write that was not applied, or of which that is not known.
var errTryAgain = errors.New("tokensession: try again")

func (r *refresh) attempt(ctx context.Context, so *attempts) (Tokens, error) {
	rec, err := r.find(ctx, so.sent.ends())
	if err != nil {
		return Tokens{}, err
	}
	if so.sent.writes() && so.sent.record.WriteID == rec.WriteID {
		return r.finish(ctx, rec, so.sent) // it had failed in appearance only
	}
	what := r.rules.decide(rec, r.presentation(rec, so))
	if !so.good && makesSuccessor(what) {
		so.good, so.reached = true, max(rec.Generation, r.token.generation)
	}
	next, err := r.plan(ctx, rec, what, so.sent.answer)
	if err != nil {
		return Tokens{}, err
	}
	if !next.writes() {
		return r.finish(ctx, rec, next)
	}
	so.sent = next
	if err := r.write(ctx, next); err != nil {
		so.note(next, err)
		if so.made.IsZero() { // no write of this call can be in the store
			r.deliveries.leave(r.id, r.writeID)
		}
		return Tokens{}, fmt.Errorf("%w: %w", errTryAgain, err)
	}
	return r.finish(ctx, next.record, next)
}

// note takes down what is known of a write that failed.
func (so *attempts) note(s step, err error) {
	if !errors.Is(err, ErrConflict) {
		so.failures++
	}
	switch {
	case !mayBeApplied(err):
	case s.ends():
		so.ended = true
	default:
		so.made = later(so.made, s.record.ExpiresAt)
	}
}

// mayBeApplied reports whether a write that failed may be in the store.
func mayBeApplied(err error) bool {
	return !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound)
}

// conclude remembers what a call that came to no verdict leaves to those that come after it.
func (r *refresh) conclude(so attempts, err error) error {
	if !errors.Is(err, ErrUnavailable) {
		return err
	}
	if !so.made.IsZero() {
		r.deliveries.giveUp(r.id, r.writeID, so.made, r.now())
	}
	if so.ended {
		r.deny(r.id, r.now())
	}
	return err
}

// find loads the session's record, if the token is authentic and comes from the right client. The
// caller's going away does not stop a call that is ending the session.
func (r *refresh) find(ctx context.Context, ending bool) (Record, error) {
	if ending {
		detached, cancel := detach(ctx)
		defer cancel()
		ctx = detached
	}
	rec, err := r.load(ctx, r.id)
	switch {
	case errors.Is(err, ErrNotFound):
		return Record{}, invalid("unknown session")
	case err != nil:
		return Record{}, err
	case !r.token.authentic(r.tokenKeys(rec)):
		return Record{}, invalid("forged refresh token")
	case rec.ClientID != "" && rec.ClientID != r.options.clientID:
		return Record{}, invalid("refresh token of another client")
	}
	return rec, nil
}

// presentation gathers what the rule asks for.
func (r *refresh) presentation(rec Record, so *attempts) presentation {
	p := presentation{
		generation: r.token.generation, at: r.presented, now: r.now(),
		good: so.good, reached: so.reached,
		denied: r.denied.has(rec.ID, r.presented),
	}
	if p.generation == rec.Predecessor && r.made(rec) {
		p.author = r.deliveries.author(r.id, r.writeID, rec.Generation)
	}
	return p
}

var errRaced = errors.New("others have refreshed the session twice in the meantime")

// A step is what an attempt does about the decision.
type step struct {
	event  Event  // what the host is told when it is done
	answer answer // of the authorizer
	record Record // what is to be written; without a WriteID: nothing
}

func (s step) writes() bool { return s.record.WriteID != "" }
func (s step) ends() bool   { return !s.record.RevokedAt.IsZero() }

// An answer is what the authorizer said about a session, and the access token that was made of it.
// It is good for the version of the record that it was asked with.
type answer struct {
	version uint64
	issued  *accessToken
	denied  error
}

// plan makes a decision a step: it asks the authorizer and signs. The answer of an earlier attempt
// still holds if the record is as it was then.
func (r *refresh) plan(
	ctx context.Context, rec Record, what outcome, earlier answer,
) (step, error) {
	switch what {
	case raced:
		return step{}, unavailable("refreshing", errRaced)
	case revoked:
		r.deny(rec.ID, rec.RevokedAt)
		return step{}, &RevokedError{rec.ID, rec.RevokeReason}
	case expired:
		return step{}, fmt.Errorf("%w: session %s", ErrExpired, rec.ID)
	case reused:
		return r.end(rec, EventReused, ReasonReuse, answer{}), nil
	case unrevoked:
		return r.end(rec, EventRevoked, ReasonRevoked, answer{}), nil
	}
	if earlier.version != rec.Version {
		var err error
		if earlier, err = r.ask(ctx, rec, what); err != nil {
			return step{}, err
		}
	}
	if earlier.denied != nil {
		return r.end(rec, EventDenied, ReasonDenied, earlier), nil
	}
	s := step{
		answer: earlier,
		event:  Event{Kind: grantedAs[what], Presented: r.token.generation, Live: rec.Generation},
	}
	if what == renewed { // it is the refresh before, done again
		s.event.Live = rec.Predecessor
	}
	if makesSuccessor(what) {
		s.record = r.rules.next(what, rec, r.token.generation, r.now())
		s.record.Attributes = mergeAttributes(rec.Attributes, r.options.attributes)
		s.record.WriteID = r.writeID
	}
	return s, nil
}

// makesSuccessor reports whether an outcome is written so that this client gets what nobody has
// yet.
func makesSuccessor(what outcome) bool {
	return what == rotated || what == healed || what == renewed || what == recovered
}

var grantedAs = map[outcome]EventKind{
	rotated: EventRefreshed, healed: EventHealed, recovered: EventRecovered,
	replayed: EventReplayed, renewed: EventRefreshed,
}

// ask asks the authorizer about the session as it is, but with the attributes that it is to have,
// and signs.
func (r *refresh) ask(ctx context.Context, rec Record, what outcome) (answer, error) {
	session := rec.Session()
	session.Attributes = mergeAttributes(rec.Attributes, r.options.attributes)
	if err := checkAttributes(session.Attributes); err != nil {
		return answer{}, err
	}
	sessionEnd := r.rules.next(what, rec, r.token.generation, r.presented).ExpiresAt
	issued, err := r.issue(ctx, session, sessionEnd, r.presented, r.options.accessOptions)
	switch {
	case errors.Is(err, ErrDenied):
		return answer{version: rec.Version, denied: err}, nil
	case err != nil:
		return answer{}, err
	}
	return answer{version: rec.Version, issued: issued}, nil
}

// end is the step that revokes the session.
func (r *refresh) end(rec Record, kind EventKind, reason Reason, a answer) step {
	s := step{
		event:  Event{Kind: kind, Presented: r.token.generation, Live: rec.Generation},
		answer: a, record: rec.revoke(r.now(), reason),
	}
	s.record.WriteID = r.endID
	return s
}

// write writes a step's record. A revocation is not stopped by the caller's going away. What makes
// a successor is known to other calls from before it is sent until this call returns.
func (r *refresh) write(ctx context.Context, s step) error {
	if s.ends() {
		detached, cancel := detach(ctx)
		defer cancel()
		return r.store.Swap(detached, s.record)
	}
	r.deliveries.send(r.id, r.writeID, s.record.Generation)
	return r.store.Swap(ctx, s.record)
}

// finish tells the host what became of the session, and returns what the client gets. The record is
// as the store has it.
func (r *refresh) finish(ctx context.Context, rec Record, s step) (Tokens, error) {
	if s.writes() && !s.ends() && r.rules.late(rec, r.now()) {
		rec = r.renew(ctx, rec)
	}
	if s.ends() {
		r.deny(rec.ID, rec.RevokedAt)
	}
	s.event.Session = rec.Session()
	r.emit(ctx, s.event)
	switch s.event.Kind {
	case EventReused:
		e := s.event
		return Tokens{}, &ReuseError{Session: e.Session, Presented: e.Presented, Live: e.Live}
	case EventDenied:
		return Tokens{}, s.answer.denied
	case EventRevoked:
		return Tokens{}, &RevokedError{rec.ID, rec.RevokeReason}
	}
	r.deliveries.deliver(r.id, rec.Generation)
	return r.tokens(rec, r.token.handle, s.answer.issued), nil
}

// renewTimeout is how much longer a client waits after a slow write.
const renewTimeout = time.Second

// renew begins the grace period anew after a write that took much of it. A client cannot know of a
// successor before it has got the answer, so the tabs that shared the old token need the whole
// period from now on, also on other instances. Another call that read the record before, and found
// theft, meets a conflict and decides again.
//
// This is best effort. If it fails, or the store is still slow, the client gets its answer and the
// period is short.
func (r *refresh) renew(ctx context.Context, rec Record) Record {
	ctx, cancel := context.WithTimeout(ctx, renewTimeout)
	defer cancel()
	next := r.rules.next(renewed, rec, r.token.generation, r.now())
	next.WriteID = renameWrite(rec.WriteID)
	if r.store.Swap(ctx, next) != nil {
		return rec
	}
	return next
}

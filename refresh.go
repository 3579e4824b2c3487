package tokensession

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// maxAttempts is how often a write is tried against others that get in between. Each that does has rotated or revoked
// the session, so more than two or three never happen.
const maxAttempts = 8

// Refresh exchanges a refresh token for new tokens. The order of steps is: parse, load, authenticate, compare the
// client, decide, authorize, sign, and only then write. So whatever fails before, nothing is consumed and the token
// still works: the error is [ErrUnavailable].
//
// [ErrInvalidToken] and [ErrExpired] say that the token is of no use, [ErrRevoked] that the session was ended before,
// a [*ReuseError] that it has been ended now because the token was consumed before, and [ErrDenied] that it has been
// ended now because the authorizer says so. [ErrInvalidScope] is about a [WithScope] only.
func (m *Manager) Refresh(ctx context.Context, refreshToken string, opts ...RefreshOption) (Tokens, error) {
	r := refresh{Manager: m, writeID: randomID(), presented: m.now()}
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
	defer r.leave() // also if the host's code panics
	tokens, err := r.run(ctx)
	r.settle(err)
	return tokens, err
}

// settle notes what a refresh that came to err leaves to those that come after it.
func (r *refresh) settle(err error) {
	switch {
	case err == nil:
		if r.pending.Kind != EventReplayed || r.doubted {
			r.unanswered.settle(r.id)
		}
		if r.replayed != "" {
			r.underWay.give(r.replayed)
		}
	case errors.Is(err, ErrUnavailable):
		if !r.inDoubt.IsZero() {
			r.unanswered.add(r.id, r.writeID, r.inDoubt, r.presented, r.now())
		}
		if r.endID != "" {
			r.deny(r.id, r.now()) // it may have been ended, and is to be in any case
		}
	}
}

// leave ends what the refresh has under way.
func (r *refresh) leave() {
	if r.sent && r.underWay.remove(r.writeID) {
		r.unanswered.settle(r.id)
	}
}

// run attempts to refresh until that has come to something, or too often.
func (r *refresh) run(ctx context.Context) (Tokens, error) {
	var lastErr error
	failures := 0
	for range maxAttempts {
		tokens, err := r.attempt(ctx)
		if !errors.Is(err, errTryAgain) {
			return tokens, err
		}
		lastErr = err
		if !errors.Is(err, ErrConflict) {
			if failures++; failures == 3 {
				break
			}
		}
	}
	return Tokens{}, unavailable("refreshing", lastErr)
}

// errTryAgain marks the error of a write that was not applied, or may have been.
var errTryAgain = errors.New("tokensession: try again")

// A refresh is one call of Refresh. Its attempts share one WriteID: whichever of them was applied, a record with this
// WriteID is its work.
type refresh struct {
	*Manager
	token   refreshToken
	id      string // of its session
	options refreshOptions
	writeID string
	endID   string // where it ends the session instead: a store may take two writes with one WriteID for the same

	// When the token was presented. The periods are measured to it, and from the write of its successor: however long
	// the authorizer, the signer or the store takes, two refreshes of one Manager that raced are no theft.
	presented time.Time

	stood    bool         // an earlier attempt found that the token may have a successor
	reached  uint64       // the generation that the session had reached then: beyond it, others have been faster
	inDoubt  time.Time    // until when what a write that may have been applied made live lives; zero: there was none
	sent     bool         // a write is under way that makes a successor
	doubted  bool         // the successor is one that nobody had got
	replayed string       // the write whose successor it is that is replayed
	pending  Event        // what the last write was to do
	issued   *accessToken // kept for the next attempt, so that nobody is asked twice
}

func (r *refresh) attempt(ctx context.Context) (Tokens, error) {
	_, ending := endedFor[r.pending.Kind]
	if ending { // the caller's going away does not stop that
		detached, cancel := detach(ctx)
		defer cancel()
		ctx = detached
	}
	rec, err := r.load(ctx, r.id)
	switch {
	case errors.Is(err, ErrNotFound):
		return Tokens{}, invalid("unknown session")
	case err != nil:
		return Tokens{}, err
	case !r.token.authentic(r.tokenKeys(rec)):
		return Tokens{}, invalid("forged refresh token")
	case rec.ClientID != "" && rec.ClientID != r.options.clientID:
		return Tokens{}, invalid("refresh token of another client")
	case ending && rec.WriteID == r.endID: // an attempt failed only in appearance
		return r.finish(ctx, rec)
	case !ending && rec.WriteID == r.writeID:
		return r.finish(ctx, r.freshen(ctx, rec))
	case ending && rec.RevokedAt.IsZero() && (r.pending.Kind != EventReused || r.decide(rec) != replayed): // see freshen
		return r.end(ctx, rec, r.pending.Kind)
	}
	what := r.decide(rec)
	if rec.live(r.presented) && r.denied.has(rec.ID, r.presented) {
		if what == reused {
			return r.end(ctx, rec, EventReused)
		}
		return r.end(ctx, rec, EventRevoked)
	}
	if r.token.generation == rec.Predecessor {
		switch {
		case (what == reused || what == recovered) && r.underWay.has(rec.WriteID):
			what = replayed
		case r.unanswered.found(rec.ID, rec.WriteID, r.now()):
			r.doubted = true
			what = r.again(&rec, what)
		}
	}
	if !r.stood && (what == rotated || what == healed || what == recovered) {
		r.stood, r.reached = true, max(rec.Generation, r.token.generation)
	}
	switch what {
	case raced:
		return Tokens{}, unavailable("refreshing", errors.New("others have refreshed the session twice in the meantime"))
	case revoked:
		r.deny(rec.ID, rec.RevokedAt)
		return Tokens{}, &RevokedError{rec.ID, rec.RevokeReason}
	case expired:
		return Tokens{}, fmt.Errorf("%w: session %s", ErrExpired, rec.ID)
	case reused:
		return r.end(ctx, rec, EventReused)
	default:
		return r.grant(ctx, rec, what)
	}
}

// decide is rules.decide for a call that may have lost a race. If the token could have a successor when the call first
// looked, then it was presented in time, however long the store took: it is answered as within the grace period, or,
// where that is no longer possible, with no verdict. Without a grace period, losing a race is reuse.
func (r *refresh) decide(rec Record) outcome {
	lost := r.stood && r.rules.grace > 0 && rec.Generation > r.reached
	at := r.presented
	if lost && at.After(rec.RotatedAt) {
		at = rec.RotatedAt
	}
	what := r.rules.decide(rec, r.token.generation, at)
	if lost && what == reused {
		return raced
	}
	return what
}

// again is what becomes of a refresh whose caller was told to try again although it had been applied. Within the grace
// period it is done again, with the same successor, and the period begins anew. Later, another instance may have given
// that successor away, and whoever comes now may have stolen the token. So the successor is displaced: if somebody has it,
// that shows.
func (r *refresh) again(rec *Record, what outcome) outcome {
	switch {
	case what == replayed && rec.Generation == rec.Predecessor+1:
		rec.Generation--
		return rotated
	case what == reused:
		return recovered
	default:
		return what
	}
}

// grant authorizes, signs and writes, in this order.
func (r *refresh) grant(ctx context.Context, rec Record, what outcome) (Tokens, error) {
	r.endID = "" // an attempt before may have found theft, and this one does not
	session := rec.Session()
	session.Attributes = mergeAttributes(rec.Attributes, r.options.attributes)
	if err := checkAttributes(session.Attributes); err != nil {
		return Tokens{}, err
	}
	sessionEnd := r.rules.next(what, rec, r.token.generation, r.presented).ExpiresAt
	if r.issued == nil || r.issued.expiresAt.After(sessionEnd) {
		issued, err := r.issue(ctx, session, sessionEnd, r.presented, r.options.accessOptions)
		if errors.Is(err, ErrDenied) {
			tokens, endErr := r.end(ctx, rec, EventDenied)
			if errors.Is(endErr, ErrDenied) {
				endErr = err // with what the authorizer said
			}
			return tokens, endErr
		}
		if err != nil {
			return Tokens{}, err
		}
		r.issued = issued
	}
	r.pending = Event{Kind: grantedAs[what], Presented: r.token.generation, Live: rec.Generation}
	if what == replayed {
		r.replayed = rec.WriteID
		return r.finish(ctx, rec)
	}
	if !r.sent && r.rules.grace > 0 {
		r.sent = true
		r.underWay.add(r.writeID)
	}
	next := r.rules.next(what, rec, r.token.generation, r.now())
	next.Attributes = mergeAttributes(rec.Attributes, r.options.attributes)
	return r.write(ctx, next, r.writeID)
}

var grantedAs = map[outcome]EventKind{
	rotated: EventRefreshed, healed: EventHealed, replayed: EventReplayed, recovered: EventRecovered,
}

// endedFor are the events of a refresh that ends the session, and the reasons.
var endedFor = map[EventKind]Reason{EventReused: ReasonReuse, EventDenied: ReasonDenied, EventRevoked: ReasonRevoked}

// end writes a revocation, which the caller's going away does not stop.
func (r *refresh) end(ctx context.Context, rec Record, kind EventKind) (Tokens, error) {
	r.pending = Event{Kind: kind, Presented: r.token.generation, Live: rec.Generation}
	if r.endID == "" {
		r.endID = randomID()
	}
	detached, cancel := detach(ctx)
	defer cancel()
	return r.write(detached, rec.revoke(r.now(), endedFor[kind]), r.endID)
}

func (r *refresh) write(ctx context.Context, next Record, writeID string) (Tokens, error) {
	next.WriteID = writeID
	if err := r.store.Swap(ctx, next); err != nil {
		if mayBeApplied(err) {
			r.inDoubt = next.ExpiresAt
		}
		return Tokens{}, fmt.Errorf("%w: %w", errTryAgain, err)
	}
	if writeID == r.writeID {
		next = r.freshen(ctx, next)
	}
	return r.finish(ctx, next)
}

// mayBeApplied reports whether a write that failed may be in the store.
func mayBeApplied(err error) bool {
	return !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound)
}

const freshenTimeout = time.Second

// freshen begins the grace period anew where the write took much of it: a client cannot know of a successor before it has
// got the answer. Who has found theft meanwhile decides again. Where it fails, or the store is still slow and the client
// has waited for long enough, the period is short.
func (r *refresh) freshen(ctx context.Context, rec Record) Record {
	now := r.now()
	if r.rules.grace <= 0 || now.Sub(rec.RotatedAt) <= r.rules.grace/2 {
		return rec
	}
	ctx, cancel := context.WithTimeout(ctx, freshenTimeout)
	defer cancel()
	if next := r.rules.renew(rec, now); r.store.Swap(ctx, next) == nil {
		return next
	}
	return rec
}

// finish tells what became of the session, once that is in the store.
func (r *refresh) finish(ctx context.Context, rec Record) (Tokens, error) {
	event := r.pending
	event.Session = rec.Session()
	if !rec.RevokedAt.IsZero() {
		r.deny(rec.ID, rec.RevokedAt)
	}
	r.emit(ctx, event)
	switch event.Kind {
	case EventReused:
		return Tokens{}, &ReuseError{Session: event.Session, Presented: event.Presented, Live: event.Live}
	case EventDenied:
		return Tokens{}, fmt.Errorf("%w: session %s", ErrDenied, rec.ID)
	case EventRevoked:
		return Tokens{}, &RevokedError{rec.ID, rec.RevokeReason}
	}
	return r.tokens(rec, r.token.handle, r.issued), nil
}

package tokensession

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"
)

// maxAttempts is how often a call tries to write if others write first each time. Each of those has
// rotated or revoked the session, so that more than two or three attempts are rare.
const maxAttempts = 8

// maxFailures is how many of a call's writes may fail other than by a conflict.
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
	if err := r.options.check(); err != nil {
		return Tokens{}, err
	}
	if err := ctx.Err(); err != nil {
		return Tokens{}, unavailable("refreshing", err)
	}
	var ok bool
	if r.token, ok = parseRefreshToken(refreshToken); !ok {
		return Tokens{}, invalid("malformed refresh token")
	}
	r.id = r.token.handle.sessionID()
	return r.run(ctx)
}

func (o refreshOptions) check() error {
	if err := cmp.Or(checkAttributes(o.attributes), o.checkKeys()); err != nil {
		return err
	}
	if err := checkScope("WithScope", o.scope); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalidScope, err)
	}
	return nil
}

// A refresh is one call of Refresh or of Reauthenticate. Nothing here changes after the call has
// begun.
//
// All attempts of a call share two WriteIDs, one for the write that makes a successor and one for
// the write that ends the session. A record with one of them is this call's work, whichever attempt
// wrote it. They differ because a store may take two writes of one version with one WriteID for the
// same.
type refresh struct {
	*Manager
	token     refreshToken // zero if the host has named the session
	id        string       // of its session
	options   refreshOptions
	presented time.Time
	writeID   string
	endID     string

	proof *proof // of Reauthenticate: how the user has proved again who they are
	named bool   // the host has named the session, and nobody presented a token
}

// run attempts to refresh until that has come to something, or too often.
//
// An attempt loads the record, decides what the token leads to, asks the authorizer, signs, and
// writes. The write is a compare-and-swap: it is applied only if the record is still the one that
// was loaded. It ends in one of three ways.
//
// It is applied. The client gets its answer.
//
// It conflicts, because somebody else has changed the record in between. Say two tabs race with the
// same token, and the other tab was first. The next attempt loads what the other tab wrote, and
// decides anew. By then the token is the predecessor, within its grace period, so that this tab
// gets the same successor.
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
func (r *refresh) run(ctx context.Context) (tokens Tokens, err error) {
	r.writeID, r.endID = r.newWriteIDs()
	var so attempts
	r.deliveries.begin(r.id, r.writeID)
	defer func() { r.conclude(so, tokens) }() // also if the host's code or the store's panics
	for so.n < maxAttempts && so.failures < maxFailures {
		var again bool
		if tokens, again, err = r.attempt(ctx, &so); !again {
			return tokens, err
		}
		so.n++
	}
	return Tokens{}, unavailable("refreshing", err)
}

// attempts are what the attempts of a call have come to so far.
type attempts struct {
	n        int
	failures int  // how many writes failed other than by a conflict
	sent     step // what the last one wrote, or tried to write
	renewed  bool // after a slow write, the grace period was begun anew, or that was tried

	guessed bool   // the first one decided on a remembered record, which may have been outdated
	good    bool   // one of them found the token good, by the record in the store
	reached uint64 // the generation that the session had reached then

	made  bool  // a successor may be in the store
	event Event // what the host is told when the client gets it
	ended step  // the revocation that may be in the store, or its zero value
}

// attempt loads, decides and writes once. It reports whether there has to be another attempt, which
// is so after a conflict, and after a write of which nobody knows whether it was applied.
//
// If this Manager remembers the session's record, the first attempt does not load it ([recent]).
func (r *refresh) attempt(ctx context.Context, so *attempts) (_ Tokens, again bool, _ error) {
	s, ok, err := r.byHeart(ctx, so)
	if err != nil {
		return Tokens{}, false, err
	}
	if ok {
		return r.carryOut(ctx, s, so)
	}
	// This comes before the record is loaded. So what is not known here any more, because its call
	// has returned, is in the record.
	known := r.deliveries.look(r.id, r.writeID)
	rec, boundTo, err := r.find(ctx, so.sent.ends())
	if err != nil {
		return Tokens{}, false, err
	}
	if so.sent.writes() && so.sent.is(rec) { // it had failed in appearance only
		return r.wrote(ctx, rec, so.sent, so)
	}
	if so.ended.writes() && rec.Version >= so.ended.record.Version {
		so.ended = step{} // another write came first, so that one can never be applied
	}
	p := r.presentation(rec, boundTo, known, so)
	what := r.rules.decide(rec, p)
	if !so.good && grantedAs[what] != "" {
		so.good, so.reached = true, rec.Generation
	}
	next, err := r.plan(ctx, rec, what, p, so)
	switch {
	case err != nil:
		return Tokens{}, false, err
	case next.writes():
		return r.carryOut(ctx, next, so)
	case p.author == mine: // an earlier attempt made the successor, and its reply was lost
		return r.renew(ctx, rec, next, so)
	}
	return r.finish(ctx, rec, next)
}

// carryOut writes a step's record.
func (r *refresh) carryOut(
	ctx context.Context, s step, so *attempts,
) (_ Tokens, again bool, _ error) {
	so.sent = s
	if s.makes() {
		so.event = s.event
	}
	if err := r.write(ctx, s); err != nil {
		r.failed(so, s, err)
		return Tokens{}, true, err
	}
	return r.wrote(ctx, s.record, s, so)
}

// failed notes what may be in the store after a write that failed. A revocation that may be there
// must not be forgotten. A successor that may be there is one that nobody has got. If each write of
// a successor was refused, there is none, and the deliveries need not remember one.
func (r *refresh) failed(so *attempts, s step, err error) {
	if !errors.Is(err, ErrConflict) {
		so.failures++
	}
	applied := mayBeApplied(err)
	switch {
	case s.ends() && applied:
		so.ended = s
	case !s.makes():
	case applied:
		so.made = true
	case !so.made:
		r.deliveries.withdraw(r.id, r.writeID)
	}
}

// mayBeApplied reports whether a write that failed may be in the store.
func mayBeApplied(err error) bool {
	return !errors.Is(err, ErrConflict) && !errors.Is(err, ErrNotFound) && !errors.Is(err, errNotSent)
}

// conclude remembers what a call leaves to those that come after it: a successor that nobody has
// received, and a revocation of which nobody knows whether it was written.
func (r *refresh) conclude(so attempts, tokens Tokens) {
	r.deliveries.leave(r.id, r.writeID, r.now())
	if so.ended.writes() && tokens.AccessToken == "" {
		rec := so.ended.record
		r.endLater(rec, ending{
			event: so.ended.event, reason: rec.RevokeReason, version: rec.Version,
			generation: rec.Generation, rotatedAt: rec.RotatedAt,
		})
	}
}

// find loads the session's record, if the token is authentic and comes from the right client. It
// also returns the client's key that the token was made for, if any. The caller's going away does
// not stop a call that is ending the session.
func (r *refresh) find(ctx context.Context, ending bool) (rec Record, boundTo string, err error) {
	if ending {
		detached, cancel := detach(ctx)
		defer cancel()
		ctx = detached
	}
	rec, err = r.load(ctx, r.id)
	switch {
	case r.named:
		return rec, "", err
	case errors.Is(err, ErrNotFound):
		return Record{}, "", invalid("unknown session")
	case err != nil:
		return Record{}, "", err
	}
	boundTo, ok := r.madeFor(rec)
	switch {
	case !ok:
		return Record{}, "", invalid("forged refresh token")
	case rec.ClientID != "" && rec.ClientID != r.options.clientID:
		return Record{}, "", r.refuse(ctx, rec, invalid("refresh token of another client"))
	}
	return rec, boundTo, nil
}

// madeFor returns the client's key that the token was made for, and reports whether it is genuine.
func (r *refresh) madeFor(rec Record) (boundTo string, ok bool) {
	return r.token.madeFor(r.tokenKeys(rec), textOf(r.options.proven), rec.KeyThumbprint, "")
}

// presentation gathers what the rule asks for. The snapshot was taken before the record was loaded.
func (r *refresh) presentation(
	rec Record, boundTo string, known snapshot, so *attempts,
) presentation {
	denied := r.denied.find(keyOf(rec.ID), r.presented)
	p := presentation{
		generation: r.token.generation, at: r.presented, now: r.now(),
		good: so.good, reached: so.reached, guessed: so.guessed, ours: r.made(rec),
		boundTo: boundTo, proven: textOf(r.options.proven),
		denied: denied == forGood, epoch: denied.epoch(),
		proved: r.proof != nil, named: r.named,
	}
	if _, ok := r.endings.of(rec); ok {
		p.denied = true
	}
	p.author = r.authorOf(rec, known)
	return p
}

// authorOf says what is known about who made the record's live generation.
func (r *refresh) authorOf(rec Record, known snapshot) author {
	switch {
	case sameCall(r.writeID, rec.WriteID):
		return mine
	case r.made(rec):
		return known.author(rec.Generation)
	}
	return settled
}

var (
	errRaced = errors.New("others have refreshed the session twice in the meantime")
	errLate  = errors.New("the grace period was over before the answer")
)

// A step is what an attempt does about the decision.
type step struct {
	what   outcome
	event  Event        // what the host is told when it is done
	issued *accessToken // what the client gets
	denied error        // what the authorizer said, if it refused
	record Record       // what is to be written; without a WriteID: nothing
	epoch  uint64       // that the authorizer was asked with

	verdict error // what the client is told once a record that has expired is confirmed
}

func (s step) writes() bool { return s.record.WriteID != "" }
func (s step) ends() bool   { return !s.record.RevokedAt.IsZero() }

// makes reports whether the step makes a successor, or has one handed out anew.
func (s step) makes() bool { return s.writes() && s.issued != nil && s.what != raised }

// is reports whether a record is the one that the step wrote.
func (s step) is(rec Record) bool {
	return s.record.WriteID == rec.WriteID && s.record.Version == rec.Version
}

// plan makes a decision a step: it asks the authorizer and signs.
//
// If an earlier attempt came to the same decision about the same version of the record, its step is
// done again as it was. So the authorizer is not asked twice. And whichever of the two writes is
// applied, the record in the store is the one that this call knows. But what the authorizer said is
// of no use any more once this process has heard of a later epoch.
func (r *refresh) plan(
	ctx context.Context, rec Record, what outcome, p presentation, so *attempts,
) (step, error) {
	earlier := so.sent
	if earlier.writes() && earlier.what == what &&
		earlier.record.Version == rec.Version+1 && earlier.record.Replaces == rec.WriteID &&
		(grantedAs[what] == "" || earlier.epoch >= p.epoch) {
		return earlier, nil
	}
	switch what {
	case raced:
		return step{}, unavailable("refreshing", errRaced)
	case revoked:
		r.foundEnded(ctx, rec)
		return step{}, r.refuse(ctx, rec, &RevokedError{rec.ID, rec.RevokeReason})
	case expired:
		return r.confirm(ctx, rec)
	case unproved:
		err := fmt.Errorf("%w: session %s", ErrProofRequired, rec.ID)
		return step{}, r.refuse(ctx, rec, err)
	case foreign:
		return step{}, r.refuse(ctx, rec, invalid("refresh token of another key"))
	case reused:
		return r.end(rec, what, r.event(EventReused, rec), ReasonReuse), nil
	case unrevoked:
		if e, ok := r.endings.of(rec); ok {
			return r.end(rec, what, e.event, e.reason), nil
		}
		return r.end(rec, what, r.event(EventRevoked, rec), ReasonRevoked), nil
	}
	return r.grant(ctx, rec, what, p, so)
}

// grant is the step that gives the client tokens, or ends the session because the authorizer says
// so.
func (r *refresh) grant(
	ctx context.Context, rec Record, what outcome, p presentation, so *attempts,
) (step, error) {
	changed, epoch := r.changed(rec, what, p), r.rules.epochAfter(what, rec, p)
	issued, err := r.ask(ctx, changed.outdated(epoch, p.now), what)
	if errors.Is(err, ErrDenied) {
		s := r.end(rec, what, r.event(EventDenied, rec), ReasonDenied)
		s.denied, s.epoch = err, epoch
		return s, nil
	}
	if err != nil {
		return step{}, err
	}
	if what = r.answeredAs(what, rec); what == raced {
		return step{}, unavailable("refreshing", errLate)
	}
	s := step{what: what, issued: issued, event: r.event(grantedAs[what], rec), epoch: epoch}
	switch {
	case p.author == mine && so.event.Kind != "": // this call has made it before
		s.event = so.event
	case what == renewed: // to the host it is the refresh that made the live generation, done again
		s.event.Live = rec.Predecessor
	}
	if what == replayed {
		return s, nil
	}
	now := r.now()
	s.record = r.rules.next(what, changed.outdated(epoch, now), r.token.generation, now)
	s.record.WriteID = r.writeID
	if what == raised {
		s.record.WriteID = renameWrite(rec.WriteID)
	}
	return s, nil
}

// changed returns the record with what this call changes of the session, but for its generation and
// its epoch.
func (r *refresh) changed(rec Record, what outcome, p presentation) Record {
	rec.KeyThumbprint = keyAfter(what, rec, p)
	if r.proof != nil && p.author != mine {
		rec = r.proof.apply(rec, r.presented)
	}
	rec.Attributes = mergeAttributes(rec.Attributes, r.options.attributes)
	return rec
}

// event returns what the host is told of a step. A step-up is told as one, whatever it was for the
// refresh token, but for what ends the session or refuses the token.
func (r *refresh) event(kind EventKind, rec Record) Event {
	switch kind {
	case EventReused, EventDenied, EventRevoked, EventRefused:
	default:
		if r.proof != nil {
			kind = EventReauthenticated
		}
	}
	e := Event{Kind: kind, Presented: r.token.generation, Live: rec.Generation}
	if r.named {
		e.Presented = rec.Generation
	}
	return e
}

// tell tells the host what this call has come to.
func (r *refresh) tell(ctx context.Context, e Event) {
	e.Took = r.now().Sub(r.presented)
	if e.Kind == EventReplayed {
		e.Delay = max(0, r.presented.Sub(e.Session.RefreshedAt))
		e.InARow = r.replays.add(keyOf(r.id), e.Presented, r.presented)
	}
	r.emit(ctx, e)
}

// grantedAs are the outcomes that give the client tokens, and the events that tell of them. All but
// a replay are written.
var grantedAs = map[outcome]EventKind{
	rotated: EventRefreshed, healed: EventHealed, recovered: EventRecovered,
	replayed: EventReplayed, raised: EventReplayed, renewed: EventRefreshed,
}

// ask asks the authorizer about the session as it was, but with what this call changes, and signs.
func (r *refresh) ask(ctx context.Context, rec Record, what outcome) (*accessToken, error) {
	if err := checkAttributes(rec.Attributes); err != nil {
		return nil, err
	}
	sessionEnd := r.rules.end(r.rules.next(what, rec, r.token.generation, r.presented))
	return r.issue(ctx, rec, sessionEnd, r.presented, r.options.accessOptions)
}

// answeredAs is what an outcome is by the time of the answer. The store, the authorizer or the
// signer may have been slow, and so the call that made the live generation may have begun its
// write, or have given up, after this one looked.
func (r *refresh) answeredAs(what outcome, rec Record) outcome {
	if r.named || what != replayed && what != raised {
		return what
	}
	known := r.deliveries.look(r.id, r.writeID)
	return r.rules.answered(what, rec, r.authorOf(rec, known), r.now())
}

// confirm is the step for a session that has expired by its record. A record can be old news: of a
// replica that lags behind, or of a node that is no longer the master. So it is written again as it
// is. If that succeeds, the store has said that there is nothing newer, and the session is over.
// After the absolute end that is not necessary, because no write moves it.
func (r *refresh) confirm(ctx context.Context, rec Record) (step, error) {
	err := fmt.Errorf("%w: session %s", ErrExpired, rec.ID)
	if end := r.rules.absoluteEnd(rec); !end.IsZero() && !r.presented.Before(end) {
		return step{}, r.refuse(ctx, rec, err)
	}
	s := step{what: expired, verdict: err, record: rec.replacing()}
	s.record.WriteID = renameWrite(rec.WriteID)
	return s, nil
}

// end is the step that revokes the session.
func (r *refresh) end(rec Record, what outcome, event Event, reason Reason) step {
	s := step{what: what, event: event, record: r.rules.revoke(rec, r.now(), reason)}
	s.record.WriteID = r.endID
	return s
}

// write writes a step's record. A revocation is not stopped by the caller's going away. Of a
// successor, the other calls of this process know from before it is sent until this call returns
// ([deliveries]).
func (r *refresh) write(ctx context.Context, s step) error {
	if s.ends() {
		detached, cancel := detach(ctx)
		defer cancel()
		return r.swap(detached, callTimeout, s.record)
	}
	if s.makes() {
		r.deliveries.send(r.writeID, s.record)
	}
	return r.swap(ctx, callTimeout, s.record)
}

// renewTimeout is how much longer a client waits after a slow write.
const renewTimeout = time.Second

// wrote goes on when a step's record is in the store.
func (r *refresh) wrote(
	ctx context.Context, rec Record, s step, so *attempts,
) (_ Tokens, again bool, _ error) {
	switch {
	case s.verdict != nil:
		return Tokens{}, false, r.refuse(ctx, rec, s.verdict)
	case s.ends():
		so.ended = step{} // it is in the store, so nothing is left for later calls
	case s.makes():
		return r.renew(ctx, rec, s, so)
	}
	return r.finish(ctx, rec, s)
}

// renew goes on when a successor that this call has made is in the store.
//
// If the write took much of the grace period, the period begins anew now. A client cannot know of a
// successor before it has got the answer, so the tabs that shared the old token need the whole
// period from now on, also on other instances, and also if this client has gone away meanwhile.
//
// That second write is best effort: if the store fails or is still slow, the client gets its
// answer, and the period is short. But a conflict means that the record is another one by now.
// Another instance may have taken the second tab for a client that recovers, and have displaced
// this successor. Then this call looks again.
func (r *refresh) renew(
	ctx context.Context, rec Record, s step, so *attempts,
) (_ Tokens, again bool, _ error) {
	if so.renewed || !r.rules.late(rec, r.now()) {
		return r.finish(ctx, rec, s)
	}
	so.renewed = true
	next := r.rules.next(renewed, rec, r.token.generation, r.now())
	next.WriteID = renameWrite(rec.WriteID)
	switch err := r.swap(context.WithoutCancel(ctx), renewTimeout, next); {
	case err == nil:
		rec = next
	case errors.Is(err, ErrConflict):
		so.sent = step{}
		return Tokens{}, true, err
	}
	return r.finish(ctx, rec, s)
}

// finish tells the host what became of the session, and returns what the client gets.
func (r *refresh) finish(ctx context.Context, rec Record, s step) (Tokens, bool, error) {
	s.event.Session = r.session(rec)
	if s.ends() {
		return Tokens{}, false, r.finishEnd(ctx, rec, s)
	}
	r.outdate(rec, rec.OutdatedAt)
	if s.writes() {
		r.recent.put(rec)
	}
	r.tell(ctx, s.event)
	if r.named {
		return r.accessOnly(rec, s.issued), false, nil
	}
	if ctx.Err() == nil { // a caller that has gone away receives nothing
		r.deliveries.deliver(r.id, rec.Generation)
	}
	return r.tokens(rec, r.token.handle, s.issued), false, nil
}

// refuse tells the host of an authentic token that is refused, and returns why.
func (r *refresh) refuse(ctx context.Context, rec Record, err error) error {
	e := r.event(EventRefused, rec)
	e.Session, e.Err = r.session(rec), err
	r.tell(context.WithoutCancel(ctx), e)
	return err
}

// finishEnd denies the session from now on, not only from RevokedAt: while the store took long to
// write the revocation, a replay may have made an access token that is younger than that. Whoever
// presented the token cannot keep the host from being told, by hanging up.
func (r *refresh) finishEnd(ctx context.Context, rec Record, s step) error {
	r.deny(rec.ID, later(r.now(), rec.RevokedAt))
	r.endings.take(rec.ID)
	r.tell(context.WithoutCancel(ctx), s.event)
	switch s.event.Kind {
	case EventReused:
		e := s.event
		return &ReuseError{Session: e.Session, Presented: e.Presented, Live: e.Live}
	case EventDenied:
		if s.denied != nil {
			return s.denied
		}
		return fmt.Errorf("%w: session %s", ErrDenied, rec.ID)
	default:
		return &RevokedError{rec.ID, rec.RevokeReason}
	}
}

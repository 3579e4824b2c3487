// Package tokensession runs token sessions: short-lived JWT access tokens and rotating refresh tokens, with theft
// detection, and revocation that reaches access tokens. It is embedded in a server that keeps its own users and routes.
//
// # What to use first
//
// Make a signing key with [ParseKeyPEM] (openssl genpkey -algorithm ed25519), an [AccessSigner] with your issuer and
// audience, and a [Manager] with [New] and the zero [Config]. Then four calls do it:
//
//   - [Manager.Start] when a user has logged in; its [Tokens] go to the client.
//   - [Manager.Verify] at each request. It does no I/O.
//   - [Manager.Refresh] when the client comes with its refresh token, about every 15 minutes.
//   - [Manager.RevokeToken] at logout, [Manager.RevokeSubject] after a change of password.
//
// Beside the server, [Manager.Run] learns what other instances revoked and drops what has expired.
//
// [MemoryStore] serves tests and a single process that may forget its sessions. The modules sqlstore (PostgreSQL,
// MariaDB and MySQL, SQLite) and redisstore keep them. All of them pass the suite in storetest, as should your own.
//
// # What a refresh does
//
// A session is one login on one device. Its refresh tokens are numbered; the number is the token's generation, and
// one generation is live. Presenting it makes the next one live: a rotation. Presenting the one just consumed, within
// [Config.GracePeriod], gives the same successor again, so that two tabs, a retry and a lost reply are all served
// alike and the session never forks. Within [Config.RecoveryPeriod], if there is one, it makes a successor that
// displaces the one that got lost. A generation newer than the store's record means that the store lost writes: the
// session goes on from there. Any other means that two parties hold the session: it is revoked, and both are out.
//
// # What is promised
//
// No honest client is logged out by accident. Everything that can fail comes before the one write that consumes the
// token; a failure is [ErrUnavailable], and the same token works afterwards. A write whose reply was lost is recognized
// as one's own. Only [ErrInvalidToken], [ErrExpired], [ErrRevoked] and [ErrDenied] say that a login is over.
//
// No thief outlives the honest client's next refresh outside the grace period, whichever of the two comes first. A
// revoked session's access tokens are refused at once by the Manager that revoked it, and within about a second by
// others that Run on the same store.
//
// # Keys and secrets
//
// The store holds nothing that can be presented: a refresh token contains a random handle of which the session ID is
// a hash. Give [Config.RefreshKeys] if who can write to the store must not be able to make tokens either. Signing keys
// are changed with [AccessSigner.Rotate] and published with [AccessSigner.JWKS]; services without a store verify with
// an [AccessVerifier]. Tokens, records and keys print and log without their secrets.
//
// Times in this package are UTC, to the microsecond in stores and to the second in access tokens.
package tokensession

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"
)

// A Session is one login on one device.
type Session struct {
	ID         string // public: the access token's sid
	Subject    string
	ClientID   string            // empty: bound to no client
	Attributes map[string]string // the host's: device name, IP address, user agent…

	AuthTime     time.Time // when the user proved who they are
	CreatedAt    time.Time
	RefreshedAt  time.Time // of the last refresh that made a new refresh token; CreatedAt before the first
	ExpiresAt    time.Time // when it ends unless refreshed
	MaxExpiresAt time.Time // when it ends whatever happens; zero if never
	RevokedAt    time.Time // zero: not revoked
	RevokeReason Reason
}

// Tokens are what a client gets. The access token is sent with each request and verified without I/O; the refresh
// token is sent to the refresh endpoint only. Tokens print and log without the two; read the fields to send them.
// [encoding/json] writes them, as does a slog.JSONHandler where Tokens are part of another value.
type Tokens struct {
	AccessToken      string
	AccessExpiresAt  time.Time
	RefreshToken     string
	RefreshExpiresAt time.Time // when the session ends unless refreshed
	Scope            string    // of the access token, as granted
	Session          Session
}

// String describes the tokens without them.
func (t Tokens) String() string {
	return fmt.Sprintf("tokensession.Tokens{Session:%s AccessExpiresAt:%s RefreshExpiresAt:%s AccessToken:REDACTED RefreshToken:REDACTED}",
		t.Session.ID, t.AccessExpiresAt.Format(time.RFC3339), t.RefreshExpiresAt.Format(time.RFC3339))
}

// GoString describes the tokens without them.
func (t Tokens) GoString() string { return t.String() }

// Format prints [Tokens.String], whatever the verb.
func (t Tokens) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// LogValue describes the tokens without them.
func (t Tokens) LogValue() slog.Value {
	return slog.GroupValue(slog.String("session", t.Session.ID),
		slog.Time("access_expires_at", t.AccessExpiresAt), slog.Time("refresh_expires_at", t.RefreshExpiresAt))
}

// maxAttempts is how often a write is tried against others that get in between. Each that does has rotated or revoked
// the session, so more than two or three never happen.
const maxAttempts = 8

// A Manager runs the sessions of one store. Make it with [New]; it is safe for concurrent use.
type Manager struct {
	signer *AccessSigner
	store  RefreshStore
	cfg    Config // without RefreshKeys
	rules  rules

	refreshKeys func() [][]byte // as Config has them; a function, so that printing a Manager prints no key

	denied timedSet // sessions whose access tokens are refused although they have not expired

	unanswered doubts
	underWay   underWay
}

// New returns a Manager, or says which field of cfg is wrong.
func New(signer *AccessSigner, store RefreshStore, cfg Config) (*Manager, error) {
	if signer == nil {
		return nil, errors.New("tokensession: New: signer is nil")
	}
	if isNil(store) {
		return nil, errors.New("tokensession: New: store is nil")
	}
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	signer.raiseTTL(cfg.AccessTTL)
	keys := cfg.RefreshKeys
	cfg.RefreshKeys = nil
	return &Manager{signer: signer, store: store, cfg: cfg, rules: cfg.rules(), refreshKeys: func() [][]byte { return keys }}, nil
}

// Start begins a session for a subject that the host has authenticated: a login. If the authorizer refuses, the error
// is [ErrDenied] and there is no session.
func (m *Manager) Start(ctx context.Context, subject string, opts ...StartOption) (Tokens, error) {
	var o startOptions
	for _, opt := range opts {
		opt.applyStart(&o)
	}
	now := m.now()
	if err := o.check(subject, now); err != nil {
		return Tokens{}, err
	}
	if err := ctx.Err(); err != nil {
		return Tokens{}, unavailable("starting a session", err)
	}
	h := newHandle()
	rec := m.newRecord(h, subject, o, now)
	if err := m.queueUp(ctx, &rec); err != nil {
		return Tokens{}, err
	}
	issued, err := m.issue(ctx, rec.Session(), rec.ExpiresAt, now, o.accessOptions)
	if err != nil {
		return Tokens{}, err
	}
	if err = m.create(ctx, rec); err == nil {
		err = m.makeRoom(ctx, rec, o.replacing)
	}
	if err != nil {
		detached, cancel := detach(ctx)
		defer cancel()
		_, _, _ = m.end(detached, rec.ID, ReasonRevoked) // it may be there, and nobody gets its tokens
		return Tokens{}, err
	}
	m.emit(ctx, Event{Kind: EventStarted, Session: rec.Session()})
	return m.tokens(rec, h, issued), nil
}

func (o startOptions) check(subject string, now time.Time) error {
	if err := checkText("subject", subject, maxNameSize); err != nil {
		return err
	}
	if o.clientID != "" {
		if err := checkText("WithClient", o.clientID, maxNameSize); err != nil {
			return err
		}
	}
	if t := o.authTime; t != nil && (t.Unix() < 0 || t.After(now.Add(clockSkew))) {
		return fmt.Errorf("tokensession: WithAuthTime %v: must be from 1970 to now (%v)", *t, now)
	}
	return checkAttributes(o.attributes)
}

func (m *Manager) newRecord(h handle, subject string, o startOptions, now time.Time) Record {
	rec := Record{
		ID: h.sessionID(), Version: 1, WriteID: randomID(),
		Subject: subject, ClientID: o.clientID, Key: randomBytes(32),
		AuthTime: now, CreatedAt: now, RotatedAt: now,
	}
	if o.authTime != nil {
		rec.AuthTime = toMicro(*o.authTime)
	}
	if len(o.attributes) > 0 {
		rec.Attributes = maps.Clone(o.attributes)
	}
	if m.cfg.MaxLifetime != Unlimited {
		rec.MaxExpiresAt = now.Add(m.cfg.MaxLifetime)
	}
	rec.ExpiresAt = earlier(now.Add(m.cfg.RefreshTTL), rec.MaxExpiresAt)
	return rec
}

// create writes a new record. An error of the store may hide a success, so the store is asked what it has.
func (m *Manager) create(ctx context.Context, rec Record) error {
	return m.retry(ctx, func() error {
		err := m.store.Create(ctx, rec)
		if err == nil {
			return nil
		}
		if stored, loadErr := m.store.Load(ctx, rec.ID); loadErr == nil && stored.WriteID == rec.WriteID {
			return nil
		}
		return err
	})
}

// retry calls f until it succeeds, a few times. What f does must be the same however often it was done.
func (m *Manager) retry(ctx context.Context, f func() error) error {
	var err error
	for range 3 {
		if err = f(); err == nil {
			return nil
		}
		if ctx.Err() != nil {
			break
		}
	}
	return unavailable("writing the session", err)
}

// queueUp makes a record the newest of its subject where that matters, for a clock may stand still, and that of
// another instance be ahead: a login must never end itself for being the oldest.
func (m *Manager) queueUp(ctx context.Context, rec *Record) error {
	if m.cfg.MaxSessions == 0 {
		return nil
	}
	records, err := m.list(ctx, rec.Subject)
	if err != nil || len(records) == 0 {
		return err
	}
	if newest := records[len(records)-1].CreatedAt; !rec.CreatedAt.After(newest) {
		rec.CreatedAt = newest.Add(time.Microsecond)
	}
	return nil
}

// makeRoom ends the oldest sessions beyond MaxSessions and the one that the new one replaces. That comes last: the
// user whose login fails still has it.
func (m *Manager) makeRoom(ctx context.Context, created Record, replacing string) error {
	if replacing == created.ID {
		replacing = ""
	}
	if m.cfg.MaxSessions > 0 {
		records, err := m.list(ctx, created.Subject)
		if err != nil {
			return err
		}
		records = slices.DeleteFunc(records, func(r Record) bool { return r.ID == replacing })
		for _, rec := range records[:max(0, len(records)-m.cfg.MaxSessions)] {
			if _, err := m.revoke(ctx, rec.ID, ReasonMaxSessions); err != nil && !errors.Is(err, ErrNotFound) {
				return err
			}
		}
	}
	if replacing != "" {
		if _, err := m.revoke(ctx, replacing, ReasonReplaced); err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
	}
	return nil
}

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

// detach returns a context for a write that must not be lost because the caller went away.
func detach(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
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

// mergeAttributes returns a new map, or nil if it would be empty.
func mergeAttributes(stored, given map[string]string) map[string]string {
	if len(stored)+len(given) == 0 {
		return nil
	}
	merged := make(map[string]string, len(stored)+len(given))
	maps.Copy(merged, stored)
	maps.Copy(merged, given)
	return merged
}

// An accessToken is a signed token and when it expires.
type accessToken struct {
	token     string
	expiresAt time.Time
	scope     string
}

// issue asks the authorizer and signs an access token that does not outlive the session. Its error is an [ErrDenied],
// an [ErrInvalidScope] or an [ErrUnavailable].
func (m *Manager) issue(ctx context.Context, s Session, sessionEnd, now time.Time, o accessOptions) (*accessToken, error) {
	grant, err := m.cfg.Authorize(ctx, s)
	switch {
	case errors.Is(err, ErrDenied):
		return nil, fmt.Errorf("session %s: %w", s.ID, err)
	case err != nil:
		return nil, unavailable("authorizing session "+s.ID, err)
	}
	if err := grant.check(); err != nil {
		return nil, unavailable("the authorizer's grant", err)
	}
	if o.scope != "" {
		if !withinScope(o.scope, grant.Scope) {
			return nil, fmt.Errorf("%w: session %s: more is asked for than granted", ErrInvalidScope, s.ID)
		}
		grant.Scope = o.scope
	}
	if len(grant.Audience) == 0 {
		grant.Audience = m.signer.cfg.Audience
	}
	expires := earlier(now.Add(m.cfg.AccessTTL), sessionEnd).Unix()
	token, err := m.signer.sign(standardClaims{
		Issuer: m.signer.cfg.Issuer, Subject: s.Subject, Audience: grant.Audience,
		Expires: expires, IssuedAt: now.Unix(), ID: randomID(),
		ClientID: s.ClientID, Session: s.ID, AuthTime: s.AuthTime.Unix(), Scope: grant.Scope,
	}, grant.Claims, now)
	if err == nil && o.maxSize > 0 && len(token) > o.maxSize {
		err = fmt.Errorf("%d bytes: cannot be longer than WithMaxAccessSize (%d): the grant's claims are too large", len(token), o.maxSize)
	}
	if err != nil {
		return nil, unavailable("making an access token", err)
	}
	return &accessToken{token, time.Unix(expires, 0).UTC(), grant.Scope}, nil
}

// tokens returns what the client gets: the refresh token is that of the record's live generation.
func (m *Manager) tokens(rec Record, h handle, issued *accessToken) Tokens {
	return Tokens{
		AccessToken: issued.token, AccessExpiresAt: issued.expiresAt,
		RefreshToken: newRefreshToken(m.tokenKey(rec), h, rec.Generation), RefreshExpiresAt: rec.ExpiresAt,
		Scope: issued.scope, Session: rec.Session(),
	}
}

// tokenKey returns the key that makes the session's refresh tokens.
func (m *Manager) tokenKey(rec Record) []byte {
	if hostKeys := m.refreshKeys(); len(hostKeys) > 0 {
		return deriveKey(hostKeys[0], rec.Key)
	}
	return rec.Key
}

// tokenKeys returns the keys that may have made the session's refresh tokens.
func (m *Manager) tokenKeys(rec Record) [][]byte {
	hostKeys := m.refreshKeys()
	if len(hostKeys) == 0 {
		return [][]byte{rec.Key}
	}
	keys := make([][]byte, len(hostKeys))
	for i, hostKey := range hostKeys {
		keys[i] = deriveKey(hostKey, rec.Key)
	}
	return keys
}

// Verify returns what an access token says if it is authentic, not expired, and its session not known to be revoked.
// It does no I/O. The error is [ErrInvalidToken], [ErrExpired] or [ErrRevoked], the latter two only of authentic
// tokens. A revocation by this Manager is known at once; one by another instance when [Manager.Run] has read of it.
func (m *Manager) Verify(accessToken string) (Access, error) {
	now := m.cfg.Now()
	checked, err := m.signer.verify(accessToken, now)
	if err != nil {
		return Access{}, err
	}
	return m.unlessDenied(checked, now)
}

func (m *Manager) unlessDenied(checked *verifiedToken, now time.Time) (Access, error) {
	if m.denied.has(checked.sid, now) {
		return Access{}, fmt.Errorf("%w: session %s", ErrRevoked, checked.access.SessionID)
	}
	return checked.access, nil
}

// VerifyLive is Verify and a look at the store: it fails closed. The error is [ErrRevoked] also if the store does not
// know the session, and [ErrUnavailable] if it cannot tell.
func (m *Manager) VerifyLive(ctx context.Context, accessToken string) (Access, error) {
	access, err := m.Verify(accessToken)
	if err != nil {
		return Access{}, err
	}
	return m.unlessOver(ctx, access)
}

// Introspect is VerifyLive for a token that may be for another audience: for who answers the services that tokens are
// for (RFC 7662). It lets nobody in here.
func (m *Manager) Introspect(ctx context.Context, accessToken string) (Access, error) {
	now := m.cfg.Now()
	checked, err := m.signer.introspect(accessToken, now)
	if err != nil {
		return Access{}, err
	}
	access, err := m.unlessDenied(checked, now)
	if err != nil {
		return Access{}, err
	}
	return m.unlessOver(ctx, access)
}

// unlessOver asks the store whether an access token's session lives.
func (m *Manager) unlessOver(ctx context.Context, access Access) (Access, error) {
	rec, err := m.load(ctx, access.SessionID)
	switch {
	case errors.Is(err, ErrNotFound):
		return Access{}, fmt.Errorf("%w: session %s is gone", ErrRevoked, access.SessionID)
	case err != nil:
		return Access{}, err
	case !rec.RevokedAt.IsZero():
		m.deny(rec.ID, rec.RevokedAt)
		return Access{}, &RevokedError{rec.ID, rec.RevokeReason}
	case !rec.live(m.now()):
		return Access{}, fmt.Errorf("%w: session %s", ErrExpired, rec.ID)
	}
	return access, nil
}

// SessionID returns which session an access token is of, whatever its audience, and whether or not the token has
// expired, its session has been revoked, or the key that signed it has been rotated away; not if that was retired ([AccessSigner.Retire]) or is one
// that this process never had. It lets nobody in: it is for a logout, and for [Replacing]. The error is
// [ErrInvalidToken].
func (m *Manager) SessionID(accessToken string) (string, error) {
	checked, err := m.signer.authenticate(accessToken)
	if err != nil {
		return "", err
	}
	return checked.access.SessionID, nil
}

// Now returns the time by this Manager's clock, for who tells clients how long something lasts.
func (m *Manager) Now() time.Time { return m.now() }

// JWKS returns what [AccessSigner.JWKS] does, at this Manager's time.
func (m *Manager) JWKS() []byte { return m.signer.jwks(m.cfg.Now()) }

// load returns a record, [ErrNotFound] or [ErrUnavailable].
func (m *Manager) load(ctx context.Context, id string) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, unavailable("loading the session", err)
	}
	if !isSessionID(id) { // which not every store could look for
		return Record{}, fmt.Errorf("%w: no session id, but %d bytes of something else", ErrNotFound, len(id)) // a token?
	}
	rec, err := m.store.Load(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return Record{}, fmt.Errorf("%w: session %s", ErrNotFound, id)
	}
	if err != nil {
		return Record{}, unavailable("loading the session", err)
	}
	return rec, nil
}

// now is the clock in the precision of the stores.
func (m *Manager) now() time.Time { return toMicro(m.cfg.Now()) }

func toMicro(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// unavailable is an ErrUnavailable with its cause. A cause that looks like a verdict, say of an authorizer that verifies
// tokens itself, is told but not wrapped: no outage may be taken for the end of a session.
func unavailable(doing string, cause error) error {
	for _, verdict := range []error{ErrInvalidToken, ErrExpired, ErrRevoked, ErrReused, ErrDenied, ErrInvalidScope} {
		if errors.Is(cause, verdict) {
			return fmt.Errorf("%w: %s: %v", ErrUnavailable, doing, cause)
		}
	}
	return fmt.Errorf("%w: %s: %w", ErrUnavailable, doing, cause)
}

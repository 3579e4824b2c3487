package tokensession

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A StartOption is an option of [Manager.Start].
type StartOption interface{ applyStart(*startOptions) }

// A RefreshOption is an option of [Manager.Refresh].
type RefreshOption interface{ applyRefresh(*refreshOptions) }

// An AuthOption is an option of [Manager.Reauthenticate].
type AuthOption interface{ applyAuth(*authOptions) }

// A SessionOption is an option of [Manager.Start], [Manager.Refresh] and [Manager.Reauthenticate].
type SessionOption interface {
	StartOption
	RefreshOption
	AuthOption
}

// A ProofOption says how the user has proved who they are. It is an option of both [Manager.Start]
// and [Manager.Reauthenticate].
type ProofOption interface {
	StartOption
	AuthOption
}

// WithClient binds a new session to an OAuth client. From then on, each refresh must name the same
// client; one that names another, or none, is an [ErrInvalidToken] and consumes nothing. A session
// begun without a client is refreshed by any.
func WithClient(id string) SessionOption { return clientOption(id) }

// WithAttributes records what the host wants to know of the session: device name, IP address, user
// agent. At a refresh, the names given are set and the others stay; one that is answered again,
// within the grace period, sets none. At most 32 attributes and 4096 bytes; the host cuts long
// ones.
func WithAttributes(attributes map[string]string) SessionOption {
	return attributesOption(maps.Clone(attributes))
}

// WithAuthTime says when the user proved who they are, if that was before the call: the auth_time
// claim (RFC 9068 section 2.2.1). No refresh changes it.
func WithAuthTime(t time.Time) ProofOption {
	return proofFunc(func(p *proof) { p.authTime = &t })
}

// WithAuthMethods says how the user proved who they are: the amr claim, with the values of RFC 8176
// like "pwd", "otp" and "hwk", or the host's own. No refresh changes it. At most 16 methods of up
// to 64 bytes each.
func WithAuthMethods(amr ...string) ProofOption {
	methods := append([]string{}, amr...)
	return proofFunc(func(p *proof) { p.authMethods = methods })
}

// WithAuthContext says how well the user proved who they are, in the host's own words: the acr
// claim (RFC 9470). No refresh changes it. Up to 255 bytes.
func WithAuthContext(acr string) ProofOption {
	return proofFunc(func(p *proof) { p.authContext = &acr })
}

// WithActor says that somebody else acts for the subject in this session, as support staff does:
// the act claim (RFC 8693 section 4.1). It is kept with the session for good. The session neither
// counts for the subject's [Config.MaxSessions] nor is it ended by them. Up to 255 bytes.
func WithActor(subject string) StartOption {
	return startFunc(func(o *startOptions) { o.actor = &subject })
}

// WithLifetimes says how long this session lasts without a refresh, and how long at most, as for
// "remember me" or for a login with more rights. They are kept with the session. 0 is Config's
// RefreshTTL or MaxLifetime, as they are at the login. Each is from 1 minute to Config's, and a
// Config that is made shorter later holds for sessions that live.
func WithLifetimes(idle, absolute time.Duration) StartOption {
	return startFunc(func(o *startOptions) { o.lifetimes = lifetimes{idle, absolute} })
}

// Transient says that the client keeps its tokens no longer than it runs, as for a login without
// "remember me". It is kept with the session. In cookie mode the cookies have no Max-Age, so that
// they go when the browser is closed. Browsers that restore their tabs keep such cookies, too, and
// nothing else enforces it: [WithLifetimes] does.
func Transient() StartOption {
	return startFunc(func(o *startOptions) { o.transient = true })
}

// Rotating has [Manager.Reauthenticate] exchange a refresh token of the session, as
// [Manager.Refresh] does. Without it, somebody who holds a copy of the session's refresh token gets
// what the user has just proved with the next refresh, and nothing shows.
func Rotating(refreshToken string) AuthOption {
	return authFunc(func(o *authOptions) { o.rotating = &refreshToken })
}

// Replacing ends another session, of whatever subject, when the new one has begun: the one that the
// browser had before the login (ASVS 7.2.4). Take the id from a verified token, or pass the token
// to [ReplacingToken]. A session that is unknown or over is no error.
func Replacing(sessionID string) StartOption {
	return startFunc(func(o *startOptions) {
		if sessionID != "" {
			o.replacing = append(o.replacing, sessionID)
		}
	})
}

// ReplacingToken is Replacing by the tokens that the browser had before the login, of either kind,
// however old. A refresh token's session ends if the token is genuine. So does an access token's,
// and if the key that signed it is unknown here, only if it is a session of the new one's subject.
// A string that is no such token is no error.
func ReplacingToken(tokens ...string) StartOption {
	return startFunc(func(o *startOptions) {
		o.replacingTokens = append(o.replacingTokens, tokens...)
	})
}

// WithScope asks for an access token of less scope than the authorizer grants: names separated by
// single spaces (RFC 6749 section 6). It holds for this access token only. A scope that is not
// granted is an [ErrInvalidScope].
func WithScope(scope string) RefreshOption {
	return refreshFunc(func(o *refreshOptions) { o.scope = scope })
}

// WithMaxAccessSize is for who carries access tokens where not all of the 8 KiB fit, as in a
// cookie. A token of more bytes is an [ErrUnavailable] before anything is consumed: the grant's
// claims are too large.
func WithMaxAccessSize(bytes int) SessionOption { return maxAccessSizeOption(bytes) }

// A RevokeOption is an option of [Manager.Revoke] and [Manager.RevokeSubject].
type RevokeOption interface{ applyRevoke(*revokeOptions) }

// Keep names sessions that [Manager.RevokeSubject] leaves alone: the one of the user who asks.
func Keep(sessionIDs ...string) RevokeOption {
	return revokeFunc(func(o *revokeOptions) { o.keep = append(o.keep, sessionIDs...) })
}

// Because says why the sessions are ended, in a word or two of the host's, like "password_change".
// It is kept with the session and told in events and in a [RevokedError]: up to 255 bytes without
// control characters.
func Because(reason Reason) RevokeOption {
	return revokeFunc(func(o *revokeOptions) { o.reason = reason })
}

type revokeOptions struct {
	keep   []string
	reason Reason
}

type revokeFunc func(*revokeOptions)

func (f revokeFunc) applyRevoke(o *revokeOptions) { f(o) }

func revokeOptionsOf(opts []RevokeOption, reason Reason) (revokeOptions, error) {
	o := revokeOptions{reason: reason}
	for _, opt := range opts {
		opt.applyRevoke(&o)
	}
	return o, checkText("Because", string(o.reason), maxNameSize)
}

type refreshOptions struct {
	accessOptions
	clientID   string
	attributes map[string]string
	proven     *string // the thumbprint of the key that the client has proved to have
}

// accessOptions are about the access token.
type accessOptions struct {
	scope        string  // empty: all that is granted
	maxSize      int     // in bytes; 0: what any access token may have
	confirmation *string // the thumbprint of the key that it is bound to
}

type startOptions struct {
	refreshOptions
	proof
	lifetimes
	transient       bool
	actor           *string
	replacing       []string // ids of sessions
	replacingTokens []string // tokens of sessions
}

type authOptions struct {
	refreshOptions
	proof
	rotating *string
}

// A proof is how a user has proved who they are. What was not given is nil.
type proof struct {
	authTime    *time.Time
	authMethods []string
	authContext *string
}

const (
	maxAuthMethods    = 16
	maxAuthMethodSize = 64
)

func (p proof) check(now time.Time) error {
	if t := p.authTime; t != nil && (t.Unix() < 0 || t.After(now.Add(clockSkew))) {
		return fmt.Errorf("tokensession: WithAuthTime %v: must be from 1970 to now (%v)", *t, now)
	}
	if n := len(p.authMethods); p.authMethods != nil && (n == 0 || n > maxAuthMethods) {
		return fmt.Errorf("tokensession: WithAuthMethods of %d methods: must be from 1 to %d",
			n, maxAuthMethods)
	}
	for _, method := range p.authMethods {
		if err := checkText("WithAuthMethods: a method", method, maxAuthMethodSize); err != nil {
			return err
		}
	}
	if p.authContext != nil {
		return checkText("WithAuthContext", *p.authContext, maxNameSize)
	}
	return nil
}

// apply returns a record that says how the user has proved who they are, and nothing of how they
// did before.
func (p proof) apply(rec Record, now time.Time) Record {
	rec.AuthTime, rec.AuthMethods, rec.AuthContext = now, slices.Clone(p.authMethods), ""
	if p.authTime != nil {
		rec.AuthTime = toMicro(*p.authTime)
	}
	if p.authContext != nil {
		rec.AuthContext = *p.authContext
	}
	return rec
}

// lifetimes are those of one session. 0 is Config's.
type lifetimes struct{ idle, absolute time.Duration }

const minLifetime = time.Minute // a session that is any shorter is a mistake

func (l lifetimes) check(cfg Config) error {
	maxAbsolute, bound := cfg.MaxLifetime, "Config.MaxLifetime"
	if maxAbsolute == Unlimited {
		maxAbsolute, bound = maxPeriod, "the longest that there is"
	}
	return cmp.Or(
		checkLifetime("idle", l.idle, cfg.RefreshTTL, "Config.RefreshTTL"),
		checkLifetime("absolute", l.absolute, maxAbsolute, bound),
	)
}

func checkLifetime(which string, d, longest time.Duration, bound string) error {
	if d != 0 && (d < minLifetime || d > longest) {
		return fmt.Errorf("tokensession: WithLifetimes: %s %v: must be from %v to %s (%v), or 0 for that",
			which, d, minLifetime, bound, longest)
	}
	return nil
}

type clientOption string

func (c clientOption) applyStart(o *startOptions)     { o.clientID = string(c) }
func (c clientOption) applyRefresh(o *refreshOptions) { o.clientID = string(c) }
func (c clientOption) applyAuth(o *authOptions)       { o.clientID = string(c) }

type attributesOption map[string]string

func (a attributesOption) applyStart(o *startOptions)     { o.attributes = a }
func (a attributesOption) applyRefresh(o *refreshOptions) { o.attributes = a }
func (a attributesOption) applyAuth(o *authOptions)       { o.attributes = a }

type maxAccessSizeOption int

func (n maxAccessSizeOption) applyStart(o *startOptions)     { o.maxSize = int(n) }
func (n maxAccessSizeOption) applyRefresh(o *refreshOptions) { o.maxSize = int(n) }
func (n maxAccessSizeOption) applyAuth(o *authOptions)       { o.maxSize = int(n) }

type proofFunc func(*proof)

func (f proofFunc) applyStart(o *startOptions) { f(&o.proof) }
func (f proofFunc) applyAuth(o *authOptions)   { f(&o.proof) }

type authFunc func(*authOptions)

func (f authFunc) applyAuth(o *authOptions) { f(o) }

type refreshFunc func(*refreshOptions)

func (f refreshFunc) applyRefresh(o *refreshOptions) { f(o) }

type startFunc func(*startOptions)

func (f startFunc) applyStart(o *startOptions) { f(o) }

package tokensession

import (
	"maps"
	"time"
)

// A StartOption is an option of [Manager.Start].
type StartOption interface{ applyStart(*startOptions) }

// A RefreshOption is an option of [Manager.Refresh].
type RefreshOption interface{ applyRefresh(*refreshOptions) }

// A SessionOption is an option of both [Manager.Start] and [Manager.Refresh].
type SessionOption interface {
	StartOption
	RefreshOption
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

// WithAuthTime says when the user proved who they are, if that was before Start: the auth_time
// claim (RFC 9068 section 2.2.1). No refresh changes it.
func WithAuthTime(t time.Time) StartOption {
	return startFunc(func(o *startOptions) { o.authTime = &t })
}

// Replacing ends another session, of whatever subject, when the new one has begun: the one that the
// browser had before the login (ASVS 7.2.4). Take the id from a verified token. A session that is
// unknown or over is no error.
func Replacing(sessionID string) StartOption {
	return startFunc(func(o *startOptions) { o.replacing = sessionID })
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
}

// accessOptions are about the access token.
type accessOptions struct {
	scope   string // empty: all that is granted
	maxSize int    // in bytes; 0: what any access token may have
}

type startOptions struct {
	refreshOptions
	authTime  *time.Time
	replacing string
}

type clientOption string

func (c clientOption) applyStart(o *startOptions)     { o.clientID = string(c) }
func (c clientOption) applyRefresh(o *refreshOptions) { o.clientID = string(c) }

type attributesOption map[string]string

func (a attributesOption) applyStart(o *startOptions)     { o.attributes = a }
func (a attributesOption) applyRefresh(o *refreshOptions) { o.attributes = a }

type maxAccessSizeOption int

func (n maxAccessSizeOption) applyStart(o *startOptions)     { o.maxSize = int(n) }
func (n maxAccessSizeOption) applyRefresh(o *refreshOptions) { o.maxSize = int(n) }

type refreshFunc func(*refreshOptions)

func (f refreshFunc) applyRefresh(o *refreshOptions) { f(o) }

type startFunc func(*startOptions)

func (f startFunc) applyStart(o *startOptions) { f(o) }

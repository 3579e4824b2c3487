package tokensession

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/seed67bc9b7f/tokensession/internal/attributes"
)

// Strict turns off [Config.GracePeriod] or [Config.RecoveryPeriod], and Unlimited turns off
// [Config.MaxLifetime]. Each is an error in the other's field.
const (
	Strict    time.Duration = -1
	Unlimited time.Duration = -2
)

const (
	defaultAccessTTL   = 15 * time.Minute
	defaultRefreshTTL  = 7 * 24 * time.Hour
	defaultMaxLifetime = 30 * 24 * time.Hour
	defaultGrace       = 10 * time.Second
	defaultRecovery    = time.Hour
	defaultKeepEnded   = 25 * time.Hour // the longest AccessTTL, and time for clocks that differ

	defaultRemember = 8192
	maxRemember     = 1 << 24
	minTTL          = time.Second                // exp is in whole seconds
	maxAccessTTL    = 24 * time.Hour             // a RevocationFeed tells of one a little longer
	maxPeriod       = 100 * 365 * 24 * time.Hour // keeps dates within what stores hold

	minFeedInterval = 100 * time.Millisecond
	maxFeedInterval = time.Minute // what was revoked meanwhile is accepted for as long

	// maxNameSize is the bytes of a subject, client id, issuer or audience: any database indexes a
	// column of that size.
	maxNameSize = 255
)

// A Config says how sessions live. The zero value is a good one for browsers. [New] copies and
// validates it.
type Config struct {
	// AccessTTL is how long an access token is good for: 15 minutes if 0, from 1 second to 24
	// hours. It never outlives its session. Revocations are remembered for this long and a little
	// more. So a Manager accepts no token for longer than its own AccessTTL, also if a Manager with
	// a longer one made it: where AccessTTL is made shorter, clients refresh sooner.
	AccessTTL time.Duration

	// RefreshTTL is how long a session lasts without a refresh: 7 days if 0. Every refresh starts
	// it anew. A shorter value holds at once for sessions that began under another one, also for
	// those that are idle. A longer one is for new logins.
	RefreshTTL time.Duration

	// MaxLifetime is how long a session lasts at most, from login: 30 days if 0. No refresh extends
	// it. [Unlimited] means that a session that is refreshed never ends. A shorter value holds at
	// once for sessions that began under another one, and a longer one is for new logins.
	MaxLifetime time.Duration

	// GracePeriod is how long after a refresh the consumed token is answered with the same
	// successor again: 10 seconds if 0, and shorter than AccessTTL, else the holder of an old token
	// could follow every refresh. It is what makes two tabs, a retry and a lost reply harmless.
	//
	// [Strict] turns it off: of refreshes that race one wins, and the others end the session, as
	// does a client that did not get the reply and tries again. It is for clients that serialize
	// their refreshes and can log in again.
	GracePeriod time.Duration

	// RecoveryPeriod is how long after a refresh the consumed token is still accepted, because its
	// successor may never have arrived: at most RefreshTTL. If it is 0 it is an hour, or RefreshTTL
	// if that is shorter, and none if GracePeriod is Strict. [Strict] turns it off.
	//
	// It is for clients that lose a token after the server has answered. A browser that is killed
	// within half a minute of a refresh comes back with the token consumed last, because Chromium
	// writes its cookies to the disk every 30 seconds. A mobile application loses the network in
	// mid-refresh.
	//
	// A recovery makes a new successor, which displaces the one made before. Presenting the
	// displaced one ends the session. What it costs: until the honest client's next refresh, a
	// thief can use the token that was consumed last like a live one, for as long as this period.
	// Then the theft shows.
	//
	// If GracePeriod is Strict and RecoveryPeriod is not, refreshes that race displace each other's
	// tokens.
	RecoveryPeriod time.Duration

	// MaxSessions is how many sessions a subject may have; 0 means any number. One login more ends
	// the oldest.
	MaxSessions int

	// Authorize is asked at Start and at every Refresh. If it is nil, everybody is allowed, without
	// extra claims.
	Authorize Authorizer

	// RefreshKeys, if there are any, are needed besides the store to make or check a refresh token:
	// who can write to the store cannot make one. Each is 32 random bytes or more, kept outside the
	// store. The first one signs, all verify. To change keys, first add the new one at the end on
	// every instance, then move it to the front on every instance; remove the old one when
	// MaxLifetime has passed. If it goes earlier, as with Unlimited it must, a token made with it
	// that comes back then is refused as a forgery, and is no sign of theft any more.
	//
	// A nil element stands for no key. To begin with keys, go by way of {nil, key} and {key, nil}
	// to {key}. While the nil is there, it is as if there were no keys for whoever can write to the
	// store.
	RefreshKeys [][]byte

	// FeedInterval is how often Run looks for what other instances have revoked, from 100
	// milliseconds to 1 minute. If it is 0, that is each second, or every 10 seconds while the
	// store notifies of news: then a revocation is known at once all the same.
	FeedInterval time.Duration

	// OnEvent is told what happens to sessions. It is called in the goroutine of the call that
	// caused it, after the fact is in the store, and must neither block nor panic: the client would
	// not get its tokens.
	OnEvent func(context.Context, Event)

	// KeepEnded is how long the record of a session that was ended is kept: 25 hours if 0. Other
	// instances learn of a revocation from the record, so it has to be there for as long as an
	// access token of the session could be accepted anywhere: at least AccessTTL, GracePeriod and
	// 11 minutes for clocks that differ. Until the record goes, [Manager.Session] tells why the
	// session was ended.
	KeepEnded time.Duration

	// Remember is how many records this Manager keeps in memory of those that it wrote last, about
	// 1 kB each: 8192 if 0, none if negative, at most 16777216. If it is 0 and the store has no
	// [RevocationFeed], it is none: such a store may be a wrapper whose Load does more than read.
	//
	// The next refresh of such a session is one call of the store instead of two: its write
	// succeeds only if the store still has the record as it was. Otherwise, as after a refresh by
	// another instance, the refresh begins with a look at the store. Whoever changes a record by
	// hand has to count its Version up.
	Remember int

	// Now is the clock; time.Now if nil, which in a bubble of testing/synctest is the bubble's.
	Now func() time.Time
}

// An Authorizer decides whether a session may have tokens, and what its access token says. It is
// asked with the session as it was before the refresh, but for attributes given with it. If it
// returns [ErrDenied], wrapped or not, the refresh ends the session. Any other error means that it
// could not tell: the call returns [ErrUnavailable] and the session stays as it is.
type Authorizer func(ctx context.Context, s Session) (Grant, error)

// A Grant is what an access token says beyond who and which session. It is asked for each time, so
// that a permission that was taken away is gone from the next access token.
type Grant struct {
	// Audience is the token's aud; AccessConfig.Audience if it is empty.
	Audience []string

	// Scope is the token's scope: names separated by single spaces (RFC 6749 section 3.3).
	Scope string

	// Claims are further claims, written as [encoding/json.Marshal] does. Names that RFC 9068 gives
	// a meaning are refused, in whatever case, and so are two names that differ in case only. The
	// whole access token cannot be longer than 8 KiB.
	Claims map[string]any
}

// rememberFor returns how many records are remembered of a store.
func (c Config) rememberFor(store RefreshStore) int {
	if _, ok := store.(RevocationFeed); ok && c.Remember == 0 {
		return defaultRemember
	}
	return c.Remember
}

// withDefaults returns the config with its zero values filled in and its slices copied, or says
// what is wrong with it.
func (c Config) withDefaults() (Config, error) {
	for _, d := range []struct {
		field        *time.Duration
		defaultValue time.Duration
	}{
		{&c.AccessTTL, defaultAccessTTL}, {&c.RefreshTTL, defaultRefreshTTL},
		{&c.MaxLifetime, defaultMaxLifetime}, {&c.GracePeriod, defaultGrace},
	} {
		if *d.field == 0 {
			*d.field = d.defaultValue
		}
	}
	if c.RecoveryPeriod == 0 {
		c.RecoveryPeriod = min(defaultRecovery, c.RefreshTTL)
		if c.GracePeriod == Strict {
			c.RecoveryPeriod = Strict
		}
	}
	if c.KeepEnded == 0 {
		c.KeepEnded = max(defaultKeepEnded, c.leastKeepEnded())
	}
	if err := c.validate(); err != nil {
		return c, fmt.Errorf("tokensession: Config.%w", err)
	}
	keys := make([][]byte, len(c.RefreshKeys))
	for i, key := range c.RefreshKeys {
		keys[i] = append([]byte(nil), key...)
	}
	c.RefreshKeys = keys
	if c.Authorize == nil {
		c.Authorize = func(context.Context, Session) (Grant, error) { return Grant{}, nil }
	}
	if c.OnEvent == nil {
		c.OnEvent = func(context.Context, Event) {}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return c, nil
}

func (c Config) validate() error {
	return cmp.Or(c.validateLifetimes(), c.validateGrace(), c.validateKeepEnded(), c.validateFeed(),
		c.validateCounts(), c.validateKeys())
}

func (c Config) validateLifetimes() error {
	switch {
	case c.AccessTTL < minTTL || c.AccessTTL > maxAccessTTL:
		return fmt.Errorf("AccessTTL %v: must be from %v to %v", c.AccessTTL, minTTL, maxAccessTTL)
	case c.RefreshTTL < minTTL || c.RefreshTTL > maxPeriod:
		return fmt.Errorf("RefreshTTL %v: must be from %v to %v", c.RefreshTTL, minTTL, maxPeriod)
	case c.MaxLifetime != Unlimited && (c.MaxLifetime < minTTL || c.MaxLifetime > maxPeriod):
		return fmt.Errorf("MaxLifetime %v: must be from %v to %v, or Unlimited",
			c.MaxLifetime, minTTL, maxPeriod)
	}
	return nil
}

func (c Config) validateGrace() error {
	switch {
	case c.GracePeriod < 0 && c.GracePeriod != Strict:
		return fmt.Errorf("GracePeriod %v: cannot be negative, but for Strict", c.GracePeriod)
	case c.GracePeriod >= c.AccessTTL:
		return fmt.Errorf("GracePeriod %v: must be shorter than AccessTTL (%v)",
			c.GracePeriod, c.AccessTTL)
	case c.RecoveryPeriod < 0 && c.RecoveryPeriod != Strict:
		return fmt.Errorf("RecoveryPeriod %v: cannot be negative, but for Strict", c.RecoveryPeriod)
	case c.RecoveryPeriod > c.RefreshTTL:
		return fmt.Errorf("RecoveryPeriod %v: cannot be longer than RefreshTTL (%v)",
			c.RecoveryPeriod, c.RefreshTTL)
	}
	return nil
}

func (c Config) validateKeepEnded() error {
	if least := c.leastKeepEnded(); c.KeepEnded < least || c.KeepEnded > maxPeriod {
		return fmt.Errorf("KeepEnded %v: must be from AccessTTL, GracePeriod and 11 minutes (%v) to %v",
			c.KeepEnded, least, maxPeriod)
	}
	return nil
}

func (c Config) validateFeed() error {
	if d := c.FeedInterval; d != 0 && (d < minFeedInterval || d > maxFeedInterval) {
		return fmt.Errorf("FeedInterval %v: must be from %v to %v",
			d, minFeedInterval, maxFeedInterval)
	}
	return nil
}

// leastKeepEnded is how long an access token of an ended session could be accepted somewhere.
func (c Config) leastKeepEnded() time.Duration {
	return c.AccessTTL + max(c.GracePeriod, 0) + 2*maxLeeway + clockSkew
}

func (c Config) validateCounts() error {
	if c.MaxSessions < 0 {
		return fmt.Errorf("MaxSessions %d: cannot be negative", c.MaxSessions)
	}
	if c.Remember > maxRemember {
		return fmt.Errorf("%s %d: cannot be more than %d", "Remember", c.Remember, maxRemember)
	}
	return nil
}

func (c Config) validateKeys() error {
	last := len(c.RefreshKeys) - 1
	for i, key := range c.RefreshKeys {
		transitional := key == nil &&
			(i == 0 && last > 0 && c.RefreshKeys[last] != nil || i == last && i > 0)
		if len(key) < minSecretSize && !transitional {
			return fmt.Errorf("RefreshKeys[%d] of %d bytes: cannot be shorter than %d",
				i, len(key), minSecretSize)
		}
	}
	return nil
}

// Format prints the config without RefreshKeys, whatever the verb.
func (c Config) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(c.String())) }

// String describes the config without RefreshKeys.
func (c Config) String() string {
	return fmt.Sprintf("tokensession.Config{AccessTTL:%v RefreshTTL:%v MaxLifetime:%v "+
		"GracePeriod:%v RecoveryPeriod:%v MaxSessions:%d FeedInterval:%v KeepEnded:%v Remember:%d "+
		"RefreshKeys:%d REDACTED}",
		c.AccessTTL, c.RefreshTTL, c.MaxLifetime, c.GracePeriod, c.RecoveryPeriod, c.MaxSessions,
		c.FeedInterval, c.KeepEnded, c.Remember, len(c.RefreshKeys))
}

// LogValue describes the config without RefreshKeys.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

func (c Config) rules() rules {
	return rules{
		refreshTTL: c.RefreshTTL, maxLifetime: max(c.MaxLifetime, 0),
		grace: max(c.GracePeriod, 0), recovery: max(c.RecoveryPeriod, 0), keepEnded: c.KeepEnded,
	}
}

// checkText refuses what some store, column or claim could not hold as it is.
func checkText(what, s string, limit int) error {
	switch {
	case s == "":
		return fmt.Errorf("tokensession: %s is empty", what)
	case len(s) > limit:
		return fmt.Errorf("tokensession: %s of %d bytes: cannot be longer than %d",
			what, len(s), limit)
	case !utf8.ValidString(s):
		return fmt.Errorf("tokensession: %s %q: not valid UTF-8", what, s)
	}
	for _, r := range s {
		if unicode.IsControl(r) {
			return fmt.Errorf("tokensession: %s %q: has the control character %U", what, s, r)
		}
	}
	return nil
}

// checkAttributes refuses attributes that cannot be kept with [ErrAttributes].
func checkAttributes(given map[string]string) error {
	if err := attributes.Check(given); err != nil {
		return fmt.Errorf("%w: WithAttributes: %w", ErrAttributes, err)
	}
	return nil
}

// check refuses a grant that no access token can carry. Claims are checked when they are written.
func (g Grant) check() error {
	for _, a := range g.Audience {
		if err := checkText("Grant.Audience", a, maxNameSize); err != nil {
			return err
		}
	}
	return checkScope("Grant.Scope", g.Scope)
}

// checkScope refuses what is not a scope by RFC 6749 section 3.3. An empty one is none.
func checkScope(what, scope string) error {
	if scope == "" {
		return nil
	}
	previous := byte(' ')
	for i := range len(scope) {
		c := scope[i]
		if c < ' ' || c > '~' || c == '"' || c == '\\' || c == ' ' && previous == ' ' {
			return fmt.Errorf("tokensession: %s has %q at byte %d: must be names of printable ASCII "+
				"without \" and \\, separated by single spaces", what, c, i)
		}
		previous = c
	}
	if previous == ' ' {
		return fmt.Errorf("tokensession: %s ends in a space", what)
	}
	return nil
}

// withinScope reports whether each name of a scope is one of those granted.
func withinScope(scope, granted string) bool {
	names := strings.Split(granted, " ")
	for name := range strings.SplitSeq(scope, " ") {
		if !slices.Contains(names, name) {
			return false
		}
	}
	return true
}

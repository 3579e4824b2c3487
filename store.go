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

// A RefreshStore keeps one [Record] a session. [NewMemoryStore] is one; the modules redisstore and
// sqlstore hold others. Most users never call these methods: a [Manager] does. Those who write a
// store run [storetest] over it.
//
// Every method MUST be safe for concurrent use, from several processes if the store is shared by
// several. If the context has ended before the call, it MUST return the context's error, wrapped or
// not, and change nothing.
//
// Every field of a record but Replaces MUST come back as it was written, times to the microsecond
// and in UTC. A zero time MUST come back as a zero time. Neither side may see the other's later
// changes to a map or slice.
//
// A record whose ExpiresAt has passed MAY be dropped at any time, and MUST NOT be dropped before. A
// record that is already expired when it is written MUST be accepted; it MUST NOT then be kept for
// ever.
//
// An error that is none of [ErrNotFound], [ErrExists] and [ErrConflict] means that the store could
// not tell, and that a write may or may not have been applied. A store MUST NOT return one of the
// three when it could not tell.
//
// ErrNotFound ends a login, so an empty answer is no ErrNotFound yet. A read can be empty for many
// reasons: it went to a replica that lags behind, to a node that is no longer the master, through a
// pooler that mixed up two clients' statements, or to a table whose rows are hidden from this role.
// So before Load or Swap returns ErrNotFound, and before List returns no record, the store MUST
// have confirmed the absence by something that only the current master can do, after the call
// began. A confirmation MAY serve all calls that read before it. If it fails, the error is another
// one.
//
// A record of a form that a later version of the store writes is no absence either: it is an error,
// and it stays as it is. So is a record that cannot be read.
//
// A store may wrap another one, say to count its calls. It then has a method Unwrap() RefreshStore,
// so that the optional abilities of the store inside are found: [Sweeper], [RevocationFeed],
// [RevocationNotifier] and [SubjectRevoker]. If the wrapper has one of these itself, that is the
// one used. A call of such an ability goes to the store inside directly, past a wrapper that does
// not have it.
//
// [storetest]: https://pkg.go.dev/github.com/seed67bc9b7f/tokensession/storetest
type RefreshStore interface {
	// Create adds a record, whose Version is 1. If there is a record with this ID it MUST return
	// [ErrExists] and leave that record as it is. If that record's WriteID is the one to be
	// written, it MAY return nil instead, because the write has been applied already.
	Create(ctx context.Context, rec Record) error

	// Load returns the record with this ID, or a confirmed [ErrNotFound]. It MUST see every write
	// that was acknowledged before it was called: reading from an asynchronous replica breaks
	// sessions.
	Load(ctx context.Context, id string) (Record, error)

	// Swap replaces the record with next's ID by next, atomically. It MUST return [ErrConflict],
	// and leave the stored record as it is, unless the stored Version is next.Version-1, the stored
	// WriteID is next.Replaces, and the stored RevokedAt is zero. The version alone is not enough,
	// because after a failover that lost writes, another write can have made the same one. A
	// revocation is never undone.
	//
	// If the stored record has next's Version and WriteID, the write has been applied already, and
	// Swap MAY return nil instead. It MUST return [ErrNotFound] if there is no such record,
	// confirmed as for Load, and MUST NOT create one.
	Swap(ctx context.Context, next Record) error

	// List returns the subject's records, oldest CreatedAt first. It MUST include every record that
	// is neither expired nor revoked, and MAY include others. A subject without records is an empty
	// list, confirmed as for Load, and no error. Subjects differ when their bytes differ.
	//
	// If a record cannot be read, List MUST return the others together with an error that wraps
	// [ErrUnreadable].
	List(ctx context.Context, subject string) ([]Record, error)
}

// ability finds an optional ability of a store, or of one that it wraps.
func ability[T any](store RefreshStore) (T, bool) {
	for {
		if found, ok := store.(T); ok {
			return found, true
		}
		wrapper, ok := store.(interface{ Unwrap() RefreshStore })
		if !ok {
			var none T
			return none, false
		}
		store = wrapper.Unwrap()
	}
}

// A Sweeper is a [RefreshStore] that has to be told to drop expired records. [Manager.Run] calls
// it. A store without it drops them by itself, or keeps them.
type Sweeper interface {
	// Sweep drops up to limit records with ExpiresAt <= now and returns how many it dropped. It
	// MUST NOT drop others.
	Sweep(ctx context.Context, now time.Time, limit int) (int, error)
}

// A RevocationFeed is a [RefreshStore] that can tell which sessions were revoked lately, and of
// which the access tokens are outdated. [Manager.Run] asks it again and again, which is how a
// revocation reaches access tokens on other instances. With a store that has no feed, an instance
// knows only of the revocations made through it.
type RevocationFeed interface {
	// Revocations calls page, as often as it takes, with the revocations and outdatings whose At is
	// since or later, in any order. It MAY give earlier ones, and one more than once. It MUST give
	// each one from when the write that made it was acknowledged until 24 hours and a half after
	// At, or until the record expired: for so long an access token can be accepted somewhere, if
	// its AccessTTL is the longest and clocks differ. The slice is page's only until it returns. A
	// page SHOULD hold no more than a few thousand, so that nobody has to hold all of them. An
	// error of page ends the call, which then returns it.
	//
	// One record that cannot be read must not hide the others. If what cannot be read is when a
	// session was revoked, it is given with a zero At. Any other unreadable record is left out, and
	// when all pages have been given, Revocations MUST return an error that wraps [ErrUnreadable]
	// and names the record.
	Revocations(ctx context.Context, since time.Time, page func([]Revocation) error) error
}

// A RevocationNotifier is a [RevocationFeed] that knows when there is news. With it, [Manager.Run]
// looks at the feed as soon as something is there, and rarely otherwise. Without it, Run asks every
// second.
type RevocationNotifier interface {
	// Notified returns nil as soon as there may be something new in the feed. News between two
	// calls, and a connection made anew, MUST make the next call return at once. An error means
	// that notifying does not work now: Run polls as if there were no notifier, and calls again
	// later.
	Notified(ctx context.Context) error
}

// A Revocation says that a session was revoked, or that its older access tokens are outdated, and
// when, by the clock of the instance that did it.
type Revocation struct {
	SessionID string
	At        time.Time // zero: revoked at a time that cannot be read
	Epoch     uint64    // 0: revoked; otherwise access tokens of earlier epochs are outdated
}

// A SubjectRevoker is a [RefreshStore] that can revoke all of a subject's sessions at one stroke.
// With a store that is none, [Manager.RevokeSubject] lists them and swaps one after the other.
type SubjectRevoker interface {
	// RevokeSubject sets RevokedAt, RevokeReason and WriteID, and counts up Version, of every
	// record of r.Subject that is of one of r.Issuers, is not revoked, has ExpiresAt > r.At, and
	// whose ID is not in r.Keep. RevokedAt becomes the later one of r.At and the record's
	// RotatedAt: others deny its access tokens from then on for as long as these live. ExpiresAt
	// becomes r.KeepUntil if that is earlier. It returns the records as they are now. Called again
	// with the same WriteID, and a later At, it MUST return them again.
	RevokeSubject(ctx context.Context, r SubjectRevocation) ([]Record, error)
}

// A SubjectRevocation says which sessions a [SubjectRevoker] is to end, and how.
type SubjectRevocation struct {
	Subject string
	Issuers []string // at least one
	Keep    []string // ids of sessions
	At      time.Time
	Reason  Reason
	WriteID string

	// KeepUntil is when the ended sessions' records may be dropped, if they do not expire earlier.
	// Zero: when they expire.
	KeepUntil time.Time
}

// A Record is what a [RefreshStore] keeps of a session. No token can be made from one: a refresh
// token needs the session's handle, which is in the token only, and of which the ID is a hash.
type Record struct {
	ID      string // 22 characters of base64url, primary key
	Version uint64 // 1 when created, one more with each write
	WriteID string // 22 characters of base64url, another one each write

	// Replaces is for Swap alone: the WriteID that the stored record has to have. It is not stored,
	// and is empty in a record that a store returns.
	Replaces string

	Issuer     string // of the session's access tokens
	Subject    string
	ClientID   string            // empty: bound to no client
	Actor      string            // who acts for the subject (RFC 8693 section 4.1); can be empty
	Attributes map[string]string // nil or not empty

	Key           []byte // 32 bytes; authenticates the session's refresh tokens
	KeyThumbprint string // of the key that the session is bound to (RFC 7638); empty: none
	Generation    uint64 // of the live refresh token
	Predecessor   uint64 // whose use made the live one; no meaning before that

	AuthTime    time.Time // when the user proved who they are
	AuthMethods []string  // how: amr (RFC 8176); nil or not empty
	AuthContext string    // how well: acr; empty: not said

	Epoch      uint64    // access tokens of earlier epochs are outdated; 0: none are
	OutdatedAt time.Time // when Epoch was last raised; zero: never

	// IdleTTL is how long the session lasts without a refresh, as it was chosen at login. Transient
	// sessions end with the client: it does not keep its tokens when it ends.
	IdleTTL   time.Duration
	Transient bool

	CreatedAt    time.Time
	ConsumedAt   time.Time // when Predecessor was used; zero before the first refresh
	RotatedAt    time.Time // when Generation became the live one
	ExpiresAt    time.Time
	MaxExpiresAt time.Time // zero: no absolute end
	RevokedAt    time.Time // zero: not revoked
	RevokeReason Reason
}

// A Reason says why a session was revoked: one of a [Manager]'s, or the host's own ([Because]).
type Reason string

// The reasons a [Manager] gives.
const (
	ReasonLogout         Reason = "logout"          // RevokeToken
	ReasonRevoked        Reason = "revoked"         // Revoke, unless Because says another
	ReasonSubjectRevoked Reason = "subject_revoked" // RevokeSubject, unless Because says another
	ReasonReuse          Reason = "reuse"           // a consumed refresh token came back
	ReasonDenied         Reason = "denied"          // the authorizer refused a refresh
	ReasonReplaced       Reason = "replaced"        // a login with Replacing
	ReasonMaxSessions    Reason = "max_sessions"    // a login beyond Config.MaxSessions
)

// Session returns what the record says of the session, without what authenticates its tokens.
func (r Record) Session() Session {
	return Session{
		ID: r.ID, Subject: r.Subject, ClientID: r.ClientID, Actor: r.Actor,
		Attributes: maps.Clone(r.Attributes), AuthTime: r.AuthTime,
		AuthMethods: slices.Clone(r.AuthMethods), AuthContext: r.AuthContext,
		Transient: r.Transient, CreatedAt: r.CreatedAt, RefreshedAt: r.RotatedAt,
		ExpiresAt: r.ExpiresAt, MaxExpiresAt: r.MaxExpiresAt, IdleTTL: r.IdleTTL,
		RevokedAt: r.RevokedAt, RevokeReason: r.RevokeReason,
		KeyThumbprint: r.KeyThumbprint,
	}
}

// Format prints the record without its Key, whatever the verb.
func (r Record) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(r.String())) }

// String describes the record without its Key.
func (r Record) String() string {
	return fmt.Sprintf("tokensession.Record{ID:%s Version:%d Subject:%q Generation:%d Key:REDACTED}",
		r.ID, r.Version, r.Subject, r.Generation)
}

// LogValue describes the record without its Key.
func (r Record) LogValue() slog.Value {
	return slog.GroupValue(slog.String("id", r.ID), slog.Uint64("version", r.Version),
		slog.String("subject", r.Subject), slog.Uint64("generation", r.Generation))
}

// MarshalJSON fails, so that no record ends up in a log with its Key. The stored form is
// [Record.MarshalBinary]'s.
func (r Record) MarshalJSON() ([]byte, error) {
	return nil, errors.New("tokensession: a Record has no JSON form: use MarshalBinary")
}

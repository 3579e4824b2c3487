package tokensession

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"time"
)

// A RefreshStore keeps one [Record] a session. [NewMemoryStore] is one; the modules redisstore and
// sqlstore hold others. Most users never call these methods: a [Manager] does. Who writes a store
// runs [storetest] over it.
//
// Every method MUST be safe for concurrent use, from several processes where the store is shared by
// several, and MUST return the context's error, wrapped or not, and change nothing, when the
// context has ended before the call.
//
// Every field of a record MUST come back as it was written, times to the microsecond and in UTC. A
// zero time MUST come back as a zero time. Neither side may see the other's later changes to a map
// or slice.
//
// A record whose ExpiresAt has passed MAY be dropped at any time, and MUST NOT be dropped before. A
// record that is already expired when it is written MUST be accepted; it MUST NOT then be kept for
// ever.
//
// An error that is none of [ErrNotFound], [ErrExists] and [ErrConflict] means that the store could
// not tell, and that a write may or may not have been applied. A store MUST NOT return one of the
// three when it could not tell.
//
// A store may wrap another one, say to count its calls. It then has a method Unwrap() RefreshStore,
// so that the optional abilities of the store inside are found: [Sweeper], [RevocationFeed] and
// [SubjectRevoker]. Where the wrapper has one of these itself, that is the one used. A call of such
// an ability goes to the store inside directly, past a wrapper that does not have it.
//
// [storetest]: https://pkg.go.dev/github.com/seed67bc9b7f/tokensession/storetest
type RefreshStore interface {
	// Create adds a record, whose Version is 1. If there is a record with this ID it MUST return
	// [ErrExists] and leave that record as it is; if that record's WriteID is the one to be written
	// it MAY return nil instead, for the write has been applied already.
	Create(ctx context.Context, rec Record) error

	// Load returns the record with this ID, or [ErrNotFound]. It MUST see every write that was
	// acknowledged before it was called: reading from an asynchronous replica breaks sessions.
	Load(ctx context.Context, id string) (Record, error)

	// Swap replaces the record with next's ID by next, atomically. It MUST return [ErrConflict],
	// and leave the stored record as it is, unless the stored Version is next.Version-1 and the
	// stored RevokedAt is zero: a revocation is never undone. If the stored record has next's
	// Version and WriteID, the write has been applied already, and it MAY return nil instead. It
	// MUST return [ErrNotFound] if there is no such record, and MUST NOT create one.
	Swap(ctx context.Context, next Record) error

	// List returns the subject's records, oldest CreatedAt first. It MUST include every record that
	// is neither expired nor revoked, and MAY include others. A subject without records is an empty
	// list, not an error. Subjects differ when their bytes differ.
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

// A RevocationFeed is a [RefreshStore] that can tell which sessions were revoked lately.
// [Manager.Run] asks every second, which is how a revocation reaches access tokens on other
// instances. With a store that has no feed, an instance knows only of the revocations made through
// it.
type RevocationFeed interface {
	// RevokedSince returns the revocations with At >= since, in any order; it MAY include earlier
	// ones. It MUST include each from when the write that made it was acknowledged until 24 hours
	// after At, or until the record expired.
	RevokedSince(ctx context.Context, since time.Time) ([]Revocation, error)
}

// A Revocation says when a session was revoked, by the clock of the instance that did it.
type Revocation struct {
	SessionID string
	At        time.Time
}

// A SubjectRevoker is a [RefreshStore] that can revoke all of a subject's sessions at one stroke.
// With a store that is none, [Manager.RevokeSubject] lists them and swaps one after the other.
type SubjectRevoker interface {
	// RevokeSubject sets RevokedAt, RevokeReason and WriteID, and counts up Version, of every
	// record of the subject that is not revoked, has ExpiresAt > at, and whose ID is not in keep.
	// RevokedAt becomes the later one of at and the record's RotatedAt: others deny its access
	// tokens from then on for as long as these live. It returns the records as they are now; called
	// again with the same writeID it MUST return them again.
	RevokeSubject(ctx context.Context, subject string, keep []string, at time.Time, reason Reason, writeID string) ([]Record, error)
}

// A Record is what a [RefreshStore] keeps of a session. No token can be made from one: a refresh
// token needs the session's handle, which is in the token only, and of which the ID is a hash.
type Record struct {
	ID      string // 22 characters of base64url, primary key
	Version uint64 // 1 when created, one more with each write
	WriteID string // 22 characters of base64url, another one each write

	Subject    string
	ClientID   string            // empty: bound to no client
	Attributes map[string]string // nil or not empty

	Key         []byte // 32 bytes; authenticates the session's refresh tokens
	Generation  uint64 // of the live refresh token
	Predecessor uint64 // the generation whose use made the live one; meaningless before the first refresh

	AuthTime     time.Time
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
		ID: r.ID, Subject: r.Subject, ClientID: r.ClientID, Attributes: maps.Clone(r.Attributes),
		AuthTime: r.AuthTime, CreatedAt: r.CreatedAt, RefreshedAt: r.RotatedAt,
		ExpiresAt: r.ExpiresAt, MaxExpiresAt: r.MaxExpiresAt, RevokedAt: r.RevokedAt, RevokeReason: r.RevokeReason,
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

// Package redisstore keeps tokensession's sessions in Redis 6.2 or later, or in Valkey: one server,
// Sentinel, or a Cluster.
//
//	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"localhost:6379"}})
//	store, err := redisstore.New(client, redisstore.Config{})
//
// Every session is a hash, which Redis drops by itself when the session has expired. A refresh is
// one write of a single key in one round trip, and one read before it at an instance that has not
// written the session last. A revocation reaches other instances at once, through Redis's publish
// and subscribe.
//
// Redis has to keep what it acknowledged: set appendonly yes and maxmemory-policy noeviction, with
// replicas also min-replicas-to-write 1, and see the README for what a crash or a failover can
// lose. [Store.Check] looks whether a server is set so.
//
// # Keys
//
// With the default prefix:
//
//	tokensession:session:<session id>   a hash, the session
//	tokensession:subject:<subject>      a sorted set of the subject's session ids, query-escaped
//	tokensession:revoked                a sorted set of the sessions revoked in the last 25 hours
//	tokensession:keys                   a hash, the signing keys of package keyring, sealed
//
// The session is the truth, the sorted sets are hints to it. A hint is written before what it hints
// at, so that a crash between the two leaves a hint too many and never one too few; whoever reads a
// hint looks at the session. Every key has a time to live.
//
// # Clocks
//
// Times are those of the applications, and Redis drops keys by its own clock. Where the two differ,
// the later one counts: nothing is dropped before its time is over by both.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/seed67bc9b7f/tokensession"
)

// Config of a [Store]. The zero value is the default.
type Config struct {
	// Prefix begins every key. Applications that share a Redis need one each. Default
	// "tokensession".
	Prefix string

	// KeepExpired is how long Redis keeps a session after its end, so that a server whose clock
	// runs ahead of the application's drops none that lives. Default 1 minute.
	KeepExpired time.Duration
}

const (
	defaultPrefix      = "tokensession"
	defaultKeepExpired = time.Minute
)

// A Store is a [tokensession.RefreshStore], a [tokensession.RevocationFeed], a
// [tokensession.RevocationNotifier] and a [keyring.Store]. It needs no sweeping.
//
// [keyring.Store]: https://pkg.go.dev/github.com/seed67bc9b7f/tokensession/keyring#Store
type Store struct {
	client      redis.UniversalClient
	prefix      string
	keepExpired time.Duration
	told        told
	news        news
}

var (
	_ tokensession.RefreshStore       = (*Store)(nil)
	_ tokensession.RevocationFeed     = (*Store)(nil)
	_ tokensession.RevocationNotifier = (*Store)(nil)
)

// New returns a store that uses the client, which stays the caller's to close. It sends nothing to
// the server.
//
// A client that may read from replicas, from a client-side cache, or that is a [redis.Ring] is
// refused: each can answer with a session as it was before the last refresh.
func New(client redis.UniversalClient, cfg Config) (*Store, error) {
	if err := checkClient(client); err != nil {
		return nil, err
	}
	if cfg.KeepExpired < 0 {
		return nil, fmt.Errorf("redisstore: Config.KeepExpired is %v; it cannot be negative",
			cfg.KeepExpired)
	}
	s := &Store{client: client, prefix: cfg.Prefix, keepExpired: cfg.KeepExpired, news: newNews()}
	if s.prefix == "" {
		s.prefix = defaultPrefix
	}
	if s.keepExpired == 0 {
		s.keepExpired = defaultKeepExpired
	}
	return s, nil
}

func checkClient(client redis.UniversalClient) error {
	switch c := client.(type) {
	case nil:
		return errors.New("redisstore: the client is nil")
	case *redis.Client:
		if c == nil {
			return errors.New("redisstore: the client is nil")
		}
		if o := c.Options(); o.ClientSideCacheConfig != nil || o.ClientSideCache != nil {
			return errors.New("redisstore: the client has a client-side cache, which answers with sessions as they " +
				"were before other instances' writes: leave ClientSideCacheConfig and " +
				"ClientSideCache unset")
		}
	case *redis.ClusterClient:
		if c == nil {
			return errors.New("redisstore: the client is nil")
		}
		if c.Options().ReadOnly {
			return errors.New("redisstore: the client may read from replicas, which lag behind: " +
				"leave ReadOnly, RouteByLatency and RouteRandomly of its options unset")
		}
	case *redis.Ring:
		return errors.New("redisstore: a redis.Ring moves keys to other servers when one is down, " +
			"so that its sessions seem gone: use a single server, Sentinel or a Cluster")
	}
	return nil
}

// Create implements [tokensession.RefreshStore].
func (s *Store) Create(ctx context.Context, rec tokensession.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := encode(rec)
	if err != nil {
		return err
	}
	tells := !rec.RevokedAt.IsZero() || r.outdated != ""
	if err := s.hint(ctx, rec, tells); err != nil {
		return err
	}
	key := s.sessionKey(rec.ID)
	args := append(make([]any, 0, 7+len(r.fields)),
		r.version, r.write, s.dropAt(rec.ExpiresAt), clock(rec), s.channelOf(tells), fieldSubject, rec.Subject)
	args = append(args, r.fields...)
	switch status, err := createScript.Run(ctx, s.client, []string{key}, args...).Text(); {
	case err != nil:
		return failure("create session", key, err)
	case status == statusOK:
		s.publish(ctx, tells)
		return nil
	case status == statusExists:
		return fmt.Errorf("redisstore: session %s: %w", rec.ID, tokensession.ErrExists)
	default:
		return unusable(key, status)
	}
}

// Load implements [tokensession.RefreshStore].
func (s *Store) Load(ctx context.Context, id string) (tokensession.Record, error) {
	if err := ctx.Err(); err != nil {
		return tokensession.Record{}, err
	}
	key := s.sessionKey(id)
	reads, err := s.readSessions(ctx, []string{id})
	if err != nil {
		return tokensession.Record{}, failure("load session", key, err)
	}
	fields, err := reads[0].result()
	if err != nil {
		return tokensession.Record{}, failure("load session", key, err)
	}
	if len(fields) == 0 {
		return tokensession.Record{}, fmt.Errorf("redisstore: session %s: %w",
			id, tokensession.ErrNotFound)
	}
	rec, err := decode(id, fields)
	if err != nil {
		return tokensession.Record{}, damaged(key, err)
	}
	return rec, nil
}

// A sessionRead is the read of a session's hash, and what confirms that there is none.
//
// "There is none" ends a login, and a read alone cannot say it. A master that was cut off, and has
// a successor by now, answers reads from what it remembers, and knows nothing of the logins since.
// So the read is followed by a write: HDEL of a field that nobody has. It changes nothing, is not
// replicated, and takes no memory, so that it works where memory is short. A server that may not
// write refuses it: with READONLY on a replica, with NOREPLICAS on a master that has lost its
// replicas and that min-replicas-to-write tells to ask for them. If the session is there, the
// result of the write does not matter.
//
// Both go in one pipeline, and so to one server, which carries them out without a pause. With a
// write that goes its own way, there would be no proof: where a client is led from an old master to
// its successor, some of its connections still go to the old one. The write could succeed on the
// new master after the old one has answered the read, and another read after it could meet the old
// one again.
//
// Every read has its write, not only those that find nothing, because this costs no round trip and
// next to no time. So a forged token costs no more than any other.
type sessionRead struct {
	fields    *redis.MapStringStringCmd
	confirmed *redis.IntCmd
}

// readSessions reads sessions in one round trip.
func (s *Store) readSessions(ctx context.Context, ids []string) ([]sessionRead, error) {
	reads := make([]sessionRead, len(ids))
	err := s.pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			key := s.sessionKey(id)
			reads[i] = sessionRead{p.HGetAll(ctx, key), p.HDel(ctx, key, "no field")}
		}
		return nil
	})
	return reads, err
}

// result returns the session's fields, or none if it is confirmed that there is no session.
func (r sessionRead) result() (map[string]string, error) {
	fields, err := r.fields.Result()
	if err == nil && len(fields) == 0 {
		err = r.confirmed.Err()
	}
	if err == nil && fields == nil {
		err = errNotCarriedOut
	}
	return fields, err
}

// errNotCarriedOut is for a command that has neither an error nor a result. An empty result is not
// nil.
var errNotCarriedOut = errors.New("the command was not carried out")

// pipelined sends commands in one round trip. It returns an error only if no command has one of its
// own: where go-redis cannot even greet the server, say because the password is wrong, it leaves
// the commands as they were, and they would look like commands with an empty result.
func (s *Store) pipelined(ctx context.Context, commands func(redis.Pipeliner) error) error {
	cmds, err := s.client.Pipelined(ctx, commands)
	if err == nil || slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.Err() != nil }) {
		return nil
	}
	return err
}

// Swap implements [tokensession.RefreshStore]. The script confirms that there is no session, as
// Load does.
//
// A refresh needs neither the subject's index nor the feed, and the script knows from the record
// when it does. Then the store writes what is needed there, and runs the script again.
func (s *Store) Swap(ctx context.Context, next tokensession.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r, err := encode(next)
	if err != nil {
		return err
	}
	ends := !next.RevokedAt.IsZero()
	if ends { // it has to be in the feed in any case
		if err := s.announce(ctx, next.ID, next.RevokedAt); err != nil {
			return err
		}
	}
	status, err := s.swap(ctx, next, r, ends, "")
	tells := ends
	if err == nil && status == statusIncomplete {
		tells = ends || r.outdated != ""
		if err := s.hint(ctx, next, tells); err != nil {
			return err
		}
		status, err = s.swap(ctx, next, r, tells, "1")
	}
	key := s.sessionKey(next.ID)
	switch {
	case err != nil:
		return failure("swap session", key, err)
	case status == statusOK:
		s.publish(ctx, tells)
		return nil
	case status == statusConflict:
		return fmt.Errorf("redisstore: session %s: %w", next.ID, tokensession.ErrConflict)
	case status == statusNotFound:
		return fmt.Errorf("redisstore: session %s: %w", next.ID, tokensession.ErrNotFound)
	default:
		return unusable(key, status)
	}
}

func (s *Store) swap(
	ctx context.Context, next tokensession.Record, r row, publish bool, complete string,
) (string, error) {
	before := strconv.FormatUint(next.Version-1, 10)
	args := make([]any, 0, 12+len(r.fields))
	args = append(args, before, r.replaces, r.version, r.write, s.dropAt(next.ExpiresAt),
		clock(next),
		complete, s.channelOf(publish), next.Subject, r.outdated, r.first, strconv.Itoa(r.pieces))
	return swapScript.Run(ctx, s.client, []string{s.sessionKey(next.ID)},
		append(args, r.fields...)...).Text()
}

// hint writes what hints at a record that is about to be written: its entry in the subject's index,
// and in the feed if it is revoked or outdated.
func (s *Store) hint(ctx context.Context, rec tokensession.Record, feed bool) error {
	if feed {
		at := rec.RevokedAt
		if at.IsZero() {
			at = rec.OutdatedAt
		}
		if err := s.announce(ctx, rec.ID, at); err != nil {
			return err
		}
	}
	return s.index(ctx, rec)
}

// dropAt returns when Redis drops a record that expires at t, in Unix milliseconds: rounded up, so
// never too early, and never the zero or negative number that some versions refuse.
func (s *Store) dropAt(t time.Time) int64 { return max(1, ceilMilli(t.Add(s.keepExpired))) }

func ceilMilli(t time.Time) int64 { return t.Add(time.Millisecond - time.Nanosecond).UnixMilli() }

// clock returns what the application's clock said when it made the record, as far as the record
// tells, in Unix milliseconds. A record that does not tell counts as made by a clock that is ahead
// of all others, so that no script takes Redis's clock for one that is ahead.
func clock(rec tokensession.Record) int64 {
	at := writeTime(rec)
	if rec.RevokedAt.After(at) {
		at = rec.RevokedAt
	}
	if at.IsZero() {
		return math.MaxInt32 * 1_000_000
	}
	return at.UnixMilli()
}

func (s *Store) sessionKey(id string) string { return s.prefix + ":session:" + id }

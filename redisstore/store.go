// Package redisstore keeps tokensession's sessions in Redis 6.2 or later, or in Valkey: one server, Sentinel, or a
// Cluster.
//
//	client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: []string{"localhost:6379"}})
//	store, err := redisstore.New(client, redisstore.Config{})
//
// Every session is a hash with fields an operator can read, which Redis drops by itself when the session has expired.
// A refresh is one read and one write, each of a single key in one round trip.
//
// Redis has to keep what it acknowledged: set appendonly yes and maxmemory-policy noeviction, and see the README for
// what a crash or a failover can lose. [Store.Check] looks whether a server is set so.
//
// # Keys
//
// With the default prefix:
//
//	tokensession:session:<session id>   a hash, the session
//	tokensession:subject:<subject>      a sorted set of the subject's session ids, query-escaped
//	tokensession:revoked:<0 to 7>       sorted sets of the sessions revoked in the last 25 hours
//
// The session is the truth, the sorted sets are hints to it. A hint is written before what it hints at, so that a
// crash between the two leaves a hint too many and never one too few; whoever reads a hint looks at the session. Every
// key has a time to live.
package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/seed67bc9b7f/tokensession"
)

// Config of a [Store]. The zero value is the default.
type Config struct {
	// Prefix begins every key. Applications that share a Redis need one each. Default "tokensession".
	Prefix string

	// KeepExpired is how long Redis keeps a session after its end, so that a server whose clock runs ahead of the
	// application's drops none that lives. Default 1 minute.
	KeepExpired time.Duration
}

const (
	defaultPrefix      = "tokensession"
	defaultKeepExpired = time.Minute
)

// A Store is a [tokensession.RefreshStore] and a [tokensession.RevocationFeed]. It needs no sweeping.
type Store struct {
	client      redis.UniversalClient
	prefix      string
	keepExpired time.Duration
	confirmed   confirmed
}

var (
	_ tokensession.RefreshStore   = (*Store)(nil)
	_ tokensession.RevocationFeed = (*Store)(nil)
)

// New returns a store that uses the client, which stays the caller's to close. It sends nothing to the server.
//
// A client that may read from replicas, from a client-side cache, or that is a [redis.Ring] is refused: each can
// answer with a session as it was before the last refresh.
func New(client redis.UniversalClient, cfg Config) (*Store, error) {
	if err := checkClient(client); err != nil {
		return nil, err
	}
	if cfg.KeepExpired < 0 {
		return nil, fmt.Errorf("redisstore: Config.KeepExpired is %v; it cannot be negative", cfg.KeepExpired)
	}
	s := &Store{client: client, prefix: cfg.Prefix, keepExpired: cfg.KeepExpired}
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
				"were before other instances' writes: leave ClientSideCacheConfig and ClientSideCache unset")
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
	w, err := s.newWrite(ctx, rec)
	if err != nil {
		return err
	}
	fields, err := s.indexed(ctx, rec)
	if err != nil {
		return err
	}
	args := append([]any{writeOf(rec), w.dropAt}, fields...)
	switch status, err := createScript.Run(ctx, s.client, []string{w.key}, args...).Text(); {
	case err != nil:
		return failure("create session", w.key, err)
	case status == statusOK:
		return nil
	case status == statusExists:
		return fmt.Errorf("redisstore: session %s: %w", rec.ID, tokensession.ErrExists)
	default:
		return unusable(w.key, status)
	}
}

// Load implements [tokensession.RefreshStore].
func (s *Store) Load(ctx context.Context, id string) (tokensession.Record, error) {
	if err := ctx.Err(); err != nil {
		return tokensession.Record{}, err
	}
	key := s.sessionKey(id)
	fields, err := s.client.HGetAll(ctx, key).Result()
	if err != nil {
		return tokensession.Record{}, failure("load session", key, err)
	}
	if len(fields) == 0 {
		return tokensession.Record{}, fmt.Errorf("redisstore: session %s: %w", id, tokensession.ErrNotFound)
	}
	rec, err := decode(id, fields)
	if err != nil {
		return tokensession.Record{}, damaged(key, err)
	}
	return rec, nil
}

// Swap implements [tokensession.RefreshStore].
func (s *Store) Swap(ctx context.Context, next tokensession.Record) error {
	w, err := s.newWrite(ctx, next)
	if err != nil {
		return err
	}
	status, err := s.swap(ctx, next, w, digest(next), moving(next))
	if err == nil && status == statusIncomplete {
		var fields []any
		if fields, err = s.indexed(ctx, next); err != nil {
			return err
		}
		status, err = s.swap(ctx, next, w, "", fields)
	}
	switch {
	case err != nil:
		return failure("swap session", w.key, err)
	case status == statusOK:
		return nil
	case status == statusConflict:
		return fmt.Errorf("redisstore: session %s: %w", next.ID, tokensession.ErrConflict)
	case status == statusNotFound:
		return fmt.Errorf("redisstore: session %s: %w", next.ID, tokensession.ErrNotFound)
	default:
		return unusable(w.key, status)
	}
}

// swap sends the fields, and the digest of those that are not among them.
func (s *Store) swap(ctx context.Context, next tokensession.Record, w write, digest string, fields []any) (string, error) {
	args := make([]any, 0, 5+len(fields))
	args = append(args, strconv.FormatUint(next.Version-1, 10)+" ", writeOf(next), w.dropAt, digest, writeTime(next).UnixMilli())
	return swapScript.Run(ctx, s.client, []string{w.key}, append(args, fields...)...).Text()
}

// A write says where a record goes, and when Redis drops it.
type write struct {
	key    string
	dropAt int64
}

// newWrite checks a record that is to be written, and puts a revocation into the feed, which has to know of it first.
func (s *Store) newWrite(ctx context.Context, rec tokensession.Record) (write, error) {
	if err := ctx.Err(); err != nil {
		return write{}, err
	}
	if err := checkTimes(rec); err != nil {
		return write{}, err
	}
	if !rec.RevokedAt.IsZero() {
		if err := s.announce(ctx, rec); err != nil {
			return write{}, err
		}
	}
	return write{key: s.sessionKey(rec.ID), dropAt: s.dropAt(rec.ExpiresAt)}, nil
}

// indexed sees to it that the subject's index lists the record for somewhat longer than Redis keeps it, and returns
// the fields of the record that may be written then.
func (s *Store) indexed(ctx context.Context, rec tokensession.Record) ([]any, error) {
	e := s.entryOf(rec)
	if err := s.index(ctx, rec, e); err != nil {
		return nil, err
	}
	return everything(rec, e), nil
}

// dropAt returns when Redis drops a record that expires at t, in Unix milliseconds: rounded up, so never too early,
// and never the zero or negative number that some versions refuse.
func (s *Store) dropAt(t time.Time) int64 {
	return max(1, t.Add(s.keepExpired+time.Millisecond-time.Nanosecond).UnixMilli())
}

func (s *Store) sessionKey(id string) string { return s.prefix + ":session:" + id }

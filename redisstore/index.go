package redisstore

import (
	"context"
	"errors"
	"math/bits"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/seed67bc9b7f/tokensession"
)

// The index of a subject names its sessions, each with the time until when it is listed. No refresh
// looks at it. Instead each session's data begins with a mark of two bytes, that of the record for
// which the entry was written. The entry is listed for long enough for every record that has the
// same mark. So a refresh that leaves the mark as it is needs no other write, and one that changes
// it writes the entry first.
//
// The mark changes when time has passed and when the time that the session has left changes much.
// The first also brings back an entry which a failover lost.
//
// No reader drops an entry because its session is not there: the Create that wrote it may be about
// to write the session. Entries go when their time is over.

// longestBucket bounds how seldom a session that is refreshed all the time renews its entry, unless
// it may live for more than 128 times as long without a refresh.
const longestBucket = 24 * time.Hour

// A mark says in which piece of time a record was written, its bucket, and about how long the
// session has to live from then on, its class. The classes are the lifetimes in milliseconds
// rounded up to three significant bits. A bucket is as long as a quarter of that, and at most a
// day. Of its number the last byte is enough, because a session that is not refreshed for 256
// buckets is over.
type mark struct{ class, bucket byte }

func markOf(rec tokensession.Record) mark {
	class, lifetime := classOf(rec)
	return mark{class, byte(bucketOf(rec, lifetime))}
}

// listedUntil returns until when the record's entry is listed, in Unix milliseconds: the latest
// time that Redis can drop a record with the same mark.
func (s *Store) listedUntil(rec tokensession.Record) int64 {
	_, lifetime := classOf(rec)
	ends := (bucketOf(rec, lifetime)+1)*bucketSize(lifetime) + lifetime
	return max(s.dropAt(time.UnixMilli(ends)), s.dropAt(rec.ExpiresAt))
}

func classOf(rec tokensession.Record) (class byte, lifetime int64) {
	ms := uint64(max(0, ceilMilli(rec.ExpiresAt)-writeTime(rec).UnixMilli()))
	if ms < 8 {
		return byte(ms), int64(ms)
	}
	shift := bits.Len64(ms) - 3
	top := (ms + 1<<shift - 1) >> shift // 4 to 8
	return byte(4*shift) + byte(top), int64(top << shift)
}

func bucketSize(lifetime int64) int64 {
	return max(1, lifetime/128, min(lifetime/4, longestBucket.Milliseconds()))
}

func bucketOf(rec tokensession.Record, lifetime int64) int64 {
	size, at := bucketSize(lifetime), writeTime(rec).UnixMilli()
	bucket := at / size
	if at%size < 0 { // before 1970
		bucket--
	}
	return bucket
}

// writeTime is when a record was created or refreshed.
func writeTime(rec tokensession.Record) time.Time {
	if rec.RotatedAt.IsZero() {
		return rec.CreatedAt
	}
	return rec.RotatedAt
}

// index sees to it that the subject's index lists the record.
func (s *Store) index(ctx context.Context, rec tokensession.Record) error {
	key := s.subjectKey(rec.Subject)
	err := indexScript.Run(ctx, s.client, []string{key}, rec.ID, s.listedUntil(rec),
		clock(rec)).Err()
	if err != nil {
		return failure("index session "+rec.ID, key, err)
	}
	return nil
}

// List implements [tokensession.RefreshStore]. It leaves out what is revoked.
//
// The index is confirmed, also where it is not empty: that of an old master lacks the logins since.
// The sessions in it may all be over, or be on other nodes of a Cluster, where they can be ended.
// So nothing else would say that one is missing.
func (s *Store) List(ctx context.Context, subject string) ([]tokensession.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key := s.subjectKey(subject)
	var read *redis.StringSliceCmd
	var confirmed *redis.IntCmd
	err := s.pipelined(ctx, func(p redis.Pipeliner) error {
		read, confirmed = p.ZRange(ctx, key, 0, -1), p.ZRem(ctx, key, "no id") // see sessionRead
		return nil
	})
	ids := read.Val()
	if err == nil {
		err = read.Err()
	}
	if err == nil {
		err = confirmed.Err()
	}
	if err == nil && ids == nil {
		err = errNotCarriedOut
	}
	if err != nil {
		return nil, failure("list sessions", key, err)
	}
	l := listing{store: s}
	for batch := range slices.Chunk(ids, batchSize) {
		if len(ids) > loadedAtOnce {
			if batch, err = l.withoutRevoked(ctx, batch); err != nil {
				return nil, err
			}
		}
		if err := l.load(ctx, batch); err != nil {
			return nil, err
		}
	}
	l.unindex(ctx, key)
	// An entry may be of a Create that failed because another subject's session has the ID.
	recs := slices.DeleteFunc(l.recs, func(r tokensession.Record) bool {
		return r.Subject != subject
	})
	slices.SortFunc(recs, func(a, b tokensession.Record) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return recs, errors.Join(l.unreadable...)
}

const (
	// batchSize bounds a pipeline, so that a subject with very many sessions does not hold up other
	// clients of the server.
	batchSize = 500

	// loadedAtOnce is how many sessions are loaded without a look at revoked_at before: a round
	// trip costs more than loading a few that are not wanted.
	loadedAtOnce = 16

	// keepIndexed is how long a revoked session stays in the index: a failover that loses the
	// revocation finds it still listed, to be revoked again.
	keepIndexed = time.Hour
)

// A listing is a List under way.
type listing struct {
	store      *Store
	recs       []tokensession.Record // those that are not revoked
	unreadable []error
	revoked    []revokedID
	newest     time.Time // of all times seen at which something was written
}

type revokedID struct {
	id string
	at time.Time
}

func (l *listing) sawRevoked(id string, at time.Time) {
	l.revoked = append(l.revoked, revokedID{id, at})
	l.saw(at)
}

func (l *listing) saw(at time.Time) {
	if at.After(l.newest) {
		l.newest = at
	}
}

// withoutRevoked returns the ids but those of sessions that are revoked. One that says so in a way
// that cannot be read is left for load to report.
func (l *listing) withoutRevoked(ctx context.Context, ids []string) ([]string, error) {
	cmds := make([]*redis.StringCmd, len(ids))
	err := l.store.pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			cmds[i] = p.HGet(ctx, l.store.sessionKey(id), fieldRevokedAt)
		}
		return nil
	})
	if err != nil {
		return nil, failure("load sessions", l.store.sessionKey("*"), err)
	}
	rest := make([]string, 0, len(ids))
	for i, cmd := range cmds {
		text, err := cmd.Result()
		if err != nil && !errors.Is(err, redis.Nil) && !isWrongType(err) {
			return nil, failure("load session", l.store.sessionKey(ids[i]), err)
		}
		at, parseErr := parseTime(text)
		if err != nil || parseErr != nil {
			rest = append(rest, ids[i])
			continue
		}
		l.sawRevoked(ids[i], at)
	}
	return rest, nil
}

// load loads those of the records that are there.
func (l *listing) load(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	reads, err := l.store.readSessions(ctx, ids)
	if err != nil {
		return failure("load sessions", l.store.sessionKey("*"), err)
	}
	for i, read := range reads {
		key := l.store.sessionKey(ids[i])
		fields, err := read.result()
		if isWrongType(err) {
			l.unreadable = append(l.unreadable, damaged(key, foreign(err)))
			continue
		}
		if err != nil {
			return failure("load session", key, err)
		}
		if len(fields) == 0 {
			continue
		}
		rec, err := decode(ids[i], fields)
		switch {
		case err != nil:
			l.unreadable = append(l.unreadable, damaged(key, err))
		case !rec.RevokedAt.IsZero():
			l.sawRevoked(rec.ID, rec.RevokedAt)
		default:
			l.recs = append(l.recs, rec)
			l.saw(writeTime(rec))
		}
	}
	return nil
}

// unindex keeps the index of a subject who logs in and out all day short: nobody needs revoked
// sessions there. The clock that counts is that of the subject's last write. A failure harms
// nobody, because the entries are still there for the next List.
func (l *listing) unindex(ctx context.Context, key string) {
	before := l.newest.Add(-keepIndexed)
	var ids []any
	for _, r := range l.revoked {
		if r.at.Before(before) {
			ids = append(ids, r.id)
		}
	}
	for batch := range slices.Chunk(ids, batchSize) {
		if l.store.client.ZRem(ctx, key, batch...).Err() != nil {
			return
		}
	}
}

// subjectKey escapes the subject, so that no two subjects share a key and none contains the braces
// that make Redis Cluster put keys together.
func (s *Store) subjectKey(subject string) string {
	return s.prefix + ":subject:" + url.QueryEscape(subject)
}

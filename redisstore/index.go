package redisstore

import (
	"context"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/seed67bc9b7f/tokensession"
)

// The index of a subject names its sessions, each with the time until when it is listed. The session has that time too,
// and by when the entry is to be renewed in any case, as indexed: so a refresh knows without a look at the index whether
// to write the entry first.
//
// No reader drops an entry because its session is not there: the Create that wrote it may be about to write the
// session. Entries go when their time is over.

// maxAhead bounds how much longer than its session an entry of the index is listed, and how seldom a session that is
// refreshed all the time renews its entry: that is what brings back an entry which a failover lost.
const maxAhead = 24 * time.Hour

// An entry of the index is for a session; its times are in Unix milliseconds.
type entry struct {
	until   int64 // when it is no longer listed
	renewBy int64 // the first refresh after this writes it anew, even if it is listed for long enough
}

// entryOf returns the entry that is due for a record: it is listed somewhat longer than the record is kept, so that few
// refreshes have to renew it.
func (s *Store) entryOf(rec tokensession.Record) entry {
	ahead := min(max(0, rec.ExpiresAt.Sub(writeTime(rec))/4), maxAhead)
	until := rec.ExpiresAt.Add(ahead)
	if !rec.MaxExpiresAt.IsZero() && until.After(rec.MaxExpiresAt) {
		until = rec.MaxExpiresAt
	}
	return entry{max(s.dropAt(until), s.dropAt(rec.ExpiresAt)), writeTime(rec).Add(ahead).UnixMilli()}
}

// writeTime is when a record was created or refreshed.
func writeTime(rec tokensession.Record) time.Time {
	if rec.RotatedAt.IsZero() {
		return rec.CreatedAt
	}
	return rec.RotatedAt
}

// String is the entry as its session has it.
func (e entry) String() string {
	return strconv.FormatInt(e.until, 10) + " " + strconv.FormatInt(e.renewBy, 10)
}

func (s *Store) index(ctx context.Context, rec tokensession.Record, e entry) error {
	key := s.subjectKey(rec.Subject)
	if err := indexScript.Run(ctx, s.client, []string{key}, rec.ID, e.until).Err(); err != nil {
		return failure("index session "+rec.ID, key, err)
	}
	return nil
}

// List implements [tokensession.RefreshStore]. It leaves out what has been dropped, and lists what was revoked lately.
func (s *Store) List(ctx context.Context, subject string) ([]tokensession.Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	key := s.subjectKey(subject)
	ids, err := s.client.ZRange(ctx, key, 0, -1).Result()
	if err != nil {
		return nil, failure("list sessions", key, err)
	}
	var recs []tokensession.Record
	for batch := range slices.Chunk(ids, batchSize) {
		found, err := s.loadAll(ctx, batch)
		if err != nil {
			return nil, err
		}
		recs = append(recs, found...)
	}
	// An entry may be of a Create that failed because another subject's session has the ID.
	recs = slices.DeleteFunc(recs, func(r tokensession.Record) bool { return r.Subject != subject })
	slices.SortFunc(recs, func(a, b tokensession.Record) int {
		if c := a.CreatedAt.Compare(b.CreatedAt); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	s.unindexRevoked(ctx, key, recs)
	return recs, nil
}

// batchSize bounds a pipeline, so that a subject with very many sessions does not hold up other clients of the server.
const batchSize = 500

// loadAll returns those of the records that are there.
func (s *Store) loadAll(ctx context.Context, ids []string) ([]tokensession.Record, error) {
	cmds := make([]*redis.MapStringStringCmd, len(ids))
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			cmds[i] = p.HGetAll(ctx, s.sessionKey(id))
		}
		return nil
	})
	var recs []tokensession.Record
	for i, cmd := range cmds {
		key := s.sessionKey(ids[i])
		fields, cmdErr := cmd.Result()
		if cmdErr != nil {
			return nil, failure("load session", key, cmdErr)
		}
		if len(fields) == 0 {
			continue
		}
		rec, decodeErr := decode(ids[i], fields)
		if decodeErr != nil {
			return nil, damaged(key, decodeErr)
		}
		recs = append(recs, rec)
	}
	if err != nil {
		return nil, failure("load sessions", s.sessionKey("*"), err)
	}
	return recs, nil
}

// unindexRevoked keeps the index of a subject who logs in and out all day short. Its failure harms nobody: the entries
// are still there for the next List.
func (s *Store) unindexRevoked(ctx context.Context, key string, recs []tokensession.Record) {
	var args []any
	for _, rec := range recs {
		if !rec.RevokedAt.IsZero() {
			args = append(args, rec.ID, rec.RevokedAt.UnixMilli())
		}
	}
	for batch := range slices.Chunk(args, 2*batchSize) {
		if unindexScript.Run(ctx, s.client, []string{key}, batch...).Err() != nil {
			return
		}
	}
}

// subjectKey escapes the subject, so that no two subjects share a key and none contains the braces that make Redis
// Cluster put keys together.
func (s *Store) subjectKey(subject string) string {
	return s.prefix + ":subject:" + url.QueryEscape(subject)
}

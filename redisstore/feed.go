package redisstore

import (
	"context"
	"errors"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/seed67bc9b7f/tokensession"
)

// The feed names the sessions that are revoked, or were about to be: it is written first, and the write of the session
// may then have failed, or have lost to a refresh. So nothing in it is told before the session itself was seen to be
// revoked. That is for ever, and is remembered.

// feedParts is into how many keys the feed is divided, so that the servers of a Cluster share it.
const feedParts = 8

// feedKept is the 24 hours of the contract, and an hour for clocks that differ.
const feedKept = 25 * time.Hour

// confirmed remembers what the last call of RevokedSince saw to be revoked. The next call's since is usually a little
// later, so what it does not meet again is forgotten.
type confirmed struct {
	mu sync.Mutex
	at map[string]time.Time
}

func (s *Store) announce(ctx context.Context, rec tokensession.Record) error {
	key := s.feedKey(feedPart(rec.ID))
	err := announceScript.Run(ctx, s.client, []string{key}, rec.ID, rec.RevokedAt.UnixMicro(), feedKept.Microseconds()).Err()
	if err != nil {
		return failure("announce the revocation of session "+rec.ID, key, err)
	}
	return nil
}

// RevokedSince implements [tokensession.RevocationFeed]. A session revoked longer ago than since may be told too, where
// somebody tried to revoke it again.
func (s *Store) RevokedSince(ctx context.Context, since time.Time) ([]tokensession.Revocation, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	ids, err := s.announcedSince(ctx, since)
	if err != nil {
		return nil, err
	}
	s.confirmed.mu.Lock()
	known := s.confirmed.at
	s.confirmed.mu.Unlock()

	revoked := make(map[string]time.Time, len(ids))
	var unknown []string
	for _, id := range ids {
		if at, ok := known[id]; ok {
			revoked[id] = at
		} else {
			unknown = append(unknown, id)
		}
	}
	for batch := range slices.Chunk(unknown, batchSize) {
		found, err := s.revokedAmong(ctx, batch)
		if err != nil {
			return nil, err
		}
		maps.Copy(revoked, found)
	}
	s.confirmed.mu.Lock()
	s.confirmed.at = revoked // no call changes a map once it is here
	s.confirmed.mu.Unlock()

	list := make([]tokensession.Revocation, 0, len(revoked))
	for id, at := range revoked {
		list = append(list, tokensession.Revocation{SessionID: id, At: at})
	}
	return list, nil
}

// announcedSince returns the ids in the feed.
func (s *Store) announcedSince(ctx context.Context, since time.Time) ([]string, error) {
	var cmds [feedParts]*redis.StringSliceCmd
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for part := range feedParts {
			cmds[part] = p.ZRangeArgs(ctx, redis.ZRangeArgs{
				Key: s.feedKey(part), ByScore: true, Start: strconv.FormatInt(since.UnixMicro(), 10), Stop: "+inf",
			})
		}
		return nil
	})
	var ids []string
	for part, cmd := range cmds {
		some, cmdErr := cmd.Result()
		if cmdErr != nil {
			return nil, failure("read the revocation feed", s.feedKey(part), cmdErr)
		}
		ids = append(ids, some...)
	}
	if err != nil {
		return nil, failure("read the revocation feed", s.prefix+":revoked:*", err)
	}
	return ids, nil
}

// revokedAmong returns those of the sessions that are revoked, with the time. One that is gone has expired.
func (s *Store) revokedAmong(ctx context.Context, ids []string) (map[string]time.Time, error) {
	cmds := make([]*redis.StringCmd, len(ids))
	_, err := s.client.Pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			cmds[i] = p.HGet(ctx, s.sessionKey(id), fieldRevokedAt)
		}
		return nil
	})
	revoked := make(map[string]time.Time, len(ids))
	for i, cmd := range cmds {
		key := s.sessionKey(ids[i])
		text, cmdErr := cmd.Result()
		if errors.Is(cmdErr, redis.Nil) {
			continue
		}
		if cmdErr != nil {
			return nil, failure("load session", key, cmdErr)
		}
		at, parseErr := parseTime(text)
		if parseErr != nil {
			return nil, damaged(key, parseErr)
		}
		if !at.IsZero() {
			revoked[ids[i]] = at
		}
	}
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, failure("load sessions", s.sessionKey("*"), err)
	}
	return revoked, nil
}

func feedPart(id string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(id))
	return int(h.Sum32() % feedParts)
}

func (s *Store) feedKey(part int) string { return s.prefix + ":revoked:" + strconv.Itoa(part) }

package redisstore

import (
	"context"
	"encoding/base64"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
)

// The feed names the sessions that are revoked or outdated, or were about to be: it is written
// first, and the write of the session may then have failed, or have lost to a refresh. So nothing
// in it is told before the session itself was looked at.

const (
	// feedKept is the 24 hours and a half of the contract, and half an hour for clocks that differ.
	feedKept = 25 * time.Hour

	// feedPage is how many entries of the feed are read at once.
	feedPage = 1000

	// mostTold bounds the memory of told. It is for looks that follow each other closely.
	mostTold = 100_000
)

// told remembers which sessions the last call of Revocations told as revoked, so that the next one,
// whose since is usually a little later, need not look at them again: a revocation is for ever.
// What the next call does not meet is forgotten.
type told struct {
	mu sync.Mutex
	at memory // no call changes a memory once it is here
}

func (t *told) remembered() memory {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.at
}

// replace forgets what is not in met, which is what a look has told. A look that told more than can
// be remembered was one at everything, and has met the oldest. The looks at the last seconds, which
// follow each other closely, go on with what they remember.
func (t *told) replace(met memory) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(met) < mostTold {
		t.at = met
	}
}

// A memory says when sessions were revoked, in Unix microseconds. A session is remembered by the 16
// bytes that its id stands for, because as text the ids would take twice as much memory. What
// somebody has put into the feed by hand may be no such id, and is not remembered.
type memory map[[16]byte]int64

func (m memory) add(id string, at time.Time) {
	if key, ok := keyOf(id); ok {
		m[key] = at.UnixMicro()
	}
}

func (m memory) find(id string) (at time.Time, ok bool) {
	key, ok := keyOf(id)
	if !ok {
		return at, false
	}
	us, ok := m[key]
	return time.UnixMicro(us).UTC(), ok
}

var strictBase64 = base64.RawURLEncoding.Strict() // with stray bits, two ids would be one

func keyOf(id string) (key [16]byte, ok bool) {
	if len(id) != base64.RawURLEncoding.EncodedLen(len(key)) {
		return key, false
	}
	n, err := strictBase64.Decode(key[:], []byte(id))
	return key, err == nil && n == len(key)
}

func (s *Store) announce(ctx context.Context, id string, at time.Time) error {
	key := s.feedKey()
	err := announceScript.Run(ctx, s.client, []string{key}, id, at.UnixMicro(),
		feedKept.Microseconds()).Err()
	if err != nil {
		return failure("announce the revocation of session "+id, key, err)
	}
	return nil
}

// Revocations implements [tokensession.RevocationFeed]. A session revoked longer ago than since may
// be told too, where somebody tried to revoke it again.
func (s *Store) Revocations(
	ctx context.Context, since time.Time, page func([]tokensession.Revocation) error,
) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	look := look{store: s, known: s.told.remembered(), met: make(memory)}
	from := strconv.FormatInt(since.UnixMicro(), 10)
	for from != "" {
		ids, next, err := s.announcedFrom(ctx, from)
		if err != nil {
			return err
		}
		list, err := look.at(ctx, ids)
		if err != nil {
			return err
		}
		if len(list) > 0 {
			if err := page(list); err != nil {
				return err
			}
		}
		from = next
	}
	s.told.replace(look.met)
	return errors.Join(look.unreadable...)
}

// announcedFrom returns a page of the feed, in ascending order, and where the next one begins. So
// an entry that is announced again meanwhile, and moves up, is met there.
//
// A page begins at a time, not after so many entries: those at the front may be dropped meanwhile.
// All entries of one time have to be in one page then, so the last time of a full page is left to
// the next one, or read alone if it is the only one.
func (s *Store) announcedFrom(
	ctx context.Context, from string,
) (ids []string, next string, err error) {
	entries, err := s.announced(ctx, from, "+inf", feedPage)
	if err != nil {
		return nil, "", err
	}
	if n := len(entries); n == feedPage {
		last := entries[n-1].at
		next = last
		if entries[0].at == last {
			entries, err = s.announced(ctx, next, next, -1)
			next = "(" + next
		}
		for n := len(entries); next[0] != '(' && entries[n-1].at == last; n = len(entries) {
			entries = entries[:n-1]
		}
	}
	for _, e := range entries {
		ids = append(ids, e.id)
	}
	return ids, next, err
}

func (s *Store) announced(ctx context.Context, from, to string, limit int) ([]entry, error) {
	key := s.feedKey()
	flat, err := feedScript.Run(ctx, s.client, []string{key}, from, to, limit).StringSlice()
	if err != nil {
		return nil, failure("read the revocation feed", key, err)
	}
	entries := make([]entry, 0, len(flat)/2)
	for pair := range slices.Chunk(flat, 2) {
		entries = append(entries, entry{id: pair[0], at: pair[1]})
	}
	return entries, nil
}

// An entry of the feed has a time as Redis writes it, which is the same for the same time.
type entry struct{ id, at string }

// A look is a call of Revocations under way.
type look struct {
	store      *Store
	known, met memory
	unreadable []error
}

// at returns what is to be told of the sessions.
func (l *look) at(ctx context.Context, ids []string) ([]tokensession.Revocation, error) {
	list := make([]tokensession.Revocation, 0, len(ids))
	var unknown []string
	for _, id := range ids {
		if at, ok := l.known.find(id); ok {
			list = l.tell(list, tokensession.Revocation{SessionID: id, At: at})
		} else {
			unknown = append(unknown, id)
		}
	}
	for batch := range slices.Chunk(unknown, batchSize) {
		var err error
		if list, err = l.ask(ctx, batch, list); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// ask looks at the sessions and appends what is to be told of them.
func (l *look) ask(
	ctx context.Context, ids []string, list []tokensession.Revocation,
) ([]tokensession.Revocation, error) {
	cmds := make([]*redis.SliceCmd, len(ids))
	err := l.store.pipelined(ctx, func(p redis.Pipeliner) error {
		for i, id := range ids {
			cmds[i] = p.HMGet(ctx, l.store.sessionKey(id), fieldRevokedAt, fieldOutdated, fieldData,
				fieldVersion)
		}
		return nil
	})
	if err != nil {
		return nil, failure("load sessions", l.store.sessionKey("*"), err)
	}
	for i, cmd := range cmds {
		key := l.store.sessionKey(ids[i])
		values, err := cmd.Result()
		if err == nil && values == nil {
			err = errNotCarriedOut
		}
		if isWrongType(err) {
			l.unreadable = append(l.unreadable, damaged(key, foreign(err)))
			continue
		}
		if err != nil {
			return nil, failure("load session", key, err)
		}
		r, ok, err := revocationOf(ids[i], values)
		if err != nil {
			l.unreadable = append(l.unreadable, damaged(key, err))
		} else if ok {
			list = l.tell(list, r)
		}
	}
	return list, nil
}

// tell appends a revocation, and remembers it for the next call. It does not remember an outdating,
// because the session may be outdated once more, or be revoked; nor a revocation that an operator
// wrote wrongly, and may put right.
func (l *look) tell(
	list []tokensession.Revocation, r tokensession.Revocation,
) []tokensession.Revocation {
	if r.Epoch == 0 && !r.At.IsZero() && len(l.met) < mostTold {
		l.met.add(r.SessionID, r.At)
	}
	return append(list, r)
}

// revocationOf returns what is to be told of a session: nothing if it is gone, or lives and is not
// outdated. It is called with the values of the fields revoked_at, outdated, 0 and version.
func revocationOf(id string, values []any) (r tokensession.Revocation, ok bool, err error) {
	revokedAt, isRevoked := values[0].(string)
	outdated, isOutdated := values[1].(string)
	first, hasData := values[2].(string)
	if !isRevoked && !isOutdated && !hasData && values[3] == nil {
		return r, false, nil
	}
	if err := checkFormat(first); err != nil {
		return r, false, err
	}
	r.SessionID = id
	switch {
	case isRevoked:
		// An error leaves the zero time: it was revoked at a time that cannot be read.
		r.At, _ = parseTime(revokedAt)
	case isOutdated:
		r.Epoch, r.At, err = parseOutdated(outdated)
	default:
		return r, false, nil
	}
	return r, err == nil, err
}

func (s *Store) feedKey() string { return s.prefix + ":revoked" }

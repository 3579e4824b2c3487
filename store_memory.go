package tokensession

import (
	"container/heap"
	"context"
	"hash/maphash"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	memoryShards = 64

	// dropsPerWrite bounds what a write spends on expired records. A write adds one record at most,
	// and delays one expiry at most, so that anything above two catches up.
	dropsPerWrite = 4

	// dropsPerLock bounds how long a sweep keeps others from a shard.
	dropsPerLock = 256
)

// A MemoryStore is a [RefreshStore] in the memory of one process: for tests, and for servers that
// may log everybody out when they restart. It is a [Sweeper], a [RevocationFeed], a
// [RevocationNotifier] and a [SubjectRevoker] too.
//
// It has neither a goroutine nor a clock. The time it goes by is that of the write at hand: the
// record's RotatedAt, or its RevokedAt if that is later. Each write drops a few records that have
// expired by then, so that no more are held than sessions live, even where Sweep is never called.
type MemoryStore struct {
	seed     maphash.Seed
	shards   [memoryShards]memoryShard
	subjects [memoryShards]memorySubjects
	feed     memoryFeed
	next     atomic.Uint32 // the shard where the next write drops expired records
}

var (
	_ RefreshStore       = (*MemoryStore)(nil)
	_ Sweeper            = (*MemoryStore)(nil)
	_ RevocationFeed     = (*MemoryStore)(nil)
	_ RevocationNotifier = (*MemoryStore)(nil)
	_ SubjectRevoker     = (*MemoryStore)(nil)
)

// NewMemoryStore returns an empty store.
func NewMemoryStore() *MemoryStore {
	s := &MemoryStore{seed: maphash.MakeSeed()}
	for i := range memoryShards {
		s.shards[i].byID = make(map[string]*memoryEntry)
		s.subjects[i].newest = make(map[string]*memoryEntry)
	}
	return s
}

// A memoryShard holds the records whose IDs fall to it. Who needs a lock of memorySubjects or
// memoryFeed as well takes it after the shard's, and never two shards' at once.
type memoryShard struct {
	mu    sync.Mutex
	byID  map[string]*memoryEntry
	queue expiryQueue
}

// A memoryEntry is what a shard holds of a record. The binary form takes less memory than a Record
// does, and can be given to nobody who could change it.
type memoryEntry struct {
	id      string
	subject string
	data    string // the record's binary form, without its ID and Subject

	newer, older *memoryEntry // the subject's next in the order of creation, a ring

	version uint64
	expires int64 // in microseconds, as micros counts them
	due     int64 // the expiry by which it is queued, at most expires; it is moved when it is due
	pos     int32 // in the queue
	revoked bool
}

// Create implements [RefreshStore].
func (s *MemoryStore) Create(ctx context.Context, rec Record) error {
	data, err := encodeFor(ctx, rec)
	if err != nil {
		return err
	}
	if err := s.create(rec, data); err != nil {
		return err
	}
	s.dropSome(rec)
	return nil
}

func (s *MemoryStore) create(rec Record, data string) error {
	sh := s.shard(rec.ID)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e, ok := sh.byID[rec.ID]; ok {
		if e.writtenBy(rec) {
			return nil
		}
		return ErrExists
	}
	e := &memoryEntry{id: strings.Clone(rec.ID), subject: strings.Clone(rec.Subject)}
	sh.byID[e.id] = e
	s.link(e)
	e.set(rec, data)
	e.due = e.expires
	heap.Push(&sh.queue, e)
	s.feed.add(e, rec, 0)
	return nil
}

// Load implements [RefreshStore].
func (s *MemoryStore) Load(ctx context.Context, id string) (Record, error) {
	if err := ctx.Err(); err != nil {
		return Record{}, err
	}
	h, ok := s.held(id)
	if !ok {
		return Record{}, ErrNotFound
	}
	return h.record()
}

// A heldRecord is what a reader takes along of an entry. The rest of the entry is not the shard's
// lock's alone: the ring belongs to the subject's.
type heldRecord struct {
	id, subject, data string
	revoked           bool
}

func (e *memoryEntry) held() heldRecord { return heldRecord{e.id, e.subject, e.data, e.revoked} }

// held returns what is held of the record with an ID.
func (s *MemoryStore) held(id string) (_ heldRecord, ok bool) {
	sh := s.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if e, ok := sh.byID[id]; ok {
		return e.held(), true
	}
	return heldRecord{}, false
}

// record returns the record as it was written.
func (h heldRecord) record() (Record, error) {
	rec, err := decodeRecord(h.data)
	rec.ID, rec.Subject = h.id, h.subject
	return rec, err
}

// Swap implements [RefreshStore].
func (s *MemoryStore) Swap(ctx context.Context, next Record) error {
	data, err := encodeFor(ctx, next)
	if err != nil {
		return err
	}
	if err := s.swap(next, data); err != nil {
		return err
	}
	s.dropSome(next)
	return nil
}

func (s *MemoryStore) swap(next Record, data string) error {
	sh := s.shard(next.ID)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e, ok := sh.byID[next.ID]
	switch {
	case !ok:
		return ErrNotFound
	case e.writtenBy(next):
		return nil
	case e.version != next.Version-1 || e.revoked || writeIDOf(e.data) != next.Replaces:
		return ErrConflict
	}
	s.replace(sh, e, next, data)
	return nil
}

// replace puts next in the place of what e holds. The shard has to be locked.
func (s *MemoryStore) replace(sh *memoryShard, e *memoryEntry, next Record, data string) {
	if e.subject != next.Subject {
		s.unlink(e)
		e.subject = strings.Clone(next.Subject)
		s.link(e)
	}
	var epochBefore uint64
	if next.Epoch != 0 { // rarely, so that nothing has to be kept for it
		before, _ := decodeRecord(e.data)
		epochBefore = before.Epoch
	}
	e.set(next, data)
	if e.expires < e.due {
		e.due = e.expires
		heap.Fix(&sh.queue, int(e.pos))
	}
	s.feed.add(e, next, epochBefore)
}

// List implements [RefreshStore]. It leaves out what is revoked.
func (s *MemoryStore) List(ctx context.Context, subject string) ([]Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var recs []Record
	for _, id := range s.ids(subject) {
		h, ok := s.held(id)
		if !ok || h.revoked { // not ok: dropped since
			continue
		}
		rec, err := h.record()
		if err != nil {
			return nil, err
		}
		recs = append(recs, rec)
	}
	sortByCreation(recs)
	return recs, nil
}

// Sweep implements [Sweeper].
func (s *MemoryStore) Sweep(ctx context.Context, now time.Time, limit int) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	us := clampedMicros(now)
	dropped := 0
	for i := range s.shards {
		for more := true; more && dropped < limit; {
			var n int
			n, more = s.drop(&s.shards[i], us, min(dropsPerLock, limit-dropped))
			dropped += n
		}
	}
	return dropped, nil
}

// RevokeSubject implements [SubjectRevoker].
func (s *MemoryStore) RevokeSubject(ctx context.Context, r SubjectRevocation) ([]Record, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var revoked []Record
	for _, id := range s.ids(r.Subject) {
		rec, ok, err := s.revoke(id, r)
		if err != nil {
			return nil, err
		}
		if ok {
			revoked = append(revoked, rec)
			s.dropSome(rec)
		}
	}
	sortByCreation(revoked)
	return revoked, nil
}

// revoke revokes one record unless it is kept, expired or revoked, and reports whether that was
// done, now or before, by the write writeID.
func (s *MemoryStore) revoke(id string, r SubjectRevocation) (Record, bool, error) {
	sh := s.shard(id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	e, ok := sh.byID[id]
	if !ok {
		return Record{}, false, nil
	}
	rec, err := e.held().record()
	if err != nil || e.revoked {
		return rec, e.revoked && rec.WriteID == r.WriteID, err
	}
	if slices.Contains(r.Keep, id) || !slices.Contains(r.Issuers, rec.Issuer) || !rec.ExpiresAt.After(r.At) {
		return Record{}, false, nil
	}
	rec = rec.revoke(r.At, r.Reason)
	rec.WriteID = r.WriteID
	rec.ExpiresAt = earlier(rec.ExpiresAt, r.KeepUntil)
	data, err := encode(rec)
	if err != nil {
		return Record{}, false, err
	}
	s.replace(sh, e, rec, data)
	rec, err = e.held().record() // with at as cut to microseconds
	return rec, err == nil, err
}

func (s *MemoryStore) shard(id string) *memoryShard {
	return &s.shards[maphash.String(s.seed, id)%memoryShards]
}

// dropSome drops what has expired by the time of the write rec, from one shard after the other.
func (s *MemoryStore) dropSome(rec Record) {
	if now := writeTime(rec); !now.IsZero() {
		s.drop(&s.shards[s.next.Add(1)%memoryShards], clampedMicros(now), dropsPerWrite)
	}
}

// drop takes up to steps records off the front of a shard's queue. It drops those that have expired
// and queues the others anew. It returns how many it dropped and whether more are due.
func (s *MemoryStore) drop(sh *memoryShard, now int64, steps int) (dropped int, more bool) {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for ; sh.queue.due(now); steps-- {
		if steps <= 0 {
			return dropped, true
		}
		e := sh.queue[0]
		if e.expires > now {
			e.due = e.expires
			heap.Fix(&sh.queue, 0)
			continue
		}
		heap.Pop(&sh.queue)
		delete(sh.byID, e.id)
		s.unlink(e)
		dropped++
	}
	return dropped, false
}

func (e *memoryEntry) set(rec Record, data string) {
	e.data = data
	e.version = rec.Version
	e.revoked = !rec.RevokedAt.IsZero()
	e.expires = clampedMicros(rec.ExpiresAt)
}

// writtenBy reports whether e holds what the write rec would write, because that has been applied
// already.
func (e *memoryEntry) writtenBy(rec Record) bool {
	if e.version != rec.Version {
		return false
	}
	return writeIDOf(e.data) == rec.WriteID
}

// memorySubjects is the index of the subjects that fall to it.
type memorySubjects struct {
	mu     sync.Mutex
	newest map[string]*memoryEntry
}

func (s *MemoryStore) subject(subject string) *memorySubjects {
	return &s.subjects[maphash.String(s.seed, subject)%memoryShards]
}

// link makes e the newest of its subject's ring.
func (s *MemoryStore) link(e *memoryEntry) {
	ix := s.subject(e.subject)
	ix.mu.Lock()
	defer ix.mu.Unlock()
	if last, ok := ix.newest[e.subject]; ok {
		e.subject = last.subject // one copy for all
		e.older, e.newer = last, last.newer
	} else {
		e.older, e.newer = e, e
	}
	e.older.newer, e.newer.older = e, e
	ix.newest[e.subject] = e
}

// unlink takes e out of its subject's ring.
func (s *MemoryStore) unlink(e *memoryEntry) {
	ix := s.subject(e.subject)
	ix.mu.Lock()
	defer ix.mu.Unlock()
	switch {
	case e.older == e:
		delete(ix.newest, e.subject)
	case ix.newest[e.subject] == e:
		ix.newest[e.subject] = e.older
	}
	e.older.newer, e.newer.older = e.newer, e.older
	e.older, e.newer = nil, nil
}

// ids returns the IDs of the subject's records in the order of creation.
func (s *MemoryStore) ids(subject string) []string {
	ix := s.subject(subject)
	ix.mu.Lock()
	defer ix.mu.Unlock()
	last, ok := ix.newest[subject]
	if !ok {
		return nil
	}
	ids := make([]string, 0, 8)
	for e := last.newer; ; e = e.newer {
		ids = append(ids, e.id)
		if e == last {
			return ids
		}
	}
}

// An expiryQueue is a heap of entries, the first one due in front.
type expiryQueue []*memoryEntry

func (q expiryQueue) due(now int64) bool { return len(q) > 0 && q[0].due <= now }

// Len, Less, Swap, Push and Pop implement [heap.Interface].

func (q expiryQueue) Len() int           { return len(q) }
func (q expiryQueue) Less(i, j int) bool { return q[i].due < q[j].due }

func (q expiryQueue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].pos, q[j].pos = int32(i), int32(j)
}

func (q *expiryQueue) Push(x any) {
	e := x.(*memoryEntry)
	e.pos = int32(len(*q))
	*q = append(*q, e)
}

func (q *expiryQueue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return e
}

// writeTime is the time that a record was written, or the zero time if the record does not tell:
// where a clock was ahead, CreatedAt is moved past that of an older session, and RevokedAt to the
// last refresh.
func writeTime(rec Record) time.Time {
	switch {
	case rec.RevokedAt.IsZero():
		return rec.RotatedAt
	case rec.RevokedAt.After(rec.RotatedAt):
		return rec.RevokedAt
	}
	return time.Time{}
}

// clampedMicros is [micros] for times that need not be in the years 1 to 9999.
func clampedMicros(t time.Time) int64 {
	us, ok := micros(t)
	switch {
	case ok:
		return us
	case t.Before(time.Time{}):
		return 0
	default:
		return maxMicros
	}
}

// encodeFor encodes what is to be written, unless ctx has ended.
func encodeFor(ctx context.Context, rec Record) (string, error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	return encode(rec)
}

// encode returns a record's binary form without what an entry has beside it.
func encode(rec Record) (string, error) {
	var scratch [512]byte
	bare := rec
	bare.ID, bare.Subject = "", ""
	b, err := bare.AppendBinary(scratch[:0])
	if err != nil {
		_, err = rec.AppendBinary(nil) // which names the record
	}
	return string(b), err
}

// sortByCreation sorts by CreatedAt. Records created at the same time stay as they are.
func sortByCreation(recs []Record) {
	slices.SortStableFunc(recs, func(a, b Record) int { return a.CreatedAt.Compare(b.CreatedAt) })
}

package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// A faultyStore is a plain store with at most one fault. Without one it keeps the contract.
type faultyStore struct {
	fault fault

	mu      sync.Mutex
	recs    map[string]held
	serial  int
	writes  map[string]bool // the WriteIDs seen
	feed    []tokensession.Revocation
	told    time.Time           // the latest revocation told
	pause   chan struct{}       // two writers meet in it between a check and its write
	refused map[string][]string // the subjects that Create indexed before it refused
}

type fault string

type held struct {
	tokensession.Record
	serial  int
	first   tokensession.Record // as created
	before  tokensession.Record // the version before
	swapped bool
}

var errPlain = errors.New("something went wrong")

func newFaultyStore(f fault) *faultyStore {
	return &faultyStore{fault: f, recs: map[string]held{}, writes: map[string]bool{}, pause: make(chan struct{}),
		refused: map[string][]string{}}
}

func (s *faultyStore) has(f fault) bool { return s.fault == f }

func (s *faultyStore) ended(ctx context.Context, method string) error {
	if s.has("ignores the context") || s.has(fault(method+" ignores the context")) {
		return nil
	}
	if s.has("calls an ended context a conflict") && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", tokensession.ErrConflict, ctx.Err())
	}
	return ctx.Err()
}

// meet gives another writer the chance to pass the same check. The store is unlocked meanwhile.
func (s *faultyStore) meet() (met bool) {
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case s.pause <- struct{}{}:
	case <-s.pause:
	case <-time.After(5 * time.Millisecond):
		return false
	}
	return true
}

func (s *faultyStore) Create(ctx context.Context, rec tokensession.Record) error {
	if err := s.ended(ctx, "Create"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	old, ok := s.recs[s.id(rec.ID)]
	switch {
	case !ok:
	case s.has("Create overwrites"):
	case s.has("Create knows the first write for ever") && old.first.WriteID == rec.WriteID:
	case s.has("Create says conflict") && old.WriteID != rec.WriteID:
		return tokensession.ErrConflict
	case s.has("Create fails when repeated") && old.WriteID == rec.WriteID:
		return errPlain
	case s.has("Create indexes what it refuses"):
		s.refused[rec.Subject] = append(s.refused[rec.Subject], rec.ID)
		return tokensession.ErrExists
	default:
		return tokensession.ErrExists
	}
	if s.has("Create checks, then writes") {
		s.meet()
	}
	now := time.Now()
	if s.has("Create refuses what has expired") && !rec.ExpiresAt.After(now) {
		return errPlain
	}
	if s.has("expired record takes the subject's index along") && !rec.ExpiresAt.After(now) {
		s.dropIndex(rec.Subject)
	}
	s.serial++
	first := s.stored(rec)
	s.recs[s.id(rec.ID)] = held{Record: first, serial: s.serial, first: first, before: first}
	return nil
}

func (s *faultyStore) Load(ctx context.Context, id string) (tokensession.Record, error) {
	if err := s.ended(ctx, "Load"); err != nil {
		return tokensession.Record{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h, ok := s.recs[s.id(id)]
	switch {
	case !ok && s.has("Load fails for what is unknown"):
		return tokensession.Record{}, errPlain
	case !ok && s.has("Load gives nothing for what is unknown"):
		return tokensession.Record{}, nil
	case !ok && s.has("Load fills the record beside its error"):
		return tokensession.Record{ID: id}, tokensession.ErrNotFound
	case !ok || s.gone(h):
		return tokensession.Record{}, tokensession.ErrNotFound
	case s.has("Load reads a replica that is behind"):
		return s.given(h.before), nil
	}
	return s.given(h.Record), nil
}

func (s *faultyStore) Swap(ctx context.Context, next tokensession.Record) error {
	if err := s.ended(ctx, "Swap"); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.has("feed tells what was only tried") {
		s.tell(next)
	}
	h, ok := s.recs[s.id(next.ID)]
	if !ok && !s.has("Swap creates") {
		if s.has("Swap says conflict for what is unknown") {
			return tokensession.ErrConflict
		}
		return tokensession.ErrNotFound
	}
	if err, done := s.checkSwap(h, next); done {
		return err
	}
	if s.has("Swap checks, then writes") {
		s.meet()
	}
	s.writes[next.WriteID] = true
	if s.has("Swap revokes the subject's other sessions too") && !next.RevokedAt.IsZero() {
		for id, other := range s.recs {
			if other.Subject == next.Subject {
				other.RevokedAt = next.RevokedAt
				s.recs[id] = other
			}
		}
	}
	s.put(h, s.swapped(h, next))
	if s.has("Swap acknowledges neither of two at once") && s.meet() {
		return tokensession.ErrConflict
	}
	return nil
}

// checkSwap says what a Swap comes to, if it comes to nothing.
func (s *faultyStore) checkSwap(h held, next tokensession.Record) (err error, done bool) {
	switch {
	case s.has("Swap is blind"), s.has("Swap creates") && h.Version == 0:
		return nil, false
	case s.has("Swap takes any newer version") && h.Version < next.Version && h.RevokedAt.IsZero():
		return nil, false
	case s.has("Swap acknowledges any write seen before") && s.writes[next.WriteID]:
		return nil, true
	case s.has("Swap fails when repeated") && h.WriteID == next.WriteID:
		return errPlain, true
	case s.has("Swap counts again when repeated") && h.WriteID == next.WriteID:
		h.Version++
		s.recs[h.ID] = h
		return nil, true
	}
	if h.Version != next.Version-1 {
		if s.has("Swap acknowledges neither of two at once") {
			s.meet()
		}
		if s.has("Swap returns nil on a conflict") {
			return nil, true
		}
		return tokensession.ErrConflict, true
	}
	if !h.RevokedAt.IsZero() && !s.has("Swap undoes revocations") &&
		(!s.has("Swap rewrites revocations") || next.RevokedAt.IsZero()) {
		return tokensession.ErrConflict, true
	}
	return nil, false
}

// swapped returns what a Swap stores.
func (s *faultyStore) swapped(h held, next tokensession.Record) tokensession.Record {
	next = s.stored(next)
	switch s.fault {
	case "Swap leaves Predecessor behind":
		next.Predecessor = h.Predecessor
	case "Swap leaves RevokeReason behind":
		next.RevokeReason = h.RevokeReason
	case "Swap leaves WriteID behind":
		next.WriteID = h.WriteID
	case "Swap leaves Attributes behind":
		next.Attributes = h.Attributes
	case "Swap merges Attributes":
		merged := maps.Clone(h.Attributes)
		if merged == nil {
			merged = map[string]string{}
		}
		maps.Copy(merged, next.Attributes)
		next.Attributes = merged
	case "Swap leaves out what is zero":
		if len(next.Attributes) == 0 {
			next.Attributes = h.Attributes
		}
		if next.ClientID == "" {
			next.ClientID = h.ClientID
		}
	}
	return next
}

func (s *faultyStore) put(h held, next tokensession.Record) {
	if (h.RevokedAt.IsZero() && !next.RevokedAt.IsZero() || s.has("feed tells every write")) && !s.has("feed tells what was only tried") {
		s.tell(next)
	}
	if s.has("revocation deletes") && !next.RevokedAt.IsZero() {
		delete(s.recs, next.ID)
		return
	}
	if s.has("revocation takes the subject's index along") && !next.RevokedAt.IsZero() {
		s.dropIndex(next.Subject)
	}
	h.before, h.Record, h.swapped = h.Record, next, true
	s.recs[s.id(next.ID)] = h
}

func (s *faultyStore) tell(rec tokensession.Record) {
	switch {
	case rec.RevokedAt.IsZero() && !s.has("feed tells every write"):
		return
	case s.has("feed cuts times to seconds"):
		rec.RevokedAt = rec.RevokedAt.Truncate(time.Second)
	case s.has("feed keeps one an instant"):
		s.feed = slices.DeleteFunc(s.feed, func(r tokensession.Revocation) bool { return r.At.Equal(rec.RevokedAt) })
	case s.has("feed keeps a hundred") && len(s.feed) == 100:
		s.feed = s.feed[1:]
	case s.has("feed loses one of two at once"):
		feed := slices.Clip(s.feed)
		s.meet()
		s.feed = append(feed, tokensession.Revocation{SessionID: rec.ID, At: rec.RevokedAt})
		return
	}
	if s.has("feed tells every write") && rec.RevokedAt.IsZero() {
		rec.RevokedAt = rec.RotatedAt
	}
	s.feed = append(s.feed, tokensession.Revocation{SessionID: rec.ID, At: rec.RevokedAt})
}

func (s *faultyStore) List(ctx context.Context, subject string) ([]tokensession.Record, error) {
	if err := s.ended(ctx, "List"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []held
	for _, h := range s.recs {
		if s.sameSubject(h.Subject, subject) && h.serial != 0 && !s.gone(h) || slices.Contains(s.refused[subject], h.ID) {
			found = append(found, h)
		}
	}
	slices.SortFunc(found, func(a, b held) int {
		switch s.fault {
		case "List puts the newest first":
			a, b = b, a
		case "List is in the order of writing":
			return a.serial - b.serial
		case "List is in the order of expiry":
			return a.ExpiresAt.Compare(b.ExpiresAt)
		}
		return a.CreatedAt.Compare(b.CreatedAt)
	})
	return s.listed(subject, found)
}

func (s *faultyStore) listed(subject string, found []held) ([]tokensession.Record, error) {
	var recs []tokensession.Record
	for _, h := range found {
		rec := s.given(h.Record)
		switch s.fault {
		case "List has records as created":
			rec = s.given(h.first)
		case "List shows revoked records as live":
			rec.RevokedAt = time.Time{}
		case "List leaves out Key":
			rec.Key = nil
		case "List leaves out what was refreshed":
			if h.swapped {
				continue
			}
		}
		recs = append(recs, rec)
	}
	switch {
	case s.has("List is empty"):
		return nil, nil
	case s.has("List has the first hundred") && len(recs) > 100:
		return recs[:100], nil
	case s.has("List has each twice"):
		return append(recs, recs...), nil
	case s.has("List says ErrNotFound for an unknown subject") && len(recs) == 0:
		return nil, tokensession.ErrNotFound
	case s.has("List of nobody is everybody's") && subject == "":
		for _, h := range s.recs {
			recs = append(recs, s.given(h.Record))
		}
	}
	return recs, nil
}

func (s *faultyStore) Sweep(ctx context.Context, now time.Time, limit int) (int, error) {
	if err := s.ended(ctx, "Sweep"); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var ids []string
	for id, h := range s.recs {
		expires := h.ExpiresAt
		if s.has("Sweep goes by the first expiry") {
			expires = h.first.ExpiresAt
		}
		due := !expires.After(now)
		switch s.fault {
		case "Sweep spares what expires now":
			due = expires.Before(now)
		case "Sweep drops everything":
			due = true
		case "Sweep drops revoked records":
			due = due || !h.RevokedAt.IsZero()
		case "Sweep drops nothing":
			due = false
		case "Sweep drops by the second":
			due = !expires.Truncate(time.Second).After(now)
		}
		if due && (len(ids) < limit || s.has("Sweep ignores its limit")) {
			ids = append(ids, id)
		}
	}
	if s.has("Sweep checks, then drops") && len(ids) > 0 {
		s.meet()
	}
	for _, id := range ids {
		delete(s.recs, id)
	}
	if s.has("Sweep counts nothing") {
		return 0, nil
	}
	return len(ids), nil
}

func (s *faultyStore) RevokedSince(ctx context.Context, since time.Time) ([]tokensession.Revocation, error) {
	if err := s.ended(ctx, "RevokedSince"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []tokensession.Revocation
	latest := s.told
	for _, r := range s.feed {
		switch {
		case r.At.Before(since):
		case s.has("feed leaves out equality") && r.At.Equal(since):
		case s.has("feed goes forward only") && !r.At.After(s.told):
		case s.has("feed forgets after an hour") && time.Since(r.At) > time.Hour:
		default:
			out = append(out, r)
			if r.At.After(latest) {
				latest = r.At
			}
		}
	}
	if s.has("feed tells once") {
		s.feed = nil
	}
	if s.has("feed is in local time") {
		for i := range out {
			out[i].At = out[i].At.In(time.FixedZone("here", 3600))
		}
	}
	s.told = latest
	return out, nil
}

func (s *faultyStore) RevokeSubject(ctx context.Context, subject string, keep []string, at time.Time, reason tokensession.Reason, writeID string) ([]tokensession.Record, error) {
	if err := s.ended(ctx, "RevokeSubject"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var mine []held
	for _, h := range s.recs {
		if h.Subject == subject || s.has("RevokeSubject folds case") && strings.EqualFold(h.Subject, subject) {
			mine = append(mine, h)
		}
	}
	if len(mine) == 0 && s.has("RevokeSubject says ErrNotFound for an unknown subject") {
		return nil, tokensession.ErrNotFound
	}
	if s.has("RevokeSubject reads, then writes") {
		s.meet()
	}
	var out []tokensession.Record
	for _, h := range mine {
		if !h.RevokedAt.IsZero() && !s.has("RevokeSubject rewrites revocations") {
			if h.WriteID == writeID && !s.has("RevokeSubject returns nothing when repeated") ||
				s.has("RevokeSubject returns what others revoked") {
				out = append(out, s.given(h.Record))
			}
			continue
		}
		if s.spared(h, keep, at) {
			continue
		}
		next := clone(h.Record)
		next.Version++
		if s.has("RevokeSubject does not count versions") {
			next.Version--
		}
		next.WriteID, next.RevokedAt, next.RevokeReason = writeID, at, reason
		if at.Before(h.RotatedAt) && !s.has("RevokeSubject goes by its own time") {
			next.RevokedAt = h.RotatedAt
		}
		if s.has("RevokeSubject is not told by the feed") {
			h.Record = next
			s.recs[next.ID] = h
		} else {
			s.put(h, next)
		}
		if s.has("RevokeSubject returns records as they were") {
			next = h.Record
		}
		out = append(out, s.given(next))
	}
	return out, nil
}

func (s *faultyStore) spared(h held, keep []string, at time.Time) bool {
	switch s.fault {
	case "RevokeSubject ignores keep":
		keep = nil
	case "RevokeSubject folds the case of keep":
		if slices.ContainsFunc(keep, func(id string) bool { return strings.EqualFold(id, h.ID) }) {
			return true
		}
	case "RevokeSubject misses what was refreshed":
		if h.swapped {
			return true
		}
	case "RevokeSubject revokes what has expired":
		at = time.Time{}
	}
	return slices.Contains(keep, h.ID) || !h.ExpiresAt.After(at)
}

// id is the key of a record with this ID.
func (s *faultyStore) id(id string) string {
	if s.has("IDs fold case") {
		return strings.ToLower(id)
	}
	if s.has("IDs lose spaces") {
		return strings.TrimRight(id, " ")
	}
	return id
}

func (s *faultyStore) sameSubject(a, b string) bool {
	switch s.fault {
	case "subjects fold case":
		return strings.EqualFold(a, b)
	case "subjects lose spaces":
		return strings.TrimSpace(a) == strings.TrimSpace(b)
	case "subjects are prefixes":
		return strings.HasPrefix(a, b+":") || a == b
	case "subjects are cut":
		return a[:min(len(a), 191)] == b[:min(len(b), 191)]
	case "subjects lose accents":
		plain := strings.NewReplacer("\u00ed", "i", "\u0301", "", "\u0302", "")
		return plain.Replace(a) == plain.Replace(b)
	case "subjects are patterns":
		return a == b || b == "alice%" && strings.HasPrefix(a, "alice")
	case "subjects are numbers":
		return a == b || slices.Contains([]string{"0", "00", "0.0"}, a) && slices.Contains([]string{"0", "00", "0.0"}, b)
	}
	return a == b
}

func (s *faultyStore) dropIndex(subject string) {
	for id, h := range s.recs {
		if h.Subject == subject {
			h.serial = 0
			s.recs[id] = h
		}
	}
}

// gone reports whether a store that drops records by its own clock has dropped this one.
func (s *faultyStore) gone(h held) bool {
	now := time.Now()
	switch s.fault {
	case "time to live in whole seconds":
		left := h.ExpiresAt.Sub(h.RotatedAt).Truncate(time.Second)
		return left < time.Hour && !h.RotatedAt.Add(left).After(now)
	case "expiry cut to seconds":
		return !h.ExpiresAt.Truncate(time.Second).After(now)
	case "time to live from the first write":
		return !h.first.ExpiresAt.After(now)
	case "time to live in nanoseconds":
		return h.ExpiresAt.Year() > 2300
	}
	return false
}

// stored returns a record as the store keeps it.
func (s *faultyStore) stored(rec tokensession.Record) tokensession.Record {
	if !s.has("shares memory with writers") {
		rec = clone(rec)
	}
	changeTimes(&rec, func(t time.Time) time.Time { return s.storedTime(t) })
	switch s.fault {
	case "keys are text":
		rec.Key = []byte(strings.ToValidUTF8(string(rec.Key), "?"))
	case "keys end at a zero byte":
		rec.Key = []byte(strings.TrimRight(string(rec.Key), "\x00"))
	case "numbers are floating":
		rec.Generation, rec.Predecessor = uint64(float64(rec.Generation)), uint64(float64(rec.Predecessor))
	case "numbers have 32 bits":
		rec.Generation, rec.Predecessor = uint64(uint32(rec.Generation)), uint64(uint32(rec.Predecessor))
	case "clients lose spaces":
		rec.ClientID = strings.TrimSpace(rec.ClientID)
	case "no client is a client":
		if rec.ClientID == "" {
			rec.ClientID = "NULL"
		}
	case "drops attributes":
		rec.Attributes = nil
	case "no attributes are an empty map":
		if rec.Attributes == nil {
			rec.Attributes = map[string]string{}
		}
	case "attributes have 16 bits a character":
		for name, value := range rec.Attributes {
			rec.Attributes[name] = strings.Map(func(r rune) rune {
				if r > 0xffff {
					return '?'
				}
				return r
			}, value)
		}
	case "attributes fold case":
		for name, value := range rec.Attributes {
			delete(rec.Attributes, name)
			rec.Attributes[strings.ToLower(name)] = value
		}
	case "empty attributes are left out":
		maps.DeleteFunc(rec.Attributes, func(_, value string) bool { return value == "" })
	}
	return rec
}

func (s *faultyStore) storedTime(t time.Time) time.Time {
	if t.IsZero() {
		if s.has("zero times are 1970") {
			return time.Unix(0, 0).UTC()
		}
		return t
	}
	switch s.fault {
	case "times in seconds":
		return t.Truncate(time.Second)
	case "times in milliseconds":
		return t.Truncate(time.Millisecond)
	case "times in floating seconds":
		return time.UnixMicro(int64(float64(float32(t.UnixMicro())))).UTC()
	case "times come back in the writer's zone":
		return t
	case "1970 is no time":
		if t.Unix() == 0 && t.Nanosecond() == 0 {
			return time.Time{}
		}
	case "times are local without an offset":
		const layout = "2006-01-02 15:04:05.000000"
		local, _ := time.ParseInLocation(layout, t.In(berlin).Format(layout), berlin)
		return local.UTC()
	}
	return t.UTC()
}

// given returns a record as the store hands it out.
func (s *faultyStore) given(rec tokensession.Record) tokensession.Record {
	if !s.has("shares memory with readers") {
		rec = clone(rec)
	}
	if s.has("times are local") {
		changeTimes(&rec, func(t time.Time) time.Time { return t.In(berlin) })
	}
	return rec
}

func changeTimes(rec *tokensession.Record, change func(time.Time) time.Time) {
	for _, t := range []*time.Time{&rec.AuthTime, &rec.CreatedAt, &rec.ConsumedAt, &rec.RotatedAt, &rec.ExpiresAt, &rec.MaxExpiresAt, &rec.RevokedAt} {
		*t = change(*t)
	}
}

var berlin, _ = time.LoadLocation("Europe/Berlin")

package storetest

import (
	"cmp"
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

	// company says that the case makes calls at once, so that a fault that needs two of them may
	// wait for the second one. Elsewhere such a wait would have no end.
	company bool

	mu        sync.Mutex
	recs      map[string]held
	serial    int
	writes    map[string]bool // the WriteIDs seen
	feed      []tokensession.Revocation
	told      time.Time           // the latest revocation told
	subjects  map[string]string   // of each record; it is here for speed only
	refused   map[string][]string // the subjects that Create indexed before it refused
	first     bool                // the first one of two callers came to meet
	came      map[milestone]chan struct{}
	news      chan struct{} // holds an element if Notified was not called since the last news
	listening int           // the calls of Notified that are waiting
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
	came := map[milestone]chan struct{}{}
	for _, m := range []milestone{secondCame, readDone, writeDone, refusalDone, lookDone} {
		came[m] = make(chan struct{})
	}
	return &faultyStore{
		fault: f, recs: map[string]held{}, subjects: map[string]string{}, writes: map[string]bool{},
		refused: map[string][]string{}, came: came, news: make(chan struct{}, 1),
	}
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

// A milestone is what one caller waits for and another one reaches.
type milestone string

const (
	secondCame  milestone = "a second caller has made the same check"
	readDone    milestone = "what is to be written over has been read"
	writeDone   milestone = "a write was made after that"
	refusalDone milestone = "a write was refused"
	lookDone    milestone = "somebody has looked at the feed"
)

// longWait bounds a wait for another caller. A fault shows however busy the machine is, because the
// case makes that call. Only a case that does not would use up the time.
const longWait = time.Minute

// reach says that a milestone has been reached. The store has to be locked.
func (s *faultyStore) reach(m milestone) {
	select {
	case <-s.came[m]:
	default:
		close(s.came[m])
	}
}

// await waits until another caller reaches the milestone, with the store unlocked, and reports
// whether it had to. The fault shows once, because nobody waits after that.
func (s *faultyStore) await(m milestone) (waited bool) {
	select {
	case <-s.came[m]:
		return false
	default:
	}
	if !s.company {
		return false
	}
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-s.came[m]:
		return true
	case <-time.After(longWait):
		return false
	}
}

// meet makes the first caller wait until a second one has passed the same check.
func (s *faultyStore) meet() {
	if s.first {
		s.reach(secondCame)
		return
	}
	s.first = true
	s.await(secondCame)
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
	if s.has("Create keeps Replaces") {
		first.Replaces = rec.Replaces
	}
	s.subjects[s.id(rec.ID)] = first.Subject
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
	h, ok := s.recs[s.id(next.ID)]
	if s.has("feed tells what was only tried") {
		s.tell(h.Record, next)
	}
	if !ok && !s.has("Swap creates") {
		if s.has("Swap says conflict for what is unknown") {
			return tokensession.ErrConflict
		}
		return tokensession.ErrNotFound
	}
	if err, done := s.checkSwap(h, next); done {
		return err
	}
	switch s.fault {
	case "Swap checks, then writes":
		s.meet()
	case "Sweep checks, then drops", "RevokeSubject reads, then writes":
		s.await(readDone)
		defer s.reach(writeDone)
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
	if s.has("Swap acknowledges neither of two at once") && s.await(refusalDone) {
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
	if h.Version != next.Version-1 || !s.sameWrite(h, next) {
		s.reach(refusalDone)
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

// sameWrite reports whether next was made from what the store holds.
func (s *faultyStore) sameWrite(h held, next tokensession.Record) bool {
	switch {
	case s.has("Swap goes by the version alone"),
		s.has("Swap goes by the version alone in a revocation") && !next.RevokedAt.IsZero(),
		s.has("Swap takes no Replaces for any") && next.Replaces == "",
		s.has("Swap folds the case of WriteIDs") && strings.EqualFold(h.WriteID, next.Replaces),
		s.has("Swap compares the beginning of WriteIDs") && next.Replaces != "" &&
			(strings.HasPrefix(h.WriteID, next.Replaces) || strings.HasPrefix(next.Replaces, h.WriteID)),
		s.has("Swap takes the WriteID before") && next.Replaces == h.before.WriteID:
		return true
	}
	return h.WriteID == next.Replaces
}

// swapped returns what a Swap stores.
func (s *faultyStore) swapped(h held, next tokensession.Record) tokensession.Record {
	replaces := next.Replaces
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
	case "Swap keeps Replaces":
		next.Replaces = replaces
	default:
		s.leaveBehind(h, &next)
	}
	return next
}

// leaveBehind has the faults of a store that does not write every field of a login.
func (s *faultyStore) leaveBehind(h held, next *tokensession.Record) {
	switch s.fault {
	case "Swap leaves Issuer behind":
		next.Issuer = h.Issuer
	case "Swap leaves IdleTTL behind":
		next.IdleTTL = h.IdleTTL
	case "Swap keeps Actor if there is none":
		next.Actor = cmp.Or(next.Actor, h.Actor)
	case "Swap keeps AuthMethods if there are none":
		if next.AuthMethods == nil {
			next.AuthMethods = h.AuthMethods
		}
	case "Swap adds to AuthMethods":
		methods := slices.Concat(h.AuthMethods, next.AuthMethods)
		slices.Sort(methods)
		next.AuthMethods = slices.Compact(methods)
	case "Swap keeps AuthContext if there is none":
		next.AuthContext = cmp.Or(next.AuthContext, h.AuthContext)
	case "Swap keeps KeyThumbprint if there is none":
		next.KeyThumbprint = cmp.Or(next.KeyThumbprint, h.KeyThumbprint)
	case "Swap drops a KeyThumbprint that stays":
		if next.KeyThumbprint == h.KeyThumbprint {
			next.KeyThumbprint = ""
		}
	case "Swap sets no KeyThumbprint":
		next.KeyThumbprint = h.KeyThumbprint
	case "Swap lowers no Epoch":
		next.Epoch = max(next.Epoch, h.Epoch)
	case "Swap keeps OutdatedAt if there is none":
		if next.OutdatedAt.IsZero() {
			next.OutdatedAt = h.OutdatedAt
		}
	case "Swap keeps Transient":
		next.Transient = next.Transient || h.Transient
	}
}

func (s *faultyStore) put(h held, next tokensession.Record) {
	if s.has("Notified tells before the feed has it") {
		s.notify(h.Record, next)
		s.await(lookDone)
	} else {
		defer s.notify(h.Record, next)
	}
	if !s.has("feed tells what was only tried") {
		s.tell(h.Record, next)
	}
	if s.has("revocation deletes") && !next.RevokedAt.IsZero() {
		delete(s.recs, next.ID)
		return
	}
	if s.has("revocation takes the subject's index along") && !next.RevokedAt.IsZero() {
		s.dropIndex(next.Subject)
	}
	h.before, h.Record, h.swapped = h.Record, next, true
	s.subjects[s.id(next.ID)] = next.Subject
	s.recs[s.id(next.ID)] = h
}

// entry returns what the feed has to tell of a write.
func (s *faultyStore) entry(before, next tokensession.Record) (r tokensession.Revocation, ok bool) {
	r.SessionID = next.ID
	switch {
	case before.RevokedAt.IsZero() && !next.RevokedAt.IsZero():
		r.At = next.RevokedAt
		if s.has("feed tells an outdated session's revocation as an outdating") {
			r.Epoch = next.Epoch
		}
	case next.Epoch > before.Epoch && !s.has("feed tells no outdating"):
		r.At, r.Epoch = next.OutdatedAt, next.Epoch
		switch s.fault {
		case "feed tells an outdating as a revocation":
			r.Epoch = 0
		case "feed tells the epoch before":
			r.Epoch--
		case "feed tells an outdating at the time of the last refresh":
			r.At = next.RotatedAt
		}
	case next.Epoch != 0 && s.has("feed tells an outdating anew at each refresh"):
		r.At, r.Epoch = next.RotatedAt, next.Epoch
	case next.Epoch != 0 && s.has("feed takes a refresh of an outdated session for a revocation"),
		s.has("feed tells every write"):
		r.At = next.RotatedAt
	default:
		return r, false
	}
	return r, true
}

func (s *faultyStore) tell(before, next tokensession.Record) {
	if s.has("feed forgets an outdating at the next write") {
		s.feed = slices.DeleteFunc(s.feed, func(r tokensession.Revocation) bool {
			return r.SessionID == next.ID
		})
	}
	r, ok := s.entry(before, next)
	if !ok {
		return
	}
	switch s.fault {
	case "feed cuts times to seconds":
		r.At = r.At.Truncate(time.Second)
	case "feed keeps one an instant":
		s.feed = slices.DeleteFunc(s.feed, func(other tokensession.Revocation) bool {
			return other.At.Equal(r.At)
		})
	case "feed keeps a hundred":
		s.feed = s.feed[max(0, len(s.feed)-99):]
	case "feed loses one of two at once":
		feed := slices.Clip(s.feed)
		s.meet()
		s.feed = append(feed, r)
		return
	}
	s.feed = append(s.feed, r)
}

func (s *faultyStore) List(ctx context.Context, subject string) ([]tokensession.Record, error) {
	if err := s.ended(ctx, "List"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var found []held
	for id, of := range s.subjects {
		if !s.sameSubject(of, subject) {
			continue
		}
		if h, ok := s.recs[id]; ok && h.serial != 0 && !s.gone(h) {
			found = append(found, h)
		}
	}
	for _, id := range s.refused[subject] {
		if h := s.recs[s.id(id)]; h.Subject != subject {
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
	if s.has("Sweep checks, then drops") {
		s.reach(readDone)
		s.await(writeDone)
	}
	for _, id := range ids {
		delete(s.recs, id)
	}
	if s.has("Sweep counts nothing") {
		return 0, nil
	}
	return len(ids), nil
}

// pageSize is small, so that most cases see several pages.
const pageSize = 50

func (s *faultyStore) Revocations(
	ctx context.Context, since time.Time, page func([]tokensession.Revocation) error,
) error {
	if err := s.ended(ctx, "Revocations"); err != nil {
		return err
	}
	told := s.revocations(since)
	size := pageSize
	if s.has("feed gives all in one page") {
		size = max(1, len(told))
	}
	buffer := make([]tokensession.Revocation, size) // each page overwrites the one before
	for len(told) > 0 {
		n := copy(buffer, told)
		if err := page(buffer[:n]); err != nil {
			switch s.fault {
			case "feed goes on after an error of page":
			case "feed takes an error of page for the end":
				return nil
			case "feed says another error than page":
				return errPlain
			default:
				return err
			}
		}
		last := told[n-1].At
		told = told[n:]
		if s.has("feed goes on after the time of a page's last") {
			told = slices.DeleteFunc(told, func(r tokensession.Revocation) bool { return !r.At.After(last) })
		}
	}
	clear(buffer)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reach(lookDone)
	return nil
}

// revocations returns what the feed tells.
func (s *faultyStore) revocations(since time.Time) []tokensession.Revocation {
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
	if s.has("feed has no more than two thousand") {
		out = out[:min(len(out), 2000)]
	}
	s.told = latest
	slices.SortStableFunc(out, func(a, b tokensession.Revocation) int { return a.At.Compare(b.At) })
	return out
}

// notify says that there may be news in the feed.
func (s *faultyStore) notify(before, next tokensession.Record) {
	revoked, outdated := before.RevokedAt.IsZero() && !next.RevokedAt.IsZero(), next.Epoch > before.Epoch
	switch {
	case !revoked && !outdated,
		s.has("Notified does not tell of outdatings") && outdated,
		s.has("Notified does not tell of RevokeSubject") && next.RevokeReason == subjectReason,
		s.has("Notified forgets what comes between two calls") && s.listening == 0:
		return
	}
	select {
	case s.news <- struct{}{}:
	default:
	}
}

func (s *faultyStore) Notified(ctx context.Context) error {
	if err := s.ended(ctx, "Notified"); err != nil {
		return err
	}
	select {
	case <-s.news:
		return nil
	default:
	}
	if s.has("Notified never waits") {
		return nil
	}
	s.listen(1)
	defer s.listen(-1)
	news := s.news
	if s.has("Notified looks once") {
		news = nil
	}
	select {
	case <-news:
		return nil
	case <-ctx.Done():
	}
	switch s.fault {
	case "Notified takes its context's end for news":
		return nil
	case "Notified says another error than its context":
		return errPlain
	}
	return ctx.Err()
}

func (s *faultyStore) listen(change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listening += change
}

func (s *faultyStore) RevokeSubject(
	ctx context.Context, r tokensession.SubjectRevocation,
) ([]tokensession.Record, error) {
	if err := s.ended(ctx, "RevokeSubject"); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var mine []held
	for _, h := range s.recs {
		if h.Subject == r.Subject || s.has("RevokeSubject folds case") && strings.EqualFold(h.Subject, r.Subject) {
			mine = append(mine, h)
		}
	}
	if len(mine) == 0 && s.has("RevokeSubject says ErrNotFound for an unknown subject") {
		return nil, tokensession.ErrNotFound
	}
	if s.has("RevokeSubject reads, then writes") {
		s.reach(readDone)
		s.await(writeDone)
	}
	var out []tokensession.Record
	for _, h := range mine {
		if !h.RevokedAt.IsZero() && !s.has("RevokeSubject rewrites revocations") {
			if h.WriteID == r.WriteID && !s.has("RevokeSubject returns nothing when repeated") ||
				s.has("RevokeSubject returns what others revoked") {
				out = append(out, s.given(h.Record))
			}
			continue
		}
		if !s.ofIssuers(h, r.Issuers) || s.spared(h, r.Keep, r.At) {
			continue
		}
		next := clone(h.Record)
		next.Version++
		if s.has("RevokeSubject does not count versions") {
			next.Version--
		}
		next.WriteID, next.RevokedAt, next.RevokeReason = r.WriteID, r.At, r.Reason
		if !r.KeepUntil.IsZero() && (r.KeepUntil.Before(h.ExpiresAt) || s.has("RevokeSubject prolongs")) &&
			!s.has("RevokeSubject keeps for ever") {
			next.ExpiresAt = r.KeepUntil
		}
		if r.At.Before(h.RotatedAt) && !s.has("RevokeSubject goes by its own time") {
			next.RevokedAt = h.RotatedAt
		}
		if s.has("RevokeSubject drops KeyThumbprint") {
			next.KeyThumbprint = ""
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

// ofIssuers reports whether the session is of one of the issuers.
func (s *faultyStore) ofIssuers(h held, issuers []string) bool {
	if len(issuers) > 0 && s.has("RevokeSubject goes by the first issuer") {
		issuers = issuers[:1]
	}
	return slices.ContainsFunc(issuers, func(issuer string) bool {
		switch s.fault {
		case "RevokeSubject ignores issuers":
			return true
		case "RevokeSubject folds the case of issuers":
			return strings.EqualFold(issuer, h.Issuer)
		case "RevokeSubject takes issuers for prefixes":
			return strings.HasPrefix(h.Issuer, issuer)
		}
		return issuer == h.Issuer
	})
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
	if a == b || !strings.HasPrefix(string(s.fault), "subjects ") {
		return a == b
	}
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
	methods := rec.AuthMethods
	if !s.has("shares memory with writers") {
		rec = clone(rec)
	}
	if s.has("shares methods with writers") {
		rec.AuthMethods = methods
	}
	rec.Replaces = ""
	changeTimes(&rec, func(t time.Time) time.Time { return s.storedTime(t) })
	s.storeLogin(&rec)
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

// storeLogin has the faults of a store that keeps a field of a login as something that it is not.
func (s *faultyStore) storeLogin(rec *tokensession.Record) {
	switch s.fault {
	case "issuers lose their last slash":
		rec.Issuer = strings.TrimSuffix(rec.Issuer, "/")
	case "issuers fold case":
		rec.Issuer = strings.ToLower(rec.Issuer)
	case "drops actors":
		rec.Actor = ""
	case "actors lose spaces":
		rec.Actor = strings.TrimSpace(rec.Actor)
	case "contexts lose spaces":
		rec.AuthContext = strings.TrimSpace(rec.AuthContext)
	case "no context is level 0":
		rec.AuthContext = cmp.Or(rec.AuthContext, "0")
	case "drops methods":
		rec.AuthMethods = nil
	case "no methods are an empty list":
		if rec.AuthMethods == nil {
			rec.AuthMethods = []string{}
		}
	case "methods are a text with commas":
		if rec.AuthMethods != nil {
			rec.AuthMethods = strings.Split(strings.Join(rec.AuthMethods, ","), ",")
		}
	case "methods are a text with spaces":
		if rec.AuthMethods != nil {
			rec.AuthMethods = strings.Fields(strings.Join(rec.AuthMethods, " "))
		}
	case "methods are sorted":
		slices.Sort(rec.AuthMethods)
	case "methods are a set":
		var methods []string
		for _, m := range rec.AuthMethods {
			if !slices.Contains(methods, m) {
				methods = append(methods, m)
			}
		}
		rec.AuthMethods = methods
	case "thumbprints have 40 characters":
		rec.KeyThumbprint = rec.KeyThumbprint[:min(len(rec.KeyThumbprint), 40)]
	case "thumbprints fold case":
		rec.KeyThumbprint = strings.ToLower(rec.KeyThumbprint)
	case "epochs are floating":
		rec.Epoch = uint64(float64(rec.Epoch))
	case "epochs have 32 bits":
		rec.Epoch = uint64(uint32(rec.Epoch))
	case "outdated for as long as there is an epoch":
		if rec.Epoch == 0 {
			rec.OutdatedAt = time.Time{}
		}
	case "OutdatedAt in seconds":
		rec.OutdatedAt = rec.OutdatedAt.Truncate(time.Second)
	case "idle times in seconds":
		rec.IdleTTL = rec.IdleTTL.Truncate(time.Second)
	case "idle times in 32 bits of seconds":
		rec.IdleTTL = time.Duration(int32(rec.IdleTTL/time.Second))*time.Second + rec.IdleTTL%time.Second
	case "drops Transient":
		rec.Transient = false
	case "all sessions are transient":
		rec.Transient = true
	}
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
	methods := rec.AuthMethods
	if !s.has("shares memory with readers") {
		rec = clone(rec)
	}
	if s.has("shares methods with readers") {
		rec.AuthMethods = methods
	}
	if s.has("times are local") {
		changeTimes(&rec, func(t time.Time) time.Time { return t.In(berlin) })
	}
	return rec
}

func changeTimes(rec *tokensession.Record, change func(time.Time) time.Time) {
	for _, t := range []*time.Time{
		&rec.AuthTime, &rec.OutdatedAt, &rec.CreatedAt, &rec.ConsumedAt, &rec.RotatedAt, &rec.ExpiresAt,
		&rec.MaxExpiresAt, &rec.RevokedAt,
	} {
		*t = change(*t)
	}
}

var berlin, _ = time.LoadLocation("Europe/Berlin")

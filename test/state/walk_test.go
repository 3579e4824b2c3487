package state

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed67bc9b7f/tokensession"
)

// A walk is about keys: a client that has one, a thief who copies refresh tokens, replies that get
// lost, and a store that fails. The other games know each answer. A walk knows the promises only:
//
//   - The honest client is logged out only if a thief has had a plain token.
//   - A thief of bound tokens gets nothing, and changes nothing.
//   - A thief who binds the session first is out when the victim comes after the grace period.
//
// The honest client does what clients do. It has one token. It proves its key with each refresh,
// from the login on or from some later moment on. If it gets no answer, it comes again. If it had
// come without its key, it does so within the grace period, because nothing tells it from a thief
// later. With its key, it comes when it likes.
type walk struct {
	now      time.Time
	store    *frailStore
	managers []*tokensession.Manager
	tally    *tally

	id     string
	jar    string // the client's token
	keyed  bool   // the client proves its key
	tried  bool   // a refresh with the jar's token got no answer, and may have been applied
	bare   bool   // one of these came without the key
	since  time.Time
	issued []string          // every token that a Manager made for anybody, in order
	kinds  map[string]string // the key that each was made for

	thief    thief
	putOff   int       // how often the victim got no verdict, more than a grace period apart
	putOffAt time.Time // the last time that counts
	held     bool      // the thief has used a plain token
}

// What a thief of a walk does.
type thief struct {
	boundOnly bool // it copies bound tokens only
	first     bool // it refreshes before the client does
	proves    string
	copies    []string
	last      string // the one that it used last
}

// A tally says what happened in all walks together: a promise that was never put to the test is not
// kept.
type tally struct{ refreshes, lost, healed, recovered, tabs, attempts, taken, victims int }

const (
	clientsKey = oneKey
	thiefsKey  = otherKey
	walkGrace  = 10 * time.Second
)

// A frailStore is a memory store that fails as it is told, and can lose writes.
type frailStore struct {
	tokensession.RefreshStore
	down   bool
	fault  fault
	ending bool                  // somebody has tried to revoke the session
	before []tokensession.Record // the versions of the record before the present one
}

// A fault is what becomes of the next Swap.
type fault string

const (
	noFault       fault = ""
	requestLost   fault = "the request is lost"
	replyLost     fault = "the reply is lost"
	downUnwritten fault = "the request is lost, and the store is down from then on"
	downWritten   fault = "the reply is lost, and the store is down from then on"
)

var errDown = errors.New("the store is down")

func (s *frailStore) Load(ctx context.Context, id string) (tokensession.Record, error) {
	if s.down {
		return tokensession.Record{}, errDown
	}
	return s.RefreshStore.Load(ctx, id)
}

func (s *frailStore) Swap(ctx context.Context, next tokensession.Record) error {
	fault := s.fault
	s.fault, s.ending = noFault, s.ending || !next.RevokedAt.IsZero()
	if s.down {
		return errDown
	}
	s.down = fault == downUnwritten || fault == downWritten
	if fault == requestLost || fault == downUnwritten {
		return errDown
	}
	was, err := s.RefreshStore.Load(ctx, next.ID)
	if err == nil {
		err = s.RefreshStore.Swap(ctx, next)
	}
	if err == nil {
		s.before = append(s.before, was)
	}
	if fault != noFault {
		return errDown
	}
	return err
}

// failOver brings an earlier version of the record back.
func (s *frailStore) failOver(t *rapid.T, lost int) {
	rec := s.before[len(s.before)-lost]
	s.before = s.before[:len(s.before)-lost]
	s.RefreshStore = tokensession.NewMemoryStore()
	must(t, s.Create(ctx, rec))
}

func newWalk(t *rapid.T, tally *tally) *walk {
	w := &walk{
		now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), tally: tally,
		store: &frailStore{RefreshStore: tokensession.NewMemoryStore()}, kinds: map[string]string{},
	}
	cfg := tokensession.Config{
		RefreshTTL: 10 * 365 * 24 * time.Hour, MaxLifetime: tokensession.Unlimited,
		GracePeriod: walkGrace, RecoveryPeriod: tokensession.Strict,
		Now: func() time.Time { return w.now },
	}
	if rapid.Bool().Draw(t, "with a recovery period") {
		cfg.RecoveryPeriod = time.Hour
	}
	key, err := tokensession.NewHMACKey(make([]byte, 32))
	must(t, err)
	access := tokensession.AccessConfig{Issuer: "i", Audience: []string{"a"}, CacheSize: 8}
	for range 2 {
		signer, err := tokensession.NewAccessSigner(key, access)
		must(t, err)
		m, err := tokensession.New(signer, w.store, cfg)
		must(t, err)
		w.managers = append(w.managers, m)
	}
	w.thief.boundOnly = rapid.Bool().Draw(t, "the thief has bound tokens only")
	w.thief.proves = rapid.SampledFrom([]string{"", thiefsKey}).Draw(t, "the thief proves")
	w.keyed = rapid.Bool().Draw(t, "the client has a key at login")
	w.thief.first = !w.thief.boundOnly && rapid.Bool().Draw(t, "the thief is first")
	w.login(t)
	return w
}

func (w *walk) login(t *rapid.T) {
	var opts []tokensession.StartOption
	if w.keyed && !w.thief.first {
		opts = append(opts, tokensession.WithKeyThumbprint(clientsKey))
	}
	tokens, err := w.manager(t).Start(ctx, "alice", opts...)
	must(t, err)
	w.id = tokens.Session.ID
	w.made(tokens)
	w.received(tokens)
	if w.thief.first {
		w.thief.copies = append(w.thief.copies, w.jar)
		w.Theft(t)
	}
}

func (w *walk) manager(t *rapid.T) *tokensession.Manager {
	return w.managers[rapid.IntRange(0, len(w.managers)-1).Draw(t, "manager")]
}

func (w *walk) record(t *rapid.T) tokensession.Record {
	rec, err := w.store.Load(ctx, w.id)
	must(t, err)
	return rec
}

// made notes a token that a Manager has made, whether or not it arrives.
func (w *walk) made(tokens tokensession.Tokens) {
	if _, ok := w.kinds[tokens.RefreshToken]; !ok {
		w.issued = append(w.issued, tokens.RefreshToken)
		w.kinds[tokens.RefreshToken] = tokens.Session.KeyThumbprint
	}
}

func (w *walk) received(tokens tokensession.Tokens) {
	w.jar, w.tried, w.bare = tokens.RefreshToken, false, false
}

func (w *walk) fault(t *rapid.T) fault {
	return rapid.SampledFrom([]fault{
		noFault, noFault, noFault, noFault, requestLost, replyLost, downUnwritten, downWritten,
	}).Draw(t, "fault")
}

// refreshWith presents a token, with a fault of the store.
func (w *walk) refreshWith(
	t *rapid.T, token, proven string, f fault,
) (tokensession.Tokens, error) {
	var opts []tokensession.RefreshOption
	if proven != "" {
		opts = append(opts, tokensession.WithKeyThumbprint(proven))
	}
	w.store.fault = f
	tokens, err := w.manager(t).Refresh(ctx, token, opts...)
	w.store.fault, w.store.down = noFault, false
	if err == nil {
		w.made(tokens)
	}
	return tokens, err
}

// Refresh is the honest client's.
func (w *walk) Refresh(t *rapid.T) {
	if w.keyed {
		w.refresh(t, clientsKey)
	} else {
		w.refresh(t, "")
	}
}

// Tab is a second tab of a client that has got a key just now, and that tab knows of no key. It has
// the same token, and comes within the grace period of the refresh that bound the session.
func (w *walk) Tab(t *rapid.T) {
	rec := w.record(t)
	if !w.keyed || w.kinds[w.jar] != "" || rec.KeyThumbprint != clientsKey ||
		!w.now.Before(rec.RotatedAt.Add(walkGrace)) || rec.Generation > rec.Predecessor+2 {
		t.Skip("no tab without the key")
	}
	w.tally.tabs++
	_, err := w.refreshWith(t, w.jar, "", noFault)
	if !w.held && !errors.Is(err, tokensession.ErrProofRequired) {
		t.Fatalf("a tab that raced with the refresh that bound the session: %v", err)
	}
}

func (w *walk) refresh(t *rapid.T, proven string) {
	w.tally.refreshes++
	before, f := w.record(t), w.fault(t)
	tokens, err := w.refreshWith(t, w.jar, proven, f)
	w.judge(t, before, f, err)
	switch {
	case err == nil && !rapid.Bool().Draw(t, "the reply is lost"):
		w.note(before)
		w.received(tokens)
	case err == nil, errors.Is(err, tokensession.ErrUnavailable):
		w.tally.lost++
		if !w.tried {
			w.tried, w.since = true, w.now
		}
		w.bare = w.bare || proven == ""
	case errors.Is(err, tokensession.ErrProofRequired): // it comes again
	default:
		w.over(t)
	}
}

// note counts what a refresh that succeeded was.
func (w *walk) note(before tokensession.Record) {
	switch n := generation(w.jar); {
	case n > before.Generation:
		w.tally.healed++
	case n < before.Generation && !w.now.Before(before.RotatedAt.Add(walkGrace)):
		w.tally.recovered++
	}
}

// judge is the promises to the honest client, and to the victim. Before is the record as the
// refresh found it.
func (w *walk) judge(t *rapid.T, before tokensession.Record, f fault, err error) {
	unanswered := errors.Is(err, tokensession.ErrUnavailable)
	switch {
	case unanswered && f == noFault:
		t.Fatalf("the store works: %v", err)
	case unanswered:
	case before.KeyThumbprint == thiefsKey:
		w.tally.victims++
		w.judgeVictim(t, err)
	case err != nil && !w.held:
		t.Fatalf("no thief has had a plain token, and the client is out: %v", err)
	}
}

// judgeVictim: the session is bound to the thief's key. The victim gets no tokens. It gets no
// verdict, if it comes too early, but not for ever.
func (w *walk) judgeVictim(t *rapid.T, err error) {
	switch {
	case errors.Is(err, tokensession.ErrReused), errors.Is(err, tokensession.ErrRevoked):
	case !errors.Is(err, tokensession.ErrProofRequired):
		t.Fatalf("the thief has bound the session, and the victim is told: %v", err)
	case w.putOff == 0 || !w.now.Before(w.putOffAt.Add(walkGrace)):
		w.putOffAt = w.now
		if w.putOff++; w.putOff > 4 { // three periods that a lost reply begins, and a recovery's
			t.Fatal("the thief has bound the session, and puts the victim off for ever")
		}
	}
}

// over is the end of the session: nobody gets in any more. Then the user logs in again.
func (w *walk) over(t *rapid.T) {
	for _, token := range w.issued {
		for _, key := range []string{"", thiefsKey, clientsKey} {
			if tokens, err := w.refreshWith(t, token, key, noFault); err == nil {
				t.Fatalf("the session is over, and somebody got %d", generation(tokens.RefreshToken))
			}
		}
	}
	w.issued, w.thief.copies, w.store.before, w.store.ending = nil, nil, nil, false
	w.held, w.putOff, w.thief.last = false, 0, ""
	w.login(t)
}

// GetKey gives the client its key, if it had none at the login.
func (w *walk) GetKey(t *rapid.T) {
	if w.keyed {
		t.Skip("it has one")
	}
	w.keyed = true
}

// Steal copies a token: the client's, or any that was ever made.
func (w *walk) Steal(t *rapid.T) {
	token := w.jar
	if rapid.Bool().Draw(t, "an old one") {
		token = rapid.SampledFrom(w.issued).Draw(t, "copied")
	}
	if w.thief.boundOnly && w.kinds[token] == "" {
		t.Skip("a plain token")
	}
	if !slices.Contains(w.thief.copies, token) {
		w.thief.copies = append(w.thief.copies, token)
	}
}

// Theft is a refresh of the thief.
func (w *walk) Theft(t *rapid.T) {
	if len(w.thief.copies) == 0 {
		t.Skip("nothing was stolen")
	}
	w.tally.attempts++
	token := rapid.SampledFrom(w.thief.copies).Draw(t, "with")
	if w.thief.last != "" && rapid.Bool().Draw(t, "again") {
		token = w.thief.last // as if the reply got lost
	}
	w.thief.last = token
	before := w.record(t)
	tokens, err := w.refreshWith(t, token, w.thief.proves, w.fault(t))
	kind := w.kinds[token]
	if err == nil && (before.KeyThumbprint == clientsKey || kind == clientsKey) {
		t.Fatal("the thief has got a token of a session that is bound to the client's key")
	}
	switch {
	case kind == clientsKey && !w.store.ending:
		w.refused(t, before, err)
	case kind == clientsKey: // a Manager may know that the session is over, and then it says so
	case err == nil:
		w.tally.taken++
		w.held = true
		w.thief.copies = append(w.thief.copies, tokens.RefreshToken)
	default:
		w.held = true
	}
	if errors.Is(err, tokensession.ErrReused) || errors.Is(err, tokensession.ErrRevoked) {
		w.over(t)
	}
}

// refused is what a bound token without its key leads to: nothing, and the session is as it was.
func (w *walk) refused(t *rapid.T, before tokensession.Record, err error) {
	if !errors.Is(err, tokensession.ErrProofRequired) &&
		!errors.Is(err, tokensession.ErrInvalidToken) {
		t.Fatalf("a bound token without its key: %v", err)
	}
	if after := w.record(t); !reflect.DeepEqual(before, after) {
		t.Fatalf("a bound token without its key changed the session from %+v to %+v", before, after)
	}
}

// Failover loses the last writes.
func (w *walk) Failover(t *rapid.T) {
	if len(w.store.before) == 0 {
		t.Skip("nothing to lose")
	}
	w.store.failOver(t, rapid.IntRange(1, min(3, len(w.store.before))).Draw(t, "lost"))
	w.putOff = 0
}

func (w *walk) Wait(t *rapid.T) {
	const us = time.Microsecond
	later := w.now.Add(rapid.SampledFrom([]time.Duration{
		us, time.Second, walkGrace / 2, walkGrace - us, walkGrace, time.Minute, time.Hour,
		6 * 24 * time.Hour,
	}).Draw(t, "for"))
	if w.tried && w.bare && !later.Before(w.since.Add(walkGrace)) {
		t.Skip("the client comes again before that")
	}
	w.now = later
}

// PutOff is a thief who has bound the session, and who comes again when the grace period is over.
// The victim comes within the grace period of that, or when it is over, too.
func (w *walk) PutOff(t *rapid.T) {
	if w.record(t).KeyThumbprint != thiefsKey || !slices.Contains(w.thief.copies, w.thief.last) {
		t.Skip("the session is not the thief's")
	}
	if w.tried && w.bare {
		t.Skip("the client comes again before that")
	}
	w.now = w.now.Add(walkGrace)
	w.Theft(t)
	w.now = w.now.Add(rapid.SampledFrom([]time.Duration{0, 0, walkGrace}).Draw(t, "later"))
	w.Refresh(t)
}

// generation reads a refresh token, as only a test may: to a client it is opaque.
func generation(token string) uint64 {
	b, err := base64.RawURLEncoding.DecodeString(token[len("tsr_"):])
	if err != nil {
		panic(err)
	}
	return binary.BigEndian.Uint64(b[16:24])
}

func TestManager_keepsItsPromisesToHoldersOfKeys(t *testing.T) {
	var all tally
	playOn(t, 30, 20*time.Second, func(t *rapid.T) {
		w := newWalk(t, &all)
		t.Repeat(map[string]func(*rapid.T){
			"Refresh": w.Refresh, "Refresh again": w.Refresh, "Refresh once more": w.Refresh,
			"Tab": w.Tab, "GetKey": w.GetKey, "Failover": w.Failover,
			"Steal": w.Steal, "Theft": w.Theft, "Theft again": w.Theft,
			"PutOff": w.PutOff, "PutOff again": w.PutOff,
			"Wait": w.Wait, "Wait longer": w.Wait,
		})
	})
	t.Logf("%+v", all)
	if slices.Contains([]int{
		all.lost, all.healed, all.recovered, all.tabs, all.attempts, all.taken, all.victims,
	}, 0) {
		t.Errorf("something never happened: %+v", all)
	}
}

// Package state plays random games with a Manager and compares it with a model that knows only the
// rules.
package state

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	_ "modernc.org/sqlite"
	"pgregory.net/rapid"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

// A model is what a Manager has to be: sessions, and every token that was ever handed out.
type model struct {
	m     *tokensession.Manager
	store tokensession.RefreshStore
	cfg   tokensession.Config
	now   time.Time

	subjects []string // of this game, which may have the store's to itself or not

	sessions []*session
	access   []access
}

type session struct {
	id, subject string
	created     time.Time
	refresh     []string // by generation
	live        int
	parent      int // whose use made the live one; -1 before the first refresh
	consumed    time.Time
	rotated     time.Time
	expires     time.Time
	end         time.Time
	idle        time.Duration
	epoch       int
	key         string // of the client, to which it is bound; empty: to none
	revoked     bool
	closed      bool // revoked after its time was over, if it was still there

	madeFor []string // the key of each token in refresh
}

type access struct {
	token   string
	session *session
	epoch   int    // of the session, then
	key     string // that it is bound to
	expires time.Time
}

// The thumbprints of two keys.
const (
	oneKey   = "NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs"
	otherKey = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
)

var ctx = context.Background()

func newModel(t *rapid.T, store tokensession.RefreshStore, subjects []string) *model {
	s := &model{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), store: store, subjects: subjects}
	s.cfg = tokensession.Config{
		AccessTTL: 15 * time.Minute, RefreshTTL: 7 * 24 * time.Hour,
		MaxLifetime:    rapid.SampledFrom([]time.Duration{30 * 24 * time.Hour, 2 * time.Hour}).Draw(t, "lifetime"),
		GracePeriod:    rapid.SampledFrom([]time.Duration{10 * time.Second, tokensession.Strict}).Draw(t, "grace"),
		RecoveryPeriod: rapid.SampledFrom([]time.Duration{tokensession.Strict, time.Hour}).Draw(t, "recovery"),
		MaxSessions:    rapid.SampledFrom([]int{0, 2}).Draw(t, "max sessions"),
		Now:            func() time.Time { return s.now },
	}
	key, err := tokensession.NewHMACKey(make([]byte, 32))
	must(t, err)
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{Issuer: "i", Audience: []string{"a"}})
	must(t, err)
	if rapid.Bool().Draw(t, "hide optional abilities") {
		store = testkit.Plain(store)
	}
	s.m, err = tokensession.New(signer, store, s.cfg)
	must(t, err)
	return s
}

func must(t *rapid.T, err error) {
	if err != nil {
		t.Fatal(err)
	}
}

// finish ends a session that lives. Its record is kept for a day and an hour, which is the default
// of KeepEnded.
func (s *session) finish(now time.Time) {
	s.revoked = true
	if kept := now.Add(25 * time.Hour); kept.Before(s.expires) {
		s.expires = kept
	}
}

func (s *session) over(now time.Time) bool { return s.revoked || !now.Before(s.expires) }

// revoke ends the session.
func (s *session) revoke(now time.Time) {
	if s.over(now) {
		s.closed = true
	} else {
		s.finish(now)
	}
}

func (s *model) of(subject string) []*session {
	var live []*session
	for _, x := range s.sessions {
		if x.subject == subject && !x.over(s.now) {
			live = append(live, x)
		}
	}
	return live
}

func (s *model) handedOut(
	t *rapid.T, x *session, tokens tokensession.Tokens, confirmed string,
) {
	if tokens.Session.KeyThumbprint != x.key {
		t.Fatalf("bound to %q, want %q", tokens.Session.KeyThumbprint, x.key)
	}
	if tokens.Session.ID != x.id || !tokens.RefreshExpiresAt.Equal(x.expires) {
		t.Fatalf("tokens of %s until %v, want %s until %v", tokens.Session.ID, tokens.RefreshExpiresAt, x.id, x.expires)
	}
	switch {
	case tokens.RefreshToken == "":
	case x.live == len(x.refresh):
		if slices.Contains(x.refresh, tokens.RefreshToken) {
			t.Fatal("an old token is the new one")
		}
		x.refresh, x.madeFor = append(x.refresh, tokens.RefreshToken), append(x.madeFor, x.key)
	case tokens.RefreshToken != x.refresh[x.live]:
		t.Fatal("not the live token again")
	}
	expires := s.now.Add(s.cfg.AccessTTL)
	if x.expires.Before(expires) {
		expires = x.expires
	}
	expires = expires.Truncate(time.Second)
	s.access = append(s.access, access{tokens.AccessToken, x, x.epoch, confirmed, expires})
}

// proof draws options for a client that proves a key or none, and whose access token is bound to
// one or to none.
func proof(t *rapid.T, usual string) (proven, confirmed string, opts []tokensession.SessionOption) {
	proven = rapid.SampledFrom([]string{usual, usual, usual, "", oneKey, otherKey}).Draw(t, "proven")
	if proven != "" {
		opts = append(opts, tokensession.WithKeyThumbprint(proven))
	}
	confirmed = rapid.SampledFrom([]string{"", "", oneKey}).Draw(t, "confirmed")
	if confirmed != "" {
		opts = append(opts, tokensession.WithConfirmation(confirmed))
	}
	return proven, confirmed, opts
}

func (s *model) Start(t *rapid.T) {
	subject := rapid.SampledFrom(s.subjects).Draw(t, "subject")
	var opts []tokensession.StartOption
	var replaced *session
	if len(s.sessions) > 0 && rapid.Bool().Draw(t, "replacing") {
		replaced = rapid.SampledFrom(s.sessions).Draw(t, "replaced")
		opts = append(opts, tokensession.Replacing(replaced.id))
	}
	idle := rapid.SampledFrom([]time.Duration{0, time.Minute, time.Hour}).Draw(t, "idle")
	absolute := rapid.SampledFrom([]time.Duration{0, 90 * time.Minute}).Draw(t, "absolute")
	opts = append(opts, tokensession.WithLifetimes(idle, absolute))
	key, confirmed, proofs := proof(t, "")
	for _, opt := range proofs {
		opts = append(opts, opt)
	}
	tokens, err := s.m.Start(ctx, subject, opts...)
	must(t, err)
	x := &session{
		id: tokens.Session.ID, subject: subject, created: tokens.Session.CreatedAt, parent: -1, key: key,
		idle: cmp.Or(idle, s.cfg.RefreshTTL), end: s.now.Add(cmp.Or(absolute, s.cfg.MaxLifetime)),
	}
	s.renewed(x)
	if replaced != nil {
		replaced.revoke(s.now)
	}
	s.sessions = append(s.sessions, x)
	s.handedOut(t, x, tokens, confirmed)
	if live := s.of(subject); s.cfg.MaxSessions > 0 && len(live) > s.cfg.MaxSessions {
		for _, oldest := range live[:len(live)-s.cfg.MaxSessions] {
			oldest.finish(s.now)
		}
	}
}

func (s *model) Refresh(t *rapid.T) {
	if len(s.sessions) == 0 {
		t.Skip("no sessions")
	}
	x := rapid.SampledFrom(s.sessions).Draw(t, "session")
	back := rapid.IntRange(0, min(3, len(x.refresh)-1)).Draw(t, "how old")
	n := len(x.refresh) - 1 - back
	proven, confirmed, proofs := proof(t, x.key)
	before := s.stored(x)
	var tokens tokensession.Tokens
	var err error
	stepUp := rapid.Bool().Draw(t, "step up")
	if stepUp {
		opts := []tokensession.AuthOption{tokensession.Rotating(x.refresh[n])}
		for _, opt := range proofs {
			opts = append(opts, opt)
		}
		tokens, err = s.m.Reauthenticate(ctx, x.id, opts...)
	} else {
		var opts []tokensession.RefreshOption
		for _, opt := range proofs {
			opts = append(opts, opt)
		}
		tokens, err = s.m.Refresh(ctx, x.refresh[n], opts...)
	}
	if err == nil && stepUp {
		x.epoch++
	}
	switch {
	case x.revoked && s.now.Before(x.expires):
		wants(t, err, tokensession.ErrRevoked)
		return
	case x.over(s.now): // the store may have dropped it
		if !errors.Is(err, tokensession.ErrExpired) && !errors.Is(err, tokensession.ErrInvalidToken) && !((x.revoked || x.closed) && errors.Is(err, tokensession.ErrRevoked)) {
			t.Fatalf("after the end: %v", err)
		}
		return
	}
	what, want := s.judge(x, n, proven)
	switch what {
	case "rotate":
		must(t, err)
		x.parent, x.consumed = n, s.now
		s.rotated(t, x, tokens, proven, confirmed)
	case "recover":
		must(t, err)
		s.rotated(t, x, tokens, proven, confirmed)
	case "replay":
		must(t, err)
		s.handedOut(t, x, tokens, confirmed)
	case "reuse":
		wants(t, err, want)
		x.finish(s.now)
	case "refuse":
		wants(t, err, want)
		if errors.Is(err, tokensession.ErrProofRequired) != (proven == "" || x.madeFor[n] == "") {
			t.Fatalf("proving %q: %v", proven, err)
		}
		if after := s.stored(x); !reflect.DeepEqual(before, after) {
			t.Fatalf("a refused token changed the session from %+v to %+v", before, after)
		}
	}
}

// stored returns what the store has of a session, which is nothing if it has dropped it.
func (s *model) stored(x *session) tokensession.Record {
	rec, _ := s.store.Load(ctx, x.id)
	return rec
}

// judge says what presenting the token of generation n leads to while the session lives, and which
// error. The client proves a key or none.
func (s *model) judge(x *session, n int, proven string) (what string, err error) {
	grace, recovery := max(s.cfg.GracePeriod, 0), max(s.cfg.RecoveryPeriod, 0)
	parent, inGrace := n == x.parent, s.now.Before(x.rotated.Add(grace))
	has := x.key == "" || x.key == proven
	switch {
	case !has && x.madeFor[n] != "" && proven == "":
		return "refuse", tokensession.ErrProofRequired
	case !has && x.madeFor[n] != "":
		return "refuse", tokensession.ErrInvalidToken
	case !has && parent && inGrace && x.live <= n+2:
		return "refuse", tokensession.ErrProofRequired
	case !has:
		return "reuse", tokensession.ErrReused
	case n == x.live:
		return "rotate", nil
	case parent && inGrace:
		return "replay", nil
	case parent && s.now.Before(x.consumed.Add(recovery)), parent && x.key != "" && grace > 0:
		return "recover", nil
	}
	return "reuse", tokensession.ErrReused
}

func (s *model) rotated(
	t *rapid.T, x *session, tokens tokensession.Tokens, proven, confirmed string,
) {
	x.live, x.rotated, x.key = x.live+1, s.now, cmp.Or(x.key, proven)
	s.renewed(x)
	s.handedOut(t, x, tokens, confirmed)
}

func (s *model) renewed(x *session) {
	x.expires = s.now.Add(x.idle)
	if x.end.Before(x.expires) {
		x.expires = x.end
	}
}

func wants(t *rapid.T, err, want error) {
	if !errors.Is(err, want) || !errors.Is(want, tokensession.ErrReused) && errors.Is(err, tokensession.ErrReused) {
		t.Fatalf("%v, want %v", err, want)
	}
}

func (s *model) Revoke(t *rapid.T) {
	if len(s.sessions) == 0 {
		t.Skip("no sessions")
	}
	x := rapid.SampledFrom(s.sessions).Draw(t, "session")
	over := !s.now.Before(x.expires)
	if rapid.Bool().Draw(t, "by token") {
		err := s.m.RevokeToken(ctx, rapid.SampledFrom(x.refresh).Draw(t, "token"))
		if err != nil && !(over && errors.Is(err, tokensession.ErrInvalidToken)) {
			t.Fatal(err)
		}
	} else if err := s.m.Revoke(ctx, x.id); err != nil && !(over && errors.Is(err, tokensession.ErrNotFound)) {
		t.Fatal(err)
	}
	x.revoke(s.now)
}

func (s *model) RevokeSubject(t *rapid.T) {
	subject := rapid.SampledFrom(s.subjects).Draw(t, "subject")
	live := s.of(subject)
	var keep []string
	for _, x := range live {
		if rapid.Bool().Draw(t, "keep") {
			keep = append(keep, x.id)
		}
	}
	n, err := s.m.RevokeSubject(ctx, subject, tokensession.Keep(keep...))
	must(t, err)
	if n != len(live)-len(keep) {
		t.Fatalf("ended %d of %d but %d", n, len(live), len(keep))
	}
	for _, x := range s.sessions {
		if x.subject == subject && !slices.Contains(keep, x.id) {
			x.revoke(s.now)
		}
	}
}

// Reauthorize outdates what access tokens the subject's sessions have.
func (s *model) Reauthorize(t *rapid.T) {
	subject := rapid.SampledFrom(s.subjects).Draw(t, "subject")
	live := s.of(subject)
	n, err := s.m.Reauthorize(ctx, subject)
	must(t, err)
	if n != len(live) {
		t.Fatalf("outdated %d of %d", n, len(live))
	}
	for _, x := range live {
		x.epoch++
	}
}

// Reauthenticate steps up by the session's id.
func (s *model) Reauthenticate(t *rapid.T) {
	if len(s.sessions) == 0 {
		t.Skip("no sessions")
	}
	x := rapid.SampledFrom(s.sessions).Draw(t, "session")
	_, confirmed, proofs := proof(t, "") // a proof of a key is not needed, and binds nothing
	var opts []tokensession.AuthOption
	for _, opt := range proofs {
		opts = append(opts, opt)
	}
	tokens, err := s.m.Reauthenticate(ctx, x.id, opts...)
	switch {
	case x.revoked && s.now.Before(x.expires):
		wants(t, err, tokensession.ErrRevoked)
	case x.over(s.now): // the store may have dropped it
		if !errors.Is(err, tokensession.ErrExpired) && !errors.Is(err, tokensession.ErrNotFound) && !((x.revoked || x.closed) && errors.Is(err, tokensession.ErrRevoked)) {
			t.Fatalf("after the end: %v", err)
		}
	default:
		must(t, err)
		if tokens.RefreshToken != "" {
			t.Fatal("a refresh token that nobody asked for")
		}
		x.epoch++
		s.handedOut(t, x, tokens, confirmed)
	}
}

func (s *model) Wait(t *rapid.T) {
	const us = time.Microsecond
	s.now = s.now.Add(rapid.SampledFrom([]time.Duration{
		us, 10*time.Second - us, 10 * time.Second, time.Minute, 15 * time.Minute, time.Hour - us, time.Hour, 24 * time.Hour, 7*24*time.Hour - us, 7 * 24 * time.Hour,
	}).Draw(t, "for"))
}

// A login is a session as a list of them shows it.
type login struct {
	at      time.Time
	id, key string
}

// Check compares all that can be seen without changing anything.
func (s *model) Check(t *rapid.T) {
	for _, subject := range s.subjects {
		var want, got []login
		for _, x := range s.of(subject) {
			want = append(want, login{x.created, x.id, x.key})
		}
		sessions, err := s.m.Sessions(ctx, subject)
		must(t, err)
		for _, x := range sessions {
			got = append(got, login{x.CreatedAt, x.ID, x.KeyThumbprint})
		}
		newestFirst := func(a, b login) int { return b.at.Compare(a.at) }
		if !slices.IsSortedFunc(got, newestFirst) {
			t.Fatalf("sessions of %s are not in order: %v", subject, got)
		}
		// Which of two logins at the same moment comes first is the store's choice.
		byID := func(a, b login) int { return cmp.Or(newestFirst(a, b), cmp.Compare(a.id, b.id)) }
		slices.SortFunc(want, byID)
		slices.SortFunc(got, byID)
		if !slices.Equal(want, got) {
			t.Fatalf("sessions of %s: %v, want %v", subject, got, want)
		}
	}
	for _, a := range s.access[max(0, len(s.access)-20):] {
		_, err := s.m.Verify(a.token)
		if a.key != "" {
			if err == nil {
				t.Fatal("a bound access token is good without its key")
			}
			_, err = s.m.VerifyBound(a.token, a.key)
		}
		switch {
		case !s.now.Before(a.expires):
			wants(t, err, tokensession.ErrExpired)
		case a.session.revoked:
			wants(t, err, tokensession.ErrRevoked)
		case a.epoch < a.session.epoch:
			wants(t, err, tokensession.ErrOutdated)
		default:
			must(t, err)
		}
	}
}

// Sweep drops what has expired, of which the model knows too that it may be gone.
func (s *model) Sweep(t *rapid.T) {
	sweeper, ok := s.store.(tokensession.Sweeper)
	if !ok {
		t.Skip("the store has no need of it")
	}
	_, err := sweeper.Sweep(ctx, s.now, rapid.IntRange(1, 10).Draw(t, "limit"))
	must(t, err)
}

// play plays a random game.
func play(t *rapid.T, store tokensession.RefreshStore, subjects ...string) {
	s := newModel(t, store, subjects)
	t.Repeat(map[string]func(*rapid.T){
		"Start": s.Start, "Refresh": s.Refresh, "Refresh again": s.Refresh, "Refresh once more": s.Refresh,
		"Revoke": s.Revoke, "RevokeSubject": s.RevokeSubject, "Reauthorize": s.Reauthorize, "Reauthenticate": s.Reauthenticate, "Wait": s.Wait, "Sweep": s.Sweep, "": s.Check,
	})
}

func TestManager_isWhatTheModelSays(t *testing.T) {
	playOn(t, 5, time.Minute, func(t *rapid.T) {
		play(t, tokensession.NewMemoryStore(), "alice", "bob")
	})
}

// Games on SQLite share a file, as sessions do, and each has subjects of its own.
func TestManager_onSQLiteIsWhatTheModelSays(t *testing.T) {
	store := newSQLite(t)
	games := 0
	playOn(t, 1, 3*time.Second, func(t *rapid.T) {
		games++
		play(t, store, fmt.Sprintf("alice %d", games), fmt.Sprintf("bob %d", games))
	})
}

func newSQLite(t *testing.T) tokensession.RefreshStore {
	t.Helper()
	// What the end of the machine would lose does not matter here, and a game does some hundred
	// writes.
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "sessions.db")+"?_pragma=journal_mode(WAL)&_pragma=synchronous(OFF)")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	store, err := sqlstore.New(db, sqlstore.SQLite, sqlstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Migrate(ctx); err != nil {
		t.Fatal(err)
	}
	return store
}

// timeEnv is the environment variable that says for how long a test plays.
const timeEnv = "TOKENSESSION_STATE"

// playOn plays rapid's number of games, which its flag -rapid.checks sets, in each of some rounds,
// but not many seconds longer than limit; or, if timeEnv says how long, again and again until then.
func playOn(t *testing.T, rounds int, limit time.Duration, game func(*rapid.T)) {
	t.Helper()
	begin, games, lost := time.Now(), 0, false
	if text := os.Getenv(timeEnv); text != "" {
		var err error
		if limit, err = time.ParseDuration(text); err != nil || limit <= 0 {
			t.Fatalf("%s=%q: must be a duration", timeEnv, text)
		}
		t.Parallel()
	}
	endless := os.Getenv(timeEnv) != ""
	for n := 0; n < rounds || endless && time.Since(begin) < limit; n++ {
		rapid.Check(t, func(t *rapid.T) {
			if !lost && time.Since(begin) >= limit { // a game that was lost is played again to find a shorter one
				return
			}
			games++
			won := false
			defer func() { lost = lost || !won }()
			game(t)
			won = true
		})
	}
	t.Logf("%d games in %v", games, time.Since(begin).Round(time.Millisecond))
}

package manager_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
)

// The history that porcupine judges: 8 clients, spread over two managers on one store, use a few
// sessions at once, each session the only one of its subject. Time stands still, so that what a
// call may answer depends on the order of the calls alone.
//
// A call that was not told what came of it, because its replies were lost, may have had its effect
// or not, and may still have it later. So may a refresh that lost the reply to its write and found,
// when it looked, that the session had moved on: it decides anew, and what it answers then may be
// said of a session that its first attempt rotated. The history has such an attempt as a call of
// its own. And when a rotation was done without an answer, its manager may do it again.

const (
	linClients = 8
	linRounds  = 12 // sets of sessions, one after the other
	linSharing = 3  // sessions at once
	linCalls   = 12 // of each client in a round
)

type callKind string

const (
	callStart         callKind = "Start"
	callRefresh       callKind = "Refresh"
	callRevoke        callKind = "Revoke"
	callRevokeSubject callKind = "RevokeSubject"
	callVerifyLive    callKind = "VerifyLive"
	callSessions      callKind = "Sessions"
	callReauthorize   callKind = "Reauthorize"
)

// A call is what a client asks for.
type call struct {
	kind       callKind
	subject    string
	generation uint64 // Refresh: of the token
	epoch      uint64 // VerifyLive: of the access token
	tag        string // Start, Refresh: an attribute that only this call sets, so that a read tells which write it saw
}

// An answer is what came of a call.
type answer struct {
	verdict    string // "ok", "revoked", "reused", "outdated", "unknown"
	generation uint64 // Start, Refresh: of the token
	epoch      uint64 // Start, Refresh: of the access token
	tag        string // Start, Refresh, Sessions: of the session; empty: Sessions lists none
	sessions   int    // RevokeSubject, Reauthorize
}

// A sessionState is all that an answer may depend on.
type sessionState struct {
	started, revoked bool
	live, consumed   uint64
	epoch            uint64 // access tokens of earlier ones are outdated
	rotated          bool   // consumed means something
	unanswered       bool   // nobody was told of the live generation, or only by replay
	tag              string
}

func (s sessionState) usable() bool { return s.started && !s.revoked }

// An effect is what a call may do, and its answer then.
type effect struct {
	after sessionState
	answer
}

// effects is the decision table of a clock that stands still.
func (s sessionState) effects(c call, strict bool) []effect {
	after, got := s, answer{verdict: "ok"}
	switch c.kind {
	case callStart:
		after, got.tag = sessionState{started: true, tag: c.tag}, c.tag
	case callRefresh:
		return s.refresh(c, strict)
	case callRevoke:
		after.revoked = true
	case callRevokeSubject:
		if s.usable() {
			after.revoked, got.sessions = true, 1
		}
	case callReauthorize:
		if s.usable() {
			after.epoch, got.sessions = max(s.epoch+1, linEpoch), 1
		}
	case callVerifyLive:
		return s.verifyLive(c)
	case callSessions:
		if s.usable() {
			got.tag = s.tag
		}
	default:
		panic("no such call: " + c.kind)
	}
	return []effect{{after, got}}
}

// verifyLive: a manager that knows an access token to be outdated need not ask whether its session was
// revoked, too.
func (s sessionState) verifyLive(c call) []effect {
	var all []effect
	if c.epoch < s.epoch {
		all = append(all, effect{s, answer{verdict: "outdated"}})
	}
	switch {
	case s.revoked:
		all = append(all, effect{s, answer{verdict: "revoked"}})
	case len(all) == 0:
		all = append(all, effect{s, answer{verdict: "ok"}})
	}
	return all
}

func (s sessionState) refresh(c call, strict bool) []effect {
	if s.revoked {
		return []effect{{s, answer{verdict: "revoked"}}}
	}
	if c.generation == s.live {
		return []effect{s.rotate(c)}
	}
	var all []effect
	if s.rotated && c.generation == s.consumed {
		if !strict {
			all = append(all, effect{s, answer{verdict: "ok", generation: s.live, epoch: s.epoch, tag: s.tag}})
		}
		switch {
		case s.unanswered && strict: // done again later: the successor, which somebody may have, is displaced
			again := s
			again.live, again.unanswered, again.tag = s.live+1, false, c.tag
			all = append(all, effect{again, answer{verdict: "ok", generation: again.live, epoch: s.epoch, tag: c.tag}})
		case s.unanswered: // done again within the grace period, with the same successor
			again := s
			again.live = s.consumed
			all = append(all, again.rotate(c))
		}
		if !strict {
			return all
		}
	}
	s.revoked = true
	return append(all, effect{s, answer{verdict: "reused"}})
}

func (s sessionState) rotate(c call) effect {
	s.consumed, s.live, s.rotated, s.unanswered, s.tag = s.live, s.live+1, true, false, c.tag
	return effect{s, answer{verdict: "ok", generation: s.live, epoch: s.epoch, tag: s.tag}}
}

func model(strict bool) porcupine.Model {
	m := porcupine.NondeterministicModel{
		Partition: func(history []porcupine.Operation) [][]porcupine.Operation {
			bySubject := map[string][]porcupine.Operation{}
			for _, op := range history {
				subject := op.Input.(call).subject
				bySubject[subject] = append(bySubject[subject], op)
			}
			var parts [][]porcupine.Operation
			for _, part := range bySubject {
				parts = append(parts, part)
			}
			return parts
		},
		Init: func() []any { return []any{sessionState{}} },
		Step: func(state, input, output any) []any {
			before, told := state.(sessionState), output.(answer)
			var next []any
			if told.verdict == "unknown" {
				next = append(next, before)
			}
			for _, e := range before.effects(input.(call), strict) {
				switch told {
				case e.answer:
					next = append(next, e.after)
				case answer{verdict: "unknown"}:
					e.after.unanswered = e.after.unanswered || e.after.live != before.live || e.after.tag != before.tag
					next = append(next, e.after)
				}
			}
			return next
		},
		DescribeOperation: func(input, output any) string {
			return fmt.Sprintf("%+v → %+v", input, output)
		},
		DescribeState: func(state any) string { return fmt.Sprintf("%+v", state) },
	}
	return m.ToModel()
}

// A recorder notes calls with the order of their beginnings and ends.
type recorder struct {
	time atomic.Int64
	mu   sync.Mutex
	ops  []porcupine.Operation
}

func (r *recorder) do(client int, c call, run func(context.Context) answer) {
	lost := new(atomic.Bool)
	op := porcupine.Operation{ClientId: client, Input: c, Call: r.time.Add(1)}
	got := run(context.WithValue(context.Background(), lostKey{}, lost))
	op.Output, op.Return = got, r.time.Add(1)

	r.mu.Lock()
	defer r.mu.Unlock()
	unknown := op
	unknown.Output, unknown.Return = answer{verdict: "unknown"}, 1<<60
	if got.verdict == "unknown" {
		op = unknown
	} else if lost.Load() {
		r.ops = append(r.ops, unknown)
	}
	r.ops = append(r.ops, op)
}

// A lostKey is the key of a context's *atomic.Bool that is set when a write of the call may have
// been applied though the store did not say so.
type lostKey struct{}

// noting returns a store that notes which writes may have been applied though it did not say so. A
// conflict may be such a one: the driver sends a write again whose reply was lost, and others have
// changed the record meanwhile.
func noting(
	t *testing.T, store tokensession.RefreshStore, proxy *faultProxy,
) tokensession.RefreshStore {
	hooked := testkit.Hook(t, store)
	hooked.Always(testkit.Swap, func(r *testkit.Request) {
		before := proxy.losses()
		r.Pass()
		if err := r.Err(); err != nil && (proxy.losses() > before || !errors.Is(err, tokensession.ErrConflict)) {
			r.Context().Value(lostKey{}).(*atomic.Bool).Store(true)
		}
	})
	return hooked.Store()
}

func (r *recorder) unknown() (n int) {
	for _, op := range r.ops {
		if op.Output.(answer).verdict == "unknown" {
			n++
		}
	}
	return n
}

// A shared session is what the clients know of one.
type sharedSession struct {
	subject string

	mu      sync.Mutex
	id      string
	refresh []string // in the order in which they were seen
	access  []string
}

func (s *sharedSession) saw(tokens tokensession.Tokens) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.id = tokens.Session.ID
	s.access = append(s.access, tokens.AccessToken)
	if n := len(s.refresh); n == 0 || generation(s.refresh[n-1]) < generation(tokens.RefreshToken) {
		s.refresh = append(s.refresh, tokens.RefreshToken)
	}
}

// pick returns a refresh token, mostly the newest and seldom an old one, and an access token. They
// are empty as long as Start has not returned.
func (s *sharedSession) pick() (id, refresh, access string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := len(s.refresh)
	if n == 0 {
		return "", "", ""
	}
	back := 0
	switch dice := rand.IntN(100); {
	case dice < 3:
		back = rand.IntN(n)
	case dice < 25:
		back = min(1, n-1)
	}
	return s.id, s.refresh[n-1-back], s.access[rand.IntN(len(s.access))]
}

// A linClient makes calls and tells what came of them.
type linClient struct {
	t       *testing.T
	id      int
	manager *tokensession.Manager
	rec     *recorder
}

func (c *linClient) start(s *sharedSession, tag string) {
	c.rec.do(c.id, call{kind: callStart, subject: s.subject, tag: tag}, func(ctx context.Context) answer {
		tokens, err := c.manager.Start(ctx, s.subject, tokensession.WithAttributes(map[string]string{"tag": tag}))
		if err != nil {
			return c.verdict(err)
		}
		s.saw(tokens)
		return answer{verdict: "ok", generation: generation(tokens.RefreshToken), tag: tag}
	})
}

func (c *linClient) any(s *sharedSession, tag string) {
	id, refreshToken, accessToken := s.pick()
	in := call{subject: s.subject}
	switch dice := rand.IntN(100); {
	case dice < 20 || id == "":
		in.kind = callSessions
		c.rec.do(c.id, in, func(ctx context.Context) answer { return c.sessions(ctx, s.subject) })
	case dice < 35:
		in.kind, in.epoch = callVerifyLive, epochOf(c.t, accessToken)
		c.rec.do(c.id, in, func(ctx context.Context) answer {
			_, err := c.manager.VerifyLive(ctx, accessToken)
			return c.verdict(err)
		})
	case dice < 41:
		in.kind = callReauthorize
		c.rec.do(c.id, in, func(ctx context.Context) answer {
			n, err := c.manager.Reauthorize(ctx, s.subject)
			if err != nil {
				return c.verdict(err)
			}
			return answer{verdict: "ok", sessions: n}
		})
	case dice < 43:
		in.kind = callRevoke
		c.rec.do(c.id, in, func(ctx context.Context) answer { return c.verdict(c.manager.Revoke(ctx, id)) })
	case dice < 44:
		in.kind = callRevokeSubject
		c.rec.do(c.id, in, func(ctx context.Context) answer {
			n, err := c.manager.RevokeSubject(ctx, s.subject)
			if err != nil {
				return c.verdict(err)
			}
			return answer{verdict: "ok", sessions: n}
		})
	default:
		in.kind, in.generation, in.tag = callRefresh, generation(refreshToken), tag
		c.rec.do(c.id, in, func(ctx context.Context) answer { return c.refresh(ctx, s, refreshToken, tag) })
	}
}

func (c *linClient) refresh(ctx context.Context, s *sharedSession, token, tag string) answer {
	tokens, err := c.manager.Refresh(ctx, token, tokensession.WithAttributes(map[string]string{"tag": tag}))
	if err != nil {
		return c.verdict(err)
	}
	s.saw(tokens)
	return answer{
		verdict: "ok", generation: generation(tokens.RefreshToken),
		epoch: epochOf(c.t, tokens.AccessToken), tag: tokens.Session.Attributes["tag"],
	}
}

func (c *linClient) sessions(ctx context.Context, subject string) answer {
	list, err := c.manager.Sessions(ctx, subject)
	switch {
	case err != nil:
		return c.verdict(err)
	case len(list) == 0:
		return answer{verdict: "ok"}
	case len(list) > 1:
		c.t.Errorf("Sessions lists %d sessions of the subject, who has one", len(list))
	}
	return answer{verdict: "ok", tag: list[0].Attributes["tag"]}
}

func (c *linClient) verdict(err error) answer {
	switch {
	case err == nil:
		return answer{verdict: "ok"}
	case errors.Is(err, tokensession.ErrUnavailable):
		return answer{verdict: "unknown"}
	case errors.Is(err, tokensession.ErrReused):
		return answer{verdict: "reused"}
	case errors.Is(err, tokensession.ErrRevoked):
		return answer{verdict: "revoked"}
	case errors.Is(err, tokensession.ErrOutdated):
		return answer{verdict: "outdated"}
	}
	c.t.Errorf("no answer that the model has: %v", err)
	return answer{verdict: "unknown"}
}

// linNow is where the clock stands, and linEpoch is the first epoch of a session then.
var (
	linNow   = time.Now().Round(0)
	linEpoch = uint64(linNow.UnixMilli())
)

// epochOf reads an access token's epoch, whether the token is good or not.
func epochOf(t *testing.T, accessToken string) uint64 {
	var claims struct{ Epoch uint64 }
	payload, err := base64.RawURLEncoding.DecodeString(strings.Split(accessToken, ".")[1])
	if err == nil {
		err = json.Unmarshal(payload, &claims)
	}
	if err != nil {
		t.Errorf("an access token that cannot be read: %v", err)
	}
	return claims.Epoch
}

// record lets the clients loose on the managers.
func record(t *testing.T, managers []*tokensession.Manager) *recorder {
	rec := new(recorder)
	run := rand.Uint32()
	for round := range linRounds {
		var sessions []*sharedSession
		for i := range linSharing {
			sessions = append(sessions, &sharedSession{subject: fmt.Sprintf("%08x %d.%d", run, round, i)})
		}
		var clients sync.WaitGroup
		for id := range linClients {
			c := &linClient{t: t, id: id, manager: managers[id%len(managers)], rec: rec}
			clients.Go(func() {
				if id < len(sessions) {
					c.start(sessions[id], "start "+strconv.Itoa(round))
				}
				for n := range linCalls {
					c.any(sessions[rand.IntN(len(sessions))], fmt.Sprintf("%d.%d.%d", round, id, n))
				}
			})
		}
		clients.Wait()
	}
	return rec
}

// judge returns what porcupine says.
func judge(t *testing.T, rec *recorder, strict bool) porcupine.CheckResult {
	t.Helper()
	result := porcupine.CheckOperationsTimeout(model(strict), rec.ops, time.Minute)
	t.Logf("%d calls, %d of them with unknown effect: %s", len(rec.ops), rec.unknown(), result)
	return result
}

// offence returns the calls on the first session whose history is not linearizable.
func offence(rec *recorder, strict bool) string {
	var text strings.Builder
	m := model(strict)
	for _, part := range m.Partition(rec.ops) {
		if porcupine.CheckOperations(m, part) {
			continue
		}
		for _, op := range part {
			fmt.Fprintf(&text, "\nclient %d, %d to %d: %s", op.ClientId, op.Call, op.Return, m.DescribeOperation(op.Input, op.Output))
		}
		break
	}
	return text.String()
}

var linModes = []struct {
	name   string
	strict bool
	grace  time.Duration
}{{"grace", false, grace}, {"strict", true, tokensession.Strict}}

func TestLinearizable(t *testing.T) {
	eachBackend(t, func(t *testing.T, p place) {
		for _, mode := range linModes {
			t.Run(mode.name, func(t *testing.T) {
				proxy := newFaultProxy(t)
				stores := access{dial: proxy.dial}
				cfg := tokensession.Config{Now: testkit.NewClockAt(linNow).Now, GracePeriod: mode.grace}
				managers := []*tokensession.Manager{
					newManager(t, noting(t, p.open(t, stores), proxy), cfg), newManager(t, noting(t, p.open(t, stores), proxy), cfg),
				}

				stop := loseNowAndThen(proxy)
				rec := record(t, managers)
				stop()
				if got := judge(t, rec, mode.strict); got != porcupine.Ok {
					t.Errorf("porcupine: %s, want %s: %s", got, porcupine.Ok, offence(rec, mode.strict))
				}
			})
		}
	})
}

// loseNowAndThen loses one or a few replies every few milliseconds, until it is stopped.
func loseNowAndThen(proxy *faultProxy) (stop func()) {
	done, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(40 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-done:
				return
			case <-tick.C:
				proxy.lose(rand.IntN(20), 1+rand.IntN(2))
			}
		}
	}()
	return func() {
		close(done)
		<-ended
		proxy.lose(0, 0)
	}
}

// A blindStore writes without looking at the version, as a store does that has no compare-and-swap.
type blindStore struct{ tokensession.RefreshStore }

func (s blindStore) Swap(ctx context.Context, next tokensession.Record) error {
	for {
		stored, err := s.Load(ctx, next.ID)
		if err != nil {
			return err
		}
		next.Version, next.Replaces = stored.Version+1, stored.WriteID
		if err = s.RefreshStore.Swap(ctx, next); !errors.Is(err, tokensession.ErrConflict) || !stored.RevokedAt.IsZero() {
			return err
		}
	}
}

// TestLinearizable_findsBlindWrite shows that the test above would see it if a store took a write
// without comparing.
func TestLinearizable_findsBlindWrite(t *testing.T) {
	for _, mode := range linModes {
		t.Run(mode.name, func(t *testing.T) {
			eachBackend(t, func(t *testing.T, p place) {
				cfg := tokensession.Config{Now: testkit.NewClockAt(linNow).Now, GracePeriod: mode.grace}
				managers := []*tokensession.Manager{
					newManager(t, blindStore{p.open(t, access{})}, cfg), newManager(t, blindStore{p.open(t, access{})}, cfg),
				}
				for range 10 { // histories: in most of them, writes do overtake each other
					if judge(t, record(t, managers), mode.strict) == porcupine.Illegal {
						return
					}
				}
				t.Error("porcupine found no history in which a blind write did harm")
			})
		})
	}
}

// Package ringtest plays a server of three instances whose signing keys are in a ring, in fast
// motion.
package ringtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/testkit"
	"github.com/seed67bc9b7f/tokensession/keyring"
)

const (
	// Rounds and Rotations are how much is played, at least.
	Rounds    = 668
	Rotations = 20

	every  = 48 * time.Hour
	ahead  = time.Hour
	leeway = 5 * time.Minute

	// tick is how often an instance looks at the store; it misses some.
	tick = ahead / 10

	// cached is how long the service without a store keeps the JWKS.
	cached = ahead / 2

	longTTL = 24 * time.Hour
)

// Stores are what one instance has: the keys and the sessions.
type Stores struct {
	Keys     keyring.Store
	Sessions tokensession.RefreshStore
}

// FastMotion plays three instances, each with its own stores on the same data, until there were
// Rounds rounds and Rotations rotations. A round is a login or a refresh at one instance. Its
// token, and all tokens that have not expired, must be accepted by all instances and by a service
// that fetches the JWKS now and then.
//
// The clocks of the instances differ, some looks at the store are missed, and an instance may stop
// at any time and start again later. One of the instances makes tokens that are good for a day,
// which the others do not know.
func FastMotion(t testing.TB, stores [3]Stores) {
	t.Helper()
	seed := rand.Uint64()
	w := &world{t: t, rnd: rand.New(rand.NewPCG(seed, 0)),
		clock: testkit.NewClockAt(time.Now().UTC().Truncate(time.Microsecond)),
		kids:  map[string]bool{}, successor: map[string]string{}}
	for i, skew := range []time.Duration{0, leeway / 2, -leeway / 2} {
		ttl := 15 * time.Minute
		if i == 2 {
			ttl = longTTL
		}
		w.instances = append(w.instances,
			&instance{world: w, stores: stores[i], skew: skew, ttl: ttl})
	}
	var starting sync.WaitGroup
	for _, i := range w.instances {
		starting.Go(i.start)
	}
	starting.Wait()
	for w.rounds < Rounds || len(w.kids) <= Rotations {
		if t.Failed() {
			t.Fatalf("after %d rounds and %d rotations, seed %d", w.rounds, len(w.kids)-1, seed)
		}
		w.tick()
	}
	t.Logf("%d rounds, %d rotations, %d restarts, %d tokens verified %d times, 0 refused",
		w.rounds, len(w.kids)-1, w.restarts, w.made, w.verified)
}

type world struct {
	t     testing.TB
	rnd   *rand.Rand
	clock *testkit.Clock

	instances []*instance
	verifier  *tokensession.AccessVerifier // of the service without a store
	fetchedAt time.Time

	sessions  []tokensession.Tokens
	tokens    []token // those that may not have expired
	kids      map[string]bool
	successor map[string]string // of each key that was ever stored

	rounds, restarts, made, verified int
}

type token struct {
	access string
	made   time.Time
	ttl    time.Duration
}

type instance struct {
	*world
	stores Stores
	skew   time.Duration
	ttl    time.Duration

	ring    *keyring.Keyring
	manager *tokensession.Manager
	down    int // for how many ticks it does not run yet
}

func (i *instance) now() time.Time { return i.clock.Now().Add(i.skew) }

func access(now func() time.Time) tokensession.AccessConfig {
	return tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
		Leeway: leeway, CacheSize: 64, Now: now,
	}
}

func (i *instance) start() {
	var err error
	i.ring, err = keyring.Open(i.t.Context(), i.stores.Keys, keyring.Config{
		Secret: []byte("0123456789 a secret of these tests"), Access: access(i.now),
		Every: every, Ahead: ahead, OnError: i.failed,
	})
	if err == nil {
		i.manager, err = tokensession.New(i.ring.Signer(), i.stores.Sessions, tokensession.Config{
			AccessTTL: i.ttl, RefreshTTL: 300 * 24 * time.Hour, MaxLifetime: tokensession.Unlimited,
			Now: i.now,
		})
	}
	if err != nil {
		i.failed(err)
	}
}

func (i *instance) failed(err error) { i.t.Errorf("an instance: %v", err) }

// tick lets some time pass. All instances look at the store at the same moment.
func (w *world) tick() {
	w.clock.Advance(tick)
	var looking sync.WaitGroup
	for _, i := range w.instances {
		switch {
		case i.down > 1:
			i.down--
		case i.down == 1:
			i.down = 0
			w.restarts++
			looking.Go(i.start)
		case w.rnd.IntN(100) == 0:
			i.down = 1 + w.rnd.IntN(5)
		case w.rnd.IntN(3) > 0:
			looking.Go(func() {
				if err := i.ring.Update(w.t.Context()); err != nil {
					i.failed(err)
				}
			})
		}
	}
	looking.Wait()
	if w.t.Failed() {
		return
	}
	likely := 20
	if w.look() {
		likely = 2
	}
	if w.rnd.IntN(likely) == 0 {
		w.round()
	}
	w.fetch()
}

// look checks the keys in the store, and reports whether one begins to sign about now.
func (w *world) look() (rotating bool) {
	keys, err := w.instances[0].stores.Keys.Keys(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, k := range keys {
		if other, ok := w.successor[k.Predecessor]; ok && other != k.ID {
			w.t.Errorf("key %q has two successors", k.Predecessor)
		}
		w.successor[k.Predecessor] = k.ID
		rotating = rotating || w.clock.Now().Sub(k.SignFrom).Abs() < ahead
	}
	return rotating
}

// running returns one of the instances that run.
func (w *world) running() *instance {
	for {
		if i := w.instances[w.rnd.IntN(len(w.instances))]; i.down == 0 {
			return i
		}
		if w.instances[0].down+w.instances[1].down+w.instances[2].down > 0 {
			w.instances[0].bringUp()
		}
	}
}

func (i *instance) bringUp() {
	if i.down > 0 {
		i.down = 0
		i.restarts++
		i.start()
	}
}

// fetch has the service without a store fetch the JWKS when it has had it for long enough.
func (w *world) fetch() {
	if w.verifier != nil && w.clock.Now().Sub(w.fetchedAt) < cached {
		return
	}
	jwks := w.running().ring.Signer().JWKS()
	var err error
	if w.verifier == nil {
		w.verifier, err = tokensession.NewAccessVerifier(jwks, access(w.clock.Now))
	} else {
		err = w.verifier.SetKeys(jwks)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	w.fetchedAt = w.clock.Now()
}

func (w *world) round() {
	w.rounds++
	if w.verifier == nil {
		w.fetch()
	}
	i := w.running()
	var tokens tokensession.Tokens
	var err error
	if n := w.rnd.IntN(8); n < len(w.sessions) {
		tokens, err = i.manager.Refresh(context.Background(), w.sessions[n].RefreshToken)
		w.sessions[n] = tokens
	} else {
		tokens, err = i.manager.Start(context.Background(), fmt.Sprint("user ", w.rounds))
		w.sessions = append(w.sessions, tokens)
	}
	if err != nil {
		w.t.Errorf("round %d: refused: %v", w.rounds, err)
		return
	}
	w.made++
	w.kids[strings.SplitN(tokens.AccessToken, ".", 2)[0]] = true // the header names the key, and nothing else varies in it
	w.tokens = append(w.tokens, token{tokens.AccessToken, i.now(), i.ttl})
	w.verifyAll()
}

// verifyAll has everybody verify the tokens that are good.
func (w *world) verifyAll() {
	now := w.clock.Now()
	live := w.tokens[:0]
	for _, tok := range w.tokens {
		if !now.Before(tok.made.Add(tok.ttl - time.Second)) { // exp is in whole seconds
			continue
		}
		live = append(live, tok)
		w.accept("the service without a store", w.verifier.Verify, tok)
		for n, i := range w.instances {
			// A Manager accepts no token for longer than its own AccessTTL.
			if i.down == 0 && i.now().Before(tok.made.Add(min(tok.ttl, i.ttl)-time.Second)) {
				w.accept(fmt.Sprint("instance ", n), i.manager.Verify, tok)
			}
		}
	}
	w.tokens = live
}

func (w *world) accept(who string, verify func(string) (tokensession.Access, error), tok token) {
	w.verified++
	if _, err := verify(tok.access); err != nil {
		w.t.Errorf("round %d: %s refused a token made %v ago: %v", w.rounds, who,
			w.clock.Now().Sub(tok.made), err)
	}
}

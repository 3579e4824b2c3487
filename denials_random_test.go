//go:build !race

// The race detector of Go 1.26 crashes in these tests after some games, because their bubbles begin
// and end very many goroutines. So make test runs them once more without it.
//
// Their time.Sleep is by the bubble's clock: it lets the time of the game pass, and takes none.

package tokensession_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
)

// A lateFeed is a store in which a revocation becomes visible to the feed some time after its At,
// as when a write takes long to commit.
type lateFeed struct {
	*tokensession.MemoryStore
	mu      sync.Mutex
	visible map[string]time.Time // by session
}

func (l *lateFeed) Revocations(
	ctx context.Context, since time.Time, page func([]tokensession.Revocation) error,
) error {
	return l.MemoryStore.Revocations(ctx, since, func(all []tokensession.Revocation) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		var seen []tokensession.Revocation
		for _, r := range all {
			if !time.Now().Before(l.visible[r.SessionID]) {
				seen = append(seen, r)
			}
		}
		return page(seen)
	})
}

// Notified makes the other instances poll.
func (l *lateFeed) Notified(context.Context) error { return fmt.Errorf("no notifications") }

// A fleet is some instances on one store, whose clocks differ, behind a load balancer.
type fleet struct {
	t         *testing.T
	random    *rand.Rand
	signer    *tokensession.AccessSigner
	store     *lateFeed
	instances []*instance
}

type instance struct {
	*tokensession.Manager
	stop func()
}

const fleetLeeway = 30 * time.Second

func newFleet(t *testing.T, seed uint64) *fleet {
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	access := accessConfig
	access.Leeway = fleetLeeway
	signer, err := tokensession.NewAccessSigner(key, access)
	require.NoError(t, err)
	f := &fleet{
		t: t, random: rand.New(rand.NewPCG(seed, seed)), signer: signer,
		store: &lateFeed{MemoryStore: tokensession.NewMemoryStore(),
			visible: map[string]time.Time{}},
	}
	for range 3 {
		f.instances = append(f.instances, f.boot())
	}
	synctest.Wait()
	return f
}

// boot starts an instance whose clock is off by less than half of the leeway.
func (f *fleet) boot() *instance {
	off := time.Duration(f.random.Int64N(int64(fleetLeeway))) - fleetLeeway/2
	m := newManager(f.t, f.signer, f.store, tokensession.Config{
		Now: func() time.Time { return time.Now().Add(off) },
	})
	return &instance{m, runs(f.t, m)}
}

func (f *fleet) verifier() *tokensession.AccessVerifier {
	access := accessConfig
	access.Leeway = fleetLeeway
	v, err := tokensession.NewAccessVerifier(f.signer.JWKS(), access)
	require.NoError(f.t, err)
	return v
}

// Whatever happens between a follower and the instances that answer it: after each answer that has
// come through, it refuses all that the instance refuses that has answered, and nothing else.
func TestDenials_aFollowerKnowsWhatItsIssuersKnow(t *testing.T) {
	games, steps := 40, 150
	if testing.Short() {
		games = 5
	}
	var news, snapshots, lines int
	for seed := range uint64(games) {
		t.Run(fmt.Sprintf("seed=%d", seed), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := newFleet(t, seed)
				v := f.verifier()
				cursor := ""
				var all []tokensession.Tokens
				revoked := map[string]bool{}
				pick := func() *instance { return f.instances[f.random.IntN(len(f.instances))] }
				for range steps {
					switch n := f.random.IntN(100); {
					case n < 25:
						tokens, err := pick().Start(t.Context(), "alice")
						require.NoError(t, err)
						all = append(all, tokens)
					case n < 45 && len(all) > 0: // a revocation, some of which commit late
						id := all[f.random.IntN(len(all))].Session.ID
						f.store.mu.Lock()
						if f.random.IntN(3) == 0 && !revoked[id] {
							late := time.Duration(f.random.Int64N(int64(55 * time.Second)))
							f.store.visible[id] = time.Now().Add(late)
						}
						f.store.mu.Unlock()
						require.NoError(t, pick().Revoke(t.Context(), id))
						revoked[id] = true
					case n < 50: // an instance is started anew, or another one takes its place
						i := f.random.IntN(len(f.instances))
						f.instances[i].stop()
						f.instances[i] = f.boot()
						synctest.Wait()
					case n < 52: // the follower is started anew
						v, cursor = f.verifier(), ""
					case n < 60:
						time.Sleep(time.Duration(f.random.Int64N(int64(4 * time.Minute))))
					case n < 75:
						time.Sleep(time.Duration(f.random.Int64N(int64(3 * time.Second))))
					default:
						from := pick()
						asked, cancel := context.WithTimeout(t.Context(), time.Millisecond)
						d, err := from.Denials(asked, cursor)
						cancel()
						require.NoError(t, err)
						switch f.random.IntN(5) {
						case 0: // the answer was lost, and nobody knows that it ever was
							continue
						case 1: // it came, and the follower was killed before it had kept the cursor
							_, err = v.Deny(d)
							require.NoError(t, err)
							continue
						}
						if cursor, err = v.Deny(d); cursor == "" {
							require.Empty(t, err)
							continue
						}
						if d.Snapshot {
							// It may be a few seconds old. What is new since then is the next
							// answer.
							snapshots++
							asked, cancel := context.WithTimeout(t.Context(), time.Millisecond)
							d, err = from.Denials(asked, cursor)
							cancel()
							require.NoError(t, err)
							cursor, err = v.Deny(d)
							require.NoError(t, err)
						} else {
							news++
							lines += len(d.Entries) / 34
						}
						for _, tokens := range all {
							_, there := from.Verify(tokens.AccessToken)
							_, here := v.Verify(tokens.AccessToken)
							switch id := tokens.Session.ID; {
							case isRevoked(there):
								require.True(t, isRevoked(here) || isExpired(here),
									"%s is revoked at the issuer: %v", id, here)
							case here != nil && !revoked[id]:
								require.True(t, isExpired(here), "%s lives: %v", id, here)
							}
						}
					}
				}
				for _, each := range f.instances {
					each.stop()
				}
			})
		})
	}
	t.Logf("%d snapshots, %d times news, with %.1f entries", snapshots, news,
		float64(lines)/float64(max(news, 1)))
	require.Greater(t, news, 3*snapshots, "followers are given everything too often")
}

func isRevoked(err error) bool { return errors.Is(err, tokensession.ErrRevoked) }

func isExpired(err error) bool { return errors.Is(err, tokensession.ErrExpired) }

// An instance that cannot read the feed answers with what it knows. Its cursor must not say that
// this is all: another instance would not tell what this one has missed.
func TestDenials_ofAnInstanceThatCannotReadTheFeed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		signer, store := testSigner(t), tokensession.NewMemoryStore()
		var down atomic.Bool
		cut := newRunning(t, signer, scriptedFeed{store, func(
			ctx context.Context, since time.Time, page func(...tokensession.Revocation),
		) error {
			if down.Load() {
				return errors.New("the connection is broken")
			}
			return store.Revocations(ctx, since, func(all []tokensession.Revocation) error {
				page(all...)
				return nil
			})
		}})
		whole := newRunning(t, signer, store)
		v := newVerifier(t, signer, accessConfig)
		cursor, err := v.Deny(within(t, cut, time.Second, ""))
		require.NoError(t, err)
		down.Store(true)
		tokens, err := whole.Start(t.Context(), "alice")
		require.NoError(t, err)
		require.NoError(t, whole.Revoke(t.Context(), tokens.Session.ID))
		time.Sleep(5 * time.Minute)
		d := within(t, cut, time.Second, cursor)
		require.GreaterOrEqual(t, d.Age, 5*time.Minute)
		cursor, err = v.Deny(d)
		require.NoError(t, err)
		_, err = v.Verify(tokens.AccessToken)
		require.NoError(t, err, "nobody has told it")
		_, err = v.Deny(within(t, whole, time.Second, cursor))
		require.NoError(t, err)
		_, err = v.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked)
	})
}

// A revocation is committed late, after one instance has looked, and another instance is started
// only then. When that has heard of it nobody knows, and its At is more than a minute before the
// cursor's time.
func TestDenials_ofALateCommitThatAnInstanceFindsAtItsStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFleet(t, 1)
		for _, each := range f.instances {
			each.stop()
		}
		one := newRunning(t, f.signer, f.store)
		writer := newManager(t, f.signer, f.store, tokensession.Config{})
		v := f.verifier()
		tokens, err := writer.Start(t.Context(), "alice")
		require.NoError(t, err)
		time.Sleep(40 * time.Second)
		f.store.visible[tokens.Session.ID] = time.Now().Add(90 * time.Second)
		require.NoError(t, writer.Revoke(t.Context(), tokens.Session.ID))
		time.Sleep(85 * time.Second) // a full look each minute: the last one was 5 seconds ago
		cursor, err := v.Deny(within(t, one, time.Second, ""))
		require.NoError(t, err)
		time.Sleep(6 * time.Second)
		two := newRunning(t, f.signer, f.store)
		d := within(t, two, time.Second, cursor)
		require.False(t, d.Snapshot)
		_, err = v.Deny(d)
		require.NoError(t, err)
		_, err = v.Verify(tokens.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked)
	})
}

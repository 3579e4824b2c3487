package manager_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// A pairOfServers is a primary and an asynchronous replica that the sessions can fail over to.
type pairOfServers struct {
	place   place // on the primary
	replica string
	sync    func() // returns once the replica has all that was written
	cut     func() // the replica gets no more
	promote func() // the primary is lost, and the replica takes its place
}

func redisPair(t *testing.T) pairOfServers {
	primary := servers.StartRedis(t, servers.RedisOptions{AppendFsync: "always"})
	replica := primary.StartReplica()
	return pairOfServers{
		place:   place{Backend: redisSingle, Addrs: []string{primary.Addr}},
		replica: replica.Addr,
		sync:    func() { primary.AwaitReplicas(1) },
		cut:     replica.Partition,
		promote: func() { primary.Kill(); replica.Promote() },
	}
}

func postgresPair(t *testing.T) pairOfServers {
	primary := servers.StartPostgres(t, servers.PostgresOptions{})
	standby := primary.StartStandby(servers.PostgresOptions{})
	return pairOfServers{
		place:   migrated(t, place{Backend: postgres, DSN: primary.DSN}),
		replica: standby.Addr,
		sync: func() {
			sent := queryPostgres[string](t, primary.DSN, "SELECT pg_current_wal_lsn()::text")
			await(t, "the standby", func() bool {
				return queryPostgres[bool](t, standby.DSN, "SELECT pg_last_wal_replay_lsn() >= '"+sent+"'")
			})
		},
		cut: func() {
			execPostgres(t, standby.DSN, "ALTER SYSTEM SET primary_conninfo = 'host=127.0.0.1 port=1'")
			execPostgres(t, standby.DSN, "SELECT pg_reload_conf()")
			await(t, "the standby's receiver to end", func() bool {
				return queryPostgres[int](t, primary.DSN, "SELECT count(*) FROM pg_stat_replication") == 0
			})
		},
		promote: func() { primary.Kill(); standby.Promote() },
	}
}

func queryPostgres[T any](t *testing.T, dsn, statement string) (value T) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if err := conn.QueryRow(context.Background(), statement).Scan(&value); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
	return value
}

func execPostgres(t *testing.T, dsn, statement string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	if _, err := conn.Exec(context.Background(), statement); err != nil {
		t.Fatalf("%s: %v", statement, err)
	}
}

// TestStaleReplicaPromoted: a replica that missed the last writes takes the place of its primary.
// The clients' tokens, which are newer than its records, heal their sessions; old tokens are still
// caught; and a session that was revoked stays so for the managers that knew of it, though the
// replica has forgotten.
func TestStaleReplicaPromoted(t *testing.T) {
	for name, newPair := range map[string]func(*testing.T) pairOfServers{redisSingle: redisPair, postgres: postgresPair} {
		t.Run(name, func(t *testing.T) { testStaleReplica(t, newPair(t)) })
	}
}

func testStaleReplica(t *testing.T, pair pairOfServers) {
	proxy := newFaultProxy(t)
	happened, clock := new(events), newClock()
	m := newManager(t, pair.place.open(t, access{dial: proxy.dial}), tokensession.Config{Now: clock.Now, OnEvent: happened.Add})
	other := newManager(t, pair.place.open(t, access{dial: proxy.dial}), tokensession.Config{Now: clock.Now})
	follow(t, other)

	clients := newCrowd(t, m, crashClients)
	thief := refresh(t, m, start(t, m, "robbed").RefreshToken)
	victim := refresh(t, m, refresh(t, m, thief.RefreshToken).RefreshToken)
	loggedOut := start(t, m, "gone")
	pair.sync()
	pair.cut()

	// All this is lost.
	clients.work()
	clients.awaitProgress(5)
	victim = refresh(t, m, victim.RefreshToken)
	if err := m.RevokeToken(context.Background(), loggedOut.RefreshToken); err != nil {
		t.Fatal(err)
	}
	awaitRefused(t, other, loggedOut.AccessToken)
	clients.rest()
	reached := map[*client]uint64{}
	for _, one := range clients.clients {
		reached[one] = generation(one.token)
	}
	clock.Advance(pastGrace)
	pair.promote()
	proxy.move(pair.place.server(t), pair.replica)

	clients.allLive()
	for one, before := range reached {
		if got := generation(one.token); got != before+1 {
			t.Errorf("generation %d was healed to %d, want %d", before, got, before+1)
		}
	}
	if n := happened.Count(tokensession.EventHealed); n != crashClients {
		t.Errorf("%d sessions were healed, want %d", n, crashClients)
	}
	happened.none(t, tokensession.EventReused)
	clients.allLive()

	refresh(t, m, victim.RefreshToken) // heals
	clock.Advance(pastGrace)
	wantDead(t, m, thief.RefreshToken, tokensession.ErrReused)
	for _, one := range []*tokensession.Manager{other, m} {
		wantDead(t, one, loggedOut.RefreshToken, tokensession.ErrRevoked)
	}
	stranger := newManager(t, pair.place.open(t, access{dial: proxy.dial}), tokensession.Config{Now: clock.Now})
	wantDead(t, stranger, loggedOut.RefreshToken, tokensession.ErrRevoked) // because the others wrote it again
}

// TestSentinelPromotesReplica: the master is killed under load, and Sentinel promotes a replica, to
// which the client goes by itself. The tokens that the replica has never seen heal their sessions,
// and nobody is logged out.
func TestSentinelPromotesReplica(t *testing.T) {
	master := servers.StartRedis(t, servers.RedisOptions{AppendFsync: "everysec"})
	replica := master.StartReplica()
	sentinel := servers.StartSentinel(t, master, 1)
	client := redis.NewFailoverClient(&redis.FailoverOptions{
		MasterName: servers.SentinelMaster, SentinelAddrs: []string{sentinel.Addr}, ContextTimeoutEnabled: true,
	})
	t.Cleanup(func() { _ = client.Close() })
	store, err := redisstore.New(client, redisstore.Config{})
	if err != nil {
		t.Fatal(err)
	}
	happened, clock := new(events), newClock()
	m := newManager(t, store, tokensession.Config{Now: clock.Now, OnEvent: happened.Add})

	clients := newCrowd(t, m, crashClients)
	master.AwaitReplicas(1)
	clients.work()
	clients.awaitProgress(10)
	replica.Partition()
	clients.awaitProgress(5) // this is lost
	master.Kill()
	clients.awaitOutage()
	clock.Advance(pastGrace)
	clients.awaitProgress(10)
	clients.rest()
	clients.allLive()
	happened.none(t, tokensession.EventReused, tokensession.EventRevoked)
	if n := happened.Count(tokensession.EventHealed); n != crashClients {
		t.Errorf("%d sessions were healed, want %d", n, crashClients)
	}
	if err := store.Check(context.Background()); err != nil {
		t.Errorf("Check, of the promoted replica: %v", err)
	}
	done, failed := clients.totals()
	t.Logf("%d refreshes, %d calls without a verdict", done, failed)
}

// TestOldMasterFeedIsStale: an instance goes on with an old master, which hears of no revocation any
// more. It must not take that for good news: it says so, and when it meets the new master it reads
// what it has missed, at once.
func TestOldMasterFeedIsStale(t *testing.T) {
	master := servers.StartRedis(t, servers.RedisOptions{AppendFsync: "everysec"})
	replica := master.StartReplica()
	old := place{Backend: redisSingle, Addrs: []string{master.Addr}}
	proxy, happened, clock := newFaultProxy(t), new(events), newClock()
	behind := newManager(t, old.open(t, access{dial: proxy.dial}), tokensession.Config{
		Now: clock.Now, OnEvent: happened.Add, FeedInterval: 100 * time.Millisecond,
	})
	follow(t, behind)
	await(t, "the first look", func() bool { return happened.Count(tokensession.EventFeedFresh) == 1 })
	tokens := start(t, behind, "alice")

	master.FailOver(replica)
	ahead := newManager(t, place{Backend: redisSingle, Addrs: []string{replica.Addr}}.open(t, access{}),
		tokensession.Config{Now: clock.Now})
	if err := ahead.Revoke(t.Context(), tokens.Session.ID); err != nil {
		t.Fatal(err)
	}
	clock.Advance(40 * time.Second) // the next look at everything is due after a minute
	await(t, "the instance to say that it hears nothing", func() bool {
		return happened.Count(tokensession.EventFeedStale) == 1
	})
	if err := behind.Healthy(t.Context()); !errors.Is(err, tokensession.ErrUnavailable) {
		t.Errorf("Healthy: %v, want ErrUnavailable", err)
	}
	if _, err := behind.Verify(tokens.AccessToken); err != nil {
		t.Errorf("Verify, of what it cannot know: %v", err)
	}
	proxy.move(master.Addr, replica.Addr)
	awaitRefused(t, behind, tokens.AccessToken)
	await(t, "the instance to be well", func() bool { return behind.Healthy(t.Context()) == nil })
}

// follow keeps the manager's deny list in step until the test ends.
func follow(t *testing.T, m *tokensession.Manager) {
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = m.Run(ctx)
	}()
	t.Cleanup(func() { stop(); <-done })
}

// awaitRefused returns once the manager refuses the access token of a session that another one has
// revoked.
func awaitRefused(t *testing.T, m *tokensession.Manager, accessToken string) {
	t.Helper()
	await(t, "the revocation to arrive", func() bool {
		_, err := m.Verify(accessToken)
		return err != nil
	})
}

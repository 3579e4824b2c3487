//go:build unix

package remote_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore/pgxnotify"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// A store's servers can be killed and started again. They keep what they have acknowledged.
type storeServer interface {
	Kill()
	Start()
}

// onStores are the stores whose issuers are processes here.
var onStores = map[string]func(testing.TB) (job, storeServer){
	"postgres": func(tb testing.TB) (job, storeServer) {
		server := servers.StartPostgres(tb, servers.PostgresOptions{Durable: true})
		j := job{Postgres: server.DSN}
		store, closeStore, err := j.open()
		must(tb, err)
		defer closeStore()
		must(tb, store.(*pgxnotify.Store).Migrate(ctx))
		return j, server
	},
	"redis-cluster": func(tb testing.TB) (job, storeServer) {
		cluster := servers.StartRedisCluster(tb, servers.RedisOptions{AppendFsync: "always"})
		return job{Cluster: cluster.Addrs}, oneNode{cluster}
	},
}

// oneNode kills a node of a Cluster, which has a third of the sessions.
type oneNode struct{ *servers.RedisCluster }

func (c oneNode) Kill() { c.Nodes[1].Kill() }

func (c oneNode) Start() {
	c.Nodes[1].Start()
	c.AwaitOK()
}

// A scene is two issuers on one store, an nginx before them, and a service that follows them through
// it: four processes beside the store's servers.
type scene struct {
	tb      testing.TB
	issuers [2]*issuerProcess
	nginx   *servers.Nginx
	service serviceProcess

	// What the service has to say of the access tokens of before.
	verdicts map[string]tokensession.Tokens // by the verdict and a number
}

func newScene(tb testing.TB, j job) *scene {
	tb.Helper()
	s := &scene{tb: tb, verdicts: map[string]tokensession.Tokens{}}
	for i := range s.issuers {
		s.issuers[i] = startIssuer(tb, j)
	}
	s.nginx = servers.StartNginx(tb, s.issuers[0].Listen, s.issuers[1].Listen)
	s.service = startService(tb, s.nginx.URL)
	return s
}

func (s *scene) any() *issuerProcess { return s.issuers[rand.IntN(2)] }

func (s *scene) must(verdict string, tokens tokensession.Tokens) {
	s.tb.Helper()
	if got := s.service.says(tokens); got != verdict {
		s.tb.Fatalf("the service says %q, want %q", got, verdict)
	}
}

// becomes waits until the service says something of an access token, and keeps that it has to stay
// so.
func (s *scene) becomes(verdict string, tokens tokensession.Tokens) {
	s.tb.Helper()
	soon(s.tb, verdict, func() bool {
		got := s.service.says(tokens)
		if got != verdict && got != "accepted" {
			s.tb.Fatalf("the service says %q, want %q", got, verdict)
		}
		return got == verdict
	})
	s.verdicts[fmt.Sprint(verdict, " ", len(s.verdicts))] = tokens
}

// stays requires that the service says of all access tokens what it said before.
func (s *scene) stays() {
	s.tb.Helper()
	for what, tokens := range s.verdicts {
		var verdict string
		_, _ = fmt.Sscan(what, &verdict)
		s.must(verdict, tokens)
	}
}

// learns waits until a service that has just started says the same of all access tokens. The issuer
// that it asks may have to hear of the last revocation itself.
func (s *scene) learns() {
	s.tb.Helper()
	for what, tokens := range s.verdicts {
		soon(s.tb, what, func() bool { return strings.HasPrefix(what, s.service.says(tokens)) })
	}
	s.stays()
}

// revokes ends a session at one instance, and waits until the service refuses it. Another one goes on.
func (s *scene) revokes(at *issuerProcess) {
	s.tb.Helper()
	lives, ends := at.do("start", "alice"), at.do("start", "alice")
	s.must("accepted", lives)
	s.must("accepted", ends)
	at.do("revoke", ends.Session.ID)
	s.becomes("revoked", ends)
	s.must("accepted", lives)
}

// changes changes a user's rights at one instance, and waits until the service refuses the access
// token of before. Then the user refreshes at another instance, and is let in.
func (s *scene) changes(at, then *issuerProcess) {
	s.tb.Helper()
	subject := fmt.Sprintf("user %d", rand.Int64())
	before, other := at.do("start", subject), at.do("start", "bob")
	s.must("accepted", before)
	at.do("reauthorize", subject)
	s.becomes("outdated", before)
	after := then.do("refresh", before.RefreshToken)
	s.must("accepted", after)
	s.must("accepted", other)
	then.do("revoke", after.Session.ID)
	s.becomes("revoked", after)
	for what, tokens := range s.verdicts { // it was outdated, and is revoked now
		if tokens.AccessToken == before.AccessToken {
			delete(s.verdicts, what)
		}
	}
	s.becomes("revoked", before)
}

// Two issuers on PostgreSQL and on a Redis Cluster, each a process of its own, and a service in a
// third, which follows them through nginx. Issuers, the store and the service are killed and started
// again. Whatever happens, the service refuses what was revoked or outdated, and lets in all others.
func TestRemote_ofIssuersOnStores(t *testing.T) {
	for name, start := range onStores {
		t.Run(name, func(t *testing.T) {
			j, store := start(t)
			key, err := tokensession.GenerateKey()
			must(t, err)
			j.Key, err = key.MarshalPEM()
			must(t, err)
			s := newScene(t, j)
			one, two := s.issuers[0], s.issuers[1]

			for range 5 {
				s.revokes(s.any())
				s.changes(one, two)
				s.changes(two, one)
			}

			one.kill()
			s.revokes(two)
			s.changes(two, two)
			one.boot(t)
			two.kill()
			s.revokes(one)
			s.stays()
			two.boot(t)
			s.changes(one, two)

			// Nobody is there to be asked, and somebody at the store ends a session and changes another.
			ended, changed, lives := one.do("start", "carol"), one.do("start", "dave"), two.do("start", "erin")
			for _, tokens := range []tokensession.Tokens{ended, changed, lives} {
				s.must("accepted", tokens)
			}
			one.kill()
			two.kill()
			s.stays()
			m, closeStore, err := j.manager()
			must(t, err)
			must(t, m.Revoke(ctx, ended.Session.ID))
			_, err = m.Reauthorize(ctx, "dave")
			must(t, err)
			closeStore()
			s.must("accepted", ended) // it cannot know
			one.boot(t)
			two.boot(t)
			s.becomes("revoked", ended)
			s.becomes("outdated", changed)
			s.must("accepted", lives)

			store.Kill()
			s.stays()
			s.must("accepted", lives)
			store.Start()
			s.revokes(one)
			s.changes(two, one)

			s.service.kill()
			unseen := two.do("start", "alice")
			two.do("revoke", unseen.Session.ID)
			s.service = startService(t, s.nginx.URL)
			s.learns()
			s.becomes("revoked", unseen)
			s.must("accepted", lives)
			s.revokes(one)
		})
	}
}

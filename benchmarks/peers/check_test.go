package peers

import (
	"context"
	"testing"

	"github.com/alexedwards/scs/goredisstore"
	"github.com/alexedwards/scs/v2"
	"github.com/alexedwards/scs/v2/memstore"
	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// BenchmarkCheck does what each request needs: from what the client sent to the user, of a thousand
// sessions in turn. That is Verify, or for those that read the store each time: VerifyLive, and
// Load of a scs session with one value. The defaults of scs: a session ends after 24 hours, so that
// a request writes nothing.
func BenchmarkCheck(b *testing.B) {
	client := servers.StartRedis(b, servers.RedisOptions{}).Client(&redis.Options{PoolSize: 16})
	takeTurns(b, []rival{
		{"verify", checks(verified(tokensession.NewMemoryStore(), false))},
		{"live-memory", checks(verified(tokensession.NewMemoryStore(), true))},
		{"scs-memory", checks(scsLoaded(memstore.NewWithCleanupInterval(0)))},
		{"live-redis", checks(verified(must(redisstore.New(client, redisstore.Config{})), true))},
		{"scs-redis", checks(scsLoaded(goredisstore.New(client)))},
	})
}

const checkedSessions = 1000

func checks(tokens []string, check func(token string) string) func(worker, i int) {
	for _, token := range tokens {
		if check(token) != Subject {
			panic("another subject")
		}
	}
	return func(worker, i int) { check(tokens[(i+worker*checkedSessions/2)%checkedSessions]) }
}

func verified(store tokensession.RefreshStore, live bool) (tokens []string, check func(token string) string) {
	m := must(tokensession.New(signerOf(algorithm("EdDSA"), tokensession.AccessConfig{}), store, tokensession.Config{}))
	for range checkedSessions {
		tokens = append(tokens, must(m.Start(ctx, Subject)).AccessToken)
	}
	if live {
		return tokens, func(token string) string { return must(m.VerifyLive(ctx, token)).Subject }
	}
	return tokens, func(token string) string { return must(m.Verify(token)).Subject }
}

func scsLoaded(store scs.Store) (tokens []string, check func(token string) string) {
	sm := scs.New()
	sm.Store = store
	for range checkedSessions {
		session := must(sm.Load(ctx, ""))
		sm.Put(session, "user", Subject)
		token, _, err := sm.Commit(session)
		tokens = append(tokens, must(token, err))
	}
	return tokens, func(token string) string {
		var session context.Context = must(sm.Load(ctx, token))
		return sm.GetString(session, "user")
	}
}

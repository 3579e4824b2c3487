package proof_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/storetest"
)

func TestRedisStore_contract(t *testing.T) {
	redisKinds(t, func(t *testing.T, client redis.UniversalClient) {
		for name, keep := range map[string]time.Duration{"default": 0, "dropped at the end": time.Millisecond} {
			t.Run(name, func(t *testing.T) {
				storetest.Run(t, func(t *testing.T) tokensession.RefreshStore {
					store, _ := redisStore(t, client, redisstore.Config{KeepExpired: keep})
					return store
				})
			})
		}
		t.Run("several instances", func(t *testing.T) {
			storetest.RunShared(t, func(t *testing.T) []tokensession.RefreshStore {
				one, prefix := redisStore(t, client, redisstore.Config{})
				another, _ := redisStore(t, client, redisstore.Config{Prefix: prefix})
				return []tokensession.RefreshStore{one, another}
			})
		})
		storetest.RunExpiry(t, 2*time.Second, func(t *testing.T) tokensession.RefreshStore {
			store, _ := redisStore(t, client, redisstore.Config{KeepExpired: time.Millisecond})
			return store
		})
	})
}

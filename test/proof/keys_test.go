//go:build unix

package proof_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession/internal/ringtest"
	"github.com/seed67bc9b7f/tokensession/keyring"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/storetest"
)

// severalKeys are stores on the same keys, as several processes have them. Each call goes to the
// next one.
type severalKeys struct {
	stores []keyring.Store
	calls  *atomic.Uint64
}

func newSeveralKeys(stores ...keyring.Store) severalKeys {
	return severalKeys{stores, new(atomic.Uint64)}
}

func (s severalKeys) next() keyring.Store {
	return s.stores[s.calls.Add(1)%uint64(len(s.stores))]
}

func (s severalKeys) Keys(ctx context.Context) ([]keyring.SealedKey, error) {
	return s.next().Keys(ctx)
}

func (s severalKeys) AddKey(ctx context.Context, key keyring.SealedKey) error {
	return s.next().AddKey(ctx, key)
}

func (s severalKeys) DropKey(ctx context.Context, id string) error { return s.next().DropKey(ctx, id) }

// The contract, through every way a host may have written its DSN.
func TestSQLStore_keepsTheContractOfKeys(t *testing.T) {
	dsns := map[sqlstore.Dialect][]string{
		sqlstore.PostgreSQL: {
			"", "timezone=Asia/Tokyo&DateStyle=SQL,%20DMY",
			"default_query_exec_mode=simple_protocol&timezone=America/New_York",
			"default_query_exec_mode=exec&default_transaction_isolation=repeatable%20read",
			"default_query_exec_mode=cache_describe&default_transaction_isolation=serializable",
		},
		sqlstore.MySQL: {
			"", "parseTime=true&loc=Asia%2FTokyo",
			"parseTime=true&loc=America%2FNew_York&interpolateParams=true&time_zone=%27%2B09%3A00%27",
			"interpolateParams=true&clientFoundRows=true&charset=utf8&sql_mode=%27NO_BACKSLASH_ESCAPES%27",
			"sql_select_limit=1", "clientFoundRows=true&charset=latin1&sql_mode=%27ANSI_QUOTES%27&tx_isolation=%27SERIALIZABLE%27",
		},
		sqlstore.SQLite: {"", "_time_format=sqlite&_txlock=immediate"},
	}
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		for _, options := range dsns[server.dialect] {
			t.Run("DSN "+options, func(t *testing.T) {
				dsn := withDSNOptions(dsn, server.namesVariables(t, dsn, options))
				db, table := server.open(t, dsn), newSQLTable()
				store := newSeveralKeys(server.migrated(t, db, table), server.store(t, server.open(t, dsn), table))
				storetest.RunKeys(t, func(t *testing.T) keyring.Store {
					execSQL(t, db, "DELETE FROM "+table+"_keys")
					return store
				})
			})
		}
	})
}

func TestRedisStore_keepsTheContractOfKeys(t *testing.T) {
	redisKinds(t, func(t *testing.T, client redis.UniversalClient) {
		storetest.RunKeys(t, func(t *testing.T) keyring.Store {
			store, prefix := redisStore(t, client, redisstore.Config{})
			second, _ := redisStore(t, client, redisstore.Config{Prefix: prefix})
			return newSeveralKeys(store, second)
		})
	})
}

// Three instances, each with a pool of its own, through twenty rotations.
func TestKeyring_inFastMotion(t *testing.T) {
	onEachSQLServer(t, func(t *testing.T, server sqlServer, dsn string) {
		var stores [3]ringtest.Stores
		for i := range stores {
			store := server.migrated(t, server.open(t, dsn), "")
			stores[i] = ringtest.Stores{Keys: store, Sessions: store}
		}
		ringtest.FastMotion(t, stores)
	})
	redisKinds(t, func(t *testing.T, client redis.UniversalClient) {
		var stores [3]ringtest.Stores
		_, prefix := redisStore(t, client, redisstore.Config{})
		for i := range stores {
			store, _ := redisStore(t, client, redisstore.Config{Prefix: prefix})
			stores[i] = ringtest.Stores{Keys: store, Sessions: store}
		}
		ringtest.FastMotion(t, stores)
	})
}

// An account needs no more than the README names.
func TestSQLStore_keepsKeysWithTheRightsThatTheREADMENames(t *testing.T) {
	for _, server := range sqlServers[:2] {
		t.Run(server.dialect.String(), func(t *testing.T) {
			dsn := server.database(t)
			admin := server.open(t, dsn)
			server.migrated(t, admin, "")
			role := "app" + randomRole()
			account := role
			if server.dialect == sqlstore.MySQL {
				account = "'" + role + "'@'%'"
				execSQL(t, admin, "CREATE USER "+account)
			} else {
				execSQL(t, admin, "CREATE ROLE "+role+" LOGIN")
			}
			t.Cleanup(func() {
				for _, statement := range map[bool][]string{
					true:  {"DROP USER " + account},
					false: {"DROP OWNED BY " + role, "DROP ROLE " + role},
				}[server.dialect == sqlstore.MySQL] {
					_, _ = admin.ExecContext(context.Background(), statement)
				}
			})
			store := server.store(t, server.open(t, withUserOf(t, server, dsn, role)), "")
			_, err := store.Keys(t.Context())
			wantRemedy(t, "Keys without rights", err, `SELECT, INSERT, UPDATE and DELETE on table "token_sessions_keys"`)
			execSQL(t, admin, "GRANT SELECT, INSERT, UPDATE, DELETE ON token_sessions_keys TO "+account)
			storetest.RunKeys(t, func(t *testing.T) keyring.Store {
				execSQL(t, admin, "DELETE FROM token_sessions_keys")
				return store
			})
		})
	}
}

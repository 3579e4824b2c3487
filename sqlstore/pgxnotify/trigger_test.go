package pgxnotify_test

import (
	"database/sql"
	"strings"
	"testing"

	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/sqlstore/pgxnotify"
)

func TestStore_Schema_namesTheTable(t *testing.T) {
	for table, want := range map[string][]string{
		"":           {`UPDATE ON "token_sessions" FOR`, `FUNCTION "token_sessions_notify"()`},
		"User":       {`UPDATE ON "User" FOR`, `INSERT ON "User" FOR`, `FUNCTION "User_notify"()`},
		"app.logins": {`UPDATE ON "app"."logins" FOR`, `FUNCTION "app"."logins_notify"()`},
	} {
		store, err := pgxnotify.New(sql.OpenDB(nowhere{}), connect, sqlstore.Config{Table: table})
		if err != nil {
			t.Fatal(err)
		}
		schema := store.Schema()
		for _, part := range want {
			if !strings.Contains(schema, part) {
				t.Errorf("the schema of table %q does not have %s:\n%s", table, part, schema)
			}
		}
		if table != "" && strings.Contains(schema, `"token_sessions`) {
			t.Errorf("the schema of table %q names the default one:\n%s", table, schema)
		}
	}
}

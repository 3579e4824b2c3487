package movein

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/alexedwards/scs/v2"
	ginjwt "github.com/appleboy/gin-jwt/v3"
	"github.com/appleboy/gin-jwt/v3/core"
	"github.com/golang-jwt/jwt/v5"
	_ "modernc.org/sqlite"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
	"github.com/seed67bc9b7f/tokensession/sessiontest"
)

func newDB(t *testing.T) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", "file:"+filepath.Join(t.TempDir(), "app.db")+"?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)")
	check(t, err)
	t.Cleanup(func() { _ = db.Close() })
	_, err = db.ExecContext(t.Context(), Schema)
	check(t, err)
	return db
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// sessionsOf returns how many sessions a user has.
func sessionsOf(t *testing.T, m *tokensession.Manager, user string) int {
	t.Helper()
	all, err := m.Sessions(t.Context(), user)
	check(t, err)
	return len(all)
}

// An ownTable is what programs with golang-jwt write for themselves: refresh tokens in a table, of
// which each is exchanged for an access token.
type ownTable struct{ db *sql.DB }

func newOwnTable(t *testing.T, db *sql.DB) *ownTable {
	t.Helper()
	_, err := db.ExecContext(t.Context(), "CREATE TABLE refresh_tokens (hash BLOB PRIMARY KEY, user TEXT, login BIGINT, expires BIGINT)")
	check(t, err)
	return &ownTable{db}
}

// login is the program's old login.
func (o *ownTable) login(t *testing.T, user string, now time.Time) (access, refresh string) {
	t.Helper()
	access, err := jwt.NewWithClaims(jwt.SigningMethodHS256, jwt.MapClaims{
		"sub": user, "exp": now.Add(15 * time.Minute).Unix(),
	}).SignedString([]byte("the program's old secret, 32 bytes"))
	check(t, err)
	refresh = rand.Text()
	hash := sha256.Sum256([]byte(refresh))
	_, err = o.db.ExecContext(t.Context(), "INSERT INTO refresh_tokens VALUES (?, ?, ?, ?)",
		hash[:], user, now.Unix(), now.Add(30*24*time.Hour).Unix())
	check(t, err)
	return access, refresh
}

func (o *ownTable) old(now func() time.Time) func(context.Context, string) (string, time.Time, error) {
	return func(ctx context.Context, token string) (string, time.Time, error) {
		hash := sha256.Sum256([]byte(token))
		var user string
		var login, expires int64
		err := o.db.QueryRowContext(ctx, "SELECT user, login, expires FROM refresh_tokens WHERE hash = ?", hash[:]).
			Scan(&user, &login, &expires)
		switch {
		case errors.Is(err, sql.ErrNoRows), err == nil && now().Unix() >= expires:
			return "", time.Time{}, tokensession.ErrInvalidToken
		case err != nil:
			return "", time.Time{}, unavailable(err)
		}
		return user, time.Unix(login, 0), nil
	}
}

func TestMove_fromATableOfOnesOwn(t *testing.T) {
	db, world := newDB(t), sessiontest.New(t, tokensession.Config{})
	table := newOwnTable(t, db)
	mover := &Mover{DB: db, Sessions: world.Manager, Old: table.old(world.Clock.Now)}
	loggedIn := world.Clock.Now()
	_, old := table.login(t, "alice", loggedIn)
	world.Clock.Advance(10 * 24 * time.Hour)

	tokens, err := mover.Move(t.Context(), old)
	check(t, err)
	access, err := world.Manager.Verify(tokens.AccessToken)
	check(t, err)
	if access.Subject != "alice" || !access.AuthTime.Equal(loggedIn.Truncate(time.Second)) {
		t.Errorf("%s, who logged in at %v, want alice at %v", access.Subject, access.AuthTime, loggedIn)
	}
	next := world.Refresh(tokens)
	world.Clock.Advance(time.Hour)
	world.Refresh(next)
	if n := sessionsOf(t, world.Manager, "alice"); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
	if _, err := mover.Move(t.Context(), "never given out"); !errors.Is(err, tokensession.ErrInvalidToken) {
		t.Errorf("a token that nobody was given: %v", err)
	}
}

// The answer is lost, and the client tries again. Two tabs do so at once.
func TestMove_aLostReplyBeginsNoSecondSession(t *testing.T) {
	db, world := newDB(t), sessiontest.New(t, tokensession.Config{})
	table := newOwnTable(t, db)
	mover := &Mover{DB: db, Sessions: world.Manager, Old: table.old(world.Clock.Now)}
	_, old := table.login(t, "alice", world.Clock.Now())

	var all sync.WaitGroup
	answers := make([]string, 20)
	for i := range answers {
		all.Go(func() {
			for {
				tokens, err := mover.Move(t.Context(), old)
				if errors.Is(err, tokensession.ErrUnavailable) {
					continue // as the client does, a second later
				}
				if err != nil {
					t.Error(err)
				}
				answers[i] = tokens.RefreshToken
				return
			}
		})
	}
	all.Wait()
	for _, a := range answers {
		if a != answers[0] {
			t.Error("two answers for one old token")
		}
	}
	if n := sessionsOf(t, world.Manager, "alice"); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}

	var stored []byte
	check(t, db.QueryRowContext(t.Context(), "SELECT reply FROM moved_tokens").Scan(&stored))
	if _, err := open("another token", stored); err == nil {
		t.Error("the answer can be opened without the old token")
	}
}

// A thief who has the old token is found out as with any other token.
func TestMove_aThiefOfTheOldTokenIsFoundOut(t *testing.T) {
	db, world := newDB(t), sessiontest.New(t, tokensession.Config{})
	table := newOwnTable(t, db)
	mover := &Mover{DB: db, Sessions: world.Manager, Old: table.old(world.Clock.Now)}
	_, old := table.login(t, "alice", world.Clock.Now())

	owner, err := mover.Move(t.Context(), old)
	check(t, err)
	world.Refresh(world.Refresh(owner))
	world.Clock.Advance(2 * time.Hour)
	stolen, err := mover.Move(t.Context(), old)
	check(t, err)
	if _, err := world.Manager.Refresh(t.Context(), stolen.RefreshToken); !errors.Is(err, tokensession.ErrReused) {
		t.Errorf("the thief's refresh: %v", err)
	}
	world.LoggedOut("alice")
}

// A claim that was not followed by a reply, because the process died, is over after a while.
func TestMove_goesOnAfterAProcessDied(t *testing.T) {
	db, world := newDB(t), sessiontest.New(t, tokensession.Config{})
	table := newOwnTable(t, db)
	mover := &Mover{DB: db, Sessions: world.Manager, Old: table.old(world.Clock.Now)}
	_, old := table.login(t, "alice", world.Clock.Now())
	hash := sha256.Sum256([]byte(old))
	check(t, mover.claim(t.Context(), hash[:]))

	if _, err := mover.Move(t.Context(), old); !errors.Is(err, tokensession.ErrUnavailable) {
		t.Errorf("while another request has the claim: %v", err)
	}
	world.Clock.Advance(claim + time.Second)
	_, err := mover.Move(t.Context(), old)
	check(t, err)
}

func TestMove_fromGinJWT(t *testing.T) {
	db, world := newDB(t), sessiontest.New(t, tokensession.Config{})
	gin, err := ginjwt.New(&ginjwt.GinJWTMiddleware{
		Realm: "app", Key: []byte("the program's old secret, 32 bytes"), RefreshTokenTimeout: 30 * 24 * time.Hour,
	})
	check(t, err)
	pair, err := gin.TokenGenerator(t.Context(), "alice")
	check(t, err)

	mover := &Mover{DB: db, Sessions: world.Manager, Old: func(ctx context.Context, token string) (string, time.Time, error) {
		user, err := gin.RefreshTokenStore.Get(ctx, token)
		switch {
		case errors.Is(err, core.ErrRefreshTokenNotFound), errors.Is(err, core.ErrRefreshTokenExpired):
			return "", time.Time{}, tokensession.ErrInvalidToken
		case err != nil:
			return "", time.Time{}, unavailable(err)
		}
		// It does not keep when the user logged in. The time of the move is later than that, so for
		// what asks for a recent login, log in again.
		return user.(string), world.Manager.Now(), nil
	}}
	first, err := mover.Move(t.Context(), pair.RefreshToken)
	check(t, err)
	again, err := mover.Move(t.Context(), pair.RefreshToken)
	check(t, err)
	if again.RefreshToken != first.RefreshToken {
		t.Error("another answer the second time")
	}
	world.Refresh(again)
	if n := sessionsOf(t, world.Manager, "alice"); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
	if _, err := mover.Move(t.Context(), "never given out"); !errors.Is(err, tokensession.ErrInvalidToken) {
		t.Errorf("a token that nobody was given: %v", err)
	}
}

// An oldSite has users with a cookie of scs, and pages that take either.
func oldSite(t *testing.T, world *sessiontest.World) http.Handler {
	t.Helper()
	old := scs.New()
	old.Cookie.Secure = true
	h, err := sessionhttp.New(world.Manager, sessionhttp.Config{Cookies: true})
	check(t, err)
	mux := http.NewServeMux()
	h.Mount(mux)
	moveIn := FromSCS(old, "user", world.Manager, h)
	mux.Handle("GET /me", moveIn(h.Require()(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		access, _ := sessionhttp.FromContext(r.Context())
		fmt.Fprint(w, access.Subject)
	}))))
	mux.Handle("POST /old-login", old.LoadAndSave(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		old.Put(r.Context(), "user", r.FormValue("user"))
	})))
	return mux
}

func TestFromSCS_movesUsersIn(t *testing.T) {
	world := sessiontest.New(t, tokensession.Config{})
	browser := world.Browser(oldSite(t, world))
	if answer := browser.Get("/me"); answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("without any session: %s", answer.Status)
	}
	browser.Post("/old-login", url.Values{"user": {"alice"}})
	for range 3 {
		if answer := browser.Get("/me"); answer.StatusCode != http.StatusOK {
			t.Errorf("with the old session: %s", answer.Status)
		}
	}
	if n := sessionsOf(t, world.Manager, "alice"); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
}

// The answer with the new cookies is lost.
func TestFromSCS_aLostReplyBeginsNoSecondSession(t *testing.T) {
	world := sessiontest.New(t, tokensession.Config{})
	site := oldSite(t, world)
	browser := world.Browser(site)
	browser.Post("/old-login", url.Values{"user": {"alice"}})
	lost := world.Stolen(browser) // has the cookies from before the answer
	browser.Get("/me")
	if answer := lost.Get("/me"); answer.StatusCode != http.StatusOK {
		t.Errorf("with the old session, again: %s", answer.Status)
	}
	if n := sessionsOf(t, world.Manager, "alice"); n != 1 {
		t.Errorf("%d sessions, want 1", n)
	}
}

// Somebody who has the old cookie does not come in again by it after a change of password.
func TestFromSCS_theOldSessionEndsWithTheNewOne(t *testing.T) {
	world := sessiontest.New(t, tokensession.Config{})
	browser := world.Browser(oldSite(t, world))
	browser.Post("/old-login", url.Values{"user": {"alice"}})
	old := world.Stolen(browser)
	browser.Get("/me")
	_, err := world.Manager.RevokeSubject(t.Context(), "alice")
	check(t, err)
	for range 2 {
		if answer := old.Get("/me"); answer.StatusCode != http.StatusUnauthorized {
			t.Errorf("with the old cookie: %s", answer.Status)
		}
	}
	world.LoggedOut("alice")
}

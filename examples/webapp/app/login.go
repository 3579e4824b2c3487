package app

import (
	"crypto/pbkdf2"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A user of the demo. A host keeps a salt and a hash for each of its own, and shows nobody's
// password.
type user struct{ Name, Password string }

var users = []user{{"alice", "correct horse battery"}, {"bob", "staple my stapler"}}

const maxPassword = 128 // in bytes

// A checker knows the users' passwords by their hashes.
type checker struct {
	rounds int
	hashes func() map[string][]byte // by user name
}

func newChecker(rounds int) checker {
	c := checker{rounds: rounds}
	c.hashes = sync.OnceValue(func() map[string][]byte {
		hashes := map[string][]byte{}
		for _, u := range users {
			hashes[u.Name] = c.hash(u.Name, u.Password)
		}
		return hashes
	})
	return c
}

// hash takes the name for a salt, for these hashes are never stored. Stored ones have random salts.
func (c checker) hash(name, password string) []byte {
	key, err := pbkdf2.Key(sha256.New, password, []byte("tokensession webapp "+name), c.rounds,
		sha256.Size)
	if err != nil {
		panic(err) // only for a key that is too long
	}
	return key
}

// right takes as long for a name that nobody has.
func (c checker) right(name, password string) bool {
	return subtle.ConstantTimeCompare(c.hash(name, password), c.hashes()[name]) == 1
}

// login checks a password, and from there on tokensession does the rest.
func (a *App) login(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	name, password := r.PostFormValue("name"), r.PostFormValue("password")
	if name == "" || len(name) > maxPassword || password == "" || len(password) > maxPassword {
		refuse(w, http.StatusBadRequest, "Give a name and a password.")
		return
	}
	if !a.checked(w, r, name, http.StatusUnauthorized) {
		return
	}
	opts := []tokensession.StartOption{tokensession.WithAuthMethods("pwd")}
	if r.PostFormValue("forget") != "" { // the cookies go when the browser ends
		opts = append(opts, tokensession.Transient())
	}
	if _, err := a.maker(r).Login(w, r, name, opts...); err != nil {
		a.onError(r, err)
		refuse(w, sessionhttp.Status(err), "The login did not work. Try again.")
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

// checked reports whether a request has the user's password, and otherwise answers it, with the
// status if the password is wrong.
func (a *App) checked(w http.ResponseWriter, r *http.Request, name string, wrong int) bool {
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	password := r.PostFormValue("password")
	if password == "" || len(password) > maxPassword {
		refuse(w, http.StatusBadRequest, "Give a password.")
		return false
	}
	// The limit comes first: it is also what protects the server from hashing all day for somebody
	// who guesses.
	ip := remoteIP(r)
	if wait := a.logins.wait(ip, name, time.Now()); wait > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(wait/time.Second)+1))
		refuse(w, http.StatusTooManyRequests,
			"Those were too many attempts. Try again in a minute.")
		return false
	}
	if !a.passwords.right(name, password) {
		refuse(w, wrong, "The name or the password is wrong.")
		return false
	}
	a.logins.forget(ip, name)
	return true
}

const (
	maxAttempts = 5  // a minute for one name from one address
	maxFailures = 50 // a minute from one address, whatever the names
	maxKeys     = 100_000
)

// A limiter counts attempts in the current minute, by address and by address and name. One address
// alone cannot fill it. A host counts an IPv6 network of 64 bits as one address: whoever has one
// has all of it.
type limiter struct {
	mu       sync.Mutex
	until    time.Time
	attempts map[string]int
}

// wait counts an attempt, and returns how long it has to wait if there have been too many.
func (l *limiter) wait(ip, name string, now time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !now.Before(l.until) {
		l.until, l.attempts = now.Add(time.Minute), map[string]int{}
	}
	key := ip + " " + name
	if l.attempts[key] >= maxAttempts || l.attempts[ip] >= maxFailures || len(l.attempts) >= maxKeys {
		return l.until.Sub(now)
	}
	l.attempts[key]++
	l.attempts[ip]++
	return 0
}

// forget takes back what wait has counted for a good login: all of the name's, and of the address's
// this one.
func (l *limiter) forget(ip, name string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.attempts, ip+" "+name)
	if l.attempts[ip]--; l.attempts[ip] <= 0 {
		delete(l.attempts, ip)
	}
}

// Package app is what the two webapps share, and all but the store: a host of tokensession in
// small. It shows what is a host's to do: users and passwords, a limit on logins, headers, and
// which routes need a session.
package app

import (
	"cmp"
	"crypto/rand"
	"embed"
	"encoding/json"
	"fmt"
	"html/template"
	"log"
	"net"
	"net/http"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

//go:embed page
var page embed.FS

var index = template.Must(template.ParseFS(page, "page/index.html"))

// An App is the application's handler. Make it with [New].
type App struct {
	http.Handler

	options   Options
	secure    bool
	sessions  *tokensession.Manager
	auth      *sessionhttp.Handlers
	fast      *sessionhttp.Handlers // for browsers that watch in fast motion
	support   *sessionhttp.Handlers // for who acts as another user, beside their own session
	rights    rights
	logins    limiter
	passwords checker
	log       eventLog
	live      hub // the connections that stay open
	thief     *thief
}

// A Signer makes what signs the application's access tokens.
type Signer func(tokensession.AccessConfig) (*tokensession.AccessSigner, error)

// WithKey signs with a key that is gone when the process ends, as its sessions are in a
// MemoryStore.
func WithKey(key tokensession.Key) Signer {
	return func(cfg tokensession.AccessConfig) (*tokensession.AccessSigner, error) {
		return tokensession.NewAccessSigner(key, cfg)
	}
}

// New returns the application with its sessions in a store.
func New(o Options, sign Signer, store tokensession.RefreshStore) (*App, error) {
	if o.HashRounds < 1 {
		return nil, fmt.Errorf("HashRounds %d: cannot be less than 1", o.HashRounds)
	}
	o.ProofAge = cmp.Or(o.ProofAge, time.Minute)
	if o.ProofKey == nil { // a process that is alone, and whose sessions end with it
		o.ProofKey = make([]byte, 32)
		_, _ = rand.Read(o.ProofKey)
	}
	a := &App{
		options: o, secure: o.CertFile != "", passwords: newChecker(o.HashRounds),
		thief: newThief(),
	}
	// What access tokens say of who made them and whom they are for. Other services would verify
	// them with the keys at /auth/jwks.json and these two names.
	signer, err := sign(tokensession.AccessConfig{
		Issuer: "https://webapp.example", Audience: []string{"https://webapp.example/api"},
	})
	if err != nil {
		return nil, err
	}
	a.sessions, a.auth, err = a.makers(o.Pace, signer, store)
	if err != nil {
		return nil, err
	}
	_, a.fast, err = a.makers(fast, signer, store)
	if err != nil {
		return nil, err
	}
	a.support, err = sessionhttp.New(a.sessions, sessionhttp.Config{
		Prefix: "/support", CookieSuffix: "support",
		Cookies: true, InsecureCookies: !a.secure, Attributes: device, OnError: a.onError,
	})
	if err != nil {
		return nil, err
	}
	a.Handler = a.headers(a.routes())
	return a, nil
}

func (a *App) routes() http.Handler {
	auth := http.NewServeMux()
	a.auth.Mount(auth)

	mux := http.NewServeMux()
	mux.Handle("/auth/", auth) // without the thief and the fast motion, this and the next two are a.auth.Mount(mux)
	mux.Handle("/auth/token", a.thief.watch(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.refresher(r).Token(w, r)
	})))
	mux.Handle("/auth/resume", a.thief.watch(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		a.refresher(r).ResumeEndpoint(w, r)
	})))
	mux.HandleFunc("POST /login", a.login)
	mux.Handle("POST /api/echo", a.auth.Require()(http.HandlerFunc(a.echo)))

	open := a.auth.Require(sessionhttp.UntilSessionEnds())
	mux.Handle("GET /api/stream", open(http.HandlerFunc(a.stream)))
	mux.Handle("GET /api/socket", open(http.HandlerFunc(a.socket)))

	mux.Handle("GET /api/me", a.auth.Require()(http.HandlerFunc(me)))
	recent := a.auth.Require(sessionhttp.MaxAuthAge(a.options.ProofAge))
	mux.Handle("POST /api/email", recent(http.HandlerFunc(a.changeEmail)))
	mux.HandleFunc("POST /auth/step-up", a.stepUp) // below the prefix, so that the refresh cookie comes along

	mux.Handle("POST /demo/admins/{name}", a.auth.Require()(http.HandlerFunc(a.changeRights)))
	mux.Handle("POST /demo/act/{name}", a.auth.Require()(http.HandlerFunc(a.actAs)))
	mux.Handle("GET /support/me", a.support.Require()(http.HandlerFunc(me)))
	a.support.Mount(mux)

	mux.Handle("POST /demo/phone", a.auth.Require()(http.HandlerFunc(a.addPhone)))
	mux.Handle("POST /demo/replay", a.auth.Require()(http.HandlerFunc(a.replay)))
	mux.Handle("POST /auth/steal", a.auth.Require()(http.HandlerFunc(a.steal))) // below the prefix, too
	mux.Handle("GET /demo/bound", a.auth.Require()(http.HandlerFunc(a.isBound)))
	mux.HandleFunc("GET /demo/events", a.events)

	mux.HandleFunc("GET /{$}", a.index)
	pages := a.auth.Require(sessionhttp.Resume(), sessionhttp.Optional())
	mux.Handle("GET /profile", pages(http.HandlerFunc(a.profile)))
	for _, name := range []string{"app.js", "style.css", "icon.svg"} {
		mux.Handle("GET /page/"+name, http.FileServerFS(page))
	}
	return mux
}

// headers are what a page needs that shows nobody else's content. The session's script is content
// with them.
func (a *App) headers(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "+
			"form-action 'none'; base-uri 'none'; frame-ancestors 'none'; "+
			"require-trusted-types-for 'script'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-cache")
		// A real site adds Strict-Transport-Security. On localhost that would concern whatever else
		// runs there.
		next.ServeHTTP(w, r)
	})
}

func (a *App) index(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	pace := a.options.Pace
	short, changed := a.setPace(w, r)
	if short {
		pace = fast
	}
	access, refresh := cmp.Or(pace.Access, 15*time.Minute), cmp.Or(pace.Refresh, 7*24*time.Hour)
	_ = index.Execute(w, struct {
		Users                         []user
		AccessSeconds, RefreshSeconds float64
		Access, ProofAge, Unbound     string
		Short, Changed, Choice        bool
	}{
		users, access.Seconds(), refresh.Seconds(),
		inWords(access), inWords(a.options.ProofAge), a.unbound(pace),
		short, changed, a.options.Pace != fast,
	})
}

func inWords(d time.Duration) string {
	if d == time.Minute {
		return "a minute"
	}
	if d%time.Minute == 0 {
		return fmt.Sprintf("%d minutes", d/time.Minute)
	}
	if d == time.Second {
		return "a second"
	}
	return fmt.Sprintf("%.0f seconds", d.Seconds())
}

// onError is where a host logs why a request was refused or failed. A 401 is how the page learns
// that it has to refresh.
func (a *App) onError(r *http.Request, err error) {
	if status := sessionhttp.Status(err); status >= 500 {
		log.Printf("%s %s: %d: %v", r.Method, r.URL.Path, status, err)
	}
}

func answer(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// refuse answers what went wrong in words that the page shows.
func refuse(w http.ResponseWriter, status int, problem string) {
	answer(w, status, struct {
		Problem string `json:"problem"`
	}{problem})
}

// unavailable answers an error of a Manager.
func (a *App) unavailable(w http.ResponseWriter, r *http.Request, err error) {
	a.onError(r, err)
	w.Header().Set("Retry-After", "1")
	refuse(w, sessionhttp.Status(err), "The server cannot do this now. Try again.")
}

// remoteIP is who sends a request. Behind a proxy, it is in a header that this proxy sets, and only
// there.
func remoteIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

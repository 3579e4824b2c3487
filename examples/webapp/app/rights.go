package app

import (
	"context"
	"net/http"
	"sync"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// rights are who is an administrator. A host has that in its database.
type rights struct {
	mu     sync.Mutex
	admins map[string]bool
}

// authorize is asked at each login and each refresh. What it says is in the access token.
func (r *rights) authorize(_ context.Context, s tokensession.Session) (tokensession.Grant, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.admins[s.Subject] {
		return tokensession.Grant{Scope: "notes admin"}, nil
	}
	return tokensession.Grant{Scope: "notes"}, nil
}

// turn makes somebody an administrator, or takes that away.
func (r *rights) turn(name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.admins == nil {
		r.admins = map[string]bool{}
	}
	r.admins[name] = !r.admins[name]
}

// me tells the user what their access token says.
func me(w http.ResponseWriter, r *http.Request) {
	access, _ := sessionhttp.FromContext(r.Context())
	answer(w, http.StatusOK, struct {
		Subject     string    `json:"subject"`
		Actor       string    `json:"actor,omitempty"`
		Scope       string    `json:"scope"`
		AuthTime    time.Time `json:"auth_time"`
		AuthMethods []string  `json:"auth_methods"`
	}{access.Subject, access.Actor, access.Scope, access.AuthTime, access.AuthMethods})
}

// changeRights makes a user an administrator, or takes that away. It has effect at once: the user's
// next call is answered with 401, its browser refreshes, and nobody is logged out. In the demo,
// everybody who is logged in may do that.
func (a *App) changeRights(w http.ResponseWriter, r *http.Request) {
	name := r.PathValue("name")
	if !isUser(name) {
		refuse(w, http.StatusNotFound, "There is no such user.")
		return
	}
	a.rights.turn(name) // first the rights
	if _, err := a.sessions.Reauthorize(r.Context(), name); err != nil {
		a.unavailable(w, r, err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

// changeEmail is behind a middleware that wants a recent password. The page hears of it by the
// event stepup, and asks for one.
func (a *App) changeEmail(w http.ResponseWriter, _ *http.Request) {
	answer(w, http.StatusOK, struct{}{})
}

// stepUp checks the password once more.
func (a *App) stepUp(w http.ResponseWriter, r *http.Request) {
	access, err := a.auth.Access(r)
	if err != nil {
		a.auth.Refuse(w, r, err)
		return
	}
	// A 401 would say that the access token is no good, and the page would refresh and try again.
	if !a.checked(w, r, access.Subject, http.StatusForbidden) {
		return
	}
	if err := a.maker(r).Reauthenticated(w, r, tokensession.WithAuthMethods("pwd")); err != nil {
		a.auth.Refuse(w, r, err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

// actAs begins a session in which the logged-in user acts for another one, as support staff does.
// Its cookies are beside the user's own. A host lets only some do that.
func (a *App) actAs(w http.ResponseWriter, r *http.Request) {
	access, _ := sessionhttp.FromContext(r.Context())
	name := r.PathValue("name")
	if !isUser(name) {
		refuse(w, http.StatusNotFound, "There is no such user.")
		return
	}
	_, err := a.support.Login(w, r, name, tokensession.WithActor(access.Subject))
	if err != nil {
		a.unavailable(w, r, err)
		return
	}
	answer(w, http.StatusOK, struct{}{})
}

func isUser(name string) bool {
	for _, u := range users {
		if u.Name == name {
			return true
		}
	}
	return false
}

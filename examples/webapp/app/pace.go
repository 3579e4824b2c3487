package app

import (
	"net/http"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A Pace is how long things last. What is 0 lasts as long as by default in [tokensession.Config].
type Pace struct{ Access, Refresh, Max time.Duration }

// fast is for watching: with ?short in the page's address, or with the flag -short for all.
var fast = Pace{20 * time.Second, 2 * time.Minute, 10 * time.Minute}

// paceCookie is set in browsers whose latest page had ?short in its address. Their tokens are made
// by a second Manager. A host has only one, and no such cookie.
const paceCookie = "pace"

func isFast(r *http.Request) bool {
	c, err := r.Cookie(paceCookie)
	return err == nil && c.Value == "short"
}

// setPace has the browser's tokens last as long as the page's address asks for, from the next login
// or refresh on. It reports whether that is news.
func (a *App) setPace(w http.ResponseWriter, r *http.Request) (short, changed bool) {
	short = r.URL.Query().Has("short")
	changed = short != isFast(r)
	c := http.Cookie{Name: paceCookie, Value: "short", Path: "/", HttpOnly: true, Secure: a.secure,
		SameSite: http.SameSiteStrictMode}
	if !short {
		c.Value, c.MaxAge = "", -1
	}
	if changed {
		http.SetCookie(w, &c)
	}
	return short, changed
}

// makers are what makes tokens that last as long as a pace says.
func (a *App) makers(p Pace, signer *tokensession.AccessSigner, store tokensession.RefreshStore) (*tokensession.Manager, *sessionhttp.Handlers, error) {
	sessions, err := tokensession.New(signer, store, tokensession.Config{
		AccessTTL: p.Access, RefreshTTL: p.Refresh, MaxLifetime: p.Max,
		Authorize: a.rights.authorize, OnEvent: a.onEvent,
	})
	if err != nil {
		return nil, nil, err
	}
	cfg := sessionhttp.Config{
		Cookies:         true,
		InsecureCookies: !a.secure, // http://localhost is for development only
		Attributes:      device,
		Devices:         true, // the page lists the user's sessions, and ends them
		OnError:         a.onError,
	}
	a.bind(&cfg, p)
	auth, err := sessionhttp.New(sessions, cfg)
	return sessions, auth, err
}

// maker is what logs this browser in, and refreshes its tokens unless refresher knows better. All
// else is a.auth's: with one key and one store, it accepts both Managers' tokens.
func (a *App) maker(r *http.Request) *sessionhttp.Handlers {
	if isFast(r) {
		return a.fast
	}
	return a.auth
}

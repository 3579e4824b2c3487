package sessionhttp

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/seed67bc9b7f/tokensession"
)

// maxCookie is how long a cookie's name and value may be together: browsers drop longer ones (RFC
// 6265bis).
const maxCookie = 4096

// maxCookieSuffix leaves the access token its room.
const maxCookieSuffix = 32

// A cookie is how one of the two tokens is kept in a browser. Everything but the value is the same
// whenever it is set, and when it is deleted.
type cookie struct {
	name, path string
	secure     bool
	sameSite   http.SameSite
}

// cookie returns a cookie. With the prefix __Host- it goes to the whole site; only this host can
// set it.
func (c Config) cookie(prefix, name, path string) cookie {
	if c.InsecureCookies {
		prefix = ""
	}
	if c.CookieSuffix != "" {
		name += "-" + c.CookieSuffix
	}
	return cookie{prefix + name, path, !c.InsecureCookies, c.SameSite}
}

// cookies returns the access token's cookie, which goes to the whole site, and the refresh token's,
// which goes to the endpoints and to what else the host has below Config.Prefix. Without
// Config.Cookies they have no name.
func (c Config) cookies() (access, refresh cookie) {
	if !c.Cookies {
		return cookie{}, cookie{}
	}
	return c.cookie("__Host-", "access", "/"), c.cookie("__Secure-", "refresh", c.Prefix)
}

// room is how many bytes the value may have.
func (c cookie) room() int { return maxCookie - len(c.name) }

// set sets the cookie for so many seconds, or until the browser ends if there are none.
func (c cookie) set(w http.ResponseWriter, value string, seconds int64) {
	c.write(w, value, int(seconds))
}

// clear deletes the cookie.
func (c cookie) clear(w http.ResponseWriter) { c.write(w, "", -1) }

// attributes are the cookie's as a Set-Cookie header has them, but for its life.
func (c cookie) attributes() string {
	_, attributes, _ := strings.Cut(c.cookie("", 0).String(), "; ")
	return attributes
}

func (c cookie) write(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, c.cookie(value, maxAge))
}

func (c cookie) cookie(value string, maxAge int) *http.Cookie {
	return &http.Cookie{
		Name: c.name, Value: value, Path: c.path, MaxAge: maxAge,
		Secure: c.secure, HttpOnly: true, SameSite: c.sameSite,
	}
}

// read returns the cookie's value, "" if there is none. Two cookies of one name mean that somebody
// else has set one of them.
func (c cookie) read(r *http.Request) (string, error) {
	values := c.values(r)
	switch len(values) {
	case 0:
		return "", nil
	case 1:
		return values[0], nil
	}
	return "", fmt.Errorf("%w: %d cookies named %s", ErrBadRequest, len(values), c.name)
}

// values returns the values of all cookies of the name, in the order of the request. White space
// beyond ASCII is a part of the name: a browser knows no prefix behind it, and lets anybody set the
// cookie.
func (c cookie) values(r *http.Request) []string {
	if c.name == "" {
		return nil
	}
	var found []string
	for _, line := range r.Header["Cookie"] {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			if name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "="); name == c.name {
				found = append(found, value)
			}
		}
	}
	return found
}

// setCookies gives a browser its tokens. The access token's cookie lives as long as the session,
// not only as the token: a browser that comes back later can still say which session a logout is to
// end. The cookies of a transient session have no Max-Age, so that they go when the browser ends.
// Without a refresh token, the browser keeps the one that it has.
func (h *Handlers) setCookies(w http.ResponseWriter, tokens tokensession.Tokens) {
	lifetime := max(seconds(tokens.RefreshExpiresAt, h.m.Now()), 1) // 0 would be no Max-Age
	if tokens.Session.Transient {
		lifetime = 0
	}
	h.access.set(w, tokens.AccessToken, lifetime)
	if tokens.RefreshToken != "" {
		h.refresh.set(w, tokens.RefreshToken, lifetime)
	}
}

func (h *Handlers) clearCookies(w http.ResponseWriter) {
	h.access.clear(w)
	h.refresh.clear(w)
	if h.binder.on() {
		h.binder.trigger.clear(w)
	}
}

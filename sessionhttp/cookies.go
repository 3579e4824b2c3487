package sessionhttp

import (
	"errors"
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
}

// cookies returns the access token's cookie, which goes to the whole site, and the refresh token's,
// which goes to the one endpoint that takes it. Without Config.Cookies they have no name.
func (c Config) cookies() (access, refresh cookie) {
	if !c.Cookies {
		return cookie{}, cookie{}
	}
	access, refresh = cookie{"__Host-access", "/", true}, cookie{"__Secure-refresh", c.Prefix + "/token", true}
	if c.InsecureCookies {
		access, refresh = cookie{"access", "/", false}, cookie{"refresh", c.Prefix + "/token", false}
	}
	if c.CookieSuffix != "" {
		access.name += "-" + c.CookieSuffix
		refresh.name += "-" + c.CookieSuffix
	}
	return access, refresh
}

// room is how many bytes the value may have.
func (c cookie) room() int { return maxCookie - len(c.name) }

// set sets the cookie for a time, rounded up to seconds.
func (c cookie) set(w http.ResponseWriter, value string, seconds int64) {
	c.write(w, value, int(seconds))
}

// clear deletes the cookie.
func (c cookie) clear(w http.ResponseWriter) { c.write(w, "", -1) }

func (c cookie) write(w http.ResponseWriter, value string, maxAge int) {
	http.SetCookie(w, &http.Cookie{
		Name: c.name, Value: value, Path: c.path, MaxAge: maxAge,
		Secure: c.secure, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	})
}

// read returns the cookie's value, "" if there is none. Two cookies of one name mean that somebody
// else, on a sibling domain or another path, has set one of them. White space beyond ASCII is a
// part of the name: a browser knows no prefix behind it, and lets anybody set the cookie.
func (c cookie) read(r *http.Request) (string, error) {
	if c.name == "" {
		return "", nil
	}
	found := ""
	n := 0
	for _, line := range r.Header["Cookie"] {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			if name, value, _ := strings.Cut(strings.Trim(pair, " \t"), "="); name == c.name {
				found = value
				n++
			}
		}
	}
	if n > 1 {
		return "", fmt.Errorf("%w: %d cookies named %s", ErrBadRequest, n, c.name)
	}
	return found, nil
}

// setCookies gives a browser its tokens. The access token's cookie lives as long as the session,
// not only as the token: a browser that comes back later can still say which session a logout is to
// end.
func (h *Handlers) setCookies(w http.ResponseWriter, tokens tokensession.Tokens) {
	lifetime := seconds(tokens.RefreshExpiresAt, h.m.Now())
	h.access.set(w, tokens.AccessToken, lifetime)
	h.refresh.set(w, tokens.RefreshToken, lifetime)
}

func (h *Handlers) clearCookies(w http.ResponseWriter) {
	h.access.clear(w)
	h.refresh.clear(w)
}

// Login starts a session for a subject that the host has authenticated, and sets its cookies; the
// rest of the answer is the host's. A session that the browser had before ends (ASVS 7.2.4), if the
// request has its cookie: where another site sends the browser here, as an identity provider does,
// it has none, for the cookies are SameSite=Strict. Options are as for
// [tokensession.Manager.Start], but that no client is bound. On an error nothing is set; [Status]
// says what to answer.
//
// A page that uses the module of [Handlers.Script] makes its login request by session.login. Else
// the answer to a refresh that another tab has under way may come after the login's, and put the
// old session's cookies back. A verdict that comes then does no harm, where the login has ended the
// old session, or the host just before it all of the user's: it clears nothing.
//
// Before the password is checked, the host's login limits how often that may be tried.
func (h *Handlers) Login(w http.ResponseWriter, r *http.Request, subject string, opts ...tokensession.StartOption) (tokensession.Session, error) {
	if !h.cfg.Cookies {
		return tokensession.Session{}, errors.New("sessionhttp: Login: Config.Cookies is not set; use Manager.Start and WriteTokens")
	}
	if err := h.cfg.CrossOrigin.Check(r); err != nil {
		return tokensession.Session{}, fmt.Errorf("%w: %w", ErrCrossOrigin, err)
	}
	all := []tokensession.StartOption{tokensession.WithAttributes(h.attributes(r))}
	if old, err := h.access.read(r); err == nil && old != "" {
		if id, err := h.m.SessionID(old); err == nil {
			all = append(all, tokensession.Replacing(id))
		}
	}
	all = append(all, opts...)
	all = append(all, tokensession.WithClient(""), tokensession.WithMaxAccessSize(h.access.room()))
	tokens, err := h.m.Start(r.Context(), subject, all...)
	if err != nil {
		return tokensession.Session{}, err
	}
	neverStored(w)
	h.setCookies(w, tokens)
	return tokens.Session, nil
}

// Logout ends the browser's session and clears its cookies; the rest of the answer is the host's.
// It must be a POST of the same origin. Without a session it only clears. On an error, which
// [Status] puts into a status, the cookies stay, so that the logout can be tried again.
func (h *Handlers) Logout(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		return errNotPOST
	}
	if err := h.cfg.CrossOrigin.Check(r); err != nil {
		return fmt.Errorf("%w: %w", ErrCrossOrigin, err)
	}
	access, err := h.access.read(r)
	if err != nil {
		return err
	}
	if access != "" {
		if err := h.m.RevokeToken(r.Context(), access); err != nil && !errors.Is(err, tokensession.ErrInvalidToken) {
			return err
		}
	}
	neverStored(w)
	h.clearCookies(w)
	return nil
}

// LogoutEndpoint is [Handlers.Logout] with an answer of 200 and {}, for scripts. Errors are as for
// [Handlers.Token].
func (h *Handlers) LogoutEndpoint(w http.ResponseWriter, r *http.Request) {
	neverStored(w)
	if err := h.Logout(w, r); err != nil {
		h.refuseForm(w, r, err)
		return
	}
	writeJSON(w, http.StatusOK, struct{}{})
}

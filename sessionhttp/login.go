package sessionhttp

import (
	"errors"
	"net/http"
	"slices"

	"github.com/seed67bc9b7f/tokensession"
)

// Login starts a session for a subject that the host has authenticated, and sets its cookies; the
// rest of the answer is the host's. A session that the browser had before ends (ASVS 7.2.4), if the
// request has its cookies. Where another site sends the browser here, as an identity provider does,
// it has none, because the cookies are SameSite=Strict. Where the key of the old access token is
// unknown here, as after a restart with another key, the old session ends if it is one of the same
// subject, or if the login is below Config.Prefix, where the refresh cookie comes along. Options
// are as for [tokensession.Manager.Start], but that no client is bound. On an error nothing is set;
// [Status] says what to answer.
//
// A page that uses the module of [Handlers.Script] makes its login request by session.login. Else
// the answer to a refresh that another tab has under way may come after the login's, and put the
// old session's cookies back. A verdict that comes then does no harm, where the login has ended the
// old session, or the host just before it all of the user's: it clears nothing.
//
// A login that another origin's page posts is refused, unless Config.LoginOrigins or
// Config.CrossOrigin names that origin. Before the password is checked, the host's login limits how
// often that may be tried.
func (h *Handlers) Login(
	w http.ResponseWriter, r *http.Request, subject string, opts ...tokensession.StartOption,
) (tokensession.Session, error) {
	if !h.cfg.Cookies {
		return tokensession.Session{}, errors.New("sessionhttp: Login: Config.Cookies is not set; " +
			"use Manager.Start and WriteTokens")
	}
	if err := h.checkLoginOrigin(r); err != nil {
		return tokensession.Session{}, err
	}
	all := []tokensession.StartOption{tokensession.WithAttributes(h.attributes(r))}
	if b, err := h.browser(r); err == nil { // what is wrong with the cookies is over after the login
		all = append(all, tokensession.ReplacingToken(b.tokens()...))
	}
	all = append(all, opts...)
	all = append(all, tokensession.WithClient(""), tokensession.WithMaxAccessSize(h.access.room()))
	tokens, err := h.m.Start(r.Context(), subject, all...)
	if err != nil {
		return tokensession.Session{}, err
	}
	neverStored(w)
	h.setCookies(w, tokens)
	h.binder.offer(w, tokens.Session, h.m.Now())
	return tokens.Session, nil
}

// checkLoginOrigin refuses a login that the page of another origin has posted, unless the host has
// named that origin.
func (h *Handlers) checkLoginOrigin(r *http.Request) error {
	if slices.Contains(h.cfg.LoginOrigins, r.Header.Get("Origin")) {
		return nil
	}
	return h.checkOrigin(r)
}

// Logout ends the browser's session and clears its cookies; the rest of the answer is the host's.
// It must be a POST of the same origin. Without a session, or if the session is over, it only
// clears. On an error, which [Status] puts into a status, the cookies stay, so that the logout can
// be tried again. So it is with 400 if a page of another origin brings none of our cookies, until
// it is known that its browser sends any: see Token.
//
// The error is a [tokensession.ErrUnknownKey], and the status 401, if the access cookie is of a key
// that this process does not have, and nothing else proves which session to end. The browser
// refreshes, which gives it a cookie of a key that is known, and tries again. A logout below
// Config.Prefix does not need that, because the refresh cookie comes along.
func (h *Handlers) Logout(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodPost {
		return errNotPOST
	}
	if err := h.checkOrigin(r); err != nil {
		return err
	}
	b, err := h.browser(r)
	if err == nil {
		err = h.cookiesCome(w, r, b)
	}
	if err != nil {
		return err
	}
	if b.session != "" && namesAnother(r, b.session) {
		return errOtherSession
	}
	if err := h.end(r, b); err != nil {
		return err
	}
	neverStored(w)
	h.clearCookies(w)
	return nil
}

// end ends the session that a browser has, or says why it could not.
//
// A refresh cookie that does not count is taken away like the others. So its session ends, too.
func (h *Handlers) end(r *http.Request, b browser) error {
	err := h.endNamed(r, b)
	for _, token := range b.strange {
		if err != nil {
			break
		}
		if err = h.m.RevokeToken(r.Context(), token); errors.Is(err, tokensession.ErrInvalidToken) {
			err = nil
		}
	}
	return err
}

// endNamed ends the session that the access cookie names.
//
// Either token is tried until one is genuine. If none is, nothing was ended. That is a logout that
// worked only if there is nothing to end: the cookies are garbage, or the session is known to be
// over.
func (h *Handlers) endNamed(r *http.Request, b browser) error {
	var unknownKey error
	for _, token := range []string{b.access, b.refresh} {
		err := h.m.RevokeToken(r.Context(), token)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, tokensession.ErrUnknownKey):
			unknownKey = err
		case !errors.Is(err, tokensession.ErrInvalidToken):
			return err
		}
	}
	if unknownKey == nil {
		return nil
	}
	if _, lives, err := h.liveSession(r, b.session); err != nil || !lives {
		return err
	}
	return unknownKey
}

// liveSession returns a session, and reports whether it lives. The error says that nobody can tell.
func (h *Handlers) liveSession(r *http.Request, id string) (tokensession.Session, bool, error) {
	session, err := h.m.Session(r.Context(), id)
	switch {
	case errors.Is(err, tokensession.ErrNotFound):
		return session, false, nil
	case err != nil:
		return session, false, err
	}
	return session, session.RevokedAt.IsZero() && h.m.Now().Before(session.ExpiresAt), nil
}

// LogoutEndpoint is [Handlers.Logout] with an answer of 200 and {}, for scripts. It is 401 where
// the browser has to refresh first. Other errors are as for [Handlers.Token].
func (h *Handlers) LogoutEndpoint(w http.ResponseWriter, r *http.Request) {
	neverStored(w)
	err := h.Logout(w, r)
	switch {
	case errors.Is(err, tokensession.ErrUnknownKey), errors.Is(err, errOtherSession):
		writeError(w, h.challenge(w, r, err))
	case err != nil:
		h.refuseForm(w, r, err)
	default:
		writeJSON(w, http.StatusOK, struct{}{})
	}
}

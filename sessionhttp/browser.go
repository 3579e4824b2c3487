package sessionhttp

import (
	"fmt"
	"net/http"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/peek"
)

// A browser is what the cookies of a request say of the session that the browser has.
//
// The access cookie says which session that is. It may have run out, and the key that signed it may
// be unknown here, so its payload is read without being verified. That is safe because of the
// cookie's name: with the prefix __Host- only this host can set it.
//
// A refresh cookie counts only beside an access cookie that names the same session. Its name has
// the prefix __Secure-, and so a page of a sibling domain can set a cookie of that name here. It
// can also push our cookies out, by setting more than a browser keeps for a site. Without the rule,
// the browser would then go on in the session of whoever owns the sibling domain, and the user
// would not notice.
type browser struct {
	access  string   // the access cookie; "" if there is none
	session string   // the session that it names; "" if it names none
	refresh string   // the refresh token of that session; "" if there is none
	strange []string // the refresh cookies that do not count: the first few
}

// mostStrange bounds how many sessions a logout ends. A browser of ours has two refresh cookies at
// most, and anybody can make a request with thousands.
const mostStrange = 4

// browser reads the cookies of a request.
//
// There can be two refresh cookies of one session, because the path of ours has changed, or because
// a browser still has an older one. Then the one of the later generation counts: the other one was
// consumed.
func (h *Handlers) browser(r *http.Request) (browser, error) {
	access, err := h.access.read(r)
	if err != nil {
		return browser{}, err
	}
	b := browser{access: access}
	if claims, ok := peek.Access(access); ok {
		b.session = claims.SessionID
	}
	var latest uint64
	for _, value := range h.refresh.values(r) {
		session, generation, ok := peek.Refresh(value)
		counts := ok && session == b.session
		switch {
		case counts && (b.refresh == "" || generation > latest):
			b.refresh, latest = value, generation
		case !counts && len(b.strange) < mostStrange:
			b.strange = append(b.strange, value)
		}
	}
	return b, nil
}

// tokens returns all that prove a session that the browser has. A refresh cookie that does not
// count cannot refresh. But whoever brings it may end its session: a logout and a login take it
// away, and a copy of it must not work on.
func (b browser) tokens() []string {
	return append([]string{b.access, b.refresh}, b.strange...)
}

// noRefreshToken returns the error of a refresh by a browser that brings no refresh cookie that
// counts. To the browser it is like any other login that is over. To the host it says why.
func (h *Handlers) noRefreshToken(b browser) error {
	err := fmt.Errorf("%w: no refresh token in a cookie", tokensession.ErrInvalidToken)
	switch {
	case len(b.strange) > 0:
		return fmt.Errorf("%w: there is a cookie %s, but no cookie %s that names its session: "+
			"it may have been set by another host of the site", err, h.refresh.name, h.access.name)
	case b.access != "":
		return fmt.Errorf("%w: there is a cookie %s, and no cookie %s beside it. That one has the path "+
			"%s, and a browser sends it to no other: if a proxy changes paths, Config.Prefix has to be "+
			"the one that the browser sees", err, h.access.name, h.refresh.name, h.refresh.path)
	}
	return err
}

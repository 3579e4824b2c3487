package sessionhttp

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// This file is about pages of another origin that are the host's own: a single-page application on
// https://app.shop.example, whose API and endpoints are on https://api.shop.example. The cookies
// belong to the second one. The browser sends them along from pages of the first one because both
// are one site, shop.example, and SameSite asks no more.
//
// A script of the first origin may not read an answer of the second one unless that says so, and
// may not send some requests unless it was allowed beforehand, in a preflight (CORS, in
// https://fetch.spec.whatwg.org/#http-cors-protocol). And what could change something is refused
// if another origin's page has made it. For the origins of Config.Origins, all that is allowed.

// An originSet has the origins of Config.Origins.
type originSet map[string]bool

// newOriginSet refuses what no browser would send as an Origin header, and what a page that is not
// the host's could send.
func newOriginSet(list []string) (originSet, error) {
	set := originSet{}
	for _, origin := range list {
		if err := checkOrigin(origin); err != nil {
			return nil, err
		}
		u, err := url.Parse(origin)
		switch {
		case err != nil:
			return nil, err
		case origin == "null":
			return nil, fmt.Errorf("%q: any page can send it", origin)
		case u.Scheme != "https" && !(u.Scheme == "http" && isThisMachine(u.Hostname())):
			return nil, fmt.Errorf("%q: must be https, but for localhost: otherwise anybody on the "+
				"way to that page can act as its user", origin)
		case set[origin]:
			return nil, fmt.Errorf("%q: is there twice", origin)
		}
		set[origin] = true
	}
	return set, nil
}

// checkOrigin refuses what no browser sends as an Origin header: it is compared byte for byte.
func checkOrigin(origin string) error {
	if origin == "null" {
		return nil
	}
	wrong := func(why string) error {
		return fmt.Errorf("%q: %s; it must be as browsers send it, like \"https://app.example\" or "+
			"\"http://localhost:5173\"", origin, why)
	}
	scheme, host, found := strings.Cut(origin, "://")
	u, err := url.Parse(origin)
	switch {
	case strings.Contains(origin, "*"):
		return wrong("an origin has no wildcard: name each one")
	case strings.ContainsAny(host, "/?#\\"):
		return wrong("an origin has no path, and does not end with a slash")
	case !found || scheme == "" || host == "" || err != nil:
		return wrong("is no origin")
	case strings.ToLower(origin) != origin:
		return wrong("an origin is in lower case")
	case u.Hostname() == "" || u.User != nil || strings.ContainsFunc(host, notInHost):
		return wrong("its host is none")
	case strings.HasSuffix(host, ":"), strings.HasPrefix(u.Port(), "0"),
		scheme == "https" && u.Port() == "443", scheme == "http" && u.Port() == "80":
		return wrong("an origin has no port but one that is not its scheme's own")
	}
	return nil
}

// notInHost reports characters that a host and its port do not have in a browser. Names of other
// scripts are in Punycode there.
func notInHost(r rune) bool {
	return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || strings.ContainsRune("-._:[]", r))
}

// isThisMachine reports whether browsers take a host for their own machine, so that nobody is on
// the way.
func isThisMachine(host string) bool {
	return isLoopback(host) || strings.HasSuffix(host, ".localhost")
}

// preflightFor is how long a browser may remember what it was allowed: Chromium's longest. What it
// sends by that is checked all the same.
const preflightFor = "7200"

// exposed are the headers that the browser's module reads, beside those that every script may.
const exposed = namedSession + ", WWW-Authenticate, Retry-After"

// CORS lets pages of Config.Origins use all that is behind it. The endpoints and what is behind
// [Handlers.Require] do without, if preflights reach them; CORS is for what is neither: the host's
// login, and routes that a router does not find for OPTIONS, which is the method of a preflight. So
// it goes around the whole router:
//
//	http.Server{Handler: h.CORS(mux)}
//
// It answers the preflights of these origins, and lets their scripts read all answers. It refuses
// nothing, and requests of other origins are as without it. A handler behind it that adds to Vary
// uses Add, because Set would take Origin away.
func (h *Handlers) CORS(next http.Handler) http.Handler { return h.withCORS(next) }

func (g *gate) withCORS(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !g.cors(w, r) {
			next.ServeHTTP(w, r)
		}
	})
}

// cors sets the headers that let a page of Config.Origins read the answer. It reports whether the
// request was a preflight of such a page. Then it has answered.
func (g *gate) cors(w http.ResponseWriter, r *http.Request) (answered bool) {
	if len(g.origins) == 0 {
		return false
	}
	// A cache must not give the answer for one origin to another, nor to requests without one.
	h := w.Header()
	addOnce(h, "Vary", "Origin")
	if !g.ours(r) {
		return false
	}
	h.Set("Access-Control-Allow-Origin", r.Header.Get("Origin"))
	h.Set("Access-Control-Allow-Credentials", "true")
	method := r.Header.Get("Access-Control-Request-Method")
	if r.Method != http.MethodOptions || method == "" {
		addOnce(h, "Access-Control-Expose-Headers", exposed)
		return false
	}
	// These pages are the host's own, so they may send whatever they ask for. With credentials, a
	// wildcard would not do. What is no list of names is none that a browser has sent.
	if isNames(method) {
		h.Set("Access-Control-Allow-Methods", method)
	}
	if names := strings.Join(r.Header["Access-Control-Request-Headers"], ","); isNames(names) {
		h.Set("Access-Control-Allow-Headers", names)
	}
	h.Set("Access-Control-Max-Age", preflightFor)
	w.WriteHeader(http.StatusNoContent)
	return true
}

func addOnce(h http.Header, name, value string) {
	if !slices.Contains(h[name], value) {
		h.Add(name, value)
	}
}

// isNames reports whether a value is a list of methods' or headers' names.
func isNames(value string) bool {
	return value != "" && !strings.ContainsFunc(value, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune("-_., ", r))
	})
}

// ours reports whether a page of Config.Origins has made the request.
func (g *gate) ours(r *http.Request) bool {
	origin := r.Header["Origin"]
	return len(origin) == 1 && g.origins[origin[0]]
}

// checkOrigin refuses a request that could change something, if another origin's page has made it
// that the host does not trust.
func (g *gate) checkOrigin(r *http.Request) error {
	if g.ours(r) {
		return nil
	}
	err := g.crossOrigin.Check(r)
	if err == nil {
		return nil
	}
	if len(g.origins) > 0 {
		return fmt.Errorf("%w: the origin %.100q is none of Config.Origins: %w",
			ErrCrossOrigin, r.Header.Get("Origin"), err)
	}
	return fmt.Errorf("%w: %w", ErrCrossOrigin, err)
}

// errNoCookies means that a page of another origin seems to be logged out, but that its browser may
// only have sent no cookies.
var errNoCookies = errors.New("sessionhttp: no cookies from another origin")

// probeFor is how long a cookie stays that shows whether there can be any. The page asks again at
// once.
const probeFor = time.Minute

// cookiesCome returns an error if a request brings no cookie, and this may be because the browser
// sends none, though it may have some. It is not to be taken for a login that is over.
//
// That cannot happen to pages of this origin, as long as they are not in a frame of another site's.
// It happens to those of an origin that the host trusts, by Config.Origins or Config.CrossOrigin,
// if the two are different sites, and if the browser keeps cookies to itself for another reason. So
// such a request gets a cookie. If that comes along with the next one, cookies do come, and ours
// are really gone.
func (h *Handlers) cookiesCome(w http.ResponseWriter, r *http.Request, b browser) error {
	if b.access != "" || b.refresh != "" || len(b.strange) > 0 || !crosses(r) {
		return nil
	}
	if err := crossSite(r); err != nil {
		return err
	}
	if len(h.probe.values(r)) > 0 {
		return nil
	}
	h.probe.set(w, "1", int64(probeFor/time.Second))
	return fmt.Errorf("%w: if this goes on, the browser sends none from pages of %s",
		errNoCookies, r.Header.Get("Origin"))
}

// crosses reports whether a page of another origin than this server has made the request. Browsers
// that do not say so by themselves name the origin.
func crosses(r *http.Request) bool {
	if site := r.Header.Get("Sec-Fetch-Site"); site != "" {
		return site == "same-site" || site == "cross-site"
	}
	_, host, found := strings.Cut(r.Header.Get("Origin"), "://")
	return found && host != r.Host
}

// crossSite returns an error if the browser says that the page which has made the request is of
// another site than this server.
func crossSite(r *http.Request) error {
	if r.Header.Get("Sec-Fetch-Site") != "cross-site" {
		return nil
	}
	return fmt.Errorf("%w: %s is of another site than %s, or in a frame of one, and no browser sends "+
		"SameSite cookies from one site to another: both have to be hosts of one domain, like "+
		"app.shop.example and api.shop.example", errNoCookies, r.Header.Get("Origin"), r.Host)
}

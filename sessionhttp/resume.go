package sessionhttp

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/internal/peek"
)

// This file is about pages that the server renders, and about downloads, images and streams: about
// all that a browser asks for without our script. Their access token runs out like any other, and
// there is nobody who refreshes it. So the middleware sends the browser to an endpoint that does:
//
//	GET /report             the access cookie has run out
//	303 /auth/resume?to=…   here the refresh cookie comes along
//	303 /report             with new cookies
//
// The refresh cookie still goes to Config.Prefix only. A form that was posted takes the same way
// with 307, which keeps the method and the body. Requests at the same time are answered alike,
// because within the grace period the same refresh token gets the same successor.
//
// It must never go in circles, whatever the cookies are and however the clocks of the instances
// differ. So the endpoint leaves a cookie that names the access token which the browser has
// afterwards: this one could not be improved on. If a page refuses that very token, it does not
// send the browser there again.
//
// A session that is bound to the browser's device can be refreshed by the browser alone (the files
// that begin with device), and it does so before it asks for a page. There are two exceptions. The
// trigger can be there, because the access token ran out before it. Then the endpoint takes it away
// and sends the browser back. And the browser does not refresh for a link on another site's page,
// whatever redirects follow. Then the endpoint answers with a page of its own, which leads on: what
// this origin's page has begun, the browser refreshes for (file lead.go). It does so once.

const (
	resumePath = "/resume"
	triedFor   = time.Minute // long enough for the way back
	maxTarget  = 4096        // bytes of the path to go back to
	maxDrained = 32 << 20    // bytes of a body that are read so that the browser hears the answer
)

// Resume is for what a browser loads without a script: pages that the server renders, downloads,
// images, EventSource. Where the access token in the cookie has run out, the browser is sent to the
// endpoint Config.Prefix + "/resume", which refreshes, and back. A form that is posted keeps its
// body on the way. The user notices nothing. If the session is over, the request goes on without
// it: with [Optional] as anonymous, and else to [Config.Refuse].
//
// With Strict cookies, a link on another site's page brings none. It is answered by a page that
// leads to the same path again, and then the cookies come. So such a link works as with Lax ones,
// at the cost of a round trip, also for visitors who are not logged in.
//
// It never resumes a prefetch, a WebSocket, or a request of another origin that could change
// something. A proxy in front must not change paths: the browser is sent back to the path that the
// server sees.
func Resume() RequireOption {
	return func(q *requirement) { q.resume = true }
}

// A resumer sends browsers to refresh.
type resumer struct {
	path  string // of the endpoint
	tried cookie // names the access token that the endpoint could not improve on
}

// runOut returns the access token of a request that was refused with err, if it is one of ours that
// a refresh may improve on. It has run out, or is of a key that is not known here. Its payload is
// read without being verified, which decides nothing but whether to ask.
func (g *gate) runOut(r *http.Request, err error) (token string, ok bool) {
	if !isVerdict(err) || errors.Is(err, tokensession.ErrRevoked) ||
		errors.Is(err, tokensession.ErrProofRequired) || len(r.Header["Upgrade"]) > 0 {
		return "", false
	}
	if g.scheme(r) != "" {
		return "", false
	}
	token, err = g.access.read(r)
	if err != nil {
		return "", false
	}
	_, ok = peek.Access(token)
	return token, ok
}

// send sends a browser to refresh, if that can help and was not tried. It reports whether it has
// answered.
func (re resumer) send(w http.ResponseWriter, r *http.Request, token string) bool {
	if re.path == "" || re.was(resumed, r, token) {
		return false
	}
	status := http.StatusSeeOther
	switch r.Method {
	case http.MethodGet, http.MethodHead:
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
		status = http.StatusTemporaryRedirect
		if err := fromThisOrigin(r); err != nil {
			return false
		}
	default:
		return false
	}
	to, err := resumeTarget(requestTarget(r))
	if err != nil {
		return false
	}
	neverStored(w)
	if isPrefetch(r) {
		// It must not be kept for the visit that may follow: that one is to resume.
		writeError(w, unauthorized)
		return true
	}
	redirect(w, r, re.path+"?to="+url.QueryEscape(to), status)
	return true
}

// redirect sends the browser somewhere else. It reads the body first: a browser that is still
// sending when the server hangs up does not see the answer.
func redirect(w http.ResponseWriter, r *http.Request, to string, status int) {
	if r.Body != nil {
		_, _ = io.CopyN(io.Discard, r.Body, maxDrained)
	}
	w.Header().Set("Location", to)
	w.WriteHeader(status)
}

// fromThisOrigin refuses a request that another origin's page has made, also if the host trusts it.
func fromThisOrigin(r *http.Request) error {
	if err := http.NewCrossOriginProtection().Check(r); err != nil {
		return fmt.Errorf("%w: %w", ErrCrossOrigin, err)
	}
	return nil
}

// isPrefetch reports whether a browser only guesses that its user will want this.
func isPrefetch(r *http.Request) bool {
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"} {
		value := strings.ToLower(r.Header.Get(name))
		if strings.Contains(value, "prefetch") || strings.Contains(value, "prerender") ||
			strings.Contains(value, "preview") {
			return true
		}
	}
	return false
}

// requestTarget returns the path and the query as the browser has sent them, also where a router
// has taken a part off r.URL.
func requestTarget(r *http.Request) string {
	if u, err := url.ParseRequestURI(r.RequestURI); err == nil {
		return u.RequestURI()
	}
	return r.URL.RequestURI()
}

// resumeTarget returns where to send a browser back to, if that is a path of this origin. Browsers
// take a backslash for a slash and leave out tabs and line breaks, and two slashes at the beginning
// name another host.
func resumeTarget(to string) (string, error) {
	bad := func(r rune) bool { return r <= ' ' || r == '\\' || r == 0x7f || r == '#' }
	u, err := url.Parse(to)
	if err != nil || len(to) > maxTarget || !strings.HasPrefix(to, "/") ||
		strings.HasPrefix(to, "//") || strings.ContainsFunc(to, bad) ||
		u.Scheme != "" || u.Host != "" || u.User != nil {
		return "", fmt.Errorf("%w: to: not a path of this origin", ErrBadRequest)
	}
	return to, nil
}

// A resumeStep is what the browser was last sent away for with an access token. The cookie says so.
type resumeStep string

const (
	resumed resumeStep = "tokensession resumed v1" // it could not be improved on
	ledOn   resumeStep = "tokensession led on v1"  // the browser was sent back to refresh by itself
)

// name returns what the cookie says of an access token. It is a hash, so that the cookie is no
// copy.
func (step resumeStep) name(token string) string {
	sum := sha256.Sum256([]byte(string(step) + token))
	return base64.RawURLEncoding.EncodeToString(sum[:16])
}

// was reports whether a step was taken with an access token a moment ago.
func (re resumer) was(step resumeStep, r *http.Request, token string) bool {
	return slices.Contains(re.tried.values(r), step.name(token))
}

// mark has the browser remember that a step was taken with an access token. The cookie goes before
// the token runs out by itself, because a refresh helps then.
func (re resumer) mark(
	w http.ResponseWriter, step resumeStep, token string, life time.Duration,
) {
	re.tried.set(w, step.name(token), max(1, int64(min(triedFor, life/2)/time.Second)))
}

// ResumeEndpoint is where [Resume] sends browsers: a request with a run-out access cookie and the
// refresh cookie. It refreshes, and sends the browser back to the path in the parameter to, which
// must be one of this origin. It sends the browser back also if the session is over. Only where it
// cannot tell it answers by itself, as [Handlers.Refuse] does with 503, and leaves the cookies as
// they are: to load the page again is to try again.
func (h *Handlers) ResumeEndpoint(w http.ResponseWriter, r *http.Request) {
	neverStored(w)
	to, err := resumeTarget(r.URL.Query().Get("to"))
	status := http.StatusSeeOther
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		status = http.StatusTemporaryRedirect
		if err == nil {
			err = fromThisOrigin(r)
		}
	}
	if err == nil && isPrefetch(r) {
		err = fmt.Errorf("%w: a prefetch", ErrBadRequest)
	}
	if err == nil {
		err = h.resume(w, r)
	}
	switch {
	case errors.Is(err, errLeadOn) && status == http.StatusSeeOther && fromElsewhere(r):
		leadOn(w, to)
	case err != nil && !errors.Is(err, errLeadOn):
		h.Refuse(w, r, err)
	default:
		redirect(w, r, to, status)
	}
}

// resume refreshes a browser's cookies. If it cannot tell whether the session goes on, that is an
// error, and changes nothing. A verdict is no error: the browser goes back, and the page says that
// nobody is logged in. The error is errLeadOn where the browser is to go back and to refresh by
// itself.
func (h *Handlers) resume(w http.ResponseWriter, r *http.Request) error {
	b, err := h.browser(r)
	if err != nil || b.access == "" {
		return err
	}
	if access, err := h.verifier.Verify(b.access); err == nil {
		// Another request has refreshed already, or this instance's clock differs from the page's.
		h.resumer.mark(w, resumed, b.access, access.ExpiresAt.Sub(h.m.Now()))
		return nil
	}
	if err := h.leaveToBrowser(w, r, b); err != nil {
		return err
	}
	tokens, err := h.refreshBrowser(r, b)
	switch {
	case err == nil:
		h.setCookies(w, tokens)
		if !h.binder.triggered(r) {
			h.binder.offer(w, tokens.Session, h.m.Now())
		}
		h.resumer.mark(w, resumed, tokens.AccessToken, tokens.AccessExpiresAt.Sub(h.m.Now()))
		return nil
	case !isVerdict(err) && !needsProof(err):
		return err
	}
	h.cfg.OnError(r, err)
	if b.refresh != "" && clears(err) {
		h.clearCookies(w)
	} else {
		h.resumer.mark(w, resumed, b.access, 2*triedFor)
	}
	return nil
}

// errLeadOn means that the browser is to refresh by itself.
var errLeadOn = errors.New("sessionhttp: the browser refreshes by itself")

// leaveToBrowser makes the browser refresh before its next request, if it may be able to: if it has
// registered, or the session is bound. The error is errLeadOn then. The token is not presented. It
// may be one of before the session was bound, because the answer that bound it got lost, and
// without the key it would be taken for a stolen one.
//
// It does so once. A browser that comes back with the same access token says why it could not
// refresh. If it says nothing, it has lost its key, or never had one.
func (h *Handlers) leaveToBrowser(w http.ResponseWriter, r *http.Request, b browser) error {
	led := h.resumer.was(ledOn, r, b.access)
	switch {
	case !h.binder.on() || b.refresh == "":
		return nil
	case led && h.couldNotRefresh(r):
		return fmt.Errorf("%w: %w", tokensession.ErrUnavailable, skippedError(r))
	case led:
		return nil
	}
	if !h.binder.enforces() || !h.binder.triggered(r) {
		if bound, err := h.isBound(r, b.session); !bound {
			return err
		}
	}
	h.binder.trigger.clear(w)
	h.resumer.mark(w, ledOn, b.access, 2*triedFor)
	return errLeadOn
}

// refreshBrowser refreshes with the refresh cookie, as Token does.
func (h *Handlers) refreshBrowser(
	r *http.Request, b browser, opts ...tokensession.RefreshOption,
) (tokensession.Tokens, error) {
	if b.refresh == "" {
		return tokensession.Tokens{}, h.noRefreshToken(b)
	}
	return refreshGrant{
		token: b.refresh, fromCookie: true, attributes: h.attributes(r),
		options: append(opts,
			tokensession.WithMaxAccessSize(h.access.room()), tokensession.WithClient("")),
	}.refresh(r.Context(), h.m)
}

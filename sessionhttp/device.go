package sessionhttp

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// The files that begin with device bind a browser's session to a key that the browser keeps in the
// device's hardware (Device Bound Session Credentials). Whoever copies the cookies has no more than
// an access token, until that runs out.
//
//	POST /login             200, Secure-Session-Registration: make a key, and sign this challenge
//	POST /auth/device       the key and the signature; 200, and instructions when to refresh
//	GET /api/notes          the trigger cookie runs out soon, or is not there. So the browser sends
//	POST /auth/token        by itself, with Sec-Secure-Session-Id; 403 and a challenge
//	POST /auth/token        the same, signed; 200 and new cookies, the trigger among them
//
// The browser's refresh is the refresh of any client, and makes new tokens. The trigger is a cookie
// that means nothing and lets nobody in. All that it does is to be missing. So the access cookie
// keeps its long life, with which a browser can still log out, and whatever a browser without keys
// does stays as it is: it passes over the header that asks for one.
//
// To register stores nothing. The name that the browser calls its session by has the public key in
// it, and the first refresh that proves the key binds the session to it, with the same write that
// rotates the token. So a registration whose answer gets lost leaves nothing behind.

// A DeviceBoundPolicy says whether browsers that can bind their session to their device do so.
type DeviceBoundPolicy int

const (
	// DeviceBoundOff asks no browser for a key. A session that is bound already can be refreshed no
	// more: its user logs in again.
	DeviceBoundOff DeviceBoundPolicy = iota

	// DeviceBoundReported runs the whole protocol and binds nothing. [Config.OnError] is told what
	// fails, and of each request before which a browser could not refresh. It is for a week or so
	// before DeviceBoundEnforced, because a proxy that answers a browser's refresh in its own way
	// ends a bound session.
	DeviceBoundReported

	// DeviceBoundEnforced binds a session to the browser's key. From then on, its cookies are of no
	// use elsewhere, once the access token has run out.
	DeviceBoundEnforced
)

const (
	devicePath = "/device"

	// The trigger after a registration. Chromium refreshes in the background if a cookie has less
	// than two minutes left. So the next request binds the session, and does not wait for it.
	triggerAtFirst = 60
	// The least after a refresh. With less than two minutes, Chromium would refresh before each
	// request, and has six signatures for a site in nine minutes.
	minTrigger = 300
)

// A binder has what browsers are bound to their devices with.
type binder struct {
	policy     DeviceBoundPolicy
	trigger    cookie
	exclude    []string
	initiators []string // hosts whose pages may have the browser refresh, beside this one

	devicePath, refreshPath string

	ids                      macMaker
	registrations, refreshes challenger
}

func (c Config) binder(keys proofKeys) binder {
	macs := func(purpose string) macMaker {
		return keys.macs("tokensession device "+purpose+" v1", deviceMACSize)
	}
	return binder{
		policy: c.DeviceBound, trigger: c.cookie("__Host-", "bound", "/"),
		exclude: c.DeviceExclude, initiators: secureHosts(c.Origins),
		devicePath: c.Prefix + devicePath, refreshPath: c.Prefix + "/token",
		ids:           macs("id"),
		registrations: challenger{macs("registration"), registrationLife},
		refreshes:     challenger{macs("refresh"), refreshChallengeLife},
	}
}

// secureHosts returns the names of the hosts of origins with TLS. Browsers know no bound sessions
// beyond one site, and an address is none.
func secureHosts(origins []string) []string {
	var hosts []string
	for _, origin := range origins {
		u, err := url.Parse(origin)
		if err == nil && u.Scheme == "https" && net.ParseIP(u.Hostname()) == nil &&
			!slices.Contains(hosts, u.Hostname()) {
			hosts = append(hosts, u.Hostname())
		}
	}
	return hosts
}

// checkDeviceBound says what is wrong with the fields that bind browsers to their devices.
func (c Config) checkDeviceBound() error {
	switch c.DeviceBound {
	case DeviceBoundOff:
		if len(c.DeviceExclude) > 0 {
			return errors.New("sessionhttp: Config.DeviceExclude is set, and DeviceBound is not")
		}
		return nil
	case DeviceBoundReported, DeviceBoundEnforced:
	default:
		return fmt.Errorf("sessionhttp: Config.DeviceBound %d: must be one of the constants",
			c.DeviceBound)
	}
	switch {
	case !c.Cookies:
		return errors.New("sessionhttp: Config.DeviceBound is set, and Cookies is not")
	case c.InsecureCookies:
		return errors.New("sessionhttp: Config.DeviceBound and InsecureCookies are set: browsers bind " +
			"sessions over TLS only")
	case len(c.ProofKeys) == 0:
		return errors.New("sessionhttp: Config.DeviceBound is set, and ProofKeys is empty: challenges " +
			"need a secret that all instances share")
	}
	for _, p := range c.DeviceExclude {
		if p == "/" || path.Clean(p) != strings.TrimSuffix(p, "/") || p[0] != '/' ||
			strings.ContainsFunc(p, notInPath) {
			return fmt.Errorf("sessionhttp: Config.DeviceExclude %q: must be a clean path like "+
				"\"/static/\", of letters, digits and -._~/", p)
		}
	}
	return nil
}

func (b binder) on() bool       { return b.policy != DeviceBoundOff }
func (b binder) enforces() bool { return b.policy == DeviceBoundEnforced }

// triggered reports whether a request has the trigger. A browser that has registered refreshes
// before requests that do not. A script can set the cookie as well, which is why it means nothing
// more.
func (b binder) triggered(r *http.Request) bool {
	return b.on() && len(b.trigger.values(r)) > 0
}

// offer asks the browser for a key, unless the session has one.
func (b binder) offer(w http.ResponseWriter, s tokensession.Session, now time.Time) {
	if b.on() && s.KeyThumbprint == "" {
		challenge := b.registrations.registrationChallenge(s.ID, now)
		w.Header().Set(deviceOfferHeader, deviceOffer(b.devicePath, challenge))
	}
}

// registerDevice is where a browser sends the key that it has made. The proof has to be of a
// challenge that names the session, and was made with its login or with a refresh of it.
//
// Where the login was posted by another site's page, the request comes without cookies. If there is
// an access cookie, it has to be of the same session.
func (h *Handlers) registerDevice(w http.ResponseWriter, r *http.Request) {
	neverStored(w)
	_, err := h.readForm(w, r)
	id := ""
	if err == nil {
		id, err = h.registeredID(r)
	}
	if err != nil {
		h.refuseForm(w, r, err)
		return
	}
	h.binder.trigger.set(w, "1", triggerAtFirst)
	h.instruct(w, r, id)
}

// registeredID returns the name by which the browser is to call its session.
func (h *Handlers) registeredID(r *http.Request) (string, error) {
	proof, err := parseDeviceProof(r.Header[deviceProofHeader])
	if err != nil {
		return "", badDevice(err)
	}
	if proof.key == nil {
		return "", badDevice(errors.New("it brings no key"))
	}
	session, err := h.binder.registrations.registrationSession(proof.challenge, h.m.Now())
	if err != nil {
		return "", badDevice(err)
	}
	b, err := h.browser(r)
	if err != nil {
		return "", err
	}
	if b.access != "" && b.session != session {
		return "", badDevice(errors.New("the access cookie is of another session"))
	}
	if !proof.verifies(proof.key) {
		return "", badDevice(errors.New("the signature does not verify"))
	}
	id, ok := sealDeviceID(h.binder.ids, session, proof.key)
	if !ok {
		return "", badDevice(errors.New("the challenge names no session"))
	}
	return id, nil
}

func (p deviceProof) verifies(key *proofKey) bool {
	return key.verify([]byte(p.signed), p.signature)
}

// instruct answers with the instructions for a session. They are the same each time, because the
// browser forgets the session where they are of another one.
func (h *Handlers) instruct(w http.ResponseWriter, r *http.Request, id string) {
	instructions, err := h.binder.instructions(id)
	if err != nil {
		h.refuseForm(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	_, _ = w.Write(instructions)
}

func badDevice(reason error) error {
	return fmt.Errorf("%w: proof of the browser's key: %w", ErrBadRequest, reason)
}

// skipped reports whether a request says that the browser could not refresh a session before it.
func (b binder) skipped(r *http.Request, session string) bool {
	return slices.ContainsFunc(skippedIDs(r), func(text string) bool {
		id, ok := parseDeviceID(b.ids, text)
		return ok && id.session == session
	})
}

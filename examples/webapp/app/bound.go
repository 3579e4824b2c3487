package app

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// This file is about sessions that are bound to the browser's device. Elsewhere, a copy of all
// cookies is good for one access token, until that runs out.

// bind has browsers bind their sessions, where they can. Browsers do it over HTTPS only. A host
// begins with DeviceBoundReported, to see what proxies do to it: docs/bound.md.
//
// In fast motion there is none of it. A browser signs six times for a site in nine minutes, and no
// more, so it could not refresh every 20 seconds.
func (a *App) bind(cfg *sessionhttp.Config, p Pace) {
	if !a.secure || p == fast {
		return
	}
	cfg.DeviceBound = sessionhttp.DeviceBoundEnforced
	cfg.ProofKeys = [][]byte{a.options.ProofKey}
	// The browser need not refresh before what is for everybody, and before what has another
	// session.
	cfg.DeviceExclude = []string{"/page/", "/demo/events", "/support/"}
}

// refresher is what refreshes this browser's tokens: its maker, unless the browser has made a key.
// Such a session stays in real time, also on a page in fast motion.
func (a *App) refresher(r *http.Request) *sessionhttp.Handlers {
	_, err := r.Cookie("__Host-bound")
	if err == nil || r.Header.Get("Sec-Secure-Session-Id") != "" {
		return a.auth
	}
	return a.maker(r)
}

// unbound says why a browser's session is bound to no device, in the words of the page.
func (a *App) unbound(p Pace) string {
	const no = "No. Whoever copies your cookies has your session, too. "
	switch {
	case !a.secure:
		return no + "Browsers can prevent that over HTTPS: start the demo with -tls-cert and -tls-key."
	case p == fast:
		return no + "In fast motion, no browser could prevent that."
	}
	return no + "This browser cannot prevent that, or has not begun to."
}

// isBound tells the page whether the session is bound to the device.
func (a *App) isBound(w http.ResponseWriter, r *http.Request) {
	access, _ := sessionhttp.FromContext(r.Context())
	session, err := a.sessions.Session(r.Context(), access.SessionID)
	if err != nil {
		a.unavailable(w, r, err)
		return
	}
	answer(w, http.StatusOK, struct {
		Bound bool `json:"bound"`
	}{session.KeyThumbprint != ""})
}

// A jar is what a thief has who has copied all cookies of a browser.
type jar struct {
	at              time.Time // when they were copied
	access, refresh string
}

// copyOf returns the thief's copy of a session's cookies. The first time, that is the request's.
func (t *thief) copyOf(sessionID string, r *http.Request) jar {
	t.mu.Lock()
	defer t.mu.Unlock()
	if had, ok := t.jars[sessionID]; ok {
		return had
	}
	j := jar{at: time.Now()}
	for _, c := range r.Cookies() {
		switch {
		case strings.HasSuffix(c.Name, "access"):
			j.access = c.Value
		case strings.HasSuffix(c.Name, "refresh"):
			j.refresh = c.Value
		}
	}
	if len(t.jars) < maxVictims {
		t.jars[sessionID] = j
	}
	return j
}

// got puts the tokens into the thief's copy that a refresh with it has brought.
func (t *thief) got(sessionID string, tokens tokensession.Tokens) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if j, ok := t.jars[sessionID]; ok {
		t.jars[sessionID] = jar{j.at, tokens.AccessToken, tokens.RefreshToken}
	}
}

// steal plays a thief with all cookies of this browser, who has copied them to another device when
// this was called first. It tells until when the copy lets the thief in, and what becomes of a
// refresh with it. It is below the prefix, because only there the refresh cookie comes along.
func (a *App) steal(w http.ResponseWriter, r *http.Request) {
	access, _ := sessionhttp.FromContext(r.Context())
	copied := a.thief.copyOf(access.SessionID, r)
	story := struct {
		CopiedAt time.Time  `json:"copied_at"`
		Until    *time.Time `json:"until"`   // nil if the copy lets nobody in any more
		Refresh  string     `json:"refresh"` // "done", "needs_key" or "reuse"
	}{CopiedAt: copied.at}
	if token, err := a.sessions.Verify(copied.access); err == nil {
		story.Until = &token.ExpiresAt
	}
	tokens, err := a.sessions.Refresh(r.Context(), copied.refresh)
	switch {
	case err == nil:
		story.Refresh = "done"
		a.thief.got(access.SessionID, tokens)
	case errors.Is(err, tokensession.ErrProofRequired):
		story.Refresh = "needs_key"
	case errors.Is(err, tokensession.ErrReused):
		story.Refresh = "reuse"
	default:
		a.unavailable(w, r, err)
		return
	}
	answer(w, http.StatusOK, story)
}

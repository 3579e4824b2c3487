package sessionhttp

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// deviceRefresh answers the refresh that a browser makes by itself. What comes of the answer is the
// browser's matter, and only few of them are good (test/browser shows it):
//
//	200 with the instructions   it goes on
//	403 with a challenge        it signs, and comes again at once
//	503                         it keeps the session, and tries again with the next request
//	anything else               it forgets that it has registered
//
// So a browser that is to try again gets 503, whatever the reason, and one whose name of the
// session is of no use any more gets 400: the name of an earlier login, or of a session that is
// over. That is looked at before any challenge, because each costs one of the few signatures that a
// site has.
func (h *Handlers) deviceRefresh(w http.ResponseWriter, r *http.Request) {
	_, err := h.readForm(w, r)
	var b browser
	var id deviceID
	if err == nil {
		b, id, err = h.deviceSession(r)
	}
	if err == nil {
		err = h.checkDeviceProof(r, id, b.refresh)
	}
	if err != nil {
		h.refuseDevice(w, r, id, b, err)
		return
	}
	tokens, err := h.refreshProven(r, b, id)
	if err != nil {
		h.refuseDevice(w, r, id, b, err)
		return
	}
	h.setCookies(w, tokens)
	h.binder.trigger.set(w, "1", h.triggerLife(tokens))
	next := h.binder.refreshes.make(refreshChallengeOf(id, tokens.RefreshToken), h.m.Now())
	w.Header().Set(deviceChallengeHeader, deviceChallenge(next, id.text))
	h.instruct(w, r, id.text)
}

// refreshProven refreshes with a proof of the browser's key. While the policy is to report, it
// binds nothing. But the session can have been bound before, under another policy. Then the proof
// has to come with the token: one of before the binding that comes without is a stolen one.
func (h *Handlers) refreshProven(
	r *http.Request, b browser, id deviceID,
) (tokensession.Tokens, error) {
	proven := tokensession.WithKeyThumbprint(id.key.thumbprint)
	if h.binder.enforces() {
		return h.refreshBrowser(r, b, proven)
	}
	bound, err := h.isBound(r, id.session)
	switch {
	case err != nil:
		return tokensession.Tokens{}, err
	case bound:
		return h.refreshBrowser(r, b, proven)
	}
	return h.refreshBrowser(r, b)
}

// isBound reports whether a session is bound to a key. One that is over is not: there is a verdict
// about it, and nothing to wait for. The error says that nobody can tell.
func (h *Handlers) isBound(r *http.Request, session string) (bool, error) {
	s, lives, err := h.liveSession(r, session)
	return lives && s.KeyThumbprint != "", err
}

// triggerLife returns for how many seconds the browser need not refresh. The session can be unbound
// still, because the token had just been consumed by somebody else, a script in another tab: then
// the next request refreshes again, with the token that both have got, and binds.
func (h *Handlers) triggerLife(tokens tokensession.Tokens) int64 {
	if h.binder.enforces() && tokens.Session.KeyThumbprint == "" {
		return triggerAtFirst
	}
	return max(seconds(tokens.AccessExpiresAt, h.m.Now()), minTrigger)
}

// deviceSession returns the browser's cookies, and what it calls its session. Both have to be of
// the same one.
func (h *Handlers) deviceSession(r *http.Request) (browser, deviceID, error) {
	values := r.Header[deviceIDHeader]
	if len(values) != 1 {
		return browser{}, deviceID{}, badDevice(fmt.Errorf("%d names of a session", len(values)))
	}
	id, ok := parseDeviceID(h.binder.ids, values[0])
	if !ok {
		return browser{}, deviceID{}, badDevice(errors.New("it is of no session of ours"))
	}
	b, err := h.browser(r)
	switch {
	case err != nil:
		return browser{}, deviceID{}, err
	case b.refresh == "":
		return browser{}, deviceID{}, badDevice(errors.New("there is no refresh token in a cookie"))
	case b.session != id.session:
		return browser{}, deviceID{}, badDevice(errors.New("it is of another session than the cookies"))
	}
	return b, id, h.deviceKey(r, id)
}

// deviceKey returns an error unless the key in a browser's name of its session belongs to that
// session. The MAC says that it does. It may be by a secret of Config.ProofKeys that is no longer
// in use: a browser keeps the name for as long as its session lives. Then the session's record
// tells whether it is bound to that key.
func (h *Handlers) deviceKey(r *http.Request, id deviceID) error {
	if id.sealed {
		return nil
	}
	session, err := h.m.Session(r.Context(), id.session)
	switch {
	case errors.Is(err, tokensession.ErrUnavailable):
		return err
	case err != nil || session.KeyThumbprint != id.key.thumbprint:
		return badDevice(errors.New("it is of no key of the session's"))
	}
	return nil
}

// errChallenge means that the browser is to sign a new challenge.
var errChallenge = errors.New("sessionhttp: the browser's key has to sign a new challenge")

func (h *Handlers) checkDeviceProof(r *http.Request, id deviceID, refreshToken string) error {
	values := r.Header[deviceProofHeader]
	if len(values) == 0 {
		return errChallenge
	}
	proof, err := parseDeviceProof(values)
	if err != nil {
		return badDevice(err)
	}
	if proof.key != nil {
		return badDevice(errors.New("it brings a key"))
	}
	of := refreshChallengeOf(id, refreshToken)
	made, err := h.binder.refreshes.check(proof.challenge, of, h.m.Now())
	if err != nil {
		return fmt.Errorf("%w: %w", errChallenge, err)
	}
	if !proof.verifies(id.key) {
		return badDevice(errors.New("the signature does not verify"))
	}
	return h.checkUnused(r, id, made)
}

// checkUnused asks for a new challenge if the session was refreshed after the one at hand was made.
//
// The holder of the key may come with the token that was consumed last, however late, because the
// answer may have got lost. Whoever has seen a whole request of the browser's, in a log perhaps,
// could send it again, and would pass for the holder: they would get an access token, and the
// browser's own token would be one that others have displaced. So what the browser has signed
// before a refresh counts no more after it. A browser whose answer got lost signs once more.
//
// A challenge that was just made counts in any case. The session can have been refreshed by an
// instance whose clock is ahead, and the browser would sign one challenge after another.
func (h *Handlers) checkUnused(r *http.Request, id deviceID, made time.Time) error {
	if h.m.Now().Sub(made) <= challengeJustMade {
		return nil
	}
	session, err := h.m.Session(r.Context(), id.session)
	switch {
	case errors.Is(err, tokensession.ErrUnavailable):
		return err
	case err == nil && session.RefreshedAt.After(made.Add(time.Second)): // made is in whole seconds
		return fmt.Errorf("%w: %w", errChallenge, errUsedChallenge)
	}
	return nil
}

// refuseDevice answers a browser's refresh that came to nothing. The cookies are cleared on a
// verdict about the session, as for any refresh. But that the token is invalid can be a verdict
// about the browser's key alone, and then the cookies are good: if they are not, a script's refresh
// says so.
func (h *Handlers) refuseDevice(
	w http.ResponseWriter, r *http.Request, id deviceID, b browser, err error,
) {
	if errors.Is(err, errChallenge) {
		challenge := h.binder.refreshes.make(refreshChallengeOf(id, b.refresh), h.m.Now())
		w.Header().Set(deviceChallengeHeader, deviceChallenge(challenge, id.text))
		a := answer{http.StatusForbidden, badProof}
		if err == errChallenge { // there was no proof: so each round begins after a restart
			writeError(w, a)
			return
		}
		h.refuse(w, r, a, err)
		return
	}
	if clears(err) && !errors.Is(err, tokensession.ErrInvalidToken) {
		h.clearCookies(w)
	}
	h.refuseForm(w, r, err)
}

// unlessSkipped turns the error of an access token into one that is no verdict, where the browser
// could not refresh before this request.
func (h *Handlers) unlessSkipped(r *http.Request, err error) error {
	if !isVerdict(err) || !h.couldNotRefresh(r) {
		return err
	}
	return fmt.Errorf("%w: %w, and %w", tokensession.ErrUnavailable, err, skippedError(r))
}

// couldNotRefresh reports whether the browser says that it could not refresh before this request,
// and nobody else can, because the session is bound to its key. It is so, too, if the store cannot
// tell.
func (h *Handlers) couldNotRefresh(r *http.Request) bool {
	b, _ := h.browser(r)
	if !h.binder.on() || b.session == "" || !h.binder.skipped(r, b.session) {
		return false
	}
	bound, err := h.isBound(r, b.session)
	return bound || err != nil
}

// skippedError quotes what a request says of the refresh that its browser could not make.
func skippedError(r *http.Request) error {
	return fmt.Errorf("sessionhttp: the browser could not refresh before this request: %.300q",
		r.Header[deviceSkippedHeader])
}

// refreshedByBrowser reports whether the browser that sends a request refreshes its session by
// itself: it has registered, or the session is bound.
func (h *Handlers) refreshedByBrowser(r *http.Request, s tokensession.Session) bool {
	inCookie := len(h.access.values(r)) > 0
	return h.binder.on() && inCookie && (s.KeyThumbprint != "" || h.binder.triggered(r))
}

// leftToBrowser answers a script's refresh where the browser refreshes by itself. It does so before
// the next request without the trigger. So that is cleared, and the script asks for its session.
//
// Where the trigger is there, nothing is asked of the store. A browser that has not registered does
// not have it, unless a script has set it: then the next refresh comes without it.
//
// If the trigger is missing, the browser has tried. It may have the token of before the session was
// bound, because the answer that bound the session got lost. Without the key, that token is taken
// for a stolen one. So if the browser could not refresh, the token is not presented.
func (h *Handlers) leftToBrowser(w http.ResponseWriter, r *http.Request) bool {
	if !(h.binder.enforces() && h.binder.triggered(r)) && !h.couldNotRefresh(r) {
		return false
	}
	h.binder.trigger.clear(w)
	err := fmt.Errorf("%w: the browser refreshes by itself", tokensession.ErrProofRequired)
	h.refuseForm(w, r, err)
	return true
}

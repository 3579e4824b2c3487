package sessiontest

import (
	"context"
	"slices"

	"github.com/seed67bc9b7f/tokensession"
)

// LoggedIn fails the test unless the subject has a session.
func (w *World) LoggedIn(subject string) {
	w.t.Helper()
	if len(w.sessions(subject)) == 0 {
		w.t.Errorf("%s is not logged in", subject)
	}
}

// LoggedOut fails the test if the subject is logged in anywhere: if there is a session, or if a
// token that the subject has ever had in this world still works, be it in the hands of a thief or
// in a browser's cookie.
//
// It presents the tokens. Where one of them works, that is an error and the token is used up.
func (w *World) LoggedOut(subject string) {
	w.t.Helper()
	if sessions := w.sessions(subject); len(sessions) > 0 {
		w.t.Errorf("%s has %d sessions", subject, len(sessions))
	}
	w.mu.Lock()
	tokens, browsers := slices.Clone(w.tokens), slices.Clone(w.browsers)
	w.mu.Unlock()
	for _, tk := range tokens {
		if tk.Session.Subject == subject {
			w.works(tk, "of "+subject)
		}
	}
	for _, b := range browsers {
		for _, c := range b.jar.all() {
			access, err := w.Manager.Verify(c.Value)
			if err == nil && access.Subject == subject {
				w.t.Errorf("a browser has an access token of %s that still works", subject)
			}
		}
	}
}

// works fails the test if a token works.
func (w *World) works(tokens tokensession.Tokens, whose string) {
	w.t.Helper()
	if _, err := w.Manager.Verify(tokens.AccessToken); err == nil {
		w.t.Errorf("an access token %s still works", whose)
	}
	if _, err := w.Manager.Refresh(context.Background(), tokens.RefreshToken); err == nil {
		w.t.Errorf("a refresh token %s still works", whose)
	}
}

func (w *World) sessions(subject string) []tokensession.Session {
	w.t.Helper()
	sessions, err := w.Manager.Sessions(context.Background(), subject)
	w.check(err)
	return sessions
}

package app

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A thief is for the demo only, and what no server may have: it keeps refresh tokens. It reads them
// from the requests that browsers refresh with, as malware on the user's machine could.
type thief struct {
	mu     sync.Mutex
	stolen map[string][]string // by session: its first two refresh tokens that were used up
	jars   map[string]jar      // by session: see steal
}

func newThief() *thief { return &thief{stolen: map[string][]string{}, jars: map[string]jar{}} }

const maxVictims = 1000

type stolenKey struct{}

// watch hands the token of a refresh on to remember.
func (t *thief) watch(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for _, c := range r.Cookies() {
			if strings.HasSuffix(c.Name, "refresh") {
				r = r.WithContext(context.WithValue(r.Context(), stolenKey{}, c.Value))
			}
		}
		next.ServeHTTP(w, r)
	})
}

// remember is told when a session has been refreshed.
func (t *thief) remember(ctx context.Context, sessionID string) {
	token, _ := ctx.Value(stolenKey{}).(string)
	t.mu.Lock()
	defer t.mu.Unlock()
	if token == "" || len(t.stolen[sessionID]) == 2 || len(t.stolen) >= maxVictims {
		return
	}
	t.stolen[sessionID] = append(t.stolen[sessionID], token)
}

func (t *thief) forget(sessionID string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.stolen, sessionID)
	delete(t.jars, sessionID)
}

// loot returns a session's first refresh token, once the one after it has been used up, too: then
// it is too old for the grace period, however little time has passed.
func (t *thief) loot(sessionID string) (string, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if tokens := t.stolen[sessionID]; len(tokens) == 2 {
		return tokens[0], true
	}
	return "", false
}

// replay presents the stolen token, as its thief would at /auth/token, and tells what came of it.
func (a *App) replay(w http.ResponseWriter, r *http.Request) {
	access, _ := sessionhttp.FromContext(r.Context())
	token, ok := a.thief.loot(access.SessionID)
	if !ok {
		refuse(w, http.StatusConflict,
			"There is nothing to steal before this session has been refreshed twice.")
		return
	}
	_, err := a.sessions.Refresh(r.Context(), token)
	var reuse *tokensession.ReuseError
	switch {
	case errors.As(err, &reuse):
		// This is the moment to tell the user, by mail, that somebody else had been logged in.
		answer(w, http.StatusOK, struct {
			Presented uint64 `json:"presented"`
			Live      uint64 `json:"live"`
		}{reuse.Presented, reuse.Live})
	case err != nil:
		a.unavailable(w, r, err)
	default:
		refuse(w, http.StatusInternalServerError, "The thief got in.")
	}
}

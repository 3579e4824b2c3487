package movein

import (
	"context"
	"errors"
	"net/http"

	"github.com/alexedwards/scs/v2"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// FromSCS is middleware for the time in which some users still have a session of scs only. It logs
// them in, and the page goes on as if nothing had been. The key is that of the user in scs's
// session.
//
// If the answer with the new cookies is lost, the browser comes again with the old one only. Then
// the session that nobody has heard of is replaced, so that there is one all the same.
//
// Leave the session of scs alone until its own time is over. A second tab may be on its way with
// the old cookie, and may replace what the first one got. It finds its way by the old session, too.
// What ends the new session ends the old one with it: a logout, a change of password, a theft.
func FromSCS(
	old *scs.SessionManager, key string, sessions *tokensession.Manager, h *sessionhttp.Handlers,
) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return old.LoadAndSave(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			user := old.GetString(r.Context(), key)
			if _, err := r.Cookie("__Host-access"); user == "" || err == nil || r.Method != http.MethodGet {
				next.ServeHTTP(w, r)
				return
			}
			var opts []tokensession.StartOption
			if before := old.GetString(r.Context(), movedTo); before != "" {
				over, err := ended(r.Context(), sessions, before)
				switch {
				case err != nil:
					http.Error(w, http.StatusText(sessionhttp.Status(err)), sessionhttp.Status(err))
					return
				case over:
					_ = old.Destroy(r.Context()) // should it fail, it is tried at the next request
					next.ServeHTTP(w, r)
					return
				}
				opts = append(opts, tokensession.Replacing(before))
			}
			session, err := h.Login(w, r, user, opts...)
			if err != nil {
				http.Error(w, http.StatusText(sessionhttp.Status(err)), sessionhttp.Status(err))
				return
			}
			old.Put(r.Context(), movedTo, session.ID)
			// The cookies are in the answer. With the next request they are in the browser, too.
			http.Redirect(w, r, r.URL.RequestURI(), http.StatusSeeOther)
		}))
	}
}

// ended reports whether a session is over for another reason than that a second tab replaced it.
func ended(ctx context.Context, sessions *tokensession.Manager, id string) (bool, error) {
	session, err := sessions.Session(ctx, id)
	switch {
	case errors.Is(err, tokensession.ErrNotFound):
		return true, nil
	case err != nil:
		return false, err
	}
	return !session.RevokedAt.IsZero() && session.RevokeReason != tokensession.ReasonReplaced, nil
}

// movedTo is what the session of scs remembers of the move.
const movedTo = "tokensession"

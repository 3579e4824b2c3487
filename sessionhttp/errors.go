package sessionhttp

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/seed67bc9b7f/tokensession"
)

// What [Handlers.Login] and [Handlers.Logout] return beside the errors of package tokensession.
var (
	// ErrBadRequest means that the request is not one that a client of ours sends: a logout by GET,
	// two cookies of one name. [Status] is 400.
	ErrBadRequest = errors.New("sessionhttp: bad request")

	// ErrCrossOrigin means that the request was made by a page of another origin. [Status] is 403.
	ErrCrossOrigin = errors.New("sessionhttp: cross-origin request")
)

// An answer is what a client is told of an error: the status, and the error code of RFC 6749
// section 5.2 where that has one.
type answer struct {
	status int
	code   string
}

var (
	badRequest   = answer{http.StatusBadRequest, "invalid_request"}
	unauthorized = answer{http.StatusUnauthorized, "invalid_token"}
	notAllowed   = answer{http.StatusMethodNotAllowed, "invalid_request"}
	unavailable  = answer{http.StatusServiceUnavailable, "temporarily_unavailable"}
)

// The errors of RFC 9449 section 12.2.
const (
	badProof = "invalid_dpop_proof"
	useNonce = "use_dpop_nonce"
)

// refreshAnswer says what a refresh's error means. Only the verdicts are invalid_grant, and they
// look alike.
func refreshAnswer(err error) answer {
	switch {
	case errors.Is(err, tokensession.ErrUnavailable):
		return unavailable
	case errors.Is(err, tokensession.ErrInvalidScope):
		return answer{http.StatusBadRequest, "invalid_scope"}
	case errors.Is(err, ErrUseNonce):
		return answer{http.StatusBadRequest, useNonce}
	case errors.Is(err, ErrInvalidProof):
		return answer{http.StatusBadRequest, badProof}
	case isVerdict(err):
		return answer{http.StatusBadRequest, "invalid_grant"}
	case errors.Is(err, tokensession.ErrProofRequired):
		return answer{http.StatusBadRequest, badProof}
	case errors.Is(err, ErrBadRequest):
		return badRequest
	case errors.Is(err, errNoCookies):
		return answer{http.StatusBadRequest, "cookies_missing"}
	case errors.Is(err, ErrCrossOrigin):
		return answer{http.StatusForbidden, "access_denied"}
	default:
		return answer{http.StatusInternalServerError, "server_error"}
	}
}

// isVerdict reports whether an error says that a token is of no use any more.
func isVerdict(err error) bool {
	if errors.Is(err, tokensession.ErrUnavailable) {
		return false
	}
	for _, verdict := range []error{
		tokensession.ErrInvalidToken, tokensession.ErrExpired,
		tokensession.ErrRevoked, tokensession.ErrDenied,
	} {
		if errors.Is(err, verdict) {
			return true
		}
	}
	return false
}

// accessAnswer says what the error of an access token means, or one of a host's own handler.
func accessAnswer(err error) answer {
	var scope *scopeError
	var auth *authError
	var login *loginError
	switch {
	case errors.As(err, &login):
		return refreshAnswer(err)
	case errors.As(err, &scope):
		return answer{http.StatusForbidden, "insufficient_scope"}
	case errors.As(err, &auth):
		return answer{http.StatusUnauthorized, "insufficient_user_authentication"}
	case errors.Is(err, errNoToken):
		return unauthorized
	case errors.Is(err, errOtherSession):
		return answer{http.StatusUnauthorized, "session_changed"}
	case errors.Is(err, errClient):
		return answer{http.StatusUnauthorized, "invalid_client"}
	case errors.Is(err, ErrUseNonce):
		return answer{http.StatusUnauthorized, useNonce}
	case errors.Is(err, ErrInvalidProof):
		return answer{http.StatusUnauthorized, badProof}
	case errors.Is(err, tokensession.ErrDenied) && isVerdict(err):
		return answer{http.StatusForbidden, "access_denied"}
	case isVerdict(err):
		return unauthorized
	case errors.Is(err, tokensession.ErrProofRequired) && !errors.Is(err, tokensession.ErrUnavailable):
		return answer{http.StatusUnauthorized, badProof}
	}
	a := refreshAnswer(err)
	if a.status == http.StatusInternalServerError && errors.Is(err, tokensession.ErrNotFound) {
		return answer{http.StatusNotFound, "not_found"}
	}
	return a
}

// Status returns the HTTP status for an error of [Handlers.Login], [Handlers.Logout],
// [Handlers.Access] or a Manager, or one that [Config.Refuse] or [Config.OnError] is told: 503 for
// ErrUnavailable, where a client should try again, 401 for a verdict about a token, where there is
// none, and where the request was made in another session, 403 for ErrDenied, ErrCrossOrigin and a
// missing scope, 404 for ErrNotFound, as of a session's id that Revoke does not know, 400 for
// ErrBadRequest, ErrInvalidScope and cookies that may not come from another origin, and 500 for
// what only the program can have caused.
func Status(err error) int { return accessAnswer(err).status }

// refuse answers an error and tells the host its cause. It writes nothing of the request or the
// cause.
func (g *gate) refuse(w http.ResponseWriter, r *http.Request, a answer, cause error) {
	g.announce(w, r, a, cause)
	writeError(w, a)
}

// announce tells the host an error's cause, and sets the headers that belong to its status.
func (g *gate) announce(w http.ResponseWriter, r *http.Request, a answer, cause error) {
	g.onError(r, cause)
	switch a.status {
	case http.StatusServiceUnavailable:
		w.Header().Set("Retry-After", "1")
	case http.StatusUnauthorized:
		if w.Header().Get("WWW-Authenticate") == "" {
			w.Header().Set("WWW-Authenticate", `Bearer error="`+a.code+`"`)
		}
	}
}

func writeError(w http.ResponseWriter, a answer) {
	writeJSON(w, a.status, struct {
		Error string `json:"error"`
	}{a.code})
}

// writeJSON answers with v. An answer that no one can read any more is the client's loss.
func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}

// neverStored keeps what is answered out of caches (RFC 6749 section 5.1).
func neverStored(w http.ResponseWriter) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Pragma", "no-cache")
}

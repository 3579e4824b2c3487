package sessionclient

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

const insufficientAuthentication = "insufficient_user_authentication"

// A StepUp is what a server asks for before it does what a request wants: that the user proves once
// more who they are, more recently or by better means (RFC 9470). [StepUpOf] reads it.
type StepUp struct {
	// MaxAge is how long ago the proof may be at most. If it is nil, any time will do. If it leads
	// to 0, the user has to prove it now.
	MaxAge *time.Duration

	// ACRValues are the ways of proving that will do, the preferred one first, in the server's own
	// words. Package sessionhttp names the methods that it requires. If there are none, any will
	// do.
	ACRValues []string

	// Scope is what else the access token has to be good for. It is usually empty.
	Scope string
}

// StepUpOf reports whether a response asks for a step-up, and for which one. A [Transport] passes
// such a response on at once, because no refresh cures it. The program asks the user for the
// password or the passkey, sends it to the server's endpoint for that, through the Transport and
// with the session's token, and makes the request again.
func StepUpOf(resp *http.Response) (StepUp, bool) {
	for _, c := range challengesOf(resp) {
		if c.params["error"] != insufficientAuthentication {
			continue
		}
		asked := StepUp{
			ACRValues: strings.Fields(c.params["acr_values"]),
			Scope:     c.params["scope"],
		}
		if seconds, err := strconv.ParseUint(c.params["max_age"], 10, 63); err == nil {
			most := min(seconds, uint64(longestLifetime/time.Second))
			maxAge := time.Duration(most) * time.Second
			asked.MaxAge = &maxAge
		}
		return asked, true
	}
	return StepUp{}, false
}

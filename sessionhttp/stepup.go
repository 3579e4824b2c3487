package sessionhttp

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// MaxAuthAge requires that the user has proved who they are no longer ago than that, as for a
// change of the e-mail address. Otherwise the answer is 401 with the error
// insufficient_user_authentication and the max_age in seconds (RFC 9470). No refresh helps then:
// the host asks for the password or the passkey once more and calls [Handlers.Reauthenticated] or
// [tokensession.Manager.Reauthenticate].
func MaxAuthAge(d time.Duration) RequireOption {
	return func(q *requirement) {
		if q.auth.maxAge == nil || d < *q.auth.maxAge {
			q.auth.maxAge = &d
		}
	}
}

// AuthMethods requires that the user has proved who they are by all of these methods, the last time
// that they did (see [tokensession.WithAuthMethods]). Otherwise the answer is as for [MaxAuthAge],
// and names the methods as acr_values, because RFC 9470 has no other place for them. A method
// counts however long ago it was used: for a recent use, add MaxAuthAge.
func AuthMethods(names ...string) RequireOption {
	return func(q *requirement) { q.auth.methods = append(q.auth.methods, names...) }
}

// An authRequirement is what is required of how the user has proved who they are.
type authRequirement struct {
	maxAge  *time.Duration // nil: however long ago
	methods []string
}

// met reports whether an access token says that enough was proved. An auth_time that is not there
// is too long ago. It is in whole seconds, so that an age counts as up to a second more than it is.
func (q authRequirement) met(access tokensession.Access, now func() time.Time) bool {
	for _, method := range q.methods {
		if !slices.Contains(access.AuthMethods, method) {
			return false
		}
	}
	return q.maxAge == nil || now().Sub(access.AuthTime) <= *q.maxAge
}

// challenge returns the parameters of the challenge of RFC 9470 section 3.
func (q authRequirement) challenge() string {
	var b strings.Builder
	b.WriteString(`error="insufficient_user_authentication"`)
	if len(q.methods) > 0 {
		fmt.Fprintf(&b, `, acr_values="%s"`, strings.Join(q.methods, " "))
	}
	if q.maxAge != nil {
		fmt.Fprintf(&b, `, max_age="%d"`, int64(max(*q.maxAge, 0)/time.Second))
	}
	return b.String()
}

// An authError says what was required of how the user has proved who they are.
type authError struct{ required authRequirement }

func (e *authError) Error() string {
	return "sessionhttp: insufficient user authentication: " + e.required.challenge()
}

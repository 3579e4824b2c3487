package sessiongrpc

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/seed67bc9b7f/tokensession"
)

// ReasonStepUp is the reason of a call that needs a proof of who the user is: a more recent one, or
// one by another method. The code is Unauthenticated. The metadata of the [errdetails.ErrorInfo]
// has what is required, as far as it is: "max_age" in seconds, and "acr_values" with the names of
// the methods, separated by spaces. No refresh helps, so the client asks the user.
const ReasonStepUp = "INSUFFICIENT_USER_AUTHENTICATION"

// MaxAuthAge requires that the user has proved who they are no longer ago than that. Otherwise the
// answer has [ReasonStepUp]: see [sessionhttp.MaxAuthAge]. Of two, the shorter one holds.
func MaxAuthAge(d time.Duration) Option {
	return func(r *rules) {
		if r.auth.maxAge == nil || d < *r.auth.maxAge {
			r.auth.maxAge = &d
		}
	}
}

// AuthMethods requires that the user has proved who they are by all of these methods, the last time
// that they did. Otherwise the answer has [ReasonStepUp]: see [sessionhttp.AuthMethods].
func AuthMethods(names ...string) Option {
	return func(r *rules) { r.auth.methods = append(r.auth.methods, names...) }
}

// An authRule is what is required of how the user has proved who they are.
type authRule struct {
	maxAge  *time.Duration // nil: however long ago
	methods []string
}

// met reports whether an access token says that enough was proved. An auth_time that is not there
// is too long ago.
func (q authRule) met(access tokensession.Access, v Verifier) bool {
	for _, method := range q.methods {
		if !slices.Contains(access.AuthMethods, method) {
			return false
		}
	}
	return q.maxAge == nil || v.Now().Sub(access.AuthTime) <= *q.maxAge
}

func (q authRule) refusal() error {
	info := reason(ReasonStepUp)
	info.Metadata = map[string]string{}
	if q.maxAge != nil {
		info.Metadata["max_age"] = strconv.FormatInt(int64(max(*q.maxAge, 0)/time.Second), 10)
	}
	if len(q.methods) > 0 {
		info.Metadata["acr_values"] = strings.Join(q.methods, " ")
	}
	return withDetails(codes.Unauthenticated, "insufficient user authentication", info)
}

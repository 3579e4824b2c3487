package sessionclient

import (
	"errors"
	"fmt"

	"github.com/seed67bc9b7f/tokensession"
)

// Why a [Transport] has no token for a request, besides [tokensession.ErrUnavailable], which means that it can be tried
// again later. An [http.Client] wraps them in a [net/url.Error]; [errors.Is] finds them.
var (
	// ErrSessionEnded means that the session is over: the token endpoint refused the refresh token for good, or the
	// access token has expired and there is no refresh token. The user has to log in again.
	ErrSessionEnded = errors.New("sessionclient: the session has ended")

	// ErrNoTokens is returned by a [TokenStore] that holds no tokens, and by the Transport then: nobody is logged in.
	ErrNoTokens = errors.New("sessionclient: no tokens")
)

// unavailable is an ErrUnavailable with its cause. A cause that looks like a verdict, say of a base that is a
// Transport itself, is told but not wrapped.
func unavailable(doing string, cause error) error {
	if errors.Is(cause, ErrSessionEnded) || errors.Is(cause, ErrNoTokens) {
		return fmt.Errorf("%w: %s: %v", tokensession.ErrUnavailable, doing, cause)
	}
	return fmt.Errorf("%w: %s: %w", tokensession.ErrUnavailable, doing, cause)
}

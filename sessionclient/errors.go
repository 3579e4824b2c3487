package sessionclient

import (
	"errors"
	"fmt"

	"github.com/seed67bc9b7f/tokensession"
)

// These say why a [Transport] has no token for a request. There is one more reason,
// [tokensession.ErrUnavailable], which means that the program can try again later. An [http.Client]
// wraps them in a [net/url.Error], and [errors.Is] finds them there.
var (
	// ErrSessionEnded means that the session is over and the user has to log in again. Either the
	// token endpoint refused the refresh token for good, or the access token has expired and there
	// is no refresh token.
	ErrSessionEnded = errors.New("sessionclient: the session has ended")

	// ErrSessionChanged means that another session has begun since the request was made, such as
	// that of another user. The request was not sent, because it was made for the earlier session.
	// If the program means it for the new one, it makes the request again.
	ErrSessionChanged = errors.New(
		"sessionclient: another session has begun since the request was made")

	// ErrNoTokens means that nobody is logged in. A [TokenStore] that holds no tokens returns it,
	// and then the Transport does, too.
	//
	// It also means that the tokens in the store are bound to another key than [Config.Key]. The
	// error says so, and the tokens stay as they are.
	ErrNoTokens = errors.New("sessionclient: no tokens")
)

// ErrProofRefused means that a token endpoint has refused the proof of [Config.Key]
// (invalid_dpop_proof). That is no verdict about the session, and the tokens stay: the error of a
// refresh is a [tokensession.ErrUnavailable], too. To ask again soon does not help. Perhaps the
// server does not see the URL that the program uses, because a proxy changes it, or the session is
// bound to another key.
var ErrProofRefused = errors.New("sessionclient: the proof of the key was refused")

// ErrExposed means that others than its owner can read or change a file. [Config.OnError] is told
// of it if it is a [TokenFile], and everything works nevertheless. [LoadKey] fails with it.
var ErrExposed = errors.New("sessionclient: others can use the file")

// unavailable returns an ErrUnavailable with its cause. A cause can look like a verdict of ours,
// for instance if the base is a Transport, too. Such a cause is told but not wrapped, so that
// errors.Is does not take an outage for the end of the session.
func unavailable(doing string, cause error) error {
	if errors.Is(cause, ErrSessionEnded) || errors.Is(cause, ErrNoTokens) {
		return fmt.Errorf("%w: %s: %v", tokensession.ErrUnavailable, doing, cause)
	}
	return fmt.Errorf("%w: %s: %w", tokensession.ErrUnavailable, doing, cause)
}

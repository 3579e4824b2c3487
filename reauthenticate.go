package tokensession

import (
	"cmp"
	"context"
)

// Reauthenticate changes how the user of a session has proved who they are, after the host has
// checked the password or the passkey once more: a step-up. The auth_time, amr and acr of the
// access tokens are from now on those that the options say, and nothing of before: name all methods
// that count. The session goes on with its ID, its attributes and its end, and [Config.Authorize]
// is asked, about the session as it is to be. Access tokens made before are outdated
// ([ErrOutdated]).
//
// The Tokens have an access token and no refresh token, because the client has one. With [Rotating]
// they have both. Use it wherever the refresh token comes along with the request: else somebody who
// holds a copy of it inherits the step-up unseen. A refresh token that was consumed a moment ago is
// answered with the same successor, as by [Manager.Refresh].
//
// The session is [ErrNotFound] if the store does not know it, and else the errors are those of
// Refresh. They end the session in the same cases, and no others. With a Rotating token of another
// session the error is [ErrInvalidToken], and nothing has happened. After [ErrUnavailable] the
// session may have changed or not; call it again.
//
// Reauthenticate does not ask whose session it is. Take the ID from a verified access token, and
// check the proof against that token's subject.
func (m *Manager) Reauthenticate(
	ctx context.Context, sessionID string, opts ...AuthOption,
) (Tokens, error) {
	var o authOptions
	for _, opt := range opts {
		opt.applyAuth(&o)
	}
	r := refresh{
		Manager: m, id: sessionID, options: o.refreshOptions, presented: m.now(),
		proof: &o.proof, named: o.rotating == nil,
	}
	err := cmp.Or(o.proof.check(r.presented), r.options.check(), checkSessionID(sessionID))
	if err != nil {
		return Tokens{}, err
	}
	if err := ctx.Err(); err != nil {
		return Tokens{}, unavailable("reauthenticating", err)
	}
	if o.rotating != nil {
		var ok bool
		if r.token, ok = parseRefreshToken(*o.rotating); !ok {
			return Tokens{}, invalid("Rotating: malformed refresh token")
		}
		if r.token.handle.sessionID() != sessionID {
			return Tokens{}, invalid("Rotating: refresh token of another session")
		}
	}
	return r.run(ctx)
}

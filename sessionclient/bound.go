package sessionclient

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// How tokens are bound to a key.
//
// A Transport with a key proves it at each login and each refresh. A server that knows DPoP binds
// the session to the key then, for good. The tokens are worth nothing without the key, and another
// key is as good as none.
//
// So the store keeps, beside the tokens, which key was proved when they were given. Several
// processes may share the store, and one of them may have another key: it was started before the
// user logged in with a new one, or it has none. If such a process presented the tokens, the server
// would refuse them for good, and the process would take the refusal for the end of the session. So
// to a Transport with another key, such tokens are no tokens. They stay, and their session goes on.
//
// Only a logout ends such a session, because a user who lost the key must be able to end it. No
// server asks for a proof then.

// The two types of access tokens (RFC 6750, RFC 9449 section 5). They are also the schemes by which
// they are sent.
const (
	bearer = "Bearer"
	dpop   = "DPoP"
)

// exchange sends a request that is answered with tokens. If there is a key, the server may want
// another proof. The request is then sent once more, and again is called before.
func (c *core) exchange(req *http.Request, again func()) (*http.Response, error) {
	if c.prover == nil {
		return whole(c.cfg.Base.RoundTrip(req))
	}
	return c.prover.roundTrip(req, again)
}

// sendWithToken sends a request that has the access token.
func (c *core) sendWithToken(
	req *http.Request, tokens tokensession.Tokens,
) (*http.Response, error) {
	scheme := schemeOf(tokens)
	req.Header.Set("Authorization", scheme+" "+tokens.AccessToken)
	if scheme == dpop {
		return c.prover.roundTrip(req, func() {})
	}
	return whole(c.cfg.Base.RoundTrip(req))
}

// parse reads an answer with tokens. It notes the key that was proved for them, whether or not the
// server has bound them to it: a server may bind the refresh token only, and does not say so.
func (c *core) parse(body []byte, asked time.Time) (tokensession.Tokens, error) {
	tokens, err := ParseTokens(body, asked)
	if err == nil && c.thumbprint() == "" && schemeOf(tokens) == dpop {
		err = errors.New("sessionclient: the access token is bound to a key, and Config.Key is nil")
	}
	if err != nil {
		return tokensession.Tokens{}, err
	}
	tokens.Session.KeyThumbprint = c.thumbprint()
	return tokens, nil
}

// thumbprint is that of the Transport's key, or "" if it has none.
func (c *core) thumbprint() string {
	if c.prover == nil {
		return ""
	}
	return c.prover.key.thumbprint
}

// ofAnotherKey returns an ErrNoTokens if tokens are bound to another key than the Transport's.
func (c *core) ofAnotherKey(tokens tokensession.Tokens) error {
	key, mine := keyOf(tokens), c.thumbprint()
	switch {
	case mine == "" && (key != "" || schemeOf(tokens) == dpop):
		return fmt.Errorf("%w that can be used: those in the store are bound to a key, "+
			"and Config.Key is nil", ErrNoTokens)
	case key != "" && key != mine:
		return fmt.Errorf("%w that can be used: those in the store are bound to the key %s, "+
			"and Config.Key is %s", ErrNoTokens, key, mine)
	}
	return nil
}

// schemeOf returns how an access token is sent. If the store does not keep the type, a token of a
// Manager tells it.
func schemeOf(tokens tokensession.Tokens) string {
	if strings.EqualFold(tokens.TokenType, dpop) ||
		tokens.TokenType == "" && confirmationIn(tokens.AccessToken) != "" {
		return dpop
	}
	return bearer
}

// keyOf returns the thumbprint of the key that was proved for tokens, or "" if it is not known.
func keyOf(tokens tokensession.Tokens) string {
	if tokens.Session.KeyThumbprint != "" || strings.EqualFold(tokens.TokenType, bearer) {
		return tokens.Session.KeyThumbprint
	}
	return confirmationIn(tokens.AccessToken)
}

// confirmationIn returns the thumbprint in an access token that is a JWT (RFC 9449 section 6.1), or
// "". It does not verify the token, because whoever can choose the tokens in the store could choose
// what the store says of them, too.
func confirmationIn(accessToken string) string {
	var claims struct {
		Confirmation struct {
			Thumbprint string `json:"jkt"`
		} `json:"cnf"`
	}
	if !readClaims(accessToken, &claims) {
		return ""
	}
	return claims.Confirmation.Thumbprint
}

// readClaims reads claims of an access token that is a JWT, and reports whether it is one.
func readClaims(accessToken string, into any) bool {
	parts := strings.Split(accessToken, ".")
	if len(parts) != 3 {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	return err == nil && json.Unmarshal(payload, into) == nil
}

// tokenTypeOf returns the type of tokens in its usual form, and whether it is known.
func tokenTypeOf(name string) (string, bool) {
	for _, known := range []string{bearer, dpop} {
		if strings.EqualFold(name, known) {
			return known, true
		}
	}
	return "", false
}

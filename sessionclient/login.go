package sessionclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/seed67bc9b7f/tokensession"
)

// logoutTries is how often a logout looks again at a store that others change at the same time.
const logoutTries = 5

// Token returns the access token that a request would be sent with, for what is not sent by an
// [http.Client]: a call of gRPC, or the handshake of a WebSocket. It refreshes as a request does,
// and fails with the same errors. Ask for each call or connection anew, because the token changes.
//
// The result has AccessToken, TokenType, AccessExpiresAt and Scope. It has no refresh token, which
// only the token endpoint is to see. The caller sees to it that the token goes nowhere else than to
// the servers that it is for. A token of the TokenType DPoP is worth nothing without a proof, which
// only requests have that a Transport or a [Prover] sends.
func (t *Transport) Token(ctx context.Context) (tokensession.Tokens, error) {
	tokens, err := t.core().tokens(ctx)
	if err != nil {
		return tokensession.Tokens{}, err
	}
	return accessOf(tokens), nil
}

// TokenInstead returns the token to try once instead of one that a server has refused, such as with
// the code Unauthenticated of gRPC. It refreshes if nobody else has done so since. It returns the
// refused one if a new one would not help: the last refresh for a refused token was a moment ago
// and did not help, or somebody else has logged in. A program that sends HTTP requests does not
// need it.
func (t *Transport) TokenInstead(
	ctx context.Context, refused tokensession.Tokens,
) (tokensession.Tokens, error) {
	const noOrigin = ""
	next, err := t.core().afterRefusal(ctx, noOrigin, refused)
	if err != nil {
		return tokensession.Tokens{}, err
	}
	return accessOf(next), nil
}

func accessOf(tokens tokensession.Tokens) tokensession.Tokens {
	return tokensession.Tokens{
		AccessToken:     tokens.AccessToken,
		TokenType:       tokens.TokenType,
		AccessExpiresAt: tokens.AccessExpiresAt,
		Scope:           tokens.Scope,
	}
}

// Login sends a request that logs a user in, and saves the tokens of the answer to the store, in
// place of those that are there. The answer must be that of a token endpoint (RFC 6749 section
// 5.1), with the status 200. The program makes the request: with a password, a code, or whatever
// the server wants. No token is sent with it, and no redirect is followed.
//
// An answer without tokens is a [LoginError]. If no answer came, the error is a
// [tokensession.ErrUnavailable]. In both cases the store is as it was. Login looks whether the
// store can save before it sends the request, if the store is a [TokenPreparer].
//
// Requests that were made before a login of another user are not sent as that user: see
// [ErrSessionChanged]. A session that was there before goes on at the server, unless the server
// ends it. To end it, call [Transport.Logout] before.
func (t *Transport) Login(req *http.Request) error {
	c := t.core()
	err := c.mayLogin(req)
	if err != nil {
		return closeBody(req, err)
	}
	asked := c.now()
	resp, err := c.exchange(req, func() {})
	if err != nil {
		return unavailable("logging in", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return unavailable("logging in", err)
	}
	if resp.StatusCode != http.StatusOK {
		return &LoginError{resp.StatusCode, resp.Header, body, errorCode(body)}
	}
	tokens, err := c.parse(body, asked)
	if err != nil {
		return &LoginError{resp.StatusCode, resp.Header, body, ", but: " + err.Error()}
	}
	// The session has begun. A request that is cancelled now must not lose it.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(req.Context()), storeTimeout)
	defer cancel()
	if err := c.store.Save(ctx, tokens); err != nil {
		return fmt.Errorf("sessionclient: saving the tokens of a login: %w", err)
	}
	return nil
}

// mayLogin returns an error if the tokens of the answer could be read on the way, or not be saved.
func (c *core) mayLogin(req *http.Request) error {
	origin := originOf(req.URL)
	if origin == "" {
		return errors.New("sessionclient: Login: the request's URL does not begin with https://")
	}
	if req.URL.Scheme == "http" && !c.cfg.InsecureAllowPlainHTTP && !isLoopback(req.URL.Hostname()) {
		return errors.New("sessionclient: Login: plain http needs InsecureAllowPlainHTTP, " +
			"except to a loopback address")
	}
	if store, ok := c.store.(TokenPreparer); ok {
		prepared, err := store.Prepare(req.Context())
		if err != nil {
			return fmt.Errorf("sessionclient: Login: preparing to save the tokens: %w", err)
		}
		prepared.Discard()
	}
	return nil
}

// A LoginError is an answer to [Transport.Login] that has no tokens: the password was wrong, or the
// server asks for a second factor. The program reads the Body, which is in the server's own form.
// The error itself does not show it.
type LoginError struct {
	StatusCode int
	Header     http.Header
	Body       []byte // 128 KiB of it at most
	reason     string
}

func (e *LoginError) Error() string {
	return fmt.Sprintf("sessionclient: the login was answered %d%s", e.StatusCode, e.reason)
}

// Is reports that the error is an [ErrProofRefused], if the server has refused the proof.
func (e *LoginError) Is(target error) bool {
	return target == ErrProofRefused && e.reason == invalidProof
}

// Logout ends the session at the server's revocation endpoint (RFC 7009), and then removes the
// tokens from the store. If nobody is logged in, it does nothing and returns nil.
//
// If the server cannot be reached, or does not confirm the end, the error is a
// [tokensession.ErrUnavailable], and the tokens stay, so that the program can try again: a session
// that nobody can end any more would go on at the server. A program that wants to forget the tokens
// nevertheless saves the zero Tokens to its store.
//
// A login that is saved meanwhile stays. A session that is bound to another key than [Config.Key]
// is ended, too, because a user who has lost the key must be able to end it.
func (t *Transport) Logout(ctx context.Context) error {
	c := t.core()
	tokens, err := c.newest(c.readStore(ctx))
	if errors.Is(err, ErrNoTokens) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.revoke(ctx, tokens); err != nil {
		return err
	}
	return c.forget(ctx, tokens)
}

// revoke ends the session of tokens at the server. Any of the session's refresh tokens will do, so
// a refresh that runs at the same time does no harm.
func (c *core) revoke(ctx context.Context, tokens tokensession.Tokens) error {
	if c.revokeURL == "" {
		return errors.New("sessionclient: Logout needs Config.RevokeURL, because the path of the " +
			"token endpoint does not end in /token")
	}
	form := url.Values{"token": {tokens.RefreshToken}, "token_type_hint": {"refresh_token"}}
	if tokens.RefreshToken == "" {
		form = url.Values{"token": {tokens.AccessToken}, "token_type_hint": {"access_token"}}
	}
	if c.cfg.ClientID != "" {
		form.Set("client_id", c.cfg.ClientID)
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.RefreshTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.revokeURL,
		strings.NewReader(form.Encode()))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	resp, err := whole(c.cfg.Base.RoundTrip(req))
	if err != nil {
		return unavailable("logging out", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	switch {
	case err != nil:
		return unavailable("logging out", err)
	case resp.StatusCode == http.StatusOK && isAnswer(body):
		return nil
	case resp.StatusCode == http.StatusOK:
		return unavailable("logging out",
			errors.New("the answer 200 is not that of a revocation endpoint"))
	}
	return unavailable("logging out", fmt.Errorf("the revocation endpoint answered %d%s",
		resp.StatusCode, errorCode(body)))
}

// isAnswer reports whether the body of a 200 is that of a revocation endpoint: empty, or JSON. RFC
// 7009 section 2.2 has a client look at the status only. But a proxy, or a network that wants a
// login, may answer 200 with a page of its own, and then nothing has ended.
func isAnswer(body []byte) bool { return len(bytes.TrimSpace(body)) == 0 || json.Valid(body) }

// forget removes the tokens of a session that is over from the store, also those that a refresh has
// saved meanwhile. It leaves those of another session.
func (c *core) forget(ctx context.Context, over tokensession.Tokens) error {
	for range logoutTries {
		stored, err := c.readStore(ctx)
		if errors.Is(err, ErrNoTokens) {
			return nil
		}
		if err != nil {
			return err
		}
		same, known := compareSessions(stored, over)
		if !same || !known && stored.RefreshToken != over.RefreshToken {
			return nil
		}
		removed, err := unprepared{c.store}.Swap(ctx, stored.RefreshToken, tokensession.Tokens{})
		if err != nil {
			return unavailable("removing the tokens of a session that is over", err)
		}
		if removed {
			return nil
		}
	}
	return unavailable("removing the tokens of a session that is over",
		errors.New("others changed them again and again"))
}

package sessionclient

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// A Transport is an [http.RoundTripper] for Go programs that hold the tokens of a session. It adds
// the access token to each request. It refreshes the token at a token endpoint (RFC 6749 section 6)
// shortly before the token expires, or when a response refuses it with a 401. After a 401 it sends
// the request once more, if the request has no body or its body can be had again
// ([http.Request.GetBody]). However many requests need a new token, one refresh gets it.
//
// [Transport.Login] and [Transport.Logout] do what they say. The Transport asks its [TokenStore] at
// each request. So a program may also log in or out by saving to the store, and several processes
// may share one store. A request is sent with tokens of the session that was there when the request
// was made, or not at all: see [ErrSessionChanged]. New tokens are
// saved before they are used, even if the request that needed them was cancelled. For that, a
// refresh runs in a goroutine of its own, which ends when the refresh does. Before a program exits,
// it calls [Transport.Wait].
//
// Only the token endpoint's invalid_grant ends the session. Then requests fail with
// [ErrSessionEnded], and the Transport calls [Config.OnSessionEnd]. If the endpoint cannot be
// reached, is overloaded, or answers nonsense, the tokens stay. A request that cannot do without a
// new token then fails with [tokensession.ErrUnavailable]. If the answer to a refresh may be lost,
// the Transport repeats the refresh with the same token for 8 seconds. A Manager with the usual
// [tokensession.Config.GracePeriod] of 10 seconds gives the same answer again.
//
// With a [Config.Key], the Transport proves at each login and each refresh that it holds the key
// (DPoP, RFC 9449). A server that binds its tokens to the key gives access tokens of the type DPoP,
// and each request with such a token brings a proof of its own. See [Prover] for what a proof is,
// and for when a request is sent once more because of one. Tokens in the store that are bound to
// another key are never sent, and requests fail with [ErrNoTokens]. A key that signs no proof is an
// [tokensession.ErrUnavailable].
//
// The token goes to the origins that the program named and to no other, redirects included.
// Requests to other origins are passed on as they are, and so are requests that have an
// Authorization header.
//
// Make a Transport with [New]. It is safe for concurrent use, and prints without tokens.
type Transport struct {
	// core is a function because package fmt prints a function as an address. It would print what a
	// pointer leads to, tokens included, where a Transport is in an unexported field: there fmt
	// calls no Format.
	core func() *core
}

var _ http.RoundTripper = (*Transport)(nil)

// A core is what a Transport is made of.
type core struct {
	tokenURL  string
	revokeURL string // "" if it is not known
	store     TokenStore
	cfg       Config
	prover    *prover         // nil without a key
	origins   map[string]bool // as originOf names them
	state     state
}

// A state is what a Transport knows beyond what the store holds. The lock is held for moments only,
// never while the store or the network is used.
type state struct {
	mu       sync.Mutex
	flight   *flight                // the refresh that runs, if one does
	ended    string                 // the sessionKey of the session that is known to be over
	failed   failure                // the last refresh that failed for now
	unsaved  *unsavedTokens         // tokens that the store would not take; nil if there are none
	replaced map[string]replacement // by origin: the token that took the place of a refused one
	lifetime time.Duration          // of the last access token that a refresh gave; 0 if unknown

	exposureTold bool // OnError was told that others can use the tokens in the store
}

// RoundTrip sends the request with the access token. If there is no usable token, its error is
// [ErrNoTokens], [ErrSessionEnded] or [tokensession.ErrUnavailable]. Any other error is that of the
// request's context or of [Config.Base].
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	c := t.core()
	origin := originOf(req.URL)
	if !c.origins[origin] || len(req.Header.Values("Authorization")) > 0 {
		resp, err := c.cfg.Base.RoundTrip(req)
		if err == nil && resp != nil {
			rememberRedirect(resp, req, redirectedFrom(req))
		}
		return resp, err
	}
	tokens, err := c.tokens(req.Context())
	if err == nil && redirectedFromAnother(req, tokens) {
		err = ErrSessionChanged
	}
	if err != nil {
		return nil, closeBody(req, err)
	}
	resp, err := c.send(req, req.Body, tokens)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || noTokenHelps(resp) {
		return resp, err
	}
	freeConnection(resp) // a refresh may need it
	next, err := c.afterRefusal(req.Context(), origin, tokens)
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	if next.AccessToken == tokens.AccessToken {
		return resp, nil
	}
	body, ok := replayBody(req)
	if !ok {
		return resp, nil
	}
	resp.Body.Close()
	resp, err = c.send(req, body, next)
	if err == nil && resp.StatusCode != http.StatusUnauthorized {
		c.refreshHelped(origin, next)
	}
	return resp, err
}

// send sends a copy of the request. The response leads back to the original and not to the copy,
// because a program may print a response's request, and the copy contains the token.
func (c *core) send(
	req *http.Request, body io.ReadCloser, tokens tokensession.Tokens,
) (*http.Response, error) {
	sent := req.Clone(req.Context())
	if sent.Header == nil {
		sent.Header = http.Header{}
	}
	sent.Body = body
	sent.Trailer = req.Trailer // not a copy, because its values are set while the body is read
	resp, err := c.sendWithToken(sent, tokens)
	if err == nil {
		resp.Request = req
		rememberRedirect(resp, req, identityOf(tokens))
	}
	return resp, err
}

// tokens returns tokens to send a request with. They are of the session that is there when it is
// called.
func (c *core) tokens(ctx context.Context) (tokensession.Tokens, error) {
	tokens, err := c.load(ctx)
	if err != nil {
		return tokensession.Tokens{}, err
	}
	if told := c.exposureToTell(); told != nil {
		done := make(chan struct{})
		go func() { defer close(done); c.cfg.OnError(told) }()
		<-done
	}
	now := c.now()
	c.state.mu.Lock()
	ended := sessionKey(tokens) == c.state.ended && hasEnded(tokens, now)
	early := c.dueEarly(tokens, now)
	resave := c.state.unsaved != nil && c.state.unsaved.noSave.over(now)
	c.state.mu.Unlock()
	switch {
	case ended:
		return tokensession.Tokens{}, ErrSessionEnded
	case expired(tokens, now):
		return c.refreshExpired(ctx, tokens)
	case early:
		return c.refreshEarly(ctx, tokens)
	case resave:
		// The request can go whether or not the store takes the tokens now. Only its own end stops
		// it.
		if err := c.saveNow(ctx); err != nil && ctx.Err() != nil {
			return tokensession.Tokens{}, err
		}
	}
	return tokens, nil
}

// refreshExpired returns new tokens of the same session.
func (c *core) refreshExpired(
	ctx context.Context, tokens tokensession.Tokens,
) (tokensession.Tokens, error) {
	next, err := c.refresh(ctx, tokens.AccessToken, false)
	if err == nil && !sameSession(tokens, next) {
		err = ErrSessionChanged
	}
	return next, err
}

// refreshEarly refreshes tokens that are still good. If the refresh fails for now or takes long, or
// if somebody else logs in meanwhile, it returns the old ones, because the request need not suffer
// from it. The old ones can expire while it waits, and then it waits on for new ones.
func (c *core) refreshEarly(
	ctx context.Context, tokens tokensession.Tokens,
) (tokensession.Tokens, error) {
	next, err := c.refresh(ctx, tokens.AccessToken, true)
	late := errors.Is(err, errTakesLong)
	switch {
	case err == nil && sameSession(tokens, next):
		return next, nil
	case (err == nil || late || errors.Is(err, tokensession.ErrUnavailable)) &&
		!expired(tokens, c.now()):
		return tokens, nil
	case err == nil:
		return tokensession.Tokens{}, ErrSessionChanged
	case late:
		return c.refreshExpired(ctx, tokens)
	}
	return next, err
}

// sessionKey names the session that tokens belong to, so that its end can be remembered. A refresh
// token stands for its session. If there is none, the access token does.
func sessionKey(tokens tokensession.Tokens) string {
	return cmp.Or(tokens.RefreshToken, tokens.AccessToken)
}

// hasEnded reports whether the end of a session that is known to be over still counts. A verdict of
// the server does. But of a session without a refresh token, only the clock has said that it is
// over, and the clock may have been wrong.
func hasEnded(tokens tokensession.Tokens, now time.Time) bool {
	return tokens.RefreshToken != "" || expired(tokens, now)
}

// expired reports whether an access token cannot be used. One whose expiry is unknown can be used
// until a response refuses it.
func expired(tokens tokensession.Tokens, now time.Time) bool {
	return tokens.AccessToken == "" ||
		!tokens.AccessExpiresAt.IsZero() && !now.Before(tokens.AccessExpiresAt)
}

// dueEarly reports whether an access token that can still be used should be refreshed. The caller
// holds the lock.
func (c *core) dueEarly(tokens tokensession.Tokens, now time.Time) bool {
	s := &c.state
	if s.failed.refreshToken == tokens.RefreshToken && !s.failed.noEarlyRefresh.over(now) {
		return false
	}
	before := c.cfg.RefreshBefore
	if s.lifetime > 0 {
		// A token that lives for less than RefreshBefore would be due as soon as it is there.
		before = min(before, s.lifetime/4)
	}
	return tokens.RefreshToken != "" && !tokens.AccessExpiresAt.IsZero() &&
		!now.Before(tokens.AccessExpiresAt.Add(-before))
}

// now reads the wall clock. Round removes the monotonic reading, because the monotonic clock may
// stand still while the machine sleeps, and the tokens expire in that time, too.
func (c *core) now() time.Time { return c.cfg.Now().Round(0) }

// A quietTime is a time in which the Transport leaves something alone. It is also over if the clock
// is before its beginning: the clock was set back, and nobody should wait for what it had shown.
type quietTime struct{ from, until time.Time }

func quietFor(d time.Duration, now time.Time) quietTime { return quietTime{now, now.Add(d)} }

func (q quietTime) over(now time.Time) bool { return now.Before(q.from) || !now.Before(q.until) }

// CloseIdleConnections closes those of [Config.Base], if it has a method for it.
// [http.Client.CloseIdleConnections] calls this one.
func (t *Transport) CloseIdleConnections() { closeIdle(t.core().cfg.Base) }

// String says where the Transport refreshes.
func (t Transport) String() string {
	if t.core == nil {
		return "sessionclient.Transport{}"
	}
	return fmt.Sprintf("sessionclient.Transport{%s}", t.core().tokenURL)
}

// Format prints [Transport.String], whatever the verb.
func (t Transport) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// LogValue is [Transport.String].
func (t Transport) LogValue() slog.Value { return slog.StringValue(t.String()) }

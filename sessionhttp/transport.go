package sessionhttp

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// A Transport is an [http.RoundTripper] for Go programs that hold a session's tokens: command-line tools, services,
// back ends of mobile applications. It adds the access token to requests, refreshes it at a token endpoint (RFC 6749
// section 6) shortly before it expires or when it is refused with a 401, and then sends the request once more if its
// body can be had again ([http.Request.GetBody], or none). However many requests need a new token, one refresh gets it.
//
// The [TokenStore] is asked at each request, so a program logs in, out, or in as somebody else by saving to it, and
// several processes may share one. New tokens are saved before they are used, even if the request that wanted them is
// gone by then: a refresh runs in a goroutine of its own, which ends with it. A program that exits calls
// [Transport.Wait] first.
//
// Only the token endpoint's invalid_grant ends the session: [ErrSessionEnded], and [TransportConfig.OnSessionEnd] is
// told. Nothing else does: when the endpoint cannot be reached, is overloaded, or answers nonsense, the tokens stay, and
// requests that cannot do without a new one fail with [tokensession.ErrUnavailable]. A refresh whose answer may be lost is
// repeated with the same token for 8 seconds, so that a Manager with its usual [tokensession.Config.GracePeriod] of 10
// seconds gives the same answer again.
//
// The token goes to the origins that the program named and to no other, redirects included. Requests to others, and
// those that bring an Authorization header, are passed on as they are.
//
// Make it with [NewTransport]. It is safe for concurrent use, and prints without tokens.
type Transport struct {
	core func() *clientCore // a function, so that printing a Transport prints no token, whatever the verb
}

var _ http.RoundTripper = (*Transport)(nil)

// A clientCore is what a Transport is made of.
type clientCore struct {
	tokenURL string
	store    TokenStore
	cfg      TransportConfig
	origins  map[string]bool
	state    clientState
}

// clientState is what a Transport knows beyond what the store holds.
type clientState struct {
	mu       sync.Mutex
	flight   *clientFlight            // the refresh that runs
	ended    string                   // the sessionKey of tokens whose session is over
	failed   clientFailure            // of the last refresh, if it failed for now
	unsaved  *clientUnsaved           // tokens that the store would not take
	renewed  map[string]clientRenewed // by the origin that had refused the token before
	lifetime time.Duration            // of the last access token; 0 if unknown
}

// A clientFailure is a refresh that reached no verdict.
type clientFailure struct {
	refreshToken string
	err          error
	any          clientPause // no refresh
	early        clientPause // none that could wait
	doubt        time.Time   // see clientRetry
}

// A clientRenewed is what a 401 led to.
type clientRenewed struct {
	accessToken string
	pause       clientPause // in which a 401 for this one leads to nothing
}

// A clientPause is a time in which something is not done. It is over, too, if the clock is set back.
type clientPause struct{ from, until time.Time }

func pauseFor(d time.Duration, now time.Time) clientPause { return clientPause{now, now.Add(d)} }

func (p clientPause) over(now time.Time) bool { return now.Before(p.from) || !now.Before(p.until) }

const (
	// refusalPause is how long a 401 for a token that was made because of a 401 of the same origin is left alone:
	// the origin refuses all tokens, and each request would cost a refresh.
	refusalPause = 30 * time.Second

	// discardLimit and discardTime are how much of a body that may be unwanted is read, and for how long, so that its
	// connection can be used again.
	discardLimit = 64 << 10
	discardTime  = time.Second
)

// RoundTrip sends the request with the access token. Its error is [ErrNoTokens], [ErrSessionEnded] or
// [tokensession.ErrUnavailable] if there is no usable token, that of the request's context, or the base's.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	c := t.core()
	origin := clientOrigin(req.URL)
	if !c.origins[origin] || len(req.Header.Values("Authorization")) > 0 {
		return c.cfg.Base.RoundTrip(req)
	}
	tokens, err := c.tokens(req.Context())
	if err != nil {
		if req.Body != nil {
			req.Body.Close()
		}
		return nil, err
	}
	resp, err := c.send(req, req.Body, tokens.AccessToken)
	if err != nil || resp.StatusCode != http.StatusUnauthorized {
		return resp, err
	}
	next, err := c.afterRefusal(req.Context(), origin, tokens.AccessToken, resp)
	if err != nil {
		resp.Body.Close()
		return nil, err
	}
	if next == tokens.AccessToken {
		return resp, nil
	}
	body, ok := replayBody(req)
	if !ok {
		return resp, nil
	}
	resp.Body.Close()
	return c.send(req, body, next)
}

// send sends a copy of the request. The response names the original, which a program may print.
func (c *clientCore) send(req *http.Request, body io.ReadCloser, accessToken string) (*http.Response, error) {
	sent := req.Clone(req.Context())
	if sent.Header == nil {
		sent.Header = http.Header{}
	}
	sent.Body, sent.Trailer = body, req.Trailer // not a copy: its values are set while the body is read
	sent.Header.Set("Authorization", "Bearer "+accessToken)
	resp, err := c.cfg.Base.RoundTrip(sent)
	if err == nil && resp == nil {
		return nil, errors.New("sessionhttp: Transport: the base returned neither a response nor an error")
	}
	if err == nil {
		resp.Request = req
	}
	return resp, err
}

// replayBody returns the request's body once more.
func replayBody(req *http.Request) (io.ReadCloser, bool) {
	if req.Body == nil || req.Body == http.NoBody {
		return req.Body, true
	}
	if req.GetBody == nil {
		return nil, false
	}
	body, err := req.GetBody()
	return body, err == nil
}

// freeConnection reads what it can of a body, so that a base that has few connections has one again, and puts it back.
// A body that is not there in time is closed, which costs its connection: the base can make another one then.
func freeConnection(resp *http.Response) {
	body := resp.Body
	timer := time.AfterFunc(discardTime, func() { body.Close() }) // which ends a read, too
	head, err := io.ReadAll(io.LimitReader(body, discardLimit))
	inTime := timer.Stop()
	rest := io.Reader(body)
	switch {
	case err == nil && len(head) < discardLimit:
		rest = http.NoBody
	case !inTime:
		rest = failedReader{fmt.Errorf("sessionhttp: Transport: the refusal's body took longer than %v", discardTime)}
	case err != nil:
		rest = failedReader{err}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), body}
}

// A failedReader gives the error that ended the reading before.
type failedReader struct{ err error }

func (r failedReader) Read([]byte) (int, error) { return 0, r.err }

// tokens returns tokens to send a request with.
func (c *clientCore) tokens(ctx context.Context) (tokensession.Tokens, error) {
	tokens, err := c.load(ctx)
	if err != nil {
		return tokensession.Tokens{}, err
	}
	now := c.now()
	c.state.mu.Lock()
	ended := sessionKey(tokens) == c.state.ended
	early := c.dueEarly(tokens, now)
	resave := c.state.unsaved != nil && c.state.unsaved.pause.over(now)
	c.state.mu.Unlock()
	switch {
	case ended:
		return tokensession.Tokens{}, ErrSessionEnded
	case expired(tokens, now):
		return c.refresh(ctx, tokens.AccessToken, false)
	case early:
		next, err := c.refresh(ctx, tokens.AccessToken, true)
		late := errors.Is(err, errTakesLong)
		switch {
		case (late || errors.Is(err, tokensession.ErrUnavailable)) && !expired(tokens, c.now()):
			return tokens, nil
		case late:
			return c.refresh(ctx, tokens.AccessToken, false)
		}
		return next, err
	case resave:
		if err := c.settleNow(ctx); err != nil && ctx.Err() != nil {
			return tokensession.Tokens{}, err
		}
	}
	return tokens, nil
}

// afterRefusal returns the access token to try instead of one that a response refused; the same if there is no better one.
func (c *clientCore) afterRefusal(ctx context.Context, origin, refused string, resp *http.Response) (string, error) {
	s := &c.state
	s.mu.Lock()
	last := s.renewed[origin]
	s.mu.Unlock()
	if last.accessToken == refused && !last.pause.over(c.now()) {
		return refused, nil
	}
	freeConnection(resp) // the refresh may need it
	tokens, err := c.refresh(ctx, refused, false)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.renewed[origin] = clientRenewed{tokens.AccessToken, pauseFor(refusalPause, c.now())}
	return tokens.AccessToken, nil
}

// sessionKey is what of the tokens has ended when the session has.
func sessionKey(tokens tokensession.Tokens) string {
	return cmp.Or(tokens.RefreshToken, tokens.AccessToken)
}

// expired reports whether an access token cannot be used. One whose expiry is unknown can, until it is refused.
func expired(tokens tokensession.Tokens, now time.Time) bool {
	return tokens.AccessToken == "" || !tokens.AccessExpiresAt.IsZero() && !now.Before(tokens.AccessExpiresAt)
}

// dueEarly reports whether an access token that can still be used is to be refreshed. It is called with the lock.
func (c *clientCore) dueEarly(tokens tokensession.Tokens, now time.Time) bool {
	s := &c.state
	if s.failed.refreshToken == tokens.RefreshToken && !s.failed.early.over(now) {
		return false
	}
	before := c.cfg.RefreshBefore
	if s.lifetime > 0 {
		before = min(before, s.lifetime/4) // else a short-lived token would be due as soon as it is there
	}
	return tokens.RefreshToken != "" && !tokens.AccessExpiresAt.IsZero() && !now.Before(tokens.AccessExpiresAt.Add(-before))
}

// now is the wall clock: a monotonic one may stand still while the machine sleeps, and the tokens expire.
func (c *clientCore) now() time.Time { return c.cfg.Now().Round(0) }

// CloseIdleConnections does so for the base, if that can. [http.Client.CloseIdleConnections] calls it.
func (t *Transport) CloseIdleConnections() {
	if base, ok := t.core().cfg.Base.(interface{ CloseIdleConnections() }); ok {
		base.CloseIdleConnections()
	}
}

// String says where the Transport refreshes.
func (t Transport) String() string {
	if t.core == nil {
		return "sessionhttp.Transport{}"
	}
	return fmt.Sprintf("sessionhttp.Transport{%s}", t.core().tokenURL)
}

// Format prints [Transport.String], whatever the verb.
func (t Transport) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(t.String())) }

// LogValue is [Transport.String].
func (t Transport) LogValue() slog.Value { return slog.StringValue(t.String()) }

// clientOrigin returns a URL's scheme, host and port, or "" if it is none of http or https.
func clientOrigin(u *url.URL) string {
	if u == nil || u.Hostname() == "" {
		return ""
	}
	port := u.Port()
	switch {
	case u.Scheme != "http" && u.Scheme != "https":
		return ""
	case port == "" && u.Scheme == "http":
		port = "80"
	case port == "":
		port = "443"
	}
	return u.Scheme + "://" + asciiLower(u.Hostname()) + " " + port
}

// asciiLower lowers A to Z only: strings.ToLower makes a k of the Kelvin sign.
func asciiLower(s string) string {
	b := []byte(s)
	for i, c := range b {
		if 'A' <= c && c <= 'Z' {
			b[i] = c + 'a' - 'A'
		}
	}
	return string(b)
}

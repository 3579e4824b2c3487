package sessionclient

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

const (
	// refusalPause is for an origin that refuses all tokens, new ones too. Without the pause each
	// request to it would cost a refresh. So after a refresh because of a 401, the Transport hands
	// on the 401s of the same origin for this long, unless the refresh has helped.
	refusalPause = 30 * time.Second

	// If it has helped, the next 401 may have another reason, such as a change of the user's roles.
	// But it may also come from one of several servers that refuses all tokens. So the pause is
	// short then.
	refusalPauseHelped = 2 * time.Second

	// discardLimit and discardTime limit how much of a refusal's body is read, and for how long. A
	// body that is read to its end sets its connection free for the next request.
	discardLimit = 64 << 10
	discardTime  = time.Second
)

// A replacement is what is known of a refresh that an origin has caused by a 401.
type replacement struct {
	tokens    tokensession.Tokens // that the refresh gave
	helped    bool                // the origin has accepted them
	noRefresh quietTime           // in it, a 401 of the origin causes no refresh
}

// pauses reports whether a 401 of the origin causes no refresh now. If the last refresh has helped,
// this is only so for the token that it gave.
func (r replacement) pauses(refused tokensession.Tokens, now time.Time) bool {
	return !r.noRefresh.over(now) && sameSession(r.tokens, refused) &&
		(!r.helped || r.tokens.AccessToken == refused.AccessToken)
}

// noTokenHelps reports whether a 401 says that its reason is not the token: the user has to log in
// more strongly (RFC 9470), or may not do this (RFC 6750 section 3.1), or the proof is refused (RFC
// 9449 section 7.1). A 401 that says nothing, or that the token is invalid, may be cured by a new
// token.
func noTokenHelps(resp *http.Response) bool {
	return challenged(resp, insufficientAuthentication, "insufficient_scope",
		"use_dpop_nonce", "invalid_dpop_proof")
}

// afterRefusal returns the tokens to try instead of those that an origin refused. It returns the
// refused ones if there are no better ones of the same session.
func (c *core) afterRefusal(
	ctx context.Context, origin string, refused tokensession.Tokens,
) (tokensession.Tokens, error) {
	s := &c.state
	s.mu.Lock()
	last := s.replaced[origin]
	s.mu.Unlock()
	if last.pauses(refused, c.now()) {
		// Another request, or another origin, may have refreshed since this one was sent.
		newest, err := c.load(ctx)
		if err != nil || expired(newest, c.now()) || !sameSession(newest, refused) {
			return refused, nil
		}
		return newest, nil
	}
	next, err := c.refresh(ctx, refused.AccessToken, false)
	if err != nil {
		return tokensession.Tokens{}, err
	}
	if !sameSession(next, refused) {
		return refused, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replaced[origin] = replacement{next, false, quietFor(refusalPause, c.now())}
	return next, nil
}

// refreshHelped notes that an origin has accepted the tokens that it had caused.
func (c *core) refreshHelped(origin string, tokens tokensession.Tokens) {
	s := &c.state
	s.mu.Lock()
	defer s.mu.Unlock()
	if last := s.replaced[origin]; last.tokens.AccessToken == tokens.AccessToken {
		s.replaced[origin] = replacement{tokens, true, quietFor(refusalPauseHelped, c.now())}
	}
}

// replayBody returns the request's body once more, and whether that is possible.
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

// freeConnection frees the connection of a refusal. A base with few connections may have no other
// one for the refresh, and the refresh would wait without end.
//
// It reads the body and returns the bytes that it read. It also puts them back, because the program
// gets the refusal if the request cannot be sent again. A body that is not there in time is closed:
// that costs its connection, but the base can make another one. The program then reads the part
// that came, and an error after it, so that it does not take the part for the whole.
func freeConnection(resp *http.Response) []byte {
	body := resp.Body
	timer := time.AfterFunc(discardTime, func() { body.Close() }) // it ends a blocked read
	head, err := io.ReadAll(io.LimitReader(body, discardLimit))
	inTime := timer.Stop()
	rest := io.Reader(body)
	switch {
	case err == nil && len(head) < discardLimit:
		rest = http.NoBody
	case !inTime:
		rest = failedReader{fmt.Errorf(
			"sessionclient: the refusal's body took longer than %v", discardTime)}
	case err != nil:
		rest = failedReader{err}
	}
	resp.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(head), rest), body}
	return head
}

// A failedReader returns the error with which the reading ended before.
type failedReader struct{ err error }

func (r failedReader) Read([]byte) (int, error) { return 0, r.err }

package sessionclient

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

const (
	// refusalPause is for an origin that refuses all tokens, new ones too. Without the pause each
	// request to it would cost a refresh. So when an origin refuses a token that was made because
	// it had refused the one before, the Transport hands on its 401 for this long.
	refusalPause = 30 * time.Second

	// discardLimit and discardTime limit how much of a refusal's body is read, and for how long. A
	// body that is read to its end sets its connection free for the next request.
	discardLimit = 64 << 10
	discardTime  = time.Second
)

// A replacement is the access token that a refresh gave after an origin had refused the one before.
type replacement struct {
	accessToken string
	noRefresh   quietTime // in it, a 401 of the same origin for this token causes no refresh
}

// afterRefusal returns the access token to try instead of the one that a response refused. It
// returns the refused one if there is no better one.
func (c *core) afterRefusal(
	ctx context.Context, origin, refused string, resp *http.Response,
) (string, error) {
	s := &c.state
	s.mu.Lock()
	last := s.replaced[origin]
	s.mu.Unlock()
	if last.accessToken == refused && !last.noRefresh.over(c.now()) {
		return refused, nil
	}
	freeConnection(resp) // the refresh may need it
	tokens, err := c.refresh(ctx, refused, false)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.replaced[origin] = replacement{tokens.AccessToken, quietFor(refusalPause, c.now())}
	return tokens.AccessToken, nil
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
// It reads the body and puts the bytes that it read back, because the program gets the refusal if
// the request cannot be sent again. A body that is not there in time is closed: that costs its
// connection, but the base can make another one. The program then reads the part that came, and an
// error after it, so that it does not take the part for the whole.
func freeConnection(resp *http.Response) {
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
}

// A failedReader returns the error with which the reading ended before.
type failedReader struct{ err error }

func (r failedReader) Read([]byte) (int, error) { return 0, r.err }

package sessionclient

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

const (
	answerLimit     = 128 << 10 // bytes of a token endpoint's answer
	longestPause    = 5 * time.Minute
	longestLifetime = 10 * 365 * 24 * time.Hour // within what a time.Duration holds
)

// A endpointAnswer is what a token endpoint made of a refresh token.
type endpointAnswer struct {
	granted  bool
	tokens   tokensession.Tokens
	lifetime time.Duration // of the access token; 0 if unknown

	refused bool // invalid_grant: the verdict

	err        error         // any other answer, or none
	final      bool          // trying again soon will not help
	inDoubt    bool          // the refresh may have been applied
	retryAfter time.Duration // what the server asked for
}

// ask presents a refresh token once.
func (c *core) ask(refreshToken string) endpointAnswer {
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.RefreshTimeout) // requests that wait come and go
	defer cancel()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}}
	if c.cfg.ClientID != "" {
		form.Set("client_id", c.cfg.ClientID)
	}
	var sent sendTrace
	ctx = httptrace.WithClientTrace(ctx, sent.trace())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.tokenURL, strings.NewReader(form.Encode()))
	if err != nil {
		return endpointAnswer{err: err, final: true}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	asked := c.now()
	resp, err := c.cfg.Base.RoundTrip(req)
	if err == nil && resp == nil {
		err = errors.New("no response")
	}
	if err != nil {
		return endpointAnswer{err: err, inDoubt: sent.perhaps()}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return endpointAnswer{err: err, inDoubt: true}
	}
	return readAnswer(resp, body, asked, c.now())
}

// sendTrace tells whether a request may have been sent, going by what the base does for it. One that looked for a
// connection, as [http.Transport] says, and never got one has sent nothing: the host is unknown, nobody listens there,
// or it is the wrong one.
type sendTrace struct{ looked, got atomic.Bool }

func (s *sendTrace) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { s.looked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { s.got.Store(true) },
	}
}

func (s *sendTrace) perhaps() bool { return s.got.Load() || !s.looked.Load() }

func readAnswer(resp *http.Response, body []byte, asked, now time.Time) endpointAnswer {
	status := resp.StatusCode
	if status == http.StatusOK {
		tokens, err := ParseTokens(body, asked)
		if err != nil {
			return endpointAnswer{err: err, inDoubt: true}
		}
		answer := endpointAnswer{granted: true, tokens: tokens}
		if !tokens.AccessExpiresAt.IsZero() {
			answer.lifetime = tokens.AccessExpiresAt.Sub(asked)
		}
		return answer
	}
	code := errorCode(body)
	answer := endpointAnswer{err: fmt.Errorf("the token endpoint answered %d%s", status, code)}
	switch {
	case status == http.StatusBadRequest && code == " invalid_grant":
		answer.refused = true
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable && code == " temporarily_unavailable":
		answer.retryAfter = readRetryAfter(resp.Header.Get("Retry-After"), now)
	case status >= 500 || status == http.StatusRequestTimeout: // a proxy's 503, too: the server behind it may have answered
		answer.retryAfter, answer.inDoubt = readRetryAfter(resp.Header.Get("Retry-After"), now), true
	default:
		answer.final = true
	}
	return answer
}

// errorCode returns a space and an answer's error code, if it is one of OAuth's (RFC 6749 section 5.2). Nothing else of
// the answer is told: it may echo the token.
func errorCode(body []byte) string {
	var answer struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	switch answer.Error {
	case "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client", "unsupported_grant_type", "invalid_scope",
		"temporarily_unavailable", "server_error":
		return " " + answer.Error
	}
	return ""
}

// readRetryAfter reads the header in both its forms (RFC 9110 section 10.2.3).
func readRetryAfter(value string, now time.Time) time.Duration {
	var pause time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		pause = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		pause = at.Sub(now)
	}
	return min(max(pause, 0), longestPause)
}

// ParseTokens reads a token endpoint's answer (RFC 6749 section 5.1) to a request made at a time. Programs need it where
// their login is answered in this form, to save the first tokens. An expires_in that is missing or makes no sense is an
// expiry that is not known; refresh_expires_in and scope are read likewise. The Session is not known to a client.
func ParseTokens(body []byte, asked time.Time) (tokensession.Tokens, error) {
	var answer struct {
		AccessToken      string          `json:"access_token"`
		TokenType        string          `json:"token_type"`
		ExpiresIn        json.RawMessage `json:"expires_in"`
		RefreshToken     string          `json:"refresh_token"`
		RefreshExpiresIn json.RawMessage `json:"refresh_expires_in"`
		Scope            json.RawMessage `json:"scope"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return tokensession.Tokens{}, errors.New("sessionclient: malformed answer of the token endpoint") // err may quote it
	}
	switch {
	case answer.AccessToken == "" || !isVisible(answer.AccessToken) || !isVisible(answer.RefreshToken):
		return tokensession.Tokens{}, errors.New("sessionclient: the token endpoint's answer has no usable tokens")
	case !strings.EqualFold(answer.TokenType, "Bearer"):
		return tokensession.Tokens{}, errors.New("sessionclient: the token endpoint's answer is of another token_type than Bearer")
	}
	var scope string
	if json.Unmarshal(answer.Scope, &scope) != nil {
		scope = ""
	}
	return tokensession.Tokens{
		Scope:       scope,
		AccessToken: answer.AccessToken, AccessExpiresAt: afterSeconds(asked, answer.ExpiresIn),
		RefreshToken: answer.RefreshToken, RefreshExpiresAt: afterSeconds(asked, answer.RefreshExpiresIn),
	}, nil
}

// afterSeconds returns a time some seconds later, or the zero time. A rotated token must not be lost because of a server
// that writes a number as a string or a fraction.
func afterSeconds(from time.Time, seconds json.RawMessage) time.Time {
	n, err := strconv.ParseFloat(string(bytes.Trim(seconds, `"`)), 64)
	if err != nil || !(n > 0) {
		return time.Time{}
	}
	return from.Round(0).UTC().Add(time.Duration(min(n, longestLifetime.Seconds()) * float64(time.Second)))
}

// isVisible reports whether a token has only characters that tokens have (RFC 6749 appendix A.12).
func isVisible(token string) bool {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return true
}

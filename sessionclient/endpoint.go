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
	// answerLimit is how many bytes of a token endpoint's answer are read. The longest tokens that
	// a Manager makes fit many times.
	answerLimit = 128 << 10

	// longestPause is the longest Retry-After that counts. A server that asks for more by mistake
	// must not lock the program out for days.
	longestPause = 5 * time.Minute

	// longestLifetime is the longest expires_in that counts. A larger number could overflow a
	// time.Duration, which holds 292 years.
	longestLifetime = 10 * 365 * 24 * time.Hour
)

// An endpointAnswer is the result of presenting a refresh token once. Either granted is set, or
// refused, or err says why there was neither.
type endpointAnswer struct {
	granted  bool
	tokens   tokensession.Tokens
	lifetime time.Duration // of the access token; 0 if unknown

	refused bool // the endpoint answered invalid_grant: this is the verdict

	err        error
	final      bool          // trying again soon will not help
	inDoubt    bool          // the server may have applied the refresh, and its answer is lost
	retryAfter time.Duration // the server asked for this
}

// ask presents a refresh token once.
func (c *core) ask(refreshToken string) endpointAnswer {
	// The requests that wait for the refresh come and go, so none of their contexts is used.
	ctx, cancel := context.WithTimeout(context.Background(), c.cfg.RefreshTimeout)
	defer cancel()
	form := url.Values{"grant_type": {"refresh_token"}, "refresh_token": {refreshToken}}
	if c.cfg.ClientID != "" {
		form.Set("client_id", c.cfg.ClientID)
	}
	var sent sendTrace
	ctx = httptrace.WithClientTrace(ctx, sent.trace())
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.tokenURL,
		strings.NewReader(form.Encode()))
	if err != nil {
		return endpointAnswer{err: err, final: true}
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Accept", "application/json")
	asked := c.now()
	resp, err := c.exchange(req, sent.reset)
	if key := (keyError{}); errors.As(err, &key) {
		return endpointAnswer{err: err, final: true}
	}
	if err != nil {
		return endpointAnswer{err: err, inDoubt: sent.perhaps()}
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerLimit))
	if err != nil {
		return endpointAnswer{err: err, inDoubt: true}
	}
	return c.readAnswer(resp, body, asked)
}

// A sendTrace tells whether the base may have sent a request. An [http.Transport] says when it
// looks for a connection and when it has one. If it looked and got none, it has sent nothing: the
// host is unknown, nobody listens there, or it has the wrong certificate. A base that never says
// that it looked may have sent the request by other means.
type sendTrace struct{ looked, got atomic.Bool }

func (s *sendTrace) trace() *httptrace.ClientTrace {
	return &httptrace.ClientTrace{
		GetConn: func(string) { s.looked.Store(true) },
		GotConn: func(httptrace.GotConnInfo) { s.got.Store(true) },
	}
}

func (s *sendTrace) perhaps() bool { return s.got.Load() || !s.looked.Load() }

// reset forgets a request that the server has answered.
func (s *sendTrace) reset() {
	s.looked.Store(false)
	s.got.Store(false)
}

// readAnswer judges an answer by one question: can the server have consumed the refresh token? Only
// the token endpoint itself can say that it has not. Its own 503, which has temporarily_unavailable
// in the body, says so, and so does a 429. Any other 503, and any 5xx, may come from a proxy that
// has lost the server after the server had consumed the token.
func (c *core) readAnswer(resp *http.Response, body []byte, asked time.Time) endpointAnswer {
	status, now := resp.StatusCode, c.now()
	if status == http.StatusOK {
		tokens, err := c.parse(body, asked)
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
	case status == http.StatusTooManyRequests,
		status == http.StatusServiceUnavailable && code == " temporarily_unavailable":
		answer.retryAfter = readRetryAfter(resp.Header.Get("Retry-After"), now)
	case status >= 500 || status == http.StatusRequestTimeout:
		answer.retryAfter = readRetryAfter(resp.Header.Get("Retry-After"), now)
		answer.inDoubt = true
	default:
		answer.final = true
		if code == invalidProof {
			answer.err = fmt.Errorf("%w: %w", ErrProofRefused, answer.err)
		}
	}
	return answer
}

const invalidProof = " invalid_dpop_proof" // as errorCode returns it

// errorCode returns a space and an answer's error code, if it is one of OAuth's (RFC 6749 section
// 5.2, RFC 9449 sections 5 and 8). Nothing else of the answer gets into an error, because a server
// may echo the token.
func errorCode(body []byte) string {
	var answer struct {
		Error string `json:"error"`
	}
	if json.Unmarshal(body, &answer) != nil {
		return ""
	}
	switch answer.Error {
	case "invalid_request", "invalid_client", "invalid_grant", "unauthorized_client",
		"unsupported_grant_type", "invalid_scope", "temporarily_unavailable", "server_error",
		"use_dpop_nonce", "invalid_dpop_proof":
		return " " + answer.Error
	}
	return ""
}

// readRetryAfter reads the header in both its forms (RFC 9110 section 10.2.3). It returns 0 for
// anything else.
func readRetryAfter(value string, now time.Time) time.Duration {
	var pause time.Duration
	if seconds, err := strconv.ParseUint(value, 10, 31); err == nil {
		pause = time.Duration(seconds) * time.Second
	} else if at, err := http.ParseTime(value); err == nil {
		pause = at.Sub(now)
	}
	return min(max(pause, 0), longestPause)
}

// ParseTokens reads a token endpoint's answer (RFC 6749 section 5.1) to a request that was made at
// the time asked. Programs whose login is answered in this form need it to save the first tokens.
//
// If expires_in is missing or makes no sense, the expiry is unknown, which is the zero time. It is
// the same with refresh_token_timeout, which some servers call refresh_expires_in, and with scope,
// which is empty then. A client does not know the Session. A program that has proved a key for
// these tokens sets Session.KeyThumbprint ([Prover.Thumbprint]) before it saves them.
func ParseTokens(body []byte, asked time.Time) (tokensession.Tokens, error) {
	var answer struct {
		AccessToken      string          `json:"access_token"`
		TokenType        string          `json:"token_type"`
		ExpiresIn        json.RawMessage `json:"expires_in"`
		RefreshToken     string          `json:"refresh_token"`
		RefreshTimeout   json.RawMessage `json:"refresh_token_timeout"`
		RefreshExpiresIn json.RawMessage `json:"refresh_expires_in"`
		Scope            json.RawMessage `json:"scope"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		// err may quote the answer, and is not wrapped for that reason.
		return tokensession.Tokens{}, errors.New(
			"sessionclient: malformed answer of the token endpoint")
	}
	tokenType, known := tokenTypeOf(answer.TokenType)
	switch {
	case answer.AccessToken == "",
		!isVisible(answer.AccessToken), !isVisible(answer.RefreshToken):
		return tokensession.Tokens{}, errors.New(
			"sessionclient: the token endpoint's answer has no usable tokens")
	case !known:
		return tokensession.Tokens{}, errors.New("sessionclient: the token endpoint's answer is of " +
			"another token_type than Bearer and DPoP")
	}
	var scope string
	if json.Unmarshal(answer.Scope, &scope) != nil {
		scope = ""
	}
	if len(answer.RefreshTimeout) == 0 {
		answer.RefreshTimeout = answer.RefreshExpiresIn
	}
	return tokensession.Tokens{
		AccessToken:      answer.AccessToken,
		TokenType:        tokenType,
		AccessExpiresAt:  afterSeconds(asked, answer.ExpiresIn),
		RefreshToken:     answer.RefreshToken,
		RefreshExpiresAt: afterSeconds(asked, answer.RefreshTimeout),
		Scope:            scope,
	}, nil
}

// afterSeconds returns a time that is some seconds later, or the zero time if there is no number of
// seconds. It also reads a string and a fraction, because the answer has a new refresh token, and
// that must not be lost for the form of a number.
func afterSeconds(from time.Time, seconds json.RawMessage) time.Time {
	n, err := strconv.ParseFloat(string(bytes.Trim(seconds, `"`)), 64)
	if err != nil || !(n > 0) {
		return time.Time{}
	}
	lifetime := time.Duration(min(n, longestLifetime.Seconds()) * float64(time.Second))
	return from.Round(0).UTC().Add(lifetime)
}

// isVisible reports whether a token has only the characters of RFC 6749 appendix A.12 without the
// space. Any other could not be sent in a header.
func isVisible(token string) bool {
	for i := range len(token) {
		if token[i] <= ' ' || token[i] > '~' {
			return false
		}
	}
	return true
}

package sessionhttp

import (
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

// VerifyLive is Verify, and asks the issuer's introspection endpoint (RFC 7662) whether the session
// lives. The issuer's Config.MayIntrospect has to let this service in. The error is ErrRevoked if
// the token is not active there, and [tokensession.ErrUnavailable] if the issuer cannot tell.
func (r *Remote) VerifyLive(
	ctx context.Context, accessToken string,
) (tokensession.Access, error) {
	access, err := r.Verify(accessToken)
	if err == nil {
		err = r.askLive(ctx, accessToken, access)
	}
	if err != nil {
		return tokensession.Access{}, err
	}
	return access, nil
}

// askLive asks the issuer whether the session of a verified access token lives.
func (r *Remote) askLive(
	ctx context.Context, accessToken string, access tokensession.Access,
) error {
	answer, err := r.introspect(ctx, url.Values{"token": {accessToken}})
	switch {
	case err != nil:
		return fmt.Errorf("%w: introspection: %v", tokensession.ErrUnavailable, err)
	case !*answer.Active:
		return notActive(access.SessionID)
	}
	return nil
}

func notActive(sessionID string) error {
	return fmt.Errorf("%w: session %s: the issuer says that it is not active",
		tokensession.ErrRevoked, sessionID)
}

// sessionEpoch asks the issuer whether a session lives. It is for open connections that go on when
// their access tokens have expired: see [tokensession.AccessVerifier.AskSessionEpoch].
//
// An issuer that does not let this service ask is no outage. It will not answer later, either, and
// so the connection ends as it would if there were nobody to ask. But a proxy that has lost the
// issuer may answer the same for every path. So that counts only while the issuer tells what is
// revoked.
func (r *Remote) sessionEpoch(ctx context.Context, sessionID string) (uint64, error) {
	answer, err := r.introspect(ctx,
		url.Values{"token": {sessionID}, "token_type_hint": {sessionHint}})
	var refused statusError
	switch {
	case errors.As(err, &refused) && refused.meansNobody() && r.follows():
		return 0, fmt.Errorf("%w: access token, and the issuer says nothing of its session: %v",
			tokensession.ErrExpired, err)
	case err != nil:
		return 0, fmt.Errorf("%w: introspection: %v", tokensession.ErrUnavailable, err)
	case answer.SessionID != sessionID:
		return 0, fmt.Errorf("%w: access token, and the issuer knows no questions about sessions",
			tokensession.ErrExpired)
	case !*answer.Active:
		return 0, notActive(sessionID)
	}
	return answer.Epoch, nil
}

// A statusError is another status than 200.
type statusError struct {
	url    string
	status int
}

func (e statusError) Error() string { return fmt.Sprintf("POST %s: status %d", e.url, e.status) }

// meansNobody reports whether the status says that this service may not ask, or that there is no
// such endpoint. A server that is down, or a proxy before it, answers something else.
func (e statusError) meansNobody() bool {
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound:
		return true
	}
	return false
}

// An introspectionAnswer is what an issuer has answered. Active is never nil.
type introspectionAnswer struct {
	Active    *bool  `json:"active"`
	SessionID string `json:"sid"`
	Epoch     uint64 `json:"epoch"`
}

func (r *Remote) introspect(
	ctx context.Context, form url.Values,
) (answer introspectionAnswer, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	where := r.url + "/introspect"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, where,
		strings.NewReader(form.Encode()))
	if err != nil {
		return answer, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := r.client.Do(request)
	if err != nil {
		return answer, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return answer, statusError{where, response.StatusCode}
	}
	err = json.NewDecoder(io.LimitReader(response.Body, 1<<16)).Decode(&answer)
	if err != nil || answer.Active == nil {
		return answer, fmt.Errorf("POST %s: the answer does not say whether it is active", where)
	}
	return answer, nil
}

package sessionhttp

import (
	"context"
	"encoding/json"
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
	active, err := r.introspect(ctx, accessToken)
	switch {
	case err != nil:
		return fmt.Errorf("%w: introspection: %v", tokensession.ErrUnavailable, err)
	case !active:
		return fmt.Errorf("%w: session %s: the issuer says that it is not active",
			tokensession.ErrRevoked, access.SessionID)
	}
	return nil
}

func (r *Remote) introspect(ctx context.Context, token string) (active bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	form := strings.NewReader(url.Values{"token": {token}}.Encode())
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/introspect", form)
	if err != nil {
		return false, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := r.client.Do(request)
	if err != nil {
		return false, err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return false, fmt.Errorf("POST %s/introspect: status %d", r.url, response.StatusCode)
	}
	var answer struct {
		Active *bool `json:"active"`
	}
	err = json.NewDecoder(io.LimitReader(response.Body, 1<<16)).Decode(&answer)
	if err != nil || answer.Active == nil {
		return false, fmt.Errorf("POST %s/introspect: the answer does not say whether it is active",
			r.url)
	}
	return *answer.Active, nil
}

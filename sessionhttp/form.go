package sessionhttp

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"

	"github.com/seed67bc9b7f/tokensession"
)

const (
	maxBody  = 16 << 10 // in bytes: an access token and what else a form has
	formType = "application/x-www-form-urlencoded"
)

var (
	errNotPOST  = fmt.Errorf("%w: not a POST", ErrBadRequest)
	errTooLarge = fmt.Errorf("%w: a body of more than %d bytes", ErrBadRequest, maxBody)
)

// readForm reads the parameters of a request to an endpoint of OAuth: a POST of the same origin, or
// of none, with a form in its body, each parameter once and none in the URL. A request with no body
// has no parameters.
func (h *Handlers) readForm(w http.ResponseWriter, r *http.Request) (url.Values, error) {
	if r.Method != http.MethodPost {
		return nil, errNotPOST
	}
	if err := h.checkOrigin(r); err != nil {
		return nil, err
	}
	if r.URL.RawQuery != "" {
		return nil, fmt.Errorf("%w: parameters in the URL", ErrBadRequest)
	}
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	isForm := err == nil && kind == formType
	var form url.Values
	if isForm && r.PostForm != nil {
		form, err = parsedForm(r)
	} else {
		form, err = parseForm(w, r, isForm)
	}
	if err != nil {
		return nil, err
	}
	if len(form) == 0 && r.ContentLength > 0 { // what was in the body is not known
		return nil, fmt.Errorf("%w: no parameter in a body, or another handler has read it",
			ErrBadRequest)
	}
	for _, values := range form {
		if len(values) > 1 {
			return nil, fmt.Errorf("%w: a repeated parameter", ErrBadRequest)
		}
	}
	return form, nil
}

// parseForm reads a body.
func parseForm(w http.ResponseWriter, r *http.Request, isForm bool) (url.Values, error) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	switch {
	case errors.As(err, &tooLarge):
		return nil, errTooLarge
	case err != nil:
		return nil, fmt.Errorf("%w: reading the body: %w", ErrBadRequest, err)
	case len(body) == 0:
		return url.Values{}, nil
	case !isForm:
		return nil, fmt.Errorf("%w: the content type is not %s", ErrBadRequest, formType)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		return nil, fmt.Errorf("%w: the body is no form", ErrBadRequest) // the cause would quote it
	}
	return form, nil
}

// parsedForm returns the form whose body other code has read: a middleware that calls r.FormValue.
// What that could not parse is not in it.
func parsedForm(r *http.Request) (url.Values, error) {
	size := r.ContentLength
	if size < 0 {
		size = int64(len(r.PostForm.Encode()))
	}
	if size > maxBody {
		return nil, errTooLarge
	}
	return r.PostForm, nil
}

// refuseForm answers a request to an endpoint of OAuth that came to nothing.
func (h *Handlers) refuseForm(w http.ResponseWriter, r *http.Request, err error) {
	a := refreshAnswer(err)
	switch {
	case errors.Is(err, errNotPOST):
		w.Header().Set("Allow", http.MethodPost)
		a = notAllowed
	case errors.Is(err, errTooLarge):
		a.status = http.StatusRequestEntityTooLarge
	case errors.Is(err, errClient):
		a = answer{http.StatusUnauthorized, "invalid_client"}
		w.Header().Set("WWW-Authenticate", `Basic realm="token"`) // RFC 7617 asks for a realm
	}
	h.refuse(w, r, a, err)
}

var errClient = errors.New("sessionhttp: client authentication failed")

// client returns the OAuth client that sends the request, or "" if the request does not name one.
// If it brings a secret, the secret has been checked.
func (h *Handlers) client(
	r *http.Request, form url.Values,
) (id string, hasSecret bool, err error) {
	id, secret, err := clientCredentials(r, form)
	if err != nil {
		return "", false, err
	}
	if h.cfg.AuthenticateClient == nil {
		if secret != "" {
			return "", false, errClient
		}
		return id, false, nil
	}
	if id == "" && secret == "" {
		return "", false, nil
	}
	ok, err := h.cfg.AuthenticateClient(r.Context(), id, secret)
	switch {
	case err != nil:
		err = fmt.Errorf("%w: authenticating the client: %v", tokensession.ErrUnavailable, err)
		return "", false, err
	case !ok:
		return "", false, errClient
	}
	return id, secret != "", nil
}

// clientCredentials reads a client's id and secret from the Authorization header or from the form
// (RFC 6749 section 2.3.1). A request that has a secret in both is refused, because it does not say
// which one counts. Empty values count as omitted (RFC 6749 section 3.2).
func clientCredentials(r *http.Request, form url.Values) (id, secret string, err error) {
	id, secret = form.Get("client_id"), form.Get("client_secret")
	headers := r.Header["Authorization"]
	if len(headers) > 1 {
		return "", "", fmt.Errorf("%w: two Authorization headers", ErrBadRequest)
	}
	if len(headers) == 0 || !hasScheme(headers[0], "Basic") {
		return id, secret, nil
	}
	user, password, ok := r.BasicAuth()
	headerID, err1 := url.QueryUnescape(user)
	headerSecret, err2 := url.QueryUnescape(password)
	switch {
	case !ok || err1 != nil || err2 != nil:
		return "", "", errClient
	case secret != "" || id != "" && id != headerID:
		return "", "", fmt.Errorf("%w: two client authentications", ErrBadRequest)
	}
	return headerID, headerSecret, nil
}

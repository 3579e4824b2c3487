package sessionclient

import (
	"context"
	"net/http"
	"strings"

	"github.com/seed67bc9b7f/tokensession"
)

// A request belongs to the session that was there when it was made.
//
// A request can wait for a refresh, or be sent again after a 401. Meanwhile the program may save
// the tokens of another login. If the request went with those, something that alice has asked for
// would be done as bob, or bob's data would be stored as alice's. So before the Transport sends a
// request with other tokens than it has loaded for it, it compares the two. A request that was not
// sent is refused with ErrSessionChanged, and one that was sent gets the 401 that it has met.
//
// The same holds for a redirect, which an http.Client follows with a new request. That request
// leads back to the response that redirected it, and there the Transport finds whose request it
// was. A redirect to another origin keeps that, because that origin may redirect it back.

// An identity says whose tokens are. Both are empty if the tokens do not tell.
type identity struct{ subject, session string }

// identityOf reads the sub and sid of an access token that is a JWT. It does not verify the token,
// because whoever can choose the tokens in the store could choose both.
func identityOf(tokens tokensession.Tokens) identity {
	var claims struct {
		Sub string `json:"sub"`
		Sid string `json:"sid"`
	}
	if !readClaims(tokens.AccessToken, &claims) {
		return identity{}
	}
	return identity{claims.Sub, claims.Sid}
}

// sameSession reports whether tokens are of one session. Tokens of other servers that do not tell
// cannot be compared, and count as of one session.
func sameSession(a, b tokensession.Tokens) bool {
	same, _ := compareSessions(a, b)
	return same
}

// compareSessions reports whether tokens are of one session, and whether that is known. If the
// access tokens do not tell, the refresh tokens may: those of a Manager begin with a part that is
// the session's own.
func compareSessions(a, b tokensession.Tokens) (same, known bool) {
	if a.AccessToken != "" && a.AccessToken == b.AccessToken {
		return true, true
	}
	if was, is := identityOf(a), identityOf(b); was != (identity{}) && is != (identity{}) {
		return was == is, true
	}
	was, ok := sessionPart(a.RefreshToken)
	is, ok2 := sessionPart(b.RefreshToken)
	if ok && ok2 {
		return was == is, true
	}
	return true, false
}

// sessionPart returns the part of a Manager's refresh token that all tokens of the session have in
// common: 16 bytes, of which the prefix and 21 characters of base64url show all but two bits.
func sessionPart(refreshToken string) (string, bool) {
	const prefix, length, common = "tsr_", 68, 25
	if len(refreshToken) != length || !strings.HasPrefix(refreshToken, prefix) {
		return "", false
	}
	return refreshToken[:common], true
}

// A redirectKey is the key by which a response that redirects says whose request it answers. The
// value is in the context of the response's Request, where it survives what others do to the
// response: an http.Client with a Timeout wraps the body.
type redirectKey struct{}

// rememberRedirect makes a redirected request recognizable.
func rememberRedirect(resp *http.Response, req *http.Request, from identity) {
	if resp.StatusCode/100 == 3 && resp.Header.Get("Location") != "" && from != (identity{}) {
		resp.Request = req.WithContext(context.WithValue(req.Context(), redirectKey{}, from))
	}
}

// redirectedFrom returns whose request was redirected, if a request follows a redirect. It is empty
// if that is not known.
func redirectedFrom(req *http.Request) identity {
	if req.Response == nil || req.Response.Request == nil {
		return identity{}
	}
	from, _ := req.Response.Request.Context().Value(redirectKey{}).(identity)
	return from
}

// redirectedFromAnother reports whether a request follows the redirect of a request of another
// session.
func redirectedFromAnother(req *http.Request, tokens tokensession.Tokens) bool {
	from, is := redirectedFrom(req), identityOf(tokens)
	return from != (identity{}) && is != (identity{}) && from != is
}

package sessionhttp_test

import (
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// A program is a client that proves its key, at a site. It remembers the nonce that it was told
// last.
type program struct {
	*site
	key   clientKey
	nonce string
	made  int
}

func (s *site) program(key clientKey) *program { return &program{site: s, key: key} }

// prove returns an edit that adds a proof to a request, and the access token that it is of.
func (p *program) prove(accessToken string, edits members) func(*http.Request) {
	return func(r *http.Request) {
		p.made++
		claims := members{
			"jti": text(fmt.Sprint(p.key.thumbprint, p.made)), "htm": text(r.Method),
			"htu": text("https://" + r.Host + r.URL.Path), "iat": fmt.Sprint(p.clock.Now().Unix()),
		}
		if p.nonce != "" {
			claims["nonce"] = text(p.nonce)
		}
		if accessToken != "" {
			claims["ath"] = text(hashOf(accessToken))
			r.Header.Add("Authorization", "DPoP "+accessToken)
		}
		r.Header.Add("DPoP", p.key.seal(p.key.header(nil), claims.with(edits).String()))
	}
}

// note remembers the nonce of an answer.
func (p *program) note(answer *http.Response) *http.Response {
	if nonce := answer.Header.Get("DPoP-Nonce"); nonce != "" {
		p.nonce = nonce
	}
	return answer
}

// get asks for the site's API with a proof.
func (p *program) get(accessToken string, edits ...members) *http.Response {
	p.t.Helper()
	return p.note(p.call(p.prove(accessToken, merged(edits))))
}

func merged(all []members) members {
	one := members{}
	for _, m := range all {
		maps.Copy(one, m)
	}
	return one
}

// refreshes presents a refresh token with a proof.
func (p *program) refreshes(token string, edits ...members) *http.Response {
	p.t.Helper()
	return p.note(p.refresh(token, p.prove("", merged(edits))))
}

// withNonce gets the program a nonce.
func (p *program) withNonce() *program {
	p.t.Helper()
	p.note(p.refresh("tsr_x", p.prove("", members{"nonce": ""})))
	require.NotEmpty(p.t, p.nonce)
	return p
}

// login starts a session as the host's login does, which is at POST /login.
func (p *program) login() tokensession.Tokens {
	p.t.Helper()
	p.withNonce()
	r := httptest.NewRequest(http.MethodPost, "/login", nil)
	p.prove("", nil)(r)
	opts, err := p.h.ProofOptions(httptest.NewRecorder(), r)
	require.NoError(p.t, err)
	return p.start(opts...)
}

// tokensOf reads the tokens of an answer.
func tokensOf(t testing.TB, answer *http.Response) (access, refresh, tokenType string) {
	t.Helper()
	require.Equal(t, http.StatusOK, answer.StatusCode)
	body := jsonOf(t, answer)
	access, _ = body["access_token"].(string)
	refresh, _ = body["refresh_token"].(string)
	tokenType, _ = body["token_type"].(string)
	return access, refresh, tokenType
}

func newDPoPSite(t testing.TB, policy sessionhttp.DPoPPolicy) *site {
	t.Helper()
	return newSite(t, sessionhttp.Config{DPoP: policy, ProofKeys: someKeys})
}

const algs = `algs="ES256 EdDSA Ed25519"`

// requireChallenge requires a refusal of Require, with these challenges.
func requireChallenge(t testing.TB, answer *http.Response, status int, code string,
	challenges ...string) {
	t.Helper()
	require.Equal(t, challenges, answer.Header["Www-Authenticate"])
	requireError(t, answer, status, code)
}

// untouched runs f, and requires that it makes no call of the store, no event, and no cookie.
func (s *site) untouched(f func() *http.Response) *http.Response {
	s.t.Helper()
	s.store.Took()
	s.events.Take()
	answer := f()
	require.Empty(s.t, s.store.Took())
	require.Empty(s.t, s.events.Take())
	require.Empty(s.t, answer.Header["Set-Cookie"])
	return answer
}

// Package sessionhttp puts a [tokensession.Manager] behind net/http: the endpoints of OAuth 2.0 for
// refreshing and revoking, middleware, cookies for browsers, and a script that refreshes in them.
//
// # What to use first
//
//	h, err := sessionhttp.New(manager, sessionhttp.Config{Cookies: true})
//	h.Mount(mux)                                                    // POST /auth/token, /auth/revoke, …
//	mux.Handle("GET /api/notes", h.Require()(http.HandlerFunc(notes))) // FromContext says who it is
//
// The host's own login checks the password or the passkey and then calls [Handlers.Login], which
// sets the cookies, or, for clients that are no browsers, [tokensession.Manager.Start] and
// [Handlers.WriteTokens].
//
// # Two ways to carry tokens
//
// A program gets its tokens in the body of an answer (RFC 6749 section 5.1) and sends the access
// token in the Authorization header (RFC 6750 section 2.1).
//
// A browser gets them in cookies, if [Config.Cookies] says so, and no script ever sees one: the
// access token goes to the whole site, the refresh token to what is below [Config.Prefix]. Both are
// HttpOnly, Secure and SameSite=Strict, or Lax ([Config.SameSite]). The refresh token counts only
// beside an access token of the same session, so that no other host of the site can swap a
// browser's session. Requests of other origins that could change something are refused with
// [http.CrossOriginProtection], unless [Config.Origins] names the origin. The script that
// [Handlers.Script] serves refreshes for all tabs together.
//
// # Tokens that are bound to a key
//
// With [Config.DPoP], a program proves with each request that it has a key (RFC 9449), and a stolen
// token is of no use without that. The host's login calls [Handlers.ProofOptions] before it looks
// at the password. The token endpoint and [Handlers.Require] do the rest.
//
// With [Config.DeviceBound], browsers that can bind their sessions to their device, and a copy of
// the cookies is of no use once the access token has run out. Nothing is to be done for it but to
// log in by [Handlers.Login], and to keep proxies from answering refreshes in their own way.
//
// # What is promised
//
// Only a verdict ends a login: 400 and invalid_grant, the same body whether the token is unknown,
// expired, revoked or reused. Whatever else goes wrong is 503 with Retry-After, or another 5xx, and
// leaves tokens and cookies as they are. Cookies are cleared with a verdict and at a logout that
// ended the session or found nothing to end, and never else. Where a logout cannot tell which
// session it is to end, because the access token's key is unknown and no refresh token is there, it
// is 401: the browser refreshes and tries again. They stay if the verdict is that a login ended the
// session, as one that it replaces or for MaxSessions, or that all of the user's were ended: that
// may have been a login in this browser, or just before one, while the refresh was under way. So
// that there is a cookie says nothing of a login; only [Handlers.Require] does.
//
// Bodies are limited to 16 KiB. Timeouts and rate limits are the host's: set
// [http.Server.ReadHeaderTimeout], ReadTimeout, WriteTimeout and IdleTimeout.
package sessionhttp

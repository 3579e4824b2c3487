// Package sessionclient keeps a Go program logged in: it adds the access token to the program's
// requests, and refreshes it at a token endpoint of OAuth 2.0 (RFC 6749 section 6), such as the one
// that package sessionhttp serves. Use it in command-line tools, in services, and in back ends that
// hold a user's tokens.
//
// # What to use first
//
//	store := sessionclient.NewTokenFile("/home/alice/.config/tool/tokens.json")
//	const tokenURL = "https://auth.example/auth/token"
//	transport, err := sessionclient.New(tokenURL, store, sessionclient.Config{})
//	if err != nil {
//		return err
//	}
//	defer transport.Wait(context.Background()) // a refresh may still be running
//	client := &http.Client{Transport: transport}
//
// [Transport.Login] logs the user in and saves the tokens to the store, and [Transport.Logout] ends
// the session. A program that logs in by other means reads the answer with [ParseTokens] and saves
// the tokens itself. From then on it sends its requests with the client. What is not sent by an
// http.Client gets the token from [Transport.Token]. If a request fails with
// [ErrNoTokens] or [ErrSessionEnded], the user has to log in. If it fails with
// [tokensession.ErrUnavailable], the user is still logged in, and the program can try again later.
//
// Choose the store by how long the tokens have to live. A [TokenFile] keeps them until the next run
// of the program, and several processes may share one. A [TokenMemory] forgets them when the
// program ends. For a keychain or a database, implement [TokenStore].
//
// A program whose tokens are to be worth nothing elsewhere has a key: [Config.Key]. The Transport
// proves it with each refresh and with each request, and a server that knows DPoP (RFC 9449) binds
// the tokens to it. [LoadKey] keeps a key in a file. A key in hardware cannot be copied.
//
// # What is promised
//
// One refresh serves all requests. However many requests need a new access token at the same time,
// one refresh gets it for all of them.
//
// A lost reply logs nobody out. The server may have consumed the refresh token although its answer
// never arrived. A Manager gives the same answer to the same token again during its grace period,
// which is 10 seconds unless the host has changed it. So the Transport asks again with the same
// token for 8 seconds after the first attempt that the server may have seen. With a server that has
// no grace period, or a shorter one, a lost reply can end the session.
//
// A request belongs to the session that is there when it is made. If somebody else logs in while it
// waits, it is not sent, and fails with [ErrSessionChanged].
//
// No refresh token is spent in vain. If the store can tell in advance whether it will save the
// result, as a [TokenFile] can, there is no refresh unless it will.
//
// New tokens are saved before they are used. They are saved even if the request that needed them
// was cancelled, because the old refresh token is worth nothing by then. If the store fails, the
// Transport uses the tokens from memory, tells [Config.OnError], and tries again to save them. It
// does not save over a login or a logout that the program saved in the meantime. For a store that
// is no [TokenSwapper], this holds except for the moment between its Load and its Save.
//
// Only a verdict ends the session: the token endpoint's 400 with invalid_grant, or an access token
// that has expired where there is no refresh token. Any other answer, and no answer, leaves the
// tokens as they are.
//
// Tokens that are bound to another key than the Transport's are neither sent nor ended, except by
// [Transport.Logout]. A proof that a server refuses, and a key that does not sign, end no session.
//
// The access token goes only to the origins that the program has named, or to that of the token
// endpoint if it has named none. A redirect to another origin does not take it along. No error and
// nothing that is printed contains a token or a key.
package sessionclient

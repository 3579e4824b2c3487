// Package tokensession runs token sessions: short-lived JWT access tokens and rotating refresh
// tokens, with theft detection, and revocation that reaches access tokens. It is embedded in a
// server that keeps its own users and routes.
//
// # What to use first
//
// Make an [AccessSigner] with your issuer and audience: the package keyring makes one, and keeps
// its keys beside the sessions; a key of your own is read by [ParseKeyPEM] (openssl genpkey
// -algorithm ed25519). Make a [Manager] with [New] and the zero [Config]. Then four calls do it:
//
//   - [Manager.Start] when a user has logged in; its [Tokens] go to the client.
//   - [Manager.Verify] at each request. It does no I/O.
//   - [Manager.Refresh] when the client comes with its refresh token, about every 15 minutes.
//   - [Manager.RevokeToken] at logout, [Manager.RevokeSubject] after a change of password.
//
// Beside the server, [Manager.Run] learns what other instances revoked and drops what has expired.
//
// The package sessionhttp does all of this behind net/http, with cookies for browsers, and
// sessionclient keeps a program logged in.
//
// [MemoryStore] serves tests and a single process that may forget its sessions. The modules
// sqlstore (PostgreSQL, MariaDB and MySQL, SQLite) and redisstore keep them. All of them pass the
// suite in storetest, as should your own.
//
// # What a refresh does
//
// A session is one login on one device. Its refresh tokens are numbered; the number is the token's
// generation, and one generation is live. Presenting it makes the next one live: a rotation.
// Presenting the one just consumed, within [Config.GracePeriod], gives the same successor again, so
// that two tabs, a retry and a lost reply are all served alike and the session never forks. Within
// [Config.RecoveryPeriod] it makes a successor that displaces the one that got lost. A generation
// newer than the store's record means that the store lost writes: the session goes on from there.
// Any other means that two parties hold the session: it is revoked, and both are out.
//
// # What is promised
//
// No honest client is logged out by accident. Everything that can fail comes before the one write
// that consumes the token; a failure is [ErrUnavailable], and the same token works afterwards. A
// write whose reply was lost is recognized as one's own. Only [ErrInvalidToken], [ErrExpired],
// [ErrRevoked] and [ErrDenied] say that a login is over.
//
// No thief outlives the honest client's next refresh outside the grace period, whichever of the two
// comes first. A revoked session's access tokens are refused at once by the Manager that revoked
// it, and within about a second by others that Run on the same store.
//
// # Keys and secrets
//
// The store holds nothing that can be presented: a refresh token contains a random handle of which
// the session ID is a hash. Give [Config.RefreshKeys] if who can write to the store must not be
// able to make tokens either. Signing keys are changed by keyring, or with [AccessSigner.Rotate],
// and published with [AccessSigner.JWKS]. Services without a store verify with sessionhttp.Remote,
// or with an [AccessVerifier]. A session can be bound to a key of its client ([WithKeyThumbprint]):
// then a copy of its tokens is of no use. Tokens, records and keys print and log without their
// secrets.
//
// Times in this package are UTC, to the microsecond in stores and to the second in access tokens.
package tokensession

// Package sessiongrpc protects gRPC services with access tokens of package tokensession, and sends
// them with a client's calls.
//
// # A server
//
//	remote, err := sessionhttp.NewRemote("https://auth.example/auth", sessionhttp.RemoteConfig{…})
//	server := grpc.NewServer(
//		grpc.UnaryInterceptor(sessiongrpc.UnaryServerInterceptor(remote)),
//		grpc.StreamInterceptor(sessiongrpc.StreamServerInterceptor(remote)),
//	)
//
// A [tokensession.Manager] does as well as a Remote. [FromContext] says in a handler who calls. A
// stream ends with the access token that it was opened with, or with its session: see
// [StreamServerInterceptor].
//
// # A client
//
//	conn, err := grpc.NewClient(address, append(sessiongrpc.DialOptions(transport),
//		grpc.WithTransportCredentials(credentials.NewTLS(nil)))...)
//
// The transport is one of package sessionclient, which keeps the tokens and refreshes them.
//
// Tokens are bearer tokens: RFC 6750, in the metadata "authorization". A service of Connect is a
// handler of net/http, and is protected by [sessionhttp.Remote.Require] or Handlers.Require,
// without this package: see the example.
package sessiongrpc

// Package examples shows package sessionclient with libraries that take a token from somewhere:
// golang.org/x/oauth2, gRPC, and WebSockets; with a key in a TPM, and with tokens that are sealed
// with a key of the system's keychain. Beside them is a WebSocket's server. Each example runs
// against a real server.
package examples

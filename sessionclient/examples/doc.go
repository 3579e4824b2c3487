// Package examples shows package sessionclient with libraries that take a token from somewhere:
// golang.org/x/oauth2, gRPC, and WebSockets; and with a key in a TPM. Beside them is a WebSocket's
// server. Each example runs against a real server.
package examples

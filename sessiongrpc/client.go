package sessiongrpc

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/seed67bc9b7f/tokensession"
)

// A TokenSource gives a client its access tokens. A *sessionclient.Transport is one.
type TokenSource interface {
	// Token returns the access token to send. It refreshes if that is needed.
	Token(ctx context.Context) (tokensession.Tokens, error)

	// TokenInstead returns the token to try once instead of one that the server has refused, or the
	// refused one if a new one would not help.
	TokenInstead(ctx context.Context, refused tokensession.Tokens) (tokensession.Tokens, error)
}

// DialOptions are what a client needs to send its access token with each call: the credentials, and
// the interceptors that try again once with a new token where the server has refused the old one. A
// call that was refused has reached no handler, so that nothing happens twice. A stream is tried
// again only where nothing was sent yet.
//
// A call is sent with the token of the session that was there when it was made, however long it
// waits for a connection.
//
// The token goes over TLS only. Name no server that it is not for. A token that is bound to a key
// (TokenType DPoP) is not sent, because calls of gRPC have no proofs: they fail with
// Unauthenticated.
func DialOptions(source TokenSource) []grpc.DialOption {
	c := &callCredentials{source: source, secure: true}
	return c.dialOptions()
}

// InsecureDialOptions are [DialOptions] that send the token also without TLS, where everybody on
// the way can read it and use it. They are for a connection within one machine.
func InsecureDialOptions(source TokenSource) []grpc.DialOption {
	c := &callCredentials{source: source}
	return c.dialOptions()
}

type callCredentials struct {
	source TokenSource
	secure bool
}

var _ credentials.PerRPCCredentials = (*callCredentials)(nil)

func (c *callCredentials) dialOptions() []grpc.DialOption {
	return []grpc.DialOption{
		grpc.WithPerRPCCredentials(c),
		grpc.WithChainUnaryInterceptor(c.unary),
		grpc.WithChainStreamInterceptor(c.stream),
	}
}

// An attempt says which token a call is sent with. It is in the call's context.
//
// The token is taken when the call is made. gRPC asks for it later, when there is a connection, and
// for each try of its own. If somebody else logs in until then, the call of one user would be sent
// as the other.
type attempt struct {
	tokens tokensession.Tokens
	sent   atomic.Bool
}

type attemptKey struct{}

func (a *attempt) in(ctx context.Context) context.Context {
	return context.WithValue(ctx, attemptKey{}, a)
}

// attempt returns the first one of a call. The error is a status.
func (c *callCredentials) attempt(ctx context.Context) (*attempt, error) {
	tokens, err := c.source.Token(ctx)
	if err != nil {
		return nil, clientError(ctx, err)
	}
	return &attempt{tokens: tokens}, nil
}

func (c *callCredentials) GetRequestMetadata(
	ctx context.Context, _ ...string,
) (map[string]string, error) {
	call, _ := ctx.Value(attemptKey{}).(*attempt)
	if call == nil { // an interceptor has put another context in its place
		var err error
		if call, err = c.attempt(ctx); err != nil {
			return nil, err
		}
	}
	if strings.EqualFold(call.tokens.TokenType, "DPoP") {
		return nil, status.Error(codes.Unauthenticated,
			"the access token is bound to a key, and a call of gRPC has no proof of it")
	}
	call.sent.Store(true)
	return map[string]string{"authorization": "Bearer " + call.tokens.AccessToken}, nil
}

func (c *callCredentials) RequireTransportSecurity() bool { return c.secure }

// clientError is a status. gRPC takes any other error of credentials for Unauthenticated, and an
// outage is no such thing. So an outage comes first, whatever its cause is: a refresh that got no
// answer in time, or a token store that is asked by gRPC and refuses this program.
func clientError(ctx context.Context, err error) error {
	_, isStatus := status.FromError(err)
	switch {
	case ctx.Err() != nil:
		return status.FromContextError(ctx.Err()).Err()
	case errors.Is(err, tokensession.ErrUnavailable):
		return status.Error(codes.Unavailable, err.Error())
	case isStatus:
		return err
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return status.FromContextError(err).Err()
	default: // nobody is logged in, or the session is over
		return status.Error(codes.Unauthenticated, err.Error())
	}
}

func (c *callCredentials) unary(
	ctx context.Context, method string, req, reply any, conn *grpc.ClientConn,
	invoke grpc.UnaryInvoker, opts ...grpc.CallOption,
) error {
	first, err := c.attempt(ctx)
	if err != nil {
		return err
	}
	err = invoke(first.in(ctx), method, req, reply, conn, opts...)
	again, err := c.again(ctx, first, err)
	if again == nil {
		return err
	}
	return invoke(again.in(ctx), method, req, reply, conn, opts...)
}

// again returns the attempt to make after one that failed, or nil and the error of the call. Where
// it cannot be told whether there is a better token, that is the error: the server has refused the
// old one only, so that the user may still be logged in.
func (c *callCredentials) again(
	ctx context.Context, failed *attempt, err error,
) (*attempt, error) {
	if !failed.sent.Load() || !isInvalidToken(err) {
		return nil, err
	}
	next, failure := c.source.TokenInstead(ctx, failed.tokens)
	if failure != nil {
		if failure := clientError(ctx, failure); status.Code(failure) != codes.Unauthenticated {
			err = failure
		}
		return nil, err
	}
	if next.AccessToken == failed.tokens.AccessToken {
		return nil, err
	}
	return &attempt{tokens: next}, nil
}

// isInvalidToken reports whether a server of ours has refused the token.
func isInvalidToken(err error) bool {
	s, ok := status.FromError(err)
	if !ok || s.Code() != codes.Unauthenticated {
		return false
	}
	for _, detail := range s.Details() {
		info, ok := detail.(*errdetails.ErrorInfo)
		if ok && info.Domain == Domain && info.Reason == ReasonInvalidToken {
			return true
		}
	}
	return false
}

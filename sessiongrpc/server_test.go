package sessiongrpc_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessiongrpc"
)

var errPanicked = status.Error(codes.Internal, "recovered")

func bearer(ctx context.Context, tokens ...string) context.Context {
	for _, token := range tokens {
		ctx = metadata.AppendToOutgoingContext(ctx, "authorization", "Bearer "+token)
	}
	return ctx
}

func callWhoAmI(ctx context.Context, conn *grpc.ClientConn) (string, error) {
	out := &wrapperspb.StringValue{}
	err := conn.Invoke(ctx, whoAmI, wrapperspb.String(""), out)
	return out.Value, err
}

// requireStatus requires a code, and the reason in the details.
func requireStatus(t testing.TB, err error, code codes.Code, reason string) {
	t.Helper()
	s, ok := status.FromError(err)
	require.True(t, ok, "%v", err)
	require.Equal(t, code, s.Code(), "%v", err)
	for _, detail := range s.Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok {
			require.Equal(t, sessiongrpc.Domain, info.Domain)
			require.Equal(t, reason, info.Reason)
			return
		}
	}
	require.Empty(t, reason, "no ErrorInfo in %v", err)
}

// A deafVerifier cannot tell.
type deafVerifier struct{ sessiongrpc.Verifier }

func (deafVerifier) Verify(string) (tokensession.Access, error) {
	return tokensession.Access{}, fmt.Errorf("%w: the secret reason", tokensession.ErrUnavailable)
}

func TestUnary(t *testing.T) {
	m := newManager(t)
	server, address := serve(t, m, sessiongrpc.Public("/grpc.health.v1.Health/Check"))
	conn := dial(t, address)
	tokens, err := m.Start(within(t), "alice")
	require.NoError(t, err)

	name, err := callWhoAmI(bearer(within(t), tokens.AccessToken), conn)
	require.NoError(t, err)
	require.Equal(t, "alice", name)
	_, err = callWhoAmI(metadata.AppendToOutgoingContext(within(t), "authorization",
		"bEaReR "+tokens.AccessToken), conn)
	require.NoError(t, err)
	require.Equal(t, 2, server.count(whoAmI))

	_, err = callWhoAmI(within(t), conn)
	requireStatus(t, err, codes.Unauthenticated, sessiongrpc.ReasonNoToken)
	_, err = callWhoAmI(metadata.AppendToOutgoingContext(within(t), "authorization", "Basic x"), conn)
	requireStatus(t, err, codes.Unauthenticated, sessiongrpc.ReasonNoToken)
	for _, bad := range []string{"", "nonsense", tokens.AccessToken + "x", tokens.RefreshToken} {
		_, err = callWhoAmI(bearer(within(t), bad), conn)
		requireStatus(t, err, codes.Unauthenticated, sessiongrpc.ReasonInvalidToken)
		require.NotContains(t, err.Error(), "tsr_")
	}
	_, err = callWhoAmI(bearer(within(t), tokens.AccessToken, tokens.AccessToken), conn)
	requireStatus(t, err, codes.Unauthenticated, sessiongrpc.ReasonInvalidToken)

	require.NoError(t, m.Revoke(within(t), tokens.Session.ID))
	_, err = callWhoAmI(bearer(within(t), tokens.AccessToken), conn)
	requireStatus(t, err, codes.Unauthenticated, sessiongrpc.ReasonInvalidToken)
	require.Equal(t, 2, server.count(whoAmI), "calls that reached the handler")

	_, err = healthpb.NewHealthClient(conn).Check(within(t), &healthpb.HealthCheckRequest{})
	require.NoError(t, err, "a public method")
}

func TestUnary_scopes(t *testing.T) {
	m := newManager(t)
	tokens, err := m.Start(within(t), "alice")
	require.NoError(t, err)
	for name, c := range map[string]struct {
		opts []sessiongrpc.Option
		want codes.Code
	}{
		"has it":             {[]sessiongrpc.Option{sessiongrpc.Scope("notes:read")}, codes.OK},
		"lacks it":           {[]sessiongrpc.Option{sessiongrpc.Scope("notes:write")}, codes.PermissionDenied},
		"lacks one of two":   {[]sessiongrpc.Option{sessiongrpc.Scope("notes:read", "x")}, codes.PermissionDenied},
		"a part of a name":   {[]sessiongrpc.Option{sessiongrpc.Scope("notes")}, codes.PermissionDenied},
		"of the method":      {[]sessiongrpc.Option{sessiongrpc.Method(whoAmI, sessiongrpc.Scope("x"))}, codes.PermissionDenied},
		"of another method":  {[]sessiongrpc.Option{sessiongrpc.Method(echo, sessiongrpc.Scope("x"))}, codes.OK},
		"a method without":   {[]sessiongrpc.Option{sessiongrpc.Method(whoAmI)}, codes.OK},
		"all and the method": {[]sessiongrpc.Option{sessiongrpc.Scope("x"), sessiongrpc.Method(whoAmI)}, codes.PermissionDenied},
	} {
		t.Run(name, func(t *testing.T) {
			_, address := serve(t, m, c.opts...)
			_, err := callWhoAmI(bearer(within(t), tokens.AccessToken), dial(t, address))
			require.Equal(t, c.want, status.Code(err), "%v", err)
			if c.want == codes.PermissionDenied {
				requireStatus(t, err, c.want, sessiongrpc.ReasonInsufficientScope)
			}
		})
	}
	_, address := serve(t, m, sessiongrpc.Method(whoAmI, sessiongrpc.Live()))
	_, err = callWhoAmI(within(t), dial(t, address))
	requireStatus(t, err, codes.Unauthenticated, sessiongrpc.ReasonNoToken)
}

func TestUnary_anOutageIsNoVerdict(t *testing.T) {
	_, address := serve(t, deafVerifier{})
	_, err := callWhoAmI(bearer(within(t), "token"), dial(t, address))
	requireStatus(t, err, codes.Unavailable, "")
	require.NotContains(t, err.Error(), "secret")
	s, _ := status.FromError(err)
	require.Len(t, s.Details(), 1)
	require.IsType(t, &errdetails.RetryInfo{}, s.Details()[0])
}

func openEcho(t testing.TB, ctx context.Context, conn *grpc.ClientConn) grpc.ClientStream {
	t.Helper()
	stream, err := conn.NewStream(ctx, &echoService.Streams[0], echo)
	require.NoError(t, err)
	return stream
}

// The handler of Echo waits for a message and never looks at its context.
func TestStream_endsWithItsSession(t *testing.T) {
	m := newManager(t)
	for name, opts := range map[string][]sessiongrpc.Option{
		"default": nil, "until the session ends": {sessiongrpc.UntilSessionEnds()},
	} {
		t.Run(name, func(t *testing.T) {
			server, address := serve(t, m, opts...)
			conn := dial(t, address)
			tokens, err := m.Start(within(t), "alice")
			require.NoError(t, err)
			other, err := m.Start(within(t), "bob")
			require.NoError(t, err)
			stream := openEcho(t, bearer(within(t), tokens.AccessToken), conn)
			stays := openEcho(t, bearer(within(t), other.AccessToken), conn)
			watching, err := conn.NewStream(bearer(within(t), tokens.AccessToken),
				&echoService.Streams[1], watch)
			require.NoError(t, err)
			require.NoError(t, watching.SendMsg(wrapperspb.String("")))
			got := &wrapperspb.StringValue{}
			require.NoError(t, watching.RecvMsg(got))
			require.Equal(t, "alice", got.Value)
			for range 3 {
				require.NoError(t, stream.SendMsg(wrapperspb.String("hello")))
				require.NoError(t, stream.RecvMsg(got))
				require.Equal(t, "hello", got.Value)
			}
			require.NoError(t, m.Revoke(within(t), tokens.Session.ID))
			requireStatus(t, stream.RecvMsg(got), codes.Unauthenticated, sessiongrpc.ReasonEnded)
			requireStatus(t, watching.RecvMsg(got), codes.Unauthenticated, sessiongrpc.ReasonEnded)
			select {
			case cause := <-server.cause:
				require.ErrorIs(t, cause, tokensession.ErrRevoked)
			case <-time.After(30 * time.Second):
				t.Fatal("the handler was not told")
			}
			require.NoError(t, stays.SendMsg(wrapperspb.String("hello")))
			require.NoError(t, stays.RecvMsg(got), "the stream of another user")
		})
	}
}

func TestStream_isRefused(t *testing.T) {
	m := newManager(t)
	server, address := serve(t, m)
	conn := dial(t, address)
	requireStatus(t, openEcho(t, within(t), conn).RecvMsg(&wrapperspb.StringValue{}),
		codes.Unauthenticated, sessiongrpc.ReasonNoToken)
	requireStatus(t, openEcho(t, bearer(within(t), "x"), conn).RecvMsg(&wrapperspb.StringValue{}),
		codes.Unauthenticated, sessiongrpc.ReasonInvalidToken)
	require.Zero(t, server.count(echo))
}

// What the handler returns, and that it panics, reaches the host as without the interceptor.
func TestStream_returnsWhatTheHandlerReturns(t *testing.T) {
	m := newManager(t)
	_, address := serve(t, m)
	conn := dial(t, address)
	tokens, err := m.Start(within(t), "alice")
	require.NoError(t, err)
	stream := openEcho(t, bearer(within(t), tokens.AccessToken), conn)
	require.NoError(t, stream.SendMsg(wrapperspb.String("panic")))
	require.Equal(t, codes.Internal, status.Code(stream.RecvMsg(&wrapperspb.StringValue{})))

	ctx, leave := context.WithCancel(bearer(within(t), tokens.AccessToken))
	stream = openEcho(t, ctx, conn)
	require.NoError(t, stream.SendMsg(wrapperspb.String("hello")))
	require.NoError(t, stream.RecvMsg(&wrapperspb.StringValue{}))
	leave()
	require.Equal(t, codes.Canceled, status.Code(stream.RecvMsg(&wrapperspb.StringValue{})))
	require.False(t, errors.Is(err, tokensession.ErrRevoked))
}

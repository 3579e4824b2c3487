package sessiongrpc_test

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessiongrpc"
)

var accessConfig = tokensession.AccessConfig{
	Issuer: "https://auth.example", Audience: []string{"https://api.example"},
}

const (
	whoAmI = "/test.Echo/WhoAmI" // answers the subject
	echo   = "/test.Echo/Echo"   // answers each message
	watch  = "/test.Echo/Watch"  // sends the subject, and goes on until its context ends
)

// An echoServer counts the calls that reach its handlers.
type echoServer struct {
	mu    sync.Mutex
	calls map[string]int
	cause chan error // why the context of a Watch has ended
}

func (s *echoServer) called(method string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls[method]++
}

func (s *echoServer) count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls[method]
}

var echoService = grpc.ServiceDesc{
	ServiceName: "test.Echo",
	HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "WhoAmI", Handler: func(
		srv any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor,
	) (any, error) {
		in := &wrapperspb.StringValue{}
		if err := decode(in); err != nil {
			return nil, err
		}
		return intercept(ctx, in, &grpc.UnaryServerInfo{Server: srv, FullMethod: whoAmI},
			func(ctx context.Context, _ any) (any, error) {
				srv.(*echoServer).called(whoAmI)
				access, _ := sessiongrpc.FromContext(ctx)
				return wrapperspb.String(access.Subject), nil
			})
	}}},
	Streams: []grpc.StreamDesc{
		{StreamName: "Echo", ServerStreams: true, ClientStreams: true,
			Handler: func(srv any, stream grpc.ServerStream) error {
				srv.(*echoServer).called(echo)
				for {
					in := &wrapperspb.StringValue{}
					if err := stream.RecvMsg(in); err != nil {
						return err
					}
					if in.Value == "panic" {
						panic("as the client wants")
					}
					if err := stream.SendMsg(in); err != nil {
						return err
					}
				}
			}},
		{StreamName: "Watch", ServerStreams: true,
			Handler: func(srv any, stream grpc.ServerStream) error {
				srv.(*echoServer).called(watch)
				if err := stream.RecvMsg(&wrapperspb.StringValue{}); err != nil {
					return err
				}
				access, _ := sessiongrpc.FromContext(stream.Context())
				if err := stream.SendMsg(wrapperspb.String(access.Subject)); err != nil {
					return err
				}
				<-stream.Context().Done()
				srv.(*echoServer).cause <- context.Cause(stream.Context())
				return stream.Context().Err()
			}},
	},
}

func newManager(t testing.TB) *tokensession.Manager {
	t.Helper()
	key, err := tokensession.GenerateKey()
	require.NoError(t, err)
	signer, err := tokensession.NewAccessSigner(key, accessConfig)
	require.NoError(t, err)
	m, err := tokensession.New(signer, tokensession.NewMemoryStore(), tokensession.Config{
		Authorize: func(context.Context, tokensession.Session) (tokensession.Grant, error) {
			return tokensession.Grant{Scope: "notes:read"}, nil
		},
	})
	require.NoError(t, err)
	return m
}

// serve serves the echo service, and returns it and its address.
func serve(
	t testing.TB, v sessiongrpc.Verifier, opts ...sessiongrpc.Option,
) (*echoServer, string) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return serveAt(t, listener, v, opts...), listener.Addr().String()
}

func serveAt(
	t testing.TB, listener net.Listener, v sessiongrpc.Verifier, opts ...sessiongrpc.Option,
) *echoServer {
	t.Helper()
	echo := &echoServer{calls: map[string]int{}, cause: make(chan error, 100)}
	server := grpc.NewServer(
		grpc.ChainUnaryInterceptor(sessiongrpc.UnaryServerInterceptor(v, opts...)),
		grpc.ChainStreamInterceptor(recovers, sessiongrpc.StreamServerInterceptor(v, opts...)),
	)
	server.RegisterService(&echoService, echo)
	healthpb.RegisterHealthServer(server, health.NewServer())
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	return echo
}

// recovers is a host's own interceptor.
func recovers(
	srv any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler,
) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errPanicked
		}
	}()
	return handler(srv, stream)
}

func dial(t testing.TB, address string, opts ...grpc.DialOption) *grpc.ClientConn {
	t.Helper()
	opts = append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))
	conn, err := grpc.NewClient(address, opts...)
	require.NoError(t, err)
	t.Cleanup(func() { conn.Close() })
	return conn
}

// within is a context for a call that must not hang.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func dialInsecure(address string, opts ...grpc.DialOption) (*grpc.ClientConn, error) {
	opts = append(opts, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return grpc.NewClient(address, opts...)
}

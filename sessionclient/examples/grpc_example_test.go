package examples

import (
	"context"
	"fmt"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/seed67bc9b7f/tokensession/sessionclient"
)

// A callToken gives each call of gRPC the access token.
type callToken struct{ *sessionclient.Transport }

func (c callToken) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	t, err := c.Transport.Token(ctx)
	return map[string]string{"authorization": "Bearer " + t.AccessToken}, err
}

func (callToken) RequireTransportSecurity() bool { return true }

var _ credentials.PerRPCCredentials = callToken{}

// The calls of a gRPC client bring the access token. A call that finds it run out waits for the
// refresh.
func Example_gRPC() {
	w := newWorld()
	defer w.close()
	transport := w.transport() // sessionclient.New(…)

	server := grpc.NewServer(grpc.Creds(credentials.NewTLS(w.serverTLS())),
		grpc.UnaryInterceptor(func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
			md, _ := metadata.FromIncomingContext(ctx)
			token := strings.TrimPrefix(strings.Join(md.Get("authorization"), ","), "Bearer ")
			access, err := w.sessions.Verify(token)
			if err != nil {
				return nil, status.Error(codes.Unauthenticated, "log in")
			}
			fmt.Println("a call of", access.Subject)
			return handler(ctx, req)
		}))
	healthpb.RegisterHealthServer(server, health.NewServer())
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go func() { _ = server.Serve(listener) }()
	defer server.Stop()

	conn, err := grpc.NewClient(listener.Addr().String(),
		grpc.WithTransportCredentials(credentials.NewTLS(w.clientTLS())),
		grpc.WithPerRPCCredentials(callToken{transport}))
	if err != nil {
		panic(err)
	}
	defer conn.Close()
	for range 2 {
		answer, err := healthpb.NewHealthClient(conn).Check(context.Background(), &healthpb.HealthCheckRequest{})
		fmt.Println(answer.GetStatus(), err)
		w.expire()
	}
	fmt.Println(w.refreshes, "refreshes")
	// Output:
	// a call of alice
	// SERVING <nil>
	// a call of alice
	// SERVING <nil>
	// 2 refreshes
}

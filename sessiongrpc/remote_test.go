package sessiongrpc_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessiongrpc"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
)

// follow returns a Remote that follows a Manager over HTTP, and knows already.
func follow(t *testing.T, m *tokensession.Manager) *sessionhttp.Remote {
	t.Helper()
	anybody := func(*http.Request) bool { return true }
	issuer, err := sessionhttp.New(m, sessionhttp.Config{MayFollow: anybody, MayIntrospect: anybody})
	require.NoError(t, err)
	server := httptest.NewServer(issuer)
	t.Cleanup(server.Close)
	remote := newRemote(t, server.URL+"/auth")
	runs(t, m.Run)
	runs(t, remote.Run)
	require.Eventually(t, func() bool { return remote.Healthy(within(t)) == nil },
		20*time.Second, time.Millisecond)
	return remote
}

func newRemote(t *testing.T, authURL string) *sessionhttp.Remote {
	t.Helper()
	remote, err := sessionhttp.NewRemote(authURL, sessionhttp.RemoteConfig{Access: accessConfig})
	require.NoError(t, err)
	return remote
}

func runs(t *testing.T, run func(context.Context) error) {
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- run(ctx) }()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
	})
}

// A service without a store refuses calls, and ends streams, when the issuer has revoked a session.
func TestRemote_endsCallsAndStreams(t *testing.T) {
	m := newManager(t)
	_, address := serve(t, follow(t, m), sessiongrpc.Scope("notes:read"),
		sessiongrpc.Method(whoAmI, sessiongrpc.Live()))
	conn := dial(t, address)
	tokens, err := m.Start(within(t), "alice")
	require.NoError(t, err)
	name, err := callWhoAmI(bearer(within(t), tokens.AccessToken), conn)
	require.NoError(t, err)
	require.Equal(t, "alice", name)
	stream := openEcho(t, bearer(within(t), tokens.AccessToken), conn)
	got := &wrapperspb.StringValue{}
	require.NoError(t, stream.SendMsg(wrapperspb.String("hello")))
	require.NoError(t, stream.RecvMsg(got))

	require.NoError(t, m.Revoke(within(t), tokens.Session.ID))
	requireStatus(t, stream.RecvMsg(got), codes.Unauthenticated, sessiongrpc.ReasonEnded)
	_, err = callWhoAmI(bearer(within(t), tokens.AccessToken), conn)
	requireStatus(t, err, codes.Unauthenticated, sessiongrpc.ReasonInvalidToken)
}

// A Remote that has never heard from its issuer lets nobody in, and refuses nobody for good.
func TestRemote_beforeItKnows(t *testing.T) {
	m := newManager(t)
	server, address := serve(t, newRemote(t, "http://127.0.0.1:1/auth"))
	tokens, err := m.Start(within(t), "alice")
	require.NoError(t, err)
	conn := dial(t, address)
	_, err = callWhoAmI(bearer(within(t), tokens.AccessToken), conn)
	requireStatus(t, err, codes.Unavailable, "")
	stream := openEcho(t, bearer(within(t), tokens.AccessToken), conn)
	require.Equal(t, codes.Unavailable, status.Code(stream.RecvMsg(&wrapperspb.StringValue{})))
	require.Zero(t, server.count(whoAmI)+server.count(echo))
}

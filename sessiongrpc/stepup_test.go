package sessiongrpc_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessiongrpc"
)

// askedFor returns what a status asks the client for.
func askedFor(t testing.TB, err error) map[string]string {
	t.Helper()
	requireStatus(t, err, codes.Unauthenticated, sessiongrpc.ReasonStepUp)
	s, _ := status.FromError(err)
	return s.Details()[0].(*errdetails.ErrorInfo).Metadata
}

func TestStepUp_isAskedFor(t *testing.T) {
	m := newManager(t)
	proved := func(ago time.Duration, methods ...string) string {
		tokens, err := m.Start(within(t), "alice", tokensession.WithAuthTime(time.Now().Add(-ago)),
			tokensession.WithAuthMethods(methods...))
		require.NoError(t, err)
		return tokens.AccessToken
	}
	fresh, old := proved(0, "pwd", "otp"), proved(time.Hour, "pwd")
	recent := sessiongrpc.MaxAuthAge(5 * time.Minute)
	otp := sessiongrpc.AuthMethods("otp")
	for name, c := range map[string]struct {
		opts  []sessiongrpc.Option
		asked map[string]string // of old
	}{
		"an age":     {[]sessiongrpc.Option{recent}, map[string]string{"max_age": "300"}},
		"a long age": {[]sessiongrpc.Option{sessiongrpc.MaxAuthAge(2 * time.Hour)}, nil},
		"a method":   {[]sessiongrpc.Option{otp}, map[string]string{"acr_values": "otp"}},
		"its method": {[]sessiongrpc.Option{sessiongrpc.AuthMethods("pwd")}, nil},
		"two methods": {[]sessiongrpc.Option{sessiongrpc.AuthMethods("pwd", "otp")},
			map[string]string{"acr_values": "pwd otp"}},
		"all of it": {[]sessiongrpc.Option{recent, otp}, map[string]string{
			"max_age": "300", "acr_values": "otp"}},
		"of the method": {[]sessiongrpc.Option{sessiongrpc.Method(whoAmI, recent)},
			map[string]string{"max_age": "300"}},
		"of another method": {[]sessiongrpc.Option{sessiongrpc.Method(echo, recent, otp)}, nil},
		"the shorter age": {[]sessiongrpc.Option{recent, sessiongrpc.Method(whoAmI,
			sessiongrpc.MaxAuthAge(time.Hour+time.Minute))}, map[string]string{"max_age": "300"}},
		"methods of both": {[]sessiongrpc.Option{sessiongrpc.AuthMethods("pwd"),
			sessiongrpc.Method(whoAmI, otp)}, map[string]string{"acr_values": "pwd otp"}},
	} {
		t.Run(name, func(t *testing.T) {
			server, address := serve(t, m, c.opts...)
			conn := dial(t, address)
			_, err := callWhoAmI(bearer(within(t), fresh), conn)
			require.NoError(t, err)
			_, err = callWhoAmI(bearer(within(t), old), conn)
			if c.asked == nil {
				require.NoError(t, err)
				return
			}
			require.Equal(t, c.asked, askedFor(t, err))
			require.Equal(t, 1, server.count(whoAmI))
			_, err = callWhoAmI(within(t), conn)
			requireStatus(t, err, codes.Unauthenticated, sessiongrpc.ReasonNoToken)
		})
	}
}

// No refresh helps, so that the client makes none. When the user has proved enough, the same
// stream is let through.
func TestStepUp_ofAStreamThroughARemote(t *testing.T) {
	m := newManager(t)
	server, address := serve(t, follow(t, m), sessiongrpc.AuthMethods("otp"))
	s := newSource(t, m)
	conn := dial(t, address, sessiongrpc.InsecureDialOptions(s)...)
	open := func() error {
		stream, err := conn.NewStream(within(t), &echoService.Streams[1], watch)
		require.NoError(t, err)
		_ = stream.SendMsg(wrapperspb.String(""))
		return stream.RecvMsg(&wrapperspb.StringValue{})
	}
	require.Equal(t, map[string]string{"acr_values": "otp"}, askedFor(t, open()))
	require.Zero(t, s.instead.Load())
	require.Zero(t, server.count(watch))

	tokens := *s.tokens.Load()
	tokens, err := m.Reauthenticate(within(t), tokens.Session.ID,
		tokensession.WithAuthMethods("pwd", "otp"), tokensession.Rotating(tokens.RefreshToken))
	require.NoError(t, err)
	s.tokens.Store(&tokens)
	require.NoError(t, open())
}

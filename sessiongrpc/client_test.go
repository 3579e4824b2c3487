package sessiongrpc_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sessionclient"
	"github.com/seed67bc9b7f/tokensession/sessiongrpc"
)

// The two packages do not import each other, and have to fit.
var _ sessiongrpc.TokenSource = (*sessionclient.Transport)(nil)

// A source has an access token, and refreshes by its Manager when one was refused.
type source struct {
	m       *tokensession.Manager
	tokens  atomic.Pointer[tokensession.Tokens]
	err     error // of Token
	asked   atomic.Int64
	instead atomic.Int64
	failing error // of TokenInstead
}

func (s *source) Token(context.Context) (tokensession.Tokens, error) {
	if s.err != nil {
		return tokensession.Tokens{}, s.err
	}
	defer s.asked.Add(1)
	return *s.tokens.Load(), nil
}

func (s *source) TokenInstead(
	ctx context.Context, refused tokensession.Tokens,
) (tokensession.Tokens, error) {
	s.instead.Add(1)
	if s.failing != nil {
		return tokensession.Tokens{}, s.failing
	}
	next, err := s.m.Refresh(ctx, s.tokens.Load().RefreshToken)
	if err != nil {
		return tokensession.Tokens{}, err
	}
	s.tokens.Store(&next)
	return next, nil
}

func newSource(t *testing.T, m *tokensession.Manager) *source {
	t.Helper()
	s := &source{m: m}
	tokens, err := m.Start(within(t), "alice")
	require.NoError(t, err)
	s.tokens.Store(&tokens)
	return s
}

// outdate makes the source's access token one that the server refuses, while its session goes on.
func (s *source) outdate(t *testing.T) {
	t.Helper()
	n, err := s.m.Reauthorize(within(t), "alice")
	require.NoError(t, err)
	require.Positive(t, n)
}

func TestClient_unaryTriesAgainOnce(t *testing.T) {
	m := newManager(t)
	server, address := serve(t, m)
	s := newSource(t, m)
	conn := dial(t, address, sessiongrpc.InsecureDialOptions(s)...)
	name, err := callWhoAmI(within(t), conn)
	require.NoError(t, err)
	require.Equal(t, "alice", name)
	require.Zero(t, s.instead.Load())

	s.outdate(t)
	name, err = callWhoAmI(within(t), conn)
	require.NoError(t, err)
	require.Equal(t, "alice", name)
	require.Equal(t, int64(1), s.instead.Load())
	require.Equal(t, 2, server.count(whoAmI))

	require.NoError(t, m.Revoke(within(t), s.tokens.Load().Session.ID))
	_, err = callWhoAmI(within(t), conn)
	requireStatus(t, err, codes.Unauthenticated, sessiongrpc.ReasonInvalidToken)
	require.Equal(t, int64(2), s.instead.Load(), "once for a call")
	require.Equal(t, 2, server.count(whoAmI))
}

func TestClient_streamTriesAgainOnce(t *testing.T) {
	m := newManager(t)
	server, address := serve(t, m)
	s := newSource(t, m)
	conn := dial(t, address, sessiongrpc.InsecureDialOptions(s)...)
	got := &wrapperspb.StringValue{}

	// One message of the client, which is sent again.
	s.outdate(t)
	stream, err := conn.NewStream(within(t), &echoService.Streams[1], watch)
	require.NoError(t, err)
	require.NoError(t, stream.SendMsg(wrapperspb.String("")))
	require.NoError(t, stream.CloseSend())
	require.NoError(t, stream.RecvMsg(got))
	require.Equal(t, "alice", got.Value)
	require.Equal(t, 1, server.count(watch))
	require.Equal(t, int64(1), s.instead.Load())

	// It has begun, and ends: the client opens another one if it wants.
	s.outdate(t)
	requireStatus(t, stream.RecvMsg(got), codes.Unauthenticated, sessiongrpc.ReasonEnded)
	require.Equal(t, int64(1), s.instead.Load())

	// Nothing was sent.
	stream = openEcho(t, within(t), conn)
	received := make(chan error, 1)
	go func() { received <- stream.RecvMsg(got) }()
	for server.count(echo) == 0 {
		select {
		case err := <-received:
			t.Fatal(err)
		default:
		}
	}
	require.NoError(t, stream.SendMsg(wrapperspb.String("hello")))
	require.NoError(t, <-received)
	require.Equal(t, "hello", got.Value)

	// Many messages may have been sent, and nobody knows which of them arrived.
	s.outdate(t)
	before := s.instead.Load()
	stream = openEcho(t, within(t), conn)
	_ = stream.SendMsg(wrapperspb.String("hello"))
	requireStatus(t, stream.RecvMsg(got), codes.Unauthenticated, sessiongrpc.ReasonInvalidToken)
	require.Equal(t, before, s.instead.Load())
}

// A call belongs to the session that was there when it was made, however long it waits for a
// connection.
func TestClient_callThatWaitsForAServerIsNotSentAsSomebodyElse(t *testing.T) {
	m := newManager(t)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	address := listener.Addr().String()
	require.NoError(t, listener.Close())
	s := newSource(t, m)
	conn := dial(t, address, sessiongrpc.InsecureDialOptions(s)...)
	waits := grpc.WaitForReady(true)
	type result struct {
		name string
		err  error
	}
	unary, streamed := make(chan result, 1), make(chan result, 1)
	go func() {
		got := &wrapperspb.StringValue{}
		err := conn.Invoke(within(t), whoAmI, &wrapperspb.StringValue{}, got, waits)
		unary <- result{got.Value, err}
	}()
	go func() {
		got := &wrapperspb.StringValue{}
		stream, err := conn.NewStream(within(t), &echoService.Streams[1], watch, waits)
		if err == nil {
			err = errors.Join(stream.SendMsg(wrapperspb.String("")), stream.CloseSend(), stream.RecvMsg(got))
		}
		streamed <- result{got.Value, err}
	}()
	for s.asked.Load() < 2 || conn.GetState() != connectivity.TransientFailure {
		time.Sleep(time.Millisecond)
	}
	bob, err := m.Start(within(t), "bob")
	require.NoError(t, err)
	s.tokens.Store(&bob)

	listener, err = net.Listen("tcp", address)
	require.NoError(t, err)
	serveAt(t, listener, m)
	require.Equal(t, result{"alice", nil}, <-unary)
	require.Equal(t, result{"alice", nil}, <-streamed)
}

// A client may wait for the end of the stream's context, which is that of the stream that was refused
// in the end. So the stream stays that one, as gRPC's own retries have it.
func TestClient_streamWhoseContextIsInUseIsNotOpenedAgain(t *testing.T) {
	m := newManager(t)
	_, address := serve(t, m)
	s := newSource(t, m)
	conn := dial(t, address, sessiongrpc.InsecureDialOptions(s)...)
	s.outdate(t)
	stream := openEcho(t, within(t), conn)
	ended := stream.Context().Done()
	err := stream.RecvMsg(&wrapperspb.StringValue{})
	requireStatus(t, err, codes.Unauthenticated, sessiongrpc.ReasonInvalidToken)
	<-ended
	require.Zero(t, s.instead.Load())
}

// Another goroutine may ask for the header while the stream is opened again.
func TestClient_streamIsOpenedAgainWhileItsHeaderIsAwaited(t *testing.T) {
	m := newManager(t)
	_, address := serve(t, m)
	s := newSource(t, m)
	conn := dial(t, address, sessiongrpc.InsecureDialOptions(s)...)
	s.outdate(t)
	stream, err := conn.NewStream(within(t), &echoService.Streams[1], watch)
	require.NoError(t, err)
	require.NoError(t, stream.SendMsg(wrapperspb.String("")))
	require.NoError(t, stream.CloseSend())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range 100 {
			_, _ = stream.Header()
		}
	}()
	got := &wrapperspb.StringValue{}
	require.NoError(t, stream.RecvMsg(got))
	require.Equal(t, "alice", got.Value)
	<-done
}

// The token is refused, and it cannot be told whether another one would be: an outage is no verdict.
func TestClient_cannotGetAnotherToken(t *testing.T) {
	m := newManager(t)
	_, address := serve(t, m)
	s := newSource(t, m)
	conn := dial(t, address, sessiongrpc.InsecureDialOptions(s)...)
	s.outdate(t)
	for _, c := range []struct {
		failing error
		code    codes.Code
		reason  string
	}{
		{fmt.Errorf("%w: no answer", tokensession.ErrUnavailable), codes.Unavailable, ""},
		{context.DeadlineExceeded, codes.DeadlineExceeded, ""},
		{fmt.Errorf("%w: no answer in time: %w", tokensession.ErrUnavailable, context.DeadlineExceeded),
			codes.Unavailable, ""},
		{fmt.Errorf("%w: loading: %w", tokensession.ErrUnavailable,
			status.Error(codes.Unauthenticated, "wrong certificate")), codes.Unavailable, ""},
		{sessionclient.ErrSessionEnded, codes.Unauthenticated, sessiongrpc.ReasonInvalidToken},
	} {
		s.failing = c.failing
		_, err := callWhoAmI(within(t), conn)
		requireStatus(t, err, c.code, c.reason)
		stream := openEcho(t, within(t), conn)
		requireStatus(t, stream.RecvMsg(&wrapperspb.StringValue{}), c.code, c.reason)
	}
}

func TestClient_sourceFails(t *testing.T) {
	m := newManager(t)
	_, address := serve(t, m)
	s := newSource(t, m)
	conn := dial(t, address, sessiongrpc.InsecureDialOptions(s)...)
	for _, c := range []struct {
		err  error
		code codes.Code
	}{
		{fmt.Errorf("%w: no network", tokensession.ErrUnavailable), codes.Unavailable},
		{fmt.Errorf("%w: no answer in time: %w", tokensession.ErrUnavailable, context.DeadlineExceeded),
			codes.Unavailable},
		{fmt.Errorf("%w: loading: %w", tokensession.ErrUnavailable,
			status.Error(codes.Unauthenticated, "wrong certificate")), codes.Unavailable},
		{fmt.Errorf("%w: loading: %w", tokensession.ErrUnavailable,
			status.Error(codes.NotFound, "no such row")), codes.Unavailable},
		{errors.New("nobody is logged in"), codes.Unauthenticated},
		{context.Canceled, codes.Canceled},
	} {
		s.err = c.err
		_, err := callWhoAmI(within(t), conn)
		require.Equal(t, c.code, status.Code(err), "%v", err)
	}
}

// A server would refuse it, and no other token would help.
func TestClient_sendsNoBoundToken(t *testing.T) {
	m := newManager(t)
	server, address := serve(t, m)
	s := newSource(t, m)
	bound := *s.tokens.Load()
	bound.TokenType = "DPoP"
	s.tokens.Store(&bound)
	conn := dial(t, address, sessiongrpc.InsecureDialOptions(s)...)
	_, err := callWhoAmI(within(t), conn)
	require.Equal(t, codes.Unauthenticated, status.Code(err), "%v", err)
	require.ErrorContains(t, err, "bound to a key")
	require.Zero(t, server.count(whoAmI))
	require.Zero(t, s.instead.Load())
}

// Without TLS everybody on the way could read the token.
func TestClient_sendsNoTokenWithoutTLS(t *testing.T) {
	m := newManager(t)
	server, address := serve(t, m)
	s := newSource(t, m)
	opts := sessiongrpc.DialOptions(s)
	conn, err := dialInsecure(address, opts...)
	if err == nil {
		defer conn.Close()
		_, err = callWhoAmI(within(t), conn)
	}
	require.Error(t, err)
	require.Zero(t, server.count(whoAmI))
}

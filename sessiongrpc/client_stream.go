package sessiongrpc

import (
	"context"
	"sync"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
)

// stream opens a stream that is opened again, once and with a new token, if the server has refused
// it. A client that sends one message, as of a stream that only the server goes on with, has that
// sent again. A client that sends many is told of the refusal, once it has sent any.
func (c *callCredentials) stream(
	ctx context.Context, desc *grpc.StreamDesc, conn *grpc.ClientConn, method string,
	open grpc.Streamer, opts ...grpc.CallOption,
) (grpc.ClientStream, error) {
	first, err := c.attempt(ctx)
	if err != nil {
		return nil, err
	}
	s, err := open(first.in(ctx), desc, conn, method, opts...)
	if err != nil {
		again, err := c.again(ctx, first, err)
		if again == nil {
			return nil, err
		}
		return open(again.in(ctx), desc, conn, method, opts...)
	}
	return &refusableStream{ClientStream: s, many: desc.ClientStreams,
		reopen: func(refusal error) (grpc.ClientStream, error) {
			again, err := c.again(ctx, first, refusal)
			if again == nil {
				return nil, err
			}
			return open(again.in(ctx), desc, conn, method, opts...)
		},
	}, nil
}

// A refusableStream is a stream that may still be opened again. A refusal comes instead of the
// first message that the client receives. From that message on, or once many messages may have been
// sent, or once the client has the stream's context, the stream stays the one that it is.
type refusableStream struct {
	many   bool // the client may send any number of messages
	reopen func(refusal error) (grpc.ClientStream, error)

	mu sync.Mutex
	grpc.ClientStream
	decided bool
	sent    []any // at most one
	closed  bool
}

func (s *refusableStream) SendMsg(m any) error {
	s.mu.Lock()
	s.decided = s.decided || s.many
	s.sent = append(s.sent[:0], m)
	stream := s.ClientStream
	s.mu.Unlock()
	return stream.SendMsg(m)
}

func (s *refusableStream) CloseSend() error {
	s.mu.Lock()
	s.closed = true
	stream := s.ClientStream
	s.mu.Unlock()
	return stream.CloseSend()
}

// Header is that of the stream as it is now.
func (s *refusableStream) Header() (metadata.MD, error) {
	s.mu.Lock()
	stream := s.ClientStream
	s.mu.Unlock()
	return stream.Header() // without the lock: it may wait
}

// Context decides. A client that waits for the end of a context would hear of that of the stream
// that was refused, and take it for that of the new one. gRPC's own retries end here, too.
func (s *refusableStream) Context() context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.decided = true
	return s.ClientStream.Context()
}

func (s *refusableStream) RecvMsg(m any) error {
	s.mu.Lock()
	stream := s.ClientStream
	s.mu.Unlock()
	err := stream.RecvMsg(m) // without the lock: the client may send meanwhile
	s.mu.Lock()
	if s.decided || !isInvalidToken(err) {
		s.decided, s.sent = true, nil
		s.mu.Unlock()
		return err
	}
	s.decided = true
	next, err := s.again(err)
	s.mu.Unlock()
	if err != nil {
		return err
	}
	return next.RecvMsg(m)
}

// again opens the stream again, and sends what was sent.
func (s *refusableStream) again(refusal error) (grpc.ClientStream, error) {
	next, err := s.reopen(refusal)
	if err != nil {
		return nil, err
	}
	s.ClientStream = next
	for _, m := range s.sent {
		if err := next.SendMsg(m); err != nil {
			return next, nil // RecvMsg says why
		}
	}
	s.sent = nil
	if s.closed {
		_ = next.CloseSend()
	}
	return next, nil
}

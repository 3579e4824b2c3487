package redisstore

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/seed67bc9b7f/tokensession"
)

// Whoever writes a revocation publishes an empty message afterwards, and every instance is
// subscribed to that channel by one connection. On a single server the script that writes
// publishes. In a Cluster the store does so when the script is done, in the feed's slot (sharded
// publish), because that costs one node instead of all; a Cluster before Redis 7 has only the other
// kind.
//
// Messages get lost: with a connection, in a failover, when the writer dies between its write and
// the message. So each new connection counts as news, and a Manager looks now and then without any.

const (
	// readSlice is how long a call reads before it looks whether its context has ended: go-redis
	// does not interrupt a read.
	readSlice = 200 * time.Millisecond

	// publishTimeout bounds how long a write in a Cluster waits for its message to be sent.
	publishTimeout = time.Second
)

var _ tokensession.RevocationNotifier = (*Store)(nil)

// news is what calls of Notified share.
type news struct {
	reading chan struct{} // holds a token of the call that reads the connection

	mu      sync.Mutex
	arrived chan struct{} // closed at the next news, for the calls that do not read
	sub     *redis.PubSub // of the call that reads; nil: there is no connection
	plain   bool          // of the call that reads: this Cluster has no sharded publish
}

func newNews() news {
	return news{reading: make(chan struct{}, 1), arrived: make(chan struct{})}
}

// Notified implements [tokensession.RevocationNotifier]. It keeps a connection for itself, which it
// opens at the first call, and closes when the context of a call is cancelled. What comes between
// two calls waits in the connection.
//
// If two Managers call it on one store, a message that arrives while one of them is between two
// calls may be seen by the other one alone. So give each Manager a store of its own.
func (s *Store) Notified(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.news.mu.Lock()
	arrived := s.news.arrived
	s.news.mu.Unlock()
	select {
	case s.news.reading <- struct{}{}:
		defer func() { <-s.news.reading }()
	case <-arrived:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
	err := s.awaitNews(ctx)
	switch {
	case err == nil:
		s.news.mu.Lock()
		close(s.news.arrived)
		s.news.arrived = make(chan struct{})
		s.news.mu.Unlock()
		return nil
	case ctx.Err() != nil:
		if errors.Is(ctx.Err(), context.Canceled) {
			s.unsubscribe()
		}
		return ctx.Err()
	default:
		s.unsubscribe()
		return failure("wait for news of the revocation feed", s.feedKey(), err)
	}
}

// awaitNews reads the connection until there is news. A subscription that begins is news, because
// what was published before it was not received. So is one that the server ends, because the slot
// has moved.
func (s *Store) awaitNews(ctx context.Context) error {
	if s.news.sub == nil {
		s.subscribe(ctx)
	}
	for {
		message, err := s.receive(ctx, readSlice)
		switch message := message.(type) {
		case *redis.Message:
			return s.drain(ctx)
		case *redis.Subscription:
			if strings.HasSuffix(message.Kind, "unsubscribe") {
				s.unsubscribe()
				return nil
			}
			return s.drain(ctx)
		}
		switch {
		case err == nil || isTimeout(err):
			if ctx.Err() != nil {
				return ctx.Err()
			}
		case !s.news.plain && s.isCluster() && isUnknownCommand(err):
			s.unsubscribe()
			s.news.plain = true
			s.subscribe(ctx)
		default:
			return err
		}
	}
}

// drain reads the messages that have come meanwhile: they are the same news. An error is for the
// next call.
func (s *Store) drain(ctx context.Context) error {
	for {
		if message, err := s.receive(ctx, time.Millisecond); err != nil {
			if !isTimeout(err) {
				s.unsubscribe()
			}
			return nil
		} else if sub, ok := message.(*redis.Subscription); ok && strings.HasSuffix(sub.Kind, "unsubscribe") {
			s.unsubscribe()
			return nil
		}
	}
}

func (s *Store) receive(ctx context.Context, timeout time.Duration) (any, error) {
	return s.news.sub.ReceiveTimeout(context.WithoutCancel(ctx), timeout)
}

func (s *Store) subscribe(ctx context.Context) {
	if s.isCluster() && !s.news.plain {
		s.news.sub = s.client.SSubscribe(ctx, s.feedKey())
	} else {
		s.news.sub = s.client.Subscribe(ctx, s.feedKey())
	}
}

func (s *Store) unsubscribe() {
	if s.news.sub != nil {
		_ = s.news.sub.Close()
		s.news.sub = nil
	}
}

// channelOf returns the channel on which a script is to publish, if it is to tell and can.
func (s *Store) channelOf(tells bool) string {
	if !tells || s.isCluster() {
		return ""
	}
	return s.feedKey()
}

// publish tells what a script cannot tell, in a Cluster. The write has been acknowledged, so a
// failure is none of the caller's: instances look for themselves now and then.
func (s *Store) publish(ctx context.Context, tells bool) {
	if !tells || !s.isCluster() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), publishTimeout)
	defer cancel()
	if isUnknownCommand(s.client.SPublish(ctx, s.feedKey(), "").Err()) {
		_ = s.client.Publish(ctx, s.feedKey(), "").Err()
	}
}

func (s *Store) isCluster() bool {
	_, ok := s.client.(*redis.ClusterClient)
	return ok
}

func isTimeout(err error) bool {
	var network net.Error
	return errors.As(err, &network) && network.Timeout()
}

func isUnknownCommand(err error) bool {
	return err != nil && strings.Contains(strings.ToLower(err.Error()), "unknown command")
}

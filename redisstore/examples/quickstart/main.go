// Quickstart tells the story of a few sessions that two instances of a server share through Redis.
// The clock is moved by hand. It exits with an error if anything comes out differently from what it
// should.
//
//	go run ./examples/quickstart -addr localhost:6379
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/keyring"
	"github.com/seed67bc9b7f/tokensession/redisstore"
)

const prefix = "tokensession-quickstart"

func main() {
	addr := flag.String("addr", "localhost:6379", "where Redis is")
	flag.Parse()
	if err := tell(*addr); err != nil {
		fmt.Fprintln(os.Stderr, "quickstart:", err)
		os.Exit(1)
	}
}

func tell(addr string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	client := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer client.Close()
	if err := client.Ping(ctx).Err(); err != nil {
		return fmt.Errorf("%w: is there a Redis at %s?", err, addr)
	}
	secret := make([]byte, 32)
	_, _ = rand.Read(secret) // a real server has it from its environment
	s := &story{ctx: ctx}
	for _, m := range []**tokensession.Manager{&s.a, &s.b} {
		var err error
		if *m, err = s.instance(secret, client); err != nil {
			return err
		}
	}
	s.devices()
	s.tabs()
	s.revocation()
	s.thief()
	s.left(client)
	if s.wrong > 0 {
		return fmt.Errorf("%d lines came out differently", s.wrong)
	}
	return nil
}

// A story is two instances, how far the clock is ahead, and how many lines were not as they should
// be.
type story struct {
	ctx   context.Context
	a, b  *tokensession.Manager
	ahead atomic.Int64
	wrong int

	laptop, phone tokensession.Tokens
}

// instance makes what each process of the server has: one store, one Manager, and a ring of the
// signing keys that all share. They are in the store, sealed with a secret.
func (s *story) instance(secret []byte, client redis.UniversalClient) (*tokensession.Manager, error) {
	store, err := redisstore.New(client, redisstore.Config{Prefix: prefix})
	if err != nil {
		return nil, err
	}
	ring, err := keyring.Open(s.ctx, store, keyring.Config{
		Secret: secret,
		Access: tokensession.AccessConfig{
			Issuer: "https://auth.example", Audience: []string{"https://api.example"}, Now: s.now,
		},
	})
	if err != nil {
		return nil, err
	}
	return tokensession.New(ring.Signer(), store, tokensession.Config{Now: s.now})
}

func (s *story) devices() {
	var err error
	s.laptop, err = s.a.Start(s.ctx, "alice",
		tokensession.WithAttributes(map[string]string{"device": "laptop"}))
	s.line(err == nil, "alice logs in on the laptop, at instance A", err)
	s.phone, err = s.b.Start(s.ctx, "alice",
		tokensession.WithAttributes(map[string]string{"device": "phone"}))
	s.line(err == nil, "and on the phone, at instance B", err)
	sessions, err := s.a.Sessions(s.ctx, "alice")
	s.line(err == nil && len(sessions) == 2, fmt.Sprintf("A lists %d sessions", len(sessions)), err)
}

func (s *story) tabs() {
	s.wait(10 * time.Minute)
	first, err := s.a.Refresh(s.ctx, s.laptop.RefreshToken)
	s.line(err == nil && first.RefreshToken != s.laptop.RefreshToken,
		"the laptop's first tab refreshes at A", err)
	second, err := s.b.Refresh(s.ctx, s.laptop.RefreshToken)
	s.line(err == nil && second.RefreshToken == first.RefreshToken,
		"its second tab at B gets the same token", err)
	s.laptop = second
}

func (s *story) revocation() {
	ctx, stop := context.WithCancel(s.ctx)
	ran := make(chan error, 1)
	go func() { ran <- s.b.Run(ctx) }()
	defer func() { stop(); <-ran }()

	_, err := s.b.Verify(s.phone.AccessToken)
	s.line(err == nil, "B accepts the phone's access token", err)
	err = s.a.RevokeToken(s.ctx, s.phone.RefreshToken)
	s.line(err == nil, "the phone logs out at A", err)

	started, tick := time.Now(), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for err = nil; err == nil && time.Since(started) < 10*time.Second; <-tick.C {
		_, err = s.b.Verify(s.phone.AccessToken)
	}
	s.line(errors.Is(err, tokensession.ErrRevoked),
		fmt.Sprintf("B refuses it %v later, without a read per request", time.Since(started).Round(10*time.Millisecond)), nil)
}

func (s *story) thief() {
	stolen := s.laptop
	var err error
	s.laptop, err = s.a.Refresh(s.ctx, stolen.RefreshToken)
	s.line(err == nil, "the laptop refreshes at A", err)
	s.wait(10 * time.Minute)
	s.laptop, err = s.b.Refresh(s.ctx, s.laptop.RefreshToken)
	s.line(err == nil, "and once more at B", err)
	_, err = s.b.Refresh(s.ctx, stolen.RefreshToken)
	s.line(errors.Is(err, tokensession.ErrReused),
		"a thief replays its old token at B and is refused", nil)
	_, err = s.a.Refresh(s.ctx, s.laptop.RefreshToken)
	s.line(errors.Is(err, tokensession.ErrRevoked), "so the laptop's session has ended at A too",
		nil)
}

// left shows what an operator sees, and removes it; otherwise it would go by itself in a week.
func (s *story) left(client *redis.Client) {
	keys := client.Scan(s.ctx, 0, prefix+":*", 1000).Iterator()
	for keys.Next(s.ctx) {
		ttl, err := client.TTL(s.ctx, keys.Val()).Result()
		if keys.Val() == prefix+":keys" {
			s.line(err == nil && ttl == -1, "left in Redis: the signing keys, sealed, for ever",
				err)
		} else {
			s.line(err == nil && ttl > 0, fmt.Sprintf("left in Redis: %s, for %v", keys.Val(), ttl),
				err)
		}
		if reason := client.HGet(s.ctx, keys.Val(), "revoke_reason").Val(); reason != "" {
			device := client.HGet(s.ctx, keys.Val(), "attr:device").Val()
			fmt.Printf("     alice's %s, which ended by %s\n", device, reason)
		}
		client.Del(s.ctx, keys.Val())
	}
	s.line(keys.Err() == nil, "removed", keys.Err())
}

func (s *story) now() time.Time { return time.Now().Add(time.Duration(s.ahead.Load())) }

func (s *story) wait(d time.Duration) {
	s.ahead.Add(int64(d))
	fmt.Printf("   … %v later\n", d)
}

// line writes what happened, and whether it is what should have.
func (s *story) line(ok bool, what string, err error) {
	mark := "ok   "
	if !ok {
		mark = "WRONG"
		s.wrong++
	}
	if err != nil {
		what += ": " + strings.TrimPrefix(err.Error(), "tokensession: ")
	}
	fmt.Println(mark, what)
}

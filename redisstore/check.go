package redisstore

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// Check asks every master that the client knows whether it is set up to keep sessions, and returns an error that names
// each setting that is not, and nil if all are. It needs the command INFO. A host calls it at its start, to log or to
// refuse; a server that loses the last second of writes in a crash is no error, as the README says.
func (s *Store) Check(ctx context.Context) error {
	var err error
	switch c := s.client.(type) {
	case *redis.ClusterClient:
		err = checkMasters(ctx, c)
	case *redis.Client:
		err = checkServer(ctx, c)
	default:
		return fmt.Errorf("redisstore: check: cannot look at the servers behind a %T", s.client)
	}
	if err != nil {
		return fmt.Errorf("redisstore: check: %w", err)
	}
	return nil
}

// checkMasters tells of all masters: ForEachMaster would keep one error, whichever came first.
func checkMasters(ctx context.Context, c *redis.ClusterClient) error {
	var mu sync.Mutex
	var wrong []error
	err := c.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		err := checkServer(ctx, master)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			wrong = append(wrong, err)
		}
		return nil
	})
	return errors.Join(append(wrong, err)...)
}

func checkServer(ctx context.Context, c *redis.Client) error {
	info, err := c.Info(ctx).Result()
	if err != nil {
		return failure("ask "+c.Options().Addr, "none", err)
	}
	is := func(line string) bool { return strings.Contains(info, "\n"+line+"\r\n") }
	var wrong []error
	if !is("role:master") {
		wrong = append(wrong, errors.New("is a replica: connect to the master"))
	}
	if !is("maxmemory:0") && !is("maxmemory_policy:noeviction") {
		wrong = append(wrong, errors.New("may evict sessions, which logs their users out: set maxmemory-policy noeviction"))
	}
	if !is("aof_enabled:1") {
		wrong = append(wrong, errors.New("forgets its last minutes in a crash, or all: set appendonly yes"))
	}
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("server %s: %w", c.Options().Addr, errors.Join(wrong...))
}

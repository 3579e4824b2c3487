package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Check asks every master that the client knows whether it is set up to keep sessions, and whether
// its clock is right. It returns an error that names each thing that is wrong, or nil. It needs the
// commands INFO and TIME. A host calls it at its start, to log or to refuse. A server that loses
// the last second of writes in a crash is no error, as the README says.
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

// mostSkew is how far a server's clock may be from this machine's before Check says so. Clocks that
// are kept in step are much closer.
const mostSkew = 10 * time.Second

func checkServer(ctx context.Context, c *redis.Client) error {
	info, err := c.Info(ctx).Result()
	if err != nil {
		return failure("ask "+c.Options().Addr, "none", err)
	}
	skew, err := skewOf(ctx, c)
	if err != nil {
		return failure("ask "+c.Options().Addr+" for the time", "none", err)
	}
	is := func(line string) bool { return strings.Contains(info, "\n"+line+"\r\n") }
	var wrong []error
	add := func(bad bool, format string, args ...any) {
		if bad {
			wrong = append(wrong, fmt.Errorf(format, args...))
		}
	}
	add(!is("role:master"), "is a replica: connect to the master")
	add(!is("maxmemory:0") && !is("maxmemory_policy:noeviction"),
		"may evict sessions, which logs their users out: set maxmemory-policy noeviction")
	add(!is("aof_enabled:1"), "forgets its last minutes in a crash, or all: set appendonly yes")
	if is("role:master") && !is("connected_slaves:0") {
		// The line is there only when both settings are not zero.
		add(!strings.Contains(info, "\nmin_slaves_good_slaves:"), "has replicas, and would go on after "+
			"one of them has taken its place, and call the sessions there unknown: set "+
			"min-replicas-to-write 1 and leave min-replicas-max-lag at 10")
		add(isBefore(info, 6, 2, 7), "has replicas, and before Redis 6.2.7 a script does not obey "+
			"min-replicas-to-write: use a later version")
	}
	add(skew.Abs() > mostSkew, "has a clock that differs from this machine's by %v: "+
		"keep both in step, because Redis drops sessions by its own clock", skew.Round(time.Second))
	if len(wrong) == 0 {
		return nil
	}
	return fmt.Errorf("server %s: %w", c.Options().Addr, errors.Join(wrong...))
}

// skewOf returns by how much the server's clock is ahead of this machine's, at least. What the
// question may have taken on its way is in its favour.
func skewOf(ctx context.Context, c *redis.Client) (time.Duration, error) {
	asked := time.Now()
	at, err := c.Time(ctx).Result()
	answered := time.Now()
	switch {
	case err != nil:
		return 0, err
	case at.After(answered):
		return at.Sub(answered), nil
	case at.Before(asked):
		return at.Sub(asked), nil
	}
	return 0, nil
}

// isBefore reports whether the server says that it is of an earlier version.
func isBefore(info string, major, minor, patch int) bool {
	_, rest, _ := strings.Cut(info, "\nredis_version:")
	var v [3]int
	if n, _ := fmt.Sscanf(rest, "%d.%d.%d", &v[0], &v[1], &v[2]); n < 3 {
		return false
	}
	return slices.Compare(v[:], []int{major, minor, patch}) < 0
}

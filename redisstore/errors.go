package redisstore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"
)

// failure wraps what kept the store from telling. It is never one of the contract's sentinels.
func failure(what, key string, err error) error {
	if advice := adviceOn(err); advice != "" {
		return fmt.Errorf("redisstore: %s (key %s): %w: %s", what, key, err, advice)
	}
	return fmt.Errorf("redisstore: %s (key %s): %w", what, key, err)
}

// damaged wraps an error that wraps [tokensession.ErrUnreadable].
func damaged(key string, err error) error {
	return fmt.Errorf("redisstore: key %s is not a session as this version writes it: %w: "+
		"find out who else writes under this prefix; deleting the key ends the session", key, err)
}

// unusable reports a script's answer that is no verdict.
func unusable(key, status string) error {
	switch status {
	case statusDamaged:
		return damaged(key, unreadable("fields are missing"))
	case statusOtherFormat:
		return damaged(key, unreadable("it is of another format"))
	}
	return fmt.Errorf("redisstore: key %s: unexpected answer %q of a script", key, status)
}

// advice says what to do about an error reply, by the code it starts with. In a script's error,
// older servers put the code after their own words.
var advice = []struct{ code, text string }{
	{"READONLY", "the server is a read-only replica: the client has to connect to the master, " +
		"through Sentinel or a Cluster client where masters change"},
	{"NOAUTH", "the server asks for a password: set Username and Password in the client's options"},
	// How a server refuses a command of more than ten arguments by a client that has not given a
	// password.
	{"unauthenticated",
		"the server asks for a password: set Username and Password in the client's options"},
	{"WRONGPASS", "set the right Username and Password in the client's options"},
	{"NOPERM", "the user needs more permissions: the README of redisstore has the ACL rule"},
	{"MISCONF", "the server cannot write to its disk and refuses writes: look at its log and its disk"},
	{"OOM", "the server has reached maxmemory: raise it; sessions must not be evicted, so keep maxmemory-policy noeviction"},
	{"CLUSTERDOWN", "slots of the Cluster are not served: look at CLUSTER INFO on its nodes"},
	{"NOREPLICAS", "fewer replicas are connected than min-replicas-to-write asks for"},
	{"MASTERDOWN", "the replica has lost its master, and the client should not read from replicas"},
	{"LOADING", "the server is loading its data and will answer soon"},
	{"BUSY ", "another script keeps the server busy: SCRIPT KILL ends it"},
	{"WRONGTYPE", "another program writes under this prefix: set Config.Prefix"},
	{"CROSSSLOT",
		"the server wants keys in one slot though each command has only one: is a proxy between?"},
	{"unknown command",
		"the server is no Redis 6.2 or later, or a command was renamed or forbidden there"},
}

// isWrongType reports whether another program has put something under a session's key.
func isWrongType(err error) bool { return err != nil && strings.Contains(err.Error(), "WRONGTYPE") }

// foreign makes the error of a key of another type one of a record that cannot be read.
func foreign(err error) error { return unreadable("%w: %s", err, adviceOn(err)) }

func adviceOn(err error) string {
	var reply redis.Error
	if errors.As(err, &reply) {
		for _, a := range advice {
			if strings.Contains(reply.Error(), a.code) {
				return a.text
			}
		}
		return ""
	}
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return ""
	case errors.Is(err, redis.ErrClosed):
		return "the client was closed: close it after everything that uses the store"
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrPoolExhausted):
		return "all connections are in use: raise PoolSize in the client's options"
	case errors.As(err, &network):
		return "the server cannot be reached or does not answer: look whether it runs, and at the client's addresses"
	}
	return ""
}

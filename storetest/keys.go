package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession/keyring"
)

// RunKeys is [Run] for a [keyring.Store]: it runs every case over a store of its own, which
// newStore makes and which has to be empty.
func RunKeys(t *testing.T, newStore func(t *testing.T) keyring.Store) {
	t.Helper()
	for _, tc := range keyCases {
		t.Run(tc.name, func(t *testing.T) { tc.run(newKeyCheck(t, newStore(t), tc.reason)) })
	}
}

// A keyCase is one rule of the contract.
type keyCase struct {
	name   string
	reason string
	run    func(*keyCheck)
}

type keyCheck struct {
	check
	keys keyring.Store
}

func newKeyCheck(t tb, store keyring.Store, reason string) *keyCheck {
	return &keyCheck{check: *newCheck(t, nil, reason), keys: store}
}

var keyCases = []keyCase{
	{
		"Keys/of an empty store",
		"the first instance would not start",
		func(c *keyCheck) { c.wantKeys("of an empty store") },
	}, {
		"AddKey/keeps every bit",
		"a key that comes back changed cannot be opened, and no instance can start",
		keysKeepEveryBit,
	}, {
		"AddKey/tells IDs apart by every byte",
		"base64url differs in case only now and then: one key would take another one's place",
		func(c *keyCheck) {
			first := c.addKey(c.newKey(""))
			second := c.newKey(first.ID)
			second.ID = swapCase(first.ID)
			c.addKey(second)
			c.wantKeys("whose IDs differ in case", first, second)
			c.dropKey(second.ID)
			c.wantKeys("after one of them was dropped", first)
		},
	}, {
		"AddKey/makes one first key",
		"two instances that start at the same time would refuse each other's tokens",
		func(c *keyCheck) {
			first := c.addKey(c.newKey(""))
			c.wantRefused(c.newKey(""), "of a second first key")
			c.wantKeys("after a second first key", first)
		},
	}, {
		"AddKey/makes one successor of each key",
		"two instances that wake up at the same second would each sign with a key of their own",
		func(c *keyCheck) {
			first := c.addKey(c.newKey(""))
			second := c.addKey(c.newKey(first.ID))
			c.wantRefused(c.newKey(first.ID), "of a second successor")
			third := c.addKey(c.newKey(second.ID))
			c.wantRefused(c.newKey(first.ID), "of a second successor of the key before the last")
			c.wantKeys("after refusals", first, second, third)
		},
	}, {
		"AddKey/makes no successor of what is not there",
		"an instance that slept for long would begin a second chain of keys",
		func(c *keyCheck) {
			c.wantRefused(c.newKey(c.newKey("").ID),
				"as the successor of an unknown key, in an empty store")
			first := c.addKey(c.newKey(""))
			c.wantRefused(c.newKey(c.newKey("").ID), "as the successor of an unknown key")
			second := c.addKey(c.newKey(first.ID))
			third := c.addKey(c.newKey(second.ID))
			c.dropKey(first.ID)
			c.dropKey(second.ID)
			for _, gone := range []string{"", first.ID, second.ID} {
				c.wantRefused(c.newKey(gone), "as the successor of a key that was dropped")
			}
			c.wantKeys("after refusals", third)
		},
	}, {
		"AddKey/has one winner of fifty at once",
		"fifty instances that wake up at the same second would make fifty keys",
		keysHaveOneWinner,
	}, {
		"AddKey/may be repeated when its reply was lost",
		"the instance would take the key for another instance's, or for an outage",
		func(c *keyCheck) {
			first := c.addKey(c.newKey(""))
			c.addKey(first)
			second := c.addKey(c.newKey(first.ID))
			c.addKey(second)
			c.addKey(first)
			c.wantKeys("after each was added twice", first, second)
		},
	}, {
		"AddKey/of a key that is there replaces what is sealed, and no more",
		"a secret that has leaked could not be changed",
		func(c *keyCheck) {
			first := c.addKey(c.newKey(""))
			second := c.addKey(c.newKey(first.ID))
			changed := second
			changed.Sealed = []byte("sealed under another secret")
			changed.Predecessor, changed.Algorithm = "", "another"
			changed.MadeAt, changed.SignFrom = c.now.Add(day), c.now.Add(2*day)
			c.addKey(changed)
			second.Sealed = changed.Sealed
			c.wantKeys("after it was sealed again", first, second)
			c.wantRefused(c.newKey(first.ID),
				"of a second successor, after the first was sealed again")
		},
	}, {
		"DropKey/removes one key for good",
		"a key that leaked would go on being accepted, or the others be gone with it",
		func(c *keyCheck) {
			first := c.addKey(c.newKey(""))
			second := c.addKey(c.newKey(first.ID))
			third := c.addKey(c.newKey(second.ID))
			c.dropKey(second.ID)
			c.wantKeys("after the second was dropped", first, third)
			c.dropKey(second.ID)
			c.dropKey(first.ID)
			c.dropKey(c.newKey("").ID)
			c.wantKeys("after all but the last were dropped", third)
			c.addKey(c.newKey(third.ID))
		},
	}, {
		"Context/ended",
		"a caller that gave up would still change the keys",
		func(c *keyCheck) {
			first := c.addKey(c.newKey(""))
			ended, cancel := context.WithCancel(c.ctx)
			cancel()
			if _, err := c.keys.Keys(ended); err == nil {
				c.errorf("Keys with an ended context: no error")
			}
			if err := c.keys.AddKey(ended, c.newKey(first.ID)); err == nil || errors.Is(err, keyring.ErrExists) {
				c.errorf("AddKey with an ended context: %v, want an error that is not ErrExists",
					err)
			}
			if err := c.keys.DropKey(ended, first.ID); err == nil {
				c.errorf("DropKey with an ended context: no error")
			}
			c.wantKeys("after calls with an ended context", first)
		},
	}, {
		"Keys/share no memory with the caller",
		"the keyring wipes what was secret: the store's own copy must not be gone with it",
		func(c *keyCheck) {
			key := c.newKey("")
			given := key
			given.Sealed = bytes.Clone(key.Sealed)
			c.addKey(given)
			clear(given.Sealed)
			c.wantKeys("after the caller wiped what it gave", key)
			got, err := c.keys.Keys(c.ctx)
			if err != nil || len(got) != 1 {
				c.fatalf("Keys: %v, %v", got, err)
			}
			clear(got[0].Sealed)
			c.wantKeys("after the caller wiped what it got", key)
		},
	},
}

// newKey returns a key as a ring makes them. No two begin to sign at the same time.
func (c *keyCheck) newKey(predecessor string) keyring.SealedKey {
	n := serial.Add(1)
	return keyring.SealedKey{
		ID: newID() + newID()[:21], Predecessor: predecessor, Algorithm: "EdDSA",
		MadeAt: c.now, SignFrom: c.now.Add(time.Duration(n) * time.Microsecond),
		Sealed: []byte("\x01 sealed " + newID()),
	}
}

var serial atomic.Int64

func (c *keyCheck) addKey(key keyring.SealedKey) keyring.SealedKey {
	c.t.Helper()
	if err := c.keys.AddKey(c.ctx, key); err != nil {
		c.fatalf("AddKey: %v", err)
	}
	return key
}

func (c *keyCheck) dropKey(id string) {
	c.t.Helper()
	if err := c.keys.DropKey(c.ctx, id); err != nil {
		c.fatalf("DropKey: %v", err)
	}
}

func (c *keyCheck) wantRefused(key keyring.SealedKey, what string) {
	c.t.Helper()
	c.wantError(c.keys.AddKey(c.ctx, key), keyring.ErrExists, "AddKey "+what)
}

// wantKeys fails unless the store has exactly these.
func (c *keyCheck) wantKeys(when string, want ...keyring.SealedKey) {
	c.t.Helper()
	got, err := c.keys.Keys(c.ctx)
	if err != nil {
		c.fatalf("Keys %s: %v", when, err)
	}
	if len(got) != len(want) {
		c.errorf("Keys %s: %d keys, want %d", when, len(got), len(want))
	}
	for _, w := range want {
		i := slices.IndexFunc(got, func(k keyring.SealedKey) bool { return k.ID == w.ID })
		if i < 0 {
			c.errorf("Keys %s: key %s is missing", when, w.ID)
		} else if d := keyDiff(got[i], w); d != "" {
			c.errorf("Keys %s: %s", when, d)
		}
	}
}

func keyDiff(got, want keyring.SealedKey) string {
	var out []string
	for _, f := range []struct{ name, got, want string }{
		{"Predecessor", got.Predecessor, want.Predecessor},
		{"Algorithm", got.Algorithm, want.Algorithm},
		{"Sealed", string(got.Sealed), string(want.Sealed)},
		{"MadeAt", got.MadeAt.Format(time.RFC3339Nano), want.MadeAt.Format(time.RFC3339Nano)},
		{"SignFrom", got.SignFrom.Format(time.RFC3339Nano), want.SignFrom.Format(time.RFC3339Nano)},
	} {
		if f.got != f.want {
			out = append(out, fmt.Sprintf("%s is %q, want %q", f.name, f.got, f.want))
		}
	}
	return strings.Join(out, "; ")
}

func keysKeepEveryBit(c *keyCheck) {
	every := make([]byte, 256)
	for i := range every {
		every[i] = byte(i)
	}
	first := c.newKey("")
	first.Sealed = every
	keys := []keyring.SealedKey{c.addKey(first)}
	for _, sealed := range [][]byte{
		{0}, {' '}, {0xff}, []byte("'\"\\\r\n"), bytes.Repeat(every, 64),
	} {
		next := c.newKey(keys[len(keys)-1].ID)
		next.Sealed = sealed
		keys = append(keys, c.addKey(next))
	}
	for _, at := range []time.Time{
		time.Unix(0, 0).UTC(), time.Date(2099, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
	} {
		next := c.newKey(keys[len(keys)-1].ID)
		next.MadeAt, next.SignFrom = at, at.Add(time.Microsecond)
		keys = append(keys, c.addKey(next))
	}
	c.wantKeys("of any bytes and times", keys...)
}

// keysHaveOneWinner lets fifty callers make the first key, and then its successor.
func keysHaveOneWinner(c *keyCheck) {
	var chain []keyring.SealedKey
	predecessor := ""
	for _, which := range []string{"the first key", "its successor", "the next one"} {
		const callers = 50
		candidates := make([]keyring.SealedKey, callers)
		for i := range candidates {
			candidates[i] = c.newKey(predecessor)
		}
		errs := make([]error, callers)
		parallel(callers, func(i int) { errs[i] = c.keys.AddKey(c.ctx, candidates[i]) })
		var won []keyring.SealedKey
		for i, err := range errs {
			switch {
			case err == nil:
				won = append(won, candidates[i])
			case !errors.Is(err, keyring.ErrExists):
				c.errorf("AddKey of %s by fifty at once: %v, want ErrExists", which, err)
			}
		}
		if len(won) != 1 {
			c.fatalf("AddKey of %s by fifty at once: %d won, want one", which, len(won))
		}
		chain = append(chain, won[0])
		c.wantKeys("after fifty at once made "+which, chain...)
		predecessor = won[0].ID
	}
}

// swapCase returns the ID with the case of its letters changed.
func swapCase(id string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z':
			return r - 'a' + 'A'
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		}
		return r
	}, id)
}

package sessionhttp

import (
	"encoding/base64"
	"encoding/binary"
	"sync/atomic"
	"time"
)

const (
	// nonceEpoch is how long a nonce is the current one. All clients get the same one.
	nonceEpoch = 30 * time.Second

	// nonceLifetime is the longest time between two moments in which a nonce is accepted: while it
	// is the next one, the current one, and the one before.
	nonceLifetime = 3 * nonceEpoch

	nonceSize  = 18 // in bytes: 24 characters
	nonceLabel = "tokensession dpop nonce v1"
)

// nonces are the nonces of DPoP proofs (RFC 9449 sections 8 and 9). A nonce shows that a proof was
// made just now, whatever the client's clock says, and not in advance by somebody who had the key
// for a while.
//
// A nonce is a MAC of the time, in steps of half a minute. So nothing is kept of those given out,
// and instances with the same keys accept each other's. The one before and the next one are
// accepted, because the clocks of instances differ, and because an answer takes its time.
type nonces struct {
	macs macMaker
	kept atomic.Pointer[nonceSet]
}

// A nonceSet are the nonces of one epoch. It is never changed.
type nonceSet struct {
	epoch    int64
	current  string
	accepted [][]byte // of three epochs, by all keys
}

func newNonces(keys proofKeys) *nonces { return &nonces{macs: keys.macs(nonceLabel, nonceSize)} }

// at returns the nonces of that time. Where two goroutines make them anew, both make the same.
func (n *nonces) at(now time.Time) *nonceSet {
	epoch := now.Unix() / int64(nonceEpoch/time.Second)
	if set := n.kept.Load(); set != nil && set.epoch == epoch {
		return set
	}
	set := &nonceSet{epoch: epoch}
	for _, e := range []int64{epoch, epoch - 1, epoch + 1} {
		for _, mac := range n.macs.makeAll(binary.BigEndian.AppendUint64(nil, uint64(e))) {
			set.accepted = append(set.accepted, base64.RawURLEncoding.AppendEncode(nil, mac))
		}
	}
	set.current = string(set.accepted[0])
	n.kept.Store(set)
	return set
}

func (s *nonceSet) accepts(nonce string) bool { return isOneOf([]byte(nonce), s.accepted) }

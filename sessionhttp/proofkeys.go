package sessionhttp

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
)

const minProofKey = 32 // in bytes: guessing the key is then no easier than guessing a whole MAC

// proofKeys are the secrets of Config.ProofKeys. They are behind a function because package fmt
// calls no method on an unexported field: it would print them if Handlers had them as they are. The
// zero value has no keys.
type proofKeys func() [][]byte

// newProofKeys copies the secrets of a field of a config, whose name is for the error.
func newProofKeys(field string, secrets [][]byte) (proofKeys, error) {
	keys := make([][]byte, len(secrets))
	for i, secret := range secrets {
		if len(secret) < minProofKey {
			return nil, fmt.Errorf("sessionhttp: %s[%d] of %d bytes: cannot be shorter than %d",
				field, i, len(secret), minProofKey)
		}
		keys[i] = bytes.Clone(secret)
	}
	return func() [][]byte { return keys }, nil
}

// A macMaker makes and checks MACs for one purpose: HMAC-SHA-256, cut to a size. The first key
// makes them, and those of all keys are accepted, so that keys can be changed while instances run.
type macMaker struct {
	keys proofKeys
	size int // in bytes, at most 32
}

// macs returns the macMaker for the purpose that a label names. Its keys are derived with the
// label, so that a MAC made for one purpose is never good for another one, whatever the data.
func (k proofKeys) macs(label string, size int) macMaker {
	var derived [][]byte
	if k != nil {
		for _, key := range k() {
			derived = append(derived, macOf(key, []byte(label)))
		}
	}
	return macMaker{func() [][]byte { return derived }, size}
}

// make returns the MAC of data by the first key. Without keys there is none: it is nil, which check
// never accepts.
func (m macMaker) make(data []byte) []byte {
	for _, mac := range m.makeAll(data) {
		return mac
	}
	return nil
}

// makeAll returns the MACs of data by all keys, the first key's first.
func (m macMaker) makeAll(data []byte) [][]byte {
	var all [][]byte
	for _, key := range m.keys() {
		all = append(all, macOf(key, data)[:m.size])
	}
	return all
}

// check reports whether mac is one of data by any of the keys. The time that it takes tells neither
// which key that is, nor how much of a wrong MAC was right.
func (m macMaker) check(data, mac []byte) bool { return isOneOf(mac, m.makeAll(data)) }

// isOneOf compares with all of them, in constant time, also after one was equal.
func isOneOf(mac []byte, all [][]byte) bool {
	equal := 0
	for _, one := range all {
		equal |= subtle.ConstantTimeCompare(one, mac)
	}
	return equal == 1
}

func macOf(key, data []byte) []byte {
	h := hmac.New(sha256.New, key)
	h.Write(data)
	return h.Sum(nil)
}

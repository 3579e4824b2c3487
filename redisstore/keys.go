package redisstore

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed67bc9b7f/tokensession/keyring"
)

// The signing keys of package keyring are one hash, which never expires. A field is a key's id, and
// its value is one line that people can read, with the private key sealed at its end:
//
//	1 <predecessor> <algorithm> <made at> <signs from> <sealed, in base64>
//
// The predecessor of the first key is "-".

var _ keyring.Store = (*Store)(nil)

const (
	keyFormat      = "1"
	noPredecessor  = "-"
	keyFields      = 6
	statusOtherKey = "a key of another format is there: it is a later version's"
)

// Keys implements [keyring.Store].
func (s *Store) Keys(ctx context.Context) ([]keyring.SealedKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	hash := s.keysKey()
	stored, err := s.client.HGetAll(ctx, hash).Result()
	if err != nil {
		return nil, failure("list the signing keys", hash, err)
	}
	keys := make([]keyring.SealedKey, 0, len(stored))
	for id, value := range stored {
		key, err := parseKey(id, value)
		if err != nil {
			return nil, fmt.Errorf("redisstore: key %s: signing key %s: %w", hash, id, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// AddKey implements [keyring.Store].
func (s *Store) AddKey(ctx context.Context, key keyring.SealedKey) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	fields, err := keyLine(key)
	if err != nil {
		return err
	}
	hash := s.keysKey()
	sealed := base64.StdEncoding.EncodeToString(key.Sealed)
	switch status, err := addKeyScript.Run(ctx, s.client, []string{hash},
		key.ID, orNone(key.Predecessor), fields, sealed).Text(); {
	case err != nil:
		return failure("add a signing key", hash, err)
	case status == statusOK:
		return nil
	case status == statusExists:
		return fmt.Errorf("redisstore: %w: key %q", keyring.ErrExists, key.Predecessor)
	case status == statusOtherFormat:
		return fmt.Errorf("redisstore: key %s: %s", hash, statusOtherKey)
	default:
		return unusable(hash, status)
	}
}

// DropKey implements [keyring.Store].
func (s *Store) DropKey(ctx context.Context, id string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	hash := s.keysKey()
	if err := s.client.HDel(ctx, hash, id).Err(); err != nil {
		return failure("drop a signing key", hash, err)
	}
	return nil
}

// keyLine returns a key's line but what is sealed.
func keyLine(key keyring.SealedKey) (string, error) {
	for _, word := range []string{key.ID, orNone(key.Predecessor), key.Algorithm} {
		if word == "" || strings.ContainsAny(word, " \t\r\n\v\f") || key.ID == noPredecessor {
			return "", fmt.Errorf("redisstore: signing key %q: %q is not one word", key.ID, word)
		}
	}
	return strings.Join([]string{keyFormat, orNone(key.Predecessor), key.Algorithm,
		key.MadeAt.UTC().Format(timeLayout), key.SignFrom.UTC().Format(timeLayout)}, " "), nil
}

func orNone(predecessor string) string {
	if predecessor == "" {
		return noPredecessor
	}
	return predecessor
}

func parseKey(id, value string) (keyring.SealedKey, error) {
	words := strings.Split(value, " ")
	if words[0] != keyFormat {
		return keyring.SealedKey{}, errors.New(statusOtherKey)
	}
	if len(words) != keyFields {
		return keyring.SealedKey{}, unreadable("it has %d fields, want %d", len(words), keyFields)
	}
	key := keyring.SealedKey{ID: id, Predecessor: words[1], Algorithm: words[2]}
	if key.Predecessor == noPredecessor {
		key.Predecessor = ""
	}
	for i, at := range []*time.Time{&key.MadeAt, &key.SignFrom} {
		var err error
		if *at, err = parseTime(words[3+i]); err != nil {
			return keyring.SealedKey{}, err
		}
	}
	sealed, err := base64.StdEncoding.Strict().DecodeString(words[5])
	if err != nil {
		return keyring.SealedKey{}, unreadable("what is sealed is not in base64")
	}
	key.Sealed = sealed
	return key, nil
}

func (s *Store) keysKey() string { return s.prefix + ":keys" }

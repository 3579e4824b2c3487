package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/keyring"
)

// A job is one command, on a store that is open.
type job struct {
	options
	store  keyring.Store
	getenv func(string) string
	w      io.Writer
	id     string // of the key to retire
}

var commands = map[string]func(context.Context, job) error{
	"list": list, "make": makeKey, "retire": retire, "reseal": reseal,
}

// printSecret prints 256 random bits as text, which is what TOKENSESSION_SECRET wants.
func printSecret(w io.Writer) error {
	secret := make([]byte, 32)
	if _, err := rand.Read(secret); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, base64.RawURLEncoding.EncodeToString(secret))
	return err
}

// list shows the keys in the order in which they sign.
func list(ctx context.Context, j job) error {
	keys, err := j.store.Keys(ctx)
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		_, err := fmt.Fprintln(j.w, "no keys: the first server that starts makes one")
		return err
	}
	slices.SortFunc(keys, func(a, b keyring.SealedKey) int { return a.SignFrom.Compare(b.SignFrom) })
	table := tabwriter.NewWriter(j.w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tALGORITHM\tMADE\tSIGNS FROM\tSTATE")
	now := time.Now()
	for i, k := range keys {
		state := "signs"
		switch {
		case i+1 < len(keys) && !now.Before(keys[i+1].SignFrom):
			state = "signed until " + format(keys[i+1].SignFrom)
		case i > 0 && now.Before(k.SignFrom):
			state = "is published"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", k.ID, k.Algorithm, format(k.MadeAt),
			format(k.SignFrom), state)
	}
	return table.Flush()
}

func format(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// makeKey makes a key and shows all. Where there is none, or the next one is due, opening the ring
// has made it.
func makeKey(ctx context.Context, j job) error {
	before, err := j.store.Keys(ctx)
	if err != nil {
		return err
	}
	ring, err := j.ring(ctx)
	if err != nil {
		return err
	}
	after, err := j.store.Keys(ctx)
	if err != nil {
		return err
	}
	isNew := func(k keyring.SealedKey) bool { return !has(before, k.ID) }
	if !slices.ContainsFunc(after, isNew) {
		if err := ring.Rotate(ctx); err != nil {
			return err
		}
	}
	return list(ctx, j)
}

func has(keys []keyring.SealedKey, id string) bool {
	return slices.ContainsFunc(keys, func(k keyring.SealedKey) bool { return k.ID == id })
}

func retire(ctx context.Context, j job) error {
	keys, err := j.store.Keys(ctx)
	if err != nil {
		return err
	}
	if !has(keys, j.id) {
		return fmt.Errorf("there is no key %q in the store", j.id)
	}
	ring, err := j.ring(ctx)
	if err == nil {
		err = ring.Retire(ctx, j.id)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(j.w, "key %s is gone; servers refuse its tokens within 10 seconds\n", j.id)
	return list(ctx, j)
}

func reseal(ctx context.Context, j job) error {
	keys, err := j.store.Keys(ctx)
	if err == nil && len(keys) == 0 {
		err = errors.New("there are no keys in the store")
	}
	if err != nil {
		return err
	}
	ring, err := j.ring(ctx)
	if err == nil {
		err = ring.Reseal(ctx)
	}
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(j.w,
		"all keys are sealed under TOKENSESSION_SECRET; older secrets are needed no more")
	return err
}

// ring opens the ring of the store. It signs no token here, so its issuer does not matter.
func (j job) ring(ctx context.Context) (*keyring.Keyring, error) {
	cfg := keyring.Config{
		Secret: []byte(j.getenv("TOKENSESSION_SECRET")), Ahead: j.ahead, Algorithm: j.algorithm,
		Access: tokensession.AccessConfig{Issuer: "tokenkeys", Audience: []string{"tokenkeys"}},
	}
	if len(cfg.Secret) == 0 {
		return nil, errors.New("TOKENSESSION_SECRET is not set: tokenkeys secret makes one, " +
			"if there is none yet")
	}
	for _, old := range strings.Fields(j.getenv("TOKENSESSION_OLD_SECRETS")) {
		cfg.OldSecrets = append(cfg.OldSecrets, []byte(old))
	}
	return keyring.Open(ctx, j.store, cfg)
}

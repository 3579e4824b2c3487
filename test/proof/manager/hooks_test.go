package manager_test

import (
	"context"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// The calls of a store that a hook can be at.
const (
	storeCreate        = "Create"
	storeLoad          = "Load"
	storeSwap          = "Swap"
	storeList          = "List"
	storeRevokeSubject = "RevokeSubject"
)

// A hook runs around a call of a store. It has to call do, which does it; rec is what is to be written.
type hook func(name string, rec tokensession.Record, do func() error) error

// A hookedStore has a hook around each call.
type hookedStore struct {
	tokensession.RefreshStore
	hook hook
}

// hooked returns the store with a hook around each call. It can revoke a subject's sessions at once if the store can.
func hooked(store tokensession.RefreshStore, h hook) tokensession.RefreshStore {
	s := hookedStore{store, h}
	if shortcut, ok := store.(tokensession.SubjectRevoker); ok {
		return hookedRevoker{s, shortcut}
	}
	return s
}

func (s hookedStore) Create(ctx context.Context, rec tokensession.Record) error {
	return s.hook(storeCreate, rec, func() error { return s.RefreshStore.Create(ctx, rec) })
}

func (s hookedStore) Load(ctx context.Context, id string) (rec tokensession.Record, err error) {
	err = s.hook(storeLoad, tokensession.Record{ID: id}, func() error {
		rec, err = s.RefreshStore.Load(ctx, id)
		return err
	})
	return rec, err
}

func (s hookedStore) Swap(ctx context.Context, next tokensession.Record) error {
	return s.hook(storeSwap, next, func() error { return s.RefreshStore.Swap(ctx, next) })
}

func (s hookedStore) List(ctx context.Context, subject string) (recs []tokensession.Record, err error) {
	err = s.hook(storeList, tokensession.Record{}, func() error {
		recs, err = s.RefreshStore.List(ctx, subject)
		return err
	})
	return recs, err
}

type hookedRevoker struct {
	hookedStore
	shortcut tokensession.SubjectRevoker
}

func (s hookedRevoker) RevokeSubject(ctx context.Context, subject string, keep []string, at time.Time, reason tokensession.Reason, writeID string) (recs []tokensession.Record, err error) {
	err = s.hook(storeRevokeSubject, tokensession.Record{}, func() error {
		recs, err = s.shortcut.RevokeSubject(ctx, subject, keep, at, reason, writeID)
		return err
	})
	return recs, err
}

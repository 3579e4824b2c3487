package manager_test

import (
	"context"
	"database/sql"
	"errors"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
)

// A faultMaker opens an instance's store in such a way that it can have faults, and makes them. It
// does so in the test's goroutine.
type faultMaker interface {
	open(*instance) tokensession.RefreshStore
	kill()           // and start again
	small() []mishap // one of which is made at a time

	end() // of the faults that last, so that whoever waits gets an answer

	// clients asks the server how many it has, but for the one that asks.
	clients(context.Context) (int, error)
}

type mishap func(*instance)

// disturb makes faults for so long: a kill every 20 seconds, or a few in a short time, and smaller
// ones all the time.
func (w *world) disturb(d time.Duration) {
	w.t.Helper()
	end := time.Now().Add(d)
	between := max(d/45, min(d/3, 20*time.Second)/2)
	nextKill := time.Now().Add(between)
	small := append(w.faults.small(), func(in *instance) {
		in.step.set()
		w.steps.Add(1)
	})
	for time.Now().Before(end) || len(w.missing()) > 0 && time.Now().Before(end.Add(soakPatience)) {
		if time.Now().After(nextKill) {
			w.faults.kill()
			nextKill = time.Now().Add(between/2 + rand.N(between))
		}
		small[rand.IntN(len(small))](w.any())
		pause(100 * time.Millisecond)
	}
	w.faults.end()
}

// serverFaults are those of a server and of the network before it. Each instance has a network of
// its own.
type serverFaults struct {
	*world
	server server
	modes  []pgx.QueryExecMode // of pgx: one for each instance, or none
}

func (f *serverFaults) open(in *instance) tokensession.RefreshStore {
	in.proxy = newFaultProxy(f.t)
	a := access{pool: 16, dial: in.proxy.dial, wait: time.Second}
	if len(f.modes) > 0 {
		a.mode, f.modes = f.modes[0], f.modes[1:]
	}
	store, conns, err := f.openCounted(a)
	if err != nil {
		f.t.Fatal(err)
	}
	in.conns = conns
	return store
}

func (f *serverFaults) kill() {
	f.server.Kill()
	pause(time.Second)
	f.server.Start()
	f.kills.Add(1)
}

func (f *serverFaults) end() {}

func (f *serverFaults) small() []mishap {
	return []mishap{
		func(in *instance) {
			stop := in.proxy.lose(rand.IntN(20), 1+rand.IntN(30))
			pause(200 * time.Millisecond)
			f.lost.Add(int64(stop()))
		},
		func(in *instance) {
			stop := in.proxy.hold(rand.IntN(20))
			pause(300 * time.Millisecond)
			f.late.Add(int64(stop()))
		},
		func(in *instance) {
			f.cuts.Add(int64(in.proxy.open()))
			in.proxy.refuse(true)
			pause(200 * time.Millisecond)
			in.proxy.refuse(false)
		},
	}
}

// fileFaults are those of a SQLite database.
type fileFaults struct{ *world }

func (f *fileFaults) open(in *instance) tokensession.RefreshStore {
	s := &flakyStore{}
	if err := s.reopen(f.place); err != nil {
		f.t.Fatal(err)
	}
	in.conns = conns{
		inUse: func() int { return s.current.Load().db.Stats().InUse },
		close: func() { _ = s.current.Load().db.Close() },
	}
	in.flaky = s
	return s
}

// kill kills a process that refreshes on the same database. Its clients go on here.
func (f *fileFaults) kill() {
	f.gate.RLock()
	defer f.gate.RUnlock()
	w := startWorker(f.t, job{Do: "refresh", Place: f.place, Grace: soakGrace, Now: f.now()})
	for client, token := range killWhileItRefreshes(f.t, w) {
		if _, err := f.present(token); err != nil {
			f.wrong(&f.falseLogouts, "client %d of a process that was killed: %v", client, err)
		}
	}
	f.kills.Add(1)
}

func (f *fileFaults) end() {}

func (f *fileFaults) small() []mishap {
	return []mishap{
		func(in *instance) {
			in.flaky.lose.Store(int64(rand.IntN(30)))
			pause(200 * time.Millisecond)
			f.lost.Add(in.flaky.lost.Swap(0))
		},
		func(in *instance) {
			in.flaky.fail.Store(int64(rand.IntN(30)))
			pause(200 * time.Millisecond)
			f.failed.Add(in.flaky.failed.Swap(0))
		},
		func(in *instance) {
			f.cuts.Add(int64(in.flaky.current.Load().db.Stats().InUse))
			if err := in.flaky.reopen(f.place); err != nil {
				f.t.Fatal(err)
			}
		},
		func(*instance) { f.lock() },
	}
}

// lock keeps all others from writing for a while.
func (f *fileFaults) lock() {
	db, _, err := f.openDB(access{pool: 1})
	if err != nil {
		f.t.Fatal(err)
	}
	defer db.Close()
	if _, err := db.Exec("BEGIN IMMEDIATE"); err != nil {
		return // others hold it for longer than it waits
	}
	pause(300 * time.Millisecond)
	if _, err := db.Exec("ROLLBACK"); err != nil {
		f.t.Fatal(err)
	}
	f.locks.Add(1)
}

// A flakyStore is a database that fails, or does what it is asked and then fails, and that is
// closed and opened again.
type flakyStore struct {
	current      atomic.Pointer[openedDB]
	lose, fail   atomic.Int64 // calls that are to
	lost, failed atomic.Int64 // calls that have
}

type openedDB struct {
	*sqlstore.Store
	db *sql.DB
}

// reopen opens the database anew and takes the old one away from the calls that use it.
func (s *flakyStore) reopen(p place) error {
	db, dialect, err := p.openDB(access{pool: 16})
	if err != nil {
		return err
	}
	store, err := sqlstore.New(db, dialect, sqlstore.Config{})
	if err != nil {
		return err
	}
	if old := s.current.Swap(&openedDB{store, db}); old != nil {
		return old.db.Close()
	}
	return nil
}

var errFlaky = errors.New("the disk has failed")

func (s *flakyStore) around(do func(*sqlstore.Store) error) error {
	if take(&s.fail) {
		s.failed.Add(1)
		return errFlaky
	}
	err := do(s.current.Load().Store)
	if err == nil && take(&s.lose) {
		s.lost.Add(1)
		return io.ErrUnexpectedEOF
	}
	return err
}

// take takes one off n if there is one.
func take(n *atomic.Int64) bool {
	for {
		was := n.Load()
		if was <= 0 {
			return false
		}
		if n.CompareAndSwap(was, was-1) {
			return true
		}
	}
}

func around[T any](s *flakyStore, do func(*sqlstore.Store) (T, error)) (result T, err error) {
	err = s.around(func(store *sqlstore.Store) error {
		result, err = do(store)
		return err
	})
	return result, err
}

func (s *flakyStore) Create(ctx context.Context, rec tokensession.Record) error {
	return s.around(func(store *sqlstore.Store) error { return store.Create(ctx, rec) })
}

func (s *flakyStore) Load(ctx context.Context, id string) (tokensession.Record, error) {
	return around(s, func(store *sqlstore.Store) (tokensession.Record, error) { return store.Load(ctx, id) })
}

func (s *flakyStore) Swap(ctx context.Context, next tokensession.Record) error {
	return s.around(func(store *sqlstore.Store) error { return store.Swap(ctx, next) })
}

func (s *flakyStore) List(ctx context.Context, subject string) ([]tokensession.Record, error) {
	return around(s, func(store *sqlstore.Store) ([]tokensession.Record, error) { return store.List(ctx, subject) })
}

func (s *flakyStore) RevokeSubject(
	ctx context.Context, r tokensession.SubjectRevocation,
) ([]tokensession.Record, error) {
	return around(s, func(store *sqlstore.Store) ([]tokensession.Record, error) {
		return store.RevokeSubject(ctx, r)
	})
}

func (s *flakyStore) Revocations(
	ctx context.Context, since time.Time, page func([]tokensession.Revocation) error,
) error {
	return s.around(func(store *sqlstore.Store) error { return store.Revocations(ctx, since, page) })
}

func (s *flakyStore) Sweep(ctx context.Context, now time.Time, limit int) (int, error) {
	return around(s, func(store *sqlstore.Store) (int, error) { return store.Sweep(ctx, now, limit) })
}

package tokensession_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/stretchr/testify/require"
)

// What every store has to do is in storetest. Here is what only MemoryStore promises: how it
// forgets, in which order it lists, and what it costs.

// memoryShards is the number of writes after which every shard has had its turn to drop expired
// records.
const memoryShards = 64

var epoch = time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)

func TestMemoryStore_dropsExpiredRecordsOnLaterWrites(t *testing.T) {
	const writes = 4 * memoryShards // a write drops a few of one shard, which may hold more
	later := epoch.Add(time.Hour)
	for name, write := range map[string]func(*testing.T, *tokensession.MemoryStore){
		"Create": func(t *testing.T, store *tokensession.MemoryStore) {
			for n := range writes {
				mustCreate(t, store, memoryRecord(fmt.Sprint("later ", n), "bob", later, time.Hour))
			}
		},
		"Swap": func(t *testing.T, store *tokensession.MemoryStore) {
			rec := memoryRecord("refreshed", "bob", epoch, 2*time.Hour)
			mustCreate(t, store, rec)
			for n := range writes {
				rec.Replaces = rec.WriteID
				rec.Version, rec.WriteID, rec.RotatedAt = uint64(n+2), fmt.Sprint(n), later
				if err := store.Swap(t.Context(), rec); err != nil {
					t.Fatal(err)
				}
			}
		},
		"RevokeSubject": func(t *testing.T, store *tokensession.MemoryStore) {
			for n := range writes {
				mustCreate(t, store, memoryRecord(fmt.Sprint("revoked ", n), "bob", epoch, 2*time.Hour))
			}
			if _, err := store.RevokeSubject(t.Context(), memoryRevocation("bob", later, "revoking")); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			store := tokensession.NewMemoryStore()
			var expired []tokensession.Record
			for n := range 2 * memoryShards {
				expired = append(expired, memoryRecord(fmt.Sprint("expired ", n), "alice", epoch, time.Hour))
				mustCreate(t, store, expired[n])
			}
			live := memoryRecord("live", "alice", epoch, time.Hour+time.Microsecond)
			mustCreate(t, store, live)

			write(t, store)

			for _, rec := range expired {
				if _, err := store.Load(t.Context(), rec.ID); err != tokensession.ErrNotFound {
					t.Errorf("Load(%q) after it expired and %d later writes: %v, want ErrNotFound", rec.ID, writes, err)
				}
			}
			if got := listedIDs(t, store, "alice"); len(got) != 1 || got[0] != live.ID {
				t.Errorf("List after the others expired: %q, want the live one only", got)
			}
		})
	}
}

// A Manager with MaxSessions puts a login behind those that were made while a clock was ahead.
// Nobody else's session, nor the word of a revocation, may go before its time for that.
func TestMemoryStore_doesNotGoByCreatedAt(t *testing.T) {
	store := tokensession.NewMemoryStore()
	mustCreate(t, store, memoryRecord("live", "alice", epoch, time.Hour))
	revoked := memoryRecord("revoked", "carol", epoch, time.Hour)
	revoked.RevokedAt, revoked.RevokeReason = epoch, tokensession.ReasonLogout
	mustCreate(t, store, revoked)
	for i := range 300 {
		rec := memoryRecord(fmt.Sprint(i), "bob", epoch, 48*time.Hour)
		rec.CreatedAt = epoch.Add(30 * time.Hour)
		if i >= 200 {
			rec.RevokedAt, rec.RevokeReason = epoch, tokensession.ReasonMaxSessions
		}
		mustCreate(t, store, rec)
	}
	if _, err := store.Load(t.Context(), "live"); err != nil {
		t.Errorf("the record that lives: %v", err)
	}
	revocations, err := toldSince(t, store, epoch)
	if err != nil || len(revocations) != 101 {
		t.Errorf("%d revocations, %v; want 101", len(revocations), err)
	}
}

func TestMemoryStore_keepsWhatSwapProlonged(t *testing.T) {
	ctx := context.Background()
	store := tokensession.NewMemoryStore()
	rec := memoryRecord("prolonged", "alice", epoch, time.Hour)
	mustCreate(t, store, rec)
	rec.Replaces = rec.WriteID
	rec.Version, rec.WriteID = 2, "second"
	rec.RotatedAt, rec.ExpiresAt = epoch.Add(30*time.Minute), epoch.Add(90*time.Minute)
	if err := store.Swap(ctx, rec); err != nil {
		t.Fatal(err)
	}

	for _, step := range []struct {
		at   time.Duration
		want error
	}{
		{60 * time.Minute, nil}, // its first expiry
		{90*time.Minute - time.Microsecond, nil},
		{90 * time.Minute, tokensession.ErrNotFound},
	} {
		for n := range memoryShards {
			mustCreate(t, store, memoryRecord(fmt.Sprintf("at %v %d", step.at, n), "bob", epoch.Add(step.at), time.Hour))
		}
		if _, err := store.Load(ctx, rec.ID); err != step.want {
			t.Errorf("Load after the writes of %v: %v, want %v", step.at, err, step.want)
		}
	}
}

func TestMemoryStore_sweepsWhatSwapShortened(t *testing.T) {
	ctx := context.Background()
	store := tokensession.NewMemoryStore()
	rec := memoryRecord("shortened", "alice", epoch, time.Hour)
	mustCreate(t, store, rec)
	rec.Replaces = rec.WriteID
	rec.Version, rec.WriteID, rec.ExpiresAt = 2, "second", epoch.Add(time.Minute)
	if err := store.Swap(ctx, rec); err != nil {
		t.Fatal(err)
	}
	if n, err := store.Sweep(ctx, epoch.Add(time.Minute), 10); n != 1 || err != nil {
		t.Errorf("Sweep at the new expiry: %d, %v; want 1", n, err)
	}
}

// Many expiries that are moved up, in any order, among many that are not.
func TestMemoryStore_sweepsExactlyWhatSwapShortened(t *testing.T) {
	const records = 4096
	store := tokensession.NewMemoryStore()
	var all []tokensession.Record
	for n := range records {
		all = append(all, memoryRecord(fmt.Sprint(n), fmt.Sprint("subject ", n%7), epoch, time.Hour+time.Duration(rand.IntN(1e6))*time.Second))
		mustCreate(t, store, all[n])
	}
	rand.Shuffle(records, func(i, j int) { all[i], all[j] = all[j], all[i] })
	shortened, kept := all[:records/2], all[records/2:]
	for _, rec := range shortened {
		rec.Replaces = rec.WriteID
		rec.Version, rec.WriteID, rec.ExpiresAt = 2, "second", epoch.Add(time.Duration(1+rand.IntN(3000))*time.Second)
		if err := store.Swap(t.Context(), rec); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := store.Sweep(t.Context(), epoch.Add(time.Hour-1), records); n != len(shortened) || err != nil {
		t.Errorf("Sweep: %d, %v; want %d", n, err, len(shortened))
	}
	for _, rec := range kept {
		if _, err := store.Load(t.Context(), rec.ID); err != nil {
			t.Fatalf("Load of one whose expiry was not moved: %v", err)
		}
	}
}

// A copy of another store, say.
func TestMemoryStore_tellsOfARecordThatWasRevokedWhenItWasCreated(t *testing.T) {
	store := tokensession.NewMemoryStore()
	rec := memoryRecord("revoked", "alice", epoch, time.Hour)
	rec.RevokedAt, rec.RevokeReason = epoch.Add(time.Minute), tokensession.ReasonLogout
	mustCreate(t, store, rec)
	if told, err := toldSince(t, store, rec.RevokedAt); err != nil || len(told) != 1 || told[0].SessionID != rec.ID {
		t.Errorf("Revocations: %v, %v; want one", told, err)
	}
}

func TestMemoryStore_cutsTimeOfRevocationToMicroseconds(t *testing.T) {
	store := tokensession.NewMemoryStore()
	mustCreate(t, store, memoryRecord("one", "alice", epoch, time.Hour))
	at := epoch.Add(1999 * time.Nanosecond)
	recs, err := store.RevokeSubject(t.Context(), memoryRevocation("alice", at, "second"))
	want := epoch.Add(time.Microsecond)
	if err != nil || len(recs) != 1 || recs[0].RevokedAt != want {
		t.Fatalf("RevokeSubject: %v, %v; want RevokedAt %v", recs, err, want)
	}
	if rec, err := store.Load(t.Context(), "one"); err != nil || rec.RevokedAt != want {
		t.Errorf("Load: RevokedAt %v, %v; want %v", rec.RevokedAt, err, want)
	}
	if told, err := toldSince(t, store, want); err != nil || len(told) != 1 || told[0].At != want {
		t.Errorf("Revocations: %v, %v; want one at %v", told, err, want)
	}
}

func TestMemoryStore_movesRecordToItsNewSubject(t *testing.T) {
	store := tokensession.NewMemoryStore()
	for _, id := range []string{"first", "second", "third"} {
		mustCreate(t, store, memoryRecord(id, "alice", epoch, time.Hour))
	}
	for n, id := range []string{"second", "third", "first"} { // the middle, the newest, the only one
		rec, err := store.Load(context.Background(), id)
		if err != nil {
			t.Fatal(err)
		}
		rec.Replaces = rec.WriteID
		rec.Version, rec.Subject = 2, "bob"
		if err := store.Swap(context.Background(), rec); err != nil {
			t.Fatal(err)
		}
		if alice, bob := listedIDs(t, store, "alice"), listedIDs(t, store, "bob"); len(alice) != 2-n || len(bob) != n+1 {
			t.Errorf("after %d moved: alice has %q, bob has %q", n+1, alice, bob)
		}
	}
}

func TestMemoryStore_listsRecordsOfOneInstantInOrderOfCreation(t *testing.T) {
	store := tokensession.NewMemoryStore()
	var want []string
	for n := range 100 {
		id := fmt.Sprintf("%d", n*7919%100)
		want = append(want, id)
		mustCreate(t, store, memoryRecord(id, "alice", epoch, time.Hour))
	}
	if got := listedIDs(t, store, "alice"); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("List: %v, want %v", got, want)
	}
}

func TestMemoryStore_forgetsRevocationsOfExpiredRecordsAndOfOldDays(t *testing.T) {
	for name, c := range map[string]struct {
		ttl  time.Duration // of the records
		told time.Duration // for how long a revocation is told
	}{
		"expired": {time.Hour, time.Hour},
		"old":     {1000 * time.Hour, 24*time.Hour + 30*time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := context.Background()
			store := tokensession.NewMemoryStore()
			const every = time.Minute
			for n := range 10_000 {
				at := epoch.Add(time.Duration(n) * every)
				rec := memoryRecord(fmt.Sprint(n), "alice", at, c.ttl)
				mustCreate(t, store, rec)
				rec.Replaces = rec.WriteID
				rec.Version, rec.WriteID, rec.RevokedAt = 2, "revoked", at.Add(time.Second)
				if err := store.Swap(ctx, rec); err != nil {
					t.Fatal(err)
				}
				if n%97 != 0 {
					continue
				}
				live := min(n+1, int(c.told/every))
				held, err := toldSince(t, store, time.Time{})
				if err != nil || len(held) < live || len(held) > 2*live+64 {
					t.Fatalf("after %d revocations, %d of which are to be told, it holds %d (%v)", n+1, live, len(held), err)
				}
			}
		})
	}
}

// Sessions began while a clock was ahead, which was put right since. A Manager revokes one at the
// time of its last refresh, which is still to come: nothing that lives may be dropped for that.
func TestMemoryStore_doesNotGoByARevocationsTimeThatWasMoved(t *testing.T) {
	for name, revoke := range map[string]func(*tokensession.MemoryStore, tokensession.Record) error{
		"Swap": func(store *tokensession.MemoryStore, rec tokensession.Record) error {
			rec.Replaces = rec.WriteID
			rec.Version, rec.WriteID = 2, "revoking"
			rec.RevokedAt, rec.RevokeReason = rec.RotatedAt, tokensession.ReasonRevoked
			return store.Swap(t.Context(), rec)
		},
		"RevokeSubject": func(store *tokensession.MemoryStore, rec tokensession.Record) error {
			_, err := store.RevokeSubject(t.Context(), memoryRevocation(rec.Subject, epoch, "revoking"))
			return err
		},
	} {
		store := tokensession.NewMemoryStore()
		var ahead, live []tokensession.Record
		for n := range 2 * memoryShards {
			ahead = append(ahead, memoryRecord(fmt.Sprint("ahead ", n), fmt.Sprint("bob ", n), epoch.Add(time.Hour), time.Hour))
			mustCreate(t, store, ahead[n])
		}
		for n := range 2 * memoryShards {
			live = append(live, memoryRecord(fmt.Sprint("live ", n), "alice", epoch, 30*time.Minute))
			mustCreate(t, store, live[n])
		}
		for _, rec := range ahead {
			if err := revoke(store, rec); err != nil {
				t.Fatal(err)
			}
		}
		if got := listedIDs(t, store, "alice"); len(got) != len(live) {
			t.Errorf("by %s: %d of %d live records are left", name, len(got), len(live))
		}
	}
}

func TestMemoryStore_listsNoRevokedRecords(t *testing.T) {
	store := tokensession.NewMemoryStore()
	for n := range 3 {
		mustCreate(t, store, memoryRecord(fmt.Sprint(n), "alice", epoch, time.Hour))
	}
	order := memoryRevocation("alice", epoch, "write")
	order.Keep = []string{"1"}
	if _, err := store.RevokeSubject(t.Context(), order); err != nil {
		t.Fatal(err)
	}
	if got := listedIDs(t, store, "alice"); len(got) != 1 || got[0] != "1" {
		t.Errorf("List lists %q, want the one that is not revoked", got)
	}
}

func TestMemoryStore_worksInSynctestBubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := tokensession.NewMemoryStore()
		mustCreate(t, store, memoryRecord("one", "alice", time.Now(), time.Hour))
		<-time.After(2 * time.Hour) // a goroutine of the store would hang the bubble
		if n, err := store.Sweep(t.Context(), time.Now(), 10); n != 1 || err != nil {
			t.Errorf("Sweep: %d, %v; want 1", n, err)
		}
	})
}

// The parallel one is for the race detector. It also compares the index with the records
// afterwards.
func TestMemoryStore_keepsItsIndexThroughParallelUse(t *testing.T) {
	ctx := context.Background()
	store := tokensession.NewMemoryStore()
	var wg sync.WaitGroup
	for worker := range 8 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(worker)))
			for n := range 2000 {
				now := epoch.Add(time.Duration(n) * time.Second)
				subject := fmt.Sprint("subject ", rng.IntN(5))
				switch rng.IntN(8) {
				case 0, 1, 2:
					_ = store.Create(ctx, memoryRecord(fmt.Sprint(rng.IntN(500)), subject, now, time.Duration(rng.IntN(600))*time.Second))
				case 3, 4:
					if rec, err := store.Load(ctx, fmt.Sprint(rng.IntN(500))); err == nil {
						rec.Version, rec.Replaces = rec.Version+1, rec.WriteID
						rec.RotatedAt, rec.ExpiresAt = now, now.Add(10*time.Minute)
						_ = store.Swap(ctx, rec)
					}
				case 5:
					_, _ = store.List(ctx, subject)
				case 6:
					if n%40 != 0 {
						continue // else few are left that live
					}
					_, _ = store.RevokeSubject(ctx, memoryRevocation(subject, now, fmt.Sprint(worker, n)))
					_, _ = toldSince(t, store, now.Add(-time.Minute))
				case 7:
					_, _ = store.Sweep(ctx, now.Add(-time.Minute), 20)
				}
			}
		})
	}
	wg.Wait()

	listed := 0
	for n := range 5 {
		subject := fmt.Sprint("subject ", n)
		for _, id := range listedIDs(t, store, subject) {
			listed++
			if rec, err := store.Load(ctx, id); err != nil || rec.Subject != subject {
				t.Errorf("%q is listed for %q: Load says %v, %v", id, subject, rec, err)
			}
		}
	}
	loaded, live := 0, 0
	for n := range 500 {
		if rec, err := store.Load(ctx, fmt.Sprint(n)); err == nil {
			loaded++
			if rec.RevokedAt.IsZero() {
				live++
			}
		}
	}
	if live != listed || live == 0 || loaded == live {
		t.Errorf("%d records are held, %d of them not revoked, and %d are listed", loaded, live, listed)
	}
	if n, err := store.Sweep(ctx, epoch.Add(1000*time.Hour), 1000); n != loaded || err != nil {
		t.Errorf("Sweep of everything: %d, %v; want %d", n, err, loaded)
	}
}

func memoryRecord(id, subject string, at time.Time, ttl time.Duration) tokensession.Record {
	return tokensession.Record{ID: id, Version: 1, WriteID: "write of " + id,
		Issuer: "us", Subject: subject, IdleTTL: ttl, Key: make([]byte, 32),
		AuthTime: at, CreatedAt: at, RotatedAt: at, ExpiresAt: at.Add(ttl)}
}

func memoryRevocation(subject string, at time.Time, writeID string) tokensession.SubjectRevocation {
	return tokensession.SubjectRevocation{
		Subject: subject, Issuers: []string{"us"},
		At: at, Reason: tokensession.ReasonRevoked, WriteID: writeID,
	}
}

// toldSince is the feed, as one list.
func toldSince(
	t *testing.T, store tokensession.RevocationFeed, since time.Time,
) (told []tokensession.Revocation, err error) {
	t.Helper()
	err = store.Revocations(context.Background(), since, func(page []tokensession.Revocation) error {
		told = append(told, page...)
		return nil
	})
	return told, err
}

func mustCreate(t *testing.T, store tokensession.RefreshStore, rec tokensession.Record) {
	t.Helper()
	if err := store.Create(t.Context(), rec); err != nil {
		t.Fatal(err)
	}
}

func listedIDs(t *testing.T, store tokensession.RefreshStore, subject string) []string {
	t.Helper()
	recs, err := store.List(t.Context(), subject)
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, rec := range recs {
		ids = append(ids, rec.ID)
	}
	return ids
}

var benchAttributes = []map[string]string{nil, {
	"device":     "Firefox on Linux",
	"ip":         "2001:db8:85a3::8a2e:370:7334",
	"user_agent": "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
}}

// benchRecord returns a record as a Manager would write it: the nth of many, with a subject of 16
// bytes.
func benchRecord(n int, attributes map[string]string) tokensession.Record {
	now := epoch.Add(time.Duration(n) * 1709 * time.Microsecond)
	key := make([]byte, 32)
	copy(key, fmt.Sprintf("key of session %d", n))
	return tokensession.Record{
		ID: fmt.Sprintf("%022d", n), Version: 1, WriteID: fmt.Sprintf("W%021d", n),
		Issuer: "https://auth.example", Subject: fmt.Sprintf("user-%011d", n), Attributes: attributes, Key: key,
		IdleTTL:  7 * 24 * time.Hour,
		AuthTime: now, CreatedAt: now, RotatedAt: now,
		ExpiresAt: now.Add(7 * 24 * time.Hour), MaxExpiresAt: now.Add(30 * 24 * time.Hour),
	}
}

// BenchmarkMemoryStore_refresh does what a refresh asks of the store: a Load and a Swap, among
// 100,000 sessions.
func BenchmarkMemoryStore_refresh(b *testing.B) {
	const sessions = 100_000
	for _, attributes := range benchAttributes {
		b.Run(fmt.Sprintf("%dattributes", len(attributes)), func(b *testing.B) {
			ctx := context.Background()
			store := tokensession.NewMemoryStore()
			ids := make([]string, sessions)
			for n := range sessions {
				rec := benchRecord(n, attributes)
				ids[n] = rec.ID
				if err := store.Create(ctx, rec); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for n := range b.N {
				rec, err := store.Load(ctx, ids[n%sessions])
				if err != nil {
					b.Fatal(err)
				}
				rec.Replaces = rec.WriteID
				rec.Version++
				rec.Predecessor, rec.Generation = rec.Generation, rec.Generation+1
				rec.RotatedAt = rec.RotatedAt.Add(15 * time.Minute)
				rec.ConsumedAt = rec.RotatedAt
				rec.ExpiresAt = rec.ExpiresAt.Add(15 * time.Minute)
				if err := store.Swap(ctx, rec); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// It is all that a host needs on one machine.
func TestMemoryStore_servesAManagerInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newManager(t, testSigner(t), tokensession.NewMemoryStore(),
			tokensession.Config{RecoveryPeriod: tokensession.Strict})
		first, err := m.Start(t.Context(), "alice")
		require.NoError(t, err)
		passes(15 * time.Minute)
		_, err = m.Verify(first.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrExpired)
		second, err := m.Refresh(t.Context(), first.RefreshToken)
		require.NoError(t, err)
		passes(grace)
		_, err = m.Refresh(t.Context(), first.RefreshToken)
		requireReused(t, err, 0, 1)
		_, err = m.Verify(second.AccessToken)
		require.ErrorIs(t, err, tokensession.ErrRevoked)
	})
}

// What a session takes, with its entry among those of its user.
func TestMemoryStore_aSessionTakesLittleRoom(t *testing.T) {
	const sessions = 50_000
	heap := func() uint64 {
		runtime.GC()
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	store := tokensession.NewMemoryStore()
	for i := range sessions {
		id := fmt.Sprintf("%021dA", i)
		rec := memoryRecord(id, fmt.Sprintf("user-%011d", i), epoch, 7*24*time.Hour)
		rec.Issuer, rec.WriteID = "https://auth.example", id
		rec.MaxExpiresAt = epoch.Add(30 * 24 * time.Hour)
		require.NoError(t, store.Create(t.Context(), rec))
	}
	each := float64(int64(heap()-before)) / sessions
	t.Logf("%.0f bytes a session", each)
	require.LessOrEqual(t, each, 430.0)
	runtime.KeepAlive(store)
}

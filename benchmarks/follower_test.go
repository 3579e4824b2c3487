//go:build unix

package benchmarks

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/sqlstore/pgxnotify"
)

// followerEnv is the environment variable that makes the test binary a follower: it holds what to
// follow.
const followerEnv = "TOKENSESSION_BENCHMARK_FOLLOWER"

// A followed is what a process has to know to open a Manager on a store.
type followed struct {
	Postgres string   // DSN, or empty
	Redis    []string // address, those of a Cluster, or empty
	Polled   bool     // the store's notifications are not used
	Secret   []byte   // of the key that signs
}

// manager opens the Manager, and counts its looks at the feed.
func (f followed) manager() (m *tokensession.Manager, looks *atomic.Int64, err error) {
	store, err := f.store()
	if err != nil {
		return nil, nil, err
	}
	key, err := tokensession.NewHMACKey(f.Secret)
	if err != nil {
		return nil, nil, err
	}
	signer, err := tokensession.NewAccessSigner(key, tokensession.AccessConfig{
		Issuer: "https://auth.example", Audience: []string{"https://api.example"},
	})
	if err != nil {
		return nil, nil, err
	}
	looks = new(atomic.Int64)
	m, err = tokensession.New(signer, f.counted(store, looks), tokensession.Config{})
	return m, looks, err
}

func (f followed) store() (tokensession.RefreshStore, error) {
	if f.Redis != nil {
		return redisstore.New(f.redisClient(), redisstore.Config{})
	}
	store, _, err := f.sqlStore()
	return store, err
}

func (f followed) redisClient() redis.UniversalClient {
	return redis.NewUniversalClient(&redis.UniversalOptions{Addrs: f.Redis})
}

func (f followed) sqlStore() (*pgxnotify.Store, *sql.DB, error) {
	db, err := sql.Open("pgx", f.Postgres)
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxIdleConns(pool)
	store, err := pgxnotify.New(db, func(ctx context.Context) (*pgx.Conn, error) {
		return pgx.Connect(ctx, f.Postgres)
	}, sqlstore.Config{})
	return store, db, err
}

// counted returns a store that counts looks, and that notifies unless it is to be polled.
func (f followed) counted(store tokensession.RefreshStore, looks *atomic.Int64) tokensession.RefreshStore {
	feed := countedFeed{store, looks}
	if sweeper, ok := store.(tokensession.Sweeper); ok && f.Polled {
		return struct {
			countedFeed
			tokensession.Sweeper
		}{feed, sweeper}
	} else if f.Polled {
		return feed
	}
	return unwrapped{feed}
}

type countedFeed struct {
	tokensession.RefreshStore
	looks *atomic.Int64
}

func (f countedFeed) Revocations(
	ctx context.Context, since time.Time, page func([]tokensession.Revocation) error,
) error {
	f.looks.Add(1)
	return f.RefreshStore.(tokensession.RevocationFeed).Revocations(ctx, since, page)
}

type unwrapped struct{ countedFeed }

func (u unwrapped) Unwrap() tokensession.RefreshStore { return u.RefreshStore }

// A state is what a follower tells when it has become healthy.
type state struct {
	Healthy time.Duration // since Run began
	Heap    uint64        // bytes that live
}

// followFor is the follower: a process with a Manager that Runs. It says when it is healthy. Then
// it reads access tokens, and says of each one when it accepts it and when it refuses it.
func followFor(text string) int {
	if err := follow(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func follow(text string) error {
	var f followed
	if err := json.Unmarshal([]byte(text), &f); err != nil {
		return err
	}
	m, looks, err := f.manager()
	if err != nil {
		return err
	}
	running, stop := context.WithCancel(ctx)
	defer stop()
	ended := make(chan error, 1)
	began := time.Now()
	go func() { ended <- m.Run(running) }()
	for m.Healthy(ctx) != nil {
		time.Sleep(time.Millisecond)
	}
	now := state{Healthy: time.Since(began)}
	for !f.Polled && looks.Load() < 2 { // the second look is that of the new connection
		time.Sleep(time.Millisecond)
	}
	runtime.GC()
	var memory runtime.MemStats
	runtime.ReadMemStats(&memory)
	now.Heap = memory.HeapAlloc
	out := json.NewEncoder(os.Stdout)
	if err := out.Encode(now); err != nil {
		return err
	}
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if _, err := m.Verify(in.Text()); err != nil {
			return fmt.Errorf("a fresh token: %w", err)
		}
		if err := out.Encode("accepted"); err != nil {
			return err
		}
		for !isRevoked(m, in.Text()) {
			time.Sleep(50 * time.Microsecond)
		}
		if err := out.Encode("refused"); err != nil {
			return err
		}
	}
	stop()
	return errors.Join(in.Err(), <-ended)
}

// A follower is a second process.
type follower struct {
	tb  testing.TB
	in  io.WriteCloser
	out *json.Decoder
}

// startFollower starts a second process, which ends when the benchmark does.
func startFollower(tb testing.TB, f followed) (*follower, state) {
	tb.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), followerEnv+"="+string(must(json.Marshal(f))))
	cmd.Stderr = os.Stderr
	in := must(cmd.StdinPipe())
	out := must(cmd.StdoutPipe())
	check(tb, cmd.Start())
	tb.Cleanup(func() {
		check(tb, in.Close())
		check(tb, cmd.Wait())
	})
	second := &follower{tb, in, json.NewDecoder(out)}
	var now state
	check(tb, second.out.Decode(&now))
	return second, now
}

// knows revokes a new session, and returns how long it took from the return of Revoke until the
// other process refused the session's access token, and had said so.
func (f *follower) knows(m *tokensession.Manager) time.Duration {
	f.tb.Helper()
	tokens := start(f.tb, m)
	must(io.WriteString(f.in, tokens.AccessToken+"\n"))
	f.expect("accepted")
	check(f.tb, m.Revoke(ctx, tokens.Session.ID))
	since := time.Now()
	f.expect("refused")
	return time.Since(since)
}

func (f *follower) expect(want string) {
	f.tb.Helper()
	var got string
	check(f.tb, f.out.Decode(&got))
	if got != want {
		f.tb.Fatalf("the second process says %q, want %q", got, want)
	}
}

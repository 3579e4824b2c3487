package manager_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed67bc9b7f/tokensession"
)

// jobEnv is the environment variable that makes the test binary a second process of a test: it
// holds the job.
const jobEnv = "TOKENSESSION_PROOF_JOB"

// A job is what a test asks of a second process.
type job struct {
	Do    string // a name of jobs
	Place place
	Pool  int
	Grace time.Duration
	Now   time.Time // where its clock stands
	Key   string    // the thumbprint of the client's key, if it has one
}

// jobs read lines from the test and write lines to it.
var jobs = map[string]func(
	j job, m *tokensession.Manager, in *bufio.Scanner, out *lineWriter,
) error{
	"race":    raceJob,
	"refresh": refreshJob,
}

func work(text string) int {
	if err := doJob(text); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func doJob(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	store, closeStore, err := j.Place.openStore(access{pool: j.Pool})
	if err != nil {
		return err
	}
	defer closeStore()
	m, err := makeManager(store, tokensession.Config{Now: func() time.Time { return j.Now }, GracePeriod: j.Grace})
	if err != nil {
		return err
	}
	return jobs[j.Do](j, m, bufio.NewScanner(os.Stdin), &lineWriter{w: os.Stdout})
}

// A lineWriter writes a line at once, so that the reader gets it even if the process is killed
// right after.
type lineWriter struct {
	mu sync.Mutex
	w  io.Writer
}

func (w *lineWriter) line(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	_, err = w.w.Write(append(text, '\n'))
	return err
}

// A worker is a second process.
type worker struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
}

// startWorker starts a second process with a job. It ends when the test does, or when it is killed.
func startWorker(tb testing.TB, j job) *worker {
	tb.Helper()
	text, err := json.Marshal(j)
	if err != nil {
		tb.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), jobEnv+"="+string(text), "GORACE=atexit_sleep_ms=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		tb.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		tb.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		tb.Fatal(err)
	}
	w := &worker{cmd: cmd, in: in, out: bufio.NewScanner(out)}
	tb.Cleanup(func() {
		_ = in.Close() // it is done then
		err := cmd.Wait()
		if killed := cmd.ProcessState != nil && strings.Contains(cmd.ProcessState.String(), "killed"); !killed && (err != nil || stderr.Len() > 0) {
			tb.Errorf("the process of job %q: %v\n%s", j.Do, err, &stderr)
		}
	})
	return w
}

func (w *worker) send(tb testing.TB, line string) {
	tb.Helper()
	if _, err := io.WriteString(w.in, line+"\n"); err != nil {
		tb.Fatalf("to the second process: %v", err)
	}
}

// receive reads the next line into v, and returns false at the end.
func (w *worker) receive(tb testing.TB, v any) bool {
	tb.Helper()
	if !w.out.Scan() {
		return false
	}
	if err := json.Unmarshal(w.out.Bytes(), v); err != nil {
		tb.Fatalf("from the second process: %q: %v", w.out.Text(), err)
	}
	return true
}

// raceGoroutines is how many goroutines of each process refresh a token at once.
const raceGoroutines = 32

// A tally counts what came of refreshing one token many times at once.
type tally struct {
	Successors map[string]int
	Reused     int
	Revoked    int // told to those who came after the one that was told of the reuse
	Unproved   int // told that the proof of the key is missing
	Invalid    int // told that the token is of no use to them: it is another key's
	Others     []string

	Unavailable int // of the others
}

func (t *tally) add(other tally) {
	for token, n := range other.Successors {
		t.Successors[token] += n
	}
	t.Reused += other.Reused
	t.Revoked += other.Revoked
	t.Unproved += other.Unproved
	t.Invalid += other.Invalid
	t.Others = append(t.Others, other.Others...)
	t.Unavailable += other.Unavailable
}

// raceJob refreshes each token it reads in many goroutines at once.
func raceJob(j job, m *tokensession.Manager, in *bufio.Scanner, out *lineWriter) error {
	var opts []tokensession.RefreshOption
	if j.Key != "" {
		opts = append(opts, tokensession.WithKeyThumbprint(j.Key))
	}
	for in.Scan() {
		if err := out.line(raceFor(m, in.Text(), opts)); err != nil {
			return err
		}
	}
	return in.Err()
}

func raceFor(m *tokensession.Manager, token string, opts []tokensession.RefreshOption) tally {
	result := tally{Successors: map[string]int{}}
	var mu sync.Mutex
	var all sync.WaitGroup
	gun := make(chan struct{})
	for range raceGoroutines {
		all.Go(func() {
			<-gun
			tokens, err := m.Refresh(context.Background(), token, opts...)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				result.Successors[tokens.RefreshToken]++
			case errors.Is(err, tokensession.ErrReused):
				result.Reused++
			case errors.Is(err, tokensession.ErrRevoked):
				result.Revoked++
			case errors.Is(err, tokensession.ErrProofRequired):
				result.Unproved++
			case errors.Is(err, tokensession.ErrInvalidToken):
				result.Invalid++
			default:
				result.Others = append(result.Others, err.Error())
				if errors.Is(err, tokensession.ErrUnavailable) {
					result.Unavailable++
				}
			}
		})
	}
	close(gun)
	all.Wait()
	return result
}

// refreshSessions is how many sessions refreshJob has.
const refreshSessions = 8

// A received is a refresh token that a client of refreshJob has received.
type received struct {
	Client int
	Token  string
	Err    string
}

// refreshJob is as many clients as it has sessions, that refresh as fast as they can and tell each
// token they receive.
func refreshJob(_ job, m *tokensession.Manager, in *bufio.Scanner, out *lineWriter) error {
	var clients sync.WaitGroup
	for client := range refreshSessions {
		clients.Go(func() {
			tokens, err := m.Start(context.Background(), fmt.Sprintf("client %d", client))
			for err == nil {
				if err = out.line(received{Client: client, Token: tokens.RefreshToken}); err != nil {
					return
				}
				tokens, err = m.Refresh(context.Background(), tokens.RefreshToken)
			}
			_ = out.line(received{Client: client, Err: cmp.Or(err.Error(), "?")})
		})
	}
	in.Scan() // to the end of the test, which does not come
	os.Exit(0)
	return nil
}

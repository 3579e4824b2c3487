//go:build unix

package remote_test

import (
	"bufio"
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/seed67bc9b7f/tokensession"
	"github.com/seed67bc9b7f/tokensession/redisstore"
	"github.com/seed67bc9b7f/tokensession/sessionhttp"
	"github.com/seed67bc9b7f/tokensession/sqlstore"
	"github.com/seed67bc9b7f/tokensession/sqlstore/pgxnotify"
	"github.com/seed67bc9b7f/tokensession/test/proof/servers"
)

// jobEnv is the environment variable that makes the test binary a process of a test: it holds the
// job.
const jobEnv = "TOKENSESSION_PROOF_JOB"

// TestMain runs the tests, or what a test asked of a process.
func TestMain(m *testing.M) {
	logging.Disable() // go-redis logs each node that a proof kills
	if text := os.Getenv(jobEnv); text != "" {
		if err := doJob(text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(servers.Run(m))
}

// A job is what a test asks of a process: to be an issuer, or, where URL is set, a service that
// verifies without a store.
type job struct {
	URL string // of the issuers

	Postgres string   // a DSN, or
	Cluster  []string // addresses of a Redis Cluster
	Key      []byte   // in PEM
	Listen   string
}

func doJob(text string) error {
	var j job
	if err := json.Unmarshal([]byte(text), &j); err != nil {
		return err
	}
	if j.URL != "" {
		return j.verify()
	}
	return j.issue()
}

func (j job) open() (store tokensession.RefreshStore, closeStore func(), err error) {
	if j.Cluster != nil {
		client := redis.NewUniversalClient(&redis.UniversalOptions{Addrs: j.Cluster, IsClusterMode: true})
		store, err := redisstore.New(client, redisstore.Config{})
		return store, func() { _ = client.Close() }, err
	}
	db, err := sql.Open("pgx", j.Postgres)
	if err != nil {
		return nil, nil, err
	}
	connect := func(ctx context.Context) (*pgx.Conn, error) { return pgx.Connect(ctx, j.Postgres) }
	store, err = pgxnotify.New(db, connect, sqlstore.Config{})
	return store, func() { _ = db.Close() }, err
}

// manager opens a Manager, which does not run.
func (j job) manager() (m *tokensession.Manager, closeStore func(), err error) {
	store, closeStore, err := j.open()
	if err != nil {
		return nil, nil, err
	}
	key, err := tokensession.ParseKeyPEM(j.Key)
	if err != nil {
		return nil, nil, err
	}
	signer, err := tokensession.NewAccessSigner(key, accessConfig)
	if err != nil {
		return nil, nil, err
	}
	m, err = tokensession.New(signer, store, tokensession.Config{})
	return m, closeStore, err
}

// issue serves the endpoints and what a test asks of a Manager, until the test ends.
func (j job) issue() error {
	m, closeStore, err := j.manager()
	if err != nil {
		return err
	}
	defer closeStore()
	go func() { _ = m.Run(ctx) }()
	mayDo := func(r *http.Request) bool { return r.Header.Get("X-Service") == "api" }
	handlers, err := sessionhttp.New(m, sessionhttp.Config{MayFollow: mayDo, MayIntrospect: mayDo})
	if err != nil {
		return err
	}
	mux := http.NewServeMux()
	handlers.Mount(mux)
	mux.HandleFunc("POST /do/{what}", func(w http.ResponseWriter, r *http.Request) {
		tokens, err := do(r.Context(), m, r.PathValue("what"), r.FormValue("arg"))
		if err != nil {
			http.Error(w, err.Error(), sessionhttp.Status(err))
			return
		}
		_ = json.NewEncoder(w).Encode(tokens)
	})
	listener, err := net.Listen("tcp", j.Listen)
	if err != nil {
		return err
	}
	go func() { _ = http.Serve(listener, mux) }()
	fmt.Println(listener.Addr())
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func do(ctx context.Context, m *tokensession.Manager, what, arg string) (t tokensession.Tokens, err error) {
	switch what {
	case "start":
		return m.Start(ctx, arg)
	case "refresh":
		return m.Refresh(ctx, arg)
	case "revoke":
		return t, m.Revoke(ctx, arg)
	case "reauthorize":
		_, err = m.Reauthorize(ctx, arg)
		return t, err
	case "healthy":
		return t, m.Healthy(ctx)
	}
	return t, errors.New("no such thing to do")
}

// verify says of each access token that it reads whether it is accepted, or why not.
func (j job) verify() error {
	remote, err := sessionhttp.NewRemote(j.URL+"/auth", sessionhttp.RemoteConfig{
		Access: accessConfig,
		Client: &http.Client{Transport: serviceTransport{http.DefaultTransport.(*http.Transport).Clone()}},
	})
	if err != nil {
		return err
	}
	go func() { _ = remote.Run(ctx) }()
	for remote.Healthy(ctx) != nil {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("healthy")
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		if _, err := remote.Verify(in.Text()); err != nil {
			fmt.Println(tokensession.Kind(err))
		} else {
			fmt.Println("accepted")
		}
	}
	return in.Err()
}

// A process is one of a test's.
type process struct {
	tb  testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	err *bytes.Buffer
}

// startProcess starts a process that does a job until the test ends, or until it is killed.
func startProcess(tb testing.TB, j job) *process {
	tb.Helper()
	text, err := json.Marshal(j)
	must(tb, err)
	p := &process{tb: tb, cmd: exec.Command(os.Args[0]), err: &bytes.Buffer{}}
	p.cmd.Env = append(os.Environ(), jobEnv+"="+string(text), "GORACE=atexit_sleep_ms=0")
	p.cmd.Stderr = p.err
	p.in, err = p.cmd.StdinPipe()
	must(tb, err)
	out, err := p.cmd.StdoutPipe()
	must(tb, err)
	p.out = bufio.NewScanner(out)
	must(tb, p.cmd.Start())
	tb.Cleanup(p.kill)
	return p
}

// kill ends the process as a power failure would.
func (p *process) kill() {
	if p.cmd.ProcessState == nil {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait()
	}
}

func (p *process) line() string {
	p.tb.Helper()
	if !p.out.Scan() {
		_ = p.cmd.Wait()
		p.tb.Fatalf("a process has ended: %s", p.err)
	}
	return p.out.Text()
}

// An issuerProcess is an instance in a process of its own.
type issuerProcess struct {
	*process
	job
}

func startIssuer(tb testing.TB, j job) *issuerProcess {
	tb.Helper()
	i := &issuerProcess{job: j}
	i.Listen = "127.0.0.1:0"
	i.boot(tb)
	return i
}

// boot starts the instance's process, where it was before.
func (i *issuerProcess) boot(tb testing.TB) {
	tb.Helper()
	i.process = startProcess(tb, i.job)
	i.Listen = i.line()
	i.do("healthy", "")
}

// do has the instance's Manager do something. It tries again while the store does not answer.
func (i *issuerProcess) do(what, arg string) (tokens tokensession.Tokens) {
	i.tb.Helper()
	soon(i.tb, what, func() bool {
		answer, err := http.PostForm("http://"+i.Listen+"/do/"+what, url.Values{"arg": {arg}})
		must(i.tb, err)
		defer answer.Body.Close()
		switch answer.StatusCode {
		case http.StatusOK:
			must(i.tb, json.NewDecoder(answer.Body).Decode(&tokens))
			return true
		case http.StatusServiceUnavailable:
			return false
		}
		text, _ := io.ReadAll(answer.Body)
		i.tb.Fatalf("%s: %d %s", what, answer.StatusCode, text)
		return false
	})
	return tokens
}

// A serviceProcess is a Remote in a process of its own.
type serviceProcess struct{ *process }

func startService(tb testing.TB, url string) serviceProcess {
	tb.Helper()
	s := serviceProcess{startProcess(tb, job{URL: url})}
	if got := s.line(); got != "healthy" {
		tb.Fatal(got)
	}
	return s
}

// says returns what the service makes of an access token: "accepted", or an error's kind.
func (s serviceProcess) says(tokens tokensession.Tokens) string {
	s.tb.Helper()
	if _, err := fmt.Fprintln(s.in, tokens.AccessToken); err != nil {
		s.tb.Fatal(err)
	}
	return s.line()
}
